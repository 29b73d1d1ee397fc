"""What Word and PowerPoint show by place and not by letters: powers, fractions, and cells that are merged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

__all__ = ["MATH", "MergedCells", "Words"]

RAISED_NUMBER = re.compile(r"[-+−]?\d+[-+−]?")  # noqa: RUF001
MATH = {"num": ("", "/"), "den": ("", ""), "sup": ("^", "")}
"""The parts of an equation's fractions and powers, by their tags, and what stands before and after them."""
MERGED_CHARACTERS = 4_000_000
"""The most that a document's merged cells may repeat: many may share one long text."""


@dataclass(slots=True)
class Words:
    """A paragraph's text, of pieces that may be raised above the line, or be part of an equation."""

    pieces: list[tuple[str, bool]] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)

    def add(self, text: str, *, raised: bool = False) -> None:
        """Add a piece."""
        self.pieces.append((text, raised))

    def begin(self) -> None:
        """Begin a part of a fraction or power."""
        self.begun.append(len(self.pieces))
        self.add("")

    def end(self, tag: str) -> None:
        """End it; in brackets, if it is more than a number or word."""
        start = self.begun.pop() if self.begun else len(self.pieces)
        inner = self.pieces[start + 1 : start + 3]
        if not inner:
            return
        before, after = MATH[tag]
        if len(inner) > 1 or not re.fullmatch(r"\w+", inner[0][0]):
            before, after = f"{before}(", f"){after}"
        if tag == "num" and start and self.pieces[start - 1][0][-1:].isalnum():  # 1 1/2 is not 11/2
            before = f" {before}"
        self.pieces[start] = (before, False)
        self.add(after)

    def __str__(self) -> str:
        """The text; a raised number says that it is one, so that a million is 10^6 and not 106."""
        texts: list[str] = []
        before = ""
        for raised, group in groupby(self.pieces, key=lambda piece: piece[1]):
            text = "".join(piece for piece, _ in group)
            if raised and RAISED_NUMBER.fullmatch(text) and (before.isalnum() or before in (")", "]", "}")):
                texts.append("^")
            texts.append(text)
            before = text[-1:] or before
        return "".join(texts)


@dataclass(slots=True)
class MergedCells:
    """The lines of a document's tables, as long as its merged cells repeat no more than there is room for."""

    room: int = MERGED_CHARACTERS

    def lines(self, rows: Iterable[Sequence[str | None]]) -> Iterator[str]:
        """The rows that say anything of their own; a cell that is None is merged with the one above it."""
        above: list[str] = []
        for row in rows:
            above = [self._repeated(above, column) if cell is None else cell for column, cell in enumerate(row)]
            if any(row):
                yield " | ".join(above)

    def _repeated(self, above: Sequence[str], column: int) -> str:
        text = above[column] if column < len(above) else ""
        if len(text) > self.room:
            return ""
        self.room -= len(text)
        return text
