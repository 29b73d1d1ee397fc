"""The whole run: mine, split, train, evaluate, register, gate. It reads from top to bottom.

Choices are made on dev questions; test questions are scored once, at the end, for the base and for
the one candidate chosen.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent
from retrieval.embedders import LocalEmbedder, load_local
from retrieval.embedding_cache import encode_cached
from retrieval.errors import SettingsError, ShoptalkError
from retrieval.fusion import UNTUNED_WEIGHT
from retrieval.late_interaction import DEPTH
from retrieval.model_identity import model_folder
from retrieval.models import Fusion, ModelVersion, find_version, remember_base_fusion, resolve
from retrieval.promotion import put_to_use
from retrieval.workspace import Workspace
from trainer.auto import search
from trainer.diagnosis import Finding, diagnose
from trainer.forgetting import Forgetting, general_set
from trainer.fusing import SHARES, Fused, choose_fusion
from trainer.looks import earlier_versions
from trainer.mined import counted, mine_corpus, require_enough
from trainer.model_card import base_licence, data_hash
from trainer.outcome import Outcome, score_test
from trainer.publishing import register, require_room
from trainer.questions import MINED_EVIDENCE, load_questions
from trainer.ranking import Found, by_heading_share
from trainer.ranks import Follower, is_alone, is_main
from trainer.recipes import AUTO, Recipe
from trainer.side_by_side import InUse, in_use
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
    """What a run did and found.

    ``promoted`` is whether the new version is now in use, ``obstacle`` why one that won was not put to use, and
    ``in_use`` the version that was in use before, if one was.
    """

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
    obstacle: str
    in_use: InUse | None
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

    ``budget`` is the seconds that the recipe ``auto`` may take once documents are read and encoded by the base; the
    others take what they take.

    Raises:
        DocumentError: the corpus is missing or empty.
        QuestionsError: the questions are missing or not about this corpus, or too few pairs were mined.
        ModelError: the base model cannot be loaded, or the disk has no room for another version.
        SettingsError: ``auto`` was launched on several processes.
        Follower: this is one of several processes, and not the first, which goes on alone after the training.
    """
    started = time.monotonic()
    real = load_questions(questions) if questions else None
    embedder = load_local("base", workspace)
    require_room(workspace, embedder.model)
    # What cannot be read is told before there is anything to lose.
    earlier_versions(workspace, real.test if real else ())
    choices: list[str] = []

    mined = mine_corpus(workspace, corpus, recipe.every_rule, embedder, questions=real, seed=seed, progress=progress)
    choices += mined.notes
    require_enough(workspace, mined, len(mined.take(recipe, workspace.trainer.max_pairs, seed)))
    bench = Workbench.of(workspace, corpus, embedder, mined, seed, progress)
    # While the base's weights are in the model.
    base = _fused(bench, embedder, [view.base for view in bench.views])
    general = general_set(workspace)
    elsewhere = general.score(embedder) if general else ()
    data = data_hash(mined.material.documents)
    # A search depends on its time, on the settings, and on the pairs that it tries.
    searched = (budget, workspace.trainer, mined.kept) if recipe.name == AUTO else ()
    parts = (corpus, data, embedder.fingerprint, asdict(recipe), seed, mined.questions, searched)
    unfinished = Unfinished(workspace, *parts)
    chosen, trials = _choose(bench, recipe, budget, unfinished, choices)
    # The other processes' models are not kept: they need not encode the corpus to choose a mix.
    fit = bench.fit(chosen, unfinished.folder, widen=is_main())
    if not is_main():
        raise Follower
    choices += fit.notes

    asked = mined.questions
    candidate = bench.tuned()
    found = bench.find(candidate)
    tuned = _fused(bench, candidate, found)
    choices += _fusion_notes(bench, base[0], tuned[0])

    earlier = earlier_versions(workspace, asked.test)
    anchors = [pair.anchor for pair in fit.pairs]
    outcome, runs = score_test([view.judge for view in bench.views], asked, base, tuned, anchors)
    forgetting = general.compare(elsewhere, general.score(candidate)) if general else None
    findings, judged = _judgement(bench, fit, outcome, found[0].vectors, earlier, forgetting)
    yields = counted(mined.yields, fit.pairs)
    record = _training_record(bench, fit, tuned[0], yields, data) | {"choices": choices, "trials": trials}
    version = register(workspace, embedder.model, record, judged, asked.test, runs, unfinished.folder)
    unfinished.finish()
    if real:
        remember_base_fusion(workspace, embedder.reference, Fusion(base[0].weight, base[0].share))
    won = promote and outcome.verdict == "WIN"
    rival = in_use(workspace, version)
    obstacle = ""
    if won and rival and rival.better:
        obstacle = f"{rival.name}, which is in use, serves the same questions better beyond doubt"
    elif won:
        obstacle = _put_to_use(workspace, version, progress)
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
        promoted=won and not obstacle,
        obstacle=obstacle,
        in_use=rival,
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
    choices.append(f"{len(tried)} trainings on samples tried: {chosen.description}")
    return chosen, tried


