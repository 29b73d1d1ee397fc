"""Corpus × catalogue → what changed → the next generation.

A file that is as it was is not read, a document that is as it was is not cut, a passage that is
as it was keeps its number and its vector, and a text that this embedder ever encoded for this
corpus is not encoded again.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.catalog import CatalogReader
from retrieval.catalog_writing import Catalog
from retrieval.console import Progress, silent
from retrieval.documents import Skipped, SourceFile, reading, require_documents, walk
from retrieval.embedders import Embedder, compares_tokens, open_embedder
from retrieval.embedding_cache import EmbeddingCache, encode_missing, open_cache, prune_caches, text_hash
from retrieval.errors import IndexingCancelled, IndexingError, NewerFormat
from retrieval.full_disk import full_disk_told
from retrieval.generation import (
    CATALOG,
    FORMAT,
    Generation,
    Manifest,
    generation_folders,
    open_current,
    seal,
    stage,
    verify,
    writing,
)
from retrieval.heading_share import heading_vectors, served_share, with_headings
from retrieval.late_interaction import CODES, NAME_CODES, CodeFile, Codes, write_codes
from retrieval.lexical import TOKENIZER_VERSION
from retrieval.models import current_reference, tuned_fusion, verify_version
from retrieval.names import compares_names, encode_names
from retrieval.passages import cut_all
from retrieval.pointer import current_name
from retrieval.stores import Draft, Store, Written, indexed_elsewhere, open_store
from retrieval.syncing import Digest, digest_or_nothing, same_files, sync, untouched
from retrieval.times import keep_times, kept_times, known_files
from retrieval.vector_writing import Blocks
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["IndexReport", "build_generation", "build_index", "files_to_read", "passage_limit", "put_live"]

log = logging.getLogger(__name__)

Stop = Callable[[], bool]

RESERVED_TOKENS = 8
"""Tokens of a model's limit that are left for its special tokens and its document prompt."""
ENCODE_BLOCK = 16_384
CODES_BLOCK = 1_024


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
        IndexingError: another process is indexing this corpus, or another machine made what is live in the database
            and ``full`` is false.
        IndexingCancelled: ``stop`` said so.
        ModelError: the embedder cannot be loaded.
    """
    corpus = workspace.corpus_name(corpus)
    index_dir = workspace.index_dir(corpus)
    with full_disk_told(index_dir), writing(index_dir, corpus):
        generation, report = _build(workspace, corpus, embedder, full, progress, stop)
        if report.changed:
            open_store(workspace, corpus).switch(generation)
            prune_caches(workspace, corpus, _fingerprints(index_dir))
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
    index_dir = workspace.index_dir(corpus)
    with full_disk_told(index_dir), writing(index_dir, corpus):
        return _build(workspace, corpus, embedder, full, progress, stop)


def put_live(workspace: Workspace, corpus: str, generation: Generation) -> None:
    """Make a generation of :func:`build_generation` the live one.

    Raises:
        IndexingError: another process is indexing, or a later generation went live meanwhile.
    """
    index_dir = workspace.index_dir(corpus)
    with full_disk_told(index_dir), writing(index_dir, corpus):
        if current_name(index_dir) != generation.name:
            open_store(workspace, corpus).switch(generation)


def files_to_read(workspace: Workspace, corpus: str, embedder: Embedder, *, full: bool = False) -> list[SourceFile]:
    """Return the files of ``corpus`` that `build_index` would read now, by path: all but those that are as they were.

    Raises:
        DocumentError: there are none at all.
    """
    plan = _plan(workspace, corpus, embedder, full, silent, lambda: False)
    try:
        known = known_files(plan.base) if plan.base else {}
    except IndexingError:
        known = {}  # the run itself will tell, and build anew
    return [file for file in plan.files if file.relative not in known or not untouched(known[file.relative], file)]


def passage_limit(workspace: Workspace, embedder: Embedder) -> int:
    """Return how many tokens a passage may have: the setting, or what the embedder can take."""
    return min(workspace.passages.max_tokens, max(16, embedder.max_tokens - RESERVED_TOKENS))


@dataclass(frozen=True)
class _Plan:
    """What a run starts from.

    ``base``: the live generation, if the new one can grow from it; ``tokens`` and ``names``: whether it has codes of
    tokens and of names.
    """

    workspace: Workspace
    corpus: str
    store: Store
    files: list[SourceFile]
    left_out: list[Skipped]
    live: Generation | None
    base: Generation | None
    embedder: Embedder
    tokens: bool
    names: bool
    made_by: Manifest
    progress: Progress
    stop: Stop
    started: float
    digest: Digest = field(default_factory=lambda: cache(digest_or_nothing))

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
    if plan.base and _as_before(plan, plan.base) and _same_model(plan.base.manifest, plan.made_by):
        skipped = CatalogReader(plan.base.catalog_file).skipped()
        return plan.base, plan.report(plan.base, (0, 0, 0, plan.base.manifest.documents), skipped)
    if plan.live and not _sound(plan.live):
        plan = replace(plan, live=None, base=None)
    if plan.base is None:
        # A version that was damaged since has another fingerprint, and would be taken for another model.
        verify_version(workspace, plan.embedder.reference)
    with stage(workspace.index_dir(corpus)) as folder:
        return _write(plan, folder)


def _plan(
    workspace: Workspace, corpus: str, embedder: Embedder | None, full: bool, progress: Progress, stop: Stop
) -> _Plan:
    started = time.perf_counter()
    files, left_out = walk(workspace, corpus)
    if not files:
        require_documents(workspace, corpus, 0, left_out)
    store = open_store(workspace, corpus)
    if not full and indexed_elsewhere(workspace, corpus) and (there := store.live()):
        raise IndexingError(
            f"{there} of corpus {corpus!r} is live in {workspace.store.url}, and this workspace did not make it: index "
            "where it was made, or replace it with `shoptalk index --full`"
        )
    live = _open_live(workspace, corpus)
    embedder = embedder or open_embedder(current_reference(workspace), workspace)
    fusion = tuned_fusion(workspace, embedder.reference)
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
        lexical_weight=fusion.lexical_weight,
        lexical_dead=0,
        skipped=(),
        files={},
        reading=reading(workspace, corpus),
        heading_context=workspace.passages.heading_context,
        heading_share=served_share(workspace, fusion),
    )
    tokens = compares_tokens(embedder, workspace)
    grows = live and not full and _same_making(live.manifest, made_by) and store.can_grow(live)
    names = compares_names(workspace)
    alike = live and (tokens, names) == tuple(file in live.manifest.files for file in (CODES, NAME_CODES))
    base = live if grows and alike else None
    return _Plan(
        workspace, corpus, store, files, left_out, live, base, embedder, tokens, names, made_by, progress, stop, started
    )


def _fingerprints(index_dir: Path) -> set[str]:
    """Those of the embedders that made the generations on disk."""
    found = set()
    for folder in generation_folders(index_dir):
        try:
            found.add(Generation(folder).manifest.fingerprint)
        except (FileNotFoundError, IndexingError):  # swept just now, or of no use
            continue
    return found


def _open_live(workspace: Workspace, corpus: str) -> Generation | None:
    index_dir = workspace.index_dir(corpus)
    if current_name(index_dir) is None:
        return None
    try:
        return open_current(index_dir, corpus)
    except NewerFormat:
        raise  # whoever went back to an earlier version decides what becomes of it
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
    how = ("fingerprint", "dimension", "max_tokens", "tokenizer", "language")
    names = (*how, "reading", "heading_context", "heading_share")
    return all(getattr(old, name) == getattr(new, name) for name in names)


def _same_model(old: Manifest, new: Manifest) -> bool:
    return (old.reference, old.lexical_weight) == (new.reference, new.lexical_weight)


def _as_before(plan: _Plan, generation: Generation) -> bool:
    try:
        known, paths = known_files(generation), CatalogReader(generation.catalog_file).paths()
    except IndexingError:
        return False  # the check of every byte, which comes next, will tell
    if paths != known.keys() or not same_files(known, plan.files, plan.digest):
        return False
    keep_times(generation, known, {file.relative: (file.modified_ns, file.changed_ns) for file in plan.files})
    return True


def _write(plan: _Plan, folder: Path) -> tuple[Generation, IndexReport]:
    """Build the next generation in ``folder`` and seal it, or find that nothing is new."""
    if plan.base:
        shutil.copyfile(plan.base.catalog_file, folder / CATALOG)
    with closing(Catalog(folder / CATALOG)) as catalog:
        if plan.base:
            catalog.put_times(kept_times(plan.base))
        moved = _sync(catalog, plan)
        skipped = catalog.skipped()
        documents, passages = catalog.counts()
        require_documents(plan.workspace, plan.corpus, documents, _sorted([*plan.left_out, *skipped]))
        changes = catalog.compare(plan.live.catalog_file) if plan.live else (documents, 0, 0, 0)
        if plan.base and not moved and not any(changes[:3]) and _same_model(plan.base.manifest, plan.made_by):
            times = {path: (file.modified_ns, file.changed_ns) for path, file in catalog.files().items()}
            keep_times(plan.base, known_files(plan.base), times)
            return plan.base, plan.report(plan.base, changes, skipped)
        written, embedded = _write_index(folder, catalog, plan)
    manifest = replace(
        plan.made_by,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        documents=documents,
        passages=passages,
        lexical_dead=written.dead,
        vectors=written.vectors,
        skipped=_sorted([*plan.left_out, *skipped]),
    )
    plan.check_stop()
    generation = seal(folder, manifest, plan.base)
    return generation, plan.report(generation, changes, skipped, embedded=embedded)


def _sync(catalog: Catalog, plan: _Plan) -> bool:
    def report(done: int) -> None:
        plan.check_stop()
        plan.progress("reading", done, len(plan.files))

    cut = partial(
        cut_all,
        count_tokens=plan.embedder.count_tokens,
        max_tokens=plan.made_by.max_tokens,
        heading_context=plan.made_by.heading_context,
    )
    moved = sync(catalog, plan.files, cut, plan.digest, report)
    if plan.made_by.heading_context:
        catalog.name_passages()
    return moved


def _write_index(folder: Path, catalog: Catalog, plan: _Plan) -> tuple[Written, int]:
    """Write what is searched; return what the manifest keeps of it, and how many passages were encoded."""
    embedded = 0
    made_by, share = plan.made_by, plan.made_by.heading_share
    with open_cache(plan.workspace, plan.corpus, plan.embedder) as kept:

        def encode(numbers: NDArray[np.int64]) -> Blocks:
            nonlocal embedded
            for start in range(0, len(numbers), ENCODE_BLOCK):
                some = numbers[start : start + ENCODE_BLOCK]

                def report(done: int, start: int = start) -> None:
                    plan.check_stop()
                    plan.progress("encoding", start + done, len(numbers))

                passages = [row.passage for row in catalog.rows(some.tolist())]
                texts = [passage.embedded_text for passage in passages]
                vectors, encoded = encode_missing(kept, plan.embedder, texts, report, plan.tokens)
                embedded += encoded
                if share:
                    headings = [passage.embedded_heading for passage in passages]
                    vectors = with_headings(vectors, heading_vectors(headings, made_by.dimension, of_headings), share)
                yield some, vectors

        def of_headings(headings: list[str]) -> NDArray[np.float32]:
            def report(done: int) -> None:
                plan.check_stop()
                plan.progress("encoding headings", done, len(headings))

            return encode_missing(kept, plan.embedder, headings, report)[0]

        draft = Draft(folder, catalog, plan.made_by, plan.base, encode, plan.check_stop)
        written = plan.store.write(draft)
        if plan.tokens:
            write_codes(folder / CODES, _codes(catalog, kept, plan))
        if plan.names:
            write_codes(folder / NAME_CODES, _name_codes(catalog, kept, plan))
        return written, embedded


def _codes(catalog: Catalog, kept: EmbeddingCache, plan: _Plan) -> Iterator[tuple[int, Codes]]:
    """Yield each passage's number and the codes of its tokens, from the base where they are there, else as kept."""
    old = CodeFile(plan.base.folder / CODES, plan.made_by.dimension) if plan.base else None
    numbers = catalog.numbers()
    for start in range(0, len(numbers), CODES_BLOCK):
        plan.check_stop()
        some = numbers[start : start + CODES_BLOCK].tolist()
        found = old.some(some) if old else {}
        fresh = [number for number in some if number not in found]
        hashes = dict(zip(fresh, map(text_hash, catalog.texts(fresh)), strict=True))
        codes = kept.find_tokens(set(hashes.values()))
        if missing := set(hashes.values()) - codes.keys():
            raise IndexingError(f"{len(missing)} of the passages just encoded are gone from the cache; index again")
        yield from ((number, found[number] if number not in hashes else codes[hashes[number]]) for number in some)


