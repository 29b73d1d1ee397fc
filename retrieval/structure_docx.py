"""Headings and blocks of a Word document (DOCX).

The text has a line for each paragraph, list item and table row, and a blank line between blocks.
Headings are paragraphs whose style has an outline level, whatever its name in whichever language; a
document that uses no such style has its short bold paragraphs for headings, any its questions in bold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from retrieval.docx_styles import MAX_LEVEL, Numbering, Style, heading_level, read_numbering, read_styles
from retrieval.errors import DocumentError
from retrieval.office_package import UNPRINTABLE, WORD, Event, Package, core_title
from retrieval.office_text import MATH, MergedCells, Words
from retrieval.structure import (
    QUESTION_LEVEL,
    Block,
    BlockKind,
    Heading,
    Outlined,
    Outliner,
    answered,
    asks,
    sensible_title,
)

__all__ = ["read"]

HEADING_CHARACTERS = 200
"""A longer paragraph in a heading's style is text, as clauses of a contract are."""
BOLD_CHARACTERS = 100

UNREAD = frozenset("drawing pict object Fallback del moveFrom sectPr sdtPr rt".split())
"""Pictures and text boxes, the second form of the same thing, deleted text, settings, and how a word is read aloud."""
TABLE_TAGS = frozenset("tr tc tblHeader gridBefore gridSpan vMerge".split())
OFF = ("0", "false", "off")
COLUMNS = frozenset(map(str, range(1, 64)))
"""As many as a table of Word's may have."""
BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
CODE_STYLE = re.compile(r"code|preformatted|macro text|verbatim")

Note = tuple[str, str]
"""The part a note is in, and its id."""


@dataclass(slots=True)
class _Paragraph:
    """A paragraph as it is written: its text, style, and numbering."""

    text: str = ""
    style: str = ""
    level: int | None = None
    number: str | None = None
    number_level: int | None = None
    bold: bool = True
    notes: list[Note] = field(default_factory=list)


@dataclass(slots=True)
class _Cell:
    """A cell's paragraphs, the columns it takes, and whether it is merged with the one above it."""

    paragraphs: list[_Paragraph] = field(default_factory=list)
    columns: int = 1
    merged: bool = False


@dataclass(slots=True)
class _Table:
    """The outermost table that is being read, tables within its cells as their text."""

    rows: list[list[_Cell]] = field(default_factory=list)
    depth: int = 0
    heads: int = 0

    def start(self, tag: str, value: str) -> None:
        """Begin a row or a cell, or take what one is said to be."""
        if tag == "tr":
            self.rows.append([])
        elif not self.rows:
            return
        elif tag == "tc":
            self.rows[-1].append(_Cell())
        elif tag == "tblHeader":
            self.heads += self.heads == len(self.rows) - 1 and value not in OFF
        elif tag == "gridBefore" and value in COLUMNS:
            self.rows[-1].append(_Cell(columns=int(value)))
        elif tag == "gridSpan" and value in COLUMNS and self.rows[-1]:
            self.rows[-1][-1].columns = int(value)
        elif tag == "vMerge" and self.rows[-1]:
            self.rows[-1][-1].merged = value != "restart"

    def add(self, paragraph: _Paragraph) -> None:
        """Add a paragraph to the last cell, if it shows anything; its style or list may number it."""
        if self.rows and self.rows[-1] and (paragraph.text or paragraph.style or paragraph.number):
            self.rows[-1][-1].paragraphs.append(paragraph)

    def head(self) -> int:
        """How many rows name the columns: those repeated on each page, or a first one in bold above others."""
        bold = [all(item.bold for cell in row for item in cell.paragraphs if item.text) for row in self.rows[:2]]
        return self.heads or int(bold == [True, False])


def read(name: str, data: bytes) -> Outlined:
    """Return the text and structure of a Word document.

    Raises:
        DocumentError: it cannot be read, or has no text; the message is ``name: reason``.
    """
    package = Package(name, data, WORD)
    parts = package.related()
    main = parts.get("officeDocument", "word/document.xml")
    near = package.related(main)
    styles = read_styles(package.events(near.get("styles", "")))
    numbering = read_numbering(package.events(near.get("numbering", "")))
    notes: dict[Note, str] = {}
    for part in NOTES.values():
        notes.update(_notes(part, package.events(near.get(part, ""))))
    items = list(_body(package.events(main)))
    text, outline = _Writer(styles, numbering, notes).write(items)
    if not text:
        raise DocumentError(f"{name}: has no text")
    title = sensible_title(core_title(package.events(parts.get("core-properties", ""))))
    headings = [item for item in outline if isinstance(item, Heading)]
    if not title and headings:
        title = min(headings, key=lambda item: item.level).text
    return Outlined(title, text, tuple(outline))


