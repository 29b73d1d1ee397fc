from __future__ import annotations

from pathlib import Path

import pytest
import pytrec_eval

from trainer.evaluation import score_ranking
from trainer.questions import Question
from trainer.runs import JUDGMENTS, write_runs

QUESTIONS = [
    Question("q 1", "what is red", {"a file.md#100 % red": 2, "b.md": 1}),
    Question("q2", "what is blue", {"c.md": 1}),
]
RANKINGS = [("b.md", "a.md", "a file.md#100 % red"), ("x\u2028y.md", "a.md", "c.md")]


def test_trec_eval_reads_a_written_run_and_finds_the_values_we_found(tmp_path: Path) -> None:
    files = write_runs(tmp_path / "runs", QUESTIONS, {"v1 dense": RANKINGS})
    assert [file.name for file in files] == ["v1 dense.trec", JUDGMENTS]
    with files[0].open(encoding="utf-8") as lines:
        run = pytrec_eval.parse_run(lines)
    with files[1].open(encoding="utf-8") as lines:
        judged = pytrec_eval.parse_qrel(lines)
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut_10", "map", "recall_50"}).evaluate(run)
    for question, ranking, values in zip(QUESTIONS, RANKINGS, theirs.values(), strict=True):
        ours = score_ranking(ranking, question.relevant)
        assert ours["ndcg@10"] == pytest.approx(values["ndcg_cut_10"])
        assert ours["map"] == pytest.approx(values["map"])
        assert ours["recall@50"] == pytest.approx(values["recall_50"])


def test_every_line_of_a_run_has_six_fields_whatever_the_names_hold(tmp_path: Path) -> None:
    run, judgments = write_runs(tmp_path, QUESTIONS, {"v1": RANKINGS})
    assert {len(line.split()) for line in run.read_text().splitlines()} == {6}
    assert {len(line.split()) for line in judgments.read_text().splitlines()} == {4}


def test_scores_fall_strictly_down_to_the_last_rank(tmp_path: Path) -> None:
    ranking = [f"d{place}" for place in range(100)]
    run, _ = write_runs(tmp_path, [Question("q", "x", {"d1": 1})], {"v1": [ranking]})
    scores = [float(line.split()[4]) for line in run.read_text().splitlines()]
    assert scores == sorted(set(scores), reverse=True)
    assert len(scores) == 100
