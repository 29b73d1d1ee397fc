"""What several tests need that is no fixture."""

from __future__ import annotations

from pathlib import Path

from retrieval.documents import read_all
from retrieval.passages import Passage, cut
from retrieval.structure import sections
from retrieval.workspace import Workspace


def passages_of(folder: Path, max_tokens: int = 200) -> list[Passage]:
    """Cut the documents of a folder by a count of words, without a model."""
    settings = folder.parent / "shoptalk.toml"
    if not settings.exists():
        Workspace.create(folder.parent, {"docs": folder.name}, "base")
    workspace = Workspace.open(folder.parent)
    documents, _ = read_all(workspace, workspace.corpus_name())
    return [
        passage
        for document in documents
        for passage in cut(
            document.title, sections(document), lambda texts: [len(text.split()) for text in texts], max_tokens
        )
    ]
