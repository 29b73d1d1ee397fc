"""The extension for tasks, over a job whose state the tests write and whose lock they hold."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from http_serving import message, serving
from mcp import Client
from mcp.client.extension import advertise
from mcp_types import INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_REQUIRED_CLIENT_CAPABILITY

from retrieval.workspace import Workspace
from server.app import build_server
from server.contract import SkippedFile
from server.http import HttpServer
from server.jobs import Job, _here

TASKS = "io.modelcontextprotocol/tasks"
STARTED = time.time()


@contextmanager
def running(workspace: Workspace, pid: int = 0) -> Iterator[Job]:
    """A job that runs: its state says so, and its lock is held."""
    folder = workspace.index_dir("handbook") / "jobs"
    folder.mkdir(exist_ok=True)
    job = Job(job_id="j1", corpus="handbook", mode="full", state="running", stage="encoding", done=3, total=9)
    job = job.model_copy(update={"host": _here(), "pid": pid, "started": STARTED, "seconds": 2.5})
    write(workspace, job)
    (folder / "LOCK").write_text(job.job_id)
    with (folder / "LOCK").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield job


def write(workspace: Workspace, job: Job) -> None:
    file = workspace.index_dir("handbook") / "jobs" / f"{job.job_id}.json"
    new = file.with_suffix(".new")
    new.write_text(job.model_dump_json())
    os.replace(new, file)


def ask(server: HttpServer, method: str, *, declared: bool = True, **params: Any) -> dict[str, Any]:
    """The answer to one message of a client that declares the extension, or does not."""
    request = message(method, params)
    body = json.loads(request["content"])
    if declared:
        capabilities = body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]
        capabilities["extensions"] = {TASKS: {}}
    if "taskId" in params:
        request["headers"]["Mcp-Name"] = params["taskId"]
    request["content"] = json.dumps(body)
    return dict(httpx2.post(server.url, timeout=20, **request).json())


def reindex(server: HttpServer, *, declared: bool = True, **arguments: Any) -> dict[str, Any]:
    return ask(server, "tools/call", declared=declared, name="reindex", arguments=arguments)


def test_a_reindex_is_a_task_that_goes_from_working_to_completed(hashed: Workspace) -> None:
    with serving(hashed) as server:
        with running(hashed) as job:
            assert TASKS in ask(server, "server/discover")["result"]["capabilities"]["extensions"]
            task = reindex(server, wait_seconds=50)["result"]  # answered at once, whatever it would wait
            assert (task["resultType"], task["taskId"], task["status"]) == ("task", "j1", "working")
            assert task["ttlMs"] is None and isinstance(task["pollIntervalMs"], int) and "content" not in task
            assert task["createdAt"] < task["lastUpdatedAt"] and task["statusMessage"] == "encoding 3 of 9"
            got = ask(server, "tasks/get", taskId="j1")["result"]
            assert (got["resultType"], got["status"]) == ("complete", "working") and "result" not in got
            assert ask(server, "tasks/update", taskId="j1", inputResponses={})["result"]["resultType"] == "complete"
            skipped = [SkippedFile(path="x.bin", reason="binary file")]
            done = {"state": "done", "added": 4, "skipped": skipped, "skipped_total": 1, "generation": "g000002"}
            write(hashed, job.model_copy(update=done))
        got = ask(server, "tasks/get", taskId="j1")["result"]
        assert got["status"] == "completed" and "4 added" in got["result"]["content"][0]["text"]
        assert got["result"]["structuredContent"]["generation"] == "g000002" and not got["result"].get("isError")


def test_a_job_that_failed_is_told_in_the_tools_own_words(hashed: Workspace) -> None:
    with running(hashed) as job:
        write(hashed, job.model_copy(update={"state": "failed", "reason": "the disk is full"}))
    with serving(hashed) as server:
        got = ask(server, "tasks/get", taskId="j1")["result"]
        assert got["status"] == "completed" and "the disk is full" in got["result"]["content"][0]["text"]


def test_a_task_is_cancelled_and_to_cancel_it_again_is_nothing(hashed: Workspace) -> None:
    with subprocess.Popen(["sleep", "60"]) as process, serving(hashed) as server:
        with running(hashed, process.pid) as job:
            assert ask(server, "tasks/cancel", taskId="j1")["result"]["resultType"] == "complete"
            assert process.wait() == -15
            write(hashed, job.model_copy(update={"state": "cancelled"}))
        assert ask(server, "tasks/get", taskId="j1")["result"]["status"] == "cancelled"
        assert "error" not in ask(server, "tasks/cancel", taskId="j1")


def test_clients_that_do_not_declare_it_get_the_tools_answer_and_no_tasks(hashed: Workspace) -> None:
    with serving(hashed) as server, running(hashed):
        plain = reindex(server, declared=False, wait_seconds=0)["result"]
        assert plain["resultType"] == "complete" and plain["structuredContent"]["job_id"] == "j1"
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            refused = ask(server, method, declared=False, taskId="j1", inputResponses={})["error"]
            assert refused["code"] == MISSING_REQUIRED_CLIENT_CAPABILITY
            assert TASKS in refused["data"]["requiredCapabilities"]["extensions"]


def test_polling_by_job_id_and_refusals_stay_what_they_are(hashed: Workspace) -> None:
    with serving(hashed) as server, running(hashed):
        assert reindex(server, job_id="j1", wait_seconds=0)["result"]["resultType"] == "complete"
        assert reindex(server, mode="nonsense")["result"]["isError"]
        for wrong in ("abc", 1000, -1):
            assert reindex(server, wait_seconds=wrong)["result"]["isError"]
        for unknown in ("", "j2", "../j1", "/etc/passwd"):
            assert ask(server, "tasks/get", taskId=unknown or "none")["error"]["code"] == INVALID_PARAMS
        for gone in ("tasks/list", "tasks/result"):
            assert ask(server, gone, taskId="j1")["error"]["code"] == METHOD_NOT_FOUND


def test_a_server_that_only_reads_has_no_tasks(hashed: Workspace) -> None:
    with serving(hashed, read_only=True) as server:
        assert TASKS not in (ask(server, "server/discover")["result"]["capabilities"].get("extensions") or {})
        assert ask(server, "tasks/get", taskId="j1")["error"]["code"] == METHOD_NOT_FOUND


@pytest.mark.anyio
async def test_in_the_handshake_era_a_reindex_is_answered_as_ever(hashed: Workspace) -> None:
    with running(hashed):
        async with Client(build_server(hashed), mode="legacy", extensions=[advertise(TASKS)]) as client:
            result = await client.call_tool("reindex", {"wait_seconds": 0})
    assert result.structured_content["state"] == "running"
