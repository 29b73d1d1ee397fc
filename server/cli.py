"""The verb of this package: serve."""

from __future__ import annotations

import logging
import signal
import sys

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import SettingsError, ShoptalkError

__all__ = ["serve"]


@click.command()
@click.option("--read-only", is_flag=True, help="Leave out the tool that reindexes.")
@pass_invocation
def serve(invocation: Invocation, read_only: bool) -> None:
    """Serve the corpora to Claude and other MCP clients.

    Speaks MCP on stdin and stdout, so a client starts it; what it has to say to people goes to stderr.
    """
    workspace = invocation.workspace()
    if not workspace.corpora:
        raise SettingsError(
            f'{workspace.root / "shoptalk.toml"} names no corpus; add [corpus.NAME] with paths = ["FOLDER"]'
        )
    if sys.stdin is None or sys.stdout is None:
        raise ShoptalkError("serve speaks MCP on standard input and output, and one of them is closed")
    if sys.stdin.isatty():
        invocation.note("Serving MCP on stdin and stdout; a client is meant to start this. Ctrl-C ends it.")
    # Nothing here needs tidying up: indexes are only read, and jobs are processes of their own. The default
    # lets Ctrl-C end a server whose reader waits for a line.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    from server.app import build_server

    try:
        build_server(workspace, read_only=read_only).run("stdio")
    except* BrokenPipeError:
        pass  # the client is gone, and nobody is left to tell
