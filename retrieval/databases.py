"""What an index asks of a vector database, and how a passage is told to one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from retrieval.catalog import PassageRow
from retrieval.passages import Passage
from retrieval.stores import Ranking
from retrieval.workspace import StoreSettings, Workspace

__all__ = [
    "ALIVE",
    "BM25_B",
    "BM25_K1",
    "KEY_VARIABLE",
    "RECORD",
    "Database",
    "Row",
    "database",
    "from_payload",
    "payload",
]

KEY_VARIABLE = "SHOPTALK_STORE_KEY"
ALIVE = 2**53 - 1
"""``died`` of a row that is still there; the largest integer that every JSON reader keeps."""
BM25_K1, BM25_B = 1.2, 0.75
"""tantivy's, so that scores mean the same in all stores."""
RECORD = 0
"""The number of the row that is no passage but its collection's record; passages count from 1."""


@dataclass(frozen=True, slots=True)
class Row:
    """A passage as a build holds it. ``tokens``: of what is embedded; ``vector``: (dimension,), of length 1."""

    passage: PassageRow
    tokens: Sequence[str]
    vector: Sequence[float]


class Database(Protocol):
    """What is asked of a vector database. Every method raises StoreError where it does not do what it is told.

    A collection's rows are there for whoever asks once the method that wrote them has returned.
    """

    kind: str
    where: str
    """Its address, as messages tell it."""

    def version(self) -> tuple[str, str]:
        """Return the server's version, and "" or why it is too old."""

    def resolve(self, alias: str) -> str | None:
        """Return the collection that ``alias`` names, if there is one."""

    def direct(self, alias: str, collection: str) -> None:
        """Have ``alias`` name ``collection`` from now on, at once."""

    def collections(self, prefix: str) -> list[str]:
        """Return the collections whose names begin with ``prefix``."""

    def create(self, collection: str, dimension: int) -> None:
        """Make an empty collection."""

    def drop(self, collection: str) -> None:
        """Throw a collection away, if it is there."""

    def dimension(self, collection: str) -> int:
        """Return how many numbers its vectors have."""

    def record(self, collection: str) -> dict[str, Any] | None:
        """Return the row `RECORD` as it was last written; None where there is none, or no collection."""

    def put_record(self, collection: str, dimension: int, record: Mapping[str, Any]) -> None:
        """Write the row `RECORD`, as a whole."""

    def put(self, collection: str, rows: Sequence[Row], born: int, average_length: float) -> None:
        """Write rows, alive from generation ``born`` on; ``average_length`` is that of all rows, in tokens."""

    def restate(self, collection: str, passages: Sequence[PassageRow]) -> None:
        """Write anew what rows say of their passages' places; words and vectors stay."""

    def bury(self, collection: str, numbers: Sequence[int], died: int) -> None:
        """Have rows be gone from generation ``died`` on."""

    def undo(self, collection: str, live: int) -> None:
        """Take back what was put and buried for a generation after ``live``."""

    def sweep(self, collection: str, died: int) -> None:
        """Delete the rows that were gone by generation ``died``."""

    def count(self, collection: str, live: int) -> int:
        """Return how many passages generation ``live`` has."""

    def rank(
        self,
        collection: str,
        live: int,
        vector: Sequence[float] | None,
        terms: Mapping[str, float],
        limit: int,
        prefix: str,
    ) -> tuple[Ranking, Ranking]:
        """Return the best by cosine and the best by BM25 with `BM25_K1` and `BM25_B`, in one question where it can."""

    def fetch(self, collection: str, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        """Return the payloads of those of ``numbers`` that are there."""

    def document(self, collection: str, live: int, document_id: str, first: int, last: int) -> list[dict[str, Any]]:
        """Return the payloads of a document's passages by position, from ``first`` to ``last``, in order."""

    def document_ids(self, collection: str, live: int, prefix: str, limit: int) -> list[str]:
        """Return the first ``limit`` ids that start with ``prefix``, of as many documents as one answer can hold."""


def database(workspace: Workspace) -> Database:
    """Return the database that ``[store]`` names; one for all who ask in this process, connected at its first use.

    Raises:
        SettingsError: its client library is not installed.
    """
    settings = workspace.store
    url = settings.url
    if url.startswith("file:"):
        url = f"file:{(workspace.root / url.removeprefix('file:').removeprefix('//')).resolve()}"
    return _database(settings.model_copy(update={"url": url}), os.environ.get(KEY_VARIABLE, ""))


@lru_cache(maxsize=8)
def _database(settings: StoreSettings, key: str) -> Database:
    if settings.kind == "qdrant":
        from retrieval.qdrant_store import QdrantDatabase

        return QdrantDatabase(settings, key)
    from retrieval.milvus_store import MilvusDatabase

    return MilvusDatabase(settings, key)


def payload(row: PassageRow) -> dict[str, Any]:
    """What a build keeps of a passage beside its words and vector."""
    passage = row.passage
    return {
        "number": row.number,
        "id": passage.id,
        "document_id": passage.document_id,
        "title": passage.title,
        "heading": list(passage.heading),
        "text": passage.text,
        "first_line": passage.first_line,
        "last_line": passage.last_line,
        "context": None if passage.context is None else list(passage.context),
        "called": list(passage.called),
        "path": row.path,
        "position": row.position,
        "first_page": row.first_page,
        "last_page": row.last_page,
    }


def from_payload(values: Mapping[str, Any]) -> PassageRow:
    """Make what `payload` made a passage again."""
    context = values.get("context")  # some databases forget what is None
    passage = Passage(
        id=values["id"],
        document_id=values["document_id"],
        title=values["title"],
        heading=tuple(values["heading"]),
        text=values["text"],
        first_line=values["first_line"],
        last_line=values["last_line"],
        context=None if context is None else tuple(context),
        called=tuple(values.get("called") or ()),
    )
    places = (values["path"], values["position"], values.get("first_page"), values.get("last_page"))
    return PassageRow(values["number"], passage, *places)
