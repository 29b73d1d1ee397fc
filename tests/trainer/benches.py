"""A workbench over a corpus of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieval.embedders import load_local
from retrieval.workspace import Workspace
from trainer.mined import mine_corpus
from trainer.questions import load_questions
from trainer.workbench import Workbench


def bench_of(workspace: Workspace, questions: Path, rules: Sequence[str]) -> Workbench:
    """The base of ``workspace`` on its bench, with what ``rules`` mine of the corpus icd."""
    embedder = load_local("base", workspace)
    mined = mine_corpus(workspace, "icd", rules, embedder, questions=load_questions(questions), seed=13)
    return Workbench.of(workspace, "icd", embedder, mined, 13, lambda *_: None)
