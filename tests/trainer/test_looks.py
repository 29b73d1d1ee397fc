from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hash_embedder import HashEmbedder
from test_diagnosis import change, outcome

import shoptalk
from retrieval.errors import GateRefused, ModelError
from retrieval.models import ModelVersion, add_version, find_version, list_versions, set_current, staging_folder
from retrieval.workspace import Workspace
from trainer import comparison
from trainer.comparison import compare_models
from trainer.looks import LOOKS, earlier_versions, keep_look, looks_at, mark, record_look, refuse_second_look
from trainer.outcome import Asked
from trainer.questions import MINED_EVIDENCE, Question
from trainer.side_by_side import in_use
from trainer.statistics import compare

QUESTIONS = [Question(f"q{number}", f"what is word{number}", {f"{number}.md": 1}) for number in range(12)]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    for number in range(12):
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Title {number}\n\nThis tells what word{number} is.\n")
    write_questions(tmp_path / "questions", QUESTIONS)
    Workspace.create(tmp_path, {"docs": "docs"}, "test/base")
    return Workspace.open(tmp_path)


def write_questions(folder: Path, questions: list[Question]) -> None:
    folder.mkdir()
    queries = (json.dumps({"_id": item.id, "text": item.text}) + "\n" for item in questions)
    (folder / "queries.jsonl").write_text("".join(queries))
    (folder / "qrels.tsv").write_text(
        "".join(f"{item.id}\t{unit}\t1\n" for item in questions for unit in item.relevant)
    )


