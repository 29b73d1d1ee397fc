"""Find the files of a corpus: contained in its paths, even through symbolic links."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.columns import Columns
from retrieval.console import printable
from retrieval.documents import READERS, Skipped, SourceFile
from retrieval.errors import DocumentError, SettingsError
from retrieval.workspace import FILE_NAME, CorpusSettings, Workspace

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["walk_corpus"]

GITIGNORE = ".gitignore"
GITIGNORE_BYTES = 1_000_000
UNINTERESTING = ("node_modules", "__pycache__")
"""Folders that hold other people's code or none at all, whether a .gitignore says so or not."""
SAVED_WITH = re.compile(r"(?P<page>.+)_(?:files|Dateien|fichiers|archivos|bestanden)")
"""Folders beside a page that a browser saved: its scripts, pictures and frames."""
PAGES = (".html", ".htm")
SAVED = frozenset(
    ".avif .bmp .css .download .eot .gif .htm .html .ico .jpeg .jpg .js .otf .png .svg .ttf .webp .woff .woff2".split()
)
"""What is in such a folder; one with other documents is somebody's own."""
SAVED_NAMES = frozenset(("css", "css2", "js", "saved_resource"))
"""Of these no extension tells: so addresses end of fonts, scripts and frames."""
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"
"""The file that makes a folder a Python environment, which is none of the corpus's text either."""


def walk_corpus(workspace: Workspace, corpus: str) -> tuple[list[SourceFile], list[Skipped]]:
    """Return the files of ``corpus`` sorted by relative path, and what was left out; see ``documents.walk``."""
    roots = []
    for path in workspace.corpus_paths(corpus):
        try:
            roots.append(path.resolve(strict=True))
        except (OSError, RuntimeError, ValueError) as error:
            # RuntimeError: a symbolic link to itself, before Python 3.13; ValueError: a NUL.
            why = f"may not be read ({error.strerror})" if isinstance(error, PermissionError) else "does not exist"
            toml = workspace.root / FILE_NAME
            raise DocumentError(
                f"corpus {corpus!r}: {printable(str(path))} {why}; correct paths under [corpus.{corpus}] in {toml}"
            ) from None
    walker = _Walker(roots, workspace, workspace.corpora[corpus])
    walker.run()
    return sorted(walker.files, key=lambda file: file.relative), sorted(walker.skipped, key=lambda item: item.path)


# How Python shows a byte of a file's name that is not UTF-8; such a name cannot be stored or printed.
_lone_surrogate = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Ignored:
    """The patterns of one .gitignore, which count under ``folder``, and those of the folders around it."""

    folder: Path
    patterns: GitIgnoreSpec
    outer: _Ignored | None

    def covers(self, path: Path, *, folder: bool) -> bool:
        """Whether ``path`` is to be ignored; the innermost .gitignore that mentions it says."""
        ignored: _Ignored | None = self
        while ignored:
            relative = path.relative_to(ignored.folder).as_posix() + "/" * folder
            verdict = ignored.patterns.check_file(relative).include
            if verdict is not None:
                return verdict
            ignored = ignored.outer
        return False


