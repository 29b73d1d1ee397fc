from __future__ import annotations

import json
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hash_embedder import HashEmbedder
from test_diagnosis import change, outcome

import shoptalk
from retrieval.errors import DocumentError, ModelError, StoreError
from retrieval.indexing import build_index
from retrieval.models import add_version, history, list_versions, roll_back, set_current, staging_folder
from retrieval.promotion import put_to_use
from retrieval.pruning import prune, prune_plan
from retrieval.workspace import Workspace

QUESTIONS = {f"q{number}": number / 10 for number in range(10)}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nSome words about boilers.\n")
    Workspace.create(tmp_path, {"docs": "docs"}, "owner/base")
    return Workspace.open(tmp_path)


def add(workspace: Workspace, scores: dict[str, float] | None = None, **training: Any) -> None:
    """A version whose dense NDCG@10 is the mean of ``scores``, by the marks of the questions."""
    scores = QUESTIONS if scores is None else scores
    mean = sum(scores.values()) / len(scores) if scores else 0.0
    asked = [{"mark": mark, "dense_after": score, "hybrid_after": score} for mark, score in scores.items()]
    evaluation = {
        "verdict": "TIE",
        "evidence": "real questions",
        "test_questions": len(asked),
        "questions": asked,
        "rows": [{"system": "tuned", "mode": "dense", "means": {"ndcg@10": mean}}] if asked else [],
    }
    record = {"base": "owner/base", "corpus": "docs", "data": {"sha256": "0"}, **training}
    staged = staging_folder(workspace)
    (staged / "evaluation.json").write_text(json.dumps(evaluation))
    (staged / "training.json").write_text(json.dumps(record))
    (staged / "config.json").write_text("{}")
    (staged / "model.safetensors").write_bytes(b"\0" * 1_000_000)
    add_version(workspace, staged)


def command(workspace: Workspace, *arguments: str) -> Any:
    return CliRunner().invoke(shoptalk.command_line, ["-w", str(workspace.root), "models", *arguments])


def names(workspace: Workspace) -> list[str]:
    return [version.name for version in list_versions(workspace)]


def test_a_version_is_shown_with_all_that_it_was_judged_to_be_and_listed_with_what_by(workspace: Workspace) -> None:
    judged = outcome(change(0.1), change(0.001)).record() | {
        "rows": [
            {"system": "tuned", "mode": "dense", "lexical_weight": None, "means": {"ndcg@10": 0.5}, "change": None}
        ],
        "diagnosis": [{"cause": "a cause", "sign": "a sign", "advice": "advice"}],
        "forgetting": {"source": "elsewhere", "texts": 5, "change": asdict(change(-0.01))},
    }
    staged = staging_folder(workspace)
    (staged / "evaluation.json").write_text(json.dumps(judged))
    (staged / "training.json").write_text(json.dumps({"base": "owner/base", "recipe": {"name": "structure"}}))
    add_version(workspace, staged)
    shown = command(workspace, "show", "v1").stdout
    assert "200 test questions (real questions):" in shown and "Verdict: WIN." in shown
    assert "but not shown to differ in the search that is served (hybrid)" in shown
    assert all(f"- {reason}" in shown for reason in judged["reasons"]) and len(judged["reasons"]) == 2
    assert "- a cause: a sign; try: advice" in shown and "- elsewhere (elsewhere), dense NDCG@10: -0.010 [" in shown
    listed = command(workspace, "list").stdout
    assert "NDCG@10 dense 0.400 → 0.500, served 0.400 → 0.401, 200 real questions  structure" in listed


def test_a_version_whose_record_says_less_than_records_do_now_is_shown_and_listed(workspace: Workspace) -> None:
    judged = outcome(change(0.1), change(0.001)).record()
    rows = [{"system": "tuned", "mode": "dense", "lexical_weight": None, "means": {"ndcg@10": 0.5}, "change": None}]
    judged |= {"rows": rows} | {
        name: {key: value for key, value in judged[name].items() if key not in ("answers", "detectable")}
        for name in ("dense", "product", "dev")
    }
    without = {key: value for key, value in judged.items() if key not in ("dense", "product", "unmasked", "changes")}
    for record in (judged, without):
        staged = staging_folder(workspace)
        (staged / "evaluation.json").write_text(json.dumps(record))
        (staged / "config.json").write_text("{}")
        add_version(workspace, staged)
    shown = [command(workspace, "show", version) for version in ("v1", "v2")]
    assert [result.exit_code for result in (*shown, command(workspace, "list"))] == [0, 0, 0]
    assert "better beyond doubt by meaning alone" in shown[0].stdout and "Verdict: WIN." in shown[1].stdout


