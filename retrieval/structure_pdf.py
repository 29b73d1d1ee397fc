"""Headings and paragraphs of a PDF, made of its lines.

Headings are the document's bookmarks, found again on the pages they point to; where there are none, lines
whose type is larger or heavier than that of the body. The text has a line for each line of a page, so that
each page is a range of lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise, takewhile
from statistics import median

from retrieval.pdf_pages import READABLE, Bookmark, Line, PdfFile, read_pdf
from retrieval.pdf_running_lines import without_running_lines
from retrieval.structure import Block, BlockKind, Heading, Outlined, sensible_title

__all__ = ["read", "structure"]

LARGER = 1.12
"""A heading's type is at least so many times as large as the body's, or bold where the body is not."""
HEADING_CHARACTERS, HEADING_LINES = 160, 3
HEADING_SHARE = 0.3
"""Where more of the text than this would be headings, type says nothing."""
LONGEST_WORD = 64
GAP = 1.3
"""A gap so many times the usual one between lines parts paragraphs."""
FAR_APART = 2.5
"""Lines so many times their size apart are not of one paragraph."""

LIST_ITEM = re.compile(r"(?:[•▪◦‣·●○■□]\s*|[-–*+]\s+|\(?(?:\d{1,3}|[a-z])[.)]\s+)\S")
LEADER = re.compile(r"(?:\. ?){4}|…{2}|_{4}")
"""As in a table of contents, or a form."""
NUMBERING = re.compile(
    r"(?:(?:chapter|part|section|appendix|article)\s+)?(\d{1,3}(?:\.\d{1,3})*)[.:)]?\s", re.IGNORECASE
)
NUMBER_BEFORE = re.compile(r"(?:chapter|part|section|appendix|article)?[a-z]?\d*")
SENTENCE_END = re.compile(r"[.!?:;…][\"'”’)\]]*$")
HYPHENATED = re.compile(r"(?<![^\W\d_])([^\W\d_]+)[-‐\u00ad]$")
HYPHENS_WITHIN = re.compile(r"(?<![^\W\d_])[^\W\d_]+[-‐][^\W\d_]+")


def read(name: str, data: bytes) -> Outlined:
    """Return the text and structure of a PDF.

    Raises:
        DocumentError: it cannot be read, or has no text; the message is ``name: reason``.
    """
    return structure(read_pdf(name, data))


def structure(file: PdfFile) -> Outlined:
    """Return the text and structure of a PDF's lines, without the page numbers and what runs on at the edges."""
    drawn = [page.lines for page in file.pages]
    heading_size, gap = LARGER * _body_style(drawn)[0], GAP * (_usual_gap(drawn) or FAR_APART)
    pages = without_running_lines(drawn, heading_size, gap)
    marks = _bookmarked(pages, [mark for mark in file.bookmarks if sensible_title(mark.title)]) or _by_type(pages)
    writer = _Writer(len(pages), _usual_gap(pages), _hyphened_words(pages))
    for number, lines in enumerate(pages):
        end = 0  # of the last heading
        for index, line in enumerate(lines):
            for mark in marks.get((number, index), ()):
                found = [mark.title] if mark.title else [line.text for line in lines[index : index + mark.count]]
                writer.heading(mark.level, found, number)
                end = max(end, index + mark.count)
            if index >= end:
                writer.line(line, number)
    text, outline, first_lines = writer.finish()
    title = sensible_title(file.title) or _largest_line(pages)
    return Outlined(title, text, outline, first_lines, file.left_out)


def _largest_line(pages: Sequence[Sequence[Line]]) -> str:
    """What stands in the largest type of the first two pages with text, if that is larger than the body's."""
    body = _body_style(pages)[0]
    near = [lines for lines in pages if lines][:2]
    large = [line for lines in near for line in lines if line.size >= LARGER * body and READABLE.search(line.text)]
    if not large:
        return ""
    first = max(large, key=lambda line: line.size)
    lines = next(lines for lines in near if first in lines)
    rest = takewhile(lambda line: _style(line) == _style(first), lines[lines.index(first) :])
    title = " ".join(line.text for line in islice(rest, HEADING_LINES))
    return title if len(title) <= HEADING_CHARACTERS else ""


# Headings


@dataclass(frozen=True, slots=True)
class _Mark:
    """A heading of ``count`` lines from here; with ``title`` it is not on the page and stands before the line."""

    level: int
    count: int
    title: str = ""


