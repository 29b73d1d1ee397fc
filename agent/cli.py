"""The verb ``ask``: one question, one answer with footnotes."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import click

from agent.plain import one_line, plain
from retrieval.console import Invocation, pass_invocation
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from agent.answer import Answer, Event, Query
    from agent.citations import Citation

__all__ = ["ask"]

_MOST_STDIN_BYTES = 4_000_000


@click.command()
@click.argument("question", required=False)
@click.option("--model", metavar="NAME", help="The Claude model to ask (default: [agent] model).")
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    help="Turns with searches before it must answer (default: [agent] max_turns).",
)
@pass_invocation
def ask(invocation: Invocation, question: str | None, model: str | None, max_turns: int | None) -> None:
    """Have Claude search the corpora and answer one question, with citations.

    The QUESTION is read from standard input where it is not given. The answer and its footnotes go to
    standard output; the searches made, with their hit counts, to standard error. Needs
    ANTHROPIC_API_KEY, and an index (`shoptalk index`).
    """
    from agent.conversation import Agent, checked_question

    text = checked_question(_read_question() if question is None else question)
    workspace = invocation.workspace()
    overrides = {"model": model, "max_turns": max_turns}
    settings = workspace.agent.model_copy(
        update={name: value for name, value in overrides.items() if value is not None}
    )
    # Without a handler of its own, logging would write the libraries' warnings into the conversation.
    for name in ("mcp", "anthropic"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    teller = _Teller(invocation, live=sys.stdout.isatty() and not invocation.json)

    async def answer() -> Answer:
        async with Agent(workspace, settings=settings, on_event=teller) as agent:
            return await agent.ask(text)

    result = asyncio.run(answer())
    if invocation.json:
        invocation.emit(_plain_values({"question": text} | result.to_dict()), "")
    else:
        teller.finish(result)
    if not result.text.strip():
        raise ShoptalkError(f"no answer: {one_line(result.notes[-1])}" if result.notes else "no answer")


def _read_question() -> str:
    if sys.stdin is None or (stream := sys.stdin.buffer).isatty():
        raise click.UsageError("Give a QUESTION, or pipe one in.")
    data = stream.read(_MOST_STDIN_BYTES + 1)
    try:
        return data[:_MOST_STDIN_BYTES].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ShoptalkError(f"standard input is not UTF-8 (byte {error.start}); convert it first") from None


class _Teller:
    """Shows what happens: searches and notices on stderr; on a terminal, the answer as it comes."""

    def __init__(self, invocation: Invocation, live: bool) -> None:
        self._invocation = invocation
        self._live = live
        self._line_open = False

    def __call__(self, event: Event) -> None:
        from agent.answer import Cited, Notice, QueryDone, TextDelta, Withdrawn

        match event:
            case TextDelta(text) if self._live:
                self._write(plain(text))
            case Cited(citations) if self._live:
                self._write(_marks(tuple(number for number, _ in citations)))
            case Withdrawn():
                self._end_line()
            case QueryDone(query):
                self._note(_query_line(query))
            case Notice(text):
                self._note(f"Note: {one_line(text)}")

    def finish(self, answer: Answer) -> None:
        """Print the answer where it was not shown live, then its footnotes."""
        if self._live:
            self._end_line()
        else:
            text = "".join(plain(part.text) + _marks(part.citations) for part in answer.segments)
            if text.strip():
                click.echo(text.rstrip())
        if answer.citations:
            click.echo()
        for number, citation in enumerate(answer.citations, 1):
            click.echo(_footnote(number, citation))

    def _write(self, text: str) -> None:
        click.echo(text, nl=False)
        sys.stdout.flush()
        self._line_open = self._line_open or bool(text)

    def _end_line(self) -> None:
        if self._line_open:
            click.echo()
            self._line_open = False

    def _note(self, text: str) -> None:
        self._end_line()
        self._invocation.note(text)


def _marks(numbers: tuple[int, ...]) -> str:
    return "".join(f"[{number}]" for number in numbers)


def _query_line(query: Query) -> str:
    """``search_corpus: parental leave → 5 hits (hybrid)``."""
    if query.error:
        result = f"failed: {query.error}"
    elif query.repeated:
        result = "already answered"
    elif query.hits is None:
        result = "done"
    else:
        result = f"{query.hits} {'hit' if query.hits == 1 else 'hits'}" + (f" ({query.mode})" if query.mode else "")
    degraded = f"; degraded: {query.degraded}" if query.degraded else ""
    return one_line(f"{query.tool}: {query.text} → {result}{degraded}")


def _footnote(number: int, citation: Citation) -> str:
    quote = one_line(citation.quote, 200)
    wrong = "" if citation.valid else f" INVALID: {one_line(citation.reason)}"
    return f'[{number}]{wrong} {one_line(citation.place)} "{quote}"'


def _plain_values(value: object) -> object:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {key: _plain_values(part) for key, part in value.items()}
    return [_plain_values(part) for part in value] if isinstance(value, list | tuple) else value
