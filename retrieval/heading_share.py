"""A share of its headings in each passage's vector, where questions are found to ask for what headings say.

A passage's text says what it says in its headings' light; a heading alone says what the passage is about. How much of
either answers people's questions differs by corpus: the share is chosen on dev questions (`trainer.fusing`), with
BM25's weight, and costs nothing when searched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from retrieval.models import Fusion
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["heading_vectors", "served_share", "with_headings"]


def served_share(workspace: Workspace, fusion: Fusion) -> float:
    """The share that passages are indexed with: that of the settings, else that chosen with the model."""
    fixed = workspace.passages.heading_share
    return fusion.heading_share if fixed is None else fixed


def heading_vectors(
    headings: Sequence[str], dimension: int, encode: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return (len(headings), dimension): what ``encode`` makes of each heading, zeros where there is none ("")."""
    import numpy as np

    vectors = np.zeros((len(headings), dimension), dtype=np.float32)
    if rows := [row for row, heading in enumerate(headings) if heading]:
        vectors[rows] = encode([headings[row] for row in rows])
    return vectors


def with_headings(vectors: NDArray[np.float32], of_headings: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Mix the vectors of passages with those of their headings.

    Args:
        vectors: (p, d), of length 1.
        of_headings: (p, d), of length 1, or 0 where the vector of the text is to stay as it is.
        share: of the headings, from 0 to .9.

    Returns:
        (p, d), of length 1.
    """
    import numpy as np

    if not share:
        return vectors
    mixed = (1 - share) * vectors + share * of_headings
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    # Where halves are opposite nothing is left of them: there the text has the word.
    return np.where(lengths > 1e-6, mixed / np.maximum(lengths, 1e-6), vectors).astype(np.float32, copy=False)
