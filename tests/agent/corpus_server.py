"""A small MCP server with search_corpus to DESIGN's contract, over a handful of passages.

As a script it speaks stdio. Queries that begin with "die" end the process, as a crash would; with
``--die-once FILE`` only where FILE is not there yet, which it then is.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field


class Hit(BaseModel):
    rank: int
    id: str
    document_id: str
    title: str
    heading: list[str]
    uri: str
    first_line: int
    last_line: int
    text: str
    truncated: bool
    score: float
    dense_rank: int | None
    lexical_rank: int | None


class Found(BaseModel):
    query: str
    mode: str
    corpus: str
    model: str
    generation: str
    degraded: str
    hits: list[Hit]


LEAVE = """## Parental leave

Parents take up to ten weeks of paid leave. The leave
may be split in two parts. It must end within a year.

- Notice: four weeks.
- Pay: full."""
TRAVEL = """## Travel

Book trains at least a week ahead. Flights need the consent of your manager."""
Passage = tuple[str, str, list[str], int, int, str]
PASSAGES: tuple[Passage, ...] = (
    ("handbook/leave.md", "Leave", ["Leave", "Parental leave"], 12, 18, LEAVE),
    ("handbook/travel.md", "Travel", ["Travel"], 3, 5, TRAVEL),
)


def build(die_once: Path | None = None, together: int = 0, passages: Sequence[Passage] = PASSAGES) -> MCPServer:
    """The server. ``together``: a query "together …" is answered only once so many are under way."""
    server = MCPServer("corpus-for-tests")
    under_way = 0
    all_here = asyncio.Event()

    @server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False))
    async def search_corpus(
        query: Annotated[str, Field(min_length=1, max_length=2000)],
        corpus: str = "",
        top_k: Annotated[int, Field(ge=1, le=50)] = 5,
        mode: Literal["hybrid", "dense", "lexical"] = "hybrid",
        path_prefix: str = "",
        max_chars: int = 1500,
    ) -> Annotated[CallToolResult, Found]:
        """Search the documents."""
        nonlocal under_way
        if query.startswith("die") and not (die_once and die_once.exists()):
            if die_once:
                die_once.touch()
            os._exit(9)
        if query.startswith("broken"):
            raise ToolError("The index is missing. Ask for it to be built.")
        if query.startswith("slow"):
            await asyncio.Event().wait()
        if query.startswith("together"):
            under_way += 1
            if under_way >= together:
                all_here.set()
            await all_here.wait()
        words = query.lower().split()
        found = [passage for passage in passages if any(word in passage[5].lower() for word in words)]
        hits = [
            Hit(
                rank=rank,
                id=f"p{rank}",
                document_id=document,
                title=title,
                heading=heading,
                uri=f"corpus://handbook/{document}",
                first_line=first,
                last_line=last,
                text=text[:max_chars],
                truncated=len(text) > max_chars,
                score=1 / rank,
                dense_rank=rank,
                lexical_rank=None,
            )
            for rank, (document, title, heading, first, last, text) in enumerate(found[:top_k], 1)
        ]
        degraded = "the model is still loading" if query.startswith("early") else ""
        result = Found(
            query=query, mode=mode, corpus="handbook", model="v1", generation="g000001", degraded=degraded, hits=hits
        )
        return CallToolResult(
            content=[
                TextContent(type="text", text=f"{len(hits)} passages" if hits else "No passage matches. Try leave.")
            ],
            structured_content=result.model_dump(),
        )

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def model_status() -> str:
        """Tell how the model and the indexes fare."""
        return "handbook: g000001, 2 passages"

    @server.tool()
    async def reindex(corpus: str = "") -> str:
        """Bring the index up to date."""
        raise AssertionError("the agent must not offer this tool")

    return server


if __name__ == "__main__":
    marker = Path(sys.argv[sys.argv.index("--die-once") + 1]) if "--die-once" in sys.argv else None
    build(marker).run("stdio")
