"""How a model's dense search is put to use: with which share of headings, and beside which weight of BM25."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import Candidates, Judge, Scores, choose_weight
from trainer.statistics import less_its_error

__all__ = ["SHARES", "Finder", "Fused", "choose_fusion"]

Finder = Callable[[float], Candidates]
"""Given a share of headings in passages' vectors: the dense candidates of all questions."""

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Of headings in the vectors of passages: what is tried."""


@dataclass(frozen=True)
class Fused:
    """A model's hybrid search, as it was chosen on dev questions.

    ``dense`` are its dense candidates alone, ``found`` those where passages are indexed with ``share`` of their
    headings, ``weight`` is that of BM25 beside the latter, ``curve`` dev NDCG@10 by that weight.
    """

    dense: Candidates
    share: float
    found: Candidates
    weight: float
    curve: dict[float, float]

    def score(self, judge: Judge, only: Sequence[int]) -> Scores:
        """Judge it on the questions at the places ``only``."""
        return judge.score("hybrid", self.found, self.weight, only)


def choose_fusion(
    judge: Judge,
    find: Finder,
    dev: Sequence[int],
    shares: Sequence[float] = SHARES,
    beside: Sequence[tuple[Judge, Finder]] = (),
) -> Fused:
    """Choose the share of headings and the weight of BM25 by mean hybrid NDCG@10 on dev questions.

    Taken is the share that gains most over the first one, less the standard error of that gain.

    Args:
        judge: whose questions.
        find: given a share, the dense candidates of all questions.
        dev: places of the questions to choose by.
        shares: what is tried.
        beside: the same questions asked in other ways, which count as much.
    """
    alone = find(0.0)
    tried: list[Fused] = []
    scores: list[NDArray[np.float64]] = []
    for share in shares:
        found = find(share)
        others = [(other, finder(share)) for other, finder in beside]
        fused = Fused(alone, share, found, *choose_weight(judge, found, dev, others))
        tried.append(fused)
        asked = [(judge, found), *others]
        scores.append(np.mean([some.hybrid_ndcg(what, fused.weight, dev) for some, what in asked], axis=0))
    answers = judge.by_answers(dev)
    return tried[int(np.argmax([less_its_error(some - scores[0], answers) for some in scores]))]
