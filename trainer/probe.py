"""A quick look at a model while it is trained: a few dev questions over a small pool of passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retrieval.embedders import LocalEmbedder
from trainer.evaluation import Candidates, Judge
from trainer.recipes import Recipe
from trainer.training import TrainingLog, average_weights, copy_weights, load_weights

if TYPE_CHECKING:
    from trainer.training import Weights

__all__ = ["Probe", "choose_average"]

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

    def score(self, embedder: LocalEmbedder) -> float:
        """Mean dense NDCG@10 of the probe's questions over its passages."""
        questions = embedder.encode_queries([self.judge.questions[place].text for place in self.questions])
        vectors = embedder.encode_documents(self.texts)
        numbers = np.array(self.passages, dtype=np.int64)
        found = self.judge.dense(questions, vectors)
        dense: Candidates = [self.judge.lexical[0]] * len(self.judge.questions)
        for place, (places, scores) in zip(self.questions, found, strict=True):
            dense[place] = (numbers[places], scores)
        return float(np.mean(self.judge.score("dense", dense, only=self.questions).ndcg))


def choose_average(
    embedder: LocalEmbedder,
    base: Weights,
    recipe: Recipe,
    probe: Probe,
    training: TrainingLog,
    choices: list[str],
) -> float:
    """Leave in the model the mix of tuned and base weights that is best on the probe; return the tuned share."""
    if recipe.averages == (1.0,):
        return 1.0
    tuned = copy_weights(embedder.model)
    scores: dict[float, float] = {}
    for share in recipe.averages:
        load_weights(embedder.model, average_weights(base, tuned, share))
        scores[share] = probe.score(embedder)
    best = max(scores, key=lambda share: (round(scores[share], 4), share))
    load_weights(embedder.model, average_weights(base, tuned, best))
    tried = ", ".join(f"{share:g}: {score:.3f}" for share, score in scores.items())
    choices.append(f"{best:g} of the tuned weights, the rest the base's: best on a sample of dev ({tried})")
    training.dev.append((training.steps, scores[best]))
    return best
