"""NDCG@10 and its kin for a model, a mode, a split.

What is judged is what is served: the same candidates of the same lexical index, fused by the same
function, over the same passages. A unit (a document, or a section of one) scores as its best passage.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.fusion import Method, fuse
from retrieval.lexical import LexicalIndex
from retrieval.passages import Passage
from retrieval.workspace import Workspace
from trainer.questions import Question, Unit, section_unit, unit_of

__all__ = ["METRICS", "WEIGHTS", "Candidates", "Judge", "Scores", "choose_weight", "dense_candidates", "score_ranking"]

METRICS = ("ndcg@10", "mrr@10", "recall@10")
CUTOFF = 10
# 0 is dense alone, 1 lexical alone; both are legal outcomes.
WEIGHTS = tuple(step / 10 for step in range(11))
UNTUNED_WEIGHT = 0.5

Candidates = list[tuple[NDArray[np.int64], NDArray[np.float64]]]
"""For each question, passage numbers and scores, best first."""


@dataclass(frozen=True)
class Scores:
    """Per-question values of each metric, and the ranked units they were computed from."""

    values: Mapping[str, tuple[float, ...]]
    rankings: tuple[tuple[Unit, ...], ...]

    @property
    def ndcg(self) -> tuple[float, ...]:
        """NDCG@10 of each question."""
        return self.values["ndcg@10"]

    def means(self) -> dict[str, float]:
        """The mean of each metric."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}


def score_ranking(ranking: Sequence[Unit], relevant: Mapping[Unit, int]) -> dict[str, float]:
    """Judge one ranking of distinct units.

    NDCG@10 has linear gains and log2(rank + 1) discounts, as trec_eval's ndcg_cut_10 (Järvelin and
    Kekäläinen, TOIS 2002); its ideal ranking counts every relevant unit, found or not. MRR@10 is the
    reciprocal rank of the first relevant unit within 10; Recall@10 the share of relevant units
    within 10.
    """
    top = ranking[:CUTOFF]
    gains = [relevant.get(unit, 0) for unit in top]
    ideal = sorted(relevant.values(), reverse=True)[:CUTOFF]
    first = next((rank for rank, gain in enumerate(gains, 1) if gain > 0), 0)
    return {
        "ndcg@10": _dcg(gains) / _dcg(ideal),
        "mrr@10": 1 / first if first else 0.0,
        "recall@10": sum(gain > 0 for gain in gains) / len(relevant),
    }


def dense_candidates(questions: NDArray[np.float32], passages: NDArray[np.float32], depth: int) -> Candidates:
    """The ``depth`` nearest passages of each question by exact inner product; equal scores by number.

    Args:
        questions: (q, d) unit vectors.
        passages: (p, d) unit vectors.
        depth: candidates a question.
    """
    depth = min(depth, len(passages))
    found: Candidates = []
    for start in range(0, len(questions), 256):
        similarity = questions[start : start + 256] @ passages.T
        nearest = np.argpartition(-similarity, depth - 1, axis=1)[:, :depth]
        for row, places in enumerate(nearest):
            scores = similarity[row, places].astype(np.float64)
            order = np.lexsort((places, -scores))
            found.append((places[order].astype(np.int64), scores[order]))
    return found


