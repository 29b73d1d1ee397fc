"""Benchmarks are run seldom, so what they take from the packages is checked here."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OURS = ("agent", "retrieval", "server", "trainer")


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.py")), ids=lambda file: file.stem)
def test_a_benchmark_takes_what_there_is(file: Path) -> None:
    taken = [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in OURS
        for alias in node.names
    ]
    assert not [f"{module}.{name}" for module, name in taken if not hasattr(import_module(module), name)]
