"""The whole run: mine, split, train, evaluate, register, gate. It reads from top to bottom.

Choices are made on dev questions; test questions are scored once, at the end, for the base and for
the one candidate chosen.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from retrieval.console import Progress, silent
from retrieval.embedders import load_local
from retrieval.errors import SettingsError, ShoptalkError
from retrieval.late_interaction import DEPTH
from retrieval.model_identity import model_folder
from retrieval.models import ModelVersion, find_version, remember_base_fusion, resolve
from retrieval.promotion import put_to_use
from retrieval.workspace import Workspace
from trainer.auto import search
from trainer.diagnosis import Finding, diagnose
from trainer.evaluation import Candidates, choose_weight
from trainer.forgetting import Forgetting, general_set
from trainer.looks import earlier_versions
from trainer.mined import counted, mine_corpus, require_enough
from trainer.model_card import base_licence, data_hash
from trainer.outcome import Outcome, score_test
from trainer.publishing import register
from trainer.questions import load_questions
from trainer.ranking import rank
from trainer.ranks import Follower, is_alone, is_main
from trainer.recipes import AUTO, Recipe
from trainer.silver import Yield
from trainer.training_log import TrainingLog
from trainer.unfinished import Unfinished
from trainer.workbench import Fit, Workbench

__all__ = ["DEFAULT_BUDGET", "TuneReport", "tune"]

DEFAULT_BUDGET = 1800.0
SPLITS = (
    "Real questions, those that share an answer on one side, or as their folder splits them; every document was mined, "
    "but for pairs that ask what a question asks.",
    "Documents held out whole, with those that say nearly the same; nothing of them was learned.",
)


@dataclass(frozen=True)
class TuneReport:
    """What a run did and found. ``promoted`` is whether the new version is now in use."""

    recipe: str
    base: str
    documents: int
    passages: int
    yields: list[Yield]
    leaks: int
    missing: list[str]
    log: TrainingLog
    choices: list[str]
    outcome: Outcome
    findings: list[Finding]
    forgetting: Forgetting | None
    version: ModelVersion
    promoted: bool
    seconds: float


def tune(
    workspace: Workspace,
    corpus: str,
    recipe: Recipe,
    *,
    questions: Path | None = None,
    seed: int = 13,
    budget: float = DEFAULT_BUDGET,
    promote: bool = True,
    progress: Progress = silent,
) -> TuneReport:
    """Tune the base model on a corpus, judge it, register it, and put it to use if it is better.

    ``budget`` is the seconds that the recipe ``auto`` may take in all; the others take what they take.

    Raises:
        DocumentError: the corpus is missing or empty.
        QuestionsError: the questions are missing or not about this corpus, or too few pairs were mined.
        ModelError: the base model cannot be loaded.
        SettingsError: ``auto`` was launched on several processes.
        Follower: this is one of several processes, and not the first, which goes on alone after the training.
    """
    started = time.monotonic()
    real = load_questions(questions) if questions else None
    embedder = load_local("base", workspace)
    choices: list[str] = []

    mined = mine_corpus(workspace, corpus, recipe.every_rule, embedder, questions=real, seed=seed, progress=progress)
    require_enough(workspace, mined, len(mined.take(recipe, workspace.trainer.max_pairs, seed)))
    bench = Workbench.of(workspace, corpus, embedder, mined, seed, progress)
    general = general_set(workspace)
    elsewhere = general.score(embedder) if general else ()
    data = data_hash(mined.material.documents)
    unfinished = Unfinished(workspace, corpus, data, embedder.fingerprint, asdict(recipe), seed, mined.questions)
    chosen, trials = _choose(bench, recipe, budget, unfinished, choices)
    # The other processes' models are not kept: they need not encode the corpus to choose a mix.
    fit = bench.fit(chosen, unfinished.folder, widen=is_main())
    if not is_main():
        raise Follower
    choices += fit.notes

    candidate, vectors = bench.encode_tuned()
    asked = mined.questions
    _, tuned = rank(bench.judge, workspace, corpus, candidate, mined.texts, vectors)
    fusion = _choose_fusion(bench, tuned, choices)

    earlier = earlier_versions(workspace, asked.test)
    anchors = [pair.anchor for pair in fit.pairs]
    outcome, runs = score_test(bench.judge, asked, bench.base, tuned, fusion.base, fusion.tuned, anchors)
    forgetting = general.compare(elsewhere, general.score(candidate)) if general else None
    signs = bench.signs(fit.pairs)
    moved = 1 - float((bench.vectors * vectors).sum(axis=1).mean())
    findings = diagnose(outcome, fit.log.losses, fit.log.dev, signs, moved, earlier)
    judged = outcome.record() | {
        "diagnosis": [asdict(finding) for finding in findings],
        "pair_signs": asdict(signs),
        "moved": moved,
        "forgetting": asdict(forgetting) if forgetting else None,
        "earlier_versions": earlier,
    }
    yields = counted(mined.yields, fit.pairs)
    record = _training_record(bench, fit, fusion, yields) | {
        "base_dev": bench.base_score(),
        "split": SPLITS[real is None],
        "data": {
            "documents": len(mined.material.documents),
            "passages": len(mined.material.passages),
            "sha256": data,
        },
        "choices": choices,
        "trials": trials,
    }
    version = register(workspace, embedder.model, record, judged, asked.test, runs)
    unfinished.finish()
    remember_base_fusion(workspace, embedder.reference, fusion.base)
    promoted = promote and outcome.verdict == "WIN" and _put_to_use(workspace, version, choices, progress)
    return TuneReport(
        recipe=recipe.name,
        base=embedder.reference,
        documents=len(mined.material.documents),
        passages=len(mined.material.passages),
        yields=yields,
        leaks=mined.leaks,
        missing=mined.missing,
        log=fit.log,
        choices=choices,
        outcome=outcome,
        findings=findings,
        forgetting=forgetting,
        version=find_version(workspace, version.name),
        promoted=promoted,
        seconds=time.monotonic() - started,
    )


def _choose(
    bench: Workbench, recipe: Recipe, budget: float, unfinished: Unfinished, choices: list[str]
) -> tuple[Recipe, list[dict[str, Any]]]:
    """The recipe to train by: ``recipe`` itself, or what ``auto`` finds, or found before it was killed."""
    if recipe.name != AUTO:
        return recipe, []
    if not is_alone():
        raise SettingsError(f"the recipe {AUTO} tries in one process, as its clock decides; launch another recipe")
    before = unfinished.chosen()
    if before is None:
        chosen, trials = search(bench, recipe, budget)
        before = chosen, [asdict(trial) for trial in trials]
        unfinished.keep_chosen(*before)
    chosen, tried = before
    choices.append(f"{len(tried)} trainings on samples tried; best on dev: {chosen.description}")
    return chosen, tried


@dataclass(frozen=True)
class _Fusion:
    """BM25's weight beside the base and beside the tuned model, and dev NDCG@10 of the latter by weight."""

    base: float
    tuned: float
    curve: dict[float, float]


