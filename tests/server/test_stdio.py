"""The server as its clients start it: a process that speaks over stdin and stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from retrieval.workspace import Workspace
from server.jobs import Jobs

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def command(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "shoptalk", "-w", str(root), "serve", *options]


def server(root: Path, *options: str) -> StdioServerParameters:
    program, *arguments = command(root, *options)
    return StdioServerParameters(command=program, args=arguments, env=ENVIRONMENT, cwd=root)


async def call(client: Client, tool: str, /, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_tools_are_listed_before_the_model_is_loaded_and_work(indexed: Workspace, mode: str) -> None:
    async with Client(server(indexed.root), mode=mode) as client:
        assert len((await client.list_tools()).tools) == 3
        status = await call(client, "model_status")
        assert status["load_state"] in ("not loaded", "loading")
        assert status["corpora"][0]["documents"] == 3
        found = await call(client, "search_corpus", query="E4711", mode="lexical")
        assert found["hits"][0]["document_id"] == "guides/travel.md"
        job = await call(client, "reindex", mode="full", wait_seconds=0)
        assert job["state"] == "running"
        job = await call(client, "reindex", job_id=job["job_id"], cancel=True, wait_seconds=50)
        assert job["state"] == "cancelled"


@pytest.mark.anyio
async def test_a_server_follows_its_own_reindexing(indexed: Workspace) -> None:
    (indexed.root / "docs" / "parking.md").write_text("# Parking\n\nParking costs five euros a day.\n")
    async with Client(server(indexed.root), mode="2026-07-28") as client:
        job = await call(client, "reindex", wait_seconds=50)
        while job["state"] == "running":
            job = await call(client, "reindex", job_id=job["job_id"], wait_seconds=50)
        assert (job["state"], job["added"], job["generation"]) == ("done", 1, "g000002")
        found = await call(client, "search_corpus", query="parking costs euros", mode="dense")
        assert (found["generation"], found["hits"][0]["document_id"]) == ("g000002", "parking.md")
        assert (await call(client, "model_status"))["load_state"] == "ready"


@pytest.mark.anyio
async def test_server_and_job_killed_in_the_midst_lose_nothing(indexed: Workspace) -> None:
    (indexed.root / "docs" / "parking.md").write_text("# Parking\n\nParking costs five euros a day.\n")
    launch = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "env": os.environ | ENVIRONMENT}
    with subprocess.Popen(command(indexed.root), **launch) as first:  # type: ignore[call-overload]
        jobs = Jobs(indexed)
        job = jobs.start("handbook", "incremental")
        while not job.pid:
            job = jobs.get(job.job_id) or job
            assert job.state == "running"
        first.kill()
        os.kill(job.pid, signal.SIGKILL)
    async with Client(server(indexed.root), mode="2026-07-28") as client:
        status = await call(client, "model_status")
        assert [told["state"] for told in status["jobs"]] == ["failed"] and status["jobs"][0]["reason"]
        found = await call(client, "search_corpus", query="paid holiday", mode="lexical")
        assert (found["generation"], found["hits"][0]["document_id"]) == ("g000001", "leave.md")
        again = await call(client, "reindex", wait_seconds=50)
        assert (again["state"], again["added"], again["generation"]) == ("done", 1, "g000002")
        found = await call(client, "search_corpus", query="parking euros", mode="lexical")
        assert (found["generation"], found["hits"][0]["document_id"]) == ("g000002", "parking.md")


def test_stdout_carries_nothing_but_the_protocol(indexed: Workspace) -> None:
    # A folder of documents may be named like one of our packages, and clients start servers anywhere.
    (indexed.root / "server").mkdir()
    (indexed.root / "server" / "__init__.py").write_text("print('not this one')\n")
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    process = subprocess.Popen(
        command(indexed.root),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | ENVIRONMENT,
        cwd=indexed.root,
        text=True,
    )
    with process:
        assert process.stdin and process.stdout and process.stderr

        def ask(number: int, method: str, **params: Any) -> dict[str, Any]:
            assert process.stdin and process.stdout
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert (answer["jsonrpc"], answer["id"]) == ("2.0", number)
            return dict(answer)

        assert ask(1, "initialize", **hello)["result"]["serverInfo"]["name"] == "shoptalk"
        process.stdin.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}) + "\n")
        assert ask(2, "tools/list")["result"]["tools"]
        ask(3, "tools/call", name="search_corpus", arguments={"query": "holiday"})
        ask(4, "tools/call", name="reindex", arguments={"mode": "full", "wait_seconds": 0})
        ask(5, "tools/call", name="reindex", arguments={"cancel": True, "wait_seconds": 50})
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("settings", [None, "", "[corpus.handbook]\npath = 3\n"])
def test_a_folder_that_is_no_workspace_is_refused_in_one_line(tmp_path: Path, settings: str | None) -> None:
    if settings is not None:
        (tmp_path / "shoptalk.toml").write_text(settings)
    done = subprocess.run(
        command(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | ENVIRONMENT
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1 and "shoptalk.toml" in done.stderr


def test_nothing_heavy_is_imported_to_build_the_server(indexed: Workspace) -> None:
    program = (
        "import sys; from retrieval.workspace import Workspace; from server.app import build_server; "
        f"build_server(Workspace.open({str(indexed.root)!r})); "
        "print([m for m in ('torch', 'faiss', 'numpy', 'tantivy', 'sentence_transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
