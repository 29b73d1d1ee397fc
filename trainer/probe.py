"""A quick look at a model while it is trained: a few dev questions over a small pool of passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.embedders import LocalEmbedder
from trainer.evaluation import Candidates, Judge

__all__ = ["Probe"]

PROBE_QUESTIONS = 100
PROBE_DEPTH = 8


@dataclass(frozen=True)
class Probe:
    """A small pool of passages and dev questions: a quick look at a model while it is trained.

    The pool holds the answers and what the base and BM25 rank first. It flatters any tuned model against the
    base, whose own mistakes it is made of, so it only ever compares tuned states with each other.
    """

    judge: Judge
    questions: tuple[int, ...]
    passages: tuple[int, ...]
    texts: tuple[str, ...]

    @classmethod
    def choose(cls, judge: Judge, base: Candidates, dev: range, texts: Sequence[str]) -> Probe:
        """Take up to 100 dev questions, evenly, and for each the first passages of either side beside its answers."""
        evenly = np.linspace(0, len(dev) - 1, min(len(dev), PROBE_QUESTIONS)).round().astype(int)
        chosen = tuple(dev[place] for place in evenly.tolist())
        pool: set[int] = set()
        for place in chosen:
            pool.update(judge.answers(place))
            pool.update(map(int, base[place][0][:PROBE_DEPTH]))
            pool.update(map(int, judge.lexical[place][0][:PROBE_DEPTH]))
        passages = tuple(sorted(pool))
        return cls(judge, chosen, passages, tuple(texts[place] for place in passages))

    def score(self, embedder: LocalEmbedder, vectors: NDArray[np.float32] | None = None) -> float:
        """Mean dense NDCG@10 of the probe's questions over its passages, encoded now unless ``vectors`` has them."""
        questions = embedder.encode_queries([self.judge.questions[place].text for place in self.questions])
        vectors = embedder.encode_documents(self.texts) if vectors is None else vectors
        numbers = np.array(self.passages, dtype=np.int64)
        found = self.judge.dense(questions, vectors)
        dense: Candidates = [self.judge.lexical[0]] * len(self.judge.questions)
        for place, (places, scores) in zip(self.questions, found, strict=True):
            dense[place] = (numbers[places], scores)
        return float(np.mean(self.judge.score("dense", dense, only=self.questions).ndcg))
