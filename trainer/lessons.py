"""The fused ranking as a teacher: what hybrid search finds for made-up queries, for the embedder alone to learn.

Ranking by meaning and by words together beats either on most corpora. Where documents have no structure
that makes good pairs, this is a teacher that needs none (distillation by listwise divergence: Hofstätter
and others, Improving efficient neural ranking models with cross-architecture knowledge distillation, 2020).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.fusion import UNTUNED_WEIGHT, fuse
from retrieval.words import count_words
from trainer.distillation import Lesson
from trainer.evaluation import dense_candidates, lexical_candidates
from trainer.material import Material
from trainer.pseudo_queries import key_phrases

if TYPE_CHECKING:
    from retrieval.embedders import LocalEmbedder

__all__ = ["fused_lessons", "rescored"]

CANDIDATES = 8
DEPTH = 50
FEWEST_WORDS = 3


def fused_lessons(
    material: Material,
    texts: Sequence[str],
    vectors: NDArray[np.float32],
    embedder: LocalEmbedder,
    *,
    count: int,
    held: Collection[int],
    language: str,
    seed: int,
) -> list[Lesson]:
    """Up to ``count`` lessons: key phrases of a passage, and the passages that hybrid search ranks first for them.

    Args:
        material: passages in reading order.
        texts: as each is embedded.
        vectors: (passages, d) under the base.
        embedder: the base, which encodes the queries.
        count: lessons at most.
        held: passages of which nothing may be learned; they are neither asked about nor shown.
        language: of the tokenizer.
        seed: of the sampling.
    """
    places = [place for place in range(len(texts)) if place not in held]
    Random(seed).shuffle(places)
    queries = [key_phrases(material, place) for place in places[:count]]
    queries = [query for query in dict.fromkeys(queries) if count_words(query) >= FEWEST_WORDS]
    if not queries:
        return []
    shown = np.array(sorted(places), dtype=np.int64)
    dense = dense_candidates(embedder.encode_queries(queries), vectors[shown], DEPTH)
    lexical = lexical_candidates(queries, [texts[place] for place in shown.tolist()], language, DEPTH)
    lessons = []
    for query, meant, worded in zip(queries, dense, lexical, strict=True):
        numbers, scores = fuse(meant, worded, method="zscore", lexical_weight=UNTUNED_WEIGHT)
        chosen = tuple(texts[place] for place in shown[numbers[:CANDIDATES]].tolist())
        if len(chosen) == CANDIDATES:
            lessons.append(Lesson(query, chosen, tuple(scores[:CANDIDATES].tolist())))
    return lessons


def rescored(lessons: Sequence[Lesson], scores: Sequence[Sequence[float]]) -> list[Lesson]:
    """The lessons by another teacher, best candidate first.

    Teachers score on scales of their own, a cross-encoder between 0 and 1 or without bounds, so the scores of all
    lessons together are brought to a mean of 0 and a deviation of 1.

    Args:
        lessons: what the teacher was asked about.
        scores: of each lesson's candidates, by the teacher; more is better.
    """
    if not lessons:
        return []
    everything = np.concatenate([np.asarray(row, dtype=np.float64) for row in scores])
    mean, deviation = everything.mean(), everything.std() or 1.0
    told = []
    for lesson, row in zip(lessons, scores, strict=True):
        ranked = sorted(zip(row, lesson.candidates, strict=True), key=lambda scored: -scored[0])
        candidates = tuple(text for _, text in ranked)
        told.append(replace(lesson, candidates=candidates, scores=tuple((s - mean) / deviation for s, _ in ranked)))
    return told
