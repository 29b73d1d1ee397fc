"""What a server measures: metrics for Prometheus, and spans for OpenTelemetry under those of the SDK.

Spans go nowhere until the process is given an OpenTelemetry SDK, as ``opentelemetry-instrument`` does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult
from opentelemetry import trace
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from retrieval.errors import ShoptalkError
from retrieval.stages import Stage, listener
from retrieval.workspace import Workspace
from server.auth import token_name

if TYPE_CHECKING:
    from retrieval.search import EngineInfo
    from server.engines import Engines

__all__ = ["Metrics", "Observer", "Probes"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS = frozenset(
    "initialize ping server/discover tools/list tools/call resources/list resources/templates/list resources/read "
    "prompts/list prompts/get completion/complete notifications/initialized notifications/cancelled "
    "subscriptions/listen tasks/get tasks/update tasks/cancel".split()
)
_TOOLS = frozenset({"search_corpus", "reindex", "model_status", "search", "fetch"})
_SEARCHES = frozenset({"search_corpus", "search"})

_tracer = trace.get_tracer("shoptalk")


class Metrics:
    """The counts and times of one server. Labels take few values, whatever clients send."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        given: dict[str, Any] = {"namespace": "shoptalk", "registry": self.registry}
        self.requests = Counter("requests", "MCP messages answered.", ["method", "tool", "outcome"], **given)
        self.request_seconds = Histogram(
            "request_seconds", "Time to answer an MCP message.", ["method", "tool"], buckets=_BUCKETS, **given
        )
        self.search_seconds = Histogram(
            "search_seconds", "Time of each stage of a search.", ["stage"], buckets=_BUCKETS, **given
        )
        self.degraded = Counter("degraded_searches", "Searches that gave less than was asked for.", **given)
        self.in_flight = Gauge("requests_in_flight", "MCP messages being answered.", **given)
        self.queued = Gauge("requests_queued", "Searches that wait for a thread.", **given)
        self.index_age = Gauge("index_age_seconds", "Time since the live generation was built.", ["corpus"], **given)
        self.passages = Gauge("index_passages", "Passages of the live generation.", ["corpus"], **given)
        self.model_ready = Gauge("model_ready", "Whether the model of a corpus is loaded.", ["corpus"], **given)


class Observer:
    """MCP middleware: measures each message, and each stage of the searches it causes."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Answer one message."""
        method = ctx.method if ctx.method in _METHODS else "other"
        tool = _tool(ctx)
        outcome, degraded = "failed", False
        begun = time.perf_counter()
        if self._metrics:
            self._metrics.in_flight.inc()
        heard = listener.set(self._stage)
        try:
            result = await call_next(ctx)
            outcome, degraded = _outcome(result)
            return result
        except MCPError:
            outcome = "refused"
            raise
        finally:
            listener.reset(heard)
            seconds = time.perf_counter() - begun
            if self._metrics:
                self._metrics.in_flight.dec()
                self._metrics.requests.labels(method, tool, outcome).inc()
                self._metrics.request_seconds.labels(method, tool).observe(seconds)
                if tool in _SEARCHES:
                    self._metrics.search_seconds.labels("total").observe(seconds)
                    self._metrics.degraded.inc(int(degraded))
            if ctx.request is not None and "shoptalk.call" in ctx.request.scope:
                call = {"call": f"{method} {tool}".rstrip(), "outcome": outcome, "token": token_name(ctx.request.scope)}
                ctx.request.scope["shoptalk.call"].update({name: value for name, value in call.items() if value})

    @contextmanager
    def _stage(self, name: Stage) -> Iterator[None]:
        begun = time.perf_counter()
        with _tracer.start_as_current_span(f"search {name}", record_exception=False):
            try:
                yield
            finally:
                if self._metrics:
                    self._metrics.search_seconds.labels(name).observe(time.perf_counter() - begun)


class Probes:
    """The pages for machines: is it alive, is it ready, how does it fare. They name no file and no corpus's text."""

    def __init__(self, workspace: Workspace, engines: Engines, metrics: Metrics) -> None:
        self._workspace = workspace
        self._engines = engines
        self._metrics = metrics

    async def alive(self, request: Request) -> Response:
        """200 as long as the server answers at all."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """200 where every corpus can be searched by meaning, else 503 and why not."""
        why = await anyio.to_thread.run_sync(self._why_not)
        return JSONResponse({"ready": not why, "why": why}, 503 if why else 200)

    async def metrics(self, request: Request) -> Response:
        """The metrics in Prometheus's text format."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        self._metrics.queued.set(self._engines.waiting)
        await anyio.to_thread.run_sync(self._look)
        return Response(generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _why_not(self) -> list[str]:
        """What is missing, in words that anybody may read: no names, no paths."""
        reasons: dict[str, None] = {}
        for corpus in self._workspace.corpora:
            if self._info(corpus) is None:
                missing = self._engines.live(corpus) is None
                reasons["an index is missing" if missing else "an index cannot be opened"] = None
                continue
            self._engines.load(corpus)  # a server that nobody searches mends itself, too
            state = self._engines.load_state(corpus)[0]
            if state != "ready":
                reasons["a model failed to load" if state == "failed" else "a model is being loaded"] = None
        return list(reasons)

    def _look(self) -> None:
        for corpus in self._workspace.corpora:
            info = self._info(corpus)
            self._metrics.model_ready.labels(corpus).set(self._engines.load_state(corpus)[0] == "ready")
            if info is not None:
                age = datetime.now(UTC) - datetime.fromisoformat(info.created)
                self._metrics.index_age.labels(corpus).set(max(0.0, age.total_seconds()))
                self._metrics.passages.labels(corpus).set(info.passages)

    def _info(self, corpus: str) -> EngineInfo | None:
        try:
            return self._engines.info(corpus)
        except ShoptalkError:
            return None


def _tool(ctx: ServerRequestContext[Any, Any]) -> str:
    if ctx.method != "tools/call":
        return ""
    name = (ctx.params or {}).get("name")
    return name if isinstance(name, str) and name in _TOOLS else "other"


def _outcome(result: HandlerResult) -> tuple[str, bool]:
    """How a message ended, and whether its answer was degraded."""
    if isinstance(result, CallToolResult):
        result = {"structuredContent": result.structured_content, "isError": result.is_error}
    wire = result if isinstance(result, dict) else {}
    content, refused = wire.get("structuredContent"), wire.get("isError")
    degraded = isinstance(content, dict) and bool(content.get("degraded"))
    return ("refused" if refused else "ok"), degraded
