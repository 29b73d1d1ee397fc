"""The verb serve."""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import SettingsError, ShoptalkError

if TYPE_CHECKING:
    from retrieval.workspace import Workspace
    from server.logs import LogFormat

__all__ = ["serve"]


class _Address(click.ParamType):  # type: ignore[type-arg]
    """[HOST:]PORT."""

    name = "[host:]port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        match = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[^:\[\]/@]*):)?([0-9]{1,5})", str(value))
        if not match or int(match[2]) > 65_535:
            self.fail(f"{value!r} is no address; write 127.0.0.1:8000, [::1]:8000 or 8000", param, ctx)
        return (match[1] or "127.0.0.1").strip("[]"), int(match[2])


@click.command()
@click.option(
    "--http", "address", type=_Address(), help="Serve streamable HTTP there, on this machine only without a host."
)
@click.option("--read-only", is_flag=True, help="Leave out the tool that reindexes.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write the log on stderr.",
)
@pass_invocation
def serve(invocation: Invocation, address: tuple[str, int] | None, read_only: bool, log_format: LogFormat) -> None:
    """Serve the corpora to Claude and other MCP clients.

    Speaks MCP on stdin and stdout, so a client starts it; what it has to say to people goes to stderr.
    With --http it serves any number of clients; those on other machines need a token (shoptalk tokens).
    """
    from server.logs import configure_logs

    workspace = invocation.workspace()
    if not workspace.corpora:
        raise SettingsError(
            f'{workspace.root / "shoptalk.toml"} names no corpus; add [corpus.NAME] with paths = ["FOLDER"]'
        )
    configure_logs(log_format, talkative=address is not None and not invocation.quiet)
    if address is None:
        _serve_stdio(invocation, workspace, read_only)
        return

    from server.http import serve_http

    serve_http(workspace, *address, read_only=read_only)


def _serve_stdio(invocation: Invocation, workspace: Workspace, read_only: bool) -> None:
    if os.devnull in (sys.stdin.name, sys.stdout.name):
        raise ShoptalkError("serve speaks MCP on standard input and output, and one of them is closed")
    if sys.stdin.isatty():
        invocation.note("Serving MCP on stdin and stdout; a client is meant to start this. Ctrl-C ends it.")
    # Nothing here needs tidying up: indexes are only read, and jobs are processes of their own. The default
    # lets Ctrl-C end a server whose reader waits for a line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from server.app import build_server
    from server.observe import Observer

    server = build_server(workspace, read_only=read_only)
    server.middleware.append(Observer())
    try:
        server.run("stdio")
    except* BrokenPipeError:
        pass  # the client is gone, and nobody is left to tell
