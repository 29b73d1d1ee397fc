"""The silver filter: which mined pairs are good enough to learn from.

Each step says how many pairs it let through, for the report. A step never adds a pair.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from retrieval.lexical import Bm25Scorer
from trainer.material import Material, normalise
from trainer.mining import Pair

__all__ = ["MIN_SILVER", "Yield", "balance", "filter_pairs", "silver_scores"]

# The least BM25 score of anchor against positive, as a share of the anchor's against itself. Rules
# that rest on the document's own structure are trusted: a synonym shares no word with its entry, and
# a word filter would throw away the very pairs that teach what BM25 cannot know.
MIN_SILVER: Mapping[str, float] = {"cloze": 0.05, "adjacent": 0.05}
# Names and questions are what people type; a heading is what an author writes above what they have read.
TURNS: Mapping[str, int] = {"question": 2, "alias": 2, "cross_reference": 2}
# An anchor that points to more sections than this names none of them.
MAX_TARGETS = 3


@dataclass(frozen=True, slots=True)
class Yield:
    """How many pairs of a rule were mined and how many each step kept."""

    rule: str
    mined: int
    distinct: int
    silver: int
    kept: int


def filter_pairs(
    material: Material, pairs: Sequence[Pair], forbidden: Iterable[str], language: str
) -> tuple[list[Pair], list[Yield], int]:
    """Drop leaks, ambiguous anchors and weak pairs.

    Args:
        material: what the pairs were mined from.
        pairs: as mined.
        forbidden: texts of dev and test questions: a pair whose anchor equals one would leak it.
        language: of the tokenizer.

    Returns:
        The pairs kept, what each step kept by rule, and how many anchors were dropped as leaks.
    """
    leaks = {normalise(text) for text in forbidden}
    clean = [pair for pair in pairs if normalise(pair.anchor) not in leaks]
    distinct = _distinct(material, clean)
    scored = [pair for pair in distinct if pair.rule in MIN_SILVER]
    scores = dict(zip(map(id, scored), silver_scores(scored, language), strict=True))
    silver = [pair for pair in distinct if scores.get(id(pair), 1.0) >= MIN_SILVER.get(pair.rule, 0.0)]
    counts = [Counter(pair.rule for pair in step) for step in (pairs, distinct, silver)]
    yields = [
        Yield(rule, mined, counts[1][rule], counts[2][rule], counts[2][rule]) for rule, mined in counts[0].items()
    ]
    return silver, yields, len(pairs) - len(clean)


def silver_scores(pairs: Sequence[Pair], language: str) -> list[float]:
    """BM25 (rank-bm25's) of each anchor against its positive, as a share of the anchor against itself."""
    if not pairs:
        return []
    positives = [pair.positive for pair in pairs]
    scorer = Bm25Scorer([*positives, *(pair.anchor for pair in pairs)], language)
    scores = []
    for place, pair in enumerate(pairs):
        own = scorer.score(pair.anchor, len(positives) + place)
        scores.append(scorer.score(pair.anchor, place) / own if own > 0 else 0.0)
    return scores


def balance(pairs: Sequence[Pair], limit: int, seed: int) -> list[Pair]:
    """At most ``limit`` pairs, none of the rules or documents drowning the rest.

    Rules take turns (`TURNS` of them a round), and within a rule documents take turns, so that what is
    small is kept whole and what is large is sampled.
    """
    generator = Random(seed)
    by_rule: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        by_rule[pair.rule][pair.document_id].append(pair)
    queues = {rule: _shuffled_turns(list(documents.values()), generator) for rule, documents in sorted(by_rule.items())}
    return _take_turns(list(queues.values()), [TURNS.get(rule, 1) for rule in queues])[:limit]


def _shuffled_turns(groups: list[list[Pair]], generator: Random) -> list[Pair]:
    for group in groups:
        generator.shuffle(group)
    generator.shuffle(groups)
    return _take_turns(groups, [1] * len(groups))


def _take_turns(groups: Sequence[Sequence[Pair]], turns: Sequence[int]) -> list[Pair]:
    """Deal from the groups round by round, ``turns`` from each, until all are empty."""
    rounds = max((math.ceil(len(group) / size) for group, size in zip(groups, turns, strict=True)), default=0)
    return [
        pair
        for turn in range(rounds)
        for group, size in zip(groups, turns, strict=True)
        for pair in group[turn * size : (turn + 1) * size]
    ]


def _distinct(material: Material, pairs: Sequence[Pair]) -> list[Pair]:
    targets: dict[str, set[int]] = defaultdict(set)
    for pair in pairs:
        targets[normalise(pair.anchor)].add(material.copies_of(pair.section)[0])
    return [pair for pair in pairs if len(targets[normalise(pair.anchor)]) <= MAX_TARGETS]
