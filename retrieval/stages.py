"""The stages of a search, told to whoever listens; to nobody by default.

A listener is bound to the context it is set in, and so to one request of a server; threads that are
started with a copy of that context are heard too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Literal

__all__ = ["Stage", "listener", "stage"]

Stage = Literal["encode", "dense", "lexical", "store", "fuse", "hits"]
"""encode: query to vector · dense, lexical: the two rankings · store: both at once, from a vector database · fuse: one
ranking of both · hits: read, collapse, rerank."""


def _unheard(name: Stage) -> AbstractContextManager[object]:
    return nullcontext()


listener: ContextVar[Callable[[Stage], AbstractContextManager[object]]] = ContextVar("listener", default=_unheard)
"""What makes the context that a stage runs in."""


def stage(name: Stage) -> AbstractContextManager[object]:
    """Return the context to run the stage ``name`` in."""
    return listener.get()(name)
