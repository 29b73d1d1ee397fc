"""The fused ranking as a teacher: what hybrid search finds for made-up queries, for the embedder alone to learn.

Ranking by meaning and by words together beats either on most corpora. Where documents have no structure
that makes good pairs, this is a teacher that needs none (distillation by listwise divergence: Hofstätter
and others, Improving efficient neural ranking models with cross-architecture knowledge distillation, 2020).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.fusion import fuse
from retrieval.lexical import LexicalIndex
from trainer.distillation import Lesson
from trainer.material import Material
from trainer.pseudo_queries import key_phrases

if TYPE_CHECKING:
    from retrieval.embedders import LocalEmbedder

__all__ = ["fused_lessons"]

CANDIDATES = 8
DEPTH = 50
TEACHER_WEIGHT = 0.5
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
    queries = [query for query in dict.fromkeys(queries) if len(query.split()) >= FEWEST_WORDS]
    if not queries:
        return []
    encoded = embedder.encode_queries(queries)
    lessons = []
    with tempfile.TemporaryDirectory(prefix="shoptalk-lessons-") as folder:
        index = LexicalIndex.create(Path(folder) / "lexical", language)
        index.add((place, texts[place]) for place in places)
        index.commit()
        shown = np.array(sorted(places), dtype=np.int64)
        depth = min(DEPTH, len(shown))
        for query, vector in zip(queries, encoded, strict=True):
            similarity = vectors[shown] @ vector
            best = np.argpartition(-similarity, depth - 1)[:depth]
            best = best[np.argsort(-similarity[best], kind="stable")]
            hits = index.search(query, DEPTH)
            lexical = np.array([number for number, _ in hits], dtype=np.int64)
            lexical_scores = np.array([score for _, score in hits], dtype=np.float64)
            numbers, scores = fuse(
                (shown[best], similarity[best].astype(np.float64)),
                (lexical, lexical_scores),
                method="zscore",
                lexical_weight=TEACHER_WEIGHT,
            )
            chosen = tuple(texts[number] for number in numbers[:CANDIDATES].tolist())
            if len(chosen) == CANDIDATES:
                lessons.append(Lesson(query, chosen, tuple(scores[:CANDIDATES].tolist())))
    return lessons
