"""Work done in a child process, which may die of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def in_child(work: Callable[[], object], result: Path) -> tuple[int, Any]:
    """Run ``work`` in a child; return its exit code, negative for a signal, and what it returned."""
    result.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            result.write_text(json.dumps(work()), encoding="utf-8")
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, json.loads(result.read_text(encoding="utf-8")) if code == 0 else None
