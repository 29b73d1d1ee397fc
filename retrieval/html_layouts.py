"""Which tables of a page hold data, though they say that they only place what is in their cells."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass

from retrieval.html_elements import CELLS, HEADINGS, LISTS
from retrieval.html_hidden import Attributes, Position, Tolerant

__all__ = ["LAYOUT_ROLES", "data_tables"]

LAYOUT_ROLES = ("presentation", "none")
LAYOUT = re.compile(r"<table\b[^<>]*\srole\s*=", re.IGNORECASE)
PLACED = frozenset(("table", "pre", "dl", *LISTS, *HEADINGS))
"""What is no part of a row of data."""
PARAGRAPHS = ("p", "div")
"""Nor is one that begins after words in its cell."""
COLUMNS, ROWS = 2, 2


def data_tables(text: str, line: int = 1) -> Set[Position]:
    """Where the tables begin that say they are layouts and are none. The text begins on ``line``.

    They have a header, or words in more than one column of several rows, and nothing in their cells but words.
    """
    if not LAYOUT.search(text):
        return frozenset()
    page = _Tables()
    page.lineno = line
    page.feed(text)
    for table in page.tables:
        page.end(table)
    return page.data


@dataclass(slots=True)
class _Table:
    """An open table: its rows of several columns with words, and how many have some in the row that is read."""

    start: Position
    says_layout: bool
    headed: bool = False
    places: bool = False
    rows: int = 0
    worded: int = 0
    in_cell: bool = False
    has_words: bool = False


class _Tables(Tolerant):
    def __init__(self) -> None:
        super().__init__()
        self.data: set[Position] = set()
        self.tables: list[_Table] = []

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        """See ``HTMLParser``."""
        if self.tables:
            table = self.tables[-1]
            table.headed |= tag in ("th", "thead")
            table.places |= tag in PLACED or (tag in PARAGRAPHS and table.has_words)
            if tag == "tr":
                table.worded = 0
            if tag == "tr" or tag in CELLS:
                table.in_cell, table.has_words = tag in CELLS, False
        if tag == "table":
            self.tables.append(_Table(self.getpos(), dict(attrs).get("role") in LAYOUT_ROLES))

    def handle_endtag(self, tag: str) -> None:
        """See ``HTMLParser``."""
        if tag == "table" and self.tables:
            self.end(self.tables.pop())

    def handle_data(self, data: str) -> None:
        """See ``HTMLParser``."""
        if self.tables and data.strip():
            table = self.tables[-1]
            if table.in_cell and not table.has_words:
                table.has_words = True
                table.worded += 1
                table.rows += table.worded == COLUMNS

    def end(self, table: _Table) -> None:
        """Take it for data, if it is."""
        if table.says_layout and not table.places and (table.headed or table.rows >= ROWS):
            self.data.add(table.start)
