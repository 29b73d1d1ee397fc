"""How fast BM25 answers: Shoptalk's lexical index, bm25s and rank-bm25 on the same passages and tokens, in one run.

    pip install '.[cpu,bench]'
    python benchmarks/lexical.py [--json] [--full] [--corpus FOLDER]

100,000 passages and 60 queries (--full: 300). The text is made up by a seeded generator after Zipf's law, or with
--corpus cut from the Markdown, reStructuredText and text files of a folder, halves of passages put together anew
where it has too few. A query is up to seven words of a passage. All three see the words that Shoptalk's tokenizer
finds, tokenize the query as part of answering it, and return ten passages; they take turns query by query. Each works
in one thread on data in memory, and what is counted is processor time: a machine that does other work besides would
otherwise make the fast wait for the slow.

  Shoptalk   LexicalIndex, on disk (tantivy)
  bm25s      its defaults, in memory
  rank-bm25  BM25Okapi's get_scores, in memory, and numpy to find the best ten

Figures: speed_over_rank_bm25 and speed_over_bm25s (of medians), mean_speed_over_… (of means) and wall_speed_over_… (of
medians of elapsed time), index_seconds (ours, with tokenizing), top10_overlap (ours with rank-bm25's), and by engine
p50_ms, mean_ms, wall_p50_ms, index_seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from search import made_up_texts, texts_of

from retrieval.lexical import LexicalIndex
from retrieval.tokens import tokenize

PASSAGES = 100_000
TOP = 10
WARM_UP = 3
LANGUAGE = "english"

Ask = Callable[[str], list[int]]
"""A query in, the places of the best ten passages out."""


def collect(folder: Path | None) -> list[str]:
    if folder is None:
        return list(made_up_texts(PASSAGES))
    texts = list(islice(texts_of(folder), PASSAGES))
    if not texts:
        raise SystemExit(f"{folder} has no text to index")
    random = np.random.default_rng(3)
    real = len(texts)
    for one, other in random.integers(0, real, (PASSAGES - real, 2)).tolist():
        texts.append(texts[one][: len(texts[one]) // 2] + " " + texts[other][len(texts[other]) // 2 :])
    return texts


def questions(texts: Sequence[str], count: int) -> list[str]:
    """Up to seven words each, in order, of twelve that follow each other in some passage."""
    random = np.random.default_rng(5)
    queries = []
    for place in random.integers(0, len(texts), count).tolist():
        words = re.findall(r"\w+", texts[place])
        start = int(random.integers(0, max(1, len(words) - 12)))
        some = words[start : start + 12]
        queries.append(" ".join(some[i] for i in sorted(random.permutation(len(some))[:7])))
    return queries


def index_shoptalk(root: Path, texts: Sequence[str]) -> Ask:
    index = LexicalIndex.create(root / "lexical", LANGUAGE)
    index.add(enumerate(texts))
    index.commit()
    return lambda query: [number for number, _ in index.search(query, TOP)]


def index_bm25s(root: Path, texts: Sequence[str]) -> Ask:
    import bm25s

    index = bm25s.BM25()
    index.index([tokenize(text, LANGUAGE) for text in texts], show_progress=False)

    def ask(query: str) -> list[int]:
        found, scores = index.retrieve([tokenize(query, LANGUAGE)], k=TOP, show_progress=False)
        return [int(number) for number, score in zip(found[0], scores[0], strict=True) if score > 0]

    return ask


def index_rank_bm25(root: Path, texts: Sequence[str]) -> Ask:
    from rank_bm25 import BM25Okapi

    index = BM25Okapi([tokenize(text, LANGUAGE) for text in texts])

    def ask(query: str) -> list[int]:
        scores = index.get_scores(tokenize(query, LANGUAGE))
        best = np.argpartition(-scores, TOP)[:TOP]
        return [int(number) for number in best[np.argsort(-scores[best])] if scores[number] > 0]

    return ask


ENGINES = {"shoptalk": index_shoptalk, "bm25s": index_bm25s, "rank_bm25": index_rank_bm25}


def measure(root: Path, texts: Sequence[str], queries: Sequence[str]) -> dict[str, float]:
    figures: dict[str, float] = {}
    engines: dict[str, Ask] = {}
    for name, build in ENGINES.items():
        begun = time.process_time()
        engines[name] = build(root, texts)
        figures[f"{name}.index_seconds"] = time.process_time() - begun
    times: dict[str, list[float]] = {name: [] for name in ENGINES}
    waits: dict[str, list[float]] = {name: [] for name in ENGINES}
    overlaps = []
    for number, query in enumerate([*queries[:WARM_UP], *queries]):
        found = {}
        for name, ask in engines.items():
            asked, begun = time.perf_counter(), time.process_time()
            found[name] = ask(query)
            if number >= WARM_UP:
                times[name].append(time.process_time() - begun)
                waits[name].append(time.perf_counter() - asked)
        wanted = set(found["rank_bm25"])
        overlaps.append(len(wanted & set(found["shoptalk"])) / len(wanted))
    for name, seconds in times.items():
        figures[f"{name}.p50_ms"] = 1000 * statistics.median(seconds)
        figures[f"{name}.mean_ms"] = 1000 * statistics.fmean(seconds)
        figures[f"{name}.wall_p50_ms"] = 1000 * statistics.median(waits[name])
    for name in ("rank_bm25", "bm25s"):
        figures[f"speed_over_{name}"] = figures[f"{name}.p50_ms"] / figures["shoptalk.p50_ms"]
        figures[f"wall_speed_over_{name}"] = figures[f"{name}.wall_p50_ms"] / figures["shoptalk.wall_p50_ms"]
        figures[f"mean_speed_over_{name}"] = figures[f"{name}.mean_ms"] / figures["shoptalk.mean_ms"]
    figures["index_seconds"] = figures["shoptalk.index_seconds"]
    figures["top10_overlap"] = statistics.fmean(overlaps[WARM_UP:])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true", help="300 queries")
    parser.add_argument("--corpus", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    texts = collect(arguments.corpus)
    queries = questions(texts, 300 if arguments.full else 60)
    with tempfile.TemporaryDirectory(prefix="shoptalk-lexical-") as folder:
        figures = measure(Path(folder), texts, queries)
    if arguments.json:
        setup = {
            "passages": len(texts),
            "queries": len(queries),
            "text": "made up" if arguments.corpus is None else "a folder's",
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("tantivy", "bm25s", "rank-bm25")},
        }
        print(json.dumps({"figures": figures, "setup": setup}))
        return
    print(f"{len(texts):,} passages, {len(queries)} queries\n")
    print(f"{'':<12}{'p50 ms':>10}{'mean ms':>10}{'index s':>10}{'ours, p50':>12}{'ours, mean':>12}")
    for name in ENGINES:
        p50, mean, seconds = (figures[f"{name}.{kind}"] for kind in ("p50_ms", "mean_ms", "index_seconds"))
        ratios = (
            f"{figures[f'{kind}_{name}']:.0f} x" for kind in ("speed_over", "mean_speed_over") if name != "shoptalk"
        )
        print(f"{name:<12}{p50:>10.2f}{mean:>10.2f}{seconds:>10.1f}" + "".join(f"{ratio:>12}" for ratio in ratios))
    wall = ", ".join(f"{figures[f'wall_speed_over_{name}']:.0f} x {name}" for name in ENGINES if name != "shoptalk")
    print(f"\nprocessor time; by elapsed time, medians: {wall}")
    print(f"of rank-bm25's ten best, Shoptalk finds {figures['top10_overlap']:.0%}")


if __name__ == "__main__":
    main()
