"""What a server tells its operator, on stderr: lines of text or of JSON.

Neither holds a document's text, a query, a token or a key. What an exception says may quote any of them,
so of an exception only its class and its place are written.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from retrieval.console import printable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["AccessLog", "LogFormat", "configure_logs"]

LogFormat = Literal["text", "json"]
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_PROBES = ("/healthz", "/readyz", "/metrics")

access = logging.getLogger("shoptalk.access")


def configure_logs(log_format: LogFormat, *, talkative: bool) -> None:
    """Write logs to stderr; ``talkative``: what the server does as well as what goes wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("shoptalk").setLevel(logging.INFO if talkative else logging.WARNING)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        trace = f"\n{_outline(record.exc_info)}" if record.exc_info else ""
        return printable(f"{record.levelname} {record.name}: {record.getMessage()}{fields}{trace}")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = _outline(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return dict(getattr(record, "fields", {}))


def _outline(exc_info: _ExcInfo) -> str:
    """The classes of an exception and of what caused it, and where each was raised."""
    return "\n".join(_outlines(exc_info[1]))


def _outlines(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield type(error).__name__
        for frame in traceback.extract_tb(error.__traceback__):
            yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _outlines(part)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


class AccessLog:
    """ASGI middleware: one line for each request, when it has been answered.

    What the parts within know of it, such as the MCP method, they put into ``scope["shoptalk.call"]``.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        call: dict[str, object] = {}
        scope["shoptalk.call"] = call
        try:
            await self._app(scope, receive, watch)
        finally:
            probe = scope["path"] in _PROBES and status == 200
            access.log(
                logging.DEBUG if probe else logging.INFO,
                "%s %s",
                scope["method"],
                # A path that leads nowhere may be anything, a secret sent to the wrong address included.
                scope["path"] if status not in (0, 404) else "(unknown)",
                extra={
                    "fields": {
                        "status": status,
                        "ms": round((time.perf_counter() - begun) * 1000, 1),
                        "client": (scope.get("client") or [""])[0],
                        **call,
                    }
                },
            )
