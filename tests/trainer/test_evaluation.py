from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import passages_of

from retrieval.fusion import fuse
from retrieval.passages import Passage
from trainer.evaluation import METRICS, RANKED, Judge, choose_weight, dense_candidates, score_ranking
from trainer.questions import Question, load_questions
from trainer.runs import write_runs

MEASURES = {"ndcg_cut_10": "ndcg@10", "map": "map"} | {f"recall_{k}": f"recall@{k}" for k in (1, 5, 10, 50)}


def oracle(ranking: Sequence[str], relevant: Mapping[str, int]) -> dict[str, float]:
    """trec_eval's own values; it orders by score, so the ranks are given as falling scores."""

    def evaluate(depth: int, measures: set[str]) -> dict[str, float]:
        run = {unit: float(len(ranking) - place) for place, unit in enumerate(ranking[:depth])}
        return dict(pytrec_eval.RelevanceEvaluator({"q": dict(relevant)}, measures).evaluate({"q": run})["q"])

    values = evaluate(len(ranking), {"ndcg_cut_10", "map", "recall_1,5,10,50"})
    ours = {name: values[measure] for measure, name in MEASURES.items()}
    return {**ours, "mrr@10": evaluate(10, {"recip_rank"})["recip_rank"]}


units = st.integers(0, 90).map(lambda number: f"d{number}")
grades = st.dictionaries(units, st.integers(1, 4), min_size=1, max_size=15)


@settings(deadline=None)
@given(ranking=st.lists(units, min_size=1, max_size=80, unique=True), relevant=grades)
def test_metrics_agree_with_trec_eval_on_any_ranking(ranking: list[str], relevant: dict[str, int]) -> None:
    ours, theirs = score_ranking(ranking, relevant), oracle(ranking, relevant)
    assert set(ours) == set(METRICS)
    assert ours == {name: pytest.approx(theirs[name], abs=1e-6) for name in METRICS}


@settings(deadline=None, max_examples=50)
@given(scores=st.lists(st.integers(0, 3), min_size=2, max_size=60), relevant=grades)
def test_tied_scores_are_ranked_in_one_order_that_trec_eval_reads_back(
    scores: list[int], relevant: dict[str, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    vectors = np.array(scores, dtype=np.float32)[:, None]
    places, found = dense_candidates(np.ones((1, 1), dtype=np.float32), vectors, 60)[0]
    assert [(-score, place) for place, score in zip(places, found, strict=True)] == sorted(
        (-float(score), place) for place, score in enumerate(scores)
    )
    ranking = [f"d{place}" for place in places]
    run, judged = write_runs(tmp_path_factory.mktemp("runs"), [Question("q", "x", relevant)], {"ties": [ranking]})
    with run.open() as lines, judged.open() as judgments:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(judgments), {"ndcg_cut_10", "map"})
        theirs = evaluator.evaluate(pytrec_eval.parse_run(lines))["q"]
    ours = score_ranking(ranking, relevant)
    assert (ours["ndcg@10"], ours["map"]) == (pytest.approx(theirs["ndcg_cut_10"]), pytest.approx(theirs["map"]))


def test_metrics_agree_with_trec_eval_to_four_decimals_on_real_runs(
    tuned_runs: list[tuple[Question, list[str]]],
) -> None:
    assert len(tuned_runs) > 50
    assert max(len(ranking) for _, ranking in tuned_runs) == RANKED
    for question, ranking in tuned_runs:
        ours, theirs = score_ranking(ranking, question.relevant), oracle(ranking, question.relevant)
        assert {name: round(value, 4) for name, value in ours.items()} == {
            name: round(theirs[name], 4) for name in METRICS
        }


@pytest.fixture(scope="module")
def tuned_runs(static_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Question, list[str]]]:
    """Lexical rankings of real questions over a real corpus."""
    from trainer.demo import write_corpus

    root = tmp_path_factory.mktemp("runs")
    corpus = write_corpus(root, ("1", "4"))
    passages = passages_of(corpus.documents)
    questions = load_questions(corpus.questions)
    asked = [*questions.dev, *questions.test]
    judge = Judge(passages, [passage.embedded_text for passage in passages], asked, language="english", depth=100)
    rankings = judge.score("lexical").rankings
    return [(question, list(ranking)) for question, ranking in zip(asked, rankings, strict=True)]


def passage(document: str, heading: str, text: str) -> Passage:
    return Passage(f"{document}-{heading}-{text}", document, "", (heading,) if heading else (), text, 1, 1)


def test_a_document_scores_as_its_best_passage_and_is_ranked_once() -> None:
    passages = [passage("a.md", "", "red"), passage("a.md", "", "green"), passage("b.md", "", "blue")]
    judge = Judge(passages, ["red", "green", "blue"], [Question("q", "x", {"b.md": 1})], language="none", depth=10)
    dense = dense_candidates(np.eye(3, dtype=np.float32)[:1] + 0.1, np.eye(3, dtype=np.float32), 3)
    assert judge.score("dense", dense).rankings == (("a.md", "b.md"),)


