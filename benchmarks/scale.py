"""Vectors from 10k to 1M: time and memory to build, time to open, recall@10, time of a search on one thread.

    python benchmarks/scale.py [--full] [--json] [--vectors FILE.npy]

10k and 100k passages, with --full 1M too (6 GB of memory and 4 GB of disk free). Each index is built in
one process of its own and asked in another, whose FAISS has one thread.

The vectors are made up, after what sentence encoders give for real passages: a mean shared by all, topics
whose sizes fall as 1/rank, documents of twelve passages around them, and at each level a Gaussian whose
variance falls as a power of the dimension. Two passages have a cosine of about 0.27, a passage and its
nearest 0.79, a question and its nearest 0.69, and 160 of 384 directions hold nine tenths of the variance, much
as in the collections these numbers were read from (0.22 to 0.30, 0.77 to 0.94, 0.60 to 0.70, 120 to 165); uniform
random vectors, which have no near neighbours at all, are a needlessly hard case. The questions are
passages half forgotten: drawn to the mean, with noise of the same spectrum. --vectors asks real ones
instead: an array (passages, dimension) of float32 whose last 300 rows are held out as queries.

Without --full the figures that have no size in their names are those of 100k passages.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from retrieval.vector_writing import build_vectors
from retrieval.vectors import VectorIndex, load_faiss

DIMENSION = 384
QUERIES = 300
SIZES = (10_000, 100_000)
FULL = (*SIZES, 1_000_000)
BLOCK = 16_384
FIGURES = ("recall_at_10", "p50_ms", "open_s", "build_memory_over_vectors")

Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    normal: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return normal


def make(count: int, path: Path) -> Vectors:
    """Write ``count`` vectors to ``path``; return the queries."""
    random = np.random.default_rng(0)
    scale = np.arange(1, DIMENSION + 1) ** -0.5
    scale = (scale / np.sqrt((scale**2).sum())).astype(np.float32)

    def gaussian(rows: int) -> Vectors:
        numbers: Vectors = random.standard_normal((rows, DIMENSION), dtype=np.float32) * scale
        return numbers

    mean = 0.55 * unit(random.standard_normal((1, DIMENSION), dtype=np.float32))
    topics = mean + 0.55 * gaussian(int(count**0.5))
    sizes = 1 / np.arange(1, len(topics) + 1)
    documents = topics[random.choice(len(topics), count // 12 + 1, p=sizes / sizes.sum())]
    documents += 0.5 * gaussian(len(documents))
    queries = []
    with path.open("wb") as file:
        for start in range(0, count, BLOCK):
            rows = min(BLOCK, count - start)
            passages = unit(documents[random.integers(0, len(documents), rows)] + 0.6 * gaussian(rows))
            passages.tofile(file)
            asked = passages[: -(-QUERIES * rows // count)]
            queries.append(0.5 * asked + 0.5 * mean + 0.7 * gaussian(len(asked)))
    return unit(np.concatenate(queries))


def blocks(path: Path, dimension: int) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    start = 0
    with path.open("rb") as file:
        while len(numbers := np.fromfile(file, dtype=np.float32, count=BLOCK * dimension)):
            vectors = numbers.reshape(-1, dimension)
            yield np.arange(start, start + len(vectors)), vectors
            start += len(vectors)


def memory(field: str) -> int:
    """A field of this process's memory in bytes: VmRSS is what it holds, VmHWM the most it ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def build(raw: Path, dimension: int, target: Path) -> dict[str, Any]:
    """Build and write the index of ``raw``; run in a process of its own."""
    load_faiss()
    count = raw.stat().st_size // (4 * dimension)
    before, begun, worked = memory("VmRSS"), time.perf_counter(), time.process_time()
    index, facts = build_vectors(blocks(raw, dimension), count, dimension, target.with_suffix(".spool"))
    index.write(target)
    return {
        **facts,
        "build_s": time.perf_counter() - begun,
        "build_cpu_s": time.process_time() - worked,
        "build_memory_over_vectors": (memory("VmHWM") - before) / raw.stat().st_size,
    }


