"""The search engines of a workspace, and their models, which load in the background.

Nothing heavy is imported until a search or `warm_up` asks for it, so that a server answers at once.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
import anyio.to_thread

from retrieval.errors import IndexingError, ModelError, ShoptalkError
from retrieval.stores import Store, open_store
from retrieval.workspace import Workspace
from server.batching import SharedEmbedder
from server.contract import LoadState

if TYPE_CHECKING:
    from retrieval.catalog import PassageRow
    from retrieval.embedders import Embedder
    from retrieval.search import EngineInfo, Mode, SearchEngine, SearchResult

__all__ = ["Engines"]

_LOOK_EVERY_SECONDS = 0.05
_RETRY_AFTER_SECONDS = 30.0
_THREADS = 40
"""Searches at once. Most of them wait for their query's vector, so there are more than cores."""
_MOST_WAITING = 200
"""Searches that may wait for a thread; some seconds' worth. Who comes later is told so at once."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why the model of a generation did not load, and when (monotonic seconds)."""

    generation: str | None = None
    reason: str = ""
    when: float = -math.inf


class Engines:
    """One SearchEngine a corpus. Thread-safe; a model that loads or fails keeps nobody from searching words."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._engines: dict[str, SearchEngine] = {}
        self._stores: dict[str, Store] = {}
        self._shared: WeakValueDictionary[str, SharedEmbedder] = WeakValueDictionary()
        self._threads: anyio.CapacityLimiter | None = None
        self._loading: set[str] = set()
        self._failures: dict[str, _Failure] = {}
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._loader: threading.Thread | None = None

    def warm_up(self) -> None:
        """Begin to load the models of all corpora, in the background."""
        if self._workspace.store.kind == "local":
            self._load_all()
        else:  # a database may take its time to answer, or to not answer
            threading.Thread(target=self._load_all, name="warm-up", daemon=True).start()

    def load(self, corpus: str) -> None:
        """Begin to load the model of ``corpus``.

        Does nothing where it is loaded or on its way, failed a moment ago, or there is no index.
        """
        if self.load_state(corpus)[0] in ("loading", "ready"):
            return
        generation = self.live(corpus)
        with self._lock:
            if generation is None or corpus in self._loading or self._is_loaded(corpus):
                return
            failure = self._failures.get(corpus, _Failure())
            if failure.generation == generation and time.monotonic() - failure.when < _RETRY_AFTER_SECONDS:
                return
            self._loading.add(corpus)
            if self._loader is None:
                # A daemon, so that a server that is told to go need not wait for it.
                self._loader = threading.Thread(target=self._load_ordered, name="model-loader", daemon=True)
                self._loader.start()
        self._orders.put(corpus)

    def load_state(self, corpus: str) -> tuple[LoadState, str]:
        """How far the model of ``corpus`` is, and why it failed if it did."""
        with self._lock:
            if corpus in self._loading:
                return "loading", ""
            if self._is_loaded(corpus):
                return "ready", ""
            reason = self._failures.get(corpus, _Failure()).reason
            return ("failed" if reason else "not loaded"), reason

    def live(self, corpus: str) -> str | None:
        """The name of the live generation of ``corpus``; None where there is none, "" where nobody can tell."""
        with self._lock:
            if corpus not in self._stores:
                self._stores[corpus] = open_store(self._workspace, corpus)
            store = self._stores[corpus]
        try:
            return store.live()
        except IndexingError as error:
            logger.warning("%s", error)
            return ""

    def info(self, corpus: str) -> EngineInfo:
        """What is live for ``corpus``.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        return self._engine(corpus).info()

    def document(self, corpus: str, document_id: str, limit: int) -> list[PassageRow]:
        """The first ``limit`` passages of a document, in their order; none where it is not indexed.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        return self._engine(corpus).document(document_id, limit)

    def document_ids(self, corpus: str, prefix: str, limit: int) -> list[str]:
        """The first ``limit`` ids of documents that start with ``prefix``, sorted.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        return self._engine(corpus).document_ids(prefix, limit)

    def elsewhere(self, corpus: str, path_prefix: str, limit: int) -> list[PassageRow]:
        """See `SearchEngine.elsewhere`.

        Raises:
            IndexingError: there is no index yet, or it is damaged.
        """
        return self._engine(corpus).elsewhere(path_prefix, limit)

    @property
    def waiting(self) -> int:
        """How many searches wait for a thread."""
        return 0 if self._threads is None else self._threads.statistics().tasks_waiting

    async def search(
        self, query: str, corpus: str, *, top_k: int, mode: Mode, path_prefix: str, per_document: int | None = None
    ) -> tuple[SearchResult, str]:
        """Search off the event loop, as `SearchEngine.search` does; wait a while for a model that is still loading.

        Returns the result, and "" or why a hybrid search went by words alone.

        Raises:
            ModelError: a dense search without a model.
            IndexingError: there is no index, it is damaged, or was built by another model.
            ShoptalkError: too many searches wait already.
        """
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(_THREADS)
        if self.waiting >= _MOST_WAITING:
            raise ShoptalkError(f"the server is busy, {_MOST_WAITING} searches wait already; try again in some seconds")
        degraded = ""
        if mode != "lexical" and not await self._settled(corpus):
            if mode == "dense":
                raise ModelError("the model is still loading; try again shortly, or search with mode lexical")
            mode, degraded = "lexical", "ranked by words alone, as the model is still loading"

        def ask() -> SearchResult:
            engine = self._engine(corpus)
            return engine.search(query, top_k=top_k, mode=mode, path_prefix=path_prefix, per_document=per_document)

        return await anyio.to_thread.run_sync(ask, limiter=self._threads), degraded

    async def _settled(self, corpus: str) -> bool:
        """Whether the model of ``corpus`` is loaded or has failed, within the time a search may wait."""
        if self.load_state(corpus)[0] not in ("loading", "ready"):
            # Not on the event loop: a database is asked what is live, and may not answer.
            await anyio.to_thread.run_sync(self.load, corpus, limiter=self._threads)
        if self.load_state(corpus)[0] == "loading":
            with anyio.move_on_after(self._workspace.server.model_wait_seconds):
                while self.load_state(corpus)[0] == "loading":
                    await anyio.sleep(_LOOK_EVERY_SECONDS)
        return self.load_state(corpus)[0] != "loading"

    def _engine(self, corpus: str) -> SearchEngine:
        from retrieval.search import SearchEngine

        with self._lock:
            if corpus not in self._engines:
                self._engines[corpus] = SearchEngine(self._workspace, corpus, share=self._share)
            return self._engines[corpus]

    def _share(self, embedder: Embedder) -> Embedder:
        """What all engines search with whose embedder has that fingerprint: one model in memory, and one queue."""
        with self._lock:
            shared = self._shared.get(embedder.fingerprint)
            if shared is None:
                shared = self._shared[embedder.fingerprint] = SharedEmbedder(embedder)
            return shared

    def _load_all(self) -> None:
        for corpus in self._workspace.corpora:
            self.load(corpus)

    def _is_loaded(self, corpus: str) -> bool:
        engine = self._engines.get(corpus)
        return engine is not None and engine.loaded

    def _load_ordered(self) -> None:
        while True:
            corpus = self._orders.get()
            generation = self.live(corpus)
            reason = ""
            try:
                self._engine(corpus).load()
            except ShoptalkError as error:
                reason = str(error)
            except Exception as error:
                logger.exception("Loading the model of corpus %s failed", corpus)
                reason = f"{type(error).__name__}; see the server's log"
            with self._lock:
                self._failures[corpus] = _Failure(generation, reason, time.monotonic() if reason else -math.inf)
                self._loading.discard(corpus)
