"""Queries made of a passage's own words, for text without any structure to mine."""

from __future__ import annotations

import math
from collections import Counter

from trainer.material import Material, telling_words

__all__ = ["KEY_WORDS", "key_phrases"]

KEY_WORDS = 7
COMMON_SHARE = 0.25
FEW = 3
"""A word that more of the passages have than this share, and than a few, does not tell them apart."""
_K1, _B = 1.5, 0.75


def key_phrases(material: Material, place: int, words: int = KEY_WORDS) -> str:
    """The ``words`` words of the passage at ``place`` that tell it best from the rest of the corpus.

    They are those with the highest BM25 weight (k1 = 1.5, b = .75), in the order and the spelling of
    their first appearance, so that what stands together in the text is a phrase in the query. Words that
    no other passage has (names of people, misspellings) come last. Equal weights go by the order in the
    text: the same passage of the same corpus always gives the same query. "" where it has no such word.
    """
    frequency, mean_length = material.word_statistics
    spelled: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for word in telling_words(material.passages[place].text):
        spelled.setdefault(word.casefold(), word)
        counts[word.casefold()] += 1
    saturation = _K1 * (1 - _B + _B * counts.total() / mean_length) if mean_length else _K1
    size = len(material.passages)

    def weight(word: str) -> tuple[bool, float]:
        held = frequency[word]
        idf = math.log(1 + (size - held + 0.5) / (held + 0.5))
        return held > 1, idf * counts[word] * (_K1 + 1) / (counts[word] + saturation)

    telling = [word for word in spelled if frequency[word] <= max(FEW, COMMON_SHARE * size)]
    best = set(sorted(telling, key=weight, reverse=True)[:words])
    return " ".join(spelled[word] for word in spelled if word in best)
