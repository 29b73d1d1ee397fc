from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import TOKEN, HubServer, Repository

from retrieval.errors import ModelError
from retrieval.models import ModelVersion, add_version, staging_folder
from retrieval.workspace import Workspace
from trainer.hub import push

# The Hub's client uploads in a way that its HTTP library calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

SECRET = "the merger of Acme and Bolt"
CARD = '---\nbase_model: "{base}"\ntags: [shoptalk]\n---\n# {base}\n\nmodel = SentenceTransformer("this folder")\n'
MODEL = ("modules.json", "model.safetensors")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    from huggingface_hub import constants

    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    Workspace.create(tmp_path / "ws", {"docs": "docs"}, "owner/base")
    return Workspace.open(tmp_path / "ws")


def register(
    workspace: Workspace,
    base: str = "owner/base",
    model: dict[str, bytes] | None = None,
    recipe: dict[str, str] | None = None,
) -> ModelVersion:
    """A version whose report and records hold a text of the documents."""
    files = model or {"modules.json": b"[]", "model.safetensors": b"\0" * 2000}
    staged = staging_folder(workspace)
    for name, content in files.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(content)
    training = {
        "base": base,
        "seed": 13,
        "recipe": recipe or {"name": "structure"},
        "choices": [SECRET],
        "model_files": sorted(files),
    }
    evaluation = {"verdict": "WIN", "rows": [], "examples": [{"question": SECRET}]}
    (staged / "training.json").write_text(json.dumps(training))
    (staged / "evaluation.json").write_text(json.dumps(evaluation))
    (staged / "report.html").write_text(f"<p>{SECRET}</p>")
    (staged / "runs").mkdir()
    (staged / "runs" / "dense.trec").write_text(f"q1 Q0 {SECRET} 1 0.5 tuned\n")
    (staged / "README.md").write_text(CARD.format(base=base))
    return add_version(workspace, staged)


def pushed_to(hub: HubServer, name: str = "alice/manuals") -> tuple[Repository, dict[str, bytes]]:
    repository = hub.repositories[name]
    return repository, repository.branches["main"]


def test_a_push_makes_a_private_repository_with_the_model_its_card_and_its_figures(
    hub: HubServer, workspace: Workspace
) -> None:
    register(workspace)
    result = push(workspace, "v1", "alice/manuals", tag="v1.0")
    repository, files = pushed_to(hub)
    assert repository.private and result.private
    assert sorted(files) == sorted([*MODEL, "README.md", "training.json", "evaluation.json"])
    assert files["model.safetensors"] == b"\0" * 2000
    assert json.loads(files["training.json"]) == {"recipe": {"name": "structure"}, "seed": 13}
    assert json.loads(files["evaluation.json"]) == {"verdict": "WIN", "rows": []}
    assert b'SentenceTransformer("alice/manuals")' in files["README.md"]
    assert repository.tags == {"v1.0": result.revision}
    assert repository.commits[0]["oid"] == result.revision and repository.commits[0]["summary"] == "v1: WIN"


def test_folders_of_this_machine_stay_out_of_the_pushed_recipe(hub: HubServer, workspace: Workspace) -> None:
    register(workspace, recipe={"name": "mine", "teacher": "/home/alice/secret/reranker"})
    push(workspace, "v1", "alice/manuals")
    _, files = pushed_to(hub)
    assert json.loads(files["training.json"])["recipe"] == {"name": "mine", "teacher": "reranker"}
    register(workspace, recipe={"name": "mine", "teacher": "owner/reranker"})
    push(workspace, "v2", "alice/others")
    assert json.loads(pushed_to(hub, "alice/others")[1]["training.json"])["recipe"]["teacher"] == "owner/reranker"


def test_no_text_of_the_documents_leaves_the_house_unless_examples_are_asked_for(
    hub: HubServer, workspace: Workspace
) -> None:
    register(workspace)
    result = push(workspace, "v1", "alice/manuals")
    _, files = pushed_to(hub)
    assert not [path for path, content in files.items() if SECRET.encode() in content]
    assert {"report.html", "runs/dense.trec", "training.json: choices", "evaluation.json: examples"} <= {
        *result.withheld
    }

    whole = push(workspace, "v1", "alice/manuals", with_examples=True)
    assert whole.withheld == [] and SECRET.encode() in files["report.html"]
    assert json.loads(files["training.json"])["choices"] == [SECRET]
    assert "checksums.json" not in files

    push(workspace, "v1", "alice/manuals")
    assert "report.html" not in files and "runs/dense.trec" not in files


def test_the_path_of_a_base_model_on_this_machine_is_not_told(hub: HubServer, workspace: Workspace) -> None:
    register(workspace, base="/home/alice/models/minilm")
    push(workspace, "v1", "alice/manuals")
    _, files = pushed_to(hub)
    assert not [path for path, content in files.items() if b"/home/alice" in content]
    card = files["README.md"].decode()
    assert "base_model" not in card and "# minilm" in card and "shoptalk" in card


