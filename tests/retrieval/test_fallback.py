from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from embedding_server import EmbeddingServer
from hash_embedder import HashEmbedder
from tiny_model import save_tiny_model

import retrieval.fallback
from retrieval.embedders import Embedder, load_local
from retrieval.errors import EndpointError
from retrieval.indexing import build_index
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    root = tmp_path_factory.mktemp("loading")
    Workspace.create(root, {}, str(tiny_model))
    return load_local("base", Workspace.open(root))


@pytest.fixture
def local(tmp_path: Path, tiny_model: Path) -> Workspace:
    """Two documents, and a base model that is here."""
    for name, text in (("a.md", "# Wombats\n\nThe wombat digs.\n"), ("b.md", "# Emus\n\nA tall bird.\n")):
        (tmp_path / "docs").mkdir(exist_ok=True)
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, str(tiny_model))
    return Workspace.open(tmp_path)


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(HashEmbedder()) as server:
        yield server


def served_by(workspace: Workspace, server: EmbeddingServer) -> Workspace:
    return replace(workspace, model=workspace.model.model_copy(update={"endpoint": server.url}))


def test_a_corpus_is_indexed_and_searched_through_an_endpoint(local: Workspace, server: EmbeddingServer) -> None:
    workspace = served_by(local, server)
    build_index(workspace)
    assert not build_index(workspace).changed
    engine = SearchEngine(workspace)
    result = engine.search("wombat digs", mode="dense")
    assert (result.hits[0].document_id, result.degraded, result.model) == ("a.md", "", server.url)
    assert not engine.info().stale


def test_while_the_endpoint_is_down_words_are_searched_and_it_says_so(
    local: Workspace, server: EmbeddingServer
) -> None:
    workspace = served_by(local, server)
    build_index(workspace)
    engine = SearchEngine(workspace)
    engine.load()
    server.stop()
    result = engine.search("wombat")
    assert result.hits[0].document_id == "a.md"
    assert result.degraded.startswith("words only") and f"{server.url} does not answer" in result.degraded
    with pytest.raises(EndpointError, match="does not answer"):
        engine.search("wombat", mode="dense")


def test_a_local_model_with_the_same_vectors_stands_in_for_an_endpoint_that_is_down(
    local: Workspace, server: EmbeddingServer, model: Embedder
) -> None:
    server.embedder = model
    workspace = served_by(local, server)
    build_index(workspace)
    expected = [hit.id for hit in SearchEngine(workspace).search("wombat digs", mode="dense").hits]
    engine = SearchEngine(workspace)
    engine.load()
    server.stop()
    for mode in ("dense", "hybrid"):
        result = engine.search("wombat digs", mode=mode)  # type: ignore[arg-type]
        assert "a local model that gives the same vectors" in result.degraded and model.reference in result.degraded
        assert [hit.id for hit in result.hits] == expected


def test_the_stand_in_is_looked_for_once(
    local: Workspace, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def counted(reference: str, workspace: Workspace) -> Any:
        tried.append(reference)
        return load_local(reference, workspace)

    monkeypatch.setattr(retrieval.fallback, "load_local", counted)
    workspace = served_by(local, server)
    build_index(workspace)
    engine = SearchEngine(workspace)
    engine.load()
    server.stop()
    threads = [threading.Thread(target=engine.search, args=("wombat",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 1


def test_an_index_of_a_local_model_is_searched_by_it_though_an_endpoint_is_set(
    local: Workspace, server: EmbeddingServer, model: Embedder
) -> None:
    build_index(local, embedder=model)
    server.stop()
    workspace = served_by(local, server)
    result = SearchEngine(workspace).search("wombat digs")
    assert result.hits[0].document_id == "a.md" and result.hits[0].dense_rank == 1
    assert result.degraded == f"by {model.reference}, which made the index, not by {server.url}; run `shoptalk index`"
    assert SearchEngine(workspace).info().stale
