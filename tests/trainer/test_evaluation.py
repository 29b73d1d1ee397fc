from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_support import passages_of

from retrieval.passages import Passage
from trainer.evaluation import Judge, choose_weight, dense_candidates, score_ranking
from trainer.questions import Question, load_questions

MEASURES = {"ndcg_cut_10", "recip_rank", "recall_10"}


def oracle(ranking: list[str], relevant: dict[str, int]) -> dict[str, float]:
    """trec_eval's own values; it orders by score, so the ranks are given as falling scores."""
    run = {unit: float(len(ranking) - place) for place, unit in enumerate(ranking[:10])}
    return dict(pytrec_eval.RelevanceEvaluator({"q": relevant}, MEASURES).evaluate({"q": run})["q"])


units = st.integers(0, 40).map(lambda number: f"d{number}")


@settings(deadline=None)
@given(
    ranking=st.lists(units, min_size=1, max_size=30, unique=True),
    relevant=st.dictionaries(units, st.integers(1, 3), min_size=1, max_size=15),
)
def test_metrics_agree_with_trec_eval_on_any_ranking(ranking: list[str], relevant: dict[str, int]) -> None:
    ours, theirs = score_ranking(ranking, relevant), oracle(ranking, relevant)
    assert ours["ndcg@10"] == pytest.approx(theirs["ndcg_cut_10"], abs=1e-6)
    assert ours["mrr@10"] == pytest.approx(theirs["recip_rank"], abs=1e-6)
    assert ours["recall@10"] == pytest.approx(theirs["recall_10"], abs=1e-6)


def test_metrics_agree_with_trec_eval_to_four_decimals_on_real_runs(
    tuned_runs: list[tuple[Question, list[str]]],
) -> None:
    assert len(tuned_runs) > 50
    for question, ranking in tuned_runs:
        ours, theirs = score_ranking(ranking, question.relevant), oracle(ranking, dict(question.relevant))
        assert round(ours["ndcg@10"], 4) == round(theirs["ndcg_cut_10"], 4)
        assert round(ours["mrr@10"], 4) == round(theirs["recip_rank"], 4)
        assert round(ours["recall@10"], 4) == round(theirs["recall_10"], 4)


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