class _Walker:
    """One walk. Links wait until everything else is known, so that a file is found by its own name first."""

    def __init__(self, roots: list[Path], workspace: Workspace, settings: CorpusSettings) -> None:
        self.roots = roots
        self.base = Path(os.path.commonpath([root if root.is_dir() else root.parent for root in roots]))
        self.base_length = len(os.fspath(self.base).rstrip("/")) + 1
        own = (workspace.models_dir, *(workspace.root / name for name in ("indexes", "sessions", FILE_NAME)))
        self.own = {path.resolve() for path in own}
        self.include = _own_patterns(settings.include, "include", workspace) if settings.include else None
        self.exclude = _own_patterns(settings.exclude, "exclude", workspace) if settings.exclude else None
        self.gitignore = settings.gitignore
        self.columns = Columns(settings.text_columns, settings.title_column, settings.id_column)
        self.max_bytes = settings.max_file_mb * 1_000_000
        self.max_file_mb = settings.max_file_mb
        self.files: list[SourceFile] = []
        self.skipped: list[Skipped] = []
        self.seen: dict[Path, str] = {}
        self.links: dict[Path, _Ignored | None] = {}

    def run(self) -> None:
        for root in self.roots:
            if root.is_dir():
                self.folder(root, root, self.ignored_around(root))
            else:
                self.file(root, root)
        while self.links:
            links, self.links = self.links, {}
            for link in sorted(links):
                self.link(link, links[link])

    def skip(self, path: Path, reason: str) -> None:
        name = self.relative(path).encode("utf-8", "replace").decode("utf-8")
        self.skipped.append(Skipped(name, reason))

    def relative(self, path: Path) -> str:
        # Path.relative_to does the same and takes ten times as long, which tells where nothing else changed.
        return os.fspath(path)[self.base_length :] or "."

    def folder(self, shown: Path, real: Path, ignored: _Ignored | None) -> None:
        """Walk the folder ``real``, which the corpus shows as ``shown``, without recursion (it may be deep)."""
        waiting = [(shown, real, ignored)]
        while waiting:
            shown, real, ignored = waiting.pop()
            if real in self.seen or real in self.own:
                continue
            self.seen[real] = self.relative(shown)
            try:
                entries = list(os.scandir(real))
            except OSError as error:
                self.skip(shown, f"cannot be read: {error.strerror}")
                continue
            if any(entry.name == VIRTUAL_ENVIRONMENT for entry in entries) and real not in self.roots:
                continue
            if any(entry.name == GITIGNORE for entry in entries):
                ignored = self.ignored_in(shown, real, ignored)
            by_itself = shown == real
            names = {entry.name for entry in entries}
            for entry in entries:
                path = shown / entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.name.startswith(".") or self.left_out(path, ignored, folder=is_folder):
                    continue
                target = path if by_itself else real / entry.name
                if is_folder and _is_saved(target, names):
                    if target not in self.roots:
                        self.skip(path, "saved by a browser with the page beside it; put it in paths to have it read")
                    continue
                if entry.is_symlink():
                    self.links[path] = ignored
                    continue
                if is_folder:
                    waiting.append((path, target, ignored))
                else:
                    self.file(path, target)

    def left_out(self, path: Path, ignored: _Ignored | None, *, folder: bool) -> bool:
        if folder and path.name in UNINTERESTING:
            return True
        return self.excluded(path, folder=folder) or bool(ignored and ignored.covers(path, folder=folder))

    def excluded(self, path: Path, *, folder: bool = False) -> bool:
        return bool(self.exclude and self.exclude.match_file(self.relative(path) + "/" * folder))

    def ignored_in(self, shown: Path, real: Path, outer: _Ignored | None) -> _Ignored | None:
        """What is ignored under ``real``, shown as ``shown``, by the .gitignore in it and those around it."""
        file = real / GITIGNORE
        # git follows no link here either, which might lead out of the corpus
        if not self.gitignore or file.is_symlink() or not file.is_file():
            return outer
        try:
            with file.open("rb") as stream:
                text = stream.read(GITIGNORE_BYTES).decode("utf-8", "replace")
        except OSError as error:
            self.skip(shown / GITIGNORE, f"cannot be read: {error.strerror}")
            return outer
        return _Ignored(shown, _patterns(text.splitlines()), outer)

    def ignored_around(self, root: Path) -> _Ignored | None:
        """What the repository around ``root`` ignores; nothing where that is ``root`` itself, which was asked for."""
        inside = root
        folders: list[Path] = []
        # os.path.exists, since Path.exists raises where the folder may not be read.
        while not os.path.exists(inside / ".git"):
            if inside == inside.parent:
                return None
            inside = inside.parent
            folders.append(inside)
        ignored = None
        for folder in reversed(folders):
            ignored = self.ignored_in(folder, folder, ignored)
        on_the_way = [root, *(folder for folder in folders if folder != inside)]
        return None if ignored and any(ignored.covers(path, folder=True) for path in on_the_way) else ignored

    def link(self, path: Path, ignored: _Ignored | None) -> None:
        """Follow a link if it leads to where the corpus reaches and nobody else has been."""
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            return self.skip(path, "broken link")
        if not any(real == root or root in real.parents for root in self.roots):
            return self.skip(path, "link to outside of the corpus")
        if not self.own.isdisjoint((real, *real.parents)):
            return None
        if real in self.seen:
            return self.skip(path, f"link to {self.seen[real]}, which is read under that name")
        return self.folder(path, real, ignored) if real.is_dir() else self.file(path, real)

    def file(self, shown: Path, real: Path) -> None:
        if real in self.seen or real in self.own or self.excluded(shown):
            return
        relative = self.relative(shown)
        if self.include and not self.include.match_file(relative):
            return
        if _lone_surrogate.search(relative):
            return self.skip(shown, "its name is not UTF-8; rename it")
        suffix = shown.suffix.lower()
        try:
            status = real.stat()
        except OSError as error:
            return self.skip(shown, f"cannot be read: {error.strerror}")
        if not stat.S_ISREG(status.st_mode):
            return self.skip(shown, "not a regular file")
        if suffix not in READERS:
            return self.skip(shown, f"unknown format {suffix}")
        if status.st_size == 0:
            return self.skip(shown, "empty file")
        if status.st_size > self.max_bytes:
            megabytes = f"{status.st_size / 1_000_000:.3g} MB"
            return self.skip(shown, f"{megabytes} is more than max_file_mb = {self.max_file_mb:g}")
        if not os.access(real, os.R_OK):
            return self.skip(shown, "cannot be read: Permission denied")
        self.seen[real] = relative
        self.files.append(
            SourceFile(real, relative, status.st_size, status.st_mtime_ns, self.columns, status.st_ctime_ns)
        )


def _is_saved(folder: Path, beside: Set[str]) -> bool:
    """Whether a folder holds what a browser saved with a page beside it, and nothing else to be read."""
    saved = SAVED_WITH.fullmatch(folder.name)
    if saved is None or not any(saved["page"] + suffix in beside for suffix in PAGES):
        return False
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError:
        return False
    suffixes = {Path(entry.name).suffix.lower() for entry in entries if entry.name not in SAVED_NAMES}
    own = any(entry.is_dir() for entry in entries) or not SAVED.issuperset(suffixes & READERS.keys())
    return not own and not SAVED.isdisjoint(suffixes)


def _own_patterns(lines: Sequence[str], setting: str, workspace: Workspace) -> GitIgnoreSpec:
    """The patterns of a setting, all of which must be understood: its author is here to mend it."""
    patterns = _patterns(lines)
    if wrong := [line for line in lines if line.strip() and not _patterns([line]).patterns]:
        raise SettingsError(
            f"{workspace.root / FILE_NAME}: {setting} has {wrong[0]!r}, which is no pattern; write it as in .gitignore"
        )
    return patterns


def _patterns(lines: Sequence[str]) -> GitIgnoreSpec:
    """Patterns read as in .gitignore; one that git would not understand either fits nothing."""
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore import GitIgnorePatternError

    understood = []
    for line in lines:
        try:
            GitIgnoreSpec.from_lines([line])
        except GitIgnorePatternError:
            continue
        understood.append(line)
    return GitIgnoreSpec.from_lines(understood)
