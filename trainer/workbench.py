"""What every training of one run shares: the base and its vectors, what was mined, and who judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from retrieval.console import Progress, silent, staged
from retrieval.embedders import LocalEmbedder
from retrieval.embedding_cache import encode_cached
from retrieval.lexical import Bm25Scorer
from retrieval.reranking import Reranker
from retrieval.workspace import Workspace
from trainer.diagnosis import PairSigns, measure_pairs
from trainer.distillation import Lesson
from trainer.leakage import NEARLY_EQUAL, nearest, refuse_leaks
from trainer.lessons import fused_lessons, rescored
from trainer.mined import Mined
from trainer.negatives import add_hard_negatives, by_likeness, refresh_hard_negatives
from trainer.pairs import Pair, intact
from trainer.probe import DEEP
from trainer.ranking import Found, rank
from trainer.recipes import Recipe
from trainer.statistics import less_its_error
from trainer.training import cut_at, train
from trainer.training_log import TrainingLog
from trainer.view import View
from trainer.weights import Weights, average_weights, copy_weights, is_static, load_weights

__all__ = ["Fit", "Workbench"]


@dataclass(frozen=True)
class Fit:
    """One training: what it learned from, how it went, and how good it looks. Its weights are in the model.

    ``looked`` is dense NDCG@10 of each question that trained states are looked at by, ``base_dev`` what the base scores
    on average over the pool that ``log.dev`` was looked at over.
    """

    recipe: Recipe
    pairs: list[Pair]
    log: TrainingLog
    share: float
    looked: NDArray[np.float64]
    base_dev: float
    notes: list[str]


@dataclass
class Workbench:
    """The base model of a run on its bench: it is trained, looked at, and put back as it was."""

    workspace: Workspace
    corpus: str
    embedder: LocalEmbedder
    mined: Mined
    views: tuple[View, ...]
    """How the questions are asked: as they are judged, and mined ones with nothing masked as well."""
    base_weights: Weights
    seed: int
    progress: Progress = silent
    _anchors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    _taught: dict[tuple[str, Lesson], list[float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, workspace: Workspace, corpus: str, embedder: LocalEmbedder, mined: Mined, seed: int, progress: Progress
    ) -> Workbench:
        """Encode the corpus with the base and choose the dev questions to look at while training."""
        asked = [(mined.texts, mined.headings)]
        if mined.masks:
            passages = mined.material.passages
            asked.append((mined.plain_texts, [passage.embedded_heading for passage in passages]))
        views = tuple(View.of(workspace, corpus, embedder, mined, *some, progress) for some in asked)
        return cls(workspace, corpus, embedder, mined, views, copy_weights(embedder.model), seed, progress)

    @property
    def view(self) -> View:
        """The questions as they are judged."""
        return self.views[0]

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(passages, d) under the base, as they are judged."""
        return self.view.base.vectors

    def looking_deeper(self) -> Workbench:
        """The same bench with deeper pools to look at trained states over, to compare recipes by."""
        dev, _ = self.mined.questions.places()
        return replace(self, views=tuple(view.looking(dev, DEEP) for view in self.views))

    def look(self) -> NDArray[np.float64]:
        """How good the model as it now is looks: dense NDCG@10 of each question looked at, the mean of all views."""
        return self._mean([view.probe.ndcg(self.embedder) for view in self.views])

    def base_look(self) -> NDArray[np.float64]:
        """What the base itself scores where trained states are looked at."""
        return self._mean([view.base_ndcg() for view in self.views])

    @property
    def answers(self) -> list[int]:
        """For each question looked at a number, the same where the answers are."""
        return self.view.judge.by_answers(self.view.probe.questions)

    @staticmethod
    def _mean(views: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.mean(views, axis=0)
        return mean

    def pairs(self, recipe: Recipe, notes: list[str]) -> list[Pair]:
        """What ``recipe`` trains on: its share of the mined pairs, with hard negatives where it wants them.

        Where it wants alike pairs in one batch, they follow each other.
        """
        taken = self.mined.take(recipe, self.workspace.trainer.max_pairs, self.seed)
        share = recipe.static_intact if is_static(self.embedder.model) else recipe.intact
        chance = Random(self.seed)
        taken = [intact(self.mined.material, pair) if chance.random() < share else pair for pair in taken]
        pairs = self._with_negatives(recipe, taken, notes)
        if recipe.alike == 1 or not pairs:
            return pairs
        anchors = self._anchor_vectors([pair.anchor for pair in pairs])
        return [pairs[place] for place in by_likeness(anchors, recipe.alike)]

    def _with_negatives(self, recipe: Recipe, pairs: list[Pair], notes: list[str]) -> list[Pair]:
        if not recipe.hard_negatives or not pairs:
            return pairs
        found = add_hard_negatives(
            self.mined.material,
            pairs,
            self._anchor_vectors([pair.anchor for pair in pairs]),
            self.vectors[[pair.passage for pair in pairs]],
            self.vectors,
            held=self.mined.held_passages,
            count=recipe.hard_negatives,
            seed=self.seed,
            source=recipe.negatives_from,
            lexical=None if recipe.negatives_from == "model" else self.lexical,
        )
        # Where hard negatives are scarce the pairs are worth more than the negatives.
        used = len(found) >= len(pairs) // 2 or recipe.loss == "triplet"
        left_out = "; the others are left out of the training" if used and len(found) < len(pairs) else ""
        notes.append(
            f"hard negatives {'used' if used else 'not used'}: {len(found)} of {len(pairs)} pairs have one below .95 "
            f"of their positive's similarity{left_out}"
        )
        return found if used else pairs

    def lessons(self, recipe: Recipe) -> list[Lesson]:
        """The rankings that ``recipe`` has the base learn, less those that ask what a question asks.

        Raises:
            ModelError: its teacher cannot be loaded, or is no cross-encoder.
        """
        if not recipe.lessons:
            return []
        lessons = fused_lessons(
            self.mined.material,
            self.mined.texts,
            self.vectors,
            self.embedder,
            count=min(recipe.lessons, recipe.max_pairs),
            held=self.mined.held_passages,
            language=self.workspace.passages.language,
            seed=self.seed,
        )
        asked = [question.text for question in self.mined.questions.all]
        alike = nearest([lesson.anchor for lesson in lessons], asked, NEARLY_EQUAL)
        lessons = [lesson for lesson, near in zip(lessons, alike, strict=True) if not near]
        return self._by_teacher(recipe.teacher, lessons) if recipe.teacher else lessons

    def _by_teacher(self, reference: str, lessons: Sequence[Lesson]) -> list[Lesson]:
        """What a cross-encoder makes of the lessons; it is asked about each once a run."""
        missing = [lesson for lesson in lessons if (reference, lesson) not in self._taught]
        teacher = Reranker(self.workspace, reference, setting="teacher")
        for done, lesson in enumerate(missing):
            self.progress("asking the teacher", done, len(missing))
            self._taught[reference, lesson] = teacher.scores(lesson.anchor, lesson.candidates)
        return rescored(lessons, [self._taught[reference, lesson] for lesson in lessons])

    def fit(self, recipe: Recipe, folder: Path | None = None, *, widen: bool = False) -> Fit:
        """Train the base by ``recipe``; the best mix of tuned and base weights is left in the model.

        With a ``folder`` the training goes on from the checkpoint of the same training that was killed. With ``widen``
        the mix is chosen over a pool that has the tuned model's mistakes too; all passages, cut as for training, are
        encoded to find them.

        Raises:
            ShoptalkError: the loss was not finite, or memory does not suffice; the model is as it was before.
        """
        load_weights(self.embedder.model, self.base_weights)
        notes: list[str] = []
        pairs = self.pairs(recipe, notes)
        refuse_leaks(pairs, [question.text for question in self.mined.questions.all], self.mined.held)
        if recipe.refresh_negatives and any(pair.negatives for pair in pairs):
            # By whole groups of alike pairs, two at least.
            size = max(1, min(recipe.alike, len(pairs) // 2))
            groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
            first, second = ([*chain.from_iterable(groups[half::2])] for half in (0, 1))
            before = self._train(recipe, first, (), folder and folder / "before")
            second = self._refreshed(recipe, second)
            pairs = [*first, *second]
            notes.append("hard negatives of the second half chosen again, by the model that the first half made")
            rate = before.learning_rate
            proven = replace(recipe, learning_rate=rate, static_learning_rate=rate, gentler=1.0)
            log = before.then(self._train(proven, second, self.lessons(recipe), folder))
        else:
            log = self._train(recipe, pairs, self.lessons(recipe), folder)
        notes += log.choices
        before_widening = self.views
        widen = widen and len(recipe.averages) > 1
        if widen:
            # By texts as long as those learned from: what is taken for an answer is taken for one by its beginning too.
            with cut_at(self.embedder.model, recipe.max_tokens):
                self.widen(self.tuned())
        base = self.base_look()
        share, looked = self._mix(recipe.averages, base, notes)
        # Looks while training were over the pool as it was: no number over a wider one continues them.
        if widen and log.dev:
            base = replace(self, views=before_widening).base_look()
        else:
            log.dev.append((log.steps, float(looked.mean())))
        return Fit(recipe, pairs, log, share, looked, float(base.mean()), notes)

    def tuned(self) -> LocalEmbedder:
        """The model as it now is. Its weights are hashed for its fingerprint, so ask once a state."""
        return LocalEmbedder(self.embedder.model, "candidate", self.embedder.compute, self.embedder.batch_size)

    def find(self, tuned: LocalEmbedder) -> list[Found]:
        """What ``tuned`` finds in each view."""
        return [rank(view.judge, self.workspace, self.corpus, tuned, view.texts, self._encoding) for view in self.views]

    def widen(self, tuned: LocalEmbedder) -> None:
        """Put the mistakes of ``tuned`` into the pools that trained states are looked at over."""
        self.views = tuple(
            view.widened(tuned, encode_cached(self.workspace, self.corpus, tuned, view.texts, self._encoding))
            for view in self.views
        )

    @property
    def _encoding(self) -> Progress:
        return staged(self.progress, "encoding with the tuned")

    def _train(
        self, recipe: Recipe, pairs: Sequence[Pair], lessons: Sequence[Lesson], folder: Path | None
    ) -> TrainingLog:
        return train(
            self.embedder.model,
            pairs,
            recipe,
            self.mined.material,
            self.embedder.compute,
            seed=self.seed,
            dev_scores=self.look,
            base_scores=self.base_look,
            answers=self.answers,
            progress=self.progress,
            lessons=lessons,
            folder=folder,
        )

    def _refreshed(self, recipe: Recipe, pairs: Sequence[Pair]) -> list[Pair]:
        return refresh_hard_negatives(
            self.mined.material,
            pairs,
            self.embedder,
            held=self.mined.held_passages,
            count=recipe.hard_negatives,
            seed=self.seed + 1,
            source=recipe.negatives_from,
            lexical=None if recipe.negatives_from == "model" else self.lexical,
        )

    @cached_property
    def lexical(self) -> Bm25Scorer:
        """BM25 over the passages."""
        return Bm25Scorer(self.mined.texts, self.workspace.passages.language)

    def signs(self, pairs: Sequence[Pair]) -> PairSigns:
        """How sound the pairs look to the base; what is in the model stays there."""
        tuned = copy_weights(self.embedder.model)
        load_weights(self.embedder.model, self.base_weights)
        try:
            return measure_pairs(pairs, self.embedder, self.workspace.passages.language)
        finally:
            load_weights(self.embedder.model, tuned)

    def _mix(
        self, shares: Sequence[float], base: NDArray[np.float64], notes: list[str]
    ) -> tuple[float, NDArray[np.float64]]:
        """Leave in the model the mix of tuned and base weights that looks best; return the tuned share, and that look.

        Best is what gains most over the look of the ``base`` beyond the gain's error, and of those that gain alike the
        nearest to the base: mixes near it are less of a risk. (Wortsman et al., Robust fine-tuning of zero-shot models,
        CVPR 2022.)
        """
        tuned = copy_weights(self.embedder.model)
        looks: dict[float, NDArray[np.float64]] = {}
        for share in shares:
            load_weights(self.embedder.model, average_weights(self.base_weights, tuned, share))
            looks[share] = self.look()
        best = max(looks, key=lambda share: (round(less_its_error(looks[share] - base, self.answers), 4), -share))
        if len(shares) > 1:
            load_weights(self.embedder.model, average_weights(self.base_weights, tuned, best))
            tried = ", ".join(f"{share:g}: {look.mean():.3f}" for share, look in looks.items())
            kept = f"{best:g} of the tuned weights, the rest the base's"
            notes.append(f"{kept}: on a sample of dev the largest gain less its error ({tried})")
        return best, looks[best]

    def _anchor_vectors(self, anchors: Sequence[str]) -> NDArray[np.float32]:
        """(n, d) under the base, each encoded once a run."""
        missing = [text for text in dict.fromkeys(anchors) if text not in self._anchors]
        if missing:
            self._anchors |= dict(zip(missing, self.embedder.encode_queries(missing), strict=True))
        return np.stack([self._anchors[text] for text in anchors])
