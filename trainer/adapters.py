"""LoRA: training small matrices beside the weights, which are merged into them at the end.

Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021; by peft.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from retrieval.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["adapted"]


@contextmanager
def adapted(model: SentenceTransformer, rank: int, seed: int) -> Iterator[None]:
    """Meanwhile only adapters of ``rank`` beside the model's linear layers are trained; 0 leaves it as it is.

    Afterwards the model has the modules and names of weights that it had, with what was learned in them.

    Raises:
        ModelError: peft is not installed, or the model has no layers that could be adapted.
    """
    if not rank:
        yield
        return
    try:
        from peft import LoraConfig, LoraModel
    except ImportError:
        raise ModelError("lora_rank needs peft: pip install 'shoptalk[lora]', or set lora_rank = 0") from None
    import torch

    transformer = getattr(model[0], "auto_model", None)
    if transformer is None:
        raise ModelError("lora_rank needs a transformer; a static model has no layers to adapt: set lora_rank = 0")
    trained = {name: weight.requires_grad for name, weight in model.named_parameters()}
    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    # peft puts its layers into the transformer itself, so the model goes on holding the same object.
    wrapped = LoraModel(transformer, settings, "default")
    try:
        yield
    finally:
        wrapped.merge_and_unload()
        for name, weight in model.named_parameters():
            weight.requires_grad_(trained[name])
