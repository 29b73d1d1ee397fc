"""A SentenceTransformer in this process."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from retrieval.compute import Compute, choose_compute, is_out_of_memory, release
from retrieval.console import Progress, silent
from retrieval.errors import ModelError, first_line
from retrieval.late_interaction import pack_signs
from retrieval.model_identity import Identity, model_folder, remember, tokenizer_file
from retrieval.models import ResolvedModel, resolve, verify_version
from retrieval.prompts import choose_prompts
from retrieval.threads import cores, in_threads
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from typing_extensions import Buffer

__all__ = [
    "LocalEmbedder",
    "fingerprint",
    "fingerprint_of",
    "load_local",
    "load_model",
    "quiet_loading",
    "tokenizer_json",
]

log = logging.getLogger(__name__)

_Kept = TypeVar("_Kept", bound="np.generic")

# A static model has no limit of its own; passages still want one.
UNLIMITED_TOKENS = 512
# Small batches of alike lengths waste the least on padding; measured on CPU, benchmarks/encode.py.
CPU_BATCH = 16
MOST_IN_BATCH = 1024
SPECIAL_TOKENS = 8
TOKENIZERS = ("tokenizer", "vocab", "spiece", "sentencepiece")
"""What the names of a tokenizer's files begin with."""


def load_model(workspace: Workspace, reference: str) -> tuple[SentenceTransformer, str, Compute]:
    """Load ``reference`` as a SentenceTransformer; return it, its concrete reference, and where it runs.

    Weights come from safetensors files only, and code that a model brings along runs only where
    ``model.trust_remote_code`` says so. The attention implementation is left to transformers. Its
    prompts are those of `prompts.choose_prompts`, so that they are saved with what is trained from it.

    Raises:
        ModelError: the reference is unknown, or what it names cannot be loaded.
    """
    resolved = resolve(workspace, reference)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ModelError("embedding needs the engine: pip install 'shoptalk[cpu]' (or [gpu])") from None
    import torch

    if resolved.is_address:
        raise ModelError(f"{resolved.reference} is an endpoint; this needs a model that runs here, such as base or v1")
    compute = choose_compute(workspace.model.device)
    with quiet_loading():
        try:
            model = SentenceTransformer(
                resolved.location,
                device=compute.device,
                trust_remote_code=workspace.model.trust_remote_code,
                # Some checkpoints say float16, in which a CPU is a hundred times slower and nothing trains.
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
        except Exception as error:  # transformers, huggingface_hub and safetensors raise without a common base
            verify_version(workspace, resolved.reference)
            raise ModelError(f"model {resolved.reference} could not be loaded: {_why(resolved, error)}") from error
    if _knows_no_word(model.tokenizer):
        raise ModelError(
            f"model {resolved.reference} has no tokenizer, or an empty one: it would read every word alike; "
            "put tokenizer.json beside its weights, or name a model that has one"
        )
    model.eval()
    prompts = choose_prompts(workspace.model, resolved.reference, model.prompts)
    model.prompts = {**model.prompts, "query": prompts.query, "document": prompts.document}
    log.info("model %s on %s, %s: %s", resolved.reference, compute.device, compute.precision, compute.reason)
    return model, resolved.reference, compute


def load_local(reference: str, workspace: Workspace) -> LocalEmbedder:
    """Load ``reference`` to run here through torch, whatever backend or endpoint the settings name; for training.

    Raises:
        ModelError: the reference is unknown, or what it names cannot be loaded.
    """
    model, concrete, compute = load_model(workspace, reference)
    embedder = LocalEmbedder(model, concrete, compute, workspace.model.batch_size)
    as_torch = replace(workspace, model=workspace.model.model_copy(update={"backend": "torch"}))
    identity = Identity(embedder.fingerprint, embedder.dimension, embedder.max_tokens, False, embedder.gives_tokens)
    resolved = resolve(as_torch, concrete)
    remember(as_torch, resolved, replace(identity, countable=_countable(embedder, resolved)))
    return embedder


def fingerprint(model: SentenceTransformer) -> str:
    """What identifies the vectors of ``model``; see `fingerprint_of`."""
    import torch

    def weights() -> Iterator[tuple[str, str, tuple[int, ...], Buffer]]:
        for name, tensor in sorted(model.state_dict().items()):
            values = tensor.detach().to("cpu").contiguous()
            yield name, str(values.dtype), tuple(values.shape), values.view(-1).view(torch.uint8).numpy()

    modules: list[list[object]] = []
    for module in model:
        settings: dict[str, Any] = getattr(module, "get_config_dict", dict)()
        modules.append([type(module).__name__, {key: str(value) for key, value in sorted(settings.items())}])
    return fingerprint_of(
        weights(),
        modules=modules,
        prompts=model.prompts,
        default_prompt=model.default_prompt_name,
        max_length=str(model.max_seq_length),
        dimension=model.get_embedding_dimension(),
        tokenizer=tokenizer_json(model.tokenizer),
    )


def fingerprint_of(
    weights: Iterable[tuple[str, str, tuple[int, ...], Buffer]], *, tokenizer: str, **identity: object
) -> str:
    """sha256 over weights (name, type, shape, values), tokenizer, modules, prompts, maximum length and dimension."""
    digest = hashlib.sha256()
    for name, kind, shape, values in weights:
        digest.update(f"{name} {kind} {shape}\n".encode())
        digest.update(values)
    digest.update(json.dumps(identity, sort_keys=True).encode())
    digest.update(tokenizer.encode())
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
        self.gives_tokens = _averages_tokens(model)
        self._halvings = 0  # of batches, since memory ran out
        # A tokenizer's truncation is set by whoever encodes; counting must not race with that.
        self._tokenizer_lock = threading.Lock()

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, with the model's query prompt."""
        return self._encode(texts, self._prompt("query"), silent)

    def encode_queries_and_tokens(self, texts: Sequence[str]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return for each text its vector (dimension,), and one a token (tokens, dimension), all of length 1."""
        import numpy as np

        def unit(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
            lengths = np.linalg.norm(tokens, axis=1, keepdims=True)
            scaled: NDArray[np.float32] = tokens / np.maximum(lengths, np.float32(1e-12))
            return scaled

        vectors, tokens = self._encode_with_tokens(texts, self._prompt("query"), unit)
        # Copies: a row of the batch's array would keep all of it.
        return [(vector.copy(), some) for vector, some in zip(vectors, tokens, strict=True)]

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""
        return self._encode(texts, self._prompt("document", "passage"), progress)

    def encode_documents_and_tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]]]:
        """Return what ``encode_documents`` returns, and for each text its tokens' signs, packed."""
        return self._encode_with_tokens(texts, self._prompt("document", "passage"), pack_signs)

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
        return self._encode_with_tokens(texts, prompt, None, progress)[0]

    def _encode_with_tokens(
        self,
        texts: Sequence[str],
        prompt: str,
        kept: Callable[[NDArray[np.float32]], NDArray[_Kept]] | None,
        progress: Progress = silent,
    ) -> tuple[NDArray[np.float32], list[NDArray[_Kept]]]:
        """The vectors of ``texts``, and what ``kept`` makes of the token vectors (tokens, dimension) of each."""
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        tokens: dict[int, NDArray[_Kept]] = {}
        if not texts:
            return vectors, []
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        if self.compute.device == "cpu":
            workers = cores()
            batches = [order[start : start + CPU_BATCH] for start in range(0, len(order), CPU_BATCH)]
        else:
            workers = 1
            batches = full_batches(order, [len(text.encode("utf-8", "replace")) for text in texts], self)

        def encode(rows: list[int], halved: int = 0) -> NDArray[np.float32]:
            if halved < self._halvings and len(rows) > 1:
                half = len(rows) // 2
                return np.concatenate([encode(rows[:half], halved + 1), encode(rows[half:], halved + 1)])
            try:
                encoded, of_tokens = self._forward([texts[row] for row in rows], prompt, kept is not None)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                why = first_line(error)
            else:
                if kept is not None:
                    tokens.update(zip(rows, map(kept, of_tokens), strict=True))
                return encoded
            # Out of the handler: what the error's frames held is free only now.
            release(self.compute.device)
            if len(rows) == 1:
                raise ModelError(
                    f"model {self.reference}: memory ran out over a single text ({why}); free some, or set model.base "
                    "to a smaller model"
                )
            # All batches are about as large, so those after this one are halved before they are tried.
            self._halvings = max(self._halvings, halved + 1)
            return encode(rows, halved)

        done = 0
        with _workers(min(workers, len(batches))) as run:
            for rows, encoded in run(encode, batches):
                vectors[rows] = encoded
                done += len(rows)
                progress("encoding", done, len(texts))
        if not np.isfinite(vectors).all():
            raise ModelError(f"model {self.reference} gave vectors that are not finite; its weights are damaged")
        return vectors, [tokens[row] for row in range(len(texts))] if kept else []

    def _forward(
        self, texts: list[str], prompt: str, with_tokens: bool
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        import torch

        with torch.inference_mode(), self._autocast(torch):
            with self._tokenizer_lock:
                # The model puts the prompt first itself, as some leave it out of their pooling again.
                features = self.model.preprocess(texts, prompt=prompt or None)
            features = {key: _to(value, self.compute.device) for key, value in features.items()}
            try:
                made = self.model.forward(features)
            except (IndexError, RuntimeError) as error:
                if is_out_of_memory(error) or not (words := _words_without_row(self.model)):
                    raise
                raise ModelError(
                    f"model {self.reference} and its tokenizer do not belong together: {words:,} words of the "
                    "tokenizer have no row in its table of embeddings; restore the tokenizer that it was trained with"
                ) from error
        embedding: torch.Tensor = made["sentence_embedding"]
        unit = torch.nn.functional.normalize(embedding.float(), dim=1).cpu().numpy()
        if not with_tokens:
            return unit, []
        masks, of_tokens = made["attention_mask"].bool().cpu(), made["token_embeddings"].cpu()
        return unit, [some[mask].float().numpy() for some, mask in zip(of_tokens, masks, strict=True)]

    def _autocast(self, torch: Any) -> Any:
        if not self.compute.bfloat16:
            return nullcontext()
        return torch.autocast(self.compute.device.partition(":")[0], dtype=torch.bfloat16)


def _averages_tokens(model: SentenceTransformer) -> bool:
    """Whether a text's vector is the mean of its tokens' vectors, prompt included, which can then be compared."""
    modules = [*model]
    if [type(module).__name__ for module in modules[:2]] != ["Transformer", "Pooling"]:
        return False
    plain = all(type(module).__name__ == "Normalize" for module in modules[2:])
    pooling = modules[1]
    means = pooling.pooling_mode in ("mean", ["mean"], ("mean",)) and pooling.include_prompt
    return plain and means and model.truncate_dim is None


def full_batches(order: Sequence[int], sizes: Sequence[int], embedder: LocalEmbedder) -> list[list[int]]:
    """Cut ``order`` (longest first) into batches for a GPU, which small batches of short texts would leave idle.

    A batch takes no more memory than ``batch_size`` texts of the model's full length do, padding included.

    Args:
        order: places of texts.
        sizes: the length of each text in bytes; a token has three or more, in nearly every script.
        embedder: whose ``batch_size`` and ``max_tokens`` bound a batch.
    """
    budget = embedder.batch_size * embedder.max_tokens
    batches: list[list[int]] = []
    room = 0
    for place in order:
        if room < 1:
            longest = min(embedder.max_tokens, sizes[place] // 3 + 2)
            room = min(MOST_IN_BATCH, max(embedder.batch_size, budget // longest))
            batches.append([])
        batches[-1].append(place)
        room -= 1
    return batches


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
    try:
        with in_threads(count, partial(torch.set_num_threads, 1)) as run:
            yield run
    finally:
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
def quiet_loading() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal while a model loads."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def _knows_no_word(tokenizer: Any) -> bool:
    """Whether it has no more than such as start, end, padding and unknown, which is what missing files leave."""
    return len(tokenizer.get_vocab()) <= SPECIAL_TOKENS


def _words_without_row(model: SentenceTransformer) -> int:
    """How many words of the tokenizer are numbered beyond the model's table; some models never meet theirs."""
    first = model[0]
    of_words = getattr(getattr(first, "model", None), "get_input_embeddings", None)
    table = of_words() if of_words else getattr(first, "embedding", None)
    rows = getattr(table, "num_embeddings", None)
    return 0 if rows is None else sum(number >= rows for number in model.tokenizer.get_vocab().values())


def _why(resolved: ResolvedModel, error: Exception) -> str:
    """One line that says what is wrong with a model that did not load, and the way to mend it."""
    if "trust_remote_code" in str(error):
        return (
            "it brings code of its own, which is not run; if you trust its author, set model.trust_remote_code = true"
        )
    if not resolved.is_folder:
        return f"{first_line(error)}; is the Hub reachable, and the name right?"
    folder = Path(resolved.location)
    if next(folder.rglob("pytorch_model*.bin"), None) and not next(folder.rglob("*.safetensors"), None):
        return (
            "its weights are a pickle (pytorch_model.bin), which can run code when it is read; "
            "save them as safetensors, and put model.safetensors beside it"
        )
    if damaged := _damaged(folder):
        return f"{damaged} is damaged or cut short; copy the model there anew"
    if not any(file.name.startswith(TOKENIZERS) for file in folder.rglob("*")):
        return f"it has no tokenizer; put tokenizer.json beside its weights ({first_line(error)})"
    return first_line(error)


def _damaged(folder: Path) -> Path | None:
    """The first file of a model that is no JSON, or no safetensors, though its name says so."""
    from safetensors import safe_open

    for file in sorted(folder.rglob("*")):
        try:
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
        except Exception:  # safetensors has an error of its own, which is no ValueError
            return file
    return None


def _countable(embedder: LocalEmbedder, resolved: ResolvedModel) -> bool:
    """Whether the tokenizer.json among the model's files is the tokenizer that it uses."""
    folder = model_folder(resolved)
    file = tokenizer_file(folder) if folder else None
    if file is None:
        return False
    from tokenizers import Tokenizer

    return tokenizer_json(Tokenizer.from_file(str(file))) == tokenizer_json(embedder.model.tokenizer)


def tokenizer_json(tokenizer: Any) -> str:
    """Vocabulary and rules of a tokenizer as JSON, without truncation and padding, which change with use."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "to_str"):
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    return _without_use(backend.to_str())


# A vocabulary of 250,000 words takes a second, and every embedder that is made of a model asks for it.
@lru_cache(maxsize=1)
def _without_use(described: str) -> str:
    return json.dumps({**json.loads(described), "truncation": None, "padding": None}, sort_keys=True)


def _to(value: Any, device: str) -> Any:
    return value.to(device) if hasattr(value, "to") else value
