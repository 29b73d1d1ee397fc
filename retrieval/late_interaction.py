"""Late interaction: each token of a question looks for its own best match in a passage.

One vector for a whole passage tells what it is about and blurs what it says. The vectors that a model
averages into it are still there when it is made, so the first candidates of a search are compared by
them too: the mean, over the question's tokens, of the cosine to the nearest token of the passage (Khattab and
Zaharia, ColBERT, SIGIR 2020). No other model is needed, and no other pass through this one.

Of a passage's token vectors only the signs are kept, a bit a number, against the question's in full: on
three corpora that cost nothing that could be told from noise (docs/experiments.md). A code depends on its
text and the model alone, so an index that grew has the same codes as one built anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from retrieval.errors import IndexingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Codes: TypeAlias = "NDArray[np.uint8]"
"""The signs of a text's token vectors, packed: an array (tokens, ⌈dimension / 8⌉)."""

__all__ = [
    "CODES",
    "DEPTH",
    "NAME_CODES",
    "SHARE",
    "CodeFile",
    "pack_signs",
    "similarity",
    "write_codes",
]

DEPTH = 30
"""How many of the fused ranking's first places are ordered anew; twenty gave as much as a hundred did."""
SHARE = 0.5
"""What the tokens' similarity counts for among them, beside the fused score."""

CODES, NAME_CODES = "tokens.codes", "names.codes"
"""All codes of passages' tokens, and of their names (`retrieval.names`), after one another. Beside either, ending in
.npy, lies an array (passages, 3): number, first byte, bytes; by number."""


def pack_signs(tokens: NDArray[np.floating]) -> Codes:
    """A bit for each number of ``tokens`` (t, d), set where it is above 0: an array (t, ⌈d / 8⌉)."""
    import numpy as np

    return np.packbits(tokens > 0, axis=1)


def similarity(question: NDArray[np.float32], passages: Sequence[Codes]) -> NDArray[np.float64]:
    """How well the tokens of a question (q, d) are matched in each passage: an array (len(passages),).

    It is the mean over the question's tokens of the largest inner product with a passage token's signs, which are
    taken as a vector of length 1. A passage without tokens is as far away as can be, -1.
    """
    import numpy as np

    found = np.full(len(passages), -1.0)
    some = [place for place, codes in enumerate(passages) if len(codes)]
    if not some:
        return found
    dimension = question.shape[1]
    bits = np.unpackbits(np.concatenate([passages[place] for place in some]), axis=1, count=dimension)
    # A sign is twice its bit less 1, so one product with the bits serves.
    products = bits.astype(np.float32) @ question.T
    starts = np.cumsum([0, *(len(passages[place]) for place in some[:-1])])
    best = np.maximum.reduceat(products, starts, axis=0)
    found[some] = (2 * best - question.sum(axis=1)).mean(axis=1) / np.sqrt(dimension)
    return found


class CodeFile:
    """The codes of a generation's passages in ``file``, mapped. Thread-safe.

    Raises:
        IndexingError: it and the array beside it do not fit each other.
    """

    def __init__(self, file: Path, dimension: int) -> None:
        import numpy as np

        self._width = -(-dimension // 8)
        beside = file.with_suffix(".npy")
        try:
            places = np.load(beside)
            size = file.stat().st_size
            if places.ndim != 2 or places.shape[1] != 3 or int(places[:, 2].sum()) != size:
                raise ValueError("it is not what was written")
            # An empty file cannot be mapped.
            self._codes = np.memmap(file, np.uint8, "r") if size else np.empty(0, np.uint8)
        except (OSError, ValueError) as error:
            raise IndexingError(f"{beside} is damaged ({error}); rebuild it with `shoptalk index --full`") from None
        self.numbers: NDArray[np.int64] = places[:, 0]
        self._first, self._bytes = places[:, 1], places[:, 2]

    def some(self, numbers: Sequence[int]) -> dict[int, Codes]:
        """Return the codes of those of the passages that have any, by number."""
        import numpy as np

        if not len(self.numbers):
            return {}
        wanted = np.asarray(numbers, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.numbers, wanted), len(self.numbers) - 1)
        there = (self.numbers[places] == wanted) & (self._bytes[places] > 0)
        return {
            number: self._codes[first : first + size].reshape(-1, self._width)
            for number, first, size in zip(
                wanted[there].tolist(),
                self._first[places[there]].tolist(),
                self._bytes[places[there]].tolist(),
                strict=True,
            )
        }

    def codes(self, numbers: Sequence[int]) -> list[Codes]:
        """Return the codes of each passage, an array (tokens, width); one without codes has none."""
        import numpy as np

        found, none = self.some(numbers), np.empty((0, self._width), np.uint8)
        return [found.get(number, none) for number in numbers]


def write_codes(file: Path, codes: Iterable[tuple[int, Codes]]) -> None:
    """Write ``file`` and the array beside it: passage numbers, rising, and their codes; nothing is held in memory."""
    import numpy as np

    places: list[tuple[int, int, int]] = []
    first = 0
    with file.open("wb") as stream:
        for number, some in codes:
            written = stream.write(some.tobytes())
            places.append((number, first, written))
            first += written
    np.save(file.with_suffix(".npy"), np.array(places, dtype=np.int64).reshape(-1, 3))
