"""What one client may take of the server: size, time, number and rate of its requests; and their end at shutdown."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping

import anyio
from mcp_types import INVALID_REQUEST
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from retrieval.workspace import ServerSettings
from server.auth import token_name

__all__ = ["InFlight", "Limits", "Rates", "punctual_protocol", "refusal", "replay"]

_BURST_SECONDS = 10.0
_REMEMBERED_CLIENTS = 10_000


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of ``status`` that MCP clients show to whoever asked."""
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": INVALID_REQUEST, "message": message}}
    return Response(json.dumps(error), status, headers=headers, media_type="application/json")


def replay(request: Message, receive: Receive) -> Receive:
    """Return a ``receive`` that gives ``request``, which has been read already, and then what comes."""
    messages = [request]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


class Rates:
    """A token bucket for each client: so many requests a minute, in bursts of ten seconds' worth."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1.0, self._per_second * _BURST_SECONDS)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Count a request of ``client``; 0 where it may go on, else the seconds until it may."""
        now = self._clock()
        level, when = self._buckets.pop(client, (self._burst, now))
        level = min(self._burst, level + (now - when) * self._per_second)
        wait = 0.0 if level >= 1 else (1 - level) / self._per_second
        self._buckets[client] = (level if wait else level - 1, now)
        if len(self._buckets) > _REMEMBERED_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class Limits:
    """ASGI middleware: hold each client to its share, and read its whole request before the application sees it.

    Who has no token counts by address. Where tokens are not asked for, only this machine can ask, and
    then nothing is gained by a rate.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, *, rated: bool) -> None:
        self._app = app
        self._settings = settings
        self._rates = Rates(settings.max_per_minute) if rated else None
        self._running: Counter[tuple[str, bool]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, or say with 408, 413 or 429 why not."""
        client = token_name(scope) or f"address {(scope.get('client') or ['unknown'])[0]}"
        if wait := self._rates.take(client) if self._rates else 0.0:
            await _too_many("more requests than allowed", wait)(scope, receive, send)
            return
        # Streams that stay open to bring news take next to nothing, and must not keep questions from being asked.
        key = (client, _stays_open(scope))
        if self._running[key] >= (self._settings.max_sessions if key[1] else self._settings.max_concurrent):
            await _too_many("more requests at once than allowed", 1)(scope, receive, send)
            return
        self._running[key] += 1
        try:
            request = await self._read(receive)
            if isinstance(request, Response):
                await request(scope, receive, send)
            else:
                await self._app(scope, replay(request, receive), send)
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]

    async def _read(self, receive: Receive) -> Message | Response:
        """The request as one message, or why it is not read."""
        body = bytearray()
        limit = self._settings.max_body_kb * 1024
        with anyio.move_on_after(self._settings.request_seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body += message.get("body", b"")
                if len(body) > limit:
                    return refusal(413, f"The request is larger than {limit:,} bytes.", {"Connection": "close"})
                if not message.get("more_body", False):
                    return {"type": "http.request", "body": bytes(body), "more_body": False}
        return refusal(408, "The request did not arrive in time.", {"Connection": "close"})


class InFlight:
    """ASGI middleware: knows the requests under way, so that a server that stops can let them end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cancels: dict[anyio.CancelScope, bool] = {}
        self._stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; where it is cut off, what was begun is ended as HTTP wants it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._stopping:
            await _stopping()(scope, receive, send)
            return
        begun = ended = False

        async def watch(message: Message) -> None:
            nonlocal begun, ended
            begun = begun or message["type"] == "http.response.start"
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        with anyio.CancelScope() as cancel:
            self._cancels[cancel] = _stays_open(scope)
            try:
                await self._app(scope, receive, watch)
            finally:
                del self._cancels[cancel]
        if cancel.cancelled_caught and not begun:
            await _stopping()(scope, receive, send)
        elif cancel.cancelled_caught and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def drain(self, seconds: float) -> None:
        """Take no more requests, end the streams, and let the rest go on for up to ``seconds``."""
        self._stopping = True
        self._cancel(only_streams=True)
        with anyio.move_on_after(seconds):
            while self._cancels:
                await anyio.sleep(0.02)
        self._cancel(only_streams=False)

    def _cancel(self, *, only_streams: bool) -> None:
        for cancel, stays_open in list(self._cancels.items()):
            if stays_open or not only_streams:
                cancel.cancel()


def punctual_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, for clients that send their headers within ``seconds``.

    uvicorn itself waits for ever: a client that sends a byte now and then would hold a connection for good.
    """

    class Punctual(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.conn.trailing_data[0]:  # the next request has begun already
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Time a client while it sends headers; not while it is answered."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(seconds, self._too_late)

        def _stop(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_late(self) -> None:
            self._deadline = None
            self.transport.abort()

    return Punctual


def _stays_open(scope: Scope) -> bool:
    """Whether a request is for a stream of news: GET in the handshake era, a listening POST in the modern one.

    In the modern era alone a request whose body has another method than its header says is refused.
    """
    headers = Headers(scope=scope)
    modern = headers.get("mcp-protocol-version") in MODERN_PROTOCOL_VERSIONS
    return scope["method"] == "GET" or (modern and headers.get("mcp-method") == "subscriptions/listen")


def _too_many(what: str, seconds: float) -> Response:
    wait = max(1, math.ceil(seconds))
    return refusal(429, f"{what.capitalize()}; try again in {wait} s.", {"Retry-After": str(wait)})


def _stopping() -> Response:
    return refusal(503, "The server is stopping; try again shortly.", {"Retry-After": "5", "Connection": "close"})
