"""Headings and blocks of HTML, by the standard library's parser, which knows the line of everything it reads."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import lru_cache

from retrieval.boilerplate import Link, Place, Region, Shown, content, kind_of, skips
from retrieval.html_elements import (
    BLOCKS,
    CELLS,
    HEADINGS,
    LISTS,
    SECTIONING,
    TABLE_PARTS,
    UNCLOSED,
    UNREAD,
    VOID,
    Within,
)
from retrieval.html_hidden import Attributes, Position, Tolerant, is_hidden, revealed
from retrieval.html_lists import List
from retrieval.html_tables import EMPTY, Cell, Line, Table, spans
from retrieval.html_words import Words, asked
from retrieval.structure import Block, BlockKind, Heading

__all__ = ["outline", "page_title", "pieces", "reading"]

DEEPEST_LIST = 20
"""Lists further within others are not indented further: lines would grow with each."""
PERMALINKS = ("#", "¶", "§", "🔗", "\uf0c1")
"""What a heading's link to itself shows."""

MACHINERY = frozenset(
    "headerlink hash-link viewcode-link mw-editsection mw-jump-link mw-cite-backlink footnote-backref linenos lineno "
    "lnt rouge-gutter".split()
)
"""Classes of what belongs to no text: links to a heading itself, to the source, to edit, back from a footnote, and line
numbers."""
CODE_TABLES = frozenset(("highlighttable", "rouge-table", "lntable"))
"""Classes of tables that place line numbers beside code."""
TOLD = "mwe-math-mathml-a11y"
"""The class of formulas that MediaWiki hides from eyes, which see an image."""
SOFT_HYPHEN = "\xad"
"""Where a word may be broken: it is seen only where one is."""
SHOWN = ("html", "body", "main", "dt", "dd", "option")
"""Never taken for hidden: pages, and answers that unfold."""
ALTERNATIVE = "/"
"""What stands between words of which a page would show either."""
APART = ("navigation", "search", "contentinfo")
"""Roles of what is beside a page's content."""


def outline(text: str) -> list[Heading | Block]:
    """Return the headings and blocks of a page's content; see ``boilerplate`` for what that is.

    Scripts, navigation, footers and what is hidden are left out. Words are as a person reads them, entities
    decoded; line breaks are the source's.
    """
    return content(_parse(text).shown())


def page_title(text: str) -> str:
    """Return the first h1 of a page's content, else its <title>, else "".

    Of several h1 the first may be one part of many ("NAME"), in capitals that the <title> has not: then it is that.
    """
    shown = _parse(text).shown()
    tops = [item.text for item in content(shown) if isinstance(item, Heading) and item.level == 1]
    if len(tops) > 1 and tops[0].isupper() and shown.title and tops[0].casefold() not in shown.title.casefold():
        return shown.title
    return next(iter(tops), shown.title)


def reading(text: str) -> str:
    """Return what a person reads of a piece of HTML, blocks one blank line apart."""
    return "\n\n".join(item.text for item in pieces(text))


def pieces(text: str, line: int = 1) -> list[Heading | Block]:
    """Return the headings and blocks of HTML that is no page, and has no furniture; it begins on ``line``."""
    return _parse(text, line).items


@lru_cache(maxsize=1)  # a page is parsed for its title, and right after that for its outline
def _parse(text: str, line: int = 1) -> _Page:
    # No tag ends after the last ">": the parser would look for an end from every "<" anew.
    end = text.rfind(">") + 1
    page = _Page(len(text), revealed(text[:end], line))
    page.lineno = line
    page.feed(text[:end])
    page.close()
    page.handle_data(text[end:])
    page.end_block()
    page.end_group()
    return page


