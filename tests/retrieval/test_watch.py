from __future__ import annotations

import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder

from retrieval.generation import current_name
from retrieval.indexing import IndexReport, build_index
from retrieval.watching import _Follower
from retrieval.workspace import Workspace

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1])))
from hash_embedder import HashEmbedder
import retrieval.embedders, retrieval.watching

def load(reference, workspace):
    print("loaded", file=sys.stderr, flush=True)
    embedder = HashEmbedder()
    embedder.reference = reference
    return embedder

retrieval.watching.open_embedder = load
from shoptalk import main
main(sys.argv[2:])
"""
PATIENCE = 60


class Watching:
    """A real `shoptalk index --watch`, whose lines are waited for."""

    def __init__(self, root: Path, *arguments: str) -> None:
        command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), "-w", str(root), "index", "--watch"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
        self.process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.out: queue.Queue[str] = queue.Queue()
        self.err: queue.Queue[str] = queue.Queue()
        self.threads = [
            threading.Thread(target=self._pump, args=pair, daemon=True)
            for pair in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for thread in self.threads:
            thread.start()

    @staticmethod
    def _pump(stream: Iterator[str], lines: queue.Queue[str]) -> None:
        for line in stream:
            lines.put(line.rstrip("\n"))

    def line(self) -> str:
        return self.out.get(timeout=PATIENCE)

    def note(self) -> str:
        return self.err.get(timeout=PATIENCE)

    def end(self) -> tuple[int, list[str]]:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        for thread in self.threads:
            thread.join()
        return code, [*self.out.queue, *self.err.queue]


@contextmanager
def watching(root: Path, *arguments: str) -> Iterator[Watching]:
    run = Watching(root, *arguments)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()
        for thread in run.threads:
            thread.join()
        assert run.process.stdout and run.process.stderr
        run.process.stdout.close()
        run.process.stderr.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("wombat\n", encoding="utf-8")
    (tmp_path / "shoptalk.toml").write_text('[corpus.docs]\npaths = ["docs"]\n', encoding="utf-8")
    return Workspace.open(tmp_path)


def test_each_change_makes_a_generation_and_ctrl_c_ends_it(workspace: Workspace) -> None:
    docs = workspace.root / "docs"
    with watching(workspace.root) as run:
        assert run.note() == "loaded"
        assert run.line().startswith("docs: 1 document, 1 passage (1 added")
        assert run.note() == "Watching; Ctrl-C ends it."
        (docs / "b.md").write_text("koala\n", encoding="utf-8")
        assert "(1 added, 0 updated, 0 removed, 1 unchanged; 1 passage encoded)" in run.line()
        (docs / "sub").mkdir()
        (docs / "a.md").rename(docs / "sub" / "a.md")
        assert "(1 added, 0 updated, 1 removed, 1 unchanged; 0 passages encoded)" in run.line()
        (docs / "broken.md").write_bytes(b"\xff\xfe\xff")
        assert run.note().startswith("Left out: broken.md: ")
        (docs / "b.md").unlink()
        line = run.line()
        assert "(0 added, 0 updated, 1 removed, 1 unchanged;" in line and line.endswith("generation g000004")
        code, lines = run.end()
        assert (code, [line for line in lines if line]) == (130, ["Stopped."])  # the model was loaded only once


def test_a_held_lock_is_told_once_and_outlasted(workspace: Workspace) -> None:
    build_index(workspace, embedder=HashEmbedder())
    (workspace.root / "docs" / "b.md").write_text("koala\n", encoding="utf-8")
    with (workspace.index_dir("docs") / "LOCK").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with watching(workspace.root, "--json") as run:
            assert run.note() == "loaded"
            assert run.note().startswith("Error: another process") and run.note().startswith("Watching")
            fcntl.flock(lock, fcntl.LOCK_UN)
            report = json.loads(run.line())  # without another change
            assert (report["added"], report["generation"]) == (1, "g000002")


def follower(workspace: Workspace, done: Callable[[IndexReport], None], problem: Callable[[str], None]) -> _Follower:
    from contextlib import nullcontext

    from retrieval.console import silent

    return _Follower(workspace, list(workspace.corpora), done, problem, lambda: nullcontext(silent))


def test_only_what_may_be_read_wakes_it(workspace: Workspace) -> None:
    (workspace.root / "shoptalk.toml").write_text(
        '[corpus.docs]\npaths = ["docs"]\n[corpus.all]\npaths = ["."]\n', encoding="utf-8"
    )
    found = follower(Workspace.open(workspace.root), lambda report: None, lambda message: None)
    root = workspace.root.resolve()
    assert found.concerned([str(root / "docs" / "new.md")]) == {"docs", "all"}
    assert found.concerned([str(root / "README.md"), str(root / ".gitignore")]) == {"all"}
    for path in ("indexes/docs/CURRENT", "models/v0001/x", ".git/index", "docs/.new.md.swp", "docs/.cache/x.md"):
        assert found.concerned([str(root / path)]) == set(), path


def test_a_failed_run_stays_due_and_is_told_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.watching.open_embedder", lambda reference, workspace: HashEmbedder())
    reports: list[IndexReport] = []
    problems: list[str] = []
    run = follower(workspace, reports.append, problems.append)
    file = workspace.root / "docs" / "a.md"
    text = file.read_text(encoding="utf-8")
    file.unlink()
    run.run()
    run.run()
    assert len(problems) == 1 and "no document that can be read" in problems[0]
    assert (run.due, reports) == ({"docs"}, [])
    file.write_text(text, encoding="utf-8")
    run.run()
    assert (run.due, current_name(workspace.index_dir("docs"))) == (set(), "g000001")


def test_another_model_put_to_use_is_taken_up(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(reference: str, workspace: Workspace) -> HashEmbedder:
        loaded.append(reference)
        embedder = HashEmbedder(reference)
        embedder.reference = reference
        return embedder

    references = iter(["one/model", "one/model", "another/model"])
    monkeypatch.setattr("retrieval.watching.open_embedder", load)
    monkeypatch.setattr("retrieval.watching.current_reference", lambda workspace: next(references))
    reports: list[IndexReport] = []
    run = follower(workspace, reports.append, lambda message: None)
    for _ in range(3):
        run.due = {"docs"}
        run.run()
    assert loaded == ["one/model", "another/model"]
    assert [report.changed for report in reports] == [True, False, True]
