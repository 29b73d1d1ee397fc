from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from benches import bench_of
from test_diagnosis import change, outcome

import shoptalk
from retrieval.embedders import LocalEmbedder, load_local
from retrieval.errors import QuestionsError, ShoptalkError
from retrieval.models import (
    Fusion,
    add_version,
    current_reference,
    find_version,
    list_versions,
    set_current,
    staging_folder,
    tuned_fusion,
)
from retrieval.workspace import Workspace
from trainer import cli
from trainer import mined as mined_module
from trainer import tune as tuning
from trainer.mined import Mined, mine_corpus
from trainer.pairs import Pair
from trainer.questions import load_questions
from trainer.recipes import find_recipe
from trainer.side_by_side import InUse
from trainer.training import train
from trainer.weights import average_weights, copy_weights
from trainer.workbench import Workbench

if TYPE_CHECKING:
    from conftest import Tuned


def test_structure_pairs_make_a_better_model_of_real_documents(tuned: Tuned) -> None:
    report = tuned.report
    assert report.outcome.verdict == "WIN" and report.promoted
    assert report.outcome.dense.mean >= 0.02 and report.outcome.dense.low > 0 and report.outcome.unmasked is None
    assert report.outcome.test_questions > report.outcome.dev_questions > 10


def test_the_version_holds_model_records_report_and_card(tuned: Tuned) -> None:
    folder = tuned.report.version.path
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["verdict"] == "WIN" and evaluation["ndcg_after"] > evaluation["ndcg_before"]
    assert [row["mode"] for row in evaluation["rows"]] == ["lexical", "dense", "hybrid", "dense", "hybrid"]
    training = json.loads((folder / "training.json").read_text())
    assert training["recipe"]["name"] == "structure" and training["log"]["losses"]
    steps = [json.loads(line) for line in (folder / "train-log.jsonl").read_text().splitlines()]
    looks = [line for line in steps if "dev_ndcg@10" in line]
    assert len(steps) == training["log"]["steps"] and len(looks) == len(training["log"]["dev"]) == 4
    page = (folder / "report.html").read_text()
    assert "WIN" in page and "http:" not in page and "https:" not in page
    assert "base_model" in (folder / "README.md").read_text()


def test_the_version_records_its_evidence_and_the_rankings_behind_it(tuned: Tuned) -> None:
    report = tuned.report
    training = json.loads((report.version.path / "training.json").read_text())
    evaluation = json.loads((report.version.path / "evaluation.json").read_text())
    assert training["data"]["documents"] == report.documents and len(training["data"]["sha256"]) == 64
    assert training["leaks"] == report.leaks and training["split"].startswith("Real questions")
    assert evaluation["pair_signs"]["agreement"] > 0.9 and 0 < evaluation["moved"] < 0.5
    assert evaluation["forgetting"]["change"]["questions"] == 200
    assert len(evaluation["questions"]) == report.outcome.test_questions
    runs = {file.name for file in (report.version.path / "runs").iterdir()}
    assert {"base-lexical.trec", "tuned-hybrid.trec", "qrels.txt"} < runs and len(runs) == 6


def test_the_registered_model_gives_the_scores_it_was_registered_with(tuned: Tuned, tmp_path: Path) -> None:
    from trainer.comparison import compare_models

    test = load_questions(tuned.corpus.questions).test
    queries = "".join(json.dumps({"_id": item.id, "text": item.text}) + "\n" for item in test)
    judged = "".join(f"{item.id}\t{unit}\t{grade}\n" for item in test for unit, grade in item.relevant.items())
    (tmp_path / "queries.jsonl").write_text(queries)
    (tmp_path / "qrels.tsv").write_text(judged)
    result = compare_models(tuned.workspace, "icd", ["base", "v1"], tmp_path, "dense", look_again=True)
    base, version = (row.means["ndcg@10"] for row in result.rows)
    assert base == pytest.approx(tuned.report.outcome.dense.before, abs=2e-3)
    assert version == pytest.approx(tuned.report.outcome.dense.after, abs=2e-3)


def test_a_win_is_put_to_use_with_its_own_fusion_weight(tuned: Tuned) -> None:
    assert current_reference(tuned.workspace) == "v1"
    fusion = tuned_fusion(tuned.workspace, "v1")
    assert fusion.lexical_weight == tuned.report.outcome.rows[-1].lexical_weight


