"""Who may ask over HTTP, for what, and by which name the server may be called.

A request brings a bearer token: one of the workspace's own, one of an OAuth server (a JWT made for this
server), or one that a function of the operator's judges. Every token has scopes: ``search`` for what is
read, ``reindex`` for what is changed.
"""

from __future__ import annotations

import importlib
import inspect
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import anyio.to_thread
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST
from starlette.types import Scope as AsgiScope

from retrieval.errors import SettingsError
from retrieval.workspace import ServerSettings, Workspace
from server.tokens import SCOPES, TokenFile

__all__ = [
    "allowed_callers",
    "check_exposure",
    "check_scope",
    "is_loopback",
    "missing_scope",
    "scope_message",
    "token_name",
    "verifier_of",
]

_ASYMMETRIC = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_JWKS_SECONDS = 5.0
_LEEWAY_SECONDS = 30
_LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_FOR_ANY_TOKEN = {
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
}

logger = logging.getLogger(__name__)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, settings: ServerSettings, *, protected: bool) -> None:
    """See that a server which others can reach asks for a token and knows its names.

    Raises:
        SettingsError: it does not; the message says what to do.
    """
    if is_loopback(host) or (protected and settings.hosts):
        return
    missing = [] if protected else ["add a token (`shoptalk tokens add NAME --scope search`)"]
    missing += [] if settings.hosts else ['name the hosts it is called by (hosts = ["search.example.org"] in [server])']
    raise SettingsError(f"other machines can reach {host}: {' and '.join(missing)}, or listen on 127.0.0.1")


def allowed_callers(host: str, settings: ServerSettings) -> TransportSecuritySettings:
    """The Host and Origin headers that are let in; the SDK's own default lets in all of them beyond loopback."""
    hosts = [*settings.hosts, *(_LOOPBACK_HOSTS if is_loopback(host) else ())]
    local_pages = [f"http://{name}:*" for name in _LOOPBACK_HOSTS] if is_loopback(host) else []
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[pattern for name in hosts for pattern in (name, f"{name}:*")],
        allowed_origins=[*settings.origins, *local_pages],
    )


def verifier_of(workspace: Workspace) -> TokenVerifier | None:
    """What judges the tokens of a server of ``workspace``; None where it has none and so asks for none.

    Raises:
        SettingsError: the settings contradict each other, or the verifier they name does not load.
    """
    settings = workspace.server
    if bool(settings.issuer) != bool(settings.jwks_url):
        raise SettingsError("server.issuer and server.jwks_url go together; set both or neither")
    if (settings.issuer or settings.verifier) and not settings.public_url:
        raise SettingsError("server.issuer and server.verifier need server.public_url, which tokens must be made for")
    file = TokenFile(workspace)
    file.tokens()  # a broken file is told at the start
    verifiers: list[TokenVerifier] = [_OwnTokens(file, settings.public_url)] if file.exists() else []
    verifiers += [_Jwt(settings)] if settings.issuer else []
    verifiers += [_Function(settings.verifier)] if settings.verifier else []
    return _AnyOf(verifiers) if verifiers else None


def missing_scope(user: object, method: str, params: Mapping[str, Any] | None) -> str:
    """The scope that ``user`` (of an ASGI scope) lacks for a message; "" where none, or where tokens are not asked."""
    scope = _needed_scope(method, params)
    return scope if isinstance(user, AuthenticatedUser) and scope and scope not in user.scopes else ""


def scope_message(scope: str) -> str:
    """What a client is told whose token lacks ``scope``."""
    return f"This token does not allow that: it lacks the scope {scope!r} (insufficient_scope). Use one that has it."


def token_name(scope: AsgiScope) -> str:
    """The name of the token that a request came with; "" without one."""
    user = scope.get("user")
    return str(user.access_token.client_id) if isinstance(user, AuthenticatedUser) else ""


