from __future__ import annotations

import threading
from pathlib import Path
from typing import get_args

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import SettingsError
from retrieval.tokens import FUNCTION_WORD_WEIGHT, MAX_TOKEN_CHARS, PART_WEIGHT, query_terms, tokenize
from retrieval.workspace import Language, Workspace


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("E11.9", ["e11.9", "e11", "9", "=e11.9"]),
        ("E11", ["e11", "=e11"]),
        ("E10-E11", ["e10e11", "e10", "e11"]),
        ("libfoo-2.1", ["libfoo2.1", "libfoo", "2.1", "2", "1"]),
        ("v2.13.0", ["v2.13.0", "2.13.0", "2", "13", "0", "=v2.13.0"]),
        ("§12(b)", ["§12(b)", "§12", "12", "b"]),
        ("§ 12", ["12"]),
        ("(see E11.9).", ["see", "e11.9", "e11", "9", "=e11.9"]),
        ("C++ and C#", ["c++", "c", "and", "c#", "c"]),
        (".NET, ASP.NET", [".net", "net", "asp.net", "asp", "net"]),
        ("end.Next one...more", ["end.next", "end", "next", "one", "more"]),
        ("foo::bar p->q", ["foo::bar", "foo", "bar", "p->q", "p", "q"]),
        ("a/b/c.py", ["a/b/c.py", "a", "b", "c.py", "c", "py"]),
        ("jo@ex.com", ["jo@ex.com", "jo", "ex.com", "ex", "com"]),
        ("http://ex.com/a?x=1", ["http", "ex.com/a", "ex.com", "ex", "com", "a", "x=1", "x", "1"]),
        ("$12.50", ["12.50", "12", "50", "=12.50"]),
        ("10mg 12%", ["10mg", "10", "mg", "=10mg", "12"]),
        ("3D", ["3d", "3", "=3d"]),
        ("mRNA", ["mrna", "rna"]),
        ("__init__ ____", ["__init__", "init"]),
    ],
)
def test_identifiers_are_kept_whole_and_in_parts(text: str, tokens: list[str]) -> None:
    assert tokenize(text, "english") == tokens


@pytest.mark.parametrize("name", ["getUserId", "get_user_id", "get-user-id", "GetUserId"])
def test_ways_to_write_one_name_are_one_name(name: str) -> None:
    assert tokenize(name, "none") == ["getuserid", "get", "user", "id"]


def test_hyphens_between_digits_tell_numbers_apart() -> None:
    assert tokenize("IL-6", "none")[0] == tokenize("IL6", "none")[0] == "il6"
    assert tokenize("1-2", "none") == ["1-2", "1", "2"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("running RUNS", ["run", "run"]),
        ("patient's patient’s", ["patient", "patient"]),
        ("don't don’t", ["dont", "dont"]),
        ("O'Brien", ["obrien", "o", "brien"]),
        ("e-mails emails", ["email", "e", "mail", "email"]),
        ("résumés resumes", ["resum", "resum"]),
    ],
)
def test_a_word_is_one_however_it_is_written(text: str, tokens: list[str]) -> None:
    assert tokenize(text, "english") == tokens


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ﬁle Ａ１", "file a1"),
        ("cafe\u0301", "café"),
        ("soft\u00adhyphen", "softhyphen"),
        ("STRASSE", "straße"),
        ("İstanbul", "istanbul"),
        ("Łódź Ærø", "lodz aero"),
        ("A00–A09", "A00-A09"),
        ("Foo™", "foo"),
        ("٣٫ ٤٢", "3 42"),
        ("كِتَاب مكتبة أحمد", "كتاب مكتبه احمد"),
        ("שָׁלוֹם", "שלום"),
        ("ёлка", "елка"),
        ("Ὀδυσσεύς", "οδυσσευσ"),
    ],
)
def test_spellings_of_one_word_give_one_token(text: str, same: str) -> None:
    assert tokenize(text, "none") == tokenize(same, "none") != []


def test_words_of_scripts_with_combining_marks_stay_whole() -> None:
    assert tokenize("हिन्दी भाषा", "none") == ["हिन्दी", "भाषा"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("東京都", ["東京", "京都", "東", "京", "都"]),
        ("v2糖", ["v2", "糖", "=v2"]),
        ("한국어", ["한국", "국어", "한", "국", "어"]),
        ("ที่นี่", ["ที่นี่", "ที่", "นี่"]),
        ("❤️", []),
    ],
)
def test_scripts_without_blanks_become_bigrams_and_characters(text: str, tokens: list[str]) -> None:
    assert tokenize(text, "english") == tokens


def test_the_stemmer_follows_the_language() -> None:
    assert tokenize("complications", "english") == ["complic"]
    assert tokenize("complications", "none") == ["complications"]
    assert tokenize("Häuser", "german") == ["haus"]
    assert tokenize("KAPILARI", "turkish") == tokenize("kapıları", "turkish")


def test_parts_count_less_than_wholes() -> None:
    assert query_terms("E11.9 and 東京") == {
        "e11.9": 1,
        "e11": PART_WEIGHT,
        "9": PART_WEIGHT,
        "=e11.9": 1,
        "and": FUNCTION_WORD_WEIGHT,
        "東京": 1,
        "東": PART_WEIGHT,
        "京": PART_WEIGHT,
    }
    assert query_terms("foo-bar bar")["bar"] == 1


def test_words_of_grammar_count_less_in_a_query_whatever_their_spelling() -> None:
    for word in ("how", "How", "don't", "don’t", "What's", "you're"):
        assert sorted(query_terms(f"{word} paragraph").values()) == [FUNCTION_WORD_WEIGHT, 1]
    assert query_terms("how do I get it")["i"] == query_terms("HOW TO RESET")["how"] == FUNCTION_WORD_WEIGHT
    assert set(query_terms("die Regel", "german").values()) == {1}


@pytest.mark.parametrize(
    "query",
    ["WHO guidelines", "WHO ICD-10", "US GDP", "hepatitis A", "what is hepatitis A and B", "Type I error", "IT budget"],
)
def test_names_that_look_like_words_of_grammar_count_in_full(query: str) -> None:
    assert 1 in {weight for token, weight in query_terms(query).items() if token in ("who", "us", "a", "i", "it")}


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"passages\.language: no stemmer for 'klingon'; known: none, "):
        tokenize("words", "klingon")


def test_the_settings_know_the_languages_that_have_a_stemmer(tmp_path: Path) -> None:
    assert get_args(Language) == ("none", *Stemmer.algorithms())
    (tmp_path / "shoptalk.toml").write_text('[passages]\nlanguage = "klingon"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"shoptalk\.toml:2: passages\.language: input should be 'none', 'arabic'"):
        Workspace.open(tmp_path, {})


@given(st.text(max_size=60))
def test_any_text_gives_clean_tokens_that_a_query_repeats(text: str) -> None:
    tokens = tokenize(text, "english")
    assert all(token and not any(char.isspace() for char in token) for token in tokens)
    assert all(len(token) <= MAX_TOKEN_CHARS for token in tokens)
    assert set(query_terms(text, "english")) == set(tokens)


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_what_stands_beside_a_text_in_another_script_does_not_change_its_tokens(text: str) -> None:
    assert tokenize(f"{text} 糖") == [*tokenize(text), "糖"]


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
