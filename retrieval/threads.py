"""One function over many items, in several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

__all__ = ["cores", "in_threads"]


def cores() -> int:
    """Return how many threads may compute: ``OMP_NUM_THREADS``, as a Ray worker has it, or one a core."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    return int(allowed) if allowed.isdigit() and int(allowed) else os.cpu_count() or 1


@contextmanager
def in_threads(count: int, starting: Callable[[], object] | None = None) -> Iterator[Any]:
    """Yield ``run(function, items)``, which yields (item, result) in the items' order.

    ``starting`` is called in each thread first. After an error, or Ctrl-C, nothing more is begun.
    """
    pool = ThreadPoolExecutor(count, initializer=starting)

    def run(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        every = list(items)
        return zip(every, pool.map(function, every), strict=True)

    try:
        yield run
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
