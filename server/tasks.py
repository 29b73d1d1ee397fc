"""The MCP extension for tasks, where a client declares it: a reindex is a task, and its job's id the task's.

Such a client is answered at once and asks ``tasks/get`` how it stands, ``tasks/cancel`` to stop it. Everything
there is to know is the job's own state, so a task outlives connections and servers as its job does. Clients
that do not declare the extension, and all of the handshake era, call ``reindex`` again with the job's id.
Source: SEP-2663, https://modelcontextprotocol.github.io/ext-tasks/specification/2026-07-28/tasks.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import anyio.to_thread
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolRequestParams, CallToolResult, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from server.contract import JobState, WaitSeconds
from server.jobs import Job, Jobs
from server.rendering import doing, job_text
from server.tools import answer

__all__ = ["ReindexTasks"]

_POLL_MS = 1000
_WAIT_SECONDS: TypeAdapter[int] = TypeAdapter(WaitSeconds)

_Status = Literal["working", "completed", "cancelled"]
# A job that failed is told in the tool's own words. "failed" is for calls that never came to an answer.
_STATUS: dict[JobState, _Status] = {
    "running": "working",
    "done": "completed",
    "failed": "completed",
    "cancelled": "cancelled",
}


class _TaskParams(RequestParams):
    task_id: str


class ReindexTasks(Extension):
    """The extension, over the jobs of a workspace."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def methods(self) -> Sequence[MethodBinding]:
        """The requests of the extension."""
        handlers = {"tasks/get": self._get, "tasks/cancel": self._cancel, "tasks/update": self._update}
        versions = frozenset(MODERN_PROTOCOL_VERSIONS)
        return [MethodBinding(method, _TaskParams, handler, versions) for method, handler in handlers.items()]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Make a task of a call that starts or joins a job."""
        arguments = params.arguments or {}
        if params.name != "reindex" or arguments.get("job_id") or arguments.get("cancel") or not self._declared(ctx):
            return await call_next(ctx)
        if _fits(arguments.get("wait_seconds", 0)):  # else the tool says what is wrong
            params.arguments = {**arguments, "wait_seconds": 0}
        result = await call_next(ctx)
        started = result.structured_content if isinstance(result, CallToolResult) else None
        job = None if started is None else await self._job(started["job_id"])
        if job is None or job.state != "running":
            return result
        return {"resultType": "task", **_task(job)}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        job = await self._known(ctx, params)
        task = _task(job)
        if task["status"] == "completed":
            output = job.output()
            task["result"] = answer(job_text(output), output).model_dump(by_alias=True, mode="json", exclude_none=True)
        return task

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        job = await self._known(ctx, params)
        await anyio.to_thread.run_sync(self._jobs.cancel, job)
        return {}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        """Take answers to what a task has asked; a reindex asks nothing."""
        await self._known(ctx, params)
        return {}

    def _declared(self, ctx: ServerRequestContext[Any, Any]) -> bool:
        capabilities = ctx.session.client_capabilities
        declared = (capabilities.extensions if capabilities else None) or {}
        return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and self.identifier in declared

    async def _known(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> Job:
        require_client_extension(ctx, self.identifier)
        job = await self._job(params.task_id)
        if job is None:
            raise MCPError(code=INVALID_PARAMS, message=f"There is no task {params.task_id!r}.")
        return job

    async def _job(self, job_id: str) -> Job | None:
        return await anyio.to_thread.run_sync(self._jobs.get, job_id)


def _fits(wait_seconds: Any) -> bool:
    try:
        _WAIT_SECONDS.validate_python(wait_seconds)
    except ValidationError:
        return False
    return True


def _task(job: Job) -> dict[str, Any]:
    begun = datetime.fromtimestamp(job.started, UTC)
    last = datetime.fromtimestamp(job.started + job.seconds, UTC)
    return {
        "taskId": job.job_id,
        "status": _STATUS[job.state],
        "statusMessage": doing(job) if job.state == "running" else job_text(job),
        "createdAt": begun.isoformat(timespec="milliseconds"),
        "lastUpdatedAt": last.isoformat(timespec="milliseconds"),
        "ttlMs": None,
        "pollIntervalMs": _POLL_MS,
    }
