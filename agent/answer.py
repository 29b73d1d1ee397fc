"""What a question comes back as, and what is told on the way there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agent.citations import Citation

__all__ = [
    "Answer",
    "Cited",
    "Event",
    "Limit",
    "Listener",
    "Notice",
    "Query",
    "QueryDone",
    "QueryStarted",
    "Segment",
    "TextDelta",
    "Thinking",
    "TurnDone",
    "Usage",
    "Withdrawn",
]

Limit = Literal["turns", "calls", "output_tokens", "dollars", "seconds", "max_tokens", "context", "pauses"]
"""What ended an answer early: a setting of ``[agent]``, the model's context, or pauses without end."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of the answer's text and the numbers (from 1) of the citations that support it."""

    text: str
    citations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """One tool call. ``hits`` is None where the tool finds no passages; ``error`` is "" or what went wrong.

    ``sources`` are the places of the passages sent to Claude, ``document:first-last``, in the order of the hits.
    """

    tool: str
    text: str
    hits: int | None = None
    mode: str = ""
    degraded: str = ""
    repeated: bool = False
    error: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the API counted them, over all turns that were read to their end.

    ``input_tokens`` are those that the prompt cache has no part in.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0

    @property
    def all_input_tokens(self) -> int:
        """All that was sent, from the cache, into it or past it."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_input_tokens + other.cache_read_input_tokens,
            self.cache_creation_input_tokens + other.cache_creation_input_tokens,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question.

    ``citations`` are numbered from 1 in this order. ``stop_reason`` is the API's for the last turn, or
    "" where that turn was cut off. ``limit`` names what ended the answer early, else None. ``notes``
    say, for people, all that was less than asked for: waits, a restarted server, a limit, a refusal.
    ``dollars`` is None where the price of a model that took a turn is not known. A refused or empty
    answer has ``text`` "" and leaves no trace in the conversation.
    """

    text: str
    citations: tuple[Citation, ...]
    segments: tuple[Segment, ...]
    queries: tuple[Query, ...]
    turns: int
    usage: Usage
    model: str
    stop_reason: str
    limit: Limit | None = None
    notes: tuple[str, ...] = ()
    dollars: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON values; each citation with its number."""
        value = asdict(self)
        value["citations"] = [{"number": number, **asdict(cited)} for number, cited in enumerate(self.citations, 1)]
        return value


@dataclass(frozen=True, slots=True)
class TurnDone:
    """A turn was read to its end: its number (from 1), which model took it, and what it took."""

    turn: int
    model: str
    stop_reason: str
    usage: Usage
    dollars: float | None = None


@dataclass(frozen=True, slots=True)
class QueryStarted:
    """A tool call begins."""

    tool: str
    text: str


@dataclass(frozen=True, slots=True)
class QueryDone:
    """A tool call has ended."""

    query: Query


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """More of what Claude thinks before it searches or answers; the API sends it with ``thinking = "summarized"``."""

    text: str


@dataclass(frozen=True, slots=True)
class Cited:
    """The text since the last such mark rests on these citations (number, citation)."""

    citations: tuple[tuple[int, Citation], ...]


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The text told since the turn began is not part of the answer."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know: a wait, a restart, a limit."""

    text: str


Event = TurnDone | QueryStarted | QueryDone | Thinking | TextDelta | Cited | Withdrawn | Notice
Listener = Callable[[Event], None]
