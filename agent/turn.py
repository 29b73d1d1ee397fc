"""One turn of the model: a request, its stream read to the end, tried again where that can help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent.answer import Usage
from agent.faults import BrokenStream, Patience, diagnose

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from anthropic.types import Message

__all__ = ["Reader", "Turn", "take_turn"]

_END_SECONDS = 1.0
"""How long the end of a stream is waited for once its message is complete; servers close it at once."""


class Reader(Protocol):
    """Who is told what a turn says, while it says it."""

    def text(self, delta: str) -> None:
        """More text."""

    def thinking(self, delta: str) -> None:
        """More of the summary of what the model thinks."""

    def block(self, block: dict[str, Any]) -> None:
        """A content block is whole."""

    def withdraw(self) -> None:
        """Forget this turn's text and blocks: it is taken again."""

    def notice(self, text: str) -> None:
        """Tell people of a wait."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was read to its ``message_stop``.

    ``malformed`` holds the ids of tool calls whose arguments were no whole JSON object; the SDK shows those
    with whatever it could make of them. ``dollars`` is None where the price of the model is not known.
    """

    content: list[dict[str, Any]]
    stop_reason: str
    model: str
    usage: Usage
    refusal: str = ""
    malformed: frozenset[str] = field(default_factory=frozenset)
    dollars: float | None = None

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The tool calls, in order."""
        return [block for block in self.content if block["type"] == "tool_use"]

    @property
    def has_text(self) -> bool:
        """Whether it says anything."""
        return any(block["type"] == "text" and block["text"].strip() for block in self.content)


async def take_turn(client: AsyncAnthropic, request: Mapping[str, Any], reader: Reader, patience: Patience) -> Turn:
    """Send ``request`` and read the answer; ``client`` must not retry by itself.

    Raises:
        TooLong: the request is more than the model takes.
        ModelUnavailable: the model is not there, not allowed, or fails as often as ``patience`` allows.
        ShoptalkError: the API refuses, or stays out of reach.
    """
    for attempt in range(1, patience.attempts + 1):
        try:
            return await _read_stream(client, request, reader)
        except Exception as error:
            fault = diagnose(error, client, str(request["model"]))
            if fault is None:
                raise
            reader.withdraw()
            if not fault.passing:
                raise fault.kind(fault.message) from error
            if attempt == patience.attempts:
                raise fault.kind(f"{fault.message} (tried {attempt} times)") from error
            wait = patience.wait(attempt, fault)
            asked = "" if fault.wait is None or fault.wait <= wait else f" (the API asked for {fault.wait:.0f} s)"
            reader.notice(f"{fault.message}; trying again in {wait:.1f} s{asked}")
            await asyncio.sleep(wait)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def _read_stream(client: AsyncAnthropic, request: Mapping[str, Any], reader: Reader) -> Turn:
    arguments: dict[int, str] = {}
    async with client.messages.stream(**request) as stream:
        events = aiter(stream)
        while (event := await _next_event(events)) is not None:
            if event.type == "text":
                reader.text(event.text)
            elif event.type == "thinking":
                reader.thinking(event.thinking)
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                arguments[event.index] = arguments.get(event.index, "") + event.delta.partial_json
            elif event.type == "content_block_stop":
                with _readable():
                    block = _as_param(event.content_block)
                reader.block(block)
            elif event.type == "message_stop":
                with _readable():
                    turn = _turn(event.message, arguments)
                await _read_out(events)
                return turn
        kind = stream.response.headers.get("content-type", "").partition(";")[0]
    if kind != "text/event-stream":
        raise BrokenStream(f"it came as {kind or 'nothing'} and not as an event stream; check ANTHROPIC_BASE_URL")
    raise BrokenStream("the stream ended before message_stop")


async def _read_out(events: AsyncIterator[Any]) -> None:
    """Read a stream that is complete to its end: left half read, the garbage collector closes it, from any thread."""
    import httpx2

    with suppress(BrokenStream, httpx2.TransportError, TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            while await _next_event(events) is not None:
                pass


async def _next_event(events: AsyncIterator[Any]) -> Any:
    """The next event, None at the end."""
    with _readable():
        event = await anext(events, None)
    return event


@contextmanager
def _readable() -> Iterator[None]:
    """What the SDK, or we, trip over in a bad stream becomes BrokenStream."""
    try:
        yield
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BrokenStream(f"an event cannot be read ({type(error).__name__}: {error})") from error


def _turn(message: Message, arguments: Mapping[int, str]) -> Turn:
    if message.stop_reason is None:
        raise BrokenStream("the stream ended without a stop reason")
    content = [_as_param(block) for block in message.content]
    details = message.stop_details
    refusal = "" if details is None else details.explanation or details.category or ""
    usage = Usage(
        message.usage.input_tokens,
        message.usage.output_tokens,
        message.usage.cache_read_input_tokens or 0,
        message.usage.cache_creation_input_tokens or 0,
    )
    malformed = frozenset(content[index]["id"] for index, text in arguments.items() if not _is_object(text))
    return Turn(content, message.stop_reason, message.model, usage, refusal, malformed)


def _as_param(block: Any) -> dict[str, Any]:
    """A block as the API sent it, without what the SDK adds; arguments of a call that are no object it would refuse."""
    sent = json.dumps(block.to_dict(mode="json", warnings=False), ensure_ascii=False)
    # Half of a pair of surrogates can be sent to us, and not back.
    param: dict[str, Any] = json.loads(sent.encode("utf-8", "replace"))
    if param["type"] == "tool_use" and not isinstance(param.get("input"), dict):
        param["input"] = {}
    return param


def _is_object(text: str) -> bool:
    try:
        return not text or isinstance(json.loads(text), dict)
    except ValueError:
        return False
