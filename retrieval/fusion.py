"""Two rankings made one: a z-score-normalised weighted sum, or reciprocal rank fusion.

The first places of what comes out can be ordered anew by :func:`refine`. Pure functions. The search engine and
the trainer's evaluation both call them, so what is measured is what is served.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RRF_K", "UNTUNED_WEIGHT", "Method", "fuse", "refine", "served_weight"]

Method = Literal["zscore", "rrf"]

RRF_K = 60
"""The constant of Cormack, Clarke and Büttcher, Reciprocal Rank Fusion outperforms Condorcet (SIGIR 2009)."""
UNTUNED_WEIGHT = 0.5


def served_weight(fixed: float | None, tuned: float | None) -> float:
    """The weight of BM25: that of the settings, else that chosen with the model, else the untuned one."""
    return next(weight for weight in (fixed, tuned, UNTUNED_WEIGHT) if weight is not None)


def fuse(
    dense: tuple[ArrayLike, ArrayLike],
    lexical: tuple[ArrayLike, ArrayLike],
    *,
    method: Method = "zscore",
    lexical_weight: float = UNTUNED_WEIGHT,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Fuse two rankings, each ``(ids, scores)``, best first and without repeated ids.

    ``zscore``: each side's scores become z-scores over its own candidates (all 0 where they are
    all equal); a candidate that a side lacks is given that side's smallest; the fused score is
    ``(1 - w) * dense + w * lexical``. A lexical ranking shorter than the dense one has run out
    of matches, so what it lacks matched no word: those candidates take part with BM25 score 0.
    Without that a query with one exact match would give that match nothing.

    ``rrf``: ``(1 - w) / (60 + dense rank) + w / (60 + lexical rank)``, a lacking side adding 0.

    Args:
        dense: ids and cosines, arrays of one length.
        lexical: ids and BM25 scores, arrays of one length.
        method: ``zscore`` or ``rrf``.
        lexical_weight: w, from 0 (dense only) to 1 (lexical only).

    Returns:
        The ids of either side and their fused scores, best first; equal scores by id.
    """
    dense_ids, dense_scores = _arrays(dense)
    lexical_ids, lexical_scores = _arrays(lexical)
    ids, places = np.unique(np.concatenate((dense_ids, lexical_ids)), return_inverse=True)
    in_dense, in_lexical = places[: len(dense_ids)], places[len(dense_ids) :]
    if method == "zscore":
        if len(lexical_ids) < len(dense_ids):
            all_scores = np.zeros(len(ids))
            all_scores[in_lexical] = lexical_scores
            lexical_part = _zscores(all_scores)
        else:
            lexical_part = _spread(_zscores(lexical_scores), in_lexical, len(ids))
        dense_part = _spread(_zscores(dense_scores), in_dense, len(ids))
    elif method == "rrf":
        dense_part, lexical_part = _reciprocal_ranks(in_dense, len(ids)), _reciprocal_ranks(in_lexical, len(ids))
    else:
        raise ValueError(f"unknown fusion method {method!r}; known: zscore, rrf")
    totals = (1 - lexical_weight) * dense_part + lexical_weight * lexical_part
    order = np.lexsort((ids, -totals))
    return ids[order], totals[order]


def refine(
    ids: NDArray[np.int64], scores: NDArray[np.float64], finer: NDArray[np.float64], share: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order the first places of a ranking anew by a second score.

    Args:
        ids: a ranking, best first.
        scores: its scores, falling.
        finer: the second score of its first ``len(finer)`` places.
        share: s, from 0 (nothing changes) to 1: what counts is ``(1 - s) * score + s * finer``, both as
            z-scores over these places.

    Returns:
        The ranking, and scores that fall as before: the rest keeps its order and its distances, below the first.
    """
    first = len(finer)
    totals = (1 - share) * _zscores(scores[:first]) + share * _zscores(finer)
    order = np.lexsort((np.arange(first), -totals))
    rest = scores[first:]
    if first and len(rest):
        rest = rest + min(0.0, float(totals.min()) - float(rest[0]))
    return np.concatenate((ids[:first][order], ids[first:])), np.concatenate((totals[order], rest))


def _arrays(ranking: tuple[ArrayLike, ArrayLike]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.asarray(ranking[0], dtype=np.int64), np.asarray(ranking[1], dtype=np.float64)


def _zscores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(scores):
        return scores
    centred: NDArray[np.float64] = scores - scores.mean()
    deviation = float(np.sqrt(np.mean(centred**2)))
    # Equal scores may differ from their mean by a rounding error, which must not be blown up to 1.
    if deviation <= 1e-12 * float(np.abs(scores).max()):
        return np.zeros(len(scores))
    return centred / deviation


def _spread(zscores: NDArray[np.float64], places: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    part = np.full(size, zscores.min() if len(zscores) else 0.0)
    part[places] = zscores
    return part


def _reciprocal_ranks(places: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    part = np.zeros(size)
    part[places] = 1.0 / (RRF_K + np.arange(1, len(places) + 1))
    return part
