"""The tests' corpus server over HTTP, with a bearer token, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from corpus_server import build
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN = "token-0123456789"


class _Gate:
    """Lets in who has the token; ``refusals`` are statuses that the next POST requests are answered with.

    With ``sessions`` it speaks the older protocol alone, and is always too busy to end a session: ``ended`` says how
    often it was asked to.
    """

    def __init__(self, within: ASGIApp, refusals: list[int], sessions: bool, ended: list[int]) -> None:
        self._within = within
        self._refusals = refusals
        self._sessions = sessions
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization") != f"Bearer {TOKEN}".encode():
            await PlainTextResponse("who are you?", 401)(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "POST" and self._refusals:
            refusal = PlainTextResponse("not now", self._refusals.pop(0), {"retry-after": "0"})
            await refusal(scope, receive, send)
        elif self._sessions and headers.get(b"mcp-method") == b"server/discover":
            await PlainTextResponse("what is that?", 404)(scope, receive, send)
        elif self._sessions and scope.get("method") == "DELETE":
            self._ended.append(503)
            await PlainTextResponse("not now", 503, {"retry-after": "0"})(scope, receive, send)
        else:
            await self._within(scope, receive, send)


@contextmanager
def serving(
    port: int = 0, refusals: list[int] | None = None, sessions: bool = False, ended: list[int] | None = None
) -> Iterator[int]:
    """Serve on ``port`` (0: any) and tell which; the address ends in /mcp. For the rest see :class:`_Gate`."""
    listening = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(
        _Gate(
            build().streamable_http_app(),
            [] if refusals is None else refusals,
            sessions,
            [] if ended is None else ended,
        ),
        log_config=None,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
