from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hash_embedder import HashEmbedder
from tests_support import save_words, small_bert

from retrieval.errors import ModelError
from retrieval.indexing import build_index
from retrieval.reranking import Reranker
from retrieval.search import SearchEngine, SearchResult
from retrieval.workspace import Workspace

ANIMALS = ["wombat", "emu", "koala", "platypus", "quokka", "dingo"]
WORDS = [*ANIMALS, "eats", "grass", "leaves", "the"]


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cross-encoder")
    small_bert("BertForSequenceClassification", WORDS, num_labels=1).save_pretrained(folder)
    save_words(folder, WORDS)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    for number, animal in enumerate(ANIMALS):
        text = f"The {animal} eats grass" + " and leaves" * number
        (tmp_path / "docs" / f"{animal}.md").write_text(text, encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, "test/hash")
    workspace = Workspace.open(tmp_path)
    build_index(workspace, embedder=HashEmbedder())
    return workspace


def engine(workspace: Workspace, **settings: Any) -> SearchEngine:
    return SearchEngine(replace(workspace, search=workspace.search.model_copy(update=settings)))


def ask(engine: SearchEngine, top_k: int = 6) -> SearchResult:
    return engine.search("eats grass", top_k=top_k, mode="lexical")


def test_the_order_is_that_of_the_cross_encoder(workspace: Workspace, cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    plain = ask(engine(workspace))
    result = ask(engine(workspace, rerank=str(cross_encoder)))
    titled = {hit.document_id: f"{hit.text}\n{hit.title}" for hit in plain.hits}
    pairs = [("eats grass", text) for text in titled.values()]
    scores = dict(zip(titled, CrossEncoder(str(cross_encoder), device="cpu").predict(pairs).tolist(), strict=True))
    assert result.degraded == ""
    assert [hit.document_id for hit in result.hits] == sorted(scores, key=lambda name: -scores[name])
    assert [hit.document_id for hit in result.hits] != [hit.document_id for hit in plain.hits]
    assert [hit.score for hit in result.hits] == pytest.approx(sorted(scores.values(), reverse=True), abs=1e-6)
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4, 5, 6]


def test_only_the_best_candidates_are_reranked(workspace: Workspace, cross_encoder: Path) -> None:
    best = {hit.document_id for hit in ask(engine(workspace), 3).hits}
    few = ask(engine(workspace, rerank=str(cross_encoder), rerank_candidates=3), 2).hits
    order = [hit.document_id for hit in ask(engine(workspace, rerank=str(cross_encoder))).hits]
    assert [hit.document_id for hit in few] == [name for name in order if name in best][:2]


def test_a_relative_folder_is_found_in_the_workspace(workspace: Workspace, cross_encoder: Path) -> None:
    (workspace.root / "judge").symlink_to(cross_encoder)
    assert ask(engine(workspace, rerank="judge")).degraded == ""


def test_a_query_without_hits_loads_no_model(workspace: Workspace) -> None:
    result = engine(workspace, rerank="nowhere").search("xylophone", mode="lexical")
    assert (result.hits, result.degraded) == ((), "")


def test_a_reranker_that_is_not_there_leaves_the_order_and_says_so(workspace: Workspace, cross_encoder: Path) -> None:
    reranking = engine(workspace, rerank="judge")
    plain = ask(engine(workspace))
    for top_k in (2, 6):
        result = ask(reranking, top_k)
        assert result.hits == plain.hits[:top_k]
        assert result.degraded.startswith("not reranked: unknown model reference 'judge'")
    (workspace.root / "judge").symlink_to(cross_encoder)
    assert ask(reranking).degraded  # not tried at each search
    with pytest.raises(ModelError, match="test/hash"):
        reranking.load()  # of the embedder, which is no real one
    assert ask(reranking).degraded == ""


