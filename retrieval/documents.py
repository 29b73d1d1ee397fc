"""Walk a corpus and read each file into documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Format = Literal["markdown", "rst", "html", "text"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a corpus: where it is, and its path relative to the corpus root (``/`` separated)."""

    path: Path
    relative: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Document:
    """One file, or one record of a record file.

    ``id`` is the file's path relative to the corpus root, or the record's own id. ``text`` has
    ``\\n`` line ends. ``first_line`` and ``last_line`` are set for records: the 1-based lines of
    ``path`` that hold the record; for a whole file they are None and the lines of ``text`` count.
    """

    id: str
    path: str
    title: str
    text: str
    format: Format
    first_line: int | None = None
    last_line: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a record of one, that was left out, and why."""

    path: str
    reason: str
