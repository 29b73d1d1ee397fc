"""What an index of so many passages takes: memory, disk, nodes, shards, money, and hours to embed it.

    pip install '.[cpu]' && python benchmarks/scale_model.py [--passages N] [--dimension D] [--json] …

Arithmetic, but for one measurement: what a passage takes beside its vector (text, words, catalogue) is read off an
index, that of `-w WORKSPACE` or else of a made-up corpus of 1,000 documents that is built here in seconds (words of
English lengths, drawn by Zipf's law). Everything else is assumed: the constants below, each with its reason, and the
prices and rates, which are examples (on-demand, mid-2026, US dollars) to be replaced by your own with the flags.

The three stores, per passage of dimension d with w different words:

- local: vectors in 16 bits (2d + 8), words and catalogue as measured, all mapped from disk; memory is what should
  stay in the page cache, vectors and words.
- qdrant: in memory 1 byte a number (int8) and the graph, sparse postings, the indexes of the payload, ids; on disk the
  vectors in 32 bits and the payload. qdrant-float32 (store.quantize = false) holds 4 bytes a number in memory.
- milvus: in memory 4 bytes a number, the graph, sparse postings; columns are mapped from disk.

A change of model or of passage settings builds a second collection beside the live one: `--spare` counts that in.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from retrieval.catalog import CatalogReader
from retrieval.generation import CATALOG, LEXICAL, open_current
from retrieval.late_interaction import CODES
from retrieval.tokens import tokenize
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GB = 1e9
HOURS_A_MONTH = 730

GRAPH = 2 * 16 * 4 * (1 + 1 / 30)
"""Bytes of a passage's links: HNSW with m = 16 has 2m links of 4 bytes each at its lowest level and m for one in m
of the passages at each level above (Malkov and Yashunin 2018; m = 16 is Qdrant's default)."""
POSTING = 12
"""Bytes of one word of one passage in a sparse index: passage, weight, and the largest weight after it."""
STORED_WORD = 8
"""Bytes of one word of one sparse vector as it is kept."""
INDEXED = 7 * 24
"""Bytes of the payload's indexes: born, died, position, document and three folders, each a value and two references."""
IDENTITY = 32
"""Bytes of a point's id, both ways, and of its version."""
HEADROOM = 1.25
"""For segments that are being merged, and for fragments. With graph and ids beside it, float32 vectors then come
within a seventh of Qdrant's rule of thumb, 1.5 times the vectors."""
USABLE = 0.8
"""How much of a node's memory the database may take; the rest is the system's and the page cache's."""
LARGEST_SHARD = 20_000_000
"""Passages; a shard is moved and mended as a whole."""
LOCAL_LIMIT = 20_000_000
"""Passages on one machine; beyond, the local store is not a plan."""
SHARE_OF_PEAK = 0.2
"""How much of a GPU's peak encoding gets: short texts, padding, tokenizing."""
TOKENIZED = 1e6
"""Tokens a second that the rest of a GPU's machine keeps up with; small models wait for it."""
PARAMETERS = {384: 10.6e6, 768: 85e6, 1024: 302e6}
"""Weights that every token is multiplied with, embeddings left out: MiniLM-L6, BERT-base, BERT-large."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes a passage beside its vector. ``words``: how many different ones it has; ``tokens``: of the embedder."""

    passages: int
    tokens: float
    words: float
    payload: float
    catalog: float
    lexical: float
    kept_beside_vector: float


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes a passage. ``shared``: copies in memory all read one disk, or one object storage."""

    memory: float
    disk: float
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the database. Prices in dollars: an hour of it, and a month of a GB of disk."""

    memory_gb: float = 64.0
    price: float = 0.50
    disk_price: float = 0.10


@dataclass(frozen=True, slots=True)
class Gpu:
    """Dense half-precision operations a second as the vendor states them, and dollars an hour."""

    peak: float
    price: float


NODE = Node()
GPUS = {"T4": Gpu(65e12, 0.50), "L4": Gpu(121e12, 0.80), "A100": Gpu(312e12, 1.50), "H100": Gpu(989e12, 3.00)}


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a collection takes, all copies counted."""

    memory_gb: float
    disk_gb: float
    nodes: int
    shards: int
    dollars_a_month: float


def local(measured: Measured, dimension: int) -> Need:
    """The index in the workspace, beyond 100,000 passages; what was encoded lies beside it for the next run.

    Both have a bit for each number of each token's vector, of which a search reads thirty passages' from the disk.
    """
    searched = 2 * dimension + 8 + measured.lexical
    kept = 4 * dimension + measured.kept_beside_vector
    return Need(searched, searched + measured.catalog + kept + 2 * measured.tokens * dimension / 8)


def qdrant(measured: Measured, dimension: int, *, quantize: bool = True) -> Need:
    """A point of a Qdrant collection as Shoptalk makes it."""
    fixed = GRAPH + POSTING * measured.words + INDEXED + IDENTITY
    memory = (dimension + 4 if quantize else 4 * dimension) + fixed
    disk = 4 * dimension + (dimension + 4 if quantize else 0) + fixed + STORED_WORD * measured.words + measured.payload
    return Need(HEADROOM * memory, HEADROOM * disk)


def milvus(measured: Measured, dimension: int) -> Need:
    """A row of a Milvus collection as Shoptalk makes it, its columns mapped from disk."""
    memory = 4 * dimension + GRAPH + POSTING * measured.words + IDENTITY
    # Twice the words: as text for the analyzer, and as what it made of them.
    disk = memory + 4 * dimension + 2 * STORED_WORD * measured.words + measured.payload
    return Need(HEADROOM * memory, HEADROOM * disk, shared=True)


STORES = {
    "local": local,
    "qdrant": qdrant,
    "qdrant-float32": lambda measured, dimension: qdrant(measured, dimension, quantize=False),
    "milvus": milvus,
}


def cluster(need: Need, passages: int, node: Node, copies: int, *, spare: bool = False) -> Cluster:
    """Nodes and shards for ``passages``, each kept ``copies`` times; ``spare``: and for a second collection beside it.

    Every copy of a shard is on another node, and with copies there are three nodes at least, for a majority.
    """
    collections = 2 if spare else 1
    memory = need.memory * passages * collections * copies / GB
    disk = need.disk * passages * collections * (1 if need.shared else copies) / GB
    nodes = max(math.ceil(memory / (node.memory_gb * USABLE)), 3 if copies > 1 else 1, copies)
    # As many as spread evenly over the nodes, and more where they would be too large.
    even = nodes // math.gcd(nodes, copies)
    shards = even * max(1, math.ceil(passages / LARGEST_SHARD / even))
    dollars = nodes * node.price * HOURS_A_MONTH + disk * node.disk_price
    return Cluster(memory, disk, nodes, shards, dollars)


def passages_per_second(gpu: Gpu, dimension: int, tokens: float) -> float:
    """What SHARE_OF_PEAK of a GPU gives, at two operations a weight and token, and TOKENIZED at most."""
    known = min(PARAMETERS, key=lambda known: abs(known - dimension))
    return min(SHARE_OF_PEAK * gpu.peak / (2 * PARAMETERS[known]), TOKENIZED) / tokens


def embedding_hours(passages: int, rate: float, gpus: int = 1) -> float:
    """Hours that ``gpus`` need at ``rate`` passages a second each, if nothing keeps them waiting."""
    return passages / (rate * gpus) / 3600


class MadeUp:
    """An embedder of random vectors, which count for nothing here; 4 tokens for 3 words, as in English."""

    reference = "made/up"
    fingerprint = "0" * 64
    dimension = 64
    max_tokens = 512
    gives_tokens = False

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), 64), rows of length 1."""
        import numpy as np

        vectors = np.random.default_rng(len(texts)).standard_normal((len(texts), self.dimension), dtype=np.float32)
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def encode_documents(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        """Return an array (len(texts), 64), rows of length 1."""
        return self.encode_queries(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text would have."""
        return [math.ceil(len(text.split()) * 4 / 3) for text in texts]


def write_corpus(folder: Path, documents: int) -> None:
    """Write made-up prose: 40,000 words of two to twelve letters, the n-th drawn 1/n as often as the first."""
    chance = random.Random(7)
    words = ["".join(chance.choices("etaoinshrdlcumwfgypb", k=chance.randint(2, 12))) for _ in range(40_000)]
    weights = [1 / (place + 1) for place in range(len(words))]
    for number in range(documents):
        sections = []
        for _ in range(3):
            heading, text = chance.choices(words, weights, k=4), chance.choices(words, weights, k=300)
            sentences = [" ".join(text[start : start + 15]) + "." for start in range(0, len(text), 15)]
            sections.append(f"## {' '.join(heading)}\n\n{' '.join(sentences)}\n")
        file = folder / f"{number // 100:02}" / f"{number}.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"# Document {number}\n\n" + "\n".join(sections), encoding="utf-8")


def measure(workspace: Workspace, corpus: str = "") -> Measured:
    """Read what a passage takes off the live index of a corpus; texts are looked at in a sample of some 2,000."""
    name = workspace.corpus_name(corpus)
    generation = open_current(workspace.index_dir(name), name)
    count, folder = generation.manifest.passages, generation.folder
    catalog = CatalogReader(generation.catalog_file)
    numbers = catalog.numbers_under("").tolist()
    rows = list(catalog.passages(numbers[:: max(1, len(numbers) // 2000)]).values())
    texts = [row.passage.embedded_text for row in rows]
    caches = list((workspace.index_dir(name) / "embeddings").glob("*.sqlite"))
    kept = max((file.stat().st_size for file in caches), default=0)
    codes = generation.manifest.files.get(CODES, (0, ""))[0]
    return Measured(
        passages=count,
        tokens=sum(len(text.split()) for text in texts) * 4 / 3 / len(rows),
        words=sum(len(set(tokenize(text, generation.manifest.language))) for text in texts) / len(rows),
        payload=sum(len(json.dumps(asdict(row)).encode()) for row in rows) / len(rows),
        catalog=(folder / CATALOG).stat().st_size / count,
        lexical=sum(file.stat().st_size for file in (folder / LEXICAL).rglob("*") if file.is_file()) / count,
        kept_beside_vector=max(0.0, (kept - codes) / count - 4 * generation.manifest.dimension),
    )


def calibrate(documents: int = 1_000) -> Measured:
    """Build the index of a made-up corpus in the local store and measure it."""
    from retrieval.indexing import build_index

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "docs").mkdir()
        write_corpus(root / "docs", documents)
        Workspace.create(root, {"docs": "docs"}, MadeUp.reference)
        workspace = Workspace.open(root, {})
        build_index(workspace, embedder=MadeUp())
        return measure(workspace)


def rates(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    return name, float(rate)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--passages", type=int, nargs="+", default=[10_000_000, 100_000_000, 1_000_000_000], metavar="N")
    add("--dimension", type=int, nargs="+", default=[384, 768, 1024], metavar="D")
    add("--copies", type=int, default=2, help="of each shard (store.replicas); 2")
    add("--spare", action="store_true", help="room for the collection of the next model beside the live one")
    add("--node-gb", type=float, default=NODE.memory_gb, help="memory of a database node; 64")
    add("--node-price", type=float, default=NODE.price, help="dollars an hour; 0.50")
    add("--disk-price", type=float, default=NODE.disk_price, help="dollars a GB and month; 0.10")
    add("--rate", type=rates, action="append", default=[], metavar="GPU=N", help="passages a second, as you measured")
    add("-w", "--workspace", type=Path, help="measure the index of this workspace in place of a made-up one")
    add("--corpus", default="", help="which corpus of it")
    add("--json", action="store_true", help="one object with figures and setup")
    return parser.parse_args()


def main() -> None:
    asked = parsed()
    measured = measure(Workspace.open(asked.workspace), asked.corpus) if asked.workspace else calibrate()
    node = Node(asked.node_gb, asked.node_price, asked.disk_price)
    figures = {f"bytes_a_passage.{name}": round(value, 1) for name, value in asdict(measured).items()}
    lines = [f"measured on {measured.passages:,} passages, bytes each: payload {measured.payload:.0f}, catalogue "]
    lines[0] += f"{measured.catalog:.0f}, lexical {measured.lexical:.0f}; {measured.words:.0f} different words"
    lines += ["", "     passages   dim  store           memory GB  disk GB  nodes  shards  $ a month"]
    for passages in asked.passages:
        for dimension in asked.dimension:
            for store, needed in STORES.items():
                need = needed(measured, dimension)
                if store == "local" and passages > LOCAL_LIMIT:
                    continue
                if store == "local":  # one machine, which has no copies
                    found = Cluster(need.memory * passages / GB, need.disk * passages / GB, 1, 1, math.nan)
                else:
                    found = cluster(need, passages, node, asked.copies, spare=asked.spare)
                for name, value in asdict(found).items():
                    if not math.isnan(value):
                        figures[f"{passages}.{dimension}.{store}.{name}"] = round(value, 2)
                dollars = "" if math.isnan(found.dollars_a_month) else f"{found.dollars_a_month:9,.0f}"
                lines.append(
                    f"{passages:13,}  {dimension:4}  {store:14}  {found.memory_gb:9,.1f}  {found.disk_gb:7,.0f}  "
                    f"{found.nodes:5}  {found.shards:6}  {dollars}"
                )
    lines += ["", "GPU    dim  passages/s  hours for 10M  $ for 10M   (20 % of its peak, unless --rate says)"]
    known = dict(asked.rate)
    for name, gpu in GPUS.items():
        for dimension in asked.dimension:
            rate = known.get(name) or passages_per_second(gpu, dimension, measured.tokens)
            hours = embedding_hours(10_000_000, rate)
            figures[f"{name}.{dimension}.passages_per_s"] = round(rate)
            figures[f"{name}.{dimension}.hours_10m"] = round(hours, 2)
            lines.append(f"{name:5} {dimension:4}  {rate:10,.0f}  {hours:13.1f}  {hours * gpu.price:9.2f}")
    if asked.json:
        setup = {"node": asdict(node), "copies": asked.copies, "spare": asked.spare, "rates": known}
        setup |= {"gpus": {name: asdict(gpu) for name, gpu in GPUS.items()}, "share_of_peak": SHARE_OF_PEAK}
        setup |= {"measured_on": "a workspace" if asked.workspace else "made up", "cpus": os.cpu_count()}
        print(json.dumps({"figures": figures, "setup": {**setup, "python": platform.python_version()}}))
        return
    print("\n".join(lines))


if __name__ == "__main__":
    main()
