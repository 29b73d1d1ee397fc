"""What a verdict says in plain words, for people who do not read intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.statistics import Change, verdict

__all__ = ["NEXT", "SHOWN", "asked_about", "conclusion", "of_answers", "told_p"]

SHOWN = {"WIN": "better beyond doubt", "TIE": "not shown to differ", "REGRESSION": "worse beyond doubt"}

NEXT = {
    "WIN": "A WIN is put to use by itself, unless the version in use serves the same questions better beyond doubt or "
    "--no-promote was given. `shoptalk models` says which version is in use, `shoptalk index` brings its index up to "
    "date, and `shoptalk models rollback` goes back to the one before.",
    "TIE": "It is kept, and not put to use by itself. Try what is said under What it looks like, or judge by more "
    "questions; `shoptalk models promote VERSION --force` puts it to use all the same.",
    "REGRESSION": "It is kept, and not put to use by itself. Try what is said under What it looks like, and look at "
    "the questions that lost most; `shoptalk models prune` throws away old versions.",
}
"""What to do about each verdict; commands stand between backticks."""


def conclusion(evaluation: Mapping[str, Any]) -> str:
    """What was shown of dense search and of the served ranking, in a sentence, from an evaluation's record."""
    dense, *served = (
        SHOWN[verdict(Change(**evaluation[name]))]
        for name in ("dense", "product", "unmasked")
        if evaluation.get(name) is not None
    )
    said = f"{_joined(dense, served[0])} in the search that is served (hybrid)"
    if served[1:]:
        said += f", {_joined(served[0], served[1])} there with nothing masked in the passages"
    return f"Against its base the tuned model is {dense} by meaning alone (dense search), {said}."


def asked_about(evaluation: Mapping[str, Any]) -> str:
    """How many questions of which kind judged, and of how many answers where some have the same."""
    asked = f"{evaluation['test_questions']} test questions ({evaluation['evidence']})"
    answers = evaluation.get("dense", {}).get("answers", 0)
    few = 0 < answers < evaluation["test_questions"]
    return f"{asked}, {answers} different answers: intervals are over those" if few else asked


def of_answers(change: Change) -> str:
    """Of how many different answers the questions of a change are, where some have the same; else nothing."""
    if not 0 < change.answers < change.questions:
        return ""
    return f" of {change.answers} different answers" if change.answers > 1 else " of one answer"


def told_p(p: float) -> str:
    """A randomization p, as precise as so many sign flips make it; one below .05 never reads as .05."""
    return "< .001" if p < 0.001 else "< .05" if 0.0495 <= p < 0.05 else f"{p:.3f}"


def _joined(before: str, after: str) -> str:
    return f"{'and' if after == before else 'but'} {after}"
