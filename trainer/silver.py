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
from trainer.leakage import without_leaks
from trainer.material import Material, normalise
from trainer.near_duplicates import near_duplicate_groups
from trainer.pairs import Pair

__all__ = ["MIN_SILVER", "Yield", "balance", "filter_pairs", "silver_scores", "unambiguous", "unmistakable"]

# The least BM25 score of anchor against positive, as a share of the anchor's against itself. Rules
# that rest on the document's own structure are trusted: a synonym shares no word with its entry, and
# a word filter would throw away the very pairs that teach what BM25 cannot know.
MIN_SILVER: Mapping[str, float] = dict.fromkeys(("title", "detail", "cloze", "adjacent", "seed_adjacent"), 0.05)
# Names and questions are what people type; a heading is what an author writes above what they have read.
TURNS: Mapping[str, int] = dict.fromkeys(("question", "ticket", "alias", "cross_reference", "definition", "listed"), 2)
# An anchor that points to more than this names none of them.
MAX_TARGETS = 3
# A document gives at most so many times the pairs of the average one, and what it has below the floor in any case.
DOCUMENT_CAP = 10
DOCUMENT_FLOOR = 200


@dataclass(frozen=True, slots=True)
class Yield:
    """How many pairs of a rule were mined, and how many were left after each step.

    ``clear``: no anchor nearly equals a question, or names too many sections; ``distinct``: no two are nearly
    the same; ``telling``: no positive is a text that very many documents have; ``silver``: anchor and
    positive have words in common, where the rule wants it; ``kept``: what is trained on.
    """

    rule: str
    mined: int
    clear: int
    distinct: int
    telling: int
    silver: int
    kept: int


def filter_pairs(
    material: Material, pairs: Sequence[Pair], forbidden: Iterable[str], language: str
) -> tuple[list[Pair], list[Yield], int]:
    """Drop leaks, ambiguous anchors, near-duplicates, boilerplate and weak pairs.

    Args:
        material: what the pairs were mined from.
        pairs: as mined.
        forbidden: texts of dev and test questions: a pair whose anchor nearly equals one would leak it.
        language: of the tokenizer.

    Returns:
        The pairs kept, what each step kept by rule, and how many anchors were dropped as leaks.
    """
    clean = without_leaks(pairs, list(forbidden))
    clear = unambiguous(material, clean)
    distinct = _distinct(material, clear)
    telling = [pair for pair in distinct if pair.passage not in material.boilerplate]
    scored = [pair for pair in telling if pair.rule in MIN_SILVER]
    scores = dict(zip(map(id, scored), silver_scores(scored, language), strict=True))
    silver = [pair for pair in telling if scores.get(id(pair), 1.0) >= MIN_SILVER.get(pair.rule, 0.0)]
    steps = [Counter(pair.rule for pair in step) for step in (pairs, clear, distinct, telling, silver, silver)]
    yields = [Yield(rule, *(step[rule] for step in steps)) for rule in steps[0]]
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
    small is kept whole and what is large is sampled. No document gives more than `DOCUMENT_CAP` times the
    average.
    """
    generator = Random(seed)
    by_rule: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: defaultdict(list))
    for pair in pairs:
        by_rule[pair.rule][pair.document_id].append(pair)
    queues = {rule: _shuffled_turns(list(documents.values()), generator) for rule, documents in sorted(by_rule.items())}
    dealt = _take_turns(list(queues.values()), [TURNS.get(rule, 1) for rule in queues])
    return _capped(dealt)[:limit]


def _capped(pairs: Sequence[Pair]) -> list[Pair]:
    """The first pairs of each document, up to its cap."""
    documents: Counter[str] = Counter()
    cap = max(DOCUMENT_FLOOR, DOCUMENT_CAP * len(pairs) / max(1, len({pair.document_id for pair in pairs})))
    kept = []
    for pair in pairs:
        documents[pair.document_id] += 1
        if documents[pair.document_id] <= cap:
            kept.append(pair)
    return kept


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


def unambiguous(material: Material, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose anchor names few things; copies, and the answers under one question, are one."""
    named = _named(pairs, material.targets)
    return [pair for pair in pairs if len(named[normalise(pair.anchor)]) <= MAX_TARGETS]


def unmistakable(material: Material, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose anchor names one thing: all it leads to is under one heading, or says nearly the same."""
    under, said = _named(pairs, material.named_by), _named(pairs, material.targets)
    return [pair for pair in pairs if 1 in (len(under[normalise(pair.anchor)]), len(said[normalise(pair.anchor)]))]


def _named(pairs: Sequence[Pair], things: Sequence[int]) -> dict[str, set[int]]:
    """The things that each anchor names; ``things`` has that of each section."""
    named: dict[str, set[int]] = defaultdict(set)
    for pair in pairs:
        named[normalise(pair.anchor)].add(things[pair.section])
    return named


def _distinct(material: Material, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs less those whose anchor and whose passage both say nearly what an earlier pair's do."""
    anchors = near_duplicate_groups([pair.anchor for pair in pairs])
    first: dict[tuple[int, int], Pair] = {}
    for pair, anchor in zip(pairs, anchors, strict=True):
        first.setdefault((anchor, material.passage_groups[pair.passage]), pair)
    return list(first.values())
