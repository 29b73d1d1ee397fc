"""The agent against Shoptalk's own server and a real index; only the model is scripted."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HASTY
from messages_server import Block, MessagesServer, Reply, cited, location, search_results, text, tool_use

import shoptalk
from agent import Agent, Answer
from retrieval.workspace import AgentSettings, Workspace

pytestmark = pytest.mark.anyio

LEAVE = """# Time away

## Birth and adoption

Staff who become parents are on **sabbatical B** for a while.
See the table of sabbaticals.
"""
TABLE = """# Sabbaticals

Sabbatical A is for study. It lasts a year.

Sabbatical B lasts ten weeks, at full pay. It may
be split in two. Tell the office four weeks ahead.
"""


def refine(body: Block) -> Reply:
    """Search again with the word that the first search taught."""
    found = "".join(part["text"] for result in search_results(body) for part in result["content"])
    return tool_use("search_corpus", query="sabbatical B lasts" if "sabbatical B" in found else "nothing learnt")


def cite_ten_weeks(body: Block) -> Reply:
    """Cite the first block that says how long it lasts."""
    for index, result in enumerate(search_results(body)):
        for start, part in enumerate(result["content"]):
            if "ten weeks" in part["text"]:
                place = location(index, result["source"], part["text"], start, start + 1)
                return text(cited("Ten weeks.", place))
    return text("I do not know.")


async def converse(workspace: Workspace, api: MessagesServer) -> Answer:
    async with api.client() as client:
        settings = AgentSettings()
        async with Agent(workspace, client=client, settings=settings, patience=HASTY) as agent:
            return await agent.ask("How long is parental leave?")


async def test_a_refined_search_of_a_real_index_is_cited_to_the_right_lines(tmp_path: Path, static_model: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "leave.md").write_text(LEAVE, encoding="utf-8")
    (docs / "table.md").write_text(TABLE, encoding="utf-8")
    Workspace.create(tmp_path, {"handbook": "docs"}, str(static_model))
    with pytest.raises(SystemExit) as end:
        shoptalk.main(["-q", "-w", str(tmp_path), "index"])
    assert not end.value.code
    first = tool_use("search_corpus", query="parents birth adoption")
    with MessagesServer([first, refine, cite_ten_weeks]) as api:
        answer = await converse(Workspace.open(tmp_path, {}), api)
        offered = [tool["name"] for tool in api.requests[0]["tools"]]
    assert offered == ["model_status", "search_corpus"]
    assert [query.text for query in answer.queries] == ["parents birth adoption", "sabbatical B lasts"]
    (citation,) = answer.citations
    assert citation.valid and citation.document_id == "table.md"
    lines = TABLE.splitlines()[citation.first_line - 1 : citation.last_line]
    assert citation.quote in "\n".join(lines) and citation.first_line == 5
