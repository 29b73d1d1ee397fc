"""In which number format a model is trained, by which attention, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retrieval.compute import Compute
from trainer.weights import is_static

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Precision", "choose_precision"]

# CUDA's compute capability: from 8 on (A100, RTX 30) bfloat16 and TF32 are in hardware, from 7 on (V100, T4) float16.
_BFLOAT16_FROM, _FLOAT16_FROM = 8, 7


@dataclass(frozen=True, slots=True)
class Precision:
    """The format of matrix products; weights, their updates and the loss are always float32."""

    name: str
    """float32, float16 or bfloat16."""
    device: str
    tf32: bool
    reason: str

    @property
    def described(self) -> str:
        """For people, as the training record has it."""
        return "float32" if self.name == "float32" else f"{self.name} autocast"

    @property
    def scaled(self) -> bool:
        """Whether gradients must be scaled up, as float16 would lose the small ones."""
        return self.name == "float16"

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that a forward pass runs in; it holds for one thread."""
        import torch

        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device, dtype=getattr(torch, self.name))

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let what autocast leaves in float32 be multiplied as TF32, where that was chosen, and only meanwhile."""
        import torch

        before = torch.get_float32_matmul_precision()
        if self.tf32:
            torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def choose_precision(model: SentenceTransformer, compute: Compute) -> Precision:
    """Choose the fastest format that trains as well as float32 does on this device."""
    device = compute.device.partition(":")[0]
    if is_static(model):
        return Precision("float32", device, False, "a table of embeddings has no matrix products to speed up")
    attention = _attention(model)
    if device == "cuda":
        import torch

        major, _ = torch.cuda.get_device_capability(compute.device)
        if major >= _BFLOAT16_FROM:
            why = "this GPU has bfloat16, which needs no scaling, and TF32 for the rest"
            return Precision("bfloat16", device, True, why + attention)
        if major >= _FLOAT16_FROM:
            why = "this GPU has float16 but no bfloat16; gradients are scaled"
            return Precision("float16", device, False, why + attention)
        return Precision("float32", device, False, "this GPU is no faster in 16 bits" + attention)
    name = "bfloat16" if compute.bfloat16 else "float32"
    return Precision(name, device, False, compute.reason + attention)


def _attention(model: SentenceTransformer) -> str:
    transformer = getattr(model[0], "auto_model", None)
    kind = getattr(getattr(transformer, "config", None), "_attn_implementation", None)
    if kind == "sdpa":
        return "; attention by PyTorch's fused kernels (sdpa)"
    return f"; attention by {kind}, the one that this model has" if kind else ""
