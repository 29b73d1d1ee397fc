"""The trainer's verbs: tune, evaluate, demo."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrieval.console import Duration, Invocation, pass_invocation
from retrieval.errors import GateRefused, SettingsError, ShoptalkError
from retrieval.pointer import current_name
from trainer.models_cli import version_value
from trainer.options import corpus_option, questions_option, recipe_option
from trainer.ranks import is_alone

if TYPE_CHECKING:
    from trainer.tune import TuneReport

SKIPPED_SHOWN = 20


@click.command()
@corpus_option
@recipe_option
@questions_option("Questions with known answers to judge by (BEIR's layout); without them some are mined and held out.")
@click.option("--seed", type=int, default=None, help="Of sampling and training (default: trainer.seed).")
@click.option(
    "--budget",
    type=Duration(),
    metavar="TIME",
    help="How long the recipe auto may take once documents are encoded, as 90s, 30m or 2h (default: "
    "trainer.budget_minutes).",
)
@click.option("--no-promote", is_flag=True, help="Register the model, but do not put it to use even if it wins.")
@pass_invocation
def tune(
    invocation: Invocation,
    corpus: str,
    recipe: str | None,
    questions: Path | None,
    seed: int | None,
    budget: float | None,
    no_promote: bool,
) -> None:
    """Mine, split, train, evaluate, report, register and gate a model.

    The verdict is WIN where the 95 % interval of the paired change of dense search in NDCG@10 on the test
    questions lies above zero, and what is served (hybrid search) is not worse beyond doubt. Only a WIN is put
    to use by itself, and not in the place of a version that serves the same questions better beyond doubt;
    otherwise the exit code is 3, and the version is kept for you to look at.
    """
    report = run_tune(invocation, corpus, recipe, questions=questions, seed=seed, budget=budget, promote=not no_promote)
    invocation.emit(tune_value(report), tune_text(report))
    workspace = invocation.workspace()
    if report.promoted and not current_name(workspace.index_dir(workspace.corpus_name(corpus))):
        invocation.note("Next: shoptalk index, then shoptalk search")
    if refusal := _refusal(report):
        # A launcher takes any exit code but 0 for a crash of the process, and says so at length.
        if not is_alone():
            invocation.note(str(refusal))
            return
        raise refusal


def _refusal(report: TuneReport) -> ShoptalkError | None:
    """Why a model is not in use though it was tuned to be."""
    name, outcome = report.version.name, report.outcome
    if outcome.verdict != "WIN":
        kept = f"It is kept in {report.version.path}"
        if outcome.serves_better:
            kept += f"; as what it serves is better, `shoptalk models promote {name} --force` may be worth it"
        return GateRefused(
            f"{name} is not put to use ({outcome.verdict} against {report.base}). {outcome.reasons()[0]} {kept}"
        )
    if report.obstacle:
        refused = GateRefused if report.in_use and report.in_use.better else ShoptalkError
        return refused(
            f"{name} won but was not put to use: {report.obstacle}; `shoptalk models promote {name}` puts it to use "
            "all the same"
        )
    return None


def run_tune(
    invocation: Invocation,
    corpus: str,
    recipe: str | None,
    *,
    questions: Path | None,
    seed: int | None = None,
    budget: float | None = None,
    promote: bool = True,
) -> TuneReport:
    """Run a tuning with the settings of the invocation's workspace."""
    from trainer.ranks import Follower
    from trainer.recipes import AUTO, find_recipe
    from trainer.tune import tune as tune_model

    workspace = invocation.workspace()
    name = workspace.corpus_name(corpus)
    chosen = find_recipe(recipe or workspace.trainer.recipe, workspace.trainer.recipes)
    if budget is not None and chosen.name != AUTO:
        raise SettingsError(f"--budget bounds the recipe {AUTO} alone; leave it out, or add --recipe {AUTO}")
    try:
        with invocation.progress() as progress:
            return tune_model(
                workspace,
                name,
                chosen,
                questions=questions,
                seed=workspace.trainer.seed if seed is None else seed,
                budget=60 * workspace.trainer.budget_minutes if budget is None else budget,
                promote=promote,
                progress=progress,
            )
    except Follower:
        raise click.exceptions.Exit(0) from None


@click.command()
@corpus_option
@click.option(
    "--model", "references", multiple=True, help="A model reference; repeat it to compare (default: base and current)."
)
@questions_option("Questions with known answers, in BEIR's layout.")
@click.option("--mode", type=click.Choice(["dense", "lexical", "hybrid"]), default=None, help="Only this mode.")
@click.option("--look-again", is_flag=True, help="Even where some of the questions have judged a version before.")
@click.option(
    "--runs", type=click.Path(path_type=Path, file_okay=False), help="Write the rankings here, as trec_eval reads them."
)
@pass_invocation
def evaluate(
    invocation: Invocation,
    corpus: str,
    references: tuple[str, ...],
    questions: Path | None,
    mode: str | None,
    look_again: bool,
    runs: Path | None,
) -> None:
    """Judge models on questions with known answers.

    Questions judge a version once: a second look, at those `shoptalk tune` tested it by for one, is refused
    with exit code 3, since the more often one looks the less it proves. Each look is recorded.
    """
    from trainer.comparison import compare_models
    from trainer.report import result_lines

    if questions is None:
        raise click.UsageError("give the questions with --questions FOLDER")
    workspace = invocation.workspace()
    with invocation.progress() as progress:
        result = compare_models(
            workspace,
            workspace.corpus_name(corpus),
            references or ("base", "current"),
            questions,
            mode,
            look_again=look_again,
            runs=runs,
            progress=progress,
        )
    value = asdict(result)
    for unit in result.missing[:SKIPPED_SHOWN]:
        invocation.note(f"not in the corpus: {unit}")
    invocation.emit(value, "\n".join([*result_lines(value["rows"], "the first row"), *result.notes]))


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
    value["version"] = version_value(report.version)
    return value


def tune_text(report: TuneReport) -> str:
    """The report as a person reads it."""
    from retrieval.promotion import NOT_SEARCHED_WITH
    from trainer.report import judged_lines

    mined = ", ".join(f"{item.rule} {item.kept}" for item in report.yields if item.kept)
    lines = [
        f"{report.documents} documents, {report.passages} passages; {report.log.pairs} pairs ({mined})",
        f"recipe {report.recipe}: {report.log.steps} steps in {report.log.seconds:.0f} s, {report.log.precision}",
        *(f"- {choice}" for choice in report.choices),
    ]
    if report.leaks:
        lines.append(f"- {report.leaks} pairs left out: their anchor asks what a question asks")
    state = "not put to use"
    if report.promoted:
        state = "now in use" if report.version.current else NOT_SEARCHED_WITH
    lines += ["", *judged_lines(report.version.evaluation)]
    if report.in_use:
        lines.append(report.in_use.beside(report.version.name))
    lines.append(f"{report.version.name} is {state}; report: {report.version.path / 'report.html'}")
    return "\n".join(lines)


__all__ = ["demo", "evaluate", "run_tune", "tune", "tune_text", "tune_value"]
