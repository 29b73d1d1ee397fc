"""What a training run did: the record that goes with the model, and the lines written meanwhile."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from retrieval.durable import replace_text

__all__ = ["FILE", "StepLog", "TrainingLog"]

log = logging.getLogger(__name__)

FILE = "train-log.jsonl"


@dataclass
class TrainingLog:
    """What a run did: its loss by step, its dev NDCG@10 by step, and the set-up that was chosen."""

    steps: int = 0
    seconds: float = 0.0
    pairs: int = 0
    lessons: int = 0
    learning_rate: float = 0.0
    precision: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    lesson_losses: list[tuple[int, float]] = field(default_factory=list)
    """Of the steps that learn lessons, whose loss is another and on another scale."""
    dev: list[tuple[int, float]] = field(default_factory=list)
    kept_step: int = 0
    mini_batch: int | None = None
    """How many texts' activations were held at a time in the end; None: the whole batch's."""
    examples_per_second: float = 0.0
    choices: list[str] = field(default_factory=list)
    """What was chosen by itself, and why."""

    def then(self, later: TrainingLog) -> TrainingLog:
        """The log of this training and of ``later``, which went on from its weights."""
        return replace(
            later,
            steps=self.steps + later.steps,
            seconds=self.seconds + later.seconds,
            pairs=self.pairs + later.pairs,
            lessons=self.lessons + later.lessons,
            losses=self._and(self.losses, later.losses),
            lesson_losses=self._and(self.lesson_losses, later.lesson_losses),
            dev=self._and(self.dev, later.dev),
            kept_step=self.steps + later.kept_step,
            choices=list(dict.fromkeys((*self.choices, *later.choices))),
        )

    def _and(self, values: list[tuple[int, float]], later: list[tuple[int, float]]) -> list[tuple[int, float]]:
        return [*values, *((self.steps + step, value) for step, value in later)]


class StepLog:
    """``train-log.jsonl`` in ``folder``: a line a step; and TensorBoard's, where that is installed.

    Lines after step ``after`` are of a run that was killed after its last checkpoint: they go, and come again.
    """

    def __init__(self, folder: Path | None, after: int) -> None:
        self._stream: IO[str] | None = None
        self._board: Any = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = _lines_until(folder / FILE, after) if after else ""
            replace_text(folder / FILE, kept, folder / f"{FILE}.part")
            self._stream = (folder / FILE).open("a", encoding="utf-8")
            if find_spec("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter

                self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after + 1)
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a full disk, which was told when the line was written
            if self._stream:
                self._stream.close()
            if self._board:
                self._board.close()

    def write(self, step: int, **values: float) -> None:
        """Write one step's values; a disk that takes no more ends the log, not the run."""
        try:
            if self._stream:
                self._stream.write(json.dumps({"step": step, **values}) + "\n")
                self._stream.flush()
            if self._board:
                for name, value in values.items():
                    self._board.add_scalar(name, value, step)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("the training log could not be written (%s); training goes on without", error.strerror or error)
        with suppress(OSError):
            if self._stream:
                self._stream.close()
        self._stream = self._board = None


def _lines_until(file: Path, step: int) -> str:
    if not file.exists():
        return ""
    kept = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        # A kill may leave half a line at the end, a power cut anything: what follows is written again.
        try:
            if not line.endswith("\n") or json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line)
    return "".join(kept)