class Judge:
    """Questions over passages: lexical candidates once, dense candidates a model, scores a mode."""

    def __init__(
        self,
        passages: Sequence[Passage],
        texts: Sequence[str],
        questions: Sequence[Question],
        *,
        language: str,
        depth: int,
        method: Method = "zscore",
    ) -> None:
        """``texts`` are what each passage is embedded and indexed as; ``depth`` the candidates a side."""
        self.questions = tuple(questions)
        self.depth = depth
        self.method: Method = method
        self._documents = [passage.document_id for passage in passages]
        self._known_documents = frozenset(self._documents)
        self._sections = [section_unit(passage) for passage in passages]
        self._passages = passages
        self._numbers: dict[Unit, list[int]] = defaultdict(list)
        for number in range(len(passages)):
            for unit in {self._documents[number], self._sections[number]}:
                self._numbers[unit].append(number)
        self.lexical = self._lexical_candidates(texts, language)

    @classmethod
    def of(
        cls, workspace: Workspace, passages: Sequence[Passage], texts: Sequence[str], questions: Sequence[Question]
    ) -> Judge:
        """A judge that ranks as the workspace's search does."""
        language, search = workspace.passages.language, workspace.search
        return cls(passages, texts, questions, language=language, depth=search.candidates, method=search.fusion)

    def answers(self, place: int) -> list[int]:
        """The numbers of the passages that answer the question at ``place``."""
        return [number for unit in self.questions[place].relevant for number in self._numbers.get(unit, ())]

    def dense(self, questions: NDArray[np.float32], passages: NDArray[np.float32]) -> Candidates:
        """Dense candidates of every question under one model."""
        return dense_candidates(questions, passages, self.depth)

    def score(
        self,
        mode: Literal["dense", "lexical", "hybrid"],
        dense: Candidates | None = None,
        lexical_weight: float = UNTUNED_WEIGHT,
        only: Sequence[int] | None = None,
    ) -> Scores:
        """Judge a mode on all questions, or on those at the places ``only``."""
        places = range(len(self.questions)) if only is None else only
        rankings = tuple(self._ranking(place, mode, dense, lexical_weight) for place in places)
        judged = [
            score_ranking(ranking, self.questions[place].relevant)
            for place, ranking in zip(places, rankings, strict=True)
        ]
        return Scores({name: tuple(scores[name] for scores in judged) for name in METRICS}, rankings)

    def _ranking(self, place: int, mode: str, dense: Candidates | None, lexical_weight: float) -> tuple[Unit, ...]:
        if mode == "lexical":
            numbers = self.lexical[place][0]
        else:
            assert dense is not None, "dense candidates are needed to judge this mode"
            if mode == "dense":
                numbers = dense[place][0]
            else:
                numbers, _ = fuse(dense[place], self.lexical[place], method=self.method, lexical_weight=lexical_weight)
        return self._units(self.questions[place], numbers)

    def _units(self, question: Question, numbers: NDArray[np.int64]) -> tuple[Unit, ...]:
        by_section = any(unit not in self._known_documents for unit in question.relevant)
        if not by_section:
            return tuple(dict.fromkeys(self._documents[number] for number in numbers))
        return tuple(dict.fromkeys(unit_of(self._passages[number], question.relevant, True) for number in numbers))

    def _lexical_candidates(self, texts: Sequence[str], language: str) -> Candidates:
        found: Candidates = []
        with tempfile.TemporaryDirectory(prefix="shoptalk-judge-") as folder:
            index = LexicalIndex.create(Path(folder) / "lexical", language)
            index.add(enumerate(texts))
            index.commit()
            for question in self.questions:
                hits = index.search(question.text, self.depth)
                found.append(
                    (
                        np.array([number for number, _ in hits], dtype=np.int64),
                        np.array([score for _, score in hits], dtype=np.float64),
                    )
                )
        return found


def choose_weight(
    judge: Judge, dense: Candidates, only: Sequence[int] | None = None
) -> tuple[float, dict[float, float]]:
    """Choose the BM25 weight by mean NDCG@10 on dev questions.

    The curve is smoothed over its neighbours, as a single step's peak on a hundred questions is mostly noise;
    ties go to the weight nearer the untuned one.

    Returns:
        The weight, and the mean NDCG@10 at each weight tried.
    """
    curve = {weight: float(np.mean(judge.score("hybrid", dense, weight, only).ndcg)) for weight in WEIGHTS}
    values = np.array(list(curve.values()))
    padded = np.concatenate((values[:1], values, values[-1:]))
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    best = max(range(len(WEIGHTS)), key=lambda place: (round(smooth[place], 6), -abs(WEIGHTS[place] - UNTUNED_WEIGHT)))
    return WEIGHTS[best], curve


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
