"""The prompt cache, room in the context, and conversations that are put away and taken up again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conftest import StageMaker
from corpus_server import build
from mcp.server import MCPServer
from messages_server import Block, Fault, Reply, call, cited, location, search_results, text, tool_results, tool_use

from agent import Agent
from agent.compaction import DROPPED, MISSING, drop_results
from agent.transcript import Transcript
from retrieval.errors import ShoptalkError
from retrieval.workspace import AgentSettings, Workspace

pytestmark = pytest.mark.anyio

TOO_LONG = Fault("status", 400, "invalid_request_error", message="prompt is too long: 210000 tokens > 200000 maximum")
FULL = Reply([call("search_corpus", query="trains")], "model_context_window_exceeded")


def marked(body: Block) -> list[tuple[int, int]]:
    """Where a request's messages are marked for the cache."""
    return [
        (place, number)
        for place, message in enumerate(body["messages"])
        for number, block in enumerate(message["content"])
        if "cache_control" in block
    ]


def cite_everything(body: Block) -> Reply:
    """An answer of more blocks than the cache looks back."""
    result = search_results(body)[0]
    place = location(0, result["source"], result["content"][1]["text"], 1, 2)
    return text(*[cited(f"Part {number}.", place) for number in range(30)])


async def test_the_place_where_the_last_request_ended_is_marked(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query="leave"), text("Ten."), text("Yes.")]
    async with stage(script) as on:
        await on.agent.ask("How long?")
        await on.agent.ask("Sure?")
        assert not any("cache_control" in json.dumps(message) for message in on.agent.messages)
    assert [marked(body) for body in on.api.requests] == [[], [(0, 0)], [(2, 0)]]


async def test_all_that_was_sent_before_is_read_from_the_cache(stage: StageMaker) -> None:
    script: list[Any] = []
    for number in range(10):
        script += [tool_use("search_corpus", query=f"leave {number}"), cite_everything]
    async with stage(script, caching=True) as on:
        usages = [(await on.agent.ask(f"Question {number}?")).usage for number in range(10)]
    # What a request read is what the one before it left: nothing is ever paid for in full but what is new.
    read, written = usages[-1].cache_read_input_tokens, usages[-1].cache_creation_input_tokens
    assert read > 10 * written and all(usage.input_tokens == 0 for usage in usages)


async def test_beyond_the_limit_old_results_are_dropped_and_it_is_said(stage: StageMaker) -> None:
    script = [
        tool_use("search_corpus", query="leave"),
        text("Ten."),
        tool_use("search_corpus", query="trains"),
        tool_use("search_corpus", query="leave"),
        text("A week."),
    ]
    async with stage(script, caching=True, context_tokens=1000) as on:
        await on.agent.ask("How long?")
        answer = await on.agent.ask("And trains? And leave, again?")
    # The system prompt alone is nearly at the limit: each turn drops what it may, which is all but the last results.
    last = [result["content"][0] for result in tool_results(on.api.requests[-1])]
    assert [block.get("text") for block in last[:2]] == [DROPPED, DROPPED] and last[2]["type"] == "search_result"
    assert "fills the model's context: 1 old search result was dropped from it" in answer.notes[0]
    # What was dropped may be searched for again.
    assert [query.repeated for query in answer.queries] == [False, False]


async def test_what_stood_above_and_was_dropped_is_not_said_to_stand_there(stage: StageMaker) -> None:
    again = tool_use("search_corpus", query="parental leave")
    script = [tool_use("search_corpus", query="leave"), text("Ten."), again, TOO_LONG, again, text("Ten.")]
    async with stage(script) as on:
        await on.agent.ask("How long?")
        answer = await on.agent.ask("Sure?")
    first, second = tool_results(on.api.requests[-2])
    assert (first["content"][-1]["text"], second["content"][-1]["text"]) == (DROPPED, MISSING)
    assert tool_results(on.api.requests[-1])[-1]["content"][0]["source"] == "handbook/leave.md:12-18"
    assert [query.repeated for query in answer.queries] == [False, False]


