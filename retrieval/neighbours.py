"""A hit's passage with what stands before and after it in its document, for the reader."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.passages import Passage

__all__ = ["joined", "run_around"]


def run_around(positions: Sequence[int], own: int, reach: int, taken: set[int]) -> range:
    """Return the positions, ``own`` among them, that are read together with the passage at ``own``.

    At most ``reach`` either way, among ``positions`` (of one document), without a gap, and none
    that is ``taken``: what is shown with another hit is not shown twice.
    """
    free = set(positions) - taken
    first = last = own
    while first - 1 in free and own - first < reach:
        first -= 1
    while last + 1 in free and last - own < reach:
        last += 1
    return range(first, last + 1)


def joined(run: Sequence[Passage], heading: tuple[str, ...]) -> tuple[str, int, int]:
    """Return the text of ``run``, passages one after the other, with its first and last line.

    ``heading`` is shown above the text; wherever it changes, the innermost new one leads as a line.
    """
    parts: list[str] = []
    for passage in run:
        if passage.heading != heading and passage.heading and passage.heading[-1] != passage.text:
            parts.append(passage.heading[-1])
        heading = passage.heading
        parts.append(passage.text)
    text = "\n\n".join(parts)
    return text, min(passage.first_line for passage in run), max(passage.last_line for passage in run)
