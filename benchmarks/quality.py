"""Does tuning help? Recipes judged on labelled sets, base model against tuned, on test questions.

    python benchmarks/quality.py                                   the demo's corpus, recipe structure
    python benchmarks/quality.py --set NAME=FOLDER [--set …] [--recipe seed --recipe structure] [--json]
    python benchmarks/quality.py --recipe structure --recipe "structure with triplet loss"      one loss against another

FOLDER is a data set, or an archive of its folder (``.tar.xz``): ``docs/`` with ``questions-docs/`` (or
``questions/``), or ``corpus.jsonl`` with ``queries.jsonl`` and ``qrels.tsv``; with both, ``--form docs|records``
chooses (default: docs). Pairs are mined from the documents alone; the questions' dev part makes every choice; their
test part is scored once a run. ``--seeds 3`` runs each recipe with several seeds; their means have the intervals of
each question's mean over them. ``--max-pairs`` bounds the dose on slow machines, ``--budget`` the seconds that the
recipe auto may take for each seed.

Gains are told against two bases. Both are the base's dense search; one reads passages as Shoptalk embeds them, with
all headings they stand under, the other reads them as they are commonly cut, with their own heading alone, which costs
another encoding of the corpus (``--one-base`` leaves it out).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from retrieval.embedders import load_local
from retrieval.indexing import passage_limit
from retrieval.passages import Passage
from retrieval.workspace import Workspace
from trainer.demo import BASE_MODEL, write_corpus
from trainer.evaluation import Judge
from trainer.material import gather
from trainer.mined import fair
from trainer.outcome import Outcome
from trainer.questions import load_questions
from trainer.recipes import ARMS, RECIPES, find_recipe
from trainer.report import result_lines
from trainer.statistics import Change, compare
from trainer.tune import DEFAULT_BUDGET, TuneReport, tune

HEAD = (
    "set          recipe      lexical    dense   hybrid    tuned   hybrid   served    dense    served\n"
    "                            base     base     base    dense    tuned          over base over base"
)


def main() -> None:
    """Run the benchmark and print its table, or one JSON object."""
    arguments = _arguments()
    figures: dict[str, float] = {}
    table: list[str] = []
    with tempfile.TemporaryDirectory(prefix="shoptalk-quality-") as temporary:
        if arguments.max_pairs:
            os.environ["SHOPTALK_TRAINER_MAX_PAIRS"] = str(arguments.max_pairs)
        sets = dict(item.partition("=")[::2] for item in arguments.set) or {"demo": _demo(Path(temporary) / "demo")}
        for name, folder in sets.items():
            corpus, questions = _parts(_unpacked(Path(folder), Path(temporary) / "unpacked" / name), arguments.form)
            root = Path(temporary) / name
            Workspace.create(root, {"corpus": str(corpus)}, arguments.base)
            workspace = Workspace.open(root)
            bare = None if arguments.one_base else _bare_base(workspace, questions)
            for recipe in arguments.recipe or ["structure"]:
                reports = []
                for seed in range(13, 13 + arguments.seeds):
                    report = tune(
                        workspace,
                        "corpus",
                        find_recipe(recipe),
                        questions=questions,
                        seed=seed,
                        budget=arguments.budget,
                        promote=False,
                    )
                    reports.append(report)
                    if not arguments.json:
                        _print(f"{name}, recipe {recipe}, seed {seed}", report)
                found = _figures(reports, bare)
                figures |= {f"{name}.{recipe}.{figure}": value for figure, value in found.items()}
                table.append(_line(name, recipe, found))
                if not arguments.json:
                    print("\n".join(_summary(found, len(reports))), flush=True)
    if not arguments.json:
        print("\n".join(["", HEAD, *table]))
    else:
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
    parser.add_argument(
        "--recipe", action="append", choices=[*RECIPES, *(arm.name for arm in ARMS if arm.name not in RECIPES)]
    )
    parser.add_argument("--form", choices=["docs", "records"], default="docs")
    parser.add_argument("--base", default=BASE_MODEL, metavar="REF")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-pairs", type=int, default=0)
    parser.add_argument("--budget", type=float, default=DEFAULT_BUDGET, metavar="SECONDS")
    parser.add_argument("--one-base", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _demo(folder: Path) -> str:
    write_corpus(folder)
    return str(folder)


def _unpacked(source: Path, into: Path) -> Path:
    """``source`` itself, or the one folder in it where it is an archive."""
    if source.is_dir():
        return source
    try:
        with tarfile.open(source) as archive:
            archive.extractall(into, filter="data")
        (folder,) = into.iterdir()
    except (OSError, tarfile.TarError, ValueError) as error:
        sys.exit(f"{source}: neither a folder nor an archive of one folder ({error})")
    return folder


def _parts(folder: Path, form: str) -> tuple[Path, Path]:
    """The corpus and the questions of a data set."""
    if form == "records":
        return folder / "corpus.jsonl", folder
    questions = folder / "questions-docs"
    return folder / "docs", questions if questions.is_dir() else folder / "questions"


def _bare_base(workspace: Workspace, folder: Path) -> float:
    """NDCG@10 on the test questions of the base's dense search over passages with no heading but their own."""
    embedder = load_local("base", workspace)
    material = gather(workspace, "corpus", embedder.count_tokens, passage_limit(workspace, embedder))
    passages, questions = material.passages, fair(load_questions(folder), material)[0].test
    texts = [_bare(passage) for passage in passages]
    judge = Judge.of(workspace, passages, texts, questions)
    asked = embedder.encode_queries([question.text for question in questions])
    return judge.score("dense", judge.dense(asked, embedder.encode_documents(texts))).means()["ndcg@10"]


