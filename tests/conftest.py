"""Fixtures shared by all tests: no network, and a small real embedding model."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest

if TYPE_CHECKING:
    from retrieval.embedders import Embedder

# A suite started in the background has Ctrl-C ignored, and so would the commands it starts to interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def static_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: wordllama's static token embeddings, 256 dimensions, untuned."""
    from importlib.util import find_spec

    import safetensors.torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    spec = find_spec("wordllama")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    weights = safetensors.torch.load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    folder = tmp_path_factory.mktemp("static-model")
    module = StaticEmbedding(tokenizer, embedding_weights=weights.float().numpy())
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture(scope="session")
def embedder(static_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    """That model, loaded as a workspace's base is."""
    from retrieval.embedders import load_embedder
    from retrieval.workspace import Workspace

    root = tmp_path_factory.mktemp("loading")
    Workspace.create(root, {"docs": "docs"}, str(static_model))
    return load_embedder("base", Workspace.open(root))