def _notes(part: str, events: Iterable[Event]) -> Iterator[tuple[Note, str]]:
    id = ""
    inner: list[Event] = []
    for event in events:
        kind, tag, attributes = event
        if tag in ("footnote", "endnote") and kind != "text":
            if kind == "start":
                id, inner = attributes.get("id", ""), []
            else:
                words = (item.text for item in _body(inner) if isinstance(item, _Paragraph))
                yield (part, id), " ".join(" ".join(words).split())
        else:
            inner.append(event)


def _body(events: Iterable[Event]) -> Iterator[_Paragraph | _Table]:
    """The paragraphs and tables of a part, in order; text boxes and what was deleted are left out."""
    skipped = 0
    paragraph, run = _Paragraph(), _Run()
    table: _Table | None = None
    for kind, tag, attributes in events:
        if kind == "text":
            if not skipped:
                run.text(paragraph, tag)
        elif skipped or tag in UNREAD or tag.endswith("Change"):
            if tag == "del" and run.in_properties:
                paragraph.number = "0"  # it is deleted itself: no item of its list
            skipped += 1 if kind == "start" else -1
        elif tag == "tbl":
            if kind == "start":
                table = table or _Table()
                table.depth += 1
            elif table:
                table.depth -= 1
                if not table.depth:
                    yield table
                    table = None
        elif tag in TABLE_TAGS and table and table.depth == 1:
            if kind == "start":
                table.start(tag, attributes.get("val", ""))
        elif tag == "p":
            if kind == "end":
                paragraph.text = run.shown()
                if table:
                    table.add(paragraph)
                else:
                    yield paragraph
            paragraph, run = _Paragraph(), _Run()
        elif kind == "start":
            run.start(paragraph, tag, attributes)
        else:
            run.end(tag)


