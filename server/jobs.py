"""Detached indexing jobs: processes of their own, which outlive the call and the server that began them.

A job is a folder entry under ``indexes/<corpus>/jobs/``: ``ID.json`` is its state, replaced as a whole
at every change; ``ID.log`` what its process printed; ``ID.cancel`` asks it to stop, and it looks for that at every
step; ``ID.again`` and ``ID.anew`` ask it, for those who came while it ran, to go through the documents once more,
and it looks for those before it ends. One job a corpus runs at a time, whichever server began it: the process holds a
lock on ``LOCK`` for as long as it lives, so a job that says "running" while nobody holds the lock in its name has died.

Servers on several hosts may share the folder, where its file system has locks that all of them see. A process's number
says nothing on another host, so only a server beside the job also sends it SIGTERM, which ends its start at once.

This module is the job's process, too: ``python -m server.jobs WORKSPACE CORPUS JOB_ID``.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from retrieval.errors import IndexingCancelled, IndexingError, ShoptalkError
from retrieval.workspace import Workspace
from server.contract import JobOutput, JobState, SkippedFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Job", "Jobs"]

logger = logging.getLogger(__name__)

_Mode = Literal["incremental", "full"]

_STARTING = "starting"
_ENDING = "ending"
_CANCEL = ".cancel"
_AGAIN: dict[_Mode, str] = {"incremental": ".again", "full": ".anew"}
_KEPT_JOBS = 20
_SKIPPED_SHOWN = 50
_WRITE_EVERY_SECONDS = 0.2
_LOOK_EVERY_SECONDS = 0.05
_HANDOVER_SECONDS = 10.0


class Job(JobOutput):
    """A job as its state file tells it."""

    step: int = Field(default=0, description="How many stages came before this one.")
    host: str = Field(default="", description="Where its process runs; see `_here`.")
    pid: int = 0
    started: float = 0.0

    def output(self) -> JobOutput:
        """The job without what is the server's own business."""
        return JobOutput(**self.model_dump(include=set(JobOutput.model_fields)))

    @property
    def progress(self) -> float:
        """Stages done so far, the present one in part: it never falls while the job runs."""
        return self.step + (min(self.done / self.total, 1.0) if self.total else 0.0)


