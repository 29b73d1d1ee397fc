from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.embedders import Embedder
from retrieval.errors import IndexingError, ModelError, SettingsError, ShoptalkError
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.models import Fusion, remember_base_fusion
from retrieval.pointer import current_name
from retrieval.search import SearchEngine, SearchResult
from retrieval.workspace import Workspace

ANIMALS = """# Wombats

The wombat digs burrows in the ground with its claws.

# Emus

An emu is a tall bird that cannot fly.
"""
CODES = """# E11.9 Type 2 diabetes mellitus

High blood sugar without complications.

# E10.10 Type 1 diabetes mellitus with ketoacidosis

Acids build up in the blood of the patient.
"""


@pytest.fixture
def workspace(tmp_path: Path, static_model: Path) -> Workspace:
    for name, text in (("animals.md", ANIMALS), ("medicine/codes.md", CODES)):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, str(static_model))
    return Workspace.open(tmp_path)


@pytest.fixture
def engine(workspace: Workspace, embedder: Embedder) -> Iterator[SearchEngine]:
    build_index(workspace, embedder=embedder)
    engine = SearchEngine(workspace)
    yield engine
    engine.close()


def headings(result: SearchResult) -> list[str]:
    return [hit.heading[-1] for hit in result.hits]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_many_copies_of_one_text_do_not_crowd_out_the_others(
    workspace: Workspace, embedder: Embedder, mode: str
) -> None:
    folder = workspace.root / "docs"
    for number in range(150):
        (folder / f"mail{number}.md").write_text("# Notice\n\nParking permits: the garage is closed on Monday.\n")
    for number, word in enumerate(("north", "south", "east", "west", "main")):
        (folder / f"policy{number}.md").write_text(f"# Rules {word}\n\nParking permits of the {word} garage: ask.\n")
    build_index(workspace, embedder=embedder)
    engine = SearchEngine(workspace)
    hits = engine.search("parking permits garage closed Monday notice", mode=mode, top_k=5).hits  # type: ignore[arg-type]
    engine.close()
    assert len(hits) == 5 and sum(hit.document_id.startswith("mail") for hit in hits) == 1


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_each_mode_finds_the_passage(engine: SearchEngine, mode: str) -> None:
    result = engine.search("wombat burrows", mode=mode)  # type: ignore[arg-type]
    best = result.hits[0]
    assert (best.rank, best.document_id, best.heading) == (1, "animals.md", ("Wombats",))
    assert (best.path, best.last_line) == ("animals.md", 3)
    assert "digs burrows" in best.text
    assert (result.corpus, result.generation, result.degraded, result.mode) == ("docs", "g000001", "", mode)
    assert (best.dense_rank is None) == (mode == "lexical")
    assert (best.lexical_rank is None) == (mode == "dense")


def test_the_mode_comes_from_the_settings_where_none_is_named(engine: SearchEngine) -> None:
    assert engine.search("wombat").mode == "hybrid"


def test_a_word_that_one_passage_has_leads_the_hybrid_hits(engine: SearchEngine) -> None:
    assert headings(engine.search("ketoacidosis"))[0].startswith("E10.10")
    assert headings(engine.search("E11.9"))[0].startswith("E11.9")


def test_a_lexical_search_loads_no_model(engine: SearchEngine) -> None:
    engine.search("wombat", mode="lexical")
    assert not engine.loaded
    engine.search("wombat", mode="dense")
    assert engine.loaded


def test_top_k_limits_the_hits_and_ranks_them(engine: SearchEngine) -> None:
    hits = engine.search("blood", top_k=3).hits
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_only_documents_under_the_prefix_are_found(engine: SearchEngine) -> None:
    for mode in ("hybrid", "dense", "lexical"):
        result = engine.search("blood of the wombat", path_prefix="medicine/", mode=mode)  # type: ignore[arg-type]
        assert result.hits and {hit.document_id for hit in result.hits} == {"medicine/codes.md"}
    assert engine.search("wombat", path_prefix="nowhere/").hits == ()


def test_no_match_is_no_error(engine: SearchEngine) -> None:
    assert engine.search("xylophone", mode="lexical").hits == ()
    assert engine.search("?!", mode="lexical").hits == ()


