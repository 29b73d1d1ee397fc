"""Index the corpus of a workspace while its files change; a script, so that its memory is its own.

usage: hostile_indexing.py WORKSPACE ROOT

Prints a JSON object: the files of which there are documents, what was left out and why, whether the
canary is anywhere in the catalogue, how often it and the known word are found, and the most memory
the process had before and during the run, in megabytes; and what a second run added, updated and removed.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
from pathlib import Path
from zlib import crc32

import faiss  # noqa: F401  (before the memory is measured)
import hostile_files
import numpy as np
import Stemmer  # noqa: F401
import tantivy  # noqa: F401
from hash_embedder import HashEmbedder
from numpy.typing import NDArray

from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace

ADDRESS_SPACE = 6 << 30
PROCESSOR_SECONDS = 600


class TextEmbedder(HashEmbedder):
    """One direction a text, whatever its words: fast on megabytes."""

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector = np.random.default_rng(crc32(text.encode())).standard_normal(self.dimension)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def peak() -> int:
    """The most memory this program has taken, in megabytes; Linux counts in ru_maxrss what its parent had taken."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS, in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    kilobytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(kilobytes) >> 10


def main() -> None:
    workspace, root = Workspace.open(sys.argv[1], environ={}), Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    before = peak()
    changed = False

    def change_once(stage: str, done: int, total: int) -> None:
        nonlocal changed
        if not changed:
            changed = True
            hostile_files.change(root)

    report = build_index(workspace, embedder=TextEmbedder(), progress=change_once)
    during = peak()
    engine = SearchEngine(workspace)
    hits = {
        word: [hit.path for hit in engine.search(word, mode="lexical").hits]
        for word in (hostile_files.CANARY, hostile_files.KNOWN)
    }
    catalog = sqlite3.connect(open_current(workspace.index_dir("hostile"), "hostile").catalog_file)
    like = f"%{hostile_files.CANARY}%"
    found = {
        "documents": [row[0] for row in catalog.execute("SELECT DISTINCT path FROM documents")],
        "skipped": [[item.path, item.reason] for item in report.skipped],
        "canaries": catalog.execute("SELECT count(*) FROM passages WHERE text LIKE ?", (like,)).fetchone()[0],
        "hits": hits,
        "megabytes": [before, during],
    }
    again = build_index(workspace, embedder=TextEmbedder())
    found["again"] = [again.added, again.updated, again.removed]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
