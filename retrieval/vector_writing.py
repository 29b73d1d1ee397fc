"""The vectors of the next generation: grown from the last one's index, or a new one of the kind that fits.

Up to EXACT_LIMIT vectors the index is exact. Beyond, a query probes only the inverted lists nearest
to it (IVF: Sivic and Zisserman 2003; in FAISS: Johnson, Douze and Jégou 2017), and the vectors are
rounded to 16 bits a number. Rounding to 8 costs as much time and, on its own, up to .03 of the recall
(docs/decisions/0004-probes-are-tuned-on-sums-of-passages.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import log2, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.vectors import VectorIndex, load_faiss, refuse_unusable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Blocks", "VectorFacts", "build_vectors", "write_vectors"]

log = logging.getLogger(__name__)

Blocks = Iterable[tuple["NDArray[np.int64]", "NDArray[np.float32]"]]
"""(ids, vectors) after one another; the vectors are arrays (len(ids), dimension)."""
VectorFacts = Mapping[str, str | int | float]
"""What the manifest keeps: ``kind`` and, of an approximate index, ``nlist``, ``nprobe``, ``recall_at_10`` as
measured, how many vectors it was ``trained_for`` and how many were ``added`` since."""

EXACT_LIMIT = 100_000
SHRUNK = 0.8
"""An approximate index becomes exact below this part of EXACT_LIMIT, so that none goes to and fro."""
ROOM_TO_GROW = 1.0
"""How many vectors may come to an approximate index, as a part of those it was trained for, before a new one is
trained. Those that came are counted, not its size: after many changes it may hold none that its lists were made for."""
ROOM_TO_LOSE = 0.25
"""How many may go, likewise: the lists of a topic that is gone are probed in vain."""

TARGET_RECALL = 0.975
"""What ``nprobe`` is tuned to: 0.97 and nearly twice the standard error of a mean over QUERIES."""
LEAST_PROBED = 1 / 16
"""Of all lists; real questions asked of narrow corpora need more than any made-up ones show."""
STEP = 2**0.25
QUERIES = 400
NEIGHBOURS = 10
MIX = 3
PER_LIST = 64
"""Vectors a list to train with; FAISS asks for 39 at least."""
_BLOCK = 16_384
_SEED = 0


def write_vectors(
    path: Path,
    numbers: NDArray[np.int64],
    dimension: int,
    encode: Callable[[NDArray[np.int64]], Blocks],
    base: tuple[Path, VectorFacts] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64], VectorFacts]:
    """Write the index of the passages ``numbers`` to ``path``.

    Args:
        path: a file that is not there yet; beside it the float32 vectors lie for as long as an
            approximate index is built.
        numbers: the passages' numbers, rising.
        dimension: how many numbers a vector has.
        encode: yields the vectors of the passages it is given, block by block.
        base: the file of the last index and its facts, to grow from where that serves.

    Returns:
        The passages that went since ``base``, those that came, and the facts for the manifest.

    Raises:
        IndexingError: the base is damaged, or a vector is unusable.
    """
    import numpy as np

    known = VectorIndex.read(base[0]).ids if base else np.empty(0, dtype=np.int64)
    gone = np.setdiff1d(known, numbers)
    new = np.setdiff1d(numbers, known)
    if base and _can_grow(base[1], len(numbers), len(new)):
        index, facts = VectorIndex.read(base[0], mapped=False), dict(base[1])
        if len(gone):
            index.remove(gone)
        for ids, vectors in encode(new):
            index.add(ids, vectors)
        if not index.exact:
            facts["added"] = int(facts["added"]) + len(new)
    else:
        index, facts = build_vectors(encode(numbers), len(numbers), dimension, path.with_name(path.name + ".spool"))
    index.write(path)
    return gone, new, facts


def _can_grow(facts: VectorFacts, count: int, new: int) -> bool:
    if facts["kind"] == "flat":
        return count <= EXACT_LIMIT
    trained, added = int(facts["trained_for"]), int(facts["added"]) + new
    lost = trained + added - count
    return count > SHRUNK * EXACT_LIMIT and added <= ROOM_TO_GROW * trained and lost <= ROOM_TO_LOSE * trained


def build_vectors(blocks: Blocks, count: int, dimension: int, spool: Path) -> tuple[VectorIndex, dict[str, Any]]:
    """Return the index of the ``count`` vectors that ``blocks`` yields, of the kind that fits, and its facts.

    An approximate index is trained before anything is added, so the vectors pass through the file
    ``spool``: at no time are more of them in memory than the sample to train with and one block.
    """
    if count <= EXACT_LIMIT:
        index = VectorIndex.empty(dimension)
        for ids, vectors in blocks:
            index.add(ids, vectors)
        return index, {"kind": "flat"}
    try:
        ids, sample = _spool(blocks, count, dimension, spool)
        return _build_approximate(ids, sample, spool)
    finally:
        spool.unlink(missing_ok=True)


def _build_approximate(
    ids: NDArray[np.int64], sample: NDArray[np.float32], spool: Path
) -> tuple[VectorIndex, dict[str, Any]]:
    """Train on ``sample``, add what is in ``spool``, and tune."""
    ivf = _train(sample, _lists(len(ids)))
    index = VectorIndex(ivf)
    for start, vectors in _read(spool, ivf.d):
        index.add(ids[start : start + len(vectors)], vectors)
    recall = _tune(ivf, _questions(sample), ids, spool)
    log.info("%d vectors: recall@10 %.3f in %d of %d lists", len(ids), recall, ivf.nprobe, ivf.nlist)
    facts = {"kind": "ivf-fp16", "nlist": ivf.nlist, "nprobe": ivf.nprobe, "recall_at_10": round(recall, 4)}
    return index, {**facts, "trained_for": len(ids), "added": 0}


def _lists(count: int) -> int:
    """Return how many lists ``count`` vectors are cut into: the power of two next to twice the square root."""
    return 1 << round(log2(2 * sqrt(count)))


def _spool(blocks: Blocks, count: int, dimension: int, spool: Path) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Write the vectors to ``spool``; return their ids and a seeded sample to train with."""
    import numpy as np

    size = min(count, PER_LIST * _lists(count))
    places = np.sort(np.random.default_rng(_SEED).choice(count, size, replace=False))
    sample = np.empty((size, dimension), dtype=np.float32)
    seen: list[NDArray[np.int64]] = []
    start = 0
    with spool.open("wb") as file:
        for ids, vectors in blocks:
            refuse_unusable(ids, vectors, dimension)
            np.ascontiguousarray(vectors, dtype=np.float32).tofile(file)
            first, last = np.searchsorted(places, (start, start + len(ids)))
            sample[first:last] = vectors[places[first:last] - start]
            seen.append(ids)
            start += len(ids)
    return np.concatenate(seen), sample


