from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.console import Invocation
from retrieval.errors import ShoptalkError
from retrieval.workspace import Workspace
from trainer.demo import run_demo, write_corpus


def test_the_same_corpus_is_written_over_an_earlier_one(tmp_path: Path) -> None:
    first = write_corpus(tmp_path, ("1",))
    texts = {path.name: path.read_bytes() for path in first.documents.iterdir()}
    assert write_corpus(tmp_path, ("1",)) == first
    assert {path.name: path.read_bytes() for path in first.documents.iterdir()} == texts


def test_documents_of_somebody_else_stay_and_are_named(tmp_path: Path) -> None:
    mine = tmp_path / "docs" / "notes" / "thesis.md"
    mine.parent.mkdir(parents=True)
    mine.write_text("Years of work.")
    with pytest.raises(ShoptalkError, match=r"thesis\.md is not of the demo's corpus; move it"):
        write_corpus(tmp_path, ("1",))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_a_workspace_whose_corpus_of_that_name_lies_elsewhere_is_not_the_demos(tmp_path: Path) -> None:
    mine = tmp_path / "docs" / "A00-A09.md"
    mine.parent.mkdir()
    mine.write_text("My own notes on cholera.")
    Workspace.create(tmp_path, {"icd10cm": "icd", "notes": "docs"}, "base")
    with pytest.raises(ShoptalkError, match="is another workspace"):
        run_demo(Invocation(tmp_path))
    assert mine.read_text() == "My own notes on cholera."
