"""Which model answers, what it costs, and what becomes of a model that does not."""

from __future__ import annotations

import pytest
from conftest import StageMaker
from messages_server import Fault, model, text, tool_use

from agent import Notice, TurnDone
from retrieval.errors import ShoptalkError

pytestmark = pytest.mark.anyio

ANSWER = text("Ten weeks.")
OLD, NEW = "claude-opus-4-1", "claude-opus-5-5"
MODELS = [
    model("claude-sonnet-5-5", "sonnet", "2026-06-01"),
    model(NEW, "opus", "2026-05-01"),
    model("claude-opus-5-0", "opus", "2026-01-01"),
    model(OLD, "opus", "2025-08-05", "retired", "2026-08-05"),
]
GONE = Fault("status", 404, "not_found_error", message="model: not found")


async def test_a_retired_models_successor_is_named(stage: StageMaker) -> None:
    async with stage([GONE], model=OLD, models=MODELS) as on:
        with pytest.raises(ShoptalkError, match=f"{OLD} was retired on 2026-08-05; its successor is {NEW}; set"):
            await on.agent.ask("How long?")
        assert on.agent.messages == () and len(on.api.requests) == 1


async def test_an_unknown_model_is_told_with_those_of_a_like_name_first(stage: StageMaker) -> None:
    async with stage([GONE], model="claude-sonet-5-5", models=MODELS) as on:
        with pytest.raises(ShoptalkError, match="there is no model claude-sonet-5-5; there are claude-sonnet-5-5, "):
            await on.agent.ask("How long?")


async def test_where_the_models_api_tells_nothing_the_apis_own_words_stand(stage: StageMaker) -> None:
    async with stage([GONE], model=OLD) as on:
        with pytest.raises(ShoptalkError, match=f"choose a model other than {OLD}"):
            await on.agent.ask("How long?")


@pytest.mark.parametrize(
    "faults",
    [[Fault("status", 529)] * 3, [Fault("error")] * 3, [GONE], [Fault("status", 403, "permission_error")]],
    ids=["overloaded", "overloaded-in-the-stream", "gone", "not-allowed"],
)
async def test_a_fallback_model_stands_in_and_it_is_said(stage: StageMaker, faults: list[Fault]) -> None:
    async with stage([*faults, ANSWER], fallback_models=("claude-sonnet-5-5",)) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.text, answer.model) == ("Ten weeks.", "claude-sonnet-5-5")
    assert [body["model"] for body in on.api.requests] == [NEW] * len(faults) + ["claude-sonnet-5-5"]
    assert on.told(Notice)[-1].text.endswith("going on with claude-sonnet-5-5")


async def test_a_model_that_stands_in_is_not_sent_the_thinking_of_another(stage: StageMaker) -> None:
    """The scripted API refuses thinking after another model, as after any other prefix."""
    script = [tool_use("search_corpus", query="leave"), *[Fault("status", 529)] * 3, ANSWER, text("Yes.")]
    async with stage(script, fallback_models=("claude-sonnet-5-5",)) as on:
        assert (await on.agent.ask("How long?")).text == "Ten weeks."
        assert (await on.agent.ask("Sure?")).text == "Yes."
    kinds = [block["type"] for message in on.api.requests[-1]["messages"] for block in message["content"]]
    assert kinds == ["text", "tool_use", "tool_result", "text", "text"]
    assert on.api.requests[-1]["model"] == NEW


async def test_when_the_last_model_fails_too_the_question_ends(stage: StageMaker) -> None:
    script = [GONE, *[Fault("status", 529)] * 3, ANSWER]
    async with stage(script, fallback_models=("claude-sonnet-5-5",)) as on:
        with pytest.raises(ShoptalkError, match=r"overloaded .* \(tried 3 times\)"):
            await on.agent.ask("How long?")
        assert on.agent.messages == ()
        assert (await on.agent.ask("How long?")).text == "Ten weeks."


async def test_a_fault_that_another_model_would_not_mend_is_not_passed_on(stage: StageMaker) -> None:
    async with stage([Fault("status", 401, "authentication_error")], fallback_models=("claude-sonnet-5-5",)) as on:
        with pytest.raises(ShoptalkError, match="check ANTHROPIC_API_KEY"):
            await on.agent.ask("How long?")
    assert len(on.api.requests) == 1


async def test_an_answer_tells_what_it_cost(stage: StageMaker) -> None:
    async with stage([tool_use("search_corpus", query="leave"), ANSWER]) as on:
        answer = await on.agent.ask("How long?")
    # A turn: 100 tokens in, 70 more from the cache at a tenth, 30 into it at five quarters; 20 out.
    turn = (100 + 7 + 37.5) * 4e-6 + 20 * 20e-6
    assert answer.dollars == pytest.approx(2 * turn)
    assert [event.dollars for event in on.told(TurnDone)] == [pytest.approx(turn)] * 2


async def test_what_it_cost_is_not_guessed(stage: StageMaker) -> None:
    async with stage([ANSWER], model="claude-of-tomorrow") as on:
        assert (await on.agent.ask("How long?")).dollars is None


async def test_a_limit_on_money_ends_in_an_answer(stage: StageMaker) -> None:
    script = [tool_use("search_corpus", query="leave"), ANSWER]
    async with stage(script, max_dollars=0.0005, prices={NEW: (4, 20)}) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.limit, answer.text) == ("dollars", "Ten weeks.")
    assert "the limit of $0.0005 is reached" in answer.notes[0]
    assert on.api.requests[-1]["tool_choice"] == {"type": "none"}


async def test_a_limit_on_money_that_cannot_be_kept_is_refused(stage: StageMaker) -> None:
    async with stage([], max_dollars=1.0, fallback_models=("claude-of-tomorrow",)) as on:
        with pytest.raises(ShoptalkError, match=r"price of claude-of-tomorrow is not known; give it in \[agent.prices"):
            await on.agent.ask("How long?")


@pytest.mark.parametrize(
    ("settings", "thinking", "output"),
    [
        ({"thinking": "summarized", "effort": "max"}, {"type": "adaptive", "display": "summarized"}, {"effort": "max"}),
        ({"thinking": "off", "effort": ""}, {"type": "disabled"}, None),
    ],
)
async def test_effort_and_thinking_are_settings(
    stage: StageMaker, settings: dict[str, str], thinking: dict[str, str], output: dict[str, str] | None
) -> None:
    async with stage([ANSWER], **settings) as on:
        await on.agent.ask("How long?")
    (body,) = on.api.requests
    assert (body["thinking"], body.get("output_config")) == (thinking, output)
