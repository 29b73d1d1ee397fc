"""Index, promote and roll back in children that kill themselves at random instants; a script.

usage: killed_anywhere.py SCRATCH KILLS

The instants are drawn with a fixed seed from all that the operation runs through, so that they spread over
the whole of it whatever the machine's speed: each line of the modules that seal, switch and sweep, and each
call of the package's others. After each death a fresh process asks the index in every mode, then runs the operation
again. Prints a JSON object: for each operation the instants there are, and how often which state was found.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from children import in_child
from hash_embedder import HashEmbedder

import retrieval.integrity
import retrieval.search
from retrieval.generation import remains
from retrieval.indexing import build_index
from retrieval.integrity import examine_index
from retrieval.models import abandoned, current_reference
from retrieval.promotion import put_to_use, return_to_previous
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace

OURS = str(Path(retrieval.search.__file__).parent)
BY_LINE = tuple(str(Path(OURS, name)) for name in ("durable.py", "generation.py", "models.py", "promotion.py"))
QUERY = "wombat burrow"


def embedder_of(reference: str, *_: object, **__: object) -> HashEmbedder:
    return HashEmbedder(reference.removeprefix("test/"))


def index(workspace: Workspace) -> None:
    build_index(workspace, embedder=embedder_of(current_reference(workspace)))


def promote(workspace: Workspace) -> None:
    put_to_use(workspace, "test/two", embedder=embedder_of("test/two"))


def roll_back(workspace: Workspace) -> None:
    return_to_previous(workspace, embedder=embedder_of("test/one"))


def use_the_first(workspace: Workspace) -> None:
    put_to_use(workspace, "test/one", embedder=embedder_of("test/one"))


OPERATIONS: dict[str, tuple[Callable[[Workspace], None], Callable[[Workspace], None]]] = {
    "index": (index, index),
    "promote": (promote, promote),
    "rollback": (roll_back, use_the_first),
}
"""What is killed, and the run after it that must reach the same end."""


def prepare(root: Path, operation: str) -> None:
    """A workspace with an index, just before the operation."""
    (root / "docs").mkdir(parents=True)
    for number in range(3):
        text = f"The wombat {number} digs a burrow and eats {number * 7} roots.\n"
        (root / "docs" / f"{number}.txt").write_text(text, encoding="utf-8")
    Workspace.create(root, {"docs": "docs"}, "test/one")
    workspace = Workspace.open(root)
    index(workspace)
    if operation == "index":
        (root / "docs" / "0.txt").write_text("A wombat left its burrow.\n", encoding="utf-8")
        (root / "docs" / "1.txt").unlink()
        (root / "docs" / "9.txt").write_text("Another wombat, another burrow.\n", encoding="utf-8")
    if operation == "rollback":
        promote(workspace)


def traced(action: Callable[[], None], die_at: int) -> int:
    """Run ``action`` and return how many instants that were; die at ``die_at``, where it is not 0."""
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            count()
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename in BY_LINE:
            return line
        if frame.f_code.co_filename.startswith(OURS):
            count()
        return None

    sys.settrace(call)
    try:
        action()
    finally:
        sys.settrace(None)
    return passed


def answers(root: Path) -> dict[str, Any]:
    """What each mode finds, by whose model; and that of a generation that is whole."""
    workspace = Workspace.open(root)
    live = examine_index(workspace, "docs")[0]
    assert live.problem == "", live.problem
    engine = SearchEngine(workspace)
    found: dict[str, Any] = {"model": engine.info().reference}
    for mode in ("hybrid", "dense", "lexical"):
        hits = engine.search(QUERY, top_k=20, mode=mode).hits  # type: ignore[arg-type]
        found[mode] = [[hit.id, hit.text, round(hit.score, 4)] for hit in hits]
    return found


def settle(root: Path, again: Callable[[Workspace], None]) -> dict[str, Any]:
    """Run the operation again and return the answers then; nothing of the death may be left."""
    workspace = Workspace.open(root)
    again(workspace)
    index(workspace)
    found = answers(root)
    assert current_reference(workspace) == found["model"], (current_reference(workspace), found["model"])
    assert not SearchEngine(workspace).info().stale
    index_dir = workspace.index_dir("docs")
    left = [*remains(index_dir), *abandoned(workspace)]
    assert left == [], left
    names = {path.name for path in index_dir.iterdir()} - {"CURRENT", "LOCK", "embeddings"}
    assert len(names) <= 2 and all(name.startswith("g") for name in names), names
    if workspace.models_dir.exists():
        assert {path.name for path in workspace.models_dir.iterdir()} <= {"CURRENT", "LOCK"}
    return found


def kill_often(name: str, scratch: Path, kills: int) -> dict[str, Any]:
    operation, again = OPERATIONS[name]
    prepared, root, result = scratch / name, scratch / "workspace", scratch / "result.json"

    def done(action: Callable[[], object]) -> Any:
        code, value = in_child(action, result)
        assert code == 0, code
        return value

    def renew() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(prepared, root)

    done(lambda: prepare(prepared, name))
    renew()
    old = done(lambda: answers(root))
    for module in done(lambda: [operation(Workspace.open(root)), sorted(sys.modules)])[1]:
        importlib.import_module(module)  # once here, not in each child
    renew()
    instants = done(lambda: traced(lambda: operation(Workspace.open(root)), 0))
    new = done(lambda: settle(root, again))
    assert old != new
    found: Counter[str] = Counter()
    for instant in chosen(instants, kills):
        renew()
        code, _ = in_child(lambda instant=instant: traced(lambda: operation(Workspace.open(root)), instant), result)  # type: ignore[misc]
        assert code == -signal.SIGKILL, (name, instant, code)
        after, settled = done(lambda: [answers(root), settle(root, again)])
        assert after in (old, new), (name, instant, after)
        assert settled == new, (name, instant, settled)
        found["old" if after == old else "new"] += 1
    return {"instants": instants, **found}


def chosen(instants: int, kills: int) -> list[int]:
    """Half of them anywhere, half in the last tenth, where it is sealed, switched and swept."""
    generator = random.Random(13)
    late = instants * 9 // 10
    return generator.sample(range(1, late), kills // 2) + generator.sample(range(late, instants), kills - kills // 2)


def main() -> None:
    scratch, kills = Path(sys.argv[1]), int(sys.argv[2])
    retrieval.search.load_embedder = embedder_of  # type: ignore[assignment, attr-defined]
    print(json.dumps({name: kill_often(name, scratch, kills) for name in OPERATIONS}))


if __name__ == "__main__":
    main()
