"""Which examples each step of a training run sees: settled before it starts, by the seed alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from retrieval.errors import QuestionsError
from trainer.distillation import Lesson, listwise_loss
from trainer.loss import Objective, at_dimensions, ranking_loss, triplet_loss
from trainer.material import Material, normalise
from trainer.pairs import Pair
from trainer.recipes import Recipe

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Plan"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The texts of one step, and the loss of their vectors."""

    anchors: tuple[str, ...]
    documents: tuple[str, ...]
    objective: Objective
    of_lessons: bool = False

    @property
    def texts(self) -> int:
        """How many texts are embedded."""
        return len(self.anchors) + len(self.documents)


class Plan:
    """The batches of a run: ``plan[step]``, ``len(plan)`` of them.

    Step s of a run is the same whenever it is asked for, so a run that was killed goes on where it was.

    Raises:
        QuestionsError: there is nothing to learn from, or the loss needs negatives that the pairs lack.
    """

    def __init__(
        self, pairs: Sequence[Pair], lessons: Sequence[Lesson], recipe: Recipe, material: Material, seed: int
    ) -> None:
        self._pairs, self._lessons, self._recipe, self._material = pairs, lessons, recipe, material
        self._answers = _answers(pairs)
        self._negatives = min((len(pair.negatives) for pair in pairs), default=0)
        if not pairs and not lessons:
            raise QuestionsError("there is nothing to train on: no pairs and no lessons")
        if pairs and recipe.loss == "triplet" and not self._negatives:
            raise QuestionsError(
                f"recipe {recipe.name}: loss = triplet needs hard negatives; set hard_negatives = 1, or loss = ranking"
            )
        self._steps = [step for epoch in range(recipe.epochs) for step in self._epoch(Random(f"{seed} {epoch}"))]
        done = 0
        self.examples_before = [0]
        """How many examples were seen before each step, and at the end."""
        for _, rows in self._steps:
            done += len(rows)
            self.examples_before.append(done)

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, step: int) -> Batch:
        of_pairs, rows = self._steps[step]
        return self._pair_batch(rows) if of_pairs else self._lesson_batch(rows)

    def _epoch(self, generator: Random) -> list[tuple[bool, list[int]]]:
        alike, size = self._recipe.alike, self._recipe.batch_size
        groups = [range(start, min(start + alike, len(self._pairs))) for start in range(0, len(self._pairs), alike)]
        lessons = list(range(len(self._lessons)))
        generator.shuffle(groups)
        generator.shuffle(lessons)
        steps = [(True, rows) for rows in self._distinct([row for group in groups for row in group], size)]
        if lessons:
            # As many texts a step as with pairs, so that steps weigh and cost alike.
            texts = size * (2 + self._negatives)
            size = max(1, texts // (1 + max(len(lesson.candidates) for lesson in self._lessons)))
            steps += [(False, lessons[start : start + size]) for start in range(0, len(lessons), size)]
            generator.shuffle(steps)
        return steps

    def _distinct(self, order: list[int], size: int) -> Iterator[list[int]]:
        """Batches without a text twice: one row's answer must not be the next row's negative."""
        texts = {row: {pair.anchor, *self._documents(pair)} for row, pair in enumerate(self._pairs)}
        while order:
            rows: list[int] = []
            later: list[int] = []
            seen: set[str] = set()
            for place, row in enumerate(order):
                if len(rows) == size:
                    later += order[place:]
                    break
                if seen.isdisjoint(texts[row]):
                    rows.append(row)
                    seen |= texts[row]
                else:
                    later.append(row)
            yield rows
            order = later

    def _documents(self, pair: Pair) -> tuple[str, ...]:
        return (pair.positive, *pair.negatives[: self._negatives])

    def _pair_batch(self, rows: list[int]) -> Batch:
        pairs = [self._pairs[row] for row in rows]
        columns = zip(*map(self._documents, pairs), strict=True)
        objective: Objective = triplet_loss
        if self._recipe.loss == "ranking":
            masked = self._masked(pairs) if self._recipe.false_negative_mask else None
            objective = partial(ranking_loss, masked=masked)
        return Batch(
            tuple(pair.anchor for pair in pairs),
            tuple(text for column in columns for text in column),
            at_dimensions(objective, self._recipe.matryoshka),
        )

    def _masked(self, pairs: list[Pair]) -> torch.Tensor:
        """(n, m): where a document of another row counts as no negative.

        Its section is the positive's own, an ancestor, a descendant or a copy of it, as the documents say, or another
        that the same anchor leads to; or the model that chose the hard negatives took it for an answer.
        """
        import torch

        sections = [pair.section for pair in pairs]
        for column in range(self._negatives):
            sections += [pair.negative_sections[column] for pair in pairs]
        related = self._material.related
        answers = [self._answers[pair.anchor] | {*pair.likely_answers} for pair in pairs]
        return torch.tensor(
            [
                [
                    place != own and (section in answers[own] or related(pair.section, section))
                    for place, section in enumerate(sections)
                ]
                for own, pair in enumerate(pairs)
            ]
        )

    def _lesson_batch(self, rows: list[int]) -> Batch:
        lessons = [self._lessons[row] for row in rows]
        documents = tuple(dict.fromkeys(text for lesson in lessons for text in lesson.candidates))
        objective = listwise_loss(lessons, documents, self._recipe.teacher_temperature)
        anchors = tuple(lesson.anchor for lesson in lessons)
        return Batch(anchors, documents, at_dimensions(objective, self._recipe.matryoshka), of_lessons=True)


def _answers(pairs: Sequence[Pair]) -> Mapping[str, set[int]]:
    """For each anchor the sections that it leads to, in whatever letters it is asked."""
    by_words: defaultdict[str, set[int]] = defaultdict(set)
    words = [normalise(pair.anchor) for pair in pairs]
    for said, pair in zip(words, pairs, strict=True):
        by_words[said].add(pair.section)
    return {pair.anchor: by_words[said] for said, pair in zip(words, pairs, strict=True)}
