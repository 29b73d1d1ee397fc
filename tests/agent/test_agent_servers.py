"""Several MCP servers at once: commands, addresses, tokens, and which of their tools are offered."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import HASTY
from corpus_over_http import TOKEN, serving
from corpus_server import build
from mcp import StdioServerParameters
from mcp.server import MCPServer
from messages_server import MessagesServer, Reply, call, search_results, text

from agent import Agent
from agent.connection import HttpServer, own_server, set_up
from agent.toolbox import Server, Toolbox
from retrieval.errors import SettingsError, ShoptalkError
from retrieval.workspace import AgentServerSettings, Workspace

pytestmark = pytest.mark.anyio

CORPUS_SERVER = str(Path(__file__).with_name("corpus_server.py"))


@asynccontextmanager
async def opened(*servers: Server, restarts: list[str] | None = None) -> AsyncIterator[Toolbox]:
    toolbox = Toolbox(servers, [].append if restarts is None else restarts.append)
    await toolbox.open()
    try:
        yield toolbox
    finally:
        await toolbox.close()


def tickets() -> MCPServer:
    server = MCPServer("tickets")

    @server.tool()
    async def find_tickets(words: str) -> str:
        return f"T-1 is about {words}"

    @server.tool()
    async def close_ticket(number: str) -> str:
        raise AssertionError("not allowed")

    return server


async def test_the_tools_of_all_servers_are_offered_by_name_and_called_where_they_are() -> None:
    servers = Server("shoptalk", build()), Server("tickets", tickets(), ("find_tickets",))
    async with opened(*servers) as toolbox:
        assert [tool["name"] for tool in toolbox.params] == ["find_tickets", "model_status", "search_corpus"]
        found = await toolbox.call("find_tickets", {"words": "leave"})
        hits = await toolbox.call("search_corpus", {"query": "leave"})
    assert (found.content[0]["text"], found.sent, hits.hits) == ("T-1 is about leave", (), 1)


async def test_a_name_that_two_servers_offer_is_told_apart_by_theirs() -> None:
    async with opened(Server("a", build(), ("search_corpus",)), Server("b", build())) as toolbox:
        assert [tool["name"] for tool in toolbox.params] == ["a__search_corpus", "b__search_corpus", "model_status"]
        assert toolbox.searches("b__search_corpus") and not toolbox.searches("model_status")
        assert (await toolbox.call("b__search_corpus", {"query": "leave"})).hits == 1


async def test_sources_name_their_corpus_where_several_can_be_searched() -> None:
    async with opened(Server("shoptalk", build())) as toolbox:
        (alone,) = (await toolbox.call("search_corpus", {"query": "leave"})).sent
    toolbox = Toolbox([Server("shoptalk", build())], several=True)
    await toolbox.open()
    try:
        (named,) = (await toolbox.call("search_corpus", {"query": "leave"})).sent
    finally:
        await toolbox.close()
    async with opened(Server("a", build(), ("search_corpus",)), Server("b", build(), ("search_corpus",))) as toolbox:
        ours = await toolbox.call("a__search_corpus", {"query": "leave"})
        theirs = await toolbox.call("b__search_corpus", {"query": "leave"})
    assert alone.corpus == "" and named.source == f"{named.corpus}:{alone.source}" and named.corpus
    assert ours.sent[0].source == f"a/{named.source}" and theirs.sent[0].source == f"b/{named.source}"
    assert theirs.without(ours.sent) == theirs


async def test_one_server_that_does_not_start_is_named_and_the_others_are_stopped() -> None:
    broken = StdioServerParameters(command=sys.executable, args=["-c", "import sys; sys.exit('out of order')"])
    corpus = StdioServerParameters(command=sys.executable, args=[CORPUS_SERVER])
    with pytest.raises(ShoptalkError, match="^the MCP server wiki did not start: out of order$"):
        async with opened(Server("shoptalk", corpus), Server("wiki", broken)):
            pass


async def test_a_server_over_http_is_reached_with_its_token() -> None:
    with serving() as port:
        async with opened(Server("far", HttpServer(f"http://127.0.0.1:{port}/mcp", TOKEN, "FAR"))) as toolbox:
            assert (await toolbox.call("search_corpus", {"query": "leave"})).hits == 1


@pytest.mark.parametrize(
    ("token", "variable", "path", "said"),
    [
        ("wrong", "FAR_TOKEN", "/mcp", r"/mcp answers 401; check the token in \$FAR_TOKEN"),
        ("", "", "/mcp", "answers 401; name the variable with its token in token_env"),
        (TOKEN, "FAR_TOKEN", "/elsewhere", "/elsewhere answers 404; check its url, which often ends in /mcp"),
    ],
)
async def test_a_server_over_http_that_refuses_is_one_line(token: str, variable: str, path: str, said: str) -> None:
    with serving() as port:
        with pytest.raises(ShoptalkError, match=f"the MCP server far did not start: .*{said}$"):
            async with opened(Server("far", HttpServer(f"http://127.0.0.1:{port}{path}", token, variable))):
                pass


async def test_a_server_that_is_busy_is_asked_again_and_one_that_stays_so_is_named_with_its_status() -> None:
    refusals: list[int] = []
    with serving(refusals=refusals) as port:
        url = f"http://127.0.0.1:{port}/mcp"
        async with opened(Server("far", HttpServer(url, TOKEN, "FAR"))) as toolbox:
            await toolbox.call("search_corpus", {"query": "leave"})
            refusals[:] = [429, 503]
            assert (await toolbox.call("search_corpus", {"query": "leave"})).hits == 1
            refusals[:] = [502] * 3
            failed = await toolbox.call("search_corpus", {"query": "leave"})
    assert failed.error == (
        f"search_corpus failed: the MCP server far: {url} answers 502; see its log. Go on without it."
    )


async def test_what_may_change_something_is_not_asked_for_again_where_a_proxy_lost_the_answer() -> None:
    refusals: list[int] = []
    with serving(refusals=refusals) as port:
        target = HttpServer(f"http://127.0.0.1:{port}/mcp", TOKEN, "FAR")
        async with opened(Server("far", target, ("reindex", "model_status"))) as toolbox:
            refusals[:] = [504]
            assert "answers 504" in (await toolbox.call("reindex", {})).error
            refusals[:] = [503]
            assert "answers" not in (await toolbox.call("reindex", {})).error and not refusals
            refusals[:] = [504]
            assert (await toolbox.call("model_status", {})).error == ""


async def test_what_may_change_something_is_not_asked_for_again_where_the_server_dies_over_it(tmp_path: Path) -> None:
    restarts: list[str] = []
    server = tmp_path / "dying.py"
    server.write_text(
        "import os\n"
        "from mcp.server import MCPServer\n"
        "server = MCPServer('dying')\n"
        "@server.tool()\n"
        "def create_ticket() -> str:\n"
        "    print('x', file=open('tickets', 'a'), flush=True)\n"
        "    os._exit(1)\n"
        "@server.tool()\n"
        "def count_tickets() -> str:\n"
        "    return str(len(open('tickets').readlines()))\n"
        "server.run()\n"
    )
    target = StdioServerParameters(command=sys.executable, args=[str(server)], cwd=tmp_path)
    tools = ("create_ticket", "count_tickets")
    async with opened(Server("dying", target, tools), restarts=restarts) as toolbox:
        failed = await toolbox.call("create_ticket", {})
        counted = await toolbox.call("count_tickets", {})
    assert "stopped during the call and may have done it: look before you ask again" in failed.error
    assert (counted.content[0]["text"], restarts) == ("1", ["the MCP server dying"])


async def test_no_one_waits_for_a_busy_server_to_end_a_session() -> None:
    ended: list[int] = []
    with serving(sessions=True, ended=ended) as port:
        async with opened(Server("far", HttpServer(f"http://127.0.0.1:{port}/mcp", TOKEN, "FAR"))) as toolbox:
            assert (await toolbox.call("search_corpus", {"query": "leave"})).hits == 1
        assert ended == [503]


async def test_a_token_that_is_taken_no_longer_ends_the_question_with_one_line() -> None:
    refusals: list[int] = []
    with serving(refusals=refusals) as port:
        async with opened(Server("far", HttpServer(f"http://127.0.0.1:{port}/mcp", TOKEN, "FAR"))) as toolbox:
            await toolbox.call("search_corpus", {"query": "leave"})
            refusals[:] = [401]
            with pytest.raises(ShoptalkError, match=r"^the MCP server far: .* 401; check the token in \$FAR"):
                await toolbox.call("search_corpus", {"query": "leave"})


async def test_a_server_over_http_that_is_started_anew_is_found_again() -> None:
    restarts: list[str] = []
    with serving() as port:
        target = HttpServer(f"http://127.0.0.1:{port}/mcp", TOKEN, "FAR")
        toolbox = Toolbox([Server("far", target)], restarts.append)
        await toolbox.open()
    with serving(port):
        assert (await toolbox.call("search_corpus", {"query": "leave"})).hits == 1
    with pytest.raises(ShoptalkError, match="the MCP server far did not start: .*"):
        await toolbox.call("search_corpus", {"query": "travel"})
    await toolbox.close()
    assert restarts in ([], ["the MCP server far"])


def test_what_the_settings_describe_is_what_is_started(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_TOKEN", "t0ken")
    monkeypatch.setenv("KEY", "s3cret")

    def made(**settings: Any) -> Any:
        return set_up("far", AgentServerSettings(**settings), workspace.root)

    assert made() == own_server(workspace.root)
    http = made(url="http://127.0.0.1:1/mcp", token_env="FAR_TOKEN")
    assert http == HttpServer("http://127.0.0.1:1/mcp", "t0ken", "FAR_TOKEN") and "t0ken" not in repr(http)
    command = made(command="tickets", args=("--all",), env={"A": "b", "TICKETS_KEY": "$KEY"})
    assert (command.command, command.args, command.cwd) == ("tickets", ["--all"], workspace.root)
    assert command.env == {"A": "b", "TICKETS_KEY": "s3cret"}
    with pytest.raises(SettingsError, match=r"\[agent.servers.far\] reads \$NOWHERE, which is not set"):
        made(url="http://127.0.0.1:1/mcp", token_env="NOWHERE")


async def test_an_agent_searches_all_servers_of_its_settings(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over stdio and over HTTP with a token, in one turn."""
    monkeypatch.setenv("FAR_TOKEN", TOKEN)
    both = Reply([call("far__search_corpus", query="leave"), call("near__search_corpus", query="travel")], "tool_use")
    with serving() as port, MessagesServer([both, text("Both.")]) as api:
        toml = workspace.root / "shoptalk.toml"
        toml.write_text(
            f"""{toml.read_text()}
[agent.servers.near]
command = "{sys.executable}"
args = ["{CORPUS_SERVER}"]
tools = ["search_corpus"]
[agent.servers.far]
url = "http://127.0.0.1:{port}/mcp"
token_env = "FAR_TOKEN"
tools = ["search_corpus"]
"""
        )
        async with api.client() as client:
            async with Agent(Workspace.open(workspace.root, {}), client=client, patience=HASTY) as agent:
                answer = await agent.ask("Leave and travel?")
    assert sorted(query.sources for query in answer.queries) == [
        ("far/handbook:handbook/leave.md:12-18",),
        ("near/handbook:handbook/travel.md:3-5",),
    ]
    assert [result["title"] for result in search_results(api.requests[-1])] == ["Leave › Parental leave", "Travel"]


async def test_an_agent_names_the_corpus_where_its_workspace_has_several(workspace: Workspace) -> None:
    toml = workspace.root / "shoptalk.toml"
    toml.write_text(f'{toml.read_text()}\n[corpus.annex]\npaths = ["annex"]\n')
    found = Reply([call("search_corpus", query="leave")], "tool_use")
    for opened_in, prefix in ((workspace, ""), (Workspace.open(workspace.root, {}), "handbook:")):
        with MessagesServer([found, text("Ten weeks.")]) as api:
            async with api.client() as client:
                async with Agent(opened_in, client=client, server=build(), patience=HASTY) as agent:
                    answer = await agent.ask("How long?")
        assert answer.queries[0].sources == (f"{prefix}handbook/leave.md:12-18",)
