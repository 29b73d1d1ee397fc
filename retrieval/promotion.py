"""Put a model to use, or go back: its generations are built beside the live ones, then all switch."""

from __future__ import annotations

from retrieval.console import Progress, silent
from retrieval.embedders import load_embedder
from retrieval.generation import Generation, current_name
from retrieval.indexing import build_generation, put_live
from retrieval.models import previous_reference, resolve, roll_back, set_current
from retrieval.workspace import Workspace

__all__ = ["put_to_use", "return_to_previous"]


def put_to_use(workspace: Workspace, reference: str, progress: Progress = silent) -> str:
    """Make ``reference`` the model in use; every corpus that has an index gets one made by it.

    A kill at any instant leaves each corpus with a whole index and the model that made it, since a
    generation names its own model. Returns the concrete reference.

    Raises:
        ModelError: the reference is unknown or cannot be loaded; nothing has changed.
    """
    concrete = resolve(workspace, reference).reference
    built = _build(workspace, concrete, progress)
    set_current(workspace, concrete)
    _switch(workspace, built)
    return concrete


def return_to_previous(workspace: Workspace, progress: Progress = silent) -> str:
    """Go back to the model in use before this one; return its reference.

    Raises:
        ModelError: there is none, or it cannot be loaded; nothing has changed.
    """
    built = _build(workspace, previous_reference(workspace), progress)
    reference = roll_back(workspace)
    _switch(workspace, built)
    return reference


def _build(workspace: Workspace, reference: str, progress: Progress) -> dict[str, Generation]:
    # Loaded even where nothing is built: a model that does not load must not come into use.
    embedder = load_embedder(reference, workspace)
    return {
        corpus: build_generation(workspace, corpus, embedder=embedder, progress=progress)[0]
        for corpus in workspace.corpora
        if current_name(workspace.index_dir(corpus))
    }


def _switch(workspace: Workspace, built: dict[str, Generation]) -> None:
    for corpus, generation in built.items():
        put_live(workspace, corpus, generation)
