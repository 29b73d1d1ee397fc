"""The int8 graph of a model on the CPU, by ONNX Runtime; needs no torch once it is exported.

Each text goes through alone. A batch is quantized with one scale, so that the vector of a text would
depend on its neighbours; and with nothing to pad and all of it in the cache it is the fastest way too
(benchmarks/encode.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.console import Progress, silent
from retrieval.durable import file_sha256
from retrieval.errors import ModelError
from retrieval.local_embedder import load_local
from retrieval.model_identity import recall
from retrieval.models import remove_staging, resolve, staging_folder
from retrieval.onnx_export import GRAPH, RECORD, TOKENIZER, export, int8_fingerprint
from retrieval.threads import cores, in_threads
from retrieval.token_counting import TokenizerFile
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OnnxEmbedder", "load_onnx"]


def load_onnx(reference: str, workspace: Workspace) -> OnnxEmbedder:
    """Return the int8 form of ``reference``, exported to ``models/onnx/`` when it is first asked for (a minute).

    Raises:
        ModelError: the reference is unknown, the model cannot be loaded or exported, or onnxruntime is missing.
    """
    _require_runtime(workspace)
    resolved = resolve(workspace, reference)
    torch_settings = workspace.model.model_copy(update={"backend": "torch", "device": "cpu"})
    as_torch = replace(workspace, model=torch_settings)
    known = recall(as_torch, resolved)
    folder = _folder(workspace, known.fingerprint) if known else None
    if folder is None or not (folder / RECORD).is_file():
        embedder = load_local(reference, as_torch)
        folder = _folder(workspace, embedder.fingerprint)
        if not (folder / RECORD).is_file():
            staged = staging_folder(workspace)
            try:
                export(embedder, staged)
                folder.parent.mkdir(parents=True, exist_ok=True)
                if not folder.exists():
                    staged.rename(folder)
            finally:
                remove_staging(staged)
    return OnnxEmbedder(folder, resolved.reference)


class OnnxEmbedder:
    """A folder of `onnx_export.export`, ready to encode. Thread-safe."""

    gives_tokens = False

    def __init__(self, folder: Path, reference: str) -> None:
        record = _read_record(folder)
        self.reference = reference
        self.fingerprint: str = record["fingerprint"]
        self.dimension: int = record["dimension"]
        self.max_tokens: int = record["max_tokens"]
        self._query_prompt: str = record["query_prompt"]
        self._document_prompt: str = record["document_prompt"]
        self._inputs: list[str] = record["inputs"]
        self._session: Any = _session(folder / GRAPH)
        self._tokenizer: Any = _tokenizer(folder / TOKENIZER, self.max_tokens)
        self.count_tokens = TokenizerFile(folder / TOKENIZER)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1."""
        return self._encode(texts, self._query_prompt, silent)

    def encode_documents(self, texts: Sequence[str], progress: Progress = silent) -> NDArray[np.float32]:
        """Return an array (len(texts), dimension), rows of length 1, in the order given."""
        return self._encode(texts, self._document_prompt, progress)

    def _encode(self, texts: Sequence[str], prompt: str, progress: Progress) -> NDArray[np.float32]:
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        if not texts:
            return vectors
        # Longest first, so that no thread is left with a long one at the end.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        with in_threads(min(cores(), len(texts))) as run:
            encoded = run(lambda row: self._forward(prompt + texts[row]), order)
            for done, (row, vector) in enumerate(encoded, 1):
                vectors[row] = vector
                progress("encoding", done, len(texts))
        if not np.isfinite(vectors).all():
            raise ModelError(f"model {self.reference} gave vectors that are not finite; set model.backend = torch")
        return vectors

    def _forward(self, text: str) -> NDArray[np.float32]:
        import numpy as np

        encoding = self._tokenizer.encode(text)
        known = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask}
        known["token_type_ids"] = encoding.type_ids
        feed = {name: np.array([known[name]], dtype=np.int64) for name in self._inputs}
        vector: NDArray[np.float32] = self._session.run(None, feed)[0][0]
        return vector


def _folder(workspace: Workspace, of_model: str) -> Path:
    return workspace.models_dir / "onnx" / int8_fingerprint(of_model)


def _require_runtime(workspace: Workspace) -> None:
    if workspace.model.device not in ("auto", "cpu"):
        raise ModelError(
            f"model.backend = onnx-int8 runs on the CPU, and model.device is {workspace.model.device!r}; change one"
        )
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise ModelError("model.backend = onnx-int8 needs more packages: pip install 'shoptalk[onnx]'") from None


def _read_record(folder: Path) -> dict[str, Any]:
    """The record of an export, once its graph is seen to be the one it was written with."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sound = record["graph_sha256"] == file_sha256(folder / GRAPH)
    except (OSError, ValueError, LookupError, TypeError):
        sound = False
    if not sound:
        raise ModelError(f"{folder} is damaged; remove it, and it is exported again")
    return record


def _session(graph: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One text a thread: a kernel of one thread each beats all cores on one text.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _tokenizer(file: Path, max_tokens: int) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
