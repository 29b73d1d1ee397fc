"""The verb ``evaluate-answers``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli import check_indexes, hush_libraries
from agent.plain import plain_values
from retrieval.console import Invocation, Progress, pass_invocation
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from agent.evaluating import Evaluation
    from agent.questions import Question
    from retrieval.workspace import AgentSettings, Workspace

__all__ = ["evaluate_answers"]


@click.command()
@click.argument("questions", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", metavar="NAME", help="The Claude model to ask (default: [agent] model).")
@click.option("-n", "--limit", type=click.IntRange(min=1), help="Ask only the first so many questions.")
@click.option("--judge", metavar="NAME", help="Have this Claude model say what it thinks of each answer, too.")
@pass_invocation
def evaluate_answers(
    invocation: Invocation, questions: Path, model: str | None, limit: int | None, judge: str | None
) -> None:
    """Have Claude answer questions with known sources, and measure the answers.

    QUESTIONS is a folder in BEIR's layout (queries.jsonl, qrels.tsv). Questions without a relevant
    document, or marked "answerable": false, should be declined. Each question is asked in a
    conversation of its own, and costs what `shoptalk ask` costs. Needs ANTHROPIC_API_KEY.
    """
    from agent.evaluating import BY_CTRL_C
    from agent.questions import read_questions

    asked = read_questions(questions)[:limit]
    workspace = invocation.workspace()
    check_indexes(workspace)
    hush_libraries()
    settings = workspace.agent if model is None else workspace.agent.model_copy(update={"model": model})
    with invocation.progress() as progress:
        evaluation = asyncio.run(_evaluate(workspace, settings, asked, judge, invocation, progress))
    invocation.emit(plain_values(evaluation.to_dict()), str(evaluation))
    if evaluation.stopped == BY_CTRL_C:
        raise KeyboardInterrupt
    if evaluation.stopped:
        raise ShoptalkError(evaluation.stopped)


async def _evaluate(
    workspace: Workspace,
    settings: AgentSettings,
    questions: list[Question],
    judge: str | None,
    invocation: Invocation,
    progress: Progress,
) -> Evaluation:
    from agent.evaluating import evaluate

    if judge is None:
        return await evaluate(workspace, settings, questions, progress)
    from agent.answer import Event, Notice
    from agent.faults import make_client
    from agent.judging import Judge

    def hear(event: Event) -> None:
        if isinstance(event, Notice):
            invocation.note(f"Note: the judge: {event.text}")

    async with make_client() as client:
        return await evaluate(workspace, settings, questions, progress, Judge(client, judge, hear))
