from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from retrieval import lexical
from retrieval.errors import IndexingError
from retrieval.lexical import Bm25Scorer, LexicalIndex, tokenize

TEXTS = [
    "Type 2 diabetes mellitus without complications E11.9",
    "Type 1 diabetes mellitus with ketoacidosis E10.10",
    "Fracture of the femur, initial encounter",
    "Install libfoo-2.1 with make install",
    "The tenant shall pay rent under §12(b) of the lease",
]


@pytest.fixture
def index(tmp_path: Path) -> LexicalIndex:
    index = LexicalIndex.create(tmp_path / "lexical", "english")
    index.add((10 * (place + 1), text) for place, text in enumerate(TEXTS))
    index.commit()
    return index


def test_a_rare_identifier_finds_its_passage_first(index: LexicalIndex) -> None:
    assert index.search("E11.9", 5)[0][0] == 10
    assert index.search("libfoo 2.1", 5)[0][0] == 40
    assert index.search("§12(b)", 5)[0][0] == 50


def test_hits_are_ordered_by_score_and_then_by_id(index: LexicalIndex) -> None:
    hits = index.search("diabetes mellitus type", 5)
    assert {number for number, _ in hits} == {10, 20}
    assert hits == sorted(hits, key=lambda hit: (-hit[1], hit[0]))
    assert all(score > 0 for _, score in hits)


@pytest.mark.parametrize("query", ['"unbalanced AND (OR', "body:x~3^ *? +-", "]]\\", "", "   ", "no-such-word"])
def test_whatever_people_type_is_a_query(index: LexicalIndex, query: str) -> None:
    assert index.search(query, 5) == []


def test_only_allowed_ids_are_returned(index: LexicalIndex) -> None:
    everything = dict(index.search("diabetes", 5))
    assert index.search("diabetes", 5, allowed=np.array([30, 20])) == [(20, pytest.approx(everything[20]))]
    assert index.search("diabetes", 5, allowed=np.array([], dtype=np.int64)) == []


def test_a_long_query_is_cut_to_its_rarest_terms_and_an_endless_one_to_its_beginning(index: LexicalIndex) -> None:
    padding = " ".join(f"word{number}" for number in range(1000))
    assert index.search(f"{padding} {' '.join(TEXTS)} ketoacidosis", 1)
    assert index.search(f"ketoacidosis {padding * 100}", 1)[0][0] == 20
    assert index.search(f"{padding * 100} ketoacidosis", 1) == []


IDENTIFIERS = ["E11", "E11.9", "E11.65", "libfoo-2.1", "2.1", "§12", "§12(b)", "getUserId", "C++", ".NET"]


@pytest.mark.parametrize("identifier", IDENTIFIERS)
def test_an_identifier_finds_its_holder_before_those_that_only_contain_it(tmp_path: Path, identifier: str) -> None:
    # Each containing text is shorter than the holder and stands before it.
    parts = [
        "E11-E13",
        "E10/E11",
        "see E11.91",
        "libfoo-2.10",
        "libfoo-2.1.3",
        "asp.net",
        "§12(c)",
        "C",
        "user id",
        "libfoo",
    ]
    others = [other for other in (*IDENTIFIERS, *parts) if other != identifier]
    index = LexicalIndex.create(tmp_path / "lexical", "english")
    index.add(enumerate([*others, f"what is known of {identifier} in full"]))
    index.commit()
    assert index.search(identifier, 5)[0][0] == len(others)
    assert index.search(identifier.upper(), 5)[0][0] == len(others)