@dataclass(slots=True)
class _Run:
    """Where in a paragraph the reading is, in a run's properties or its text, and what was read of it."""

    words: Words = field(default_factory=Words)
    in_properties: bool = False
    in_text: bool = False
    bold: bool = False
    hidden: bool = False
    raised: bool = False

    def text(self, paragraph: _Paragraph, text: str) -> None:
        if self.in_text and not self.hidden:
            self.words.add(text, raised=self.raised)
            paragraph.bold &= self.bold or not text.strip()

    def shown(self) -> str:
        """The text, white space as Word shows it: lines stay, other runs of it become one space."""
        text = UNPRINTABLE.sub("\ufffd", str(self.words).replace("\u00ad", ""))
        lines = (" ".join(line.split()) for line in text.split("\n"))
        return "\n".join(line for line in lines if line)

    def start(self, paragraph: _Paragraph, tag: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("val", "")
        if tag == "r":
            self.bold = self.hidden = self.raised = False
        elif tag == "rPr":
            self.in_properties = True
        elif self.in_properties:
            on = value not in OFF
            self.bold |= tag == "b" and on
            self.hidden |= tag == "vanish" and on
            self.raised |= tag == "vertAlign" and value == "superscript"
        elif tag == "t":
            self.in_text = True
        elif tag in BREAKS:
            self.words.add(BREAKS[tag])
        elif tag in MATH:
            self.words.begin()
        elif tag in NOTES:
            paragraph.notes.append((NOTES[tag], attributes.get("id", "")))
        elif tag == "pStyle":
            paragraph.style = value
        elif tag == "outlineLvl" and value.isdecimal():
            paragraph.level = int(value)
        elif tag == "numId":
            paragraph.number = value
        elif tag == "ilvl" and value.isdecimal():
            paragraph.number_level = int(value)

    def end(self, tag: str) -> None:
        if tag == "rPr":
            self.in_properties = False
        elif tag == "t":
            self.in_text = False
        elif tag in MATH:
            self.words.end(tag)


@dataclass(slots=True)
class _Writer:
    """Paragraphs and tables as they come, made into lines and an outline."""

    styles: dict[str, Style]
    numbering: Numbering
    notes: dict[Note, str]
    outline: Outliner = field(default_factory=Outliner)
    group: list[str] = field(default_factory=list)
    group_kind: BlockKind = "paragraph"
    head: int = 0
    noted: int = 0
    pending: list[str] = field(default_factory=list)
    merged: MergedCells = field(default_factory=MergedCells)

    def write(self, items: Sequence[_Paragraph | _Table]) -> tuple[str, list[Heading | Block]]:
        """Return the text of ``items`` and its outline."""
        styled = any(isinstance(item, _Paragraph) and self._level(item) is not None for item in items)
        for item in items:
            if isinstance(item, _Table):
                self._end_group()
                notes = [note for row in item.rows for cell in row for part in cell.paragraphs for note in part.notes]
                rows = [*map(self._row, item.rows)]
                self._add("table", list(self.merged.lines(rows)), notes, sum(map(any, rows[: item.head()])))
            else:
                self._paragraph(item, bold_headings=not styled)
        self._end_group()
        found = self.outline.items
        if not answered(found):
            found = [*map(_unless_question, found)]
        return "\n".join(self.outline.lines), found

    def _row(self, cells: Sequence[_Cell]) -> list[str | None]:
        """The texts of a row's cells, in their columns."""
        row: list[str | None] = []
        for cell in cells:
            above = cell.merged and not any(item.text for item in cell.paragraphs)
            row += [None if above else self._cell(cell), *[""] * (cell.columns - 1)]
        return row

    def _cell(self, cell: _Cell) -> str:
        labelled = [(self._label(item, self._style(item))[0], item.text) for item in cell.paragraphs]
        return " ".join(word for pair in labelled for text in pair for word in text.split())

    def _style(self, item: _Paragraph) -> Style:
        style = self.styles.get(item.style)
        if style is None:
            return Style(item.style.casefold(), heading_level(item.style.casefold()))
        return style

    def _level(self, item: _Paragraph) -> int | None:
        """The level of a heading: 0 of a title, from 1 of a heading, None of other paragraphs."""
        style = self._style(item)
        if style.name == "title":
            return 0
        level = style.level if item.level is None else item.level
        return level + 1 if level is not None and level < MAX_LEVEL else None

    def _paragraph(self, item: _Paragraph, *, bold_headings: bool) -> None:
        text, style = item.text, self._style(item)
        if style.name.startswith("toc"):
            return
        label, depth = self._label(item, style)
        if not text:
            return
        level = self._level(item)
        if level is None and item.bold and _may_be_heading(text):
            if bold_headings and not label:
                level = 1
            elif asks(text):
                level = QUESTION_LEVEL - 1
        numbered = f"{label} {text}" if label else text
        if level is not None and len(text) <= HEADING_CHARACTERS:
            self._end_group()
            heading = " ".join(numbered.split())
            self.outline.heading(level + 1, heading, self._marks(item.notes))
        elif label and level is None:
            self._add("list", ["  " * depth + " ".join(numbered.split())], item.notes)
        elif CODE_STYLE.search(style.name):
            self._add("code", text.split("\n"), item.notes)
        else:
            self._end_group()
            self._add("paragraph", numbered.split("\n"), item.notes)

    def _label(self, item: _Paragraph, style: Style) -> tuple[str, int]:
        """What Word puts before the paragraph, and the level of its list."""
        number = style.number if item.number is None else item.number
        if number is None:
            return "", 0
        depth = style.number_level if item.number_level is None else item.number_level
        if depth is None:
            depth = self.numbering.level_of(number, item.style)
        depth = min(depth, MAX_LEVEL - 1)
        return self.numbering.label(number, depth), depth

    def _marks(self, notes: Sequence[Note]) -> str:
        """The marks of notes, whose text comes after the block."""
        marks = ""
        for text in filter(None, map(self.notes.get, notes)):
            self.noted += 1
            self.pending.append(f"[{self.noted}] {text}")
            marks += f" [{self.noted}]"
        return marks

    def _add(self, kind: BlockKind, lines: Sequence[str], notes: Sequence[Note], head: int = 0) -> None:
        """Add lines to the list or code they belong to, or begin another block."""
        if kind != self.group_kind:
            self._end_group()
            self.group_kind = kind
        self.head = head
        if lines:
            self.group += [*lines[:-1], lines[-1] + self._marks(notes)]

    def _end_group(self) -> None:
        """Make a block of the lines gathered so far, and of the notes to them."""
        lines, self.group = self.group, []
        self.outline.block(self.group_kind, lines, self.head)
        self.head = 0
        notes, self.pending = self.pending, []
        self.outline.block("paragraph", notes)


def _unless_question(item: Heading | Block) -> Heading | Block:
    """``item``, or the paragraph that a question in bold is where nothing answers it."""
    asked = isinstance(item, Heading) and item.level == QUESTION_LEVEL
    return Block("paragraph", item.text, item.first_line, item.last_line) if asked else item


def _may_be_heading(text: str) -> bool:
    return len(text) <= BOLD_CHARACTERS and "\n" not in text and text[-1] not in ".,;:" and any(map(str.isalpha, text))
