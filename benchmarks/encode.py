"""How fast a corpus is encoded, against bare SentenceTransformer.encode, and what int8 costs.

    python benchmarks/encode.py                                  the demo's corpus (pip install '.[cpu,demo,onnx]')
    python benchmarks/encode.py --set NAME=FOLDER [--set …] [--base REF] [--texts 1024] [--full] [--json]

FOLDER is a data set: ``docs/`` with ``questions-docs/`` or ``questions/``. The same passages go through bare
``encode`` (its defaults: float32, batches of 32), through ours, and through ours as int8 (on a CPU), in turns, a few
hundred at a time; a figure is the median of the ratios. Then NDCG@10 by int8 and by torch: all questions of each set,
over the passages with answers and others up to 3,000 (``--full``: over all passages).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.embedders import Embedder, LocalEmbedder, load_embedder, load_local
from retrieval.indexing import passage_limit
from retrieval.passages import Passage
from retrieval.workspace import Workspace
from trainer.demo import BASE_MODEL, write_corpus
from trainer.evaluation import Judge
from trainer.material import gather
from trainer.questions import Question, answerable, load_questions, section_unit

ROUND_TEXTS = 128
WARM_UP = 32
POOL = 3000

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Timing:
    """Wall and CPU seconds of each round, and the unit vectors of all rounds."""

    wall: list[float]
    cpu: list[float]
    vectors: NDArray[np.float32]


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = _arguments()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="shoptalk-encode-") as temporary:
        sets = dict(item.partition("=")[::2] for item in arguments.set) or {"demo": _demo(Path(temporary) / "demo")}
        for name, folder in sets.items():
            root = Path(temporary) / f"{name}-workspace"
            Workspace.create(root, {"corpus": str(Path(folder).resolve() / "docs")}, arguments.base)
            workspace = Workspace.open(root)
            torch_embedder = load_local("base", workspace)
            int8 = _int8(workspace, torch_embedder)
            measured = _measure(arguments, name, folder, workspace, torch_embedder, int8)
            figures |= {f"{name}.{key}": value for key, value in measured.items()}
    for key, choose in (
        ("throughput_over_plain", min),
        ("int8_speedup", min),
        ("int8_ndcg_loss", max),
        ("min_cosine", min),
    ):
        if values := [value for name, value in figures.items() if name.endswith(f".{key}")]:
            figures[key] = choose(values)  # the least favourable set
    if arguments.json:
        packages = ("torch", "sentence-transformers", *(["onnxruntime"] if find_spec("onnxruntime") else []))
        setup = {
            "base": arguments.base,
            "texts": arguments.texts,
            "device": torch_embedder.compute.device,
            "precision": torch_embedder.compute.precision,
            "versions": {name: version(name) for name in packages},
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        }
        json.dump({"figures": figures, "setup": setup}, sys.stdout, indent=2)
        print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--base", default=BASE_MODEL, metavar="REF")
    parser.add_argument("--texts", type=int, default=1024, help="how many passages are timed")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _demo(folder: Path) -> str:
    write_corpus(folder)
    return str(folder)


def _int8(workspace: Workspace, plain: LocalEmbedder) -> Embedder | None:
    """The int8 form, where the comparison means something: on a CPU, with ONNX Runtime installed."""
    if plain.compute.device != "cpu" or find_spec("onnxruntime") is None:
        return None
    settings = workspace.model.model_copy(update={"backend": "onnx-int8"})
    return load_embedder("base", replace(workspace, model=settings))


def _measure(
    arguments: argparse.Namespace,
    name: str,
    folder: str,
    workspace: Workspace,
    embedder: LocalEmbedder,
    int8: Embedder | None,
) -> dict[str, float]:
    material = gather(workspace, "corpus", embedder.count_tokens, passage_limit(workspace, embedder))
    passages = material.passages
    texts = [passage.embedded_text for passage in passages]
    document_prompt = str(embedder.model.prompts.get("document") or "")
    ways: dict[str, Encode] = {
        "SentenceTransformer.encode": lambda some: embedder.model.encode(
            list(some), prompt=document_prompt or None, show_progress_bar=False
        ),
        "ours": embedder.encode_documents,
    }
    if int8 is not None:
        ways["ours, int8"] = int8.encode_documents
    timings = time_in_turns(ways, _evenly(texts, len(texts) if arguments.full else arguments.texts))
    plain, ours = timings["SentenceTransformer.encode"], timings["ours"]
    figures = {
        "throughput_over_plain": _ratio(plain, ours),
        "min_cosine": float((plain.vectors * ours.vectors).sum(axis=1).min()),
    }
    if int8 is not None:
        figures["int8_speedup"] = _ratio(plain, timings["ours, int8"])
        figures["int8_min_cosine"] = float((plain.vectors * timings["ours, int8"].vectors).sum(axis=1).min())
        before, after, asked = _ndcg(arguments, folder, workspace, passages, [embedder, int8])
        figures |= {"ndcg": before, "int8_ndcg": after, "int8_ndcg_loss": before - after}
    if not arguments.json:
        _print(name, embedder, timings, figures)
        if int8 is not None:
            print(f"NDCG@10 of {asked} questions: torch {before:.4f}, int8 {after:.4f}, loss {before - after:+.4f}")
    return figures


def time_in_turns(ways: dict[str, Encode], texts: Sequence[str]) -> dict[str, Timing]:
    """Give the same texts to each way, a round after another; who goes first changes each round."""
    for encode in ways.values():
        encode(texts[:WARM_UP])
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    vectors: dict[str, list[NDArray[np.float32]]] = {name: [] for name in ways}
    names = list(ways)
    for start in range(0, len(texts), ROUND_TEXTS):
        some = texts[start : start + ROUND_TEXTS]
        for name in names:
            began, began_cpu = time.perf_counter(), time.process_time()
            found = np.asarray(ways[name](some), dtype=np.float32)
            wall[name].append(time.perf_counter() - began)
            cpu[name].append(time.process_time() - began_cpu)
            vectors[name].append(found / np.linalg.norm(found, axis=1, keepdims=True))
        names = names[1:] + names[:1]
    return {name: Timing(wall[name], cpu[name], np.concatenate(vectors[name])) for name in ways}


def _ratio(plain: Timing, other: Timing, part: str = "wall") -> float:
    return float(np.median(np.array(getattr(plain, part)) / np.array(getattr(other, part))))


def _evenly(texts: Sequence[str], count: int) -> list[str]:
    places = np.linspace(0, len(texts) - 1, min(count, len(texts))).round().astype(int)
    # In no order of length or place: each round is like the others.
    return [texts[place] for place in np.random.default_rng(13).permutation(places)]


def _ndcg(
    arguments: argparse.Namespace,
    folder: str,
    workspace: Workspace,
    passages: Sequence[Passage],
    embedders: Sequence[Embedder],
) -> tuple[float, float, int]:
    """Mean dense NDCG@10 of each of two embedders, and of how many questions."""
    asked = next(path for name in ("questions-docs", "questions") if (path := Path(folder) / name).is_dir())
    loaded, _ = answerable(load_questions(asked), passages)
    pool = passages if arguments.full else _pool(passages, loaded.all)
    texts = [passage.embedded_text for passage in pool]
    judge = Judge.of(workspace, pool, texts, loaded.all)
    means = []
    for embedder in embedders:
        questions = embedder.encode_queries([question.text for question in loaded.all])
        dense = judge.dense(questions, embedder.encode_documents(texts))
        means.append(float(np.mean(judge.score("dense", dense).ndcg)))
    return means[0], means[1], len(loaded.all)


def _pool(passages: Sequence[Passage], questions: Sequence[Question]) -> list[Passage]:
    """The passages of sections with answers, and others evenly up to `POOL`, in reading order."""
    wanted = {unit for question in questions for unit in question.relevant}
    answers = {place for place, passage in enumerate(passages) if wanted & {passage.document_id, section_unit(passage)}}
    others = [place for place in range(len(passages)) if place not in answers]
    room = max(0, min(len(others), POOL - len(answers)))
    chosen = np.linspace(0, len(others) - 1, room).round().astype(int).tolist() if room else []
    return [passages[place] for place in sorted(answers | {others[place] for place in chosen})]


def _print(name: str, embedder: LocalEmbedder, timings: dict[str, Timing], figures: dict[str, Any]) -> None:
    plain = timings["SentenceTransformer.encode"]
    compute = embedder.compute
    print(f"\n{name}: {len(plain.vectors):,} passages, {embedder.reference} on {compute.device}, in turns\n")
    print(f"{'':28}  {'texts/s':>8}  {'× plain':>8}  {'× CPU time':>10}  {'min cosine':>10}")
    for way, timing in timings.items():
        rate = len(timing.vectors) / sum(timing.wall)
        cosine = (plain.vectors * timing.vectors).sum(axis=1).min()
        print(
            f"{way:28}  {rate:8.1f}  {_ratio(plain, timing):8.2f}  {_ratio(plain, timing, 'cpu'):10.2f}  {cosine:10.5f}"
        )
    print(flush=True)


if __name__ == "__main__":
    main()
