"""A corpus of a few files as the trainer sees it, cut by words and without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from retrieval.workspace import Workspace
from trainer.material import Material, gather
from trainer.pairs import Pair


def material_of(root: Path, files: Mapping[str, str], max_words: int = 100) -> Material:
    for name, text in files.items():
        path = root / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    Workspace.create(root, {"docs": "docs"}, "base")
    return gather(Workspace.open(root), "docs", lambda texts: [len(text.split()) for text in texts], max_words)


def of_rule(pairs: Sequence[Pair], rule: str) -> dict[str, str]:
    return {pair.anchor: pair.positive for pair in pairs if pair.rule == rule}
