"""Files that a kill or a power cut leaves whole, and the checksums that show it."""

from __future__ import annotations

import os
from hashlib import file_digest
from pathlib import Path

__all__ = ["file_sha256", "replace_text", "sync"]


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have a file, or a folder's list of names, on the disk before this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(file: Path, text: str, temporary: Path) -> None:
    """Write ``text`` to ``file`` so that a kill at any instant leaves the old content or the new.

    ``temporary`` is a new name in the same folder; whoever sweeps that folder must know its kind.
    """
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    sync(file.parent)
