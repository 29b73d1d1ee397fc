"""NDCG@10 and its kin for a model, a mode, a split.

What is judged is what is served: the same candidates of the same lexical index, fused and compared by the same
functions, over the same passages. A unit (a document, or a section of one) ranks where its best passage
does. Below what is served a ranking goes on to 100 units, for the measures that look so deep.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.fusion import UNTUNED_WEIGHT, Method, fuse, refine
from retrieval.late_interaction import DEPTH, SHARE, Codes
from retrieval.lexical import LexicalIndex
from retrieval.names import by_names
from retrieval.passages import Passage
from retrieval.workspace import Workspace
from trainer.questions import Question, Unit, by_answers, document_of, path_unit, section_unit, unit_of

__all__ = [
    "METRICS",
    "RANKED",
    "WEIGHTS",
    "Candidates",
    "Finer",
    "Judge",
    "Ranking",
    "Scores",
    "choose_weight",
    "dense_candidates",
    "lexical_candidates",
    "score_ranking",
]

METRICS = ("ndcg@10", "mrr@10", "map", "recall@1", "recall@5", "recall@10", "recall@50")
CUTOFF = 10
RECALL_AT = (1, 5, 10, 50)
RANKED = 100
"""Units a ranking goes down to: what MAP and Recall@50 are computed from."""
REACH = 300
"""Candidates a side, at least: a document's passages share its place, so 100 units take more passages."""
# 0 is dense alone, 1 lexical alone; both are legal outcomes.
WEIGHTS = tuple(step / 10 for step in range(11))

Ranking = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Passage numbers and scores, best first."""
Finer = Callable[[int, Sequence[int]], NDArray[np.float64]]
"""Given the place of a question and passage numbers: how like each the question is, token by token."""


@dataclass(frozen=True)
class Candidates:
    """A model's dense candidates of each question, and how hybrid searches look at them closer.

    ``nearer`` are the first of them as the names that they list bring them nearer, where any does; ``finer`` looks at
    any of them token by token, where searches take that.
    """

    found: Sequence[Ranking]
    finer: Finer | None = None
    nearer: Sequence[Ranking] | None = None

    def __getitem__(self, place: int) -> Ranking:
        """Those of the question at ``place``."""
        return self.found[place]


@dataclass(frozen=True)
class Scores:
    """Per-question values of each metric, and the ranked units (`RANKED` at most) they were computed from."""

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
    reciprocal rank of the first relevant unit within 10; Recall@k the share of relevant units within
    k; MAP the mean of the precisions at the ranks of all relevant units, 0 for those not found. To
    the last three every grade above 0 is the same.
    """
    gains = [relevant.get(unit, 0) for unit in ranking]
    found = [rank for rank, gain in enumerate(gains, 1) if gain > 0]
    first = found[0] if found and found[0] <= CUTOFF else 0
    return {
        "ndcg@10": _ndcg(ranking, relevant),
        "mrr@10": 1 / first if first else 0.0,
        "map": sum(count / rank for count, rank in enumerate(found, 1)) / len(relevant),
        **{f"recall@{cutoff}": sum(rank <= cutoff for rank in found) / len(relevant) for cutoff in RECALL_AT},
    }


def dense_candidates(questions: NDArray[np.float32], passages: NDArray[np.float32], depth: int) -> list[Ranking]:
    """The ``depth`` nearest passages of each question by exact inner product; equal scores by number.

    Args:
        questions: (q, d) unit vectors.
        passages: (p, d) unit vectors.
        depth: candidates a question.
    """
    depth = min(depth, len(passages))
    found: list[Ranking] = []
    for start in range(0, len(questions), 256):
        similarity = questions[start : start + 256] @ passages.T
        nearest = np.argpartition(-similarity, depth - 1, axis=1)[:, :depth]
        for row, places in enumerate(nearest):
            scores = similarity[row, places].astype(np.float64)
            order = np.lexsort((places, -scores))
            found.append((places[order].astype(np.int64), scores[order]))
    return found


