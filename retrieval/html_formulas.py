"""Powers and fractions of HTML as they are typed: their marks are in elements, and 10<sup>6</sup> is not 106."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.html_tables import Line

__all__ = ["Formulas", "Point"]

MARKS = {"mfrac": "/", "msup": "^"}
"""What stands between the two parts of an element of MathML."""
DEEPEST = 20
"""Formulas in formulas: each looks at what is in it anew."""
NUMBER = re.compile(r"\s*[+\-−–]?\d{1,9}(?:[.,]\d{1,9})?\s*")
SINGLE = re.compile(r"[+\-−–]?[\w.,]*|\([^()]*\)")
"""What needs no brackets around it."""

Point = tuple[int, int]
"""The number of a line, and of a character in it."""


@dataclass(slots=True)
class _Formula:
    """A fraction or a power: how many elements are open in it, how many parts began, and where the last did."""

    tag: str
    depth: int = 0
    parts: int = 0
    start: Point | None = None


class Formulas:
    """Follows the tags of a block of text, and marks in its lines what they show."""

    def __init__(self) -> None:
        self.power: Point | None = None
        self.open: list[_Formula] = []

    def clear(self) -> None:
        """Begin a block."""
        self.power = None
        self.open.clear()

    def begin(self, tag: str, place: Point, before: str) -> str:
        """Take a start tag at ``place``, ``before`` being the character before it; return what mark it stands for."""
        if tag == "sup":
            self.power = place if before.isalnum() or before in tuple(")]}") else None
        elif tag == "a":
            self.power = None  # a footnote's number
        mark = ""
        if self.open:
            formula = self.open[-1]
            if not formula.depth:
                formula.parts += 1
                raised = formula.tag == "msup" and tag == "mo"  # a prime
                mark = MARKS[formula.tag] if formula.parts == 2 and not raised else ""
                formula.start = None if raised else (place[0], place[1] + len(mark))
            formula.depth += 1
        if tag in MARKS and len(self.open) < DEEPEST:
            self.open.append(_Formula(tag))
        return mark

    def end(self, tag: str, lines: Sequence[Line]) -> None:
        """Take an end tag; ``lines`` are those of the block so far."""
        if tag == "sup":
            if self.power and (text := _since(self.power, lines)) and NUMBER.fullmatch(text):
                _put(self.power, lines, f"^{text.strip()}")
            self.power = None
        if self.open and tag == self.open[-1].tag and not self.open[-1].depth:
            self.open.pop()
        if self.open and self.open[-1].depth:
            formula = self.open[-1]
            formula.depth -= 1
            if formula.start and not formula.depth and not SINGLE.fullmatch(text := _since(formula.start, lines)):
                _put(formula.start, lines, f"({text})")


def _since(place: Point, lines: Sequence[Line]) -> str:
    """What was written since, on the same line."""
    number, start = place
    return lines[number].text[start:] if number == len(lines) - 1 else ""


def _put(place: Point, lines: Sequence[Line], text: str) -> None:
    number, start = place
    lines[number].text = lines[number].text[:start] + text
