"""The turn loop and its limits: one question on its way to an answer.

Each turn that ends in tool calls is answered with all their results in one message; anything else is
the answer. A limit never raises: the tools stay in the request, so that the cached prefix holds, and
``tool_choice: none`` asks for an answer from what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.answer import Answer, Limit, Listener, TurnDone, Usage
from agent.calls import Calls
from agent.compaction import drop_results
from agent.draft import Draft
from agent.faults import TooLong
from agent.plain import one_line
from agent.transcript import Transcript
from agent.turn import Turn
from retrieval.workspace import AgentSettings

__all__ = ["Exchange"]

_MOST_PAUSES = 5
_LIMIT_WORDS: dict[Limit, str] = {
    "turns": "the limit of {0.max_turns} turns is reached",
    "calls": "the limit of {0.max_calls} tool calls is reached",
    "output_tokens": "the limit of {0.max_output_tokens} output tokens is reached",
    "dollars": "the limit of ${0.max_dollars:g} is reached",
    "seconds": "the limit of {0.max_seconds:g} seconds is reached",
    "max_tokens": "a turn was cut off at {0.max_tokens} tokens",
    "context": "the model's context is full",
    "pauses": "the API paused the answer too often",
}
_CUT_OFF: dict[str, Limit] = {
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "context",
    "pause_turn": "pauses",
}


class Exchange:
    """One question and all the turns it takes."""

    def __init__(
        self,
        settings: AgentSettings,
        transcript: Transcript,
        calls: Calls,
        draft: Draft,
        take: Callable[[Mapping[str, Any]], Awaitable[Turn]],
        tell: Listener,
        closing_seconds: float,
    ) -> None:
        self._settings = settings
        self._transcript = transcript
        self._calls = calls
        self._draft = draft
        self._take = take
        self._tell = tell
        self._closing_seconds = closing_seconds
        self._deadline = _now() + settings.max_seconds
        self._limit: Limit | None = None
        self._turns = 0
        self._pauses = 0
        self._usage = Usage()
        self._dollars: float | None = 0.0

    async def run(self, question: str) -> tuple[Answer, bool]:
        """The answer, and whether the exchange is whole, so that it may stay in the conversation."""
        self._transcript.user([{"type": "text", "text": question}])
        while True:
            closing = self._limit is not None
            turn = await self._next_turn()
            if turn is None and closing:
                self._draft.finish()
                self._draft.notice(
                    "the answer did not come to its end in time; the question is dropped from the conversation"
                )
                return self._answer(None), False
            if turn is None:
                self._draft.withdraw()
                self._reach("seconds")
            elif turn.stop_reason == "refusal":
                return self._refused(turn), False
            elif turn.stop_reason == "tool_use" and turn.calls and not closing:
                await self._answer_calls(turn)
            elif turn.stop_reason == "pause_turn" and not (turn.calls or closing) and self._pauses < _MOST_PAUSES:
                self._pauses += 1
                self._transcript.assistant(turn.content)
                self._draft.keep()
                if limit := self._limit_now():
                    self._reach(limit)
            elif turn.stop_reason in _CUT_OFF and (turn.calls or not turn.has_text) and not closing:
                # Nothing of use came. Calls are not run: their arguments may be cut off as well.
                self._draft.withdraw()
                self._reach(_CUT_OFF[turn.stop_reason])
                if turn.stop_reason == "model_context_window_exceeded":
                    self._make_room(last_too=False)
            else:
                return self._finished(turn)

    async def _next_turn(self) -> Turn | None:
        """The model's next turn; None where the clock ran out first."""
        if self._transcript.tokens > self._settings.context_tokens:
            self._make_room(last_too=False)
        clock = asyncio.timeout_at(self._deadline)
        try:
            async with clock:
                turn = await self._take_fitting()
        except TimeoutError:
            if not clock.expired():
                raise
            return None
        self._note(turn)
        return turn

    async def _take_fitting(self) -> Turn:
        """A turn; where the API says that the conversation is too long, old search results make room first.

        Tools and all that precedes them stay the same, or the API would refuse and the cache miss.
        """
        ways = iter((False, True))
        while True:
            try:
                return await self._take({} if self._limit is None else {"tool_choice": {"type": "none"}})
            except TooLong:
                if not any(self._make_room(last_too) for last_too in ways):
                    raise

    def _make_room(self, last_too: bool) -> bool:
        dropped = drop_results(self._transcript, last_too=last_too)
        if dropped:
            results = "search result was" if dropped == 1 else "search results were"
            self._draft.notice(f"the conversation fills the model's context: {dropped} old {results} dropped from it")
        if dropped and last_too and self._limit is None:
            self._reach("context")
        return dropped > 0

    def _note(self, turn: Turn) -> None:
        self._turns += 1
        self._usage += turn.usage
        self._transcript.tokens = turn.usage.all_input_tokens + turn.usage.output_tokens
        # One turn without a price, and the sum is not known.
        self._dollars = None if self._dollars is None or turn.dollars is None else self._dollars + turn.dollars
        self._tell(TurnDone(self._turns, turn.model, turn.stop_reason, turn.usage, turn.dollars))

    async def _answer_calls(self, turn: Turn) -> None:
        self._draft.withdraw()
        self._transcript.assistant(turn.content)
        content = await self._calls.results(turn, self._deadline)
        if limit := self._limit_now():
            self._reach(limit)
            content.append({"type": "text", "text": "A limit is reached: no more searching. Answer from the above."})
        self._transcript.user(content)

    def _limit_now(self) -> Limit | None:
        if _now() >= self._deadline:
            return "seconds"
        if self._calls.exhausted:
            return "calls"
        if self._turns >= self._settings.max_turns:
            return "turns"
        if self._usage.output_tokens >= self._settings.max_output_tokens:
            return "output_tokens"
        most = self._settings.max_dollars
        if most is not None and self._dollars is not None and self._dollars >= most:
            return "dollars"
        return None

    def _reach(self, limit: Limit) -> None:
        """From here on only the answer is wanted, and it has a time of its own."""
        self._limit = limit
        self._draft.notice(f"{_LIMIT_WORDS[limit].format(self._settings)}; answering from what was found")
        self._deadline = _now() + self._closing_seconds

    def _finished(self, turn: Turn) -> tuple[Answer, bool]:
        if turn.stop_reason in _CUT_OFF:
            cut_off = _CUT_OFF[turn.stop_reason]
            self._limit = self._limit or cut_off
            self._draft.notice(f"{_LIMIT_WORDS[cut_off].format(self._settings)}; the answer is not complete")
        if turn.has_text:
            # Without calls that were not run: the API wants a result for each.
            self._transcript.assistant([block for block in turn.content if block["type"] != "tool_use"])
        said = bool(self._draft.said.strip())
        whole = said and self._transcript.messages[-1]["role"] == "assistant" and self._transcript.resolved
        if not said:
            self._draft.notice("Claude answered without a word; ask again, or put it differently")
        elif any(query.hits is not None for query in self._calls.queries) and not self._draft.checked:
            self._draft.notice("no statement of the answer has a citation that holds")
        if said and not whole:
            self._draft.notice("the answer broke off; the question is dropped from the conversation")
        return self._answer(turn), whole

    def _refused(self, turn: Turn) -> Answer:
        reason = f": {one_line(turn.refusal)}" if turn.refusal else ""
        self._draft.discard()
        self._draft.notice(f"Claude declined to answer{reason}; the question is dropped from the conversation")
        return self._answer(turn)

    def _answer(self, turn: Turn | None) -> Answer:
        return Answer(
            text=self._draft.said,
            citations=tuple(self._draft.citations),
            segments=tuple(self._draft.segments),
            queries=tuple(self._calls.queries),
            turns=self._turns,
            usage=self._usage,
            model=self._settings.model if turn is None else turn.model,
            stop_reason="" if turn is None else turn.stop_reason,
            limit=self._limit,
            notes=tuple(self._draft.notes),
            dollars=self._dollars,
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
