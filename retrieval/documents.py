"""Walk a corpus and read each file into documents.

A new format is one line in ``READERS``: a function from the file and its bytes to its documents.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from retrieval.columns import Columns
from retrieval.decoding import NotTextError, decode
from retrieval.errors import DocumentError, first_line
from retrieval.records import RecordError, csv_records, json_records, jsonl_records, sheet_records, tsv_records

if TYPE_CHECKING:
    from retrieval.console import Progress
    from retrieval.records import Record
    from retrieval.structure import Block, Heading, Outlined
    from retrieval.workspace import Workspace

__all__ = [
    "READERS",
    "SHEETS",
    "Document",
    "Format",
    "Skipped",
    "SourceFile",
    "defect",
    "file_hash",
    "name_title",
    "read",
    "read_all",
    "read_or_skip",
    "reading",
    "require_documents",
    "under_free_id",
    "walk",
]

log = logging.getLogger(__name__)

Format = Literal["markdown", "rst", "asciidoc", "html", "text", "outlined"]
CODE = (
    ".py .pyi .js .mjs .cjs .jsx .ts .mts .cts .tsx .go .java .kt .kts .scala .swift .c .h .cc .cpp .cxx .hh .hpp .hxx "
    ".cs .rs .rb .php .lua .sh .bash .sql"
).split()
SHEETS = (".xlsx", ".xlsm")
"""Files whose records are rows of several tables."""
READING_VERSION = 10
"""Counted up where other documents, sections, passages or names of these are found in the same files."""
MOST_LISTED = 1000
"""Of the records that are left out of a file so many are listed each with its reason; a file may hold millions."""
ID_LIMIT, TITLE_LIMIT = 1000, 2000
"""Characters: both are kept with each passage, and a title is embedded with it."""
GROWTH = 1_000_000
"""Bytes by which any file may have grown since the walk; it may have doubled, too."""
TITLE_LINE_LIMIT = 100
"""A plain text file's first line is its title when it has at most so many characters."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a corpus: where it is, and its path relative to the corpus root (``/`` separated).

    ``modified_ns`` is the time that programs can set, and do when they unpack or copy; ``changed_ns`` the kernel's own.
    ``columns``: what the corpus's settings say of the columns of its tables.
    """

    path: Path
    relative: str
    size: int
    modified_ns: int
    columns: Columns = Columns()
    changed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Document:
    """One file, or one record of a record file.

    ``id`` is the file's path relative to the corpus root, or the record's own id. ``text`` has
    line feeds as line ends. ``first_line`` and ``last_line`` are set for records: the 1-based lines of
    ``path`` that hold the record; for a whole file they are None and the lines of ``text`` count.
    ``outline`` is set where ``format`` is outlined: headings and blocks that the reader found itself, as
    formats have them whose structure is not in their text (PDF, DOCX, source code). ``pages`` has the
    first line of ``text`` on each page, in formats that have pages (PDF). ``question`` is what a record's text answers.
    """

    id: str
    path: str
    title: str
    text: str
    format: Format
    first_line: int | None = None
    last_line: int | None = None
    question: str = ""
    outline: tuple[Heading | Block, ...] = ()
    pages: tuple[int, ...] = ()

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of what passages are made of: title, text, format, line span, outline and pages."""
        content: list[object] = [self.title, self.text, self.format, self.first_line, self.last_line]
        if self.outline:
            content.append([astuple(item) for item in self.outline])
        if self.pages:
            content.append(self.pages)
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a record of one, that was left out, and why."""

    path: str
    reason: str


Found = tuple[list[Document], list[Skipped]]


def walk(workspace: Workspace, corpus: str) -> tuple[list[SourceFile], list[Skipped]]:
    """Return every file of ``corpus`` that can be read, sorted by relative path, and what was left out.

    A symbolic link is followed only to where the corpus's own paths reach.

    Raises:
        DocumentError: a path of the corpus does not exist.
    """
    from retrieval.walking import walk_corpus

    return walk_corpus(workspace, corpus)


def read(file: SourceFile) -> Found:
    """Return the documents of ``file``, and the records of it that had to be left out.

    Raises:
        DocumentError: the whole file cannot be read; the message is ``relative path: reason``.
    """
    limit = 2 * file.size + GROWTH
    with _open(file) as stream:
        data = stream.read(limit)
    if len(data) == limit:
        raise DocumentError(f"{file.relative}: grew while it was read; the next run reads it")
    try:
        reader = READERS[Path(file.relative).suffix.lower()]
    except KeyError:
        raise DocumentError(f"{file.relative}: unknown format {Path(file.relative).suffix}") from None
    found, skipped = reader(file, data)
    for place, document in reversed(list(enumerate(found))):
        if len(document.id) > ID_LIMIT:
            skipped.append(Skipped(file.relative, f"id {document.id[:40]!r}… is longer than {ID_LIMIT} characters"))
            del found[place]
        elif len(document.title) > TITLE_LIMIT:
            found[place] = replace(document, title=f"{document.title[:TITLE_LIMIT]}…")
    return found, skipped


def read_or_skip(file: SourceFile) -> Found:
    """As ``read``, but a file that cannot be read at all is one more entry of what was left out."""
    try:
        return read(file)
    except DocumentError as error:
        return [], [Skipped(file.relative, str(error).removeprefix(f"{file.relative}: "))]
    except Exception as error:
        return [], [Skipped(file.relative, defect(error))]


def defect(error: Exception) -> str:
    """Why a file is left out whose reader failed in a way it should not have: one file must not stop a whole run."""
    log.debug("a reader failed", exc_info=error)
    return f"its reader failed ({type(error).__name__}: {first_line(error)}); please report it"


def reading(workspace: Workspace, corpus: str) -> str:
    """Return what decides, beside its bytes, which documents a file of ``corpus`` gives; compare for equality."""
    settings = workspace.corpora[corpus]
    grammars = find_spec("tree_sitter") is not None
    return json.dumps(
        [READING_VERSION, settings.text_columns, settings.title_column, settings.id_column, grammars],
        ensure_ascii=False,
    )


def read_all(workspace: Workspace, corpus: str, progress: Progress | None = None) -> Found:
    """Return all documents of ``corpus`` in reading order, and every file and record left out.

    Of two documents with one id the later has another, or is left out; see `under_free_id`. ``progress`` is told
    ``("read", done, total)`` in files.

    Raises:
        DocumentError: a path of the corpus does not exist, or no document could be read.
    """
    files, skipped = walk(workspace, corpus)
    documents: dict[str, Document] = {}
    for done, file in enumerate(files, 1):
        found, left_out = read_or_skip(file)
        skipped += left_out
        for document in found:
            if free := under_free_id(document, documents.__contains__):
                documents[free.id] = free
            else:
                first = _place(documents[document.id])
                skipped.append(Skipped(file.relative, f"document id {document.id!r} is taken by {first}"))
        if progress:
            progress("read", done, len(files))
    require_documents(workspace, corpus, len(documents), skipped)
    return list(documents.values()), skipped


def under_free_id(document: Document, taken: Callable[[str], bool]) -> Document | None:
    """Return ``document``, by its file and id if it is a record whose id alone is ``taken``; None if that is, too."""
    if not taken(document.id):
        return document
    own = f"{document.path}#{document.id}"
    return None if document.first_line is None or len(own) > ID_LIMIT or taken(own) else replace(document, id=own)


def require_documents(workspace: Workspace, corpus: str, count: int, skipped: Sequence[Skipped]) -> None:
    """Do nothing if ``count`` documents of ``corpus`` could be read.

    Raises:
        DocumentError: ``count`` is 0; the message names the corpus's paths and the first reason.
    """
    if count:
        return
    paths = ", ".join(str(path) for path in workspace.corpus_paths(corpus))
    problem = f"corpus {corpus!r} has no document that can be read in {paths}"
    if skipped:
        problem += f" ({len(skipped)} left out, the first: {skipped[0].path}: {skipped[0].reason})"
    formats = ", ".join(suffix for suffix in READERS if suffix)
    settings = workspace.corpora[corpus]
    patterns = " and ".join(name for name in ("include", "exclude") if getattr(settings, name))
    mend = f"check {patterns} under [corpus.{corpus}], or put" if patterns else "put"
    raise DocumentError(f"{problem}; {mend} files there of these formats: {formats}")


def file_hash(file: SourceFile) -> str:
    """Return the SHA-256 (hex) of the file's bytes.

    Raises:
        DocumentError: the file cannot be read.
    """
    with _open(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _open(file: SourceFile) -> Iterator[BufferedReader]:
    """Open a file that may no longer be the one the walk found: no link is followed, no pipe waited for.

    Raises:
        DocumentError: it cannot be opened, or read.
    """
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DocumentError(f"{file.relative}: not a regular file")
            yield stream
    except OSError as error:
        raise DocumentError(f"{file.relative}: cannot be read: {error.strerror}") from None


def _place(document: Document) -> str:
    return document.path if document.first_line is None else f"{document.path} line {document.first_line}"


def _decode(file: SourceFile, data: bytes, *, markup: bool = False) -> str:
    """Return the text of ``data`` with line feeds as line ends."""
    try:
        return decode(data, markup=markup)[0]
    except NotTextError as error:
        raise DocumentError(f"{file.relative}: {error}") from None


def _read_whole(file: SourceFile, data: bytes, *, format: Format) -> Found:
    text = _decode(file, data, markup=format == "html")
    if not text.strip():
        return [], [Skipped(file.relative, "no text")]
    title = ""
    plain = format == "text"
    if plain:
        from retrieval.markup import markup_of

        format = markup_of(text)
    if format == "markdown":
        from retrieval.front_matter import front_matter

        matter, _ = front_matter(text)
        title = matter.get("title") or matter.get("question", "")
    # What leads a text beside its markup is its title, as in any other.
    if not title and plain and (format == "text" or text.lstrip()[0].isalnum()):
        title = _plain_title(text)
    if not title and format != "text":
        from retrieval.structure import first_heading

        title = first_heading(text, format)
    title = title or name_title(file.relative)
    return [Document(file.relative, file.relative, title, text, format)], []


def _read_notebook(file: SourceFile, data: bytes) -> Found:
    from retrieval.notebooks import NotANotebook, notebook_text
    from retrieval.structure import first_heading

    try:
        text = notebook_text(_decode(file, data))
    except NotANotebook as error:
        raise DocumentError(f"{file.relative}: {error}") from None
    if not text.strip():
        return [], [Skipped(file.relative, "no text")]
    title = first_heading(text, "markdown") or name_title(file.relative)
    return [Document(file.relative, file.relative, title, text, "markdown")], []


def _plain_title(text: str) -> str:
    """What a plain text is called by itself: a manual page's name, a message's subject, a first line that is short."""
    from retrieval import structure_manual
    from retrieval.structure_text import subject

    line = next(line for line in text.split("\n") if line.strip()).strip()
    return structure_manual.title(text) or subject(text) or (line if len(line) <= TITLE_LINE_LIMIT else "")


def name_title(relative: str) -> str:
    """Return the title of a document that has none of its own: its file's name, made readable."""
    stem = Path(relative).stem
    words = stem.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:] if words else stem


