"""Sections cut into passages: what is embedded and returned.

A section that fits is one passage. A longer one is packed from its blocks; a block that does not fit
alone is packed from its sentences (code, tables and lists: its lines), a sentence from its words.
Slices of one section are of similar size and do not overlap.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from retrieval.dehyphenation import dehyphenated
from retrieval.slicing import STEPS, Slicer
from retrieval.structure import Block, Section

__all__ = ["Passage", "TokenCounter", "cut", "cut_all", "cut_placed", "passage_id"]

LONGEST_TOKEN = 40
"""Characters. A text with more of them a token (base64 may be one unknown word) counts as if it had not."""
SEPARATOR = 2
"""Tokens that may stand between two headings, or a heading and the text."""

TokenCounter = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A slice of one section.

    ``id`` is stable across re-indexing while document, heading and text stay the same.
    ``first_line``/``last_line`` are 1-based lines of the source file. ``context`` is None but where
    the headings are too long to be embedded whole: then what precedes the text ("" for nothing),
    and the headings that follow it, outermost first. ``called`` are names that other passages give its section
    (`retrieval.references`).
    """

    id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    text: str
    first_line: int
    last_line: int
    context: tuple[str, ...] | None = None
    called: tuple[str, ...] = ()

    @property
    def embedded_text(self) -> str:
        """What the embedder and the lexical index are given: heading, other names, text, then what encloses it."""
        return _embedded(self.text, self.context or _context(self.title, self.heading), self.called)

    @property
    def embedded_heading(self) -> str:
        """The headings that are embedded with the text, outermost first, "" for none; see `retrieval.heading_share`."""
        own, *enclosing = self.context or _context(self.title, self.heading)
        return " > ".join(heading for heading in (*enclosing, own) if heading)


def cut(title: str, sections: Sequence[Section], count_tokens: TokenCounter, max_tokens: int) -> list[Passage]:
    """Cut ``sections`` of one document into passages; see :func:`cut_all`."""
    return cut_all([(title, sections)], count_tokens, max_tokens)[0]


def cut_all(
    documents: Sequence[tuple[str, Sequence[Section]]],
    count_tokens: TokenCounter,
    max_tokens: int,
    *,
    heading_context: bool = True,
) -> list[list[Passage]]:
    """Cut documents, each a title and its sections, into passages of at most ``max_tokens`` tokens each.

    The limit is on ``embedded_text``, context included. ``count_tokens`` is called a few times in all,
    with the texts of all documents at once. Without ``heading_context`` a passage is embedded as its
    text alone. A title without text of its own is no passage where the document has other sections: each of them is
    embedded with it, and it would take the first place from them. Returns each document's passages, in the order given.
    """
    placed = cut_placed(documents, count_tokens, max_tokens, heading_context=heading_context)
    return [[passage for _, passage in some] for some in placed]


def cut_placed(
    documents: Sequence[tuple[str, Sequence[Section]]],
    count_tokens: TokenCounter,
    max_tokens: int,
    *,
    heading_context: bool = True,
) -> list[list[tuple[int, Passage]]]:
    """As `cut_all`; each passage with the place of its section among its document's."""
    cuts = [
        [
            _Job.of(place, title, sections[place], heading_context)
            for place in (_but_bare_title(title, sections) if heading_context else range(len(sections)))
        ]
        for title, sections in documents
    ]
    cutter = _Cutter(count_tokens, max_tokens)
    pending = cutter.too_long([job for jobs in cuts for job in jobs])
    cutter.trim_contexts(pending)
    while pending:
        cutter.split(pending)
        pending = [job for job in cutter.too_long(pending) if job.budget > 1]
        cutter.shrink(pending)
    found = []
    for (title, _), jobs in zip(documents, cuts, strict=True):
        seen: Counter[tuple[str, ...]] = Counter()
        found.append([(job.place, passage) for job in jobs for passage in job.passages(title, seen)])
    return found


def passage_id(document_id: str, heading: Sequence[str], text: str, occurrence: int) -> str:
    """Return the id of a passage; ``occurrence`` counts, from 0, those of its document alike in heading and text."""
    identity = json.dumps([document_id, heading, text, occurrence], ensure_ascii=False)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _but_bare_title(title: str, sections: Sequence[Section]) -> Sequence[int]:
    """The places of ``sections`` less the title, or a heading above all others, that has no text of its own."""

    def above_all(heading: tuple[str, ...]) -> bool:
        return all(section.heading[: len(heading)] == heading for section in sections)

    top = sections[0].heading if sections and above_all(sections[0].heading) else None

    def is_title(heading: tuple[str, ...]) -> bool:
        return heading == top or [*map(_folded, heading)] == [_folded(title)]

    # Where nothing else is left the title is all that the document says.
    kept = [place for place, section in enumerate(sections) if section.blocks or not is_title(section.heading)]
    return kept or range(len(sections))


def _folded(heading: str) -> str:
    return " ".join(heading.split()).casefold()


