"""What Word and PowerPoint show by place and not by letters: raised numbers, and cells that are merged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

__all__ = ["MergedCells", "Piece", "joined"]

Piece = tuple[str, bool]
"""A piece of a paragraph's text, and whether it is raised above the line."""

RAISED_NUMBER = re.compile(r"[-+−]?\d+[-+−]?")  # noqa: RUF001
MERGED_CHARACTERS = 4_000_000
"""The most that a document's merged cells may repeat: many may share one long text."""


def joined(pieces: Iterable[Piece]) -> str:
    """Return the text of ``pieces``; of a raised number that it is one, so that a million is 10^6 and not 106."""
    texts: list[str] = []
    before = ""
    for raised, group in groupby(pieces, key=lambda piece: piece[1]):
        text = "".join(piece for piece, _ in group)
        if raised and RAISED_NUMBER.fullmatch(text) and (before.isalnum() or before in tuple(")]}")):
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
