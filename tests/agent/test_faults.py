"""Every way the API and the road to it are known to fail."""

from __future__ import annotations

import asyncio
import os

import pytest
from conftest import StageMaker
from messages_server import KEY, Fault, MessagesServer, Reply, call, event_count, text, tool_use

from agent import Agent, Notice, Patience, TextDelta, Withdrawn
from agent.faults import Fault as Diagnosis
from retrieval.errors import ShoptalkError
from retrieval.workspace import Workspace

pytestmark = pytest.mark.anyio

ANSWER = text("Ten weeks, no more.")
PASSING = [
    Fault("status", 429, "rate_limit_error", {"retry-after": "7200"}),
    Fault("status", 500, "api_error"),
    Fault("status", 503, "api_error"),
    Fault("status", 529),
    Fault("status", 408, "timeout_error"),
    Fault("reset", reply=ANSWER, after=0),
    Fault("reset", reply=ANSWER, after=5),
    Fault("eof", reply=ANSWER, after=5),
    Fault("eof", reply=ANSWER, after=7),
    Fault("error", reply=ANSWER, after=0),
    Fault("error", type="api_error", reply=ANSWER, after=5),
    Fault("empty"),
    Fault("json"),
]


def name(fault: Fault) -> str:
    return f"{fault.kind}-{fault.status}-{fault.after}"


@pytest.mark.parametrize("fault", PASSING, ids=name)
async def test_a_fault_that_passes_is_tried_again_and_said(stage: StageMaker, fault: Fault) -> None:
    async with stage([fault, fault, ANSWER]) as on:
        answer = await on.agent.ask("How long?")
    assert answer.text == "Ten weeks, no more."
    assert len(answer.notes) == len(on.told(Notice)) == 2 and "trying again" in answer.notes[0]
    assert on.api.requests[0] == on.api.requests[1] == on.api.requests[2]


@pytest.mark.parametrize("fault", PASSING, ids=name)
async def test_a_fault_that_stays_ends_the_question_and_not_the_conversation(stage: StageMaker, fault: Fault) -> None:
    async with stage([fault, fault, fault, ANSWER]) as on:
        with pytest.raises(ShoptalkError, match="tried 3 times") as caught:
            await on.agent.ask("How long?")
        assert on.agent.messages == ()
        assert (await on.agent.ask("How long?")).text == "Ten weeks, no more."
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["eof", "reset"])
async def test_no_tool_runs_from_a_stream_that_ends_early_at_any_event(stage: StageMaker, kind: str) -> None:
    cut = Reply([call("search_corpus", query="leave")], "tool_use")
    script = [Fault(kind, reply=cut, after=after) for after in range(event_count(cut))]  # type: ignore[arg-type]
    async with stage([*script, text("No.")], patience=Patience(len(script) + 1, 0, 0)) as on:
        answer = await on.agent.ask("How long?")
    assert (answer.queries, answer.text, len(answer.notes)) == ((), "No.", len(script))


async def test_a_block_that_cannot_be_read_is_a_broken_stream(stage: StageMaker) -> None:
    nameless = Reply(
        [{"type": "tool_use", "name": "search_corpus", "input": {"query": "leave"}}], "tool_use", cut_json=True
    )
    async with stage([nameless, ANSWER]) as on:
        answer = await on.agent.ask("How long?")
    assert answer.text == "Ten weeks, no more." and "an event cannot be read (KeyError" in answer.notes[0]


async def test_half_of_a_pair_of_surrogates_spoils_no_later_question(stage: StageMaker) -> None:
    async with stage([text("Ten \ud83d weeks."), ANSWER]) as on:
        await on.agent.ask("How long?")
        assert (await on.agent.ask("And then?")).text == "Ten weeks, no more."
    assert on.api.requests[1]["messages"][1]["content"][0]["text"] == "Ten ? weeks."


async def test_text_of_a_broken_stream_is_withdrawn(stage: StageMaker) -> None:
    async with stage([Fault("eof", reply=ANSWER, after=6), ANSWER]) as on:
        answer = await on.agent.ask("How long?")
    kinds = [type(event) for event in on.events]
    assert kinds.index(TextDelta) < kinds.index(Withdrawn) < kinds.index(Notice)
    assert answer.text == "Ten weeks, no more."


async def test_a_fault_after_a_search_repeats_the_turn_and_not_the_search(stage: StageMaker) -> None:
    async with stage([tool_use("search_corpus", query="leave"), Fault("reset"), ANSWER]) as on:
        answer = await on.agent.ask("How long?")
    assert len(answer.queries) == 1 and on.api.requests[1] == on.api.requests[2]


