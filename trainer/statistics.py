"""Paired bootstrap, randomization test, verdict.

Every comparison is paired: both systems answer the same questions, and what is resampled are the
per-question differences (Smucker, Allan and Carterette, CIKM 2007; Sakai, SIGIR 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Change", "Verdict", "compare", "verdict"]

Verdict = Literal["WIN", "TIE", "REGRESSION"]
RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Change:
    """A paired difference of means with its confidence interval and two-sided randomization p."""

    before: float
    after: float
    mean: float
    low: float
    high: float
    p: float
    questions: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def compare(before: Sequence[float], after: Sequence[float], seed: int = 13) -> Change:
    """Compare per-question scores of two systems over the same questions, in the same order.

    The interval is the 95 % percentile bootstrap of the mean difference; p is the share of random
    sign flips whose mean is at least as far from zero, with the observed one counted (so p > 0).

    Raises:
        ValueError: the sequences are empty or of different lengths.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"paired scores wanted: {len(before)} before, {len(after)} after")
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    difference = second - first
    generator = np.random.default_rng(seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(_resampled_means(difference, generator), [tail, 1 - tail])
    return Change(
        before=float(first.mean()),
        after=float(second.mean()),
        mean=float(difference.mean()),
        low=float(low),
        high=float(high),
        p=_sign_flip_p(difference, generator),
        questions=len(difference),
    )


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


def _resampled_means(difference: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    size = len(difference)
    # A resample is how often each question was drawn: one multinomial row instead of `size` indices.
    blocks = [
        generator.multinomial(size, np.full(size, 1 / size), size=count) @ difference / size
        for count in _blocks(RESAMPLES, size)
    ]
    return np.concatenate(blocks)


def _sign_flip_p(difference: NDArray[np.float64], generator: np.random.Generator) -> float:
    observed = abs(difference.sum()) - 1e-12
    extreme = 1
    for count in _blocks(RESAMPLES, len(difference)):
        signs = generator.integers(0, 2, size=(count, len(difference)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ difference) >= observed).sum())
    return extreme / (RESAMPLES + 1)


def _blocks(total: int, width: int) -> list[int]:
    """Split ``total`` rows so that no block holds more than about 4 million numbers."""
    rows = max(1, 4_000_000 // max(1, width))
    return [min(rows, total - start) for start in range(0, total, rows)]