def test_an_embedder_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    small_bert("BertModel", WORDS).save_pretrained(tmp_path / "embedder")
    save_words(tmp_path / "embedder", WORDS)
    with pytest.raises(ModelError, match=r"search.rerank = 'embedder' is no cross-encoder \(BertModel\); name one"):
        Reranker(workspace, "embedder").load()


def test_a_classifier_of_several_labels_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    small_bert("BertForSequenceClassification", WORDS, num_labels=3).save_pretrained(tmp_path / "labels")
    save_words(tmp_path / "labels", WORDS)
    with pytest.raises(ModelError, match="gives 3 scores a pair; a reranker gives one"):
        Reranker(workspace, "labels").load()


def test_pickled_weights_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    import torch

    model = small_bert("BertForSequenceClassification", WORDS, num_labels=1)
    model.config.save_pretrained(tmp_path / "pickled")
    save_words(tmp_path / "pickled", WORDS)
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="reranker pickled could not be loaded: .*safetensors"):
        Reranker(workspace, "pickled").load()


def test_broken_weights_leave_the_order(workspace: Workspace, tmp_path: Path) -> None:
    import torch

    model = small_bert("BertForSequenceClassification", WORDS, num_labels=1)
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    save_words(tmp_path / "broken", WORDS)
    result = ask(engine(workspace, rerank="broken"))
    assert result.hits == ask(engine(workspace)).hits
    assert "scores that are not finite" in result.degraded


def test_many_threads_are_reranked_alike(workspace: Workspace, cross_encoder: Path) -> None:
    reranking = engine(workspace, rerank=str(cross_encoder))
    found: list[SearchResult] = []
    threads = [threading.Thread(target=lambda: found.append(ask(reranking))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ask(reranking)] * 8


def test_a_document_gets_no_more_places_than_it_may_have(workspace: Workspace, cross_encoder: Path) -> None:
    sections = "".join(f"# {animal}\n\nThe {animal} eats grass.\n\n" for animal in ANIMALS)
    (workspace.root / "docs" / "all.md").write_text(sections, encoding="utf-8")
    build_index(workspace, embedder=HashEmbedder())
    hits = ask(engine(workspace, rerank=str(cross_encoder), per_document=1)).hits
    assert len({hit.document_id for hit in hits}) == len(hits) == 6


def test_a_copy_elsewhere_stands_in_for_a_passage_whose_document_has_no_room(
    workspace: Workspace, cross_encoder: Path
) -> None:
    copy = "The dingo eats grass and the quokka eats leaves. " * 5
    docs = workspace.root / "docs"
    (docs / "big.md").write_text(f"# One\n\nThe dingo eats grass, grass, grass.\n\n# Two\n\n{copy}\n", encoding="utf-8")
    (docs / "small.md").write_text(f"# Copy\n\n{copy}\n", encoding="utf-8")
    build_index(workspace, embedder=HashEmbedder())
    settings = {"rerank": str(cross_encoder), "per_document": 1}
    hits = engine(workspace, **settings).search("dingo grass", top_k=10, mode="lexical").hits
    assert {"big.md", "small.md"} <= {hit.document_id for hit in hits}
    assert len({hit.id for hit in hits}) == len({hit.document_id for hit in hits}) == len(hits)


def test_where_few_documents_have_the_best_others_fill_the_places_and_all_is_read_once(
    workspace: Workspace, cross_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = "".join(f"# {animal} {n}\n\nThe {animal} eats grass.\n\n" for n in range(9) for animal in ANIMALS)
    (workspace.root / "docs" / "all.md").write_text(sections, encoding="utf-8")
    build_index(workspace, embedder=HashEmbedder())
    read: list[int] = []
    scores = Reranker.scores

    def counted(reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
        read.append(len(texts))
        return scores(reranker, query, texts)

    monkeypatch.setattr(Reranker, "scores", counted)
    hits = ask(engine(workspace, rerank=str(cross_encoder), rerank_candidates=5, per_document=1), 5).hits
    assert len({hit.document_id for hit in hits}) == len(hits) == 5
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len(read) == 1 and read[0] < 10