_Marks = dict[tuple[int, int], list[_Mark]]
"""Headings by page and index of a line."""


def _bookmarked(pages: Sequence[Sequence[Line]], bookmarks: Sequence[Bookmark]) -> _Marks:
    """The headings that the bookmarks are; none where less than half of them stand on the page they point to."""
    marks: _Marks = {}
    found, page, after = 0, -1, 0
    letters: list[str] = []
    for done, bookmark in enumerate(bookmarks):
        lines = pages[bookmark.page]
        if bookmark.page != page:
            page, after, letters = bookmark.page, 0, [_letters(line.text) for line in lines]
        if 2 * (done - found) > len(bookmarks):
            return {}
        place = _find(letters, bookmark.title, after)
        if place:
            found += 1
            index, count = place
            marks.setdefault((page, index), []).append(_Mark(bookmark.level, count))
            after = index + count
        elif lines:
            top = bookmark.top
            below = (index for index, line in enumerate(lines) if top is not None and line.y <= top and index >= after)
            index = next(below, min(after, len(lines) - 1))
            marks.setdefault((page, index), []).append(_Mark(bookmark.level, 0, bookmark.title))
            after = max(after, index)
    return marks if found and 2 * found >= len(bookmarks) else {}


def _find(lines: Sequence[str], title: str, start: int) -> tuple[int, int] | None:
    """(index, count) of the lines' letters from ``start`` on that read as ``title``, a number before it aside."""
    wanted = _letters(title)
    bare = wanted.lstrip("0123456789")
    if not bare:
        return None
    for index in range(start, len(lines)):
        read = ""
        for count, line in enumerate(lines[index : index + HEADING_LINES], 1):
            read += line
            if len(read) > len(wanted) + 12:
                break
            if read == wanted or (read.endswith(bare) and NUMBER_BEFORE.fullmatch(read.removesuffix(bare))):
                return index, count
    return None


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _by_type(pages: Sequence[Sequence[Line]]) -> _Marks:
    """The headings that larger or heavier type makes; the larger, the further out, and 1.2 is within 1."""
    body, body_bold = _body_style(pages)
    if not body:
        return {}
    runs: list[tuple[int, int, int]] = []
    for number, lines in enumerate(pages):
        start = 0
        for index in range(1, len(lines) + 1):
            if (
                index == len(lines)
                or _style(lines[index]) != _style(lines[index - 1])
                or index - start == HEADING_LINES
            ):
                if _is_heading(lines[start:index], body, body_bold):
                    runs.append((number, start, index - start))
                start = index
    characters = sum(len(line.text) for lines in pages for line in lines)
    inside = sum(len(line.text) for page, start, count in runs for line in pages[page][start : start + count])
    if inside > HEADING_SHARE * characters:
        return {}
    styles = sorted({_style(pages[page][start]) for page, start, _ in runs}, reverse=True)
    rank = {style: place for place, style in enumerate(styles)}
    marks: _Marks = {}
    for page, start, count in runs:
        first = pages[page][start]
        numbered = NUMBERING.match(first.text)
        depth = numbered[1].count(".") if numbered else 0
        marks[page, start] = [_Mark(1 + 10 * rank[_style(first)] + min(depth, 9), count)]
    return marks


def _is_heading(lines: Sequence[Line], body: float, body_bold: bool) -> bool:
    first = lines[0]
    larger = first.size >= LARGER * body
    heavier = first.bold and not body_bold and first.size >= 0.95 * body
    text = " ".join(line.text for line in lines)
    if not (larger or heavier) or len(text) > HEADING_CHARACTERS or not re.search(r"[^\W\d_]{2}", text):
        return False
    if first.mono or LEADER.search(text):
        return False
    return larger or (not text.endswith((".", ",", ";")) and not LIST_ITEM.match(text.replace("1. ", "1 ")))


def _style(line: Line) -> tuple[float, bool]:
    return round(2 * line.size) / 2, line.bold


def _body_style(pages: Sequence[Sequence[Line]]) -> tuple[float, bool]:
    """Size and weight of most of the text; 0 where there is none."""
    characters: Counter[tuple[float, bool]] = Counter()
    for lines in pages:
        for line in lines:
            characters[_style(line)] += len(line.text)
    return max(characters, key=lambda style: characters[style]) if characters else (0.0, False)


# Paragraphs


