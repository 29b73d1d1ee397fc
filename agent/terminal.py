"""The chat: questions, answers and commands, one after another."""

from __future__ import annotations

import re
from collections.abc import Callable

import click

from agent.answer import TurnDone
from agent.conversation import Agent
from agent.interrupts import Stopped, stoppable
from agent.plain import one_line, plain
from agent.prompting import Reader
from agent.screen import Screen
from agent.sessions import Exchange, Session, Sessions
from agent.transcript import Transcript
from agent.wording import answer_text, footnotes, no_answer
from retrieval.errors import ShoptalkError
from retrieval.workspace import home_expanded

__all__ = ["COMMANDS", "Chat"]

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
_MOST_LISTED = 10
_NOT_COUNTED = "A turn that was cut off is not counted."

COMMANDS = {
    "/help": "these commands",
    "/model": "which Claude answers; /model NAME: another from now on",
    "/tools": "what Claude may call",
    "/sources": "what the last answer rests on, quoted in full, and what else was found",
    "/tokens": "tokens used so far",
    "/cost": "dollars spent so far",
    "/clear": "begin a new conversation",
    "/save": "/save FILE: write the conversation as Markdown",
    "/resume": "conversations that are kept; /resume ID: go on with one",
    "/exit": "end the chat, as Ctrl-D does",
}


