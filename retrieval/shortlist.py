"""A shortlist for exact search: four bits for two numbers, scanned in registers, then scored in full.

A scan of float32 vectors waits for memory. Codes of a sixteenth of the size, compared by table
look-ups in SIMD registers (André, Kermarrec and Le Scouarnec, Quicker ADC, 2019), name a few times
as many candidates as are wanted; those alone are scored exactly. Scores are exact, then, and a
neighbour is lost only where its code misleads by more than the margin.

The code book is fixed, not trained: after a random rotation the numbers of a unit vector are close
to normal with variance 1/dimension, whatever the corpus, and two bits for each are given by Max's
levels (Quantizing for Minimum Distortion, 1960). So a code depends on its vector alone, and an
index that grew has the same codes as one built anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LEAST_VECTORS", "MARGIN", "Shortlist"]

LEAST_VECTORS = 5_000
"""Below so many a full scan takes less than half a millisecond, and no shortlist is kept."""
MARGIN = 4
"""Candidates a wanted neighbour. On MiniLM's vectors of ICD-10-CM and on made-up ones 4 kept all of the ten
nearest and .9999 of the hundred nearest; 2 kept .994 of these."""
LEAST_CANDIDATES = 400
"""Few wanted neighbours need a wider margin: a code may mislead by as many places as for more of them."""
LEAST_SHARE = 100
"""One vector in so many is a candidate at least: the more there are, the more lie within a code's error."""
_LEVELS = (-1.510, -0.4528, 0.4528, 1.510)
_BLOCK = 16_384
_SEED = 13


class Shortlist:
    """The codes of vectors by their place, from 0."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, faiss: ModuleType, vectors: NDArray[np.float32]) -> Shortlist | None:
        """Return the shortlist of ``vectors``, an array (count, dimension); None where it would not pay."""
        count, dimension = vectors.shape
        if count < LEAST_VECTORS or dimension % 2:
            return None
        rotation = faiss.RandomRotationMatrix(dimension, dimension)
        rotation.init(_SEED)
        codes = faiss.IndexPQFastScan(dimension, dimension // 2, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(_code_book(dimension), codes.pq.centroids)
        codes.is_trained = True
        index = faiss.IndexPreTransform(rotation, codes)
        for start in range(0, count, _BLOCK):  # the rotation makes a copy
            index.add(vectors[start : start + _BLOCK])
        return cls(index)

    @classmethod
    def read(cls, faiss: ModuleType, path: Path) -> Shortlist | None:
        """Return the shortlist in the file ``path``, None where there is none.

        Raises:
            RuntimeError: the file is damaged.
        """
        return cls(faiss.read_index(str(path))) if path.exists() else None

    def write(self, faiss: ModuleType, path: Path) -> None:
        """Write to the file ``path``."""
        faiss.write_index(self._index, str(path))

    def __len__(self) -> int:
        """How many vectors it has codes of."""
        return int(self._index.ntotal)

    def places(self, row: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
        """Return the places of the candidates for the ``limit`` nearest to ``row``, an array (1, dimension)."""
        candidates = max(MARGIN * limit, LEAST_CANDIDATES, len(self) // LEAST_SHARE)
        _, places = self._index.search(row, min(candidates, len(self)))
        found: NDArray[np.int64] = places[0][places[0] >= 0]
        return found


def _code_book(dimension: int) -> NDArray[np.float32]:
    """The centroids of every pair of numbers: all pairs of levels, at the scale of a unit vector's numbers."""
    import numpy as np

    levels = np.array(_LEVELS) / np.sqrt(dimension)
    pairs = np.array([(first, second) for first in levels for second in levels], dtype=np.float32)
    return np.tile(pairs, (dimension // 2, 1)).ravel()