def lexical_candidates(
    questions: Iterable[str], passages: Iterable[str], language: str, depth: int
) -> Iterator[Ranking]:
    """Yield each question's ``depth`` best passages by BM25, as `dense_candidates` gives them, while it searches."""
    with tempfile.TemporaryDirectory(prefix="shoptalk-candidates-") as folder:
        index = LexicalIndex.create(Path(folder) / "lexical", language)
        index.add(enumerate(passages))
        index.commit()
        for question in questions:
            hits = index.search(question, depth)
            yield (
                np.array([number for number, _ in hits], dtype=np.int64),
                np.array([score for _, score in hits], dtype=np.float64),
            )


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
        """``texts`` are what each passage is embedded and indexed as; ``depth`` the candidates a side to fuse."""
        self.questions = tuple(questions)
        self.depth = depth
        self.reach = max(depth, REACH)
        self.method: Method = method
        self._documents = [passage.document_id for passage in passages]
        self._known_documents = frozenset(self._documents)
        self._passages = passages
        self._numbers: dict[Unit, list[int]] = defaultdict(list)
        for number in range(len(passages)):
            for unit in {self._documents[number], section_unit(passages[number]), path_unit(passages[number])}:
                self._numbers[unit].append(number)
        asked = [question.text for question in self.questions]
        self.lexical = list(lexical_candidates(asked, texts, language, self.reach))

    @classmethod
    def of(
        cls, workspace: Workspace, passages: Sequence[Passage], texts: Sequence[str], questions: Sequence[Question]
    ) -> Judge:
        """A judge that ranks as the workspace's search does."""
        language, search = workspace.passages.language, workspace.search
        return cls(passages, texts, questions, language=language, depth=search.candidates, method=search.fusion)

    def answers(self, place: int) -> list[int]:
        """The numbers of the passages that answer the question at ``place``."""
        return [number for unit in self.questions[place].relevant for number in self.passages_of(unit)]

    def by_answers(self, places: Iterable[int]) -> list[int]:
        """A number for each of the questions at ``places``, the same where the answers are (`questions.by_answers`)."""
        return by_answers(self.questions[place] for place in places)

    def passages_of(self, unit: Unit) -> Sequence[int]:
        """The numbers of a unit's passages, in reading order; none where the corpus lacks it."""
        return self._numbers.get(unit, ())

    def passage(self, number: int) -> Passage:
        """The passage of that number."""
        return self._passages[number]

    def dense(
        self,
        questions: NDArray[np.float32],
        passages: NDArray[np.float32],
        finer: Finer | None = None,
        names: Mapping[int, Codes] = {},
    ) -> Candidates:
        """Dense candidates of every question under one model, and its closer looks at them; ``names`` are codes."""
        found = dense_candidates(questions, passages, self.reach)
        if not names:
            return Candidates(found, finer)
        first = [(numbers[: self.depth].tolist(), scores[: self.depth].tolist()) for numbers, scores in found]
        nearer = [by_names(asked, *some, names) for asked, some in zip(questions, first, strict=True)]
        return Candidates(found, finer, nearer)

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

    def hybrid_ndcg(
        self, dense: Candidates, lexical_weight: float, only: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """NDCG@10 of hybrid search alone, as `score` gives it: what is tried at many settings ranks no deeper."""
        places = range(len(self.questions)) if only is None else only
        rankings = (self._ranking(place, "hybrid", dense, lexical_weight, CUTOFF) for place in places)
        relevant = (self.questions[place].relevant for place in places)
        return np.array([_ndcg(*judged) for judged in zip(rankings, relevant, strict=True)])

    def best_passages(self, place: int, dense: Candidates, count: int) -> dict[Unit, int]:
        """The first ``count`` units of the dense ranking, each with the number of the passage that put it there."""
        return self._first_passages(self.questions[place], dense[place][0].tolist(), count)

    def _ranking(
        self, place: int, mode: str, dense: Candidates | None, lexical_weight: float, units: int = RANKED
    ) -> tuple[Unit, ...]:
        lexical = self.lexical[place]
        if mode == "lexical":
            numbers: Iterable[int] = lexical[0].tolist()
        else:
            assert dense is not None, "dense candidates are needed to judge this mode"
            numbers = dense[place][0].tolist()
            if mode == "hybrid":
                top, rest = slice(None, self.depth), slice(self.depth, None)
                ours = dense[place] if dense.nearer is None else dense.nearer[place]
                ours, theirs = ((side[0][top], side[1][top]) for side in (ours, lexical))
                fused, scores = fuse(ours, theirs, method=self.method, lexical_weight=lexical_weight)
                if dense.finer is not None:
                    fused, _ = refine(fused, scores, dense.finer(place, fused[:DEPTH].tolist()), SHARE)
                # What is served ends here; a tail of both sides in turns keeps MAP and Recall@50 from ending too.
                tail = zip_longest(dense[place][0][rest].tolist(), lexical[0][rest].tolist())
                numbers = chain(fused.tolist(), (number for turn in tail for number in turn if number is not None))
        return tuple(self._first_passages(self.questions[place], numbers, units))

    def _first_passages(self, question: Question, numbers: Iterable[int], count: int) -> dict[Unit, int]:
        by_section = any(document_of(unit, self._known_documents) not in (None, unit) for unit in question.relevant)
        found: dict[Unit, int] = {}
        for number in numbers:
            if by_section:
                unit = unit_of(self._passages[number], question.relevant, True)
            else:
                unit = self._documents[number]
            if unit not in found:
                if len(found) == count:
                    break
                found[unit] = number
        return found


def choose_weight(
    judge: Judge,
    dense: Candidates,
    only: Sequence[int] | None = None,
    beside: Sequence[tuple[Judge, Candidates]] = (),
) -> tuple[float, dict[float, float]]:
    """Choose the BM25 weight by mean NDCG@10 on dev questions.

    The curve is smoothed over its neighbours, as a single step's peak on a hundred questions is mostly noise;
    ties go to the weight nearer the untuned one. ``beside`` are the same questions asked in other ways, which count as
    much.

    Returns:
        The weight, and the mean NDCG@10 at each weight tried.
    """
    asked = [(judge, dense), *beside]
    scores = [float(np.mean([some.hybrid_ndcg(found, weight, only) for some, found in asked])) for weight in WEIGHTS]
    padded = [scores[0], *scores, scores[-1]]
    smooth = [(padded[place] + 2 * padded[place + 1] + padded[place + 2]) / 4 for place in range(len(scores))]
    best = max(range(len(WEIGHTS)), key=lambda place: (round(smooth[place], 6), -abs(WEIGHTS[place] - UNTUNED_WEIGHT)))
    return WEIGHTS[best], dict(zip(WEIGHTS, scores, strict=True))


def _ndcg(ranking: Sequence[Unit], relevant: Mapping[Unit, int]) -> float:
    ideal = sorted(relevant.values(), reverse=True)[:CUTOFF]
    return _dcg(relevant.get(unit, 0) for unit in ranking[:CUTOFF]) / _dcg(ideal)


def _dcg(gains: Iterable[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
