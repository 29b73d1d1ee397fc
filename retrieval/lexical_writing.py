"""The lexical index of the next generation: grown from the last one's, or written anew.

tantivy only marks a deleted passage, and counts it in its word statistics for as long as its segment
lives; when it merges segments it estimates the lengths of texts. What ranks a passage would then depend
on what was deleted before. So an index of which something goes is written anew where that is cheap, and
elsewhere once a part of it are such ghosts.
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

EXACT = 16_000
"""Up to so many passages no ghost is borne: writing them all takes about a second."""
GHOSTS = 0.1
"""Beyond EXACT the index is written anew when more than this part of its passages are ghosts."""
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
    bearable = 0 if len(numbers) <= EXACT else GHOSTS * len(numbers)
    if base and ghosts <= bearable:
        shutil.copytree(base[0], folder, ignore=shutil.ignore_patterns("*.lock"), copy_function=_share)
        index, added = LexicalIndex.open(folder, language, writable=True), new
        index.delete(gone.tolist())
    else:
        index, added, ghosts = LexicalIndex.create(folder, language), numbers, 0
    try:
        for start in range(0, len(added), BATCH):
            check_stop()
            some = added[start : start + BATCH].tolist()
            index.add(zip(some, texts(some), strict=True))
        index.commit()
    except BaseException:
        # Its threads would go on to write into a folder that is about to be removed.
        index.abandon()
        raise
    return ghosts


def _share(source: str, target: str) -> None:
    """Give an immutable file of the last generation a second name; what tantivy replaces is copied."""
    if not source.endswith(".json"):
        try:
            return os.link(source, target)
        except OSError:  # a file system without links, or one file with too many
            pass
    shutil.copyfile(source, target)
