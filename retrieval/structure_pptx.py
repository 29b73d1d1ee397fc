"""Headings and blocks of a PowerPoint presentation (PPTX).

Each slide is a section under its title, and a page. The text has a line for each paragraph and table
row, those of the speaker's notes after those of the slide, and a blank line between blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from retrieval.errors import DocumentError
from retrieval.office_package import POWERPOINT, UNPRINTABLE, Event, Package, core_title
from retrieval.office_text import MATH, MergedCells, Words
from retrieval.structure import Outlined, Outliner, sensible_title

__all__ = ["read"]

TITLE_CHARACTERS = 100
"""A slide without a title has its first paragraph for one when it has at most so many."""
TITLES = ("title", "ctrTitle")
TRUE = ("1", "true")
LEVELS = tuple("012345678")
FURNITURE = frozenset("dt ftr hdr sldNum sldImg".split())
"""Placeholders of date, footer, header, number, and of the slide above its notes."""
UNREAD = frozenset("Fallback extLst".split())
"""The second form of the same thing, and what programs keep for themselves."""


@dataclass(slots=True)
class _Shape:
    """A shape with text, or a table: the placeholder it fills, its paragraphs by their level, its rows of cells.

    A cell that is None is merged with the one above it; where there is a ``head``, the first row names the columns.
    """

    placeholder: str = ""
    paragraphs: list[tuple[int, str]] = field(default_factory=list)
    rows: list[list[str | None]] = field(default_factory=list)
    head: bool = False


def read(name: str, data: bytes) -> Outlined:
    """Return the text and structure of a presentation; slides that are not shown are left out.

    Raises:
        DocumentError: it cannot be read, or has no text; the message is ``name: reason``.
    """
    package = Package(name, data, POWERPOINT)
    parts = package.related()
    main = parts.get("officeDocument", "ppt/presentation.xml")
    writer = _Writer()
    unshown = 0
    read: set[str] = set()
    for number, part in enumerate(_slides(package, main), 1):
        shown, shapes = _slide(package, part, read)
        writer.page()
        if shown:
            writer.slide(number, shapes, _notes(package, part, read))
        else:
            unshown += 1
    if not writer.outline.lines:
        raise DocumentError(f"{name}: {'none of its slides is shown' if unshown else 'has no text'}")
    title = sensible_title(core_title(package.events(parts.get("core-properties", "")))) or writer.title
    left_out = (f"slides that are not shown: {unshown}",) if unshown else ()
    return Outlined(title, "\n".join(writer.outline.lines), tuple(writer.outline.items), tuple(writer.pages), left_out)


def _slides(package: Package, main: str) -> Iterator[str]:
    """The parts of the slides, in the order in which they are shown, each once."""
    by_id = package.related_by_id(main)
    # Sections list slides too, by ids that are no relations.
    tags = package.events(main)
    listed = [attributes["r:id"] for kind, tag, attributes in tags if tag == "sldId" and "r:id" in attributes]
    yield from dict.fromkeys(by_id.get(id, "") for id in listed)


def _slide(package: Package, part: str, read: set[str]) -> tuple[bool, list[_Shape]]:
    """Whether a slide is shown, and its shapes; a diagram's text is a part that it refers to, ``read`` once."""
    by_id = package.related_by_id(part)
    shown, shapes = True, []
    for item in _shapes(package.events(part)):
        if isinstance(item, _Shape):
            shapes.append(item)
        elif item[0] == "sld":
            shown = item[1].get("show") not in ("0", "false")
        else:
            diagram = by_id.get(item[1].get("r:dm", ""), "")
            if diagram in read:
                continue
            read.add(diagram)
            points = (shape.paragraphs for shape in _shapes(package.events(diagram), "pt") if isinstance(shape, _Shape))
            shapes.append(_Shape(paragraphs=[*chain.from_iterable(points)]))
    return shown, shapes