def test_a_folder_of_the_workspace_is_not_taken_for_somebodys_repository(hub: HubServer, workspace: Workspace) -> None:
    (workspace.root / "models" / "minilm").mkdir(parents=True)
    register(workspace, base="models/minilm")
    push(workspace, "v1", "alice/manuals")
    card = pushed_to(hub)[1]["README.md"].decode()
    assert "base_model" not in card and "models/minilm" not in card and "# minilm" in card


def test_a_public_repository_is_only_pushed_to_by_who_says_public(hub: HubServer, workspace: Workspace) -> None:
    register(workspace)
    hub.repositories["alice/manuals"] = Repository(private=False)
    with pytest.raises(ModelError, match="alice/manuals exists and is public; push with --public"):
        push(workspace, "v1", "alice/manuals")
    assert not hub.repositories["alice/manuals"].commits
    assert not push(workspace, "v1", "alice/manuals", public=True).private
    assert not push(workspace, "v1", "alice/other", public=True).private


def test_a_branch_of_its_own_is_made_and_committed_to(hub: HubServer, workspace: Workspace) -> None:
    register(workspace)
    push(workspace, "v1", "alice/manuals", branch="trial")
    repository, main = pushed_to(hub)
    assert not main and "model.safetensors" in repository.branches["trial"]
    push(workspace, "v1", "alice/manuals", branch="trial")


def test_a_tag_that_exists_is_refused_before_anything_is_sent(hub: HubServer, workspace: Workspace) -> None:
    register(workspace)
    push(workspace, "v1", "alice/manuals", tag="v1.0")
    register(workspace)
    with pytest.raises(ModelError, match=r"has a tag v1\.0 already; choose another\. Nothing was pushed"):
        push(workspace, "v2", "alice/manuals", tag="v1.0")
    assert len(hub.repositories["alice/manuals"].commits) == 1


def test_a_damaged_version_is_not_pushed(hub: HubServer, workspace: Workspace) -> None:
    version = register(workspace)
    (version.path / "model.safetensors").write_bytes(b"\0" * 1999)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        push(workspace, "v1", "alice/manuals")
    assert not hub.requests


@pytest.mark.parametrize(
    ("step", "status", "said"),
    [
        ("create", 403, "the token may not write to alice/manuals (scripted 403); give it write access to alice"),
        ("info", 404, "the Hub has no alice/manuals, or hides it from this token (scripted 404)"),
        ("commit", 409, "alice/manuals is being changed by somebody else (scripted 409); try again"),
        ("lfs", 413, "the Hub answered 413 (scripted 413)"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_the_fix(
    hub: HubServer, workspace: Workspace, step: str, status: int, said: str
) -> None:
    register(workspace)
    hub.faults[step] = status
    with pytest.raises(ModelError) as refused:
        push(workspace, "v1", "alice/manuals")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_token_the_hub_does_not_know_is_told_and_never_shown(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(workspace)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_0123456789")
    with pytest.raises(ModelError, match="the Hub does not accept the token .*check HF_TOKEN") as refused:
        push(workspace, "v1", "alice/manuals")
    assert "hf_wrong" not in str(refused.value)


def test_a_hub_that_cannot_be_reached_is_named(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    register(workspace)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"cannot reach http://127\.0\.0\.1:9: .*check the network and HF_ENDPOINT"):
        push(workspace, "v1", "alice/manuals")


def test_without_a_token_or_offline_nothing_is_asked_of_the_hub(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    register(workspace)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ModelError, match="HF_TOKEN is not set"):
        push(workspace, "v1", "alice/manuals")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        push(workspace, "v1", "alice/manuals")
    with pytest.raises(ModelError, match="'manuals' names no repository; write OWNER/NAME"):
        push(workspace, "v1", "manuals")
    assert not hub.requests


def test_the_command_pushes_a_model_that_plain_sentence_transformers_loads_back(
    hub: HubServer, workspace: Workspace, static_model: Path, tmp_path: Path
) -> None:
    import numpy as np
    from sentence_transformers import SentenceTransformer

    paths = (path for path in static_model.rglob("*") if path.is_file())
    register(workspace, model={path.relative_to(static_model).as_posix(): path.read_bytes() for path in paths})
    command = [sys.executable, "-m", "shoptalk", "-w", str(workspace.root), "--json", "models", "push", "v1"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run([*command, "alice/manuals"], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    value: dict[str, Any] = json.loads(result.stdout)
    assert value["private"] and value["revision"] == hub.repositories["alice/manuals"].commits[0]["oid"]
    assert "Left out, as texts of your documents may stand there: " in result.stderr

    loaded = SentenceTransformer(str(hub.repositories["alice/manuals"].write_to(tmp_path / "back")), device="cpu")
    texts = ["how do I descale the boiler"]
    original = SentenceTransformer(str(static_model), device="cpu")
    np.testing.assert_array_equal(loaded.encode(texts), original.encode(texts))