def _read(spool: Path, dimension: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the place of the first vector and the vectors, block by block."""
    import numpy as np

    start = 0
    with spool.open("rb") as file:
        while len(numbers := np.fromfile(file, dtype=np.float32, count=_BLOCK * dimension)):
            vectors = numbers.reshape(-1, dimension)
            yield start, vectors
            start += len(vectors)


def _train(sample: NDArray[np.float32], nlist: int) -> Any:
    """Return FAISS's index with its lists' centroids, by spherical k-means from a fixed seed, and no vectors."""
    faiss = load_faiss()
    dimension = sample.shape[1]
    ivf = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dimension), dimension, nlist, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    ivf.train(sample)
    return ivf


def _questions(sample: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return QUERIES vectors that lie to the passages as questions do: sums of three of them.

    A question is shorter and vaguer than a passage and lies between several. Passages held out, or
    with noise, find their neighbours in far fewer lists than real questions do, and ``nprobe``
    tuned on them is up to eight times too small (docs/decisions/0004-probes-are-tuned-on-sums-of-passages.md).
    """
    import numpy as np

    picked = np.random.default_rng(_SEED).choice(len(sample), (QUERIES, MIX))
    total: NDArray[np.float32] = sample[picked].sum(axis=1)
    return total


def _worst_scores(queries: NDArray[np.float32], spool: Path, dimension: int) -> NDArray[np.float32]:
    """Return the exact score of each query's tenth neighbour."""
    from faiss.contrib.exhaustive_search import knn_ground_truth

    blocks = (vectors for _, vectors in _read(spool, dimension))
    scores, _ = knn_ground_truth(queries, blocks, NEIGHBOURS, load_faiss().METRIC_INNER_PRODUCT)
    worst: NDArray[np.float32] = scores[:, -1]
    return worst


def _tune(ivf: Any, queries: NDArray[np.float32], ids: NDArray[np.int64], spool: Path) -> float:
    """Set ``ivf.nprobe`` to the least of a rising series that reaches TARGET_RECALL; return the recall there.

    A hit counts when its exact score is at least the tenth best: of passages with one text, which
    tie, any will do.
    """
    import numpy as np

    worst = _worst_scores(queries, spool, ivf.d)[:, np.newaxis]
    rows = np.memmap(spool, dtype=np.float32, mode="r", shape=(len(ids), ivf.d))
    order = np.argsort(ids)
    probes = LEAST_PROBED * ivf.nlist
    while True:
        ivf.nprobe = min(ivf.nlist, round(probes))
        _, found = ivf.search(queries, NEIGHBOURS)
        places = order[np.searchsorted(ids, found, sorter=order).clip(max=len(ids) - 1)]
        scores = np.einsum("qd,qnd->qn", queries, rows[places])
        recall = float(((scores >= worst - 1e-5 * np.abs(worst)) & (found >= 0)).mean())
        if recall >= TARGET_RECALL or ivf.nprobe == ivf.nlist:
            return recall
        probes *= STEP
