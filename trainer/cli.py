"""The trainer's verbs: mine, tune, evaluate, models, demo."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import GateRefused
from retrieval.models import ModelVersion, find_version, list_versions

if TYPE_CHECKING:
    from trainer.tune import Mined, TuneReport

_Command = TypeVar("_Command", bound=Callable[..., Any])
EXAMPLES_A_RULE = 3
SKIPPED_SHOWN = 20


def _folder(help_text: str) -> Callable[[_Command], _Command]:
    return click.option("--questions", type=click.Path(path_type=Path, file_okay=False), help=help_text)


_corpus = click.option("--corpus", default="", help="The corpus, where the workspace has several.")
_recipe = click.option(
    "--recipe", type=click.Choice(["structure", "seed"]), help="How to mine and train (default: trainer.recipe)."
)


@click.command()
@_corpus
@_recipe
@_folder("Questions that training must not see, in BEIR's layout.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the pairs here, one JSON object a line."
)
@pass_invocation
def mine(invocation: Invocation, corpus: str, recipe: str | None, questions: Path | None, out: Path | None) -> None:
    """Mine training pairs from the documents and show them.

    Nothing is trained. Counts are by rule: mined, left once doubles, ambiguous anchors and leaks are
    gone, past the silver filter, and taken for training.
    """
    from retrieval.embedders import load_local
    from trainer.questions import load_questions
    from trainer.recipes import find_recipe
    from trainer.tune import mine_corpus

    workspace = invocation.workspace()
    chosen = find_recipe(recipe or workspace.trainer.recipe)
    if out and not out.parent.is_dir():
        raise click.UsageError(f"--out: {out.parent} is no folder")
    asked = load_questions(questions) if questions else None
    with invocation.progress() as progress:
        mined = mine_corpus(
            workspace,
            workspace.corpus_name(corpus),
            chosen,
            load_local("base", workspace),
            questions=asked,
            seed=workspace.trainer.seed,
            judged=False,
            progress=progress,
        )
    if out:
        lines = (
            json.dumps(
                {"anchor": p.anchor, "positive": p.positive, "rule": p.rule, "document_id": p.document_id},
                ensure_ascii=False,
            )
            for p in mined.pairs
        )
        out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        invocation.note(f"Wrote {len(mined.pairs)} pairs to {out}")
    value = {
        "recipe": chosen.name,
        "documents": len(mined.material.documents),
        "sections": len(mined.material.sections),
        "passages": len(mined.material.passages),
        "pairs": len(mined.pairs),
        "rules": [asdict(item) for item in mined.yields],
        "leaks": mined.leaks,
        "skipped": [asdict(item) for item in mined.material.skipped],
    }
    invocation.emit(value, _mined_text(mined, chosen.name))


@click.command()
@_corpus
@_recipe
@_folder("Questions with known answers to judge by (BEIR's layout); without them some are mined and held out.")
@click.option("--seed", type=int, default=None, help="Of sampling and training (default: trainer.seed).")
@click.option("--no-promote", is_flag=True, help="Register the model, but do not put it to use even if it wins.")
@pass_invocation
def tune(
    invocation: Invocation, corpus: str, recipe: str | None, questions: Path | None, seed: int | None, no_promote: bool
) -> None:
    """Mine, split, train, evaluate, report, register and gate a model.

    The verdict is WIN where the 95 % interval of the paired change in NDCG@10 on the test questions lies
    above zero. Only a WIN is put to use by itself; otherwise the exit code is 3, and the version is
    kept for you to look at.
    """
    report = run_tune(invocation, corpus, recipe, questions, seed, not no_promote)
    invocation.emit(tune_value(report), tune_text(report))
    workspace = invocation.workspace()
    if report.promoted and not workspace.index_dir(workspace.corpus_name(corpus)).joinpath("CURRENT").exists():
        invocation.note("Next: shoptalk index, then shoptalk search")
    outcome = report.outcome
    if outcome.verdict != "WIN":
        raise GateRefused(
            f"{report.version.name} is no better than {report.base} beyond doubt ({outcome.verdict}, {outcome.dense}); "
            f"it is kept in {report.version.path}, and not put to use"
        )


def run_tune(
    invocation: Invocation, corpus: str, recipe: str | None, questions: Path | None, seed: int | None, promote: bool
) -> TuneReport:
    """Run a tuning with the settings of the invocation's workspace."""
    from trainer.recipes import find_recipe
    from trainer.tune import tune as tune_model

    workspace = invocation.workspace()
    name = workspace.corpus_name(corpus)
    chosen = find_recipe(recipe or workspace.trainer.recipe)
    with invocation.progress() as progress:
        return tune_model(
            workspace,
            name,
            chosen,
            questions=questions,
            seed=workspace.trainer.seed if seed is None else seed,
            promote=promote,
            progress=progress,
        )


