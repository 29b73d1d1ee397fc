from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from retrieval.errors import IndexingError, SettingsError
from retrieval.lexical import MAX_TOKEN_CHARS, Bm25Scorer, LexicalIndex, query_terms, tokenize

TEXTS = [
    "Type 2 diabetes mellitus without complications E11.9",
    "Type 1 diabetes mellitus with ketoacidosis E10.10",
    "Fracture of the femur, initial encounter",
    "Install libfoo-2.1 with make install",
    "The tenant shall pay rent under §12(b) of the lease",
]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("E11.9", ["e11.9", "e11", "9"]),
        ("libfoo-2.1", ["libfoo-2.1", "libfoo", "2.1", "2", "1"]),
        ("snake_case", ["snake_case", "snake", "case"]),
        ("§12(b)", ["§12(b)", "§12", "12", "b"]),
        ("(see E11.9).", ["see", "e11.9", "e11", "9"]),
        ("C++ and C#", ["c++", "c", "and", "c#", "c"]),
        ("running RUNS", ["run", "run"]),
        ("patient's", ["patient", "s"]),
    ],
)
def test_identifiers_are_kept_whole_and_in_parts(text: str, tokens: list[str]) -> None:
    assert tokenize(text, "english") == tokens


def test_equivalent_unicode_spellings_give_the_same_tokens() -> None:
    assert tokenize("ﬁle Ａ１ cafe\u0301 soft\u00adhyphen", "none") == ["file", "a1", "café", "softhyphen"]
    assert tokenize("STRASSE", "none") == tokenize("straße", "none")


def test_words_of_scripts_with_combining_marks_stay_whole() -> None:
    assert tokenize("हिन्दी भाषा", "none") == ["हिन्दी", "भाषा"]


def test_chinese_and_japanese_runs_become_bigrams() -> None:
    assert tokenize("東京都 v2糖", "english") == ["東京", "京都", "v2", "糖"]


def test_the_stemmer_follows_the_language() -> None:
    assert tokenize("complications", "english") == ["complic"]
    assert tokenize("complications", "none") == ["complications"]
    assert tokenize("Häuser", "german") == ["haus"]


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"passages\.language: no stemmer for 'klingon'; known: none, "):
        tokenize("words", "klingon")


@given(st.text(max_size=60))
def test_any_text_gives_clean_tokens_that_a_query_repeats(text: str) -> None:
    tokens = tokenize(text, "english")
    assert all(token and not any(char.isspace() for char in token) for token in tokens)
    assert all(len(token) <= MAX_TOKEN_CHARS for token in tokens)
    assert set(query_terms(text, "english")) == set(tokens)


def test_threads_get_the_same_stems() -> None:
    words = [
        f"{stem}{ending}" for stem in ("complicat", "relat", "operat", "thread") for ending in ("ing", "ions", "ed")
    ]
    text = " ".join(f"{word}{number}x {word}" for number in range(200) for word in words)
    expected = tokenize(text, "porter")
    results: list[list[str]] = []
    threads = [threading.Thread(target=lambda: results.append(tokenize(text, "porter"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8


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
    assert index.search("diabetes", 5, allowed={20, 30}) == [(20, pytest.approx(everything[20]))]
    assert index.search("diabetes", 5, allowed=set()) == []


def test_an_endless_query_is_cut_to_its_rarest_terms(index: LexicalIndex) -> None:
    assert index.search(" ".join(f"word{n}" for n in range(5000)) + " " + " ".join(TEXTS) + " ketoacidosis", 1)


def test_deleted_passages_are_gone_and_added_ones_found(tmp_path: Path, index: LexicalIndex) -> None:
    writer = LexicalIndex.open(tmp_path / "lexical", "english", writable=True)
    writer.delete([10, 999])
    writer.add([(60, "Gestational diabetes")])
    writer.commit()
    reopened = LexicalIndex.open(tmp_path / "lexical", "english")
    assert len(reopened) == 5
    assert {number for number, _ in reopened.search("diabetes", 5)} == {20, 60}


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    index = LexicalIndex.create(tmp_path / "empty", "english")
    index.commit()
    assert index.search("anything", 3) == []


def test_a_damaged_index_is_named(tmp_path: Path, index: LexicalIndex) -> None:
    (tmp_path / "lexical" / "meta.json").write_text("{", encoding="utf-8")
    with pytest.raises(IndexingError, match=r"lexical is damaged .* `shoptalk index --full`"):
        LexicalIndex.open(tmp_path / "lexical", "english")


def test_scores_equal_those_of_rank_bm25() -> None:
    scorer = Bm25Scorer(TEXTS)
    reference = BM25Okapi([tokenize(text) for text in TEXTS])
    for query in ("diabetes type 2", "the the rent", "E11.9", "absent"):
        expected = reference.get_scores(tokenize(query))
        np.testing.assert_allclose(scorer.scores(query), expected, rtol=1e-12)
        np.testing.assert_allclose([scorer.score(query, n) for n in range(len(TEXTS))], expected, rtol=1e-12)


def test_scoring_an_empty_corpus_is_no_error() -> None:
    assert Bm25Scorer([]).scores("anything").shape == (0,)
    assert Bm25Scorer(["", "..."]).scores("anything").tolist() == [0.0, 0.0]
    assert Bm25Scorer(["", "..."]).score("anything", 1) == 0.0
    with pytest.raises(IndexError):
        Bm25Scorer([]).score("anything", 0)
