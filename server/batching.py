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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retrieval.embedders import Embedder

    _Vector = NDArray[np.float32]

__all__ = ["SharedEmbedder"]

_MOST_TOGETHER = 16
"""Queries in one batch: what a CPU encodes in one go. Others are searched for while the next batch is encoded."""

_REMEMBERED = 1024
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
        self._embedder = embedder
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Future[_Vector]] = OrderedDict()
        self._queue: deque[tuple[str, Future[_Vector]]] = deque()
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
        return np.stack([future.result() for future in [self._vector(text) for text in texts]])

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""
        return self._embedder.encode_documents(texts, progress)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""
        return self._embedder.count_tokens(texts)

    def _vector(self, text: str) -> Future[_Vector]:
        """The vector of ``text``, known, on its way, or ordered now."""
        with self._lock:
            future = self._known.get(text)
            if future is not None:
                self._known.move_to_end(text)
                return future
            future = self._known[text] = Future()
            if len(self._known) > _REMEMBERED:
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

    def _encode(self, batch: list[tuple[str, Future[_Vector]]]) -> None:
        try:
            # Copies: a row of the batch's array would keep all of it.
            vectors = [row.copy() for row in self._embedder.encode_queries([text for text, _ in batch])]
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            with self._lock:
                for text, future in batch:
                    if self._known.get(text) is future:
                        del self._known[text]
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), vector in zip(batch, vectors, strict=True):
            future.set_result(vector)


def _take_few_cores() -> None:
    """Have this thread multiply matrices on half of the cores, and on four at most.

    Those of a few short queries are small. A team that waits for a member without a core spins until it has
    one, and a server has other things to do: more of them is slower as soon as anything else runs.
    """
    torch = sys.modules.get("torch")  # there by now where the embedder needs it
    if torch is not None:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // 2, _MOST_CORES)))
