"""Milvus as the database of an index: a dense vector a row, and words that its BM25 function weighs (Milvus 2.6).

What the server gets as text are our own words, each spelt in letters and digits that no analyzer takes apart; so
the scores are those of our tokenizer.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from retrieval.catalog import PassageRow, after
from retrieval.databases import ALIVE, BM25_B, BM25_K1, KEY_VARIABLE, RECORD, Database, Row, payload
from retrieval.errors import GenerationGone, SettingsError, StoreError, first_line
from retrieval.stores import Ranking
from retrieval.tokens import FUNCTION_WORD_WEIGHT
from retrieval.workspace import StoreSettings

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["MilvusDatabase"]

OLDEST = (2, 6)
_MOST_BYTES = 65_535
_NAME_BYTES = 8_192
_PAGE = 4_096
_MOST_IDS = 10_000
_PLAIN = re.compile(r"[a-wyz0-9][a-z0-9]*")
# Milvus keeps the number 2**53 - 1 for whoever is still there, too.
_BURIED = f"died < {ALIVE}"


class MilvusDatabase(Database):
    """See `retrieval.databases.Database`."""

    kind = "milvus"

    def __init__(self, settings: StoreSettings, key: str) -> None:
        self._embedded = settings.url.startswith("file:")
        if self._embedded:  # its server is in this process, and the two complain of each other on stderr
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        try:
            import pymilvus
        except ImportError:
            raise SettingsError(
                "store.kind = milvus needs Milvus's client: pip install 'shoptalk[cpu,milvus]'"
            ) from None
        self._module: Any = pymilvus
        self._settings, self._key = settings, key
        self.where = f"Milvus at {settings.url}"
        self._connecting = threading.Lock()
        self._loaded: set[str] = set()
        # What goes wrong is told by what is raised.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

    @cached_property
    def _connected(self) -> MilvusClient:
        settings = self._settings
        client: MilvusClient = self._module.MilvusClient(
            uri=settings.url.removeprefix("file:"), token=self._key, timeout=settings.timeout
        )
        return client

    @contextmanager
    def _asking(self, collection: str = "") -> Iterator[MilvusClient]:
        """Yield the client, with ``collection`` ready to be searched, and say in one line what went wrong with it."""
        from pymilvus.exceptions import MilvusException

        try:
            with self._connecting:
                client = self._connected
                if collection and self._embedded and collection not in self._loaded:
                    client.load_collection(collection)  # one that an earlier process made; a server sees to it itself
                    self._loaded.add(collection)
            yield client
        except MilvusException as error:
            reason = " ".join(str(error.message).split())[:300]
            if "not found" in reason or "not exist" in reason:
                raise GenerationGone(f"{self.where} has thrown away what was asked of it: search again") from None
            if "auth" in reason.lower() or "permission" in reason.lower():
                raise StoreError(f"{self.where} refuses the key; set {KEY_VARIABLE} to user:password") from None
            if "connect" in reason or "unavailable" in reason.lower():
                raise StoreError(f"{self.where} does not answer ({reason}); start it, or correct store.url") from None
            raise StoreError(f"{self.where} says no: {reason}") from None
        except (ValueError, OSError, RuntimeError) as error:
            raise StoreError(f"{self.where} cannot be used: {first_line(error)}") from None

    @override
    def version(self) -> tuple[str, str]:
        with self._asking() as client:
            version = str(client.get_server_version())
        numbers = re.match(r"v?(\d+)\.(\d+)", version)
        if not numbers or tuple(map(int, numbers.groups())) >= OLDEST:
            return version, ""
        return version, f"{'.'.join(map(str, OLDEST))} or later is needed"

    @override
    def resolve(self, alias: str) -> str | None:
        try:
            with self._asking() as client:
                named: str = client.describe_alias(alias)["collection_name"]
        except GenerationGone:
            return None
        return named

    @override
    def direct(self, alias: str, collection: str) -> None:
        there = self.resolve(alias) is not None
        with self._asking() as client:
            (client.alter_alias if there else client.create_alias)(collection, alias)

    @override
    def collections(self, prefix: str) -> list[str]:
        with self._asking() as client:
            return [name for name in client.list_collections() if name.startswith(prefix)]

    @override
    def create(self, collection: str, dimension: int) -> None:
        milvus, settings = self._module, self._settings
        kinds = milvus.DataType
        schema = milvus.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("number", kinds.INT64, is_primary=True)
        schema.add_field("dense", kinds.FLOAT_VECTOR, dim=dimension)
        schema.add_field(
            "body",
            kinds.VARCHAR,
            max_length=_MOST_BYTES,
            enable_analyzer=True,
            analyzer_params={"tokenizer": "standard"},
        )
        schema.add_field("words", kinds.SPARSE_FLOAT_VECTOR)
        for name in ("born", "died", "position"):
            schema.add_field(name, kinds.INT64)
        for name in ("document_id", "path"):
            schema.add_field(name, kinds.VARCHAR, max_length=_NAME_BYTES)
        schema.add_field("passage", kinds.JSON)
        weigh = milvus.Function(
            name="bm25",
            function_type=milvus.FunctionType.BM25,
            input_field_names=["body"],
            output_field_names=["words"],
        )
        schema.add_function(weigh)
        with self._asking() as client:
            indexes = client.prepare_index_params()
            # An embedded database is small, and searched as a whole.
            kind = "FLAT" if self._embedded else "AUTOINDEX"
            indexes.add_index("dense", index_type=kind, metric_type="COSINE")
            indexes.add_index(
                "words",
                index_type="SPARSE_INVERTED_INDEX",
                metric_type="BM25",
                params={"bm25_k1": BM25_K1, "bm25_b": BM25_B},
            )
            options: dict[str, Any] = {"num_shards": settings.shards} if settings.shards else {}
            client.create_collection(collection, schema=schema, index_params=indexes, **options)
            if settings.replicas > 1:
                client.release_collection(collection)
                client.load_collection(collection, replica_number=settings.replicas)

    @override
    def drop(self, collection: str) -> None:
        with self._asking() as client:
            client.drop_collection(collection)

    @override
    def dimension(self, collection: str) -> int:
        with self._asking() as client:
            schema = client.describe_collection(collection)
        return next(int(field["params"]["dim"]) for field in schema["fields"] if field["name"] == "dense")

    @override
    def record(self, collection: str) -> dict[str, Any] | None:
        try:
            found = self._query(collection, f"number == {RECORD}", ["passage"], limit=1)
        except GenerationGone:
            return None
        return dict(found[0]["passage"]) if found else None

    @override
    def put_record(self, collection: str, dimension: int, record: Mapping[str, Any]) -> None:
        # Born never: the filter of every search leaves it out.
        never = {"born": ALIVE, "died": ALIVE, "position": -1, "document_id": "", "path": "", "body": ""}
        vector = [1.0, *[0.0] * (dimension - 1)]
        with self._asking() as client:
            client.upsert(collection, [{"number": RECORD, "dense": vector, "passage": dict(record), **never}])

    @override
    def put(self, collection: str, rows: Sequence[Row], born: int, average_length: float) -> None:
        values = [
            {
                "dense": row.vector,
                "body": _body(row.tokens),
                "born": born,
                "died": ALIVE,
                **_places(row.passage),
            }
            for row in rows
        ]
        with self._asking() as client:
            client.upsert(collection, values)

    @override
    def restate(self, collection: str, passages: Sequence[PassageRow]) -> None:
        self._change(collection, [_places(passage) for passage in passages])

    @override
    def bury(self, collection: str, numbers: Sequence[int], died: int) -> None:
        self._change(collection, [{"number": number, "died": died} for number in numbers])

    @override
    def undo(self, collection: str, live: int) -> None:
        with self._asking() as client:
            client.delete(collection, filter=f"number != {RECORD} and born > {live}")
        while found := self._query(collection, f"died > {live} and {_BURIED}", ["number"], limit=_PAGE):
            self._change(collection, [{"number": row["number"], "died": ALIVE} for row in found])

    @override
    def sweep(self, collection: str, died: int) -> None:
        with self._asking() as client:
            client.delete(collection, filter=f"died <= {died}")

    @override
    def count(self, collection: str, live: int) -> int:
        found = self._query(collection, _alive(live), ["count(*)"])
        return int(found[0]["count(*)"])

    @override
    def rank(
        self,
        collection: str,
        live: int,
        vector: Sequence[float] | None,
        terms: Mapping[str, float],
        limit: int,
        prefix: str,
    ) -> tuple[Ranking, Ranking]:
        where = _alive(live) + (
            f" and ({_starts('document_id', prefix)} or {_starts('path', prefix)})" if prefix else ""
        )
        dense: Ranking = ((), ())
        lexical: Ranking = ((), ())
        with self._asking(collection) as client:
            if vector is not None:
                found = client.search(collection, [list(vector)], where, limit, anns_field="dense")
                dense = _ranking([(hit["distance"], hit["number"]) for hit in found[0]])
            if terms:
                # A word counts as often as it is written: one of grammar once, a part twice, any other four times.
                words = [
                    _spelt(term)
                    for term, weight in terms.items()
                    for _ in range(max(1, round(weight / FUNCTION_WORD_WEIGHT)))
                ]
                found = client.search(collection, [" ".join(words)], where, limit, anns_field="words")
                # The embedded database gives distances, less for better, where the server gives scores.
                lexical = _ranking([(abs(hit["distance"]) * FUNCTION_WORD_WEIGHT, hit["number"]) for hit in found[0]])
        return dense, lexical

    @override
    def fetch(self, collection: str, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        wanted = ", ".join(map(str, numbers))
        found = self._query(collection, f"number in [{wanted}]", ["number", "passage"])
        return {row["number"]: row["passage"] for row in found}

    @override
    def document(self, collection: str, live: int, document_id: str, first: int, last: int) -> list[dict[str, Any]]:
        where = (
            f"{_alive(live)} and document_id == {_quoted(document_id)} and position >= {first} and position <= {last}"
        )
        rows = [row["passage"] for row in self._query(collection, where, ["passage"], limit=_PAGE)]
        return sorted(rows, key=lambda found: found["position"])

    @override
    def document_ids(self, collection: str, live: int, prefix: str, limit: int) -> list[str]:
        where = f"{_alive(live)} and position == 0 and {_starts('document_id', prefix)}"
        found = self._query(collection, where, ["document_id"], limit=_MOST_IDS)
        return sorted(row["document_id"] for row in found)[:limit]

    def _query(self, collection: str, where: str, fields: list[str], limit: int | None = None) -> list[dict[str, Any]]:
        options = {} if limit is None else {"limit": limit}
        with self._asking(collection) as client:
            rows: list[dict[str, Any]] = client.query(
                collection, filter=where, output_fields=fields, consistency_level="Strong", **options
            )
        return rows

    def _change(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> None:
        for start in range(0, len(rows), _PAGE):
            with self._asking() as client:
                client.upsert(collection, [dict(row) for row in rows[start : start + _PAGE]], partial_update=True)


def _alive(live: int) -> str:
    return f"born <= {live} and died > {live}"


def _places(passage: PassageRow) -> dict[str, Any]:
    values = payload(passage)
    return {**{name: values[name] for name in ("number", "position", "document_id", "path")}, "passage": values}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _starts(field: str, prefix: str) -> str:
    """Whether ``field`` starts with ``prefix``, without a pattern's special signs."""
    end = after(prefix)
    upper = f" and {field} < {_quoted(end)}" if isinstance(end, str) else ""
    return f"({field} >= {_quoted(prefix)}{upper})"


def _body(tokens: Sequence[str]) -> str:
    return " ".join(map(_spelt, tokens)).encode()[:_MOST_BYTES].decode(errors="ignore")


def _spelt(term: str) -> str:
    """``term`` where it is plain letters and digits; else its bytes in such, behind an x, as no plain one begins."""
    return term if _PLAIN.fullmatch(term) else f"x{term.encode('utf-8', 'replace').hex()}"


def _ranking(hits: Sequence[tuple[float, int]]) -> Ranking:
    found = sorted((-score, number) for score, number in hits)
    return [number for _, number in found], [-score for score, _ in found]
