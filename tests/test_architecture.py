"""The arrows between the packages, and what may not be imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import shoptalk

ROOT = Path(__file__).parent.parent
PACKAGES = ("retrieval", "trainer", "server", "agent")
ALLOWED = {
    "retrieval": {"retrieval"},
    "trainer": {"trainer", "retrieval"},
    "server": {"server", "retrieval"},
    # The price table is one for all who pay Claude, and as light as the settings.
    # There is one way to write a file that a kill leaves whole, and one to read questions with their labels; both need
    # the standard library only.
    "agent": {
        "agent",
        *(f"retrieval.{name}" for name in ("console", "durable", "errors", "labels", "pointer", "prices", "workspace")),
    },
}
HEAVY = {
    "torch",
    "sentence_transformers",
    "transformers",
    "datasets",
    "faiss",
    "tantivy",
    "sklearn",
    "mcp",
    "anthropic",
}


def imports_of(file: Path) -> set[str]:
    """Every module a file names in an import, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_follow_the_arrows(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for name in imports_of(file):
            if name.partition(".")[0] in PACKAGES:
                allowed = any(name == target or name.startswith(f"{target}.") for target in ALLOWED[package])
                assert allowed, f"{file.relative_to(ROOT)} imports {name}"


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    loaded = loaded_after(f"import {package}")
    # The agent's face hands on its SDKs' users; it must still run where torch and FAISS are not installed.
    allowed = {"mcp", "anthropic"} if package == "agent" else set()
    assert not loaded & (HEAVY - allowed)


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    loaded = loaded_after(
        "import shoptalk\n"
        "from click.testing import CliRunner\n"
        "result = CliRunner().invoke(shoptalk.command_line, ['--help'])\n"
        "assert result.exit_code == 0 and 'tune' in result.output"
    )
    assert not loaded & (HEAVY | {"numpy", "pydantic", "rich", *PACKAGES})


@pytest.mark.parametrize("verb", shoptalk.VERBS)
def test_a_verbs_own_help_loads_nothing_heavy(verb: str) -> None:
    loaded = loaded_after(
        "import shoptalk\n"
        "from click.testing import CliRunner\n"
        f"result = CliRunner().invoke(shoptalk.command_line, [{verb!r}, '--help'])\n"
        "assert result.exit_code == 0, result.output"
    )
    assert not loaded & HEAVY
