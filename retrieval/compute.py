"""Where a model runs, in which precision, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from retrieval.errors import ModelError

__all__ = ["Compute", "choose_compute", "is_out_of_memory", "own_gpu", "release"]

_NO_MEMORY = ("not enough memory", "out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how a model runs, and why it was chosen."""

    device: str
    bfloat16: bool
    reason: str

    @property
    def precision(self) -> str:
        """The number format of the matrix products, for people."""
        return "bfloat16" if self.bfloat16 else "float32"


def choose_compute(device: str = "auto") -> Compute:
    """Choose device and precision. On a CPU, bfloat16 only where it has instructions for it.

    Raises:
        ModelError: the device asked for is not there.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            # Of several processes that were launched together each has a GPU of its own.
            place = own_gpu()
            device = f"cuda:{place}" if place else "cuda"
            return Compute(device, torch.cuda.is_bf16_supported(), f"CUDA device {torch.cuda.get_device_name(place)}")
        if torch.backends.mps.is_available():
            return Compute("mps", False, "Apple GPU; no CUDA device")
        device = "cpu"
    if device == "cpu":
        able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        if able.get("avx512_bf16") or able.get("amx_bf16"):
            return Compute("cpu", True, "no GPU; this CPU has bfloat16 instructions")
        return Compute("cpu", False, "no GPU; this CPU has no bfloat16 instructions")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"model.device = {device!r} is not usable here ({first_line}); use auto or cpu") from None
    return Compute(device, device.startswith("cuda") and torch.cuda.is_bf16_supported(), "asked for")


def own_gpu() -> int:
    """The number of this process's GPU, among those of the processes that were launched together on this machine."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, on a GPU or a CPU."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_MEMORY)


def release(device: str) -> None:
    """Give the blocks that PyTorch keeps for later back to the GPU."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
