"""Find the files of a corpus: contained in its paths, even through symbolic links."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from retrieval.documents import READERS, Skipped, SourceFile
from retrieval.errors import DocumentError
from retrieval.workspace import FILE_NAME, CorpusSettings, Workspace

__all__ = ["walk_corpus"]


def walk_corpus(workspace: Workspace, corpus: str) -> tuple[list[SourceFile], list[Skipped]]:
    """Return the files of ``corpus`` sorted by relative path, and what was left out; see ``documents.walk``."""
    roots = []
    for path in workspace.corpus_paths(corpus):
        try:
            roots.append(path.resolve(strict=True))
        except (OSError, RuntimeError):  # RuntimeError: a symbolic link to itself, before Python 3.13
            toml = workspace.root / FILE_NAME
            raise DocumentError(
                f"corpus {corpus!r}: {path} does not exist; correct paths under [corpus.{corpus}] in {toml}"
            ) from None
    walker = _Walker(roots, workspace, workspace.corpora[corpus])
    walker.run()
    return sorted(walker.files, key=lambda file: file.relative), sorted(walker.skipped, key=lambda item: item.path)


# How Python shows a byte of a file's name that is not UTF-8; such a name cannot be stored or printed.
_lone_surrogate = re.compile("[\ud800-\udfff]")


class _Walker:
    """One walk. Links wait until everything else is known, so that a file is found by its own name first."""

    def __init__(self, roots: list[Path], workspace: Workspace, settings: CorpusSettings) -> None:
        self.roots = roots
        self.base = Path(os.path.commonpath([root if root.is_dir() else root.parent for root in roots]))
        own = (workspace.models_dir, workspace.root / "indexes", workspace.root / FILE_NAME)
        self.own = {path.resolve() for path in own}
        self.include = _any_of(settings.include)
        self.exclude = _any_of(settings.exclude)
        self.max_bytes = settings.max_file_mb * 1_000_000
        self.max_file_mb = settings.max_file_mb
        self.files: list[SourceFile] = []
        self.skipped: list[Skipped] = []
        self.seen: dict[Path, str] = {}
        self.links: list[Path] = []

    def run(self) -> None:
        for root in self.roots:
            if root.is_dir():
                self.folder(root, root)
            else:
                self.file(root, root)
        while self.links:
            links, self.links = sorted(self.links), []
            for link in links:
                self.link(link)

    def skip(self, path: Path, reason: str) -> None:
        name = self.relative(path).encode("utf-8", "replace").decode("utf-8")
        self.skipped.append(Skipped(name, reason))

    def relative(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()

    def folder(self, shown: Path, real: Path) -> None:
        """Walk the folder ``real``, which the corpus shows as ``shown``, without recursion (it may be deep)."""
        waiting = [(shown, real)]
        while waiting:
            shown, real = waiting.pop()
            if real in self.seen or real in self.own:
                continue
            self.seen[real] = self.relative(shown)
            try:
                entries = list(os.scandir(real))
            except OSError as error:
                self.skip(shown, f"cannot be read: {error.strerror}")
                continue
            for entry in entries:
                path = shown / entry.name
                if entry.name.startswith(".") or self.excluded(path):
                    continue
                if entry.is_symlink():
                    self.links.append(path)
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((path, real / entry.name))
                else:
                    self.file(path, real / entry.name)

    def excluded(self, path: Path) -> bool:
        return bool(self.exclude and self.exclude.fullmatch(self.relative(path)))

    def link(self, path: Path) -> None:
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
        return self.folder(path, real) if real.is_dir() else self.file(path, real)

    def file(self, shown: Path, real: Path) -> None:
        if real in self.seen or real in self.own or self.excluded(shown):
            return
        if self.include and not self.include.fullmatch(self.relative(shown)):
            return
        if _lone_surrogate.search(self.relative(shown)):
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
        self.seen[real] = self.relative(shown)
        self.files.append(SourceFile(real, self.relative(shown), status.st_size, status.st_mtime_ns))


def _any_of(globs: Iterable[str]) -> re.Pattern[str] | None:
    patterns = [_translate(glob) for glob in globs]
    return re.compile("|".join(patterns)) if patterns else None


def _translate(glob: str) -> str:
    """A regular expression for one pattern, read as in .gitignore.

    ``*`` and ``?`` stay within a folder, ``**`` does not; a pattern without ``/`` fits at any depth;
    what fits a folder fits all that is in it.
    """
    body = glob.strip("/")
    parts = [
        ".*" if part == "**" else re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
        for part in body.split("/")
    ]
    pattern = "/".join(parts).replace(".*/", "(?:.*/)?")
    anywhere = "" if "/" in body or glob.startswith("/") else "(?:.*/)?"
    return f"(?:{anywhere}{pattern}(?:/.*)?)"
