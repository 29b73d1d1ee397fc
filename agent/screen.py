"""What a person sees while a question is answered: on a terminal, on a plain one, and in a pipe."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, Protocol

import click

from agent.answer import Answer, Cited, Event, Notice, QueryDone, QueryStarted, TextDelta, Thinking, TurnDone, Withdrawn
from agent.markdown import rendered, split_blocks
from agent.plain import PlainStream, one_line, plain
from agent.wording import answer_text, footnotes, marked, marks, query_line, unmarked

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live

__all__ = ["LiveScreen", "PlainScreen", "Screen", "can_move_cursor", "choose_screen"]

_REDRAWS_A_SECOND = 8
_THOUGHT_SHOWN = 60
_GROWTH = 1.25
"""By how much a text must have grown before it is looked through for whole blocks again.

Each look reads all of it: one a line would make a long list cost the square of its length.
"""
_SIGNS = "shoptalk.signs"
_NOT_THE_ANSWER = "(What stands above is not part of the answer.)"


class Screen(Protocol):
    """Is told what happens between ``begin`` and either ``finish`` or ``stop``."""

    def __call__(self, event: Event) -> None:
        """Show what happened."""

    def begin(self) -> None:
        """A question is on its way."""

    def finish(self, answer: Answer) -> None:
        """Show what is not shown yet of ``answer``, and its footnotes."""

    def stop(self) -> None:
        """No answer will come (or it has been finished): leave the terminal as it was found."""

    def replay(self, answer: Answer) -> None:
        """Show an answer of earlier."""

    def say(self, text: str) -> None:
        """Show a person's own request: plain text, on standard output."""

    def note(self, text: str) -> None:
        """Say something beside the answer."""


