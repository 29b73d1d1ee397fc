"""From a ranking to hits: duplicates collapsed, the best reranked, documents kept apart, neighbours joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from retrieval.catalog import PassageRow
from retrieval.duplicates import distinct
from retrieval.errors import ModelError
from retrieval.neighbours import joined, run_around
from retrieval.passages import Passage
from retrieval.stores import Passages
from retrieval.workspace import SearchSettings

__all__ = ["Choice", "Hit", "Judge", "Source", "best", "candidates", "judged", "make_hits"]

LOOK_AHEAD = 5
"""Candidates past the last place that are looked at for duplicates of what is shown."""

ALSO = 20
"""Of so many other places at most a hit says where they are; a text may stand in each of ten thousand files."""

Judge = Callable[[Sequence[str]], Sequence[float]]
"""Texts in, scores out; raises ModelError where there is no judge to be had."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a passage stands that says what a hit says."""

    document_id: str
    path: str
    heading: tuple[str, ...]
    first_line: int
    last_line: int
    first_page: int | None = None
    last_page: int | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage with its rank (from 1) and scores; a side that did not find it has rank None.

    ``first_page`` and ``last_page`` count from 1; they are None in formats without pages. ``also`` are
    the first ``ALSO`` of the ``also_total`` candidates that say the same, best first. ``score`` is the one
    that ``rank`` goes by: the reranker's where there is one. Where neighbours are shown with the passage,
    text, lines and pages are those of all together; ``id`` and ``heading`` stay its own, and its own text
    is ``text[own_start:own_end]``.
    """

    rank: int
    id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    path: str
    first_line: int
    last_line: int
    text: str
    score: float
    dense_rank: int | None
    lexical_rank: int | None
    first_page: int | None = None
    last_page: int | None = None
    also: tuple[Source, ...] = ()
    also_total: int = 0
    own_start: int = 0
    own_end: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """A passage that is to be a hit, its score, and the passages that say the same."""

    row: PassageRow
    score: float
    also: tuple[PassageRow, ...]


def candidates(
    catalog: Passages,
    numbers: Sequence[int],
    scores: Sequence[float],
    top_k: int,
    settings: SearchSettings,
    known: dict[int, PassageRow],
) -> list[Choice]:
    """The best of the ranked passages that say different things, from which ``best`` makes its choice.

    ``known`` are passages that were read already, by number; those read here are added.

    They are ``top_k`` of as many documents as ``settings.per_document`` asks for, if there are so many. Where a
    reranker is to judge them they are the best ``settings.rerank_candidates`` of any documents, and what is missing
    then.

    Raises:
        IndexingError: the catalogue is damaged.
    """
    pool = max(top_k, settings.rerank_candidates) if settings.rerank else 0
    look_at = max(top_k, pool) + (LOOK_AHEAD if settings.collapse_duplicates else 0)
    while True:
        # A passage's number says when it came, so equal ones would stand as the index came about.
        end = look_at
        while 0 < end < len(numbers) and scores[end] == scores[end - 1]:
            end += 1
        some = numbers[:end]
        known |= catalog.passages([number for number in some if number not in known])
        equal = groupby(zip(some, scores, strict=False), key=itemgetter(1))
        rows = [row for _, run in equal for row in sorted((known[number] for number, _ in run), key=_place)]
        takes = _room(settings.per_document, pool)
        passages = [row.passage for row in rows]
        if settings.collapse_duplicates:
            groups = distinct(passages, takes)
        else:
            groups = [[place] for place, passage in enumerate(passages) if takes(passage)]
        choices = [
            Choice(rows[first], scores[first], tuple(rows[place] for place in others)) for first, *others in groups
        ]
        enough = pool + top_k - len(best(choices[:pool], top_k, settings))
        if len(choices) >= enough or look_at >= len(numbers):
            return choices[:enough]
        look_at *= 4


def best(choices: Sequence[Choice], top_k: int, settings: SearchSettings) -> list[Choice]:
    """The first ``top_k`` of ``choices``, with as many of each document as ``settings.per_document`` allows.

    Where a document has no room left, one that says the same elsewhere stands in for its passage.
    """
    takes = _room(settings.per_document)
    found = []
    for choice in choices:
        rows = (choice.row, *choice.also)
        if row := next((row for row in rows if takes(row.passage)), None):
            found.append(replace(choice, row=row, also=tuple(other for other in rows if other is not row)))
    return found[:top_k]


def judged(choices: Sequence[Choice], judge: Judge) -> tuple[list[Choice], str]:
    """``choices`` in the order of the judge's scores, and ""; or as they are, and why the judge was not heard."""
    try:
        scores = judge([choice.row.passage.embedded_text for choice in choices]) if choices else []
    except ModelError as error:
        return list(choices), f"not reranked: {error}"
    scored = [replace(choice, score=score) for choice, score in zip(choices, scores, strict=True)]
    return sorted(scored, key=lambda choice: -choice.score), ""


