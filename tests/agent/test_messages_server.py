"""The scripted server speaks the Messages API as the SDK's strict schema knows it."""

from __future__ import annotations

import pytest
from messages_server import Fault, MessagesServer, Reply, call, cited, location, text, thought

pytestmark = pytest.mark.anyio

REQUEST = {
    "model": "claude-opus-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "How long?"}]}],
}
WHOLE = Reply(
    [
        thought("hm"),
        cited("Ten weeks.", location(0, "a.md:1-1", "ten weeks")),
        {"type": "redacted_thinking", "data": "x"},
        call("search_corpus", query="leave"),
    ],
    "tool_use",
)


async def test_json_and_stream_give_the_same_message() -> None:
    with MessagesServer([WHOLE, WHOLE]) as api:
        async with api.client() as client:
            plain = await client.messages.create(**REQUEST)
            async with client.messages.stream(**REQUEST) as stream:
                streamed = await stream.get_final_message()
    assert [block.to_dict() for block in streamed.content] == [block.to_dict() for block in plain.content]
    assert (streamed.stop_reason, streamed.usage.output_tokens) == (plain.stop_reason, plain.usage.output_tokens)


async def test_stop_details_of_a_refusal_pass_the_schema() -> None:
    refusal = {"type": "refusal", "category": "cyber", "explanation": "no"}
    with MessagesServer([Reply([], "refusal", stop_details=refusal)]) as api:
        async with api.client() as client, client.messages.stream(**REQUEST) as stream:
            message = await stream.get_final_message()
    assert message.stop_details is not None and message.stop_details.explanation == "no"


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"role": "assistant", "content": [{"type": "text", "text": "x"}]}], "first message"),
        ([{"role": "user", "content": [{"type": "text", "text": " "}]}], "non-whitespace"),
        (
            [
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
                {"role": "assistant", "content": [call("search_corpus")]},
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
            ],
            "answered by",
        ),
    ],
)
async def test_requests_that_the_api_would_refuse_are_refused(messages: list[object], complaint: str) -> None:
    import anthropic

    api = MessagesServer([text("x")])
    with pytest.raises(AssertionError, match=complaint), api:
        async with api.client() as client:
            with pytest.raises(anthropic.BadRequestError, match=complaint):
                await client.messages.create(**(REQUEST | {"messages": messages}))


async def test_status_faults_carry_the_apis_error_body() -> None:
    import anthropic

    with MessagesServer([Fault("status", 529)]) as api:
        async with api.client(max_retries=0) as client:
            with pytest.raises(anthropic.OverloadedError) as caught:
                await client.messages.create(**REQUEST)
    assert (caught.value.type, caught.value.request_id) == ("overloaded_error", "req_test")
