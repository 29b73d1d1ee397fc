"""Which of a search's candidates say what a better one says already."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from retrieval.passages import Passage

__all__ = ["CONTAINED", "SHORT", "distinct"]

SHORT = 120
"""Bytes of letters. A shorter text may mean another thing under another heading, and a word more or less matters."""

CONTAINED = 0.9
"""The share of a text's shingles that a better one must have (Broder, On the resemblance and containment, 1997)."""

SHINGLE = 8
PROBE = 16
_SPACE = b" \t\n\r\f\v"
_DIGITS = re.compile(r"\d+")


def distinct(passages: Sequence[Passage], takes: Callable[[Passage], bool] = lambda _: True) -> list[list[int]]:
    """Group ``passages``, best first, with those that a better one makes needless.

    ``takes`` is asked for each that none makes needless, in order; where it says no the passage is left out, and is
    compared with none of those that follow.

    A passage joins the first group whose first text is the same but for case and white space, or
    has at least ``CONTAINED`` of its shingles (of eight bytes): then it adds nothing to read. A
    text that says more than a better one stays, and so does one with a number that the better one
    lacks: two price lists are no duplicates. Texts shorter than ``SHORT`` must be the same, and
    stand under the same heading (without one: title).

    Returns:
        Places in ``passages``: each group rising, the groups by their first place.
    """
    groups: list[list[int]] = []
    exact: dict[tuple[bytes, str], list[int]] = {}
    long: list[tuple[bytes, frozenset[str], list[int]]] = []
    seen = bytearray()
    for place, passage in enumerate(passages):
        folded = passage.text.casefold().encode().translate(None, _SPACE)
        short = len(folded) < SHORT
        key = (folded, (passage.heading or (passage.title,))[-1].casefold() if short else "")
        group = exact.get(key)
        numbers = frozenset(_DIGITS.findall(passage.text))
        if group is None and not short and _shares_a_probe(folded, seen):
            group = _container(folded, numbers, long)
        if group is None:
            if not takes(passage):
                continue
            group = []
            groups.append(group)
            if not short:
                long.append((folded, numbers, group))
                seen += b"\n" + folded
        exact.setdefault(key, group)
        group.append(place)
    return groups


def _shares_a_probe(folded: bytes, seen: bytes | bytearray) -> bool:
    """Whether ``seen`` has one of three samples of a text. A sieve: who has most of it very likely does."""
    quarter = len(folded) // 4
    return any(folded[start : start + PROBE] in seen for start in (quarter, 2 * quarter, 3 * quarter))


def _container(
    folded: bytes, numbers: frozenset[str], long: Sequence[tuple[bytes, frozenset[str], list[int]]]
) -> list[int] | None:
    shingles = _shingles(folded)
    for other, other_numbers, group in long:
        # What costs least comes first: a thousand price lists of one wording differ in their numbers alone.
        enough = numbers <= other_numbers and len(other) >= CONTAINED * len(folded) and _shares_a_probe(folded, other)
        if enough and len(shingles & _shingles(other)) >= CONTAINED * len(shingles):
            return group
    return None


def _shingles(folded: bytes) -> set[bytes]:
    return {folded[start : start + SHINGLE] for start in range(len(folded) - SHINGLE + 1)}
