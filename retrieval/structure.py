"""A document's headings and blocks, found by a real parser where there is one for its format.

Each format has a module that turns text into headings and blocks in reading order
(``structure_markdown``, ``structure_rst``, ``structure_asciidoc``, ``structure_html``, ``structure_text``); here
they become sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from retrieval.documents import Document, Format, Skipped, defect
from retrieval.errors import DocumentError
from retrieval.words import QUESTION_MARKS

__all__ = [
    "LABELLED",
    "QUESTION_CHARACTERS",
    "QUESTION_LEVEL",
    "Block",
    "BlockKind",
    "Heading",
    "Outlined",
    "Outliner",
    "Section",
    "answered",
    "asks",
    "first_heading",
    "sections",
    "sections_or_skip",
    "sensible_title",
    "source_block",
]

BlockKind = Literal["paragraph", "code", "table", "list"]
TITLE_CHARACTERS = 200
QUESTION_LEVEL = 11
"""The level of questions that are no headings where they stand, but in bold or the like: below any other."""
QUESTION_CHARACTERS = 300
LABELLED = re.compile(r"^\s*q(?:uestion)?\s*\d{0,3}\s*[:.)]\s*", re.IGNORECASE)
"""What a question has a mark of its own by, as its answer has: "Q:" and "A:"."""
HEADING_CHARACTERS = 1000
"""A longer heading is a paragraph: it would be repeated in each of its passages."""
TITLE_LINES = 200
"""A title is looked for in so many lines before the whole document is parsed for it."""

NOT_A_TITLE = re.compile(
    r"(?:untitled|microsoft \w+ - |powerpoint presentation|slide \d+$|document\d*$)|.*\.(?:docx?|pptx?|xlsx?|indd|tex|"
    r"dvi|pdf|html?|rtf|odt|txt|qxd|fm|ai)$",
    re.IGNORECASE,
)
"""What programs write for a title where nobody gave one, and file names."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading as plain text, its level (1 is outermost) and its 1-based lines, underline included."""

    level: int
    text: str
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, code block, table or list, as it reads, with its 1-based lines in the file.

    ``spans`` has the (first, last) line in the file of each line of ``text``; it is empty where
    they follow one another from ``first_line``, as they do in a slice of the source. The first ``head`` lines
    of a table name its columns.
    """

    kind: BlockKind
    text: str
    first_line: int
    last_line: int
    spans: tuple[tuple[int, int], ...] = ()
    head: int = 0

    def lines_of(self, start: int, end: int) -> tuple[int, int]:
        """Return the first and last line in the file of lines ``start`` to ``end`` (from 0, inclusive) of the text."""
        if self.spans:
            return self.spans[start][0], self.spans[end][1]
        return self.first_line + start, self.first_line + end


@dataclass(frozen=True, slots=True)
class Section:
    """A heading path and the blocks under its last heading (not those of its sub-headings).

    ``heading`` runs from the outermost heading to this one, as plain text without markup; it is
    () for text before any heading. ``first_line``/``last_line`` cover heading and blocks.
    """

    document_id: str
    heading: tuple[str, ...]
    blocks: tuple[Block, ...]
    first_line: int
    last_line: int

    @property
    def text(self) -> str:
        """The blocks, one blank line apart."""
        return "\n\n".join(block.text for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Outlined:
    """What is read of a format whose structure is not in its text: the text, and headings and blocks by its lines.

    ``title`` is "" where there is none. ``pages`` has the first line of each page, in formats that have
    pages. ``left_out`` says what of the file could not be read.
    """

    title: str
    text: str
    outline: tuple[Heading | Block, ...]
    pages: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(slots=True)
class Outliner:
    """Puts headings and blocks into a text, a blank line before each, and notes the lines that they take."""

    lines: list[str] = field(default_factory=list)
    items: list[Heading | Block] = field(default_factory=list)

    def heading(self, level: int, text: str, marks: str = "") -> None:
        """Add a heading; ``marks`` follow it in the text alone."""
        self.items.append(Heading(level, text, *self._put([text + marks])))

    def block(self, kind: BlockKind, lines: Sequence[str], head: int = 0) -> None:
        """Add a block, if it has lines."""
        if lines:
            self.items.append(Block(kind, "\n".join(lines), *self._put(lines), head=head))

    def _put(self, lines: Sequence[str]) -> tuple[int, int]:
        """Write lines; return the first's and the last's number."""
        if self.lines:
            self.lines.append("")
        self.lines += lines
        return len(self.lines) - len(lines) + 1, len(self.lines)


def sections(document: Document) -> list[Section]:
    """Return ``document``'s sections in reading order; each has a heading, or blocks, or both.

    Raises:
        DocumentError: the document is nested too deeply to be parsed.
    """
    if document.first_line is not None:
        return _record_sections(document)
    if document.format == "outlined":
        return _assemble(document.id, document.outline)
    return _assemble(document.id, _outline(document.text, document.format, document.id))


def sections_or_skip(document: Document) -> list[Section] | Skipped:
    """As ``sections``, but a document that cannot be parsed is an entry of what was left out."""
    try:
        return sections(document) or Skipped(document.path, "no text")
    except DocumentError as error:
        return Skipped(document.path, str(error).removeprefix(f"{document.id}: "))
    except Exception as error:
        return Skipped(document.path, defect(error))


def first_heading(text: str, format: Format) -> str:
    """Return the first heading of level 1, else an HTML page's <title>, else "".

    Raises:
        DocumentError: the text is nested too deeply to be parsed.
    """
    if format == "html":
        from retrieval.structure_html import page_title

        return page_title(text)
    lines = text.split("\n")
    heads = ["\n".join(lines[:TITLE_LINES])] if len(lines) > TITLE_LINES else []
    for part in [*heads, text]:
        for item in _outline(part, format, "the document"):
            if isinstance(item, Heading) and item.level == 1:
                return item.text
    return ""


def sensible_title(title: str) -> str:
    """Return a title found in a file's properties if a person may have given it, else ""."""
    letters = re.findall(r"[^\W\d_]", title)
    return title if len(letters) > 1 and len(title) <= TITLE_CHARACTERS and not NOT_A_TITLE.match(title) else ""


