"""What every verb of the command line shares: its options, where its words go, its progress bar."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from retrieval.workspace import Workspace, unread_variables

__all__ = ["Duration", "Invocation", "Progress", "one_line", "pass_invocation", "printable", "silent", "staged"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; ``total`` is 0 while it is not known."""


# What steers a terminal or turns text around: C0 but tab and line feed, DEL, C1, and directions.
_CONTROLS = dict.fromkeys(
    [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd"
)


def printable(text: str) -> str:
    """Return ``text`` so that no file's name or content can steer the terminal it is written to."""
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """Return ``text`` so that a line break in a file's name makes no line of its own, which would pass for ours."""
    return re.sub(r"[\n\t]", "\ufffd", printable(text))


class Duration(click.ParamType):  # type: ignore[type-arg]  # it is generic in the newest releases only
    """A time such as 90s, 30m, 12h, 7d or 2w, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", str(value))
        if not match or not float(match[1]):
            self.fail(f"{value!r} is no time; write it as 90s, 30m, 12h, 7d or 2w", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


def silent(stage: str, done: int, total: int) -> None:
    """Report no progress."""


def staged(progress: Progress, stage: str) -> Progress:
    """The same reporter for work that is known by another name here: whatever stage it reports is told as ``stage``."""
    return lambda _, done, total: progress(stage, done, total)


@dataclass
class Invocation:
    """One call of the command line: the global options, and how to answer."""

    root: Path = Path(".")
    json: bool = False
    quiet: bool = False
    named: bool = False
    """Whether -w or SHOPTALK_WORKSPACE named the root."""
    _opened: bool = False

    def workspace(self) -> Workspace:
        """Open the workspace of this call; variables that look like misspelt settings are noted, once."""
        workspace = Workspace.open(self.root)
        if not self._opened:
            for name, near in unread_variables(os.environ):
                if near:
                    self.note(f"Note: {name} is set and nothing reads it; did you mean {near}?")
        self._opened = True
        return workspace

    def emit(self, value: Any, text: str, *, line: bool = False) -> None:
        """Write the answer to stdout: ``text`` or, where --json was given, ``value`` on one ``line`` or many."""
        plain = not (sys.stdout.encoding or "").lower().startswith("utf")
        indent = None if line else 2
        click.echo(json.dumps(value, ensure_ascii=plain, indent=indent) if self.json else printable(text))

    def note(self, message: str) -> None:
        """Say something beside the answer, on stderr, unless -q."""
        if not self.quiet:
            click.echo(one_line(message), err=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a reporter that draws one bar a stage on stderr, and nothing where that is no terminal."""
        if self.quiet or not sys.stderr.isatty():
            yield silent
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            ProgressColumn,
            Task,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars
        from rich.text import Text

        class Rate(ProgressColumn):
            """How many a second, of late; over the whole once all are done."""

            def render(self, task: Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")

        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            Rate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            tasks: dict[str, Any] = {}

            def report(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total or None)
                bars.update(tasks[stage], completed=done, total=total or None)

            yield report


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)