def _bare(passage: Passage) -> str:
    own = [heading for heading in passage.heading[-1:] if heading != passage.text]
    return "\n".join([*own, passage.text])


def _figures(reports: list[TuneReport], bare: float | None) -> dict[str, float]:
    outcomes = [report.outcome for report in reports]
    dense, product = (_over_seeds(outcomes, mode) for mode in ("dense", "hybrid"))
    base, tuned = outcomes[0].dense.before, fmean(outcome.dense.after for outcome in outcomes)
    # What the gate lets through is served: the tuned model after a WIN, the base otherwise.
    won = [outcome.verdict == "WIN" for outcome in outcomes]
    served = fmean(
        outcome.product.after if win else outcome.product.before for outcome, win in zip(outcomes, won, strict=True)
    )
    return {
        **({} if bare is None else {"base_bare": bare}),
        "base_dense": base,
        "base_lexical": outcomes[0].rows[0].means["ndcg@10"],
        "base_hybrid": fmean(outcome.product.before for outcome in outcomes),
        "tuned_dense": tuned,
        "tuned_hybrid": fmean(outcome.product.after for outcome in outcomes),
        "served": served,
        "dense_gain": tuned - base,
        "ci_low": dense.low,
        "ci_high": dense.high,
        "product_gain": product.mean,
        "product_ci_low": product.low,
        "product_ci_high": product.high,
        "wins": float(sum(won)),
    }


def _over_seeds(outcomes: Sequence[Outcome], mode: str) -> Change:
    """The change of the mean over all seeds of each question's NDCG@10."""
    sides = (
        [[getattr(asked, f"{mode}_{side}") for asked in outcome.questions] for outcome in outcomes]
        for side in ("before", "after")
    )
    before, after = ([fmean(of_one) for of_one in zip(*side, strict=True)] for side in sides)
    return compare(before, after, [asked.answer for asked in outcomes[0].questions])


def _line(name: str, recipe: str, found: dict[str, float]) -> str:
    base = found["base_dense"]
    cells = [found[figure] for figure in ("base_lexical", "base_dense", "base_hybrid", "tuned_dense", "tuned_hybrid")]
    gains = f"{found['tuned_dense'] / base - 1:+9.1%} {found['served'] / base - 1:+9.1%}"
    return f"{name:12.12} {recipe:10.10} " + " ".join(f"{cell:8.3f}" for cell in (*cells, found["served"])) + gains


def _summary(found: dict[str, float], seeds: int) -> list[str]:
    """The means over the seeds, and what they are of either base."""
    base, bare = found["base_dense"], found.get("base_bare")
    as_cut = "" if bare is None else f", on bare passages {bare:.3f}"

    def over(value: float) -> str:
        told = f"{value:.3f}, {value / base - 1:+.1%} over base dense"
        return told if bare is None else f"{told}, {value / bare - 1:+.1%} over it on bare passages"

    return [
        "",
        f"means of {seeds} seeds, {found['wins']:.0f} WIN:",
        f"base: dense {base:.3f}{as_cut}, lexical {found['base_lexical']:.3f}, hybrid {found['base_hybrid']:.3f}",
        f"tuned dense: {over(found['tuned_dense'])}; "
        f"change {found['dense_gain']:+.3f} [{found['ci_low']:+.3f}, {found['ci_high']:+.3f}]",
        f"tuned hybrid: {over(found['tuned_hybrid'])}; against base hybrid {found['product_gain']:+.3f} "
        f"[{found['product_ci_low']:+.3f}, {found['product_ci_high']:+.3f}]",
        f"after the gate, served: {over(found['served'])}",
    ]


def _print(run: str, report: TuneReport) -> None:
    counts = ", ".join(f"{item.rule} {item.kept}" for item in report.yields if item.kept)
    print(f"\n{run}: {report.documents} documents, {report.passages} passages")
    print(f"{report.log.pairs} pairs ({counts}), {report.log.steps} steps, {report.log.seconds:.0f} s of training")
    print("\n".join(f"- {choice}" for choice in report.choices))
    print(f"{report.outcome.test_questions} test questions ({report.outcome.evidence}), {report.outcome.verdict}:")
    print("\n".join(result_lines([asdict(row) for row in report.outcome.rows])), flush=True)


if __name__ == "__main__":
    main()
