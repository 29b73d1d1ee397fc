"""FAISS: exact inner-product search over vectors with stable integer ids."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from retrieval.errors import IndexingError, ShoptalkError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VectorIndex"]


_BROKEN = "FAISS does not load ({error}); uninstall faiss-cpu and faiss-gpu, then: pip install 'shoptalk[cpu]'"


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        if error.name == "faiss":
            raise ShoptalkError("FAISS is not installed: pip install 'shoptalk[cpu]'") from None
        raise ShoptalkError(_BROKEN.format(error=error)) from None
    except RuntimeError as error:  # a GPU build without its libraries
        raise ShoptalkError(_BROKEN.format(error=error)) from None
    if not hasattr(faiss, "IndexFlatIP"):
        # faiss-cpu and faiss-gpu share one folder; uninstalling either empties it.
        raise ShoptalkError(_BROKEN.format(error="half of it is gone"))
    module: ModuleType = faiss
    return module


class VectorIndex:
    """Vectors by id, searched exactly (IndexIDMap2 over IndexFlatIP).

    One query is scanned by the thread that asks, without the GIL: concurrent searches use as many
    cores as there are callers, and FAISS's own threads are left to batches of queries.
    """

    def __init__(self, index: Any, *, mapped: bool = False) -> None:
        self._index = index
        self._mapped = mapped
        self._largest = -1 if mapped or not index.ntotal else int(self.ids.max())

    @classmethod
    def empty(cls, dimension: int) -> VectorIndex:
        """Return an index of no vectors of ``dimension`` numbers each."""
        faiss = _faiss()
        return cls(faiss.IndexIDMap2(faiss.IndexFlatIP(dimension)))

    @classmethod
    def build(cls, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorIndex:
        """Return an index of ``vectors``, an array (len(ids), dimension)."""
        index = cls.empty(vectors.shape[1])
        index.add(ids, vectors)
        return index

    @classmethod
    def read(cls, path: Path, *, mapped: bool = True) -> VectorIndex:
        """Read the index in the file ``path``; ``mapped``: leave the vectors on disk, and never change them.

        Raises:
            IndexingError: the file is missing or damaged.
        """
        faiss = _faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1].strip()
            raise IndexingError(
                f"{path} is missing or damaged ({reason}); rebuild it with `shoptalk index --full`"
            ) from None
        return cls(index, mapped=mapped)

    def write(self, path: Path) -> None:
        """Write to ``path`` by way of a temporary file, so that the file there is whole at any instant."""
        temporary = path.with_name(path.name + ".tmp")
        _faiss().write_index(self._index, str(temporary))
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)

    def __len__(self) -> int:
        """How many vectors there are."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self._index.d)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids, in the order they were added."""
        ids: NDArray[np.int64] = _faiss().vector_to_array(self._index.id_map)
        return ids

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ``ids``, an array (len(ids), dimension).

        Raises:
            IndexingError: one of them is not in the index.
        """
        try:
            found: NDArray[np.float32] = self._index.reconstruct_batch(ids)
        except RuntimeError:
            raise IndexingError("the index has no vector for a passage; run `shoptalk index --full`") from None
        return found

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add ``vectors``, an array (len(ids), dimension).

        Raises:
            IndexingError: a wrong shape, a number that is not finite, an id twice, a mapped index.
                FAISS takes all but the first in silence.
        """
        import numpy as np

        self._refuse_if_mapped()
        if vectors.ndim != 2 or vectors.shape != (len(ids), self.dimension):
            raise IndexingError(f"vectors of shape {vectors.shape} do not fit {len(ids)} ids × {self.dimension}")
        if not np.isfinite(vectors).all():
            broken = ids[~np.isfinite(vectors).all(axis=1)]
            raise IndexingError(
                f"the model gave a vector that is not finite (passage number {broken[0]}); it is unusable"
            )
        if not len(ids):
            return
        # New passages have the largest numbers, and then the old ones need not be gone through.
        repeated = ids.min() <= self._largest and np.isin(ids, self.ids).any()
        if repeated or len(np.unique(ids)) != len(ids):
            raise IndexingError("an id was given two vectors")
        self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), np.asarray(ids, dtype=np.int64))
        self._largest = max(self._largest, int(ids.max()))

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove the vectors of ``ids`` and return how many there were."""
        self._refuse_if_mapped()
        return int(self._index.remove_ids(ids))

    def search(
        self, query: NDArray[np.float32], limit: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ids and inner products of the ``limit`` nearest to ``query``, best first.

        Args:
            query: an array (dimension,).
            limit: how many at most.
            allowed: return none but these ids.

        Raises:
            IndexingError: ``query`` has another dimension, or is not finite.
        """
        import numpy as np

        if query.shape != (self.dimension,):
            raise IndexingError(
                f"a query vector of shape {query.shape} does not fit an index of {self.dimension} numbers"
            )
        if not np.isfinite(query).all():
            raise IndexingError("the model gave a query vector that is not finite")
        parameters = None
        if allowed is not None:
            faiss = _faiss()
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.asarray(allowed, dtype=np.int64)))
            limit = min(limit, len(allowed))
        limit = min(limit, len(self))
        if limit < 1:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        row = np.ascontiguousarray(query[np.newaxis], dtype=np.float32)
        scores, ids = self._index.search(row, limit, params=parameters)
        found = ids[0] >= 0
        return ids[0][found], scores[0][found]

    def _refuse_if_mapped(self) -> None:
        if self._mapped:  # FAISS would abort the process
            raise IndexingError("a mapped index cannot be changed")
