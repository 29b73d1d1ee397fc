"""Where the index of a corpus lives, and the only two ways to it: read its live generation, write the next one.

`SearchEngine`, indexing and the server use what is declared here and nothing of what is behind it: FAISS, tantivy
and SQLite in the workspace (:mod:`retrieval.local_store`), or a vector database (:mod:`retrieval.remote_store`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from retrieval.pointer import current_name
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retrieval.catalog import PassageRow
    from retrieval.catalog_writing import Catalog
    from retrieval.generation import Generation, Manifest
    from retrieval.late_interaction import Codes
    from retrieval.vector_writing import Blocks, VectorFacts

__all__ = [
    "Draft",
    "Facts",
    "OpenGeneration",
    "Passages",
    "Ranking",
    "Store",
    "Written",
    "indexed_elsewhere",
    "open_store",
]

Ranking = tuple[Sequence[int], Sequence[float]]
"""Passage numbers and their scores, best first; equal scores by number."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a generation says of itself."""

    name: str
    created: str
    documents: int
    passages: int
    reference: str
    fingerprint: str
    dimension: int
    language: str
    lexical_weight: float | None

    @classmethod
    def of(cls, name: str, manifest: Manifest) -> Facts:
        """The facts of the generation ``name`` in the workspace."""
        return cls(
            name=name,
            created=manifest.created,
            documents=manifest.documents,
            passages=manifest.passages,
            reference=manifest.reference,
            fingerprint=manifest.fingerprint,
            dimension=manifest.dimension,
            language=manifest.language,
            lexical_weight=manifest.lexical_weight,
        )


class Passages(Protocol):
    """What hits are made of."""

    def passages(self, numbers: Sequence[int]) -> dict[int, PassageRow]:
        """Return the passages ``numbers``, by number.

        Raises:
            IndexingError: one of them is not there, or the index is damaged.
        """

    def neighbours(self, row: PassageRow, reach: int) -> list[PassageRow]:
        """Return the passages at most ``reach`` before or after ``row`` in its document, and itself, in order."""


class OpenGeneration(Passages, Protocol):
    """One generation, open for searching from any number of threads. It never changes."""

    @property
    def facts(self) -> Facts:
        """What it says of itself."""

    def rank(
        self, query: str, vector: NDArray[np.float32] | None, limit: int, prefix: str = ""
    ) -> tuple[Ranking, Ranking]:
        """Return the best ``limit`` passages by cosine to ``vector``, and by BM25 for ``query``.

        Args:
            query: its words; "" leaves the second ranking empty.
            vector: (dimension,), of length 1; None leaves the first ranking empty.
            limit: how many passages a ranking has at most.
            prefix: only passages of documents whose id, or whose file's path, starts so.

        Raises:
            IndexingError: the index is damaged, or the store does not answer.
        """

    def tokens(self, numbers: Sequence[int]) -> list[Codes] | None:
        """Return the codes of the tokens of the passages ``numbers``; None where the index has none.

        Raises:
            IndexingError: the index is damaged.
        """

    def names(self, numbers: Sequence[int]) -> dict[int, Codes]:
        """Return the codes of those of the passages ``numbers`` that list names (`retrieval.names`), by number.

        Raises:
            IndexingError: the index is damaged.
        """

    def document(self, document_id: str, limit: int) -> list[PassageRow]:
        """Return the first ``limit`` passages of a document, in their order; none where it is not indexed."""

    def document_ids(self, prefix: str, limit: int) -> list[str]:
        """Return the first ``limit`` ids of documents that start with ``prefix``, sorted."""


@dataclass(frozen=True)
class Draft:
    """What the next generation is to hold: everything in ``catalog``, which is written but for its index.

    ``base`` is the live generation where the next one can grow from it. ``encode`` yields the vectors of the passages
    it is given, block by block.
    """

    folder: Path
    catalog: Catalog
    made_by: Manifest
    base: Generation | None
    encode: Callable[[NDArray[np.int64]], Blocks]
    check_stop: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Written:
    """What the manifest keeps of the index of a draft.

    ``vectors`` tells its kind and where it is, ``dead`` how many passages that are gone its word statistics count.
    """

    vectors: VectorFacts
    dead: int = 0


class Store(Protocol):
    """Where one corpus is indexed. Readers may be anywhere; writers hold the corpus's lock in the workspace."""

    def live(self) -> str | None:
        """Return the name of the live generation, or None where there is none yet; cheap, and true to some seconds.

        Raises:
            StoreError: the store does not answer.
        """

    def stamp(self) -> Hashable:
        """Return what changes whenever another generation goes live; as cheap and as true as :meth:`live`."""

    def open(self) -> OpenGeneration:
        """Open the live generation.

        Raises:
            IndexingError: there is none yet, it is damaged, or the store does not answer.
        """

    def can_grow(self, base: Generation) -> bool:
        """Whether ``base`` is what is live here, so that the next generation can be made of it and what changed."""

    def write(self, draft: Draft) -> Written:
        """Write the index of ``draft``, which no reader sees before :meth:`switch`.

        Raises:
            IndexingError: a vector is unusable, the base is damaged, or the store does not take it.
        """

    def switch(self, generation: Generation) -> None:
        """Make a sealed generation the live one, at once and for all readers.

        Raises:
            IndexingError: a later generation is live already, or the store does not answer.
        """


def open_store(workspace: Workspace, corpus: str) -> Store:
    """Return the store of ``corpus`` as ``[store]`` says; nothing is connected to before it is used.

    Raises:
        SettingsError: its client library is not installed.
    """
    if workspace.store.kind == "local":
        from retrieval.local_store import LocalStore

        return LocalStore(workspace, corpus)
    from retrieval.databases import database
    from retrieval.remote_store import RemoteStore

    return RemoteStore(workspace, corpus, database(workspace))


def indexed_elsewhere(workspace: Workspace, corpus: str) -> bool:
    """Whether the index of ``corpus`` is in a database and was never made here: who only reads it has no documents."""
    return workspace.store.kind != "local" and current_name(workspace.index_dir(corpus)) is None
