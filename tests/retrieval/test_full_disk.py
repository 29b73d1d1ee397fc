from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder

from retrieval.errors import IndexingError
from retrieval.full_disk import full_disk_told
from retrieval.generation import open_current, verify
from retrieval.indexing import build_index
from retrieval.pointer import current_name
from retrieval.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("wombat\n", encoding="utf-8")
    (tmp_path / "shoptalk.toml").write_text('[corpus.docs]\npaths = ["docs"]\n', encoding="utf-8")
    workspace = Workspace.open(tmp_path)
    build_index(workspace, embedder=HashEmbedder())
    for number in range(200):
        (tmp_path / "docs" / f"{number}.md").write_text(f"# Document {number}\n\nemu {number}\n", encoding="utf-8")
    return workspace


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def whole(workspace: Workspace) -> str:
    """The name of the live generation, once every byte of it was checked and nothing lies beside it."""
    index_dir = workspace.index_dir("docs")
    verify(open_current(index_dir, "docs"))
    assert not list(index_dir.glob(".building-*"))
    return str(current_name(index_dir))


def test_wherever_the_disk_is_full_the_old_index_stays_and_nothing_half_written(workspace: Workspace) -> None:
    failures: set[str] = set()
    size = 2048
    while whole(workspace) == "g000001":
        try:
            with files_up_to(size):
                build_index(workspace, embedder=HashEmbedder())
        except IndexingError as error:
            assert str(error).startswith(f"the disk of {workspace.index_dir('docs')} takes no more (")
            assert str(error).endswith("free some space and run it again; the old index stays")
            cause = error.__cause__
            failures.add(type(cause).__module__.partition(".")[0] if cause else "")
        size += 6144
    assert whole(workspace) == "g000002"
    assert "sqlite3" in failures


@pytest.mark.parametrize("stage", ["embeddings", "vectors", "lexical", "manifest", "current"])
def test_each_writer_may_be_the_one_that_finds_the_disk_full(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    quoted = f"the library says: {os.strerror(errno.ENOSPC)} (os error 28)"
    target, error = {
        "embeddings": ("retrieval.embedding_cache.EmbeddingCache.keep", sqlite3.OperationalError("disk is full")),
        "vectors": ("retrieval.vectors.VectorIndex.write", RuntimeError(quoted)),
        "lexical": ("retrieval.lexical.LexicalIndex.commit", ValueError(quoted)),
        "manifest": ("retrieval.generation.Manifest.to_json", full),
        "current": ("retrieval.generation.os.replace", full),
    }[stage]
    if isinstance(error, sqlite3.OperationalError):
        error.sqlite_errorcode = sqlite3.SQLITE_FULL

    def refuse(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(target, refuse)
        with pytest.raises(IndexingError, match=r"the disk of .* takes no more"):
            build_index(workspace, embedder=HashEmbedder())
    assert whole(workspace) == "g000001"
    assert build_index(workspace, embedder=HashEmbedder()).changed


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    for error in (OSError(errno.EACCES, "Permission denied"), RuntimeError("a bug"), sqlite3.DataError("odd")):
        with pytest.raises(type(error)), full_disk_told(tmp_path):
            raise error
    with pytest.raises(IndexingError, match="^mine$"), full_disk_told(tmp_path):
        raise IndexingError("mine")