class Chat:
    """A conversation with a person. ``session`` is what of it is kept; ``turns`` is where ``agent``'s are noted."""

    def __init__(
        self, agent: Agent, sessions: Sessions, session: Session, screen: Screen, turns: list[TurnDone]
    ) -> None:
        self.session = session
        self._turns = turns
        self._agent = agent
        self._sessions = sessions
        self._screen = screen
        self._over = False
        self._attended = True
        self._kept = True
        self._actions: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/model": self._model,
            "/tools": self._tools,
            "/sources": self._sources,
            "/tokens": self._tokens,
            "/cost": self._cost,
            "/clear": self._clear,
            "/save": self._save,
            "/resume": self._resume,
            "/exit": self._exit,
        }

    async def run(self, reader: Reader) -> None:
        """Answer what ``reader`` gives until its end, or ``/exit``.

        Raises:
            ShoptalkError: something failed, and no person is there to mend it.
        """
        self._attended = reader.attended
        if self.session.exchanges:
            self._go_on()
        else:
            self._screen.note(f"{self._agent.settings.model}; /help lists the commands, Ctrl-D ends.")
        while not self._over and (line := await reader.read()) is not None:
            try:
                await self._take(line.strip())
            except ShoptalkError as error:
                if not self._attended:
                    raise
                click.echo(f"Error: {plain(str(error))}", err=True)

    async def _take(self, text: str) -> None:
        command = _COMMAND.fullmatch(text)
        if command is None:
            if text:
                await self._answer(text)
            return
        action = self._actions.get(f"/{command[1]}")
        if action is None:
            raise ShoptalkError(f"there is no command /{command[1]}; /help lists them")
        action((command[2] or "").strip())

    async def _answer(self, question: str) -> None:
        self._screen.begin()
        self._turns.clear()
        try:
            answer = await stoppable(self._agent.ask(question))
            self._screen.finish(answer)
        except ShoptalkError:
            self._lose_turns()
            raise
        except Stopped:
            self._lose_turns()
            self._screen.stop()
            self._screen.note("Stopped; the question is not part of the conversation.")
            return
        finally:
            self._screen.stop()
        self.session.exchanges.append(Exchange(question, answer))
        self._keep()
        # A person has seen the note.
        if not self._attended and (problem := no_answer(answer)):
            raise ShoptalkError(problem)

    def _lose_turns(self) -> None:
        """The question came to no answer, but its turns were paid for."""
        self.session.lost += self._turns
        if self._turns and self.session.exchanges:
            self._keep()

    def _keep(self) -> None:
        """Save the conversation; where that fails, the chat goes on all the same."""
        session = self.session
        session.model, session.prompt_version = self._agent.settings.model, self._agent.prompt_version
        session.transcript = self._agent.transcript.to_dict()
        try:
            if not self._sessions.hold(session.id):
                lost, session.id = session.id, Session.new(session.model).id
                self._screen.note(f"Note: another chat goes on with {lost}; this one is kept as {session.id}.")
                self._sessions.hold(session.id)
            self._sessions.save(session)
            self._kept = True
        except ShoptalkError as error:
            if self._kept:
                self._screen.note(f"Note: {error}")
            self._kept = False

    def _go_on(self) -> None:
        """Take up ``session`` where it was left."""
        session = self.session
        self._agent.transcript = Transcript.from_dict(session.transcript)
        last = session.exchanges[-1]
        count = len(session.exchanges)
        asked = f"{count} question{'s' if count > 1 else ''}"
        self._screen.note(f"Resumed {session.id} with {self._agent.settings.model}; {asked} so far.")
        self._screen.say(f"> {last.question}")
        self._screen.replay(last.answer)

    def _help(self, _: str) -> None:
        width = max(map(len, COMMANDS))
        lines = [f"{name:<{width}}  {text}" for name, text in COMMANDS.items()]
        keys = "Alt-Enter, or \\ before Enter, begins a new line. Ctrl-C stops an answer; twice at the prompt it ends."
        self._screen.say("\n".join([*lines, keys]))

    def _model(self, name: str) -> None:
        if name:
            self._agent.settings = self._agent.settings.model_copy(update={"model": name.split()[0]})
        self._screen.say(self._agent.settings.model)

    def _tools(self, _: str) -> None:
        tools = self._agent.tools
        self._screen.say("\n".join(f"{tool['name']}: {one_line(tool['description'], 160)}" for tool in tools))

    def _sources(self, _: str) -> None:
        if not self.session.exchanges:
            raise ShoptalkError("nothing has been asked yet")
        answer = self.session.exchanges[-1].answer
        lines = footnotes(answer, quoted=10_000) or ["The last answer cites nothing."]
        cited = {citation.place.rpartition(":")[0] for citation in answer.citations if citation.valid}
        found = dict.fromkeys(place for query in answer.queries for place in query.sources)
        others = [place for place in found if place.rpartition(":")[0] not in cited]
        self._screen.say("\n".join([*lines, *([f"Found as well: {', '.join(others)}"] if others else [])]))

    def _tokens(self, _: str) -> None:
        usage = self.session.usage
        answers = [exchange.answer for exchange in self.session.exchanges]
        self._screen.say(
            f"{usage.all_input_tokens:,} in ({usage.cache_read_input_tokens:,} of them from the cache), "
            f"{usage.output_tokens:,} out; {len(answers)} answers, "
            f"{sum(answer.turns for answer in answers) + len(self.session.lost)} turns, "
            f"{sum(len(answer.queries) for answer in answers)} tool calls. {_NOT_COUNTED}"
        )

    def _cost(self, _: str) -> None:
        from retrieval.prices import AS_OF

        dollars = self.session.dollars
        if dollars is None:
            models = ", ".join(self.session.unpriced)
            raise ShoptalkError(f"the price of {models} is not known; set it under [agent.prices]")
        self._screen.say(f"${dollars:.4f}, by list prices of {AS_OF}. {_NOT_COUNTED}")

    def _clear(self, _: str) -> None:
        self._agent.transcript = Transcript()
        self.session = Session.new(self._agent.settings.model)
        self._sessions.release()
        self._screen.note("A new conversation.")

    def _save(self, name: str) -> None:
        if not name:
            raise ShoptalkError("name a file, as in: /save leave.md (the conversation itself is kept in any case)")
        if not self.session.exchanges:
            raise ShoptalkError("nothing has been asked yet")
        file = home_expanded(name)
        parts = [f"# {self.session.title}"]
        for exchange in self.session.exchanges:
            parts += [f"## {plain(exchange.question)}", answer_text(exchange.answer)]
            parts += ["\n".join(f"- {line}" for line in footnotes(exchange.answer))]
        try:
            with file.open("x", encoding="utf-8") as stream:
                stream.write("\n\n".join(part for part in parts if part) + "\n")
        except FileExistsError:
            raise ShoptalkError(f"{file} exists already; name another file") from None
        except OSError as error:
            raise ShoptalkError(f"{file} cannot be written: {error.strerror}") from None
        self._screen.say(f"Written to {file}.")

    def _resume(self, part: str) -> None:
        if not part:
            lines = [self._listed(name) for name in self._sessions.ids()[:_MOST_LISTED]]
            self._screen.say("\n".join(lines) or "No conversation is kept yet.")
            return
        self.session = self._sessions.load(part)
        self._agent.settings = self._agent.settings.model_copy(update={"model": self.session.model})
        self._go_on()

    def _listed(self, name: str) -> str:
        try:
            session = self._sessions.read(name)
        except ShoptalkError as error:
            return f"{name}  {error}"
        return f"{name}  {len(session.exchanges):3} questions  {session.title}"

    def _exit(self, _: str) -> None:
        self._over = True
