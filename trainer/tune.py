"""The whole run: mine, split, train, evaluate, register, gate. It reads from top to bottom.

Choices are made on dev questions; test questions are scored once, at the end, for the base and for
the one candidate chosen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent
from retrieval.embedders import LocalEmbedder, load_embedder
from retrieval.embedding_cache import encode_cached
from retrieval.errors import QuestionsError
from retrieval.indexing import passage_limit
from retrieval.models import ModelVersion, remember_base_fusion, set_current
from retrieval.workspace import Workspace
from trainer.evaluation import Candidates, Judge, Scores, choose_weight
from trainer.material import Material, gather
from trainer.mining import RULES, Pair, mine, seed_chunks
from trainer.negatives import add_hard_negatives
from trainer.publishing import register
from trainer.questions import Question, QuestionSet, check_answers, load_questions
from trainer.recipes import Recipe
from trainer.silver import Yield, balance, filter_pairs
from trainer.split import hold_out
from trainer.statistics import Change, Verdict, compare, verdict
from trainer.training import TrainingLog, average_weights, copy_weights, load_weights, train

if TYPE_CHECKING:
    from trainer.training import Weights

__all__ = ["Example", "Mined", "Row", "TuneReport", "mine_corpus", "tune"]

log = logging.getLogger(__name__)

# Dev questions looked at while training goes on, and passages kept for each beside its answers.
PROBE_QUESTIONS = 100
PROBE_DEPTH = 8
EXAMPLES = 3
EXAMPLE_DEPTH = 3


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
class Row:
    """One line of the result: a system, its means on the test questions, its change against base dense."""

    system: str
    mode: str
    lexical_weight: float | None
    means: dict[str, float]
    change: Change | None


@dataclass(frozen=True)
class Example:
    """One test question: the best units of base and tuned model (dense), those that answer it, NDCG@10."""

    question: str
    relevant: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    ndcg_before: float
    ndcg_after: float


@dataclass(frozen=True)
class TuneReport:
    """What a run found. ``promoted`` is whether the new version is now in use."""

    recipe: str
    base: str
    evidence: str
    dev_questions: int
    test_questions: int
    documents: int
    passages: int
    yields: list[Yield]
    leaks: int
    missing: list[str]
    log: TrainingLog
    choices: list[str]
    rows: list[Row]
    examples: list[Example]
    dense: Change
    product: Change
    dev: Change
    verdict: Verdict
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
    choices: list[str] = []
    embedder = load_embedder("base", workspace)
    choices.append(f"runs on {embedder.compute.device} in {_precision(embedder)}: {embedder.compute.reason}")

    mined = mine_corpus(workspace, corpus, recipe, embedder, questions=questions, seed=seed, progress=progress)
    material, pairs = mined.material, mined.pairs
    _require_pairs(workspace, mined)

    asked = [*mined.questions.dev, *mined.questions.test]
    dev, test = range(len(mined.questions.dev)), range(len(mined.questions.dev), len(asked))
    texts = [mined.masks.get(place, passage.embedded_text) for place, passage in enumerate(material.passages)]
    judge = Judge(
        material.passages,
        texts,
        asked,
        language=workspace.passages.language,
        depth=workspace.search.candidates,
        method=workspace.search.fusion,
    )
    base_vectors = encode_cached(workspace, corpus, embedder, texts, _labelled(progress, "encoding with the base"))
    base_dense = judge.dense(_encode_questions(embedder, asked), base_vectors)

    if recipe.hard_negatives:
        pairs = _with_negatives(material, pairs, embedder, base_vectors, recipe, seed, choices)

    probe = _Probe.choose(judge, base_dense, dev, texts)
    model, base_weights = embedder.model, copy_weights(embedder.model)
    training = train(
        model,
        pairs,
        recipe,
        material,
        embedder.compute,
        seed=seed,
        dev_score=lambda: probe.score(embedder),
        progress=progress,
    )
    share = _choose_average(embedder, base_weights, recipe, probe, training, choices)
    tuned = LocalEmbedder(model, "candidate", embedder.compute, embedder.batch_size)

    tuned_vectors = encode_cached(workspace, corpus, tuned, texts, _labelled(progress, "encoding with the tuned"))
    tuned_dense = judge.dense(_encode_questions(tuned, asked), tuned_vectors)
    base_weight, _ = choose_weight(judge, base_dense, dev)
    tuned_weight, curve = choose_weight(judge, tuned_dense, dev)
    choices.append(f"BM25 weight {base_weight} with the base, {tuned_weight} with the tuned model: best on dev")
    dev_change = compare(
        judge.score("dense", base_dense, only=dev).ndcg, judge.score("dense", tuned_dense, only=dev).ndcg
    )

    rows, examples, dense_change, product_change = _score_test(
        judge, base_dense, tuned_dense, base_weight, tuned_weight, test
    )
    outcome = verdict(dense_change)
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
    evaluation = {
        "verdict": outcome,
        "evidence": mined.questions.evidence,
        "dev_questions": len(dev),
        "test_questions": len(test),
        "ndcg_before": dense_change.before,
        "ndcg_after": dense_change.after,
        "dense": asdict(dense_change),
        "product": asdict(product_change),
        "dev": asdict(dev_change),
        "rows": [asdict(row) for row in rows],
        "examples": [asdict(example) for example in examples],
    }
    version = register(workspace, model, record, evaluation)
    remember_base_fusion(workspace, embedder.reference, base_weight)
    promoted = promote and outcome == "WIN"
    if promoted:
        set_current(workspace, version.name)
    return TuneReport(
        recipe=recipe.name,
        base=embedder.reference,
        evidence=mined.questions.evidence,
        dev_questions=len(dev),
        test_questions=len(test),
        documents=len(material.documents),
        passages=len(material.passages),
        yields=mined.yields,
        leaks=mined.leaks,
        missing=mined.missing,
        log=training,
        choices=choices,
        rows=rows,
        examples=examples,
        dense=dense_change,
        product=product_change,
        dev=dev_change,
        verdict=outcome,
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
    forbidden = [question.text for question in (*question_set.dev, *question_set.test)]
    kept, yields, leaks = filter_pairs(material, usable, forbidden, language)
    limit = min(recipe.max_pairs, workspace.trainer.max_pairs)
    pairs = balance([pair for pair in kept if pair.rule not in recipe.filler_rules], limit, seed)
    if len(pairs) < limit:
        fill = [pair for pair in kept if pair.rule in recipe.filler_rules]
        pairs += balance(fill, limit - len(pairs), seed)
    counted = {rule: sum(pair.rule == rule for pair in pairs) for rule in {pair.rule for pair in pairs}}
    yields = [replace(item, kept=counted.get(item.rule, 0)) for item in yields]
    return Mined(material, pairs, question_set, masks, yields, leaks, missing)


def _require_pairs(workspace: Workspace, mined: Mined) -> None:
    found, wanted = len(mined.pairs), workspace.trainer.min_pairs
    if found < wanted:
        raise QuestionsError(
            f"only {found} training pairs could be mined (at least {wanted} are wanted, 1,000 or more do good); "
            'more documents, headings, lists of synonyms ("Also called: …") or questions with answers would give more'
        )
    if not mined.questions.dev or not mined.questions.test:
        total = len(mined.questions.dev) + len(mined.questions.test)
        raise QuestionsError(f"{total} questions are too few to split into dev and test; give at least 10")


def _encode_questions(embedder: LocalEmbedder, questions: Sequence[Question]) -> NDArray[np.float32]:
    return embedder.encode_queries([question.text for question in questions])


def _with_negatives(
    material: Material,
    pairs: list[Pair],
    embedder: LocalEmbedder,
    passages: NDArray[np.float32],
    recipe: Recipe,
    seed: int,
    choices: list[str],
) -> list[Pair]:
    anchors = embedder.encode_queries([pair.anchor for pair in pairs])
    positives = passages[[pair.passage for pair in pairs]]
    found = add_hard_negatives(material, pairs, anchors, positives, passages, count=recipe.hard_negatives, seed=seed)
    choices.append(f"{len(found)} of {len(pairs)} pairs have a hard negative below .95 of their positive's similarity")
    # Where hard negatives are scarce the pairs are worth more than the negatives.
    return found if len(found) >= len(pairs) // 2 else pairs


@dataclass(frozen=True)
class _Probe:
    """A small pool of passages and dev questions: a quick look at a model while it is trained.

    The pool holds the answers and what the base and BM25 rank first. It flatters any tuned model against the
    base, whose own mistakes it is made of, so it only ever compares tuned states with each other.
    """

    judge: Judge
    questions: tuple[int, ...]
    passages: tuple[int, ...]
    texts: tuple[str, ...]

    @classmethod
    def choose(cls, judge: Judge, base: Candidates, dev: range, texts: Sequence[str]) -> _Probe:
        chosen = tuple(dev[:: max(1, len(dev) // PROBE_QUESTIONS)])[:PROBE_QUESTIONS]
        pool: set[int] = set()
        for place in chosen:
            pool.update(judge.answers(place))
            pool.update(map(int, base[place][0][:PROBE_DEPTH]))
            pool.update(map(int, judge.lexical[place][0][:PROBE_DEPTH]))
        passages = tuple(sorted(pool))
        return cls(judge, chosen, passages, tuple(texts[place] for place in passages))

    def score(self, embedder: LocalEmbedder) -> float:
        """Mean dense NDCG@10 of the probe's questions over its passages."""
        questions = embedder.encode_queries([self.judge.questions[place].text for place in self.questions])
        vectors = embedder.encode_documents(self.texts)
        numbers = np.array(self.passages, dtype=np.int64)
        found = self.judge.dense(questions, vectors)
        dense: Candidates = [self.judge.lexical[0]] * len(self.judge.questions)
        for place, (places, scores) in zip(self.questions, found, strict=True):
            dense[place] = (numbers[places], scores)
        return float(np.mean(self.judge.score("dense", dense, only=self.questions).ndcg))


