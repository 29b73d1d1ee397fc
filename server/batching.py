"""One embedder for many threads: queries that come at the same time are encoded together, and known ones not again."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from retrieval.console import Progress, silent
from retrieval.embedders import gives_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retrieval.embedders import Embedder

    _Vector = NDArray[np.float32]
    _Query = tuple[_Vector, _Vector | None]
    """Its vector, and those of its tokens."""

__all__ = ["SharedEmbedder"]

_MOST_TOGETHER = 16
"""Queries in one batch: what a CPU encodes in one go. Others are searched for while the next batch is encoded."""

_REMEMBERED = 1024
_REMEMBERED_WITH_TOKENS = 256
_MOST_CORES = 4


class SharedEmbedder:
    """``embedder``, whose queries one thread encodes in batches. Thread-safe.

    A batch waits for nothing: when the thread is idle it encodes the one query that came, and then whatever
    has queued meanwhile. One thread it is because every thread that multiplies matrices gets a team of helpers
    from OpenMP, and forty teams would fight over the cores (docs/experiments.md). The vectors of the latest
    queries are remembered.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.reference = embedder.reference
        self.fingerprint = embedder.fingerprint
        self.dimension = embedder.dimension
        self.max_tokens = embedder.max_tokens
        self.gives_tokens = embedder.gives_tokens
        self._embedder = embedder
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Future[_Query]] = OrderedDict()
        self._queue: deque[tuple[str, Future[_Query]]] = deque()
        self._busy = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder", initializer=_take_few_cores)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1.

        Raises:
            ShoptalkError: the embedder refused; all queries of a batch hear the same.
        """
        import numpy as np

        if not texts:
            return np.empty((0, self.dimension), dtype=np.float32)
        return np.stack([vector for vector, _ in self._results(texts)])

    def encode_queries_and_tokens(self, texts: Sequence[str]) -> list[tuple[_Vector, _Vector]]:
        """Return for each text its vector and those of its tokens; only where ``gives_tokens``.

        Raises:
            ShoptalkError: as for vectors alone.
        """
        return [(vector, tokens) for vector, tokens in self._results(texts) if tokens is not None]

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""
        return self._embedder.encode_documents(texts, progress)

    def encode_documents_and_tokens(self, texts: Sequence[str]) -> tuple[_Vector, list[NDArray[np.uint8]]]:
        """Return what ``encode_documents`` returns, and the codes of tokens; only where ``gives_tokens``."""
        assert gives_tokens(self._embedder), "this embedder tells no tokens"
        return self._embedder.encode_documents_and_tokens(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""
        return self._embedder.count_tokens(texts)

    def _results(self, texts: Sequence[str]) -> list[_Query]:
        return [future.result() for future in [self._ordered(text) for text in texts]]

    def _ordered(self, text: str) -> Future[_Query]:
        """The vectors of ``text``, known, on its way, or ordered now."""
        with self._lock:
            future = self._known.get(text)
            if future is not None:
                self._known.move_to_end(text)
                return future
            future = self._known[text] = Future()
            if len(self._known) > (_REMEMBERED_WITH_TOKENS if self.gives_tokens else _REMEMBERED):
                self._known.popitem(last=False)
            self._queue.append((text, future))
            if not self._busy:
                self._thread.submit(self._work)
                self._busy = True
            return future

    def _work(self) -> None:
        """Encode until nothing is queued."""
        while True:
            with self._lock:
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), _MOST_TOGETHER))]
                self._busy = bool(batch)
            if not batch:
                return
            self._encode(batch)

    def _encode(self, batch: list[tuple[str, Future[_Query]]]) -> None:
        try:
            encoded = self._encoded([text for text, _ in batch])
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            with self._lock:
                for text, future in batch:
                    if self._known.get(text) is future:
                        del self._known[text]
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), query in zip(batch, encoded, strict=True):
            future.set_result(query)

    def _encoded(self, texts: list[str]) -> list[_Query]:
        if gives_tokens(self._embedder):
            return [*self._embedder.encode_queries_and_tokens(texts)]
        # Copies: a row of the batch's array would keep all of it.
        return [(row.copy(), None) for row in self._embedder.encode_queries(texts)]


def _take_few_cores() -> None:
    """Have this thread multiply matrices on half of the cores, and on four at most.

    Those of a few short queries are small. A team that waits for a member without a core spins until it has
    one, and a server has other things to do: more of them is slower as soon as anything else runs.
    """
    torch = sys.modules.get("torch")  # there by now where the embedder needs it
    if torch is not None:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // 2, _MOST_CORES)))
