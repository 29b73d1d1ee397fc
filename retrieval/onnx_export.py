"""A SentenceTransformer as one int8 graph for ONNX Runtime, with what it costs measured.

The whole model goes into the graph, pooling and all, so that a machine that encodes with it needs no
torch. BERT's attention, GELU and layer normalisation become one node each (onnxruntime's transformer
optimizer), and the matrices int8, one scale for each column (dynamic quantization of activations:
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html). With one scale for
a whole matrix the vectors of all-MiniLM-L6-v2 stray to a cosine of .93; with one for each column, .99.
What GELU gives is mostly near zero with a few large numbers, which eight bits hold worst: the products with it stay
float32 in the first half of the layers, where an error has the furthest to go. That halves the loss (mean cosine .9935
to .9967 on ICD-10-CM) for a fifth more time; in the other half it gains next to nothing.

The export goes through TorchScript: the optimizer knows the patterns that gives, and does not find
attention in those of torch.export (torch 2.13, onnxruntime 1.32).
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.durable import file_sha256
from retrieval.errors import ModelError, first_line
from retrieval.local_embedder import LocalEmbedder, tokenizer_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GRAPH", "RECORD", "TOKENIZER", "export", "int8_fingerprint"]

log = logging.getLogger(__name__)

GRAPH = "model.int8.onnx"
TOKENIZER = "tokenizer.json"
RECORD = "onnx.json"
RECIPE = "onnx-int8/2"
"""Which way of exporting this is; another gives other vectors, and so another fingerprint."""
LEAST_COSINE = 0.95
SAMPLE_TEXTS = 48
SAMPLE_CHARS = 700
_OPSET = 17
_FLOAT = 1  # onnx.TensorProto.FLOAT


def int8_fingerprint(of_model: str) -> str:
    """The fingerprint of the int8 graph of the model with the fingerprint ``of_model``."""
    return sha256(f"{RECIPE} {of_model}".encode()).hexdigest()


def export(embedder: LocalEmbedder, folder: Path) -> None:
    """Write graph, tokenizer and record of ``embedder``'s model into the empty ``folder`` (a minute).

    The model is moved to the CPU and its attention changed, so it is of no use afterwards.

    Raises:
        ModelError: the model cannot go that way, or the loss is too great; the message says why.
    """
    model, name = embedder.model, embedder.reference
    _refuse_unfit(model, name)
    sample = _sample()
    expected = embedder.encode_documents(sample)
    model.to("cpu")
    model[0].auto_model.set_attn_implementation("eager")
    features = {
        key: value for key, value in model.preprocess(["a text", "another one"]).items() if hasattr(value, "shape")
    }
    (folder / TOKENIZER).write_text(tokenizer_json(model.tokenizer), encoding="utf-8")
    try:
        _write_graph(model, features, folder)
    except Exception as error:  # torch, onnx and onnxruntime raise without a common base
        reason = first_line(error)
        raise ModelError(f"model {name} does not export to ONNX ({reason}); set model.backend = torch") from error
    record = {
        "recipe": RECIPE,
        "fingerprint": int8_fingerprint(embedder.fingerprint),
        "dimension": embedder.dimension,
        "max_tokens": embedder.max_tokens,
        "inputs": list(features),
        "query_prompt": model.prompts.get("query", ""),
        "document_prompt": model.prompts.get("document", ""),
        "graph_sha256": file_sha256(folder / GRAPH),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _measure(name, folder, sample, expected, record)


def _refuse_unfit(model: Any, name: str) -> None:
    if not hasattr(model[0], "auto_model"):
        raise ModelError(f"model {name} is no transformer, so int8 gains nothing; set model.backend = torch")
    if any(getattr(module, "include_prompt", True) is False for module in model):
        raise ModelError(f"model {name} leaves its prompt out of its pooling; set model.backend = torch")
    if not hasattr(model.tokenizer, "backend_tokenizer"):
        raise ModelError(f"model {name} has no tokenizer.json; set model.backend = torch")


def _write_graph(model: Any, features: dict[str, Any], folder: Path) -> None:
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            embedding = self.model.forward(dict(zip(features, tensors, strict=True)))["sentence_embedding"]
            return torch.nn.functional.normalize(embedding, dim=1)

    config = model[0].auto_model.config
    plain, fused = folder / "plain.onnx", folder / "fused.onnx"
    axes = {name: {0: "texts", 1: "tokens"} for name in features} | {"embedding": {0: "texts"}}
    with warnings.catch_warnings(), _root_logger_kept(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's own, of deprecation and of shapes it takes as fixed
        torch.onnx.export(
            Whole().eval(),
            tuple(features.values()),
            str(plain),
            input_names=list(features),
            output_names=["embedding"],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
        optimizer = optimize_model(
            str(plain),
            "bert",
            num_heads=getattr(config, "num_attention_heads", 0),
            hidden_size=getattr(config, "hidden_size", 0),
            opt_level=0,
            optimization_options=FusionOptions("bert"),
        )
        optimizer.save_model_to_file(str(fused))
        log.info("ONNX: fused %s", optimizer.get_fused_operator_statistics())
        quantize_dynamic(
            fused,
            folder / GRAPH,
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Seven bits: without VNNI instructions two products of eight overflow where they are added (16 bits).
            reduce_range=True,
            op_types_to_quantize=["MatMul", "Attention"],
            nodes_to_exclude=_kept_float(optimizer.model.graph),
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": _FLOAT},
        )
    for temporary in (plain, fused):
        temporary.unlink()


def _kept_float(graph: Any) -> list[str]:
    """The names of the products with what GELU gives, in the first half of the layers."""
    from_gelu = {name for node in graph.node if node.op_type.endswith("Gelu") for name in node.output}
    products = [node.name for node in graph.node if node.op_type == "MatMul" and node.input[0] in from_gelu]
    return products[: len(products) // 2]


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Hold off the quantizer, which talks through the root logger and sets up a handler for it by doing so."""
    root, handler = logging.getLogger(), logging.NullHandler()

    def nothing(record: logging.LogRecord) -> bool:
        return False

    root.addHandler(handler)
    root.addFilter(nothing)  # of what is said to the root itself, not of what comes up to it
    try:
        yield
    finally:
        root.removeFilter(nothing)
        root.removeHandler(handler)


def _sample() -> list[str]:
    """English prose of some length that every Python has: the texts of its own help."""
    from pydoc_data.topics import topics

    return [" ".join(topics[name].split())[:SAMPLE_CHARS] for name in islice(sorted(topics), SAMPLE_TEXTS)]


def _measure(name: str, folder: Path, sample: list[str], expected: NDArray[np.float32], record: dict[str, Any]) -> None:
    """Compare with torch on the sample, and put the cosines into the record."""
    from retrieval.onnx_embedder import OnnxEmbedder

    cosines = (OnnxEmbedder(folder, name).encode_documents(sample) * expected).sum(axis=1)
    record["sample_texts"] = len(sample)
    record["min_cosine"] = round(float(cosines.min()), 5)
    record["mean_cosine"] = round(float(cosines.mean()), 5)
    log.info("model %s as int8: cosine to torch %.4f on average", name, record["mean_cosine"])
    if not record["mean_cosine"] >= LEAST_COSINE:
        raise ModelError(
            f"model {name} loses too much as int8 (cosine {record['mean_cosine']} to torch, {LEAST_COSINE} is wanted); "
            "set model.backend = torch"
        )
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
