from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.fusion import Method, fuse, refine

Ranking = tuple[list[int], list[float]]


def fused(dense: Ranking, lexical: Ranking, weight: float = 0.5, method: Method = "zscore") -> dict[int, float]:
    ids, scores = fuse(dense, lexical, method=method, lexical_weight=weight)
    return dict(zip(ids.tolist(), scores.tolist(), strict=True))


def test_zscores_are_summed_by_weight() -> None:
    # Both sides have z-scores 1.2247, 0, -1.2247.
    found = fused(([1, 2, 3], [0.9, 0.8, 0.7]), ([3, 2, 1], [30.0, 20.0, 10.0]), weight=0.25)
    high = np.sqrt(1.5)
    assert found == pytest.approx({1: 0.5 * high, 2: 0.0, 3: -0.5 * high})


def test_a_candidate_of_one_side_gets_the_smallest_zscore_of_the_other() -> None:
    found = fused(([1, 2, 3], [0.9, 0.8, 0.7]), ([7, 8, 9], [30.0, 20.0, 10.0]))
    high = np.sqrt(1.5)
    assert found == pytest.approx({1: 0.0, 7: 0.0, 2: -high / 2, 8: -high / 2, 3: -high, 9: -high})


def test_equal_scores_say_nothing() -> None:
    found = fused(([1, 2], [0.5, 0.5]), ([1, 2], [3.0, 1.0]))
    assert found == pytest.approx({1: 0.5, 2: -0.5})


def test_the_only_lexical_match_comes_first_though_the_dense_side_missed_it() -> None:
    ids, _ = fuse((range(100), np.linspace(0.5, 0.3, 100)), ([777], [12.0]))
    assert ids[0] == 777


def test_without_lexical_matches_the_dense_order_stays() -> None:
    ids, _ = fuse(([5, 3, 9], [0.9, 0.5, 0.1]), ([], []))
    assert ids.tolist() == [5, 3, 9]


def test_without_dense_candidates_the_lexical_order_stays() -> None:
    ids, _ = fuse(([], []), ([5, 3, 9], [9.0, 5.0, 1.0]))
    assert ids.tolist() == [5, 3, 9]


def test_nothing_and_nothing_is_nothing() -> None:
    for method in ("zscore", "rrf"):
        ids, scores = fuse(([], []), ([], []), method=method)  # type: ignore[arg-type]
        assert len(ids) == len(scores) == 0


def test_weights_of_zero_and_one_keep_one_side() -> None:
    dense, lexical = ([1, 2, 3], [0.9, 0.8, 0.1]), ([3, 1, 2], [9.0, 5.0, 1.0])
    assert fuse(dense, lexical, lexical_weight=0.0)[0].tolist() == [1, 2, 3]
    assert fuse(dense, lexical, lexical_weight=1.0)[0].tolist() == [3, 1, 2]


def test_reciprocal_ranks_are_those_of_a_hand_calculation() -> None:
    found = fused(([1, 2], [0.9, 0.8]), ([2, 3], [9.0, 1.0]), weight=0.25, method="rrf")
    assert found == pytest.approx({1: 0.75 / 61, 2: 0.75 / 62 + 0.25 / 61, 3: 0.25 / 62})


def test_ties_are_broken_by_id() -> None:
    assert fuse(([9, 4, 6], [0.5, 0.5, 0.5]), ([], []))[0].tolist() == [4, 6, 9]
    assert fuse(([9], [0.5]), ([4], [7.0]), method="rrf")[0].tolist() == [4, 9]


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="known: zscore, rrf"):
        fuse(([1], [1.0]), ([1], [1.0]), method="sum")  # type: ignore[arg-type]


rankings = st.dictionaries(st.integers(0, 30), st.floats(-1, 100), max_size=20).map(
    lambda scored: (sorted(scored, key=lambda key: -scored[key]), sorted(scored.values(), reverse=True))
)


@given(rankings, rankings, st.sampled_from(["zscore", "rrf"]), st.floats(0, 1))
def test_every_candidate_comes_out_once_with_a_finite_falling_score(
    dense: Ranking, lexical: Ranking, method: Method, weight: float
) -> None:
    ids, scores = fuse(dense, lexical, method=method, lexical_weight=weight)
    assert sorted(ids.tolist()) == sorted({*dense[0], *lexical[0]})
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()


def plainly_fused(dense: Ranking, lexical: Ranking, weight: float) -> dict[int, float]:
    """The rule as the docstring states it, candidate by candidate."""
    sides = [dict(zip(*side, strict=True)) for side in (dense, lexical)]
    if len(sides[1]) < len(sides[0]):
        sides[1] = dict.fromkeys([*sides[0], *sides[1]], 0.0) | sides[1]
    totals = dict.fromkeys([*sides[0], *sides[1]], 0.0)
    for side, share in zip(sides, (1 - weight, weight), strict=True):
        scores = list(side.values())
        deviation = statistics.pstdev(scores) if scores else 0.0
        equal = deviation <= 1e-12 * max(map(abs, scores), default=0.0)
        zscores = {key: 0.0 if equal else (score - statistics.fmean(scores)) / deviation for key, score in side.items()}
        for key in totals:
            totals[key] += share * zscores.get(key, min(zscores.values(), default=0.0))
    return totals


def rounded(ranking: Ranking) -> Ranking:
    """Scores whose spread is no rounding error, which one reckoning may take for 0 and another not."""
    return ranking[0], [round(score, 3) for score in ranking[1]]


@given(rankings.map(rounded), rankings.map(rounded), st.floats(0, 1))
def test_the_fused_scores_are_those_of_the_rule(dense: Ranking, lexical: Ranking, weight: float) -> None:
    assert fused(dense, lexical, weight) == pytest.approx(plainly_fused(dense, lexical, weight), rel=1e-6, abs=1e-6)


def test_the_first_places_are_ordered_anew_and_the_rest_stays_below_them() -> None:
    ids, scores = refine(
        np.array([4, 8, 6, 1, 2]), np.array([9.0, 8.0, 7.0, 6.5, 1.0]), np.array([1.0, 2.0, 3.0]), 0.75
    )
    high = np.sqrt(1.5)
    assert ids.tolist() == [6, 8, 4, 1, 2]
    assert scores[:3] == pytest.approx([high / 2, 0, -high / 2])
    assert scores.tolist() == sorted(scores, reverse=True)
    assert scores[3] - scores[4] == pytest.approx(5.5)


@given(st.lists(st.floats(-5, 5), max_size=12), st.lists(st.floats(-1, 1), max_size=12), st.floats(0, 1))
def test_a_refined_ranking_holds_the_same_ids_and_its_scores_fall(
    scores: list[float], finer: list[float], share: float
) -> None:
    ranking = np.arange(len(scores)), np.array(sorted(scores, reverse=True))
    ids, refined = refine(*ranking, np.array(finer[: len(scores)]), share)
    assert sorted(ids.tolist()) == list(range(len(scores)))
    assert np.all(np.diff(refined) <= 1e-9)


def test_a_share_of_nothing_changes_no_order() -> None:
    ids, _ = refine(np.array([4, 8, 6]), np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0]), 0.0)
    assert ids.tolist() == [4, 8, 6]
