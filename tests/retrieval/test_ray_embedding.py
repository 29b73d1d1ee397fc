"""Indexing on a Ray cluster of three nodes, each a few processes of this machine."""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import hash_embedder
import ray.cloudpickle
from click.testing import CliRunner
from hash_embedder import HashEmbedder

import shoptalk
from retrieval.embedders import Embedder
from retrieval.embedding_cache import encoding_order
from retrieval.errors import IndexingError, ModelError
from retrieval.indexing import build_index
from retrieval.ray_cluster import connected, write_files
from retrieval.ray_embedding import index_on_ray
from retrieval.threads import cores
from retrieval.workspace import Workspace

# Ray warns of its own settings.
pytestmark = pytest.mark.filterwarnings("ignore:::ray[.]")

FILES, SECTIONS, BLOCK = 50, 100, 512
WORDS = [f"{start}{end}" for start in "mapenolitu" for end in ("ra", "sek", "lin", "dor", "vas", "mun", "tik", "pel")]


class BatchEmbedder(HashEmbedder):
    """As those of real models, its last bits are of the batch: which texts it was given, and in which order."""

    def encode_documents(self, texts: Any, progress: Any = None) -> Any:
        vectors = self.encode_queries(texts)
        vectors[:, 0] += (len(texts) + vectors.sum(axis=0)[0]) * 1e-6
        return vectors


class OtherEmbedder(HashEmbedder):
    """Another model in a worker than in the process that asked for it."""

    def __init__(self) -> None:
        super().__init__("here" if os.getpid() == ASKED_BY else "there")


ASKED_BY = os.getpid()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes of one core each, reached over loopback; one of them is lost on the way."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(hash_embedder)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(2):
        cluster.add_node(**{name: node[name] for name in ("num_cpus", "object_store_memory")})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def on_ray(cluster: Any) -> Iterator[None]:
    with connected(cluster.address):
        yield


def workspace_in(root: Path, files: int = FILES) -> Workspace:
    """Documents of random words; a section is in all of them."""
    chance = random.Random(3)
    (root / "docs").mkdir(parents=True)
    for number in range(files):
        parts = [f"## Part {part}\n\n{' '.join(chance.choices(WORDS, k=12))}.\n" for part in range(SECTIONS - 1)]
        text = "\n".join(["# Notes\n", *parts, "## Everywhere\n\nmara sek.\n"])
        (root / "docs" / f"{number:03}.md").write_text(text, encoding="utf-8")
    Workspace.create(root, {"docs": "docs"}, "test/batch")
    return Workspace.open(root)


def cached(workspace: Workspace) -> dict[bytes, bytes]:
    (file,) = (workspace.index_dir("docs") / "embeddings").glob("*.sqlite")
    connection = sqlite3.connect(file)
    try:
        return dict(connection.execute("SELECT hash, vector FROM vectors").fetchall())
    finally:
        connection.close()


def test_a_node_lost_and_a_stop_on_the_way_leave_the_index_of_the_local_path_to_the_bit(
    on_ray: None, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.indexing.ENCODE_BLOCK", BLOCK)
    monkeypatch.setattr("retrieval.ray_embedding.ENCODE_BLOCK", BLOCK)
    here, there = workspace_in(tmp_path / "here"), workspace_in(tmp_path / "there")
    local = build_index(here, embedder=BatchEmbedder())
    told: list[tuple[str, int, int]] = []

    def stop(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if stage == "encoding on Ray" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_on_ray(there, load=BatchEmbedder, progress=stop)
    kept = cached(there)
    assert ("reading on Ray", FILES, FILES) in told
    assert told[-1] == ("encoding on Ray", len(kept), len(cached(here)))

    told.clear()

    def lose_a_node(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if stage == "encoding on Ray" and len(cluster.worker_nodes) == 2:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    report = index_on_ray(there, load=BatchEmbedder, progress=lose_a_node)
    assert len(cluster.worker_nodes) == 1
    assert told[0] == ("reading on Ray", FILES, FILES), "what was read is not read again"
    assert next(done for stage, done, _ in told if stage == "encoding on Ray") >= len(kept)
    assert 0 < report.embedded <= len(cached(here)) - len(kept)
    assert report.passages == local.passages
    assert cached(there) == cached(here)
    assert not (there.index_dir("docs") / "ray").exists()

    again = index_on_ray(there, load=BatchEmbedder)
    assert not again.changed and again.embedded == 0
    (there.root / "docs" / "new.md").write_text("# New\n\nmara sek.\n", encoding="utf-8")
    (there.root / "docs" / "empty.md").write_text("", encoding="utf-8")
    more = index_on_ray(there, load=BatchEmbedder)
    assert (more.added, more.embedded, [item.path for item in more.skipped]) == (1, 1, ["empty.md"])


def test_a_worker_with_another_model_is_told(on_ray: None, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"on node .*: test/there is another model there than here"):
        index_on_ray(workspace_in(tmp_path, 1), load=OtherEmbedder)


def unable(embedder: Embedder, what: str, target: Path) -> list[str]:
    if what == "hidden":
        return [__file__]
    if what == "elsewhere":
        return []
    if what == "vanished":
        return [str(target)]
    if what == "no folder":
        (target.parent / "none" / "at all").write_text("")
    raise RuntimeError("a worker's own fault")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("hidden", r"test_ray_embedding.py cannot be read on node .* all nodes of the cluster share"),
        ("elsewhere", r"out was written on node .* cannot be seen here; .* share"),
        ("no folder", r"on node .*: \[Errno 2\] .* share"),
        ("fault", r"a Ray worker failed \(.*a worker's own fault.*\)"),
    ],
)
def test_what_goes_wrong_on_a_node_is_one_line(on_ray: None, tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(IndexingError, match=message) as caught:
        list(write_files(unable, HashEmbedder, {tmp_path / "out": what}))
    assert "\n" not in str(caught.value)


def test_documents_that_are_there_no_more_are_nobodys_fault(on_ray: None, tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert list(write_files(unable, HashEmbedder, {target: "vanished"})) == [(target, [str(target)])]


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        pytest.raises(IndexingError, match=f"no Ray cluster answers at 127.0.0.1:{port}"),
        connected(f"127.0.0.1:{port}"),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(IndexingError, match=r"pip install 'shoptalk\[ray\]'"), connected():
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "ray", "--watch"], "leave out --verify and --watch"),
        (["--ray-address", "127.0.0.1:6379"], "with --engine ray only"),
    ],
)
def test_options_that_do_not_go_together_are_told(options: list[str], message: str) -> None:
    result = CliRunner().invoke(shoptalk.command_line, ["index", *options])
    assert (result.exit_code, message in result.output) == (2, True), result.output


def test_texts_are_encoded_in_an_order_of_their_own() -> None:
    texts = {digest: "x" * length for digest, length in (("b", 2), ("c", 3), ("a", 2), ("d", 1))}
    backwards = dict(reversed(texts.items()))
    assert encoding_order(texts) == encoding_order(backwards) == ["c", "a", "b", "d"]


@pytest.mark.parametrize(("allowed", "threads"), [("3", 3), ("", os.cpu_count()), ("4,2", os.cpu_count())])
def test_a_worker_encodes_with_the_threads_it_may_have(
    monkeypatch: pytest.MonkeyPatch, allowed: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert cores() == threads