def _read_records(
    file: SourceFile, data: bytes, *, parse: Callable[[str, Columns], list[Record | RecordError]]
) -> Found:
    text = _decode(file, data)
    try:
        records = parse(text, file.columns)
    except RecordError as error:
        raise DocumentError(f"{file.relative}: {error.reason}") from None
    documents: dict[str, Document] = {}
    skipped = _add_records(file, records, documents)
    if not records:
        skipped.append(Skipped(file.relative, "no records"))
    return list(documents.values()), skipped


def _read_sheets(file: SourceFile, data: bytes) -> Found:
    from retrieval.sheets import read_sheets

    documents: dict[str, Document] = {}
    skipped: list[Skipped] = []
    for sheet in read_sheets(file.relative, data):
        called = f"sheet {sheet.name!r}"
        skipped += (Skipped(file.relative, f"{called} {reason}") for reason in sheet.left_out)
        try:
            records = sheet_records(sheet.rows, file.columns)
        except RecordError as error:
            skipped.append(Skipped(file.relative, f"{called}: {error.reason}"))
            continue
        found = _add_records(file, records, documents, sheet.name)
        skipped += (replace(item, reason=f"{called}: {item.reason}") for item in found)
    if not documents and not skipped:
        skipped.append(Skipped(file.relative, "no records"))
    return list(documents.values()), skipped


