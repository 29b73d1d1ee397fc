"""Models side by side on the same questions over the same corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from retrieval.console import Progress, silent
from retrieval.embedders import load_embedder
from retrieval.embedding_cache import encode_cached
from retrieval.indexing import passage_limit
from retrieval.models import resolve, tuned_lexical_weight
from retrieval.workspace import Workspace
from trainer.evaluation import UNTUNED_WEIGHT, Judge, Scores
from trainer.material import gather
from trainer.outcome import Row
from trainer.questions import check_answers, load_questions
from trainer.statistics import compare

__all__ = ["Comparison", "compare_models"]

Mode = Literal["dense", "lexical", "hybrid"]


@dataclass(frozen=True)
class Comparison:
    """A row a model and mode; each change is against the first row."""

    questions: int
    missing: list[str]
    rows: list[Row]


def compare_models(
    workspace: Workspace,
    corpus: str,
    references: Sequence[str],
    questions: Path,
    mode: str | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Judge each model in each mode (or in ``mode``) on all of the questions.

    Raises:
        ModelError: a reference is unknown or cannot be loaded.
        QuestionsError: the questions cannot be read or are not about this corpus.
    """
    concrete = list(dict.fromkeys(resolve(workspace, reference).reference for reference in references))
    loaded = load_questions(questions)
    asked = loaded.all
    first: Scores | None = None
    missing: list[str] = []
    rows: list[Row] = []
    for place, reference in enumerate(concrete):
        if not (modes := _modes(mode, place)):
            continue
        embedder = load_embedder(reference, workspace)
        # Passages are measured in a model's own tokens, so each model is judged over its own.
        material = gather(workspace, corpus, embedder.count_tokens, passage_limit(workspace, embedder), progress)
        missing = check_answers(loaded, material.passages)
        texts = [passage.embedded_text for passage in material.passages]
        judge = Judge.of(workspace, material.passages, texts, asked)
        weight = workspace.search.lexical_weight
        if weight is None:
            tuned = tuned_lexical_weight(workspace, reference)
            weight = UNTUNED_WEIGHT if tuned is None else tuned
        dense = None
        if modes != ("lexical",):
            vectors = encode_cached(workspace, corpus, embedder, texts, progress)
            dense = judge.dense(embedder.encode_queries([question.text for question in asked]), vectors)
        for name in modes:
            scores = judge.score(name, dense, weight)
            change = None if first is None else compare(first.ndcg, scores.ndcg)
            first = first or scores
            shown = weight if name == "hybrid" else None
            rows.append(Row("BM25" if name == "lexical" else reference, name, shown, scores.means(), change))
    return Comparison(len(asked), missing, rows)


def _modes(mode: str | None, place: int) -> tuple[Mode, ...]:
    wanted: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
    if mode is not None:
        wanted = tuple(name for name in wanted if name == mode)
    # BM25 is the same whatever the model.
    return tuple(name for name in wanted if place == 0 or name != "lexical")