def _usual_gap(pages: Sequence[Sequence[Line]]) -> float:
    """The usual distance of two lines of one paragraph, in multiples of the type's size; 0 where unknown."""
    gaps = [
        (line.y - after.y) / line.size
        for lines in pages
        for line, after in pairwise(lines)
        if line.size and line.size == after.size and 0.8 < (line.y - after.y) / line.size < FAR_APART
    ]
    return median(gaps) if gaps else 0.0


def _hyphened_words(pages: Sequence[Sequence[Line]]) -> frozenset[str]:
    """Words with a hyphen that stand within a line: these keep it at a line's end."""
    return frozenset(
        match[0].casefold() for lines in pages for line in lines for match in HYPHENS_WITHIN.finditer(line.text)
    )


@dataclass(slots=True)
class _Writer:
    """Lines and headings as they come, made into text and an outline."""

    page_count: int
    usual_gap: float
    hyphened: frozenset[str]
    output: list[str] = field(default_factory=list)
    items: list[Heading | Block] = field(default_factory=list)
    first_lines: dict[int, int] = field(default_factory=dict)
    paragraph: list[tuple[str, int]] = field(default_factory=list)
    before: tuple[Line, int] | None = None

    def heading(self, level: int, lines: Sequence[str], page: int) -> None:
        """Add a heading that stands on ``lines`` of a page (from 0)."""
        self._close()
        first, last = self._put([(line, page) for line in lines])
        self.items.append(Heading(level, " ".join(lines), first, last))

    def line(self, line: Line, page: int) -> None:
        """Add a line of a page (from 0)."""
        if self.paragraph and self.before and not self._goes_on(*self.before, line, page):
            self._close()
        self.paragraph.append((line.text, page))
        self.before = (line, page)

    def finish(self) -> tuple[str, tuple[Heading | Block, ...], tuple[int, ...]]:
        """Return the text, its outline, and the first line of each page."""
        self._close()
        starts = [len(self.output) + 1] * self.page_count
        for page in reversed(range(self.page_count)):
            after = starts[page + 1] if page + 1 < self.page_count else len(self.output) + 1
            starts[page] = self.first_lines.get(page, after)
        return "\n".join(self.output), tuple(self.items), tuple(starts)

    def _goes_on(self, before: Line, page_before: int, line: Line, page: int) -> bool:
        """Whether ``line`` continues the paragraph whose last line is ``before``."""
        is_list = bool(LIST_ITEM.match(self.paragraph[0][0]))
        if abs(line.size - before.size) > 0.1 * before.size or (line.mono != before.mono and not is_list):
            return False
        unfinished = not SENTENCE_END.search(before.text)
        gap = before.y - line.y
        if page != page_before or gap < 0:  # a new page or column
            return unfinished and line.text[0].islower()
        if self.usual_gap and gap > GAP * self.usual_gap * before.size:
            return False
        if LIST_ITEM.match(line.text) and not is_list:
            return False
        indented = before.size < line.x - before.x < 6 * before.size
        return is_list or unfinished or not indented

    def _close(self) -> None:
        """Make a block of the paragraph so far."""
        lines, self.paragraph = self.paragraph, []
        if not lines or not self.before:
            return
        mono = self.before[0].mono and not LIST_ITEM.match(lines[0][0])
        first, last = self._put(lines if mono else list(self._joined(lines)))
        text = "\n".join(self.output[first - 1 : last])
        kind: BlockKind = "list" if LIST_ITEM.match(text) and first < last else "paragraph"
        self.items.append(Block("code" if mono else kind, text, first, last))

    def _joined(self, lines: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """``lines`` with each word that a line's end parted whole on the first of its lines."""
        rest = list(reversed(lines))
        while rest:
            text, page = rest.pop()
            while rest and rest[-1][0][0].islower() and (parted := HYPHENATED.search(text[-LONGEST_WORD:])):
                head, _, tail = rest[-1][0].partition(" ")
                end = re.match(r"[^\W\d_]+", head)
                whole = f"{parted[1]}-{end[0] if end else ''}".casefold()
                text = (text if whole in self.hyphened and not text.endswith("\u00ad") else text[:-1]) + head
                following = rest.pop()[1]
                if tail:
                    rest.append((tail, following))
                    break
            yield text, page

    def _put(self, lines: Sequence[tuple[str, int]]) -> tuple[int, int]:
        """Write lines, a blank one before them; return their numbers."""
        if self.output:
            self.output.append("")
        first = len(self.output) + 1
        for text, page in lines:
            self.output.append(text)
            self.first_lines.setdefault(page, len(self.output))
        return first, len(self.output)
