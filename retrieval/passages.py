"""Sections cut into passages: what is embedded and returned.

A section that fits is one passage. A longer one is packed from its blocks; a block that does not fit
alone is packed from its sentences (code, tables and lists: its lines), a sentence from its words.
Slices of one section are of similar size and do not overlap.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from retrieval.slicing import LONGEST_TOKEN, STEPS, Slice, Unit, pack, weigh
from retrieval.structure import Block, Section

__all__ = ["Passage", "TokenCounter", "cut"]

TokenCounter = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A slice of one section.

    ``id`` is stable across re-indexing while document, heading and text stay the same.
    ``first_line``/``last_line`` are 1-based lines of the source file. ``context`` is None but where
    the headings are too long to be embedded whole: then what precedes the text ("" for nothing),
    and the headings that follow it, outermost first.
    """

    id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    text: str
    first_line: int
    last_line: int
    context: tuple[str, ...] | None = None

    @property
    def embedded_text(self) -> str:
        """What the embedder and the lexical index are given: heading, text, then what encloses it."""
        return _embedded(self.text, self.context or _context(self.title, self.heading))


def cut(title: str, sections: Sequence[Section], count_tokens: TokenCounter, max_tokens: int) -> list[Passage]:
    """Cut ``sections`` of one document into passages of at most ``max_tokens`` tokens each.

    The limit is on ``embedded_text``, context included. ``count_tokens`` is called a few times a
    document, with many texts at once.
    """
    cutter = _Cutter(count_tokens, max_tokens)
    jobs = [_Job.of(title, section) for section in sections]
    pending = cutter.too_long(jobs)
    cutter.trim_contexts(pending)
    while pending:
        cutter.split(pending)
        pending = cutter.over_limit(pending)
    seen: Counter[tuple[str, tuple[str, ...], str]] = Counter()
    return [passage for job in jobs for passage in _passages(title, job, seen)]


def _context(title: str, heading: Sequence[str]) -> tuple[str, ...]:
    """What precedes a text in its embedding ("" for nothing), then what encloses it, outermost first.

    The document's title is the outermost where it is not one of the headings.
    """
    known = {" ".join(part.split()).casefold() for part in heading}
    outer = (title,) if title and " ".join(title.split()).casefold() not in known else ()
    return (heading[-1] if heading else "", *outer, *heading[:-1])


def _embedded(text: str, context: Sequence[str]) -> str:
    lead = context[0] if context[0] != text else ""
    return "\n".join(part for part in (lead, text, " > ".join(context[1:])) if part)


@dataclass(slots=True)
class _Job:
    """A section on its way to passages."""

    section: Section
    blocks: Sequence[Block]
    context: tuple[str, ...]
    budget: int = 0
    slices: list[Slice] = field(default_factory=list)

    @classmethod
    def of(cls, title: str, section: Section) -> _Job:
        """The job of ``section``; a heading without blocks is its own text."""
        context = _context(title, section.heading)
        if section.blocks:
            return cls(section, section.blocks, context, slices=[_whole(section.blocks)])
        lines = (section.first_line, section.last_line)
        blocks = [Block("paragraph", section.heading[-1], *lines, spans=(lines,))]
        return cls(section, blocks, ("", *context[1:]), slices=[_whole(blocks)])

    def texts(self) -> Iterator[str]:
        """The text of each slice."""
        return (_text(self.blocks, units) for units in self.slices)


class _Cutter:
    """Counts tokens, many texts at once, and cuts what is too long."""

    def __init__(self, count_tokens: TokenCounter, max_tokens: int) -> None:
        self.count_tokens = count_tokens
        self.max_tokens = max_tokens

    def weigh(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; what is too long by any measure is not counted but estimated."""
        limit = self.max_tokens * LONGEST_TOKEN
        counts = iter(self.count_tokens(short) if (short := [text for text in texts if len(text) <= limit]) else ())
        return [weigh(text, next(counts) if len(text) <= limit else 0) for text in texts]

    def too_long(self, jobs: Sequence[_Job]) -> list[_Job]:
        """The jobs whose section does not fit into one passage."""
        weights = self.weigh([_embedded(text, job.context) for job in jobs for text in job.texts()])
        return [job for job, weight in zip(jobs, weights, strict=True) if weight > self.max_tokens]

    def trim_contexts(self, jobs: Sequence[_Job]) -> None:
        """Set each job's budget for text; a context over half of the limit loses its outermost headings first."""
        parts = list({part: None for job in jobs for part in job.context if part})
        weights = {"": -1} | dict(zip(parts, self.weigh(parts), strict=True))
        half = self.max_tokens // 2
        for job in jobs:
            lead, *enclosing = job.context
            used = weights[lead] + 1
            if used > half:
                words = lead.split()
                lead, used = " ".join(words[: len(words) * half // used]), half
            kept: list[str] = []
            for heading in reversed(enclosing):
                if used + weights[heading] + 1 > half:
                    break
                used += weights[heading] + 1
                kept.insert(0, heading)
            job.context = (lead, *kept)
            job.budget = max(1, self.max_tokens - used)

    def split(self, jobs: Sequence[_Job]) -> None:
        """Slice each job's blocks to its budget: what does not fit is split finer, and all is packed again."""
        units = {id(job): list(_whole(job.blocks)) for job in jobs}
        self._weigh_units(jobs, units, lambda job, unit: True)
        for step in STEPS:
            for job in jobs:
                units[id(job)] = [
                    piece
                    for unit in units[id(job)]
                    for piece in (
                        step(job.blocks[unit.block], unit, job.budget) if unit.tokens > job.budget else (unit,)
                    )
                ]
            self._weigh_units(jobs, units, lambda job, unit: unit.tokens < 0)
        for job in jobs:
            job.slices = pack(units[id(job)], job.budget)

    def _weigh_units(
        self, jobs: Sequence[_Job], units: dict[int, list[Unit]], wanted: Callable[[_Job, Unit], bool]
    ) -> None:
        places = [
            (job, number) for job in jobs for number, unit in enumerate(units[id(job)]) if wanted(job, unit)
        ]
        texts = [_unit_text(job.blocks, units[id(job)][number]) for job, number in places]
        for (job, number), tokens in zip(places, self.weigh(texts), strict=True):
            units[id(job)][number] = units[id(job)][number].weighing(tokens)

    def over_limit(self, jobs: Sequence[_Job]) -> list[_Job]:
        """The jobs with a passage that is still too long, as parts seldom count exactly as the whole; budgets shrink."""
        texts = [(job, _embedded(text, job.context)) for job in jobs for text in job.texts()]
        excess: dict[int, int] = {}
        for (job, _), weight in zip(texts, self.weigh([text for _, text in texts]), strict=True):
            excess[id(job)] = max(excess.get(id(job), 0), weight - self.max_tokens)
        again = [job for job in jobs if excess[id(job)] > 0 and job.budget > 1]
        for job in again:
            job.budget = max(1, job.budget - max(excess[id(job)], job.budget // 16))
        return again