@click.command()
@_corpus
@click.option(
    "--model", "references", multiple=True, help="A model reference; repeat it to compare (default: base and current)."
)
@_folder("Questions with known answers, in BEIR's layout.")
@click.option("--mode", type=click.Choice(["dense", "lexical", "hybrid"]), default=None, help="Only this mode.")
@pass_invocation
def evaluate(
    invocation: Invocation, corpus: str, references: tuple[str, ...], questions: Path | None, mode: str | None
) -> None:
    """Judge models on questions with known answers.

    All questions count, those that tuning chose by included: to claim that a model is better, quote
    what `shoptalk tune` found on its test questions.
    """
    from trainer.comparison import compare_models
    from trainer.report import result_lines

    if questions is None:
        raise click.UsageError("give the questions with --questions FOLDER")
    workspace = invocation.workspace()
    with invocation.progress() as progress:
        result = compare_models(
            workspace, workspace.corpus_name(corpus), references or ("base", "current"), questions, mode, progress
        )
    rows = [asdict(row) for row in result.rows]
    for unit in result.missing[:SKIPPED_SHOWN]:
        invocation.note(f"not in the corpus: {unit}")
    invocation.emit(
        {"questions": result.questions, "missing": result.missing, "rows": rows}, "\n".join(result_lines(rows))
    )


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List, show, promote and roll back model versions."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@models.command("list")
@pass_invocation
def list_models(invocation: Invocation) -> None:
    """List the versions; * marks the one in use."""
    workspace = invocation.workspace()
    versions = list_versions(workspace)
    base_line = f"{' ' if any(version.current for version in versions) else '*'} base  {workspace.model.base}"
    lines = [base_line, *(_version_line(version) for version in versions)]
    if not versions:
        lines.append("no versions yet: `shoptalk tune` makes one")
    invocation.emit(
        {"base": workspace.model.base, "versions": [_version_value(item) for item in versions]}, "\n".join(lines)
    )


@models.command()
@click.argument("version")
@pass_invocation
def show(invocation: Invocation, version: str) -> None:
    """Show how VERSION was made and judged."""
    from trainer.report import result_lines

    found = find_version(invocation.workspace(), version)
    lines = [_version_line(found), f"report: {found.path / 'report.html'}", ""]
    lines += result_lines(found.evaluation.get("rows", []))
    lines += ["", *(f"- {choice}" for choice in found.training.get("choices", []))]
    value = {**_version_value(found), "training": found.training, "evaluation": found.evaluation}
    invocation.emit(value, "\n".join(lines))


@models.command()
@click.argument("version")
@click.option("--force", is_flag=True, help="Even where its verdict is not WIN.")
@pass_invocation
def promote(invocation: Invocation, version: str, force: bool) -> None:
    """Put VERSION (or base) to use: indexes are rebuilt beside the live ones, then switched."""
    from retrieval.promotion import put_to_use

    workspace = invocation.workspace()
    if version != "base":
        found = find_version(workspace, version)
        if found.verdict != "WIN" and not force:
            raise GateRefused(
                f"{found.name} has the verdict {found.verdict or 'none'}, not WIN; --force promotes it all the same"
            )
    with invocation.progress() as progress:
        reference = put_to_use(workspace, version, progress)
    invocation.emit({"current": reference}, f"in use: {reference}")


@models.command()
@pass_invocation
def rollback(invocation: Invocation) -> None:
    """Go back to the model that was in use before."""
    from retrieval.promotion import return_to_previous

    with invocation.progress() as progress:
        reference = return_to_previous(invocation.workspace(), progress)
    invocation.emit({"current": reference}, f"in use: {reference}")


