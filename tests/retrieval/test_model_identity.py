from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import save_tiny_model

from retrieval.embedders import LazyEmbedder, load_embedder, load_local, open_embedder
from retrieval.errors import ModelError
from retrieval.indexing import build_index
from retrieval.model_identity import RECORDS, recall, write_record
from retrieval.models import resolve
from retrieval.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace whose base model was loaded once."""
    save_tiny_model(tmp_path / "model")
    Workspace.create(tmp_path, {"docs": "docs"}, "model")
    workspace = Workspace.open(tmp_path)
    load_local("base", workspace)
    return workspace


def known(workspace: Workspace) -> bool:
    return recall(workspace, resolve(workspace, "base")) is not None


def test_a_model_that_was_loaded_once_is_known_without_loading(workspace: Workspace) -> None:
    loaded, lazy = load_local("base", workspace), open_embedder("base", workspace)
    assert isinstance(lazy, LazyEmbedder)
    assert (lazy.reference, lazy.fingerprint) == (loaded.reference, loaded.fingerprint)
    assert (lazy.dimension, lazy.max_tokens) == (loaded.dimension, loaded.max_tokens)
    texts = ["a wombat digs", "", "héart ✓ " * 400]
    assert lazy.count_tokens(texts) == loaded.count_tokens(texts)
    np.testing.assert_allclose(lazy.encode_queries(texts), loaded.encode_queries(texts), atol=1e-6)
    np.testing.assert_allclose(lazy.encode_documents(texts), loaded.encode_documents(texts), atol=1e-6)


def test_indexing_an_unchanged_corpus_imports_no_torch(workspace: Workspace) -> None:
    (workspace.root / "docs").mkdir()
    (workspace.root / "docs" / "a.md").write_text("# Wombats\n\nThey dig.\n", encoding="utf-8")
    script = (
        "import sys\n"
        "from retrieval.indexing import build_index\n"
        "from retrieval.workspace import Workspace\n"
        f"report = build_index(Workspace.open({str(workspace.root)!r}))\n"
        "print(report.changed, 'torch' in sys.modules)"
    )
    assert build_index(workspace).changed
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


def small_file(folder: Path) -> None:
    file = folder / "config_sentence_transformers.json"
    status = file.stat()
    file.write_text(file.read_text(encoding="utf-8").replace('"query": ""', '"query":"?"'), encoding="utf-8")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def weights(folder: Path) -> None:
    file = next(folder.rglob("*.safetensors"))
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_file(folder: Path) -> None:
    (folder / "modules").mkdir()
    (folder / "modules" / "new.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("change", [small_file, weights, another_file])
def test_a_change_of_the_files_is_seen_even_with_its_date_set_back(
    workspace: Workspace, change: Callable[[Path], None]
) -> None:
    assert known(workspace)
    change(workspace.root / "model")
    assert not known(workspace)
    assert not isinstance(open_embedder("base", workspace), LazyEmbedder)


def test_settings_that_bear_on_the_vectors_are_told_apart(workspace: Workspace) -> None:
    other = replace(workspace, model=workspace.model.model_copy(update={"query_prompt": "find: "}))
    assert not known(other)
    assert load_embedder("base", other).fingerprint != load_embedder("base", workspace).fingerprint
    assert known(other) and known(workspace)


def test_a_record_that_is_wrong_is_found_out_when_the_model_loads_and_corrected(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    file = workspace.models_dir / RECORDS
    true = load_local("base", workspace).fingerprint
    file.write_text(file.read_text(encoding="utf-8").replace(true, "0" * 64), encoding="utf-8")
    lazy = open_embedder("base", workspace)
    assert lazy.fingerprint == "0" * 64
    with pytest.raises(ModelError, match="model model is not the one it was.*run the command again"):
        lazy.encode_documents(["a wombat"])
    assert "the record is corrected" in caplog.text
    assert open_embedder("base", workspace).fingerprint == true


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_record_costs_one_loading(workspace: Workspace, content: str) -> None:
    (workspace.models_dir / RECORDS).write_text(content, encoding="utf-8")
    assert not known(workspace)
    load_local("base", workspace)
    assert known(workspace)


def test_records_do_not_pile_up(workspace: Workspace) -> None:
    file = workspace.models_dir / RECORDS
    file.write_text(json.dumps({str(number): {} for number in range(200)}), encoding="utf-8")
    load_local("base", workspace)
    assert len(json.loads(file.read_text(encoding="utf-8"))) == 64 and known(workspace)


def test_a_workspace_that_may_only_be_read_is_left_as_it_is(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (workspace.models_dir / RECORDS).read_bytes()

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refused)  # whoever runs the tests as root may write anywhere
    with caplog.at_level("INFO"):
        write_record(workspace, "key", {"a": 1})
    assert (workspace.models_dir / RECORDS).read_bytes() == before and "Read-only file system" in caplog.text


def test_on_a_full_disk_no_record_is_kept_and_nothing_else_fails(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space")))
    write_record(workspace, "key", {"a": 1})
    assert f"{RECORDS} is not written: no space" in caplog.text
    assert not [*workspace.models_dir.glob(".staging-*")]
