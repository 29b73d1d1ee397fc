from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hash_embedder import HashEmbedder

from retrieval.documents import Document, SourceFile, read_or_skip
from retrieval.indexing import build_index
from retrieval.notebooks import NotANotebook, notebook_text
from retrieval.search import SearchEngine
from retrieval.structure import sections
from retrieval.workspace import Workspace

PYTHON = {"kernelspec": {"name": "python3", "language": "python"}, "language_info": {"name": "python"}}


def notebook(*cells: dict[str, Any], metadata: dict[str, Any] = PYTHON) -> str:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": list(cells)})


def prose(*lines: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": [*lines]}


def code(source: str | list[str], **more: Any) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": source, "outputs": [], **more}


def headings(text: str) -> list[tuple[str, ...]]:
    document = Document("a.ipynb", "a.ipynb", "A", text, "markdown")
    return [section.heading for section in sections(document)]


def test_prose_stands_as_it_is_and_code_in_fences_of_its_language() -> None:
    text = notebook_text(notebook(prose("# Pumps\n", "\n", "How to *prime*."), code(["x = 1\n", "print(x)"])))
    assert text == "# Pumps\n\nHow to *prime*.\n\n```python\nx = 1\nprint(x)\n```\n"


def test_what_a_cell_prints_and_raw_cells_are_left_out() -> None:
    printed = [{"output_type": "stream", "name": "stdout", "text": ["secret output"]}]
    raw = {"cell_type": "raw", "metadata": {}, "source": "\\latex"}
    text = notebook_text(
        notebook(code("run()", outputs=printed), raw, code(" \n"), {"cell_type": "new", "source": "?"})
    )
    assert text == "```python\nrun()\n```\n"


def test_code_that_a_cell_of_prose_leaves_open_ends_with_it() -> None:
    text = notebook_text(notebook(prose("# A\n\n````\nls"), prose("# B"), prose("~~~ sh\nls\n~~~\n"), prose("# C")))
    assert headings(text) == [("A",), ("B",), ("C",)]


def test_a_fence_is_longer_than_those_in_its_code() -> None:
    assert notebook_text(notebook(code('"""\n````\n"""'))) == '`````python\n"""\n````\n"""\n`````\n'


def test_notebooks_of_version_3_are_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Priming"]},
        {"cell_type": "code", "input": ["prime()"], "language": "python", "outputs": []},
        {"cell_type": "heading", "level": 99, "source": "Deep"},
    ]
    text = notebook_text(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells[:2]}, {"cells": cells[2:]}]}))
    assert text == "## Priming\n\n```\nprime()\n```\n\n###### Deep\n"


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"language_info": {"name": "R"}}, "r"),
        ({"kernelspec": {"language": "julia"}}, "julia"),
        ({"kernelspec": ["x"], "language_info": {"name": "a b\n```"}}, ""),
        ({}, ""),
    ],
)
def test_the_language_is_that_of_the_kernel(metadata: dict[str, Any], language: str) -> None:
    assert notebook_text(notebook(code("1"), metadata=metadata)) == f"```{language}\n1\n```\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not json", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[1]", "not a notebook: no object"),
        ('{"cells": 3}', "no list of cells"),
        ('{"worksheets": [[]]}', "no list of cells"),
        ('{"name": "package"}', "no list of cells"),
    ],
)
def test_what_is_no_notebook_is_left_out_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(NotANotebook, match=reason):
        notebook_text(text)
    path = tmp_path / "a.ipynb"
    path.write_text(text, encoding="utf-8")
    found, [skipped] = read_or_skip(SourceFile(path, "a.ipynb", path.stat().st_size, 0))
    assert found == [] and reason in skipped.reason and "report" not in skipped.reason


@pytest.mark.parametrize("cell", [{"source": None}, {"cell_type": "markdown", "source": [1, "a"]}, 3, {}])
def test_odd_cells_stop_nothing(cell: Any) -> None:
    assert "# Title" in notebook_text(json.dumps({"cells": [cell, prose("# Title")]}))


def test_notebooks_are_indexed_and_found_by_heading_and_line(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    book = notebook(prose("# Pumps"), prose("## Priming\n\nFill the casing first."), code("prime(pump)"))
    (tmp_path / "docs" / "a.ipynb").write_text(book, encoding="utf-8")
    (tmp_path / "docs" / "empty.ipynb").write_text(notebook(), encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, "test/hash")
    workspace = Workspace.open(tmp_path)
    report = build_index(workspace, embedder=HashEmbedder())
    assert [(item.path, item.reason) for item in report.skipped] == [("empty.ipynb", "no text")]
    hit = SearchEngine(workspace).search("casing", mode="lexical").hits[0]
    assert (hit.title, hit.heading, hit.first_line) == ("Pumps", ("Pumps", "Priming"), 5)
    assert "prime(pump)" in hit.text
