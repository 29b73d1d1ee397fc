"""What a client is told that asked for what is not to be had: one line, the next step, and no place on this machine."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from mcp.server.mcpserver.exceptions import ToolError

from retrieval.errors import IndexingError, ShoptalkError
from retrieval.workspace import Workspace

__all__ = ["known_corpora", "named_corpus", "refusal", "without_root"]


def known_corpora(workspace: Workspace) -> str:
    """The names of the corpora, for people."""
    return ", ".join(sorted(workspace.corpora))


def named_corpus(workspace: Workspace, name: str) -> str:
    """``name``, or the only corpus there is.

    Raises:
        ToolError: there is no such corpus, or "" where there are several.
    """
    if name in workspace.corpora:
        return name
    if name and name in _corpora_now(workspace):
        raise ToolError(
            f"Corpus {name!r} was added to shoptalk.toml after this server started; "
            "have the server restarted (restart the program that started it)."
        )
    if name:
        raise ToolError(f"There is no corpus {name!r}; name one of: {known_corpora(workspace)}.")
    if len(workspace.corpora) > 1:
        raise ToolError(f"There are several corpora; set corpus to one of: {known_corpora(workspace)}.")
    return next(iter(workspace.corpora))


def _corpora_now(workspace: Workspace) -> Collection[str]:
    """The corpora that shoptalk.toml has by now; none where it cannot be read."""
    try:
        return Workspace.open(workspace.root).corpora
    except ShoptalkError:
        return ()


def without_root(root: Path, message: str) -> str:
    """``message`` with files named as the workspace sees them, not where the workspace is."""
    return message.replace(f"{root}{os.sep}", "")


def refusal(workspace: Workspace, error: ShoptalkError, *, can_reindex: bool) -> ToolError:
    """``error`` for a client."""
    message = without_root(workspace.root, str(error))
    if isinstance(error, IndexingError) and can_reindex and "`shoptalk index" in message:
        message += " (or call reindex)"
    return ToolError(message)
