"""What comparing tokens, and names, gives hybrid search, and what it costs, with an untuned model.

    pip install '.[cpu,demo]'
    python benchmarks/late_interaction.py [--set NAME=FOLDER …] [--questions 150] [--base REF] [--json]

FOLDER is a data set: ``docs/`` with ``questions-docs/``; without one, the demo corpus. NDCG@10 is of the dev
questions, with and without the comparison, each at the weight of BM25 that is best on them: direction, not proof,
which is for `benchmarks/quality.py`. Names are compared beside the tokens. Both ways of searching answer each question
in turn, the query's encoding included.

Figures, of each set: SET.dense, SET.hybrid, SET.with_tokens (NDCG@10), SET.gain with SET.ci_low and SET.ci_high,
SET.added_p50_ms (the median of the differences), SET.codes_over_vectors (bytes), SET.encoding_over_plain (seconds, in
turns); SET.with_names, SET.names_gain with SET.names_ci_low and SET.names_ci_high over with_tokens,
SET.names_added_p50_ms.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from retrieval.embedders import LocalEmbedder, load_local
from retrieval.errors import ModelError
from retrieval.generation import open_current
from retrieval.indexing import build_index, passage_limit
from retrieval.late_interaction import CODES
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace
from trainer.demo import BASE_MODEL, write_corpus
from trainer.evaluation import Candidates, Judge, choose_weight
from trainer.material import gather
from trainer.questions import by_answers, load_questions
from trainer.ranking import rank
from trainer.statistics import compare

ENCODED = 256
ROUND = 32


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = _arguments()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="shoptalk-tokens-") as temporary:
        sets = dict(item.partition("=")[::2] for item in arguments.set)
        if not sets:
            write_corpus(Path(temporary) / "demo")
            sets = {"demo": str(Path(temporary) / "demo")}
        for name, folder in sets.items():
            found = _measure(Path(temporary) / f"{name}-workspace", Path(folder), arguments)
            figures |= {f"{name}.{figure}": value for figure, value in found.items()}
            if not arguments.json:
                print(_told(name, found), flush=True)
    if arguments.json:
        json.dump({"figures": figures, "setup": {"base": arguments.base, "questions": arguments.questions}}, sys.stdout)
        print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--questions", type=int, default=150, help="searched for to take the time; 150")
    parser.add_argument("--base", default=BASE_MODEL, metavar="REF")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _measure(root: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    questions = next(path for name in ("questions-docs", "questions") if (path := folder / name).is_dir())
    Workspace.create(root, {"corpus": str(folder / "docs")}, arguments.base)
    workspace = Workspace.open(root)
    embedder = load_local("base", workspace)
    if not embedder.gives_tokens:
        raise ModelError(f"{arguments.base} tells no tokens' vectors: its vectors are no means of them")
    build_index(workspace, embedder=embedder)
    dev = load_questions(questions).dev
    material = gather(workspace, "corpus", embedder.count_tokens, passage_limit(workspace, embedder))
    texts = [passage.embedded_text for passage in material.passages]
    judge = Judge.of(workspace, material.passages, texts, dev)
    ranked = rank(judge, workspace, "corpus", embedder, texts)
    with_names = ranked.candidates
    without, with_tokens = Candidates(with_names.found), replace(with_names, nearer=None)
    before, after, last = (
        judge.score("hybrid", some, choose_weight(judge, some)[0]) for some in (without, with_tokens, with_names)
    )
    answers = by_answers(dev)
    change, by_names = compare(before.ndcg, after.ndcg, answers), compare(after.ndcg, last.ndcg, answers)
    asked = [question.text for question in dev[: arguments.questions]]
    files = open_current(workspace.index_dir("corpus"), "corpus").manifest.files
    return {
        "dense": judge.score("dense", without).means()["ndcg@10"],
        "hybrid": change.before,
        "with_tokens": change.after,
        "gain": change.mean,
        "ci_low": change.low,
        "ci_high": change.high,
        "added_p50_ms": 1000 * _added(workspace, "late_interaction", asked),
        "codes_over_vectors": files[CODES][0] / ranked.vectors.nbytes,
        "encoding_over_plain": _encoding(embedder, texts),
        "with_names": by_names.after,
        "names_gain": by_names.mean,
        "names_ci_low": by_names.low,
        "names_ci_high": by_names.high,
        "names_added_p50_ms": 1000 * _added(workspace, "names", asked),
    }


def _added(workspace: Workspace, setting: str, questions: Sequence[str]) -> float:
    """The median of what a setting of search adds to one, in seconds."""
    plain = replace(workspace, search=workspace.search.model_copy(update={setting: False}))
    engines = [SearchEngine(plain), SearchEngine(workspace)]
    for engine in engines:
        engine.load()
        engine.search(questions[0])
    differences = []
    for turn, question in enumerate(questions):
        taken = [0.0, 0.0]
        for side in (0, 1) if turn % 2 else (1, 0):
            begun = time.perf_counter()
            engines[side].search(question)
            taken[side] = time.perf_counter() - begun
        differences.append(taken[1] - taken[0])
    return float(np.median(differences))


def _encoding(embedder: LocalEmbedder, texts: Sequence[str]) -> float:
    """How long encoding takes with tokens, over without: the median of rounds in turns."""
    places = np.random.default_rng(13).permutation(len(texts))[:ENCODED]
    ratios = []
    for start in range(0, len(places), ROUND):
        some = [texts[place] for place in places[start : start + ROUND]]
        begun = time.perf_counter()
        embedder.encode_documents(some)
        between = time.perf_counter()
        embedder.encode_documents_and_tokens(some)
        ratios.append((time.perf_counter() - between) / (between - begun))
    return float(np.median(ratios))


def _told(name: str, found: dict[str, float]) -> str:
    return (
        f"{name}: NDCG@10 dense {found['dense']:.3f}, hybrid {found['hybrid']:.3f}, with tokens "
        f"{found['with_tokens']:.3f}, {found['gain']:+.3f} [{found['ci_low']:+.3f}, {found['ci_high']:+.3f}]; "
        f"{found['added_p50_ms']:.1f} ms a search, {found['codes_over_vectors']:.1f} times the vectors' bytes, "
        f"{found['encoding_over_plain']:.2f} times the time of encoding; with names {found['with_names']:.3f}, "
        f"{found['names_gain']:+.3f} [{found['names_ci_low']:+.3f}, {found['names_ci_high']:+.3f}], "
        f"{found['names_added_p50_ms']:.1f} ms"
    )


if __name__ == "__main__":
    main()
