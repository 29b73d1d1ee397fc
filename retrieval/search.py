"""SearchEngine: the only way to ask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from retrieval.catalog import PassageRow
from retrieval.embedders import Embedder, gives_tokens, load_embedder
from retrieval.errors import EndpointError, GenerationGone, IndexingError, ModelError, ShoptalkError
from retrieval.fallback import stand_in
from retrieval.fusion import fuse, refine, served_weight
from retrieval.hits import Hit, Source, best, candidates, judged, make_hits
from retrieval.late_interaction import DEPTH, SHARE, similarity
from retrieval.models import current_reference
from retrieval.names import by_names, compares_names
from retrieval.reranking import Reranker
from retrieval.stages import stage
from retrieval.stores import OpenGeneration, Ranking, open_store
from retrieval.workspace import SearchSettings, Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["EngineInfo", "Hit", "Mode", "SearchEngine", "SearchResult", "Source"]

log = logging.getLogger(__name__)

Mode = Literal["hybrid", "dense", "lexical"]
_Tokens: TypeAlias = "NDArray[np.float32] | None"


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


WIDER = 4
"""Where fewer hits than wanted come of the candidates, so many times as many are ranked."""

WIDEST = 64
"""The candidates are never more than so many times those that were ranked at first."""

MOST = 16_384
"""The candidates are never widened beyond so many: Milvus ranks no more at once."""


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
    """A generation that was live when it was opened. A search keeps the one it began with, whatever comes."""

    def __init__(self, generation: OpenGeneration, stamp: Hashable) -> None:
        self.generation = generation
        self.facts = generation.facts
        self.stamp = stamp
        self.embedder: Embedder | None = None


class SearchEngine:
    """One corpus, searchable. Thread-safe; follows new generations by itself.

    Opening is quick: the embedder loads at the first dense or hybrid search, or in ``load()``.
    A corpus may be indexed after its engine was made; until then a search raises IndexingError.

    Args:
        workspace: whose corpus it is.
        corpus: its name; "" stands for the only one.
        share: given each embedder that is loaded, returns what to search with in its stead.

    Raises:
        SettingsError: the workspace has no such corpus.
    """

    def __init__(
        self, workspace: Workspace, corpus: str = "", share: Callable[[Embedder], Embedder] | None = None
    ) -> None:
        self._workspace = workspace
        self._corpus = workspace.corpus_name(corpus)
        self._store = open_store(workspace, self._corpus)
        self._share = share
        self._snapshot: _Snapshot | None = None
        self._following = threading.Lock()
        self._embedder: Embedder | None = None
        self._failure: tuple[str, ShoptalkError] | None = None
        self._stand_in: tuple[str, Embedder | None] = ("", None)
        self._loading = threading.Lock()
        self._reranker = Reranker(workspace, workspace.search.rerank) if workspace.search.rerank else None

    @property
    def loaded(self) -> bool:
        """Whether the embedder of the live generation is in memory."""
        snapshot = self._snapshot
        return snapshot is not None and snapshot.embedder is not None

    def load(self) -> None:
        """Load the embedder of the live generation and check its fingerprint; load the reranker (seconds).

        Raises:
            IndexingError: there is no index yet, or it was built by another model than its reference now names.
            ModelError: the embedder cannot be loaded.
        """
        self._failure = None
        if self._reranker is not None:
            try:
                self._reranker.load()
            except ModelError as error:  # each search will say so
                log.warning("%s", error)
        self._embedder_of(self._follow())

    def search(
        self,
        query: str,
        *,
        top_k: int = 5,
        mode: Mode | None = None,
        path_prefix: str = "",
        per_document: int | None = None,
        vector: NDArray[np.float32] | None = None,
    ) -> SearchResult:
        """Return the best ``top_k`` passages for ``query``; no match is a result with no hits.

        Args:
            query: what to look for, in any words.
            top_k: how many passages at most, from 1.
            mode: hybrid, dense or lexical; by default as ``search.mode`` is set.
            path_prefix: only documents whose id, or whose file's path, starts so; "./" before it counts for nothing.
            per_document: how many passages of one document at most, 0 for any number; by default as
                ``search.per_document`` is set.
            vector: what the index's embedder (``info().fingerprint``) makes of the query, an array
                (dimension,) of length 1, where the caller has it; no embedder is loaded then, and no tokens
                are compared.

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
        settings = self._workspace.search
        if per_document is not None:
            settings = settings.model_copy(update={"per_document": per_document})
        asked = partial(self._search, _whole(query), top_k, mode or settings.mode, _prefix(path_prefix), settings)
        try:
            return asked(self._follow(), vector)
        except GenerationGone:  # two switches came while this search went on
            self._snapshot = None
            return asked(self._follow(), vector)

    def document(self, document_id: str, limit: int) -> list[PassageRow]:
        """Return the first ``limit`` passages of a document, in their order; none where it is not indexed.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        return self._follow().generation.document(_whole(document_id), limit)

    def document_ids(self, prefix: str, limit: int) -> list[str]:
        """Return the first ``limit`` ids of documents that start with ``prefix``, sorted.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        return self._follow().generation.document_ids(_whole(prefix), limit)

    def elsewhere(self, path_prefix: str, limit: int) -> list[PassageRow]:
        """Return the first passages of ``limit`` documents, if no document is under ``path_prefix``; none if one is.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        import numpy as np

        snapshot = self._follow()
        anything = np.full(snapshot.facts.dimension, snapshot.facts.dimension**-0.5, dtype=np.float32)
        (under, _), _ = snapshot.generation.rank("", anything, 1, _prefix(path_prefix))
        return [] if under else [row for id in self.document_ids("", limit) for row in self.document(id, 1)]

    def info(self) -> EngineInfo:
        """Say what is live; loads no embedder.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        facts = self._follow().facts
        return EngineInfo(
            corpus=self._corpus,
            generation=facts.name,
            created=facts.created,
            documents=facts.documents,
            passages=facts.passages,
            reference=facts.reference,
            fingerprint=facts.fingerprint,
            dimension=facts.dimension,
            loaded=self.loaded,
            stale=current_reference(self._workspace) != facts.reference,
        )

    def close(self) -> None:
        """Release the files of the generation, once the searches under way are through, and the embedder."""
        self._snapshot = None
        self._embedder = None

    def _follow(self) -> _Snapshot:
        """Return the live generation; after a switch one caller opens the new one and the others go on."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.stamp == self._store.stamp():
            return snapshot
        if not self._following.acquire(blocking=snapshot is None):
            assert snapshot is not None
            return snapshot
        try:
            stamp = self._store.stamp()
            current = self._snapshot
            if current is not None and current.stamp == stamp:
                return current
            fresh = _Snapshot(self._store.open(), stamp)
            if self.loaded:
                self._preload(fresh)
            self._snapshot = fresh
            return fresh
        finally:
            self._following.release()

    def _search(
        self,
        query: str,
        top_k: int,
        mode: Mode,
        path_prefix: str,
        settings: SearchSettings,
        snapshot: _Snapshot,
        vector: NDArray[np.float32] | None,
    ) -> SearchResult:
        degraded, tokens = "", None
        if mode != "lexical" and vector is None:
            try:
                with stage("encode"):
                    vector, tokens, degraded = self._query_vector(snapshot, query)
            except IndexingError:
                raise
            except ShoptalkError as error:
                if mode == "dense":
                    raise
                mode, degraded = "lexical", f"words only, the model is not available: {error}"
        # Of three documents there are no ten hits to look for where each may give one.
        wanted = min(top_k, settings.per_document * snapshot.facts.documents) if settings.per_document else top_k
        known: dict[int, PassageRow] = {}
        limit = max(top_k, settings.candidates)
        most = max(limit, min(limit * WIDEST, MOST))
        while True:
            dense, lexical = snapshot.generation.rank(
                "" if mode == "dense" else query, None if mode == "lexical" else vector, limit, path_prefix
            )
            with stage("fuse"):
                nearer = dense if mode == "dense" or vector is None else self._by_names(snapshot, vector, dense)
                ranking = self._ranked(snapshot, mode, nearer, lexical, tokens)
            with stage("hits"):
                choices = candidates(snapshot.generation, *ranking, top_k, settings, known)
                # Fewer than wanted: the candidates say the same, or are of few documents, and there may be others.
                others = limit < most and max(len(dense[0]), len(lexical[0])) >= limit
                if others and len(best(choices, top_k, settings)) < wanted:
                    limit = min(limit * WIDER, most)
                    continue
                not_reranked = ""
                if self._reranker is not None:
                    choices, not_reranked = judged(choices, partial(self._reranker.scores, query))
                ranks = _ranks(dense), _ranks(lexical)
                hits = make_hits(snapshot.generation, best(choices, top_k, settings), *ranks, settings.neighbours)
                break
        return SearchResult(
            query=query,
            mode=mode,
            corpus=self._corpus,
            model=snapshot.facts.reference,
            generation=snapshot.facts.name,
            degraded="; ".join(filter(None, (degraded, not_reranked))),
            hits=hits,
        )

    def _preload(self, snapshot: _Snapshot) -> None:
        """Have the embedder ready before a generation of another model is searched."""
        try:
            self._embedder_of(snapshot)
        except ShoptalkError as error:  # each search of that generation will say so
            log.warning("%s", error)

    def _embedder_of(self, snapshot: _Snapshot) -> Embedder:
        if snapshot.embedder is not None:
            return snapshot.embedder
        facts = snapshot.facts
        with self._loading:
            if self._embedder is not None and self._embedder.fingerprint == facts.fingerprint:
                snapshot.embedder = self._embedder
                return self._embedder
            if self._failure is not None and self._failure[0] == snapshot.facts.name:
                # Without where it was raised before: that would grow with each search.
                raise self._failure[1].with_traceback(None)
            try:
                embedder = load_embedder(facts.reference, self._workspace)
                if embedder.fingerprint != facts.fingerprint:
                    raise IndexingError(
                        f"corpus {self._corpus!r} was indexed by another model than {facts.reference} is now "
                        f"({facts.fingerprint[:12]}, not {embedder.fingerprint[:12]}); run `shoptalk index`"
                    )
            except ShoptalkError as error:
                # Loading takes seconds: not at each search again, but at load() and for a new generation.
                self._failure = (snapshot.facts.name, error)
                raise
            if self._share is not None:
                embedder = self._share(embedder)
            self._embedder = snapshot.embedder = embedder
            return embedder

    def _query_vector(self, snapshot: _Snapshot, query: str) -> tuple[NDArray[np.float32], _Tokens, str]:
        """The query's vector, those of its tokens if there are any, "" or why another model made them."""
        reference, endpoint = snapshot.facts.reference, self._workspace.model.endpoint
        try:
            vector, tokens = _encoded(self._embedder_of(snapshot), query)
            degraded = ""
            if endpoint and reference != endpoint:
                degraded = f"by {reference}, which made the index, not by {endpoint}; run `shoptalk index`"
        except EndpointError as error:
            local = self._stand_in_of(snapshot)
            if local is None:
                raise
            vector, tokens = _encoded(local, query)
            degraded = f"by {local.reference}, a local model that gives the same vectors: {error}"
        return vector, tokens, degraded

    def _stand_in_of(self, snapshot: _Snapshot) -> Embedder | None:
        """A local model for an endpoint that is down; looked for once a generation."""
        name = snapshot.facts.name
        with self._loading:
            if self._stand_in[0] != name:
                self._stand_in = (name, stand_in(self._workspace, snapshot.facts.fingerprint))
            return self._stand_in[1]

    def _by_names(self, snapshot: _Snapshot, vector: NDArray[np.float32], dense: Ranking) -> Ranking:
        """The dense candidates as the names that the first of them list bring these nearer."""
        if not compares_names(self._workspace):
            return dense
        names = snapshot.generation.names(dense[0][: self._workspace.search.candidates])
        return _lists(*by_names(vector, *dense, names)) if names else dense

    def _ranked(self, snapshot: _Snapshot, mode: Mode, dense: Ranking, lexical: Ranking, tokens: _Tokens) -> Ranking:
        if mode == "dense":
            return dense
        if mode == "lexical" or not dense[0]:
            return lexical
        settings = self._workspace.search
        weight = served_weight(settings.lexical_weight, snapshot.facts.lexical_weight)
        ids, scores = fuse(dense, lexical, method=settings.fusion, lexical_weight=weight)
        if tokens is not None and settings.late_interaction:
            codes = snapshot.generation.tokens(ids[:DEPTH].tolist())
            if codes is not None:
                ids, scores = refine(ids, scores, similarity(tokens, codes), SHARE)
        return _lists(ids, scores)


def _encoded(embedder: Embedder, query: str) -> tuple[NDArray[np.float32], _Tokens]:
    """The vector of a query, and those of its tokens where the embedder tells them."""
    if gives_tokens(embedder):
        return embedder.encode_queries_and_tokens([query])[0]
    return embedder.encode_queries([query])[0], None


def _lists(ids: NDArray[np.int64], scores: NDArray[np.floating]) -> Ranking:
    return ids.tolist(), scores.tolist()


def _ranks(ranking: Ranking) -> dict[int, int]:
    return {number: rank for rank, number in enumerate(ranking[0], 1)}


def _prefix(path: str) -> str:
    """``path`` as ids begin, where it is given as shells complete it."""
    return _whole(path).removeprefix("./")


def _whole(text: str) -> str:
    """``text`` without halves of surrogate pairs, which a program can hold and UTF-8 has no place for."""
    return text.encode("utf-8", "replace").decode()
