from __future__ import annotations

from dataclasses import replace
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import QuestionsError
from trainer.leakage import NEARLY_EQUAL, find_leaks, nearest, refuse_leaks, without_leaks
from trainer.pairs import Pair


def pair(anchor: str, document: str = "a.md") -> Pair:
    return Pair(anchor, "some positive text", "alias", 0, 0, document)


QUESTIONS = ["Which visa lets me study in Spain?", "acute inflammation of the appendix"]


@pytest.mark.parametrize(
    "anchor",
    [
        "which visa lets me study in spain",
        "Acute  inflammation of the Appendix!",
        "appendix, acute inflammation of the",
        "which visa lets me study in Spain now",
    ],
)
def test_an_anchor_that_asks_what_a_question_asks_is_a_leak(anchor: str) -> None:
    assert [leak.pair.anchor for leak in find_leaks([pair(anchor)], QUESTIONS)] == [anchor]


def test_an_accent_that_is_a_sign_of_its_own_hides_no_leak() -> None:
    asked = "Où est l’électrovanne de sécurité de la pompe ?"
    for some, other in (("NFC", "NFD"), ("NFD", "NFC")):
        leaking = pair(normalize(some, asked))
        assert [leak.pair for leak in find_leaks([leaking], [normalize(other, asked)])] == [leaking]


@pytest.mark.parametrize("anchor", ["acute inflammation of the kidney", "visa", "study in Spain", "appendix"])
def test_an_anchor_that_only_shares_words_with_a_question_is_none(anchor: str) -> None:
    assert find_leaks([pair(anchor)], QUESTIONS) == []


def test_texts_that_differ_in_a_number_ask_different_things() -> None:
    asked = ["what does clause 12 say of the notice period of a tenant in a furnished room"]
    leaking = pair("what does clause 12 say of the notice period of a tenant in furnished room")
    other = pair("what does clause 13 say of the notice period of a tenant in a furnished room")
    assert [leak.pair for leak in find_leaks([leaking, other], asked)] == [leaking]


def test_planted_leakage_is_refused_with_a_count_and_the_first_of_it() -> None:
    clean = [pair(f"an anchor about subject {number}") for number in range(20)]
    planted = [pair(asked.upper()) for asked in QUESTIONS]
    refuse_leaks(clean, QUESTIONS)
    with pytest.raises(
        QuestionsError, match=r"leakage: 2 of 22 training pairs .* 'WHICH VISA LETS ME STUDY IN SPAIN\?'"
    ):
        refuse_leaks([*clean, *planted], QUESTIONS)
    assert without_leaks([*clean, *planted], QUESTIONS) == clean


def test_a_pair_of_a_held_out_document_is_refused_though_its_anchor_is_new() -> None:
    with pytest.raises(QuestionsError, match=r"leakage: 1 of 2 .* its document held\.md was held out"):
        refuse_leaks([pair("one thing"), pair("another thing", "held.md")], QUESTIONS, frozenset({"held.md"}))
    with pytest.raises(QuestionsError, match=r"leakage: 1 of 1 .* its document held\.md was held out"):
        refuse_leaks([replace(pair("its term"), said_in="held.md")], QUESTIONS, frozenset({"held.md"}))


texts = st.lists(st.sampled_from("red green blue white black 1 2".split()), min_size=1, max_size=6).map(" ".join)


@given(
    asked=st.lists(texts, max_size=6),
    others=st.lists(texts, max_size=8),
    threshold=st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_the_nearest_is_what_comparing_all_with_all_finds(
    asked: list[str], others: list[str], threshold: float
) -> None:
    def similarity(one: str, other: str) -> float:
        first, second = set(one.split()), set(other.split())
        value = len(first & second) / len(first | second)
        digits = [{word for word in words if word.isdigit()} for words in (first, second)]
        return NEARLY_EQUAL - 0.01 if value >= NEARLY_EQUAL and digits[0] != digits[1] else value

    best = [max((similarity(one, other) for other in others), default=0.0) for one in asked]
    assert nearest(asked, others, threshold) == [value if value >= threshold else 0.0 for value in best]
