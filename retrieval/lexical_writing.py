"""The lexical index of the next generation: grown from the last one's, or written anew.

tantivy only marks a deleted passage, and counts it in its word statistics until it merges the segment
that holds it. What ranks a passage would then depend on what was deleted before, so such ghosts are
got rid of wherever that is cheap.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.lexical import LexicalIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_lexical"]

Texts = Callable[[Sequence[int]], list[str]]
"""What is embedded of the passages with these numbers, in their order."""

REWRITTEN = 2_000
"""Up to so many passages writing them all anew is quicker than having tantivy merge."""
MERGED = 16_000
"""Up to so many tantivy counts one segment among the small ones that it merges (by LogMergePolicy, 10,000 × 2^0.75)."""
MERGED_AT = 8
"""So many small segments are merged into one."""
GHOSTS = 0.1
"""Beyond MERGED the index is written anew when more than this part of its passages are ghosts."""
BATCH = 256


def write_lexical(
    folder: Path,
    language: str,
    numbers: NDArray[np.int64],
    gone: NDArray[np.int64],
    new: NDArray[np.int64],
    texts: Texts,
    check_stop: Callable[[], None],
    base: tuple[Path, int] | None = None,
) -> int:
    """Write the index of the passages ``numbers`` to the new folder ``folder``.

    Args:
        folder: where to.
        language: whose stems are indexed.
        numbers: the passages' numbers, rising.
        gone: those that went since ``base``.
        new: those that came since.
        texts: gives the passages' texts.
        check_stop: is called between batches; it may raise to stop.
        base: the folder of the last index to grow from, and how many ghosts it has.

    Returns:
        How many ghosts it has.
    """
    ghosts = len(gone) + (base[1] if base else 0)
    writer = _Writer(folder, language, texts, check_stop)
    if base and not ghosts:
        writer.grow(base[0], gone, [new])
        return 0
    if base and REWRITTEN < len(numbers) <= MERGED and writer.merge(base[0], numbers, gone, new):
        return 0
    if base and len(numbers) > MERGED and ghosts <= GHOSTS * len(numbers):
        writer.grow(base[0], gone, [new])
        return ghosts
    writer.anew(numbers)
    return 0


class _Writer:
    """The ways to make the index in ``folder``."""

    def __init__(self, folder: Path, language: str, texts: Texts, check_stop: Callable[[], None]) -> None:
        self.folder = folder
        self.language = language
        self.texts = texts
        self.check_stop = check_stop

    def anew(self, numbers: NDArray[np.int64]) -> None:
        index = LexicalIndex.create(self.folder, self.language)
        self._add(index, numbers)
        index.commit()

    def grow(self, base: Path, gone: NDArray[np.int64], portions: Sequence[NDArray[np.int64]]) -> LexicalIndex:
        """Take over the files of ``base``, delete ``gone``, and add each portion as a segment."""
        shutil.copytree(base, self.folder, ignore=shutil.ignore_patterns("*.lock"), copy_function=_share)
        index = LexicalIndex.open(self.folder, self.language, writable=True)
        index.delete(gone.tolist())
        for portion in portions[:-1]:
            self._add(index, portion)
            index.end_segment()
        self._add(index, portions[-1])
        index.commit()
        return index

    def merge(self, base: Path, numbers: NDArray[np.int64], gone: NDArray[np.int64], new: NDArray[np.int64]) -> bool:
        """Grow in so many segments that tantivy merges them all; return whether it did, else nothing is left.

        Where too few passages came, some old ones go and come again.
        """
        import numpy as np

        missing = max(1, MERGED_AT - LexicalIndex.open(base, self.language).segments)
        again = np.setdiff1d(numbers[:MERGED_AT], new)
        portions = np.array_split(np.concatenate([again, new]), missing)
        if self.grow(base, np.concatenate([gone, again]), portions).segments == 1:
            return True
        shutil.rmtree(self.folder)
        return False

    def _add(self, index: LexicalIndex, numbers: NDArray[np.int64]) -> None:
        for start in range(0, len(numbers), BATCH):
            self.check_stop()
            some = numbers[start : start + BATCH].tolist()
            index.add(zip(some, self.texts(some), strict=True))


def _share(source: str, target: str) -> None:
    """Give an immutable file of the last generation a second name; what tantivy replaces is copied."""
    if not source.endswith(".json"):
        try:
            return os.link(source, target)
        except OSError:  # a file system without links, or one file with too many
            pass
    shutil.copyfile(source, target)
