"""A server that embeds: Text Embeddings Inference, an OpenAI-compatible one, a Hugging Face Inference Endpoint.

Prompts are put before the texts here, as text: it is the same for all three kinds, and known to the
fingerprint. A server that puts a prompt of its own first (``--default-prompt``) would do it twice.

What a server is, is what it says of itself, where it names the revision of its weights
(``model_sha`` of Text Embeddings Inference). Any other, a name behind an API or a folder on a
server, is known by the vectors it gives for one fixed sentence. Those differ in their last digits from
one machine or batch to the next, so they are kept in the workspace and compared by cosine; a
workspace that has never seen them takes the server for another model, and indexes anew.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from retrieval.console import Progress, silent
from retrieval.endpoint import Endpoint, TooLarge
from retrieval.errors import EndpointError, ModelError, SettingsError
from retrieval.model_identity import model_folder, read_record, tokenizer_file, write_record
from retrieval.models import resolve
from retrieval.prompts import Prompts, choose_prompts
from retrieval.threads import in_threads
from retrieval.token_counting import TokenizerFile, estimate_tokens
from retrieval.workspace import ModelSettings, Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KEY_VARIABLE", "PROBE", "RemoteEmbedder", "Served", "connect", "served_before"]

log = logging.getLogger(__name__)

KEY_VARIABLE = "SHOPTALK_ENDPOINT_KEY"
PROBE = "The quick brown fox jumps over the lazy dog; 0123456789."
SAME_COSINE = 0.9999
PARALLEL_REQUESTS = 4
QUERY_ATTEMPTS = 2
DOCUMENT_ATTEMPTS = 5
RECHECK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Served:
    """What a server serves. ``probe``: its unit vectors of `PROBE` as a query and as a document."""

    facts: dict[str, Any]
    prompts: Prompts
    fingerprint: str
    dimension: int
    max_tokens: int
    max_batch: int
    probe: list[list[float]]


def connect(workspace: Workspace, endpoint: Endpoint | None = None) -> RemoteEmbedder:
    """Return the embedder behind ``model.endpoint``.

    Where it is down but was met before, what is known of it is taken on trust until it answers again.

    Raises:
        SettingsError: a setting it needs is missing.
        EndpointError: it does not answer and was never met, or its answers are not as they should be.
    """
    settings = workspace.model
    if settings.endpoint_kind == "openai" and not settings.endpoint_model:
        raise SettingsError("model.endpoint_kind = openai needs model.endpoint_model, the name of the model to ask for")
    if endpoint is None:
        endpoint = Endpoint(settings.endpoint, os.environ.get(KEY_VARIABLE, ""), settings.endpoint_timeout)
    return RemoteEmbedder(workspace, endpoint)


def served_before(workspace: Workspace) -> Served | None:
    """What ``model.endpoint`` served when it was last met, or None."""
    record = read_record(workspace, _key(workspace.model))
    try:
        return Served(**{**record, "prompts": Prompts(**record["prompts"])})
    except (LookupError, TypeError):
        return None


class RemoteEmbedder:
    """The model behind an endpoint. Thread-safe."""

    gives_tokens = False

    def __init__(self, workspace: Workspace, endpoint: Endpoint) -> None:
        self._workspace = workspace
        self._settings = workspace.model
        self._endpoint = endpoint
        self._checking = threading.Lock()
        self._checked: float | None = None
        self._replaced = ""
        known = served_before(workspace)
        try:
            self._served = self._meet(known)
            self._checked = endpoint.clock()
        except EndpointError as error:
            if known is None:
                raise
            log.warning("%s; what it served before is taken on trust until it answers", error)
            self._served = known
        self._batch = min(self._settings.batch_size, self._served.max_batch)
        self._count = _counter(workspace)

    @property
    def reference(self) -> str:
        """The address of the endpoint."""
        return self._endpoint.url

    @property
    def fingerprint(self) -> str:
        """The identity of what it served when this was made; the module's docstring tells what it is made of."""
        return self._served.fingerprint

    @property
    def dimension(self) -> int:
        """The length of its vectors."""
        return self._served.dimension

    @property
    def max_tokens(self) -> int:
        """How many tokens it reads of a text: as it says, else ``model.endpoint_max_tokens``."""
        return self._served.max_tokens

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1.

        Raises:
            EndpointError: it does not answer, its answer is not as it should be, or it serves another model now.
        """
        return self._encode([self._served.prompts.query + text for text in texts], QUERY_ATTEMPTS, silent)

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given.

        Raises:
            EndpointError: as for queries, after more attempts.
        """
        return self._encode([self._served.prompts.document + text for text in texts], DOCUMENT_ATTEMPTS, progress)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return about how many tokens each text has: by the base model's tokenizer if it is here, else too many."""
        return self._count(texts)

    def _encode(self, texts: list[str], attempts: int, progress: Progress) -> NDArray[np.float32]:
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        self._check()
        size = self._batch
        starts = range(0, len(texts), size)
        done = 0
        with in_threads(min(PARALLEL_REQUESTS, len(starts))) as run:
            for start, found in run(lambda start: self._embed(texts[start : start + size], attempts), starts):
                if found.shape[1] != self.dimension:
                    raise EndpointError(
                        f"{self.reference} gives vectors of {found.shape[1]} dimensions, "
                        f"not {self.dimension} as before; run `shoptalk index`"
                    )
                vectors[start : start + len(found)] = found
                done += len(found)
                progress("encoding", done, len(texts))
        return vectors

    def _check(self) -> None:
        """See now and then that the server still serves what it did; at once where that was taken on trust."""
        with self._checking:
            if self._replaced:
                raise EndpointError(self._replaced)
            now = self._endpoint.clock()
            if self._checked is not None and now - self._checked < RECHECK_SECONDS:
                return
            served = self._meet(self._served)
            if served.fingerprint != self._served.fingerprint:
                self._replaced = f"{self.reference} serves another model than before; run `shoptalk index`"
                log.warning("%s", self._replaced)
                raise EndpointError(self._replaced)
            self._checked = now

    def _meet(self, known: Served | None) -> Served:
        """Ask the server what it is, and write it down."""
        settings = self._settings
        facts: dict[str, Any] = {"kind": settings.endpoint_kind, "model": settings.endpoint_model}
        max_tokens, max_batch = settings.endpoint_max_tokens, settings.batch_size
        own: Any = {}
        if settings.endpoint_kind == "tei":
            info = self._endpoint.ask("/info", attempts=QUERY_ATTEMPTS)
            if not isinstance(info, dict) or "model_id" not in info:
                raise EndpointError(f"{self.reference}/info names no model; is model.endpoint_kind = tei right?")
            facts["model"] = str(info["model_id"])
            # Text Embeddings Inference does not tell; examples/tei_app.py does.
            own = info["prompts"] if isinstance(info.get("prompts"), dict) else {}
            facts |= {name: info.get(name) for name in ("model_sha", "model_dtype", "model_type")}
            max_tokens = int(info.get("max_input_length") or max_tokens)
            max_batch = int(info.get("max_client_batch_size") or max_batch)
        prompts = choose_prompts(settings, facts["model"], own)
        probe = self._embed([prompts.query + PROBE, prompts.document + PROBE], QUERY_ATTEMPTS)
        served = Served(
            facts=facts,
            prompts=prompts,
            fingerprint=_fingerprint(self.reference, facts, prompts, probe, known),
            dimension=probe.shape[1],
            max_tokens=max_tokens,
            max_batch=max_batch,
            probe=probe.round(6).tolist(),
        )
        if known is None or known.fingerprint != served.fingerprint:
            write_record(self._workspace, _key(settings), asdict(served))
        return served

    def _embed(self, texts: list[str], attempts: int) -> NDArray[np.float32]:
        """One request, or two halves where it is too large; unit vectors, checked."""
        import numpy as np

        path, body = _question(self._settings, self.reference, texts)
        try:
            answer = self._endpoint.ask(path, body, attempts=attempts)
        except TooLarge:
            if len(texts) == 1:
                raise EndpointError(f"{self.reference} takes no text of {len(texts[0])} characters") from None
            half = len(texts) // 2
            self._batch = half
            return np.concatenate([self._embed(texts[:half], attempts), self._embed(texts[half:], attempts)])
        try:
            vectors = np.asarray(_answer(self._settings, answer), dtype=np.float32)
        except (LookupError, TypeError, ValueError):
            raise EndpointError(
                f"{self.reference} answers no list of vectors; is model.endpoint_kind right, "
                "and what it serves an embedding model?"
            ) from None
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
            raise EndpointError(f"{self.reference} answers {len(texts)} texts with an array of shape {vectors.shape}")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not np.isfinite(lengths).all() or not lengths.all():
            raise EndpointError(f"{self.reference} gives vectors that are zero or not finite; its model is damaged")
        unit: NDArray[np.float32] = vectors / lengths
        return unit


