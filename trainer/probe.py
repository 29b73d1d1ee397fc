"""A quick look at a model while it is trained: a few dev questions over a small pool of passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.embedders import LocalEmbedder
from trainer.evaluation import Candidates, Judge

__all__ = ["DEEP", "Probe"]

PROBE_QUESTIONS = 100
PROBE_DEPTH = 8
DEEP = 24
"""For recipes that are compared: deep enough for most of what one of them newly mistakes (docs/experiments.md)."""
# Ten places of documents may take more passages than ten.
WIDENED_DEPTH = 16


@dataclass(frozen=True)
class Probe:
    """A small pool of passages and dev questions: a quick look at a model while it is trained.

    The pool holds the answers and what the base and BM25 rank first. It is made of the base's mistakes and lacks those
    that tuning makes, so it flatters tuned states, and the more the further they are from the base. Shares of the
    tuned weights are therefore compared over one that is `widened` by a tuned model's mistakes, and recipes over a
    deeper one, since the mistakes of one of them would be unfair to that one.
    """

    judge: Judge
    questions: tuple[int, ...]
    passages: tuple[int, ...]
    texts: tuple[str, ...]

    @classmethod
    def choose(
        cls, judge: Judge, base: Candidates, dev: range, texts: Sequence[str], depth: int = PROBE_DEPTH
    ) -> Probe:
        """Take up to 100 dev questions, evenly, and for each beside its answers what either side ranks first."""
        evenly = np.linspace(0, len(dev) - 1, min(len(dev), PROBE_QUESTIONS)).round().astype(int)
        chosen = tuple(dev[place] for place in evenly.tolist())
        pool: set[int] = set()
        for place in chosen:
            pool.update(judge.answers(place))
            pool.update(map(int, base[place][0][:depth]))
            pool.update(map(int, judge.lexical[place][0][:depth]))
        return cls._of(judge, chosen, pool, texts)

    @classmethod
    def _of(cls, judge: Judge, questions: tuple[int, ...], pool: set[int], texts: Sequence[str]) -> Probe:
        passages = tuple(sorted(pool))
        return cls(judge, questions, passages, tuple(texts[place] for place in passages))

    def widened(self, embedder: LocalEmbedder, vectors: NDArray[np.float32], texts: Sequence[str]) -> Probe:
        """Return the probe with what ``embedder`` ranks first among all passages in its pool as well.

        Args:
            embedder: a tuned state.
            vectors: (p, d) of all passages under it.
            texts: of all passages.
        """
        found = self.judge.dense(self._ask(embedder), vectors).found
        pool = {*self.passages, *(int(place) for places, _ in found for place in places[:WIDENED_DEPTH])}
        return self._of(self.judge, self.questions, pool, texts)

    def ndcg(self, embedder: LocalEmbedder) -> NDArray[np.float64]:
        """Dense NDCG@10 of each of the probe's questions over its passages, both encoded now."""
        return self.ndcg_of(self._ask(embedder), embedder.encode_documents(self.texts))

    def ndcg_of(self, asked: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """The same of the vectors of the probe's questions and of its passages."""
        return np.array(self.judge.score("dense", self.candidates(asked, vectors), only=self.questions).ndcg)

    def candidates(self, asked: NDArray[np.float32], vectors: NDArray[np.float32]) -> Candidates:
        """What dense search finds for the probe's questions among its passages; of other questions nothing is told."""
        numbers = np.array(self.passages, dtype=np.int64)
        found = [self.judge.lexical[0]] * len(self.judge.questions)
        for place, (places, scores) in zip(self.questions, self.judge.dense(asked, vectors).found, strict=True):
            found[place] = (numbers[places], scores)
        return Candidates(found)

    def _ask(self, embedder: LocalEmbedder) -> NDArray[np.float32]:
        return embedder.encode_queries([self.judge.questions[place].text for place in self.questions])
