"""SearchEngine: the only way to ask."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from retrieval.catalog import CatalogReader
from retrieval.embedders import Embedder, load_embedder
from retrieval.errors import IndexingError, ShoptalkError
from retrieval.fusion import fuse
from retrieval.generation import CURRENT, Generation, open_current
from retrieval.lexical import LexicalIndex
from retrieval.models import current_reference
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EngineInfo", "Hit", "Mode", "SearchEngine", "SearchResult"]

log = logging.getLogger(__name__)

Mode = Literal["hybrid", "dense", "lexical"]
DEFAULT_LEXICAL_WEIGHT = 0.5

Ranking = tuple[Sequence[int], Sequence[float]]


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


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The live generation of a corpus. ``stale``: another model is in use now than it was built with."""

    corpus: str
    generation: str
    created: str
    documents: int
    passages: int
    reference: str
    fingerprint: str
    dimension: int
    loaded: bool
    stale: bool


class _Snapshot:
    """One generation opened for searching. A search keeps the one it began with, whatever comes."""

    def __init__(self, generation: Generation, stamp: tuple[int, int]) -> None:
        self.generation = generation
        self.manifest = generation.manifest
        self.stamp = stamp
        self.catalog = CatalogReader(generation.catalog_file)
        self.embedder: Embedder | None = None

    @cached_property
    def lexical(self) -> LexicalIndex:
        return LexicalIndex.open(self.generation.lexical_folder, self.manifest.language)

    @cached_property
    def vectors(self) -> VectorIndex:
        return VectorIndex.read(self.generation.vectors_file)


