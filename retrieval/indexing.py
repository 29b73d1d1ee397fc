"""Corpus × catalogue → what changed → the next generation.

A file that is as it was is not read, a document that is as it was is not cut, a passage that is
as it was keeps its number and its vector, and a text that this embedder ever encoded for this
corpus is not encoded again.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.catalog import Catalog, CatalogReader, FileRow
from retrieval.console import Progress, silent
from retrieval.documents import Document, Skipped, SourceFile, file_hash, read_or_skip, require_documents, walk
from retrieval.embedders import Embedder, load_embedder
from retrieval.embedding_cache import encode_missing, open_cache
from retrieval.errors import DocumentError, IndexingCancelled, IndexingError
from retrieval.generation import (
    CATALOG,
    FORMAT,
    LEXICAL,
    VECTORS,
    Generation,
    Manifest,
    current_name,
    open_current,
    seal,
    stage,
    switch,
    verify,
    writing,
)
from retrieval.lexical import TOKENIZER_VERSION, LexicalIndex
from retrieval.models import current_reference, tuned_lexical_weight
from retrieval.passages import Passage, cut
from retrieval.structure import sections
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IndexReport", "build_generation", "build_index", "passage_limit", "put_live"]

log = logging.getLogger(__name__)

Stop = Callable[[], bool]

RESERVED_TOKENS = 8
"""Tokens of a model's limit that are left for its special tokens and its document prompt."""
ENCODE_BATCH = 256
ENCODE_BLOCK = 16_384
EXACT_LEXICAL = 10_000
"""Up to so many passages the lexical index is rewritten at each deletion.

tantivy counts a deleted passage in its word statistics until it merges it away; above this size
that is borne until a tenth of the passages are such ghosts, so that a small change stays cheap.
"""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an indexing run did: documents added, updated, removed and unchanged; passages there are now.

    ``embedded`` is how many passages were really encoded. ``changed`` is false where everything
    was up to date and ``generation`` is the one that was live already.
    """

    corpus: str
    generation: str
    added: int
    updated: int
    removed: int
    unchanged: int
    passages: int
    embedded: int
    skipped: tuple[Skipped, ...]
    seconds: float
    changed: bool


def build_index(
    workspace: Workspace,
    corpus: str = "",
    *,
    embedder: Embedder | None = None,
    full: bool = False,
    progress: Progress = silent,
    stop: Stop = lambda: False,
) -> IndexReport:
    """Bring the index of ``corpus`` up to date and put it live.

    Args:
        workspace: whose corpus it is.
        corpus: its name; "" is the only one.
        embedder: encodes the passages; by default the one of the model in use.
        full: read and cut everything anew. Vectors still come from the cache where they are there.
        progress: told ("reading", files) and ("encoding", passages).
        stop: asked between files and batches; true ends the run.

    Raises:
        DocumentError: no document could be read. The old generation stays, here and below.
        IndexingError: another process is indexing this corpus.
        IndexingCancelled: ``stop`` said so.
        ModelError: the embedder cannot be loaded.
    """
    corpus = workspace.corpus_name(corpus)
    index_dir = workspace.index_dir(corpus)
    with writing(index_dir, corpus):
        generation, report = _build(workspace, corpus, embedder, full, progress, stop)
        if report.changed:
            switch(index_dir, generation)
    return report


def build_generation(
    workspace: Workspace,
    corpus: str = "",
    *,
    embedder: Embedder | None = None,
    full: bool = False,
    progress: Progress = silent,
    stop: Stop = lambda: False,
) -> tuple[Generation, IndexReport]:
    """Like :func:`build_index`, but the generation is only sealed; :func:`put_live` switches to it.

    Where everything is up to date it is the live generation itself.
    """
    corpus = workspace.corpus_name(corpus)
    with writing(workspace.index_dir(corpus), corpus):
        return _build(workspace, corpus, embedder, full, progress, stop)


def put_live(workspace: Workspace, corpus: str, generation: Generation) -> None:
    """Make a generation of :func:`build_generation` the live one.

    Raises:
        IndexingError: another process is indexing, or a later generation went live meanwhile.
    """
    index_dir = workspace.index_dir(corpus)
    with writing(index_dir, corpus):
        if current_name(index_dir) != generation.name:
            switch(index_dir, generation)


def passage_limit(workspace: Workspace, embedder: Embedder) -> int:
    """Return how many tokens a passage may have: the setting, or what the embedder can take."""
    return min(workspace.passages.max_tokens, max(16, embedder.max_tokens - RESERVED_TOKENS))


@dataclass(frozen=True)
class _Plan:
    """What a run starts from. ``base``: the live generation, if the new one can grow from it."""

    workspace: Workspace
    corpus: str
    files: list[SourceFile]
    left_out: list[Skipped]
    live: Generation | None
    base: Generation | None
    embedder: Embedder
    made_by: Manifest
    progress: Progress
    stop: Stop
    started: float

    def check_stop(self) -> None:
        if self.stop():
            raise IndexingCancelled(
                f"indexing of corpus {self.corpus!r} was stopped; the old index stays, and what was encoded is kept"
            )

    def report(
        self,
        generation: Generation,
        changes: tuple[int, int, int, int],
        skipped: list[Skipped],
        *,
        embedded: int = 0,
    ) -> IndexReport:
        added, updated, removed, unchanged = changes
        return IndexReport(
            corpus=self.corpus,
            generation=generation.name,
            added=added,
            updated=updated,
            removed=removed,
            unchanged=unchanged,
            passages=generation.manifest.passages,
            embedded=embedded,
            skipped=_sorted([*self.left_out, *skipped]),
            seconds=time.perf_counter() - self.started,
            changed=generation is not self.live,
        )


def _build(
    workspace: Workspace, corpus: str, embedder: Embedder | None, full: bool, progress: Progress, stop: Stop
) -> tuple[Generation, IndexReport]:
    plan = _plan(workspace, corpus, embedder, full, progress, stop)
    if plan.base and _as_before(plan.base, plan.files) and _same_model(plan.base.manifest, plan.made_by):
        skipped = CatalogReader(plan.base.catalog_file).skipped()
        return plan.base, plan.report(plan.base, (0, 0, 0, plan.base.manifest.documents), skipped)
    if plan.live and not _sound(plan.live):
        plan = replace(plan, live=None, base=None)
    with stage(workspace.index_dir(corpus)) as folder:
        return _write(plan, folder)


def _plan(
    workspace: Workspace, corpus: str, embedder: Embedder | None, full: bool, progress: Progress, stop: Stop
) -> _Plan:
    started = time.perf_counter()
    files, left_out = walk(workspace, corpus)
    if not files:
        require_documents(workspace, corpus, 0, left_out)
    live = _open_live(workspace, corpus)
    embedder = embedder or load_embedder(current_reference(workspace), workspace)
    made_by = Manifest(
        format=FORMAT,
        corpus=corpus,
        created="",
        documents=0,
        passages=0,
        reference=embedder.reference,
        fingerprint=embedder.fingerprint,
        dimension=embedder.dimension,
        max_tokens=passage_limit(workspace, embedder),
        tokenizer=TOKENIZER_VERSION,
        language=workspace.passages.language,
        lexical_weight=tuned_lexical_weight(workspace, embedder.reference),
        lexical_dead=0,
        skipped=(),
        files={},
    )
    base = live if live and not full and _same_making(live.manifest, made_by) else None
    return _Plan(workspace, corpus, files, left_out, live, base, embedder, made_by, progress, stop, started)


def _open_live(workspace: Workspace, corpus: str) -> Generation | None:
    index_dir = workspace.index_dir(corpus)
    if current_name(index_dir) is None:
        return None
    try:
        return open_current(index_dir, corpus)
    except IndexingError as error:
        log.warning("%s; it is built anew", error)
        return None


def _sound(generation: Generation) -> bool:
    """Whether every byte is as it was sealed: damage must not be handed on from one generation to the next."""
    try:
        verify(generation)
    except IndexingError as error:
        log.warning("%s; it is built anew", error)
        return False
    return True


def _same_making(old: Manifest, new: Manifest) -> bool:
    names = ("fingerprint", "dimension", "max_tokens", "tokenizer", "language")
    return all(getattr(old, name) == getattr(new, name) for name in names)


def _same_model(old: Manifest, new: Manifest) -> bool:
    return (old.reference, old.lexical_weight) == (new.reference, new.lexical_weight)


def _as_before(generation: Generation, files: list[SourceFile]) -> bool:
    try:
        known = CatalogReader(generation.catalog_file).files()
    except IndexingError:
        return False  # the check of every byte, which comes next, will tell
    if known.keys() != {file.relative for file in files}:
        return False
    return all(_untouched(known[file.relative], file) or _same_bytes(known[file.relative], file) for file in files)


def _untouched(known: FileRow, file: SourceFile) -> bool:
    return (known.size, known.modified_ns) == (file.size, file.modified_ns)


def _same_bytes(known: FileRow, file: SourceFile) -> bool:
    return known.size == file.size and known.sha256 == _digest(file)


def _digest(file: SourceFile) -> str:
    """The sha256 of the file's bytes, "" where it cannot be read (which reading it will report)."""
    try:
        return file_hash(file)
    except DocumentError:
        return ""


