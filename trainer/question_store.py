"""Questions that were written and paid for: one SQLite file a corpus, in ``models/synthesis/``.

An answer is kept under the hash of the passage, the prompt's version, the model and the number asked for, the
moment it comes; a batch is known by its id from the moment it was sent. So a killed run loses only what was on
its way. Nothing here is ever deleted by Shoptalk but the names of batches that were fetched.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.embedding_cache import portions
from retrieval.errors import ShoptalkError
from retrieval.workspace import Workspace

__all__ = ["SYNTHETIC_RULE", "QuestionStore", "Ranked", "store_path"]

SYNTHETIC_RULE = "synthetic"
"""The rule that pairs of written questions carry. They are learned from, never judged by."""

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, passage TEXT NOT NULL, model TEXT NOT NULL, prompt INTEGER NOT NULL, questions TEXT NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_passage ON answers (passage);
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, model TEXT NOT NULL, prompt INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    batch TEXT NOT NULL, key TEXT NOT NULL, passage TEXT NOT NULL, PRIMARY KEY (batch, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ranks (
    base TEXT NOT NULL, passage TEXT NOT NULL, question TEXT NOT NULL, rank INTEGER,
    PRIMARY KEY (base, passage, question)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A question about a passage (its hash), and where the base model finds that passage; None for nowhere near."""

    passage: str
    question: str
    rank: int | None


def store_path(workspace: Workspace, corpus: str) -> Path:
    """Where the questions of a corpus are."""
    return workspace.models_dir / "synthesis" / f"{corpus}.sqlite"


class QuestionStore:
    """The questions of one corpus; a context manager.

    Raises:
        ShoptalkError: the file is damaged or cannot be used; it is left as it is, since it was paid for.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._told():
            self._connection = sqlite3.connect(path, isolation_level=None)
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.executescript(_TABLES)
            except sqlite3.DatabaseError:
                self._connection.close()
                raise

    def __enter__(self) -> QuestionStore:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that asks questions about this corpus.

        Raises:
            ShoptalkError: another process is.
        """
        from filelock import FileLock, Timeout

        try:
            with FileLock(self._path.with_suffix(".lock"), timeout=0):
                yield
        except Timeout:
            raise ShoptalkError("another process is writing questions for this corpus; wait for it") from None

    def answered(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that have an answer, even one without questions."""
        return {key for (key,) in self._select("SELECT key FROM answers WHERE key IN", keys)}

    def keep(
        self, key: str, passage: str, model: str, prompt: int, questions: Sequence[str], tokens: tuple[int, int]
    ) -> None:
        """Keep an answer; it is on disk when this returns."""
        row = (key, passage, model, prompt, json.dumps(list(questions), ensure_ascii=False), *tokens)
        self._write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", [row])

    def questions(self, passages: Iterable[str]) -> dict[str, list[str]]:
        """All questions there are about ``passages`` (hashes), whoever wrote them, each once."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        query = "SELECT passage, questions FROM answers WHERE passage IN"
        for passage, questions in self._select(query, passages):
            found[passage] |= dict.fromkeys(json.loads(questions))
        return {passage: list(questions) for passage, questions in found.items()}

    def remember_batch(self, batch: str, model: str, prompt: int, entries: Mapping[str, str]) -> None:
        """Note that ``entries`` (key → passage) are on their way in ``batch``."""
        with self._told(), self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (batch, model, prompt))
            rows = [(batch, key, passage) for key, passage in entries.items()]
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)

    def batches(self) -> list[tuple[str, str, int]]:
        """The batches under way, oldest first: id, model, version of the prompt."""
        return self._rows("SELECT id, model, prompt FROM batches ORDER BY rowid")

    def entries(self, batch: str) -> dict[str, str]:
        """What is on its way in a batch: key → passage."""
        return dict(self._rows("SELECT key, passage FROM entries WHERE batch = ?", (batch,)))

    def forget_batch(self, batch: str) -> None:
        """Note that nothing more comes of a batch."""
        with self._told(), self._connection:
            self._connection.execute("BEGIN")
            self._connection.execute("DELETE FROM batches WHERE id = ?", (batch,))
            self._connection.execute("DELETE FROM entries WHERE batch = ?", (batch,))

    def rank(self, base: str, ranked: Iterable[Ranked]) -> None:
        """Keep where the base model finds passages by their questions."""
        rows = [(base, item.passage, item.question, item.rank) for item in ranked]
        self._write("INSERT OR REPLACE INTO ranks VALUES (?, ?, ?, ?)", rows)

    def ranked(self, base: str) -> list[Ranked]:
        """What `rank` kept for a base model."""
        query = "SELECT passage, question, rank FROM ranks WHERE base = ?"
        return [Ranked(*row) for row in self._rows(query, (base,))]

    def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._told(), self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany(statement, rows)

    def _select(self, query: str, values: Iterable[str]) -> Iterator[tuple[Any, ...]]:
        for some in portions(values):
            yield from self._rows(f"{query} ({','.join('?' * len(some))})", some)

    def _rows(self, query: str, values: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        with self._told():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise ShoptalkError(f"{self._path} cannot be used ({error}); is the disk full, or read-only?") from error
        except sqlite3.DatabaseError as error:
            raise ShoptalkError(f"{self._path} is damaged ({error}); restore it, or move it away") from error
