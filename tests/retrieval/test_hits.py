from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hash_embedder import HashEmbedder

from retrieval.errors import IndexingError
from retrieval.indexing import build_index
from retrieval.local_store import _LocalGeneration
from retrieval.search import Hit, SearchEngine, SearchResult, Source
from retrieval.workspace import Workspace

WORDS = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(26 * 26)]
LONG = " ".join(WORDS[:60])

Ask = Callable[..., SearchEngine]


@pytest.fixture
def indexed(tmp_path: Path) -> Ask:
    """Index documents by name, and give an engine with settings of [search]."""

    def make(documents: dict[str, str], **settings: Any) -> SearchEngine:
        for name, text in documents.items():
            path = tmp_path / "docs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if not (tmp_path / "shoptalk.toml").exists():
            Workspace.create(tmp_path, {"docs": "docs"}, "test/hash")
        workspace = Workspace.open(tmp_path)
        build_index(workspace, embedder=HashEmbedder())
        return SearchEngine(replace(workspace, search=workspace.search.model_copy(update=settings)))

    return make


def words(engine: SearchEngine, query: str, top_k: int = 5) -> tuple[Hit, ...]:
    return engine.search(query, top_k=top_k, mode="lexical").hits


def by_vector(engine: SearchEngine, query: str, **options: Any) -> SearchResult:
    return engine.search(query, vector=HashEmbedder().encode_queries([query])[0], **options)


def names(hits: tuple[Hit, ...]) -> list[str]:
    return [hit.document_id for hit in hits]


COPIES = {
    "a.md": f"# Fees\n\n{LONG} fee\n",
    "b/copy.md": f"# Start\n\nIntro.\n\n# Again\n\n{LONG} fee\n",
    "c.md": "# Other\n\nThe fee of another thing.\n",
    "d.md": "# Third\n\nNo charge, and a third thing with the fee.\n",
}


def test_duplicates_collapse_and_the_next_candidates_fill_the_places(indexed: Ask) -> None:
    hits = words(indexed(COPIES), f"fee {WORDS[0]} {WORDS[1]}", top_k=3)
    assert sorted(names(hits)) in (["a.md", "c.md", "d.md"], ["b/copy.md", "c.md", "d.md"])
    assert [hit.rank for hit in hits] == [1, 2, 3]
    (other,) = hits[0].also
    assert {hits[0].document_id, other.document_id} == {"a.md", "b/copy.md"}
    assert not hits[1].also and not hits[2].also


def test_of_copies_the_first_by_name_is_shown_whichever_came_first(indexed: Ask) -> None:
    note = f"# Fees\n\n{LONG} fee\n"
    indexed({"sub/a.md": note})
    (hit,) = words(indexed({"sub/a.md": note, "a.md": note}), f"fee {WORDS[0]}", top_k=1)
    assert (hit.document_id, [source.document_id for source in hit.also]) == ("a.md", ["sub/a.md"])


def test_equal_passages_stand_in_one_order_however_many_are_asked_for(indexed: Ask) -> None:
    for number in range(20, 8, -1):
        engine = indexed({f"z{number:02}.md": f"# Fee\n\nThe fee of zone {'abcdefghijklm'[number - 9]}.\n"})
    first = [names(words(engine, "fee", top_k=top_k))[0] for top_k in (1, 3, 10)]
    assert first == ["z09.md"] * 3


def test_a_source_says_where_the_other_copy_stands(indexed: Ask) -> None:
    engine = indexed({**COPIES, "a.md": f"# Fees\n\n{LONG} fee {LONG} fee\n"}, collapse_duplicates=True)
    (hit,) = words(engine, f"fee {WORDS[0]}", top_k=1)
    assert hit.document_id == "a.md"
    assert hit.also == (Source("b/copy.md", "b/copy.md", ("Again",), 7, 7),)


def test_collapsing_can_be_turned_off(indexed: Ask) -> None:
    hits = words(indexed(COPIES, collapse_duplicates=False), f"fee {WORDS[0]}", top_k=2)
    assert sorted(names(hits)) == ["a.md", "b/copy.md"]
    assert not any(hit.also for hit in hits)


def test_many_copies_leave_room_for_everything_else(indexed: Ask) -> None:
    copies = {f"copy{n}.md": f"# Fees\n\n{LONG} fee\n" for n in range(40)}
    hits = words(indexed({**COPIES, **copies}), f"fee {WORDS[0]}", top_k=3)
    assert sorted(names(hits))[1:] == ["c.md", "d.md"]
    assert (len(hits[0].also), hits[0].also_total) == (20, 41)


def test_copies_by_the_thousand_hide_nothing(indexed: Ask) -> None:
    copies = "".join(json.dumps({"_id": f"copy{n}", "text": f"{LONG} fee"}) + "\n" for n in range(4000))
    hits = words(indexed({**COPIES, "copies.jsonl": copies}), f"fee {WORDS[0]}", top_k=3)
    assert sorted(names(hits)[1:]) == ["c.md", "d.md"]


