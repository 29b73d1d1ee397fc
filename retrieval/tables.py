"""The rows of CSV and TSV files and of Excel's sheets as fields under the names in their header."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from retrieval.columns import OF_A_SCHEME, Columns, by_name, normal_name
from retrieval.decoding import storable

__all__ = ["Line", "RawRecord", "RecordError", "Table", "clean", "csv_lines", "plain", "table_of", "tsv_lines"]

FIELD_LIMIT = 2**31 - 1
"""The csv module refuses fields over 128 KiB unless told; this is the most a C long holds everywhere."""
DELIMITERS = ",;\t|"
SEPARATOR = re.compile(r"\"?sep=([^\"\r\n])\"?(?=\n)", re.IGNORECASE)
"""What Excel writes above a table, to tell itself how it is delimited."""
HEADER_AMONG = 30
"""The header of a table stands among so many rows that hold anything."""
HEADER_SHARE = 2 / 3
"""So many of the columns that a row usually fills have a name."""
HEADER_CHARACTERS = 200
"""A cell of more is seldom a column's name."""
MOST_NAMELESS = 1000
"""Of a row's cells beyond the header so many columns are read."""
ALIKE = 0.8
"""So many of a table's rows have the same number of cells."""
FEW_ROWS = 2
"""Codes in fewer rows below do not tell that the first row is one like them."""
LETTERS = re.compile(r"[A-Z]+")
MARKED_UP = re.compile(r"\s*<(\w+)[^>]*>.*</\w+>\s*", re.DOTALL)


class RecordError(Exception):
    """A record that cannot be used, or (raised) a file none of whose records can."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record before anybody knows what its fields are: their text by normal name, and its place.

    ``place``: what the groups around it are called, each with a slash after it.
    """

    fields: Mapping[str, str]
    row: int
    first_line: int
    last_line: int
    place: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The normal names in a table's header, () without one, and its rows, or what is wrong with them."""

    header: tuple[str, ...]
    rows: list[RawRecord | RecordError]


Line = tuple[int, int, Sequence[str] | RecordError]
"""The first and the last line of a row, and its cells or what is wrong with it."""


def csv_lines(text: str) -> Iterator[Line]:
    """Yield the rows of a CSV file that are not blank."""
    if separator := SEPARATOR.match(text):
        # A blank line instead, so that every other keeps its number.
        return _lines(text[separator.end() :], separator[1], csv.QUOTE_MINIMAL)
    return _lines(text, _delimiter(text), csv.QUOTE_MINIMAL)


def tsv_lines(text: str) -> Iterator[Line]:
    """Yield the rows of a tab-separated file that are not blank; by IANA's definition it has no quoting."""
    return _lines(text, "\t", csv.QUOTE_NONE)


def table_of(lines: Iterable[Line], columns: Columns) -> Table:
    """Return the table that ``lines`` are, the rows below its header counted from 1."""
    lines = list(lines)
    cells = [values for _, _, values in lines if not isinstance(values, RecordError)]
    if not cells:
        return Table((), [values for _, _, values in lines if isinstance(values, RecordError)])
    above = _header_place(cells, columns)
    names, body = _names(cells[above:])
    rows: list[RawRecord | RecordError] = []
    passed = -body - above
    start = next(first for first, _, values in lines if not isinstance(values, RecordError))
    del cells
    lines.reverse()
    while lines:  # a row is not kept once it is a record
        first, last, values = lines.pop()
        if isinstance(values, RecordError):
            rows.append(values)
        elif (passed := passed + 1) > 0:
            rows.append(RawRecord(_fields(names, values), len(rows) + 1, first, last))
    if above:
        rows.append(RecordError(f"rows above the header of its table: {above}", start))
    return Table(tuple(names), rows)


def clean(value: str) -> str:
    """``value`` with line feeds as line ends, and of characters that can be stored."""
    return storable(value.replace("\r\n", "\n").replace("\r", "\n"))


def plain(value: str) -> str:
    """``value`` as it reads: of a field that is HTML from its first to its last character, the text."""
    if not MARKED_UP.fullmatch(value):
        return value
    from retrieval.structure_html import reading

    return reading(value)