def _add_records(
    file: SourceFile,
    records: Sequence[Record | RecordError],
    documents: dict[str, Document],
    sheet: str = "",
) -> list[Skipped]:
    """Add a document for each record to ``documents``, and return what cannot be one, `MOST_LISTED` one by one.

    A record whose id another has is known by its row on a ``sheet``, and by its id in its group where it has one.
    """
    skipped: list[Skipped] = []
    more, last = 0, ""

    def leave_out(reason: str) -> None:
        nonlocal more, last
        if len(skipped) < MOST_LISTED:
            skipped.append(Skipped(file.relative, reason))
        else:
            more, last = more + 1, reason

    unit = "row" if sheet else "line"
    part = f"{sheet}!" if sheet else ""
    for record in records:
        if isinstance(record, RecordError):
            leave_out(f"{unit} {record.line}: {record.reason}")
            continue
        id = record.id
        if not id or record.own_id or (sheet and id in documents):
            id = f"{file.relative}#{part}{(record.own_id and record.id) or record.row}"
        elif record.place and id in documents:
            id = f"{file.relative}#{record.place}{id}"
        if id in documents:
            leave_out(f"{unit} {record.first_line}: id {id!r} is taken by {unit} {documents[id].first_line}")
            continue
        lines = (record.first_line, record.last_line)
        documents[id] = Document(id, file.relative, record.title, record.text, "text", *lines, record.question)
    if more:
        skipped.append(Skipped(file.relative, f"{more:,} more of the kind, the last of them {last}"))
    return skipped