def _choose_fusion(bench: Workbench, tuned: Candidates, choices: list[str]) -> _Fusion:
    """The weights that are best on dev, or the one that is set."""
    dev, _ = bench.mined.questions.places()
    base_weight, _ = choose_weight(bench.judge, bench.base, dev)
    tuned_weight, curve = choose_weight(bench.judge, tuned, dev)
    choices.append(f"BM25 weight {base_weight} with the base, {tuned_weight} with the tuned model: best on dev")
    if tuned.finer is not None:
        choices.append(f"hybrid search compares its first {DEPTH} candidates token by token, and is judged so")
    if (fixed := bench.workspace.search.lexical_weight) is not None:
        base_weight = tuned_weight = fixed
        choices.append(f"but search.lexical_weight is set to {fixed}, so that is what is served and judged")
    return _Fusion(base_weight, tuned_weight, curve)


def _training_record(bench: Workbench, fit: Fit, fusion: _Fusion, yields: list[Yield]) -> dict[str, Any]:
    """What ``training.json`` says of the base, the pairs and the training."""
    embedder = bench.embedder
    return {
        "recipe": asdict(fit.recipe),
        "corpus": bench.corpus,
        "seed": bench.seed,
        "base": embedder.reference,
        "base_fingerprint": embedder.fingerprint,
        "base_licence": base_licence(model_folder(resolve(bench.workspace, embedder.reference))),
        "prompts": {side: embedder.model.prompts.get(side, "") for side in ("query", "document")},
        "leaks": bench.mined.leaks,
        "share_of_tuned_weights": fit.share,
        "lexical_weight": fusion.tuned,
        "fusion_curve": fusion.curve,
        "pairs": [asdict(item) for item in yields],
        "log": asdict(fit.log),
    }


def _put_to_use(workspace: Workspace, version: ModelVersion, choices: list[str], progress: Progress) -> bool:
    """Put a version to use; where that fails the run's result is still worth showing."""
    try:
        put_to_use(workspace, version.name, progress)
    except ShoptalkError as error:
        choices.append(f"not put to use: {error}; then run `shoptalk models promote {version.name}`")
        return False
    return True
