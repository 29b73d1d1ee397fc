from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import IndexingError
from retrieval.shortlist import LEAST_VECTORS
from retrieval.vectors import VectorIndex

DIMENSION = 64
COUNT = LEAST_VECTORS + 1_000


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around 50 topics that are the same for every seed."""
    topics = np.random.default_rng(0).standard_normal((50, DIMENSION))
    random = np.random.default_rng(seed)
    vectors = topics[random.integers(0, 50, count)] + 0.8 * random.standard_normal((count, DIMENSION))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def written(path: Path, vectors: NDArray[np.float32], ids: NDArray[np.int64] | None = None) -> VectorIndex:
    VectorIndex.build(np.arange(len(vectors)) if ids is None else ids, vectors).write(path)
    return VectorIndex.read(path)


def test_the_ten_nearest_are_those_of_a_full_scan_with_their_scores(tmp_path: Path) -> None:
    vectors, queries = clustered(COUNT, 1), clustered(100, 2)
    ids = np.arange(COUNT) * 3 + 7
    index = written(tmp_path / "vectors.faiss", vectors, ids)
    assert (tmp_path / "vectors.shortlist").exists()
    for query in queries:
        found, scores = index.search(query, 10)
        exact = vectors @ query
        assert np.allclose(scores, np.sort(exact)[::-1][:10], atol=1e-5)
        assert np.allclose(exact[(found - 7) // 3], scores, atol=1e-5)


def test_asking_for_everything_returns_everything_in_order(tmp_path: Path) -> None:
    vectors = clustered(COUNT, 1)
    found, scores = written(tmp_path / "vectors.faiss", vectors).search(vectors[0], COUNT)
    assert sorted(found.tolist()) == list(range(COUNT))
    assert (np.diff(scores) <= 0).all()


def test_few_vectors_have_no_shortlist(tmp_path: Path) -> None:
    written(tmp_path / "vectors.faiss", clustered(LEAST_VECTORS - 1, 1))
    assert not (tmp_path / "vectors.shortlist").exists()


def test_an_index_that_grew_has_the_codes_of_one_built_anew(tmp_path: Path) -> None:
    vectors = clustered(COUNT, 1)
    written(tmp_path / "all.faiss", vectors)
    grown = VectorIndex.build(np.arange(COUNT - 500), vectors[:-500])
    grown.write(tmp_path / "grown.faiss")
    grown = VectorIndex.read(tmp_path / "grown.faiss", mapped=False)
    grown.add(np.arange(COUNT - 500, COUNT), vectors[-500:])
    grown.write(tmp_path / "grown.faiss")
    assert (tmp_path / "grown.shortlist").read_bytes() == (tmp_path / "all.shortlist").read_bytes()


def test_an_index_that_shrank_below_the_limit_leaves_no_shortlist_behind(tmp_path: Path) -> None:
    path = tmp_path / "vectors.faiss"
    written(path, clustered(COUNT, 1))
    index = VectorIndex.read(path, mapped=False)
    index.remove(np.arange(2_000))
    index.write(path)
    assert len(VectorIndex.read(path).search(clustered(1, 2)[0], 10)[0]) == 10
    assert not (tmp_path / "vectors.shortlist").exists()


def test_a_damaged_or_foreign_shortlist_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "vectors.faiss", clustered(COUNT, 1))
    written(tmp_path / "other.faiss", clustered(COUNT + 1, 1))
    shortlist = tmp_path / "vectors.shortlist"
    shortlist.write_bytes((tmp_path / "other.shortlist").read_bytes())
    with pytest.raises(IndexingError, match="does not fit"):
        VectorIndex.read(tmp_path / "vectors.faiss")
    shortlist.write_bytes(shortlist.read_bytes()[:1000])
    with pytest.raises(IndexingError, match="shoptalk index --full"):
        VectorIndex.read(tmp_path / "vectors.faiss")
