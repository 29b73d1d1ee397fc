"""An MCP server the agent works with: started or reached, held open, started anew when it dies, closed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from agent.faults import Fault, Patience, retry_after
from agent.plain import one_line
from retrieval.errors import SettingsError, ShoptalkError
from retrieval.workspace import AgentServerSettings

if TYPE_CHECKING:
    import httpx2
    from mcp import Client, StdioServerParameters

__all__ = ["OWN", "Connection", "HttpServer", "UnusableServer", "own_server", "set_up"]

START_SECONDS = 60.0
OWN = "shoptalk"
"""The name of the workspace's own server."""

_CALL_SECONDS = 600.0
"""How long an HTTP server may be silent; the agent's own clock ends a call sooner."""
_T = TypeVar("_T")

_PATIENCE = Patience(attempts=3)
_NOT_TAKEN_STATUS = (429, 503)
_LOST_STATUS = (502, 504)
"""Of a proxy: the server may have done what was asked."""
_REFUSED_STATUS = (401, 403)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Call:
    """Whether the call under way may change something, and the HTTP status it was last answered with, 0 for none."""

    changes: bool = False
    status: int = 0


_call: ContextVar[_Call] = ContextVar("_call")
"""The SDK sends each request in the context of who makes it; where none is set nobody waits for what is answered."""


class UnusableServer(Exception):
    """The server answered a call with an HTTP status that no other arguments would change; says which."""


class _ServerGone(Exception):
    """The server that was called is no longer there. ``answerless``: it may have taken the call before it went."""

    def __init__(self, *, answerless: bool) -> None:
        super().__init__()
        self.answerless = answerless


@dataclass(frozen=True, slots=True)
class HttpServer:
    """A server that runs already: its address, and a bearer token where it wants one."""

    url: str
    token: str = field(default="", repr=False)
    token_env: str = ""


def own_server(root: Path) -> StdioServerParameters:
    """How to start Shoptalk's own server on the workspace at ``root``.

    -P keeps the current folder, which may hold a folder of any name, out of the child's imports. The
    server gets this environment without the keys: it has no use for them.
    """
    from mcp import StdioServerParameters

    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    arguments = ["-P", "-m", "shoptalk", "-w", str(root), "serve"]
    return StdioServerParameters(command=sys.executable, args=arguments, env=environment)


def set_up(name: str, settings: AgentServerSettings, root: Path) -> Any:
    """How to reach the server that ``[agent.servers.NAME]`` describes; ``root`` is the folder commands start in.

    Raises:
        SettingsError: the settings name an environment variable that is not set.
    """
    from mcp import StdioServerParameters

    if settings.url:
        return HttpServer(settings.url, _variable(name, settings.token_env), settings.token_env)
    if settings.command:
        environment = {
            key: _variable(name, value[1:]) if value.startswith("$") else value for key, value in settings.env.items()
        }
        return StdioServerParameters(
            command=settings.command, args=list(settings.args), env=environment or None, cwd=root
        )
    return own_server(root)


def _variable(server: str, name: str) -> str:
    value = os.environ.get(name, "").strip() if name else ""
    if name and not value:
        raise SettingsError(f"[agent.servers.{server}] reads ${name}, which is not set; export it")
    return value


