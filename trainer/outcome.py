"""The one look at the test questions, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.evaluation import Candidates, Judge, Scores
from trainer.questions import Question, QuestionSet
from trainer.statistics import Change, Verdict, compare, verdict

__all__ = ["Example", "Outcome", "Row", "score_test"]

EXAMPLES = 3
EXAMPLE_DEPTH = 3


@dataclass(frozen=True)
class Row:
    """One line of the result: a system, its means on the test questions, its change against base dense."""

    system: str
    mode: str
    lexical_weight: float | None
    means: dict[str, float]
    change: Change | None


@dataclass(frozen=True)
class Example:
    """One test question: the best units of base and tuned model (dense), those that answer it, NDCG@10."""

    question: str
    relevant: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    ndcg_before: float
    ndcg_after: float


@dataclass(frozen=True)
class Outcome:
    """Base and tuned model on the test questions, and the verdict.

    ``dense`` and ``dev`` (on the dev questions) are the tuned model's dense search against the base's;
    ``product`` is what would be served, tuned hybrid, against what would be served without: base hybrid.
    """

    evidence: str
    dev_questions: int
    test_questions: int
    rows: list[Row]
    examples: list[Example]
    dense: Change
    product: Change
    dev: Change

    @property
    def verdict(self) -> Verdict:
        """The verdict on the dense change; but what makes the served ranking worse is never a WIN."""
        dense = verdict(self.dense)
        return "TIE" if dense == "WIN" and verdict(self.product) == "REGRESSION" else dense

    def record(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds."""
        summary = {"verdict": self.verdict, "ndcg_before": self.dense.before, "ndcg_after": self.dense.after}
        return summary | asdict(self)


def score_test(
    judge: Judge, questions: QuestionSet, base: Candidates, tuned: Candidates, base_weight: float, tuned_weight: float
) -> Outcome:
    """Look at the test questions, once: base and tuned in every mode, each against base dense.

    The judge's questions are the dev questions, then the test questions.
    """
    dev, test = questions.places()
    base_scores = judge.score("dense", base, only=test)
    tuned_scores = judge.score("dense", tuned, only=test)
    base_product = judge.score("hybrid", base, base_weight, test)
    product = judge.score("hybrid", tuned, tuned_weight, test)

    def row(system: str, mode: str, weight: float | None, scores: Scores) -> Row:
        change = None if scores is base_scores else compare(base_scores.ndcg, scores.ndcg)
        return Row(system, mode, weight, scores.means(), change)

    rows = [
        row("base", "lexical", None, judge.score("lexical", only=test)),
        row("base", "dense", None, base_scores),
        row("base", "hybrid", base_weight, base_product),
        row("tuned", "dense", None, tuned_scores),
        row("tuned", "hybrid", tuned_weight, product),
    ]
    return Outcome(
        evidence=questions.evidence,
        dev_questions=len(dev),
        test_questions=len(test),
        rows=rows,
        examples=_examples(questions.test, base_scores, tuned_scores),
        dense=compare(base_scores.ndcg, tuned_scores.ndcg),
        product=compare(base_product.ndcg, product.ndcg),
        dev=compare(judge.score("dense", base, only=dev).ndcg, judge.score("dense", tuned, only=dev).ndcg),
    )


def _examples(questions: Sequence[Question], before: Scores, after: Scores) -> list[Example]:
    """The questions that gained and lost most, three of each, between them the one in the middle."""
    order = sorted(range(len(questions)), key=lambda place: before.ndcg[place] - after.ndcg[place])
    middle = len(order) // 2
    chosen = dict.fromkeys([*order[:EXAMPLES], order[middle], *order[-EXAMPLES:]])
    return [
        Example(
            question=questions[place].text,
            relevant=tuple(questions[place].relevant),
            before=before.rankings[place][:EXAMPLE_DEPTH],
            after=after.rankings[place][:EXAMPLE_DEPTH],
            ndcg_before=before.ndcg[place],
            ndcg_after=after.ndcg[place],
        )
        for place in chosen
    ]
