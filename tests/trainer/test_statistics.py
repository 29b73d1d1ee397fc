from __future__ import annotations

import numpy as np
import pytest

from trainer.statistics import Change, compare, verdict


def test_equal_scores_are_a_tie_with_p_one() -> None:
    scores = [0.1, 0.5, 0.9, 0.3]
    change = compare(scores, scores)
    assert (change.mean, change.low, change.high, change.p) == (0.0, 0.0, 0.0, 1.0)
    assert verdict(change) == "TIE"


def test_a_gain_on_nearly_every_question_is_a_win_and_its_reverse_a_regression() -> None:
    generator = np.random.default_rng(1)
    before = generator.uniform(0, 0.8, 200)
    after = before + generator.normal(0.05, 0.05, 200)
    assert verdict(compare(before.tolist(), after.tolist())) == "WIN"
    assert verdict(compare(after.tolist(), before.tolist())) == "REGRESSION"


def test_the_same_data_and_seed_give_the_same_interval() -> None:
    before, after = [0.0, 0.5, 1.0, 0.2] * 10, [0.1, 0.4, 1.0, 0.6] * 10
    assert compare(before, after, seed=7) == compare(before, after, seed=7)


def test_the_interval_agrees_with_the_normal_one_where_that_holds() -> None:
    generator = np.random.default_rng(2)
    difference = generator.normal(0.02, 0.2, 500)
    change = compare([0.0] * 500, difference.tolist())
    half = 1.96 * difference.std(ddof=0) / np.sqrt(500)
    assert change.low == pytest.approx(difference.mean() - half, abs=0.002)
    assert change.high == pytest.approx(difference.mean() + half, abs=0.002)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_claims() -> None:
    generator = np.random.default_rng(3)
    trials = 120
    covered = 0
    for trial in range(trials):
        # Per-question differences are mostly zero, with a few large ones: the shape of real runs.
        difference = generator.choice([0.0, 0.37, -0.31], size=150, p=[0.7, 0.2, 0.1])
        change = compare([0.0] * 150, difference.tolist(), seed=trial)
        covered += change.low <= 0.2 * 0.37 - 0.1 * 0.31 <= change.high
    assert covered / trials >= 0.89


def test_randomization_finds_no_signal_in_symmetric_noise_and_finds_a_real_shift() -> None:
    generator = np.random.default_rng(4)
    noise = generator.normal(0, 0.2, 300)
    assert compare([0.0] * 300, (noise - noise.mean()).tolist()).p > 0.9
    assert compare([0.0] * 300, (noise - noise.mean() + 0.1).tolist()).p < 0.001


def test_a_handful_of_questions_is_never_a_win_however_large_the_gain() -> None:
    for count in range(1, 6):
        assert verdict(compare([0.0] * count, [0.9] * count)) == "TIE"
    assert verdict(compare([0.0] * 12, [0.9] * 12)) == "WIN"


@pytest.mark.parametrize(("before", "after"), [([], []), ([0.1], [0.1, 0.2])])
def test_unpaired_scores_are_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match="paired scores wanted"):
        compare(before, after)


def test_an_interval_that_touches_zero_is_a_tie() -> None:
    assert verdict(Change(0.5, 0.6, 0.1, 0.0, 0.2, 0.05, 10)) == "TIE"
