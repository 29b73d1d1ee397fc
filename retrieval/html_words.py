"""The words of a block of HTML as they go by, line by line as in the source: what is bold, and what is a button's."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.html_elements import Within
from retrieval.html_formulas import Formulas, Point
from retrieval.html_tables import Line
from retrieval.structure import asks
from retrieval.words import QUESTION_MARKS

__all__ = ["Words", "asked"]

BOLD = ("b", "strong")
CLOSING = (".", ",", ";", ":", "!", "?", ")")
"""What stands right after the word before it."""


class Words:
    """Gathers the lines of a block to be."""

    def __init__(self) -> None:
        self._formulas = Formulas()
        self._button: Within | None = None
        self._bold = 0
        self._begin()

    def _begin(self) -> None:
        self.lines: list[Line] = []
        self._open = False
        self._in_buttons: set[bool] = set()
        self._controls: Point | None = None
        self._formulas.clear()

    @property
    def in_button(self) -> bool:
        """Whether what comes next is a button's."""
        return self._button is not None

    @property
    def in_formula(self) -> bool:
        """Whether what comes next is a part of a formula."""
        return bool(self._formulas.open)

    def begin(self, tag: str, line: int, *, raises: bool) -> None:
        """Take a start tag on ``line``; what it ``raises`` may be a power."""
        if self._button and self._button.ends_before(tag):
            self._button = None
        before = self.lines[-1].text[-1:] if raises and self._open else ""
        if mark := self._formulas.begin(tag, self._point(), before):
            self.add(mark, line)
        if tag == "br":
            self._open = False
        elif tag == "button":
            self._button = Within(tag)
            self._controls = self._controls or self._point()
            self.space()
        elif tag in BOLD:
            self._bold += 1

    def end(self, tag: str) -> None:
        """Take an end tag."""
        if self._button and self._button.ends_at(tag):
            self._button = None
        self._formulas.end(tag, self.lines)
        if tag in BOLD:
            self._bold = max(0, self._bold - 1)

    def add(self, words: str, line: int) -> None:
        """Add words that stand on ``line``."""
        if not self._open:
            self.new_line(line)
        current = self.lines[-1]
        if not current.text:
            current.first = line
        worded = any(map(str.isalnum, words))
        closing = words.lstrip().startswith(CLOSING)
        if self._controls and not self._button and (worded or closing):
            self._controls = None
            words = words if closing else f" {words}"
        current.text += words
        current.last = line
        if worded:
            self._in_buttons.add(self.in_button)
            current.bold &= self._bold > 0

    def new_line(self, line: int) -> None:
        """Begin a line, which is ``line`` of the file."""
        self.lines.append(Line("", line, line))
        self._open = True

    def space(self) -> None:
        """Part what comes next from the word before it."""
        if self.lines:
            self.lines[-1].text += " "

    def take(self, *, kept: bool, as_written: bool) -> list[Line]:
        """The lines gathered so far, white space as a browser shows it or ``as_written``; others can be gathered then.

        Words of nothing but buttons are a page's controls, unless they are ``kept`` or ask, as for what unfolds below.
        So are buttons that no words follow.
        """
        lines = self.lines
        if self._in_buttons == {True}:
            kept = kept or "".join(line.text for line in lines).rstrip().endswith(QUESTION_MARKS)
            lines = lines if kept else []
        elif self._controls:
            number, start = self._controls
            del lines[number + 1 :]
            for line in lines[number:]:
                line.text = line.text[:start]
        self._begin()
        if as_written:
            while lines and not lines[0].text.strip():
                lines.pop(0)
            while lines and not lines[-1].text.strip():
                lines.pop()
            return lines
        for line in lines:
            line.text = " ".join(line.text.split())
        return [line for line in lines if line.text]

    def _point(self) -> Point:
        return len(self.lines) - self._open, len(self.lines[-1].text) if self._open else 0


def asked(lines: Sequence[Line]) -> int:
    """How many of the first lines are a question in bold, which the others answer."""
    end = next((number for number, line in enumerate(lines) if not line.bold), len(lines))
    return end if asks(" ".join(line.text for line in lines[:end])) else 0