async def test_citations_count_what_is_left(stage: StageMaker) -> None:
    def cite_first(body: Block) -> Reply:
        (result,) = search_results(body)
        return text(cited("A week.", location(0, result["source"], result["content"][1]["text"], 1, 2)))

    script = [tool_use("search_corpus", query="leave"), tool_use("search_corpus", query="trains"), cite_first]
    async with stage(script, caching=True, context_tokens=1000) as on:
        answer = await on.agent.ask("Trains?")
    assert [(citation.place, citation.valid) for citation in answer.citations] == [("handbook/travel.md:5", True)]


async def test_a_conversation_that_the_api_finds_too_long_is_shortened_and_goes_on(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query="leave"), text("Ten."), TOO_LONG, text("A week.")]
    async with stage(script) as on:
        await on.agent.ask("How long?")
        answer = await on.agent.ask("And trains?")
    assert (answer.text, answer.limit) == ("A week.", None)
    assert tool_results(on.api.requests[-1])[0]["content"] == [{"type": "text", "text": DROPPED}]


async def test_results_that_are_too_long_by_themselves_end_in_an_answer(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query="leave"), TOO_LONG, text("There was too much.")]
    async with stage(script) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.text, answer.limit) == ("There was too much.", "context")
    assert on.api.requests[-1]["tool_choice"] == {"type": "none"}


async def test_a_question_that_is_too_long_by_itself_is_one_line(stage: StageMaker) -> None:
    async with stage([TOO_LONG, text("Yes.")]) as on:
        with pytest.raises(ShoptalkError, match="prompt is too long"):
            await on.agent.ask("How long?")
        assert on.agent.messages == ()
        assert (await on.agent.ask("Still there?")).text == "Yes."


async def test_a_turn_that_fills_the_context_is_answered_with_less_of_it(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query="leave"), tool_use("search_corpus", query="trains"), FULL, text("Ten.")]
    async with stage(script) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.text, answer.limit) == ("Ten.", "context")
    assert [result["content"][0]["type"] for result in tool_results(on.api.requests[-1])] == ["text", "search_result"]


def test_nothing_is_changed_where_nothing_can_be_dropped() -> None:
    transcript = Transcript()
    transcript.user([{"type": "text", "text": "How long?"}])
    transcript.assistant([{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "Ten."}])
    before = transcript.to_dict()
    assert drop_results(transcript) == drop_results(transcript, last_too=True) == 0
    assert transcript.to_dict() == before


async def test_a_conversation_goes_on_after_it_was_put_away(stage: StageMaker, workspace: Workspace) -> None:
    """As JSON, with what was searched for and sent, and its thinking, which the API checks."""

    def cite_old(body: Block) -> Reply:
        result = search_results(body)[0]
        return text(cited("Ten.", location(0, result["source"], result["content"][1]["text"], 1, 2)))

    script = [
        tool_use("search_corpus", query="leave"),
        text("Ten."),
        tool_use("search_corpus", query="leave"),
        cite_old,
    ]
    async with stage(script) as on:
        await on.agent.ask("How long?")
        saved = json.loads(json.dumps(on.agent.transcript.to_dict()))
        async with on.api.client() as client:
            async with Agent(workspace, server=build(), client=client, settings=AgentSettings()) as later:
                later.transcript = Transcript.from_dict(saved)
                answer = await later.ask("Sure?")
        thoughts = [block for message in later.messages for block in message["content"] if block["type"] == "thinking"]
    assert answer.citations[0].valid and not answer.queries[0].repeated
    assert len(thoughts) == 2


async def test_with_other_tools_it_goes_on_without_its_thinking(stage: StageMaker, workspace: Workspace) -> None:
    fewer = MCPServer("fewer")

    @fewer.tool()
    async def model_status() -> str:
        return "fine"

    script = [tool_use("search_corpus", query="leave"), text("Ten."), text("Yes.")]
    async with stage(script) as on:
        await on.agent.ask("How long?")
        saved = on.agent.transcript.to_dict()
        async with on.api.client() as client:
            async with Agent(workspace, server=fewer, client=client, settings=AgentSettings()) as later:
                later.transcript = Transcript.from_dict(saved)
                assert (await later.ask("Sure?")).text == "Yes."


@pytest.mark.parametrize("value", [None, {}, {"messages": 3}, {"messages": [], "sent": {"a": 1}}])
def test_what_is_no_transcript_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        Transcript.from_dict(value)