@pytest.mark.parametrize("query", ["", " \n\t"])
def test_an_empty_query_is_refused(engine: SearchEngine, query: str) -> None:
    with pytest.raises(ShoptalkError, match="the query is empty"):
        engine.search(query)


def test_no_hits_cannot_be_asked_for(engine: SearchEngine) -> None:
    with pytest.raises(ShoptalkError, match="ask for 1 or more"):
        engine.search("wombat", top_k=0)


def test_the_lexical_weight_is_that_of_the_settings(engine: SearchEngine, workspace: Workspace) -> None:
    for weight in (0.0, 1.0):
        tuned = replace(workspace, search=workspace.search.model_copy(update={"lexical_weight": weight}))
        hits = SearchEngine(tuned).search("tall bird with claws").hits
        ranks = [hit.lexical_rank if weight else hit.dense_rank for hit in hits]
        assert ranks[:2] == [1, 2]


def test_the_lexical_weight_is_else_that_chosen_for_the_model(workspace: Workspace, embedder: Embedder) -> None:
    remember_base_fusion(workspace, embedder.reference, Fusion(0.125))
    build_index(workspace, embedder=embedder)
    tuned = replace(workspace, search=workspace.search.model_copy(update={"lexical_weight": 0.125}))
    query = "tall bird with claws"
    by_default, as_set = (SearchEngine(one).search(query).hits for one in (workspace, tuned))
    assert [hit.id for hit in by_default] == [hit.id for hit in as_set]
    assert [hit.score for hit in by_default] == pytest.approx([hit.score for hit in as_set], abs=1e-6)
    assert open_current(workspace.index_dir("docs"), "docs").manifest.lexical_weight == 0.125


def test_reciprocal_rank_fusion_can_be_chosen(workspace: Workspace, embedder: Embedder) -> None:
    build_index(workspace, embedder=embedder)
    chosen = replace(workspace, search=workspace.search.model_copy(update={"fusion": "rrf"}))
    best = SearchEngine(chosen).search("wombat burrows").hits[0]
    assert (best.dense_rank, best.lexical_rank) == (1, 1)
    assert best.score == pytest.approx(1 / 61)


def test_without_an_index_the_message_says_what_to_run(workspace: Workspace, embedder: Embedder) -> None:
    engine = SearchEngine(workspace)
    for ask in (lambda: engine.search("wombat"), engine.info, engine.load):
        with pytest.raises(IndexingError, match="corpus 'docs' has no index yet; run `shoptalk index`"):
            ask()
    build_index(workspace, embedder=embedder)
    assert engine.search("wombat").hits


def test_an_unknown_corpus_is_refused_at_once(workspace: Workspace) -> None:
    with pytest.raises(SettingsError, match="no corpus named 'other'"):
        SearchEngine(workspace, "other")


def test_a_model_that_is_gone_leaves_the_words(engine: SearchEngine, workspace: Workspace, static_model: Path) -> None:
    elsewhere = static_model.with_name("moved")
    static_model.rename(elsewhere)
    try:
        result = engine.search("wombat burrows")
        assert result.hits[0].heading == ("Wombats",)
        assert "words only" in result.degraded and "unknown model reference" in result.degraded
        with pytest.raises(ModelError, match="unknown model reference"):
            engine.search("wombat", mode="dense")
        # The error is kept, and grows with none of the searches that it ends.
        raised = []
        for _ in range(3):
            with pytest.raises(ModelError) as error:
                engine.search("wombat", mode="dense")
            raised.append(len(error.traceback))
        assert raised[0] == raised[2]
    finally:
        elsewhere.rename(static_model)
    engine.load()
    assert engine.search("wombat burrows").degraded == ""


