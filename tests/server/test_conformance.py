"""What programs by others say of the server: the official conformance suite, the inspector, the TypeScript SDKs.

They come from npm: `make conformance` fetches them and runs this file. Without them it is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conformance_server import with_fixtures
from http_serving import serving

import server.http
import shoptalk
from retrieval.workspace import Workspace
from server.app import build_server
from server.http import HttpServer

HERE = Path(__file__).with_name("conformance")
PROGRAMS = HERE / "node_modules" / ".bin"
SECONDS = 300
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",  # its node is new enough
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
TOOLS = ["search_corpus", "reindex", "model_status"]

pytestmark = pytest.mark.skipif(not PROGRAMS.is_dir(), reason="make conformance fetches what this needs")


def run(*command: str | Path, cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=SECONDS, env=ENVIRONMENT, cwd=cwd
    )


def served(root: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "shoptalk", "-w", str(root), "serve"]


@pytest.fixture
def http(hashed: Workspace) -> Iterator[HttpServer]:
    with serving(hashed) as running:
        yield running


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
def test_the_official_suite_finds_nothing_but_what_the_baseline_excuses(
    hashed: Workspace, revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        server.http, "build_server", lambda *args, **options: with_fixtures(build_server(*args, **options))
    )
    baseline = HERE / f"baseline-{revision}.yml"
    with serving(hashed) as running:
        done = run(
            *(PROGRAMS / "conformance", "server", "--url", running.url, "--requirements", revision),
            *("--expected-failures", baseline, "-o", tmp_path),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_schemas_portable_and_calls_over_http(http: HttpServer, era: str) -> None:
    inspect(["--server-url", http.url, "--transport", "http", "--protocol-era", era])


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_the_inspector_finds_schemas_portable_and_calls_over_stdio(
    indexed: Workspace, era: str, tmp_path: Path
) -> None:
    program, *arguments = served(indexed.root)
    config = tmp_path / "servers.json"
    environment = {"HF_HUB_OFFLINE": "1"}
    entry = {"type": "stdio", "command": program, "args": arguments, "env": environment, "protocolEra": era}
    config.write_text(json.dumps({"mcpServers": {"docs": entry}}))
    inspect(["--config", str(config), "--server", "docs", "--protocol-era", era])


def inspect(target: list[str]) -> None:
    def ask(*what: str) -> Any:
        done = run(PROGRAMS / "mcp-inspector", "--cli", *target, *what, "-q", "--format", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def one(answer: Any) -> Any:
        return answer.get("result", answer)

    assert [tool["name"] for tool in one(ask("--method", "tools/list", "--strict"))["tools"]] == TOOLS
    asked = json.dumps({"query": "paid holiday", "mode": "lexical"})
    call = ("--method", "tools/call", "--tool-name", "search_corpus", "--tool-args-json")
    assert one(ask(*call, asked))["structuredContent"]["hits"][0]["document_id"] == "leave.md"
    refused = run(PROGRAMS / "mcp-inspector", "--cli", *target, *call, '{"query": ""}', "-q", "--format", "json")
    assert refused.returncode == 5, refused.stdout + refused.stderr


@pytest.mark.parametrize("client", ["sdk1.mjs", "client2.mjs"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_the_typescript_clients_list_search_and_reindex_through_a_timeout(
    indexed: Workspace, client: str, transport: str
) -> None:
    # So much that indexing all of it outlasts the half second that the client waits for.
    sections = "".join(f"# Part {number}\n\n{'The gasket of the pump is worn. ' * 30}\n\n" for number in range(4000))
    (indexed.root / "docs" / "pumps.md").write_text(sections, encoding="utf-8")
    if transport == "stdio":
        done = run("node", HERE / client, *served(indexed.root))
    else:
        with serving(indexed) as running:
            done = run("node", HERE / client, running.url)
    assert done.returncode == 0, done.stdout + done.stderr
    saw = json.loads(done.stdout)
    assert saw["tools"] == TOOLS and len(saw["templates"]) == 2
    assert saw["hit"] == "leave.md" and "(handbook, lexical" in saw["text"]
    assert "thirty days" in saw["document"] and "nonsense" in saw["refused"]
    assert "imed out" in saw["gaveUp"] or "timeout" in saw["gaveUp"].lower()
    assert saw["running"] == "running" and saw["done"] == ["done", "g000002"]
    assert saw["progress"] and saw["progress"] == sorted(set(saw["progress"]))
    assert (saw["cancelled"], saw["aborted"], saw["stopped"]) == ("cancelled", "yes", "cancelled")


def test_mcpb_validates_and_unpacks_the_bundle(indexed: Workspace, tmp_path: Path) -> None:
    made = CliRunner().invoke(
        shoptalk.command_line, ["-w", str(indexed.root), "connect", "mcpb", "--out", str(tmp_path / "docs.mcpb")]
    )
    assert made.exit_code == 0, made.output
    unpacked = run(PROGRAMS / "mcpb", "unpack", tmp_path / "docs.mcpb", tmp_path / "unpacked")
    assert unpacked.returncode == 0, unpacked.stdout + unpacked.stderr
    valid = run(PROGRAMS / "mcpb", "validate", tmp_path / "unpacked" / "manifest.json")
    assert valid.returncode == 0 and "passes" in valid.stdout, valid.stdout + valid.stderr
