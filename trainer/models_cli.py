"""The verb ``models``: the versions there are, which is in use, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import GateRefused
from retrieval.models import EVALUATION_RECORD, ModelVersion, current_reference, find_version, list_versions
from retrieval.workspace import Workspace

__all__ = ["models", "version_value"]

KEPT_VERSIONS = 5


@click.group(invoke_without_command=True)
@click.pass_context
def models(context: click.Context) -> None:
    """List, compare, promote, roll back, prune and push model versions."""
    if context.invoked_subcommand is None:
        context.invoke(list_models)


@models.command("list")
@pass_invocation
def list_models(invocation: Invocation) -> None:
    """List the versions; * marks the one in use."""
    workspace = invocation.workspace()
    versions = list_versions(workspace)
    used = current_reference(workspace)
    base_line = f"{'*' if used == workspace.model.base else ' '} base  {workspace.model.base}"
    lines = [base_line, *(_version_line(version) for version in versions)]
    if used not in {workspace.model.base, *(version.name for version in versions)}:
        told = "model.endpoint"
        if not workspace.model.endpoint:
            told = "neither base nor a version that is here; `shoptalk models promote base` puts the base to use"
        lines.insert(0, f"* {used}  ({told})")
    if not versions:
        lines.append("no versions yet: `shoptalk tune` makes one")
    value = {"current": used, "base": workspace.model.base, "versions": [version_value(item) for item in versions]}
    invocation.emit(value, "\n".join(lines))


@models.command()
@click.argument("version")
@pass_invocation
def show(invocation: Invocation, version: str) -> None:
    """Show how VERSION was made and judged."""
    from trainer.looks import looks_at
    from trainer.report import judged_lines

    workspace = invocation.workspace()
    found = find_version(workspace, version)
    if not found.evaluation:
        invocation.note(f"{found.path / EVALUATION_RECORD} is missing: nobody knows any more how it was judged")
    lines = [_version_line(found), f"report: {found.path / 'report.html'}", ""]
    if found.evaluation.get("rows"):
        lines += [*judged_lines(found.evaluation), ""]
    lines += [f"- {choice}" for choice in found.training.get("choices", [])]
    later = [look for look in looks_at(workspace, found) if look.command != "tune"]
    for look in later:
        figures = ", ".join(f"{mode} {value:.3f}" for mode, value in look.found.items())
        lines.append(f"- {look.command}, {look.when}, {len(look.questions)} questions: NDCG@10 {figures or 'not kept'}")
    looks = [asdict(look) | {"questions": len(look.questions)} for look in later]
    value = {**version_value(found), "training": found.training, "evaluation": found.evaluation, "looks": looks}
    invocation.emit(value, "\n".join(lines))


@models.command()
@click.argument("first")
@click.argument("second")
@pass_invocation
def compare(invocation: Invocation, first: str, second: str) -> None:
    """Put what FIRST and SECOND were judged to be side by side, from their records.

    Nothing is scored: `shoptalk evaluate --model FIRST --model SECOND --questions FOLDER` does that, with
    a paired interval. Where the two were not judged on the same, a warning says so.
    """
    from trainer.side_by_side import side_by_side, side_by_side_lines

    workspace = invocation.workspace()
    result = side_by_side(find_version(workspace, first), find_version(workspace, second))
    for warning in result.warnings:
        invocation.note(f"Warning: {warning}")
    invocation.emit(asdict(result), "\n".join(side_by_side_lines(result)))


@models.command()
@click.argument("version")
@click.option("--force", is_flag=True, help="Even where its verdict is not WIN.")
@pass_invocation
def promote(invocation: Invocation, version: str, force: bool) -> None:
    """Put VERSION (or base) to use: indexes are rebuilt beside the live ones, then switched."""
    from retrieval.promotion import made_elsewhere, put_to_use

    workspace = invocation.workspace()
    if version != "base":
        found = find_version(workspace, version)
        if found.verdict != "WIN" and not force:
            raise GateRefused(
                f"{found.name} has the verdict {found.verdict or 'none'}, not WIN; --force promotes it all the same"
            )
    others = made_elsewhere(workspace)
    with invocation.progress() as progress:
        reference = put_to_use(workspace, version, progress)
    _tell_promoted(invocation, workspace, reference, others)


@models.command()
@pass_invocation
def rollback(invocation: Invocation) -> None:
    """Go back to the model that was in use before."""
    from retrieval.promotion import made_elsewhere, return_to_previous

    workspace = invocation.workspace()
    others = made_elsewhere(workspace)
    with invocation.progress() as progress:
        reference = return_to_previous(workspace, progress)
    _tell_promoted(invocation, workspace, reference, others)


@models.command()
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=KEPT_VERSIONS,
    show_default=True,
    help="How many of the newest versions stay whether they are used or not.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@pass_invocation
def prune(invocation: Invocation, keep: int, dry_run: bool) -> None:
    """Throw away the versions that nothing needs.

    Never the one in use, the one that rollback returns to, one that an index was made by, or the base.
    """
    from retrieval.pruning import prune as throw_away
    from retrieval.pruning import prune_plan
    from trainer.looks import keep_look

    workspace = invocation.workspace()
    plan = prune_plan(workspace, keep) if dry_run else throw_away(workspace, keep, partial(keep_look, workspace))
    lines = [f"  {name:<5} stays: {reason}" for name, reason in plan.staying.items()]
    lines += [f"- {version.name:<5} {_megabytes(size)}" for version, size in plan.going]
    done = "would free" if dry_run else "freed"
    lines.append(f"{done} {_megabytes(plan.freed)}" if plan.going else "nothing to throw away")
    removed = [{"name": version.name, "bytes": size} for version, size in plan.going]
    value = {"dry_run": dry_run, "removed": removed, "kept": plan.staying, "freed_bytes": plan.freed}
    invocation.emit(value, "\n".join(lines))


@models.command()
@click.argument("version")
@click.argument("repository")
@click.option("--public", is_flag=True, help="For all the world to see (default: a private repository).")
@click.option("--tag", default="", help="A name for this commit, such as v1.0.")
@click.option("--revision", default="", metavar="BRANCH", help="Commit to this branch; made where there is none.")
@click.option("--with-examples", is_flag=True, help="Push the report and all of the records, texts included.")
@pass_invocation
def push(
    invocation: Invocation, version: str, repository: str, public: bool, tag: str, revision: str, with_examples: bool
) -> None:
    """Push VERSION to REPOSITORY (OWNER/NAME) on the Hugging Face Hub; private by default.

    The model, its card and the figures of its records go. Questions, lines and names of documents stand in
    the report and in parts of the records: they stay here, unless you say --with-examples. Needs HF_TOKEN.
    """
    import sys

    from trainer.hub import push as push_version

    pushed = push_version(
        invocation.workspace(),
        version,
        repository,
        public=public,
        tag=tag,
        branch=revision,
        with_examples=with_examples,
        show_progress=not invocation.quiet and sys.stderr.isatty(),
    )
    if public and pushed.private:
        invocation.note(f"{pushed.repository} exists and stays private; change that in its settings on the Hub")
    if pushed.withheld:
        invocation.note(f"Left out, as texts of your documents may stand there: {', '.join(pushed.withheld)}")
    seen = "private" if pushed.private else "public"
    tagged = f", tag {pushed.tag}" if pushed.tag else ""
    lines = [
        f"{pushed.version} is at {pushed.url} ({seen}{tagged}, {len(pushed.files)} files)",
        f'load it: SentenceTransformer("{pushed.repository}", revision="{pushed.tag or pushed.revision}")',
    ]
    invocation.emit(asdict(pushed), "\n".join(lines))


def version_value(version: ModelVersion) -> dict[str, Any]:
    """A version as JSON."""
    return {
        "name": version.name,
        "path": str(version.path),
        "current": version.current,
        "created": version.created,
        "verdict": version.verdict,
        "ndcg_before": version.ndcg_before,
        "ndcg_after": version.ndcg_after,
    }


def _tell_promoted(invocation: Invocation, workspace: Workspace, reference: str, others: Mapping[str, str]) -> None:
    """Say what is in use now, and of ``others``, corpora indexed elsewhere by these models, which keep theirs."""
    from retrieval.promotion import NOT_SEARCHED_WITH

    for corpus, made_by in others.items():
        if made_by != reference and not workspace.model.endpoint:
            invocation.note(
                f"Note: the index of {corpus!r} stays as {made_by} made it; put {reference} to use where it is indexed"
            )
    text = f"{reference} is {NOT_SEARCHED_WITH}" if workspace.model.endpoint else f"in use: {reference}"
    invocation.emit({"current": current_reference(workspace), "promoted": reference}, text)


def _version_line(version: ModelVersion) -> str:
    mark = "*" if version.current else " "
    recipe = version.training.get("recipe", {}).get("name", "?")
    judged = version.evaluation
    scores = ", ".join(
        f"{name} {judged[key]['before']:.3f} → {judged[key]['after']:.3f}"
        for name, key in (("dense", "dense"), ("served", "product"))
        if key in judged
    )
    asked = f"  NDCG@10 {scores}, {judged['test_questions']} {judged['evidence']}" if scores else ""
    return f"{mark} {version.name:<5} {version.verdict or 'not judged':<11}{asked}  {recipe}  {version.created}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