def test_two_versions_judged_alike_are_compared_question_by_question(workspace: Workspace) -> None:
    add(workspace)
    add(workspace, {mark: score + 0.1 for mark, score in QUESTIONS.items()})
    result = command(workspace, "compare", "v1", "v2")
    assert result.exit_code == 0 and "Warning" not in result.stderr
    assert "On the 10 test questions that judged both, v2 against v1:" in result.stdout
    assert "dense NDCG@10 0.450 → 0.550, +0.100 [" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[1].endswith("better beyond doubt")
    assert [line.split() for line in lines[4:]] == [
        ["version", "system", "mode", "NDCG@10"],
        ["v1", "tuned", "dense", "0.450"],
        ["v2", "tuned", "dense", "0.550"],
    ]
    alike = command(workspace, "compare", "v1", "v1").stdout
    assert "not shown to differ" in alike and alike.splitlines()[-1].split() == ["both", "tuned", "dense", "0.450"]
    value = json.loads(command(workspace, "compare", "v1", "v2", "--json").stdout)
    assert value["pairings"][0]["metric"] == "ndcg@10" and value["shared"] == 10 and not value["warnings"]
    assert value["changes"]["dense"]["mean"] == pytest.approx(0.1)


@pytest.mark.parametrize("told_by", [("v1", "v2"), ("v2", "v1")])
def test_which_questions_have_the_same_answers_is_taken_from_the_record_that_says_it(
    workspace: Workspace, told_by: tuple[str, str]
) -> None:
    add(workspace)
    add(workspace, {mark: score + 0.1 for mark, score in QUESTIONS.items()})
    file = workspace.models_dir / "v0002" / "evaluation.json"
    record = json.loads(file.read_text())
    for place, item in enumerate(record["questions"]):
        item["answer"] = place // 5
    file.write_text(json.dumps(record))
    value = json.loads(command(workspace, "compare", *told_by, "--json").stdout)
    assert value["changes"]["dense"]["answers"] == 2
    said = command(workspace, "compare", *told_by).stdout
    assert said.startswith("On the 10 test questions of 2 different answers that judged both, ")


def test_versions_that_were_not_judged_alike_are_compared_with_a_warning(workspace: Workspace) -> None:
    add(workspace)
    add(workspace, {"q9": 0.5, "other": 0.5}, data={"sha256": "1"}, corpus="manuals")
    result = command(workspace, "compare", "v1", "v2")
    assert result.exit_code == 0
    assert "Warning: not the same test questions: 1 are shared, of 10 and 2" in result.stderr
    assert "Warning: the corpus differs: docs and manuals" in result.stderr
    assert "Warning: the documents have changed in between" in result.stderr


def test_a_version_that_was_never_judged_cannot_be_compared(workspace: Workspace) -> None:
    add(workspace)
    add(workspace, {})
    refused = command(workspace, "compare", "v1", "v2")
    assert isinstance(refused.exception, ModelError) and "v2 was never judged" in str(refused.exception)


def test_prune_keeps_the_newest_and_whatever_something_leads_back_to(workspace: Workspace) -> None:
    for _ in range(7):
        add(workspace)
    embedder = HashEmbedder()
    embedder.reference = "v2"
    build_index(workspace, "docs", embedder=embedder)
    set_current(workspace, "v1")
    set_current(workspace, "v3")
    set_current(workspace, "v4")
    plan = prune_plan(workspace, 1)
    assert [version.name for version, _ in plan.going] == ["v1", "v5", "v6"]
    assert {name: reason.partition(":")[0] for name, reason in plan.staying.items()} == {
        "v2": "index docs/g000001",
        "v3": "in use before",
        "v4": "in use",
        "v7": "one of the newest 1",
    }
    prune(workspace, 1)
    assert names(workspace) == ["v2", "v3", "v4", "v7"]
    # What was in use before is reached past the versions that are gone.
    assert [roll_back(workspace), roll_back(workspace)] == ["v3", "owner/base"]


