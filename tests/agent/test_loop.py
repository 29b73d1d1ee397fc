"""The turn loop: searches, answers, limits, and a history that stays valid."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import StageMaker
from corpus_server import LEAVE, PASSAGES, build
from mcp import StdioServerParameters
from messages_rules import unmarked
from messages_server import (
    Block,
    Fault,
    Reply,
    call,
    cited,
    location,
    search_results,
    text,
    thought,
    tool_results,
    tool_use,
)

from agent import Cited, Notice, Query, QueryDone, QueryStarted, Segment, TextDelta, Thinking, TurnDone, Withdrawn
from retrieval.errors import ShoptalkError

pytestmark = pytest.mark.anyio

CORPUS_SERVER = str(Path(__file__).with_name("corpus_server.py"))


def cite_first(words: str, block: int) -> Any:
    """A scripted model that cites one block of the first search result it was sent."""

    def answer(body: Block) -> Reply:
        result = search_results(body)[0]
        return text(cited(words, location(0, result["source"], result["content"][block]["text"], block, block + 1)))

    return answer


def assert_append_only(requests: list[Block]) -> None:
    for earlier, later in zip(requests, requests[1:], strict=False):
        assert unmarked(later["messages"][: len(earlier["messages"])]) == unmarked(earlier["messages"])
        assert (later["system"], later["tools"]) == (earlier["system"], earlier["tools"])


async def test_a_question_is_searched_for_and_answered_with_exact_lines(stage: StageMaker) -> None:
    async with stage([tool_use("search_corpus", query="leave"), cite_first("Ten weeks.", 1)]) as on:
        answer = await on.agent.ask("How long is parental leave?")
    assert answer.text == "Ten weeks."
    (citation,) = answer.citations
    assert (citation.document_id, citation.first_line, citation.last_line) == ("handbook/leave.md", 14, 14)
    assert (citation.valid, citation.quote) == (True, "Parents take up to ten weeks of paid leave.")
    assert answer.segments == (Segment("Ten weeks.", (1,)),)
    found = Query("search_corpus", "leave", hits=1, mode="hybrid", sources=("handbook/leave.md:12-18",))
    assert answer.queries == (found,)
    assert (answer.turns, answer.stop_reason, answer.limit) == (2, "end_turn", None)
    assert (answer.usage.output_tokens, answer.usage.cache_read_input_tokens) == (40, 140)
    assert_append_only(on.api.requests)


async def test_what_happens_is_told_as_it_happens(stage: StageMaker) -> None:
    async with stage([tool_use("search_corpus", query="leave"), cite_first("Ten weeks in all.", 1)]) as on:
        await on.agent.ask("How long?")
    kinds = [Thinking, TurnDone, QueryStarted, QueryDone, TextDelta, TextDelta, Cited, TurnDone]
    assert [type(event) for event in on.events] == kinds
    assert [(event.turn, event.stop_reason) for event in on.told(TurnDone)] == [(1, "tool_use"), (2, "end_turn")]
    assert "".join(event.text for event in on.told(TextDelta)) == "Ten weeks in all."


async def test_requests_are_shaped_for_caching_and_adaptive_thinking(stage: StageMaker) -> None:
    async with stage([text("Hello.")]) as on:
        await on.agent.ask("Hello?")
    (body,) = on.api.requests
    assert body["cache_control"] == body["system"][0]["cache_control"] == {"type": "ephemeral"}
    assert body["thinking"] == {"type": "adaptive"}
    assert body["output_config"] == {"effort": "medium"}
    assert [tool["name"] for tool in body["tools"]] == ["model_status", "search_corpus"]
    assert "tool_choice" not in body


async def test_three_calls_of_a_turn_run_at_once_and_are_answered_in_order(stage: StageMaker) -> None:
    queries = ["together leave", "together travel", "together nothing"]
    turn = Reply([call("search_corpus", query=query) for query in queries], "tool_use")
    async with stage([turn, text("Done.")], server=build(together=3)) as on:
        answer = await on.agent.ask("All?")
        results = tool_results(on.api.requests[-1])
    assert [result["tool_use_id"] for result in results] == [block["id"] for block in turn.content]
    assert [query.hits for query in sorted(answer.queries, key=lambda query: queries.index(query.text))] == [1, 1, 0]
    assert len(on.api.requests[-1]["messages"]) == 3
    assert "No passage" in results[2]["content"][0]["text"]


async def test_an_identical_query_is_answered_from_the_transcript(stage: StageMaker) -> None:
    again = tool_use("search_corpus", query=" leave ", top_k=5)
    script = [tool_use("search_corpus", query="leave"), again, text("Ten.")]
    async with stage(script) as on:
        answer = await on.agent.ask("How long?")
    assert [query.repeated for query in answer.queries] == [False, True]
    assert len(search_results(on.api.requests[-1])) == 1
    assert "sent before" in tool_results(on.api.requests[-1])[1]["content"][0]["text"]
    assert_append_only(on.api.requests)


async def test_a_later_question_is_answered_from_the_documents_as_they_are_by_then(stage: StageMaker) -> None:
    def cite_last(body: Block) -> Reply:
        results = search_results(body)
        source, quote = results[-1]["source"], results[-1]["content"][1]["text"]
        return text(cited("Twenty.", location(len(results) - 1, source, quote, 1, 2)))

    passages = list(PASSAGES)
    script = [tool_use("search_corpus", query="leave"), text("Ten.")] + [tool_use("search_corpus", query="leave")]
    async with stage([*script, cite_last], server=build(passages=passages)) as on:
        await on.agent.ask("How long?")
        passages[0] = (*passages[0][:5], LEAVE.replace("ten weeks", "twenty weeks"))
        answer = await on.agent.ask("I have updated the handbook. How long now?")
    assert [query.repeated for query in answer.queries] == [False]
    assert [(cited.quote, cited.valid) for cited in answer.citations] == [
        ("Parents take up to twenty weeks of paid leave.", True)
    ]
    assert_append_only(on.api.requests)


async def test_a_passage_that_stands_above_is_named_and_cited_from_there_and_not_sent_again(stage: StageMaker) -> None:
    both = Reply([call("search_corpus", query="leave"), call("search_corpus", query="parental leave")], "tool_use")
    script = [both, tool_use("search_corpus", query="leave trains"), cite_first("Ten weeks.", 1)]
    async with stage(script) as on:
        answer = await on.agent.ask("How long?")
    assert [result["source"] for result in search_results(on.api.requests[-1])] == [
        "handbook/leave.md:12-18",
        "handbook/travel.md:3-5",
    ]
    above = "Not sent again, as they stand above and can be cited from there: handbook/leave.md:12-18."
    _, second, third = tool_results(on.api.requests[-1])
    assert [block["type"] for block in second["content"]] == ["text", "text"]
    assert second["content"][-1]["text"] == third["content"][-1]["text"] == above
    assert [query.hits for query in answer.queries] == [1, 1, 2] and len(answer.queries[-1].sources) == 2
    assert [citation.valid for citation in answer.citations] == [True]
    assert_append_only(on.api.requests)


async def test_a_query_repeated_within_one_turn_runs_once(stage: StageMaker) -> None:
    turn = Reply([call("search_corpus", query="leave"), call("search_corpus", query="leave")], "tool_use")
    async with stage([turn, text("Ten.")]) as on:
        answer = await on.agent.ask("How long?")
    assert sorted(query.repeated for query in answer.queries) == [False, True]
    assert len(search_results(on.api.requests[-1])) == 1


async def test_a_degraded_search_may_be_repeated(stage: StageMaker) -> None:
    early = [tool_use("search_corpus", query="early leave") for _ in range(2)]
    async with stage([*early, text("Ten.")]) as on:
        answer = await on.agent.ask("How long?")
    assert [query.degraded for query in answer.queries] == ["the model is still loading"] * 2
    assert [query.repeated for query in answer.queries] == [False, False]
    assert "the model is still loading" in tool_results(on.api.requests[-1])[0]["content"][-1]["text"]


async def test_citations_count_results_over_the_whole_conversation(stage: StageMaker) -> None:
    def cite_second(body: Block) -> Reply:
        result = search_results(body)[1]
        return text(cited("A week.", location(1, result["source"], result["content"][1]["text"], 1, 2)))

    script = [tool_use("search_corpus", query="leave"), text("Ten."), tool_use("search_corpus", query="trains")]
    async with stage([*script, cite_second]) as on:
        await on.agent.ask("How long?")
        answer = await on.agent.ask("And trains?")
    assert [(citation.place, citation.valid) for citation in answer.citations] == [("handbook/travel.md:5", True)]


async def test_invalid_citations_are_marked_and_the_answer_still_comes(stage: StageMaker) -> None:
    def lie(body: Block) -> Reply:
        source = search_results(body)[0]["source"]
        return text(cited("Twelve.", location(0, source, "twelve weeks", 1, 2), location(9, source, "x")))

    async with stage([tool_use("search_corpus", query="leave"), lie]) as on:
        answer = await on.agent.ask("How long?")
    assert [citation.valid for citation in answer.citations] == [False, False]
    assert "does not stand" in answer.citations[0].reason and "was not sent" in answer.citations[1].reason


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"max_turns": 1}, "turns"),
        ({"max_calls": 1}, "calls"),
        ({"max_output_tokens": 256}, "output_tokens"),
    ],
)
async def test_at_a_limit_claude_answers_from_what_was_found(
    stage: StageMaker, settings: dict[str, int], limit: str
) -> None:
    calls = [call("search_corpus", query="leave"), call("search_corpus", query="travel")]
    async with stage([Reply(calls, "tool_use", output_tokens=300), cite_first("Ten.", 1)], **settings) as on:
        answer = await on.agent.ask("How long?")
        last = on.api.requests[-1]
    assert (answer.limit, answer.text, answer.citations[0].valid) == (limit, "Ten.", True)
    assert last["tool_choice"] == {"type": "none"} and last["tools"] == on.api.requests[0]["tools"]
    assert any("limit" in note for note in answer.notes)
    assert_append_only(on.api.requests)


async def test_a_steady_stream_without_end_is_stopped_by_the_clock(stage: StageMaker) -> None:
    script = [Fault("drip", after=1), text("Not enough time.")]
    async with stage(script, max_seconds=0.2) as on:
        answer = await on.agent.ask("How long?")
        assert [message["role"] for message in on.agent.messages] == ["user", "assistant"]
    assert (answer.limit, answer.text) == ("seconds", "Not enough time.")
    assert on.api.requests[-1]["tool_choice"] == {"type": "none"}


async def test_a_search_without_end_is_stopped_by_the_clock(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query="slow leave"), text("Nothing found in time.")]
    async with stage(script, max_seconds=0.3) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.limit, answer.text) == ("seconds", "Nothing found in time.")
    assert tool_results(on.api.requests[-1])[0]["is_error"] is True


async def test_what_came_of_a_closing_answer_that_never_ends_is_returned(stage: StageMaker) -> None:
    endless = Fault("drip", after=5)
    async with stage([Fault("drip", after=1), endless, text("Yes.")], max_seconds=0.2, closing_seconds=0.3) as on:
        answer = await on.agent.ask("How long?")
        assert on.agent.messages == ()
        assert (await on.agent.ask("Still there?")).text == "Yes."
    assert (answer.limit, answer.stop_reason, answer.text) == ("seconds", "", "Ten weeks.")
    assert "the question is dropped from the conversation" in answer.notes[-1]


async def test_text_that_leads_up_to_a_search_is_not_the_answer(stage: StageMaker) -> None:
    preamble = Reply([{"type": "text", "text": "Let me look."}, call("search_corpus", query="leave")], "tool_use")
    async with stage([preamble, text("Ten.")]) as on:
        answer = await on.agent.ask("How long?")
    assert answer.text == "Ten." and len(on.told(Withdrawn)) == 1


async def test_a_paused_turn_goes_on_and_its_text_is_kept(stage: StageMaker) -> None:
    async with stage([text("Ten ", stop_reason="pause_turn"), text("weeks.")]) as on:
        answer = await on.agent.ask("How long?")
    assert answer.text == "Ten weeks." and answer.turns == 2
    assert_append_only(on.api.requests)


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"max_turns": 1}, "turns"),
        ({"max_output_tokens": 256}, "output_tokens"),
        ({"max_dollars": 0.001}, "dollars"),
    ],
)
async def test_limits_hold_for_paused_turns_as_well(stage: StageMaker, settings: dict[str, Any], limit: str) -> None:
    paused = text("Ten ", stop_reason="pause_turn", output_tokens=300)
    async with stage([paused, paused], **settings) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.limit, answer.text, answer.turns) == (limit, "Ten Ten ", 2)
    assert on.api.requests[-1]["tool_choice"] == {"type": "none"}
    assert "the answer is not complete" in answer.notes[-1]


async def test_pauses_have_an_end(stage: StageMaker) -> None:
    async with stage([text("more ", stop_reason="pause_turn")] * 6) as on:
        answer = await on.agent.ask("How long?")
        assert [message["role"] for message in on.agent.messages] == ["user"] + ["assistant"] * 6
    assert (answer.limit, answer.turns) == ("pauses", 6)


async def test_an_exchange_that_ends_before_the_results_of_the_apis_own_calls_is_dropped(stage: StageMaker) -> None:
    searching: Block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    async with stage(
        [*[text("more ", stop_reason="pause_turn")] * 5, text("end", searching, stop_reason="pause_turn")]
    ) as on:
        answer = await on.agent.ask("How long?")
        assert on.agent.messages == ()
    assert (answer.limit, answer.text) == ("pauses", "more " * 5 + "end")
    assert "dropped from the conversation" in answer.notes[-1]


async def test_a_refusal_is_said_and_dropped(stage: StageMaker) -> None:
    refusal = Reply(
        [{"type": "text", "text": "I"}],
        "refusal",
        stop_details={"type": "refusal", "category": None, "explanation": "Not that."},
    )
    async with stage([text("Hello."), Reply([], "refusal"), refusal, text("Yes.")]) as on:
        await on.agent.ask("Hello?")
        before = on.agent.messages
        empty, explained = await on.agent.ask("Bad?"), await on.agent.ask("Worse?")
        assert on.agent.messages == before
        assert (await on.agent.ask("Fine?")).text == "Yes."
    assert (empty.text, empty.stop_reason, explained.text) == ("", "refusal", "")
    assert "Not that." in explained.notes[0]


async def test_a_call_cut_off_by_max_tokens_is_never_run(stage: StageMaker) -> None:
    cut = Reply([call("search_corpus", query="leave")], "max_tokens", cut_json=True)
    async with stage([cut, text("I cannot tell.")]) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.queries, answer.limit, answer.text) == ((), "max_tokens", "I cannot tell.")
    assert len(on.api.requests[-1]["messages"]) == 1


async def test_an_answer_cut_off_by_max_tokens_is_kept_and_said_to_be(stage: StageMaker) -> None:
    async with stage([text("Ten wee", stop_reason="max_tokens")]) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.text, answer.limit) == ("Ten wee", "max_tokens")


@pytest.mark.parametrize("arguments", ['{"query": "lea', "[1, 2]", '"leave"', "null", "7"])
async def test_arguments_that_are_no_whole_json_object_are_not_run_and_claude_is_told_what_to_send(
    stage: StageMaker, arguments: str
) -> None:
    broken = call("search_corpus") | {"arguments": arguments}
    async with stage([Reply([broken], "tool_use"), text("Sorry.")]) as on:
        answer = await on.agent.ask("How long?")
    (result,) = tool_results(on.api.requests[-1])
    told = result["content"][0]["text"]
    assert result["is_error"] is True and "not one whole JSON object" in told
    assert "query (string up to 2000 characters, required)" in told
    assert answer.queries[0].error and not on.told(QueryStarted)


async def test_an_empty_answer_is_said_and_dropped(stage: StageMaker) -> None:
    async with stage([Reply([thought("hm")])]) as on:
        answer = await on.agent.ask("How long?")
        assert on.agent.messages == ()
    assert answer.text == "" and "without a word" in answer.notes[0]


async def test_blank_text_between_cited_runs_is_shown_and_not_sent_back(stage: StageMaker) -> None:
    async with stage([text("One.", "\n\n", "Two."), text("Yes.")]) as on:
        assert (await on.agent.ask("How long?")).text == "One.\n\nTwo."
        assert (await on.agent.ask("Sure?")).text == "Yes."


async def test_a_model_that_only_ever_searches_comes_to_an_end(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query=f"leave {number}") for number in range(4)]
    async with stage(script, max_turns=3) as on:
        answer = await on.agent.ask("How long?")
        assert on.agent.messages == ()
    assert (answer.limit, answer.text, len(answer.queries)) == ("turns", "", 3)


@pytest.mark.parametrize("stop_reason", ["end_turn", "tool_use"])
async def test_a_call_that_is_not_to_be_run_is_left_out_of_the_conversation_and_the_answer_stays(
    stage: StageMaker, stop_reason: str
) -> None:
    search = tool_use("search_corpus", query="leave")
    odd = Reply([{"type": "text", "text": "Ten."}, call("search_corpus", query="more")], stop_reason)
    async with stage([search, odd, text("Yes.")], max_turns=1) as on:
        answer = await on.agent.ask("How long?")
        assert on.agent.messages[-1] == {"role": "assistant", "content": [{"type": "text", "text": "Ten."}]}
        await on.agent.ask("Sure?")
    assert (answer.text, [query.text for query in answer.queries]) == ("Ten.", ["leave"])


async def test_what_was_said_before_a_pause_stays_where_nothing_follows(stage: StageMaker) -> None:
    search = tool_use("search_corpus", query="leave")
    paused = text("Ten weeks.", stop_reason="pause_turn")
    async with stage([paused, Reply([]), paused, search, Reply([]), text("Yes.")]) as on:
        assert (await on.agent.ask("How long?")).text == "Ten weeks."
        before = on.agent.messages
        answer = await on.agent.ask("And now?")
        assert len(before) == 2 and on.agent.messages == before
        assert "dropped from the conversation" in answer.notes[-1]
        await on.agent.ask("Sure?")


async def test_questions_asked_at_once_are_answered_one_after_the_other(stage: StageMaker) -> None:
    script = [
        tool_use("search_corpus", query="leave"),
        text("One."),
        tool_use("search_corpus", query="b"),
        text("Two."),
    ]
    async with stage(script) as on:
        answers = await asyncio.gather(on.agent.ask("First?"), on.agent.ask("Second?"))
    assert [answer.text for answer in answers] == ["One.", "Two."]
    assert_append_only(on.api.requests)


async def test_a_dead_server_is_started_anew_once(stage: StageMaker, tmp_path: Path) -> None:
    server = StdioServerParameters(command=sys.executable, args=[CORPUS_SERVER, "--die-once", str(tmp_path / "died")])
    async with stage([tool_use("search_corpus", query="die leave"), text("Ten.")], server=server) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.text, answer.queries[0].hits) == ("Ten.", 1)
    assert on.told(Notice)[0] == Notice("the search server died and was started anew")


async def test_a_server_that_dies_again_ends_the_question_and_not_the_conversation(stage: StageMaker) -> None:
    server = StdioServerParameters(command=sys.executable, args=[CORPUS_SERVER])
    deaths = tool_use("search_corpus", query="die leave")
    async with stage([deaths, tool_use("search_corpus", query="leave"), text("Ten.")], server=server) as on:
        with pytest.raises(ShoptalkError, match="stopped twice"):
            await on.agent.ask("How long?")
        assert on.agent.messages == ()
        assert (await on.agent.ask("How long?")).queries[0].hits == 1


async def test_cancelling_at_any_event_leaves_a_valid_history(stage: StageMaker) -> None:
    """Each event in turn cancels the question; the API's own rules judge the request that follows."""
    turns = [tool_use("search_corpus", query="leave"), cite_first("Ten weeks, no more.", 1)]
    async with stage(turns) as on:
        await on.agent.ask("How long?")
        before = on.agent.messages
        for at in range(len(on.events)):
            # A query of its own, so that it is run and not answered from the transcript.
            on.api.script[:] = [tool_use("search_corpus", query=f"leave {at}"), turns[1]]
            on.cancel_at = len(on.events) + at
            on.asking = asyncio.create_task(on.agent.ask("And now?"))
            with pytest.raises(asyncio.CancelledError):
                await on.asking
            assert on.agent.messages == before
            on.api.script[:] = [text("Yes.")]
            assert (await on.agent.ask("Still there?")).text == "Yes."
            before = on.agent.messages


async def test_twelve_turns_of_conversation_keep_their_prefix(stage: StageMaker) -> None:
    script: list[Any] = []
    for number in range(12):
        script += [tool_use("search_corpus", query=f"leave {number}"), text(f"Answer {number}.")]
    async with stage(script) as on:
        for number in range(12):
            assert (await on.agent.ask(f"Question {number}?")).text == f"Answer {number}."
    assert_append_only(on.api.requests)
