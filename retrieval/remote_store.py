"""The index in a vector database that may be far away: any number of readers, one writer, switches without copies.

Everything that one embedder made of passages cut one way is one collection, a *build*. Its rows say with which
generation they came (``born``) and with which they went (``died``), so generation g is the rows with
``born <= g < died``: a run writes what changed and nothing else. What is live is told by two pointers, each changed at
once: an alias, the corpus's CURRENT, names the build, and a row of the build itself, its record, the generation.
The next generation's rows may be there already, or be left of a writer that was killed: no reader sees them.

The passages' catalogue and the vectors' cache stay in the workspace of the machine that indexes; readers need
neither.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from retrieval.catalog import CatalogReader, PassageRow
from retrieval.databases import Database, Row, from_payload
from retrieval.errors import GenerationGone, IndexingError, NewerFormat, StoreError
from retrieval.generation import Generation, refuse_to_switch, switch
from retrieval.lexical import MAX_QUERY_CHARS, MAX_QUERY_TERMS
from retrieval.stages import stage
from retrieval.stores import Draft, Facts, Ranking, Written
from retrieval.tokens import query_terms, tokenize
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from retrieval.late_interaction import Codes

__all__ = ["RemoteStore"]

log = logging.getLogger(__name__)

FORMAT = 1
"""The version of everything in a build; one of another version is left alone, or built anew beside it."""
# What is sent at once: so many numbers of vectors, which are some twenty characters each on the way to Qdrant, which
# takes 32 MB; and no more passages than so many.
_NUMBERS, _BLOCK = 400_000, 512
# So many passages tell how long passages are, wherever they stand.
_LENGTH_SAMPLE = 20_000


class RemoteStore:
    """See `retrieval.stores.Store`."""

    def __init__(self, workspace: Workspace, corpus: str, database: Database) -> None:
        self._corpus = corpus
        self._index_dir = workspace.index_dir(corpus)
        self._database = database
        self._poll = workspace.store.poll_seconds
        self._whose = f"{workspace.store.name}/{corpus}"
        # Milvus takes letters, digits and _ only; doubling _ keeps a-b and a_b apart, and name and corpus.
        self._alias = self._whose.replace("_", "__").replace("-", "_").replace("/", "_")
        self._looking = threading.Lock()
        self._looked = float("-inf")
        self._seen: tuple[str, int, str] | None = None

    def live(self) -> str | None:
        """What the live build's record names."""
        seen = self.stamp()
        return seen[2] if seen else None

    def stamp(self) -> tuple[str, int, str] | None:
        """Build, generation and its name, as they were at most ``store.poll_seconds`` ago."""
        if time.monotonic() - self._looked < self._poll:
            return self._seen
        # One asks, and the others go on with what is known; the first of all has them wait.
        if not self._looking.acquire(blocking=self._looked == float("-inf")):
            return self._seen
        try:
            if time.monotonic() - self._looked >= self._poll:
                self._look()
            return self._seen
        finally:
            self._looking.release()

    def _look(self) -> None:
        try:
            build, record = self._live_build()
        except StoreError as error:
            if self._seen is None:
                raise
            log.warning("%s", error)  # a search that needs it will say so
        else:
            self._seen = (build, record["live"], record["name"]) if record else None
        self._looked = time.monotonic()

    def _live_build(self) -> tuple[str, dict[str, Any] | None]:
        build = self._database.resolve(self._alias)
        record = self._database.record(build) if build else None
        if record and record["format"] > FORMAT:
            raise NewerFormat(
                f"a later version of Shoptalk wrote the index of corpus {self._corpus!r} in {self._database.where}; "
                "update Shoptalk"
            )
        # Names that collide all the same are told apart here.
        if record and (whose := record.get("whose", self._whose)) != self._whose:
            raise StoreError(
                f"{self._alias} in {self._database.where} is the index of {whose}, not of {self._whose}; "
                "give this workspace another store.name, or its corpus another name"
            )
        known = record is not None and record["format"] == FORMAT and record["live"] > 0
        return build or "", record if known else None

    def open(self) -> _RemoteGeneration:
        """Costs two small questions."""
        build, record = self._live_build()
        if record is None:
            raise IndexingError(
                f"corpus {self._corpus!r} has no index in {self._database.where} yet; run `shoptalk index`"
            )
        facts = Facts(**{field.name: record[field.name] for field in fields(Facts)})
        return _RemoteGeneration(self._database, build, record["live"], facts)

    def check(self) -> None:
        """See whether the live build, if there is one, can hold what its record says.

        Raises:
            StoreError: the database does not answer, or the build's vectors are of another length.
        """
        build, record = self._live_build()
        if record and (length := self._database.dimension(build)) != record["dimension"]:
            raise StoreError(
                f"{build} in {self._database.where} has vectors of {length} numbers, and its record says "
                f"{record['dimension']}; build it anew with `shoptalk index --full`"
            )

    def can_grow(self, base: Generation) -> bool:
        """Whether the build's record says what the workspace says, and so nobody else wrote since."""
        facts = base.manifest.vectors
        if facts.get("kind") != self._database.kind:
            return False
        build, record = self._live_build()
        return record is not None and (build, record["live"]) == (facts["build"], facts["generation"])

    def write(self, draft: Draft) -> Written:
        """Grow the live build by what changed, or begin another."""
        import numpy as np

        self._drop_all_but_the_live()
        base, numbers, made_by = draft.base, draft.catalog.numbers(), draft.made_by
        gone = restated = np.empty(0, dtype=np.int64)
        new, live = numbers, 0
        if base:
            build, live = str(base.manifest.vectors["build"]), int(base.manifest.vectors["generation"])
            average_length = float(base.manifest.vectors["average_length"])
            record = self._database.record(build)
            self._database.undo(build, live)
            with closing(CatalogReader(base.catalog_file)) as catalog:
                known = catalog.numbers_under("")
            gone, new = np.setdiff1d(known, numbers), np.setdiff1d(numbers, known)
            restated = draft.catalog.restated(base.catalog_file)
        else:
            build = f"{self._alias}_{uuid.uuid4().hex[:12]}"
            self._database.create(build, made_by.dimension)
            average_length, record = self._average_length(draft, numbers), None
        # Whoever writes to the build later puts another mark there, and what is written here cannot go live then.
        mark = uuid.uuid4().hex
        record = {**(record or {"format": FORMAT, "live": 0}), "whose": self._whose, "mark": mark}
        self._database.put_record(build, made_by.dimension, record)
        for some, vectors in draft.encode(new):
            block = max(1, min(_BLOCK, _NUMBERS // made_by.dimension))
            for start in range(0, len(some), block):
                draft.check_stop()
                end = start + block
                rows = self._rows(draft, some[start:end].tolist(), vectors[start:end])
                self._database.put(build, rows, live + 1, average_length)
        for start in range(0, len(restated), _BLOCK):
            draft.check_stop()
            self._database.restate(build, draft.catalog.rows(restated[start : start + _BLOCK].tolist()))
        self._database.bury(build, gone.tolist(), live + 1)
        there = self._database.count(build, live + 1)
        if there != len(numbers):
            raise StoreError(
                f"{self._database.where} holds {there} of {len(numbers)} passages that were written to it; "
                "is another machine indexing this corpus? run `shoptalk index --full`"
            )
        return Written(
            {
                "kind": self._database.kind,
                "build": build,
                "generation": live + 1,
                "average_length": average_length,
                "mark": mark,
            }
        )

    def switch(self, generation: Generation) -> None:
        """Write the record, have the alias name the build, and then say so in the workspace."""
        refuse_to_switch(self._index_dir, generation)
        facts, database = generation.manifest.vectors, self._database
        build, live = str(facts["build"]), int(facts["generation"])
        record = database.record(build)
        if record is None or record["mark"] != facts["mark"]:
            raise IndexingError(
                f"{generation.name} is not put live: its rows in {database.where} were thrown away or changed since; "
                "run `shoptalk index`"
            )
        told = {**record, **asdict(Facts.of(generation.name, generation.manifest)), "live": live}
        database.put_record(build, generation.manifest.dimension, told)
        if database.resolve(self._alias) != build:
            database.direct(self._alias, build)
        switch(self._index_dir, generation)
        # Readers of the generation before need what went with this one.
        database.sweep(build, live - 1)

    def _rows(self, draft: Draft, numbers: list[int], vectors: NDArray[np.float32]) -> list[Row]:
        language = draft.made_by.language
        return [
            Row(row, tokenize(row.passage.embedded_text, language), vector)
            for row, vector in zip(draft.catalog.rows(numbers), vectors.tolist(), strict=True)
        ]

    def _average_length(self, draft: Draft, numbers: NDArray[np.int64]) -> float:
        """How many tokens a passage has, for BM25; it stays the build's for as long as that lives."""
        sample = numbers[:: max(1, -(-len(numbers) // _LENGTH_SAMPLE))]
        lengths = [len(tokenize(text, draft.made_by.language)) for text in draft.catalog.texts(sample)]
        return max(1.0, sum(lengths) / max(1, len(lengths)))

    def _drop_all_but_the_live(self) -> None:
        """Throw away what writers that were killed left, and the build of before the live one."""
        live, _ = self._live_build()
        for name in self._database.collections(f"{self._alias}_"):
            # Another corpus's name may begin like this one's.
            if name != live and len(name) == len(self._alias) + 13:
                self._database.drop(name)


class _RemoteGeneration:
    """Nothing is held: rows of a generation are swept two switches later, and then it is gone."""

    def __init__(self, database: Database, build: str, live: int, facts: Facts) -> None:
        self.facts = facts
        self._database, self._build, self._live = database, build, live

    def rank(
        self, query: str, vector: NDArray[np.float32] | None, limit: int, prefix: str = ""
    ) -> tuple[Ranking, Ranking]:
        if vector is not None and vector.shape != (self.facts.dimension,):
            raise IndexingError(
                f"a query vector of shape {vector.shape} does not fit an index of {self.facts.dimension} numbers"
            )
        terms = dict(list(query_terms(query[:MAX_QUERY_CHARS], self.facts.language).items())[:MAX_QUERY_TERMS])
        with stage("store"):
            asked = None if vector is None else vector.tolist()
            return self._database.rank(self._build, self._live, asked, terms, limit, prefix)

    def tokens(self, numbers: Sequence[int]) -> None:
        """A database holds none."""

    def names(self, numbers: Sequence[int]) -> dict[int, Codes]:
        """A database holds none."""
        return {}

    def passages(self, numbers: Sequence[int]) -> dict[int, PassageRow]:
        found = self._database.fetch(self._build, list(numbers)) if numbers else {}
        if missing := [number for number in numbers if number not in found]:
            raise GenerationGone(f"passage {missing[0]} is gone from {self._build}: search again")
        return {number: from_payload(values) for number, values in found.items()}

    def neighbours(self, row: PassageRow, reach: int) -> list[PassageRow]:
        first, last = row.position - reach, row.position + reach
        found = self._database.document(self._build, self._live, row.passage.document_id, first, last)
        return [from_payload(values) for values in found]

    def document(self, document_id: str, limit: int) -> list[PassageRow]:
        found = self._database.document(self._build, self._live, document_id, 0, limit - 1)
        return [from_payload(values) for values in found]

    def document_ids(self, prefix: str, limit: int) -> list[str]:
        return self._database.document_ids(self._build, self._live, prefix, limit)
