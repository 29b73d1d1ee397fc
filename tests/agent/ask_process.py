"""``shoptalk`` with the tests' corpus server in the place of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import agent.conversation
import shoptalk


def corpus_server(root: Path) -> object:
    from mcp import StdioServerParameters

    return StdioServerParameters(command=sys.executable, args=[str(Path(__file__).with_name("corpus_server.py"))])


if __name__ == "__main__":
    agent.conversation.own_server = corpus_server  # type: ignore[assignment]
    shoptalk.main()
