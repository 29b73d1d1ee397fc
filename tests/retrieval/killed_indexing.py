"""Run indexing in children that kill themselves with SIGKILL at each instant that matters; a script.

usage: killed_indexing.py WORKSPACE SCRATCH

WORKSPACE is indexed, with documents that changed since. An instant is just before a sync or a
rename, a batch that was encoded, a file that was read. After each death a fresh process asks the
index. Prints a JSON object: how many children died, and for each live generation how often it
answered in full.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss  # noqa: F401  (loaded once here, not in each child)
import Stemmer  # noqa: F401
import tantivy  # noqa: F401
from hash_embedder import HashEmbedder

from retrieval.catalog import CatalogReader
from retrieval.generation import open_current, verify
from retrieval.indexing import build_index
from retrieval.lexical import LexicalIndex
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace


def die_at(instant: int) -> Callable[..., None]:
    passed = 0

    def count(*_: object) -> None:
        nonlocal passed
        passed += 1
        if passed == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


def index_and_die(root: Path, instant: int) -> None:
    count = die_at(instant)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            count()
            return function(*arguments, **options)

        return counted

    for name in ("fsync", "replace", "rename", "rmdir", "unlink"):
        setattr(os, name, before(getattr(os, name)))
    embedder = HashEmbedder()
    embedder.encode_documents = before(embedder.encode_documents)  # type: ignore[method-assign]
    build_index(Workspace.open(root), embedder=embedder, progress=count)


def ask(root: Path) -> str:
    workspace = Workspace.open(root)
    generation = open_current(workspace.index_dir("docs"), "docs")
    verify(generation)
    query = HashEmbedder().encode_queries(["wombat"])[0]
    dense, _ = VectorIndex.read(generation.vectors_file).search(query, 50)
    lexical = LexicalIndex.open(generation.lexical_folder, "english").search("wombat", 50)
    rows = CatalogReader(generation.catalog_file).passages(dense.tolist())
    assert len(rows) == generation.manifest.passages == len(dense)
    texts = {rows[number].passage.text for number, _ in lexical}
    assert texts == ({"old wombat"} if generation.name == "g000001" else {"new wombat", "another wombat"})
    return generation.name


def in_child(action: Callable[..., object], *arguments: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            action(*arguments)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    prepared, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    answered: Counter[str] = Counter()
    deaths, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(prepared, scratch)
        code = in_child(index_and_die, scratch, deaths + 1)
        deaths += code == -signal.SIGKILL
        assert in_child(ask, scratch) == 0
        answered[(scratch / "indexes" / "docs" / "CURRENT").read_text().strip()] += 1
    assert code == 0
    left = sorted(path.name for path in (scratch / "indexes" / "docs").iterdir())
    print(json.dumps({"deaths": deaths, "answered": answered, "left": left}))


if __name__ == "__main__":
    main()