def _notes(package: Package, part: str, read: set[str]) -> list[str]:
    """What the speaker is to say."""
    notes = package.related(part).get("notesSlide", "")
    if notes in read:
        return []
    read.add(notes)
    shapes = [shape for shape in _shapes(package.events(notes)) if isinstance(shape, _Shape)]
    return [text for shape in shapes if shape.placeholder == "body" for _, text in shape.paragraphs]


def _shapes(events: Iterable[Event], element: str = "sp") -> Iterator[_Shape | tuple[str, Mapping[str, str]]]:
    """The shapes that have text, in order; and tags that tell more: of the slide, and of diagrams elsewhere."""
    shape = _Shape()
    level, words, in_text, raised, skipped = 0, Words(), False, False, 0
    for kind, tag, attributes in events:
        if kind == "text":
            if in_text and not skipped:
                words.add(tag, raised=raised)
        elif skipped or tag in UNREAD:
            skipped += 1 if kind == "start" else -1
        elif kind == "start":
            if tag in (element, "tbl"):
                shape = _Shape()
            elif tag in ("sld", "relIds"):
                yield tag, attributes
            elif tag == "ph":
                shape.placeholder = attributes.get("type", "body")
            elif tag == "tblPr":
                shape.head = attributes.get("firstRow") in TRUE
            elif tag == "tr":
                shape.rows.append([])
            elif tag == "tc" and shape.rows:
                shape.rows[-1].append(None if attributes.get("vMerge") in TRUE else "")
            elif tag == "p":
                level, words = 0, Words()
            elif tag == "pPr" and attributes.get("lvl") in LEVELS:
                level = int(attributes["lvl"])
            elif tag in ("br", "tab"):
                words.add(" ")
            elif tag in MATH:
                words.begin()
            elif tag == "r":
                raised = False
            elif tag == "rPr":
                raised = attributes.get("baseline", "").rstrip("%").lstrip("0").isdecimal()
            in_text = tag == "t"
        elif tag == "t":
            in_text = False
        elif tag in MATH:
            words.end(tag)
        elif tag == "p":
            text = " ".join(UNPRINTABLE.sub(" ", str(words).replace("\u00ad", "")).split())
            if text and shape.rows and shape.rows[-1]:
                shape.rows[-1][-1] = f"{shape.rows[-1][-1] or ''} {text}".strip()
            elif text:
                shape.paragraphs.append((level, text))
        elif tag in (element, "tbl"):
            if shape.placeholder not in FURNITURE and (shape.paragraphs or any(map(any, shape.rows))):
                yield shape
            shape = _Shape()


@dataclass(slots=True)
class _Writer:
    """Slides as they come, made into lines and an outline."""

    outline: Outliner = field(default_factory=Outliner)
    pages: list[int] = field(default_factory=list)
    title: str = ""
    merged: MergedCells = field(default_factory=MergedCells)

    def page(self) -> None:
        """Begin a page where the next line will be."""
        written = len(self.outline.lines)
        self.pages.append(written + (2 if written else 1))

    def slide(self, number: int, shapes: list[_Shape], notes: list[str]) -> None:
        """Add a slide: its title, whatever stands before it, then the shapes in their order, then the notes."""
        titles = [shape for shape in shapes if shape.placeholder in TITLES]
        others = [shape for shape in shapes if shape.placeholder not in TITLES]
        title = " ".join(text for shape in titles for _, text in shape.paragraphs)
        if not title and others and others[0].paragraphs and len(others[0].paragraphs[0][1]) <= TITLE_CHARACTERS:
            title = others[0].paragraphs.pop(0)[1]
        if not title and not others and not notes:
            return
        self.title = self.title or sensible_title(title)
        title = title or f"Slide {number}"
        self.outline.heading(1, title)
        for shape in others:
            head = sum(map(any, shape.rows[: shape.head]))
            self.outline.block("table", list(self.merged.lines(shape.rows)), head)
            lines = ["  " * level + text for level, text in shape.paragraphs]
            self.outline.block("list" if len(lines) > 1 else "paragraph", lines)
        for text in notes:
            self.outline.block("paragraph", [text])
