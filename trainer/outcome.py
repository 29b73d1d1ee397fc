"""The one look at the test questions, what it found, and the verdict with its reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.evaluation import METRICS, Candidates, Judge, Scores
from trainer.fusing import Fused
from trainer.leakage import nearest
from trainer.looks import mark
from trainer.plain_words import SHOWN, told_p
from trainer.questions import QuestionSet, Unit, by_answers
from trainer.runs import Rankings
from trainer.statistics import Change, Verdict, compare, compare_each, gate, verdict

__all__ = ["Asked", "Example", "Found", "Outcome", "Row", "score_test"]

EXAMPLES = 10
EXAMPLE_DEPTH = 3
SNIPPET = 280
LIKE_AN_ANCHOR = 0.5
"""Jaccard similarity of their words from which on a question is like something that was trained on."""


@dataclass(frozen=True)
class Row:
    """One line of the result: a system, its means on the test questions, its change in NDCG@10 against base dense."""

    system: str
    mode: str
    lexical_weight: float | None
    means: dict[str, float]
    change: Change | None


@dataclass(frozen=True)
class Found:
    """A unit as it was found: the head of the passage that put it there, and whether it answers the question."""

    unit: Unit
    snippet: str
    answers: bool


@dataclass(frozen=True)
class Example:
    """One test question: the best units of base and tuned model (dense), what answers it, NDCG@10."""

    question: str
    relevant: tuple[Unit, ...]
    answer: str
    before: tuple[Found, ...]
    after: tuple[Found, ...]
    ndcg_before: float
    ndcg_after: float


@dataclass(frozen=True)
class Asked:
    """How one test question fared: NDCG@10 and the rank of its first answer (dense; None beyond the ranking).

    ``like_anchor`` is its likeness to the nearest training anchor, 0 below `LIKE_AN_ANCHOR`; ``mark`` stands for it
    in the record of looks, ``answer`` for what answers it (`by_answers`).
    """

    id: str
    mark: str
    text: str
    dense_before: float
    dense_after: float
    hybrid_before: float
    hybrid_after: float
    rank_before: int | None
    rank_after: int | None
    like_anchor: float
    answer: int


@dataclass(frozen=True)
class Outcome:
    """Base and tuned model on the test questions, and the verdict.

    ``dense`` and ``dev`` (on the dev questions) are the tuned model's dense search against the base's;
    ``product`` is what would be served, tuned hybrid, against what would be served without: base hybrid. Of mined
    questions ``unmasked`` is the same with nothing masked in the passages: how well sections are found by what the
    documents call them, which masked passages cannot tell.
    ``dev_marks`` stand for the dev questions in the record of looks.
    ``changes`` has, by mode and metric, tuned against base; ``likeness`` the change of dense NDCG@10 on the
    questions that are like a training anchor, and on those that are not.
    """

    evidence: str
    dev_questions: int
    test_questions: int
    rows: list[Row]
    changes: dict[str, dict[str, Change]]
    likeness: dict[str, Change]
    examples: list[Example]
    questions: list[Asked]
    dense: Change
    product: Change
    dev: Change
    unmasked: Change | None = None
    dev_marks: list[str] = field(default_factory=list)

    @property
    def served(self) -> dict[str, Change]:
        """What is served, tuned against base, each way it was asked."""
        asked = {"What is served (hybrid search)": self.product}
        if self.unmasked is not None:
            asked["What is served, with nothing masked in the passages"] = self.unmasked
        return asked

    @property
    def verdict(self) -> Verdict:
        """WIN, TIE or REGRESSION."""
        return gate(self.dense, *self.served.values())

    @property
    def serves_better(self) -> bool:
        """Whether what is served is better beyond doubt and nothing is worse, whatever dense search shows."""
        verdicts = {*map(verdict, (self.dense, *self.served.values()))}
        return verdict(self.product) == "WIN" and "REGRESSION" not in verdicts

    def reasons(self) -> list[str]:
        """Why the verdict is what it is, a sentence each, the decisive one first."""
        dense = verdict(self.dense)
        searched = f"Dense search: {_told(self.dense)}"
        judged = SHOWN | {"TIE": "no change beyond doubt"}
        served = [f"{name}: {_told(change)}, {judged[verdict(change)]}" for name, change in self.served.items()]
        if dense == "WIN" and self.verdict == "TIE":
            worse = [sentence for sentence in served if sentence.endswith(judged["REGRESSION"])]
            others = [sentence for sentence in served if sentence not in worse]
            return [
                f"{worse[0]}, so the gain of dense search alone does not count.",
                *(f"{sentence}." for sentence in (*worse[1:], f"{searched}, better", *others)),
            ]
        if dense == "TIE":
            doubt = (
                f"the randomization test does not agree with the interval (p = {self.dense.p:.2f})"
                if self.dense.low > 0 or self.dense.high < 0
                else "the interval holds 0"
            )
            return [
                f"{searched}: {doubt}, so neither better nor worse beyond doubt.",
                *(f"{sentence}." for sentence in served),
            ]
        return [f"{sentence}." for sentence in (f"{searched}, {judged[dense]}", *served)]

    def record(self) -> dict[str, Any]:
        """What ``evaluation.json`` holds."""
        summary = {
            "verdict": self.verdict,
            "reasons": self.reasons(),
            "ndcg_before": self.dense.before,
            "ndcg_after": self.dense.after,
        }
        return summary | asdict(self)


def score_test(
    judges: Sequence[Judge],
    questions: QuestionSet,
    base: Sequence[Fused],
    tuned: Sequence[Fused],
    anchors: Sequence[str] = (),
) -> tuple[Outcome, dict[str, Rankings]]:
    """Look at the test questions, once: base and tuned in every mode, each against base dense.

    Args:
        judges: each of all questions, dev then test; where passages are masked for them, a second one has these as
            they stand.
        questions: the same questions.
        base: what the base model finds, for each of the judges.
        tuned: the same of the tuned one.
        anchors: what was trained on.

    Returns:
        The outcome, and the rankings it rests on, by system and mode.
    """
    dev, test = questions.places()
    answers, dev_answers = by_answers(questions.test), by_answers(questions.dev)
    judge, before, after = judges[0], base[0], tuned[0]
    lexical = judge.score("lexical", only=test)
    dense = judge.score("dense", before.dense, only=test), judge.score("dense", after.dense, only=test)
    hybrid = before.score(judge, test), after.score(judge, test)
    systems = {
        "base-lexical": (lexical, None),
        "base-dense": (dense[0], None),
        "base-hybrid": (hybrid[0], before.weight),
        "tuned-dense": (dense[1], None),
        "tuned-hybrid": (hybrid[1], after.weight),
    }
    against_base = compare_each(
        {name: (dense[0].ndcg, scores.ndcg) for name, (scores, _) in systems.items() if name != "base-dense"}, answers
    )
    rows = []
    for name, (scores, weight) in systems.items():
        system, _, mode = name.partition("-")
        rows.append(Row(system, mode, weight, scores.means(), against_base.get(name)))
    changes = {
        mode: compare_each(
            {metric: (scores[0].values[metric], scores[1].values[metric]) for metric in METRICS}, answers
        )
        for mode, scores in (("dense", dense), ("hybrid", hybrid))
    }
    asked = _asked(questions, answers, dense, hybrid, anchors)
    outcome = Outcome(
        evidence=questions.evidence,
        dev_questions=len(dev),
        test_questions=len(test),
        rows=rows,
        changes=changes,
        likeness=_by_likeness(asked) if anchors else {},
        examples=_examples(judge, test, before.dense, after.dense, *dense),
        questions=asked,
        dense=changes["dense"]["ndcg@10"],
        product=changes["hybrid"]["ndcg@10"],
        dev=_change([judge.score("dense", fused.dense, only=dev) for fused in (before, after)], dev_answers),
        dev_marks=[mark(question) for question in questions.dev],
        unmasked=_change([fused.score(judges[1], test) for fused in (base[1], tuned[1])], answers)
        if judges[1:]
        else None,
    )
    return outcome, {name: scores.rankings for name, (scores, _) in systems.items()}


def _change(scores: Sequence[Scores], answers: Sequence[int]) -> Change:
    before, after = scores
    return compare(before.ndcg, after.ndcg, answers)


def _told(change: Change) -> str:
    p = told_p(change.p)
    return f"NDCG@10 {change.before:.3f} → {change.after:.3f}, {change}, p {p if p.startswith('<') else f'= {p}'}"


def _asked(
    questions: QuestionSet,
    answers: Sequence[int],
    dense: tuple[Scores, Scores],
    hybrid: tuple[Scores, Scores],
    anchors: Sequence[str],
) -> list[Asked]:
    likeness = nearest([question.text for question in questions.test], anchors, LIKE_AN_ANCHOR)
    return [
        Asked(
            id=question.id,
            mark=mark(question),
            text=question.text,
            dense_before=dense[0].ndcg[place],
            dense_after=dense[1].ndcg[place],
            hybrid_before=hybrid[0].ndcg[place],
            hybrid_after=hybrid[1].ndcg[place],
            rank_before=_first_answer(dense[0].rankings[place], question.relevant),
            rank_after=_first_answer(dense[1].rankings[place], question.relevant),
            like_anchor=likeness[place],
            answer=answers[place],
        )
        for place, question in enumerate(questions.test)
    ]


def _first_answer(ranking: Sequence[Unit], relevant: Mapping[Unit, int]) -> int | None:
    return next((rank for rank, unit in enumerate(ranking, 1) if unit in relevant), None)


def _by_likeness(asked: Sequence[Asked]) -> dict[str, Change]:
    sides = {
        "like a training anchor": [item for item in asked if item.like_anchor],
        "unlike any": [item for item in asked if not item.like_anchor],
    }
    return {
        name: compare(
            [item.dense_before for item in some], [item.dense_after for item in some], [item.answer for item in some]
        )
        for name, some in sides.items()
        if some
    }


def _examples(
    judge: Judge, test: range, base: Candidates, tuned: Candidates, before: Scores, after: Scores
) -> list[Example]:
    """The questions that gained and lost most, ten of each, between them the one in the middle."""
    order = sorted(range(len(test)), key=lambda place: before.ndcg[place] - after.ndcg[place])
    chosen = dict.fromkeys([*order[:EXAMPLES], order[len(order) // 2], *order[-EXAMPLES:]])
    return [
        Example(
            question=judge.questions[test[place]].text,
            relevant=tuple(judge.questions[test[place]].relevant),
            answer=_answer(judge, test[place]),
            before=_found(judge, test[place], base),
            after=_found(judge, test[place], tuned),
            ndcg_before=before.ndcg[place],
            ndcg_after=after.ndcg[place],
        )
        for place in chosen
    ]


def _answer(judge: Judge, place: int) -> str:
    """The head of what answers a question best, "" where the corpus lacks it."""
    relevant = judge.questions[place].relevant
    for unit in sorted(relevant, key=lambda unit: -relevant[unit]):
        if numbers := judge.passages_of(unit):
            return _snippet(judge, numbers[0])
    return ""


def _found(judge: Judge, place: int, dense: Candidates) -> tuple[Found, ...]:
    relevant = judge.questions[place].relevant
    best = judge.best_passages(place, dense, EXAMPLE_DEPTH)
    return tuple(Found(unit, _snippet(judge, number), unit in relevant) for unit, number in best.items())


def _snippet(judge: Judge, number: int) -> str:
    text = " ".join(judge.passage(number).text.split())
    return text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…"
