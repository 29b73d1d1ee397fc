"""A local model that gives the very vectors an endpoint gave, for when the endpoint is down."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from retrieval.errors import ModelError
from retrieval.local_embedder import load_local
from retrieval.model_identity import model_folder, recall
from retrieval.models import history, resolve
from retrieval.remote_embedder import PROBE, Served, served_before
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    from retrieval.local_embedder import LocalEmbedder

__all__ = ["stand_in"]

log = logging.getLogger(__name__)

ALIKE_COSINE = 0.999
"""Servers often run in half precision, which costs a vector less than this; another model is nowhere near."""


def stand_in(workspace: Workspace, fingerprint: str) -> LocalEmbedder | None:
    """Load the local model whose vectors are those of an index that ``model.endpoint`` made, if there is one.

    The models this workspace has used are tried, the base last, if their files are here. Names prove
    nothing: what counts is that a model's vectors of a fixed sentence, as query and as document, are those the
    endpoint gave when it was last met.

    Args:
        workspace: whose endpoint is down.
        fingerprint: that of the index; it must be what the endpoint served.
    """
    served = served_before(workspace)
    if served is None or served.fingerprint != fingerprint:
        return None
    for reference in history(workspace):
        try:
            resolved = resolve(workspace, reference)
            known = recall(workspace, resolved)
            if model_folder(resolved) is None or (known is not None and known.dimension != served.dimension):
                continue
            embedder = load_local(reference, workspace)
        except ModelError as error:
            log.warning("%s cannot stand in for %s: %s", reference, workspace.model.endpoint, error)
            continue
        if _alike(embedder, served):
            return embedder
    return None


def _alike(embedder: LocalEmbedder, served: Served) -> bool:
    import numpy as np

    if embedder.dimension != served.dimension:
        return False
    ours = np.concatenate([embedder.encode_queries([PROBE]), embedder.encode_documents([PROBE])])
    cosines = (ours * np.array(served.probe, dtype=np.float32)).sum(axis=1)
    return bool(cosines.min() >= ALIKE_COSINE)
