"""From a ranking to hits: duplicates collapsed, the best reranked, documents kept apart, neighbours joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter

from retrieval.catalog import PassageRow
from retrieval.duplicates import distinct
from retrieval.errors import ModelError
from retrieval.neighbours import joined, run_around
from retrieval.stores import Passages
from retrieval.workspace import SearchSettings

__all__ = ["Hit", "Judge", "Source", "choose", "make_hits"]

LOOK_AHEAD = 5
"""Candidates past the last place that are looked at for duplicates of what is shown."""

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

    ``first_page`` and ``last_page`` count from 1; they are None in formats without pages. ``also``
    are the candidates that say the same, best first. ``score`` is the one that ``rank`` goes by:
    the reranker's where there is one. Where neighbours are shown with the passage, text, lines and
    pages are those of all together; ``id`` and ``heading`` stay its own.
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


@dataclass(frozen=True, slots=True)
class Choice:
    """A passage that is to be a hit, its score, and the passages that say the same."""

    row: PassageRow
    score: float
    also: tuple[PassageRow, ...]


def choose(
    catalog: Passages,
    numbers: Sequence[int],
    scores: Sequence[float],
    top_k: int,
    settings: SearchSettings,
    judge: Judge | None = None,
) -> tuple[list[Choice], str]:
    """Choose up to ``top_k`` of the ranked passages, best first.

    With ``judge``, the best ``settings.rerank_candidates`` are put in the order of its scores, and
    only those can be hits.

    Returns:
        The choices, and "" or why the judge was not heard.

    Raises:
        IndexingError: the catalogue is damaged.
    """
    if judge is None:
        return _distinct(catalog, numbers, scores, top_k, settings, settings.per_document), ""
    choices = _distinct(catalog, numbers, scores, max(top_k, settings.rerank_candidates), settings, 0)
    degraded = ""
    try:
        judged = judge([choice.row.passage.embedded_text for choice in choices]) if choices else []
    except ModelError as error:
        degraded = f"not reranked: {error}"
    else:
        choices = [replace(choice, score=score) for choice, score in zip(choices, judged, strict=True)]
        choices.sort(key=lambda choice: -choice.score)
    return _spread(choices, settings.per_document)[:top_k], degraded


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
            also=tuple(map(_source, choice.also)),
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


def _distinct(
    catalog: Passages,
    numbers: Sequence[int],
    scores: Sequence[float],
    wanted: int,
    settings: SearchSettings,
    per_document: int,
) -> list[Choice]:
    """The best ``wanted`` passages that say different things, ``per_document`` at most of each document."""
    look_at = wanted + LOOK_AHEAD if settings.collapse_duplicates else wanted
    while True:
        # A passage's number says when it came, so equal ones would stand as the index came about.
        end = look_at
        while 0 < end < len(numbers) and scores[end] == scores[end - 1]:
            end += 1
        some = numbers[:end]
        found = catalog.passages(some)
        equal = groupby(zip(some, scores, strict=False), key=itemgetter(1))
        rows = [row for _, run in equal for row in sorted((found[number] for number, _ in run), key=_place)]
        groups = distinct([row.passage for row in rows]) if settings.collapse_duplicates else None
        choices = [
            Choice(rows[first], scores[first], tuple(rows[place] for place in others))
            for first, *others in groups or ([place] for place in range(len(rows)))
        ]
        choices = _spread(choices, per_document)
        if len(choices) >= wanted or look_at >= len(numbers):
            return choices[:wanted]
        look_at *= 2


def _place(row: PassageRow) -> tuple[str, int]:
    return row.passage.document_id, row.position


def _spread(choices: list[Choice], per_document: int) -> list[Choice]:
    """``choices`` without those of a document that has ``per_document`` better ones (0: any number)."""
    if not per_document:
        return choices
    counts: dict[str, int] = {}
    kept = []
    for choice in choices:
        document = choice.row.passage.document_id
        counts[document] = counts.get(document, 0) + 1
        if counts[document] <= per_document:
            kept.append(choice)
    return kept


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
    run = [places[position] for position in run_around(list(places), own.position, reach, taken)]
    shown.update(row.number for row in run)
    text, first_line, last_line = joined([row.passage for row in run], hit.heading)
    return replace(
        hit,
        text=text,
        first_line=first_line,
        last_line=last_line,
        first_page=None if hit.first_page is None else min(row.first_page or hit.first_page for row in run),
        last_page=None if hit.last_page is None else max(row.last_page or hit.last_page for row in run),
    )
