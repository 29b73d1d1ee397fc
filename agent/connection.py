"""The MCP server the agent searches with: started, held open, started anew when it dies, closed."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from agent.plain import one_line
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from mcp import Client, StdioServerParameters

__all__ = ["Connection", "ServerGone", "own_server"]

START_SECONDS = 60.0

logger = logging.getLogger(__name__)


class ServerGone(Exception):
    """The server that was called is no longer there."""


def own_server(root: Path) -> StdioServerParameters:
    """How to start Shoptalk's own server on the workspace at ``root``.

    -P keeps the current folder, which may hold a folder of any name, out of the child's imports. The
    server gets this environment without the keys: it has no use for them.
    """
    from mcp import StdioServerParameters

    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTHROPIC_")}
    arguments = ["-P", "-m", "shoptalk", "-w", str(root), "serve"]
    return StdioServerParameters(command=sys.executable, args=arguments, env=environment)


class Connection:
    """One MCP client at a time.

    The client's cancel scopes must be left in the task that entered them, and a restart may be asked
    for from any of several concurrent calls; so a task of its own holds the client open.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._client: Client | None = None
        self._holder: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._changing = asyncio.Lock()

    @property
    def client(self) -> Client:
        """The live client.

        Raises:
            ServerGone: there is none, since a restart failed.
        """
        if self._client is None:
            raise ServerGone
        return self._client

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

    async def replace(self, dead: Client | None) -> bool:
        """Start a new server in place of ``dead``; False where another call has done so already."""
        async with self._changing:
            if self._client is not dead:
                return False
            await self.close()
            await self.open()
            return True

    async def close(self) -> None:
        """Stop the server; does nothing where none runs."""
        holder, self._holder, self._client = self._holder, None, None
        if holder is not None:
            self._stop.set()
            await asyncio.wait([holder])

    async def _hold(self, ready: asyncio.Future[Client], stop: asyncio.Event) -> None:
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
            server = self._server
            if isinstance(server, StdioServerParameters):
                server = stdio_client(server, errlog=errors)
            starting = asyncio.timeout(START_SECONDS)
            try:
                async with starting:
                    client = Client(server)
                    await client.__aenter__()
                try:
                    if not ready.done():
                        ready.set_result(client)
                    await stop.wait()
                finally:
                    await client.__aexit__(None, None, None)
            except Exception as error:
                if ready.done():
                    # The answer is out, or a restart is under way: how the old server ended matters to no one.
                    logger.debug("the MCP server ended badly", exc_info=True)
                    return
                reason = f"no answer within {START_SECONDS:.0f} s" if starting.expired() else _innermost(error)
                ready.set_exception(ShoptalkError(f"the search server did not start: {_last_line(errors) or reason}"))
            finally:
                if not ready.done():
                    ready.cancel()


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read()[-20_000:].splitlines() if line.strip()]
    return one_line(lines[-1].removeprefix("Error: ")) if lines else ""


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return one_line(f"{type(error).__name__}: {error}")