class Jobs:
    """Start, join, watch and cancel the indexing jobs of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def start(self, corpus: str, mode: _Mode) -> Job:
        """Start a job for ``corpus``, or join the one that runs: it then goes through the documents once more.

        Whatever was there before the call is in the index when the job is done.

        Raises:
            IndexingError: a process that ended its job does not let go of the lock, or the job cannot be written down.
        """
        with _refusal_told(self._folder(corpus)):
            return self._start(corpus, mode)

    def _start(self, corpus: str, mode: _Mode) -> Job:
        folder = self._folder(corpus)
        folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _HANDOVER_SECONDS
        while True:
            with _lock(folder, fcntl.LOCK_EX) as lock:
                if lock is not None:
                    return self._spawn(folder, corpus, mode, lock)
            running = self.running(corpus)
            if running is not None and (joined := self._join(folder, running, mode)):
                return joined
            if time.monotonic() > deadline:
                raise IndexingError(f"another process holds the job lock of corpus {corpus}; try again shortly")
            time.sleep(_LOOK_EVERY_SECONDS)

    def _join(self, folder: Path, job: Job, mode: _Mode) -> Job | None:
        """Ask ``job`` to go on as ``mode`` says; None where it may have looked for that for the last time.

        One that reads everything anew is not asked to do so twice, however often a client asks.
        """
        _mark(folder, job.job_id, _AGAIN["incremental" if job.mode == "full" else mode]).touch()
        latest = self._running(job.corpus, job.job_id)
        return latest if latest is not None and latest.stage != _ENDING else None

    def running(self, corpus: str) -> Job | None:
        """The job that runs for ``corpus``, if any."""
        holder = _holder(self._folder(corpus))
        return self._running(corpus, holder) if holder else None

    def get(self, job_id: str) -> Job | None:
        """The job of that id as it stands now."""
        return next((self._read(corpus, job_id) for corpus in self._corpora() if job_id in self._ids(corpus)), None)

    def cancel(self, job: Job) -> None:
        """Ask ``job`` to stop; it does so at its next step and leaves the live index as it is.

        Raises:
            IndexingError: that cannot be written down.
        """
        if self._running(job.corpus, job.job_id) is None:
            return
        folder = self._folder(job.corpus)
        with _refusal_told(folder):
            _mark(folder, job.job_id).touch()
        # Whoever has not written its number by now looks for the mark after it has.
        latest = self._running(job.corpus, job.job_id)
        if latest is not None and latest.pid and latest.host == _here():
            with suppress(ProcessLookupError):
                os.kill(latest.pid, signal.SIGTERM)

    def recent(self, limit: int = 5) -> list[Job]:
        """The latest jobs of all corpora, newest first."""
        ids = sorted(((job_id, corpus) for corpus in self._corpora() for job_id in self._ids(corpus)), reverse=True)
        jobs = (self._read(corpus, job_id) for job_id, corpus in ids[:limit])
        return [job for job in jobs if job is not None]

    def _corpora(self) -> list[str]:
        return sorted(self._workspace.corpora)

    def _folder(self, corpus: str) -> Path:
        return self._workspace.index_dir(corpus) / "jobs"

    def _ids(self, corpus: str) -> list[str]:
        return sorted(path.stem for path in self._folder(corpus).glob("*.json"))

    def _running(self, corpus: str, job_id: str) -> Job | None:
        job = self._read(corpus, job_id)
        return job if job is not None and job.state == "running" else None

    def _read(self, corpus: str, job_id: str) -> Job | None:
        """The job's state; one whose process died is told as failed."""
        folder = self._folder(corpus)
        job = _read_state(folder, job_id)
        if job is None or job.state != "running":
            return job
        if _holder(folder) == job_id:
            # Its process writes only where it gets on; clocks of several hosts may differ.
            return job.model_copy(update={"seconds": max(job.seconds, time.time() - job.started)})
        job = _read_state(folder, job_id)  # it may have ended properly between the two looks
        if job is None or job.state != "running":
            return job
        log = folder.joinpath(f"{job_id}.log").relative_to(self._workspace.root)
        return job.model_copy(update={"state": "failed", "reason": f"its process ended before its time; see {log}"})

    def _spawn(self, folder: Path, corpus: str, mode: _Mode, lock: int) -> Job:
        now = time.time()
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%S")
        job_id = f"{stamp}-{secrets.token_hex(3)}"
        job = Job(job_id=job_id, corpus=corpus, mode=mode, state="running", stage=_STARTING, started=now)
        self._sweep(corpus)
        os.truncate(lock, 0)
        os.pwrite(lock, job.job_id.encode(), 0)
        _write_state(folder, job)
        with folder.joinpath(f"{job.job_id}.log").open("wb") as log:
            _launch(self._workspace.root, job, lock, log)
        return job

    def _sweep(self, corpus: str) -> None:
        """Forget all but the latest jobs. Only who holds the lock may call this."""
        folder = self._folder(corpus)
        for job_id in self._ids(corpus)[: -(_KEPT_JOBS - 1)]:
            for suffix in (".json", ".log", _CANCEL, *_AGAIN.values()):
                folder.joinpath(job_id + suffix).unlink(missing_ok=True)
        for unfinished in folder.glob("*.new"):
            unfinished.unlink(missing_ok=True)


def _launch(root: Path, job: Job, lock: int, log: IO[bytes]) -> None:
    """Run the job in a session of its own. It inherits the lock, which thereby lives as long as it does."""
    # -P: the workspace may hold folders named like our packages; they must not be imported.
    command = [sys.executable, "-P", "-m", "server.jobs", str(root), job.corpus, job.job_id]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        pass_fds=(lock,),
    )
    threading.Thread(target=process.wait, name=f"reap-{job.job_id}", daemon=True).start()