def make_hits(
    catalog: Passages,
    choices: Sequence[Choice],
    dense_ranks: Mapping[int, int],
    lexical_ranks: Mapping[int, int],
    neighbours: int = 0,
) -> tuple[Hit, ...]:
    """Make hits of ``choices``, each with up to ``neighbours`` passages before and after it."""
    hits = [
        Hit(
            rank=rank,
            id=(passage := choice.row.passage).id,
            document_id=passage.document_id,
            title=passage.title,
            heading=passage.heading,
            path=choice.row.path,
            first_line=passage.first_line,
            last_line=passage.last_line,
            text=passage.text,
            score=choice.score,
            dense_rank=dense_ranks.get(choice.row.number),
            lexical_rank=lexical_ranks.get(choice.row.number),
            first_page=choice.row.first_page,
            last_page=choice.row.last_page,
            also=tuple(map(_source, choice.also[:ALSO])),
            also_total=len(choice.also),
            own_end=len(passage.text),
        )
        for rank, choice in enumerate(choices, 1)
    ]
    if neighbours:
        shown = {choice.row.number for choice in choices}
        hits = [
            _widened(hit, choice.row, catalog.neighbours(choice.row, neighbours), neighbours, shown)
            for hit, choice in zip(hits, choices, strict=True)
        ]
    return tuple(hits)


def _place(row: PassageRow) -> tuple[str, int]:
    return row.passage.document_id, row.position


def _room(per_document: int, free: int = 0) -> Callable[[Passage], bool]:
    """Says of passages, best first, whether there is room for each.

    There is for the first ``free``, and for ``per_document`` of each document (0: any number).
    """
    taken = 0
    counts: Counter[str] = Counter()

    def takes(passage: Passage) -> bool:
        nonlocal taken
        counts[passage.document_id] += 1
        room = not per_document or taken < free or counts[passage.document_id] <= per_document
        taken += room
        return room

    return takes


def _source(row: PassageRow) -> Source:
    passage = row.passage
    return Source(
        document_id=passage.document_id,
        path=row.path,
        heading=passage.heading,
        first_line=passage.first_line,
        last_line=passage.last_line,
        first_page=row.first_page,
        last_page=row.last_page,
    )


def _widened(hit: Hit, own: PassageRow, around: Sequence[PassageRow], reach: int, shown: set[int]) -> Hit:
    """``hit`` with its neighbours, but for those shown elsewhere; its own are ``shown`` from then on."""
    places = {row.position: row for row in around}
    taken = {row.position for row in around if row.number in shown and row.number != own.number}
    run_of = run_around(list(places), own.position, reach, taken)
    run = [places[position] for position in run_of]
    shown.update(row.number for row in run)
    passages = [row.passage for row in run]
    text, first_line, last_line = joined(passages, hit.heading)
    own_end = len(joined(passages[: own.position - run_of.start + 1], hit.heading)[0])
    return replace(
        hit,
        text=text,
        first_line=first_line,
        last_line=last_line,
        own_start=own_end - len(hit.text),
        own_end=own_end,
        first_page=None if hit.first_page is None else min(row.first_page or hit.first_page for row in run),
        last_page=None if hit.last_page is None else max(row.last_page or hit.last_page for row in run),
    )
