"""Encode queries and documents: which embedder for which settings.

``model.endpoint`` names a server: `remote_embedder`. Otherwise the model runs here: through torch
(`local_embedder`), or as an int8 graph where ``model.backend`` says so (`onnx_embedder`). A model of
static token embeddings needs neither (`static_embedder`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeGuard

from retrieval.compute import Compute, choose_compute
from retrieval.console import Progress, silent
from retrieval.errors import ModelError
from retrieval.local_embedder import LocalEmbedder, fingerprint, load_local, load_model
from retrieval.model_identity import Identity, model_folder, recall, remember, tokenizer_file
from retrieval.models import resolve
from retrieval.static_embedder import load_static
from retrieval.token_counting import TokenizerFile
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Compute",
    "Embedder",
    "LazyEmbedder",
    "LocalEmbedder",
    "TokenEmbedder",
    "choose_compute",
    "compares_tokens",
    "device_in_use",
    "encode_documents",
    "fingerprint",
    "gives_tokens",
    "load_embedder",
    "load_local",
    "load_model",
    "open_embedder",
]


class Embedder(Protocol):
    """Text in, unit-length float32 vectors out."""

    @property
    def reference(self) -> str:
        """The concrete model reference: a registry version, a Hub id, a folder, package:…, or an endpoint's address."""

    @property
    def fingerprint(self) -> str:
        """What identifies its vectors; only vectors of one fingerprint may be compared."""

    @property
    def dimension(self) -> int:
        """The length of its vectors."""

    @property
    def max_tokens(self) -> int:
        """How many tokens of a text it reads, special tokens included."""

    @property
    def gives_tokens(self) -> bool:
        """Whether it is a `TokenEmbedder`."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1."""

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""


class TokenEmbedder(Embedder, Protocol):
    """An embedder whose vectors are means of its tokens' vectors, and which tells these too (`late_interaction`)."""

    def encode_queries_and_tokens(self, texts: Sequence[str]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return for each text its vector (dimension,), and one a token (tokens, dimension), all of length 1."""

    def encode_documents_and_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
        """Return what ``encode_documents`` returns, and for each text its tokens' signs, packed."""


def gives_tokens(embedder: Embedder) -> TypeGuard[TokenEmbedder]:
    """Whether ``embedder`` is one that tells the vectors of tokens."""
    return embedder.gives_tokens


def compares_tokens(embedder: Embedder, workspace: Workspace) -> TypeGuard[TokenEmbedder]:
    """Whether hybrid searches by ``embedder`` compare tokens too, as the settings and the embedder have it."""
    # A database holds no codes, and only torch tells tokens: what is judged by torch may be served by another backend.
    here = workspace.store.kind == "local" and workspace.model.backend == "torch" and not workspace.model.endpoint
    return here and workspace.search.late_interaction and gives_tokens(embedder)


def encode_documents(
    embedder: Embedder, texts: Sequence[str], tokens: bool
) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]] | None]:
    """Return the vectors of ``texts`` (len(texts), dimension) and, if ``tokens``, the signs of each text's tokens.

    None stands for the latter where they are not wanted, or ``embedder`` does not tell them.
    """
    if tokens and gives_tokens(embedder):
        return embedder.encode_documents_and_tokens(texts)
    return embedder.encode_documents(texts), None


def load_embedder(reference: str, workspace: Workspace) -> Embedder:
    """Load the embedder that ``reference`` names (``current`` and ``base`` included), ready to encode.

    What it is, is written down, for `open_embedder`.

    Raises:
        ModelError: the reference is unknown, or what it names cannot be loaded.
        EndpointError: the endpoint does not answer, or not as it should.
    """
    resolved = resolve(workspace, reference)
    if resolved.is_address:
        return _connect(workspace, resolved.reference)
    if workspace.model.backend == "torch":
        if known := load_static(workspace, resolved):
            return known
        loaded = load_local(reference, workspace)
        # It is known now, and the first search is as good as those that follow, to the last bit.
        return load_static(workspace, resolved) or loaded
    from retrieval.onnx_embedder import load_onnx

    embedder = load_onnx(reference, workspace)
    # It counts by the tokenizer of its export, and loads quickly.
    remember(workspace, resolved, Identity(embedder.fingerprint, embedder.dimension, embedder.max_tokens, False, False))
    return embedder


