"""Training in the memory there is: what to do without when it runs out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["LowMemory", "Room", "free_memory", "smaller_base"]

# With less than this free, Linux may end the process rather than tell it; better to do with less before.
RESERVE = 256_000_000
# Weights, their copy from before, their gradients, and AdamW's two moments: float32 each.
BYTES_A_PARAMETER = 20
# Bases that are known to train well, and their parameters.
BASES = {
    "BAAI/bge-base-en-v1.5": 109_000_000,
    "BAAI/bge-small-en-v1.5": 33_400_000,
    "sentence-transformers/all-MiniLM-L6-v2": 22_700_000,
}
MULTILINGUAL_BASES = {
    "intfloat/multilingual-e5-base": 278_000_000,
    "intfloat/multilingual-e5-small": 118_000_000,
}
MANY_WORDS = 100_000
"""Tokens that few vocabularies of one language have."""


class LowMemory(MemoryError):
    """Little memory is left, though nothing has failed yet."""


@dataclass
class Room:
    """How much of a batch is held in memory at once; it only ever shrinks.

    ``mini_batch`` is how many texts' activations are held (None: the whole batch's); ``recompute`` is whether
    even those are computed again layer by layer (gradient checkpointing; Chen et al., 2016). Neither changes
    the loss or its gradient, only what they cost.
    """

    mini_batch: int | None = None
    recompute: bool = False
    changes: list[str] = field(default_factory=list)

    def shrink(self, model: SentenceTransformer, texts: int, device: str, why: str) -> None:
        """Do with less: half the mini-batch, then gradient checkpointing.

        Raises:
            ModelError: nothing is left to do without; the message names a smaller base that fits.
        """
        held = min(texts, self.mini_batch or texts)
        if held > 1:
            self.mini_batch = held // 2
            self.changes.append(f"out of memory ({why}): {self.mini_batch} of a batch's {texts} texts at a time now")
        elif not self.recompute and _recompute(model):
            self.recompute = True
            self.changes.append(f"out of memory with one text at a time ({why}): gradient checkpointing is on now")
        else:
            raise ModelError(f"not even one text fits into memory for training ({why}); {smaller_base(model, device)}")

    def restore(self, model: SentenceTransformer, mini_batch: int | None, recompute: bool) -> None:
        """Go on as a run before this one had to."""
        self.mini_batch = mini_batch
        self.recompute = recompute and _recompute(model)

    def check(self, device: str) -> None:
        """See that there is memory for what comes next, where the system would not say.

        Raises:
            LowMemory: there is little, and something can be done about it.
        """
        if device != "cpu" or self.mini_batch == 1:
            return
        free = free_memory()
        if free is not None and free < RESERVE:
            raise LowMemory(f"{free / 1e6:.0f} MB of memory are free")

    def end(self, model: SentenceTransformer) -> None:
        """Switch gradient checkpointing off again."""
        if self.recompute:
            model[0].auto_model.activation_checkpointing_disable()
            model.eval()


def free_memory() -> int | None:
    """Bytes that this process could still get, within its container's limit; None where Linux does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int((group / "memory.current").read_text(encoding="ascii"))
            # Pages of files count as used and are given up when asked for.
            pages = (group / "memory.stat").read_text(encoding="ascii").split()
            free = min(free, int(limit) - used + int(pages[pages.index("inactive_file") + 1]))
    except (OSError, ValueError):
        return free  # no limit that can be read: a container of another kind, or none
    return free


def smaller_base(model: SentenceTransformer, device: str) -> str:
    """Advice: the largest known base, smaller than ``model``, whose training state leaves half of the memory free."""
    import torch

    size = sum(weight.numel() for weight in model.parameters())
    if device.startswith("cuda"):
        total: int | None = torch.cuda.mem_get_info(device)[1]
    else:
        # What this model's own training holds would be free again.
        free = free_memory()
        total = None if free is None else free + BYTES_A_PARAMETER * size
    for name, parameters in (MULTILINGUAL_BASES if _vocabulary(model) > MANY_WORDS else BASES).items():
        if parameters < size * 0.9 and (total is None or 2 * BYTES_A_PARAMETER * parameters <= total):
            return f"set model.base to a smaller one: {name} ({parameters / 1e6:.0f} million parameters) fits"
    return "no smaller base is sure to fit: shorten texts (max_tokens), free some memory, or take a static model"


def _vocabulary(model: SentenceTransformer) -> int:
    """How many tokens the tokenizer knows; 0 where it does not say."""
    try:
        return len(model.tokenizer)
    except TypeError:
        return 0


def _recompute(model: SentenceTransformer) -> bool:
    """Switch gradient checkpointing on; False where the model has none."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    transformer = getattr(model[0], "auto_model", None)
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers or not getattr(transformer, "supports_gradient_checkpointing", False):
        return False
    model[0].auto_model.activation_checkpointing_enable({"use_reentrant": False})
    for layer in layers:
        # A layer checkpoints only while it is "training"; what is inside stays as it is, without dropout.
        layer.training = True
    return True
