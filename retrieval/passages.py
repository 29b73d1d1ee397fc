"""Sections cut into passages: what is embedded and returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retrieval.structure import Section

TokenCounter = Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True, slots=True)
class Passage:
    """A slice of one section.

    ``id`` is stable across re-indexing while document, heading and text stay the same.
    ``first_line``/``last_line`` are 1-based lines of the source file.
    """

    id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    text: str
    first_line: int
    last_line: int

    @property
    def embedded_text(self) -> str:
        """What the embedder and the lexical index are given: heading, text, then what encloses it."""
        raise NotImplementedError


def cut(title: str, sections: Sequence[Section], count_tokens: TokenCounter, max_tokens: int) -> list[Passage]:
    """Cut ``sections`` of one document into passages of at most ``max_tokens`` tokens each."""
    raise NotImplementedError
