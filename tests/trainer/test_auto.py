from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from benches import bench_of
from tiny_bert import save_tiny_bert

from retrieval.embedders import LocalEmbedder
from retrieval.errors import QuestionsError
from retrieval.workspace import Workspace
from trainer import auto
from trainer.auto import Trial, search
from trainer.pairs import Pair
from trainer.recipes import ARMS, AUTO, Recipe, find_recipe
from trainer.unfinished import Unfinished
from trainer.weights import copy_weights, load_weights
from trainer.workbench import Fit, Workbench

if TYPE_CHECKING:
    from conftest import Tuned

FEW = tuple(arm for arm in ARMS if arm.name in ("structure", "structure and titles", "prose"))


@pytest.fixture(scope="module")
def bench(tuned: Tuned) -> Workbench:
    return bench_of(tuned.workspace, tuned.corpus.questions, find_recipe(AUTO).every_rule)


@pytest.fixture
def bounded(bench: Workbench) -> Workbench:
    """With few pairs, so that a search soon comes to its last round."""
    few = bench.workspace.trainer.model_copy(update={"max_pairs": 600})
    return replace(bench, workspace=replace(bench.workspace, trainer=few))


@pytest.fixture(autouse=True)
def small_doses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "FIRST_DOSE", 96)
    monkeypatch.setattr(auto, "ARMS", FEW)


def _search(bench: Workbench) -> tuple[Recipe, list[Trial]]:
    """Search with all the time there is."""
    return search(bench, find_recipe(AUTO), budget=1e6)


def test_the_search_chooses_what_looked_best_on_dev_and_records_all_it_tried(
    bounded: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were the first the best, there would be nothing to compare on more.
    idle = replace(FEW[0], name="idle", learning_rate=1e-9, static_learning_rate=1e-9)
    arms = (idle, *FEW)
    monkeypatch.setattr(auto, "ARMS", arms)
    chosen, trials = _search(bounded)
    assert chosen.name == AUTO and chosen.rules
    names = [trial.name for trial in trials]
    assert names[: len(arms)] == [arm.name for arm in arms]
    kept = next(trial for trial in reversed(trials) if trial.kept)
    assert kept.name in chosen.description
    assert kept.change == pytest.approx(kept.dev - bounded.looking_deeper().base_look().mean()) and kept.change > 0
    rounds = [trial.round for trial in trials]
    assert rounds == sorted(rounds) and rounds[0] == 1 and len(set(rounds)) > 1
    assert [trial.name for trial in trials if trial.chosen] == [kept.name]
    # The last round is the winner's variations, beside the training that it won by, and nothing else.
    winner = kept.name.split(", ")[0]
    last = [trial for trial in trials if trial.name.startswith(f"{winner}, ")]
    assert len(last) in (3, 4) and trials[-len(last) :] == last
    arm = next(arm for arm in FEW if arm.name == winner)
    factor = 2 if kept.name.endswith("x 2") else 0.5 if kept.name.endswith("x 0.5") else 1
    assert chosen.learning_rate == pytest.approx(factor * arm.learning_rate)
    assert chosen.hard_negatives == arm.hard_negatives + kept.name.endswith("negatives")
    assert len({(trial.name, trial.pairs) for trial in trials}) == len(trials)


def test_a_static_model_learns_from_half_of_the_positives_as_they_are(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), hard_negatives=0, alike=1)
    mined = bench.mined.take(recipe, 10_000, bench.seed)
    masked = sum(pair.masked for pair in mined)

    def changed(share: float) -> int:
        found = bench.pairs(replace(recipe, static_intact=share), [])
        assert [(pair.anchor, pair.passage) for pair in found] == [(pair.anchor, pair.passage) for pair in mined]
        return sum(pair.positive != other.positive for pair, other in zip(found, mined, strict=True))

    assert masked > 1000 and changed(0.0) == 0
    assert changed(1.0) > 0.9 * masked
    assert 0.4 * masked < changed(0.5) < 0.6 * masked
    assert bench.pairs(recipe, []) == bench.pairs(replace(recipe, static_intact=0.5, intact=0.0), [])


def test_recipes_are_compared_over_more_of_the_bases_mistakes_and_without_mixing(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "ARMS", FEW[:1])
    before = bench.view.probe
    chosen, trials = _search(bench)
    assert bench.view.probe is before and chosen.averages == FEW[0].averages
    assert set(bench.looking_deeper().view.probe.passages) > set(before.passages)
    # The first arm again, by itself, all of its tuned weights over the deeper pool.
    again = bench.looking_deeper().fit(replace(FEW[0], max_pairs=96, averages=(1.0,), looks=0))
    assert trials[0].dev == pytest.approx(again.looked.mean(), abs=1e-6)


