"""Vectors kept by text and model: what was encoded once for a corpus is not encoded again."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from retrieval.console import Progress, silent
from retrieval.embedders import Embedder, compares_tokens, encode_documents
from retrieval.errors import IndexingError
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "ENCODE_BATCH",
    "EmbeddingCache",
    "encode_cached",
    "encode_missing",
    "encoding_order",
    "open_cache",
    "portions",
    "prune_caches",
    "text_hash",
]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

ENCODE_BATCH = 256
OTHER_CACHES = 4
"""How many caches of models that made no generation on disk are kept, by when they were last of use."""
UNEVEN = 1e-3
"""So far from 1 is the length of no vector that was kept."""
_NAMED_BY = 16  # digits of the fingerprint
_VARIABLES = 900  # fewer than any SQLite allows in one statement


def text_hash(text: str) -> str:
    """Return the sha256 of what is embedded, as hexadecimal digits."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class EmbeddingCache:
    """Vectors by the hash of the text they embed, for one embedder; survives kills and full rebuilds.

    It is a cache: a file that is damaged is thrown away.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._bytes = 4 * dimension
        self._code_bytes = -(-dimension // 8)
        try:
            self._connection = self._connect(path)
        except sqlite3.DatabaseError as error:
            self._connection = self._anew(error)

    def _anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Throw a damaged file away and begin another; a locked or unreadable one is not damaged."""
        if isinstance(error, sqlite3.OperationalError):
            raise IndexingError(
                f"{self._path} cannot be used ({error}); is it read-only, its disk full, or another process writing it?"
            ) from error
        log.warning("%s is damaged (%s); its vectors are encoded again", self._path, error)
        _remove(self._path)
        return self._connect(self._path)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (hash BLOB PRIMARY KEY, vector BLOB NOT NULL)")
            connection.execute("CREATE TABLE IF NOT EXISTS tokens (hash BLOB PRIMARY KEY, codes BLOB NOT NULL)")
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def __enter__(self) -> EmbeddingCache:
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, hashes: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors there are for ``hashes``; one that the disk has changed since does not count."""
        import numpy as np

        rows = self._rows("SELECT hash, vector FROM vectors", hashes)
        found = {digest: np.frombuffer(vector, dtype="<f4") for digest, vector in rows if len(vector) == self._bytes}
        if not found:
            return found
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.linalg.norm(np.stack([*found.values()]), axis=1)
        # Of a text without a known word the length is 0. NaN is near to nothing.
        whole = np.isclose(lengths, 1, atol=UNEVEN) | (lengths == 0)
        return {digest: vector for (digest, vector), kept in zip(found.items(), whole, strict=True) if kept}

    def find_tokens(self, hashes: Collection[str]) -> dict[str, NDArray[np.uint8]]:
        """Return the codes of tokens there are for ``hashes``, each an array (tokens, bytes)."""
        import numpy as np

        rows = self._rows("SELECT hash, codes FROM tokens", hashes)
        return {digest: np.frombuffer(codes, np.uint8).reshape(-1, self._code_bytes) for digest, codes in rows}

    def known(self, hashes: Collection[str], tokens: bool) -> set[str]:
        """Those of ``hashes`` that need not be encoded: their vectors are there and, if ``tokens``, codes of tokens."""
        known = {digest for digest, _ in self._rows("SELECT hash, 0 FROM vectors", hashes)}
        return known & {digest for digest, _ in self._rows("SELECT hash, 0 FROM tokens", known)} if tokens else known

    def _rows(self, select: str, hashes: Collection[str]) -> list[tuple[str, Any]]:
        """What ``select`` finds of ``hashes``, by hash; nothing where the file proves to be damaged."""
        found = []
        try:
            for some in portions(hashes):
                query = f"{select} WHERE hash IN ({','.join('?' * len(some))})"
                rows = self._connection.execute(query, [bytes.fromhex(item) for item in some])
                found += [(digest.hex(), value) for digest, value in rows]
        except sqlite3.DatabaseError as error:
            self._connection.close()
            self._connection = self._anew(error)
            return []
        return found

    def keep(
        self, vectors: Mapping[str, NDArray[np.float32]], tokens: Mapping[str, NDArray[np.uint8]] | None = None
    ) -> None:
        """Store vectors by hash, and the codes of tokens; they outlive a kill when this returns."""
        rows = [(bytes.fromhex(digest), vector.astype("<f4").tobytes()) for digest, vector in vectors.items()]
        codes = [(bytes.fromhex(digest), some.tobytes()) for digest, some in (tokens or {}).items()]
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        self._connection.executemany("INSERT OR REPLACE INTO tokens VALUES (?, ?)", codes)
        self._connection.execute("COMMIT")


def encode_cached(
    workspace: Workspace, corpus: str, embedder: Embedder, texts: Sequence[str], progress: Progress = silent
) -> NDArray[np.float32]:
    """Return the vectors of ``texts`` (len(texts), dimension), encoding only what the corpus's cache lacks.

    What is encoded is kept as it goes, so an interrupted run goes on where it stopped; with it the codes of tokens,
    where searches compare them.
    """
    tokens = compares_tokens(embedder, workspace)
    with open_cache(workspace, corpus, embedder) as cache:
        return encode_missing(cache, embedder, texts, lambda done: progress("encoding", done, len(texts)), tokens)[0]


def open_cache(workspace: Workspace, corpus: str, embedder: Embedder) -> EmbeddingCache:
    """Open the cache of a corpus for one embedder."""
    path = _folder(workspace, corpus) / f"{embedder.fingerprint[:_NAMED_BY]}.sqlite"
    cache = EmbeddingCache(path, embedder.dimension)
    os.utime(path)  # when it was last of use; see prune_caches
    return cache


def prune_caches(workspace: Workspace, corpus: str, fingerprints: Collection[str]) -> list[Path]:
    """Delete the caches that ``corpus`` can do without, and return them.

    Kept are those of ``fingerprints``, and of the others the few that were of use last: a tuning
    run has some, and whoever promotes or rolls back finds the vectors there.
    """
    kept = {fingerprint[:_NAMED_BY] for fingerprint in fingerprints}
    others = [path for path in _folder(workspace, corpus).glob("*.sqlite") if path.stem not in kept]
    others.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in others[OTHER_CACHES:]:
        _remove(path)
    return others[OTHER_CACHES:]


def _folder(workspace: Workspace, corpus: str) -> Path:
    return workspace.index_dir(corpus) / "embeddings"


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def encode_missing(
    cache: EmbeddingCache,
    embedder: Embedder,
    texts: Sequence[str],
    report: Callable[[int], None],
    tokens: bool = False,
) -> tuple[NDArray[np.float32], int]:
    """Return the vectors of ``texts``, and how many were not in ``cache`` and had to be encoded.

    ``report`` hears how many texts are done after each batch, which is then kept; it may raise to stop. With
    ``tokens`` the codes of all texts' tokens are in the cache afterwards too.
    """
    import numpy as np

    digests = [text_hash(text) for text in texts]
    found = cache.find(set(digests))
    known = cache.known(found.keys(), tokens) if tokens else found.keys()
    missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in known}
    pending = encoding_order(missing)
    report(len(texts) - len(pending))
    for start in range(0, len(pending), ENCODE_BATCH):
        some = pending[start : start + ENCODE_BATCH]
        found |= _encode(cache, embedder, {digest: missing[digest] for digest in some}, tokens)
        report(len(texts) - len(pending) + start + len(some))
    vectors = np.empty((len(texts), embedder.dimension), dtype=np.float32)
    for row, digest in enumerate(digests):
        vectors[row] = found[digest]
    return vectors, len(missing)


def _encode(
    cache: EmbeddingCache, embedder: Embedder, texts: Mapping[str, str], tokens: bool
) -> dict[str, NDArray[np.float32]]:
    """Encode ``texts``, by hash, and keep what comes out."""
    vectors, codes = encode_documents(embedder, list(texts.values()), tokens)
    fresh = dict(zip(texts, vectors, strict=True))
    cache.keep(fresh, None if codes is None else dict(zip(texts, codes, strict=True)))
    return fresh


def encoding_order(texts: Mapping[str, str]) -> list[str]:
    """Return the hashes of ``texts`` as these are to be encoded, ``ENCODE_BATCH`` at a time.

    Longest first, so that batches are of alike lengths and the time left is not underestimated. It depends on nothing
    but the texts: the last bits of a vector are those of the batch that it was encoded in.
    """
    return sorted(texts, key=lambda digest: (-len(texts[digest]), digest))


def portions(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield ``items`` in lists short enough for one SQL statement's variables."""
    everything = list(items)
    for start in range(0, len(everything), _VARIABLES):
        yield everything[start : start + _VARIABLES]
