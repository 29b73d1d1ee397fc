"""Examine the generations of an index: every byte, then whether its three parts say the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import IndexingError, ShoptalkError
from retrieval.generation import (
    VECTORS,
    Generation,
    generation_folders,
    open_current,
    verify,
)
from retrieval.pointer import current_name
from retrieval.stores import indexed_elsewhere
from retrieval.workspace import Workspace

__all__ = ["Examined", "examine_index"]


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of one generation's examination; ``problem`` is "" where it is whole."""

    corpus: str
    generation: str
    live: bool
    files: int
    bytes: int
    documents: int
    passages: int
    problem: str


def examine_index(workspace: Workspace, corpus: str) -> list[Examined]:
    """Read every byte of the live generation of ``corpus`` and of those kept beside it; the live one comes first.

    Where there is no live one that can be opened, that is the first finding. Of an index that is in a database and was
    made elsewhere there are no bytes here: the database is asked what it holds.
    """
    if indexed_elsewhere(workspace, corpus):
        return [_examine_elsewhere(workspace, corpus)]
    index_dir = workspace.index_dir(corpus)
    live = current_name(index_dir)
    found = [_examine_live(index_dir, corpus)]
    for folder in generation_folders(index_dir):
        if folder.name != live:
            try:
                found.append(_examine(Generation(folder), corpus, live=False))
            except FileNotFoundError:
                continue  # swept just now
            except IndexingError as error:
                found.append(_refused(corpus, folder.name, False, str(error)))
    return found


def _examine_live(index_dir: Path, corpus: str) -> Examined:
    try:
        generation = open_current(index_dir, corpus)
    except IndexingError as error:
        return _refused(corpus, current_name(index_dir) or "", True, str(error))
    return _examine(generation, corpus, live=True)


def _examine_elsewhere(workspace: Workspace, corpus: str) -> Examined:
    from retrieval.databases import database
    from retrieval.remote_store import RemoteStore

    try:
        store = RemoteStore(workspace, corpus, database(workspace))
        store.check()
        facts = store.open().facts
    except ShoptalkError as error:
        return _refused(corpus, "", True, str(error))
    return Examined(corpus, facts.name, True, 0, 0, facts.documents, facts.passages, "")


def _refused(corpus: str, generation: str, live: bool, problem: str) -> Examined:
    return Examined(corpus, generation, live, 0, 0, 0, 0, problem)


def _examine(generation: Generation, corpus: str, *, live: bool) -> Examined:
    with closing(generation):
        manifest = generation.manifest
        problem = ""
        try:
            # First the bytes: the libraries below may crash on what was damaged.
            verify(generation)
            problem = next(_disagreements(generation), "")
        except FileNotFoundError as error:
            problem = f"{error.filename} is missing"
        except OSError as error:
            problem = f"{error.filename or generation.folder} cannot be read: {error.strerror}"
        except ShoptalkError as error:
            problem = str(error)
        return Examined(
            corpus=corpus,
            generation=generation.name,
            live=live,
            files=len(manifest.files) + 1,
            bytes=sum(size for size, _ in manifest.files.values()),
            documents=manifest.documents,
            passages=manifest.passages,
            problem=problem,
        )


def _disagreements(generation: Generation) -> Iterator[str]:
    """Yield what catalogue, vectors, lexical index and manifest say differently of each other."""
    import numpy as np

    from retrieval.catalog import CatalogReader
    from retrieval.lexical import LexicalIndex
    from retrieval.vectors import VectorIndex

    manifest = generation.manifest
    mend = "rebuild it with `shoptalk index --full`"
    with closing(CatalogReader(generation.catalog_file)) as catalog:
        documents, passages = catalog.counts()
        numbers = np.sort(catalog.numbers_under(""))
    counted = {"documents": (documents, manifest.documents), "passages": (passages, manifest.passages)}
    for what, (there, told) in counted.items():
        if there != told:
            yield f"{generation.catalog_file} holds {there} {what} and the manifest tells of {told}; {mend}"
    if len(numbers) != passages:
        yield f"{generation.catalog_file} has passages of a document it does not know; {mend}"
    if VECTORS not in manifest.files:
        return  # they are in a database; `shoptalk doctor` asks it
    vectors = VectorIndex.read(generation.vectors_file)
    lexical = LexicalIndex.open(generation.lexical_folder, manifest.language)
    if vectors.dimension != manifest.dimension:
        yield f"{generation.vectors_file} has {vectors.dimension} dimensions, not {manifest.dimension}; {mend}"
    for path, ids in ((generation.vectors_file, vectors.ids), (generation.lexical_folder, lexical.numbers())):
        if not np.array_equal(np.sort(ids), numbers):
            yield f"{path} holds other passages than {generation.catalog_file}; {mend}"
