"""How fast an answer is: Shoptalk, Chroma, LanceDB and txtai on the same passages and vectors, in one run.

    pip install '.[cpu,bench]'
    python benchmarks/search.py [--json] [--full] [--corpus FOLDER]

20,000 passages, 384-dimensional vectors, 200 queries (--full: 1,000). The text is made up by a seeded generator after
Zipf's law, or with --corpus cut from the Markdown, reStructuredText and text files of a folder. The vectors lie in
clusters, drawn by the text's checksum. Shoptalk answers from a workspace that ``build_index`` indexed. Each engine is
set up as its documentation shows, told to use one thread where it can be told, and handed the query and its vector:

  Shoptalk  SearchEngine.search, everything at its defaults
  LanceDB   a table with a full-text index, hybrid queries, RRFReranker; it scans the vectors, as advised at this size
  txtai     hybrid and content, an external function that looks the vectors up; its own choice of vector index
  Chroma    a persistent collection; it ranks by vectors only. ``where_document`` filters, which is no hybrid: it is
            timed ("filtered": among the passages that hold the query's longest word) and counts for nothing

The engines take turns query by query, so that whatever else the machine does meets them all. Each answer is ten
passages with their text. The recall@10 of dense search is measured against all inner products.

Figures: hybrid_p50_best_peer_over_ours, dense_recall_at_10 (ours), ENGINE.MODE_p50_ms, ENGINE.dense_recall_at_10.
"""

from __future__ import annotations

import os

# Read when the libraries load. LanceDB warns at each query of a change to come.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", RAYON_NUM_THREADS="1", LANCE_CPU_THREADS="1")
os.environ.setdefault("LANCEDB_LOG", "error")

import argparse
import json
import platform
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import CatalogReader
from retrieval.console import Progress, silent
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.search import Mode, SearchEngine
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

DIMENSION = 384
CLUSTERS = 200
TOP = 10
WARM_UP = 20

Vectors = NDArray[np.float32]
Ask = Callable[[str, Vectors], Sequence[str]]
"""A query and its vector in, the ids of the best ten passages out."""
Table = dict[str, tuple[list[float], list[float]]]
"""By ENGINE.MODE: the seconds each query took, and the share of the ten nearest that it found."""


@dataclass(frozen=True)
class Passages:
    """What every engine is given: ids, texts, and vectors, an array (passages, DIMENSION)."""

    ids: list[str]
    texts: list[str]
    vectors: Vectors


@dataclass(frozen=True)
class Engine:
    """An engine that has indexed the passages, and how to ask it in each mode."""

    name: str
    indexing_s: float
    modes: dict[str, Ask]


class GivenVectors:
    """An embedder by checksum: a text's vector lies near one of ``CLUSTERS`` centres."""

    def __init__(self) -> None:
        self.reference = "given/vectors"
        self.fingerprint = "given"
        self.dimension = DIMENSION
        self.max_tokens = 10_000
        self.gives_tokens = False
        self._centres = np.random.default_rng(7).standard_normal((CLUSTERS, DIMENSION))

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of ``texts``."""
        seeds = [crc32(text.encode()) for text in texts]
        noise = [np.random.default_rng(seed).standard_normal(DIMENSION) for seed in seeds]
        return unit(self._centres[[seed % CLUSTERS for seed in seeds]] + np.stack(noise))

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> Vectors:
        """Return the vectors of ``texts``."""
        return self.encode_queries(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count one token a text, so that a record stays one passage."""
        return [1] * len(texts)


def unit(vectors: NDArray[np.float64]) -> Vectors:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def made_up_texts(count: int) -> Iterator[str]:
    """Yield texts of 40 to 220 made-up words, in sentences; the words' frequencies follow Zipf's law."""
    random = np.random.default_rng(11)
    syllables = [a + b for a in "bcdfghklmnprstvw" for b in ("a", "e", "i", "o", "u", "ar", "en", "il", "os", "un")]
    words = np.array(["".join(random.choice(syllables, length)) for length in random.integers(1, 5, 40_000)])
    share = np.cumsum(1.0 / np.arange(1, len(words) + 1) ** 1.05)
    for length in np.clip(random.lognormal(4.6, 0.4, count), 40, 220).astype(int).tolist():
        text = words[np.searchsorted(share, random.random(length) * share[-1])].tolist()
        sentences = (" ".join(text[start : start + 14]).capitalize() for start in range(0, length, 14))
        yield ". ".join(sentences) + "."


