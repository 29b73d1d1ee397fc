"""Questions being asked: what is on its way, what comes back, and what is asked once more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retrieval.console import Progress
from retrieval.workspace import SynthesisSettings
from trainer.claude import Ask, Failure, Pace, Reply, ask_now, batch_outcomes, connected, send_batch
from trainer.question_store import QuestionStore
from trainer.question_writing import MOST_QUESTIONS, PROMPT_VERSION, read_questions

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["Inbox", "Tally", "ask_by_batches", "ask_one_by_one", "fetch_batches"]

BATCH_REQUESTS = 5_000
BATCH_ROUNDS = 3
"""How often what expired in a batch, or failed in passing, is sent in a new one."""


@dataclass
class Tally:
    """What became of what was asked in this run."""

    answered: int = 0
    refused: int = 0
    malformed: int = 0
    failed: int = 0
    dropped: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    batched: tuple[int, int] = (0, 0)
    """Of the tokens in and out, those of message batches, which cost half."""
    first_failure: str = ""


@dataclass
class Inbox:
    """Takes answers as they come and keeps them at once."""

    store: QuestionStore
    tally: Tally
    passages: dict[str, str]
    """Key → passage, of what is on its way."""
    model: str
    prompt: int = PROMPT_VERSION
    per_passage: int = MOST_QUESTIONS
    """Questions taken of an answer: a batch of an earlier run may have asked for another number than this one does."""
    again: set[str] = field(default_factory=set)
    """Keys that may be asked again."""
    batch: bool = False
    """Whether what is taken now came in a message batch."""

    def take(self, reply: Reply | Failure) -> None:
        """Keep the usable questions of an answer, or count why there are none."""
        if isinstance(reply, Failure):
            self._fail(reply)
            return
        if reply.key not in self.passages:
            return
        tally = self.tally
        tally.input_tokens += reply.input_tokens
        tally.output_tokens += reply.output_tokens
        if self.batch:
            tally.batched = (tally.batched[0] + reply.input_tokens, tally.batched[1] + reply.output_tokens)
        questions: list[str] = []
        if reply.stop_reason == "refusal":
            tally.refused += 1
        else:
            try:
                questions, dropped = read_questions(reply.text, self.per_passage)
            except ValueError as error:
                tally.malformed += 1
                tally.first_failure = tally.first_failure or f"malformed answer ({reply.stop_reason}): {error}"
                return
            tally.dropped += dropped
            tally.answered += 1
        tokens = (reply.input_tokens, reply.output_tokens)
        self.store.keep(reply.key, self.passages[reply.key], self.model, self.prompt, questions, tokens)

    def _fail(self, failure: Failure) -> None:
        if failure.passing:
            self.again.add(failure.key)
        else:
            self.tally.failed += 1
            self.tally.first_failure = self.tally.first_failure or failure.message


async def ask_one_by_one(
    inbox: Inbox, asks: Sequence[Ask], settings: SynthesisSettings, proven: bool, progress: Progress
) -> None:
    """Send each message by itself, some at a time; ``proven`` are settings by which something was answered before."""
    done = 0

    def take(reply: Reply | Failure) -> None:
        nonlocal done
        inbox.take(reply)
        done += 1
        progress("asking", done, len(asks))

    async with connected(settings) as client:
        await ask_now(client, asks, settings.concurrency, proven, take)


async def ask_by_batches(
    inbox: Inbox,
    asks: Sequence[Ask],
    settings: SynthesisSettings,
    pace: Pace,
    progress: Progress,
    tell: Callable[[str], None],
) -> None:
    """Send batches and wait for them; what expired in them, or failed in passing, is sent again in new ones."""
    left, passages = list(asks), inbox.passages
    async with connected(settings) as client:

        async def send(some: Sequence[Ask]) -> None:
            batch = await send_batch(client, some)
            entries = {ask.key: passages[ask.key] for ask in some}
            inbox.store.remember_batch(batch, settings.model, PROMPT_VERSION, entries)
            tell(f"Batch {batch} has {len(some):,} passages. Stop whenever you like: the next run fetches it.")

        for _ in range(BATCH_ROUNDS):
            for start in range(0, len(left), BATCH_REQUESTS):
                await _unbroken(send(left[start : start + BATCH_REQUESTS]))
            inbox.again.clear()
            await _fetch_with(client, inbox, pace, progress, tell)
            left = [ask for ask in left if ask.key in inbox.again]
            if not left:
                return
            tell(f"{len(left):,} requests expired or failed in passing; they are sent again.")
    inbox.tally.failed += len(left)
    inbox.tally.first_failure = inbox.tally.first_failure or "expired, or failed in passing, again and again"


async def _unbroken(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` to its end even if cancelled meanwhile: a batch the API has taken must be known by its id."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def fetch_batches(
    store: QuestionStore,
    settings: SynthesisSettings,
    tally: Tally,
    pace: Pace,
    progress: Progress,
    tell: Callable[[str], None],
) -> None:
    """Fetch the batches of earlier runs; what failed in them is simply still missing afterwards."""
    async with connected(settings) as client:
        await _fetch_with(client, Inbox(store, tally, {}, ""), pace, progress, tell)


async def _fetch_with(
    client: AsyncAnthropic, inbox: Inbox, pace: Pace, progress: Progress, tell: Callable[[str], None]
) -> None:
    inbox.batch = True
    for batch, model, prompt in inbox.store.batches():
        inbox.model, inbox.prompt, inbox.passages = model, prompt, inbox.store.entries(batch)
        outcomes = await batch_outcomes(
            client, batch, pace, lambda done, total: progress("waiting for the batch", done, total)
        )
        if outcomes is None:
            tell(f"Batch {batch} is gone: the API keeps results for 29 days.")
        for outcome in outcomes or ():
            inbox.take(outcome)
        inbox.store.forget_batch(batch)
