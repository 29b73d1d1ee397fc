"""The examples that serve a model, through the client that is to use them."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from tei_app import MOST_BYTES, MOST_TEXTS, application

from retrieval.embedders import load_local
from retrieval.errors import EndpointError
from retrieval.indexing import build_index
from retrieval.remote_embedder import connect
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace

KEY = "a key of the tests"
PROMPTS = {"query": "question: ", "document": "text: "}
TEXTS = [f"text {number} of a wombat that digs" for number in range(MOST_TEXTS + 6)]


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """The application under uvicorn on a port of its own; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def with_settings(workspace: Workspace, **settings: object) -> Workspace:
    return replace(workspace, model=workspace.model.model_copy(update=settings))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, static_model: Path) -> Path:
    """A model that wants prompts, as its own configuration says."""
    folder = tmp_path_factory.mktemp("prompted") / "model"
    shutil.copytree(static_model, folder)
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prompts": PROMPTS}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Workspace:
    """The workspace whose model is served."""
    root = tmp_path_factory.mktemp("home")
    Workspace.create(root, {}, str(model))
    return Workspace.open(root)


@pytest.fixture(scope="module")
def app(home: Workspace) -> Starlette:
    return application(home, KEY)


@pytest.fixture(scope="module")
def url(app: Starlette) -> Iterator[str]:
    with served(app) as url:
        yield url


@pytest.fixture
def away(tmp_path: Path, url: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Another workspace, which knows the address and the key."""
    monkeypatch.setenv("SHOPTALK_ENDPOINT_KEY", KEY)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Wombats\n\nThe wombat digs.\n", encoding="utf-8")
    (tmp_path / "docs" / "b.md").write_text("# Emus\n\nA tall bird runs.\n", encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, str(model))
    return with_settings(Workspace.open(tmp_path), endpoint=url)


def test_the_client_gets_the_models_own_vectors_with_its_prompts(home: Workspace, away: Workspace) -> None:
    remote, local = connect(away), load_local("base", home)
    np.testing.assert_allclose(remote.encode_documents(TEXTS), local.encode_documents(TEXTS), atol=1e-6)
    np.testing.assert_allclose(remote.encode_queries(TEXTS[:1]), local.encode_queries(TEXTS[:1]), atol=1e-6)
    assert np.abs(local.encode_queries(TEXTS[:1]) - local.encode_documents(TEXTS[:1])).max() > 0.01
    assert (remote.dimension, remote.max_tokens) == (local.dimension, local.max_tokens)


def test_it_is_the_same_model_wherever_it_is_served(home: Workspace, away: Workspace) -> None:
    fingerprint = connect(away).fingerprint
    with served(application(home, KEY)) as elsewhere:
        assert connect(with_settings(away, endpoint=elsewhere)).fingerprint == fingerprint
    with served(application(with_settings(home, query_prompt="other: "), KEY)) as elsewhere:
        assert connect(with_settings(away, endpoint=elsewhere)).fingerprint != fingerprint


def test_an_index_made_through_it_is_searched_by_the_local_model_while_it_is_down(
    away: Workspace, app: Starlette
) -> None:
    with served(app) as url:
        workspace = with_settings(away, endpoint=url)
        build_index(workspace)
        engine = SearchEngine(workspace)
        found = engine.search("what digs", mode="dense")
        assert (found.hits[0].document_id, found.degraded) == ("a.md", "")
    here = SearchEngine(workspace).search("what digs", mode="dense")
    assert [hit.id for hit in here.hits] == [hit.id for hit in found.hits]
    assert "a local model that gives the same vectors" in here.degraded


def test_without_the_key_nothing_is_told_but_that_it_is_up(
    url: str, away: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert httpx2.get(f"{url}/health").status_code == 200
    assert httpx2.get(f"{url}/info").status_code == 401
    monkeypatch.setenv("SHOPTALK_ENDPOINT_KEY", "wrong")
    with pytest.raises(EndpointError, match="refuses the key"):
        connect(away)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ('{"inputs": "a wombat"}', 200, ""),
        ('{"inputs": ["a wombat"], "truncate": true, "normalize": true}', 200, ""),
        ('{"inputs": []}', 422, "validation"),
        ('{"inputs": [1]}', 422, "validation"),
        ('{"inputs": "a", "normalize": false}', 422, "validation"),
        ('{"inputs": "a", "prompt_name": "query"}', 422, "validation"),
        ("not json", 422, "validation"),
        ('{"inputs": [' + ", ".join(['"a"'] * (MOST_TEXTS + 1)) + "]}", 413, "validation"),
        ('{"inputs": "' + "wombat " * 2000 + '"}', 413, "validation"),
        ('{"inputs": "' + "wombat " * 2000 + '", "truncate": true}', 200, ""),
        ('{"inputs": "' + "a" * MOST_BYTES + '"}', 413, "validation"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_wire_format(url: str, body: str, status: int, kind: str) -> None:
    answer = httpx2.post(f"{url}/embed", content=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)
    assert answer.status_code == status, answer.text
    if kind:
        assert answer.json()["error_type"] == kind and answer.json()["error"]
    else:
        assert np.linalg.norm(answer.json(), axis=1) == pytest.approx([1.0], abs=1e-5)


def test_the_modal_app_imports_and_serves_what_is_tested_here() -> None:
    pytest.importorskip("modal")
    import modal_app

    assert modal_app.app.name == "shoptalk-embedder"
    ignored = modal_app.sources
    assert not ignored(Path("retrieval/embedders.py")) and not ignored(Path("pyproject.toml"))
    assert ignored(Path("docs/index.md")) and ignored(Path("models/v0001/model.safetensors"))
