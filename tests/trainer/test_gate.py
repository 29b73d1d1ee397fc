"""The gate on real runs of a small model: what must not pass does not, and is told why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from conftest import make_workspace

from retrieval.errors import QuestionsError
from retrieval.models import current_reference, list_versions
from retrieval.workspace import Workspace
from trainer import tune as tuning
from trainer.demo import DemoCorpus
from trainer.mined import Mined
from trainer.pairs import Pair
from trainer.questions import load_questions
from trainer.recipes import Recipe, find_recipe

PLAIN = replace(find_recipe("structure"), hard_negatives=0, averages=(1.0,))


@pytest.fixture(scope="module")
def small(static_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, DemoCorpus]:
    """The respiratory chapter of ICD-10-CM, nothing tuned yet, and no share of headings to choose."""
    workspace, corpus = make_workspace(tmp_path_factory.mktemp("gate"), static_model, ("10",))
    passages = workspace.passages.model_copy(update={"heading_share": 0.0})
    return replace(workspace, passages=passages), corpus


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No general set: what tuning cost elsewhere has tests of its own."""
    monkeypatch.setattr(tuning, "general_set", lambda workspace: None)


@pytest.mark.usefixtures("quick")
def test_a_model_trained_on_shuffled_pairs_is_refused_and_its_pairs_are_called_noisy(
    small: tuple[Workspace, DemoCorpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Mined.take

    def shuffled(mined: Mined, recipe: Recipe, limit: int, seed: int) -> list[Pair]:
        pairs = take(mined, recipe, limit, seed)
        positives = [pair.positive for pair in pairs]
        Random(0).shuffle(positives)
        return [replace(pair, positive=text) for pair, text in zip(pairs, positives, strict=True)]

    monkeypatch.setattr(Mined, "take", shuffled)
    workspace, corpus = small
    report = tuning.tune(workspace, "icd", PLAIN, questions=corpus.questions)
    assert report.outcome.verdict != "WIN" and not report.promoted
    assert "noisy pairs" in [finding.cause for finding in report.findings]
    assert "Noisy pairs" in (report.version.path / "report.html").read_text()
    assert current_reference(workspace) == workspace.model.base


@pytest.mark.usefixtures("quick")
def test_a_model_trained_at_a_hundred_times_the_learning_rate_is_refused_and_the_steps_are_called_too_large(
    small: tuple[Workspace, DemoCorpus],
) -> None:
    workspace, corpus = small
    wild = replace(PLAIN, static_learning_rate=100 * PLAIN.static_learning_rate)
    report = tuning.tune(workspace, "icd", wild, questions=corpus.questions)
    assert report.outcome.verdict != "WIN" and not report.promoted
    assert "steps too large" in [finding.cause for finding in report.findings]


def test_a_split_with_planted_leakage_is_refused_before_anything_is_trained(
    small: tuple[Workspace, DemoCorpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, corpus = small
    take, before = Mined.take, len(list_versions(workspace))

    def leaking(mined: Mined, recipe: Recipe, limit: int, seed: int) -> list[Pair]:
        pairs = take(mined, recipe, limit, seed)
        asked = [f"{question.text.upper()}?" for question in mined.questions.test]
        return [replace(pair, anchor=text) for pair, text in zip(pairs, asked, strict=False)] + pairs[len(asked) :]

    monkeypatch.setattr(Mined, "take", leaking)
    planted = len(load_questions(corpus.questions).test)
    with pytest.raises(QuestionsError, match=rf"leakage: {planted} of \d+ training pairs give away what is asked"):
        tuning.tune(workspace, "icd", PLAIN, questions=corpus.questions)
    assert len(list_versions(workspace)) == before


def test_a_split_that_learns_from_a_held_out_document_is_refused(
    small: tuple[Workspace, DemoCorpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = small
    take = Mined.take

    def leaking(mined: Mined, recipe: Recipe, limit: int, seed: int) -> list[Pair]:
        pairs = take(mined, recipe, limit, seed)
        return [replace(pairs[0], anchor="nothing anyone asks", document_id=min(mined.held)), *pairs[1:]]

    monkeypatch.setattr(Mined, "take", leaking)
    with pytest.raises(QuestionsError, match=r"leakage: 1 of \d+ .* was held out to be asked about"):
        tuning.tune(workspace, "icd", PLAIN)