def _write(plan: _Plan, folder: Path) -> tuple[Generation, IndexReport]:
    """Build the next generation in ``folder`` and seal it, or find that nothing is new."""
    if plan.base:
        shutil.copyfile(plan.base.catalog_file, folder / CATALOG)
    with closing(Catalog(folder / CATALOG)) as catalog:
        moved = _read_changed(catalog, plan)
        skipped = catalog.skipped()
        documents, passages = catalog.counts()
        require_documents(plan.workspace, plan.corpus, documents, _sorted([*plan.left_out, *skipped]))
        changes = catalog.compare(plan.live.catalog_file) if plan.live else (documents, 0, 0, 0)
        if plan.base and not moved and not any(changes[:3]) and _same_model(plan.base.manifest, plan.made_by):
            return plan.base, plan.report(plan.base, changes, skipped)
        gone, new, embedded = _write_vectors(folder / VECTORS, catalog, plan)
        dead = _write_lexical(folder / LEXICAL, catalog, plan, gone, new)
    manifest = replace(
        plan.made_by,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        documents=documents,
        passages=passages,
        lexical_dead=dead,
        skipped=_sorted([*plan.left_out, *skipped]),
    )
    plan.check_stop()
    generation = seal(folder, manifest)
    return generation, plan.report(generation, changes, skipped, embedded=embedded)


