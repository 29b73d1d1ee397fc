"""Learning a ranking from a better ranker: an anchor, candidates, and how the teacher scored them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.loss import SCALE, Objective

if TYPE_CHECKING:
    import torch

__all__ = ["Lesson", "listwise_loss"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """An anchor, candidate passages (texts, as the index embeds them), and the teacher's score of each.

    Scores are on any scale; the recipe's ``teacher_temperature`` divides them before the softmax.

    Raises:
        ValueError: there are fewer than two candidates, not as many scores, or a score that is not finite.
    """

    anchor: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.candidates) < 2 or len(self.candidates) != len(self.scores):
            raise ValueError(f"a lesson needs two candidates and as many scores: {self.anchor!r}")
        if not all(map(math.isfinite, self.scores)):
            raise ValueError(f"a lesson's scores must be finite: {self.anchor!r}")


def listwise_loss(lessons: Sequence[Lesson], documents: Sequence[str], temperature: float) -> Objective:
    """KL(softmax(teacher / temperature) ‖ softmax(20 · cosine)) over each lesson's own candidates, averaged.

    Args:
        lessons: n of them, their anchors in this order in the objective's first argument.
        documents: the distinct texts of all candidates, in the order of the objective's second argument.
        temperature: of the teacher.
    """
    import torch

    place_of = {text: place for place, text in enumerate(documents)}
    longest = max(len(lesson.candidates) for lesson in lessons)
    places = torch.zeros(len(lessons), longest, dtype=torch.long)
    teacher = torch.full((len(lessons), longest), -math.inf)
    for row, lesson in enumerate(lessons):
        places[row, : len(lesson.candidates)] = torch.tensor([place_of[text] for text in lesson.candidates])
        teacher[row, : len(lesson.scores)] = torch.tensor(lesson.scores) / temperature
    absent = teacher.isinf()
    wanted = teacher.softmax(dim=1)

    def divergence(anchors: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        device = anchors.device
        scores = (SCALE * anchors @ documents.T).gather(1, places.to(device))
        found = scores.masked_fill(absent.to(device), -math.inf).log_softmax(dim=1)
        # What is absent has no share of either; 0 · log 0 is 0 here, not NaN.
        found = found.masked_fill(absent.to(device), 0.0)
        return torch.nn.functional.kl_div(found, wanted.to(device), reduction="batchmean")

    return divergence
