"""Which texts say nearly the same: compared, not estimated, and quick where few do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from retrieval.words import words_of

__all__ = ["SHINGLE", "near_duplicate_groups"]

SHINGLE = 3
"""Words a shingle."""
MOST_COMPARED = 128
"""Texts that one is compared with at most."""


def near_duplicate_groups(texts: Sequence[str], threshold: float = 0.8) -> list[int]:
    """For each text the number of its group; groups are numbered by first appearance.

    Two texts are alike if the Jaccard similarity of their sets of shingles (three successive words,
    case and punctuation set aside) is at least ``threshold``; what is alike, if only through a third
    text, is one group. Texts without a word are alike if they are equal.

    Two texts that are alike share one of the rarest shingles of each (the prefix filter: Bayardo, Ma and
    Srikant, Scaling up all pairs similarity search, WWW 2007), so only texts that do are compared. Where most
    shingles are rare, as in running text, every pair that is alike is found, and quicker than by the signatures
    of MinHash, which would miss some. Records of one template share so many shingles that each might be compared
    with all: a text is compared with `MOST_COMPARED` others, those first that share its rarest ones.

    Raises:
        ValueError: ``threshold`` is not above 0 and at most 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = lambda: len(vocabulary) + 1  # 0 stands for no word
    firsts: dict[tuple[int, ...] | str, int] = {}
    places = []
    for text in texts:
        words = tuple(map(vocabulary.__getitem__, words_of(text)))
        places.append(firsts.setdefault(words or text, len(firsts)))
    families = _families([key for key in firsts if isinstance(key, tuple)], len(vocabulary) + 1, threshold)
    with_words = iter(families)
    family = [next(with_words) if isinstance(key, tuple) else -place - 1 for key, place in firsts.items()]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(family[place], len(numbers)) for place in places]


def _families(texts: Sequence[tuple[int, ...]], vocabulary: int, threshold: float) -> list[int]:
    """For each text (word numbers), some text of its family."""
    parent = list(range(len(texts)))

    def root(text: int) -> int:
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    owner, shingle = _shingles(texts, vocabulary)
    sizes = np.bincount(owner, minlength=len(texts))
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
    held: dict[int, frozenset[int]] = {}

    def set_of(text: int) -> frozenset[int]:
        if text not in held:
            held[text] = frozenset(shingle[starts[text] : starts[text + 1]].tolist())
        return held[text]

    # For each shingle, the texts that have it among their rarest, by family: one family is asked no more
    # than it takes to join it.
    postings: defaultdict[int, dict[int, list[int]]] = defaultdict(dict)
    size_of: list[int] = sizes.tolist()
    for text, rarest in _prefixes(owner, shingle, sizes, threshold):
        asked: set[int] = set()
        for one in rarest:
            # The latest are the nearest in size.
            for family, members in islice(reversed(postings[one].items()), MOST_COMPARED):
                if root(family) == root(text):
                    continue
                for other in reversed(members):
                    if size_of[other] < threshold * size_of[text] - 1e-9 or len(asked) == MOST_COMPARED:
                        break
                    if other in asked:
                        continue
                    asked.add(other)
                    common = len(set_of(text) & set_of(other))
                    if common / (size_of[text] + size_of[other] - common) >= threshold:
                        # The older root stays, or the families in the postings would be as many as the texts.
                        parent[root(text)] = root(other)
                        break
        for one in rarest:
            postings[one].setdefault(root(text), []).append(text)
    return [root(text) for text in range(len(texts))]


def _shingles(texts: Sequence[tuple[int, ...]], vocabulary: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct shingles of all texts, text by text, as two equal arrays: text, number of the shingle."""
    gap = (0,) * (SHINGLE - 1)
    lengths = np.array([len(words) for words in texts], np.int64)
    words = np.fromiter(chain.from_iterable((*words, *gap) for words in texts), np.int64)
    # Beyond two million different words the product overflows, and wraps: two shingles may then count as one.
    code = np.zeros(max(0, len(words) - len(gap)), np.int64)
    for offset in range(SHINGLE):
        code = code * vocabulary + words[offset : offset + len(code)]
    owner = np.repeat(np.arange(len(texts)), lengths + len(gap))[: len(code)]
    place = np.arange(len(code)) - (np.cumsum(lengths + len(gap)) - lengths - len(gap))[owner]
    # A text of fewer words has one shingle, which the gap fills up.
    whole = place < np.maximum(1, lengths[owner] - len(gap))
    names, shingle = np.unique(code[whole], return_inverse=True)
    # np.sort, not np.unique: that goes by a hash table here, which takes four times as long.
    both = np.sort(owner[whole] * max(1, len(names)) + shingle)
    text, number = np.divmod(both[np.diff(both, prepend=-1) > 0], max(1, len(names)))
    return text, number


def _prefixes(
    owner: NDArray[np.int64], shingle: NDArray[np.int64], sizes: NDArray[np.int64], threshold: float
) -> Iterator[tuple[int, list[int]]]:
    """Yield texts, small ones first, with those of their rarest shingles that another text has.

    Of n shingles, so many of the rarest that what shares none of them shares too few of all.
    """
    texts_with = np.bincount(shingle)
    order = np.lexsort((shingle, texts_with[shingle], owner))
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(owner)) - starts[owner]
    length = sizes - np.ceil(threshold * sizes - 1e-9) + 1
    kept = order[(place < length[owner]) & (texts_with[shingle[order]] > 1)]
    bounds = np.searchsorted(owner[kept], np.arange(len(sizes) + 1)).tolist()
    rarest = shingle[kept]
    for text in np.argsort(sizes, kind="stable").tolist():
        if bounds[text] < bounds[text + 1]:
            yield text, rarest[bounds[text] : bounds[text + 1]].tolist()
