"""The times of files that were found to be as they were indexed, though they had new ones: so they are hashed once.

A generation never changes after it is sealed, so they stand beside it, in ``indexes/<corpus>/TIMES``. Nothing rests on
them: where they cannot be read, or are another generation's, the files are hashed again.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import replace

from retrieval.catalog import CatalogReader, FileRow
from retrieval.durable import replace_text
from retrieval.generation import TEMPORARY, Generation

__all__ = ["keep_times", "kept_times", "known_files"]

log = logging.getLogger(__name__)

TIMES = "TIMES"


def known_files(generation: Generation) -> dict[str, FileRow]:
    """Return the files of ``generation`` as they were last found to be as they were indexed, by path.

    Raises:
        IndexingError: its catalogue is damaged.
    """
    known = CatalogReader(generation.catalog_file).files()
    for path, (modified_ns, changed_ns) in kept_times(generation).items():
        if path in known:
            known[path] = replace(known[path], modified_ns=modified_ns, changed_ns=changed_ns)
    return known


def keep_times(generation: Generation, known: Mapping[str, FileRow], times: Mapping[str, tuple[int, int]]) -> None:
    """Remember that files with these times, by path, are those of ``generation``, byte by byte.

    The times are of modification and of change; ``known`` are its :func:`known_files`. The caller is the corpus's one
    writer.
    """
    times = {path: new for path, new in times.items() if path in known}
    if all((known[path].modified_ns, known[path].changed_ns) == new for path, new in times.items()):
        return
    text = json.dumps({"generation": generation.name, "created": generation.manifest.created, "times": times})
    index_dir = generation.folder.parent
    try:
        replace_text(index_dir / TIMES, text, index_dir / f"{TEMPORARY}{uuid.uuid4().hex}")
    except OSError as error:
        log.warning("%s cannot be written (%s); unchanged files are hashed again", index_dir / TIMES, error.strerror)


def kept_times(generation: Generation) -> dict[str, tuple[int, int]]:
    """The times of modification and of change, by path, that were kept of the files of ``generation``."""
    try:
        found = json.loads((generation.folder.parent / TIMES).read_bytes())
        if (found["generation"], found["created"]) != (generation.name, generation.manifest.created):
            return {}
        return {path: (int(modified), int(changed)) for path, (modified, changed) in found["times"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s cannot be read (%s); unchanged files are hashed again", generation.folder.parent / TIMES, error)
        return {}
