from __future__ import annotations

import random

import pytest

from retrieval import duplicates
from retrieval.duplicates import SHORT, distinct
from retrieval.passages import Passage

WORDS = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(26 * 26)]
LONG = " ".join(WORDS[:100])


def passage(text: str, heading: str = "Fees", title: str = "Terms") -> Passage:
    return Passage("id", "doc.md", title, (heading,) if heading else (), text, 1, 1)


def groups(*texts: str) -> list[list[int]]:
    return distinct([passage(text) for text in texts])


def test_texts_that_differ_stay_apart_in_their_order() -> None:
    assert groups("One.", LONG, "Two.", " ".join(WORDS[200:300])) == [[0], [1], [2], [3]]
    assert distinct([]) == []


def test_case_and_white_space_make_no_other_text() -> None:
    assert groups("The  fee\nis due.", "the FEE is due.", "The fee is late.") == [[0, 1], [2]]
    assert groups(LONG, LONG.upper().replace(" ", "\n  ")) == [[0, 1]]


def test_a_long_text_under_another_heading_is_the_same() -> None:
    assert distinct([passage(LONG, "Fees"), passage(LONG, "Costs")]) == [[0, 1]]


def test_a_short_text_under_another_heading_is_another() -> None:
    answer = "Yes, with a licence."
    assert distinct([passage(answer, "May I copy it?"), passage(answer, "May I sell it?")]) == [[0], [1]]
    assert distinct([passage(answer, "May I copy it?", "A"), passage(answer, "may I copy it?", "B")]) == [[0, 1]]
    assert distinct([passage(answer, "", "A"), passage(answer, "", "B")]) == [[0], [1]]


def test_a_few_other_words_in_a_long_text_make_a_near_duplicate() -> None:
    edited = LONG.replace(WORDS[10], "other").replace(WORDS[80], "another")
    assert groups(LONG, edited) == [[0, 1]]


def test_many_other_words_make_another_text() -> None:
    edited = " ".join("other" if n % 8 == 0 else word for n, word in enumerate(WORDS[:100]))
    assert groups(LONG, edited) == [[0], [1]]


def test_a_part_of_a_better_text_adds_nothing() -> None:
    assert groups(LONG, " ".join(WORDS[20:60])) == [[0, 1]]


def test_a_text_that_says_more_than_a_better_one_stays() -> None:
    assert groups(" ".join(WORDS[20:60]), LONG) == [[0], [1]]


def test_short_texts_must_be_the_same() -> None:
    part = LONG[: SHORT - 1]
    assert groups(LONG, part) == [[0], [1]]


def test_a_script_without_spaces_has_duplicates_too() -> None:
    text = "".join(chr(0x4E00 + 7 * n) for n in range(120))
    assert groups(text, text[:60] + "文" + text[61:], text[::-1]) == [[0, 1], [2]]


def test_another_number_makes_another_text() -> None:
    assert groups(f"{LONG} for 50 euros", f"{LONG} for 60 euros") == [[0], [1]]
    assert groups(f"{LONG} for 50 euros", f"{LONG} for about 50 euros") == [[0, 1]]


def test_what_differs_in_its_numbers_alone_costs_no_comparison_of_every_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = duplicates._shingles
    asked: list[bytes] = []
    monkeypatch.setattr(duplicates, "_shingles", lambda folded: asked.append(folded) or cut(folded))
    texts = [f"{LONG} for {number} euros, {LONG}" for number in range(60)]
    assert groups(*texts) == [[place] for place in range(60)]
    assert len(asked) < 2 * len(texts)


def test_duplicates_join_the_best_that_holds_them() -> None:
    first, second = " ".join(WORDS[:60]), " ".join(WORDS[100:160])
    assert groups(first, second, second, " ".join(WORDS[10:50]), " ".join(WORDS[110:150])) == [[0, 3], [1, 2, 4]]


def test_parts_of_several_better_texts_are_part_of_none() -> None:
    halves = " ".join(WORDS[:30]), " ".join(WORDS[100:130])
    assert groups(*halves, " ".join(halves)) == [[0], [1], [2]]


def test_every_text_is_in_one_group_and_groups_follow_the_ranking() -> None:
    chance = random.Random(3)
    for _ in range(20):
        texts = [" ".join(chance.choices(WORDS[:6], k=chance.randint(1, 60))) for _ in range(30)]
        found = groups(*texts)
        assert sorted(place for group in found for place in group) == list(range(30))
        assert [group[0] for group in found] == sorted(group[0] for group in found)
        assert all(group == sorted(group) for group in found)