def _choose_average(
    embedder: LocalEmbedder,
    base: Weights,
    recipe: Recipe,
    probe: _Probe,
    training: TrainingLog,
    choices: list[str],
) -> float:
    """Leave in the model the mix of tuned and base weights that is best on the probe; return the tuned share."""
    if len(recipe.averages) == 1:
        return 1.0
    tuned = copy_weights(embedder.model)
    scores: dict[float, float] = {}
    for share in recipe.averages:
        load_weights(embedder.model, average_weights(base, tuned, share))
        scores[share] = probe.score(embedder)
    best = max(scores, key=lambda share: (round(scores[share], 4), share))
    load_weights(embedder.model, average_weights(base, tuned, best))
    tried = ", ".join(f"{share:g}: {score:.3f}" for share, score in scores.items())
    choices.append(f"{best:g} of the tuned weights, the rest the base's: best NDCG@10 on dev ({tried})")
    training.dev.append((training.steps, scores[best]))
    return best


def _score_test(
    judge: Judge, base: Candidates, tuned: Candidates, base_weight: float, tuned_weight: float, test: range
) -> tuple[list[Row], list[Example], Change, Change]:
    """The one look at the test questions: base and tuned in every mode, each against base dense."""
    base_scores = judge.score("dense", base, only=test)
    tuned_scores = judge.score("dense", tuned, only=test)
    product = judge.score("hybrid", tuned, tuned_weight, test)

    def row(system: str, mode: str, weight: float | None, scores: Scores) -> Row:
        change = None if scores is base_scores else compare(base_scores.ndcg, scores.ndcg)
        return Row(system, mode, weight, scores.means(), change)

    rows = [
        row("base", "lexical", None, judge.score("lexical", only=test)),
        row("base", "dense", None, base_scores),
        row("base", "hybrid", base_weight, judge.score("hybrid", base, base_weight, test)),
        row("tuned", "dense", None, tuned_scores),
        row("tuned", "hybrid", tuned_weight, product),
    ]
    examples = _examples([judge.questions[place] for place in test], base_scores, tuned_scores)
    return rows, examples, compare(base_scores.ndcg, tuned_scores.ndcg), compare(base_scores.ndcg, product.ndcg)


def _examples(questions: Sequence[Question], before: Scores, after: Scores) -> list[Example]:
    """The questions that gained and lost most, three of each, between them the one in the middle."""
    order = sorted(range(len(questions)), key=lambda place: before.ndcg[place] - after.ndcg[place])
    middle = len(order) // 2
    chosen = dict.fromkeys([*order[:EXAMPLES], order[middle], *order[-EXAMPLES:]])
    return [
        Example(
            question=questions[place].text,
            relevant=tuple(questions[place].relevant),
            before=before.rankings[place][:EXAMPLE_DEPTH],
            after=after.rankings[place][:EXAMPLE_DEPTH],
            ndcg_before=before.ndcg[place],
            ndcg_after=after.ndcg[place],
        )
        for place in chosen
    ]


def _labelled(progress: Progress, label: str) -> Progress:
    return lambda stage, done, total: progress(label, done, total)


def _precision(embedder: LocalEmbedder) -> str:
    return "bfloat16" if embedder.compute.bfloat16 else "float32"