def _fused(bench: Workbench, embedder: LocalEmbedder, found: Sequence[Found]) -> list[Fused]:
    """The hybrid search that is best on dev with this model, or the one that is set, in each of the bench's views."""
    workspace, mined = bench.workspace, bench.mined
    dev, _ = mined.questions.places()
    shares: Sequence[float] = SHARES
    of_people = mined.questions.evidence != MINED_EVIDENCE
    encode = partial(encode_cached, workspace, bench.corpus, embedder)
    if (fixed := workspace.passages.heading_share) is not None:
        shares = (fixed,)
    elif not of_people or not bench.view.headings_promise(found[0], encode):
        # Questions that were mined are made of headings, masked for them: they cannot tell what these are worth.
        shares = SHARES[:1]
    finders = [
        by_heading_share(view.judge, workspace, bench.corpus, embedder, view.headings, some)
        for view, some in zip(bench.views, found, strict=True)
    ]
    others = [(view.judge, find) for view, find in zip(bench.views[1:], finders[1:], strict=True)]
    fused = choose_fusion(bench.view.judge, finders[0], dev, shares, others)
    if (weight := workspace.search.lexical_weight) is not None:
        fused = replace(fused, weight=weight)
    elif not of_people:
        # The documents' own words flatter BM25: of twelve corpora such questions chose better for one (experiments.md).
        fused = replace(fused, weight=UNTUNED_WEIGHT)
    return [fused, *(replace(fused, dense=find(0.0), found=find(fused.share)) for find in finders[1:])]


def _fusion_notes(bench: Workbench, base: Fused, tuned: Fused) -> Iterator[str]:
    """What was chosen of hybrid search, by dev or by the settings."""
    workspace = bench.workspace
    if (fixed := workspace.search.lexical_weight) is not None:
        yield f"BM25 weight {fixed}, as search.lexical_weight is set"
    elif bench.mined.questions.evidence == MINED_EVIDENCE:
        yield f"BM25 weight {tuned.weight}, the untuned one: only people's questions tell what BM25 is worth to them"
    else:
        yield f"BM25 weight {base.weight} with the base, {tuned.weight} with the tuned model: best on dev"
    if (fixed := workspace.passages.heading_share) is not None:
        yield f"{fixed:g} of each passage's vector are its headings, as passages.heading_share is set"
    elif base.share or tuned.share:
        yield (
            f"{base.share:g} of each passage's vector are its headings with the base, {tuned.share:g} with the tuned "
            "model, where hybrid search is judged and in the index: best on dev"
        )
    if bench.view.base.candidates.finer is not None:
        yield f"hybrid search compares its first {DEPTH} candidates token by token, and is judged so"


def _judgement(
    bench: Workbench,
    fit: Fit,
    outcome: Outcome,
    vectors: NDArray[np.float32],
    earlier: Mapping[str, int],
    forgetting: Forgetting | None,
) -> tuple[list[Finding], dict[str, Any]]:
    """Why the run ended as it did, and what ``evaluation.json`` says of it; ``vectors`` are the tuned model's."""
    signs = bench.signs(fit.pairs)
    moved = 1 - float((bench.vectors * vectors).sum(axis=1).mean())
    findings = diagnose(outcome, fit.log.losses, fit.log.dev, signs, moved, earlier)
    return findings, outcome.record() | {
        "diagnosis": [asdict(finding) for finding in findings],
        "pair_signs": asdict(signs),
        "moved": moved,
        "forgetting": asdict(forgetting) if forgetting else None,
        "earlier_versions": [*earlier],
    }


def _training_record(bench: Workbench, fit: Fit, tuned: Fused, yields: list[Yield], data: str) -> dict[str, Any]:
    """What ``training.json`` says of the base, the documents, the pairs and the training."""
    embedder, material, questions = bench.embedder, bench.mined.material, bench.mined.questions
    return {
        "recipe": asdict(fit.recipe),
        "corpus": bench.corpus,
        "seed": bench.seed,
        "base": embedder.reference,
        "base_fingerprint": embedder.fingerprint,
        "base_licence": base_licence(model_folder(resolve(bench.workspace, embedder.reference))),
        "base_dev": fit.base_dev,
        "prompts": {side: embedder.model.prompts.get(side, "") for side in ("query", "document")},
        "split": SPLITS[questions.evidence == MINED_EVIDENCE],
        "data": {"documents": len(material.documents), "passages": len(material.passages), "sha256": data},
        "leaks": bench.mined.leaks,
        "share_of_tuned_weights": fit.share,
        "lexical_weight": tuned.weight,
        "heading_share": tuned.share,
        "fusion_curve": tuned.curve,
        "pairs": [asdict(item) for item in yields],
        "log": asdict(fit.log),
    }


def _put_to_use(workspace: Workspace, version: ModelVersion, progress: Progress) -> str:
    """Put a version to use; return what stood in the way, "" for nothing: the run's result is worth showing anyway."""
    try:
        put_to_use(workspace, version.name, progress)
    except ShoptalkError as error:
        return str(error)
    return ""
