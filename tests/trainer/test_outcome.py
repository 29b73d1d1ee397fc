from __future__ import annotations

import json

import numpy as np
import pytest
from hash_embedder import HashEmbedder
from test_diagnosis import change, outcome

from retrieval.passages import Passage
from trainer.diagnosis import diagnose
from trainer.evaluation import METRICS, Judge
from trainer.fusing import Fused
from trainer.outcome import Outcome, score_test
from trainer.plain_words import asked_about
from trainer.questions import Question, QuestionSet
from trainer.runs import Rankings

COUNT = 60


def test_mined_questions_have_to_be_answered_where_nothing_is_masked_too() -> None:
    lost, kept = outcome(change(0.1), unmasked=change(-0.1)), outcome(change(0.1), unmasked=change(0.001))
    assert lost.verdict == "TIE" and kept.verdict == "WIN"
    assert "nothing masked in the passages" in lost.reasons()[0] and "does not count" in lost.reasons()[0]
    assert len(lost.reasons()) == len(kept.reasons()) == 3 and "no change beyond doubt" in kept.reasons()[2]
    assert [finding.cause for finding in diagnose(lost)] == ["the documents' own words lost"]
    assert outcome(change(-0.1), unmasked=change(0.1)).verdict == "REGRESSION"
    assert kept.serves_better and not lost.serves_better and not outcome(change(-0.1), change(0.1)).serves_better


@pytest.mark.parametrize(
    ("dense", "product", "verdict", "first"),
    [
        (0.1, 0.1, "WIN", "better beyond doubt"),
        (-0.1, -0.1, "REGRESSION", "worse beyond doubt"),
        (0.001, 0.001, "TIE", "the interval holds 0"),
        (0.1, -0.1, "TIE", "worse beyond doubt, so the gain of dense search alone does not count"),
    ],
)
def test_the_verdict_comes_with_the_reason_that_decided_it(
    dense: float, product: float, verdict: str, first: str
) -> None:
    judged = outcome(change(dense), change(product))
    assert judged.verdict == verdict
    assert first in judged.reasons()[0]
    assert judged.record()["reasons"] == judged.reasons()


@pytest.fixture(scope="module")
def judged() -> tuple[Outcome, dict[str, Rankings]]:
    return scored(COUNT)


def scored(answers: int) -> tuple[Outcome, dict[str, Rankings]]:
    """A base that sees nothing of the questions, and a tuned model that knows two thirds; each of ``answers`` alike."""
    passages = [Passage(str(n), f"{n}.md", "", ("H",), f"word{n} text " * 30, 1, 2) for n in range(COUNT)]
    alike = [{f"{n}.md": 1 for n in range(10, COUNT) if n % answers == place} for place in range(answers)]
    questions = QuestionSet(
        tuple(Question(f"d{n}", f"word{n}", {f"{n}.md": 1}) for n in range(10)),
        tuple(Question(f"t{n}", f"<b>word{n}", {"gone.md#x": 1, **alike[n % answers]}) for n in range(10, COUNT)),
        "real questions",
    )
    judge = Judge(passages, [p.text for p in passages], questions.all, language="none", depth=10)
    vectors = HashEmbedder(dimension=64).encode_documents([f"word{n}" for n in range(COUNT)])
    base = judge.dense(np.roll(vectors, 5, axis=0), vectors)
    known = np.where((np.arange(COUNT) % 3 > 0)[:, None], vectors, np.roll(vectors, 5, axis=0))
    tuned = judge.dense(known, vectors)
    before, after = Fused(base, 0, base, 0.5, {}), Fused(tuned, 0, tuned, 0.3, {})
    return score_test([judge], questions, [before], [after], anchors=["word12 b", "something else"])


def test_every_measure_of_every_mode_is_compared_with_the_base(judged: tuple[Outcome, dict[str, Rankings]]) -> None:
    found, _ = judged
    assert [(row.system, row.mode) for row in found.rows] == [
        ("base", "lexical"),
        ("base", "dense"),
        ("base", "hybrid"),
        ("tuned", "dense"),
        ("tuned", "hybrid"),
    ]
    assert [set(changes) for changes in found.changes.values()] == [set(METRICS), set(METRICS)]
    assert found.dense == found.changes["dense"]["ndcg@10"] and found.product == found.changes["hybrid"]["ndcg@10"]
    assert found.rows[1].change is None and all(row.change for row in found.rows if row.system == "tuned")
    assert found.verdict == "WIN"


def test_each_test_question_is_recorded_with_its_scores_ranks_and_likeness(
    judged: tuple[Outcome, dict[str, Rankings]],
) -> None:
    found, runs = judged
    assert [item.id for item in found.questions] == [f"t{n}" for n in range(10, COUNT)]
    learned = found.questions[1]
    assert (learned.rank_before, learned.rank_after) != (1, None) and learned.rank_after == 1
    assert learned.dense_after > learned.dense_before
    assert [item.id for item in found.questions if item.like_anchor] == ["t12"]
    assert {name: change.questions for name, change in found.likeness.items()} == {
        "like a training anchor": 1,
        "unlike any": 49,
    }
    assert set(runs) == {"base-lexical", "base-dense", "base-hybrid", "tuned-dense", "tuned-hybrid"}
    assert all(len(rankings) == 50 for rankings in runs.values())


def test_wins_and_losses_can_be_read(judged: tuple[Outcome, dict[str, Rankings]]) -> None:
    best = judged[0].examples[0]
    assert best.ndcg_after > best.ndcg_before
    assert best.answer.startswith("word") and len(best.answer) <= 280
    assert [hit.answers for hit in best.after] == [True, False, False]
    assert best.after[0].unit in best.relevant and best.after[0].snippet == best.answer


def test_questions_with_the_same_answers_count_as_one_in_every_interval_and_verdict() -> None:
    found, _ = scored(6)
    changes = [found.dense, found.product, *(row.change for row in found.rows if row.change)]
    changes += [*found.changes["hybrid"].values(), *found.likeness.values()]
    assert all(change.answers <= 6 <= change.questions or change.questions == 1 for change in changes)
    assert found.dense.mean > 0.05 and found.dense.low > 0 and found.verdict == "TIE"
    assert {asked.answer for asked in found.questions} == set(range(6))
    assert "6 different answers" in asked_about(found.record())


def test_the_record_is_json(judged: tuple[Outcome, dict[str, Rankings]]) -> None:
    assert json.loads(json.dumps(judged[0].record()))["verdict"] == "WIN"
