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
SECONDS = 86_400
"""Of a day, which is 1 to Excel."""
DATE, TIME, ELAPSED = "yyyy", "h:mm", "[h]:mm"
FORMATS = {
    **dict.fromkeys(map(str, (14, 15, 16, 17, 22, *range(27, 37), *range(50, 59))), DATE),
    **dict.fromkeys(map(str, (*range(18, 22), 45, 47)), TIME),
    "46": ELAPSED,
    "9": "0%",
    "10": "0.00%",
}
"""Number formats that a workbook need not define, by their ids."""
FORMAT_CHARACTERS = 255
"""The most that a number format has in Excel."""
LITERAL = r'(?:"[^"]*"|\\.)'
ZEROS = re.compile(rf"(?P<before>(?:{LITERAL})*)(?P<zeros>0{{2,}})(?P<after>(?:{LITERAL})*)")
PERCENT = re.compile(r"[#0,]*(?:\.(?P<decimals>[#0?]+))?\s*%")
ELAPSED_PART = re.compile(r"\[(?:h+|m+|s+)\]", re.IGNORECASE)
NOT_FORMAT = re.compile(rf"{LITERAL}|_.|\*.|\[[^\[\]]*\]")
"""What a number format shows as it stands, blanks as wide as a character, and colours, conditions and languages."""
ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
CHARACTERS = 64_000_000
"""The most characters that a workbook's cells may show together: they may share one long string."""
CELLS = 5_000_000
"""The most cells that its tables may have, empty ones among them."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that people see: its name, its rows that hold anything, in order, and what of it was not read."""

    name: str
    rows: list[Row]
    left_out: tuple[str, ...] = ()


def read_sheets(name: str, data: bytes) -> list[Sheet]:
    """Return a workbook's sheets; one that is hidden, or cannot be read, has no rows and says why.

    A cell merged with those below it is each of theirs. Numbers read as their format shows them where it is one of
    dates, times, percents or leading zeros, plainly otherwise. Formulas have the value that was saved with them.

    Raises:
        DocumentError: the workbook cannot be read; the message is ``name: reason``.
    """
    package = Package(name, data, EXCEL)
    main = package.related().get("officeDocument", "xl/workbook.xml")
    near, by_id = package.related(main), package.related_by_id(main)
    listed: list[Mapping[str, str]] = []
    epoch = EPOCH
    for kind, tag, attributes in package.events(main):
        if kind == "start" and tag == "workbookPr" and attributes.get("date1904") in ("1", "true"):
            epoch = EPOCH_1904
        elif kind == "start" and tag == "sheet":
            listed.append(attributes)
    if not listed:
        raise DocumentError(f"{name}: not an Excel workbook (it lists no sheets)")
    strings = list(_strings(package.events(near.get("sharedStrings", ""))))
    formats = _formats(package.events(near.get("styles", "")))
    room = _Room()
    read: set[str] = set()
    sheets = []
    for attributes in listed:
        title, part = attributes.get("name", ""), by_id.get(attributes.get("r:id", ""), "")
        if attributes.get("state") in ("hidden", "veryHidden"):
            sheets.append(Sheet(title, [], ("is hidden",)))
        elif part not in package or part in read:
            sheets.append(Sheet(title, [], ("has no part of its own in the file",)))
        else:
            read.add(part)
            sheets.append(_Reader(strings, formats, epoch, room).sheet(title, package.events(part)))
    return sheets


class _TooLargeError(Exception):
    """A workbook would take more memory than it plausibly needs."""


@dataclass(slots=True)
class _Room:
    """What a workbook may still take."""

    characters: int = CHARACTERS
    cells: int = CELLS

    def take(self, *, characters: int = 0, cells: int = 0) -> None:
        if characters > self.characters or cells > self.cells:
            raise _TooLargeError
        self.characters -= characters
        self.cells -= cells


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
            found.append(codes.get(id, FORMATS.get(id, ""))[:FORMAT_CHARACTERS])
    return found


