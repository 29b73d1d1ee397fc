"""The agent's verbs, run in the test's own process."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import shoptalk


@dataclass
class Run:
    code: int
    out: str
    err: str


def run_verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> Run:
    """Run ``shoptalk`` with ``arguments``; return its exit code and what it wrote."""
    with pytest.raises(SystemExit) as end:
        shoptalk.main([*arguments])
    captured = capsys.readouterr()
    return Run(int(end.value.code or 0), captured.out, captured.err)
