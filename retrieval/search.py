"""SearchEngine: the only way to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retrieval.workspace import Workspace

Mode = Literal["hybrid", "dense", "lexical"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage with its rank (from 1) and scores; a side that did not find it has rank None."""

    rank: int
    id: str
    document_id: str
    title: str
    heading: tuple[str, ...]
    path: str
    first_line: int
    last_line: int
    text: str
    score: float
    dense_rank: int | None
    lexical_rank: int | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found. ``degraded`` is "" or says why the answer is less than was asked for."""

    query: str
    mode: Mode
    corpus: str
    model: str
    generation: str
    degraded: str
    hits: tuple[Hit, ...]


class SearchEngine:
    """One corpus, searchable. Thread-safe; follows new generations by itself.

    Opening is quick: the embedder loads at the first dense or hybrid search, or in ``load()``.
    """

    def __init__(self, workspace: Workspace, corpus: str = "") -> None:
        raise NotImplementedError

    @property
    def loaded(self) -> bool:
        """Whether the embedder of the live generation is in memory."""
        raise NotImplementedError

    def load(self) -> None:
        """Load the embedder of the live generation and check its fingerprint (seconds)."""
        raise NotImplementedError

    def search(
        self, query: str, *, top_k: int = 5, mode: Mode | None = None, path_prefix: str = ""
    ) -> SearchResult:
        """Return the best ``top_k`` passages for ``query``; no match is a result with no hits."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the files of the generation."""
        raise NotImplementedError
