"""Qdrant as the database of an index: a dense and a sparse vector a point (Qdrant 1.12 or later).

The sparse vector holds the BM25 weight of each word of ours in the passage, without its rarity, which the server
counts (modifier IDF); so the scores are tantivy's.
"""

from __future__ import annotations

import atexit
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from hashlib import blake2b
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from typing_extensions import override

from retrieval.catalog import PassageRow
from retrieval.databases import ALIVE, BM25_B, BM25_K1, KEY_VARIABLE, RECORD, Database, Row, payload
from retrieval.errors import GenerationGone, SettingsError, StoreError, first_line
from retrieval.stores import Ranking
from retrieval.workspace import StoreSettings

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

__all__ = ["QdrantDatabase"]

DENSE, WORDS = "dense", "words"
OLDEST = (1, 12)
_PAGE = 4_096
_MOST_IDS = 10_000
_KINDS = {"born": "INTEGER", "died": "INTEGER", "position": "INTEGER", "document_id": "KEYWORD", "under": "KEYWORD"}


class QdrantDatabase(Database):
    """See `retrieval.databases.Database`."""

    kind = "qdrant"

    def __init__(self, settings: StoreSettings, key: str) -> None:
        try:
            import qdrant_client
        except ImportError:
            raise SettingsError(
                "store.kind = qdrant needs Qdrant's client: pip install 'shoptalk[cpu,qdrant]'"
            ) from None
        self._module: ModuleType = qdrant_client
        self._models: Any = qdrant_client.models
        self._settings, self._key = settings, key
        self.where = f"Qdrant at {settings.url}"
        self._embedded = settings.url.startswith("file:")
        # The embedded kind is one thread's.
        self._alone = threading.RLock() if self._embedded else None
        # Which folders and files a prefix means takes a walk over the documents to find out.
        self._under = lru_cache(maxsize=16)(self._find_under)

    @cached_property
    def _client(self) -> QdrantClient:
        settings = self._settings
        if self._embedded:
            client: QdrantClient = self._module.QdrantClient(path=settings.url.removeprefix("file:"))
            # It closes itself later, when what it closes with is gone.
            atexit.register(client.close)
            return client
        parts = urlsplit(settings.url)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a key goes unencrypted is `shoptalk doctor`'s to say
            client = self._module.QdrantClient(
                url=settings.url,
                port=parts.port or (443 if parts.scheme == "https" else 6333),
                api_key=self._key or None,
                timeout=max(1, round(settings.timeout)),
                check_compatibility=False,
            )
        return client

    @contextmanager
    def _asking(self) -> Iterator[QdrantClient]:
        """Yield the client, and say in one line what went wrong with it."""
        from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

        try:
            if self._alone is None:
                yield self._client
            else:
                with self._alone:
                    yield self._client
        except UnexpectedResponse as error:
            if error.status_code in (401, 403):
                raise StoreError(f"{self.where} refuses the key; set {KEY_VARIABLE} to one that may write") from None
            if error.status_code == 404:
                raise GenerationGone(f"{self.where} has thrown away what was asked of it: search again") from None
            reason = " ".join(error.content.decode(errors="replace").split())[:300]
            raise StoreError(f"{self.where} says no (status {error.status_code}): {reason}") from None
        except ResponseHandlingException as error:
            raise StoreError(
                f"{self.where} does not answer ({first_line(error)}); start it, or correct store.url"
            ) from None
        except (ApiException, ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"{self.where} cannot be used: {first_line(error)}") from None

    @override
    def version(self) -> tuple[str, str]:
        if self._embedded:
            with self._asking() as client:
                client.get_collections()
            return "embedded", ""
        with self._asking() as client:
            version = str(client.info().version)
        numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
        return version, "" if numbers >= OLDEST else f"{'.'.join(map(str, OLDEST))} or later is needed"

    @override
    def resolve(self, alias: str) -> str | None:
        with self._asking() as client:
            named = {item.alias_name: item.collection_name for item in client.get_aliases().aliases}
        return named.get(alias)

    @override
    def direct(self, alias: str, collection: str) -> None:
        models = self._models
        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)
        )
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        there = self.resolve(alias) is not None
        with self._asking() as client:  # both in one: no reader finds none
            client.update_collection_aliases([delete, create] if there else [create])

    @override
    def collections(self, prefix: str) -> list[str]:
        with self._asking() as client:
            names = [item.name for item in client.get_collections().collections]
        return [name for name in names if name.startswith(prefix)]

    @override
    def create(self, collection: str, dimension: int) -> None:
        models, settings = self._models, self._settings
        quantization = None
        if settings.quantize:
            scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
            quantization = models.ScalarQuantization(scalar=scalar)
        with self._asking() as client:
            client.create_collection(
                collection,
                vectors_config={
                    DENSE: models.VectorParams(
                        size=dimension, distance=models.Distance.COSINE, on_disk=settings.quantize
                    )
                },
                sparse_vectors_config={WORDS: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                quantization_config=quantization,
                on_disk_payload=True,
                shard_number=settings.shards or None,
                replication_factor=settings.replicas or None,
            )
            if not self._embedded:  # which has none, and warns
                for field, kind in _KINDS.items():
                    schema = getattr(models.PayloadSchemaType, kind)
                    client.create_payload_index(collection, field, field_schema=schema)

    @override
    def drop(self, collection: str) -> None:
        with self._asking() as client:
            client.delete_collection(collection)

    @override
    def dimension(self, collection: str) -> int:
        with self._asking() as client:
            vectors: Any = client.get_collection(collection).config.params.vectors
        return int(vectors[DENSE].size)

    @override
    def record(self, collection: str) -> dict[str, Any] | None:
        try:
            found = self.fetch(collection, [RECORD])
        except GenerationGone:
            return None
        return found[RECORD]["record"] if found else None

    @override
    def put_record(self, collection: str, dimension: int, record: Mapping[str, Any]) -> None:
        # Born never: the filter of every search leaves it out.
        vector = {DENSE: [1.0, *[0.0] * (dimension - 1)]}
        point = self._models.PointStruct(id=RECORD, vector=vector, payload={"record": dict(record)})
        with self._asking() as client:
            client.upsert(collection, [point])

    @override
    def put(self, collection: str, rows: Sequence[Row], born: int, average_length: float) -> None:
        points = [
            self._models.PointStruct(
                id=row.passage.number,
                vector={DENSE: row.vector, WORDS: self._sparse(_weights(row.tokens, average_length))},
                payload={**_payload(row.passage), "born": born, "died": ALIVE},
            )
            for row in rows
        ]
        with self._asking() as client:
            client.upsert(collection, points)

    @override
    def restate(self, collection: str, passages: Sequence[PassageRow]) -> None:
        models = self._models
        operations = [
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload=_payload(passage), points=[passage.number])
            )
            for passage in passages
        ]
        with self._asking() as client:
            client.batch_update_points(collection, operations)

    @override
    def bury(self, collection: str, numbers: Sequence[int], died: int) -> None:
        for start in range(0, len(numbers), _PAGE):
            with self._asking() as client:
                client.set_payload(collection, {"died": died}, points=list(numbers[start : start + _PAGE]))

    @override
    def undo(self, collection: str, live: int) -> None:
        models = self._models
        later = models.Range(gt=live)
        died = [
            models.FieldCondition(key="died", range=later),
            models.FieldCondition(key="died", range=models.Range(lt=ALIVE)),
        ]
        born = models.Filter(must=[models.FieldCondition(key="born", range=later)])
        with self._asking() as client:
            client.delete(collection, models.FilterSelector(filter=born))
            client.set_payload(collection, {"died": ALIVE}, points=models.Filter(must=died))

    @override
    def sweep(self, collection: str, died: int) -> None:
        models = self._models
        gone = models.Filter(must=[models.FieldCondition(key="died", range=models.Range(lte=died))])
        with self._asking() as client:
            client.delete(collection, models.FilterSelector(filter=gone))

    @override
    def count(self, collection: str, live: int) -> int:
        with self._asking() as client:
            return int(client.count(collection, count_filter=self._alive(live), exact=True).count)

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
        models = self._models
        where = self._alive(live)
        if prefix:
            places = self._under(collection, live, prefix)
            if not places:
                return ((), ()), ((), ())
            where.must.append(models.FieldCondition(key="under", match=models.MatchAny(any=list(places))))
        params = None
        if self._settings.quantize and not self._embedded:  # which is exact
            quantized = models.QuantizationSearchParams(rescore=True, oversampling=2.0)
            params = models.SearchParams(quantization=quantized)
        requests = []
        if vector is not None:
            requests.append(
                models.QueryRequest(query=list(vector), using=DENSE, filter=where, limit=limit, params=params)
            )
        if terms:
            requests.append(models.QueryRequest(query=self._sparse(terms), using=WORDS, filter=where, limit=limit))
        if not requests:
            return ((), ()), ((), ())
        with self._asking() as client:
            answers = [_ranking(answer.points) for answer in client.query_batch_points(collection, requests)]
        dense = answers.pop(0) if vector is not None else ((), ())
        return dense, answers.pop() if answers else ((), ())

    @override
    def fetch(self, collection: str, numbers: Sequence[int]) -> dict[int, dict[str, Any]]:
        with self._asking() as client:
            points = client.retrieve(collection, list(numbers), with_payload=True)
        return {int(point.id): point.payload or {} for point in points}

    @override
    def document(self, collection: str, live: int, document_id: str, first: int, last: int) -> list[dict[str, Any]]:
        models = self._models
        where = self._alive(live)
        where.must += [
            models.FieldCondition(key="document_id", match=models.MatchValue(value=document_id)),
            models.FieldCondition(key="position", range=models.Range(gte=first, lte=last)),
        ]
        return sorted(self._scroll(collection, where), key=lambda found: found["position"])

    @override
    def document_ids(self, collection: str, live: int, prefix: str, limit: int) -> list[str]:
        found = self._documents(collection, live, prefix, _MOST_IDS)
        return sorted({item["document_id"] for item in found if item["document_id"].startswith(prefix)})[:limit]

    def _alive(self, live: int) -> Any:
        models = self._models
        return models.Filter(
            must=[
                models.FieldCondition(key="born", range=models.Range(lte=live)),
                models.FieldCondition(key="died", range=models.Range(gt=live)),
            ]
        )

    def _find_under(self, collection: str, live: int, prefix: str) -> tuple[str, ...]:
        """The folders, files and documents that ``prefix`` begins the names of; Qdrant matches whole words only."""
        if prefix.endswith("/"):
            return (prefix,)
        found = self._documents(collection, live, prefix)
        names = {name for item in found for name in (item["path"], item["document_id"]) if name.startswith(prefix)}
        return tuple(sorted(names))

    def _documents(self, collection: str, live: int, prefix: str, most: int | None = None) -> Iterator[dict[str, Any]]:
        """The first passages of the documents in the folder that ``prefix`` begins with."""
        models = self._models
        where = self._alive(live)
        where.must.append(models.FieldCondition(key="position", match=models.MatchValue(value=0)))
        folder = prefix[: prefix.rfind("/") + 1]
        if folder:
            where.must.append(models.FieldCondition(key="under", match=models.MatchValue(value=folder)))
        return self._scroll(collection, where, ["document_id", "path"], most)

    def _scroll(
        self, collection: str, where: Any, fields: list[str] | bool = True, most: int | None = None
    ) -> Iterator[dict[str, Any]]:
        place: Any = None
        done = 0
        while True:
            with self._asking() as client:
                points, place = client.scroll(
                    collection, scroll_filter=where, limit=_PAGE, offset=place, with_payload=fields
                )
            yield from (point.payload or {} for point in points)
            done += len(points)
            if place is None or (most is not None and done >= most):
                return

    def _sparse(self, weights: Mapping[str, float]) -> Any:
        numbers: dict[int, float] = {}
        for term, weight in weights.items():
            number = int.from_bytes(blake2b(term.encode("utf-8", "replace"), digest_size=4).digest())
            numbers[number] = numbers.get(number, 0.0) + weight
        return self._models.SparseVector(indices=list(numbers), values=list(numbers.values()))


def _weights(tokens: Sequence[str], average_length: float) -> dict[str, float]:
    """How much each word counts in a passage: BM25 but for the word's rarity."""
    dampened = BM25_K1 * (1 - BM25_B + BM25_B * len(tokens) / average_length)
    return {term: count * (BM25_K1 + 1) / (count + dampened) for term, count in Counter(tokens).items()}


def _payload(passage: PassageRow) -> dict[str, Any]:
    """Beside what all databases keep: every folder the passage is under, its file and its document."""
    values = payload(passage)
    names = {values["path"], values["document_id"]}
    folders = {name[: place + 1] for name in names for place, letter in enumerate(name) if letter == "/"}
    return {**values, "under": sorted(names | folders)}


def _ranking(points: Sequence[Any]) -> Ranking:
    found = sorted((-float(point.score), int(point.id)) for point in points)
    return [number for _, number in found], [-score for score, _ in found]
