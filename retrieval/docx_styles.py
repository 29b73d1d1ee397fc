"""A Word document's paragraph styles, and the numbers that Word puts before paragraphs.

Both are looked up by what they do, so that documents of a Word in any language are read alike: a
built-in style's id is translated, its name and its outline level are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from retrieval.numerals import roman
from retrieval.office_package import Event

__all__ = ["Numbering", "Style", "heading_level", "read_numbering", "read_styles"]

MAX_LEVEL = 9
HEADING_NAME = re.compile(r"heading ?([1-9])")


@dataclass(frozen=True, slots=True)
class Style:
    """A paragraph style. ``level``: the outline level (0 is outermost) of a heading; ``number``: its list, if any."""

    name: str = ""
    level: int | None = None
    number: str | None = None
    number_level: int | None = None
    parent: str = ""


def read_styles(events: Iterable[Event]) -> dict[str, Style]:
    """Return the paragraph styles of styles.xml by id, with what they inherit."""
    styles: dict[str, Style] = {}
    id, style = "", Style()
    for kind, tag, attributes in events:
        value = attributes.get("val", "")
        if kind == "start" and tag == "style":
            id, style = attributes.get("styleId", ""), Style()
            if attributes.get("type") == "paragraph":
                styles[id] = style
        if kind != "start" or id not in styles:
            continue
        if tag == "name":
            name = value.casefold()
            style = replace(style, name=name, level=heading_level(name) if style.level is None else style.level)
        elif tag == "basedOn":
            style = replace(style, parent=value)
        elif tag == "outlineLvl" and value.isdecimal():
            style = replace(style, level=int(value))
        elif tag == "numId":
            style = replace(style, number=value)
        elif tag == "ilvl" and value.isdecimal():
            style = replace(style, number_level=int(value))
        styles[id] = style
    return {id: _inherited(styles, id) for id in styles}


def heading_level(name: str) -> int | None:
    """Return the outline level of the built-in style ``name``, in lower case, if it is a heading's."""
    named = HEADING_NAME.fullmatch(name)
    return int(named[1]) - 1 if named else None


def _inherited(styles: dict[str, Style], id: str) -> Style:
    style = styles[id]
    parent = styles.get(style.parent)
    for _ in range(MAX_LEVEL):  # styles may be based on one another in a circle
        if parent is None:
            break
        style = replace(
            style,
            level=parent.level if style.level is None else style.level,
            number=parent.number if style.number is None else style.number,
            number_level=parent.number_level if style.number_level is None else style.number_level,
        )
        parent = styles.get(parent.parent)
    return style


@dataclass(slots=True)
class _Level:
    """How a level of a list is numbered: its format, its text ("%1.%2") and its first number."""

    format: str = "decimal"
    text: str = ""
    start: int = 1


@dataclass(slots=True)
class Numbering:
    """The lists of a document; counts as it is asked, in reading order."""

    lists: dict[str, dict[int, _Level]] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    """List by number: several numbers may share a list, and count on."""
    starts: dict[str, dict[int, int]] = field(default_factory=dict)
    """Where a number begins anew: its first one by level."""
    styles: dict[tuple[str, str], int] = field(default_factory=dict)
    """Level of a list by the style that belongs to it."""
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    def level_of(self, number: str, style: str) -> int:
        """Return the level that ``style`` has in the list ``number``."""
        return self.styles.get((self.numbers.get(number, ""), style), 0)

    def label(self, number: str, level: int) -> str:
        """Count one more item and return what stands before it: "-" for a bullet, "" for nothing."""
        list_id = self.numbers.get(number)
        if list_id is None or number == "0":
            return ""
        levels, counts = self.lists.get(list_id, {}), self.counts.setdefault(list_id, {})
        for anew, start in self.starts.pop(number, {}).items():
            counts[anew] = start - 1
        shown = levels.get(level, _Level())
        counts[level] = counts.get(level, shown.start - 1) + 1
        for deeper in [other for other in counts if other > level]:
            del counts[deeper]
        if shown.format == "bullet":
            return "-"

        def count(match: re.Match[str]) -> str:
            place = int(match[1]) - 1
            outer = levels.get(place, _Level())
            return _formatted(counts.get(place, outer.start), outer.format)

        return re.sub(r"%([1-9])", count, shown.text).strip()


def read_numbering(events: Iterable[Event]) -> Numbering:
    """Return the lists of numbering.xml."""
    numbering = Numbering()
    list_id = number = ""
    level, at = _Level(), 0
    for kind, tag, attributes in events:
        value = attributes.get("val", "")
        if kind == "end" and tag == "num":
            number = ""
        if kind != "start":
            continue
        if tag == "abstractNum":
            list_id = attributes.get("abstractNumId", "")
            numbering.lists[list_id] = {}
        elif tag == "num":
            number = attributes.get("numId", "")
        elif tag == "abstractNumId":
            numbering.numbers[number] = value
        elif tag in ("lvl", "lvlOverride"):
            at = _integer(attributes.get("ilvl", ""), 0)
            level = _Level()
            if tag == "lvl" and not number and 0 <= at < MAX_LEVEL:
                numbering.lists.setdefault(list_id, {})[at] = level
        elif tag == "startOverride":
            numbering.starts.setdefault(number, {})[at] = _integer(value, 1)
        elif tag == "start":
            level.start = _integer(value, 1)
        elif tag == "numFmt":
            level.format = value
        elif tag == "lvlText":
            level.text = value[:100]
        elif tag == "pStyle":
            numbering.styles[list_id, value] = at
    return numbering


def _integer(text: str, default: int) -> int:
    return int(text) if re.fullmatch(r"\d{1,6}", text) else default


def _formatted(count: int, format: str) -> str:
    if format in ("lowerLetter", "upperLetter") and count > 0:
        letters = chr(ord("a") + (count - 1) % 26) * min((count - 1) // 26 + 1, 9)
        return letters if format == "lowerLetter" else letters.upper()
    if format in ("lowerRoman", "upperRoman") and 0 < count < 4000:
        return roman(count) if format == "lowerRoman" else roman(count).upper()
    if format == "none":
        return ""
    return f"{count:02}" if format == "decimalZero" else str(count)