def texts_of(folder: Path) -> Iterator[str]:
    """Yield the texts of a folder, some 800 characters of whole paragraphs at a time, on one line."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".md", ".rst", ".txt")):
        text = ""
        for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
            text = " ".join(f"{text} {paragraph}".split()).lstrip("#>*=-+ ")
            if len(text) >= 800:
                yield text[:2000]
                text = ""
        if text:
            yield text


def questions(passages: Passages, count: int) -> tuple[list[str], Vectors]:
    """Return queries, each a few words of some passage, and for each a vector near that passage's."""
    random = np.random.default_rng(5)
    chosen = random.integers(0, len(passages.ids), count)
    queries = []
    for place in chosen.tolist():
        words = re.findall(r"\w+", passages.texts[place])
        start = int(random.integers(0, max(1, len(words) - 12)))
        some = words[start : start + 12]
        queries.append(" ".join(some[i] for i in sorted(random.permutation(len(some))[:7])))
    noise = random.standard_normal((count, DIMENSION)) / np.sqrt(DIMENSION)
    return queries, unit(passages.vectors[chosen] + 0.5 * noise)


def index_ours(root: Path, texts: Sequence[str]) -> tuple[Engine, Passages]:
    """Index ``texts`` as records; return the engine, and the passages as its index has them."""
    (root / "docs").mkdir(parents=True)
    with (root / "docs" / "records.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(json.dumps({"_id": f"r{number}", "text": text}) + "\n")  # one line: one passage
    Workspace.create(root, {"docs": "docs"}, "given/vectors")
    workspace = Workspace.open(root)
    begun = time.perf_counter()
    build_index(workspace, embedder=GivenVectors())
    seconds = time.perf_counter() - begun
    generation = open_current(workspace.index_dir("docs"), "docs")
    index = VectorIndex.read(generation.vectors_file)
    rows = CatalogReader(generation.catalog_file).passages(index.ids.tolist())
    found = [rows[number].passage for number in index.ids.tolist()]
    passages = Passages(
        ids=[passage.document_id for passage in found],
        texts=[passage.embedded_text for passage in found],
        vectors=index.vectors(index.ids),
    )
    engine = SearchEngine(workspace)

    def asker(mode: Mode) -> Ask:
        def ask(query: str, vector: Vectors) -> list[str]:
            hits = engine.search(query, top_k=TOP, mode=mode, vector=vector).hits
            return [found.document_id for hit in hits for found in (hit, *hit.also)]

        return ask

    return Engine("shoptalk", seconds, {"hybrid": asker("hybrid"), "dense": asker("dense")}), passages


def index_chromadb(root: Path, passages: Passages) -> Engine:
    import chromadb
    from chromadb.config import Settings

    begun = time.perf_counter()
    client = chromadb.PersistentClient(str(root), Settings(anonymized_telemetry=False))
    collection = client.create_collection(
        "passages", embedding_function=None, configuration={"hnsw": {"space": "ip", "num_threads": 1}}
    )
    for start in range(0, len(passages.ids), 5000):
        some = slice(start, start + 5000)
        collection.add(passages.ids[some], embeddings=passages.vectors[some], documents=passages.texts[some])
    seconds = time.perf_counter() - begun

    def ask(vector: Vectors, **where: Any) -> list[str]:
        found = collection.query(query_embeddings=[vector], n_results=TOP, include=["documents", "distances"], **where)
        assert found["documents"]
        return list(found["ids"][0])

    def filtered(query: str, vector: Vectors) -> list[str]:
        return ask(vector, where_document={"$contains": max(query.split(), key=len)})

    return Engine("chromadb", seconds, {"dense": lambda _, vector: ask(vector), "filtered": filtered})


def index_lancedb(root: Path, passages: Passages) -> Engine:
    import lancedb
    import pyarrow
    from lancedb.index import FTS
    from lancedb.rerankers import RRFReranker

    begun = time.perf_counter()
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(passages.vectors.ravel()), DIMENSION)
    rows = pyarrow.table({"id": passages.ids, "text": passages.texts, "vector": vectors})
    table = lancedb.connect(root).create_table("passages", rows)
    table.create_index("text", config=FTS())
    seconds = time.perf_counter() - begun
    reranker = RRFReranker()

    def ids(found: list[dict[str, Any]]) -> list[str]:
        assert all(row["text"] for row in found)
        return [row["id"] for row in found]

    def dense(_: str, vector: Vectors) -> list[str]:
        search = table.search(vector).distance_type("dot").select(["id", "text", "_distance"])
        return ids(search.limit(TOP).to_list())

    def hybrid(query: str, vector: Vectors) -> list[str]:
        search = table.search(query_type="hybrid").vector(vector).text(query).distance_type("dot")
        return ids(search.rerank(reranker).select(["id", "text"]).limit(TOP).to_list())

    return Engine("lancedb", seconds, {"hybrid": hybrid, "dense": dense})


