"""The verb ``synthesize``: questions about the documents, written by Claude."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from retrieval.console import Invocation, pass_invocation
from retrieval.errors import ShoptalkError
from trainer.options import corpus_option

if TYPE_CHECKING:
    from trainer.synthesis import Estimate, Synthesis

__all__ = ["synthesize"]


@click.command()
@corpus_option
@click.option(
    "--per-passage", type=click.IntRange(1, 10), help="Questions a passage (default: [synthesis] per_passage)."
)
@click.option("--limit", type=click.IntRange(min=1), help="Ask about no more passages than this.")
@click.option("--batch/--now", default=True, help="By message batches, at half the price, or one by one at once.")
@click.option("--yes", is_flag=True, help="Do not ask whether the cost is fine.")
@pass_invocation
def synthesize(
    invocation: Invocation, corpus: str, per_passage: int | None, limit: int | None, batch: bool, yes: bool
) -> None:
    """Have Claude write questions about the documents, to tune on.

    The text of passages is sent to the API, or to [synthesis] base_url. What goes where, and what it may
    cost, is told and confirmed first. Questions are kept: run it again to go on where a run stopped, or to
    fetch a batch. Those whose passage the base model finds are pairs for `shoptalk tune`; none is ever used
    to judge. Needs ANTHROPIC_API_KEY.
    """
    from retrieval.embedders import open_embedder
    from trainer.synthesis import synthesize as write_questions

    workspace = invocation.workspace()
    if per_passage is not None:
        settings = workspace.synthesis.model_copy(update={"per_passage": per_passage})
        workspace = replace(workspace, synthesis=settings)

    def confirm(estimate: Estimate) -> None:
        click.echo(estimate.line(), err=True)
        if yes:
            return
        if not sys.stdin.isatty():
            raise click.UsageError("nothing was sent: say --yes where nobody can be asked")
        if not click.confirm("Send it?", err=True):
            raise ShoptalkError("nothing was sent")

    with invocation.progress() as progress:
        result = write_questions(
            workspace,
            workspace.corpus_name(corpus),
            open_embedder("base", workspace),
            batch=batch,
            limit=limit,
            confirm=confirm,
            tell=invocation.note,
            progress=progress,
        )
    invocation.emit(asdict(result), _text(result, workspace.synthesis.top_k))


def _text(result: Synthesis, top_k: int) -> str:
    tally = result.tally
    lines = [
        f"{result.passages:,} passages worth a question, {result.answered:,} of them asked about; "
        f"{result.questions:,} questions, {result.believed:,} of which find their passage among the best {top_k}"
    ]
    if result.asked:
        cost = "" if result.dollars is None else f", ${result.dollars:,.2f}"
        lines.append(f"this run: {tally.input_tokens:,} tokens in, {tally.output_tokens:,} out{cost}")
    troubles = {
        "refused": tally.refused,
        "answers malformed": tally.malformed,
        "requests failed": tally.failed,
        "questions dropped as unusable": tally.dropped,
    }
    if any(troubles.values()):
        counts = ", ".join(f"{count:,} {what}" for what, count in troubles.items() if count)
        first = f" (the first: {tally.first_failure})" if tally.first_failure else ""
        lines.append(f"left out: {counts}{first}")
    lines += [f"  {question}  ->  {document}" for question, document in result.examples]
    if result.believed:
        lines.append("Next: shoptalk tune")
    return "\n".join(lines)
