"""Put a model to use, or go back: its generations are built beside the live ones, then all switch."""

from __future__ import annotations

from retrieval.console import Progress, silent
from retrieval.embedders import Embedder, load_embedder
from retrieval.errors import DocumentError, IndexingError
from retrieval.generation import Generation, open_current
from retrieval.indexing import build_generation, build_index, put_live
from retrieval.models import (
    changing_models,
    current_reference,
    previous_reference,
    resolve,
    roll_back,
    set_current,
)
from retrieval.pointer import current_name
from retrieval.stores import indexed_elsewhere, open_store
from retrieval.workspace import Workspace

__all__ = ["NOT_SEARCHED_WITH", "made_elsewhere", "put_to_use", "return_to_previous"]

NOT_SEARCHED_WITH = "chosen, but model.endpoint is what searches: serve it there, or remove model.endpoint"
"""What a model is that was promoted while an endpoint embeds."""


def made_elsewhere(workspace: Workspace) -> dict[str, str]:
    """Return the model that made each index which another machine put into the database: it stays as it is.

    Raises:
        IndexingError: the database does not answer.
    """
    elsewhere = [corpus for corpus in workspace.corpora if indexed_elsewhere(workspace, corpus)]
    stores = {corpus: open_store(workspace, corpus) for corpus in elsewhere}
    return {corpus: store.open().facts.reference for corpus, store in stores.items() if store.live()}


def put_to_use(
    workspace: Workspace, reference: str, progress: Progress = silent, *, embedder: Embedder | None = None
) -> str:
    """Make ``reference`` the model in use; every corpus that has an index gets one made by it.

    A kill at any instant leaves each corpus with a whole index and the model that made it, since a
    generation names its own model. Where the model is in use and made every index, nothing is done.
    With ``model.endpoint`` set it is only written down, as the endpoint goes on embedding.

    Args:
        workspace: whose model it becomes.
        reference: any model reference.
        progress: told how far the indexes are.
        embedder: that of ``reference``, where it is loaded already.

    Returns the concrete reference.

    Raises:
        ModelError: the reference is unknown or cannot be loaded, or another process is putting a
            model to use; nothing has changed.
        DocumentError: the documents of a corpus that has an index cannot be read; nothing has changed.
        IndexingError: a corpus is being indexed by another process.
    """
    concrete = resolve(workspace, reference).reference
    with changing_models(workspace):
        if workspace.model.endpoint:
            set_current(workspace, concrete)
            return concrete
        if concrete == current_reference(workspace) and _made_every_index(workspace, concrete):
            return concrete
        # Loaded even where nothing is built: a model that does not load must not come into use.
        embedder = embedder or load_embedder(concrete, workspace)
        built = _build(workspace, embedder, progress)
        set_current(workspace, concrete)
        _switch(workspace, built, embedder, progress)
    return concrete


def return_to_previous(workspace: Workspace, progress: Progress = silent, *, embedder: Embedder | None = None) -> str:
    """Go back to the model in use before this one, as `put_to_use` would; return its reference.

    Raises:
        ModelError: there is none, it cannot be loaded, or another process is putting a model to
            use; nothing has changed.
        IndexingError: a corpus is being indexed by another process.
    """
    with changing_models(workspace):
        if workspace.model.endpoint:
            return roll_back(workspace)
        embedder = embedder or load_embedder(previous_reference(workspace), workspace)
        built = _build(workspace, embedder, progress)
        reference = roll_back(workspace)
        _switch(workspace, built, embedder, progress)
    return reference


def _made_every_index(workspace: Workspace, reference: str) -> bool:
    try:
        return all(
            open_current(workspace.index_dir(corpus), corpus).manifest.reference == reference
            for corpus in _indexed(workspace)
        )
    except IndexingError:
        return False  # damaged: to be built anew


def _indexed(workspace: Workspace) -> list[str]:
    return [corpus for corpus in workspace.corpora if current_name(workspace.index_dir(corpus))]


def _build(workspace: Workspace, embedder: Embedder, progress: Progress) -> dict[str, Generation]:
    try:
        return {
            corpus: build_generation(workspace, corpus, embedder=embedder, progress=progress)[0]
            for corpus in _indexed(workspace)
        }
    except DocumentError as error:
        raise DocumentError(f"the model in use stays: {error}") from None


def _switch(workspace: Workspace, built: dict[str, Generation], embedder: Embedder, progress: Progress) -> None:
    for corpus, generation in built.items():
        try:
            put_live(workspace, corpus, generation)
        except IndexingError:
            # Something newer went live meanwhile, by the model of before. The vectors are kept: this is quick.
            build_index(workspace, corpus, embedder=embedder, progress=progress)
