"""What was learned from and what is asked must not be the same: questions against training anchors and documents."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from retrieval.errors import QuestionsError
from retrieval.words import words_of
from trainer.pairs import Pair

__all__ = ["NEARLY_EQUAL", "Leak", "find_leaks", "nearest", "refuse_leaks", "without_leaks"]

NEARLY_EQUAL = 0.8
"""Jaccard similarity of two texts' sets of words from which on they ask the same."""

_Words = frozenset[str]


@dataclass(frozen=True, slots=True)
class Leak:
    """A pair that gives a question away: its anchor says nearly the same, or its document was held out."""

    pair: Pair
    why: str


def nearest(texts: Sequence[str], others: Sequence[str], at_least: float) -> list[float]:
    """For each text, its largest Jaccard similarity of sets of words to one of the others; 0 below ``at_least``.

    Where the numbers in two texts differ they ask different things ("type 1 …", "type 2 …"): at most
    just below `NEARLY_EQUAL`.

    Args:
        texts: any.
        others: what they are compared with.
        at_least: above 0; the larger, the fewer are compared (the prefix filter: Bayardo, Ma and Srikant, Scaling
            up all pairs similarity search, WWW 2007: sets so alike share one of the rarest words of each).
    """
    asked = [_words(text) for text in texts]
    sets = list({_words(other) for other in others})
    frequency = Counter(word for words in (*sets, *asked) for word in words)

    def rarest(words: _Words) -> list[str]:
        count = len(words) - math.ceil(at_least * len(words) - 1e-9) + 1
        return sorted(words, key=lambda word: (frequency[word], word))[:count]

    by_word: dict[str, list[_Words]] = defaultdict(list)
    for words in sets:
        for word in rarest(words):
            by_word[word].append(words)
    best = []
    for words in asked:
        candidates = {other for word in rarest(words) for other in by_word.get(word, ())}
        similarity = max((_similarity(words, other) for other in candidates), default=0.0)
        best.append(similarity if similarity >= at_least else 0.0)
    return best


def without_leaks(pairs: Sequence[Pair], questions: Sequence[str]) -> list[Pair]:
    """The pairs whose anchor is not nearly equal to a question."""
    leaks = {id(leak.pair) for leak in find_leaks(pairs, questions)}
    return [pair for pair in pairs if id(pair) not in leaks]


def find_leaks(pairs: Sequence[Pair], questions: Sequence[str], held: Collection[str] = frozenset()) -> list[Leak]:
    """The pairs that give a question away.

    Args:
        pairs: what is trained on.
        questions: texts of the dev and test questions.
        held: ids of the documents held out to be asked about.
    """
    similarity = nearest([pair.anchor for pair in pairs], questions, NEARLY_EQUAL)
    leaks = []
    for pair, alike in zip(pairs, similarity, strict=True):
        if alike:
            leaks.append(Leak(pair, f"its anchor {pair.anchor!r} asks what a question asks"))
        elif source := next((document for document in (pair.document_id, pair.said_in) if document in held), None):
            leaks.append(Leak(pair, f"its document {source} was held out to be asked about"))
    return leaks


def refuse_leaks(pairs: Sequence[Pair], questions: Sequence[str], held: Collection[str] = frozenset()) -> None:
    """Refuse to train on pairs that give questions away: a score on those questions would prove nothing.

    Raises:
        QuestionsError: there are some; the message counts them and shows the first.
    """
    if leaks := find_leaks(pairs, questions, held):
        first = leaks[0]
        raise QuestionsError(
            f"leakage: {len(leaks)} of {len(pairs)} training pairs give away what is asked, the first of rule "
            f"{first.pair.rule}: {first.why}; leave those pairs out, or ask other questions"
        )


def _words(text: str) -> _Words:
    return frozenset(words_of(text))


def _similarity(words: _Words, other: _Words) -> float:
    common = len(words & other)
    similarity = common / (len(words) + len(other) - common)
    if similarity >= NEARLY_EQUAL and _numbers(words) != _numbers(other):
        return NEARLY_EQUAL - 0.01
    return similarity


def _numbers(words: _Words) -> set[str]:
    return {word for word in words if any(character.isdigit() for character in word)}
