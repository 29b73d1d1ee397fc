"""What a tool sent back, as content blocks: search hits as citable results, anything else as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.blocks import SentResult, to_result
from agent.plain import one_line

if TYPE_CHECKING:
    from mcp.types import CallToolResult

__all__ = ["STANDING", "Outcome", "read_outcome"]

STANDING = "Not sent again, as they stand above and can be cited from there: "
"""How a result names the passages that were sent before."""


class _Hit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    document_id: str
    title: str = ""
    heading: tuple[str, ...] = ()
    text: str
    first_line: int
    last_line: int
    truncated: bool = False


class _Found(BaseModel):
    """What the agent reads of search_corpus's structured result."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    corpus: str = ""
    generation: str = ""
    mode: str = ""
    degraded: str = ""
    hits: tuple[_Hit, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One tool's result: its content blocks, the search results among them, and what to tell people."""

    content: tuple[dict[str, Any], ...]
    sent: tuple[SentResult, ...] = ()
    hits: int | None = None
    mode: str = ""
    degraded: str = ""
    error: str = ""

    def without(self, standing: Collection[SentResult]) -> Outcome:
        """The same where the passages in ``standing`` were sent before: of them it says only which they are."""
        again = [result for result in self.sent if result in standing]
        if not again:
            return self
        new = tuple(result for result in self.sent if result not in standing)
        places = ", ".join(one_line(result.source) for result in again)
        note = _text(f"{STANDING}{places}.")
        summary = self.content[len(self.sent) :]
        return replace(self, content=(*(result.to_param() for result in new), *summary, note), sent=new)

    @classmethod
    def failure(cls, message: str) -> Outcome:
        """A call that came to nothing; ``message`` tells the model what to do about it."""
        return cls(content=(_text(message),), error=message)


def read_outcome(
    name: str, result: CallToolResult, *, search: bool, called: Callable[[str], str] = lambda corpus: ""
) -> Outcome:
    """What the tool ``name`` sent; with ``search`` its structured content must be hits by search_corpus's contract.

    ``called`` tells how sources name a corpus, "" for not at all.
    """
    text = "\n".join(part.text for part in result.content if part.type == "text")
    if result.is_error:
        return Outcome.failure(text.strip() or f"{name} failed and did not say why.")
    if search and isinstance(result.structured_content, dict):
        try:
            found = _Found.model_validate(result.structured_content)
            return _search_outcome(found, text, called(found.corpus))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            return Outcome.failure(f"{name} sent a malformed result: {place}: {problem['msg']}. Go on without it.")
    if not text.strip():
        text = json.dumps(result.structured_content, ensure_ascii=False) if result.structured_content else "(no output)"
    return Outcome(content=(_text(text),))


def _search_outcome(found: _Found, text: str, corpus: str) -> Outcome:
    """``text`` is what the server says itself: where nothing was found, it knows best what to try."""
    results = [
        to_result(
            hit.document_id, hit.title, hit.heading, hit.text, hit.first_line, hit.last_line, hit.truncated, corpus
        )
        for hit in found.hits
    ]
    sent = tuple(result for result in results if result is not None)
    place = f" in {found.corpus}" if found.corpus else ""
    how = f"mode {found.mode}" + (f", index {found.generation}" if found.generation else "")
    if sent:
        summary = f"{len(sent)} passage{'s' if len(sent) > 1 else ''}{place} ({how})."
    else:
        summary = text.strip() or f"No passage{place} matches this query ({how}). Try other or fewer words."
    if found.degraded and found.degraded not in summary:
        summary += f" Less than was asked for: {found.degraded}."
    if any(hit.truncated for hit in found.hits):
        summary += " Some passages are cut short; a larger max_chars shows more."
    return Outcome(
        content=(*(result.to_param() for result in sent), _text(summary)),
        sent=sent,
        hits=len(sent),
        mode=found.mode,
        degraded=found.degraded,
    )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
