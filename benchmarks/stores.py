"""Is what is found the same wherever the index is? NDCG@10 through each store, and how long a search takes.

    pip install '.[cpu,demo,milvus-lite,qdrant]'
    python benchmarks/stores.py [--set NAME=FOLDER] [--questions 200] [--base REF] [--json]

FOLDER is a data set: ``docs/`` with ``questions-docs/``; without one, the demo corpus. Its passages are indexed in the
workspace, in Qdrant and in Milvus, with the same vectors: in their embedded kinds (exact, one process, slow), or in the
servers that SHOPTALK_TEST_QDRANT_URL and SHOPTALK_TEST_MILVUS_URL name. Each question is asked of all of them in turn.

Figures: STORE.dense, STORE.lexical, STORE.hybrid (NDCG@10), STORE.hybrid_p50_ms.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from retrieval.embedders import load_embedder
from retrieval.indexing import build_index
from retrieval.passages import Passage
from retrieval.search import Mode, SearchEngine, SearchResult
from retrieval.workspace import Workspace
from trainer.demo import BASE_MODEL, write_corpus
from trainer.evaluation import score_ranking
from trainer.questions import Question, Unit, load_questions, unit_of

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
STORES = {
    "local": "",
    "qdrant": os.environ.get("SHOPTALK_TEST_QDRANT_URL", "file:qdrant"),
    "milvus": os.environ.get("SHOPTALK_TEST_MILVUS_URL", "file:milvus.db"),
}
DEPTH = 50


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="shoptalk-stores-") as temporary:
        folder = Path(temporary)
        name, _, place = arguments.set.partition("=")
        if place:
            corpus, asked = Path(place) / "docs", Path(place) / "questions-docs"
        else:
            name = "demo"
            write_corpus(folder / "demo")
            corpus, asked = folder / "demo" / "docs", folder / "demo" / "questions"
        questions = list(load_questions(asked).all[: arguments.questions])
        engines = {store: _engine(folder, store, corpus, arguments.base) for store in STORES}
        embedder = load_embedder("base", Workspace.open(folder / "local"))
        scores, times = _ask(engines, questions, embedder.encode_queries([question.text for question in questions]))
        passages = engines["local"].info().passages
    figures = {f"{store}.{mode}": float(np.mean(scores[store, mode])) for store in STORES for mode in MODES}
    figures |= {f"{store}.hybrid_p50_ms": 1000 * float(np.median(times[store])) for store in STORES}
    if arguments.json:
        setup = {"set": name, "questions": len(questions), "passages": passages, "base": arguments.base}
        json.dump({"figures": figures, "setup": setup | {"stores": STORES}}, sys.stdout, indent=2)
        print()
        return
    print(f"{name}: {passages} passages, {len(questions)} questions, NDCG@10")
    print(f"{'store':8}{'dense':>9}{'lexical':>9}{'hybrid':>9}{'ms a search':>13}")
    for store in STORES:
        values = "".join(f"{figures[f'{store}.{mode}']:9.4f}" for mode in MODES)
        print(f"{store:8}{values}{figures[f'{store}.hybrid_p50_ms']:13.1f}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="", metavar="NAME=FOLDER")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--base", default=BASE_MODEL, metavar="REF")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _engine(folder: Path, store: str, corpus: Path, base: str) -> SearchEngine:
    """The corpus, indexed in a store; vectors that another store's index was made of are not made again."""
    root = folder / store
    file = Workspace.create(root, {"docs": str(corpus)}, base)
    if store != "local":
        with file.open("a", encoding="utf-8") as settings:
            settings.write(f'\n[store]\nkind = "{store}"\nurl = "{STORES[store]}"\nname = "bench{os.getpid()}"\n')
        made = folder / "local" / "indexes" / "docs" / "embeddings"
        (root / "indexes" / "docs").mkdir(parents=True)
        (root / "indexes" / "docs" / "embeddings").symlink_to(made)
    workspace = Workspace.open(root)
    build_index(workspace)
    return SearchEngine(workspace)


def _ask(
    engines: dict[str, SearchEngine], questions: list[Question], vectors: np.ndarray
) -> tuple[dict[tuple[str, Mode], list[float]], dict[str, list[float]]]:
    scores: dict[tuple[str, Mode], list[float]] = {(store, mode): [] for store in engines for mode in MODES}
    times: dict[str, list[float]] = {store: [] for store in engines}
    for question, vector in zip(questions, vectors, strict=True):
        for mode in MODES:
            for store, engine in engines.items():
                begun = time.perf_counter()
                result = engine.search(question.text, mode=mode, top_k=DEPTH, vector=vector)
                if mode == "hybrid":
                    times[store].append(time.perf_counter() - begun)
                scores[store, mode].append(score_ranking(_units(result, question), question.relevant)["ndcg@10"])
    return scores, times


def _units(result: SearchResult, question: Question) -> list[Unit]:
    """The documents or sections found, each where its best passage is."""
    by_section = any("#" in str(unit) for unit in question.relevant)
    found: dict[Unit, None] = {}
    for hit in result.hits:
        passage = Passage(hit.id, hit.document_id, hit.title, hit.heading, hit.text, hit.first_line, hit.last_line)
        found[unit_of(passage, question.relevant, by_section)] = None
    return list(found)


if __name__ == "__main__":
    main()