def ask(index_file: Path, queries_file: Path, found_file: Path) -> dict[str, Any]:
    """Open the index and ask every query, twice, the first time to warm up; run in a process of its own."""
    queries = np.load(queries_file)
    load_faiss().omp_set_num_threads(1)
    begun = time.perf_counter()
    index = VectorIndex.read(index_file)
    opened = time.perf_counter() - begun
    for query in queries:
        index.search(query, 10)
    found, seconds = [], []
    for query in queries:
        begun = time.perf_counter()
        ids, _ = index.search(query, 10)
        seconds.append(time.perf_counter() - begun)
        found.append(ids)
    np.save(found_file, np.stack(found))
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) * 1e3
    return {"open_s": opened, "p50_ms": float(p50), "p99_ms": float(p99)}


def child(*arguments: object, threads: int | None = None) -> dict[str, Any]:
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    command = [sys.executable, __file__, *map(str, arguments)]
    answer: dict[str, Any] = json.loads(
        subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
    )
    return answer


def recall(raw: Path, queries: Vectors, found: NDArray[np.int64]) -> float:
    """The part of the hits that score at least what the exact tenth does (of equal passages any will do)."""
    product = load_faiss().METRIC_INNER_PRODUCT
    from faiss.contrib.exhaustive_search import knn_ground_truth

    exact, _ = knn_ground_truth(queries, (vectors for _, vectors in blocks(raw, queries.shape[1])), 10, product)
    rows = np.memmap(raw, dtype=np.float32, mode="r").reshape(-1, queries.shape[1])
    scores = np.einsum("qd,qnd->qn", queries, rows[found])
    return float((scores >= exact[:, -1:] - 1e-6).mean())


def measure(folder: Path, raw: Path, queries: Vectors) -> dict[str, Any]:
    index, asked, found = folder / "vectors.faiss", folder / "queries.npy", folder / "found.npy"
    np.save(asked, queries)
    built = child("--build", raw, queries.shape[1], index)
    answered = child("--ask", index, asked, found, threads=1)
    return {**built, **answered, "recall_at_10": recall(raw, queries, np.load(found))}


def measured(arguments: argparse.Namespace) -> Iterator[tuple[int, dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw = folder / "vectors.f32"
        if arguments.vectors:
            vectors = np.load(arguments.vectors, mmap_mode="r")
            with raw.open("wb") as file:
                for start in range(0, len(vectors) - QUERIES, BLOCK):
                    stop = min(start + BLOCK, len(vectors) - QUERIES)
                    np.ascontiguousarray(vectors[start:stop], dtype=np.float32).tofile(file)
            queries = np.array(vectors[-QUERIES:], dtype=np.float32)
            yield len(vectors) - QUERIES, measure(folder, raw, queries)
            return
        for size in FULL if arguments.full else SIZES:
            queries = make(size, raw)
            yield size, measure(folder, raw, queries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="1M passages too")
    parser.add_argument("--json", action="store_true", help="one object with figures and setup")
    parser.add_argument("--vectors", type=Path, metavar="FILE.npy", help="ask these vectors instead of made-up ones")
    parser.add_argument("--build", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        raw, dimension, target = arguments.build
        print(json.dumps(build(Path(raw), int(dimension), Path(target))))
        return
    if arguments.ask:
        print(json.dumps(ask(*map(Path, arguments.ask))))
        return
    figures: dict[str, float] = {}
    kinds: dict[str, Any] = {}
    if not arguments.json:
        print("passages  kind      probed     build s  CPU s  memory/vectors  open s  recall@10  p50 ms  p99 ms")
    for size, row in measured(arguments):
        probed = f"{row['nprobe']}/{row['nlist']}" if "nlist" in row else "all"
        kinds[str(size)] = {"kind": row["kind"], "probed": probed}
        for name in (*FIGURES, "p99_ms", "build_s", "build_cpu_s"):
            figures[f"{size}.{name}"] = round(row[name], 5)
        figures |= {name: round(row[name], 5) for name in FIGURES}
        if not arguments.json:
            print(
                f"{size:8}  {row['kind']:8}  {probed:9}  {row['build_s']:7.1f}  {row['build_cpu_s']:5.0f}  "
                f"{row['build_memory_over_vectors']:14.2f}  {row['open_s']:6.3f}  {row['recall_at_10']:9.4f}  "
                f"{row['p50_ms']:6.2f}  {row['p99_ms']:6.2f}",
                flush=True,
            )
    if arguments.json:
        setup = {
            "vectors": arguments.vectors.name if arguments.vectors else "made up",
            "queries": QUERIES,
            "indexes": kinds,
            "faiss": load_faiss().__version__,
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        }
        print(json.dumps({"figures": figures, "setup": setup}))


if __name__ == "__main__":
    main()
