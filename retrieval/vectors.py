"""FAISS: inner-product search over vectors with stable integer ids, exact or by inverted lists."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from retrieval.durable import sync
from retrieval.errors import IndexingError, ShoptalkError
from retrieval.shortlist import Shortlist

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VectorIndex", "load_faiss", "refuse_unusable"]

log = logging.getLogger(__name__)

EXACT_ALLOWED = 100_000
"""Up to so many allowed ids a filtered search scores every one of them, in whatever list they lie."""
_FILTER_MARGIN = 4
"""So many times the vectors of an unfiltered search are scored among more: a filter may leave out the very topic
of the query, and what is near it then lies in many lists."""
_GPU_LIMIT = 2048  # the most neighbours FAISS finds on a GPU

_BROKEN = "FAISS does not load ({error}); uninstall faiss-cpu and faiss-gpu, then: pip install 'shoptalk[cpu]'"


def load_faiss() -> ModuleType:
    """Return the module ``faiss``.

    Raises:
        ShoptalkError: it is not installed, or the installation is broken.
    """
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
    """Vectors by id, scored by inner product.

    The FAISS index within is one of two. Exact: IndexIDMap2 over IndexFlatIP, with a shortlist of
    candidates (retrieval.shortlist) in a file beside it where that pays. Approximate:
    IndexIVFScalarQuantizer, whose lists keep the ids and whose file keeps the tuned ``nprobe``.

    One query is scanned by the thread that asks, without the GIL: concurrent searches use as many
    cores as there are callers, and FAISS's own threads are left to batches of queries.
    """

    def __init__(self, index: Any, *, mapped: bool = False) -> None:
        self._index = index
        self._mapped = mapped
        self._ids: NDArray[np.int64] | None = None
        self._shortlist: Shortlist | None = None
        self._largest = -1 if mapped or not index.ntotal else int(self.ids.max())
        self._placing = threading.Lock()
        self._gpu: Any = None
        self._on_gpu = threading.Lock()

    @classmethod
    def empty(cls, dimension: int) -> VectorIndex:
        """Return an exact index of no vectors of ``dimension`` numbers each."""
        faiss = load_faiss()
        return cls(faiss.IndexIDMap2(faiss.IndexFlatIP(dimension)))

    @classmethod
    def build(cls, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> VectorIndex:
        """Return an exact index of ``vectors``, an array (len(ids), dimension)."""
        index = cls.empty(vectors.shape[1])
        index.add(ids, vectors)
        return index

    @classmethod
    def read(cls, path: Path, *, mapped: bool = True) -> VectorIndex:
        """Read the index in the file ``path``; ``mapped``: leave the vectors on disk, and never change them.

        Raises:
            IndexingError: the file is missing or damaged.
        """
        faiss = load_faiss()
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
            shortlist = Shortlist.read(faiss, _beside(path)) if mapped else None
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1].strip()
            raise IndexingError(
                f"{path} is missing or damaged ({reason}); rebuild it with `shoptalk index --full`"
            ) from None
        found = cls(index, mapped=mapped)
        if shortlist is not None:
            if len(shortlist) != len(found):
                raise IndexingError(f"{_beside(path)} does not fit {path}; rebuild it with `shoptalk index --full`")
            found._shortlist = shortlist
        if mapped:
            found._gpu, reason = _copy_to_gpu(index)
            log.info("%s is searched by the %s: %s", path, "GPU" if found._gpu else "CPU", reason)
        return found

    def write(self, path: Path) -> None:
        """Write to ``path`` by way of a temporary file, so that the file there is whole at any instant."""
        faiss = load_faiss()
        if not self.exact:  # reading the table of places would cost more than making it when it is asked for
            self._index.set_direct_map_type(faiss.DirectMap.NoMap)
        temporary = path.with_name(path.name + ".tmp")
        faiss.write_index(self._index, str(temporary))
        sync(temporary)
        temporary.replace(path)
        shortlist = Shortlist.build(faiss, self._rows) if self.exact else None
        if shortlist is not None:
            shortlist.write(faiss, _beside(path))
        else:
            _beside(path).unlink(missing_ok=True)

    def __len__(self) -> int:
        """How many vectors there are."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """How many numbers a vector has."""
        return int(self._index.d)

    @property
    def exact(self) -> bool:
        """Whether a search compares the query with every vector, and at full precision."""
        return hasattr(self._index, "id_map")

    @property
    def _rows(self) -> NDArray[np.float32]:
        """The vectors of an exact index, an array (count, dimension) that shares FAISS's memory."""
        faiss = load_faiss()
        flat = faiss.downcast_index(self._index.index)
        rows: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), len(self) * self.dimension)
        return rows.reshape(-1, self.dimension)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids; of an exact index in the order they were added."""
        import numpy as np

        faiss = load_faiss()
        if self.exact:
            ids = self._ids
            if ids is None:
                ids = self._ids = faiss.vector_to_array(self._index.id_map)
            return ids
        lists = self._index.invlists
        sizes = [lists.list_size(number) for number in range(lists.nlist)]
        return np.concatenate(
            [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in enumerate(sizes) if size]
            or [np.empty(0, dtype=np.int64)]
        )

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of ``ids``, an array (len(ids), dimension); approximate ones as they were rounded.

        The first call on an approximate index makes the table of where each id lies (1M: 0.3 s).

        Raises:
            IndexingError: one of them is not in the index.
        """
        if not self.exact:
            with self._placing:
                faiss = load_faiss()
                if self._index.direct_map.type != faiss.DirectMap.Hashtable:
                    self._index.set_direct_map_type(faiss.DirectMap.Hashtable)
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
        refuse_unusable(ids, vectors, self.dimension)
        if not len(ids):
            return
        # New passages have the largest numbers, and then the old ones need not be gone through.
        repeated = ids.min() <= self._largest and np.isin(ids, self.ids).any()
        if repeated or len(np.unique(ids)) != len(ids):
            raise IndexingError("an id was given two vectors")
        self._ids = None
        self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), np.asarray(ids, dtype=np.int64))
        self._largest = max(self._largest, int(ids.max()))

    def remove(self, ids: NDArray[np.int64]) -> int:
        """Remove the vectors of ``ids`` and return how many there were."""
        self._refuse_if_mapped()
        self._ids = None
        if not self.exact:  # with the table of places FAISS takes no set of ids; going through the lists is quick
            self._index.set_direct_map_type(load_faiss().DirectMap.NoMap)
        return int(self._index.remove_ids(ids))

    def search(
        self, query: NDArray[np.float32], limit: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the ids and inner products of the ``limit`` nearest to ``query``, best first.

        Args:
            query: an array (dimension,).
            limit: how many at most.
            allowed: return none but these ids. However few they are, none is lost to the lists that an
                approximate search leaves out.

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
        limit = min(limit, len(self) if allowed is None else min(len(allowed), len(self)))
        if limit < 1:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        row = np.ascontiguousarray(query[np.newaxis], dtype=np.float32)
        if allowed is None and self._gpu is not None and limit <= _GPU_LIMIT:
            with self._on_gpu:  # FAISS's GPU resources serve one thread at a time
                scores, ids = self._gpu.search(row, limit)
        else:
            scores, ids = self._scan(row, limit, allowed)
        found = ids[0] >= 0
        return ids[0][found], scores[0][found]

    def _scan(
        self, row: NDArray[np.float32], limit: int, allowed: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Search for one query on the CPU, in this thread alone; where fewer are found, the ids end in -1."""
        import numpy as np

        faiss = load_faiss()
        parameters = None
        if not self.exact:
            if allowed is not None:
                parameters = faiss.SearchParametersIVF(sel=_selector(allowed), nprobe=self._probes(len(allowed)))
            scores, ids = self._index.search(row, limit, params=parameters)
            return scores, ids
        # By way of the id map FAISS would wake all its threads for one query, to translate a handful of ids.
        ids = self.ids
        if allowed is not None:
            parameters = faiss.SearchParameters(sel=_bitmap(np.isin(ids, allowed)))
        elif self._shortlist is not None:
            places = self._shortlist.places(row, limit)
            scores = self._scores(row, places)
            best = np.lexsort((places, -scores))[:limit]
            return scores[best][np.newaxis], ids[places[best]][np.newaxis]
        scores, places = self._index.index.search(row, limit, params=parameters)
        return scores, np.where(places >= 0, ids[places], -1)

    def _scores(self, row: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the inner products of ``row`` with the vectors at ``places`` of an exact index, read where they lie.

        To gather them first would cost more than to score them.
        """
        import numpy as np

        faiss = load_faiss()
        vectors = faiss.downcast_index(self._index.index).get_xb()
        scores = np.empty(len(places), dtype=np.float32)
        pointers = [faiss.swig_ptr(array) for array in (scores, row, places)]
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # of what this thread asks for; FAISS would wake the others for a handful
        try:
            faiss.fvec_inner_products_by_idx(
                pointers[0], pointers[1], vectors, pointers[2], self.dimension, 1, len(places)
            )
        finally:
            faiss.omp_set_num_threads(threads)
        return scores

    def _probes(self, allowed: int) -> int:
        """Return how many lists to probe for the best of so many allowed ids."""
        nprobe, nlist = self._index.nprobe, self._index.nlist
        if allowed <= EXACT_ALLOWED:
            return int(nlist)
        return int(min(nlist, _FILTER_MARGIN * nprobe * len(self) // allowed))

    def _refuse_if_mapped(self) -> None:
        if self._mapped:  # FAISS would abort the process
            raise IndexingError("a mapped index cannot be changed")


def refuse_unusable(ids: NDArray[np.int64], vectors: NDArray[np.float32], dimension: int) -> None:
    """Refuse vectors that FAISS cannot search, most of which it would take in silence.

    Raises:
        IndexingError: not an array (len(ids), dimension), or a number that is not finite.
    """
    import numpy as np

    if vectors.ndim != 2 or vectors.shape != (len(ids), dimension):
        raise IndexingError(f"vectors of shape {vectors.shape} do not fit {len(ids)} ids × {dimension}")
    if not np.isfinite(vectors).all():
        broken = ids[~np.isfinite(vectors).all(axis=1)]
        raise IndexingError(f"the model gave a vector that is not finite (passage number {broken[0]}); it is unusable")


def _beside(path: Path) -> Path:
    """Where the shortlist of the index in the file ``path`` is."""
    return path.with_suffix(".shortlist")


def _selector(allowed: NDArray[np.int64]) -> Any:
    """Return FAISS's set of ``allowed`` ids: a bitmap, which is made and asked fastest, unless it would be huge."""
    import numpy as np

    faiss = load_faiss()
    largest = int(allowed.max())
    if largest >= 64 * len(allowed) + 2**20:
        return faiss.IDSelectorBatch(np.asarray(allowed, dtype=np.int64))
    mask = np.zeros(largest + 1, dtype=bool)
    mask[allowed] = True
    return _bitmap(mask)


def _bitmap(mask: NDArray[np.bool_]) -> Any:
    import numpy as np

    return load_faiss().IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def _copy_to_gpu(index: Any) -> tuple[Any, str]:
    """Return a copy of an exact ``index`` on the first GPU, or None; and why."""
    faiss = load_faiss()
    if not hasattr(index, "id_map") or not index.ntotal:
        return None, "only exact search is done on a GPU"
    if not hasattr(faiss, "StandardGpuResources"):
        return None, "this FAISS has no GPU part (pip install 'shoptalk[gpu]' in place of 'shoptalk[cpu]')"
    if faiss.get_num_gpus() < 1:
        return None, "FAISS finds no GPU"
    try:
        copy = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    except RuntimeError as error:
        return None, f"the GPU did not take it ({str(error).rsplit(': ', 1)[-1].strip()})"
    return copy, "FAISS finds one"
