"""Say in one line that a disk took no more, whichever library was writing."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from os import strerror
from pathlib import Path

from retrieval.errors import IndexingError, ShoptalkError

__all__ = ["full_disk_told"]

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SQLITE_REFUSALS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)


@contextmanager
def full_disk_told(
    folder: Path, kept: str = "the old index stays", kind: type[ShoptalkError] = IndexingError
) -> Iterator[None]:
    """Turn what SQLite, FAISS, tantivy, safetensors and Python raise over a full disk into one error.

    Args:
        folder: what is written to.
        kept: what the reader need not fear for.
        kind: of the error.

    Raises:
        ShoptalkError: of that ``kind``: the disk that holds ``folder`` is full, or its quota or the process's file size
            is used up.
    """
    try:
        yield
    except ShoptalkError:
        raise
    except Exception as error:
        reason = _refusal(error)
        if reason is None:
            raise
        told = f"the disk of {folder} takes no more ({reason}); free some space and run it again; {kept}"
        raise kind(told) from error


def _refusal(error: Exception) -> str | None:
    """What the operating system said when it refused to write; None where something else went wrong."""
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return strerror(error.errno)
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in _SQLITE_REFUSALS:
        return str(error)
    # FAISS (RuntimeError), tantivy (ValueError, OSError without errno) and safetensors only quote it.
    return next((strerror(code) for code in _REFUSALS if strerror(code) in str(error)), None)