def asks(text: str) -> bool:
    """Whether a text in bold may be a question of an FAQ; one after "Q:" stays where it is."""
    worded = len(text) <= QUESTION_CHARACTERS and any(map(str.isalpha, text))
    return worded and text.endswith(QUESTION_MARKS) and not LABELLED.match(text)


def answered(items: Sequence[Heading | Block]) -> bool:
    """Whether the questions in bold among ``items`` are two at least, and each has an answer before the next."""
    below = [
        after for item, after in pairwise([*items, None]) if isinstance(item, Heading) and item.level == QUESTION_LEVEL
    ]
    return len(below) > 1 and all(isinstance(item, Block) for item in below)


def source_block(kind: BlockKind, lines: Sequence[str], start: int, end: int) -> Block | None:
    """Return the slice ``lines[start:end]`` (from 0) of a file as a block, blank lines at its ends left out."""
    while start < end and not lines[start].strip():
        start += 1
    while start < end and not lines[end - 1].strip():
        end -= 1
    if start == end:
        return None
    return Block(kind, "\n".join(lines[start:end]), start + 1, end)


def _outline(text: str, format: Format, name: str) -> Sequence[Heading | Block]:
    try:
        return _parsed(text, format)
    except RecursionError:
        raise DocumentError(f"{name}: nested too deeply to be parsed as {format}; split or simplify it") from None


@lru_cache(maxsize=1)  # a document is parsed for its title, and right after that for its sections
def _parsed(text: str, format: Format) -> Sequence[Heading | Block]:
    if format == "markdown":
        from retrieval import structure_markdown

        return structure_markdown.outline(text)
    if format == "rst":
        from retrieval import structure_rst

        return structure_rst.outline(text)
    if format == "asciidoc":
        from retrieval import structure_asciidoc

        return structure_asciidoc.outline(text)
    if format == "html":
        from retrieval import structure_html

        return structure_html.outline(text)
    from retrieval import structure_manual, structure_text

    return structure_manual.outline(text) if structure_manual.is_manual_page(text) else structure_text.outline(text)


def _assemble(document_id: str, items: Iterable[Heading | Block]) -> list[Section]:
    found: list[Section] = []
    path: list[Heading] = []
    blocks: list[Block] = []

    def close() -> None:
        heading = path[-1] if path else None
        if not heading and not blocks:
            return
        lines = [(block.first_line, block.last_line) for block in blocks]
        if heading:
            lines.append((heading.first_line, heading.last_line))
        first, last = min(line for line, _ in lines), max(line for _, line in lines)
        found.append(Section(document_id, tuple(item.text for item in path), tuple(blocks), first, last))
        blocks.clear()

    for item in items:
        if isinstance(item, Block):
            blocks.append(item)
        elif len(item.text) > HEADING_CHARACTERS:
            lines = (item.first_line, item.last_line)
            blocks.append(Block("paragraph", item.text, *lines, spans=(lines,)))
        elif item.text:
            close()
            while path and path[-1].level >= item.level:
                path.pop()
            path.append(item)
    close()
    return found


def _record_sections(document: Document) -> list[Section]:
    from retrieval import structure_text

    first = document.first_line or 1
    last = document.last_line or first
    blocks = tuple(
        Block(block.kind, block.text, first, last, ((first, last),) * (block.text.count("\n") + 1))
        for block in structure_text.paragraphs(document.text)
    )
    heading = (document.title,) if document.title else ()
    return [Section(document.id, heading, blocks, first, last)] if heading or blocks else []