Looks = Callable[[str, int], float]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Looks], None]:
    """Say how good each arm looks on a dose: ``of(name, pairs)``, the same on every question."""

    def say(of: Looks) -> None:
        fit = Workbench.fit

        def as_said(self: Workbench, recipe: Recipe) -> Fit:
            fitted = fit(self, replace(recipe, max_pairs=min(recipe.max_pairs, 64)))
            return replace(fitted, looked=np.full_like(fitted.looked, of(recipe.name, recipe.max_pairs)))

        monkeypatch.setattr(Workbench, "fit", as_said)

    return say


def test_what_looks_best_on_a_sample_must_do_so_on_a_third_of_the_dose(
    bench: Workbench, looks: Callable[[Looks], None]
) -> None:
    plainest, other, third = (arm.name for arm in FEW)
    looks(lambda name, pairs: 0.5 if name != other else 0.75 if pairs <= 96 else 0.25)
    chosen, trials = _search(bench)
    of_both = [(trial.name, trial.dev, trial.kept) for trial in trials[: len(FEW) + 2]]
    assert of_both == [
        (plainest, 0.5, True),
        (other, 0.75, True),
        (third, 0.5, False),
        (plainest, 0.5, True),
        (other, 0.25, False),
    ]
    assert chosen.rules == FEW[0].rules and chosen.description.endswith(f": {plainest}")

    looks(lambda name, pairs: 0.6 if name == other else 0.5)
    chosen, _ = _search(bench)
    assert chosen.rules == FEW[1].rules and chosen.description.endswith(f": {other}")


def test_without_the_time_to_compare_on_more_the_plainest_is_trained(
    bench: Workbench, looks: Callable[[Looks], None]
) -> None:
    plainest, other, third = (arm.name for arm in FEW)
    now = [0.0]

    def slow_at_last(name: str, pairs: int) -> float:
        now[0] += 1e6 if name == third else 1.0
        return 0.6 if name == other else 0.5

    looks(slow_at_last)
    chosen, trials = search(bench, find_recipe(AUTO), budget=1e5, clock=lambda: now[0])
    assert [trial.name for trial in trials] == [arm.name for arm in FEW] and chosen.rules == FEW[0].rules
    untold = f"{plainest}; no time was left to see whether {other}, best on 96 pairs, is so on more"
    assert chosen.description.endswith(untold)


def test_with_too_few_pairs_for_any_arm_the_way_out_is_named(bench: Workbench) -> None:
    few = replace(bench, mined=replace(bench.mined, kept=bench.mined.kept[:40]))
    with pytest.raises(QuestionsError, match=r"set-ups on 64 pairs or more, .* name another, such as structure"):
        search(few, find_recipe(AUTO), budget=1.0)


def test_no_arm_but_the_first_is_tried_once_the_trials_time_is_over(bench: Workbench) -> None:
    hours = itertools.count(step=3600.0)
    chosen, trials = search(bench, find_recipe(AUTO), budget=60.0, clock=lambda: next(hours))
    assert [(trial.name, trial.kept) for trial in trials] == [(FEW[0].name, True)]
    assert f"; {len(FEW) - 1} of {len(FEW)} set-ups were not tried for want of time" in chosen.description


def test_every_training_starts_from_the_base(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=128)
    bench.fit(recipe)
    first = copy_weights(bench.embedder.model)
    bench.fit(replace(recipe, static_learning_rate=0.5))
    bench.fit(recipe)
    again = copy_weights(bench.embedder.model)
    assert all(np.array_equal(first[name].numpy(), again[name].numpy()) for name in first)


def test_the_mix_of_what_is_kept_is_chosen_among_the_tuned_models_own_mistakes_too(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=512, averages=(1.0,), looks=0)
    own = replace(bench)
    flattered = own.fit(recipe, widen=True).looked.mean()
    assert own.view.probe is bench.view.probe  # one share: nothing to choose
    tuned = own.tuned()
    judge, chosen = own.view.judge, list(own.view.probe.questions)
    honest = float(np.mean(judge.score("dense", own.find(tuned)[0].candidates, only=chosen).ndcg))

    shares = own.fit(replace(recipe, averages=(1.0, 0.0)), widen=True)
    assert set(own.view.probe.passages) > set(bench.view.probe.passages)
    load_weights(tuned.model, own.base_weights)
    assert own.base_look() == pytest.approx(own.view.probe.ndcg(own.embedder), abs=1e-6)
    own.fit(recipe)
    assert abs(own.view.probe.ndcg(own.embedder).mean() - honest) < abs(flattered - honest) / 2
    assert shares.log.dev == [(shares.log.steps, pytest.approx(shares.looked.mean()))]