def test_a_model_that_changed_under_its_name_is_refused(
    workspace: Workspace, embedder: Embedder, static_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(static_model, tmp_path / "model")
    (tmp_path / "shoptalk.toml").unlink()
    Workspace.create(tmp_path, {"docs": "docs"}, "model")
    workspace = Workspace.open(tmp_path)
    build_index(workspace)
    config = tmp_path / "model" / "config_sentence_transformers.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"query": ""', '"query": "find: "'), encoding="utf-8")
    engine = SearchEngine(workspace)
    for mode in ("hybrid", "dense"):
        with pytest.raises(IndexingError, match="was indexed by another model than model is now.*`shoptalk index`"):
            engine.search("wombat", mode=mode)  # type: ignore[arg-type]
    assert engine.search("wombat", mode="lexical").hits
    build_index(workspace)
    assert engine.search("wombat", mode="dense").hits


def test_info_says_what_is_live(engine: SearchEngine, workspace: Workspace, embedder: Embedder) -> None:
    info = engine.info()
    assert (info.corpus, info.generation, info.documents, info.passages) == ("docs", "g000001", 2, 4)
    assert (info.reference, info.fingerprint, info.dimension) == (
        embedder.reference,
        embedder.fingerprint,
        embedder.dimension,
    )
    assert (info.loaded, info.stale) == (False, False)
    other = replace(workspace, model=workspace.model.model_copy(update={"base": "some/other"}))
    assert SearchEngine(other).info().stale


def test_a_new_generation_is_followed(engine: SearchEngine, workspace: Workspace, embedder: Embedder) -> None:
    assert engine.search("platypus", mode="lexical").hits == ()
    engine.load()
    (workspace.root / "docs" / "new.md").write_text("The platypus swims.", encoding="utf-8")
    build_index(workspace, embedder=embedder)
    result = engine.search("platypus")
    assert (result.generation, result.hits[0].document_id) == ("g000002", "new.md")
    assert engine.loaded


def test_a_generation_of_another_model_is_followed_with_that_model(
    engine: SearchEngine, workspace: Workspace, static_model: Path
) -> None:
    engine.load()
    tuned = workspace.root / "tuned"
    shutil.copytree(static_model, tuned)
    config = tuned / "config_sentence_transformers.json"
    config.write_text(config.read_text(encoding="utf-8").replace('"query": ""', '"query": "find: "'), encoding="utf-8")
    build_index(replace(workspace, model=workspace.model.model_copy(update={"base": "tuned"})))
    result = engine.search("wombat burrows")
    assert (result.model, result.generation, result.degraded) == ("tuned", "g000002", "")
    assert result.hits[0].heading == ("Wombats",)
    assert engine.info().stale


def test_who_holds_an_old_generation_is_answered_from_it_after_two_switches(
    engine: SearchEngine, workspace: Workspace, embedder: Embedder
) -> None:
    before = engine.search("wombat burrows")
    snapshot = engine._snapshot
    assert snapshot is not None
    for text in ("one", "two", "three"):
        (workspace.root / "docs" / "animals.md").write_text(text, encoding="utf-8")
        build_index(workspace, embedder=embedder)
    assert current_name(workspace.index_dir("docs")) == "g000004"
    engine._follow = lambda: snapshot  # type: ignore[method-assign]  # a search that began before the switches
    found: list[SearchResult] = []
    thread = threading.Thread(target=lambda: found.append(engine.search("wombat burrows")))
    thread.start()
    thread.join()
    assert found == [before]


def test_searches_go_on_through_switches(engine: SearchEngine, workspace: Workspace, embedder: Embedder) -> None:
    failures: list[BaseException] = []
    seen: list[list[str]] = []
    done = threading.Event()
    answered = threading.Barrier(9)

    def ask() -> None:
        generations: list[str] = []
        seen.append(generations)
        try:
            engine.search("blood sugar")
            answered.wait()
            while not done.is_set():
                result = engine.search("blood sugar")
                assert result.hits[0].document_id == "medicine/codes.md" and not result.degraded
                generations.append(result.generation)
        except BaseException as error:
            failures.append(error)
            answered.abort()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    answered.wait()
    for number in range(4):
        (workspace.root / "docs" / "animals.md").write_text(f"Version {number}", encoding="utf-8")
        build_index(workspace, embedder=embedder)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    for generations in seen:
        assert generations == sorted(generations)
    # While one of them opens what is new the others go on with what they have, to the last.
    assert engine.search("blood sugar").generation == "g000005"


def test_a_closed_engine_lets_its_generation_go(engine: SearchEngine, workspace: Workspace, embedder: Embedder) -> None:
    engine.search("wombat")
    engine.close()
    for text in ("one", "two"):
        (workspace.root / "docs" / "animals.md").write_text(text, encoding="utf-8")
        build_index(workspace, embedder=embedder)
    assert not (workspace.index_dir("docs") / "g000001").exists()
    assert open_current(workspace.index_dir("docs"), "docs").name == "g000003"
