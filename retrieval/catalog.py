"""SQLite: what is in a generation: files, documents, passages. Written by :mod:`retrieval.catalog_writing`.

A passage has two names: its public id, and a number that is its key in the vector and the lexical
index. A number is never given twice, not even after its passage is gone.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from retrieval.documents import Skipped
from retrieval.embedding_cache import portions
from retrieval.errors import IndexingError
from retrieval.passages import Passage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "SELECT_PASSAGES",
    "SELECT_PATHS",
    "CatalogReader",
    "DocumentRow",
    "FileRow",
    "PassageRow",
    "after",
    "passage_row",
]

_T = TypeVar("_T")
_MAPPED_BYTES = 1 << 30  # read without a system call a page
_VARIABLES = 900  # fewer than any SQLite allows in one statement


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file as it was when it was indexed."""

    path: str
    size: int
    modified_ns: int
    changed_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as it was when it was indexed; ``hash`` is its content's."""

    id: str
    path: str
    title: str
    hash: str


@dataclass(frozen=True, slots=True)
class PassageRow:
    """A passage, its number, the path of its document's file, and its pages (from 1) where that has pages.

    ``position`` counts the document's passages, in their order, from 0.
    """

    number: int
    passage: Passage
    path: str
    position: int
    first_page: int | None = None
    last_page: int | None = None


class CatalogReader:
    """The catalogue of a sealed generation; thread-safe, with as many connections as ever read at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Threads come and go: a connection of each thread's own would stay open when it is gone.
        self._idle: deque[sqlite3.Connection] = deque()
        self.close = weakref.finalize(self, _close_all, self._idle)
        self._rows("SELECT count(*) FROM files")

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            connection = self._connection()
            try:
                return connection.execute(query, values).fetchall()
            finally:
                self._idle.append(connection)
        except sqlite3.DatabaseError as error:
            # Python's own, over text that is not UTF-8, has no code.
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CANTOPEN and self._path.is_file():
                raise IndexingError(
                    f"{self._path} cannot be opened: this process has too many files open, or may not read it"
                ) from None
            raise IndexingError(
                f"{self._path} is missing or damaged ({error}); rebuild it with `shoptalk index --full`"
            ) from None

    def _connection(self) -> sqlite3.Connection:
        """A connection that no other thread uses: one that is idle, or a new one."""
        with suppress(IndexError):
            return self._idle.pop()
        # Sealed files never change: no locks are needed, and no journal beside them.
        uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection.execute(f"PRAGMA mmap_size = {_MAPPED_BYTES}")
        return connection

    def files(self) -> dict[str, FileRow]:
        """Return every file, by path."""
        return {row[0]: FileRow(*row) for row in self._rows("SELECT * FROM files")}

    def paths(self) -> set[str]:
        """Return every path of which anything is known, those of files that lost a document to another included."""
        return {row[0] for row in self._rows(SELECT_PATHS)}

    def skipped(self) -> list[Skipped]:
        """Return what was left out of the files."""
        return [Skipped(*row) for row in self._rows("SELECT path, reason FROM skipped ORDER BY rowid")]

    def passages(self, numbers: Sequence[int]) -> dict[int, PassageRow]:
        """Return the passages ``numbers``, by number.

        Raises:
            IndexingError: one of them is not there, or the file is damaged.
        """
        found: dict[int, PassageRow] = {}
        for some in portions(numbers):
            marks = ",".join("?" * len(some))
            try:
                for row in self._rows(f"{SELECT_PASSAGES} WHERE passages.number IN ({marks})", some):
                    found[row[0]] = passage_row(row)
            except (ValueError, TypeError) as error:
                raise IndexingError(
                    f"{self._path} is damaged ({error}); rebuild it with `shoptalk index --full`"
                ) from None
        missing = next((number for number in numbers if number not in found), None)
        if missing is not None:
            raise IndexingError(
                f"{self._path} has no passage {missing}, which another part of the index names; "
                "rebuild it with `shoptalk index --full`"
            )
        return found

    def counts(self) -> tuple[int, int]:
        """Return how many documents and passages there are."""
        ((documents, passages),) = self._rows(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages)"
        )
        return documents, passages

    def neighbours(self, row: PassageRow, reach: int) -> list[PassageRow]:
        """Return the passages at most ``reach`` before or after ``row`` in its document, and itself, in order."""
        rows = self._rows(
            f"{SELECT_PASSAGES} WHERE document_id = ? AND position BETWEEN ? AND ? ORDER BY position",
            (row.passage.document_id, row.position - reach, row.position + reach),
        )
        return [passage_row(found) for found in rows]

    def document(self, document_id: str, limit: int) -> list[PassageRow]:
        """Return the first ``limit`` passages of a document, in their order; none where it is not indexed."""
        rows = self._rows(f"{SELECT_PASSAGES} WHERE document_id = ? ORDER BY position LIMIT ?", (document_id, limit))
        return [passage_row(row) for row in rows]

    def document_ids(self, prefix: str, limit: int) -> list[str]:
        """Return the first ``limit`` ids that start with ``prefix``, sorted."""
        rows = self._rows(
            "SELECT id FROM documents WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", (prefix, after(prefix), limit)
        )
        return [row[0] for row in rows]

    def numbers_under(self, prefix: str) -> NDArray[np.int64]:
        """Return the numbers of passages whose document's id, or file's path, starts with ``prefix``."""
        import numpy as np

        rows = self._rows(
            "SELECT number FROM passages WHERE document_id IN (SELECT id FROM documents WHERE id >= ?1 AND id < ?2"
            " UNION SELECT id FROM documents WHERE path >= ?1 AND path < ?2)",
            (prefix, after(prefix)),
        )
        return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))


def after(prefix: str) -> str | bytes:
    """Return the least value after every text that starts with ``prefix``: SQLite goes by code points."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return b""  # a blob comes after every text
    last = ord(stem[-1]) + 1
    return stem[:-1] + chr(0xE000 if last == 0xD800 else last)  # what lies between are surrogates


SELECT_PATHS = "SELECT path FROM files UNION SELECT file FROM skipped UNION SELECT path FROM documents"
"""Every path of which anything is known, be it that its file could not be read."""

SELECT_PASSAGES = (
    "SELECT passages.number, passages.id, document_id, passages.title, heading, text,"
    " passages.first_line, passages.last_line, context, called, position, documents.path, documents.pages"
    " FROM passages LEFT JOIN documents ON documents.id = passages.document_id"
)


def passage_row(row: tuple[Any, ...]) -> PassageRow:
    """Make a row of SELECT_PASSAGES a PassageRow."""
    number, passage_id, document_id, title, heading, text, first_line, last_line, context, called, *place = row
    position, path, pages = place
    passage = Passage(
        id=passage_id,
        document_id=document_id,
        title=title,
        heading=tuple(json.loads(heading)),
        text=text,
        first_line=first_line,
        last_line=last_line,
        context=None if context is None else tuple(json.loads(context)),
        called=() if called is None else tuple(json.loads(called)),
    )
    if pages is None:
        return PassageRow(number, passage, path, position)
    starts: list[int] = json.loads(pages)
    first_page, last_page = bisect_right(starts, first_line), bisect_right(starts, last_line)
    return PassageRow(number, passage, path, position, first_page, last_page)


def _close_all(connections: deque[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()
