"""The tool calls of a turn: checked, run side by side, answered in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from agent.answer import Listener, Query, QueryDone, QueryStarted
from agent.blocks import SentResult
from agent.outcomes import Outcome
from agent.plain import one_line
from agent.toolbox import Toolbox
from agent.transcript import Transcript, query_key
from agent.turn import Turn

__all__ = ["Calls"]


class Calls:
    """The tool calls of one question. ``exhausted`` tells that one was not run for want of calls."""

    def __init__(self, toolbox: Toolbox, transcript: Transcript, tell: Listener, most: int) -> None:
        self.queries: list[Query] = []
        self.exhausted = False
        self._toolbox = toolbox
        self._transcript = transcript
        self._tell = tell
        self._left = most
        self._most = most
        # Of this question only: between two questions the documents, and so the answer, may change.
        self._found: dict[str, tuple[SentResult, ...]] = {}

    async def results(self, turn: Turn, deadline: float) -> list[dict[str, Any]]:
        """The ``tool_result`` blocks for all calls of ``turn``, in order; noted in the transcript.

        No call outlasts ``deadline`` (on the loop's clock). A call that fails is a result that says so.

        Raises:
            ShoptalkError: the server is gone for good.
        """
        seen: set[str] = set()
        plans = [self._plan(call, call["id"] in turn.malformed, seen, deadline) for call in turn.calls]
        outcomes = await _side_by_side(plans)
        results: list[dict[str, Any]] = []
        for call, outcome in zip(turn.calls, outcomes, strict=True):
            if outcome.hits is not None and not outcome.degraded:
                self._found[self._key(call)] = outcome.sent
            outcome = outcome.without(self._transcript.sent)
            self._transcript.send(outcome.sent)
            result = {"type": "tool_result", "tool_use_id": call["id"], "content": list(outcome.content)}
            results.append(result | {"is_error": True} if outcome.error else result)
        return results

    def _plan(
        self, call: dict[str, Any], malformed: bool, seen: set[str], deadline: float
    ) -> Coroutine[Any, Any, Outcome]:
        """What becomes of one call: its result to wait for, or a reason not to run it."""
        name, arguments = call["name"], call["input"]
        shown = Query(name, one_line(str(arguments.get("query") or arguments or "")))
        if problem := self._toolbox.problem(name, arguments, malformed):
            return self._decline(shown, problem)
        key = self._key(call)
        stands = key in self._found and set(self._found[key]) <= set(self._transcript.sent)
        if self._toolbox.searches(name) and (key in seen or stands):
            return self._repeat(shown, len(self._found[key]) if stands else None)
        seen.add(key)
        if not self._left:
            self.exhausted = True
            return self._decline(shown, f"Not run: all {self._most} tool calls are used up.")
        self._left -= 1
        return self._run(shown, arguments, deadline)

    def _key(self, call: dict[str, Any]) -> str:
        return query_key(call["name"], call["input"], self._toolbox.schema(call["name"]))

    async def _decline(self, shown: Query, reason: str) -> Outcome:
        self._record(Query(shown.tool, shown.text, error=one_line(reason)))
        return Outcome.failure(reason)

    async def _repeat(self, shown: Query, hits: int | None) -> Outcome:
        self._record(Query(shown.tool, shown.text, hits=hits, repeated=True))
        where = (
            "its result stands in this message" if hits is None else f"it brought {hits} passages, which stand above"
        )
        note = f"This very query was sent before: {where}. Use that, or search in other words."
        return Outcome(content=({"type": "text", "text": note},))

    async def _run(self, shown: Query, arguments: dict[str, Any], deadline: float) -> Outcome:
        self._tell(QueryStarted(shown.tool, shown.text))
        clock = asyncio.timeout_at(deadline)
        try:
            async with clock:
                outcome = await self._toolbox.call(shown.tool, arguments)
        except TimeoutError:
            if not clock.expired():
                raise
            outcome = Outcome.failure(f"{shown.tool} did not answer before the time limit.")
        degraded = one_line(outcome.degraded)
        error = one_line(outcome.error) or ("it failed without a word" if outcome.error else "")
        sources = tuple(result.source for result in outcome.sent)
        self._record(Query(shown.tool, shown.text, outcome.hits, outcome.mode, degraded, error=error, sources=sources))
        return outcome

    def _record(self, query: Query) -> None:
        self.queries.append(query)
        self._tell(QueryDone(query))


async def _side_by_side(plans: Sequence[Coroutine[Any, Any, Outcome]]) -> list[Outcome]:
    """Run all at once; after the first exception, or when cancelled, stop the rest before going on."""
    tasks = [asyncio.create_task(plan) for plan in plans]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
