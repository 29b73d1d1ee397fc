"""The whole run: mine, split, train, evaluate, register, gate. It reads from top to bottom.

Choices are made on dev questions; test questions are scored once, at the end, for the base and for
the one candidate chosen.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent
from retrieval.embedders import LocalEmbedder, load_embedder
from retrieval.embedding_cache import encode_cached
from retrieval.errors import QuestionsError
from retrieval.indexing import passage_limit
from retrieval.models import ModelVersion, remember_base_fusion
from retrieval.promotion import put_to_use
from retrieval.workspace import Workspace
from trainer.evaluation import Candidates, Judge, choose_weight
from trainer.material import Material, gather
from trainer.mining import RULES, Pair, mine, seed_chunks
from trainer.negatives import add_hard_negatives
from trainer.outcome import Outcome, score_test
from trainer.probe import Probe, choose_average
from trainer.publishing import register
from trainer.questions import QuestionSet, check_answers, load_questions
from trainer.recipes import Recipe
from trainer.silver import Yield, balance, filter_pairs
from trainer.split import hold_out
from trainer.training import TrainingLog, copy_weights, train

__all__ = ["Mined", "TuneReport", "mine_corpus", "tune"]


@dataclass(frozen=True)
class Mined:
    """Pairs to train on, the questions to judge by, and how both came about."""

    material: Material
    pairs: list[Pair]
    questions: QuestionSet
    masks: dict[int, str]
    yields: list[Yield]
    leaks: int
    missing: list[str]


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
    promote: bool = True,
    progress: Progress = silent,
) -> TuneReport:
    """Tune the base model on a corpus, judge it, register it, and put it to use if it is better.

    Raises:
        DocumentError: the corpus is missing or empty.
        QuestionsError: the questions are missing or not about this corpus, or too few pairs were mined.
        ModelError: the base model cannot be loaded.
    """
    started = time.monotonic()
    embedder = load_embedder("base", workspace)
    compute = embedder.compute
    choices = [f"runs on {compute.device} in {'bfloat16' if compute.bfloat16 else 'float32'}: {compute.reason}"]

    mined = mine_corpus(workspace, corpus, recipe, embedder, questions=questions, seed=seed, progress=progress)
    _require_enough(workspace, mined)
    material, asked = mined.material, mined.questions
    texts = [mined.masks.get(place, passage.embedded_text) for place, passage in enumerate(material.passages)]

    def encode(model: LocalEmbedder, label: str) -> tuple[NDArray[np.float32], Candidates]:
        vectors = encode_cached(workspace, corpus, model, texts, lambda _, done, total: progress(label, done, total))
        return vectors, judge.dense(model.encode_queries([question.text for question in asked.all]), vectors)

    judge = Judge.of(workspace, material.passages, texts, asked.all)
    base_vectors, base = encode(embedder, "encoding with the base")
    pairs = _with_negatives(mined, embedder, base_vectors, recipe, seed, choices)

    dev, _ = asked.places()
    probe = Probe.choose(judge, base, dev, texts)
    base_weights = copy_weights(embedder.model)
    training = train(
        embedder.model,
        pairs,
        recipe,
        material,
        compute,
        seed=seed,
        dev_score=lambda: probe.score(embedder),
        progress=progress,
    )
    share = choose_average(embedder, base_weights, recipe, probe, training, choices)
    candidate = LocalEmbedder(embedder.model, "candidate", compute, embedder.batch_size)
    _, tuned = encode(candidate, "encoding with the tuned")

    base_weight, _ = choose_weight(judge, base, dev)
    tuned_weight, curve = choose_weight(judge, tuned, dev)
    choices.append(f"BM25 weight {base_weight} with the base, {tuned_weight} with the tuned model: best on dev")

    outcome = score_test(judge, asked, base, tuned, base_weight, tuned_weight)
    record = {
        "recipe": asdict(recipe),
        "seed": seed,
        "base": embedder.reference,
        "base_fingerprint": embedder.fingerprint,
        "share_of_tuned_weights": share,
        "lexical_weight": tuned_weight,
        "fusion_curve": curve,
        "choices": choices,
        "pairs": [asdict(item) for item in mined.yields],
        "log": asdict(training),
    }
    version = register(workspace, embedder.model, record, outcome.record())
    remember_base_fusion(workspace, embedder.reference, base_weight)
    promoted = promote and outcome.verdict == "WIN"
    if promoted:
        put_to_use(workspace, version.name, progress)
    return TuneReport(
        recipe=recipe.name,
        base=embedder.reference,
        documents=len(material.documents),
        passages=len(material.passages),
        yields=mined.yields,
        leaks=mined.leaks,
        missing=mined.missing,
        log=training,
        choices=choices,
        outcome=outcome,
        version=version,
        promoted=promoted,
        seconds=time.monotonic() - started,
    )


def mine_corpus(
    workspace: Workspace,
    corpus: str,
    recipe: Recipe,
    embedder: LocalEmbedder,
    *,
    questions: Path | None,
    seed: int,
    progress: Progress = silent,
) -> Mined:
    """Read, cut, mine, split and filter: everything before a model is trained.

    Raises:
        QuestionsError: ``questions`` cannot be read or are not about this corpus, or none were given
            and too few could be mined.
    """
    real = load_questions(questions, seed) if questions else None
    material = gather(workspace, corpus, embedder.count_tokens, passage_limit(workspace, embedder), progress)
    missing = check_answers(real, material.passages) if real else []
    language = workspace.passages.language
    literal = "seed_chunks" in recipe.rules
    mined = seed_chunks(material) if literal else mine(material, [*recipe.rules, *recipe.filler_rules], seed)
    masks: dict[int, str] = {}
    if real:
        question_set, usable = real, mined
    else:
        # The tutorial's chunks are no questions, so what it is judged by is mined by structure.
        anchors = mine(material, list(RULES), seed) if literal else mined
        held, question_set, masks = hold_out(material, anchors, seed)
        usable = [pair for pair in mined if pair.document_id not in held]
    forbidden = [question.text for question in question_set.all]
    kept, yields, leaks = filter_pairs(material, usable, forbidden, language)
    limit = min(recipe.max_pairs, workspace.trainer.max_pairs)
    pairs = balance([pair for pair in kept if pair.rule not in recipe.filler_rules], limit, seed)
    if len(pairs) < limit:
        fill = [pair for pair in kept if pair.rule in recipe.filler_rules]
        pairs += balance(fill, limit - len(pairs), seed)
    counted = {rule: sum(pair.rule == rule for pair in pairs) for rule in {pair.rule for pair in pairs}}
    yields = [replace(item, kept=counted.get(item.rule, 0)) for item in yields]
    return Mined(material, pairs, question_set, masks, yields, leaks, missing)


def _require_enough(workspace: Workspace, mined: Mined) -> None:
    found, wanted = len(mined.pairs), workspace.trainer.min_pairs
    if found < wanted:
        raise QuestionsError(
            f"only {found} training pairs could be mined (at least {wanted} are wanted, 1,000 or more do good); "
            'more documents, headings, lists of synonyms ("Also called: …") or questions with answers would give more'
        )
    if not mined.questions.dev or not mined.questions.test:
        total = len(mined.questions.dev) + len(mined.questions.test)
        raise QuestionsError(f"{total} questions are too few to split into dev and test; give at least 10")


def _with_negatives(
    mined: Mined,
    embedder: LocalEmbedder,
    passages: NDArray[np.float32],
    recipe: Recipe,
    seed: int,
    choices: list[str],
) -> list[Pair]:
    pairs, material = mined.pairs, mined.material
    if not recipe.hard_negatives:
        return pairs
    anchors = embedder.encode_queries([pair.anchor for pair in pairs])
    positives = passages[[pair.passage for pair in pairs]]
    found = add_hard_negatives(material, pairs, anchors, positives, passages, count=recipe.hard_negatives, seed=seed)
    choices.append(f"{len(found)} of {len(pairs)} pairs have a hard negative below .95 of their positive's similarity")
    # Where hard negatives are scarce the pairs are worth more than the negatives.
    return found if len(found) >= len(pairs) // 2 else pairs
