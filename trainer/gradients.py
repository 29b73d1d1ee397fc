"""The gradient of a batch's loss, in parts, so that a batch may be larger than what memory holds.

The texts are embedded, the loss is taken of their vectors, and its gradient by the vectors is carried back through
the model part by part. Where the activations of the whole batch do not fit, the vectors are computed without them
first, and each part once more with them (Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup, 2021). Loss and gradient are the same. There is no dropout: a part embedded twice must come out
the same, a resumed run must be the unbroken one, and attention's fused kernel on CPUs takes none.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from retrieval.compute import is_out_of_memory, release
from retrieval.errors import ShoptalkError, first_line
from trainer.batches import Batch
from trainer.memory import Room
from trainer.precision import Precision
from trainer.ranks import Ranks
from trainer.weights import is_static

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["BatchGradient", "Interrupted", "batch_gradient"]

# A part is padded to its longest text, so parts are small and of alike lengths: so many texts on a CPU, and on a GPU,
# which small parts would leave idle, so many tokens.
PART_TEXTS = 16
PART_TOKENS = 16_384
# Each worker holds gradients of its own, so no more of them than pay.
MOST_WORKERS = 4
LENGTHS_AT_ONCE = 64

Part = list[int]
Result = TypeVar("Result")


class Interrupted(Exception):
    """Somebody wants the run to stop; no weight was changed in this step."""


class BatchGradient:
    """Puts the gradient of a batch's loss into the model's parameters and returns the loss; see `batch_gradient`."""

    def __init__(
        self,
        model: SentenceTransformer,
        precision: Precision,
        room: Room,
        ranks: Ranks,
        stopping: Callable[[], bool],
        scaler: torch.amp.GradScaler,
        pool: ThreadPoolExecutor | None,
        workers: int,
    ) -> None:
        import torch

        prompts = model.prompts
        self._prompts = (prompts.get("query") or "", prompts.get("document") or prompts.get("passage") or "")
        self._model, self._precision, self._room, self._ranks = model, precision, room, ranks
        self._stopping, self._scaler, self._pool, self._workers = stopping, scaler, pool, workers
        self._threads = max(1, torch.get_num_threads() // workers)
        self._dimension = int(model.get_embedding_dimension() or 0)
        self._static = is_static(model)
        self._parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self._lengths: dict[tuple[str, str], int] = {}
        # A tokenizer's truncation is set with each call; two threads must not do that at once.
        self._tokenizing = threading.Lock()

    def __call__(self, batch: Batch) -> float:
        """Compute the gradient, in smaller parts where memory runs out, and return the loss.

        Where the loss is not finite the parameters have no gradient.

        Raises:
            Interrupted: the run is to stop.
            ModelError: not even one text fits into memory.
        """
        while True:
            try:
                return self._once(batch)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                why = first_line(error)
            # Out of the handler: what the error's frames held is free only now.
            release(self._ranks.device)
            self._room.shrink(self._model, batch.texts, self._ranks.device, why)

    def _once(self, batch: Batch) -> float:
        import torch

        for weight in self._parameters:
            weight.grad = None
        texts = [(self._prompts[0], text) for text in batch.anchors]
        texts += [(self._prompts[1], text) for text in batch.documents]
        lengths = self._lengths_of(texts)
        order = sorted(range(len(texts)), key=lambda place: -lengths[place])
        mine = order[self._ranks.rank :: self._ranks.size]
        whole = self._room.mini_batch is None or self._room.mini_batch >= len(mine)
        parts = self._parts(mine, lengths, whole)
        shares = [share for worker in range(self._workers) if (share := parts[worker :: self._workers])]

        embed = partial(self._embed_share, texts, grad=whole)
        embedded = self._in_step(lambda: self._run(embed, shares))
        vectors = torch.zeros(len(texts), self._dimension, device=self._ranks.device)
        for share, found in zip(shares, embedded, strict=True):
            for part, some in zip(share, found, strict=True):
                vectors[part] = some.detach()
        vectors = self._ranks.sum(vectors).requires_grad_()
        count = len(batch.anchors)
        loss = batch.objective(vectors[:count], vectors[count:])
        if not math.isfinite(loss.item()):
            return loss.item()
        torch.autograd.backward(self._scaler.scale(loss))
        assert vectors.grad is not None
        found_by = dict(zip(map(id, shares), embedded, strict=True)) if whole else {}
        del embedded
        back = partial(self._carry_back, texts, vectors.grad, found_by)
        self._collect(self._in_step(lambda: self._run(back, shares)))
        return loss.item()

    def _lengths_of(self, texts: Sequence[tuple[str, str]]) -> list[int]:
        """The number of tokens of each text, 0 for a static model, which pads nothing."""
        if self._static:
            return [0] * len(texts)
        unknown = [text for text in dict.fromkeys(texts) if text not in self._lengths]
        for prompt in set(self._prompts):
            some = [text for key, text in unknown if key == prompt]
            for start in range(0, len(some), LENGTHS_AT_ONCE):
                block = some[start : start + LENGTHS_AT_ONCE]
                features = self._model.preprocess(block, prompt=prompt or None)
                mask = features.get("attention_mask")
                found = [len(text) for text in block] if mask is None else mask.sum(dim=1).tolist()
                self._lengths |= {(prompt, text): size for text, size in zip(block, found, strict=True)}
        return [self._lengths[text] for text in texts]

    def _parts(self, order: list[int], lengths: list[int], whole: bool) -> list[Part]:
        """Cut ``order`` (longest first) into parts of texts that are embedded together."""
        bound = len(order) if whole else max(1, (self._room.mini_batch or 1) // self._workers)
        if not self._static and self._ranks.device == "cpu":
            bound = min(bound, PART_TEXTS)
        parts: list[Part] = []
        for place in order:
            room = bound
            if parts and not self._static and self._ranks.device != "cpu":
                room = min(bound, max(1, PART_TOKENS // max(1, lengths[parts[-1][0]])))
            if not parts or len(parts[-1]) >= room:
                parts.append([])
            parts[-1].append(place)
        return parts

    def _embed_share(self, texts: Sequence[tuple[str, str]], share: list[Part], *, grad: bool) -> list[torch.Tensor]:
        import torch

        with torch.set_grad_enabled(grad):
            return [self._embed(texts, part) for part in share]

    def _embed(self, texts: Sequence[tuple[str, str]], part: Part) -> torch.Tensor:
        import torch

        if self._stopping():
            raise Interrupted
        self._room.check(self._ranks.device)
        found: list[torch.Tensor] = []
        places: list[int] = []
        with self._precision.autocast():
            for prompt in sorted({texts[place][0] for place in part}):
                some = [place for place in range(len(part)) if texts[part[place]][0] == prompt]
                with self._tokenizing:
                    features = self._model.preprocess([texts[part[place]][1] for place in some], prompt=prompt or None)
                features = {name: _to(value, self._ranks.device) for name, value in features.items()}
                found.append(self._model(features)["sentence_embedding"].float())
                places += some
        if len(found) == 1:
            return found[0]
        back = torch.tensor(places, device=found[0].device).argsort()
        return torch.cat(found)[back]

    def _carry_back(
        self,
        texts: Sequence[tuple[str, str]],
        gradient: torch.Tensor,
        embedded: dict[int, list[torch.Tensor]],
        share: list[Part],
    ) -> list[torch.Tensor | None]:
        """The gradient by each parameter of what ``share`` contributes."""
        import torch

        derive = partial(torch.autograd.grad, inputs=self._parameters, allow_unused=True)
        if kept := embedded.pop(id(share), None):
            return list(derive(kept, grad_outputs=[gradient[part] for part in share]))
        total: list[torch.Tensor | None] = [None] * len(self._parameters)
        for some in self._fitting(share):
            _add(
                total, derive(self._embed_share(texts, some, grad=True), grad_outputs=[gradient[part] for part in some])
            )
        return total

    def _fitting(self, share: list[Part]) -> Iterator[list[Part]]:
        """``share`` in as few runs of parts as fit into memory: all workers' runs are held at once."""
        bound = max(1, (self._room.mini_batch or 1) // self._workers)
        some: list[Part] = []
        for part in share:
            if some and sum(map(len, some)) + len(part) > bound:
                yield some
                some = []
            some.append(part)
        yield some

    def _collect(self, gradients: list[list[torch.Tensor | None]]) -> None:
        import torch

        total: list[torch.Tensor | None] = [None] * len(self._parameters)
        for more in gradients:
            _add(total, more)
        for weight, part in zip(self._parameters, total, strict=True):
            if part is None and self._ranks.size > 1:
                # Another process may have one, and all must sum the same tensors.
                part = torch.zeros_like(weight)
            weight.grad = None if part is None else self._ranks.sum(part)

    def _run(self, work: Callable[[list[Part]], Result], shares: list[list[Part]]) -> list[Result]:
        if self._pool is None:
            return [work(share) for share in shares]
        tasks = [self._pool.submit(_with_threads, self._threads, work, share) for share in shares]
        # All are waited for: none may still be computing when the step is tried again in smaller parts.
        failures = [failure for task in tasks if (failure := task.exception())]
        if failures:
            raise failures[0]
        return [task.result() for task in tasks]

    def _in_step(self, work: Callable[[], Result]) -> Result:
        """Do ``work`` in all processes; where one of them fails, none waits for it forever."""
        if self._ranks.size == 1:
            return work()
        failure: BaseException | None = None
        try:
            result = work()
        except (Interrupted, MemoryError, RuntimeError) as error:
            failure = error
        kind = (
            0 if failure is None else 1 if is_out_of_memory(failure) else 2 if isinstance(failure, Interrupted) else 3
        )
        worst = self._ranks.most(kind)
        if failure is not None and worst == kind:
            raise failure
        if worst:
            raise (MemoryError("on another GPU"), Interrupted(), ShoptalkError("another process failed"))[worst - 1]
        return result


@contextmanager
def batch_gradient(
    model: SentenceTransformer,
    precision: Precision,
    room: Room,
    ranks: Ranks,
    stopping: Callable[[], bool],
    scaler: torch.amp.GradScaler,
) -> Iterator[BatchGradient]:
    """Yield ``gradient(batch)``, which sets the parameters' gradients and returns the loss.

    On a CPU a transformer's parts go to one thread each, with one-threaded kernels: kernels that share their work
    among the cores wait for each other. Which part goes to which thread is settled, so sums come out the same.

    Args:
        model: in evaluation mode, so without dropout.
        precision: of the forward pass.
        room: how much is held in memory at once; shrinks where that is too much.
        ranks: the processes that embed a share each.
        stopping: asked before each part.
        scaler: of the gradients, for float16.
    """
    import torch

    cores = torch.get_num_threads()
    workers = 1 if ranks.device != "cpu" or is_static(model) else min(cores, MOST_WORKERS)
    if workers == 1:
        yield BatchGradient(model, precision, room, ranks, stopping, scaler, None, 1)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="training") as pool:
        try:
            yield BatchGradient(model, precision, room, ranks, stopping, scaler, pool, workers)
        finally:
            torch.set_num_threads(cores)


def _with_threads(count: int, work: Callable[[list[Part]], Result], share: list[Part]) -> Result:
    import torch

    # Set each time: encoding in between sets it for its own threads, and a library under torch's has one for all.
    torch.set_num_threads(count)
    return work(share)


def _add(total: list[torch.Tensor | None], more: Sequence[torch.Tensor | None]) -> None:
    for place, part in enumerate(more):
        if part is not None:
            here = total[place]
            total[place] = part if here is None else here.add_(part)


def _to(value: Any, device: str) -> Any:
    return value.to(device) if hasattr(value, "to") else value
