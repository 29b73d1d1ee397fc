"""Encode queries and documents; the fingerprint that says which embedder did."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from retrieval.console import Progress, silent
from retrieval.errors import ModelError
from retrieval.models import resolve
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

__all__ = ["Compute", "Embedder", "LocalEmbedder", "choose_compute", "fingerprint", "load_embedder", "load_model"]

log = logging.getLogger(__name__)

# A static model has no limit of its own; passages still want one.
UNLIMITED_TOKENS = 512
# Small batches of alike lengths waste the least on padding; measured on CPU, benchmarks/encode.py.
CPU_BATCH = 16


class Embedder(Protocol):
    """Text in, unit-length float32 vectors out."""

    reference: str
    """The concrete model reference this was loaded from (a registry version, a Hub id, a folder, package:…)."""
    fingerprint: str
    dimension: int
    max_tokens: int

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1."""

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how a model runs, and why it was chosen."""

    device: str
    bfloat16: bool
    reason: str


def choose_compute(device: str = "auto") -> Compute:
    """Choose device and precision. On a CPU, bfloat16 only where it has instructions for it.

    Raises:
        ModelError: the device asked for is not there.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return Compute("cuda", torch.cuda.is_bf16_supported(), f"CUDA device {torch.cuda.get_device_name(0)}")
        if torch.backends.mps.is_available():
            return Compute("mps", False, "Apple GPU; no CUDA device")
        device = "cpu"
    if device == "cpu":
        able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        if able.get("avx512_bf16") or able.get("amx_bf16"):
            return Compute("cpu", True, "no GPU; this CPU has bfloat16 instructions")
        return Compute("cpu", False, "no GPU; this CPU has no bfloat16 instructions")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"model.device = {device!r} is not usable here ({first_line}); use auto or cpu") from None
    return Compute(device, device.startswith("cuda") and torch.cuda.is_bf16_supported(), "asked for")


