from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hash_embedder import HashEmbedder

import retrieval.indexing
import server.jobs
from retrieval.errors import IndexingError
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace
from server.jobs import Job, Jobs
from server.rendering import job_text


def ended(jobs: Jobs, job: Job) -> Job:
    """The job once its process is gone."""
    with (jobs._folder(job.corpus) / "LOCK").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    return jobs.get(job.job_id) or job


def with_process(jobs: Jobs, job: Job) -> Job:
    """The job once its process runs."""
    while job.state == "running" and not job.pid:
        os.sched_yield()
        job = jobs.get(job.job_id) or job
    assert job.pid, job.reason  # a signal to process 0 would go to the tests themselves
    return job


@contextmanager
def frozen(job: Job) -> Iterator[None]:
    """Hold the job's process still for the length of the block."""
    os.kill(job.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(job.pid, signal.SIGCONT)


def test_a_second_start_joins_the_running_job_even_from_another_server(fresh: Workspace) -> None:
    first, second = Jobs(fresh), Jobs(fresh)
    job = with_process(first, first.start("handbook", "incremental"))
    with frozen(job):
        assert second.start("handbook", "full").job_id == job.job_id
        assert second.running("handbook") is not None
        second.cancel(job)
    assert ended(second, job).state == "cancelled"
    assert first.running("handbook") is None
    assert len(first.recent()) == 1


def test_a_cancelled_job_stops_and_leaves_the_live_index(indexed: Workspace) -> None:
    jobs = Jobs(indexed)
    job = jobs.start("handbook", "full")
    jobs.cancel(job)
    job = ended(jobs, job)
    assert job.state == "cancelled" and not job.reason
    jobs.cancel(job)  # to cancel what has ended is nothing
    assert (indexed.index_dir("handbook") / "CURRENT").read_text().strip() == "g000001"


def test_a_job_that_was_killed_is_told_as_failed_and_the_next_one_starts(indexed: Workspace) -> None:
    jobs = Jobs(indexed)
    job = with_process(jobs, jobs.start("handbook", "full"))
    os.kill(job.pid, signal.SIGKILL)
    dead = ended(Jobs(indexed), job)  # a server started afterwards reads the same
    assert dead.state == "failed" and f"{job.job_id}.log" in dead.reason
    assert str(indexed.root) not in dead.reason
    assert jobs.running("handbook") is None
    again = jobs.start("handbook", "full")
    assert again.job_id != job.job_id and again.state == "running"
    jobs.cancel(again)
    assert ended(jobs, again).state == "cancelled"


def test_a_job_that_cannot_work_says_why(fresh: Workspace) -> None:
    for file in (fresh.root / "docs").rglob("*.md"):
        file.unlink()
    jobs = Jobs(fresh)
    job = ended(jobs, jobs.start("handbook", "incremental"))
    assert job.state == "failed" and "docs" in job.reason
    assert str(fresh.root) not in job.reason


def test_a_job_that_cannot_be_written_down_is_refused_in_one_line(indexed: Workspace) -> None:
    folder = indexed.index_dir("handbook") / "jobs"
    folder.write_text("in the way")
    with pytest.raises(IndexingError, match=r"jobs cannot be written \(.+\); the index that is live still answers"):
        Jobs(indexed).start("handbook", "full")
    folder.unlink()
    folder.mkdir()
    (folder / "j0.new").touch()  # as a full disk leaves it
    jobs = Jobs(indexed)
    job = jobs.start("handbook", "full")
    jobs.cancel(job)
    ended(jobs, job)
    assert not [*folder.glob("*.new")]


def test_unknown_ids_are_no_jobs_and_reach_no_files(indexed: Workspace) -> None:
    (indexed.index_dir("handbook") / "secret.json").write_text("{}")
    jobs = Jobs(indexed)
    assert [jobs.get(name) for name in ("nope", "../secret", "", "/etc/passwd", "*")] == [None] * 5


def test_progress_never_falls_from_stage_to_stage() -> None:
    job = Job(job_id="j", corpus="c", mode="full", state="running", step=1, done=9, total=10)
    assert job.progress == pytest.approx(1.9)
    assert job.model_copy(update={"step": 2, "done": 0, "total": 0}).progress == 2.0


def test_only_the_latest_jobs_are_kept(indexed: Workspace) -> None:
    folder = indexed.index_dir("handbook") / "jobs"
    folder.mkdir()
    for number in range(30):
        job = Job(job_id=f"20000101T0000{number:02}-aaaaaa", corpus="handbook", mode="full", state="done")
        (folder / f"{job.job_id}.json").write_text(job.model_dump_json())
    jobs = Jobs(indexed)
    newest = jobs.start("handbook", "incremental")
    jobs.cancel(newest)
    ended(jobs, newest)
    assert len(list(folder.glob("*.json"))) == 20
    assert jobs.recent(1)[0].job_id == newest.job_id


@contextmanager
def running_elsewhere(workspace: Workspace, pid: int) -> Iterator[Job]:
    """A job that runs on another host, which happens to have given its process the number ``pid``."""
    folder = workspace.index_dir("handbook") / "jobs"
    folder.mkdir()
    now = time.time()
    state: dict[str, Any] = {"state": "running", "host": "another host", "pid": pid, "started": now - 100, "seconds": 2}
    job = Job(job_id="j1", corpus="handbook", mode="full", **state)
    (folder / "j1.json").write_text(job.model_dump_json())
    (folder / "LOCK").write_text("j1")
    with (folder / "LOCK").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield job


def test_a_job_of_another_host_is_seen_joined_and_cancelled_by_its_mark_alone(hashed: Workspace) -> None:
    jobs = Jobs(hashed)
    mark = hashed.index_dir("handbook") / "jobs" / "j1.cancel"
    with subprocess.Popen(["sleep", "60"]) as bystander:
        with running_elsewhere(hashed, bystander.pid) as job:
            running = jobs.running("handbook")
            assert running and running.job_id == jobs.start("handbook", "full").job_id == job.job_id
            assert running.seconds >= 100  # though its process has written nothing since its second second
            assert not mark.exists()
            jobs.cancel(job)
            assert mark.exists() and bystander.poll() is None
        bystander.kill()
    gone = jobs.get("j1")
    assert gone is not None and gone.state == "failed", "its host died, and the lock with it"


def test_a_job_obeys_a_mark_that_comes_before_its_process_looks(
    fresh: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = Jobs(fresh)
    with monkeypatch.context() as patch:
        patch.setattr(server.jobs, "_here", lambda: "another host")
        job = jobs.start("handbook", "incremental")
        jobs.cancel(job)
    assert ended(jobs, job).state == "cancelled"


def worked(workspace: Workspace, job_id: str) -> Job:
    """The job after its work was done here, in this process."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        server.jobs._Work(workspace.root, "handbook", job_id).run()
    finally:
        signal.signal(signal.SIGTERM, handler)
    job = server.jobs._read_state(workspace.index_dir("handbook") / "jobs", job_id)
    assert job is not None
    return job


def test_what_came_before_a_call_that_joins_is_in_the_index_when_the_job_is_done(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, joined = Jobs(hashed), []
    (path,) = hashed.corpus_paths("handbook")

    class Joined(HashEmbedder):
        def encode_documents(self, texts: Sequence[str], *rest: Any) -> Any:
            if not joined:
                (path / "late.md").write_text("# Late\n\nThe aardvark came late.\n")
                joined.append(jobs.start("handbook", "full").job_id)
            return super().encode_documents(texts, *rest)

    monkeypatch.setattr(retrieval.indexing, "open_embedder", lambda *_: Joined("other"))
    with running_elsewhere(hashed, 1):
        job = worked(hashed, "j1")
    assert (joined, job.state, job.mode) == (["j1"], "done", "full")
    assert SearchEngine(hashed).search("aardvark", mode="lexical").hits[0].document_id == "late.md"
    assert job.added == 1
    assert not [*(hashed.index_dir("handbook") / "jobs").glob("j1.a*")]


def test_who_comes_while_a_job_looks_once_more_joins_it_at_once_and_adds_one_pass(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, passes, joined = Jobs(hashed), [], []
    folder = hashed.index_dir("handbook") / "jobs"
    build = retrieval.indexing.build_index

    def building(*arguments: Any, **options: Any) -> Any:
        passes.append(options["full"])
        if len(passes) == 1:
            (folder / "j1.again").touch()
        if len(passes) == 2:
            joined.append(jobs.start("handbook", "full").job_id)
        return build(*arguments, **{**options, "embedder": HashEmbedder()})

    monkeypatch.setattr(retrieval.indexing, "build_index", building)
    with running_elsewhere(hashed, 1):
        job = worked(hashed, "j1")
    assert (passes, joined, job.state) == ([True, False, False], ["j1"], "done")


def test_a_job_that_fails_as_it_looks_once_more_tells_what_it_did_before(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, passes = hashed.index_dir("handbook") / "jobs", []
    (path,) = hashed.corpus_paths("handbook")
    (path / "late.md").write_text("# Late\n\nThe aardvark came late.\n")
    build = retrieval.indexing.build_index

    def building(*arguments: Any, **options: Any) -> Any:
        passes.append(1)
        if len(passes) == 2:
            raise IndexingError("another process is indexing")
        (folder / "j1.again").touch()
        return build(*arguments, **{**options, "embedder": HashEmbedder()})

    monkeypatch.setattr(retrieval.indexing, "build_index", building)
    with running_elsewhere(hashed, 1):
        job = worked(hashed, "j1")
    assert (job.state, job.added, job.generation) == ("failed", 1, "g000002")
    assert job_text(job.output()).endswith("another process is indexing. Generation g000002 answers.")


def test_a_job_that_looked_for_the_last_time_is_not_joined(hashed: Workspace) -> None:
    jobs = Jobs(hashed)
    with running_elsewhere(hashed, 1) as job:
        folder = hashed.index_dir("handbook") / "jobs"
        joined = jobs._join(folder, job, "incremental")
        assert joined is not None and joined.job_id == "j1"
        ending = job.model_copy(update={"stage": "ending"})
        (folder / "j1.json").write_text(ending.model_dump_json())
        assert jobs._join(folder, job, "incremental") is None


def test_a_job_obeys_a_mark_at_its_next_step_and_leaves_the_live_index(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hashed.index_dir("handbook") / "jobs"
    folder.mkdir()
    job = Job(job_id="j1", corpus="handbook", mode="full", state="running", stage="starting")
    (folder / "j1.json").write_text(job.model_dump_json())

    class Marking(HashEmbedder):
        def encode_documents(self, texts: Sequence[str], *rest: Any) -> Any:
            (folder / "j1.cancel").touch()
            return super().encode_documents(texts, *rest)

    monkeypatch.setattr(retrieval.indexing, "open_embedder", lambda *_: Marking("other"))
    stopped = worked(hashed, "j1")
    assert stopped.state == "cancelled" and stopped.stage == "encoding"
    assert stopped.host == server.jobs._here() and stopped.pid == os.getpid()
    assert (hashed.index_dir("handbook") / "CURRENT").read_text().strip() == "g000001"
