"""Blocks of text in ever finer units, and units packed into slices of similar size."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from retrieval.structure import Block
from retrieval.words import SENTENCE_END

__all__ = ["STEPS", "Slicer", "Unit", "pack"]

BLOCK_GAP = 1
"""Tokens that the blank line between two blocks may cost."""
WORD_UNITS = 32
"""Units of words that make a slice."""
TINY = 0.15
"""A last slice of less than so much of the budget is evened out with the one before it."""
HEAD_SHARE = 0.2
"""A table's head is repeated over further rows of it if it takes no more of the budget than this."""

SENTENCE_OR_PARAGRAPH_END = re.compile(rf"{SENTENCE_END.pattern}|\n(?=[^\S\n]*\n)")
LINE_END = re.compile(r"\n")
NOT_SPACE = re.compile(r"\S")
WORD_END = re.compile(r"(?<=\S)(?=\s)")


@dataclass(slots=True)
class Unit:
    """The characters ``start`` to ``end`` of a block's text, and how many tokens they are (-1: not counted yet).

    One that ``leads`` is a line with others below that are indented more, such as the items of a list within an item.
    ``head``: the tokens of its table's head, which a slice that begins with it repeats; 0 where none is.
    """

    block: int
    start: int
    end: int
    tokens: int = -1
    leads: bool = False
    head: int = 0


def _by_lines(unit: Unit, block: Block, budget: int) -> Iterator[int]:
    """Code, tables and lists end a unit with each line."""
    if block.kind != "paragraph":
        yield from _by_line_ends(unit, block, budget)


def _by_sentences(unit: Unit, block: Block, budget: int) -> Iterator[int]:
    """Prose ends a unit with each sentence and each blank line."""
    if block.kind in ("code", "table"):
        return
    for match in SENTENCE_OR_PARAGRAPH_END.finditer(block.text, unit.start, unit.end):
        yield match.start() + len(match[0].rstrip())


def _by_line_ends(unit: Unit, block: Block, budget: int) -> Iterator[int]:
    """So does what has no sentences, such as names below each other, with each line."""
    yield from (match.end() for match in LINE_END.finditer(block.text, unit.start, unit.end))


