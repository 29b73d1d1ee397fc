from __future__ import annotations

from pathlib import Path

from hash_embedder import HashEmbedder

from retrieval.catalog import CatalogReader
from retrieval.documents import reading
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.workspace import Workspace

TABLE = "question,answer,notes\nWhy does it jam?,Because the lid is open.,Close it first.\n"


def texts(root: Path, settings: str) -> set[str]:
    (root / "shoptalk.toml").write_text(f'[corpus.faq]\npaths = ["docs"]\n{settings}\n')
    workspace = Workspace.open(root, environ={})
    build_index(workspace, embedder=HashEmbedder())
    catalog = CatalogReader(open_current(workspace.index_dir("faq"), "faq").catalog_file)
    return {row.passage.text for row in catalog.passages(catalog.numbers_under("").tolist()).values()}


def test_other_columns_in_the_settings_are_read_from_files_that_did_not_change(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/faq.csv").write_text(TABLE)
    assert texts(tmp_path, "") == {"Because the lid is open."}
    assert texts(tmp_path, 'text_columns = ["notes", "answer"]') == {"Close it first.\n\nBecause the lid is open."}
    before = reading(Workspace.open(tmp_path, environ={}), "faq")
    assert texts(tmp_path, 'text_columns = ["notes", "answer"]\nmax_file_mb = 1') != {"Because the lid is open."}
    assert reading(Workspace.open(tmp_path, environ={}), "faq") == before
