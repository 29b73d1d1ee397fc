"""What a training run did: the record that goes with the model, and the lines written meanwhile."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from retrieval.durable import replace_text

__all__ = ["FILE", "StepLog", "TrainingLog", "keep_logs"]

log = logging.getLogger(__name__)

FILE = "train-log.jsonl"
BOARD = "tensorboard"


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
        self._board: _Board | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = _lines_until(folder / FILE, after) if after else ""
            replace_text(folder / FILE, kept, folder / f"{FILE}.part")
            self._stream = (folder / FILE).open("a", encoding="utf-8")
            if find_spec("tensorboard"):
                self._board = _Board(folder / BOARD, after + 1)
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def write(self, step: int, **values: float) -> None:
        """Write one step's values; a disk that takes no more ends the log, not the run."""
        try:
            if self._stream:
                self._stream.write(json.dumps({"step": step, **values}) + "\n")
                self._stream.flush()
            if self._board:
                self._board.write(step, values)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        log.warning("the training log could not be written (%s); training goes on without", error.strerror or error)
        self._close()

    def _close(self) -> None:
        for written in (self._stream, self._board):
            with suppress(OSError):  # of a full disk, which was told when the line was written
                if written:
                    written.close()
        self._stream = self._board = None


class _Board:
    """TensorBoard's event file of one run. A full disk is told here, not in a thread of that library's own."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Values from ``first_step`` on that an earlier file in ``folder`` has are void: they come again."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._proto, self._summary = event_pb2, summary_pb2
        folder.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter((folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}").open("wb"))
        self._add(file_version="brain.Event:2")
        self._add(step=first_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write one step's values."""
        scalars = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step=step, summary=self._summary.Summary(value=scalars))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _add(self, **event: Any) -> None:
        self._records.write(self._proto.Event(wall_time=time.time(), **event).SerializeToString())
        self._records.flush()


def keep_logs(folder: Path, into: Path) -> None:
    """Copy the logs that trainings left in ``folder`` and below, and nothing else that is there, to ``into``."""
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        place = file.relative_to(folder)
        if place.name == FILE or BOARD in place.parts:
            (into / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, into / place)


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
