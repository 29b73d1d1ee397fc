"""What a person sees while an answer comes, without a terminal's help."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import agent.screen
from agent import TextDelta
from agent.markdown import split_blocks
from agent.screen import LiveScreen


def test_a_long_list_is_read_a_few_times_and_not_once_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(text: str) -> tuple[str, str]:
        read.append(len(text))
        return split_blocks(text)

    monkeypatch.setattr(agent.screen, "split_blocks", counted)
    items = [f"- item {number} with some words to read\n" for number in range(400)]
    console = Console(file=io.StringIO(), width=60)
    screen = LiveScreen(quiet=False, console=console)
    screen.begin()
    for item in [*items, "\nOne.\n", "\nTwo.\n"]:
        screen(TextDelta(item))
    screen.stop()
    assert sum(read) < 10 * sum(map(len, items))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(shown.count(f"item {number} with") == 1 for number in range(400)) and "Two." in shown
