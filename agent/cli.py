"""The verbs ``ask``, for one question, and ``chat``, for a conversation."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agent.plain import plain_values
from retrieval.console import Invocation, pass_invocation
from retrieval.errors import ShoptalkError
from retrieval.pointer import current_name

if TYPE_CHECKING:
    from agent.answer import Answer, Event, Listener
    from agent.sessions import Session, Sessions
    from retrieval.workspace import AgentSettings, Workspace

__all__ = ["ask", "chat", "check_indexes", "hush_libraries"]

_MOST_STDIN_BYTES = 4_000_000
_LATEST = "latest"


@click.command()
@click.argument("question", required=False)
@click.option("--model", metavar="NAME", help="The Claude model to ask (default: [agent] model).")
@click.option(
    "--max-turns",
    type=click.IntRange(min=1),
    help="Turns with searches before it must answer (default: [agent] max_turns).",
)
@click.option("--events", is_flag=True, help="Write what happens as it happens, a JSON object a line, the answer last.")
@pass_invocation
def ask(invocation: Invocation, question: str | None, model: str | None, max_turns: int | None, events: bool) -> None:
    """Have Claude search the corpora and answer one question, with citations.

    The QUESTION is read from standard input where it is not given. The answer and its footnotes go to
    standard output; the searches made, with their hit counts, to standard error. Needs
    ANTHROPIC_API_KEY, and an index (`shoptalk index`).
    """
    from agent.conversation import checked_question
    from agent.wording import no_answer

    if events and invocation.json:
        raise click.UsageError("--json is one object at the end, --events one a line; choose one.")
    text = checked_question(_read_question() if question is None else question)
    workspace = invocation.workspace()
    settings = _with_flags(workspace.agent, model=model, max_turns=max_turns)
    check_indexes(workspace)
    hush_libraries()
    if events:
        result = asyncio.run(_ask(workspace, settings, text, _Events()))
    elif invocation.json:
        from agent.screen import PlainScreen

        result = asyncio.run(_ask(workspace, settings, text, PlainScreen(invocation.quiet, live=False)))
        invocation.emit(plain_values({"question": text} | result.to_dict()), "")
    else:
        result = _ask_on_screen(workspace, settings, text, invocation.quiet)
    if problem := no_answer(result):
        raise ShoptalkError(problem)


@click.command()
@click.option("--model", metavar="NAME", help="The Claude model to talk to (default: [agent] model).")
@click.option(
    "--resume",
    metavar="[ID]",
    is_flag=False,
    flag_value=_LATEST,
    help="Go on with the conversation ID (or a part of it), without ID with the latest.",
)
@pass_invocation
def chat(invocation: Invocation, model: str | None, resume: str | None) -> None:
    """Talk with Claude, which searches the corpora, over as many questions as you like.

    Ctrl-C stops an answer; /help lists the commands. Each exchange is saved, so that --resume can go on
    with the conversation, whatever ended it. Needs ANTHROPIC_API_KEY, and an index (`shoptalk index`).
    """
    if invocation.json:
        raise click.UsageError("chat is for people; programs use `shoptalk ask --events`.")
    from agent.sessions import Session, Sessions

    workspace = invocation.workspace()
    check_indexes(workspace)
    hush_libraries()
    sessions = Sessions(workspace.root / "sessions")
    try:
        if resume is None:
            session = Session.new(model or workspace.agent.model)
        else:
            session = sessions.load("" if resume == _LATEST else resume, invocation.note)
        settings = _with_flags(workspace.agent, model=model or session.model)
        asyncio.run(_chat(workspace, settings, sessions, session, invocation.quiet))
    finally:
        sessions.release()


def check_indexes(workspace: Workspace) -> None:
    """Refuse to spend money on questions that this workspace's own server could search nothing for.

    Raises:
        ShoptalkError: no corpus has an index, or there is no corpus.
    """
    if workspace.agent.servers:
        return
    if not workspace.corpora:
        workspace.corpus_name()
    if workspace.store.kind != "local":
        return  # what lies in a vector database another machine may have put there
    folders = map(workspace.index_dir, workspace.corpora)
    if not any((name := current_name(folder)) and (folder / name).is_dir() for folder in folders):
        raise ShoptalkError(f"there is no index of {', '.join(sorted(workspace.corpora))} yet; run `shoptalk index`")


def hush_libraries() -> None:
    """Keep the libraries' warnings out of the conversation: without a handler of its own, logging prints them."""
    for name in ("mcp", "anthropic"):
        logging.getLogger(name).addHandler(logging.NullHandler())


def _with_flags(settings: AgentSettings, **flags: object) -> AgentSettings:
    return settings.model_copy(update={name: value for name, value in flags.items() if value is not None})


async def _ask(workspace: Workspace, settings: AgentSettings, question: str, tell: Listener) -> Answer:
    from agent.conversation import Agent

    async with Agent(workspace, settings=settings, on_event=tell) as agent:
        answer = await agent.ask(question)
    if isinstance(tell, _Events):
        tell.write({"event": "answer", "question": question} | answer.to_dict())
    return answer


def _ask_on_screen(workspace: Workspace, settings: AgentSettings, question: str, quiet: bool) -> Answer:
    from agent.screen import choose_screen

    screen = choose_screen(quiet)
    screen.begin()
    try:
        answer = asyncio.run(_ask(workspace, settings, question, screen))
        screen.finish(answer)
    finally:
        screen.stop()
    return answer


async def _chat(
    workspace: Workspace, settings: AgentSettings, sessions: Sessions, session: Session, quiet: bool
) -> None:
    from agent.answer import TurnDone
    from agent.conversation import Agent
    from agent.prompting import LineReader, PromptReader, Reader
    from agent.screen import can_move_cursor, choose_screen
    from agent.terminal import COMMANDS, Chat

    screen = choose_screen(quiet)
    turns: list[TurnDone] = []

    def hear(event: Event) -> None:
        if isinstance(event, TurnDone):
            turns.append(event)
        screen(event)

    async with Agent(workspace, settings=settings, on_event=hear) as agent:
        attended = sys.stdin.isatty()
        editing = attended and can_move_cursor()
        reader: Reader = PromptReader(sessions.history_file, list(COMMANDS)) if editing else LineReader(attended)
        await Chat(agent, sessions, session, screen, turns).run(reader)


def _read_question() -> str:
    if (stream := sys.stdin.buffer).isatty():
        raise click.UsageError("Give a QUESTION, or pipe one in.")
    data = stream.read(_MOST_STDIN_BYTES + 1)
    if len(data) > _MOST_STDIN_BYTES:
        raise ShoptalkError(f"standard input is longer than {_MOST_STDIN_BYTES:,} bytes; ask about less of it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ShoptalkError(f"standard input is not UTF-8 (byte {error.start}); convert it first") from None


class _Events:
    """Writes each event as a line of JSON: ``{"event": "query_done", "query": {…}}``."""

    def __call__(self, event: Event) -> None:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
        self.write({"event": name} | asdict(event))

    def write(self, value: dict[str, object]) -> None:
        """Write one object, at once."""
        click.echo(json.dumps(plain_values(value), ensure_ascii=False))
        sys.stdout.flush()
