"""The sheets of an Excel workbook (XLSX; ECMA-376, part 1, chapter 18) as rows of what their cells show."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from retrieval.errors import DocumentError
from retrieval.office_package import EXCEL, Event, Package

__all__ = ["Row", "Sheet", "read_sheets"]

Row = tuple[int, list[str]]
"""A row's number as Excel shows it, and its cells from column A on; "" for an empty one."""

INDEX = re.compile(r"[0-9]{1,8}")
CELL = re.compile(r"([A-Z]{1,3})([1-9]\d{0,6})")
COLUMNS = 16_384
"""The columns of a sheet; a cell further right is none of Excel's."""
EPOCH, EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)
"""Day 0 of dates, right from March 1900 on: Excel takes 1900 for a leap year."""
FORMATS = {
    **dict.fromkeys(map(str, (14, 15, 16, 17, 22, *range(27, 37), *range(50, 59))), "yyyy"),
    **dict.fromkeys(map(str, (*range(18, 22), *range(45, 48))), "hh"),
    **dict.fromkeys(("9", "10"), "%"),
}
"""The kinds of number formats that a workbook need not define, by their ids."""
NOT_FORMAT = re.compile(r'"[^"]*"|\\.|_.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', re.IGNORECASE)
"""What a number format shows as it stands, and colours, conditions and languages."""
SECONDS = 86_400
"""Of a day, which is 1 to Excel."""
ZEROS = re.compile(r"0{2,}")
PERCENT = re.compile(r"[#0.,]*%")
ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
HEADER_AMONG = 30
"""A table's header stands among so many rows that hold anything, below titles and remarks."""
CHARACTERS = 64_000_000
"""The most characters that a sheet's cells may show together: they may share one long string."""
CELLS = 5_000_000
"""The most cells that its table may have, empty ones among them."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that people see: its name, and its rows that hold anything, in order; the header is the first."""

    name: str
    rows: list[Row]


def read_sheets(name: str, data: bytes) -> tuple[list[Sheet], list[str]]:
    """Return a workbook's sheets, and the names of those that are hidden.

    What stands above a table's header is not among its rows; a cell merged with those below it is each of
    theirs. Numbers read as their format shows them where it is one of dates, of percents or of leading zeros,
    plainly otherwise. Formulas have the value that was saved with them.

    Raises:
        DocumentError: it cannot be read; the message is ``name: reason``.
    """
    package = Package(name, data, EXCEL)
    main = package.related().get("officeDocument", "xl/workbook.xml")
    near, by_id = package.related(main), package.related_by_id(main)
    formats = _formats(package.events(near.get("styles", "")))
    strings = list(_strings(package.events(near.get("sharedStrings", ""))))
    epoch, sheets, hidden = EPOCH, [], []
    listed = []
    for kind, tag, attributes in package.events(main):
        if kind == "start" and tag == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            epoch = EPOCH_1904
        elif kind == "start" and tag == "sheet":
            listed.append((attributes.get("name", ""), attributes.get("state", ""), attributes.get("id", "")))
    if not listed:
        raise DocumentError(f"{name}: not an Excel workbook (it lists no sheets)")
    for title, state, id in listed:
        if state in ("hidden", "veryHidden"):
            hidden.append(title)
        elif part := by_id.get(id):
            try:
                reader = _Reader(strings, formats, epoch)
                reader.read(package.events(part))
                sheets.append(Sheet(title, _table(reader.rows)))
            except _TooLargeError:
                problem = f"sheet {title!r} is too large; save the part of it that is wanted as .csv"
                raise DocumentError(f"{name}: {problem}") from None
    return sheets, hidden


class _TooLargeError(Exception):
    """A sheet would take more memory than it plausibly needs."""


def _strings(events: Iterable[Event]) -> Iterator[str]:
    """The strings that cells share, without how they are pronounced."""
    text: list[str] = []
    inside = phonetic = False
    for kind, tag, _ in events:
        if kind == "text":
            if inside and not phonetic:
                text.append(tag)
        elif tag == "t":
            inside = kind == "start"
        elif tag == "rPh":
            phonetic = kind == "start"
        elif tag == "si" and kind == "end":
            yield _plain("".join(text))
            text.clear()