def _by_words(unit: Unit, block: Block, budget: int) -> Iterator[int]:
    """A few words each: a text of megabytes would be millions of units by single ones."""
    width = max(1, (unit.end - unit.start) * budget // unit.tokens // WORD_UNITS)
    end = unit.start
    while match := WORD_END.search(block.text, end + width, unit.end):
        end = match.end()
        yield end


def _by_characters(unit: Unit, block: Block, budget: int) -> Iterator[int]:
    """What has no white space is cut so that each piece has about ``budget`` tokens, evenly spread."""
    width = max(1, (unit.end - unit.start) * budget // unit.tokens)
    yield from range(unit.start + width, unit.end, width)


STEPS = (_by_lines, _by_sentences, _by_line_ends, _by_words, _by_characters)
"""Ways to split a unit, coarse to fine: (unit, its block, budget) → where inside of the unit one ends."""


class Slicer:
    """The blocks of one section, as units that get finer and slices made of them."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.units = [Unit(index, 0, len(block.text)) for index, block in enumerate(blocks)]
        self.slices = [list(self.units)]
        self._head_ends = [*map(_head_end, blocks)]
        self._line_ends: dict[int, list[int]] = {}

    def refine(self, step: int, budget: int) -> None:
        """Split the units that have more than ``budget`` tokens by ``STEPS[step]``; the pieces are not counted yet."""
        finer: list[Unit] = []
        for unit in self.units:
            if unit.tokens <= budget:
                finer.append(unit)
                continue
            inner = STEPS[step](unit, self.blocks[unit.block], budget)
            bounds = [unit.start, *(end for end in inner if unit.start < end < unit.end), unit.end]
            pieces = [Unit(unit.block, start, end) for start, end in pairwise(bounds)]
            finer += pieces if len(pieces) > 1 else [unit]
        self.units = finer

    def pack(self, budget: int) -> None:
        """Make slices of the units; see the function ``pack``."""
        self._find_leads()
        self._find_heads(budget)
        self.slices = [slice for slice in pack(self.units, budget) if any(self._parts(slice))]

    def _find_leads(self) -> None:
        """Mark the units that lead: what stands below would say something else without them, or nothing."""
        below, block, blank = 0, -1, False
        for unit in reversed(self.units):
            indent = _indent(self.blocks[unit.block].text, unit)
            if unit.block != block:
                below, block, blank = 0, unit.block, True
            # A blank line goes with what is right below it.
            unit.leads = not blank if indent is None else indent < below
            below, blank = (below, True) if indent is None else (indent, False)

    def _find_heads(self, budget: int) -> None:
        """Note what it takes to repeat a table's head over the rows that are cut from it: bare cells say little."""
        tokens: Counter[int] = Counter()
        for unit in self.units:
            end = self._head_ends[unit.block]
            if unit.end <= end:
                tokens[unit.block] += unit.tokens
            fits = tokens[unit.block] <= budget * HEAD_SHARE and tokens[unit.block] + unit.tokens <= budget
            unit.head = tokens[unit.block] if 0 < end <= unit.start and fits else 0

    def text(self, units: Sequence[Unit]) -> str:
        """The text of neighbouring units: each block's part as it stands there, one blank line apart.

        Rows that are parted from their table's head have it before them.
        """
        first = units[0]
        head = self.blocks[first.block].text[: self._head_ends[first.block]] if first.head else ""
        return head + "\n\n".join(self.blocks[block].text[start:end] for block, start, end in self._parts(units))

    def lines(self, units: Sequence[Unit]) -> tuple[int, int]:
        """The first and last line in the file of neighbouring units."""
        spans = []
        for index, start, end in self._parts(units):
            block = self.blocks[index]
            if end - start == len(block.text):
                spans.append((block.first_line, block.last_line))
                continue
            if index not in self._line_ends:
                self._line_ends[index] = [match.start() for match in LINE_END.finditer(block.text)]
            ends = self._line_ends[index]
            spans.append(block.lines_of(bisect_left(ends, start), bisect_left(ends, end)))
        return min(first for first, _ in spans), max(last for _, last in spans)

    def _parts(self, units: Sequence[Unit]) -> Iterator[tuple[int, int, int]]:
        """(block, start, end) of each block in neighbouring units, white space at its ends left out."""
        for index, group in groupby(units, key=lambda unit: unit.block):
            run = list(group)
            start, end = _trim(self.blocks[index].text, run[0].start, run[-1].end)
            if start < end:
                yield index, start, end


def _head_end(block: Block) -> int:
    """Where the head of a table ends; 0 where it has none, or nothing else."""
    lines = block.text.split("\n", block.head) if block.head else []
    return len(block.text) - len(lines[-1]) if len(lines) > block.head else 0


def _indent(text: str, unit: Unit) -> int | None:
    """How far the line is indented that ``unit`` begins with: not at all if it begins within one; None if blank."""
    word = NOT_SPACE.search(text, unit.start, unit.end)
    if not word:
        return None
    line_end = text.rfind("\n", max(0, unit.start - 1), word.start())
    return word.start() - line_end - 1 if line_end >= 0 or unit.start == 0 else 0


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    """``start`` and ``end`` moved past white space, but not past the indentation of a line."""
    if end - start == len(text):
        return start, end
    while end > start and text[end - 1].isspace():
        end -= 1
    word = NOT_SPACE.search(text, start, end)
    if not word:
        return end, end
    line_end = text.rfind("\n", max(0, start - 1), word.start())
    indented = line_end >= 0 or start == 0
    return (line_end + 1 if indented else word.start()), end


def pack(units: Sequence[Unit], budget: int) -> list[list[Unit]]:
    """Pack ``units`` in their order into as few slices of at most ``budget`` tokens as greed finds, evenly filled.

    Evenly: with the least capacity that needs no more slices. A unit over budget is a slice of its own, and one that
    leads is in a slice with what it leads, if there is room.
    """
    fewest = len(_fill(units, budget))
    low, high = 1, budget
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(_fill(units, middle)) <= fewest else (middle + 1, high)
    slices = _fill(units, low)
    if len(slices) > 1 and _tokens(slices[-1]) < TINY * budget:
        tail = slices[-2] + slices[-1]
        places = range(1, len(tail))
        parted = [at for at in places if not tail[at - 1].leads] or places
        best = min(parted, key=lambda at: max(_tokens(tail[:at]), _tokens(tail[at:])))
        slices[-2:] = [tail[:best], tail[best:]]
    return slices


def _fill(units: Sequence[Unit], capacity: int) -> list[list[Unit]]:
    slices: list[list[Unit]] = []
    used = 0
    for unit in units:
        gap = BLOCK_GAP if slices and unit.block != slices[-1][-1].block else 0
        if slices and used + gap + unit.tokens <= capacity:
            slices[-1].append(unit)
            used += gap + unit.tokens
        else:
            above, used = _above(slices[-1], unit, capacity) if slices else ([], unit.head + unit.tokens)
            slices.append([*above, unit])
    return slices


def _above(before: list[Unit], unit: Unit, capacity: int) -> tuple[list[Unit], int]:
    """Take off the end of ``before`` what leads ``unit`` and fits with it; return that, and the tokens of all.

    Something is left there. Where that would not be so, the line above is all that is taken.
    """
    place = len(before)
    while place and before[place - 1].leads:
        place -= 1
    for start in (place, len(before) - 1):
        above = before[start:]
        used = unit.head + unit.tokens + sum(lead.tokens for lead in above)
        if start and above and above[0].leads and used <= capacity:
            del before[start:]
            return above, used
    return [], unit.head + unit.tokens


def _tokens(units: Sequence[Unit]) -> int:
    gaps = sum(unit.block != after.block for unit, after in pairwise(units))
    return units[0].head + sum(unit.tokens for unit in units) + gaps * BLOCK_GAP
