"""A small real corpus, and one tuning run over it that several tests look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from retrieval.workspace import Workspace
from trainer.demo import DemoCorpus, write_corpus
from trainer.recipes import find_recipe
from trainer.tune import TuneReport, tune


@dataclass(frozen=True)
class Tuned:
    workspace: Workspace
    corpus: DemoCorpus
    report: TuneReport


def make_workspace(root: Path, model: Path, chapters: tuple[str, ...]) -> tuple[Workspace, DemoCorpus]:
    corpus = write_corpus(root, chapters)
    Workspace.create(root, {"icd": "docs"}, str(model))
    return Workspace.open(root), corpus


@pytest.fixture(scope="session")
def tuned(static_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """The structure recipe on the circulatory and respiratory chapters of ICD-10-CM, with real questions."""
    workspace, corpus = make_workspace(tmp_path_factory.mktemp("tuned"), static_model, ("9", "10"))
    report = tune(workspace, "icd", find_recipe("structure"), questions=corpus.questions)
    return Tuned(workspace, corpus, report)
