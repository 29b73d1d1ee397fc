from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import IndexingError, ShoptalkError
from retrieval.vectors import VectorIndex

IDS = np.array([10, 20, 30, 40])


def unit(rows: int, dimension: int = 8, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_nearest_come_first_with_their_inner_products() -> None:
    vectors = unit(4)
    ids, scores = VectorIndex.build(IDS, vectors).search(vectors[2], 3)
    order = np.argsort(-(vectors @ vectors[2]))[:3]
    assert ids.tolist() == IDS[order].tolist()
    np.testing.assert_allclose(scores, (vectors @ vectors[2])[order], rtol=1e-5)


def test_only_allowed_ids_are_searched() -> None:
    vectors = unit(4)
    index = VectorIndex.build(IDS, vectors)
    assert set(index.search(vectors[0], 4, np.array([20, 40, 99]))[0].tolist()) == {20, 40}
    assert len(index.search(vectors[0], 4, np.array([], dtype=np.int64))[0]) == 0


def test_fewer_are_returned_where_there_are_fewer() -> None:
    assert len(VectorIndex.build(IDS, unit(4)).search(unit(1)[0], 100)[0]) == 4
    assert len(VectorIndex.empty(8).search(unit(1)[0], 100)[0]) == 0


@pytest.mark.parametrize("mapped", [True, False])
def test_what_is_written_is_read_back(tmp_path: Path, mapped: bool) -> None:
    vectors = unit(4)
    VectorIndex.build(IDS, vectors).write(tmp_path / "vectors.faiss")
    index = VectorIndex.read(tmp_path / "vectors.faiss", mapped=mapped)
    assert (len(index), index.dimension, index.ids.tolist()) == (4, 8, IDS.tolist())
    np.testing.assert_array_equal(index.vectors(np.array([40, 10])), vectors[[3, 0]])
    assert index.search(vectors[1], 1)[0].tolist() == [20]
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.faiss"]


def test_a_file_replaced_under_a_mapped_index_leaves_it_as_it_was(tmp_path: Path) -> None:
    vectors = unit(4)
    VectorIndex.build(IDS, vectors).write(tmp_path / "vectors.faiss")
    index = VectorIndex.read(tmp_path / "vectors.faiss")
    VectorIndex.build(IDS, unit(4, seed=1)).write(tmp_path / "vectors.faiss")
    np.testing.assert_array_equal(index.vectors(IDS), vectors)


def test_ids_stay_when_others_go_and_come() -> None:
    vectors = unit(5)
    index = VectorIndex.build(IDS, vectors[:4])
    assert index.remove(np.array([20, 99])) == 1
    index.add(np.array([50]), vectors[4:])
    for place, number in ((0, 10), (2, 30), (3, 40), (4, 50)):
        assert index.search(vectors[place], 1)[0].tolist() == [number]
    with pytest.raises(IndexingError, match="no vector for a passage"):
        index.vectors(np.array([20]))


@pytest.mark.parametrize("again", [[10], [50, 50], [60, 40]])
def test_an_id_is_not_given_two_vectors(again: list[int]) -> None:
    index = VectorIndex.build(IDS, unit(4))
    with pytest.raises(IndexingError, match="an id was given two vectors"):
        index.add(np.array(again), unit(len(again)))
    assert len(index) == 4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(value: float) -> None:
    vectors = unit(4)
    vectors[2, 3] = value
    with pytest.raises(IndexingError, match="not finite .passage number 30"):
        VectorIndex.build(IDS, vectors)
    with pytest.raises(IndexingError, match="not finite"):
        VectorIndex.build(IDS, unit(4)).search(vectors[2], 1)


def test_another_dimension_is_refused() -> None:
    index = VectorIndex.build(IDS, unit(4))
    with pytest.raises(IndexingError, match="does not fit an index of 8 numbers"):
        index.search(unit(1, 9)[0], 1)
    with pytest.raises(IndexingError, match="do not fit"):
        index.add(np.array([50]), unit(1, 9))


def test_a_mapped_index_is_not_changed(tmp_path: Path) -> None:
    VectorIndex.build(IDS, unit(4)).write(tmp_path / "vectors.faiss")
    index = VectorIndex.read(tmp_path / "vectors.faiss")
    for change in (lambda: index.add(np.array([50]), unit(1)), lambda: index.remove(IDS)):
        with pytest.raises(IndexingError, match="mapped"):
            change()


def test_a_missing_or_torn_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors.faiss"
    with pytest.raises(IndexingError, match=r"vectors\.faiss is missing or damaged .*`shoptalk index --full`"):
        VectorIndex.read(path)
    VectorIndex.build(IDS, unit(4)).write(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(IndexingError, match=r"vectors\.faiss is missing or damaged"):
        VectorIndex.read(path)


def test_without_faiss_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ShoptalkError, match=r"pip install 'shoptalk\[cpu\]'"):
        VectorIndex.empty(8)
