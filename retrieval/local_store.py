"""The index in the workspace: FAISS for meaning, tantivy for words, SQLite for the passages."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from retrieval.catalog import CatalogReader
from retrieval.errors import IndexingError
from retrieval.generation import (
    LEXICAL,
    VECTORS,
    Generation,
    open_current,
    switch,
)
from retrieval.late_interaction import CODES, NAME_CODES, CodeFile, Codes
from retrieval.lexical import LexicalIndex
from retrieval.lexical_writing import write_lexical
from retrieval.pointer import CURRENT, current_name
from retrieval.stages import stage
from retrieval.stores import Draft, Facts, Ranking, Written
from retrieval.vector_writing import write_vectors
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LocalStore"]


class LocalStore:
    """See `retrieval.stores.Store`."""

    def __init__(self, workspace: Workspace, corpus: str) -> None:
        self._corpus = corpus
        self._index_dir = workspace.index_dir(corpus)

    def live(self) -> str | None:
        """What CURRENT names."""
        return current_name(self._index_dir)

    def stamp(self) -> Hashable:
        """Which file CURRENT is, and when it was written."""
        try:
            status = os.stat(self._index_dir / CURRENT)
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def open(self) -> _LocalGeneration:
        """Cheap: vectors and words are opened when they are first asked for."""
        generation = open_current(self._index_dir, self._corpus)
        if not _is_here(generation):
            raise IndexingError(
                f"the index of corpus {self._corpus!r} was written to {generation.manifest.vectors['kind']}; set "
                "store.kind to that again, or run `shoptalk index`"
            )
        return _LocalGeneration(generation)

    def can_grow(self, base: Generation) -> bool:
        """Its files are as they were sealed, which is checked before anything grows from them."""
        return _is_here(base)

    def write(self, draft: Draft) -> Written:
        """Grow the base's index where that serves, or make a new one."""
        base, numbers = draft.base, draft.catalog.numbers()
        gone, new, facts = write_vectors(
            draft.folder / VECTORS,
            numbers,
            draft.made_by.dimension,
            draft.encode,
            (base.vectors_file, base.manifest.vectors) if base else None,
        )
        dead = write_lexical(
            draft.folder / LEXICAL,
            draft.made_by.language,
            numbers,
            gone,
            new,
            draft.catalog.texts,
            draft.check_stop,
            (base.lexical_folder, base.manifest.lexical_dead) if base else None,
        )
        return Written(facts, dead)

    def switch(self, generation: Generation) -> None:
        """One rename."""
        switch(self._index_dir, generation)


def _is_here(generation: Generation) -> bool:
    return VECTORS in generation.manifest.files


class _LocalGeneration:
    """A folder of files that never change, held so that it is not swept away."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._manifest = generation.manifest
        self.facts = Facts.of(generation.name, generation.manifest)
        self._catalog = CatalogReader(generation.catalog_file)
        # A wide prefix takes as long as a search; people and models stay in one folder for a while.
        self._numbers_under = lru_cache(maxsize=4)(self._catalog.numbers_under)
        self.passages = self._catalog.passages
        self.neighbours = self._catalog.neighbours
        self.document = self._catalog.document
        self.document_ids = self._catalog.document_ids

    @cached_property
    def _lexical(self) -> LexicalIndex:
        return LexicalIndex.open(self._generation.lexical_folder, self._manifest.language)

    @cached_property
    def _vectors(self) -> VectorIndex:
        return VectorIndex.read(self._generation.vectors_file)

    @cached_property
    def _tokens(self) -> CodeFile:
        return CodeFile(self._generation.folder / CODES, self._manifest.dimension)

    def tokens(self, numbers: Sequence[int]) -> list[Codes] | None:
        return self._tokens.codes(numbers) if CODES in self._manifest.files else None

    @cached_property
    def _names(self) -> CodeFile:
        return CodeFile(self._generation.folder / NAME_CODES, self._manifest.dimension)

    def names(self, numbers: Sequence[int]) -> dict[int, Codes]:
        return self._names.some(numbers) if NAME_CODES in self._manifest.files else {}

    def rank(
        self, query: str, vector: NDArray[np.float32] | None, limit: int, prefix: str = ""
    ) -> tuple[Ranking, Ranking]:
        allowed = self._numbers_under(prefix) if prefix else None
        dense: Ranking = ((), ())
        lexical: Ranking = ((), ())
        if vector is not None:
            with stage("dense"):
                numbers, scores = self._vectors.search(vector, limit, allowed)
            dense = (numbers.tolist(), scores.tolist())
        if query:
            with stage("lexical"):
                found = self._lexical.search(query, limit, allowed)
            lexical = ([number for number, _ in found], [score for _, score in found])
        return dense, lexical