def test_mistakes_are_looked_for_in_texts_cut_as_training_cuts_them(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=64, hard_negatives=0, looks=0, averages=(1.0, 0.5))
    Workspace.create(tmp_path / "work", {"icd": str(tuned.corpus.documents)}, str(save_tiny_bert(tmp_path)))
    bench = bench_of(Workspace.open(tmp_path / "work"), tuned.corpus.questions, recipe.every_rule)
    whole = bench.embedder.model.max_seq_length
    read: list[int] = []
    widen = Workbench.widen

    def widening(self: Workbench, tuned: LocalEmbedder) -> None:
        read.append(tuned.max_tokens)
        widen(self, tuned)

    monkeypatch.setattr(Workbench, "widen", widening)
    before = bench.view.probe.passages
    bench.fit(replace(recipe, max_tokens=6), widen=True)
    bench.fit(recipe, widen=True)
    assert read == [6, whole] and whole < 64 and bench.embedder.model.max_seq_length == whole
    assert set(bench.view.probe.passages) > set(before)


def test_of_mixes_that_look_alike_the_nearest_to_the_base_is_kept(bench: Workbench) -> None:
    own, unmoved = replace(bench), {"learning_rate": 1e-12, "static_learning_rate": 1e-12}
    recipe = replace(find_recipe("structure"), max_pairs=96, looks=0, averages=(1.0, 0.7, 0.3), **unmoved)
    fit = own.fit(recipe)
    assert fit.share == 0.3 and fit.looked.mean() == pytest.approx(own.base_look().mean(), abs=1e-6)
    told = "0.3 of the tuned weights, the rest the base's: on a sample of dev the largest gain less its error (1: "
    assert [note for note in fit.notes if note.startswith(told)]


def test_a_search_that_was_killed_after_it_chose_is_not_run_again(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "ARMS", FEW[:1])
    chosen, trials = _search(bench)
    first = Unfinished(bench.workspace, "icd", 13)
    first.keep_chosen(chosen, [asdict(trial) for trial in trials])
    again = Unfinished(bench.workspace, "icd", 13).chosen()
    assert again == (chosen, [asdict(trial) for trial in trials])
    assert Unfinished(bench.workspace, "icd", 14).chosen() is None
    first.finish()
    assert Unfinished(bench.workspace, "icd", 13).chosen() is None


def test_lessons_show_passages_as_hybrid_search_ranks_them_and_none_that_is_held_out(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), lessons=40)
    lessons = bench.lessons(recipe)
    assert 20 <= len(lessons) <= 40
    for lesson in lessons:
        assert list(lesson.scores) == sorted(lesson.scores, reverse=True)
    withheld = replace(bench.mined, held=frozenset(document.id for document in bench.mined.material.documents[1:]))
    of_one = replace(bench, mined=withheld).lessons(recipe)
    own = {
        text
        for text, passage in zip(bench.mined.texts, bench.mined.material.passages, strict=True)
        if passage.document_id == bench.mined.material.documents[0].id
    }
    assert all(set(lesson.candidates) <= own for lesson in of_one)


def test_what_was_learned_from_lessons_moves_the_base(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=64, lessons=64)
    fit = bench.fit(recipe)
    assert fit.log.lessons > 0 and fit.log.steps > 2
    after = copy_weights(bench.embedder.model)
    assert any(not np.array_equal(after[name].numpy(), bench.base_weights[name].numpy()) for name in after)


def test_both_losses_are_tried_on_the_same_pairs_in_one_search(
    bounded: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tuple(arm for arm in ARMS if arm.name in ("structure", "structure with triplet loss"))
    monkeypatch.setattr(auto, "ARMS", both)
    _, trials = _search(bounded)
    assert [trial.name for trial in trials][:2] == ["structure", "structure with triplet loss"]
    # What the two have alike is told once.
    assert "alias" in trials[0].settings and "alias" not in trials[1].settings
    assert "triplet loss" in trials[1].settings
    recipes = [replace(arm, max_pairs=96) for arm in both]
    ranking, triplet = ({pair.anchor for pair in bounded.pairs(recipe, [])} for recipe in recipes)
    assert triplet <= ranking and len(triplet) >= len(ranking) // 2


def test_the_second_half_learns_from_negatives_that_the_first_half_made_hard(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=128)
    plain = bench.fit(recipe)
    again = bench.fit(replace(recipe, refresh_negatives=True))
    before = {(pair.anchor, pair.positive): pair.negatives for pair in plain.pairs}
    half = len(again.pairs) - len(again.pairs) // 2
    changed = [before[pair.anchor, pair.positive] != pair.negatives for pair in again.pairs]
    assert not any(changed[:half]) and sum(changed[half:]) > half // 4
    assert again.log.pairs == len(again.pairs) == len(plain.pairs)
    assert [step for step, _ in again.log.losses] == sorted({step for step, _ in again.log.losses})
    assert any("chosen again" in note for note in again.notes)


def test_negatives_may_come_from_words(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=128)
    by_model, by_words = (
        {pair.anchor: pair.negatives for pair in bench.pairs(replace(recipe, negatives_from=source), [])}
        for source in ("model", "lexical")
    )
    shared = by_model.keys() & by_words.keys()
    assert sum(by_model[anchor] != by_words[anchor] for anchor in shared) > len(shared) // 4


def test_pairs_that_ask_alike_follow_each_other(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), max_pairs=128)
    by_chance, grouped = (bench.pairs(replace(recipe, alike=size), []) for size in (1, 8))
    assert sorted(pair.anchor for pair in by_chance) == sorted(pair.anchor for pair in grouped)

    def likeness(pairs: list[Pair]) -> float:
        anchors = bench.embedder.encode_queries([pair.anchor for pair in pairs])
        return float((anchors[1:] * anchors[:-1]).sum(axis=1).mean())

    assert likeness(grouped) > likeness(by_chance) + 0.1


