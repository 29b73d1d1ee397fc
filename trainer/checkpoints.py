"""What a killed training run goes on from: one file, whole at any instant."""

from __future__ import annotations

import logging
import os
import pickle
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from retrieval.durable import sync
from retrieval.errors import first_line

__all__ = ["Checkpoints", "digest"]

log = logging.getLogger(__name__)

FILE = "checkpoint.pt"
SECONDS = 300.0


def digest(*parts: object) -> str:
    """What tells one run from another: sha256 over all that its result depends on."""
    found = sha256()
    for part in parts:
        found.update(repr(part).encode("utf-8", "surrogatepass") + b"\n")
    return found.hexdigest()


class Checkpoints:
    """The last good state of a run in ``folder``: weights, optimizer, the best so far, the log.

    Args:
        folder: where; None keeps nothing.
        run: the `digest` of the run; a state of another one is not gone on from.
        every: steps between two states; None: five minutes.
        writes: whether this process is the one that writes.
    """

    def __init__(self, folder: Path | None, run: str, every: int | None, *, writes: bool = True) -> None:
        self.folder = folder
        self._file = folder / FILE if folder else None
        self._run, self._every, self._writes = run, every, writes
        self._step = 0
        self._saved = time.monotonic()
        self._warned = False

    def load(self) -> dict[str, Any] | None:
        """The state to go on from, if there is one of this run."""
        if self._file is None or not self._file.exists():
            return None
        import torch

        try:
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read (%s); training starts anew", self._file, first_line(error))
            return None
        if state.get("run") != self._run:
            log.info("%s is of another run; training starts anew", self._file)
            return None
        self._step = int(state["step"])
        return state

    def due(self, step: int) -> bool:
        """Whether a state ought to be saved after ``step``."""
        if self._file is None or not self._writes:
            return False
        if self._every is not None:
            return step - self._step >= self._every
        return time.monotonic() - self._saved >= SECONDS

    def save(self, state: dict[str, Any]) -> bool:
        """Put ``state`` in place of the one before; a full disk keeps that one, and is told once.

        Returns:
            Whether it is on disk.
        """
        if self._file is None or not self._writes:
            return False
        import torch

        self._step, self._saved = int(state["step"]), time.monotonic()
        written = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with written.open("wb") as stream:
                torch.save({**state, "run": self._run}, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(written, self._file)
            sync(self._file.parent)
        except (OSError, RuntimeError) as error:
            # torch's own writer fails a second time as it closes, over what the system refused.
            cause = error.__context__ if isinstance(error.__context__, OSError) else error
            written.unlink(missing_ok=True)
            if not self._warned:
                self._warned = True
                log.warning(
                    "no checkpoint could be written to %s (%s); training goes on, and the last good one is kept",
                    self._file.parent,
                    getattr(cause, "strerror", None) or first_line(cause),
                )
            return False
        return True