@click.command()
@click.option("--seed", type=int, default=None, help="Of sampling and training.")
@pass_invocation
@click.pass_context
def demo(context: click.Context, invocation: Invocation, seed: int | None) -> None:
    """Run the whole loop on a real medical coding corpus, offline.

    The workspace is made in the folder of -w (default: demo-workspace), which may be an earlier demo's.
    """
    from trainer.demo import run_demo

    if not invocation.named:
        invocation.root = Path("demo-workspace")
    run_demo(invocation, seed)


def tune_value(report: TuneReport) -> dict[str, Any]:
    """The report as JSON."""
    value = asdict(report)
    value["version"] = _version_value(report.version)
    return value


def tune_text(report: TuneReport) -> str:
    """The report as a person reads it."""
    from trainer.report import result_lines

    mined = ", ".join(f"{item.rule} {item.kept}" for item in report.yields if item.kept)
    lines = [
        f"{report.documents} documents, {report.passages} passages; {report.log.pairs} pairs ({mined})",
        f"recipe {report.recipe}: {report.log.steps} steps in {report.log.seconds:.0f} s, {report.log.precision}",
        *(f"- {choice}" for choice in report.choices),
    ]
    if report.leaks:
        lines.append(f"- {report.leaks} pairs left out: their anchor is one of the questions")
    if report.missing:
        lines.append(f"- {len(report.missing)} judged documents are not in the corpus, the first: {report.missing[0]}")
    lines += [
        "",
        f"{report.outcome.test_questions} test questions ({report.outcome.evidence}):",
        *result_lines([asdict(row) for row in report.outcome.rows]),
    ]
    state = "now in use" if report.promoted else "not put to use"
    dense, product = report.outcome.dense, report.outcome.product
    lines += [
        "",
        f"Verdict: {report.outcome.verdict}. NDCG@10 dense {dense.before:.3f} -> {dense.after:.3f}, {dense}; "
        f"as served (hybrid) {product.before:.3f} -> {product.after:.3f}, {product}.",
        f"{report.version.name} is {state}; report: {report.version.path / 'report.html'}",
    ]
    return "\n".join(lines)


def _mined_text(mined: Mined, recipe: str) -> str:
    material = mined.material
    lines = [
        f"{len(material.documents)} documents, {len(material.sections)} sections, {len(material.passages)} passages; "
        f"recipe {recipe}: {len(mined.pairs)} pairs",
        f"{'rule':<16}{'mined':>8}{'distinct':>10}{'silver':>8}{'taken':>8}",
    ]
    lines += [f"{y.rule:<16}{y.mined:>8}{y.distinct:>10}{y.silver:>8}{y.kept:>8}" for y in mined.yields]
    generator = random.Random(0)
    for rule in dict.fromkeys(pair.rule for pair in mined.pairs):
        pairs = [pair for pair in mined.pairs if pair.rule == rule]
        lines += ["", f"{rule}:"]
        for pair in generator.sample(pairs, min(EXAMPLES_A_RULE, len(pairs))):
            lines.append(f"  {_short(pair.anchor)}  ->  {_short(pair.positive)}  ({pair.document_id})")
    if material.skipped:
        lines += ["", f"{len(material.skipped)} files skipped:"]
        lines += [f"  {item.path}: {item.reason}" for item in material.skipped[:SKIPPED_SHOWN]]
    lines += ["", _advice(len(mined.pairs))]
    return "\n".join(lines)


def _advice(pairs: int) -> str:
    if pairs < 1_000:
        return "Fewer than 1,000 pairs: synonym lists, question-and-answer pages and more headings would give more."
    return "Enough pairs to tune on."


def _short(text: str, width: int = 90) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _version_line(version: ModelVersion) -> str:
    mark = "*" if version.current else " "
    recipe = version.training.get("recipe", {}).get("name", "?")
    scores = ""
    if version.ndcg_before is not None and version.ndcg_after is not None:
        scores = f"  NDCG@10 {version.ndcg_before:.3f} -> {version.ndcg_after:.3f}"
    return f"{mark} {version.name:<5} {version.verdict or 'not judged':<11}{scores}  {recipe}  {version.created}"


def _version_value(version: ModelVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "path": str(version.path),
        "current": version.current,
        "created": version.created,
        "verdict": version.verdict,
        "ndcg_before": version.ndcg_before,
        "ndcg_after": version.ndcg_after,
    }


__all__ = ["demo", "evaluate", "mine", "models", "run_tune", "tune", "tune_text", "tune_value"]
