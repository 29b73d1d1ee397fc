from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hash_embedder import HashEmbedder

from trainer.diagnosis import Finding, PairSigns, diagnose, measure_pairs
from trainer.outcome import Outcome
from trainer.pairs import Pair
from trainer.statistics import Change, compare


@cache
def change(mean: float, spread: float = 0.2, questions: int = 200, before: float = 0.4) -> Change:
    noise = np.random.default_rng(1).normal(size=questions)
    noise = spread * (noise - noise.mean()) / noise.std(ddof=1)
    return compare([before] * questions, (before + mean + noise).tolist())


def outcome(
    dense: Change, product: Change | None = None, dev: Change | None = None, unmasked: Change | None = None
) -> Outcome:
    return Outcome(
        evidence="real questions",
        dev_questions=90,
        test_questions=dense.questions,
        rows=[],
        changes={},
        likeness={},
        examples=[],
        questions=[],
        dense=dense,
        product=product or dense,
        dev=dev or dense,
        unmasked=unmasked,
    )


SOUND = PairSigns(1000, 0.97, 0.1)
FALLING = [(step, 1.2 - step / 100) for step in range(100)]


def causes(found: list[Finding]) -> list[str]:
    return [finding.cause for finding in found]


def test_a_plain_gain_raises_no_suspicion() -> None:
    assert diagnose(outcome(change(0.1)), FALLING, [(50, 0.4), (100, 0.5)], SOUND) == []


def test_what_fewer_than_six_answers_show_is_called_too_few_questions_however_large_the_gain() -> None:
    def gained(answers: int) -> Change:
        return compare([0.0] * 60, [0.9] * 60, [place % answers for place in range(60)])

    five, six = outcome(gained(5)), outcome(gained(6))
    assert (five.verdict, six.verdict) == ("TIE", "WIN")
    (found,) = (found for found in diagnose(five, FALLING, signs=SOUND) if found.cause == "too few questions")
    assert "60 questions of 5 different answers" in found.sign
    assert "too few questions" not in causes(diagnose(six, FALLING, signs=SOUND))


def test_pairs_that_the_base_cannot_tell_apart_are_called_noisy_with_the_figure() -> None:
    found = diagnose(outcome(change(-0.05)), FALLING, signs=PairSigns(1000, 0.52, 0.6))
    assert causes(found) == ["noisy pairs"]
    assert "52.0% of the time" in found[0].sign and "60% of the pairs" in found[0].sign


def test_a_loss_that_rises_beyond_where_it_began_is_too_large_a_step() -> None:
    rising = [(step, 1.1 if step < 5 else 1.8 - step / 100) for step in range(60)]
    found = diagnose(outcome(change(-0.1)), rising, signs=SOUND)
    assert causes(found) == ["steps too large"] and "began at 1.10" in found[0].sign


def test_a_model_turned_far_from_its_base_took_too_large_steps_and_a_gain_excuses_it() -> None:
    found = diagnose(outcome(change(-0.1)), FALLING, signs=SOUND, moved=0.9)
    assert causes(found) == ["steps too large"] and "mean cosine of 0.10" in found[0].sign
    assert diagnose(outcome(change(0.1)), FALLING, signs=SOUND, moved=0.9) == []


def test_a_loss_on_questions_unlike_the_anchors_alone_is_over_fitting() -> None:
    likeness = {"like a training anchor": change(0.05, 0.1, 60), "unlike any": change(-0.1, 0.1, 140)}
    found = diagnose(replace(outcome(change(-0.055, 0.1)), likeness=likeness), FALLING, signs=SOUND)
    assert "over-fitting" in causes(found)
    like, unlike = likeness.values()
    assert found[-1].sign == (
        f"the 140 questions unlike any training anchor changed by {unlike}, the 60 others by {like}"
    )


def test_a_loss_on_all_questions_or_beside_a_handful_like_the_anchors_is_not_called_over_fitting() -> None:
    all_fell = {"like a training anchor": change(-0.05, 0.1, 60), "unlike any": change(-0.3, 0.1, 140)}
    handful = {"like a training anchor": change(0.05, 0.1, 9), "unlike any": change(-0.3, 0.1, 191)}
    for likeness in (all_fell, handful):
        assert diagnose(replace(outcome(change(-0.2, 0.1)), likeness=likeness), FALLING, signs=SOUND) == []


def test_dev_that_falls_while_the_loss_falls_is_over_fitting() -> None:
    found = diagnose(outcome(change(-0.02, 0.05)), FALLING, [(30, 0.5), (60, 0.47), (100, 0.44)], SOUND)
    assert causes(found) == ["over-fitting"]
    assert "from 0.500 to 0.440" in found[0].sign