def test_what_a_full_document_says_too_is_told_of_the_next_that_says_it(indexed: Ask) -> None:
    sections = f"# Fees\n\nfee fee fee\n\n# Terms\n\n{LONG} fee\n"
    documents = {"big.md": sections, "small.md": f"# Small\n\n{LONG} fee\n"}
    assert names(words(indexed(documents, per_document=1), "fee", top_k=2)) == ["big.md", "small.md"]


def test_a_document_gets_no_more_places_than_it_may_have(indexed: Ask) -> None:
    sections = "".join(f"# Part {n}\n\nfee fee fee {WORDS[n]}\n\n" for n in range(20))
    documents = {"big.md": sections, "small.md": "# Small\n\nA fee is due now and then in some other cases.\n"}
    assert names(words(indexed(documents), "fee", top_k=3)) == ["big.md"] * 3
    assert names(words(indexed(documents, per_document=2), "fee", top_k=5)) == ["big.md", "big.md", "small.md"]


def test_few_documents_are_not_looked_for_in_vain(indexed: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    sections = "".join(f"# Part {n}\n\nfee fee {WORDS[n]}\n\n" for n in range(300))
    engine = indexed({"big.md": sections, "small.md": "# Fee\n\nfee fee fee fee\n"}, per_document=1, candidates=2)
    limits: list[int] = []
    rank = _LocalGeneration.rank

    def ranking(self: _LocalGeneration, query: str, vector: Any, limit: int, prefix: str = "") -> Any:
        limits.append(limit)
        return rank(self, query, vector, limit, prefix)

    monkeypatch.setattr(_LocalGeneration, "rank", ranking)
    assert len(words(engine, "fee", top_k=10)) == 2
    assert limits == [10]


STORY = {"story.md": "".join(f"# Part {n}\n\nThis is {word}.\n\n" for n, word in enumerate(WORDS[:7]))}


def test_neighbours_are_read_with_the_passage_whose_id_stays(indexed: Ask) -> None:
    (plain,) = words(indexed(STORY), WORDS[3])
    (hit,) = words(indexed(STORY, neighbours=1), WORDS[3])
    assert (hit.id, hit.heading, hit.score) == (plain.id, plain.heading, plain.score)
    assert hit.text[hit.own_start : hit.own_end] == plain.text == plain.text[plain.own_start : plain.own_end]
    assert (
        hit.text == f"Part 2\n\nThis is {WORDS[2]}.\n\nPart 3\n\nThis is {WORDS[3]}.\n\nPart 4\n\nThis is {WORDS[4]}."
    )
    assert (plain.first_line, plain.last_line) == (15, 15)
    assert (hit.first_line, hit.last_line) == (11, 19)


def test_no_passage_is_shown_with_two_hits(indexed: Ask) -> None:
    hits = words(indexed(STORY, neighbours=2), f"{WORDS[1]} {WORDS[3]} {WORDS[4]}")
    text = " ".join(hit.text for hit in hits)
    assert len(hits) == 3
    assert [text.count(f"This is {word}.") for word in WORDS[:7]] == [1] * 7


def test_neighbours_follow_the_document_after_it_was_edited(indexed: Ask) -> None:
    indexed(STORY)
    edited = STORY["story.md"].replace("# Part 3", "# Part 2b\n\nNew here.\n\n# Part 3")
    (hit,) = words(indexed({"story.md": edited}, neighbours=1), WORDS[3])
    assert hit.text.startswith("Part 2b\n\nNew here.\n\nPart 3\n\n")


def test_a_given_vector_finds_what_it_is_near_to_and_loads_no_model(indexed: Ask) -> None:
    engine = indexed(COPIES)
    for mode in ("dense", "hybrid"):
        result = by_vector(engine, "The fee of another thing.", mode=mode)
        assert (result.hits[0].document_id, result.degraded) == ("c.md", "")
    assert not engine.loaded


def test_a_vector_that_does_not_fit_is_refused(indexed: Ask) -> None:
    with pytest.raises(IndexingError, match="does not fit an index of 32 numbers"):
        indexed(COPIES).search("fee", vector=np.ones(8, dtype=np.float32))


def test_half_a_surrogate_pair_is_no_fault(indexed: Ask) -> None:
    engine = indexed(COPIES)
    assert words(engine, "fee \ud83d")[0].document_id
    assert by_vector(engine, "fee", path_prefix="\ud800").hits == ()


def test_sixteen_threads_get_one_answer(indexed: Ask) -> None:
    engine = indexed(COPIES, neighbours=1)
    expected = by_vector(engine, "fee due")
    found: list[SearchResult] = []

    def ask() -> None:
        found.extend(by_vector(engine, "fee due") for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 160


@pytest.mark.parametrize("part", ["manifest.json", "catalog.sqlite", "vectors.faiss", "lexical"])
def test_a_damaged_part_is_one_clear_error(indexed: Ask, tmp_path: Path, part: str) -> None:
    engine = indexed(COPIES)
    path = tmp_path / "indexes" / "docs" / "g000001" / part
    for file in [path] if path.is_file() else [file for file in path.iterdir() if file.stat().st_size]:
        file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(IndexingError) as caught:
        by_vector(engine, "fee", top_k=3)
    assert "\n" not in str(caught.value) and "shoptalk index" in str(caught.value)
