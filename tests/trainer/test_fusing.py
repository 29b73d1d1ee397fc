"""The share of headings and the weight of BM25: how they are chosen, judged and served."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Tuned
from numpy.typing import NDArray

from retrieval.generation import open_current
from retrieval.heading_share import with_headings
from retrieval.indexing import build_index
from retrieval.models import Fusion, remember_base_fusion
from retrieval.passages import Passage
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace
from trainer.comparison import compare_models
from trainer.evaluation import Candidates, Judge
from trainer.fusing import SHARES, choose_fusion
from trainer.probe import Probe
from trainer.questions import Question, load_questions
from trainer.ranking import Found
from trainer.view import View

COUNT = 40
ASKED = 30


def sides_of(asks: float) -> NDArray[np.float32]:
    """(3, COUNT, d), of length 1: texts, their headings, and what asks for one or the other."""
    texts, headings, noise = np.random.default_rng(3).normal(size=(3, COUNT, 24))
    sides = np.stack((texts, headings, asks * headings + (1 - asks) * texts + 1.2 * noise)).astype(np.float32)
    unit: NDArray[np.float32] = sides / np.linalg.norm(sides, axis=2, keepdims=True)
    return unit


def judge_of_headings(asks: float) -> tuple[Judge, Callable[[float], Candidates], list[float]]:
    """A judge whose questions ask for the headings (1), for the texts (0), or for something between."""
    passages = [Passage(f"p{n}", f"d{n}.md", "", (), f"said{n}", 1, 1) for n in range(COUNT)]
    questions = [Question(f"q{n}", f"unsaid{n}", {f"d{n}.md": 1}) for n in range(ASKED)]
    judge = Judge(passages, [item.text for item in passages], questions, language="none", depth=COUNT)
    unit = sides_of(asks)
    tried: list[float] = []

    def find(share: float) -> Candidates:
        tried.append(share)
        return judge.dense(unit[2][:ASKED], with_headings(unit[0], unit[1], share))

    return judge, find, tried


def test_headings_have_their_share_where_questions_ask_for_them() -> None:
    judge, find, tried = judge_of_headings(0.5)
    chosen = choose_fusion(judge, find, range(ASKED))
    assert set(tried) == set(SHARES) and chosen.share >= 0.2
    plain = choose_fusion(judge, find, range(ASKED), SHARES[:1])
    gained = np.array(chosen.score(judge, range(ASKED)).ndcg) - np.array(plain.score(judge, range(ASKED)).ndcg)
    assert gained.mean() > gained.std() / ASKED**0.5 > 0


@pytest.mark.parametrize(("answers", "share"), [([0] * 20 + [1] * 4, 0.0), (range(24), 0.3)])
def test_headings_that_help_one_answer_have_no_share_however_often_it_is_asked_for(
    answers: Sequence[int], share: float
) -> None:
    passages = [Passage(f"p{n}", f"d{n}.md", "", (), f"said{n}", 1, 1) for n in range(COUNT)]
    questions = [Question(f"q{n}", f"unsaid{n}", {f"d{answer}.md": 1}) for n, answer in enumerate(answers)]
    judge = Judge(passages, [item.text for item in passages], questions, language="none", depth=COUNT)

    def find(share: float) -> Candidates:
        # With them the first twenty questions find their answer second for third, the others sixth for second.
        found = []
        for place, answer in enumerate(answers):
            better = place < 20
            rank = (1 if better else 5) if share else (2 if better else 1)
            others = [number for number in range(COUNT) if number != answer]
            found.append((np.array([*others[:rank], answer, *others[rank:]]), np.linspace(1, 0, COUNT)))
        return Candidates(found)

    assert choose_fusion(judge, find, range(24), (0.0, 0.3)).share == share


def test_the_same_questions_asked_in_another_way_count_as_much() -> None:
    judge, find, _ = judge_of_headings(0.5)
    other, other_find, other_tried = judge_of_headings(0.0)
    alone, both = (
        choose_fusion(judge, find, range(ASKED)),
        choose_fusion(judge, find, range(ASKED), beside=[(other, other_find)]),
    )
    assert set(other_tried) == set(SHARES) and both.share < alone.share
    curves = [
        float(np.mean([some.hybrid_ndcg(finder(both.share), 0.5, range(ASKED)) for some, finder in sides]))
        for sides in ([(judge, find), (other, other_find)], [(judge, find)])
    ]
    assert both.curve[0.5] == pytest.approx(curves[0]) != pytest.approx(curves[1])


def test_they_have_none_where_questions_ask_for_what_the_texts_say() -> None:
    judge, find, _ = judge_of_headings(0.0)
    assert choose_fusion(judge, find, range(ASKED)).share == 0


@pytest.mark.parametrize("asks", [0.5, 0.0])
def test_a_few_passages_tell_whether_the_headings_of_all_are_worth_encoding(asks: float) -> None:
    judge, _, _ = judge_of_headings(asks)
    texts, headings, asked = sides_of(asks)
    names = [f"heading {n}" for n in range(COUNT)]
    encoded: list[str] = []

    def encode(some: list[str]) -> NDArray[np.float32]:
        encoded.extend(some)
        return headings[[names.index(name) for name in some]]

    found = Found(texts, asked[:ASKED], judge.dense(asked[:ASKED], texts), {})
    probe = Probe.choose(judge, found.candidates, range(ASKED), names, depth=1)
    view = View(judge, names, names, found, probe)
    assert view.headings_promise(found, encode) == (asks > 0)
    assert encoded == list(probe.texts) and len(encoded) <= COUNT


def test_only_the_questions_given_choose() -> None:
    judge, find, _ = judge_of_headings(0.5)
    chosen = choose_fusion(judge, find, range(10))
    others = (replace(question, relevant={"d39.md": 1}) for question in judge.questions[10:])
    judge.questions = (*judge.questions[:10], *others)
    again = choose_fusion(judge, find, range(10))
    assert (again.share, again.weight, again.curve) == (chosen.share, chosen.weight, chosen.curve)
    assert choose_fusion(judge, find, range(ASKED)).curve != chosen.curve


def questions_in(folder: Path, some: Sequence[Question]) -> Path:
    folder.mkdir()
    (folder / "queries.jsonl").write_text("".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in some))
    lines = [f"{q.id}\t{unit}\t{grade}\n" for q in some for unit, grade in q.relevant.items()]
    (folder / "qrels.tsv").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_what_is_judged_as_hybrid_is_what_an_index_with_that_share_serves(
    tuned: Tuned, tmp_path: Path, share: float
) -> None:
    Workspace.create(tmp_path / "work", {"icd": str(tuned.corpus.documents)}, tuned.workspace.model.base)
    workspace = Workspace.open(tmp_path / "work")
    workspace = replace(workspace, search=workspace.search.model_copy(update={"collapse_duplicates": False}))
    remember_base_fusion(workspace, workspace.model.base, Fusion(0.3, share))
    some = load_questions(tuned.corpus.questions).test[:12]
    runs = tmp_path / "runs"
    compare_models(workspace, "icd", ["base"], questions_in(tmp_path / "asked", some), "hybrid", runs=runs)
    judged: dict[str, list[str]] = {}
    (run,) = runs.glob("*hybrid.trec")
    for line in run.read_text().splitlines():
        judged.setdefault(line.split()[0], []).append(line.split()[2])
    build_index(workspace, "icd")
    assert open_current(workspace.index_dir("icd"), "icd").manifest.heading_share == share
    engine = SearchEngine(workspace, "icd")
    try:
        for question in some:
            hits = engine.search(question.text, top_k=5).hits
            served = list(dict.fromkeys(f"{hit.document_id}#{hit.heading[-1]}" for hit in hits))
            assert len(served) >= 3
            assert [unit.replace("%20", " ") for unit in judged[question.id][: len(served)]] == served
    finally:
        engine.close()