def load_model(workspace: Workspace, reference: str) -> tuple[SentenceTransformer, str, Compute]:
    """Load ``reference`` as a SentenceTransformer; return it, its concrete reference, and where it runs.

    Weights come from safetensors files only, and code that a model brings along runs only where
    ``model.trust_remote_code`` says so.

    Raises:
        ModelError: the reference is unknown, or what it names cannot be loaded.
    """
    resolved = resolve(workspace, reference)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ModelError("embedding needs the engine: pip install 'shoptalk[cpu]' (or [gpu])") from None
    import torch

    compute = choose_compute(workspace.model.device)
    with _quiet_loading():
        try:
            model = SentenceTransformer(
                resolved.location,
                device=compute.device,
                trust_remote_code=workspace.model.trust_remote_code,
                # Some checkpoints say float16, in which a CPU is a hundred times slower and nothing trains.
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except Exception as error:  # transformers, huggingface_hub and safetensors raise without a common base
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            hint = "" if resolved.is_folder else "; is the Hub reachable, and the name right?"
            raise ModelError(f"model {resolved.reference} could not be loaded: {reason}{hint}") from error
    model.eval()
    log.info("model %s on %s, %s: %s", resolved.reference, compute.device, _precision(compute), compute.reason)
    return model, resolved.reference, compute


def load_embedder(reference: str, workspace: Workspace) -> LocalEmbedder:
    """Load the embedder that ``reference`` names (``current`` and ``base`` included).

    Raises:
        ModelError: the reference is unknown, or what it names cannot be loaded.
    """
    model, concrete, compute = load_model(workspace, reference)
    return LocalEmbedder(model, concrete, compute, workspace.model.batch_size)


def fingerprint(model: SentenceTransformer) -> str:
    """sha256 over weights, tokenizer, modules with their settings, prompts, maximum length and dimension."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().to("cpu").contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(memoryview(values.view(-1).view(torch.uint8).numpy()))
    modules = []
    for module in model:
        settings: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        modules.append([type(module).__name__, {key: str(value) for key, value in sorted(settings.items())}])
    identity = {
        "modules": modules,
        "prompts": model.prompts,
        "default_prompt": model.default_prompt_name,
        "max_length": str(model.max_seq_length),
        "dimension": model.get_embedding_dimension(),
    }
    digest.update(json.dumps(identity, sort_keys=True).encode())
    digest.update(_tokenizer_identity(model.tokenizer).encode())
    return digest.hexdigest()


class LocalEmbedder:
    """A SentenceTransformer in this process. Thread-safe for encoding."""

    def __init__(self, model: SentenceTransformer, reference: str, compute: Compute, batch_size: int = 32) -> None:
        self.model = model
        self.reference = reference
        self.compute = compute
        self.batch_size = batch_size
        self.fingerprint = fingerprint(model)
        self.dimension = int(model.get_embedding_dimension() or 0)
        limit = model.max_seq_length
        self.max_tokens = UNLIMITED_TOKENS if limit is None or limit == float("inf") else int(limit)
        # A tokenizer's truncation is set by whoever encodes; counting must not race with that.
        self._tokenizer_lock = threading.Lock()

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, with the model's query prompt."""
        return self._encode(texts, self._prompt("query"), silent)

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""
        return self._encode(texts, self._prompt("document", "passage"), progress)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""
        if not texts:
            return []
        tokenizer = getattr(self.model.tokenizer, "backend_tokenizer", self.model.tokenizer)
        if not hasattr(tokenizer, "encode_batch_fast"):
            return [len(ids) for ids in self.model.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
        with self._tokenizer_lock, _untruncated(tokenizer):
            return [len(encoding) for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _prompt(self, *names: str) -> str:
        for name in names:
            if self.model.prompts.get(name):
                return str(self.model.prompts[name])
        return ""

    def _encode(self, texts: Sequence[str], prompt: str, progress: Progress) -> NDArray[np.float32]:
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        workers = (os.cpu_count() or 1) if self.compute.device == "cpu" else 1
        size = CPU_BATCH if self.compute.device == "cpu" else self.batch_size
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        done = 0
        with _workers(min(workers, len(batches))) as run:
            for rows, encoded in run(lambda rows: self._forward([prompt + texts[row] for row in rows]), batches):
                vectors[rows] = encoded
                done += len(rows)
                progress("encoding", done, len(texts))
        if not np.isfinite(vectors).all():
            raise ModelError(f"model {self.reference} gave vectors that are not finite; its weights are damaged")
        return vectors

    def _forward(self, texts: list[str]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode(), self._autocast(torch):
            with self._tokenizer_lock:
                features = self.model.preprocess(texts)
            features = {key: _to(value, self.compute.device) for key, value in features.items()}
            embedding: torch.Tensor = self.model.forward(features)["sentence_embedding"]
        unit = torch.nn.functional.normalize(embedding.float(), dim=1)
        return unit.cpu().numpy()

    def _autocast(self, torch: Any) -> Any:
        if not self.compute.bfloat16:
            return nullcontext()
        return torch.autocast(self.compute.device.partition(":")[0], dtype=torch.bfloat16)


@contextmanager
def _workers(count: int) -> Iterator[Any]:
    """Yield ``run(function, items)``, which yields (item, result) in order.

    On a CPU, one thread a core with one-threaded kernels beats one batch spread over all cores:
    PyTorch lets go of the interpreter lock inside its kernels, so the threads really run at once.
    """
    if count <= 1:
        yield lambda function, items: ((item, function(item)) for item in items)
        return
    import torch

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield lambda function, items: zip(items, pool.map(function, items), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


@contextmanager
def _untruncated(tokenizer: Any) -> Iterator[None]:
    truncation, padding = tokenizer.truncation, tokenizer.padding
    tokenizer.no_truncation()
    tokenizer.no_padding()
    try:
        yield
    finally:
        if truncation is not None:
            tokenizer.enable_truncation(**truncation)
        if padding is not None:
            tokenizer.enable_padding(**padding)


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal while a model loads."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def _tokenizer_identity(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    # Truncation and padding change with use; the vocabulary and the rules do not.
    described = json.loads(backend.to_str())
    return json.dumps({**described, "truncation": None, "padding": None}, sort_keys=True)


def _to(value: Any, device: str) -> Any:
    return value.to(device) if hasattr(value, "to") else value


def _precision(compute: Compute) -> str:
    return "bfloat16" if compute.bfloat16 else "float32"
