"""A Ray cluster: reach it, and have its workers write files."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

from retrieval.embedders import Embedder
from retrieval.errors import IndexingError, ModelError, ShoptalkError, first_line
from retrieval.workspace import Workspace

__all__ = ["Job", "Takes", "connected", "encoders", "write_files"]

SHARED = "the documents, the model and the workspace must be on a file system that all nodes of the cluster share"
CONNECT_SECONDS = 5.0

Takes = Mapping[str, float]
"""What an actor takes of its node, as arguments of Ray."""

Job = Callable[[Embedder, Any, Path], list[str]]
"""What a worker does: given what is to be done, write the file; or return the documents that it cannot read."""


@contextmanager
def connected(address: str = "") -> Iterator[None]:
    """Be connected to the Ray cluster at ``address``, "" for Ray on this machine alone, for the length of the block.

    Nothing is printed meanwhile: Ray would.

    Raises:
        IndexingError: Ray is not installed, or no cluster answers at ``address``.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports home
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it tells stderr of each node that it lost
    try:
        import ray
        import ray.data
    except ImportError:
        raise IndexingError("--engine ray needs Ray: pip install 'shoptalk[ray]'") from None
    address = address or os.environ.get("RAY_ADDRESS", "")
    _require_listener(address)
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # where Ray tells of nodes it lost
        try:
            with _stderr_nowhere(nowhere):  # where Ray acknowledges the level
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = first_line(error)
            raise IndexingError(f"no Ray cluster can be used at {address or 'this machine'}: {reason}") from error
        try:
            _be_quiet(ray.data.DataContext.get_current())
            yield
        finally:
            ray.shutdown()


@contextmanager
def _stderr_nowhere(nowhere: IO[str]) -> Iterator[None]:
    """Keep from stderr what code that is not Python's writes there."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _be_quiet(context: Any) -> None:
    """Have Ray Data write to its own log only: stdout is the answer's, and stderr our progress's."""
    for handler in logging.getLogger("ray.data").handlers:
        if handler.name == "console":
            handler.setLevel(logging.CRITICAL)
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _require_listener(address: str) -> None:
    """Find out at once that nobody listens: Ray itself would try for a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise IndexingError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); is it up, and the address right?"
        ) from None


def encoders(workspace: Workspace) -> tuple[int, Takes]:
    """Return how many actors are to encode, and what each takes.

    A GPU, where the cluster has some and the model would use one; else a core. They may hold every core, as nothing
    else runs meanwhile; a pool that waited for other tasks would leave them none, and wait for ever.

    Raises:
        IndexingError: the cluster has neither.
    """
    import ray

    settings = workspace.model
    able = not settings.endpoint and settings.backend == "torch" and settings.device != "cpu"
    gpus = int(ray.cluster_resources().get("GPU", 0)) if able else 0
    return (gpus, {"num_gpus": 1}) if gpus else (_cores(), {"num_cpus": 1})


def _cores() -> int:
    """How many the cluster has.

    Raises:
        IndexingError: none.
    """
    import ray

    cores = int(ray.cluster_resources().get("CPU", 0))
    if not cores:
        raise IndexingError("the Ray cluster has no CPU to give; start a node with some: ray start --num-cpus N")
    return cores


def write_files(
    job: Job, load: Callable[[], Embedder], todo: Mapping[Path, object], actors: tuple[int, Takes] | None = None
) -> Iterator[tuple[Path, list[str]]]:
    """Have workers write the files of ``todo``; yield each that is done, in no order.

    With it comes what the job returned: documents that could not be read, and are there no more.

    Args:
        job: writes one; may be done twice, and by two at once.
        load: opens the embedder, once in each worker.
        todo: what the job is given, by file.
        actors: how many workers there are, and what each takes of its node; by default these are tasks, of a core each.

    Raises:
        IndexingError: a node cannot see what this one sees, a worker failed, or the cluster has nothing to give.
        ModelError: a node cannot load the model.
    """
    if not todo:
        return
    import ray.data
    from ray import cloudpickle
    from ray.data.exceptions import ExecutionTimeoutError
    from ray.exceptions import RayError

    items = [{"target": str(target), "what": pickle.dumps(what)} for target, what in todo.items()]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    opening = cloudpickle.dumps(load)
    if actors is None:
        _cores()
        dataset = dataset.map(partial(_answer, job, opening), num_cpus=1)
    else:
        most, takes = actors
        pool = ray.data.ActorPoolStrategy(size=min(len(items), most))
        dataset = dataset.map(_Actor, fn_constructor_args=(job, opening), compute=pool, **takes)
    try:
        for row in dataset.iter_rows():
            yield _checked(row)
    except ExecutionTimeoutError as error:
        raise IndexingError(f"the Ray cluster does nothing any more: {first_line(error)}") from error
    except RayError as error:
        told = re.findall(r"^[\w.]*(?:Error|Exception): .+", str(error), re.MULTILINE)
        reason = told[0] if told else first_line(error)
        raise IndexingError(f"a Ray worker failed ({reason}); is the same Shoptalk installed on every node?") from error


def _checked(row: Mapping[str, Any]) -> tuple[Path, list[str]]:
    """What a worker answered, where nothing is wrong with it."""
    node, target = row["node"], Path(row["target"])
    unread: list[str] = pickle.loads(row["unread"])
    if row["problem"]:
        raise (ModelError if row["model"] else IndexingError)(f"on node {node}: {row['problem']}")
    if hidden := [path for path in unread if os.access(path, os.R_OK)]:
        raise IndexingError(f"{hidden[0]} cannot be read on node {node}; {SHARED}")
    if not unread and not target.exists():
        raise IndexingError(f"{target} was written on node {node} and cannot be seen here; {SHARED}")
    return target, unread


class _Actor:
    """A worker that does nothing else, and so may hold a GPU."""

    def __init__(self, job: Job, opening: bytes) -> None:
        self.job = job
        self.opening = opening

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Do the job of one row."""
        return _answer(self.job, self.opening, row)


def _answer(job: Job, opening: bytes, row: Mapping[str, Any]) -> dict[str, Any]:
    """On a worker: do the job of one row, and tell what is wrong in the row that is answered with."""
    unread: list[str] = []
    problem, model = "", False
    try:
        unread = job(_opened(opening), pickle.loads(row["what"]), Path(row["target"]))
    except ShoptalkError as error:
        problem, model = str(error), isinstance(error, ModelError)
    except OSError as error:
        problem = f"{error}; {SHARED}"
    answer = {"unread": pickle.dumps(unread), "problem": problem, "model": model}
    return {"target": row["target"], "node": platform.node(), **answer}


@lru_cache(maxsize=1)
def _opened(opening: bytes) -> Embedder:
    """The embedder of this worker, which lives on from one task to the next."""
    load: Callable[[], Embedder] = pickle.loads(opening)
    return load()