class _Page(Tolerant):
    """Headings and blocks as they go by; where blocks begin and end, tags need not be balanced."""

    def __init__(self, length: int, revealed: Mapping[Position, bool]) -> None:
        # References are decoded here: decoded by the parser, a run's lines could not be counted.
        super().__init__(convert_charrefs=False)
        self.revealed = revealed
        self.items: list[Heading | Block] = []
        self.regions: list[Region] = []
        self.open_regions: dict[str, list[Region]] = {}
        self.terms: list[int] = []
        self.in_term = False
        self.term: int | None = None
        self.asking: list[int] = []
        self.meanings: dict[int, int] = {}
        self.in_meaning = False
        self.links: list[Link] = []
        self.target: str | None = None
        self.link_text: list[str] = []
        self.characters = 0
        self.link_characters = 0
        self.title: list[str] = []
        self.in_title = False
        self.words = Words()
        self.heading = 0
        self.permalink = False
        self.pre = 0
        self.lists: list[List] = []
        self.mark = ""
        self.row: list[Cell] | None = None
        self.cell: tuple[int, int] | None = None
        self.names = False
        self.layouts: list[bool] = []
        self.table = Table(length)
        self.list_lines: list[Line] = []
        self.unread: Within | None = None
        self.mains = 0
        self.sectioning = 0

    # What the parser calls

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        """See ``HTMLParser``."""
        if self.unread and not self.unread.ends_before(tag):
            return
        self.unread = None
        if self._is_unread(tag, dict(attrs)):
            if tag in CELLS and self.row is not None:
                self._end_cell()
                self.row.append(Cell(EMPTY, *spans(dict(attrs)), hidden=True))
            self.unread = Within(tag)
            return
        if (
            self.revealed.get(self.getpos())
            and tag not in BLOCKS
            and any(line.text.strip() for line in self.words.lines)
        ):
            self._add(ALTERNATIVE, self.getpos()[0])
        self._begin_region(tag, dict(attrs))
        self.words.begin(tag, self.getpos()[0], raises=not self.pre and self.target is None)
        if tag == "title":
            self.in_title = not self.title
        elif tag == "a":
            self._end_link()
            self.target = dict(attrs).get("href")
            self.permalink = (self.target or "").startswith("#")
        elif tag in HEADINGS or tag in BLOCKS:
            self._begin(tag, dict(attrs))
        self.sectioning += tag in SECTIONING

    def handle_endtag(self, tag: str) -> None:
        """See ``HTMLParser``."""
        if self.unread:
            if not self.unread.ends_at(tag):
                return
            own, self.unread = tag == self.unread.tag, None
            if own:
                return
        self.words.end(tag)
        if tag == "title":
            self.in_title = False
        elif tag == "a":
            self.permalink = False
            self._end_link()
        elif tag in HEADINGS or tag in BLOCKS:
            self._end(tag)
        if tag in SECTIONING:
            self.sectioning = max(0, self.sectioning - 1)
        self._end_region(tag)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        """See ``HTMLParser``: ``<p/>`` starts a p, as in every browser, but XHTML's ``<br/>`` has no end."""
        self.handle_starttag(tag, attrs)
        if (self.unread and self.unread.tag == tag) or self.words.in_formula:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        """See ``HTMLParser``."""
        if self.unread or (self.words.in_formula and not data.strip()):
            return
        if self.in_title:
            self.title.append(data)
            return
        first = self.getpos()[0]
        for offset, part in enumerate(data.split("\n")):
            if offset:
                self.words.new_line(first + offset)
            self._add(part, first + offset)

    def handle_entityref(self, name: str) -> None:
        """See ``HTMLParser``."""
        self._reference(f"&{name};")

    def handle_charref(self, name: str) -> None:
        """See ``HTMLParser``."""
        self._reference(f"&#{name};")

    def unknown_decl(self, data: str) -> None:
        """See ``HTMLParser``: a CDATA section of XHTML is text."""
        if data.startswith("CDATA["):
            self.handle_data(data[6:])

    # Words

    def _reference(self, reference: str) -> None:
        decoded = html.unescape(reference)
        # "AT&T" is no reference; the parser does not tell whether a semicolon followed.
        text = reference.rstrip(";") if decoded == reference else decoded.replace("\n", " ")
        if self.unread:
            return
        if self.in_title:
            self.title.append(text)
        else:
            self._add(text, self.getpos()[0])

    def _add(self, words: str, line: int) -> None:
        words = words if self.pre else words.replace(SOFT_HYPHEN, "")
        if not words or (self.heading and self.permalink and words.strip() in PERMALINKS):
            return
        self.words.add(words, line)
        count = 0 if self.heading or self.words.in_button else len(words.strip())
        self.characters += count
        if self.target is not None:
            self.link_characters += count
            self.link_text.append(words)

    def _end_link(self) -> None:
        if self.target is not None:
            self.links.append(Link(self.target, " ".join("".join(self.link_text).split())))
        self.target, self.link_text = None, []

    # Regions

    def place(self) -> Place:
        """How much of the page was read so far."""
        return Place(len(self.items), len(self.links), self.characters, self.link_characters)

    def _begin_region(self, tag: str, attributes: dict[str, str | None]) -> None:
        """Open the region that an element begins, if it is one and not a part of a list, a row or a code block."""
        waiting = self.open_regions.get(tag)
        if waiting:
            waiting[-1].depth += 1
        kind = None if self.pre or self.row is not None else kind_of(tag, attributes)
        if kind is None or tag in UNCLOSED or (kind == "header" and self.sectioning):
            return
        if self.lists and kind != "note":
            return
        if not self.lists:  # an item goes on after the notes in it
            self.end_block()
            self.end_group()
        if waiting:
            waiting[-1].depth -= 1  # the inner one waits for its own end tag
        region = Region(kind, self.place(), inside_main=self.mains > 0)
        self.mains += kind == "main"
        self.regions.append(region)
        self.open_regions.setdefault(tag, []).append(region)

    def _end_region(self, tag: str) -> None:
        waiting = self.open_regions.get(tag)
        if not waiting:
            return
        waiting[-1].depth -= 1
        if not waiting[-1].depth:
            region = waiting.pop()
            self.mains -= region.kind == "main"
            self.end_block()
            if not (self.lists and region.kind == "note"):
                self.end_group()
            region.end = self.place()

    def shown(self) -> Shown:
        """All that the page shows; what its main element or an article did not close reaches to the end."""
        for region in self.regions:
            if region.end is None and region.kind in ("main", "article"):
                region.end = self.place()
        return Shown(
            self.items,
            self.links,
            self.regions,
            " ".join("".join(self.title).split()),
            self.terms,
            self.meanings,
            self.asking,
        )

    # Blocks

    def _is_unread(self, tag: str, attributes: dict[str, str | None]) -> bool:
        if tag in UNREAD or (tag == "button" and self.pre):
            return True
        if tag in VOID or tag in SHOWN:
            return False
        role = attributes.get("role")
        classes = (attributes.get("class") or "").split()
        hidden = is_hidden(attributes) or attributes.get("aria-hidden") == "true"
        # What another tab would show is content.
        shown = role == "tabpanel" or self.getpos() in self.revealed or TOLD in classes
        return (hidden and not shown) or role in APART or not MACHINERY.isdisjoint(classes)

    def _begin(self, tag: str, attributes: dict[str, str | None]) -> None:
        if self.row is not None and tag in CELLS:
            self._end_cell()
            self.cell, self.names = spans(attributes), tag == "th"
            return
        if self.row is not None and tag not in HEADINGS and tag not in ("tr", *TABLE_PARTS):
            return self.words.space()
        self.end_block()
        if tag in HEADINGS:
            self.row = None
            self.heading = HEADINGS[tag]
        elif tag == "pre":
            self.pre += 1
        elif tag == "tr" and not (self.layouts and self.layouts[-1]):
            self.row, self.cell, self.names = [], None, False
        elif tag in TABLE_PARTS:
            self.table.end_part()
            self.table.in_head = tag == "thead"
            if tag == "table":
                self.layouts.append(self._is_layout(attributes))
        elif tag in LISTS:
            self.lists.append(List(tag, attributes))
        elif tag == "li" and self.lists:
            self.mark = self.lists[-1].mark(attributes)
        wraps = tag in ("p", "div")
        if tag in ("dt", "dl"):
            self.term = None
        self.in_term = tag in ("dt", "summary") or (self.in_term and wraps)
        self.in_meaning = tag == "dd" or (self.in_meaning and wraps)

    def _end(self, tag: str) -> None:
        if self.row is not None and tag not in ("tr", *TABLE_PARTS):
            return self._end_cell() if tag in CELLS else self.words.space()
        self.end_block()
        if tag == "table" or (tag in LISTS and len(self.lists) == 1):
            self.end_group()
        if tag in TABLE_PARTS:
            self.table.end_part()
            if tag == "table":
                del self.layouts[-1:]
        elif tag in HEADINGS:
            self.heading = 0
        elif tag == "pre":
            self.pre = max(0, self.pre - 1)
        elif tag in LISTS:
            del self.lists[-1:]
        elif tag == "li":
            self.mark = ""
        elif tag in ("dt", "dd", "dl"):
            self.in_term = self.in_meaning = False

    def _is_layout(self, attributes: Mapping[str, str | None]) -> bool:
        """Whether a table only places what is in its cells: as it says, or an icon beside a note (Asciidoctor's)."""
        classes = (attributes.get("class") or "").split()
        if attributes.get("role") in ("presentation", "none") or not CODE_TABLES.isdisjoint(classes):
            return True
        begun = [region.kind for region in self.regions[-2:] if region.start.items == len(self.items)]
        return begun == ["admonition", "list"]

    def _end_cell(self) -> None:
        lines = self._take()
        if self.row is not None and (lines or self.cell):
            words = " ".join(line.text for line in lines)
            line = Line(words, lines[0].first, lines[-1].last) if lines else EMPTY
            self.row.append(Cell(line, *(self.cell or (1, 1)), names=self.names))
        self.cell, self.names = None, False

    def _take(self) -> list[Line]:
        return self.words.take(kept=bool(self.heading or self.in_term), as_written=bool(self.pre))

    def end_block(self) -> None:
        """Make a heading or a block of the words gathered so far."""
        if self.row is not None:
            self._end_cell()
            row, self.row = self.row, None
            if self.list_lines:
                self.end_group()
            self.table.add(row)
            return
        lines = self._take()
        if not lines:
            return
        if self.heading:
            text = " ".join(line.text for line in lines)
            self._keep(Heading(self.heading, text, lines[0].first, lines[-1].last))
        elif self.pre:
            self._keep(_block("code", lines))
        elif self.lists:
            indent = "  " * min(len(self.lists) - 1, DEEPEST_LIST)
            for line in lines:
                line.text = indent + (self.mark or "  ") + line.text
                self.mark = ""
            if self.table.rows:
                self.end_group()
            self.list_lines += lines
        elif not skips(lines[0].text):
            if self.in_term:
                self.term = len(self.items)
                self.terms.append(self.term)
            elif self.in_meaning and self.term is not None:
                last = len(self.items) - 1
                if last == self.term or last in self.meanings:
                    self.meanings[last + 1] = self.term
            elif end := asked(lines):
                self.asking.append(len(self.items))
                self._keep(_block("paragraph", lines[:end]))
                lines = lines[end:]
            if lines:
                self._keep(_block("paragraph", lines))

    def end_group(self) -> None:
        """Make a block of the list or table gathered so far."""
        kind: BlockKind = "list" if self.list_lines else "table"
        lines, head = (self.list_lines, 0) if self.list_lines else self.table.take()
        self.list_lines = []
        if lines:
            self.items.append(_block(kind, lines, head))

    def _keep(self, item: Heading | Block) -> None:
        self.end_group()
        self.items.append(item)


def _block(kind: BlockKind, lines: Sequence[Line], head: int = 0) -> Block:
    spans = tuple((line.first, line.last) for line in lines)
    text = "\n".join(line.text.rstrip() for line in lines)
    return Block(kind, text, spans[0][0], max(last for _, last in spans), spans, head)