def test_a_question_about_a_section_is_ranked_by_sections() -> None:
    passages = [passage("a.md", "One", "red"), passage("a.md", "Two", "green")]
    judge = Judge(passages, ["red", "green"], [Question("q", "green", {"a.md#Two": 1})], language="none", depth=10)
    assert judge.score("lexical").rankings == (("a.md#Two",),)
    assert judge.score("lexical").ndcg == (1.0,)


def test_an_answer_that_the_corpus_lacks_does_not_change_how_the_others_are_ranked() -> None:
    passages = [passage("a.md", "One", "red"), passage("a.md", "Two", "red"), passage("C#/b.md", "", "red green")]
    for missing, ranked in (("gone.md", {"a.md", "C#/b.md"}), ("a.md#Gone", {"a.md#One", "a.md#Two", "C#/b.md"})):
        asked = Question("q", "red", {"C#/b.md": 1, missing: 1})
        judge = Judge(passages, ["red", "red", "red green"], [asked], language="none", depth=10)
        assert set(judge.score("lexical").rankings[0]) == ranked


def test_a_label_on_a_whole_document_counts_for_each_of_its_sections() -> None:
    passages = [passage("a.md", "One", "red"), passage("b.md", "Two", "red green")]
    relevant = {"a.md": 1, "b.md#Nothing": 1}
    judge = Judge(passages, ["red", "red green"], [Question("q", "red", relevant)], language="none", depth=10)
    assert set(judge.score("lexical").rankings[0]) == {"a.md", "b.md#Two"}


def test_dense_candidates_are_the_exact_nearest_with_ties_by_number() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(500, 16)).astype(np.float32)
    vectors[7] = vectors[3]
    numbers, scores = dense_candidates(vectors[3:4], vectors, 20)[0]
    brute = vectors @ vectors[3]
    assert numbers.tolist() == sorted(range(500), key=lambda place: (-brute[place], place))[:20]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_what_is_served_leads_a_hybrid_ranking_and_both_sides_go_on_below_it() -> None:
    passages = [passage(f"d{number}.md", "", f"word {number}") for number in range(40)]
    texts = [f"{'word ' * (number % 7 + 1)}{number}" for number in range(40)]
    questions = [Question("q", "word", {"d0.md": 1})]
    judge = Judge(passages, texts, questions, language="none", depth=5)
    vectors = np.linspace(1, 0, 40, dtype=np.float32)[:, None]
    dense = judge.dense(np.ones((1, 1), dtype=np.float32), vectors)
    assert len(dense[0][0]) == 40
    ranking = judge.score("hybrid", dense, 0.5).rankings[0]
    sides = [(side[0][:5], side[1][:5]) for side in (dense[0], judge.lexical[0])]
    served, _ = fuse(*sides, method="zscore", lexical_weight=0.5)
    assert list(ranking[: len(served)]) == [f"d{number}.md" for number in served]
    assert sorted(ranking) == sorted(item.document_id for item in passages)


def test_hybrid_ndcg_alone_is_that_of_the_whole_ranking() -> None:
    random = np.random.default_rng(2)
    passages = [passage(f"d{number % 40}.md", f"s{number}", f"word{number % 9}") for number in range(120)]
    relevant = [{f"d{number}.md": 1, f"d{number + 1}.md#s{number + 1}": 2} for number in range(25)]
    questions = [Question(f"q{number}", f"word{number % 9}", answers) for number, answers in enumerate(relevant)]
    judge = Judge(passages, [item.text for item in passages], questions, language="none", depth=30)
    vectors = random.normal(size=(120, 8)).astype(np.float32)
    likeness = random.normal(size=(25, 120))
    asked = random.normal(size=(25, 8)).astype(np.float32)
    dense = judge.dense(asked, vectors, lambda place, numbers: likeness[place, list(numbers)])
    for weight in (0.0, 0.4):
        whole = judge.score("hybrid", dense, weight, range(3, 25)).ndcg
        assert judge.hybrid_ndcg(dense, weight, range(3, 25)).tolist() == list(whole) and any(whole)


def test_the_weight_goes_to_the_side_that_answers() -> None:
    passages = [passage(f"d{number}.md", "", f"word{number}") for number in range(30)]
    texts = [item.text for item in passages]
    questions = [Question(f"q{number}", f"word{number}", {f"d{number}.md": 1}) for number in range(20)]
    judge = Judge(passages, texts, questions, language="none", depth=10)
    vectors = np.eye(30, dtype=np.float32)
    misled = judge.dense(np.roll(vectors, 1, axis=0)[:20], vectors)
    weight, curve = choose_weight(judge, misled)
    assert weight > 0.5
    assert curve[1.0] == 1.0 and curve[0.0] < 1.0
