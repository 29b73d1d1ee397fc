from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from retrieval import static_embedder
from retrieval.embedders import LazyEmbedder, load_embedder, load_local, open_embedder
from retrieval.errors import ModelError
from retrieval.models import resolve
from retrieval.static_embedder import StaticEmbedder, load_static
from retrieval.workspace import Workspace

ROOT = Path(__file__).parents[2]
TEXTS = ["The wombat digs burrows.", "", "E11.9 type 2 diabetes, " * 40, "größer als 数字"]


def workspace(root: Path, model: Path, settings: str = "") -> Workspace:
    root.mkdir(exist_ok=True)
    (root / "shoptalk.toml").write_text(
        f'[corpus.docs]\npaths = ["docs"]\n[model]\nbase = {json.dumps(str(model))}\n{settings}', encoding="utf-8"
    )
    return Workspace.open(root)


def variant(model: Path, folder: Path, kind: str) -> Path:
    """``model`` as it is, followed by a module that normalizes, or with its table as model2vec names it."""
    shutil.copytree(model, folder)
    if kind == "normalized":
        modules = json.loads((folder / "modules.json").read_text())
        normalize = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
        (folder / "modules.json").write_text(json.dumps([*modules, normalize]))
        (folder / "1_Normalize").mkdir()
    if kind == "model2vec":
        table = load_file(folder / "model.safetensors")["embedding.weight"]
        save_file({"embeddings": table}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("kind", ["plain", "normalized", "model2vec", "prompted"])
def test_it_makes_the_vectors_of_the_engine_once_the_engine_knew_the_model(
    tmp_path: Path, static_model: Path, kind: str
) -> None:
    settings = 'query_prompt = "query: "\ndocument_prompt = "passage: "\n' if kind == "prompted" else ""
    here = workspace(tmp_path / "here", variant(static_model, tmp_path / "model", kind), settings)
    assert load_static(here, resolve(here, "base")) is None
    first = load_local("base", here)
    light = load_embedder("base", here)
    assert isinstance(light, StaticEmbedder)
    assert (light.fingerprint, light.dimension, light.max_tokens) == (first.fingerprint, 256, first.max_tokens)
    assert light.reference == first.reference and light.count_tokens(TEXTS) == first.count_tokens(TEXTS)
    np.testing.assert_allclose(light.encode_documents(TEXTS), first.encode_documents(TEXTS), atol=1e-6)
    np.testing.assert_allclose(light.encode_queries(TEXTS), first.encode_queries(TEXTS), atol=1e-6)
    assert light.encode_queries([]).shape == (0, 256)


def test_no_torch_is_imported_for_it(tmp_path: Path, static_model: Path) -> None:
    load_local("base", workspace(tmp_path, static_model))
    program = (
        "import sys; from retrieval.workspace import Workspace; from retrieval.embedders import load_embedder; "
        f"load_embedder('base', Workspace.open({str(tmp_path)!r})).encode_queries(['wombat']); "
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


def test_a_model_that_changed_is_the_engine_s_to_load(tmp_path: Path, static_model: Path) -> None:
    here = workspace(tmp_path / "here", variant(static_model, tmp_path / "model", "plain"))
    load_embedder("base", here)
    table = load_file(tmp_path / "model" / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": -table}, tmp_path / "model" / "model.safetensors")
    assert load_static(here, resolve(here, "base")) is None
    assert isinstance(load_embedder("base", here), StaticEmbedder)


def test_a_table_that_ends_before_its_tokenizer_is_told(tmp_path: Path, static_model: Path) -> None:
    here = workspace(tmp_path / "here", variant(static_model, tmp_path / "model", "plain"))
    table = load_file(tmp_path / "model" / "model.safetensors")["embedding.weight"]
    save_file({"embedding.weight": table[:300]}, tmp_path / "model" / "model.safetensors")
    cut = load_embedder("base", here)
    assert isinstance(cut, StaticEmbedder)
    with pytest.raises(ModelError, match="do not belong together"):
        cut.encode_queries(["wombat"])


def test_a_long_text_is_the_mean_of_all_its_tokens(
    tmp_path: Path, static_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light = load_embedder("base", workspace(tmp_path, static_model))
    whole = light.encode_documents(TEXTS)
    monkeypatch.setattr(static_embedder, "ROWS", 7)
    np.testing.assert_allclose(light.encode_documents(TEXTS), whole, atol=1e-6)


def test_a_record_that_is_wrong_is_not_believed(tmp_path: Path, static_model: Path) -> None:
    here = workspace(tmp_path, static_model)
    true = load_embedder("base", here).fingerprint
    records = tmp_path / "models" / "fingerprints.json"
    records.write_text(records.read_text(encoding="utf-8").replace(true, "0" * 64), encoding="utf-8")
    assert load_static(here, resolve(here, "base")) is None
    assert load_embedder("base", here).fingerprint == true
    assert open_embedder("base", here).fingerprint == true


def test_an_embedder_that_is_known_loads_it_at_the_first_text(tmp_path: Path, static_model: Path) -> None:
    here = workspace(tmp_path, static_model)
    load_embedder("base", here)
    lazy = open_embedder("base", here)
    assert isinstance(lazy, LazyEmbedder)
    assert lazy.encode_queries(["wombat"]).shape == (1, 256)
    assert isinstance(lazy._embedder, StaticEmbedder)


def test_a_device_that_was_asked_for_is_the_engine_s(tmp_path: Path, static_model: Path) -> None:
    load_embedder("base", workspace(tmp_path, static_model))
    assert isinstance(load_embedder("base", workspace(tmp_path, static_model, 'device = "cpu"\n')), StaticEmbedder)
    with pytest.raises(ModelError, match="not usable here"):
        load_embedder("base", workspace(tmp_path, static_model, 'device = "cuda:9"\n'))
