"""Paired bootstrap, randomization test, verdict.

Every comparison is paired: both systems answer the same questions, and what is resampled are the
per-question differences (Smucker, Allan and Carterette, CIKM 2007; Sakai, SIGIR 2006). Questions that
have the same answers stand or fall together, ten wordings of one of them above all, so they are
drawn, and their signs flipped, as one (the cluster bootstrap: Cameron, Gelbach and Miller, REStat 2008).

The interval is the percentile bootstrap's. Over simulated differences of the shape real runs have
(mostly zero, a few large, some skewed) the bias-corrected and the studentized bootstrap covered the
true mean no more often, and at 20 questions called a difference of nothing a gain half as often again.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Change", "Verdict", "compare", "compare_each", "gate", "less_its_error", "verdict"]

Verdict = Literal["WIN", "TIE", "REGRESSION"]
RESAMPLES = 10_000
CONFIDENCE = 0.95
# Standard errors between no change and the smallest that is found four times of five: the 97.5 % point of
# the normal distribution and its 80 % point (Cohen, Statistical power analysis, 1988).
POWER_80 = 1.96 + 0.84


@dataclass(frozen=True, slots=True)
class Change:
    """A paired difference of means with its confidence interval and two-sided randomization p.

    ``detectable`` is the smallest true change that so many questions, as unlike as these, would show four
    times of five. ``answers`` is how many different answers the questions have, and so how many are independent of each
    other. Both are 0 in records that do not say.
    """

    before: float
    after: float
    mean: float
    low: float
    high: float
    p: float
    questions: int
    detectable: float = 0.0
    answers: int = 0

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def compare(
    before: Sequence[float], after: Sequence[float], groups: Sequence[Hashable] | None = None, seed: int = 13
) -> Change:
    """Compare per-question scores of two systems over the same questions, in the same order.

    The interval is the 95 % percentile bootstrap of the mean difference; p is the share of random
    sign flips whose mean is at least as far from zero, with the observed one counted (so p > 0).

    Args:
        before: a score a question.
        after: the same of the other system.
        groups: what stands for the answers of each question (`trainer.questions.by_answers`); None where no two have
            the same.
        seed: of what is drawn.

    Raises:
        ValueError: the sequences are empty or of different lengths.
    """
    return compare_each({"": (before, after)}, groups, seed)[""]


def compare_each(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    groups: Sequence[Hashable] | None = None,
    seed: int = 13,
) -> dict[str, Change]:
    """`compare` for several measures of the same questions, all by the same resamples.

    Raises:
        ValueError: sequences are empty or of different lengths.
    """
    sizes = {len(side) for pair in pairs.values() for side in pair} | ({len(groups)} if groups is not None else set())
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"paired scores wanted: {', '.join(map(str, sorted(sizes)))} of them")
    before, after = (
        np.array([pair[side] for pair in pairs.values()], dtype=np.float64).T.reshape(-1, len(pairs)) for side in (0, 1)
    )
    difference = after - before
    mean = difference.mean(axis=0)
    summed, counts = _by_group(difference, groups)
    generator = np.random.default_rng(seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(_resampled_means(summed, counts, generator), [tail, 1 - tail], axis=0)
    p = _sign_flip_p(summed, generator)
    errors = _errors(summed, counts) * math.sqrt(_unbiased(len(counts)))
    return {
        name: Change(
            before=float(before[:, column].mean()),
            after=float(after[:, column].mean()),
            mean=float(mean[column]),
            low=float(low[column]),
            high=float(high[column]),
            p=float(p[column]),
            questions=len(difference),
            detectable=float(POWER_80 * errors[column]),
            answers=len(counts),
        )
        for column, name in enumerate(pairs)
    }


def verdict(change: Change) -> Verdict:
    """WIN when the whole interval is above zero, REGRESSION when it is below, else TIE.

    The randomization test must agree: over a handful of questions a bootstrap interval collapses, while
    five sign flips can never be rare enough.
    """
    if change.p >= 1 - CONFIDENCE:
        return "TIE"
    if change.low > 0:
        return "WIN"
    return "REGRESSION" if change.high < 0 else "TIE"


def gate(dense: Change, *served: Change) -> Verdict:
    """The verdict on the dense change; but what makes a served ranking worse is never a WIN."""
    found = verdict(dense)
    return "TIE" if found == "WIN" and "REGRESSION" in map(verdict, served) else found


def less_its_error(gains: NDArray[np.float64], groups: Sequence[Hashable] | None = None) -> float:
    """The mean of paired gains over the plainest setting, less its standard error: what to choose settings by.

    Of many settings compared on few questions, the one that looks best is that by luck as often as not (the rule of one
    standard error: Breiman et al., Classification and Regression Trees, 1984). ``groups`` are those of `compare`.
    """
    return float(gains.mean() - _errors(*_by_group(gains[:, None], groups))[0])


def _by_group(
    difference: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The differences (questions, measures) summed by group (groups, measures), and how many each group has."""
    if groups is None:
        return difference, np.ones(len(difference), dtype=np.int64)
    numbers: dict[Hashable, int] = {}
    places = [numbers.setdefault(group, len(numbers)) for group in groups]
    summed = np.zeros((len(numbers), difference.shape[1]))
    np.add.at(summed, places, difference)
    return summed, np.bincount(places)


def _errors(summed: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The standard error of the mean of each measure, by what `_by_group` gives.

    Without groups it is the spread of the differences by the root of their number.
    """
    mean = summed.sum(axis=0) / counts.sum()
    errors: NDArray[np.float64] = np.sqrt(((summed - counts[:, None] * mean) ** 2).sum(axis=0)) / counts.sum()
    return errors


def _unbiased(groups: int) -> float:
    return groups / (groups - 1) if groups > 1 else 0.0


def _resampled_means(
    summed: NDArray[np.float64], counts: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.float64]:
    size = len(counts)
    # A resample is how often each group was drawn: one multinomial row instead of `size` indices.
    drawn = (generator.multinomial(size, np.full(size, 1 / size), size=count) for count in _blocks(RESAMPLES, size))
    return np.concatenate([times @ summed / (times @ counts)[:, None] for times in drawn])


def _sign_flip_p(summed: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    observed = np.abs(summed.sum(axis=0)) - 1e-12
    extreme = np.ones(summed.shape[1])
    for count in _blocks(RESAMPLES, len(summed)):
        signs = generator.integers(0, 2, size=(count, len(summed)), dtype=np.int8) * 2 - 1
        extreme += (np.abs(signs @ summed) >= observed).sum(axis=0)
    return extreme / (RESAMPLES + 1)


def _blocks(total: int, width: int) -> list[int]:
    """Split ``total`` rows so that no block holds more than about 4 million numbers."""
    rows = max(1, 4_000_000 // max(1, width))
    return [min(rows, total - start) for start in range(0, total, rows)]
