"""Where a chat's questions come from: a person at a terminal, or a pipe."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Protocol

import click

from agent.interrupts import Stopped, stoppable

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

__all__ = ["LineReader", "PromptReader", "Reader"]

_HOW_TO_END = "Ctrl-C again, or Ctrl-D, ends the chat."


class Reader(Protocol):
    """Gives one question or command after another; ``attended``: a person is there, to mend what goes wrong."""

    attended: bool

    async def read(self) -> str | None:
        """The next one, None at the end."""


class PromptReader:
    """A line editor with history, completion of ``/`` commands, and more than one line where one is wanted.

    prompt_toolkit, not readline: it waits for keys inside the event loop, so that the servers' connections live on
    while a person thinks; it keeps pasted lines together; and it is the same on every system.
    """

    attended = True

    def __init__(self, history: Path | None, commands: Sequence[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.output.defaults import create_output

        self._session: PromptSession[str] = PromptSession(
            history=None if history is None else FileHistory(str(history)),
            completer=WordCompleter(list(commands), sentence=True),
            complete_while_typing=False,
            key_bindings=_keys(),
            # With standard output in a pipe, the prompt stays on the terminal.
            output=None if sys.stdout.isatty() else create_output(always_prefer_tty=True),
        )

    async def read(self) -> str | None:
        """The next question, None at Ctrl-D.

        Ctrl-C drops what was typed.

        Raises:
            click.Abort: Ctrl-C, twice in a row with nothing typed.
        """
        warned = False
        while True:
            try:
                return await self._session.prompt_async("> ")
            except EOFError:
                return None
            except KeyboardInterrupt:
                typed = bool(self._session.default_buffer.text)
                if warned and not typed:
                    raise click.Abort from None
                warned = not typed
                if warned:
                    click.echo(_HOW_TO_END, err=True)


def _keys() -> KeyBindings:
    """Alt-Enter, or a backslash before Enter, begins a new line."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.char_before_cursor == "\\":
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    return keys


class LineReader:
    """The lines of standard input; one that ends with a backslash goes on in the next.

    They are read in a thread of their own, which nothing waits for: a read that blocks can then be left by Ctrl-C.
    ``attended``: input is a terminal, though one without a cursor that can be moved.
    """

    def __init__(self, attended: bool) -> None:
        self.attended = attended
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        descriptor = sys.stdin.fileno()

        def pump() -> None:
            # Not through sys.stdin: a thread that waits inside it keeps the interpreter from ending.
            rest = b""
            with suppress(OSError):  # Closed by whoever gave it: that is its end.
                while chunk := os.read(descriptor, 65536):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        put(line + b"\n")
            if rest:
                put(rest)
            put(b"")

        def put(line: bytes) -> None:
            with suppress(RuntimeError):  # The loop is closed: the chat is over.
                loop.call_soon_threadsafe(self._lines.put_nowait, line.decode("utf-8", "surrogateescape"))

        Thread(target=pump, daemon=True).start()

    async def read(self) -> str | None:
        """The next question, None at the end of the input.

        Raises:
            click.Abort: Ctrl-C, twice in a row.
        """
        for attempt in (1, 2):
            if self.attended:
                click.echo("> ", nl=False, err=not sys.stdout.isatty())
            try:
                return await stoppable(self._question())
            except Stopped:
                if attempt == 1:
                    click.echo(f"\n{_HOW_TO_END}", err=True)
        raise click.Abort

    async def _question(self) -> str | None:
        question = ""
        while line := await self._lines.get():
            question += line.rstrip("\r\n")
            if not question.endswith("\\"):
                return question
            question = question[:-1] + "\n"
        return question or None
