from __future__ import annotations

import numpy as np
import pytest

from trainer.statistics import Change, compare, compare_each, less_its_error, verdict


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


# Per-question differences as real runs have them: mostly zero, a few large; as often up as down; and bell-shaped.
SHAPES = {
    "a gain": ([0.0, 0.37, -0.31, 0.63], [0.7, 0.15, 0.1, 0.05]),
    "nothing": ([0.0, 0.37, -0.37, 0.63, -0.63], [0.6, 0.15, 0.15, 0.05, 0.05]),
    "many small": ([-0.2, -0.1, 0.0, 0.1, 0.2], [0.1, 0.2, 0.3, 0.25, 0.15]),
}


@pytest.mark.parametrize("questions", [60, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_interval_covers_the_true_mean_as_often_as_it_claims(shape: str, questions: int) -> None:
    values, chances = (np.array(part) for part in SHAPES[shape])
    trials = np.random.default_rng(3).choice(values, size=(400, questions), p=chances)
    zeros = [0.0] * questions
    changes = compare_each({str(number): (zeros, trial.tolist()) for number, trial in enumerate(trials)}).values()
    truth = float(values @ chances)
    # 400 trials of a 95 % interval: 380 cover, give or take 9 by chance; the percentile interval is a little narrow.
    assert 0.915 <= sum(change.low <= truth <= change.high for change in changes) / 400 <= 0.98
    assert sum(verdict(change) == "WIN" for change in changes) <= 0.05 * 400 or truth > 0


def test_a_change_of_the_size_called_detectable_is_found_four_times_of_five() -> None:
    generator = np.random.default_rng(5)
    noise = generator.normal(0, 0.2, (300, 250))
    size = compare([0.0] * 250, noise[0].tolist()).detectable
    assert size == pytest.approx(2.8 * 0.2 / np.sqrt(250), rel=0.1)
    shifted = {
        str(number): ([0.0] * 250, (trial + 2.8 * 0.2 / np.sqrt(250)).tolist()) for number, trial in enumerate(noise)
    }
    found = sum(verdict(change) == "WIN" for change in compare_each(shifted).values()) / 300
    assert 0.74 <= found <= 0.87


def worded_ten_ways(answers: int, seed: int) -> tuple[list[list[float]], list[int]]:
    """Trials in which nothing is gained on average: what an answer gains or loses, all ten wordings of it nearly do."""
    generator = np.random.default_rng(seed)
    gained = generator.normal(0, 0.2, (400, answers)).repeat(10, axis=1)
    return (gained + generator.normal(0, 0.05, gained.shape)).tolist(), np.arange(answers).repeat(10).tolist()


def test_many_wordings_of_one_question_make_no_change_of_nothing_sure() -> None:
    trials, groups = worded_ten_ways(40, seed=7)
    pairs = {str(number): ([0.0] * 400, trial) for number, trial in enumerate(trials)}
    by_answer, by_question = compare_each(pairs, groups).values(), compare_each(pairs).values()
    assert 0.915 <= sum(change.low <= 0 <= change.high for change in by_answer) / 400 <= 0.98
    assert sum(verdict(change) != "TIE" for change in by_answer) <= 0.08 * 400
    assert sum(verdict(change) != "TIE" for change in by_question) > 0.4 * 400
    assert {(change.questions, change.answers) for change in by_answer} == {(400, 40)}


def test_what_is_called_detectable_counts_answers_too() -> None:
    trials, groups = worded_ten_ways(40, seed=8)
    size = compare([0.0] * 400, trials[0], groups).detectable
    assert size == pytest.approx(2.8 * 0.2 / np.sqrt(40), rel=0.25)
    found = [compare([0.0] * 400, [value + size for value in trial], groups) for trial in trials[:100]]
    assert 65 <= sum(verdict(change) == "WIN" for change in found) <= 92


def test_groups_of_unequal_size_keep_the_mean_of_all_questions() -> None:
    after, groups = [0.4] * 8 + [0.0, 0.2], [1] * 8 + [2, 3]
    change = compare([0.0] * 10, after, groups)
    assert change.mean == pytest.approx(np.mean(after)) and change.low <= change.mean <= change.high
    assert change.low == pytest.approx(0.0) and change.high == pytest.approx(0.4)
    assert compare([0.0] * 10, after, range(10)) == compare([0.0] * 10, after)


def test_however_many_questions_a_handful_of_answers_is_never_a_win() -> None:
    assert verdict(compare([0.0] * 500, [0.9] * 500, [place % 5 for place in range(500)])) == "TIE"
    assert compare([0.0] * 50, [0.9] * 50, [0] * 50).p == 1


def test_several_measures_compared_at_once_are_what_each_is_alone() -> None:
    generator = np.random.default_rng(6)
    pairs = {
        name: (generator.uniform(size=80).tolist(), generator.uniform(size=80).tolist()) for name in ("one", "two")
    }
    together = compare_each(pairs)
    for name, (before, after) in pairs.items():
        alone = compare(before, after)
        for field in ("before", "after", "mean", "low", "high", "p", "detectable"):
            assert getattr(together[name], field) == pytest.approx(getattr(alone, field))


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
    assert verdict(Change(0.5, 0.6, 0.1, 0.0, 0.2, 0.04, 10, 0.15)) == "TIE"


def test_a_gain_chosen_by_is_worth_no_more_for_being_asked_in_ten_wordings() -> None:
    gains = np.random.default_rng(11).normal(0.02, 0.2, 40)
    plain = less_its_error(gains)
    assert plain == pytest.approx(gains.mean() - gains.std() / np.sqrt(40))
    answers = np.repeat(np.arange(40), 10).tolist()
    assert less_its_error(np.repeat(gains, 10), answers) == pytest.approx(plain)
    assert less_its_error(np.repeat(gains, 10)) > plain + 0.01