def choose_screen(quiet: bool) -> Screen:
    """Rendered where standard output is a terminal that can move its cursor, else plain text."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        codecs.register_error(_SIGNS, _without_sign)
        sys.stdout.reconfigure(errors=_SIGNS)
    terminal = sys.stdout.isatty()
    return LiveScreen(quiet) if terminal and can_move_cursor() else PlainScreen(quiet, live=terminal)


def _without_sign(error: UnicodeError) -> tuple[str | bytes, int]:
    """A terminal of Latin-1 shows ``⟦1⟧`` as ``[1]``, and what else it has no sign for as its number."""
    if isinstance(error, UnicodeEncodeError):
        error.end = error.start + 1
        sign = error.object[error.start]
        if unmarked(sign) != sign:
            return unmarked(sign), error.end
    return codecs.backslashreplace_errors(error)


def can_move_cursor() -> bool:
    """Whether the terminal, if there is one, is more than a typewriter."""
    return os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class PlainScreen:
    """Text and nothing but text: notes on standard error, the answer on standard output.

    ``live``: the answer is shown as it comes, else at its end, when nothing of it can be withdrawn.
    """

    def __init__(self, quiet: bool, live: bool) -> None:
        self._quiet = quiet
        self._live = live
        self._line_open = False
        self._shown = False
        self._stream = PlainStream()

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case TextDelta(text) if self._live:
                self._write(unmarked(self._stream.feed(text)))
            case Cited(citations) if self._live:
                self._write(marks(number for number, _ in citations))
            case Withdrawn():
                self._withdraw()
            case QueryDone(query):
                self.note(query_line(query))
            case Notice(text):
                self.note(f"Note: {one_line(text)}")

    def begin(self) -> None:
        """Nothing is shown of a question on its way."""
        self._stream, self._shown = PlainStream(), False

    def finish(self, answer: Answer) -> None:
        """Print the answer where it was not shown as it came, then its footnotes."""
        self._end_line()
        if self._live:
            self._print_footnotes(answer)
        else:
            self.replay(answer)

    def stop(self) -> None:
        """End the line that was begun."""
        self._end_line()

    def replay(self, answer: Answer) -> None:
        """Print the answer with its footnotes."""
        if text := answer_text(answer):
            click.echo(text)
        self._print_footnotes(answer)

    def say(self, text: str) -> None:
        """Print ``text``."""
        click.echo(plain(text))

    def note(self, text: str) -> None:
        """Print ``text`` on standard error, unless -q."""
        self._end_line()
        if not self._quiet:
            click.echo(plain(text), err=True)

    def _print_footnotes(self, answer: Answer) -> None:
        if answer.citations:
            click.echo()
        for line in footnotes(answer):
            click.echo(line)

    def _withdraw(self) -> None:
        self._end_line()
        if self._shown:
            click.echo(_NOT_THE_ANSWER)
        self._stream, self._shown = PlainStream(), False

    def _write(self, text: str) -> None:
        click.echo(text, nl=False)
        sys.stdout.flush()
        self._line_open = self._line_open or bool(text)
        self._shown = self._shown or bool(text)

    def _end_line(self) -> None:
        if self._line_open:
            click.echo()
            self._line_open = False


class LiveScreen:
    """Markdown, rendered: whole blocks scroll by, and below them stands what is still growing.

    Only those lines at the bottom are ever drawn again, and never more of them than the window has.
    """

    def __init__(self, quiet: bool, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.spinner import Spinner

        self._quiet = quiet
        self._console = console or Console(highlight=False)
        self._spinner = Spinner("dots", style="dim")
        self._live: Live | None = None
        self._stream = PlainStream()
        self._text = ""
        self._next_look = 0
        self._blocks = 0
        self._thought = ""
        self._running: list[tuple[str, str]] = []

    def __call__(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case Thinking(text):
                self._thought += text
            case TurnDone():
                self._thought = ""
            case TextDelta(text):
                self._grow(unmarked(self._stream.feed(text)))
            case Cited(citations):
                self._text = marked(self._text, (number for number, _ in citations))
            case Withdrawn():
                self._withdraw()
            case QueryStarted(tool, text):
                self._running.append((tool, text))
            case QueryDone(query):
                if (query.tool, query.text) in self._running:
                    self._running.remove((query.tool, query.text))
                self.note(query_line(query))
            case Notice(text):
                self.note(f"Note: {one_line(text)}")

    def begin(self) -> None:
        """Show that a question is on its way."""
        from rich.live import Live

        self._stream, self._blocks, self._thought = PlainStream(), 0, ""
        self._live = Live(
            console=self._console,
            get_renderable=self._growing,
            refresh_per_second=_REDRAWS_A_SECOND,
            transient=True,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def finish(self, answer: Answer) -> None:
        """Print the end of the answer, then its footnotes."""
        self.stop()
        self._print_footnotes(answer)

    def stop(self) -> None:
        """Print what has come of the answer, and give the cursor back."""
        if self._live is None:
            return
        rest, self._text, self._next_look = self._text, "", 0
        if rest.strip():
            self._print_blocks(rest)
        self._running = []
        self._live.stop()
        self._live = None

    def replay(self, answer: Answer) -> None:
        """Print the answer, rendered, with its footnotes."""
        if text := answer_text(answer):
            self._console.print(rendered(text))
        self._print_footnotes(answer)

    def say(self, text: str) -> None:
        """Print ``text`` as it stands."""
        self._print(text)

    def note(self, text: str) -> None:
        """Print ``text``, unless -q: above what is growing, or on standard error where that leads elsewhere."""
        if self._quiet:
            return
        if sys.stderr.isatty():
            self._print(text, "dim")
        else:
            click.echo(plain(text), err=True)

    def _grow(self, text: str) -> None:
        self._text += text
        # Without a line that has become whole there is no new block.
        if "\n" not in text or len(self._text) < self._next_look:
            return
        whole, self._text = split_blocks(self._text)
        self._next_look = int(_GROWTH * len(self._text))
        if whole.strip():
            self._print_blocks(whole)

    def _print_blocks(self, text: str) -> None:
        if self._blocks:
            self._console.print()
        self._console.print(rendered(text))
        self._blocks += 1

    def _withdraw(self) -> None:
        self._text, self._next_look = "", 0
        self._stream = PlainStream()
        if self._blocks:
            self._print(_NOT_THE_ANSWER, "dim")
        self._blocks = 0

    def _print_footnotes(self, answer: Answer) -> None:
        if answer.citations:
            self._console.print()
        for line, citation in zip(footnotes(answer), answer.citations, strict=True):
            self._print(line, "dim" if citation.valid else "red")

    def _print(self, text: str, style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text(plain(text), style=style))

    def _growing(self) -> RenderableType:
        """The block that is not whole yet, and the searches under way. Called from the thread that redraws."""
        from rich.console import Group
        from rich.text import Text

        running, text, thought = list(self._running), self._text, self._thought
        parts: list[RenderableType] = [rendered(text)] if text.strip() else []
        asides = [one_line(f"{tool}: {query} …") for tool, query in running]
        if thought and not parts:
            asides.append(f"… {one_line(thought[-_THOUGHT_SHOWN:])}")
        parts += [Text(unmarked(line), style="dim", no_wrap=True, overflow="ellipsis") for line in asides]
        return _Bottom(Group(*parts or [self._spinner]))


class _Bottom:
    """The last lines of something, as many as the window can show, and the cursor on a line of its own.

    There a terminal writes the ``^C`` of a person who stops an answer, and does not break the lines above.
    """

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        lines = console.render_lines(self._renderable, options, pad=False)
        for line in lines[-max(1, console.size.height - 3) :]:
            yield from line
            yield Segment.line()
        yield Segment(" ")
