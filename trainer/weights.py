"""A model's weights as plain tensors: copied, put back, averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["Weights", "average_weights", "copy_weights", "is_static", "load_weights"]

Weights = dict[str, "torch.Tensor"]


def is_static(model: SentenceTransformer) -> bool:
    """Whether the model is a table of token embeddings, with nothing on top that attends."""
    return any(type(module).__name__ == "StaticEmbedding" for module in model)


def copy_weights(model: SentenceTransformer) -> Weights:
    """A copy of the model's weights, apart from it."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def load_weights(model: SentenceTransformer, weights: Weights) -> None:
    """Put ``weights`` into the model."""
    model.load_state_dict(weights)


def average_weights(base: Weights, tuned: Weights, share: float) -> Weights:
    """``share`` of the tuned weights and the rest of the base's (Wortsman et al., WiSE-FT, CVPR 2022)."""
    return {
        name: tensor + share * (tuned[name] - tensor) if tensor.is_floating_point() else tuned[name]
        for name, tensor in base.items()
    }