def test_a_gain_on_dev_that_the_test_does_not_know_is_over_fitting_to_dev() -> None:
    found = diagnose(outcome(change(-0.01, 0.1), dev=change(0.1, 0.1)), FALLING, signs=SOUND)
    assert causes(found) == ["over-fitting to the dev questions"]
    # The choices may have followed dev's luck whatever the training did.
    fell = diagnose(outcome(change(-0.01, 0.1), dev=change(0.1, 0.1)), FALLING, [(30, 0.5), (60, 0.4)], SOUND)
    assert causes(fell) == ["over-fitting", "over-fitting to the dev questions"]
    near = diagnose(outcome(change(-0.01, 0.1), dev=change(0.005, 0.1)), FALLING, signs=SOUND)
    assert near == []


def test_a_small_gain_in_much_noise_wants_more_questions_and_says_how_many() -> None:
    found = diagnose(outcome(change(0.01, 0.2, 100)), FALLING, signs=SOUND)
    assert causes(found) == ["too few questions"]
    assert "100 questions show a change of 0.056" in found[0].sign
    # Four times of five wants (2.8 × .2 / .01)² questions.
    assert "about 3,136 questions" in found[0].advice


def test_where_questions_have_the_same_answers_it_is_answers_that_there_are_too_few_of() -> None:
    gain = replace(change(0.01, 0.2, 100), answers=25)
    found = diagnose(outcome(gain), FALLING, signs=SOUND)
    assert "100 questions of 25 different answers show a change of 0.056" in found[0].sign
    assert "questions of about 784 different answers would show it" in found[0].advice


def test_a_base_near_the_ceiling_has_nothing_left_to_learn() -> None:
    assert causes(diagnose(outcome(change(-0.001, 0.02, before=0.95)), FALLING, signs=SOUND)) == [
        "nothing left to learn"
    ]


def test_pairs_that_the_base_tells_apart_already_teach_nothing() -> None:
    found = diagnose(outcome(change(-0.001, 0.02)), FALLING, signs=PairSigns(1000, 0.999, 0.1))
    assert causes(found) == ["nothing left to learn from these pairs"]


def test_a_gain_too_good_to_be_true_is_suspected_of_leakage_though_it_is_a_win() -> None:
    found = diagnose(outcome(change(0.45, 0.1)), FALLING, signs=SOUND)
    assert causes(found) == ["leakage?"] and "closed 75%" in found[0].sign


def test_a_win_of_dense_search_that_the_served_ranking_loses_is_told_with_both_changes() -> None:
    dense, served = change(0.1), change(-0.1)
    found = diagnose(outcome(dense, served), FALLING, signs=SOUND)
    assert causes(found) == ["the served ranking lost"]
    assert f"dense search changed by {dense}" in found[0].sign and f"by {served}" in found[0].sign
    assert "(90 now)" in found[0].advice
    assert causes(diagnose(outcome(served, served), FALLING, signs=SOUND)) == []


def test_a_gain_only_on_questions_worded_like_anchors_is_told() -> None:
    likeness = {"like a training anchor": change(0.3, 0.1, 60), "unlike any": change(0.001, 0.1, 140)}
    found = diagnose(replace(outcome(change(0.1)), likeness=likeness), FALLING, signs=SOUND)
    assert causes(found) == ["learned by heart?"]
    few = {**likeness, "unlike any": change(0.001, 0.1, 9)}
    assert causes(diagnose(replace(outcome(change(0.1)), likeness=few), FALLING, signs=SOUND)) == []


def test_a_test_that_judged_earlier_versions_is_told() -> None:
    asked = outcome(change(0.1)).test_questions
    found = diagnose(outcome(change(0.1)), FALLING, signs=SOUND, earlier={"v1": 3, "v2": asked})
    assert causes(found) == ["a test that was seen before"]
    assert found[0].sign == "the same test questions have judged 2 earlier versions (v1, v2)"
    found = diagnose(outcome(change(0.1)), FALLING, signs=SOUND, earlier={"v1": 3})
    assert found[0].sign == f"up to 3 of the {asked} test questions have judged 1 earlier version (v1)"


def pairs(count: int) -> list[Pair]:
    return [Pair(f"name{n} kind{n}", f"the text of name{n} is long", "alias", n, n, f"{n}.md") for n in range(count)]


def test_sound_pairs_agree_and_shuffled_ones_agree_by_chance() -> None:
    base = HashEmbedder(dimension=128)
    sound = pairs(60)
    moved = [replace(pair, positive=sound[place - 7].positive) for place, pair in enumerate(sound)]
    good, bad = (measure_pairs(some, base, "none") for some in (sound, moved))  # type: ignore[arg-type]
    assert good.agreement > 0.97 and good.low_silver == 0
    assert 0.35 < bad.agreement < 0.65 and bad.low_silver == 1


def test_one_pair_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="at least two pairs"):
        measure_pairs(pairs(1), HashEmbedder(), "none")  # type: ignore[arg-type]