class Connection:
    """One MCP client at a time, of a command to start, an :class:`HttpServer`, or anything ``mcp.Client`` takes.

    The client's cancel scopes must be left in the task that entered them, and a restart may be asked
    for from any of several concurrent calls; so a task of its own holds the client open.
    """

    def __init__(self, target: Any, name: str = OWN, on_restart: Callable[[str], None] = lambda server: None) -> None:
        self.label = "the search server" if name == OWN else f"the MCP server {name}"
        self._target = target
        self._on_restart = on_restart
        self._client: Client | None = None
        self._holder: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Start the server and shake hands.

        Raises:
            ShoptalkError: it does not start, with the last line it wrote.
        """
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._holder = asyncio.create_task(self._hold(ready, self._stop), name="mcp-connection")
        try:
            self._client = await ready
        except BaseException:
            self._holder.cancel()
            await self.close()
            raise

    async def use(self, act: Callable[[Client], Awaitable[_T]], *, changes: bool = False) -> _T:
        """``act`` on the live client; where the server has died it is started anew, once.

        ``changes``: it may change something, and is not asked for again where the answer was lost.

        Raises:
            UnusableServer: it answers with an HTTP status that says so.
            ShoptalkError: it died again, or does not start again, or takes the token no longer.
        """
        from mcp import MCPError

        call = _Call(changes)
        _call.set(call)
        for attempt in (1, 2):
            client = self._client
            try:
                if client is not None:
                    return await _or_gone(act, client)
            except _ServerGone as gone:
                logger.debug("%s is gone", self.label)
                if changes and gone.answerless:
                    if await self._replace(client):
                        self._on_restart(self.label)
                    raise UnusableServer(
                        f"{self.label} stopped during the call and may have done it: look before you ask again"
                    ) from gone
            except MCPError as error:
                # All that the SDK says of an HTTP status.
                if error.message != "Server returned an error response":
                    raise
                reason = f"{self.label}: {self._refusal(call.status) or one_line(error.message)}"
                raise (ShoptalkError if call.status in _REFUSED_STATUS else UnusableServer)(reason) from error
            if attempt == 1 and await self._replace(client):
                self._on_restart(self.label)
        raise ShoptalkError(f"{self.label} stopped twice during one call; see what it says when run on its own")

    async def close(self) -> None:
        """Stop the server; does nothing where none runs."""
        holder, self._holder, self._client = self._holder, None, None
        if holder is not None:
            self._stop.set()
            await asyncio.wait([holder])

    async def _replace(self, dead: Client | None) -> bool:
        """Start a new server in place of ``dead``; False where another call has done so already."""
        async with self._changing:
            if self._client is not dead:
                return False
            await self.close()
            await self.open()
            return True

    async def _hold(self, ready: asyncio.Future[Client], stop: asyncio.Event) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            call = _Call()
            _call.set(call)
            starting = asyncio.timeout(START_SECONDS)
            try:
                async with _connected(self._target, errors, starting) as client:
                    if not ready.done():
                        ready.set_result(client)
                    await stop.wait()
            except Exception as error:
                if ready.done():
                    # The answer is out, or a restart is under way: how the old server ended matters to no one.
                    logger.debug("%s ended badly", self.label, exc_info=True)
                    return
                silent = f"no answer within {START_SECONDS:.0f} s" if starting.expired() else ""
                reason = _last_line(errors) or self._refusal(call.status) or silent or _innermost(error)
                ready.set_exception(ShoptalkError(f"{self.label} did not start: {reason}"))
            finally:
                if not ready.done():
                    ready.cancel()

    def _refusal(self, status: int) -> str:
        """What an HTTP server's ``status`` says, "" where it is not to blame."""
        if status in _REFUSED_STATUS:
            variable = self._target.token_env
            fix = f"check the token in ${variable}" if variable else "name the variable with its token in token_env"
        elif status in (404, 405):
            fix = "check its url, which often ends in /mcp"
        elif status == 429:
            fix = "it takes no more calls for now"
        elif status >= 400:
            fix = "see its log"
        else:
            return ""
        return f"{self._target.url.partition('?')[0]} answers {status}; {fix}"  # a query may hold a key


@asynccontextmanager
async def _connected(target: Any, errors: IO[str], starting: asyncio.Timeout) -> AsyncIterator[Client]:
    """A client of ``target``, which must be there before ``starting`` is over."""
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    http: httpx2.AsyncClient | None = None
    if isinstance(target, StdioServerParameters):
        target = stdio_client(target, errlog=errors)  # type: ignore[arg-type]
    elif isinstance(target, HttpServer):
        http = _patient_client(target.token)
        target = streamable_http_client(target.url, http_client=http)
    try:
        async with starting:
            client = Client(target)
            await client.__aenter__()
        try:
            yield client
        finally:
            await client.__aexit__(None, None, None)
    finally:
        if http is not None:
            await http.aclose()


def _patient_client(token: str) -> httpx2.AsyncClient:
    """Sends what a server is too busy for again, after the wait that it asks for: what reads may be asked twice.

    What may change something is sent again only where the server cannot have taken it. A stream to listen on (GET)
    and the end of a session (DELETE) are not asked for twice: no answer hangs on them, and the end would keep people
    waiting.
    """
    import httpx2

    async def note(response: httpx2.Response) -> None:
        _call.get(_Call()).status = response.status_code

    class PatientClient(httpx2.AsyncClient):
        async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            for attempt in range(1, _PATIENCE.attempts if request.method == "POST" else 1):
                response = await super().send(request, **options)
                passing = _NOT_TAKEN_STATUS if _call.get(_Call()).changes else (*_NOT_TAKEN_STATUS, *_LOST_STATUS)
                if response.status_code not in passing:
                    return response
                await response.aclose()
                busy = Fault(str(response.status_code), wait=retry_after(response.headers))
                await asyncio.sleep(_PATIENCE.wait(attempt, busy))
            return await super().send(request, **options)

    return PatientClient(
        headers={"authorization": f"Bearer {token}"} if token else {},
        timeout=httpx2.Timeout(30.0, read=_CALL_SECONDS),
        event_hooks={"response": [note]},
    )


async def _or_gone(act: Callable[[Client], Awaitable[_T]], client: Client) -> _T:
    """``act(client)``, with the several ways a lost connection shows turned into one."""
    import anyio
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    try:
        return await act(client)
    except MCPError as error:
        if error.code == CONNECTION_CLOSED:
            raise _ServerGone(answerless=True) from error
        # An HTTP server that was started anew knows the session no longer; the SDK says so in these words.
        if error.message == "Session terminated":
            raise _ServerGone(answerless=False) from error
        raise
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, OSError) as error:
        # What was called through it could not be sent.
        raise _ServerGone(answerless=False) from error


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read()[-20_000:].splitlines() if line.strip()]
    return one_line(lines[-1].removeprefix("Error: ")) if lines else ""


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return one_line(f"{type(error).__name__}: {error}")
