"""Bring a catalogue up to date with the files of its corpus.

A file that is as it was is not opened, and one of a new time but the same bytes is not read. A file
that moved takes its passages along, numbers and all. Of the files that are read, only documents that
changed are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from retrieval.catalog import FileRow
from retrieval.catalog_writing import Catalog
from retrieval.documents import Skipped, SourceFile, file_hash, name_title, read_or_skip, under_free_id
from retrieval.errors import DocumentError
from retrieval.passages import Passage
from retrieval.structure import Section, sections_or_skip

__all__ = ["Digest", "digest_or_nothing", "same_files", "sync", "untouched"]

Digest = Callable[[SourceFile], str]
"""The sha256 of a file's bytes, "" where it cannot be read (which reading it will report)."""

Cut = Callable[[Sequence[tuple[str, Sequence[Section]]]], list[list[Passage]]]
"""Cuts documents, each a title and its sections; see ``retrieval.passages.cut_all``."""

CUT_CHARACTERS = 2_000_000
"""So much text is held back to be cut at once: tokenizers want many texts at a time."""


def digest_or_nothing(file: SourceFile) -> str:
    """A :data:`Digest`; wants a cache around it, as a run may ask for a file more than once."""
    try:
        return file_hash(file)
    except DocumentError:
        return ""


def same_files(known: Mapping[str, FileRow], files: Sequence[SourceFile], digest: Digest) -> bool:
    """Whether ``files`` are those that are ``known``, byte by byte; what has its old size and times is not opened."""
    if known.keys() != {file.relative for file in files}:
        return False
    return all(
        untouched(known[file.relative], file) or _same_bytes(known[file.relative], file, digest) for file in files
    )


def sync(
    catalog: Catalog,
    files: Sequence[SourceFile],
    cut: Cut,
    digest: Digest,
    report: Callable[[int], None],
) -> bool:
    """Make ``catalog`` that of ``files``; return whether a document moved from one file to another.

    Of two documents with one id that of the earlier file has it. A file that had to give one up is
    not remembered, so that the next run reads it again and finds out should the id become free.

    Args:
        catalog: what was known before, and is changed.
        files: all there are, by path.
        cut: cuts many documents at once.
        digest: hashes a file.
        report: hears how many files are done; it may raise to stop.
    """
    run = _Sync(catalog, files, cut, digest)
    run.move_files()
    for done, file in enumerate(files, 1):
        run.visit(file)
        report(done)
    run.cut_waiting()
    run.forget_gone()
    return run.moved


def untouched(known: FileRow, file: SourceFile) -> bool:
    """Whether nothing says that the file is another than the one that is ``known``: its size and both of its times."""
    return (known.size, known.modified_ns, known.changed_ns) == (file.size, file.modified_ns, file.changed_ns)


def _same_bytes(known: FileRow, file: SourceFile, digest: Digest) -> bool:
    return known.size == file.size and known.sha256 == digest(file)