@dataclass(slots=True)
class _Reader:
    """One sheet's cells as they come."""

    strings: list[str]
    formats: list[str]
    epoch: datetime
    room: _Room
    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    row: int = 0
    column: int = -1
    type: str = ""
    style: str = ""
    text: list[str] = field(default_factory=list)
    reading: bool = False
    formula: bool = False
    unsaved: int = 0

    def sheet(self, name: str, events: Iterable[Event]) -> Sheet:
        """Return the sheet that the events of its part tell of."""
        try:
            self._read(events)
            self._fill()
            width = max((max(cells) + 1 for cells in self.rows.values()), default=0)
            self.room.take(cells=width * len(self.rows))
        except _TooLargeError:
            return Sheet(name, [], ("is too large; save the part of it that is wanted as .csv",))
        rows = [(row, [cells.get(column, "") for column in range(width)]) for row, cells in sorted(self.rows.items())]
        unsaved = f"has formulas without a saved value: {self.unsaved}; open the workbook in Excel and save it"
        return Sheet(name, rows, (unsaved,) if self.unsaved else ())

    def _read(self, events: Iterable[Event]) -> None:
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
            elif tag == "f":
                self.formula = True
            elif kind == "start" and tag == "row":
                number = attributes.get("r", "")
                self.row = int(number) if INDEX.fullmatch(number) else self.row + 1
                self.column = -1
            elif kind == "start" and tag == "mergeCell":
                self.merged.append(attributes.get("ref", ""))

    def _begin(self, attributes: Mapping[str, str]) -> None:
        place = _place(attributes.get("r", ""))
        self.column = place[1] if place else self.column + 1
        self.type, self.style = attributes.get("t", "n"), attributes.get("s", "0")
        self.formula = False
        self.text.clear()

    def _end(self) -> None:
        written = "".join(self.text)
        self.unsaved += self.formula and not written and self.type == "n"
        value = self._shown(written) if written else ""
        if value.strip() and self.column < COLUMNS:
            self._put(self.row, value, self.column)

    def _put(self, row: int, value: str, column: int) -> None:
        self.room.take(characters=len(value))
        self.rows.setdefault(row, {})[column] = value

    def _shown(self, value: str) -> str:
        if self.type == "s":
            return _item(self.strings, value)
        if self.type == "b":
            return "TRUE" if value.strip() == "1" else "FALSE"
        if self.type == "e":
            return ""
        if self.type == "d":
            return value.removesuffix("T00:00:00")
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
        number = float(value) or 0.0  # and no -0
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    plain = f"{number:.0f}" if 1e15 <= abs(number) < 1e21 else f"{number:.15g}"
    first = format.partition(";")[0]
    if (match := ZEROS.fullmatch(first)) and plain.isdecimal():
        before, after = (re.sub(r'"|\\(.)', r"\1", match[part]) for part in ("before", "after"))
        return f"{before}{plain.zfill(len(match['zeros']))}{after}"
    if match := PERCENT.fullmatch(first):
        return f"{number * 100:.{len(match['decimals'] or '')}f}%"
    code = NOT_FORMAT.sub("", first).casefold()
    if ELAPSED_PART.search(first) or (re.search("[hs]", code) and not re.search("[yd]", code)):
        return _duration(number)
    if not re.search("[ymd]", code):
        return plain
    try:
        moment = epoch + timedelta(seconds=round(number * SECONDS))
    except OverflowError:
        return plain
    return f"{moment:%Y-%m-%d}" if number == int(number) else f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(":00")


def _duration(days: float) -> str:
    """Hours, minutes and, where there are any, seconds."""
    minutes, seconds = divmod(round(abs(days) * SECONDS), 60)
    sign = "-" if days < 0 else ""
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}" + (f":{seconds:02d}" if seconds else "")


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
