"""Pairs from tables: what labels a row → the row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from retrieval.documents import Format
from retrieval.structure import Section
from trainer.material import Material, informative_heading, is_code, normalise
from trainer.pairs import Pair, pair_of

__all__ = ["table_row"]

LABEL_WORDS = 10
MIN_ROWS = 2
MIN_ROW_LETTERS = 12
_RULE = re.compile(r"[\s|+:=-]*[-=][\s|+:=-]*")
_GRID = re.compile(r"\s*\|(.*)\|\s*|(\S.*\s\|\s.*)")
_BAR = re.compile(r"(?:^|\s)\|(?=\s|$)")
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_BOLD = re.compile(r"(\*\*|__|[*_])(?P<said>.+)\1")
_EDGE = re.compile(r"(?<!\\)\|")


def table_row(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """The first cell of a table's row, after the heading above the table → what the row says, under the table's head.

    A label that says enough stands alone; a number or a code does not label, but what stands after it does.
    """
    section = material.sections[place]
    if is_code(material, section) or not any(block.kind == "table" for block in section.blocks):
        return
    above = informative_heading(material, section)
    format = material.document_by_id[section.document_id].format
    heads = _heads(section, format)
    for passage in material.passages_of[place]:
        rows = _rows(material.passages[passage].text.split("\n"), format)
        if len(rows) < MIN_ROWS:
            continue
        at = _label_place([row for row in rows if normalise(" ".join(row)) not in heads])
        labels = Counter(normalise(row[at]) for row in rows if len(row) > at)
        head: list[str] = []
        for row in rows:
            if normalise(" ".join(row)) in heads:
                head = row
                continue
            written, said = row[at], _said(head, row, at)
            label = _plain(written) if format == "markdown" else written
            if _labels(label) and labels[normalise(written)] == 1 and said:
                alone = len(label.split()) > 1 or not above
                anchor = label if alone else f"{above} {label}"
                heading = "" if alone else above
                yield pair_of(material, anchor, passage, "table_row", remove=written, heading=heading, excerpt=said)


def _plain(cell: str) -> str:
    """What a person reads of a cell of Markdown."""
    said = _LINK.sub(r"\1", cell)
    bold = _BOLD.fullmatch(said)
    return (bold["said"] if bold else said).replace("`", "")


def _heads(section: Section, format: Format) -> frozenset[str]:
    """The rows that name the columns of the section's tables: its head, those above a rule, or else the first.

    A table of two columns without a rule is as often one of what is what, without a head.
    """
    found: set[str] = set()
    for block in section.blocks:
        if block.kind != "table":
            continue
        lines = block.text.split("\n")
        ruled = (place for place, line in enumerate(lines) if place and _RULE.fullmatch(line))
        rule = block.head or next(ruled, 0)
        rows = _rows(lines[: rule or None], format)
        if not rule:
            rows = rows[:1] if any(len(row) > 2 for row in rows) else []
        found.update(normalise(" ".join(row)) for row in rows)
    return frozenset(found)


def _rows(lines: Sequence[str], format: Format) -> list[list[str]]:
    """The cells of each line that is a row of two or more; in reStructuredText's grids, of all between two rules."""
    found: list[list[str]] = []
    goes_on = False
    for line in lines:
        cells = [" ".join(cell.split()) for cell in _cells(line, format)]
        if len(cells) > 1 and goes_on and len(cells) == len(found[-1]):
            found[-1] = [f"{above} {cell}".strip() for above, cell in zip(found[-1], cells, strict=True)]
        elif len(cells) > 1:
            found.append(cells)
            goes_on = format == "rst" and line.lstrip().startswith("|")
        else:
            goes_on = False
    return found


def _cells(line: str, format: Format) -> Sequence[str]:
    """The cells of a row. Bars at its ends part none, unless a reader set them: then that cell is empty."""
    if _RULE.fullmatch(line):
        return ()
    if format in ("html", "outlined"):
        return _BAR.split(line)
    match = _GRID.fullmatch(line)
    return _EDGE.split(match[1] or match[2]) if match else ()


def _label_place(rows: Sequence[Sequence[str]]) -> int:
    """Where the label of each row stands: first, but for columns of nothing, such as icons, and one of codes."""
    width = min(map(len, rows), default=1)
    first = next((place for place in range(width) if any(row[place] for row in rows)), 0)
    codes = (not _labels(row[first]) and any(map(str.isdigit, row[first])) for row in rows)
    return first + int(first + 2 < width and all(codes))


def _said(head: Sequence[str], row: Sequence[str], label: int) -> str:
    """The row less its label, each cell after the name of its column; "" where that is next to nothing."""
    names = head if len(head) == len(row) else [""] * len(row)
    both = enumerate(zip(names, row, strict=True))
    cells = [(name, cell) for place, (name, cell) in both if cell and place != label]
    if sum(character.isalpha() for _, cell in cells for character in cell) < MIN_ROW_LETTERS:
        return ""
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in cells)


def _labels(label: str) -> bool:
    words = label.split()
    return len(words) <= LABEL_WORDS and sum(character.isalpha() for character in label) > 2
