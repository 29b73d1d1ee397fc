"""Fine-tune an embedder on pairs and lessons, so that it ends well: killed, stopped, short of memory or of disk.

The loop is our own (docs/decisions): each step follows from the one before and the seed alone, which is what lets a
run that was killed end with the weights of the unbroken one, and a step be tried again when memory ran out.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retrieval.compute import Compute, is_out_of_memory
from retrieval.console import Progress, silent
from retrieval.embedders import fingerprint
from retrieval.errors import ModelError, SettingsError, ShoptalkError, first_line
from trainer.adapters import adapted
from trainer.batches import Plan
from trainer.checkpoints import Checkpoints, digest
from trainer.distillation import Lesson
from trainer.gradients import BatchGradient, Interrupted, batch_gradient
from trainer.material import Material
from trainer.memory import Room, smaller_base
from trainer.pairs import Pair
from trainer.precision import choose_precision
from trainer.ranks import Ranks, joined
from trainer.recipes import Recipe
from trainer.statistics import less_its_error
from trainer.training_log import StepLog, TrainingLog
from trainer.weights import Weights, copy_weights, is_static, load_weights

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["cut_at", "train"]

log = logging.getLogger(__name__)

MAX_GRADIENT_NORM = 1.0

DevScores = Callable[[], NDArray[np.float64]]


def train(
    model: SentenceTransformer,
    pairs: Sequence[Pair],
    recipe: Recipe,
    material: Material,
    compute: Compute,
    *,
    seed: int,
    dev_scores: DevScores | None = None,
    base_scores: DevScores | None = None,
    answers: Sequence[int] | None = None,
    progress: Progress = silent,
    lessons: Sequence[Lesson] = (),
    folder: Path | None = None,
) -> TrainingLog:
    """Tune ``model`` in place and return the log. The state that was best on dev is kept, where that was looked at.

    Args:
        model: the base.
        pairs: what to learn.
        recipe: how.
        material: what the pairs were mined from; it says which passages may answer for each other.
        compute: where.
        seed: of the order of the examples; with the same inputs it gives the same weights on a CPU.
        dev_scores: NDCG@10 of each dev question with the model as it now is.
        base_scores: the same of the base, asked for where the recipe may doubt its rate; without it none is doubted.
        answers: a number for each dev question, the same where the answers are; None where no two have the same.
        progress: called with the examples seen.
        lessons: rankings to learn, in steps of their own between those of the pairs.
        folder: takes ``train-log.jsonl`` and the checkpoint that the same call goes on from, should this run be
            killed; the caller throws it away when the model is safe. None keeps neither.

    Raises:
        ShoptalkError: the loss was not finite, memory does not suffice, or a setting does not fit the model; the model
            is left as it was before.
        KeyboardInterrupt: Ctrl-C; the model is at its best so far, and the checkpoint holds where the run was.
    """
    before = copy_weights(model)
    try:
        with joined(compute.device) as ranks, _stop_requests() as stopping:
            # Which pairs, negatives and batches there are hangs on vectors, which two GPUs may round differently.
            pairs, lessons = ranks.same((pairs, lessons))
            plan = Plan(pairs, lessons, recipe, material, seed)
            _check(model, recipe)
            model.to(ranks.device)
            model.eval()
            name = digest(recipe, seed, list(pairs), list(lessons), ranks.size, fingerprint(model))
            checkpoints = Checkpoints(folder, name, recipe.checkpoint_every, writes=ranks.main)
            with adapted(model, recipe.lora_rank, seed), cut_at(model, recipe.max_tokens) as full_length:
                run = _Run(model, plan, recipe, compute, ranks, checkpoints, answers)
                run.log.pairs, run.log.lessons = len(pairs), len(lessons)
                run.train(full_length(dev_scores), base_scores, progress, stopping)
    except Exception as error:
        load_weights(model, before)
        if not is_out_of_memory(error):
            raise
        why = first_line(error)
    else:
        return run.log
    # A batch is tried again with less (``gradients``); the optimizer's own numbers cannot do with less.
    raise ModelError(f"memory ran out in training, beside the texts ({why}); {smaller_base(model, compute.device)}")


class _Run:
    """A run's state, and the loop over its steps."""

    def __init__(
        self,
        model: SentenceTransformer,
        plan: Plan,
        recipe: Recipe,
        compute: Compute,
        ranks: Ranks,
        checkpoints: Checkpoints,
        answers: Sequence[int] | None,
    ) -> None:
        import torch

        self.model, self.plan, self.recipe, self.ranks, self.checkpoints = model, plan, recipe, ranks, checkpoints
        self.answers = answers
        self.precision = choose_precision(model, compute)
        self.room = Room(recipe.mini_batch)
        rate = recipe.static_learning_rate if is_static(model) else recipe.learning_rate
        self.log = TrainingLog(steps=len(plan), learning_rate=rate, precision=self.precision.described)
        self.log.choices.append(f"trained in {self.precision.described}: {self.precision.reason}")
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = self._new_optimizer()
        self.scaler = torch.amp.GradScaler(self.precision.device, enabled=self.precision.scaled)
        self.step = 0
        self.base: tuple[Weights, NDArray[np.float64]] | None = None
        """The base and its dev scores, until the first look tells whether the rate suits it."""
        self.best: Weights | None = None
        self.best_score = -math.inf
        self.worse = 0

    def _new_optimizer(self) -> torch.optim.Optimizer:
        import torch

        # Fused: one pass over the weights a step, half of the plain one's time on a CPU.
        return torch.optim.AdamW(
            self.weights,
            lr=self.log.learning_rate,
            weight_decay=0.0,
            fused=self.precision.device in ("cpu", "cuda"),
        )

    def train(
        self,
        dev_scores: DevScores | None,
        base_scores: DevScores | None,
        progress: Progress,
        stopping: Callable[[], bool],
    ) -> None:
        """Take the steps that are left, and leave the best state in the model."""
        if dev_scores and base_scores and self.recipe.looks and self.recipe.gentler < 1:
            self.base = copy_weights(self.model), self.ranks.same(base_scores())
        finished = self._resume()
        started, seconds, from_step = time.monotonic(), self.log.seconds, self.step
        try:
            with (
                self.precision.in_force(),
                batch_gradient(self.model, self.precision, self.room, self.ranks, stopping, self.scaler) as gradient,
                StepLog(self.checkpoints.folder if self.ranks.main else None, self.step) as lines,
            ):
                while self.step < len(self.plan) and not finished:
                    if stopping():
                        raise Interrupted
                    self._take_step(gradient, dev_scores, lines)
                    self.log.seconds = seconds + time.monotonic() - started
                    progress("training", self.plan.examples_before[self.step], self.plan.examples_before[-1])
                    finished = self._enough()
                    if self.checkpoints.due(self.step):
                        self.checkpoints.save(self._state(finished))
        except Interrupted:
            self._stop()
        finally:
            self.room.end(self.model)
        seen = self.plan.examples_before[self.step] - self.plan.examples_before[from_step]
        if seen:
            self.log.examples_per_second = seen / (time.monotonic() - started)
            self.checkpoints.save(self._state(True))
        self._keep_best()

    def _take_step(self, gradient: BatchGradient, dev_scores: DevScores | None, lines: StepLog) -> None:
        import torch

        started = time.monotonic()
        rate = self.log.learning_rate * _share_of_rate(self.step, len(self.plan), self.recipe.warmup)
        batch = self.plan[self.step]
        loss = gradient(batch)
        self.step += 1
        (self.log.lesson_losses if batch.of_lessons else self.log.losses).append((self.step, loss))
        if not math.isfinite(loss):
            raise self._astray("loss", loss)
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, MAX_GRADIENT_NORM))
        # In float16 a gradient too large now and then is expected: the step is left out, the scale halved.
        if not math.isfinite(norm) and (not self.scaler.is_enabled() or self.scaler.get_scale() < 1):
            raise self._astray("gradient", norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        examples = self.plan.examples_before[self.step] - self.plan.examples_before[self.step - 1]
        what = "lesson_loss" if batch.of_lessons else "loss"
        values = {what: loss, "learning_rate": rate, "gradient_norm": norm if math.isfinite(norm) else -1.0}
        values["examples_per_second"] = examples / max(1e-9, time.monotonic() - started)
        looks = self.recipe.looks
        if dev_scores and looks * self.step // len(self.plan) > looks * (self.step - 1) // len(self.plan):
            values["dev_ndcg@10"] = self._look(dev_scores)
        lines.write(self.step, **values)

    def _look(self, dev_scores: DevScores) -> float:
        scores = self.ranks.same(dev_scores())
        score = float(scores.mean())
        self.log.dev.append((self.step, score))
        base, self.base = self.base, None
        if base and less_its_error(base[1] - scores, self.answers) > 0 and self.step < len(self.plan):
            self._begin_gently(score, *base)
        elif score > self.best_score:
            self.best_score, self.best, self.worse = score, copy_weights(self.model), 0
            self.log.kept_step = self.step
        else:
            self.worse += 1
        return score

    def _begin_gently(self, score: float, base: Weights, base_scores: NDArray[np.float64]) -> None:
        """Go back to the base, for what is left at a lower rate: what pulled it down so far is no way to raise it."""
        load_weights(self.model, base)
        self.log.learning_rate *= self.recipe.gentler
        self.optimizer = self._new_optimizer()
        self.log.choices.append(
            f"begun again at step {self.step} of {len(self.plan)}, at a rate of {self.log.learning_rate:g}: dev "
            f"NDCG@10 was {score:.3f}, below the base's {base_scores.mean():.3f} by more than its error"
        )

    def _enough(self) -> bool:
        """Whether dev NDCG@10 has not risen for as many looks as the recipe has patience."""
        if self.recipe.patience is None or self.worse < self.recipe.patience:
            return False
        self.log.choices.append(
            f"stopped early, at step {self.step} of {len(self.plan)}: dev NDCG@10 had not risen above "
            f"{self.best_score:.4f} for {self.worse} looks"
        )
        return True

    def _astray(self, what: str, value: float) -> ShoptalkError:
        return ShoptalkError(
            f"training went astray: the {what} was {value} by step {self.step}; a lower learning rate than "
            f"{self.log.learning_rate:g} may mend it; the base model is unchanged"
        )

    def _keep_best(self) -> None:
        self.log.steps, self.log.mini_batch = self.step, self.room.mini_batch
        self.log.choices += self.room.changes
        if self.best is None:
            self.log.kept_step = self.step
        else:
            load_weights(self.model, self.best)

    def _stop(self) -> None:
        """Ctrl-C: keep what there is, and say what that is.

        Raises:
            KeyboardInterrupt: always.
        """
        saved = self.checkpoints.save(self._state(False))
        message = f"training stopped at step {self.step} of {len(self.plan)}"
        if saved:
            message += f"; all of it is in {self.checkpoints.folder}, and the same command goes on from there"
        if self.best is not None:
            message += f"; the best so far is step {self.log.kept_step}, dev NDCG@10 {self.best_score:.3f}"
        self._keep_best()
        if self.ranks.main:
            log.warning("%s", message)
        raise KeyboardInterrupt(message)

    def _state(self, finished: bool) -> dict[str, Any]:
        return {
            "step": self.step,
            "finished": finished,
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "best_score": self.best_score,
            "worse": self.worse,
            "room": [self.room.mini_batch, self.room.recompute, self.room.changes],
            "log": asdict(self.log),
        }

    def _resume(self) -> bool:
        """Go on from the checkpoint, if there is one; return whether nothing is left to do."""
        state = self.checkpoints.load()
        if state is None:
            return False
        load_weights(self.model, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.best, self.worse = state["step"], state["best"], state["worse"]
        if state["log"]["dev"]:
            self.base = None
        self.best_score = state["best_score"]
        mini_batch, recompute, changes = state["room"]
        self.room.restore(self.model, mini_batch, recompute)
        self.room.changes = list(changes)
        self.log = TrainingLog(**state["log"])
        self.log.choices.append(f"went on from a checkpoint after step {self.step}")
        return bool(state["finished"])


def _share_of_rate(step: int, steps: int, warmup: float) -> float:
    """The learning rate at ``step`` as a share of the highest: up in a line over the warm-up, then down to none."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return (steps - step) / (steps - rising)


def _check(model: SentenceTransformer, recipe: Recipe) -> None:
    dimension = int(model.get_embedding_dimension() or 0)
    if too_long := [size for size in recipe.matryoshka if not 0 < size <= dimension]:
        raise SettingsError(
            f"recipe {recipe.name}: matryoshka = {too_long[0]} does not fit vectors of {dimension} numbers"
        )


@contextmanager
def cut_at(model: SentenceTransformer, limit: int | None) -> Iterator[Callable[[DevScores | None], DevScores | None]]:
    """Cut texts at ``limit`` tokens; yield what makes scores look at them at their full length all the same."""
    original = model.max_seq_length
    bounded = limit is not None and original is not None and math.isfinite(original) and limit < original

    def full_length(scores: DevScores | None) -> DevScores | None:
        def at_full_length() -> NDArray[np.float64]:
            assert scores
            model.max_seq_length = original
            try:
                return scores()
            finally:
                model.max_seq_length = limit

        return at_full_length if bounded and scores else scores

    if bounded:
        model.max_seq_length = limit
    try:
        yield full_length
    finally:
        if bounded:
            model.max_seq_length = original


@contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield whether Ctrl-C was pressed: steps are finished or left undone as a whole. A second one stops at once."""
    pressed = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield pressed.is_set
        return

    def press(number: int, frame: FrameType | None) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
