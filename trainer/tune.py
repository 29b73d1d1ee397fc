"""The whole run: mine, split, train, evaluate, register, gate. It reads from top to bottom.

Choices are made on dev questions; test questions are scored once, at the end, for the base and for
the one candidate chosen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent
from retrieval.embedders import LocalEmbedder, load_local
from retrieval.embedding_cache import encode_cached
from retrieval.errors import QuestionsError, ShoptalkError
from retrieval.indexing import passage_limit
from retrieval.models import ModelVersion, find_version, remember_base_fusion
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
from trainer.training import TrainingLog, copy_weights, is_static, train

__all__ = ["Mined", "TuneReport", "mine_corpus", "tune"]

MIN_DEV = 5
MIN_TEST = 10


@dataclass(frozen=True)
class Mined:
    """Pairs to train on, the questions to judge by, and how both came about."""

    material: Material
    pairs: list[Pair]
    questions: QuestionSet
    masks: dict[int, str]
    held: frozenset[str]
    yields: list[Yield]
    leaks: int
    missing: list[str]

    def held_passages(self) -> frozenset[int]:
        """The passages of which nothing may be learned: of held-out documents, and copies of what is asked for."""
        passages = enumerate(self.material.passages)
        return frozenset(self.masks) | {place for place, passage in passages if passage.document_id in self.held}


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
    real = load_questions(questions) if questions else None
    embedder = load_local("base", workspace)
    compute = embedder.compute
    precision = "bfloat16" if compute.bfloat16 and not is_static(embedder.model) else "float32"
    choices = [f"runs on {compute.device} in {precision}: {compute.reason}"]

    mined = mine_corpus(workspace, corpus, recipe, embedder, questions=real, seed=seed, progress=progress)
    _require_enough(workspace, mined)
    material, asked = mined.material, mined.questions
    texts = [mined.masks.get(place, passage.embedded_text) for place, passage in enumerate(material.passages)]

    def encode(model: LocalEmbedder, label: str) -> tuple[NDArray[np.float32], Candidates]:
        vectors = encode_cached(workspace, corpus, model, texts, lambda _, done, total: progress(label, done, total))
        return vectors, judge.dense(model.encode_queries([question.text for question in asked.all]), vectors)

    judge = Judge.of(workspace, material.passages, texts, asked.all)
    base_vectors, base = encode(embedder, "encoding with the base")
    pairs = _with_negatives(mined, embedder, base_vectors, recipe, seed, choices)

    yields = _count(mined.yields, pairs)

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
    if (fixed := workspace.search.lexical_weight) is not None:
        base_weight = tuned_weight = fixed
        choices.append(f"but search.lexical_weight is set to {fixed}, so that is what is served and judged")

    outcome = score_test(judge, asked, base, tuned, base_weight, tuned_weight)
    record = {
        "recipe": asdict(recipe),
        "corpus": corpus,
        "seed": seed,
        "base": embedder.reference,
        "base_fingerprint": embedder.fingerprint,
        "share_of_tuned_weights": share,
        "lexical_weight": tuned_weight,
        "fusion_curve": curve,
        "choices": choices,
        "pairs": [asdict(item) for item in yields],
        "log": asdict(training),
    }
    version = register(workspace, embedder.model, record, outcome.record())
    remember_base_fusion(workspace, embedder.reference, base_weight)
    promoted = promote and outcome.verdict == "WIN" and _put_to_use(workspace, version, choices, progress)
    return TuneReport(
        recipe=recipe.name,
        base=embedder.reference,
        documents=len(material.documents),
        passages=len(material.passages),
        yields=yields,
        leaks=mined.leaks,
        missing=mined.missing,
        log=training,
        choices=choices,
        outcome=outcome,
        version=find_version(workspace, version.name),
        promoted=promoted,
        seconds=time.monotonic() - started,
    )


def _put_to_use(workspace: Workspace, version: ModelVersion, choices: list[str], progress: Progress) -> bool:
    """Put a version to use; where that fails the run's result is still worth showing."""
    try:
        put_to_use(workspace, version.name, progress)
    except ShoptalkError as error:
        choices.append(f"not put to use: {error}; then run `shoptalk models promote {version.name}`")
        return False
    return True


def mine_corpus(
    workspace: Workspace,
    corpus: str,
    recipe: Recipe,
    embedder: LocalEmbedder,
    *,
    questions: QuestionSet | None,
    seed: int,
    judged: bool = True,
    progress: Progress = silent,
) -> Mined:
    """Read, cut, mine, split and filter: everything before a model is trained.

    Without ``questions`` some documents are held out to be judged by, unless ``judged`` is false.

    Raises:
        QuestionsError: ``questions`` are not about this corpus, or none were given and too few could be mined.
    """
    material = gather(workspace, corpus, embedder.count_tokens, passage_limit(workspace, embedder), progress)
    missing = check_answers(questions, material.passages) if questions else []
    language = workspace.passages.language
    literal = "seed_chunks" in recipe.rules
    mined = seed_chunks(material) if literal else mine(material, [*recipe.rules, *recipe.filler_rules], seed)
    masks: dict[int, str] = {}
    held: frozenset[str] = frozenset()
    if questions:
        question_set, usable = questions, mined
    elif not judged:
        question_set, usable = QuestionSet((), (), "none"), mined
    else:
        # The tutorial's chunks are no questions, so what it is judged by is mined by structure.
        anchors = mine(material, list(RULES), seed) if literal else mined
        held, question_set, masks = hold_out(material, anchors)
        usable = [pair for pair in mined if pair.document_id not in held and pair.passage not in masks]
    forbidden = [question.text for question in question_set.all]
    kept, yields, leaks = filter_pairs(material, usable, forbidden, language)
    limit = min(recipe.max_pairs, workspace.trainer.max_pairs)
    pairs = balance([pair for pair in kept if pair.rule not in recipe.filler_rules], limit, seed)
    if len(pairs) < limit:
        fill = [pair for pair in kept if pair.rule in recipe.filler_rules]
        pairs += balance(fill, limit - len(pairs), seed)
    return Mined(material, pairs, question_set, masks, held, _count(yields, pairs), leaks, missing)


def _count(yields: list[Yield], pairs: Sequence[Pair]) -> list[Yield]:
    counted = Counter(pair.rule for pair in pairs)
    return [replace(item, kept=counted[item.rule]) for item in yields]


def _require_enough(workspace: Workspace, mined: Mined) -> None:
    found, wanted = len(mined.pairs), workspace.trainer.min_pairs
    if found < wanted:
        raise QuestionsError(
            f"only {found} training pairs could be mined (at least {wanted} are wanted, 1,000 or more do good); "
            'more documents, headings, lists of synonyms ("Also called: …") or questions with answers would give more'
        )
    dev, test = len(mined.questions.dev), len(mined.questions.test)
    if dev < MIN_DEV or test < MIN_TEST:
        raise QuestionsError(
            f"{dev} dev and {test} test questions are too few to choose and to judge by (at least {MIN_DEV} and "
            f"{MIN_TEST}); questions with the same answer stay on one side, so ask about more documents"
        )


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
    found = add_hard_negatives(
        material,
        pairs,
        anchors,
        positives,
        passages,
        held=mined.held_passages(),
        count=recipe.hard_negatives,
        seed=seed,
    )
    # Where hard negatives are scarce the pairs are worth more than the negatives.
    used = len(found) >= len(pairs) // 2
    choices.append(
        f"hard negatives {'used' if used else 'not used'}: {len(found)} of {len(pairs)} pairs have one below .95 of "
        f"their positive's similarity"
    )
    return found if used else pairs
