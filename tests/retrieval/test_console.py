from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.console import Invocation, one_line, printable
from retrieval.workspace import Workspace
from shoptalk import main


def test_nothing_that_is_written_can_steer_the_terminal() -> None:
    assert printable("a\tb\nc\x1b[2J\x07\x9b31m\u202egnp\r") == "a\tb\nc\ufffd[2J\ufffd\ufffd31m\ufffdgnp\ufffd"


def test_a_line_break_in_a_name_makes_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert one_line("a\nb\tc\x1b[2J") == "a\ufffdb\ufffdc\ufffd[2J"
    with pytest.raises(SystemExit):
        main(["-w", str(tmp_path / "x\nError: y\x1b[2J"), "status"])
    assert capsys.readouterr().err.count("\n") == 1


def test_answers_and_notes_are_made_printable(capsys: pytest.CaptureFixture[str]) -> None:
    Invocation().emit(None, "a\x1b[31m")
    Invocation().note("b\x1b[31m")
    written = capsys.readouterr()
    assert (written.out, written.err) == ("a\ufffd[31m\n", "b\ufffd[31m\n")


def test_a_variable_that_looks_like_a_misspelt_setting_is_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Workspace.create(tmp_path, {}, "base")
    monkeypatch.setenv("SHOPTALK_SERCH_MODE", "dense")
    monkeypatch.setenv("SHOPTALK_XYZ", "somebody's own")
    monkeypatch.setenv("SHOPTALK_SEARCH_FUSION", "rrf")
    invocation = Invocation(tmp_path)
    assert invocation.workspace().search.fusion == invocation.workspace().search.fusion == "rrf"
    noted = "Note: SHOPTALK_SERCH_MODE is set and nothing reads it; did you mean SHOPTALK_SEARCH_MODE?\n"
    assert capsys.readouterr() == ("", noted)
    Invocation(tmp_path, quiet=True).workspace()
    assert capsys.readouterr() == ("", "")