def add(workspace: Workspace, asked: list[Question], **evaluation: object) -> ModelVersion:
    """A version that `tune` judged by these questions."""
    staged = staging_folder(workspace)
    (staged / "modules.json").write_text("[]")
    (staged / "training.json").write_text('{"created": "2026-01-02T03:04:05+00:00", "base": "test/base"}')
    marks = [{"mark": mark(question)} for question in asked]
    (staged / "evaluation.json").write_text(json.dumps({"verdict": "WIN", "questions": marks, **evaluation}))
    return add_version(workspace, staged)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that need no torch: each reference is a hash of its own."""
    monkeypatch.setattr(comparison, "load_embedder", lambda reference, workspace: HashEmbedder(reference))


def test_a_mark_stands_for_a_question_and_its_answers_whatever_its_id() -> None:
    asked = Question("a", "What is  red?", {"x.md": 1, "y.md": 2})
    assert mark(asked) == mark(Question("b", "what is red", {"y.md": 2, "x.md": 1}))
    assert mark(asked) != mark(Question("a", "what is red?", {"x.md": 1}))


@pytest.mark.usefixtures("hashed")
def test_a_version_by_its_folder_and_other_labels_are_a_second_look_as_well(
    workspace: Workspace,
) -> None:
    add(workspace, QUESTIONS)
    for reference in ("models/v0001", str(workspace.models_dir / "v0001")):
        with pytest.raises(GateRefused, match="12 of these 12 questions have judged v1"):
            compare_models(workspace, "docs", [reference], workspace.root / "questions", "dense")
    relabelled = [replace(question, relevant={**question.relevant, "0.md": 2}) for question in QUESTIONS]
    write_questions(workspace.root / "relabelled", relabelled)
    with pytest.raises(GateRefused, match="12 of these 12 questions have judged v1"):
        compare_models(workspace, "docs", ["v1"], workspace.root / "relabelled", "dense")
    assert [*earlier_versions(workspace, relabelled)] == ["v1"]


@pytest.mark.usefixtures("hashed")
def test_a_persons_question_is_another_than_a_mined_one_worded_alike(workspace: Workspace) -> None:
    mined = [replace(question, relevant={f"{unit}#Title": 1 for unit in question.relevant}) for question in QUESTIONS]
    said = compare([0.1] * 30, [0.6] * 30)
    dense = {name: getattr(said, name) for name in said.__slots__}
    add(workspace, mined, evidence=MINED_EVIDENCE, dense=dense)
    refuse_second_look(workspace, find_version(workspace, "v1"), QUESTIONS)
    with pytest.raises(GateRefused, match="1 of these 1 questions"):
        refuse_second_look(workspace, find_version(workspace, "v1"), mined[:1])


def test_a_record_that_is_no_text_is_named_with_its_line(workspace: Workspace) -> None:
    version = add(workspace, QUESTIONS)
    (workspace.models_dir / LOOKS).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match=r"looks\.jsonl:1: not a record of a look"):
        looks_at(workspace, version)


def test_questions_that_tested_a_version_in_tune_are_refused_a_second_time_with_exit_code_3(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    add(workspace, QUESTIONS[4:])
    command = ["-w", str(workspace.root), "evaluate", "--model", "base", "--model", "v1", "--questions"]
    with pytest.raises(SystemExit) as ended:
        shoptalk.main([*command, str(workspace.root / "questions")])
    assert ended.value.code == 3
    message = capsys.readouterr().err
    told = "8 of these 12 questions have judged v1 or made its choices before (tune, 2026-01-02"
    assert told in message and "--look-again" in message
    assert not (workspace.models_dir / LOOKS).exists()


@pytest.mark.usefixtures("hashed")
def test_looking_again_is_allowed_if_told_and_is_recorded_with_what_was_asked(workspace: Workspace) -> None:
    version = add(workspace, QUESTIONS[4:])
    questions = workspace.root / "questions"
    result = compare_models(workspace, "docs", ["base", "v1"], questions, look_again=True)
    assert [(row.system, row.mode) for row in result.rows if row.mode == "dense"] == [
        ("test/base", "dense"),
        ("v1", "dense"),
    ]
    looks = looks_at(workspace, version)
    assert [(look.command, len(look.questions)) for look in looks] == [("tune", 8), ("evaluate", 12)]
    figures = {row.mode: row.means["ndcg@10"] for row in result.rows if row.system == "v1"}
    assert looks[1].found == figures and set(figures) == {"dense", "hybrid"}
    shown = CliRunner().invoke(shoptalk.command_line, ["-w", str(workspace.root), "models", "show", "v1"]).output
    assert f"12 questions: NDCG@10 dense {figures['dense']:.3f}, hybrid {figures['hybrid']:.3f}" in shown


@pytest.mark.usefixtures("hashed")
def test_a_change_is_no_surer_for_questions_asked_six_times(workspace: Workspace) -> None:
    add(workspace, [])
    often = [replace(item, id=f"{item.id}-{number}") for number in range(6) for item in QUESTIONS]
    write_questions(workspace.root / "often", often)
    once = compare_models(workspace, "docs", ["base", "v1"], workspace.root / "questions")
    again = compare_models(workspace, "docs", ["base", "v1"], workspace.root / "often", look_again=True)
    assert again.rows == once.rows and again.questions == 12
    assert again.notes == ["60 questions ask what another one does: asked once, with the answers of all", *once.notes]


@pytest.mark.usefixtures("hashed")
def test_fresh_questions_are_asked_without_ado_but_only_once(workspace: Workspace) -> None:
    add(workspace, QUESTIONS[:2])
    write_questions(workspace.root / "fresh", QUESTIONS[2:])
    compare_models(workspace, "docs", ["v1"], workspace.root / "fresh", "dense")
    with pytest.raises(GateRefused, match=r"10 of these 10 questions have judged v1 or .* before \(evaluate, "):
        compare_models(workspace, "docs", ["v1"], workspace.root / "fresh", "dense")


@pytest.mark.usefixtures("hashed")
def test_models_that_are_no_versions_and_bm25_alone_may_be_judged_as_often_as_one_likes(workspace: Workspace) -> None:
    add(workspace, QUESTIONS)
    for _ in range(2):
        compare_models(workspace, "docs", ["base"], workspace.root / "questions", "dense")
        compare_models(workspace, "docs", ["v1"], workspace.root / "questions", "lexical")
    assert not (workspace.models_dir / LOOKS).exists()


@pytest.mark.usefixtures("hashed")
def test_rankings_are_written_for_trec_eval_where_asked(workspace: Workspace) -> None:
    folder = workspace.root / "runs"
    compare_models(workspace, "docs", ["base"], workspace.root / "questions", runs=folder)
    names = {"BM25-lexical.trec", "test%2Fbase-dense.trec", "test%2Fbase-hybrid.trec", "qrels.txt"}
    assert {file.name for file in folder.iterdir()} == names


@pytest.mark.usefixtures("hashed")
def test_a_version_judged_by_mined_questions_is_told_what_real_ones_say(workspace: Workspace) -> None:
    said = compare([0.1] * 30, [0.6] * 30)
    dense = {name: getattr(said, name) for name in said.__slots__}
    add(workspace, [], evidence=MINED_EVIDENCE, dense=dense)
    result = compare_models(workspace, "docs", ["base", "v1"], workspace.root / "questions", "dense")
    assert len(result.notes) == 1
    assert result.notes[0].startswith("v1 on 30 mined questions: WIN, dense +0.500")
    assert "on these 12 real ones: TIE" in result.notes[0] and result.notes[0].endswith("the real ones count")


@pytest.mark.usefixtures("hashed")
def test_what_is_served_is_compared_with_what_the_first_model_would_serve(workspace: Workspace) -> None:
    add(workspace, [])
    result = compare_models(workspace, "docs", ["base", "v1"], workspace.root / "questions")
    before, after = (row.means["ndcg@10"] for row in result.rows if row.mode == "hybrid")
    served = f"What is served (hybrid search), test/base {before:.3f} → v1 {after:.3f}: {after - before:+.3f} ["
    assert len(result.notes) == 1 and result.notes[0].startswith(served)


def test_a_number_that_comes_again_after_its_version_is_gone_has_a_clean_record(workspace: Workspace) -> None:
    from retrieval.models import remove_version

    gone = add(workspace, [])
    record_look(workspace, gone, QUESTIONS, "evaluate", {})
    remove_version(workspace, gone)
    fresh = add(workspace, [], verdict="TIE")
    assert fresh.name == gone.name and looks_at(workspace, fresh) == []
    refuse_second_look(workspace, fresh, QUESTIONS)


def test_versions_that_the_same_questions_judged_are_counted(workspace: Workspace) -> None:
    add(workspace, QUESTIONS[:4])
    add(workspace, QUESTIONS[8:])
    assert [*earlier_versions(workspace, QUESTIONS[:6])] == ["v1"]
    record_look(workspace, add(workspace, []), QUESTIONS[4:5], "evaluate", {})
    assert [*earlier_versions(workspace, QUESTIONS[:6])] == ["v1", "v3"]


def test_all_questions_that_judged_a_version_are_counted_where_two_ask_the_same(workspace: Workspace) -> None:
    asked = [*QUESTIONS, replace(QUESTIONS[0], id="again")]
    add(workspace, asked)
    assert earlier_versions(workspace, asked) == {"v1": 13}


def test_versions_that_were_thrown_away_are_counted_all_the_same(workspace: Workspace) -> None:
    for number in range(3):
        add(workspace, QUESTIONS[4 * number : 4 * number + 4])
    pruned = CliRunner().invoke(shoptalk.command_line, ["-w", str(workspace.root), "models", "prune", "--keep", "1"])
    assert pruned.exit_code == 0, pruned.output
    assert [version.name for version in list_versions(workspace)] == ["v3"]
    assert [*earlier_versions(workspace, QUESTIONS[:10])] == ["v1", "v2", "v3"]


def test_a_look_that_was_kept_before_a_version_went_is_told_once_if_it_did_not_go(workspace: Workspace) -> None:
    version = add(workspace, QUESTIONS[:4])
    keep_look(workspace, version)
    assert [look.command for look in looks_at(workspace, version)] == ["tune"]


@pytest.mark.usefixtures("hashed")
def test_the_dev_questions_that_chose_a_version_do_not_judge_it(workspace: Workspace) -> None:
    add(workspace, QUESTIONS[6:], dev_marks=[mark(question) for question in QUESTIONS[:6]])
    write_questions(workspace.root / "dev", QUESTIONS[:6])
    with pytest.raises(GateRefused, match=r"6 of these 6 questions have judged v1 or made its choices before \(tune, "):
        compare_models(workspace, "docs", ["v1"], workspace.root / "dev", "dense")
    # They judged nothing that a later version's test could be worn out by.
    assert [*earlier_versions(workspace, QUESTIONS[:6])] == []


def test_a_disk_that_fills_up_leaves_the_record_as_it_was(workspace: Workspace) -> None:
    version = add(workspace, [])
    record_look(workspace, version, QUESTIONS[:2], "evaluate", {})
    file = workspace.models_dir / LOOKS
    before = file.read_bytes()
    script = (
        "import resource, signal, sys; import test_looks as t; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2); "
        "w = t.Workspace.open(sys.argv[1]); t.record_look(w, t.find_version(w, 'v1'), t.QUESTIONS, 'evaluate', {})"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, workspace.root, str(len(before) + 100)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert "ModelError" in run.stderr and "looks.jsonl cannot be written" in run.stderr
    assert file.read_bytes() == before and len(looks_at(workspace, version)) == 1


def test_a_damaged_record_is_named_with_its_line(workspace: Workspace) -> None:
    version = add(workspace, QUESTIONS)
    record_look(workspace, version, QUESTIONS, "evaluate", {})
    with (workspace.models_dir / LOOKS).open("a") as file:
        file.write("{broken\n")
    with pytest.raises(ModelError, match=r"looks\.jsonl:2: not a record of a look"):
        looks_at(workspace, find_version(workspace, "v1"))


def test_the_version_in_use_is_set_beside_a_new_one_over_the_questions_that_judged_both(workspace: Workspace) -> None:
    asked = [
        Asked(item.id, mark(item), item.text, 0.1, 0.5, 0.2, 0.5, 3, 1, 0.0, number)
        for number, item in enumerate(QUESTIONS)
    ]

    def new(questions: list[Asked], data: str = "data") -> ModelVersion:
        judged = replace(outcome(change(0.1)), questions=questions).record()
        return ModelVersion("v2", workspace.models_dir / "v2", {"data": {"sha256": data}}, judged, False)

    assert in_use(workspace, new(asked)) is None
    known = [{"mark": item.mark, "hybrid_after": after} for item, after in zip(asked[2:], [1.0] * 10, strict=True)]
    add(workspace, [], questions=known)
    set_current(workspace, "v1")
    other = in_use(workspace, new(asked, "other data"))
    assert (
        other and not other.better and "judged by other questions or over other documents than v2" in other.beside("v2")
    )
    staged = find_version(workspace, "v1").path / "training.json"
    staged.write_text('{"base": "test/base", "data": {"sha256": "data"}}')
    found = in_use(workspace, new(asked))
    assert found and found.better
    told = "v1 was in use; the same 10 questions are served at NDCG@10 1.000 by it, 0.500 by v2: -0.500 ["
    assert found.beside("v2").startswith(told) and found.beside("v2").endswith("worse beyond doubt")
    same = in_use(workspace, new([replace(item, hybrid_after=1.0) for item in asked]))
    assert same and not same.better and same.beside("v2").endswith("not shown to differ")
    wordings = in_use(workspace, new([replace(item, answer=0) for item in asked]))
    assert wordings and not wordings.better and wordings.change and wordings.change.answers == 1
    assert "the same 10 questions of one answer are served" in wordings.beside("v2")


@pytest.mark.usefixtures("hashed")
def test_evaluate_says_of_how_many_different_answers_its_questions_are(workspace: Workspace) -> None:
    wordings = [
        replace(question, relevant={"0.md" if place < 6 else "7.md": 1}) for place, question in enumerate(QUESTIONS)
    ]
    write_questions(workspace.root / "wordings", wordings)
    told = "the 12 questions are of 2 different answers: intervals are over those"
    for folder, said in (("wordings", True), ("questions", False)):
        result = compare_models(workspace, "docs", ["base", "owner/other"], workspace.root / folder, "dense")
        assert (told in result.notes) == said
