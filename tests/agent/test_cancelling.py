"""Whatever instant a question is stopped at, the history stays valid and the next question works."""

from __future__ import annotations

import asyncio

import pytest
from conftest import StageMaker
from messages_server import Block, Fault, Reply, call, cited, event_count, location, search_results, text, thought

pytestmark = pytest.mark.anyio

SEARCH = Reply([thought("Two at once."), call("search_corpus", query="trains"), call("model_status")], "tool_use")


def answer(body: Block) -> Reply:
    result = search_results(body)[0]
    return text(cited("Ten weeks.", location(0, result["source"], result["content"][1]["text"], 1, 2)), " No more.")


def hung(body: Block, after: int) -> Fault:
    return Fault("hang", reply=answer(body), after=after)


async def test_cancelling_at_every_event_of_every_stream(stage: StageMaker) -> None:
    """The stream stops after each of its events in turn, and there the question is cancelled.

    The API's own rules, thinking and tool calls included, judge the request that follows.
    """
    length = event_count(answer({"messages": [{"role": "user", "content": [_found()]}]}))
    stops = [("search", after) for after in range(event_count(SEARCH))] + [("answer", at) for at in range(length)]
    async with stage([SEARCH, answer]) as on:
        await on.agent.ask("How long?")
        for turn, after in stops:
            before = on.agent.messages
            if turn == "search":
                on.api.script[:] = [Fault("hang", reply=SEARCH, after=after)]
            else:
                on.api.script[:] = [SEARCH, lambda body, after=after: hung(body, after)]  # type: ignore[misc]
            on.api.reached.clear()
            asking = asyncio.create_task(on.agent.ask("And now?"))
            assert await asyncio.to_thread(on.api.reached.wait, 30)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert on.agent.messages == before
            on.api.script[:] = [text("Yes.")]
            assert (await on.agent.ask("Still there?")).text == "Yes."


async def test_a_stream_that_is_whole_but_not_closed_is_an_answer(stage: StageMaker) -> None:
    async with stage([Fault("open", reply=text("Ten weeks."))]) as on:
        assert (await on.agent.ask("How long?")).text == "Ten weeks."


async def test_a_question_cancelled_twice_is_still_undone(stage: StageMaker) -> None:
    async with stage([Fault("hang", reply=SEARCH, after=3), text("Yes.")]) as on:
        asking = asyncio.create_task(on.agent.ask("How long?"))
        assert await asyncio.to_thread(on.api.reached.wait, 30)
        asking.cancel()
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert on.agent.messages == ()
        assert (await on.agent.ask("Still there?")).text == "Yes."


def _found() -> Block:
    """A tool result as the corpus server's first passage makes one, for counting events."""
    result = {"type": "search_result", "source": "a.md:1-2", "content": [{"text": "One."}, {"text": "Two."}]}
    return {"type": "tool_result", "content": [result]}