async def check_scope(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """MCP middleware: refuse what the token does not allow.

    This decides, whatever was found out before the message was parsed for good: no two readers of JSON
    agree on every text.
    """
    user = ctx.request.scope.get("user") if ctx.request is not None else None
    if missing := missing_scope(user, ctx.method, ctx.params):
        raise MCPError(code=INVALID_REQUEST, message=scope_message(missing))
    return await call_next(ctx)


def _needed_scope(method: str, params: Mapping[str, Any] | None) -> str:
    if method in _FOR_ANY_TOKEN or method.startswith("notifications/"):
        return ""
    # Only reindexing makes tasks.
    changes = method.startswith("tasks/") or (method == "tools/call" and (params or {}).get("name") == "reindex")
    return "reindex" if changes else "search"


class _AnyOf:
    """Judges a token by each verifier in turn."""

    def __init__(self, verifiers: Iterable[TokenVerifier]) -> None:
        self._verifiers = tuple(verifiers)

    async def verify_token(self, token: str) -> AccessToken | None:
        for verifier in self._verifiers:
            if (access := await verifier.verify_token(token)) is not None:
                return access
        return None


class _OwnTokens:
    """The workspace's own tokens; the file is read again when it has changed."""

    def __init__(self, file: TokenFile, resource: str) -> None:
        self._file = file
        self._resource = resource

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            found = self._file.find(token)
        except SettingsError as error:
            logger.error("No token is let in: %s", error)
            return None
        if found is None:
            return None
        # What is handed on is kept in memory for as long as a session lasts, and so does not hold the token.
        return AccessToken(token="", client_id=found.name, scopes=list(found.scopes), resource=self._resource or None)


class _Jwt:
    """Access tokens of an OAuth server: signed by one of its keys, made for this server, not expired."""

    def __init__(self, settings: ServerSettings) -> None:
        from jwt import PyJWKClient

        self._issuer = settings.issuer
        self._resource = settings.public_url
        self._keys = PyJWKClient(settings.jwks_url, timeout=_JWKS_SECONDS)

    async def verify_token(self, token: str) -> AccessToken | None:
        from jwt import PyJWKClientConnectionError, PyJWTError

        try:
            claims = await anyio.to_thread.run_sync(self._claims, token)
        except PyJWKClientConnectionError:
            logger.warning("The keys of %s cannot be fetched; its tokens are refused meanwhile", self._issuer)
            return None
        except PyJWTError:
            return None
        given = claims.get("scope", claims.get("scp", ""))
        granted = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        client = claims.get("client_id") or claims.get("azp") or claims.get("sub") or self._issuer
        return AccessToken(
            token="",
            client_id=str(client),
            scopes=[scope for scope in SCOPES if scope in granted],
            expires_at=int(claims["exp"]),
            resource=self._resource,
            subject=str(claims["sub"]) if "sub" in claims else None,
            claims={"iss": self._issuer},
        )

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        bare = self._resource.removesuffix("/")
        return jwt.decode(
            token,
            self._keys.get_signing_key_from_jwt(token),
            algorithms=_ASYMMETRIC,
            audience=[bare, f"{bare}/"],
            issuer=self._issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "aud", "iss"]},
        )


class _Function:
    """A function of the operator's, "module:function": token in, AccessToken or None out; async or not."""

    def __init__(self, name: str) -> None:
        module, _, attribute = name.partition(":")
        try:
            self._judge = cast("Callable[[str], Any]", getattr(importlib.import_module(module), attribute))
        except (ImportError, AttributeError, ValueError) as error:
            raise SettingsError(
                f'server.verifier {name!r} does not load ({error}); name an installed "module:function"'
            ) from None

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            if inspect.iscoroutinefunction(self._judge):
                access = await cast("Awaitable[Any]", self._judge(token))
            else:
                access = await anyio.to_thread.run_sync(partial(self._judge, token))
        except Exception as error:  # whatever it is, it lets nobody in and stops nothing
            logger.error("server.verifier failed: %s", type(error).__name__)
            return None
        return access if isinstance(access, AccessToken) else None