def index_txtai(_: Path, passages: Passages) -> Engine:
    from txtai import Embeddings

    vectors = dict(zip(passages.texts, passages.vectors, strict=True))

    def look_up(texts: Sequence[str]) -> Vectors:
        return np.stack([vectors[text] for text in texts])

    def indexed(hybrid: bool) -> Any:
        embeddings = Embeddings(method="external", transform=look_up, content=True, hybrid=hybrid)
        embeddings.index(zip(passages.ids, passages.texts, strict=True))
        return embeddings

    begun = time.perf_counter()
    both = indexed(True)
    seconds = time.perf_counter() - begun

    def asker(embeddings: Any) -> Ask:
        def ask(query: str, vector: Vectors) -> list[str]:
            vectors[query] = vector
            return [row["id"] for row in embeddings.search(query, TOP) if row["text"]]

        return ask

    return Engine("txtai", seconds, {"hybrid": asker(both), "dense": asker(indexed(False))})


PEERS: dict[str, Callable[[Path, Passages], Engine]] = {
    "chromadb": index_chromadb,
    "lancedb": index_lancedb,
    "txtai": index_txtai,
}


def measure(engines: Sequence[Engine], queries: Sequence[str], vectors: Vectors, exact: list[set[str]]) -> Table:
    """Ask every engine every query, in turns; return seconds and recall by engine and mode."""
    asks = [(f"{engine.name}.{mode}", ask) for engine in engines for mode, ask in engine.modes.items()]
    table: Table = {name: ([], []) for name, _ in asks}
    for turn, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
        first = turn % len(asks)
        for name, ask in asks[first:] + asks[:first]:
            begun = time.perf_counter()
            found = ask(query, vector)
            seconds = time.perf_counter() - begun
            if turn >= WARM_UP:
                table[name][0].append(seconds)
                table[name][1].append(len(exact[turn] & set(found)) / TOP)
    return table


def best(passages: Passages, vectors: Vectors) -> list[set[str]]:
    """Return the ids of the ten nearest passages of each query, by all inner products."""
    nearest = np.argsort(-(vectors @ passages.vectors.T), axis=1)[:, :TOP]
    return [{passages.ids[place] for place in row} for row in nearest.tolist()]


def figures_of(table: Table) -> dict[str, float]:
    figures = {f"{name}_p50_ms": float(np.median(seconds)) * 1e3 for name, (seconds, _) in table.items()}
    peers = [figures[f"{name}_p50_ms"] for name in table if name.endswith(".hybrid") and name != "shoptalk.hybrid"]
    recalls = {f"{name}_recall_at_10": float(np.mean(found)) for name, (_, found) in table.items() if "dense" in name}
    return {
        "hybrid_p50_best_peer_over_ours": min(peers) / figures["shoptalk.hybrid_p50_ms"] if peers else 0.0,
        "dense_recall_at_10": recalls["shoptalk.dense_recall_at_10"],
        **figures,
        **recalls,
    }


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="shoptalk-search-", ignore_cleanup_errors=True) as temporary:
        root = Path(temporary)
        texts = texts_of(arguments.corpus) if arguments.corpus else made_up_texts(arguments.passages)
        # txtai is given vectors by their text: each text once.
        ours, passages = index_ours(root / "workspace", list(dict.fromkeys(islice(texts, arguments.passages))))
        engines = [ours]
        for name, index in PEERS.items():
            if name in arguments.peers:
                engines.append(index(root / name, passages))
        queries, vectors = questions(passages, WARM_UP + (1000 if arguments.full else arguments.queries))
        table = measure(engines, queries, vectors, best(passages, vectors))
    figures = figures_of(table)
    if arguments.json:
        setup = {
            "passages": len(passages.ids),
            "dimension": DIMENSION,
            "queries": len(queries) - WARM_UP,
            "corpus": "made up" if arguments.corpus is None else arguments.corpus.name,
            "indexing_s": {engine.name: round(engine.indexing_s, 2) for engine in engines},
            "versions": {name: version(name) for name in ("faiss-cpu", "tantivy", *arguments.peers)},
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        }
        print(json.dumps({"figures": figures, "setup": setup}))
        return
    print(f"{len(passages.ids):,} passages × {DIMENSION}, {len(queries) - WARM_UP:,} queries, in turns\n")
    print(f"{'':20}  {'p50 ms':>8}  {'p99 ms':>8}  {'QPS':>7}  {'× ours':>7}  {'recall@10':>9}")
    for name, (seconds, found) in table.items():
        mode = name.partition(".")[2]
        ratio = np.median(seconds) / np.median(table[f"shoptalk.{'hybrid' if mode == 'hybrid' else 'dense'}"][0])
        recall = f"{np.mean(found):9.4f}" if mode == "dense" else ""
        print(
            f"{name:20}  {np.median(seconds) * 1e3:8.2f}  {np.percentile(seconds, 99) * 1e3:8.2f}"
            f"  {1 / np.mean(seconds):7.0f}  {ratio:7.1f}  {recall}"
        )
    print("\nindexing: " + ", ".join(f"{engine.name} {engine.indexing_s:.1f} s" for engine in engines))
    print(f"hybrid p50, best peer over ours: {figures['hybrid_p50_best_peer_over_ours']:.1f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, metavar="FOLDER")
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--full", action="store_true", help="1,000 queries")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