def _name_codes(catalog: Catalog, kept: EmbeddingCache, plan: _Plan) -> Iterator[tuple[int, Codes]]:
    """Yield each passage's number and the codes of its names, from the base where it is there, else by the embedder."""
    import numpy as np

    old = CodeFile(plan.base.folder / NAME_CODES, plan.made_by.dimension) if plan.base else None
    known = set(old.numbers.tolist()) if old else set()
    numbers = catalog.numbers()
    none = np.empty((0, 0), np.uint8)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        return encode_missing(kept, plan.embedder, texts, lambda _: plan.check_stop())[0]

    for start in range(0, len(numbers), CODES_BLOCK):
        plan.check_stop()
        some = numbers[start : start + CODES_BLOCK].tolist()
        fresh = [number for number in some if number not in known]
        found = encode_names([row.passage for row in catalog.rows(fresh)], encode)
        if found:
            plan.progress("encoding names", start + len(some), len(numbers))
        codes = {fresh[place]: of_names for place, of_names in found.items()}
        if old:
            codes |= old.some([number for number in some if number in known])
        yield from ((number, codes.get(number, none)) for number in some)


def _sorted(skipped: list[Skipped]) -> tuple[Skipped, ...]:
    return tuple(sorted(skipped, key=lambda item: item.path))
