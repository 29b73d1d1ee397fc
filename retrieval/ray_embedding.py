"""Documents → passages → vectors by the nodes of a Ray cluster.

Ray only fills the corpus's embedding cache: `indexing.build_index`, which follows, finds each text there, and so one
path makes every generation. Meanwhile, in ``indexes/<corpus>/ray/``, which all nodes must see::

    passages/KEY.parquet      what some files give to be embedded; KEY: these files as they are, cut as it is cut now
    KEY/00000.parquet         up to 16,384 texts that no cache has, longest first, a row group a batch
    KEY/00000-0008.parquet    the vectors of its row groups from the 8th on, and the codes of their tokens where
                              searches compare them; KEY: all that decides what is in which

A file is there whole or not at all, and the same work gives the same file. So what a lost node did not finish is done
by another, and a run that was stopped goes on where it stopped, with the batches it had: the last bits of a vector
depend on the texts that it was encoded with.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.console import Progress, silent
from retrieval.documents import SourceFile, read_or_skip, reading
from retrieval.durable import sync
from retrieval.embedders import Embedder, compares_tokens, encode_documents, open_embedder
from retrieval.embedding_cache import ENCODE_BATCH, EmbeddingCache, encoding_order, open_cache, text_hash
from retrieval.errors import ModelError
from retrieval.full_disk import full_disk_told
from retrieval.generation import writing
from retrieval.indexing import ENCODE_BLOCK, IndexReport, build_index, files_to_read, passage_limit
from retrieval.models import current_reference
from retrieval.passages import cut_all
from retrieval.ray_cluster import Takes, encoders, write_files
from retrieval.structure import Section, sections_or_skip
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["index_on_ray"]

FILES_BYTES = 4_000_000
FILES = 1_000
"""A task reads and cuts so many files, or so many bytes of them: what is repeated where a node is lost."""
BATCHES = 4
"""A task encodes so many batches."""

Load = Callable[[], Embedder]


@dataclass(frozen=True)
class _Making:
    """What each worker has to know to cut and encode as this process would."""

    folder: Path
    load: Load
    fingerprint: str
    max_tokens: int
    heading_context: bool
    reading: str
    tokens: bool

    def embedder(self) -> Embedder:
        """Open it on a worker.

        Raises:
            ModelError: it cannot be loaded, or is not the one that it is here.
        """
        embedder = self.load()
        if embedder.fingerprint != self.fingerprint:
            raise ModelError(f"{embedder.reference} is another model there than here; give every node the same files")
        return embedder


def index_on_ray(
    workspace: Workspace,
    corpus: str = "",
    *,
    load: Load | None = None,
    full: bool = False,
    progress: Progress = silent,
) -> IndexReport:
    """Bring the index of ``corpus`` up to date as `build_index` does, its passages encoded by the cluster.

    Call it within `ray_cluster.connected`. It may be stopped at any time: what was encoded is kept.

    Args:
        workspace: whose corpus it is.
        corpus: its name; "" is the only one.
        load: opens the embedder, here and on each worker; by default that of the model in use.
        full: read and cut everything anew.
        progress: told ("reading on Ray", files) and ("encoding on Ray", passages), then what `build_index` tells.

    Raises:
        IndexingError: the cluster has nothing to give, or a node cannot see the files; or as `build_index`.
        ModelError: the embedder cannot be loaded, here or on a node.
    """
    corpus = workspace.corpus_name(corpus)
    index_dir = workspace.index_dir(corpus)
    load = load or partial(open_embedder, current_reference(workspace), workspace)
    embedder = load()
    files = files_to_read(workspace, corpus, embedder, full=full)
    making = _Making(
        index_dir / "ray",
        load,
        embedder.fingerprint,
        passage_limit(workspace, embedder),
        workspace.passages.heading_context,
        reading(workspace, corpus),
        compares_tokens(embedder, workspace),
    )
    encoded = 0
    if files:
        with full_disk_told(index_dir), writing(index_dir, corpus), open_cache(workspace, corpus, embedder) as cache:
            cut = _read_all(making, files, progress)
            encoded = _encode_all(making, _planned(making, cut, cache), cache, encoders(workspace), progress)
    report = build_index(workspace, corpus, embedder=embedder, full=full, progress=progress)
    shutil.rmtree(making.folder, ignore_errors=True)
    return replace(report, embedded=report.embedded + encoded)


def _read_all(making: _Making, files: Sequence[SourceFile], progress: Progress) -> list[Path]:
    """Have ``files`` read and cut; return the Parquet files with what they give, in reading order."""
    folder = making.folder / "passages"
    folder.mkdir(parents=True, exist_ok=True)
    portions = {folder / f"{_key(making, some)}.parquet": some for some in _portions(files)}
    # Listed, not asked for one by one: NFS goes on to believe that a name it was asked for is not there.
    there = set(folder.iterdir())
    for path in there - portions.keys():
        path.unlink()  # of files that have changed since, or what a kill left
    left = {path: some for path, some in portions.items() if path not in there}
    done = len(files) - sum(map(len, left.values()))
    progress("reading on Ray", done, len(files))
    gone = set()
    for path, unread in write_files(partial(_cut_files, making), making.embedder, left):
        if unread:
            gone.add(path)  # read by nobody any more; what else these files give, `build_index` encodes
        done += len(left[path])
        progress("reading on Ray", done, len(files))
    return [path for path in portions if path not in gone]


def _portions(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    some: list[SourceFile] = []
    room = FILES_BYTES
    for file in files:
        if some and (file.size > room or len(some) == FILES):
            yield some
            some, room = [], FILES_BYTES
        some.append(file)
        room -= file.size
    if some:
        yield some


def _key(making: _Making, what: object) -> str:
    decides = [making.fingerprint, making.max_tokens, making.heading_context, making.reading, making.tokens, what]
    return sha256(repr(decides).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _cut_files(making: _Making, embedder: Embedder, files: list[SourceFile], target: Path) -> list[str]:
    """Write what ``files`` give to be embedded, in order; or nothing, and return those that this node cannot read."""
    if unread := [str(file.path) for file in files if not os.access(file.path, os.R_OK)]:
        return unread
    documents: list[tuple[str, list[Section]]] = []
    for file in files:
        for document in read_or_skip(file)[0]:
            found = sections_or_skip(document)
            if isinstance(found, list):
                documents.append((document.title, found))
    cut = cut_all(documents, embedder.count_tokens, making.max_tokens, heading_context=making.heading_context)
    _write_texts(target, [passage.embedded_text for passages in cut for passage in passages])
    return []


def _planned(making: _Making, cut: Sequence[Path], cache: EmbeddingCache) -> list[Path]:
    """Write the blocks of texts that are to be encoded, if that is not done yet, and return them."""
    folder = making.folder / _key(making, [path.stem for path in cut])
    for path in set(making.folder.iterdir()) - {folder, making.folder / "passages"}:
        shutil.rmtree(path)  # of other documents, or not finished
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.part")
        unfinished.mkdir()
        for number, texts in enumerate(_blocks(cut, cache, making.tokens)):
            _write_texts(unfinished / f"{number:05}.parquet", [texts[digest] for digest in encoding_order(texts)])
        unfinished.rename(folder)
    return sorted(folder.glob("?????.parquet"))


def _blocks(cut: Sequence[Path], cache: EmbeddingCache, tokens: bool) -> Iterator[dict[str, str]]:
    """Yield the texts that are not in ``cache``, by hash, in the blocks that `build_index` would take them in."""
    import pyarrow.parquet as pq

    block: dict[str, str] = {}
    planned: set[str] = set()
    passages = 0
    for path in cut:
        texts = _texts_of(pq.read_table(path))
        digests = [text_hash(text) for text in texts]
        known = cache.known(set(digests), tokens)
        for digest, text in zip(digests, texts, strict=True):
            if digest in known:
                continue
            if passages == ENCODE_BLOCK:
                yield block
                block, passages = {}, 0
            passages += 1
            if digest not in planned:
                planned.add(digest)
                block[digest] = text
    if block:
        yield block


def _encode_all(
    making: _Making, blocks: Sequence[Path], cache: EmbeddingCache, actors: tuple[int, Takes], progress: Progress
) -> int:
    """Have the texts of ``blocks`` encoded, and their vectors put into ``cache``; return how many it now were."""
    import pyarrow.parquet as pq

    work: dict[Path, tuple[Path, range]] = {}
    total = done = 0
    for block in blocks:
        facts = pq.read_metadata(block)
        total += facts.num_rows
        groups = range(facts.num_row_groups)
        for start in groups[::BATCHES]:
            work[block.with_name(f"{block.stem}-{start:04}.parquet")] = block, groups[start : start + BATCHES]
    there = {path for block in blocks[:1] for path in block.parent.iterdir()} & work.keys()
    for path in sorted(there):
        done += _keep(path, cache)
    earlier = done
    progress("encoding on Ray", done, total)
    left = {path: what for path, what in work.items() if path not in there}
    for path, _ in write_files(partial(_encode_batches, making.tokens), making.embedder, left, actors):
        done += _keep(path, cache)
        progress("encoding on Ray", done, total)
    return done - earlier


def _encode_batches(tokens: bool, embedder: Embedder, what: tuple[Path, range], target: Path) -> list[str]:
    """Write the vectors of some row groups of a block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    block, groups = what
    file = pq.ParquetFile(block)
    digests: list[str] = []
    vectors: list[bytes] = []
    codes: list[bytes] = []
    for group in groups:
        texts = _texts_of(file.read_row_group(group))
        digests += map(text_hash, texts)
        encoded, of_tokens = encode_documents(embedder, texts, tokens)
        codes += [some.tobytes() for some in of_tokens or ()]
        vectors += [vector.astype("<f4").tobytes() for vector in encoded]
    columns = {"hash": digests, "vector": vectors}
    _write(target, pa.table({**columns, "codes": codes} if codes else columns))
    return []


def _keep(path: Path, cache: EmbeddingCache) -> int:
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    vectors = [np.frombuffer(vector, dtype="<f4") for vector in table["vector"].to_pylist()]
    hashes = table["hash"].to_pylist()
    packed = table["codes"].to_pylist() if "codes" in table.schema.names else []
    codes = [np.frombuffer(some, dtype=np.uint8) for some in packed]
    cache.keep(dict(zip(hashes, vectors, strict=True)), dict(zip(hashes, codes, strict=True)) if codes else None)
    return len(vectors)


def _write_texts(path: Path, texts: Sequence[str]) -> None:
    import pyarrow as pa

    # As bytes: a text may hold half a surrogate pair, which UTF-8 has no place for.
    column = pa.array([text.encode("utf-8", "surrogatepass") for text in texts], pa.large_binary())
    _write(path, pa.table({"text": column}))


def _texts_of(table: pa.Table) -> list[str]:
    return [text.decode("utf-8", "surrogatepass") for text in table["text"].to_pylist()]


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    temporary = path.with_name(f"{uuid.uuid4().hex}.part")
    pq.write_table(table, temporary, row_group_size=ENCODE_BATCH)
    sync(temporary)
    os.replace(temporary, path)
