"""Tables of HTML as lines of text: each cell in its column, under its header, whatever spans rows or columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["EMPTY", "Cell", "Line", "Table", "spans"]

BAR = " | "
MOST_COLUMNS, MOST_ROWS = 1000, 65534
"""A cell spans no more of them in any browser."""
REPEATED_CHARACTERS = 200
"""A longer cell is no label of the rows that it spans: it stands in the first of them."""
COUNT = re.compile(r"\s*(\d{1,9})")


@dataclass(slots=True)
class Line:
    """A line of a block to be: its words, the lines of the file they are on, and whether all of them are in bold."""

    text: str
    first: int
    last: int
    bold: bool = True


EMPTY = Line("", 0, 0)


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as it stands in its row, and how many columns and rows it spans; it ``names`` them if it is a header."""

    line: Line
    columns: int
    rows: int
    hidden: bool = False
    names: bool = False


def spans(attributes: Mapping[str, str | None]) -> tuple[int, int]:
    """How many columns and rows a cell of these attributes spans; a rowspan of 0 reaches to the end."""
    columns, rows = (COUNT.match(attributes.get(name) or "") for name in ("colspan", "rowspan"))
    return (
        min(int(columns[1]) or 1, MOST_COLUMNS) if columns else 1,
        min(int(rows[1]) or MOST_ROWS, MOST_ROWS) if rows else 1,
    )


class Table:
    """Gathers rows. A cell that spans rows is each of theirs; one that spans columns has empty ones after it.

    In all that adds no more than ``room`` characters: what a page says of spans could make it any size.
    ``in_head`` is set while the rows are said to be the table's head; so are first rows of nothing but headers.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.rows: list[list[Line]] = []
        self.in_head = False
        self.heads = 0
        self.number = 0
        self.reaching: dict[int, tuple[Line, int]] = {}

    def add(self, row: Sequence[Cell]) -> None:
        """Add a row, if it has words of its own. A hidden cell is empty, or none where it has no column."""
        self.number += 1
        if self.rows and sum(cell.columns for cell in row) > len(self.rows[-1]):
            row = [cell for cell in row if not cell.hidden]
        cells = self._spread(row)
        if any(cell.line.text for cell in row):
            names = self.in_head or all(cell.names for cell in row if cell.line.text)
            self.heads += names and self.heads == len(self.rows)
            self.rows.append(cells)

    def end_part(self) -> None:
        """End the head, a body or the foot: no cell reaches out of it."""
        self.reaching.clear()
        self.in_head = False

    def take(self) -> tuple[list[Line], int]:
        """The rows since the last call, as lines, and how many are the head; a column without any words is left out."""
        rows, heads, self.rows, self.heads = self.rows, self.heads, [], 0
        columns = {column for row in rows for column, cell in enumerate(row) if cell.text}
        lines = [_joined([cell for column, cell in enumerate(row) if column in columns]) for row in rows]
        return lines, heads

    def _spread(self, row: Sequence[Cell]) -> list[Line]:
        """The row's cells by columns, with those that reach into it from above."""
        self.reaching = {
            column: (line, last) for column, (line, last) in self.reaching.items() if last >= self.number and self.room
        }
        over_all = len(row) == 1 and not self.reaching
        spread: list[Line] = []
        for cell in row:
            while len(spread) in self.reaching:
                self._fill(spread, self.reaching[len(spread)][0])
            start = len(spread)
            spread.append(cell.line)
            for _ in range(0 if over_all else cell.columns - 1):
                if self.room:
                    self._fill(spread, EMPTY)
            if cell.rows > 1:
                label = cell.line if len(cell.line.text) <= REPEATED_CHARACTERS else EMPTY
                reaching = [label, *spread[start + 1 :]]
                last = self.number + cell.rows - 1
                self.reaching.update((start + place, (line, last)) for place, line in enumerate(reaching))
        for column in range(len(spread), max(self.reaching, default=-1) + 1):
            self._fill(spread, self.reaching.get(column, (EMPTY, 0))[0])
        return spread

    def _fill(self, row: list[Line], line: Line) -> None:
        self.room = max(0, self.room - len(line.text) - len(BAR))
        row.append(line if self.room else EMPTY)


def _joined(cells: Sequence[Line]) -> Line:
    worded = [cell for cell in cells if cell.text]
    text = BAR.join(cell.text for cell in cells).strip()
    return Line(text, min(cell.first for cell in worded), max(cell.last for cell in worded))