def _question(settings: ModelSettings, url: str, texts: list[str]) -> tuple[str, dict[str, Any]]:
    """The path and the body of a request for the vectors of ``texts``."""
    if settings.endpoint_kind == "openai":
        path = "/embeddings" if url.endswith("/v1") else "/v1/embeddings"
        return path, {"model": settings.endpoint_model, "input": texts, "encoding_format": "float"}
    path = "/embed" if settings.endpoint_kind == "tei" else ""
    return path, {"inputs": texts, "truncate": True}


def _answer(settings: ModelSettings, answer: Any) -> Any:
    """The list of vectors in an answer, in the order of the texts."""
    if settings.endpoint_kind == "openai":
        rows = {int(row["index"]): row["embedding"] for row in answer["data"]}
        return [rows[place] for place in range(len(answer["data"]))]
    # The default container of a Hugging Face endpoint wraps the list; Text Embeddings Inference does not.
    return answer["embeddings"] if isinstance(answer, dict) else answer


def _fingerprint(
    url: str, facts: dict[str, Any], prompts: Prompts, probe: NDArray[np.float32], known: Served | None
) -> str:
    import numpy as np

    identity: list[Any] = ["endpoint", facts, asdict(prompts), probe.shape[1]]
    if not facts.get("model_sha"):
        if known is not None and (known.facts, known.prompts) == (facts, prompts):
            before = np.array(known.probe, dtype=np.float32)
            if before.shape == probe.shape and (before * probe).sum(axis=1).min() >= SAME_COSINE:
                return known.fingerprint
        identity += [url, probe.round(6).tolist()]
    return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _key(settings: ModelSettings) -> str:
    parts = [settings.endpoint, settings.endpoint_kind, settings.endpoint_model]
    return sha256(json.dumps([*parts, settings.query_prompt, settings.document_prompt]).encode()).hexdigest()


def _counter(workspace: Workspace) -> Callable[[Sequence[str]], list[int]]:
    try:
        folder = model_folder(resolve(workspace, "base"))
    except ModelError:
        return estimate_tokens
    file = tokenizer_file(folder) if folder else None
    return TokenizerFile(file) if file else estimate_tokens
