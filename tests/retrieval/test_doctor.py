from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder

from retrieval import installation
from retrieval.doctor import Check, examine
from retrieval.generation import writing
from retrieval.indexing import build_index
from retrieval.installation import check_installation, check_machine
from retrieval.workspace import Workspace

ROOT = Path(__file__).parent.parent.parent
Look = Callable[..., list[Check]]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in [name for name in os.environ if name.startswith(("SHOPTALK_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("A wombat.\n", encoding="utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "modules.json").write_text("[]", encoding="utf-8")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    Workspace.create(tmp_path, {"docs": "docs"}, "model")
    workspace = Workspace.open(tmp_path)
    embedder = HashEmbedder()
    embedder.reference = "model"
    build_index(workspace, embedder=embedder)
    return workspace


def found(workspace: Workspace, name: str, state: str, *, deep: bool = False) -> str:
    """The messages and mends of the checks of that name and state, a line each."""
    checks = [check for check in examine(workspace.root, deep=deep) if (check.name, check.state) == (name, state)]
    return "\n".join(f"{check.message} -> {check.mend}" for check in checks)


def test_a_healthy_workspace_has_nothing_wrong(workspace: Workspace) -> None:
    checks = list(examine(workspace.root))
    assert [check for check in checks if check.state == "wrong"] == []
    assert {"python", "engine", "faiss", "processor", "memory", "gpu", "sqlite", "disk", "model", "index docs"} <= {
        check.name for check in checks
    }
    assert "g000001, 1 documents, 1 passages, by model" in found(workspace, "index docs", "ok")


def test_it_is_quick_and_imports_nothing_heavy(workspace: Workspace) -> None:
    script = (
        "import shoptalk, sys\nfrom click.testing import CliRunner\n"
        f"result = CliRunner().invoke(shoptalk.command_line, ['-w', {str(workspace.root)!r}, 'doctor', '--json'])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {"torch", "transformers", "sentence_transformers", "faiss", "tantivy", "numpy", "huggingface_hub"}
    assert not heavy & set(done.stdout.split())


def test_what_is_wrong_makes_the_exit_code_1_and_each_line_says_how_to_mend_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "shoptalk", "-w", str(tmp_path), "doctor"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 1 and done.stderr == ""
    assert "is not a workspace: it has no shoptalk.toml; make one with `shoptalk init" in done.stdout
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    value = json.loads(done.stdout)
    assert done.returncode == 1 and value["wrong"] is True
    assert {"name", "state", "message", "mend"} == set(value["checks"][0])


def test_a_lost_or_empty_corpus_is_wrong(workspace: Workspace) -> None:
    (workspace.root / "docs" / "a.txt").rename(workspace.root / "a.png")
    assert "no document that can be read" in found(workspace, "corpus docs", "wrong")
    (workspace.root / "docs").rmdir()
    assert "docs does not exist; correct paths under [corpus.docs]" in found(workspace, "corpus docs", "wrong")


@pytest.mark.parametrize(
    ("base", "state", "message"),
    [
        ("nonsense", "wrong", "unknown model reference 'nonsense'"),
        ("package:no_such_package/x", "wrong", "no Python package 'no_such_package' is installed here"),
        ("acme/model", "wrong", "acme/model was never downloaded, and HF_HUB_OFFLINE keeps it from being"),
    ],
)
def test_a_base_model_that_cannot_be_found_is_wrong(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, base: str, state: str, message: str
) -> None:
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", base)
    assert message in found(workspace, "model", state)


def test_a_model_of_the_hub_is_looked_for_in_its_cache(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", "acme/model")
    monkeypatch.setenv("HF_HUB_CACHE", str(workspace.root / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "acme/model is not here yet" in found(workspace, "model", "note")
    snapshot = workspace.root / "cache" / "models--acme--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}", encoding="utf-8")
    assert "acme/model" in found(workspace, "model", "ok")


def test_nothing_is_missed_of_the_hub_while_an_endpoint_embeds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPTALK_MODEL_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", "acme/model")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert found(workspace, "model", "wrong") == ""


def test_a_reranker_that_search_would_go_without_is_wrong(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPTALK_SEARCH_RERANK", "gone")
    assert "unknown model reference 'gone'" in found(workspace, "reranker", "wrong")
    monkeypatch.setenv("SHOPTALK_SEARCH_RERANK", "acme/judge")
    assert "acme/judge was never downloaded" in found(workspace, "reranker", "wrong")
    monkeypatch.setenv("SHOPTALK_SEARCH_RERANK", "model")
    assert "model, in " in found(workspace, "reranker", "ok")
    assert "reranker model could not be loaded" in found(workspace, "reranker", "wrong", deep=True)


def test_a_model_in_use_that_is_gone_is_wrong(workspace: Workspace) -> None:
    workspace.models_dir.mkdir()
    (workspace.models_dir / "CURRENT").write_text("v7\nmodel\n", encoding="utf-8")
    assert "no model version 'v7'" in found(workspace, "model", "wrong")
    (workspace.models_dir / "CURRENT").write_bytes(b"\xff\xfe")
    assert "CURRENT is damaged" in found(workspace, "model", "wrong")


def test_a_missing_stale_or_damaged_index_is_wrong(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", "./model")
    assert "built with model and ./model is in use now; run `shoptalk index`" in found(workspace, "index docs", "wrong")
    monkeypatch.delenv("SHOPTALK_MODEL_BASE")
    file = workspace.index_dir("docs") / "g000001" / "catalog.sqlite"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert found(workspace, "index docs", "wrong") == ""
    with monkeypatch.context() as patch:
        patch.setenv("SHOPTALK_MODEL_BASE", "acme/absent")  # so that no model is loaded
        assert "catalog.sqlite is damaged: its checksum is wrong" in found(workspace, "index docs", "wrong", deep=True)
    file.write_bytes(content[:-1])
    assert "catalog.sqlite is damaged" in found(workspace, "index docs", "wrong")
    (workspace.index_dir("docs") / "CURRENT").unlink()
    assert "corpus 'docs' has no index yet; run `shoptalk index`" in found(workspace, "index docs", "wrong")


def test_a_writer_at_work_and_what_a_dead_one_left_are_noted(workspace: Workspace) -> None:
    index_dir = workspace.index_dir("docs")
    with writing(index_dir, "docs"):
        assert f"process {os.getpid()} is indexing it now" in found(workspace, "index docs", "note")
    (index_dir / ".building-abc").mkdir()
    assert "1 left of a killed or unfinished run, the first: .building-abc" in found(workspace, "index docs", "note")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    workspace.models_dir.mkdir(exist_ok=True)
    (workspace.models_dir / f".staging-{ended.pid}-abc").mkdir()
    assert "was left by a killed process" in found(workspace, "model", "note")


def test_a_misspelt_variable_is_noted_with_what_was_meant(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPTALK_SERCH_MODE", "dense")
    monkeypatch.setenv("SHOPTALK_SEARCH_FUSION", "rrf")
    monkeypatch.setenv("SHOPTALK_WORKSPACE", ".")
    told = found(workspace, "environment", "note")
    assert told == "SHOPTALK_SERCH_MODE is set and nothing reads it -> did you mean SHOPTALK_SEARCH_MODE?"


def test_a_key_is_told_of_and_never_shown(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no API key" in found(workspace, "claude", "note")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    assert "ANTHROPIC_API_KEY is set" in found(workspace, "claude", "ok")
    assert "sk-secret" not in "".join(str(check) for check in examine(workspace.root))


class Installed:
    """A stand-in for what the environment's metadata says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def add(self, name: str, version: str, *requires: str, extras: tuple[str, ...] = ()) -> None:
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {text}" for text in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Installed:
    return Installed(monkeypatch, tmp_path)


def state_of(name: str) -> Check:
    return next(check for check in check_installation() if check.name == name)


def test_two_packages_of_faiss_are_wrong(installed: Installed) -> None:
    assert state_of("faiss").state == "ok"
    installed.add("faiss-gpu", "1.15.1")
    check = state_of("faiss")
    assert (check.state, check.message) == ("wrong", "faiss-cpu and faiss-gpu overwrite each other")
    assert check.mend == "pip uninstall faiss-cpu faiss-gpu, then: pip install 'shoptalk[cpu]'"


def test_half_of_faiss_is_wrong(installed: Installed) -> None:
    (installed.folder / "faiss").mkdir()
    (installed.folder / "faiss" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert "half of it is gone" in state_of("faiss").message


def test_half_an_engine_is_wrong_and_none_is_only_noted(installed: Installed) -> None:
    needs = ("click", "nowhere>=1; extra == 'engine'", "simple-icd-10-cm>99; extra == 'demo'")
    installed.add("shoptalk", "9.9", *needs, extras=("engine", "demo"))
    assert state_of("shoptalk").message == "9.9"
    assert state_of("core").state == "ok"
    assert (state_of("engine").state, state_of("engine").mend) == ("note", "pip install 'shoptalk[cpu]'")
    assert state_of("extras").message == "demo: yes"
    metadata = installed.folder / "shoptalk-9.9.dist-info" / "METADATA"
    text = metadata.read_text(encoding="utf-8").replace("click", "nowhere-either")
    metadata.write_text(text + "Requires-Dist: torch; extra == 'engine'\n", encoding="utf-8")
    assert (state_of("engine").state, state_of("engine").message) == ("wrong", "half installed, missing: nowhere")
    assert state_of("core").message == "not installed: nowhere-either"


def test_a_gpu_that_is_not_used_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def gpu(device: str) -> str:
        return next(check.message for check in check_machine(device) if check.name == "gpu")

    driver = tmp_path / "version"
    monkeypatch.setattr(installation, "_NVIDIA_DRIVER", driver)
    monkeypatch.setattr(installation.platform, "system", lambda: "Linux")
    assert "no NVIDIA driver is loaded" in gpu("cuda")
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n", encoding="utf-8")
    assert gpu("auto").startswith("NVIDIA driver 580.65.06")