def test_with_an_endpoint_a_promotion_is_written_down_and_the_endpoint_goes_on_searching(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(workspace)
    monkeypatch.setenv("SHOPTALK_MODEL_ENDPOINT", "http://127.0.0.1:9")
    embedder = HashEmbedder()
    embedder.reference = "http://127.0.0.1:9"
    workspace = Workspace.open(workspace.root)
    build_index(workspace, "docs", embedder=embedder)
    said = command(workspace, "promote", "v1", "--force")
    assert said.exit_code == 0
    assert "v1 is chosen, but model.endpoint is what searches: serve it there, or remove model.endpoint" in said.stdout
    assert not build_index(workspace, "docs", embedder=embedder).changed
    assert "* http://127.0.0.1:9" in command(workspace).stdout and "* v1" not in command(workspace).stdout
    assert history(workspace) == ["v1", "owner/base"]
    assert "owner/base is chosen, but" in command(workspace, "rollback").stdout


def test_a_model_in_use_that_is_neither_the_base_nor_a_version_has_a_line_of_its_own(workspace: Workspace) -> None:
    add(workspace)
    add(workspace)
    set_current(workspace, "v1")
    shutil.rmtree(workspace.models_dir / "v0001")
    listed = command(workspace).stdout
    assert "* v1  (neither base nor a version that is here; `shoptalk models promote base`" in listed
    assert listed.count("*") == 1 and "  base  owner/base" in listed


def with_database(workspace: Workspace, url: str) -> Workspace:
    with (workspace.root / "shoptalk.toml").open("a", encoding="utf-8") as added:
        added.write(f'\n[store]\nkind = "qdrant"\nurl = "{url}"\ntimeout = 1.0\n')
    return Workspace.open(workspace.root)


def test_prune_keeps_the_version_whose_index_another_machine_put_into_the_database(workspace: Workspace) -> None:
    pytest.importorskip("qdrant_client")
    for _ in range(3):
        add(workspace)
    embedder = HashEmbedder()
    embedder.reference = "v2"
    workspace = with_database(workspace, "file:database")
    build_index(workspace, "docs", embedder=embedder)
    shutil.rmtree(workspace.root / "indexes")
    assert prune_plan(workspace, 1).staying["v2"] == "index docs/g000001"
    prune(workspace, 1)
    assert names(workspace) == ["v2", "v3"]


def test_a_model_put_to_use_where_an_index_is_only_read_says_whose_index_stays(workspace: Workspace) -> None:
    pytest.importorskip("qdrant_client")
    add(workspace)
    workspace = with_database(workspace, "file:database")
    embedder = HashEmbedder()
    embedder.reference = "v1"
    build_index(workspace, "docs", embedder=embedder)
    shutil.rmtree(workspace.root / "indexes")
    done = command(workspace, "promote", "base")
    assert done.exit_code == 0, done.output
    assert "the index of 'docs' stays as v1 made it" in done.stderr


def test_prune_throws_nothing_away_while_the_database_does_not_answer(workspace: Workspace) -> None:
    pytest.importorskip("qdrant_client")
    for _ in range(2):
        add(workspace)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(StoreError, match="does not answer"):
        prune(with_database(workspace, url), 1)
    assert names(workspace) == ["v1", "v2"]


def test_a_number_is_never_given_twice(workspace: Workspace) -> None:
    for _ in range(3):
        add(workspace)
    prune(workspace, 1)
    add(workspace)
    assert names(workspace) == ["v3", "v4"]


def test_a_base_model_that_is_a_version_stays(workspace: Workspace) -> None:
    for _ in range(3):
        add(workspace)
    (workspace.root / "shoptalk.toml").write_text('[model]\nbase = "v1"\n[corpus.docs]\npaths = ["docs"]\n')
    prune(Workspace.open(workspace.root), 1)
    assert names(workspace) == ["v1", "v3"]


def test_a_base_model_that_is_gone_keeps_nothing_from_being_pruned(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        add(workspace)
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", "gone")
    prune(Workspace.open(workspace.root), 1)
    assert names(workspace) == ["v2"]


def test_a_promotion_that_a_lost_corpus_refuses_says_that_the_model_stays(workspace: Workspace) -> None:
    embedder = HashEmbedder()
    build_index(workspace, "docs", embedder=embedder)
    add(workspace)
    shutil.rmtree(workspace.root / "docs")
    with pytest.raises(DocumentError, match=r"the model in use stays: .*docs does not exist; correct paths"):
        put_to_use(workspace, "v1", embedder=embedder)
    assert history(workspace) == ["owner/base"]


def test_the_command_says_what_it_frees_and_a_dry_run_removes_nothing(workspace: Workspace) -> None:
    for _ in range(3):
        add(workspace)
    dry = command(workspace, "prune", "--keep", "2", "--dry-run")
    assert "would free 1.0 MB" in dry.stdout and "- v1 " in dry.stdout and names(workspace) == ["v1", "v2", "v3"]
    done = json.loads(command(workspace, "prune", "--keep", "2", "--json").stdout)
    assert [item["name"] for item in done["removed"]] == ["v1"] and done["freed_bytes"] >= 1_000_000
    assert names(workspace) == ["v2", "v3"]
    assert "nothing to throw away" in command(workspace, "prune", "--keep", "2").stdout
    assert command(workspace, "prune", "--keep", "0").exit_code == 2


def test_a_removal_that_was_killed_leaves_a_leftover_to_sweep_and_no_half_version(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        add(workspace)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval.models.remove_staging", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(workspace, 1)
    assert names(workspace) == ["v2"]
    assert (next(workspace.models_dir.glob(".staging-*")) / "model.safetensors").exists()
