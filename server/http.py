"""MCP over streamable HTTP, under uvicorn: what surrounds the SDK's application on its way to the network.

From without to within: the access log; the requests under way, for stopping; the Host and Origin headers;
who asks; how much; whether they may; the SDK. Beside ``/mcp`` there are ``/healthz``, ``/readyz``,
``/metrics`` and, where an OAuth server issues the tokens, the metadata of RFC 9728 that names it.
"""

from __future__ import annotations

import errno
import json
import logging
import signal
import socket
from collections.abc import Mapping
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from pydantic import AnyHttpUrl
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from retrieval.errors import ShoptalkError
from retrieval.workspace import ServerSettings, Workspace
from server.app import build_server
from server.auth import allowed_callers, check_exposure, check_scope, missing_scope, scope_message, verifier_of
from server.engines import Engines
from server.limits import InFlight, Limits, punctual_protocol, refusal, replay
from server.logs import AccessLog
from server.observe import Metrics, Observer, Probes
from server.tokens import SCOPES

__all__ = ["HttpServer", "serve_http"]

PATH = "/mcp"
_FOR_ANYBODY = ("/healthz", "/readyz")
_KEEP_ALIVE_SECONDS = 15
_MAX_CONNECTIONS = 1000
_CLOSE_SECONDS = 2

logger = logging.getLogger("shoptalk")


def serve_http(workspace: Workspace, host: str, port: int, *, read_only: bool = False) -> None:
    """Serve ``workspace`` until SIGTERM or SIGINT; then let the requests under way end, and return.

    Raises:
        SettingsError: others could reach the server and it asks for no token or knows no name of its own,
            or a setting of it is wrong.
        ShoptalkError: it cannot listen there.
    """
    server = HttpServer(workspace, host, port, read_only=read_only)
    # uvicorn gives a signal back once it has stopped, and the default would have the process die of it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[server.socket])


class HttpServer(uvicorn.Server):
    """A uvicorn server of a workspace, listening when made; port 0 takes any that is free."""

    def __init__(self, workspace: Workspace, host: str, port: int, *, read_only: bool = False) -> None:
        verifier = verifier_of(workspace)
        check_exposure(host, workspace.server, protected=verifier is not None)
        self.socket = _listening(host, port)
        address = f"[{host}]" if ":" in host else host
        self.url = f"http://{address}:{self.socket.getsockname()[1]}{PATH}"
        self._patience = workspace.server.shutdown_seconds
        self._in_flight = InFlight(_application(workspace, verifier, host, read_only))
        config = uvicorn.Config(
            AccessLog(self._in_flight),
            http=punctual_protocol(workspace.server.request_seconds),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
        super().__init__(config)
        # It would end each streamed answer as soon as a signal comes, those that are nearly done included.
        AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve, and say where."""
        await super().startup(sockets)
        logger.info("Serving MCP at %s", self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, let requests under way end, and close."""
        for server in self.servers:
            server.close()
        await self._in_flight.drain(self._patience)
        await super().shutdown(sockets)


def _application(workspace: Workspace, verifier: TokenVerifier | None, host: str, read_only: bool) -> ASGIApp:
    settings = workspace.server
    engines, metrics = Engines(workspace), Metrics()
    mcp = build_server(workspace, read_only=read_only, engines=engines)
    mcp.middleware.extend([check_scope, Observer(metrics)])
    callers = allowed_callers(host, settings)
    probes = Probes(workspace, engines, metrics)
    sdk = _sdk_application(mcp, settings, callers)
    protected: list[ASGIApp] = [sdk, request_response(probes.metrics)]
    if verifier is not None:
        metadata = build_resource_metadata_url(AnyHttpUrl(settings.public_url)) if settings.issuer else None
        protected = [
            RequireAuthMiddleware(_ScopeGate(sdk, str(metadata) if metadata else ""), [], metadata),
            RequireAuthMiddleware(protected[1], [], metadata),
        ]
    routes = [
        Route(PATH, Limits(protected[0], settings, rated=verifier is not None)),
        Route("/metrics", Limits(protected[1], settings, rated=verifier is not None)),
        Route("/healthz", probes.alive),
        Route("/readyz", probes.ready),
    ]
    if settings.issuer:
        routes += create_protected_resource_routes(
            AnyHttpUrl(settings.public_url), [AnyHttpUrl(settings.issuer)], scopes_supported=list(SCOPES)
        )
    application = Starlette(
        routes=routes,
        middleware=[] if verifier is None else _authentication(verifier, settings),
        lifespan=lambda _: mcp.session_manager.run(),
    )
    return _Callers(application, callers)


def _sdk_application(mcp: MCPServer[None], settings: ServerSettings, callers: TransportSecuritySettings) -> ASGIApp:
    mcp.streamable_http_app(
        streamable_http_path=PATH,
        transport_security=callers,
        max_request_body_size=settings.max_body_kb * 1024,
        max_sessions=settings.max_sessions,
    )
    return mcp.session_manager.handle_request


def _authentication(verifier: TokenVerifier, settings: ServerSettings) -> list[Middleware]:
    resource = AnyHttpUrl(settings.public_url) if settings.public_url else None
    backend = BearerAuthBackend(verifier, resource_server_url=resource)
    return [Middleware(AuthenticationMiddleware, backend=backend), Middleware(AuthContextMiddleware)]


class _Callers:
    """ASGI middleware: refuse a Host or Origin that is not let in, on every page but the two that tell nothing.

    Probes call a server by its bare address, which is in no list.
    """

    def __init__(self, app: ASGIApp, callers: TransportSecuritySettings) -> None:
        self._app = app
        self._check = TransportSecurityMiddleware(callers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in _FOR_ANYBODY:
            refused = await self._check.validate_request(Request(scope))
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _ScopeGate:
    """ASGI middleware: 403 with ``insufficient_scope``, as OAuth clients want it, before anything is begun.

    What it overlooks, `check_scope` refuses.
    """

    def __init__(self, app: ASGIApp, metadata: str) -> None:
        self._app = app
        self._metadata = metadata

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = await receive()  # the whole of it: Limits has read it
        user = scope["user"]
        missing = ""
        if isinstance(user, AuthenticatedUser) and not set(SCOPES) <= set(user.scopes):
            method, params = _message(request.get("body", b""))
            missing = missing_scope(user, method, params)
        if missing:
            challenge = f'Bearer error="insufficient_scope", scope="{missing}"'
            challenge += f', resource_metadata="{self._metadata}"' if self._metadata else ""
            await refusal(403, scope_message(missing), {"WWW-Authenticate": challenge})(scope, receive, send)
            return

        await self._app(scope, replay(request, receive), send)


def _message(body: bytes) -> tuple[str, Mapping[str, Any] | None]:
    """Method and parameters of a message; of what is none, such that anybody may hear what is wrong with it."""
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict) or not isinstance(decoded.get("method"), str):
        return "ping", None
    params = decoded.get("params")
    return decoded["method"], params if isinstance(params, dict) else None


def _listening(host: str, port: int) -> socket.socket:
    # With its protocol named: only then does asyncio send at once what it is given, instead of 40 ms later.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen()
        return listener
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ShoptalkError(
                f"port {port} of {host} is in use: another server runs there; stop it, or choose another port"
            ) from None
        raise ShoptalkError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from None