@pytest.mark.parametrize(
    ("status", "kind", "fix"),
    [
        (400, "invalid_request_error", "effort"),
        (401, "authentication_error", "check ANTHROPIC_API_KEY"),
        (402, "billing_error", "billing"),
        (403, "permission_error", "may not use claude-opus-5-5"),
        (404, "not_found_error", "--model"),
        (413, "invalid_request_error", "shorter"),
    ],
)
async def test_a_refused_request_is_one_line_that_says_what_to_do(
    stage: StageMaker, status: int, kind: str, fix: str
) -> None:
    refused = Fault("status", status, kind, message=f"no\nwith {KEY} \x1b[31mred")
    async with stage([refused, ANSWER]) as on:
        with pytest.raises(ShoptalkError, match=fix) as caught:
            await on.agent.ask("How long?")
        assert on.agent.messages == () and len(on.api.requests) == 1
        await on.agent.ask("How long?")
    message = str(caught.value)
    assert "req_test" in message and KEY not in message and "\n" not in message and "\x1b" not in message


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("Your credit balance is too low to access the API", "check the plan and billing"),
        ("tools.0.custom.name: String should match pattern", "see what the MCP servers"),
    ],
)
async def test_a_request_that_is_refused_for_its_parts_names_them(stage: StageMaker, said: str, fix: str) -> None:
    async with stage([Fault("status", 400, "invalid_request_error", message=said)]) as on:
        with pytest.raises(ShoptalkError, match=fix):
            await on.agent.ask("How long?")


async def test_an_error_in_the_stream_that_does_not_pass_is_not_tried_again(stage: StageMaker) -> None:
    async with stage([Fault("error", type="invalid_request_error")]) as on:
        with pytest.raises(ShoptalkError, match="invalid_request_error in the stream"):
            await on.agent.ask("How long?")


async def test_a_wait_the_api_asks_for_is_capped_and_said(stage: StageMaker) -> None:
    busy = Fault("status", 429, "rate_limit_error", {"retry-after": "7200"})
    async with stage([busy, ANSWER], patience=Patience(3, 0, 0.01)) as on:
        answer = await on.agent.ask("How long?")
    assert "the API asked for 7200 s" in answer.notes[0]


def test_waits_double_up_to_the_longest() -> None:
    patience = Patience(9, 0.5, 30)
    assert [patience.wait(attempt, Diagnosis("x")) for attempt in (1, 2, 3, 9)] == [0.5, 1, 2, 30]
    assert [patience.wait(1, Diagnosis("x", wait=asked)) for asked in (0, 4, 99)] == [0, 4, 30]


async def test_an_unreachable_api_is_named(stage: StageMaker) -> None:
    async with stage([]) as on:
        elsewhere = on.api.client().with_options(base_url="http://127.0.0.1:9")
        on.agent._client = elsewhere
        with pytest.raises(ShoptalkError, match="cannot reach 127.0.0.1"):
            await on.agent.ask("How long?")
        await elsewhere.close()


async def test_an_exception_of_the_listener_is_not_taken_for_a_fault(stage: StageMaker) -> None:
    def fail(event: object) -> None:
        raise ValueError("a bug of the caller's")

    async with stage([ANSWER, ANSWER]) as on:
        on.agent._tell = fail
        with pytest.raises(ValueError, match="bug of the caller"):
            await on.agent.ask("How long?")
        assert on.agent.messages == () and len(on.api.requests) == 1


async def test_a_cancelled_wait_for_the_api_leaves_no_trace(stage: StageMaker) -> None:
    async with stage([Fault("status", 529), ANSWER], patience=Patience(3, 3600, 3600)) as on:
        on.cancel_at = 0  # The notice that it waits.
        on.asking = asyncio.create_task(on.agent.ask("How long?"))
        with pytest.raises(asyncio.CancelledError):
            await on.asking
        assert on.agent.messages == ()
        assert (await on.agent.ask("How long?")).text == "Ten weeks, no more."


@pytest.mark.parametrize("key", [None, ""])
async def test_a_missing_key_is_said_before_anything_starts(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(workspace.root))
    if key is not None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    with pytest.raises(ShoptalkError, match="ANTHROPIC_API_KEY is not set"):
        async with Agent(workspace, server="http://127.0.0.1:9/mcp"):
            pass


async def test_a_profile_that_is_not_there_is_one_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(workspace.root))
    monkeypatch.setenv("ANTHROPIC_PROFILE", "elsewhere")
    with pytest.raises(ShoptalkError, match="profile 'elsewhere'"):
        async with Agent(workspace, server="http://127.0.0.1:9/mcp"):
            pass


async def test_a_key_with_a_line_break_is_refused_without_showing_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", f"{KEY}\n")
    with pytest.raises(ShoptalkError, match="line break") as caught:
        async with Agent(workspace, server="http://127.0.0.1:9/mcp"):
            pass
    assert KEY not in str(caught.value)


async def test_a_bad_model_name_reaches_the_person_without_a_traceback(stage: StageMaker) -> None:
    unknown = Fault("status", 404, "not_found_error", message="model: claude-nope")
    async with stage([unknown], model="claude-nope") as on:
        with pytest.raises(ShoptalkError, match="choose a model other than claude-nope"):
            await on.agent.ask("How long?")


def test_the_scripted_server_complains_of_requests_beyond_its_script() -> None:
    server = MessagesServer()
    with pytest.raises(AssertionError, match="end of the script"), server:
        server.take(
            {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [text("x").content[0]]}]}, {}
        )
