"""Write, seal, open and verify one generation of an index.

On disk, in ``indexes/<corpus>/``::

    g000007/  manifest.json  catalog.sqlite  vectors.faiss  lexical/
    CURRENT   the name of the live generation
    LOCK      held by the one process that writes, which leaves its number in it
    TIMES     of the files that were found since to be as they were indexed (:mod:`retrieval.times`)

A generation is put together in a temporary folder, synced, renamed, and only then named by
CURRENT: a kill at any instant leaves the old one live and whole. It never changes afterwards, so
it may be mapped. Who has one open holds a shared lock on its manifest, and a generation so held
is not swept away. Both locks are the kernel's (flock): they end with the process, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from retrieval.documents import Skipped
from retrieval.durable import file_sha256, replace_text, sync
from retrieval.errors import IndexingError, NewerFormat
from retrieval.pointer import CURRENT, current_name

__all__ = [
    "FORMAT",
    "TEMPORARY",
    "Generation",
    "Manifest",
    "generation_folders",
    "open_current",
    "refuse_to_switch",
    "remains",
    "seal",
    "stage",
    "switch",
    "verify",
    "writer",
    "writing",
]

FORMAT = 6
"""The version of everything in a generation's folder.

One of an earlier version is built anew by the next indexing run, from the vectors that are kept; one
of a later version is left alone.
"""

LOCK = "LOCK"
MANIFEST = "manifest.json"
CATALOG = "catalog.sqlite"
VECTORS = "vectors.faiss"
LEXICAL = "lexical"
_NAME = re.compile(r"g(\d{6,})")
TEMPORARY = ".building-"
_GLANCE = 0.2
"""Seconds that a writer waits for the lock."""
_REBUILD = "rebuild it with `shoptalk index --full`"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation is made of and by.

    ``files`` maps each file to its size and sha256; ``vectors`` says what kind of index they are in;
    ``reading`` is what documents are made with beside their files (``documents.reading``).
    """

    format: int
    corpus: str
    created: str
    documents: int
    passages: int
    reference: str
    fingerprint: str
    dimension: int
    max_tokens: int
    tokenizer: int
    language: str
    lexical_weight: float | None
    lexical_dead: int
    skipped: tuple[Skipped, ...]
    files: Mapping[str, tuple[int, str]]
    vectors: Mapping[str, str | int | float] = field(default_factory=dict)
    reading: str = ""
    heading_context: bool = True
    heading_share: float = 0.0

    def to_json(self) -> str:
        """Write the manifest, with a seal that shows whether it was altered."""
        values = asdict(self)
        return json.dumps({**values, "seal": _seal_of(values)}, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what :meth:`to_json` wrote.

        Raises:
            NewerFormat: a later version of Shoptalk wrote it.
            ValueError: it is not that, is of an earlier format, or was altered since.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        # Every format has this seal, so that a later version's manifest is told from a damaged one.
        if values.pop("seal", None) != _seal_of(values):
            raise ValueError("it was altered")
        written = values.get("format")
        if isinstance(written, int) and written > FORMAT:
            raise NewerFormat(f"a later version of Shoptalk wrote it (format {written}; this one knows {FORMAT})")
        if written != FORMAT:
            raise _EarlierFormat(
                f"an earlier version of Shoptalk wrote it (format {written}; this one writes {FORMAT})"
            )
        if values.keys() != {field.name for field in fields(cls)}:
            raise ValueError(f"its keys are not those of format {FORMAT}")
        values["skipped"] = tuple(Skipped(**item) for item in values["skipped"])
        values["files"] = {name: (size, digest) for name, (size, digest) in values["files"].items()}
        return cls(**values)


class _EarlierFormat(ValueError):
    """An earlier version of Shoptalk wrote the manifest."""


def _seal_of(values: Mapping[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Generation:
    """One sealed generation, held open: it stays on disk until this is closed or forgotten.

    Raises:
        FileNotFoundError: it is gone, or just going.
        NewerFormat: a later version of Shoptalk wrote it.
        IndexingError: its manifest, or the size of one of its files, is not as it was sealed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        descriptor = _hold(folder / MANIFEST)
        self.close = weakref.finalize(self, os.close, descriptor)
        try:
            self.manifest = Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
        except NewerFormat as error:
            raise NewerFormat(
                f"{folder} cannot be read: {error}; update Shoptalk, or delete {folder.parent / CURRENT} "
                "and run `shoptalk index` to build an index of this version"
            ) from None
        except _EarlierFormat as error:
            raise IndexingError(f"{folder} cannot be read: {error}; run `shoptalk index`") from None
        except (ValueError, TypeError) as error:
            raise IndexingError(f"{folder / MANIFEST} is unusable: {error}; {_REBUILD}") from None
        for name, (size, _) in self.manifest.files.items():
            try:
                found = (folder / name).stat().st_size
            except FileNotFoundError:
                raise IndexingError(f"{folder / name} is missing; {_REBUILD}") from None
            if found != size:
                raise IndexingError(f"{folder / name} is damaged: {found} bytes instead of {size}; {_REBUILD}")

    @property
    def name(self) -> str:
        """The folder's name, such as ``g000007``."""
        return self.folder.name

    @property
    def catalog_file(self) -> Path:
        """The SQLite catalogue."""
        return self.folder / CATALOG

    @property
    def vectors_file(self) -> Path:
        """The FAISS index."""
        return self.folder / VECTORS

    @property
    def lexical_folder(self) -> Path:
        """The tantivy index."""
        return self.folder / LEXICAL


def _hold(manifest: Path) -> int:
    descriptor = os.open(manifest, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), manifest.stat()):
            raise FileNotFoundError(manifest)
    except BlockingIOError:  # only a sweep takes the exclusive lock
        os.close(descriptor)
        raise FileNotFoundError(manifest) from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_current(index_dir: Path, corpus: str) -> Generation:
    """Open the live generation of ``corpus``; cheap, as only the sizes of its files are checked.

    Raises:
        NewerFormat: a later version of Shoptalk wrote it.
        IndexingError: there is no generation yet, or it is damaged.
    """
    name = current_name(index_dir)
    if name is None:
        raise IndexingError(f"corpus {corpus!r} has no index yet; run `shoptalk index`")
    while True:
        if not _NAME.fullmatch(name):
            raise IndexingError(f"{index_dir / CURRENT} is damaged: it names no generation; {_REBUILD}")
        try:
            return Generation(index_dir / name)
        except FileNotFoundError:
            # Between reading CURRENT and opening, two newer generations may have come.
            newer = current_name(index_dir)
            if newer is None or newer == name:
                raise IndexingError(f"{index_dir / name} is missing; {_REBUILD}") from None
            name = newer


def verify(generation: Generation) -> None:
    """Compare every file with its sha256 in the manifest; reads everything.

    Raises:
        IndexingError: one differs; the message names it.
    """
    generation = Generation(generation.folder)  # the manifest and the sizes may have changed since it was opened
    for name, (_, digest) in generation.manifest.files.items():
        if file_sha256(generation.folder / name) != digest:
            raise IndexingError(f"{generation.folder / name} is damaged: its checksum is wrong; {_REBUILD}")


@contextmanager
def writing(index_dir: Path, corpus: str) -> Iterator[None]:
    """Be the one writer of ``corpus`` for the length of the block; what dead writers left is swept.

    Raises:
        IndexingError: another process is.
    """
    from filelock import FileLock, Timeout

    index_dir.mkdir(parents=True, exist_ok=True)
    try:
        # Who asks whether anybody writes holds the lock for an instant.
        with FileLock(index_dir / LOCK, timeout=_GLANCE, poll_interval=_GLANCE / 10):
            (index_dir / LOCK).write_text(f"{os.getpid()}\n", encoding="utf-8")
            _sweep(index_dir)
            yield
    except Timeout:
        number = writer(index_dir)
        who = f"another process ({number})" if number else "another process"
        raise IndexingError(f"{who} is indexing corpus {corpus!r}; wait for it, then try again") from None


def writer(index_dir: Path) -> int | None:
    """Return the process that is writing this index now; 0 where its number is not known, None where none is."""
    try:
        descriptor = os.open(index_dir / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.read(descriptor, 32).strip()
        return int(number) if number.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


@contextmanager
def stage(index_dir: Path) -> Iterator[Path]:
    """Yield a new temporary folder to build a generation in; it is gone after the block unless sealed."""
    folder = index_dir / f"{TEMPORARY}{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seal(staged: Path, manifest: Manifest, base: Generation | None = None) -> Generation:
    """Add the manifest to the folder ``staged`` (``files`` is filled in here), sync it and give it the next number.

    A file that is one of ``base``'s under a second name (a hard link) keeps the checksum it has there, so
    that damage to it is found whenever it came about. The generation is not live before :func:`switch`.
    """
    index_dir = staged.parent
    paths = sorted(path for path in staged.rglob("*") if path.is_file() and path.suffix != ".lock")
    shared = _shared(paths, staged, base) if base else {}
    files = {
        path.relative_to(staged).as_posix(): shared.get(path) or (path.stat().st_size, file_sha256(path))
        for path in paths
    }
    values = {field.name: getattr(manifest, field.name) for field in fields(manifest)}
    (staged / MANIFEST).write_text(Manifest(**{**values, "files": files}).to_json(), encoding="utf-8")
    for path in staged.rglob("*"):
        if path not in shared:
            sync(path)
    sync(staged)
    number = max((_number(folder) for folder in generation_folders(index_dir)), default=0) + 1
    target = index_dir / f"g{number:06d}"
    staged.rename(target)
    sync(index_dir)
    return Generation(target)


def _shared(paths: Sequence[Path], staged: Path, base: Generation) -> dict[Path, tuple[int, str]]:
    """Size and sha256 of those of ``paths`` that are files of ``base``."""
    found = {}
    for path in paths:
        name = path.relative_to(staged).as_posix()
        sealed = base.manifest.files.get(name)
        if sealed and os.path.samefile(base.folder / name, path):
            found[path] = sealed
    return found


def switch(index_dir: Path, generation: Generation) -> None:
    """Make ``generation`` the live one, and sweep those that nobody needs.

    Kept are the one that was live before, those sealed later, and those a reader holds.

    Raises:
        IndexingError: a later one went live since it was sealed.
    """
    refuse_to_switch(index_dir, generation)
    before = current_name(index_dir)
    replace_text(index_dir / CURRENT, generation.name + "\n", index_dir / f"{TEMPORARY}{uuid.uuid4().hex}")
    for folder in generation_folders(index_dir):
        if folder.name not in (before, generation.name) and _number(folder) < _number(generation.folder):
            _remove_unless_held(folder)


def refuse_to_switch(index_dir: Path, generation: Generation) -> None:
    """Raise what :func:`switch` would, and change nothing.

    Raises:
        IndexingError: a later one went live since it was sealed.
    """
    before = current_name(index_dir)
    later = before is not None and _number(index_dir / before) > _number(generation.folder)
    if later and (index_dir / str(before) / MANIFEST).exists():
        raise IndexingError(f"{generation.name} is not put live: {before}, made later, is live already")
    if not (generation.folder / MANIFEST).exists():
        raise IndexingError(f"{generation.folder} is gone: a later generation went live; run `shoptalk index`")


def remains(index_dir: Path) -> list[Path]:
    """What a writer that was killed left in ``index_dir``; the next one sweeps it, unless a reader holds it.

    That is what was staged, and each generation but the live one and the one before it.
    """
    if not index_dir.is_dir():
        return []
    live = _number(index_dir / (current_name(index_dir) or ""))
    folders = generation_folders(index_dir)
    before = max((_number(folder) for folder in folders if _number(folder) < live), default=0)
    # Without a CURRENT that can be read nobody can tell which of them was live.
    needless = [folder for folder in folders if live and _number(folder) not in (live, before)]
    return [*sorted(index_dir.glob(f"{TEMPORARY}*")), *needless]


def _remove_unless_held(folder: Path) -> None:
    try:
        descriptor = os.open(folder / MANIFEST, os.O_RDWR)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    else:
        # Renamed first, so that no reader ever finds half a generation under its name.
        going = folder.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        folder.rename(going)
        shutil.rmtree(going, ignore_errors=True)
    finally:
        os.close(descriptor)


def _sweep(index_dir: Path) -> None:
    """Remove what dead writers left; the caller holds the lock, so no living one stages anything."""
    for path in remains(index_dir):
        if _NAME.fullmatch(path.name):
            _remove_unless_held(path)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def generation_folders(index_dir: Path) -> list[Path]:
    """Return the folders of the sealed generations in ``index_dir``, oldest first."""
    if not index_dir.is_dir():
        return []
    found = [path for path in index_dir.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_number)


def _number(folder: Path) -> int:
    match = _NAME.fullmatch(folder.name)
    return int(match.group(1)) if match else 0