@contextmanager
def _refusal_told(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line."""
    try:
        yield
    except OSError as error:
        raise IndexingError(
            f"{folder} cannot be written ({error.strerror or error}); the index that is live still answers"
        ) from error


@contextmanager
def _lock(folder: Path, kind: int) -> Iterator[int | None]:
    """Hold the lock of ``folder`` and yield its descriptor, or yield None where another holds it."""
    flags = os.O_RDWR | os.O_CREAT if kind == fcntl.LOCK_EX else os.O_RDONLY
    descriptor = os.open(folder / "LOCK", flags, 0o644)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _holder(folder: Path) -> str:
    """The id of the job that holds the lock of ``folder``; "" where none does."""
    if not folder.joinpath("LOCK").exists():
        return ""
    with _lock(folder, fcntl.LOCK_SH) as lock:
        return "" if lock is not None else folder.joinpath("LOCK").read_text(encoding="utf-8")


def _here() -> str:
    """Where a process's number means what it does here: this host and, on Linux, this namespace of numbers."""
    try:
        return f"{platform.node()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _mark(folder: Path, job_id: str, suffix: str = _CANCEL) -> Path:
    """The file that asks a job to stop, or to go on."""
    return folder / f"{job_id}{suffix}"


def _read_state(folder: Path, job_id: str) -> Job | None:
    try:
        return Job.model_validate_json(folder.joinpath(f"{job_id}.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:  # another version's; it would be a pity to fail over an old job
        logger.warning("The state of job %s cannot be read; it counts as unknown", job_id)
        return None


def _write_state(folder: Path, job: Job) -> None:
    file = folder / f"{job.job_id}.json"
    new = file.with_suffix(".new")
    new.write_text(job.model_dump_json(), encoding="utf-8")
    os.replace(new, file)


class _Work:
    """The job in its own process: does the indexing and keeps the state file true."""

    def __init__(self, root: Path, corpus: str, job_id: str) -> None:
        self._root = root
        self._folder = root / "indexes" / corpus / "jobs"
        job = _read_state(self._folder, job_id)
        if job is None:
            raise IndexingError(f"there is no job {job_id} for corpus {corpus}")
        self._job = job.model_copy(update={"host": _here(), "pid": os.getpid()})
        self._written = 0.0
        self._stopping = False

    def run(self) -> None:
        """Index, and say how it ended."""
        signal.signal(signal.SIGTERM, self._stop)
        try:
            self._tell("running")
            if self._asked_to_stop():
                raise IndexingCancelled
            self._index()
        except (IndexingCancelled, KeyboardInterrupt):
            self._tell("cancelled")
        except ShoptalkError as error:
            from server.refusals import without_root  # with it comes the SDK, which no other job needs

            self._tell("failed", reason=without_root(self._root, str(error)))
        except BaseException as error:
            traceback.print_exc()
            self._tell("failed", reason=f"{type(error).__name__}; see the job's log")
            raise

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Have the indexing stop where it safely can; at once while libraries and model load."""
        first, self._stopping = not self._stopping, True
        if first and self._job.stage == _STARTING:
            raise KeyboardInterrupt

    def _asked_to_stop(self) -> bool:
        return self._stopping or _mark(self._folder, self._job.job_id).exists()

    def _asked_again(self) -> set[_Mode]:
        """In which modes somebody wants the documents gone through once more; each is told once."""
        asked: set[_Mode] = set()
        for mode, suffix in _AGAIN.items():
            with suppress(FileNotFoundError):
                _mark(self._folder, self._job.job_id, suffix).unlink()
                asked.add(mode)
        return asked

    def _index(self) -> None:
        from retrieval.indexing import build_index

        modes: set[_Mode] = {self._job.mode}
        while modes:
            # Whoever comes now is joined, and waits no longer for this job to end.
            self._progress(_STARTING, 0, 0)
            # Who asks from here on may have come after the documents were looked at.
            modes |= self._asked_again()
            if "full" in modes:
                self._job = self._job.model_copy(update={"mode": "full"})
            report = build_index(
                Workspace.open(self._root),
                self._job.corpus,
                full="full" in modes,
                progress=self._progress,
                stop=self._asked_to_stop,
            )
            # First this, then the last look: who asks does it the other way round, so that one sees the other.
            self._tell(
                "running",
                stage=_ENDING,
                step=self._job.step + 1,
                done=0,
                total=0,
                added=self._job.added + report.added,
                updated=self._job.updated + report.updated,
                removed=self._job.removed + report.removed,
                skipped=[SkippedFile(path=file.path, reason=file.reason) for file in report.skipped[:_SKIPPED_SHOWN]],
                skipped_total=len(report.skipped),
                generation=report.generation,
            )
            modes = self._asked_again()
        self._tell("done")

    def _progress(self, stage: str, done: int, total: int) -> None:
        step = self._job.step + (stage != self._job.stage)
        ended = bool(total) and done >= total
        if step == self._job.step and not ended and time.monotonic() - self._written < _WRITE_EVERY_SECONDS:
            return
        self._tell("running", stage=stage, step=step, done=done, total=total)

    def _tell(self, state: JobState, **changes: object) -> None:
        seconds = time.time() - self._job.started
        self._job = self._job.model_copy(update={**changes, "state": state, "seconds": seconds})
        _write_state(self._folder, self._job)
        self._written = time.monotonic()


def main(arguments: list[str]) -> None:
    """Run the job ``WORKSPACE CORPUS JOB_ID`` to its end."""
    root, corpus, job_id = arguments
    os.nice(5)  # searches go first
    _Work(Path(root), corpus, job_id).run()


if __name__ == "__main__":
    main(sys.argv[1:])