def test_filler_rules_fill_up_a_small_dose_and_add_nothing_to_a_large_one(bench: Workbench) -> None:
    recipe = replace(find_recipe("structure"), rules=("alias",), filler_rules=("heading",), max_pairs=1_000)
    aliases = sum(pair.rule == "alias" for pair in bench.mined.kept)
    counts = {
        wanted: Counter(pair.rule for pair in bench.mined.take(replace(recipe, fill_up_to=wanted), 1_000, 13))
        for wanted in (0, aliases - 1, aliases + 20)
    }
    assert counts[0] == counts[aliases - 1] == {"alias": aliases}
    assert counts[aliases + 20] == {"alias": aliases, "heading": 20}


def test_the_dose_is_bounded_by_the_time_that_is_left(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "ARMS", FEW[:1])
    seconds = itertools.count(step=5.0)
    chosen, _ = search(bench, find_recipe(AUTO), budget=1.0, clock=lambda: next(seconds))
    assert chosen.max_pairs == auto.FIRST_DOSE
    chosen, _ = search(bench, find_recipe(AUTO), budget=1e9, clock=lambda: next(seconds))
    assert chosen.max_pairs > auto.FIRST_DOSE


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says: a training takes a second a pair, looking at dev 100 seconds, whatever the machine."""
    fit = Workbench.fit
    now = [0.0]

    def fit_by_the_clock(self: Workbench, recipe: Recipe) -> Fit:
        fitted = fit(self, recipe)
        fitted.log.seconds = float(len(fitted.pairs))
        now[0] += fitted.log.seconds + 100
        return fitted

    monkeypatch.setattr(Workbench, "fit", fit_by_the_clock)
    return now


def _judging(bench: Workbench) -> float:
    return 200 * len(bench.mined.texts) / len(bench.looking_deeper().view.probe.passages)


def test_the_time_that_judging_will_take_is_kept_from_the_dose(bench: Workbench, paced: list[float]) -> None:
    budget = 700.0 * len(FEW)
    chosen, trials = search(bench, find_recipe(AUTO), budget, clock=lambda: paced[0])
    spent = sum(trial.pairs + 100 for trial in trials)
    judging = _judging(bench)
    assert spent == paced[0] <= budget / 2 and judging > 200
    assert chosen.max_pairs == int(budget - spent - judging)


def test_trials_take_half_of_the_time_that_judging_leaves(bench: Workbench, paced: list[float]) -> None:
    # One arm takes some 200 seconds, so a second is begun within half of 500 and a third is not.
    few = bench.workspace.trainer.model_copy(update={"max_pairs": auto.FIRST_DOSE})
    bench = replace(bench, workspace=replace(bench.workspace, trainer=few))
    chosen, trials = search(bench, find_recipe(AUTO), _judging(bench) + 500, clock=lambda: paced[0])
    assert [trial.name for trial in trials] == [arm.name for arm in FEW[:2]]
    assert f"; {len(FEW) - 2} of {len(FEW)} set-ups were not tried for want of time" in chosen.description


def test_trials_leave_the_time_that_comparing_on_more_and_then_the_whole_dose_take(
    bench: Workbench, paced: list[float]
) -> None:
    whole = 1_800
    bounded = bench.workspace.trainer.model_copy(update={"max_pairs": whole})
    bench = replace(bench, workspace=replace(bench.workspace, trainer=bounded))
    comparing = 2 * (100 + whole // auto.FACTOR)
    # Half would leave too little. One arm takes some 200 seconds, so a third is not begun.
    budget = _judging(bench) + whole + comparing + 300
    chosen, trials = search(bench, find_recipe(AUTO), budget, clock=lambda: paced[0])
    assert [trial.name for trial in trials] == [arm.name for arm in FEW[:2]]
    assert whole <= chosen.max_pairs <= whole + comparing