class _Sync:
    """One run: what is known, who has to be read again, and what waits to be cut."""

    def __init__(
        self,
        catalog: Catalog,
        files: Sequence[SourceFile],
        cut: Cut,
        digest: Digest,
    ) -> None:
        self.catalog = catalog
        self.files = files
        self.places = {file.relative: place for place, file in enumerate(files)}
        self.cut = cut
        self.digest = digest
        self.known = catalog.files()
        self.displaced: set[str] = set()
        self.moved = False
        self.waiting: list[tuple[str, str, list[Section]]] = []
        self.characters = 0

    def move_files(self) -> None:
        """Find the new and changed files whose bytes are those of a file that went or changed, and re-key its rows."""
        if not self.known:
            return
        changed = [file for file in self.files if not self._as_before(file)]
        left = self.known.keys() - self.places.keys() | {file.relative for file in changed}
        sources: dict[tuple[str, str], list[str]] = {}
        for path in sorted(left & self.known.keys(), reverse=True):
            sources.setdefault((self.known[path].sha256, _suffix(path)), []).append(path)
        moves: dict[str, SourceFile] = {}
        for file in changed if sources else ():
            candidates = sources.get((self.digest(file), _suffix(file.relative)), [])
            if candidates and self._movable(candidates[-1], file.relative):
                moves[candidates.pop()] = file
        if not moves:
            return
        self.catalog.move_files({path: file.relative for path, file in moves.items()})
        for path in moves:
            self.known.pop(path)
        for file in moves.values():
            digest = self.digest(file)
            self.catalog.put_file(file, digest)
            self.known[file.relative] = FileRow(file.relative, file.size, file.modified_ns, file.changed_ns, digest)
        self.moved = True

    def _as_before(self, file: SourceFile) -> bool:
        old = self.known.get(file.relative)
        return old is not None and (untouched(old, file) or _same_bytes(old, file, self.digest))

    def _movable(self, old: str, new: str) -> bool:
        """Whether reading ``new`` would give what ``old`` gave, but for the path."""
        if self.catalog.has_skipped(old):
            return False
        for document in self.catalog.documents_of(old):
            if document.id == old:
                # A file of source code is called by its path.
                if document.title in (old, name_title(old)) and document.title not in (new, name_title(new)):
                    return False
                owner = self.catalog.document(new)
                if owner is not None and owner.path != new:
                    return False
            elif document.id.startswith(f"{old}#"):  # a record that its file numbers
                return False
        return True

    def visit(self, file: SourceFile) -> None:
        """Read the file if it, or whether its documents count, is not as before."""
        old = self.known.get(file.relative)
        if old is None or file.relative in self.displaced:
            self._read(file)
        elif not untouched(old, file):
            if _same_bytes(old, file, self.digest):
                self.catalog.put_file(file, old.sha256)
            else:
                self._read(file)

    def _read(self, file: SourceFile) -> None:
        digest = self.digest(file)
        found, skipped = read_or_skip(file)
        gone = set(self.catalog.document_ids(file.relative))
        whole = bool(digest)
        used: set[str] = set()
        for wanted in found:
            document = under_free_id(wanted, lambda id: id in used or self._earlier_owner(id, file) != "")
            whole = whole and document is wanted
            if document is None:
                owner_path = self._earlier_owner(wanted.id, file) or file.relative
                skipped.append(Skipped(file.relative, f"document id {wanted.id!r} is taken by {owner_path}"))
                continue
            used.add(document.id)
            owner = self.catalog.document(document.id)
            if owner is not None and owner.path != file.relative and owner.path in self.places:
                self.displaced.add(owner.path)
            if owner is None or owner.hash != document.content_hash:
                found_sections = sections_or_skip(document)
                if isinstance(found_sections, Skipped):
                    skipped.append(found_sections)
                    continue
                self.catalog.put_document(document)
                self._wait(document.id, document.title, found_sections, len(document.text))
            elif owner.path != document.path:
                self.catalog.put_document(document)
                self.moved = True
            gone.discard(document.id)
        for document_id in gone:
            self.catalog.remove_document(document_id)
        self.catalog.forget_file(file.relative)
        self.catalog.put_skipped(file.relative, skipped)
        if whole:
            self.catalog.put_file(file, digest)

    def _earlier_owner(self, document_id: str, file: SourceFile) -> str:
        """The file before ``file`` that has a document of that id, "" for none."""
        owner = self.catalog.document(document_id)
        if owner is None or self.places.get(owner.path, len(self.places)) >= self.places[file.relative]:
            return ""
        return owner.path

    def _wait(self, document_id: str, title: str, found: list[Section], characters: int) -> None:
        self.waiting.append((document_id, title, found))
        self.characters += characters
        if self.characters >= CUT_CHARACTERS:
            self.cut_waiting()

    def cut_waiting(self) -> None:
        """Cut the documents that wait for it."""
        documents = [(title, found) for _, title, found in self.waiting]
        for (document_id, _, _), passages in zip(self.waiting, self.cut(documents), strict=True):
            self.catalog.put_passages(document_id, passages)
        self.waiting, self.characters = [], 0

    def forget_gone(self) -> None:
        """Remove what is known of files that are there no more."""
        for path in self.catalog.paths():
            if path not in self.places:
                self.catalog.forget_file(path)
                for document_id in self.catalog.document_ids(path):
                    self.catalog.remove_document(document_id)


def _suffix(path: str) -> str:
    """The extension, which says how a file is read."""
    return PurePosixPath(path).suffix.lower()