@pytest.fixture(scope="module")
def large_index(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    generator = np.random.default_rng(1)
    words = generator.zipf(1.3, (4000, 12)) % 500
    index = LexicalIndex.create(tmp_path_factory.mktemp("large") / "lexical", "none")
    index.add((number, " ".join(f"w{word}" for word in row)) for number, row in enumerate(words.tolist()))
    index.commit()
    return index


def test_a_word_of_most_passages_counts_in_a_large_index_only_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = LexicalIndex.create(tmp_path / "lexical", "english")
    index.add(enumerate(["the rent", "the lease", "the the tenant"]))
    index.commit()
    assert {number for number, _ in index.search("the rent", 5)} == {0, 1, 2}
    monkeypatch.setattr(lexical, "_LARGE", 3)
    assert {number for number, _ in index.search("the rent", 5)} == {0}
    assert {number for number, _ in index.search("the", 5)} == {0, 1, 2}


@pytest.mark.parametrize(
    "allowed",
    [
        range(100, 110),
        range(3999, 5000),
        range(500, 1400),
        range(200, 3900),
        range(3, 4000, 400),
        range(1, 4000, 7),
        range(0, 4000, 2),
        [number for number in range(2000, 2900) if number % 9],
    ],
)
def test_a_filter_gives_what_leaving_out_the_rest_would(large_index: LexicalIndex, allowed: Sequence[int]) -> None:
    for query in ("w1", "w1 w7 w30", "w400", "w2 w3 w499"):
        wanted = [hit for hit in large_index.search(query, 4000) if hit[0] in set(allowed)]
        found = large_index.search(query, 20, np.array(allowed))
        assert [score for _, score in found] == pytest.approx([score for _, score in wanted[:20]])
        assert set(found) <= set(wanted)


def test_deleted_passages_are_gone_and_added_ones_found(tmp_path: Path, index: LexicalIndex) -> None:
    writer = LexicalIndex.open(tmp_path / "lexical", "english", writable=True)
    writer.delete([10, 999])
    writer.add([(60, "Gestational diabetes")])
    writer.commit()
    reopened = LexicalIndex.open(tmp_path / "lexical", "english")
    assert len(reopened) == 5
    assert {number for number, _ in reopened.search("diabetes", 5)} == {20, 60}


def test_an_index_that_may_only_be_read_is_searched_and_not_touched(
    tmp_path: Path, index: LexicalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lock in (tmp_path / "lexical").glob("*.lock"):
        lock.unlink()
    before = sorted(path.name for path in (tmp_path / "lexical").iterdir())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(lexical.os, "access", lambda *_: False)
    reader = LexicalIndex.open(tmp_path / "lexical", "english")
    assert reader.search("E11.9", 5)[0][0] == 10
    assert sorted(path.name for path in (tmp_path / "lexical").iterdir()) == before
    del reader
    assert not list(tmp_path.glob("shoptalk-lexical-*"))


def test_the_links_to_an_index_are_removed_though_a_lock_is_laid_meanwhile(
    tmp_path: Path, index: LexicalIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_folder, locks = os.rmdir, iter((".tantivy-meta.lock",))

    def laid_meanwhile(path: str, *, dir_fd: int | None = None) -> None:
        for lock in locks:
            (links / lock).touch()
        remove_folder(path, dir_fd=dir_fd)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(lexical.os, "access", lambda *_: False)
    reader = LexicalIndex.open(tmp_path / "lexical", "english")
    (links,) = tmp_path.glob("shoptalk-lexical-*")
    monkeypatch.setattr(os, "rmdir", laid_meanwhile)
    del reader
    assert next(locks, None) is None
    assert not links.exists()


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    index = LexicalIndex.create(tmp_path / "empty", "english")
    index.commit()
    assert index.search("anything", 3) == []


def test_a_damaged_index_is_named(tmp_path: Path, index: LexicalIndex) -> None:
    (tmp_path / "lexical" / "meta.json").write_text("{", encoding="utf-8")
    with pytest.raises(IndexingError, match=r"lexical is damaged .* `shoptalk index --full`"):
        LexicalIndex.open(tmp_path / "lexical", "english")


words = st.lists(st.sampled_from(["the", "rent", "E11.9", "due", "paid", "x"]), max_size=8).map(" ".join)


@given(st.lists(words, min_size=1, max_size=12), words)
@example(TEXTS, "the the rent of E11.9, type 2")
@example(["same", "same"], "same")
def test_scores_equal_those_of_rank_bm25(texts: list[str], query: str) -> None:
    assume(any(map(tokenize, texts)))
    scorer = Bm25Scorer(texts)
    expected = BM25Okapi([tokenize(text) for text in texts]).get_scores(tokenize(query))
    np.testing.assert_allclose(scorer.scores(query), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([scorer.score(query, n) for n in range(len(texts))], expected, rtol=1e-9, atol=1e-12)


def test_scoring_an_empty_corpus_is_no_error() -> None:
    assert Bm25Scorer([]).scores("anything").shape == (0,)
    assert Bm25Scorer(["", "..."]).scores("anything").tolist() == [0.0, 0.0]
    assert Bm25Scorer(["", "..."]).score("anything", 1) == 0.0
    with pytest.raises(IndexError):
        Bm25Scorer([]).score("anything", 0)