def mined_with(tuned: Tuned, embedder: LocalEmbedder) -> Mined:
    questions = load_questions(tuned.corpus.questions)
    rules = find_recipe("structure").every_rule
    return mine_corpus(tuned.workspace, "icd", rules, embedder, questions=questions, seed=13)


def test_no_question_is_a_training_anchor(tuned: Tuned) -> None:
    embedder = load_local("base", tuned.workspace)
    mined = mined_with(tuned, embedder)
    asked = {question.text.casefold() for question in mined.questions.all}
    assert not asked & {pair.anchor.casefold() for pair in mined.kept}


# Without a share of headings to choose a model is tuned sooner.
NO_SHARE = "\n[passages]\nheading_share = 0\n"


def copy_of(tuned: Tuned, tmp_path: Path, settings: str = NO_SHARE) -> Workspace:
    """Another workspace over the same documents."""
    Workspace.create(tmp_path, {"icd": str(tuned.corpus.documents)}, tuned.workspace.model.base)
    with (tmp_path / "shoptalk.toml").open("a", encoding="utf-8") as file:
        file.write(settings)
    return Workspace.open(tmp_path)


def test_the_gate_refuses_a_model_trained_on_shuffled_pairs(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffled(pairs: list[Pair], limit: int, seed: int) -> list[Pair]:
        positives = [pair.positive for pair in pairs]
        Random(0).shuffle(positives)
        return [replace(pair, positive=text) for pair, text in zip(pairs, positives, strict=True)][:limit]

    monkeypatch.setattr(mined_module, "balance", shuffled)
    workspace = copy_of(tuned, tmp_path)
    recipe = replace(find_recipe("structure"), hard_negatives=0, averages=(1.0,))
    report = tuning.tune(workspace, "icd", recipe, questions=tuned.corpus.questions)
    assert report.outcome.verdict != "WIN" and not report.promoted
    assert current_reference(workspace) == workspace.model.base
    assert len(list_versions(workspace)) == 1


def test_without_questions_some_documents_are_held_out_and_nothing_of_them_is_learned(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = copy_of(tuned, tmp_path, "")
    seen: list[tuple[Mined, list[Pair]]] = []
    pairs_of = Workbench.pairs

    def watched(bench: Workbench, *arguments: Any) -> list[Pair]:
        pairs = pairs_of(bench, *arguments)
        seen.append((bench.mined, pairs))
        return pairs

    monkeypatch.setattr(Workbench, "pairs", watched)
    report = tuning.tune(workspace, "icd", find_recipe("structure"), questions=None)
    mined, pairs = seen[0]
    learned = {pair.document_id for pair in pairs}
    learned |= {mined.material.sections[place].document_id for pair in pairs for place in pair.negative_sections}
    assert pairs and any(pair.negatives for pair in pairs)
    assert mined.held and not mined.held & learned
    assert mined.masks and not set(mined.masks) & {pair.passage for pair in pairs}
    assert any(mined.headings) and not any(mined.headings[place] for place in mined.masks)
    # Such questions cannot tell what headings and BM25 are worth to people.
    assert tuned_fusion(workspace, report.version.name) == Fusion(0.5, 0.0)
    assert tuned_fusion(workspace, "base") == Fusion(None, 0.0)
    assert report.outcome.evidence == "questions mined from held-out documents"
    assert report.outcome.test_questions >= 20
    plain, masked = report.outcome.unmasked, report.outcome.product
    assert plain and plain.before > masked.before  # what is asked stands in the answer there
    assert any("nothing masked in the passages" in reason for reason in report.outcome.reasons())
    assert "mined" in (report.version.path / "report.html").read_text()


def test_too_few_pairs_say_how_many_and_what_would_give_more(static_model: Path, tmp_path: Path) -> None:
    documents, questions = tmp_path / "docs", tmp_path / "questions"
    documents.mkdir()
    questions.mkdir()
    for number in range(12):
        (documents / f"{number}.md").write_text(f"# Note {number}\n\nShort text of note number {number}.\n")
    queries = "".join(json.dumps({"_id": str(n), "text": f"what does {n} say"}) + "\n" for n in range(12))
    (questions / "queries.jsonl").write_text(queries)
    (questions / "qrels.tsv").write_text("".join(f"{n}\t{n}.md\t1\n" for n in range(12)))
    Workspace.create(tmp_path, {"docs": "docs"}, str(static_model))
    workspace = Workspace.open(tmp_path)
    with pytest.raises(QuestionsError, match=r"only \d+ training pairs could be mined \(at least 64 are wanted"):
        tuning.tune(workspace, "docs", find_recipe("structure"), questions=questions)
    assert not list_versions(workspace)


def test_a_corpus_of_one_document_or_its_copies_is_told_that_none_can_be_held_out(
    static_model: Path, tmp_path: Path
) -> None:
    pumps = "".join(f"## Pump {n}\n\nMoves {n} litres of {n * 7} kinds of water.\n\n" for n in range(200))
    text = f"# Pumps\n\n{pumps}"
    for copies, said in ((1, "one document"), (3, "3 copies of one document")):
        root = tmp_path / str(copies)
        (root / "docs").mkdir(parents=True)
        for copy in range(copies):
            (root / "docs" / f"{copy}.md").write_text(text)
        Workspace.create(root, {"docs": "docs"}, str(static_model))
        with pytest.raises(QuestionsError, match=f"the corpus is {said}, so none can be held out to judge by; give"):
            tuning.tune(Workspace.open(root), "docs", find_recipe("structure"))


def test_questions_without_an_answer_in_the_corpus_are_left_out_and_told_before_anything_is_trained(
    tuned: Tuned, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    questions = tmp_path / "questions"
    shutil.copytree(tuned.corpus.questions, questions)
    added = {"queries.jsonl": '{"_id": "odd", "text": "what is not there"}\n', "qrels.tsv": "odd\tno.md\t1\n"}
    for file, line in added.items():
        with (questions / file).open("a", encoding="utf-8") as stream:
            stream.write(line)
    bench = bench_of(tuned.workspace, questions, ("alias",))
    assert "odd" not in [question.id for question in bench.mined.questions.all] and bench.mined.missing == ["no.md"]
    assert "1 documents or sections named in the qrels are not in the corpus (the first is 'no.md')" in caplog.text
    assert "questions left out: no answer of theirs is in the corpus" in caplog.text


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_base(tuned: Tuned) -> None:
    embedder = load_local("base", tuned.workspace)
    mined = mined_with(tuned, embedder)
    before = copy_weights(embedder.model)
    broken = replace(find_recipe("structure"), static_learning_rate=float("inf"), hard_negatives=0)
    with pytest.raises(ShoptalkError, match="training went astray"):
        train(embedder.model, mined.kept[:256], broken, mined.material, embedder.compute, seed=1)
    after = copy_weights(embedder.model)
    assert all(np.array_equal(after[name].numpy(), before[name].numpy()) for name in before)


def test_half_of_the_tuned_weights_lies_halfway(tuned: Tuned) -> None:
    base = copy_weights(load_local("base", tuned.workspace).model)
    version = copy_weights(load_local("v1", tuned.workspace).model)
    mixed = average_weights(base, version, 0.5)
    for name, tensor in mixed.items():
        np.testing.assert_allclose(tensor.numpy(), (base[name].numpy() + version[name].numpy()) / 2, atol=1e-5)


def test_promoting_and_rolling_back_keep_an_index_that_fits_the_model(tuned: Tuned) -> None:
    from retrieval.indexing import build_index
    from retrieval.promotion import put_to_use, return_to_previous
    from retrieval.search import SearchEngine

    workspace = tuned.workspace
    build_index(workspace, "icd")
    engine = SearchEngine(workspace, "icd")
    try:
        assert engine.search("heart attack").model == "v1"
        assert put_to_use(workspace, "base") == workspace.model.base
        assert engine.search("heart attack").model == workspace.model.base
        assert return_to_previous(workspace) == "v1"
        answer = engine.search("heart attack")
        assert answer.model == "v1" and not answer.degraded and answer.hits
    finally:
        engine.close()
        set_current(workspace, "v1")


def test_a_result_that_cannot_be_put_to_use_is_still_reported(
    tuned: Tuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> str:
        raise ShoptalkError("another process is indexing corpus 'icd'")

    monkeypatch.setattr(tuning, "put_to_use", busy)
    workspace = copy_of(tuned, tmp_path)
    report = tuning.tune(workspace, "icd", find_recipe("structure"), questions=tuned.corpus.questions)
    assert report.outcome.verdict == "WIN" and not report.promoted
    assert report.obstacle == "another process is indexing corpus 'icd'"


def test_a_win_over_the_base_does_not_take_the_place_of_a_better_version(tuned: Tuned, tmp_path: Path) -> None:
    shutil.copytree(tuned.workspace.root, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "shoptalk.toml").open("a", encoding="utf-8") as settings:
        settings.write(NO_SHARE)
    workspace = Workspace.open(tmp_path)
    first = find_version(workspace, "v1")
    assert tuned.report.promoted and first.current
    file = first.path / "evaluation.json"
    evaluation = json.loads(file.read_text())
    for asked in evaluation["questions"]:
        asked["hybrid_after"] = 1.0
    file.write_text(json.dumps(evaluation))
    second = tuning.tune(workspace, "icd", find_recipe("structure"), questions=tuned.corpus.questions, seed=14)
    assert second.outcome.verdict == "WIN" and not second.promoted
    assert second.obstacle == "v1, which is in use, serves the same questions better beyond doubt"
    assert find_version(workspace, "v1").current


def test_a_version_that_cannot_be_written_leaves_nothing_behind(tuned: Tuned, tmp_path: Path) -> None:
    from trainer.publishing import register

    workspace = copy_of(tuned, tmp_path)
    model = load_local("base", workspace).model
    with pytest.raises(KeyError):
        register(workspace, model, {"recipe": {}}, {})
    assert [path for path in workspace.models_dir.iterdir() if path.is_dir()] == []


def test_a_refused_model_ends_the_command_with_exit_code_3(tuned: Tuned, tmp_path: Path) -> None:
    workspace = copy_of(tuned, tmp_path)
    staged = staging_folder(workspace)
    (staged / "evaluation.json").write_text('{"verdict": "REGRESSION"}')
    add_version(workspace, staged)
    with pytest.raises(SystemExit) as ended:
        shoptalk.main(["-w", str(tmp_path), "models", "promote", "v1"])
    assert ended.value.code == 3
    assert current_reference(workspace) == workspace.model.base


@pytest.mark.parametrize(
    ("dense", "served", "said"),
    [
        (0.1, -0.1, "(TIE against {base}). What is served (hybrid search): NDCG@10 0.400 → 0.300, "),
        (-0.1, -0.1, "(REGRESSION against {base}). Dense search: NDCG@10 0.400 → 0.300, "),
        (0.001, 0.1, "(TIE against {base}). Dense search: NDCG@10 0.400 → 0.401, "),
    ],
)
def test_a_refusal_names_the_change_that_decided_it(
    tuned: Tuned,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dense: float,
    served: float,
    said: str,
) -> None:
    refused = replace(tuned.report, outcome=outcome(change(dense), change(served)))
    monkeypatch.setattr(cli, "run_tune", lambda *_, **__: refused)
    with pytest.raises(SystemExit) as ended:
        shoptalk.main(["-w", str(tuned.workspace.root), "tune"])
    error = capsys.readouterr().err
    assert ended.value.code == 3
    assert f"v1 is not put to use {said.format(base=tuned.report.base)}" in error and "no better" not in error
    assert ("as what it serves is better, `shoptalk models promote v1 --force`" in error) == (served > 0)


def test_a_win_that_a_better_version_in_use_keeps_out_ends_with_exit_code_3_and_both_figures(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    better = InUse("v7", change(-0.1))
    refused = replace(tuned.report, obstacle="v7 is better", in_use=better, promoted=False)
    monkeypatch.setattr(cli, "run_tune", lambda *_, **__: refused)
    with pytest.raises(SystemExit) as ended:
        shoptalk.main(["-w", str(tuned.workspace.root), "tune"])
    said = capsys.readouterr()
    assert ended.value.code == 3 and "won but was not put to use: v7 is better" in said.err
    assert "v7 was in use; the same 200 questions are served at NDCG@10 0.400 by it, 0.300 by v1" in said.out


def test_a_launcher_takes_no_refusal_for_a_crash(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = replace(tuned.report, obstacle="the index is busy")
    monkeypatch.setattr(cli, "run_tune", lambda *_, **__: refused)
    for processes, code in (("1", 1), ("2", 0)):
        monkeypatch.setenv("WORLD_SIZE", processes)
        with pytest.raises(SystemExit) as ended:
            shoptalk.main(["-w", str(tuned.workspace.root), "tune"])
        assert (ended.value.code or 0) == code
        assert "won but was not put to use: the index is busy" in capsys.readouterr().err
