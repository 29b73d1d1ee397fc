"""``shoptalk chat`` as a person meets it: in a real terminal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from messages_server import Block, Fault, MessagesServer, Reply, cited, location, search_results, text, tool_use
from terminals import PROMPT, Terminal

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

CHAT = [sys.executable, str(Path(__file__).with_name("ask_process.py")), "chat"]
SEARCH = tool_use("search_corpus", query="leave")
ADVICE = "Parents take up to ten weeks, which may be split in two parts and end within a year of the birth."


def advice(body: Block) -> Reply:
    result = search_results(body)[0]
    place = location(0, result["source"], result["content"][1]["text"], 1, 2)
    return text("**Ten weeks.**\n\n", cited(ADVICE, place))


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(environment: None) -> Iterator[Open]:
    """``with terminal("--resume", width=40) as window: …``; ``TERM`` and the like by ``variables``."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tmux")))
        numbers = count()

        def open_window(*arguments: str, variables: tuple[str, ...] = (), **options: object) -> Terminal:
            own = folder / str(next(numbers))
            own.mkdir()
            command = ["env", "--unset=COLUMNS", "--unset=LINES", *variables, *CHAT, *arguments]
            return stack.enter_context(Terminal(own, command, **options))  # type: ignore[arg-type]

        yield open_window


def test_an_answer_streams_is_stopped_by_ctrl_c_and_the_chat_goes_on(terminal: Open, api: MessagesServer) -> None:
    unfinished = Fault("hang", reply=text("**Eleven weeks**, I think, but let me see what else there is."), after=6)
    api.script[:] = [SEARCH, unfinished, SEARCH, advice]
    window = terminal()
    window.wait_prompt()
    window.ask("How long?")
    window.wait_for("search_corpus: leave → 1 hit (hybrid)", "Eleven weeks, I think")
    window.keys("C-c")
    window.wait_for("Stopped; the question is not part of the conversation.", PROMPT, after="Eleven weeks, I")
    window.keys("How", "Space", "long", "M-Enter")
    window.ask("is leave?")
    seen = window.wait_for('⟦1⟧ handbook/leave.md:14 "Parents take up to ten weeks', PROMPT, after="is leave?")
    assert "Ten weeks.\n" in seen and "**" not in seen
    question = api.requests[-1]["messages"][0]["content"][0]["text"]
    assert question == "How long\nis leave?"
    window.wait_prompt(after="⟦1⟧ handbook")
    window.keys("typed")
    window.keys("C-c")
    window.wait_prompt(after="typed")
    window.keys("C-c")
    window.wait_prompt(after="Ctrl-C again, or Ctrl-D, ends the chat.")
    window.keys("C-c")
    seen = window.wait_for("left with 130")
    assert seen.count("Eleven weeks") == 1


def test_a_chat_that_was_killed_is_resumed(terminal: Open, api: MessagesServer, tmp_path: Path) -> None:
    api.script[:] = [SEARCH, advice, Fault("hang", reply=text("Four weeks ahead, at the least."), after=6)]
    killed = terminal()
    killed.wait_prompt()
    killed.ask("How long is leave?")
    killed.wait_for(PROMPT, after="⟦1⟧ handbook/leave.md:14")
    killed.ask("When must I tell?")
    killed.wait_for("Four weeks")
    for process in killed.processes():
        os.kill(process, signal.SIGKILL)
    killed.wait_for("left with 137")
    api.script[:] = [text("Four weeks ahead.")]
    window = terminal("--resume", width=36)
    seen = window.wait_for("Resumed", "⟦1⟧ handbook/leave.md:14", PROMPT)
    assert "> How long is leave?" in seen and "When must I tell" not in seen
    assert " ".join(seen.split()).count(ADVICE) == 1 and max(map(len, seen.splitlines())) <= 36
    window.ask("When must I tell?")
    window.wait_for("Four weeks ahead.", PROMPT, after="tell?")
    window.keys("C-d")
    window.wait_for("left with 0")
    assert len(api.requests[-1]["messages"]) == 5
    assert "When must I tell?" in (tmp_path / "sessions" / "history").read_text()


def test_a_narrow_window_without_colours_shows_every_word(terminal: Open, api: MessagesServer) -> None:
    listed = "".join(f"- item {number} of a list that is longer than the window\n" for number in range(12))
    api.script[:] = [text(f"{listed}\nThat was `all`.")]
    window = terminal(width=24, height=10, variables=("NO_COLOR=1",))
    window.wait_prompt()
    window.ask("List?")
    seen = window.wait_for("That was all.", PROMPT, after="List?")
    words = " ".join(seen.replace("•", "").split())
    assert all(words.count(f"item {number} of a list that is longer than the window") == 1 for number in range(12))
    assert "- item" not in seen
    assert not re.search(rb"\x1b\[(?:\d+;)*[349][0-7](?:;\d+)*m", window.raw)


def test_a_dumb_terminal_gets_text_and_no_escapes(terminal: Open, api: MessagesServer) -> None:
    api.script[:] = [SEARCH, advice]
    window = terminal(variables=("TERM=dumb",))
    window.wait_prompt()
    window.ask("How long is leave?")
    seen = window.wait_for("**Ten weeks.**", "⟦1⟧ handbook/leave.md:14", PROMPT, after="leave?")
    assert "search_corpus: leave → 1 hit (hybrid)" in seen
    window.ask("/exit")
    window.wait_for("left with 0")
    assert b"\x1b" not in window.raw


def test_what_a_failed_question_took_is_counted(terminal: Open, api: MessagesServer) -> None:
    api.script[:] = [SEARCH, Fault("status", 400, "invalid_request_error")]
    window = terminal(variables=("TERM=dumb",))
    window.wait_prompt()
    window.ask("How long is leave?")
    window.wait_for("Error: the API refused the request (400)", PROMPT, after="leave?")
    window.ask("/tokens")
    window.wait_for("200 in (70 of them from the cache), 20 out; 0 answers, 1 turns", PROMPT, after="/tokens")
    window.ask("/cost")
    window.wait_for(f"${((100 + 70 * 0.1 + 30 * 1.25) * 4 + 20 * 20) / 1e6:.4f}, by list prices", after="/cost")


def test_in_a_pipe_the_answer_is_text_and_the_rest_stays_on_the_terminal(
    terminal: Open, api: MessagesServer, tmp_path: Path
) -> None:
    api.script[:] = [SEARCH, advice]
    answers = tmp_path / "answers.txt"
    window = terminal(after=f"> {answers}")
    window.wait_prompt()
    window.ask("How long is leave?")
    window.wait_for("search_corpus: leave → 1 hit (hybrid)", PROMPT, after="leave?")
    window.keys("C-d")
    window.wait_for("left with 0")
    assert answers.read_text() == (
        f'**Ten weeks.**\n\n{ADVICE}⟦1⟧\n\n⟦1⟧ handbook/leave.md:14 "Parents take up to ten weeks of paid leave."\n'
    )
