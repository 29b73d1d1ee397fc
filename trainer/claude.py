"""Many short messages to Claude: one by one, or by batches. Answers are handed over as they come.

The Messages API: https://docs.anthropic.com/en/api/messages; its batches: .../en/api/creating-message-batches.
The SDK retries 408, 409, 429, 5xx and lost connections; what is left after that ends the run with one line, unless it
is about one message alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrieval.errors import ShoptalkError, first_line
from retrieval.workspace import SynthesisSettings

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types import Message
    from anthropic.types.messages import MessageBatchIndividualResponse

__all__ = ["Ask", "Failure", "Pace", "Reply", "ask_now", "batch_outcomes", "connected", "host_of", "send_batch"]

RETRIES = 6
KEY_VARIABLE = "SHOPTALK_SYNTHESIS_KEY"
# What may well succeed when it is asked again, of a request in a batch.
_PASSING = {"api_error", "overloaded_error", "rate_limit_error", "timeout_error"}
# What may be about this message and no other: one too long for the server, or that it finds unfit.
_OF_ONE_MESSAGE = {400, 413, 422}
REFUSED_AT_FIRST = 20
"""So many refused before any is answered, or all, are refused for the settings."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One message to send: its key, and the parameters of the request."""

    key: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the text, why it ended, and what it took."""

    key: str
    text: str
    stop_reason: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer. ``passing``: it may be asked again."""

    key: str
    message: str
    passing: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait between looks at a batch, in seconds: doubling from ``first`` to ``longest``."""

    first: float = 5.0
    longest: float = 60.0

    def waits(self) -> Iterator[float]:
        """The waits, without end."""
        wait = self.first
        while True:
            yield wait
            wait = min(self.longest, 2 * wait)


def host_of(settings: SynthesisSettings) -> str:
    """Where passages are sent."""
    address = settings.base_url or os.environ.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com"
    return address.partition("://")[2].partition("/")[0] or address


@asynccontextmanager
async def connected(settings: SynthesisSettings) -> AsyncIterator[AsyncAnthropic]:
    """A client for the block; what the API or the way to it throws there becomes one clear line.

    Raises:
        ShoptalkError: there is no key, or a request failed for good.
    """
    async with _client(settings) as client:
        try:
            yield client
        except Exception as error:
            told = _diagnose(error, client, settings)
            if told is None:
                raise
            raise ShoptalkError(told) from error


async def ask_now(
    client: AsyncAnthropic, asks: Sequence[Ask], width: int, proven: bool, take: Callable[[Reply | Failure], None]
) -> None:
    """Send each message by itself, ``width`` at a time; ``take`` gets what becomes of each when it comes.

    A message that is refused ends the run only where it may be for the settings: they are ``proven`` once one is
    answered.
    """
    import anthropic

    waiting, refused = iter(asks), 0

    async def work() -> None:
        nonlocal proven, refused
        for ask in waiting:
            try:
                message: Message = await client.messages.create(**ask.params)
            except anthropic.APIStatusError as error:
                refused += 1
                for_settings = not proven and refused >= min(REFUSED_AT_FIRST, len(asks))
                if for_settings or error.status_code not in _OF_ONE_MESSAGE:
                    raise
                take(Failure(ask.key, f"{error.status_code}: {_said(error)}", False))
            else:
                proven = True
                take(_reply(ask.key, message))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]  # why the others were stopped
        raise first from first.__cause__


async def send_batch(client: AsyncAnthropic, asks: Sequence[Ask]) -> str:
    """Send a batch; return its id."""
    requests: Any = [{"custom_id": ask.key, "params": ask.params} for ask in asks]
    return (await client.messages.batches.create(requests=requests)).id


async def batch_outcomes(
    client: AsyncAnthropic, batch: str, pace: Pace, report: Callable[[int, int], None]
) -> list[Reply | Failure] | None:
    """Wait for a batch to end, and return what became of its requests; None where the API no longer has it.

    ``report`` hears how many requests are done, of how many, at each look.
    """
    import anthropic

    try:
        for wait in pace.waits():
            state = await client.messages.batches.retrieve(batch)
            counts = state.request_counts
            done = counts.succeeded + counts.errored + counts.canceled + counts.expired
            report(done, done + counts.processing)
            if state.processing_status == "ended":
                return None if state.results_url is None else await _results(client, batch)
            await asyncio.sleep(wait)
    except anthropic.NotFoundError:
        pass
    return None


async def _results(client: AsyncAnthropic, batch: str) -> list[Reply | Failure]:
    import httpx2

    for _ in range(RETRIES):
        try:
            return [_outcome(entry) async for entry in await client.messages.batches.results(batch)]
        except (httpx2.TransportError, ValueError):
            continue  # cut short on its way; nothing is lost by reading it again
    raise ShoptalkError(f"the results of batch {batch} break off each time they are read; run the command again later")


def _outcome(entry: MessageBatchIndividualResponse) -> Reply | Failure:
    result = entry.result
    if result.type == "succeeded":
        return _reply(entry.custom_id, result.message)
    if result.type == "errored":
        error = result.error.error
        return Failure(entry.custom_id, f"{error.type}: {error.message}", error.type in _PASSING)
    return Failure(entry.custom_id, result.type, True)


def _reply(key: str, message: Message) -> Reply:
    text = "".join(block.text for block in message.content if block.type == "text")
    usage = message.usage
    taken = usage.input_tokens + (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return Reply(key, text, message.stop_reason or "", taken, usage.output_tokens)


def _client(settings: SynthesisSettings) -> AsyncAnthropic:
    """The client by the settings, else by the ANTHROPIC_* variables.

    The key of api.anthropic.com is never sent to an address that stands in a workspace's file.
    """
    import anthropic
    import httpx2

    try:
        if settings.base_url:
            own = os.environ.get(KEY_VARIABLE) or "none"
            client = anthropic.AsyncAnthropic(api_key=own, base_url=settings.base_url, max_retries=RETRIES)
        else:
            client = anthropic.AsyncAnthropic(max_retries=RETRIES)
    except (anthropic.AnthropicError, httpx2.InvalidURL, ValueError) as error:
        raise ShoptalkError(f"the ANTHROPIC_* variables do not make a client: {first_line(error)}") from error
    headers = {name.lower() for name, value in client.default_headers.items() if value}
    if client.credentials is None and not headers & {"authorization", "x-api-key"}:
        raise ShoptalkError(
            "ANTHROPIC_API_KEY is not set; export one from https://console.anthropic.com (any word will do for a "
            "server of your own), or name a server in [synthesis] base_url"
        )
    name = KEY_VARIABLE if settings.base_url else "ANTHROPIC_API_KEY"
    for key in (client.api_key, client.auth_token):
        if key and (not key.isascii() or not key.isprintable() or " " in key):
            raise ShoptalkError(f"{name} holds a blank, a line break or a character that is not ASCII; copy it anew")
    return client


def _diagnose(error: Exception, client: AsyncAnthropic, settings: SynthesisSettings) -> str | None:
    """What to tell of an error; None where it did not come from the API or the way to it."""
    import anthropic
    import httpx2

    if isinstance(error, anthropic.APIStatusError):
        return _refusal(error, settings)
    if isinstance(error, anthropic.APIConnectionError | httpx2.TransportError):
        reason = first_line(error.__cause__ or error).rstrip(".")
        return f"cannot reach {client.base_url.host}: {reason}; check the network and the address"
    if isinstance(error, anthropic.AnthropicError | httpx2.HTTPError | httpx2.InvalidURL):
        return f"the request to {client.base_url.host} failed: {first_line(error)}"
    return None


def _refusal(error: APIStatusError, settings: SynthesisSettings) -> str:
    status = error.status_code
    said = _said(error)
    request = f" (request {error.request_id})" if error.request_id else ""
    if status in (408, 409, 429) or status >= 500:
        return f"the API answered {status} again and again: {said}; try again later{request}"
    fix = {
        400: "check [synthesis] model, effort and max_tokens in shoptalk.toml",
        401: "check the key",
        402: "check the plan and billing at https://console.anthropic.com",
        403: f"this key may not use {settings.model}; choose another model or key",
        404: f"no such model ({settings.model}), or no batches there: try --now",
    }.get(status, "see https://docs.anthropic.com/en/api/errors")
    return f"the API refused the request ({status}): {said}; {fix}{request}"


def _said(error: APIStatusError) -> str:
    return " ".join((error.api_message or str(error)).split())[:200]