def _context(title: str, heading: Sequence[str]) -> tuple[str, ...]:
    """What precedes a text in its embedding ("" for nothing), then what encloses it, outermost first.

    The document's title is the outermost where it is not one of the headings.
    """
    outer = (title,) if title and _folded(title) not in map(_folded, heading) else ()
    return (heading[-1] if heading else "", *outer, *heading[:-1])


def _embedded(text: str, context: Sequence[str], called: Sequence[str] = ()) -> str:
    text = dehyphenated(text)
    names = "; ".join(called)
    lead, *body = (context[0], names, text) if context[0] != text else (text, names)
    return "\n".join(part for part in (lead, *body, " > ".join(context[1:])) if part)


@dataclass(slots=True)
class _Job:
    """A section on its way to passages: what is embedded with each slice, and the tokens left for its text."""

    place: int
    section: Section
    context: tuple[str, ...]
    slicer: Slicer
    budget: int = 0

    @classmethod
    def of(cls, place: int, title: str, section: Section, heading_context: bool) -> _Job:
        """The job of ``section``; a heading without blocks is its own text."""
        context = _context(title, section.heading) if heading_context else ("",)
        if section.blocks:
            return cls(place, section, context, Slicer(section.blocks))
        lines = (section.first_line, section.last_line)
        block = Block("paragraph", section.heading[-1], *lines, spans=(lines,))
        return cls(place, section, ("", *context[1:]), Slicer([block]))

    def embedded_texts(self) -> list[str]:
        """What would be embedded of the slices as they are."""
        return [_embedded(self.slicer.text(units), self.context) for units in self.slicer.slices]

    def passages(self, title: str, seen: Counter[tuple[str, ...]]) -> Iterator[Passage]:
        """The slices as passages; ``seen`` counts the headings and texts of the document so far."""
        section = self.section
        whole = _context(title, section.heading)
        for units in self.slicer.slices:
            text = self.slicer.text(units)
            key = (*section.heading, text)
            id = passage_id(section.document_id, section.heading, text, seen[key])
            seen[key] += 1
            context = None if _embedded(text, self.context) == _embedded(text, whole) else self.context
            lines = self.slicer.lines(units)
            yield Passage(id, section.document_id, title, section.heading, text, *lines, context=context)


class _Cutter:
    """Counts tokens, many texts at once, and cuts what is too long."""

    def __init__(self, count_tokens: TokenCounter, max_tokens: int) -> None:
        self.count_tokens = count_tokens
        self.max_tokens = max_tokens

    def weigh(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; one that is too long by any measure is not counted but estimated."""
        limit = self.max_tokens * LONGEST_TOKEN
        short = [text for text in texts if len(text) <= limit]
        counts = iter(self.count_tokens(short) if short else ())
        return [max(-(-len(text) // LONGEST_TOKEN), next(counts) if len(text) <= limit else 0) for text in texts]

    def too_long(self, jobs: Sequence[_Job]) -> list[_Job]:
        """The jobs of which something embedded is too long."""
        texts = [(job, text) for job in jobs for text in job.embedded_texts()]
        weights = self.weigh([text for _, text in texts])
        long = {id(job) for (job, _), weight in zip(texts, weights, strict=True) if weight > self.max_tokens}
        return [job for job in jobs if id(job) in long]

    def trim_contexts(self, jobs: Sequence[_Job]) -> None:
        """Set each job's budget for text; a context over half of the limit loses its outermost headings first."""
        parts = list(dict.fromkeys(part for job in jobs for part in job.context if part))
        weights = dict(zip(parts, self.weigh(parts), strict=True))
        half = self.max_tokens // 2
        for job in jobs:
            lead, *enclosing = job.context
            used = weights[lead] + SEPARATOR if lead else 0
            if used > half:
                words = lead.split()
                lead, used = " ".join(words[: len(words) * half // used]), half
            kept: list[str] = []
            for heading in reversed(enclosing):
                if used + weights[heading] + SEPARATOR > half:
                    break
                used += weights[heading] + SEPARATOR
                kept.append(heading)
            job.context = (lead, *reversed(kept))
            job.budget = max(1, self.max_tokens - used)

    def split(self, jobs: Sequence[_Job]) -> None:
        """Slice each job to its budget: units that do not fit are split finer, and all are packed."""
        self.weigh_units(jobs)
        for step in range(len(STEPS)):
            for job in jobs:
                job.slicer.refine(step, job.budget)
            self.weigh_units(jobs)
        for job in jobs:
            job.slicer.pack(job.budget)

    def weigh_units(self, jobs: Sequence[_Job]) -> None:
        """Count the tokens of the units that were not counted yet."""
        new = [(job.slicer, unit) for job in jobs for unit in job.slicer.units if unit.tokens < 0]
        weights = self.weigh([slicer.blocks[unit.block].text[unit.start : unit.end] for slicer, unit in new])
        for (_, unit), weight in zip(new, weights, strict=True):
            unit.tokens = weight

    def shrink(self, jobs: Sequence[_Job]) -> None:
        """Lower budgets a little, where parts counted less than the whole they make."""
        for job in jobs:
            job.budget -= max(1, job.budget // 16)