class SearchEngine:
    """One corpus, searchable. Thread-safe; follows new generations by itself.

    Opening is quick: the embedder loads at the first dense or hybrid search, or in ``load()``.
    A corpus may be indexed after its engine was made; until then a search raises IndexingError.

    Raises:
        SettingsError: the workspace has no such corpus; "" stands for its only one.
    """

    def __init__(self, workspace: Workspace, corpus: str = "") -> None:
        self._workspace = workspace
        self._corpus = workspace.corpus_name(corpus)
        self._index_dir = workspace.index_dir(self._corpus)
        self._snapshot: _Snapshot | None = None
        self._following = threading.Lock()
        self._embedder: Embedder | None = None
        self._failure: tuple[str, ShoptalkError] | None = None
        self._loading = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether the embedder of the live generation is in memory."""
        snapshot = self._snapshot
        return snapshot is not None and snapshot.embedder is not None

    def load(self) -> None:
        """Load the embedder of the live generation and check its fingerprint (seconds).

        Raises:
            IndexingError: there is no index yet, or it was built by another model than its reference now names.
            ModelError: the embedder cannot be loaded.
        """
        self._failure = None
        self._embedder_of(self._follow())

    def search(self, query: str, *, top_k: int = 5, mode: Mode | None = None, path_prefix: str = "") -> SearchResult:
        """Return the best ``top_k`` passages for ``query``; no match is a result with no hits.

        Args:
            query: what to look for, in any words.
            top_k: how many passages at most, from 1.
            mode: hybrid, dense or lexical; by default as ``search.mode`` is set.
            path_prefix: only documents whose id, or whose file's path, starts so.

        Raises:
            ShoptalkError: the query is empty, or ``top_k`` is less than 1.
            IndexingError: there is no index yet, it is damaged, or was built by another model.
            ModelError: ``mode`` is dense and the embedder cannot be loaded. A hybrid search then
                answers from words alone and says so in ``degraded``.
        """
        if not query.strip():
            raise ShoptalkError("the query is empty; say what to search for")
        if top_k < 1:
            raise ShoptalkError(f"{top_k} hits are none; ask for 1 or more")
        mode = mode or self._workspace.search.mode
        snapshot = self._follow()
        limit = max(top_k, self._workspace.search.candidates)
        allowed = snapshot.catalog.numbers_under(path_prefix) if path_prefix else None
        dense: Ranking = ((), ())
        lexical: Ranking = ((), ())
        degraded = ""
        if mode != "lexical":
            try:
                dense = self._dense(snapshot, query, limit, allowed)
            except IndexingError:
                raise
            except ShoptalkError as error:
                if mode == "dense":
                    raise
                degraded = f"words only, the model is not available: {error}"
        if mode != "dense":
            found = snapshot.lexical.search(query, limit, None if allowed is None else allowed.tolist())
            lexical = ([number for number, _ in found], [score for _, score in found])
        hits = self._hits(snapshot, mode, dense, lexical, top_k)
        return SearchResult(
            query=query,
            mode=mode,
            corpus=self._corpus,
            model=snapshot.manifest.reference,
            generation=snapshot.generation.name,
            degraded=degraded,
            hits=hits,
        )

    def info(self) -> EngineInfo:
        """Say what is live; loads no embedder.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        snapshot = self._follow()
        manifest = snapshot.manifest
        return EngineInfo(
            corpus=self._corpus,
            generation=snapshot.generation.name,
            created=manifest.created,
            documents=manifest.documents,
            passages=manifest.passages,
            reference=manifest.reference,
            fingerprint=manifest.fingerprint,
            dimension=manifest.dimension,
            loaded=self.loaded,
            stale=current_reference(self._workspace) != manifest.reference,
        )

    def close(self) -> None:
        """Release the files of the generation, once the searches under way are through, and the embedder."""
        self._snapshot = None
        self._embedder = None

    def _follow(self) -> _Snapshot:
        """Return the live generation; after a switch one caller opens the new one and the others go on."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.stamp == self._stamp():
            return snapshot
        if not self._following.acquire(blocking=snapshot is None):
            assert snapshot is not None
            return snapshot
        try:
            stamp = self._stamp()
            current = self._snapshot
            if current is not None and current.stamp == stamp:
                return current
            fresh = _Snapshot(open_current(self._index_dir, self._corpus), stamp)
            if self.loaded:
                self._preload(fresh)
            self._snapshot = fresh
            return fresh
        finally:
            self._following.release()

    def _stamp(self) -> tuple[int, int]:
        try:
            status = os.stat(self._index_dir / CURRENT)
        except FileNotFoundError:
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)

    def _preload(self, snapshot: _Snapshot) -> None:
        """Have the embedder ready before a generation of another model is searched."""
        try:
            self._embedder_of(snapshot)
        except ShoptalkError as error:  # each search of that generation will say so
            log.warning("%s", error)

    def _embedder_of(self, snapshot: _Snapshot) -> Embedder:
        if snapshot.embedder is not None:
            return snapshot.embedder
        manifest = snapshot.manifest
        with self._loading:
            if self._embedder is not None and self._embedder.fingerprint == manifest.fingerprint:
                snapshot.embedder = self._embedder
                return self._embedder
            if self._failure is not None and self._failure[0] == snapshot.generation.name:
                raise self._failure[1]
            try:
                embedder = load_embedder(manifest.reference, self._workspace)
                if embedder.fingerprint != manifest.fingerprint:
                    raise IndexingError(
                        f"corpus {self._corpus!r} was indexed by another model than {manifest.reference} is now "
                        f"({manifest.fingerprint[:12]}, not {embedder.fingerprint[:12]}); run `shoptalk index`"
                    )
            except ShoptalkError as error:
                # Loading takes seconds: not at each search again, but at load() and for a new generation.
                self._failure = (snapshot.generation.name, error)
                raise
            self._embedder = snapshot.embedder = embedder
            return embedder

    def _dense(self, snapshot: _Snapshot, query: str, limit: int, allowed: NDArray[np.int64] | None) -> Ranking:
        embedder = self._embedder_of(snapshot)
        vector = embedder.encode_queries([query])[0]
        ids, scores = snapshot.vectors.search(vector, limit, allowed)
        return ids.tolist(), scores.tolist()

    def _hits(self, snapshot: _Snapshot, mode: Mode, dense: Ranking, lexical: Ranking, top_k: int) -> tuple[Hit, ...]:
        numbers, scores = self._ranked(snapshot, mode, dense, lexical)
        best = list(zip(numbers[:top_k], scores[:top_k], strict=True))
        rows = snapshot.catalog.passages([number for number, _ in best])
        dense_ranks = {number: rank for rank, number in enumerate(dense[0], 1)}
        lexical_ranks = {number: rank for rank, number in enumerate(lexical[0], 1)}
        return tuple(
            Hit(
                rank=rank,
                id=(row := rows[number]).passage.id,
                document_id=row.passage.document_id,
                title=row.passage.title,
                heading=row.passage.heading,
                path=row.path,
                first_line=row.passage.first_line,
                last_line=row.passage.last_line,
                text=row.passage.text,
                score=float(score),
                dense_rank=dense_ranks.get(number),
                lexical_rank=lexical_ranks.get(number),
            )
            for rank, (number, score) in enumerate(best, 1)
        )

    def _ranked(self, snapshot: _Snapshot, mode: Mode, dense: Ranking, lexical: Ranking) -> Ranking:
        if mode == "dense":
            return dense
        if mode == "lexical" or not dense[0]:
            return lexical
        settings = self._workspace.search
        weight = settings.lexical_weight
        if weight is None:
            weight = snapshot.manifest.lexical_weight
        if weight is None:
            weight = DEFAULT_LEXICAL_WEIGHT
        ids, scores = fuse(dense, lexical, method=settings.fusion, lexical_weight=weight)
        return ids.tolist(), scores.tolist()
