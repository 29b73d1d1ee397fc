"""A cross-encoder that reads each query and passage together, and scores how well they fit."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from retrieval.errors import ModelError, first_line
from retrieval.models import resolve
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["Reranker"]

log = logging.getLogger(__name__)


class Reranker:
    """The cross-encoder that ``reference`` names; it loads when it is first used. Thread-safe.

    Weights come from safetensors files only, and code that a model brings along is never run.
    """

    def __init__(self, workspace: Workspace, reference: str, *, setting: str = "search.rerank") -> None:
        """``setting`` is where the reference was named, for messages."""
        self._workspace = workspace
        self._setting = setting
        self._reference = reference
        self._model: CrossEncoder | None = None
        self._failure: ModelError | None = None
        # One query at a time: a forward pass takes every core, and a tokenizer's settings are its own.
        self._lock = threading.Lock()

    def load(self) -> None:
        """Load the model (seconds), also where that failed before.

        Raises:
            ModelError: the reference is unknown, or what it names is no cross-encoder that can be loaded.
        """
        with self._lock:
            self._failure = None
            self._loaded()

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return how well each of ``texts`` answers ``query``; more is better.

        Raises:
            ModelError: the model cannot be loaded, or gave a score that is not finite.
        """
        with self._lock:
            model = self._loaded()
            scores = model.predict(
                [(query, text) for text in texts],
                batch_size=self._workspace.model.batch_size,
                show_progress_bar=False,
            ).tolist()
        if not all(map(math.isfinite, scores)):
            raise ModelError(f"model {self._reference} gave scores that are not finite; its weights are damaged")
        return [float(score) for score in scores]

    def _loaded(self) -> CrossEncoder:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # loading takes seconds: not at each search again
        if self._model is None:
            try:
                self._model = _load(self._workspace, self._reference, self._setting)
            except ModelError as error:
                self._failure = error
                raise
        return self._model


def _load(workspace: Workspace, reference: str, setting: str) -> CrossEncoder:
    resolved = resolve(workspace, reference)
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        raise ModelError("reranking needs the engine: pip install 'shoptalk[cpu]' (or [gpu])") from None
    import torch

    from retrieval.compute import choose_compute
    from retrieval.local_embedder import quiet_loading

    compute = choose_compute(workspace.model.device)
    with quiet_loading():
        try:
            model = CrossEncoder(
                resolved.location,
                device=compute.device,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except Exception as error:  # transformers, huggingface_hub and safetensors raise without a common base
            reason = first_line(error)
            raise ModelError(f"reranker {resolved.reference} could not be loaded: {reason}") from error
    _check(model, resolved.reference, setting)
    model.eval()
    log.info("reranker %s on %s: %s", resolved.reference, compute.device, compute.reason)
    return model


def _check(model: Any, reference: str, setting: str) -> None:
    """Refuse what loads without complaint but does not score pairs."""
    network = model[0].model
    made = getattr(network.config, "architectures", None) or []
    # An embedder loads too, with a new head of random weights.
    if made and type(network).__name__ not in made:
        raise ModelError(
            f"{setting} = {reference!r} is no cross-encoder ({made[0]}); "
            "name one, such as cross-encoder/ms-marco-MiniLM-L6-v2"
        )
    if model.num_labels != 1:
        raise ModelError(f"{setting} = {reference!r} gives {model.num_labels} scores a pair; a reranker gives one")
