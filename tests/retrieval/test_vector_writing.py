from __future__ import annotations

import json
import logging
import subprocess
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hash_embedder import HashEmbedder
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from retrieval import vector_writing, vectors
from retrieval.errors import IndexingError
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.vector_writing import Blocks, VectorFacts, build_vectors, write_vectors
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

COUNT = 7000
DIMENSION = 24
LIMIT = 5000


def topical(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors in forty topics, which come one after the other."""
    random = np.random.default_rng(seed)
    topics = np.random.default_rng(99).standard_normal((40, DIMENSION))
    found = topics[np.arange(count) * 40 // count] + 0.6 * random.standard_normal((count, DIMENSION))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def vector_of(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """The vector that a passage of this number has in every run."""
    return TABLE[ids]


TABLE = np.concatenate([topical(COUNT), topical(3 * COUNT, seed=1)])


def encode(ids: NDArray[np.int64]) -> Blocks:
    for start in range(0, len(ids), 1000):
        yield ids[start : start + 1000], vector_of(ids[start : start + 1000])


def write(
    path: Path, ids: NDArray[np.int64], base: tuple[Path, VectorFacts] | None = None
) -> tuple[set[int], set[int], VectorFacts]:
    gone, new, facts = write_vectors(path, ids, DIMENSION, encode, base)
    assert sorted(VectorIndex.read(path).ids.tolist()) == ids.tolist()
    assert not path.with_name(path.name + ".spool").exists()
    return set(gone.tolist()), set(new.tolist()), facts


@pytest.fixture(scope="module", autouse=True)
def _small_limit() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_writing, "EXACT_LIMIT", LIMIT)
        yield


@pytest.fixture(scope="module")
def approximate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VectorFacts]:
    path = tmp_path_factory.mktemp("approximate") / "vectors.faiss"
    return path, write(path, np.arange(COUNT))[2]


def exact_best(query: NDArray[np.float32], ids: NDArray[np.int64], limit: int = 10) -> set[int]:
    return set(ids[np.argsort(-(vector_of(ids) @ query))[:limit]].tolist())


def recall(index: VectorIndex, queries: NDArray[np.float32], ids: NDArray[np.int64], filtered: bool = False) -> float:
    shares = []
    for query in queries:
        best = exact_best(query, ids)
        found = set(index.search(query, 10, ids if filtered else None)[0].tolist())
        shares.append(len(best & found) / len(best))
    return float(np.mean(shares))


def test_up_to_the_limit_the_index_is_exact(tmp_path: Path) -> None:
    _, _, facts = write(tmp_path / "vectors.faiss", np.arange(LIMIT))
    assert facts == {"kind": "flat"}


def test_beyond_the_limit_it_finds_as_much_as_it_says(approximate: tuple[Path, VectorFacts]) -> None:
    path, facts = approximate
    assert (facts["kind"], facts["nlist"], facts["trained_for"], facts["added"]) == ("ivf-fp16", 128, COUNT, 0)
    assert 8 <= int(facts["nprobe"]) <= 32
    assert float(facts["recall_at_10"]) >= vector_writing.TARGET_RECALL
    index = VectorIndex.read(path)
    assert not index.exact
    assert recall(index, topical(200, seed=5), np.arange(COUNT)) >= 0.97


def test_an_approximate_index_is_the_same_each_time_it_is_built(
    tmp_path: Path, approximate: tuple[Path, VectorFacts]
) -> None:
    write(tmp_path / "vectors.faiss", np.arange(COUNT))
    assert (tmp_path / "vectors.faiss").read_bytes() == approximate[0].read_bytes()


def test_approximate_vectors_are_those_that_went_in_but_for_rounding(approximate: tuple[Path, VectorFacts]) -> None:
    index = VectorIndex.read(approximate[0])
    ids = np.array([6999, 0, 41])
    np.testing.assert_allclose(index.vectors(ids), vector_of(ids), atol=0.001)
    with pytest.raises(IndexingError, match="no vector for a passage"):
        index.vectors(np.array([COUNT]))


@pytest.mark.parametrize("exactly", [vectors.EXACT_ALLOWED, 0])
def test_a_filter_loses_nothing_to_the_lists_left_out(
    approximate: tuple[Path, VectorFacts], exactly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "EXACT_ALLOWED", exactly)
    index = VectorIndex.read(approximate[0])
    queries = topical(40, seed=6)
    everything = np.arange(COUNT)
    for share in (0.0005, 0.01, 0.1, 0.5, 0.9):
        some = np.sort(np.random.default_rng(7).choice(COUNT, int(share * COUNT), replace=False))
        assert recall(index, queries, some, filtered=True) >= 0.97
    for topic, query in enumerate(queries):  # none of the query's own topic
        others = everything[everything * 40 // COUNT != topic]
        assert recall(index, query[np.newaxis], others, filtered=True) >= 0.8
        few = everything[everything * 40 // COUNT == (topic + 20) % 40]
        assert recall(index, query[np.newaxis], few, filtered=True) >= 0.9


def test_allowed_ids_far_apart_are_no_trouble(approximate: tuple[Path, VectorFacts]) -> None:
    index = VectorIndex.read(approximate[0])
    assert set(index.search(TABLE[5], 3, np.array([5, 900, 2**40]))[0].tolist()) == {5, 900}


@pytest.mark.parametrize("count", [LIMIT, COUNT])
def test_threads_share_one_mapped_index(tmp_path: Path, count: int) -> None:
    write(tmp_path / "vectors.faiss", np.arange(count))
    index = VectorIndex.read(tmp_path / "vectors.faiss")
    queries = topical(200, seed=8)
    alone = [index.search(query, 10)[0].tolist() for query in queries]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda query: index.search(query, 10)[0].tolist(), queries))
        rows = list(pool.map(lambda number: index.vectors(np.array([number]))[0], range(200)))
    assert together == alone
    np.testing.assert_allclose(np.stack(rows), TABLE[:200], atol=0.001)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize("count", [LIMIT, COUNT])
def test_one_query_is_scanned_by_the_thread_that_asks(tmp_path: Path, count: int) -> None:
    write(tmp_path / "vectors.faiss", np.arange(count))
    program = f"""
import os, json
from pathlib import Path
import numpy as np
from retrieval.vectors import VectorIndex, load_faiss
load_faiss().omp_set_num_threads(4)
index = VectorIndex.read(Path({str(tmp_path / "vectors.faiss")!r}))
query = np.ones({DIMENSION}, dtype=np.float32)
counts = [len(os.listdir("/proc/self/task"))]
index.search(query, 10)
index.search(query, 10, np.arange(0, {count}, 2))
counts.append(len(os.listdir("/proc/self/task")))
index._index.search(np.tile(query, (64, 1)), 10)
counts.append(len(os.listdir("/proc/self/task")))
print(json.dumps(counts))
"""
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True)
    before, after, batch = json.loads(answer.stdout)
    assert after == before
    assert batch > before  # or else the count would show nothing


def test_an_approximate_mapped_index_is_not_changed_and_a_torn_one_not_read(
    tmp_path: Path, approximate: tuple[Path, VectorFacts]
) -> None:
    index = VectorIndex.read(approximate[0])
    for change in (lambda: index.add(np.array([COUNT]), TABLE[:1]), lambda: index.remove(np.array([1]))):
        with pytest.raises(IndexingError, match="mapped"):
            change()
    torn = tmp_path / "torn.faiss"
    torn.write_bytes(approximate[0].read_bytes()[:-20_000])
    with pytest.raises(IndexingError, match=r"torn\.faiss is missing or damaged"):
        VectorIndex.read(torn)


def test_an_approximate_index_keeps_its_guards(approximate: tuple[Path, VectorFacts]) -> None:
    index = VectorIndex.read(approximate[0], mapped=False)
    with pytest.raises(IndexingError, match="an id was given two vectors"):
        index.add(np.array([3]), TABLE[:1])
    with pytest.raises(IndexingError, match="do not fit"):
        index.add(np.array([COUNT]), TABLE[:1, :8])
    with pytest.raises(IndexingError, match="not finite .passage number 7000"):
        index.add(np.array([COUNT]), np.full((1, DIMENSION), np.nan, dtype=np.float32))
    assert len(index) == COUNT


def test_a_vector_asked_for_is_still_removed(approximate: tuple[Path, VectorFacts]) -> None:
    index = VectorIndex.read(approximate[0], mapped=False)
    assert len(index.vectors(np.array([3]))) == 1
    assert index.remove(np.array([3, COUNT])) == 1
    with pytest.raises(IndexingError, match="no vector for a passage"):
        index.vectors(np.array([3]))
    index.add(np.array([3]), TABLE[:1])
    np.testing.assert_allclose(index.vectors(np.array([3])), TABLE[:1], atol=0.001)


def test_a_vector_that_is_not_finite_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    broken = topical(COUNT)
    broken[4321, 3] = np.inf
    spool = tmp_path / "spool"
    with pytest.raises(IndexingError, match="not finite .passage number 4321"):
        build_vectors([(np.arange(COUNT), broken)], COUNT, DIMENSION, spool)
    assert not spool.exists()


def test_changed_passages_go_and_come_under_their_own_ids(
    tmp_path: Path, approximate: tuple[Path, VectorFacts]
) -> None:
    random = np.random.default_rng(3)
    base, ids, following = approximate, np.arange(COUNT), COUNT
    for step in range(4):
        kept = np.sort(random.choice(ids, len(ids) - 300, replace=False))
        came = np.arange(following, following + 280)
        after = np.concatenate([kept, came])
        path = tmp_path / f"{step}.faiss"
        gone, new, facts = write(path, after, base)
        assert gone == set(ids.tolist()) - set(kept.tolist())
        assert new == set(came.tolist())
        assert facts["added"] == 280 * (step + 1)
        base, ids, following = (path, facts), after, following + 280
    index = VectorIndex.read(base[0])
    for number in random.choice(ids, 100, replace=False):
        assert index.search(TABLE[number], 1)[0].tolist() == [number]
    assert recall(index, topical(100, seed=9), ids) >= 0.96


def test_an_index_that_outgrows_exact_search_is_built_anew(tmp_path: Path) -> None:
    small, large = tmp_path / "small.faiss", tmp_path / "large.faiss"
    facts = write(small, np.arange(LIMIT - 100))[2]
    gone, new, facts = write(large, np.arange(7, COUNT), (small, facts))
    assert (gone, new) == (set(range(7)), set(range(LIMIT - 100, COUNT)))
    assert facts["kind"] == "ivf-fp16"


@pytest.mark.parametrize(
    ("count", "kind", "trained_for"),
    [
        (int(1.9 * COUNT), "ivf-fp16", COUNT),
        (int(2.1 * COUNT), "ivf-fp16", int(2.1 * COUNT)),  # more came than it was trained for
        (int(0.8 * COUNT), "ivf-fp16", COUNT),
        (int(0.74 * COUNT), "ivf-fp16", int(0.74 * COUNT)),  # more than a quarter went
        (int(0.7 * LIMIT), "flat", None),
    ],
)
def test_an_approximate_index_is_kept_while_it_fits(
    tmp_path: Path, approximate: tuple[Path, VectorFacts], count: int, kind: str, trained_for: int | None
) -> None:
    gone, new, facts = write(tmp_path / "vectors.faiss", np.arange(count), approximate)
    assert (facts["kind"], facts.get("trained_for")) == (kind, trained_for)
    assert (len(gone), len(new)) == (max(0, COUNT - count), max(0, count - COUNT))
    index = VectorIndex.read(tmp_path / "vectors.faiss")
    assert recall(index, topical(100, seed=9), np.arange(count)) >= 0.96


def test_about_the_limit_an_index_does_not_go_to_and_fro(tmp_path: Path) -> None:
    path, fewer, few = (tmp_path / f"{name}.faiss" for name in ("first", "fewer", "few"))
    first = (path, write(path, np.arange(LIMIT + 10))[2])
    second = (fewer, write(fewer, np.arange(LIMIT - 10), first)[2])
    assert second[1]["kind"] == "ivf-fp16"
    assert write(few, np.arange(int(0.79 * LIMIT)), second)[2] == {"kind": "flat"}


def test_equal_passages_do_not_count_as_losses(tmp_path: Path) -> None:
    some = topical(COUNT)
    some[::2] = some[np.arange(0, COUNT, 2) // 500]  # half of them repeat a few texts
    _, facts = build_vectors([(np.arange(COUNT), some)], COUNT, DIMENSION, tmp_path / "spool")
    assert facts["kind"] == "ivf-fp16"
    assert facts["recall_at_10"] >= vector_writing.TARGET_RECALL


def test_few_vectors_are_in_memory_at_a_time(tmp_path: Path) -> None:
    alive: list[weakref.ref[NDArray[np.float32]]] = []

    def blocks() -> Blocks:
        for start in range(0, COUNT, 1000):
            block = TABLE[start : start + 1000].copy()
            alive.append(weakref.ref(block))
            yield np.arange(start, start + 1000), block
            del block
            assert sum(reference() is not None for reference in alive) <= 1

    build_vectors(blocks(), COUNT, DIMENSION, tmp_path / "spool")
    assert len(alive) == COUNT // 1000


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2**32 - 1)), min_size=1, max_size=6))
def test_any_run_of_changes_ends_as_a_fresh_build(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    ids, following, base = np.empty(0, dtype=np.int64), 0, None
    for number, (adds, seed) in enumerate(steps):
        kept = ids[np.random.default_rng(seed).random(len(ids)) < 0.7]
        ids = np.concatenate([kept, np.arange(following, following + adds)])
        following += adds
        path = folder / f"{number}.faiss"
        base = (path, write(path, ids, base)[2])
    write(folder / "fresh.faiss", ids)
    assert base is not None
    assert base[0].read_bytes() == (folder / "fresh.faiss").read_bytes()


def test_the_manifest_says_what_kind_the_index_is(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Tea\n\nGreen and black.\n", encoding="utf-8")
    (tmp_path / "shoptalk.toml").write_text('[corpus.docs]\npaths = ["docs"]\n', encoding="utf-8")
    workspace = Workspace.open(tmp_path)
    build_index(workspace, embedder=HashEmbedder())
    assert open_current(workspace.index_dir("docs"), "docs").manifest.vectors == {"kind": "flat"}


class TestGpu:
    """No GPU is needed: FAISS's GPU calls are set in its place."""

    @pytest.fixture
    def flat(self, tmp_path: Path) -> Path:
        VectorIndex.build(np.arange(50), TABLE[:50]).write(tmp_path / "vectors.faiss")
        return tmp_path / "vectors.faiss"

    @pytest.fixture
    def gpus(self, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
        import faiss

        monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
        monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda _r, _n, index: faiss.clone_index(index), raising=False)
        return monkeypatch

    def test_the_reason_is_logged_where_there_is_none(
        self, flat: Path, gpus: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        gpus.setattr("faiss.get_num_gpus", lambda: 0)
        with caplog.at_level(logging.INFO, "retrieval.vectors"):
            VectorIndex.read(flat)
            gpus.delattr("faiss.StandardGpuResources")
            VectorIndex.read(flat)
        assert "is searched by the CPU: FAISS finds no GPU" in caplog.messages[0]
        assert "is searched by the CPU: this FAISS has no GPU part" in caplog.messages[1]

    def test_an_index_that_does_not_fit_stays_on_the_cpu(
        self, flat: Path, gpus: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: object) -> None:
            raise RuntimeError("Error in StandardGpuResources: out of memory")

        gpus.setattr("faiss.index_cpu_to_gpu", full)
        with caplog.at_level(logging.INFO, "retrieval.vectors"):
            index = VectorIndex.read(flat)
        assert "the GPU did not take it (out of memory)" in caplog.text
        assert index.search(TABLE[7], 1)[0].tolist() == [7]

    def test_what_a_gpu_cannot_do_the_cpu_does(self, flat: Path, gpus: pytest.MonkeyPatch) -> None:
        index = VectorIndex.read(flat)
        gpus.setattr(vectors, "_GPU_LIMIT", 5)
        calls: list[int] = []
        copy = index._gpu
        gpus.setattr(
            index, "_gpu", type("Copy", (), {"search": lambda _, q, k: calls.append(k) or copy.search(q, k)})()
        )
        assert index.search(TABLE[7], 1)[0].tolist() == [7]
        assert len(index.search(TABLE[7], 6)[0]) == 6
        assert index.search(TABLE[7], 1, np.array([9]))[0].tolist() == [9]
        assert calls == [1]

    def test_an_approximate_index_stays_on_the_cpu(
        self, approximate: tuple[Path, VectorFacts], gpus: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "retrieval.vectors"):
            VectorIndex.read(approximate[0])
        assert "is searched by the CPU: only exact search is done on a GPU" in caplog.text
