"""Follow the documents of corpora: after each change, and a quiet moment, the index is brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from retrieval.console import Progress
from retrieval.documents import walk
from retrieval.embedders import Embedder, open_embedder
from retrieval.errors import ShoptalkError, refusal_of
from retrieval.indexing import IndexReport, build_index
from retrieval.models import current_reference
from retrieval.workspace import Workspace

__all__ = ["watch"]

QUIET_MS = 400
"""An editor or a copy is done when nothing changed for so long."""
LONGEST_MS = 10_000
"""Where something always changes, the index is brought up to date this often."""
TICK_MS = 1_000
RETRY_TICKS = 5
"""What failed, as the lock was another process's, is tried again after so many ticks even if nothing changes."""


def watch(
    workspace: Workspace,
    corpora: Sequence[str],
    *,
    done: Callable[[IndexReport], None],
    problem: Callable[[str], None],
    ready: Callable[[], None],
    progress: Callable[[], AbstractContextManager[Progress]],
    full: bool = False,
) -> None:
    """Index ``corpora``, then again whatever changes, until it is interrupted (KeyboardInterrupt).

    The model stays loaded, and is exchanged when another one is put to use. Changed settings count
    from the next start on.

    Args:
        workspace: whose corpora.
        corpora: their names.
        done: hears of each run.
        problem: hears what kept a run from ending well, once; it is tried again.
        ready: is called once, when no change is missed any more.
        progress: opens, for each run, what is told how far it is.
        full: whether the first run reads and cuts everything anew.

    Raises:
        DocumentError: a path of a corpus does not exist.
        ShoptalkError: watchfiles is not installed.
    """
    try:
        import watchfiles
    except ImportError:
        raise ShoptalkError("--watch needs watchfiles: pip install 'shoptalk[cpu]' (or [gpu])") from None
    follower = _Follower(workspace, corpora, done, problem, progress)
    follower.run(full=full)
    # What changed while that ran was seen by nobody.
    follower.due = set(corpora)
    watched = {path if path.is_dir() else path.parent for paths in follower.paths.values() for path in paths}
    ticks = watchfiles.watch(
        *watched,
        watch_filter=lambda _, path: bool(follower.concerned([path])),
        step=QUIET_MS,
        debounce=LONGEST_MS,
        rust_timeout=TICK_MS,
        yield_on_timeout=True,
        recursive=any(path.is_dir() for paths in follower.paths.values() for path in paths),
        ignore_permission_denied=True,
    )
    for tick, changes in enumerate(ticks):
        follower.due |= follower.concerned(path for _, path in changes)
        if follower.due and (changes or tick % RETRY_TICKS == 0):
            follower.run()
        if tick == 0:
            ready()


class _Follower:
    """Which corpora are to be indexed again, and with which model."""

    def __init__(
        self,
        workspace: Workspace,
        corpora: Sequence[str],
        done: Callable[[IndexReport], None],
        problem: Callable[[str], None],
        progress: Callable[[], AbstractContextManager[Progress]],
    ) -> None:
        self.workspace = workspace
        self.due = set(corpora)
        self.paths = {corpus: _resolved(workspace, corpus) for corpus in corpora}
        self.own = [path.resolve() for path in (workspace.models_dir, workspace.root / "indexes")]
        self.done = done
        self.problem = problem
        self.progress = progress
        self.told: dict[str, str] = {}
        self.embedder: Embedder | None = None

    def run(self, *, full: bool = False) -> None:
        """Index what is due; what fails stays due."""
        for corpus in sorted(self.due):
            try:
                embedder = self._model_in_use()
                with self.progress() as progress:
                    report = build_index(self.workspace, corpus, embedder=embedder, full=full, progress=progress)
            except (ShoptalkError, OSError) as error:
                told = refusal_of(error) if isinstance(error, OSError) else str(error)
                if self.told.get(corpus) != told:
                    self.told[corpus] = told
                    self.problem(told)
                continue
            self.due.discard(corpus)
            self.told.pop(corpus, None)
            self.done(report)

    def concerned(self, changed: Iterable[str]) -> set[str]:
        """The corpora to which one of the paths ``changed`` may belong."""
        return {
            corpus
            for path in map(Path, changed)
            for corpus, roots in self.paths.items()
            if any(_may_be_read(path, root) for root in roots) and not any(path.is_relative_to(own) for own in self.own)
        }

    def _model_in_use(self) -> Embedder:
        reference = current_reference(self.workspace)
        if self.embedder is None or self.embedder.reference != reference:
            self.embedder = open_embedder(reference, self.workspace)
        return self.embedder


def _resolved(workspace: Workspace, corpus: str) -> list[Path]:
    paths = workspace.corpus_paths(corpus)
    if not all(path.exists() for path in paths):
        walk(workspace, corpus)  # which says so
    return [path.resolve() for path in paths]


def _may_be_read(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root):
        return False
    *folders, name = path.relative_to(root).parts or (root.name,)
    return not any(part.startswith(".") for part in folders) and (name == ".gitignore" or not name.startswith("."))
