"""A model of static token embeddings without torch, whose import takes longer than a search.

It is one table, and a text's vector the mean of its tokens' rows (`StaticEmbedding` of sentence-transformers). What is
not plainly that is left to `local_embedder`, and so is a model that was never loaded by it: what comes of these files
must have been seen once, and have the fingerprint that it had then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.console import Progress, silent
from retrieval.errors import ModelError
from retrieval.local_embedder import UNLIMITED_TOKENS, fingerprint_of, tokenizer_json
from retrieval.model_identity import model_folder, recall
from retrieval.models import ResolvedModel
from retrieval.prompts import Prompts, choose_prompts
from retrieval.threads import cores, in_threads
from retrieval.token_counting import TokenizerFile
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["StaticEmbedder", "load_static"]

TABLE = "embedding.weight"
OF_MODEL2VEC = "embeddings"
BATCH = 64
ROWS = 4096
"""So many are taken from the table at once, however long a text is."""
_TO_ITSELF = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
MODULES: dict[str, dict[str, str]] = {"StaticEmbedding": {}, "Normalize": _TO_ITSELF}
"""What such a model may be made of, with the settings they have in its fingerprint; a vector's length is 1 anyway."""


def load_static(workspace: Workspace, resolved: ResolvedModel) -> StaticEmbedder | None:
    """Load a model of static token embeddings; None where it is no such model, or not the one that is known."""
    folder = model_folder(resolved)
    if folder is None or workspace.model.device not in ("auto", "cpu"):
        return None
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        if kinds not in ([*MODULES], [*MODULES][:1]) or (known := recall(workspace, resolved)) is None:
            return None
        own = folder / modules[0]["path"]
        table = _table(own / "model.safetensors")
        if table is None:
            return None
        settings = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
        prompts = choose_prompts(workspace.model, resolved.reference, settings.get("prompts", {}))
        embedder = StaticEmbedder(own / "tokenizer.json", table, resolved.reference, prompts, kinds, settings)
    except Exception:  # whatever is wrong with it, or other than expected, the whole engine tells
        return None
    return embedder if embedder.fingerprint == known.fingerprint else None


class StaticEmbedder:
    """A table of static token embeddings, ready to encode. Thread-safe."""

    gives_tokens = False
    max_tokens = UNLIMITED_TOKENS

    def __init__(
        self,
        tokenizer: Path,
        table: NDArray[np.float32],
        reference: str,
        prompts: Prompts,
        modules: Sequence[str],
        settings: Mapping[str, Any],
    ) -> None:
        from tokenizers import Tokenizer

        self.reference = reference
        self.dimension = table.shape[1]
        self._file = tokenizer
        self._table = table
        self._prompts = prompts
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        own = {"query": "", "document": "", **settings.get("prompts", {})}
        self.fingerprint = fingerprint_of(
            [(f"0.{TABLE}", "torch.float32", table.shape, table.data)],
            modules=[[kind, MODULES[kind]] for kind in modules],
            prompts={**own, "query": prompts.query, "document": prompts.document},
            default_prompt=settings.get("default_prompt_name"),
            max_length="inf",
            dimension=self.dimension,
            tokenizer=tokenizer_json(self._tokenizer),
        )

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, with the model's query prompt."""
        return self._encode(texts, self._prompts.query, silent)

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given; 0 without a known token."""
        return self._encode(texts, self._prompts.document, progress)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of the embedder each text has, special tokens left out."""
        return self._counter(texts)

    @cached_property
    def _counter(self) -> TokenizerFile:
        """A tokenizer of its own, which cuts nothing off; a search needs none."""
        return TokenizerFile(self._file)

    def _encode(self, texts: Sequence[str], prompt: str, progress: Progress) -> NDArray[np.float32]:
        import numpy as np

        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)

        def encode(start: int) -> None:
            some = [prompt + text for text in texts[start : start + BATCH]]
            for row, encoding in enumerate(self._tokenizer.encode_batch_fast(some, add_special_tokens=False), start):
                if ids := encoding.ids:
                    vectors[row] = self._mean(ids)

        starts = range(0, len(texts), BATCH)
        # Splitting texts into tokens, nearly all of the work, lets go of the interpreter's lock.
        with in_threads(max(1, min(cores(), len(starts)))) as run:
            for start, _ in run(encode, starts):
                progress("encoding", min(start + BATCH, len(texts)), len(texts))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise ModelError(f"model {self.reference} gave vectors that are not finite; its weights are damaged")
        vectors /= np.maximum(lengths, np.float32(1e-12))
        return vectors

    def _mean(self, ids: Sequence[int]) -> NDArray[np.float32]:
        try:
            sums = [self._table[ids[start : start + ROWS]].sum(axis=0) for start in range(0, len(ids), ROWS)]
        except IndexError:
            raise ModelError(
                f"model {self.reference} and its tokenizer do not belong together: a word of the tokenizer has no row "
                "in its table of embeddings; restore the tokenizer that it was trained with"
            ) from None
        mean: NDArray[np.float32] = sum(sums[1:], sums[0]) / len(ids)
        return mean


def _table(weights: Path) -> NDArray[np.float32] | None:
    """The table of a safetensors file that holds nothing else, in 32 bits; None where it holds other than that."""
    import numpy as np
    from safetensors.numpy import load_file

    tensors = load_file(weights)
    table = tensors.get(TABLE, tensors.get(OF_MODEL2VEC))
    plain = len(tensors) == 1 and table is not None and table.ndim == 2 and table.dtype == np.float32
    return table if plain else None
