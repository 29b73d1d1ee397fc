"""The example in the docs is a program that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from messages_rules import Block
from messages_server import MessagesServer, Reply, cited, location, search_results, text, tool_use

PAGE = Path(__file__).parents[2] / "docs" / "agent-python.md"


def cite(body: Block) -> Reply:
    result = search_results(body)[0]
    good = location(0, result["source"], result["content"][1]["text"], 1, 2)
    return text(cited("Ten weeks.", good))


def test_the_example_of_the_python_face_runs(
    environment: None,
    api: MessagesServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    workspace: object,
    tmp_path: Path,
) -> None:
    match = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert match
    monkeypatch.chdir(tmp_path)
    api.script[:] = [tool_use("search_corpus", query="leave"), cite, text("Yes.")]
    exec(compile(match[1], str(PAGE), "exec"), {"__name__": "__main__"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "searched for leave: 1 hits",
        "Ten weeks.",
        "[1] handbook/leave.md:14 Parents take up to ten weeks of paid leave.",
    ]
    assert lines[3].startswith("Yes. Usage(")
