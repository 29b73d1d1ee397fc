"""The recipe ``auto``: which pairs, negatives, losses and rates teach this model these documents, found by trying.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): every arm is trained on a small sample, the better third and
the plainest on a third of the dose, the best of these on all of it; between the last two its learning rate, its epochs
and its negatives are varied. What is to take the plainest arm's place must gain more than the standard error of its
gain, and must do so on a third of the dose, since what teaches fastest on a sample may unlearn on the whole
(docs/experiments.md); the time for that is kept. Everything is judged on dev questions over a pool of passages, so what
is chosen is chosen before the test questions are looked at. Trials are looked at with all of their tuned weights: how
many are kept is chosen after the training that counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import QuestionsError
from trainer.recipes import ARMS, Recipe, own_recipes
from trainer.statistics import less_its_error
from trainer.weights import is_static
from trainer.workbench import Workbench

__all__ = ["Trial", "search"]

FIRST_DOSE = 400
FACTOR = 3
FEWEST_PAIRS = 64
# Of the budget less what judging will take; the rest is for the training that counts, and at least its whole dose is:
# a third of the pairs costs more than the wrong set-up does (docs/experiments.md).
SHARE_FOR_TRIALS = 0.5


@dataclass(frozen=True)
class Trial:
    """One training on a sample: what it tried, on how many pairs, how it looked on dev beside the base.

    ``settings`` are those of the first trial, and of the others what differs from it. ``lead`` is what it was chosen
    by: its gain over the first of its round, less the standard error of that gain. ``chosen`` marks the one whose
    set-up the whole is trained by.
    """

    name: str
    settings: str
    pairs: int
    seconds: float
    dev: float
    change: float
    lead: float
    kept: bool
    round: int
    chosen: bool = False


def search(
    bench: Workbench, recipe: Recipe, budget: float, clock: Callable[[], float] = time.monotonic
) -> tuple[Recipe, list[Trial]]:
    """Try the arms, and return the recipe to train by with what was tried.

    Args:
        bench: the base and what was mined.
        recipe: ``auto`` itself, whose name and dose the chosen arm takes over.
        budget: seconds for the whole run; half of what judging leaves of them is for trials, less where the plainest
            arm's whole dose takes more than the other half. The first arm is tried whatever it takes.
        clock: tells the seconds.

    Raises:
        QuestionsError: no arm has enough pairs to be tried.
    """
    return _Search(bench, budget, clock).run(recipe)


class _Search:
    """The rounds of one search, and what they cost."""

    def __init__(self, bench: Workbench, budget: float, clock: Callable[[], float]) -> None:
        self._bench = bench.looking_deeper()
        self._clock = clock
        self._began, self._budget = clock(), budget
        # By arm and dose: the winner of one round is not trained once more beside its variations.
        self._looked: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._base = float(self._bench.base_look().mean())
        self._trials: list[Trial] = []
        self._rounds = 0
        self._plainest: Recipe | None = None
        # The plainest arm's pairs, and how many examples all of its epochs make of them.
        self._whole = self._whole_examples = 0
        # Of the trials' seconds. The rest is looking, which costs the same whatever the dose.
        self._training = 0.0
        self._examples = 0

    def run(self, recipe: Recipe) -> tuple[Recipe, list[Trial]]:
        dose = FIRST_DOSE
        tried = [*ARMS, *own_recipes(self._bench.workspace.trainer.recipes)]
        arms = [arm for arm in tried if self._has(arm)]
        if not arms:
            raise QuestionsError(
                f"the recipe {recipe.name} compares set-ups on {FEWEST_PAIRS} pairs or more, and none has so many "
                "here; name another, such as structure"
            )
        short = [arm.name for arm in tried if arm not in arms]
        plainest, wanted = arms[0], len(arms)
        self._plainest = plainest
        self._whole = self._dose(plainest)
        self._whole_examples = self._whole * plainest.epochs
        arms = self._round(arms, dose, max(1, wanted // FACTOR), then=self._third(arms))
        timely, third = len(self._trials), self._third(arms)
        if len(arms) > 1 and third > dose and self._affords(arms[:2], third):
            dose = third
            arms = self._round([plainest, *(arm for arm in arms if arm != plainest)], dose, 1)
        best = arms[0]
        of_all = "" if timely == wanted else f"; {wanted - timely} of {wanted} set-ups were not tried for want of time"
        if best != plainest and self._dose(best) > dose * FACTOR:
            of_all = f"; no time was left to see whether {best.name}, best on {dose} pairs, is so on more"
            best = plainest
        if short:
            of_all += f"; not tried for want of pairs: {', '.join(short)}"
        variations: list[Recipe] = []
        for arm in _variations(best):
            if self._affords([*variations, arm], dose):
                variations.append(arm)
        if variations and self._dose(best) <= dose * FACTOR:
            best = self._round([best, *variations], dose, 1)[0]
        left = self._began + self._budget - self._clock() - self._judging()
        affordable = max(dose, int(left / self._pace() / best.epochs))
        chosen = replace(
            best,
            name=recipe.name,
            description=f"{recipe.description}: {best.name}{of_all}",
            max_pairs=min(best.max_pairs, affordable),
        )
        place = max(place for place, trial in enumerate(self._trials) if trial.name == best.name)
        self._trials[place] = replace(self._trials[place], chosen=True)
        return chosen, self._trials

    def _dose(self, arm: Recipe) -> int:
        """How many pairs there are to train it on."""
        return len(self._bench.mined.take(arm, self._bench.workspace.trainer.max_pairs, self._bench.seed))

    def _third(self, arms: Sequence[Recipe]) -> int:
        """Pairs enough to compare ``arms`` on, whichever of them is then trained on all that it has."""
        most = max(self._dose(arm) for arm in arms)
        return min(most, max(FIRST_DOSE * FACTOR, math.ceil(most / FACTOR)))

    def _has(self, arm: Recipe) -> bool:
        """Whether there is enough to learn from; a loss of negatives alone wants them with each pair."""
        if len(self._bench.mined.take(arm, FEWEST_PAIRS, self._bench.seed)) < FEWEST_PAIRS:
            return False
        sample = replace(arm, max_pairs=FEWEST_PAIRS)
        return arm.loss == "ranking" or len(self._bench.pairs(sample, [])) >= FEWEST_PAIRS // 2

    def _round(self, arms: Sequence[Recipe], dose: int, survivors: int, then: int = 0) -> list[Recipe]:
        """Train each arm on ``dose`` pairs while there is time; return those that go on, best first.

        These are the best ``survivors`` and the first. Each counts as what it gains over the first, less the standard
        error of that gain. Time is kept to compare two of them on ``then`` pairs, where that is more.
        """
        tried: list[tuple[float, Recipe]] = []
        first: NDArray[np.float64] | None = None
        before = len(self._trials)
        self._rounds += 1
        for order, arm in enumerate(arms):
            if tried and not self._affords([arms[0], arm] if then > dose else [], then):
                break
            self._bench.progress("trying recipes", order, len(arms))
            looked = self._look_at(arm, dose)
            first = looked if first is None else first
            tried.append((less_its_error(looked - first, self._bench.answers), arm))
        best = [arm for _, arm in sorted(tried, key=lambda item: -item[0])]
        best = [arm for place, arm in enumerate(best) if place < survivors or arm is arms[0]]
        names, leads = {arm.name for arm in best}, {arm.name: lead for lead, arm in tried}
        self._trials[before:] = [
            replace(trial, lead=leads[trial.name], kept=trial.name in names) for trial in self._trials[before:]
        ]
        return best

    def _look_at(self, arm: Recipe, dose: int) -> NDArray[np.float64]:
        """Train an arm on ``dose`` pairs, unless it was, and return how good each dev question's ranking is then."""
        if (arm.name, dose) not in self._looked:
            began = self._clock()
            fit = self._bench.fit(replace(arm, max_pairs=min(arm.max_pairs, dose), averages=(1.0,), looks=0))
            seconds = self._clock() - began
            self._training += fit.log.seconds
            self._examples += len(fit.pairs) * arm.epochs
            dev, plainest = float(fit.looked.mean()), self._plainest if self._trials else None
            settings = arm.settings(is_static(self._bench.embedder.model), plainest)
            tried = arm.name, settings, len(fit.pairs), round(seconds, 1), dev, dev - self._base
            self._trials.append(Trial(*tried, lead=0.0, kept=False, round=self._rounds))
            self._looked[arm.name, dose] = fit.looked
        return self._looked[arm.name, dose]

    def _end(self) -> float:
        """When trials have had their time, by what looking at dev and training took so far."""
        left = self._budget - self._judging()
        return self._began + max(0.0, min(SHARE_FOR_TRIALS * left, left - self._pace() * self._whole_examples))

    def _affords(self, arms: Sequence[Recipe], dose: int) -> bool:
        """Whether the time left is enough to try ``arms`` on ``dose`` pairs, by what the trials so far took."""
        pairs = min(dose, self._whole)
        return self._clock() + sum(self._look() + self._pace() * pairs * arm.epochs for arm in arms) <= self._end()

    def _pace(self) -> float:
        """Seconds of training a pair takes in one epoch, in the trials so far."""
        return max(1e-6, self._training / max(1, self._examples))

    def _look(self) -> float:
        """Seconds that choosing negatives and looking at dev took in a trial."""
        return max(0.0, sum(trial.seconds for trial in self._trials) - self._training) / len(self._trials)

    def _judging(self) -> float:
        """Seconds that encoding all passages will take, by the tuned weights and by their mix with the base's."""
        return 2 * self._look() * len(self._bench.mined.texts) / len(self._bench.view.probe.passages)


def _variations(best: Recipe) -> list[Recipe]:
    """The winner with other rates, twice the epochs, and more negatives where it has any."""
    faster, slower = (
        replace(
            best,
            name=f"{best.name}, learning rate x {factor:g}",
            learning_rate=best.learning_rate * factor,
            static_learning_rate=best.static_learning_rate * factor,
        )
        for factor in (2, 0.5)
    )
    more = replace(
        best, name=f"{best.name}, {best.hard_negatives + 1} negatives", hard_negatives=best.hard_negatives + 1
    )
    longer = replace(best, name=f"{best.name}, {2 * best.epochs} epochs", epochs=2 * best.epochs)
    return [faster, slower, *([more] if best.hard_negatives else []), longer]