def _formats(events: Iterable[Event]) -> list[str]:
    """The number format of each style that a cell may have, "" where it is none that matters."""
    codes: dict[str, str] = {}
    found: list[str] = []
    in_cells = False
    for kind, tag, attributes in events:
        if tag == "cellXfs":
            in_cells = kind == "start"
        elif kind == "start" and tag == "numFmt":
            codes[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif kind == "start" and tag == "xf" and in_cells:
            id = attributes.get("numFmtId", "0")
            found.append(codes.get(id, FORMATS.get(id, "")))
    return found


@dataclass(slots=True)
class _Reader:
    """One sheet's cells as they come."""

    strings: list[str]
    formats: list[str]
    epoch: datetime
    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    row: int = 0
    column: int = -1
    type: str = ""
    style: str = ""
    text: list[str] = field(default_factory=list)
    reading: bool = False
    characters: int = 0

    def read(self, events: Iterable[Event]) -> None:
        """Read all cells that show anything into ``rows``."""
        phonetic = False
        for kind, tag, attributes in events:
            if kind == "text":
                if self.reading and not phonetic:
                    self.text.append(tag)
            elif tag == "rPh":
                phonetic = kind == "start"
            elif tag in ("v", "t"):
                self.reading = kind == "start"
            elif tag == "c":
                self._begin(attributes) if kind == "start" else self._end()
            elif kind == "start" and tag == "row":
                number = attributes.get("r", "")
                self.row = int(number) if INDEX.fullmatch(number) else self.row + 1
                self.column = -1
            elif kind == "start" and tag == "mergeCell":
                self.merged.append(attributes.get("ref", ""))
        self._fill()

    def _begin(self, attributes: Mapping[str, str]) -> None:
        place = _place(attributes.get("r", ""))
        self.column = place[1] if place else self.column + 1
        self.type, self.style = attributes.get("t", "n"), attributes.get("s", "0")
        self.text.clear()

    def _end(self) -> None:
        value = self._shown("".join(self.text))
        if value.strip() and self.column < COLUMNS:
            self._put(self.row, value, self.column)

    def _put(self, row: int, value: str, column: int) -> None:
        self.characters += len(value)
        if self.characters > CHARACTERS:
            raise _TooLargeError
        self.rows.setdefault(row, {})[column] = value

    def _shown(self, value: str) -> str:
        if self.type == "s":
            return _item(self.strings, value)
        if self.type == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        if self.type == "e":
            return ""
        if self.type != "n":
            return _plain(value)
        return shown_number(value, _item(self.formats, self.style), self.epoch)

    def _fill(self) -> None:
        """Give a cell that is merged with those below it to each of their rows."""
        numbers = sorted(self.rows)
        for ref in self.merged:
            first, last = (_place(corner) for corner in (ref.split(":") * 2)[:2])
            if first and last and (value := self.rows.get(first[0], {}).get(first[1])):
                for row in numbers[bisect_right(numbers, first[0]) : bisect_right(numbers, last[0])]:
                    self._put(row, value, first[1])


def shown_number(value: str, format: str, epoch: datetime) -> str:
    """Return a number as its format shows it, or plainly; what is no number as it stands."""
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    plain = f"{number:.15g}" if abs(number) < 1e15 else f"{number:.0f}"
    code = NOT_FORMAT.sub("", format.partition(";")[0])
    if ZEROS.fullmatch(code) and plain.isdecimal():
        return plain.zfill(len(code))
    if PERCENT.fullmatch(code):
        return f"{number * 100:.15g}%"
    if "general" in code.casefold() or not re.search(r"[ymdhs]", code, re.IGNORECASE):
        return plain
    try:
        moment = epoch + timedelta(seconds=round(number * SECONDS))
    except OverflowError:
        return plain
    if 0 <= number < 1 and not re.search(r"[yd]", code, re.IGNORECASE):
        return f"{moment:%H:%M:%S}".removesuffix(":00")
    return f"{moment:%Y-%m-%d}" if number == int(number) else f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _table(rows: Mapping[int, Mapping[int, str]]) -> list[Row]:
    """The rows from the header on: the first that has half as many cells as the fullest."""
    numbers = sorted(rows)
    widest = max((len(cells) for cells in rows.values()), default=0)
    heads = (
        place for place, row in enumerate(numbers[:HEADER_AMONG]) if len(rows[row]) >= max(widest / 2, min(2, widest))
    )
    table = numbers[next(heads, 0) :]
    width = max((max(rows[row]) + 1 for row in table), default=0)
    if width * len(table) > CELLS:
        raise _TooLargeError
    return [(row, [rows[row].get(column, "") for column in range(width)]) for row in table]


def _item(items: Sequence[str], index: str) -> str:
    """The item at ``index``, "" where that is none."""
    number = int(index) if INDEX.fullmatch(index.strip()) else len(items)
    return items[number] if number < len(items) else ""


def _place(reference: str) -> tuple[int, int] | None:
    """The row (from 1) and column (from 0) of a cell's reference, "B3"."""
    match = CELL.fullmatch(reference)
    if not match:
        return None
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - 64
    return int(match[2]), column - 1


def _plain(text: str) -> str:
    """``text`` with characters that XML has no way to write, which Excel writes as ``_x000D_``."""
    return ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