def open_embedder(reference: str, workspace: Workspace) -> Embedder:
    """Like `load_embedder`, but a model whose files are as they were when it was last loaded is not loaded yet.

    Its fingerprint, dimension and limit are known from `model_identity`, and its tokens are counted by
    its tokenizer alone; it loads when something is first encoded.

    Raises:
        ModelError: the reference is unknown, or what it names had to be loaded and could not be.
    """
    resolved = resolve(workspace, reference)
    identity = None if resolved.is_address else recall(workspace, resolved)
    if identity is None:
        return load_embedder(reference, workspace)
    return LazyEmbedder(workspace, resolved.reference, identity)


def device_in_use(workspace: Workspace) -> str:
    """Where the embedder that was loaded runs: ``cuda``, ``cpu`` and so on, or ``remote``. Imports no torch."""
    if workspace.model.endpoint:
        return "remote"
    # What runs without torch runs on the CPU: an int8 graph, or a table of token embeddings.
    without = workspace.model.backend == "onnx-int8" or "torch" not in sys.modules
    return "cpu" if without else choose_compute(workspace.model.device).device


class LazyEmbedder:
    """An embedder that is known, and loads at the first text to encode. Thread-safe."""

    def __init__(self, workspace: Workspace, reference: str, identity: Identity) -> None:
        self.reference = reference
        self.fingerprint = identity.fingerprint
        self.dimension = identity.dimension
        self.max_tokens = identity.max_tokens
        self.gives_tokens = identity.gives_tokens
        self._workspace = workspace
        self._countable = identity.countable
        self._lock = threading.Lock()
        self._embedder: Embedder | None = None
        self._counter: Callable[[Sequence[str]], list[int]] | None = None

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1.

        Raises:
            ModelError: it cannot be loaded, or proves to be another model than was known.
        """
        return self._loaded().encode_queries(texts)

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given.

        Raises:
            ModelError: as for queries.
        """
        return self._loaded().encode_documents(texts, progress)

    def encode_queries_and_tokens(self, texts: Sequence[str]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """See `TokenEmbedder`; only where ``gives_tokens``.

        Raises:
            ModelError: as for queries.
        """
        return self._with_tokens().encode_queries_and_tokens(texts)

    def encode_documents_and_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
        """See `TokenEmbedder`; only where ``gives_tokens``.

        Raises:
            ModelError: as for queries.
        """
        return self._with_tokens().encode_documents_and_tokens(texts)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""
        if self._counter is None:
            folder = model_folder(resolve(self._workspace, self.reference)) if self._countable else None
            file = tokenizer_file(folder) if folder else None
            self._counter = TokenizerFile(file) if file else self._loaded().count_tokens
        return self._counter(texts)

    def _with_tokens(self) -> LocalEmbedder:
        embedder = self._loaded()
        assert isinstance(embedder, LocalEmbedder), "only models that run here through torch give tokens"
        return embedder

    def _loaded(self) -> Embedder:
        with self._lock:
            if self._embedder is None:
                embedder = load_embedder(self.reference, self._workspace)
                if embedder.fingerprint != self.fingerprint:
                    # Vectors of two models must not meet, and the old name may be in a manifest by now.
                    raise ModelError(
                        f"model {self.reference} is not the one it was, though its files looked the same; "
                        "that is known now: run the command again"
                    )
                self._embedder = embedder
            return self._embedder


def _connect(workspace: Workspace, address: str) -> Embedder:
    from retrieval.remote_embedder import connect

    if address != workspace.model.endpoint:
        raise ModelError(f"{address} is not model.endpoint (any more); set it, or run `shoptalk index`")
    return connect(workspace)
