"""What runs on from page to page of a PDF: headers, footers and page numbers.

What stands at a page's edge may be text, and text that is left out is lost: what might be either is kept.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from retrieval.pdf_pages import Line

__all__ = ["without_running_lines"]

EDGE_ROWS = 3
"""Running headers and footers are looked for among so many rows at either end of a page."""
RUNNING_PAGES, NEIGHBOURS = 3, 8
"""On so many pages a row must recur to be a running one, none further off than so many pages."""
SAME_HEIGHT = 4.0
"""Rows whose heights round to the same multiple of so many points are at the same height."""
FARTHEST, FARTHEST_IN_WORDS = 900, 100
"""A page number is at most so far from the page's place in the file (2024 is a year), less among words (Room 101)."""

EDGE_NUMBER = re.compile(r"^\W*(\d{1,4})\b(?!\.\d)|(?<![\d.])\b(\d{1,4})\W*$")
PAGE = r"(?:page|p[aá]g(?:ina)?|seite|sida|side|strona|стр(?:аница)?|p(?=\.))\.?:? ?"
OF = r"(?:/|of|von|van|de|di|z|из) ?"
PAGE_NUMBER = re.compile(rf"\W*(?:{PAGE})?(\d{{1,4}})\W*(?:{OF}\d{{1,4}}\W*)?", re.IGNORECASE)
NAMED_PAGE = re.compile(rf"^[ivxlc]+$|\b{PAGE}(?:[ivxlc]+$|\d{{1,4}}\b(?: ?{OF}\d{{1,4}}\b)?)")
NAMED_NUMBER = re.compile(r"([^\W\d_]{2,}) ?\d{1,4}\W*")
LABELLED_NUMBER = re.compile(r"(?:[:=#]|\bn[or]\.?) ?\d{1,4}\W*$", re.IGNORECASE)
"""As in "Exhibit 4" or "Weight: 351": it may be a page's where other rows show that pages are counted there.

It is a page's, too, where it goes on under another name, or is a line of its own beside the one word.
"""


def without_running_lines(pages: Sequence[Sequence[Line]], heading_size: float, gap: float) -> list[list[Line]]:
    """Return the lines of each page but those that run on at its edges and are smaller than ``heading_size``.

    A row runs where it recurs at its height, nothing but such rows lies beyond it, and more than ``gap`` times the
    size of its type parts it from the text.
    """
    running: list[set[int]] = [set() for _ in pages]
    for top in (True, False):
        rows = [_rows(lines, top) for lines in pages]
        recurring = _recurring([found[: min(EDGE_ROWS, len(found) // 2)] for found in rows])
        for page, (found, heights) in enumerate(zip(rows, recurring, strict=True)):
            count = next((place for place, row in enumerate(found) if row.height not in heights), 0)
            while count and found[count - 1].distance(found[count]) <= gap:
                count -= 1
            running[page].update(index for row in found[:count] for index in row.lines)
    return [
        [line for index, line in enumerate(lines) if index not in runs or line.size >= heading_size]
        for lines, runs in zip(pages, running, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Row:
    """The lines at one height of a page, by their index."""

    height: int
    lines: tuple[int, ...]
    text: str
    y: float
    size: float
    name: str
    """The one word that a line of it has before a number, which may be that of what the page is about."""

    def distance(self, other: _Row) -> float:
        """How far apart two rows are, in multiples of the larger one's size."""
        return abs(self.y - other.y) / (max(self.size, other.size) or 1.0)


def _rows(lines: Sequence[Line], top: bool) -> list[_Row]:
    """A page's rows, from its top or from its bottom on."""
    by_height: dict[int, list[int]] = {}
    for index, line in enumerate(lines):
        by_height.setdefault(round(line.y / SAME_HEIGHT), []).append(index)
    return [
        _Row(
            height,
            tuple(found),
            " ".join(lines[index].text for index in found),
            lines[found[0]].y,
            max(lines[index].size for index in found),
            next((match[1] for index in found if (match := NAMED_NUMBER.fullmatch(lines[index].text))), ""),
        )
        for height, found in sorted(by_height.items(), reverse=top)
    ]


def _recurring(edges: Sequence[Sequence[_Row]]) -> list[set[int]]:
    """The heights of each page's edge at which a row recurs, or counts the pages, as most do there."""
    alike: dict[tuple[int, str | int], list[int]] = {}
    counted: dict[tuple[int, int], dict[str, list[int]]] = {}
    standing: dict[int, list[int]] = {}
    recurring: dict[int, list[int]] = {}
    for page, rows in enumerate(edges):
        for row in rows:
            standing.setdefault(row.height, []).append(page)
            alike.setdefault((row.height, _pattern(row.text)), []).append(page)
            for offset in () if LABELLED_NUMBER.search(row.text) else _offsets(row.text, page):
                counted.setdefault((row.height, offset), {}).setdefault(row.name, []).append(page)
    for mark, names in counted.items():
        unnamed = names.get("", [])
        chapters = sum(len(found) >= RUNNING_PAGES for name, found in names.items() if name) > 1
        alike[mark] = sorted(chain.from_iterable(names.values())) if chapters else unnamed
    for page, rows in enumerate(edges):
        for row in rows:
            marks: tuple[str | int, ...] = (_pattern(row.text), *_offsets(row.text, page))
            if any(_near(alike.get((row.height, mark), ()), page) >= RUNNING_PAGES for mark in marks):
                recurring.setdefault(row.height, []).append(page)

    def runs(page: int, row: _Row) -> bool:
        number = PAGE_NUMBER.fullmatch(row.text)
        if number and int(number[1]) == page + 1:
            return True
        often = recurring.get(row.height, ())
        recurs = bisect_right(often, page) > bisect_left(often, page)
        return recurs and 2 * _near(often, page) >= _near(standing[row.height], page)

    return [{row.height for row in rows if runs(page, row)} for page, rows in enumerate(edges)]


def _near(pages: Sequence[int], page: int) -> int:
    """How many of ``pages``, in order, are neighbours of ``page``, itself among them."""
    return bisect_right(pages, page + NEIGHBOURS) - bisect_left(pages, page - NEIGHBOURS)


def _offsets(text: str, page: int) -> set[int]:
    """How far the numbers that a row begins or ends with are from ``page``, where they may be its number."""
    farthest = FARTHEST if PAGE_NUMBER.fullmatch(text) else FARTHEST_IN_WORDS
    offsets = {int(first or last) - page for first, last in EDGE_NUMBER.findall(text)}
    return {offset for offset in offsets if abs(offset) <= farthest}


def _pattern(text: str) -> str:
    """``text`` with what says itself that it is a page number made alike on all pages."""
    return NAMED_PAGE.sub("#", text.casefold())
