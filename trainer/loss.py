"""What training minimises: functions of a batch's unit vectors, anchors and documents.

Documents are the positives in the anchors' order, then the first hard negative of each, then the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["SCALE", "Objective", "at_dimensions", "ranking_loss", "triplet_loss"]

# Cosines times 20: the temperature of 0.05 that sentence embeddings are usually tuned at.
SCALE = 20.0
# How much nearer than its negative a positive has to be, in cosine, before a triplet teaches no more.
MARGIN = 0.2

Objective = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
"""(anchors (n, d), documents (m, d)) → the loss, a scalar."""


def ranking_loss(anchors: torch.Tensor, documents: torch.Tensor, masked: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy of each anchor's positive among all documents of the batch (InfoNCE; Henderson et al., 2017).

    ``masked`` (n, m) is True where a document counts as no negative, since it may be an answer too.
    """
    import torch

    scores = SCALE * anchors @ documents.T
    if masked is not None:
        scores = scores.masked_fill(masked.to(scores.device), -math.inf)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(anchors), device=scores.device))


def triplet_loss(anchors: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
    """How far each hard negative comes within `MARGIN` of the positive, in cosine (Schroff et al., FaceNet, 2015)."""
    import torch

    positives, *negatives = torch.split(documents, len(anchors))
    nearness = (anchors * positives).sum(dim=1)
    violations = [torch.relu(MARGIN - nearness + (anchors * some).sum(dim=1)) for some in negatives]
    return torch.stack(violations).mean()


def at_dimensions(objective: Objective, dimensions: tuple[int, ...]) -> Objective:
    """``objective`` over vectors of any length, which it gets as unit vectors.

    With ``dimensions`` it is the mean over the whole vectors and their first so many numbers (Kusupati et al.,
    Matryoshka Representation Learning, 2022), so that vectors may be cut short later.
    """

    def mean(anchors: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        import torch

        unit = torch.nn.functional.normalize
        sizes = sorted({anchors.shape[1], *dimensions}, reverse=True)
        return torch.stack([objective(unit(anchors[:, :size]), unit(documents[:, :size])) for size in sizes]).mean()

    return mean