def _read_outlined(file: SourceFile, data: bytes, *, module: str) -> Found:
    """The document that ``module``'s function ``read`` makes of the file's bytes (see ``structure.Outlined``)."""
    found: Outlined = import_module(module).read(file.relative, data)
    title = found.title or name_title(file.relative)
    document = Document(
        file.relative, file.relative, title, found.text, "outlined", outline=found.outline, pages=found.pages
    )
    return [document], [Skipped(file.relative, reason) for reason in found.left_out]


_markdown = partial(_read_whole, format="markdown")
_rst = partial(_read_whole, format="rst")
_asciidoc = partial(_read_whole, format="asciidoc")
_html = partial(_read_whole, format="html")
_text = partial(_read_whole, format="text")
_jsonl = partial(_read_records, parse=jsonl_records)
_code = partial(_read_outlined, module="retrieval.structure_code")

READERS: dict[str, Callable[[SourceFile, bytes], Found]] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".mdx": _markdown,
    ".rst": _rst,
    ".adoc": _asciidoc,
    ".asciidoc": _asciidoc,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".txt": _text,
    ".text": _text,
    "": _text,
    ".ipynb": _read_notebook,
    ".pdf": partial(_read_outlined, module="retrieval.structure_pdf"),
    ".docx": partial(_read_outlined, module="retrieval.structure_docx"),
    ".pptx": partial(_read_outlined, module="retrieval.structure_pptx"),
    ".json": partial(_read_records, parse=json_records),
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": partial(_read_records, parse=csv_records),
    ".tsv": partial(_read_records, parse=tsv_records),
    **dict.fromkeys(SHEETS, _read_sheets),
    **dict.fromkeys(CODE, _code),
}
"""How a file is read, by its lower-case extension ("": none, as in LICENSE)."""