def _read_changed(catalog: Catalog, plan: _Plan) -> bool:
    """Bring the catalogue up to date with the files; return whether a document only changed its file.

    Of two documents with one id that of the earlier file counts. A file that lost one that way is
    not remembered, so that the next run reads it again and finds out should the id become free.
    """
    places = {file.relative: place for place, file in enumerate(plan.files)}
    known = catalog.files()
    displaced: set[str] = set()
    moved = False
    for done, file in enumerate(plan.files, 1):
        plan.check_stop()
        old = known.get(file.relative)
        if old is None or file.relative in displaced or not _untouched(old, file):
            digest = _digest(file)
            if old is not None and file.relative not in displaced and digest == old.sha256:
                catalog.put_file(file, digest)
            else:
                moved |= _read_file(catalog, plan, file, digest, places, displaced)
        plan.progress("reading", done, len(plan.files))
    for path in catalog.paths():
        if path not in places:
            catalog.forget_file(path)
            for document_id in catalog.document_ids(path):
                catalog.remove_document(document_id)
    return moved


def _read_file(
    catalog: Catalog, plan: _Plan, file: SourceFile, digest: str, places: dict[str, int], displaced: set[str]
) -> bool:
    found, skipped = read_or_skip(file)
    gone = set(catalog.document_ids(file.relative))
    whole, moved = bool(digest), False
    for document in found:
        owner = catalog.document(document.id)
        if owner is not None and owner.path != file.relative and owner.path in places:
            if places[owner.path] < places[file.relative]:
                skipped.append(Skipped(file.relative, f"document id {document.id!r} is taken by {owner.path}"))
                whole = False
                continue
            displaced.add(owner.path)
        if owner is None or owner.hash != document.content_hash:
            try:
                passages = _passages(document, plan)
            except DocumentError as error:
                skipped.append(Skipped(file.relative, str(error).removeprefix(f"{file.relative}: ")))
                continue
            catalog.put_document(document)
            catalog.put_passages(document.id, passages)
        elif owner.path != document.path:
            catalog.put_document(document)
            moved = True
        gone.discard(document.id)
    for document_id in gone:
        catalog.remove_document(document_id)
    catalog.forget_file(file.relative)
    catalog.put_skipped(file.relative, skipped)
    if whole:
        catalog.put_file(file, digest)
    return moved


def _passages(document: Document, plan: _Plan) -> list[Passage]:
    return cut(document.title, sections(document), plan.embedder.count_tokens, plan.made_by.max_tokens)


def _write_vectors(path: Path, catalog: Catalog, plan: _Plan) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Write the vectors; return the passages that went, those that came, and how many were encoded."""
    import numpy as np

    index = VectorIndex.empty(plan.embedder.dimension)
    if plan.base:
        index = VectorIndex.read(plan.base.vectors_file, mapped=False)
    numbers = catalog.numbers()
    gone, new = np.setdiff1d(index.ids, numbers), np.setdiff1d(numbers, index.ids)
    if len(gone):
        index.remove(gone)
    embedded = 0
    with open_cache(plan.workspace, plan.corpus, plan.embedder) as cache:
        for start in range(0, len(new), ENCODE_BLOCK):
            some = new[start : start + ENCODE_BLOCK]

            def report(done: int, start: int = start) -> None:
                plan.check_stop()
                plan.progress("encoding", start + done, len(new))

            vectors, encoded = encode_missing(cache, plan.embedder, catalog.texts(some), report)
            index.add(some, vectors)
            embedded += encoded
    index.write(path)
    return gone, new, embedded


def _write_lexical(folder: Path, catalog: Catalog, plan: _Plan, gone: NDArray[np.int64], new: NDArray[np.int64]) -> int:
    """Write the lexical index; return how many deleted passages it still counts."""
    language, added = plan.made_by.language, new
    dead = len(gone) + (plan.base.manifest.lexical_dead if plan.base else 0)
    live = catalog.counts()[1]
    if plan.base is None or (dead and (live <= EXACT_LEXICAL or dead > live // 10)):
        dead, added = 0, catalog.numbers()
        index = LexicalIndex.create(folder, language)
    else:
        shutil.copytree(plan.base.lexical_folder, folder, ignore=shutil.ignore_patterns("*.lock"))
        index = LexicalIndex.open(folder, language, writable=True)
        index.delete(gone.tolist())
    for start in range(0, len(added), ENCODE_BATCH):
        plan.check_stop()
        some = added[start : start + ENCODE_BATCH].tolist()
        index.add(zip(some, catalog.texts(some), strict=True))
    index.commit()
    return dead


def _sorted(skipped: list[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda item: item.path))
