from __future__ import annotations

import pytest

from retrieval.console import Invocation, printable


def test_nothing_that_is_written_can_steer_the_terminal() -> None:
    assert printable("a\tb\nc\x1b[2J\x07\x9b31m\u202egnp\r") == "a\tb\nc\ufffd[2J\ufffd\ufffd31m\ufffdgnp\ufffd"


def test_answers_and_notes_are_made_printable(capsys: pytest.CaptureFixture[str]) -> None:
    Invocation().emit(None, "a\x1b[31m")
    Invocation().note("b\x1b[31m")
    written = capsys.readouterr()
    assert (written.out, written.err) == ("a\ufffd[31m\n", "b\ufffd[31m\n")