def _delimiter(text: str) -> str:
    """What most often parts the first line; below a title, what parts another line and those below it alike."""
    lines = [line for line in text[: 2**16].replace("\r", " ").split("\n") if line.strip()][:HEADER_AMONG]
    own, *others = [max(DELIMITERS, key=line.count) for line in lines] or [DELIMITERS[0]]
    if by_name(tuple(map(normal_name, lines[0].split(own))) if lines else (), Columns()):
        return own
    parting = (
        delimiter for place, delimiter in enumerate((own, *others)) if _parted_alike(lines[place:], delimiter) > place
    )
    return next(parting, own)


def _parted_alike(lines: Sequence[str], delimiter: str) -> int:
    """How many rows, if nearly all, ``delimiter`` parts into the same number of cells; in prose it parts some."""
    cells = Counter(map(len, csv.reader((f"{line}\n" for line in lines), delimiter=delimiter)))
    number, rows = max(cells.items(), key=lambda item: item[1], default=(0, 0))
    return rows if number > 1 and rows >= ALIKE * cells.total() else 0


def _lines(text: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Line]:
    """Yield the rows that are not blank; after one that a stray quote made of many lines, go on with its second."""
    csv.field_size_limit(FIELD_LIMIT)
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter=delimiter, quoting=quoting, strict=True)
    line = 0
    again = text.count("\n")  # lines that may be read twice, so that quotes can make nobody wait
    while True:
        start, before = stream.tell(), reader.line_num
        try:
            values: list[str] | RecordError = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            values = RecordError(f"not valid CSV ({error})", line + 1)
        taken = reader.line_num - before
        if isinstance(values, RecordError) and taken > 1:
            if taken <= again:
                again -= taken
                stream.seek(start)
                stream.readline()
                taken = 1
            else:
                values = RecordError(f"{values.reason}; none of {taken} lines is read", line + 1)
        if isinstance(values, RecordError) or any(value.strip() for value in values):
            yield line + 1, line + taken, values
        line += taken


def _header_place(rows: Sequence[Sequence[str]], columns: Columns) -> int:
    """Where the header stands, below titles and remarks: what fills most columns, or a row of known names above."""
    filled = list(map(_filled, rows))
    usual = sorted(filled)[len(filled) // 2]
    least = max(HEADER_SHARE * usual, min(2, usual))
    place = next((place for place, count in enumerate(filled[:HEADER_AMONG]) if count >= least), 0)
    named = (above for above in range(place) if by_name(tuple(map(normal_name, rows[above])), columns))
    return next(named, place)


def _filled(cells: Sequence[str]) -> int:
    """How many cells hold anything; the first need not, where the others do: a data frame's index has no name."""
    filled = sum(1 for cell in cells if cell.strip())
    return len(cells) if filled and filled == len(cells) - 1 and not cells[0].strip() else filled


def _names(rows: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """The names of the columns, and how many rows at the head are no record: 0 where the first is one itself."""
    first, *below = rows
    coded = next((place for place in range(len(first)) if _has_codes(first, below, place)), -1)
    short = [name for name in first if len(name) <= HEADER_CHARACTERS]
    # What a survey asks may be longer.
    named = 2 * len(short) > len(first) or by_name(tuple(map(normal_name, short)), Columns()) is not None
    header = coded < 0 and named
    names = [normal_name(name) if header else "" for name in first]
    if coded >= 0:
        names[coded] = "code"
    names += [""] * (min(max(map(len, rows)), MOST_NAMELESS) - len(names))
    return [name or f"column_{place}" for place, name in enumerate(names, 1)], int(header)


def _has_codes(first: Sequence[str], below: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a column holds codes of one scheme, each another, in the first row as in all below it."""
    if len(below) < FEW_ROWS or not OF_A_SCHEME.fullmatch(first[place].strip()):
        return False
    codes = [row[place].strip() if place < len(row) else "" for row in (first, *below)]
    schemed = [match.end() for code in codes if OF_A_SCHEME.fullmatch(code) and (match := LETTERS.match(code))]
    return len(schemed) == len(codes) == len(set(codes)) and len(set(schemed)) == 1


def _fields(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """A row's values by name; a row may end before its last columns."""
    fields: dict[str, str] = {}
    for name, value in zip(names, map(clean, values), strict=False):
        # Of columns that are called the same, the first that holds anything counts; what others say is kept.
        if value and fields.get(name, value) not in ("", value):
            name = next(other for n in count(2) if not fields.get(other := f"{name}_{n}"))
        fields[name] = fields.get(name) or value
    return fields
