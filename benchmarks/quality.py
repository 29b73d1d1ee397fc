"""Does tuning help? Recipes judged on labelled sets, base model against tuned, on test questions.

    python benchmarks/quality.py                                   the demo's corpus, recipe structure
    python benchmarks/quality.py --set NAME=FOLDER [--set …] [--recipe seed --recipe structure] [--json]

FOLDER is a data set: either ``docs/`` with ``questions-docs/`` (or ``questions/``), or ``corpus.jsonl`` with
``queries.jsonl`` and ``qrels.tsv``; with both, ``--form docs|records`` chooses (default: docs). Pairs are mined from
the documents alone; the questions' dev part makes every choice; their test part is scored once a run. ``--seeds 3``
runs each recipe with several seeds and prints the mean gain as well. ``--max-pairs`` bounds the dose on slow machines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from retrieval.workspace import Workspace
from trainer.demo import BASE_MODEL, write_corpus
from trainer.recipes import RECIPES, find_recipe
from trainer.report import result_lines
from trainer.tune import TuneReport, tune


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = _arguments()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="shoptalk-quality-") as temporary:
        if arguments.max_pairs:
            os.environ["SHOPTALK_TRAINER_MAX_PAIRS"] = str(arguments.max_pairs)
        sets = dict(item.partition("=")[::2] for item in arguments.set) or {"demo": _demo(Path(temporary) / "demo")}
        for name, folder in sets.items():
            corpus, questions = _parts(Path(folder), arguments.form)
            root = Path(temporary) / name
            Workspace.create(root, {"corpus": str(corpus)}, arguments.base)
            workspace = Workspace.open(root)
            for recipe in arguments.recipe or ["structure"]:
                reports = [
                    tune(workspace, "corpus", find_recipe(recipe), questions=questions, seed=seed, promote=False)
                    for seed in range(13, 13 + arguments.seeds)
                ]
                figures |= _figures(f"{name}.{recipe}", reports)
                if not arguments.json:
                    _print(name, recipe, reports)
    if arguments.json:
        setup = {
            "base": arguments.base,
            "form": arguments.form,
            "seeds": arguments.seeds,
            "max_pairs": arguments.max_pairs,
        }
        json.dump({"figures": figures, "setup": setup}, sys.stdout, indent=2)
        print()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--recipe", action="append", choices=list(RECIPES))
    parser.add_argument("--form", choices=["docs", "records"], default="docs")
    parser.add_argument("--base", default=BASE_MODEL, metavar="REF")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-pairs", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _demo(folder: Path) -> str:
    write_corpus(folder)
    return str(folder)


def _parts(folder: Path, form: str) -> tuple[Path, Path]:
    """The corpus and the questions of a data set."""
    if form == "records":
        return folder / "corpus.jsonl", folder
    questions = folder / "questions-docs"
    return folder / "docs", questions if questions.is_dir() else folder / "questions"


def _figures(name: str, reports: list[TuneReport]) -> dict[str, float]:
    count = len(reports)
    return {
        f"{name}.base_dense": reports[0].outcome.dense.before,
        f"{name}.base_lexical": reports[0].outcome.rows[0].means["ndcg@10"],
        f"{name}.base_hybrid": reports[0].outcome.rows[2].means["ndcg@10"],
        f"{name}.dense_gain": sum(report.outcome.dense.mean for report in reports) / count,
        f"{name}.ci_low": sum(report.outcome.dense.low for report in reports) / count,
        f"{name}.ci_high": sum(report.outcome.dense.high for report in reports) / count,
        f"{name}.product_gain": sum(report.outcome.product.mean for report in reports) / count,
        f"{name}.wins": float(sum(report.outcome.verdict == "WIN" for report in reports)),
    }


def _print(name: str, recipe: str, reports: list[TuneReport]) -> None:
    for report in reports:
        counts = ", ".join(f"{item.rule} {item.kept}" for item in report.yields if item.kept)
        print(f"\n{name}, recipe {recipe}: {report.documents} documents, {report.passages} passages")
        print(f"{report.log.pairs} pairs ({counts}), {report.log.steps} steps, {report.log.seconds:.0f} s of training")
        print("\n".join(f"- {choice}" for choice in report.choices))
        print(f"{report.outcome.test_questions} test questions ({report.outcome.evidence}), {report.outcome.verdict}:")
        print("\n".join(result_lines([asdict(row) for row in report.outcome.rows])), flush=True)


if __name__ == "__main__":
    main()
