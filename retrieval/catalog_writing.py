"""SQLite: write the catalogue of a generation that is being built."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.catalog import SELECT_PASSAGES, SELECT_PATHS, DocumentRow, FileRow, PassageRow, passage_row
from retrieval.documents import Document, Skipped, SourceFile
from retrieval.embedding_cache import portions, text_hash
from retrieval.passages import Passage, passage_id
from retrieval.references import Referring, called, named, referring

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Catalog"]

_SCHEMA = """
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, modified_ns INTEGER NOT NULL, changed_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL);
CREATE TABLE skipped (file TEXT NOT NULL, path TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE documents (
    id TEXT PRIMARY KEY, path TEXT NOT NULL, title TEXT NOT NULL, hash TEXT NOT NULL, pages TEXT);
CREATE INDEX documents_by_path ON documents (path);
CREATE TABLE passages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, document_id TEXT NOT NULL,
    position INTEGER NOT NULL, heading TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL,
    first_line INTEGER NOT NULL, last_line INTEGER NOT NULL, context TEXT, hash TEXT NOT NULL,
    code TEXT, terms TEXT, called TEXT);
CREATE INDEX passages_by_document ON passages (document_id, position);
"""


class Catalog:
    """The catalogue of a generation that is being built: one thread, one file nobody else sees."""

    def __init__(self, path: Path) -> None:
        new = not path.exists()
        # A crash throws the whole folder away, and sealing it syncs the file.
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("PRAGMA synchronous = OFF")
        if new:
            self._connection.executescript(_SCHEMA)
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Write everything."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self._connection.close()

    def files(self) -> dict[str, FileRow]:
        """Return every file, by path."""
        return {row[0]: FileRow(*row) for row in self._connection.execute("SELECT * FROM files")}

    def paths(self) -> list[str]:
        """Return every path of which anything is known, be it that its file could not be read."""
        return [row[0] for row in self._connection.execute(SELECT_PATHS)]

    def put_file(self, file: SourceFile, digest: str) -> None:
        """Remember ``file`` as indexed, with the sha256 of its content."""
        values = (file.relative, file.size, file.modified_ns, file.changed_ns, digest)
        self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", values)

    def put_times(self, times: Mapping[str, tuple[int, int]]) -> None:
        """Give the files that are remembered these times, of modification and of change, by path."""
        rows = ((*both, path) for path, both in times.items())
        self._connection.executemany("UPDATE files SET modified_ns = ?, changed_ns = ? WHERE path = ?", rows)

    def forget_file(self, relative: str) -> None:
        """Forget a file and what was skipped in it; its documents stay until they are removed."""
        self._connection.execute("DELETE FROM files WHERE path = ?", (relative,))
        self._connection.execute("DELETE FROM skipped WHERE file = ?", (relative,))

    def put_skipped(self, relative: str, skipped: Iterable[Skipped]) -> None:
        """Remember what was left out of the file ``relative``."""
        rows = ((relative, item.path, item.reason) for item in skipped)
        self._connection.executemany("INSERT INTO skipped VALUES (?, ?, ?)", rows)

    def skipped(self) -> list[Skipped]:
        """Return what was left out of the files that are remembered."""
        return [Skipped(*row) for row in self._connection.execute("SELECT path, reason FROM skipped ORDER BY rowid")]

    def document(self, document_id: str) -> DocumentRow | None:
        """Return the document ``document_id``, if there is one."""
        query = "SELECT id, path, title, hash FROM documents WHERE id = ?"
        row = self._connection.execute(query, (document_id,)).fetchone()
        return DocumentRow(*row) if row else None

    def document_ids(self, path: str) -> list[str]:
        """Return the ids of the documents of the file ``path``."""
        return [row[0] for row in self._connection.execute("SELECT id FROM documents WHERE path = ?", (path,))]

    def documents_of(self, path: str) -> list[DocumentRow]:
        """Return the documents of the file ``path``."""
        query = "SELECT id, path, title, hash FROM documents WHERE path = ?"
        return [DocumentRow(*row) for row in self._connection.execute(query, (path,))]

    def has_skipped(self, relative: str) -> bool:
        """Whether something was left out of the file ``relative``."""
        query = "SELECT EXISTS (SELECT 1 FROM skipped WHERE file = ?)"
        return bool(self._connection.execute(query, (relative,)).fetchone()[0])

    def move_files(self, moves: Mapping[str, str]) -> None:
        """Give the documents of files their new paths, old → new, as if all files were renamed at once.

        A document whose id is its file's path gets another id, and so do its passages, which keep their
        numbers. What else was known of the old and the new paths is forgotten.
        """
        run = self._connection.execute
        taken = [(path, run("SELECT * FROM documents WHERE path = ?", (path,)).fetchall()) for path in moves]
        # Only a whole file's document has the path for its id.
        whole = [path for path, documents in taken if any(row[0] == path for row in documents)]
        passages = {path: self._lift_passages(path) for path in whole}
        for path in moves:
            run("DELETE FROM documents WHERE path = ?", (path,))
        for path in {*moves, *moves.values()}:
            for document_id in self.document_ids(path):
                self.remove_document(document_id)
            self.forget_file(path)
        for old, documents in taken:
            for id, _, *rest in documents:
                row = (moves[old] if id == old else id, moves[old], *rest)
                run(f"INSERT INTO documents VALUES ({','.join('?' * len(row))})", row)
            self._lower_passages(moves[old], passages.get(old, ()))

    def _lift_passages(self, document_id: str) -> list[tuple[int, str, str]]:
        """Take the passages from their document, and their ids; return number, heading (JSON) and text of each."""
        query = "SELECT number, heading, text FROM passages WHERE document_id = ? ORDER BY position"
        rows = self._connection.execute(query, (document_id,)).fetchall()
        self._connection.execute(
            "UPDATE passages SET id = 'moving ' || number, document_id = '' WHERE document_id = ?", (document_id,)
        )
        return rows

    def _lower_passages(self, document_id: str, passages: Sequence[tuple[int, str, str]]) -> None:
        seen: Counter[tuple[str, str]] = Counter()
        for number, heading, text in passages:
            occurrence = seen[heading, text]
            seen[heading, text] += 1
            id = passage_id(document_id, json.loads(heading), text, occurrence)
            self._connection.execute(
                "UPDATE passages SET id = ?, document_id = ? WHERE number = ?", (id, document_id, number)
            )

    def put_document(self, document: Document) -> None:
        """Add or replace a document."""
        pages = json.dumps(document.pages) if document.pages else None
        values = (document.id, document.path, document.title, document.content_hash, pages)
        self._connection.execute("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?)", values)

    def remove_document(self, document_id: str) -> None:
        """Remove a document and its passages."""
        self._connection.execute("DELETE FROM passages WHERE document_id = ?", (document_id,))
        self._connection.execute("DELETE FROM documents WHERE id = ?", (document_id,))

    def put_passages(self, document_id: str, passages: Sequence[Passage]) -> None:
        """Make ``passages`` those of the document.

        One that has the id and the embedded text of before keeps its number, and what others call it; another of the
        same id is given a new one.
        """
        rows = self._connection.execute("SELECT id, number, hash FROM passages WHERE document_id = ?", (document_id,))
        before = {row[0]: (row[1], row[2]) for row in rows}
        kept: list[tuple[object, ...]] = []
        added: list[tuple[object, ...]] = []
        for position, (passage, item) in enumerate(zip(passages, referring(passages), strict=True)):
            digest = text_hash(passage.embedded_text)
            number, old_digest = before.get(passage.id, (None, ""))
            shared = (
                position,
                json.dumps(passage.heading, ensure_ascii=False),
                passage.title,
                passage.text,
                passage.first_line,
                passage.last_line,
                None if passage.context is None else json.dumps(passage.context, ensure_ascii=False),
                item.code or None,
                json.dumps(item.terms, ensure_ascii=False) if item.terms else None,
            )
            if digest == old_digest:
                kept.append((*shared, number))
                del before[passage.id]
            else:
                added.append((passage.id, document_id, *shared, digest))
        gone = ((number,) for number, _ in before.values())
        self._connection.executemany("DELETE FROM passages WHERE number = ?", gone)
        self._connection.executemany(
            "UPDATE passages SET position = ?, heading = ?, title = ?, text = ?, first_line = ?, last_line = ?,"
            " context = ?, code = ?, terms = ? WHERE number = ?",
            kept,
        )
        self._connection.executemany(
            "INSERT INTO passages"
            " (id, document_id, position, heading, title, text, first_line, last_line, context, code, terms, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            added,
        )

    def name_passages(self) -> None:
        """Bring up to date what passages call each other; one that is now called something else gets a new number."""
        query = "SELECT number, document_id, heading, code, terms FROM passages WHERE code NOTNULL OR terms NOTNULL"
        found = (
            (number, Referring((document_id, tuple(json.loads(heading))), code or "", json.loads(terms or "[]")))
            for number, document_id, heading, code, terms in self._connection.execute(query)
        )
        names = called(found)
        before = self._connection.execute("SELECT number FROM passages WHERE called NOTNULL")
        changed = []
        for row in self.rows(sorted({*names, *(number for (number,) in before)})):
            passage = named(row.passage, names.get(row.number, ()))
            if passage.called != row.passage.called:
                said = json.dumps(passage.called, ensure_ascii=False) if passage.called else None
                changed.append((said, row.number))
        # A row's own columns, in their order, but for its number and its names.
        kept = "id, document_id, position, heading, title, text, first_line, last_line, context, hash, code, terms"
        for said, number in changed:
            row = self._connection.execute(f"SELECT {kept} FROM passages WHERE number = ?", (number,)).fetchone()
            self._connection.execute("DELETE FROM passages WHERE number = ?", (number,))
            self._connection.execute(
                f"INSERT INTO passages ({kept}, called) VALUES ({','.join('?' * len(row))}, ?)", (*row, said)
            )

    def compare(self, before: Path) -> tuple[int, int, int, int]:
        """Return how many documents were added, updated, removed and left as in the catalogue ``before``."""
        both = "FROM documents JOIN before.documents AS old USING (id) WHERE documents.hash"
        with self._beside(before):
            counts = self._connection.execute(
                "SELECT (SELECT count(*) FROM documents WHERE id NOT IN (SELECT id FROM before.documents)),"
                f" (SELECT count(*) {both} <> old.hash),"
                " (SELECT count(*) FROM before.documents WHERE id NOT IN (SELECT id FROM documents)),"
                f" (SELECT count(*) {both} = old.hash)"
            ).fetchone()
        added, updated, removed, unchanged = counts
        return added, updated, removed, unchanged

    def restated(self, before: Path) -> NDArray[np.int64]:
        """Return the numbers of passages of which something but their words was another in the catalogue ``before``."""
        import numpy as np

        old = SELECT_PASSAGES.replace(" passages ", " before.passages AS passages ")
        old = old.replace(" JOIN documents ", " JOIN before.documents AS documents ")
        known = "WHERE passages.number IN (SELECT number FROM before.passages)"
        with self._beside(before):
            rows = self._connection.execute(f"{SELECT_PASSAGES} {known} EXCEPT {old} ORDER BY 1").fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64)

    @contextmanager
    def _beside(self, before: Path) -> Iterator[None]:
        """Have the catalogue ``before`` at hand under that name; SQLite attaches none within a transaction."""
        self._connection.execute("COMMIT")
        self._connection.execute("ATTACH ? AS before", (str(before),))
        yield
        self._connection.execute("DETACH before")
        self._connection.execute("BEGIN")

    def rows(self, numbers: Sequence[int]) -> list[PassageRow]:
        """Return the passages ``numbers``, in that order."""
        found: dict[int, PassageRow] = {}
        for some in portions(numbers):
            marks = ",".join("?" * len(some))
            for row in self._connection.execute(f"{SELECT_PASSAGES} WHERE passages.number IN ({marks})", some):
                found[row[0]] = passage_row(row)
        return [found[number] for number in numbers]

    def counts(self) -> tuple[int, int]:
        """Return how many documents and passages there are."""
        row = self._connection.execute("SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages)")
        documents, passages = row.fetchone()
        return documents, passages

    def numbers(self) -> NDArray[np.int64]:
        """Return the numbers of all passages, rising."""
        import numpy as np

        rows = self._connection.execute("SELECT number FROM passages ORDER BY number")
        return np.fromiter((row[0] for row in rows), dtype=np.int64)

    def texts(self, numbers: Iterable[int]) -> list[str]:
        """Return what is embedded of the passages ``numbers``, in that order."""
        return [row.passage.embedded_text for row in self.rows([int(number) for number in numbers])]
