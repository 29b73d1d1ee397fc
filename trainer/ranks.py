"""Training on several GPUs: one process each, as ``accelerate launch`` or ``torchrun`` starts them.

Each process embeds its share of every batch; the vectors are put together, so the loss sees the whole batch
wherever it was embedded, and the gradients are summed. The result is that of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from retrieval.compute import own_gpu

if TYPE_CHECKING:
    import torch

__all__ = ["Follower", "Ranks", "is_alone", "is_main", "joined"]

T = TypeVar("T")


class Follower(Exception):
    """Says that a process has done its share of the training: what comes after it is the first process's alone."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train together, and which one this is."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of ``tensor`` over all processes, in place."""
        if self.size > 1:
            import torch.distributed

            torch.distributed.all_reduce(tensor)
        return tensor

    def most(self, value: int) -> int:
        """The greatest ``value`` of any process."""
        if self.size == 1:
            return value
        import torch.distributed

        tensor = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
        return int(tensor.item())

    def same(self, value: T) -> T:
        """The main process's ``value``, whatever it is: what all must have alike to the last bit."""
        if self.size == 1:
            return value
        import torch.distributed

        box: list[T] = [value]
        torch.distributed.broadcast_object_list(box, 0, device=torch.device(self.device))
        return box[0]


def is_main() -> bool:
    """Whether this process is the only one, or the first of those that were launched together."""
    return int(os.environ.get("RANK", "0")) == 0


def is_alone() -> bool:
    """Whether no other process was launched with this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes of the launch, if there are any, on the GPU of this process's number."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(device=device)
        return
    import torch.distributed

    if device.startswith("cuda"):
        device = f"cuda:{own_gpu()}"
        torch.cuda.set_device(device)
    ours = not torch.distributed.is_initialized()
    if ours:
        torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(torch.distributed.get_rank(), size, device)
    finally:
        if ours:
            torch.distributed.destroy_process_group()
