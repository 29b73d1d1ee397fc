"""The agent against Shoptalk's own server and a real index; only the model is scripted."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from conftest import HASTY
from messages_server import Block, MessagesServer, Reply, cited, location, search_results, text, tool_use

import shoptalk
from agent import Agent, Answer
from retrieval.workspace import Workspace

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


SCRIPT = [tool_use("search_corpus", query="parents birth adoption"), refine, cite_ten_weeks]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, static_model: Path) -> Path:
    """A workspace with an index, made by the command line."""
    folder = tmp_path_factory.mktemp("workspace")
    docs = folder / "docs"
    docs.mkdir()
    (docs / "leave.md").write_text(LEAVE, encoding="utf-8")
    (docs / "table.md").write_text(TABLE, encoding="utf-8")
    Workspace.create(folder, {"handbook": "docs"}, str(static_model))
    with pytest.raises(SystemExit) as end:
        shoptalk.main(["-q", "-w", str(folder), "index"])
    assert not end.value.code
    return folder


async def converse(workspace: Workspace) -> Answer:
    """Ask, and see that the answer leads to the lines that say so."""
    with MessagesServer(SCRIPT) as api:
        async with api.client() as client, Agent(workspace, client=client, patience=HASTY) as agent:
            answer = await agent.ask("How long is parental leave?")
        assert [tool["name"] for tool in api.requests[0]["tools"]] == ["model_status", "search_corpus"]
    assert [query.text for query in answer.queries] == ["parents birth adoption", "sabbatical B lasts"]
    (citation,) = answer.citations
    assert citation.valid and citation.document_id == "table.md"
    lines = TABLE.splitlines()[citation.first_line - 1 : citation.last_line]
    assert citation.quote in "\n".join(lines) and citation.first_line == 5
    return answer


async def test_a_refined_search_of_a_real_index_is_cited_to_the_right_lines(root: Path) -> None:
    """Over stdio: the agent starts the server itself."""
    await converse(Workspace.open(root, {}))


async def test_a_server_elsewhere_is_searched_over_http_with_a_token(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another workspace, which has neither documents nor an index."""
    from server.http import HttpServer
    from server.tokens import TokenFile

    there = Workspace.open(root, {})
    monkeypatch.setenv("HANDBOOK_TOKEN", TokenFile(there).add("agent", ["search"]))
    server = HttpServer(there, "127.0.0.1", 0, read_only=True)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [server.socket]})
    thread.start()
    try:
        (tmp_path / "shoptalk.toml").write_text(
            f'[agent.servers.handbook]\nurl = "{server.url}"\ntoken_env = "HANDBOOK_TOKEN"\n', encoding="utf-8"
        )
        await converse(Workspace.open(tmp_path, {}))
    finally:
        server.should_exit = True
        thread.join()
