from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer import near_duplicates
from trainer.near_duplicates import SHINGLE, near_duplicate_groups


def by_comparing_all(texts: list[str], threshold: float) -> list[int]:
    """The definition, word for word: every text against every other."""
    sets = []
    for text in texts:
        words = re.findall(r"\w+", text.casefold())
        sets.append({tuple(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1))})
    groups = list(range(len(texts)))
    for first in range(len(texts)):
        for second in range(first):
            common, union = sets[first] & sets[second], sets[first] | sets[second]
            # A text without words has the empty tuple alone.
            alike = texts[first] == texts[second] if union == {()} else len(common) / len(union) >= threshold
            if alike:
                old, new = groups[first], groups[second]
                groups = [new if group == old else group for group in groups]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


WORDS = st.lists(st.sampled_from("abcde"), max_size=12)


@given(st.lists(WORDS, max_size=12), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_groups_are_those_that_comparing_all_texts_gives(texts: list[list[str]], threshold: float) -> None:
    joined = [" ".join(words) for words in texts]
    assert near_duplicate_groups(joined, threshold) == by_comparing_all(joined, threshold)


@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 39), max_size=4)), min_size=2, max_size=15))
def test_edited_copies_are_grouped_as_comparing_all_texts_groups_them(edits: list[tuple[int, set[int]]]) -> None:
    originals = [[f"w{random.Random(seed).randrange(60)}" for _ in range(40)] for seed in range(4)]
    texts = [
        " ".join("changed" if place in places else word for place, word in enumerate(originals[source]))
        for source, places in edits
    ]
    assert near_duplicate_groups(texts) == by_comparing_all(texts, 0.8)


def test_case_punctuation_and_space_do_not_matter() -> None:
    assert near_duplicate_groups(["The pump, dry.", "unlike", "THE  pump\ndry", "--", "--", "*"]) == [0, 1, 0, 2, 2, 3]


def test_texts_without_blanks_between_words_are_compared_by_characters() -> None:
    text = "水泵在首次启动前必须用两升清水灌满否则密封件会在一分钟内损坏请务必遵守本说明书"
    assert near_duplicate_groups([text, text.replace("清", "净"), "完全不同的另一句话关于保修期限"]) == [0, 0, 1]


def test_many_copies_of_one_template_and_a_huge_text_are_taken_in_stride() -> None:
    filler = " ".join(f"word{number}" for number in range(40))
    template = [f"{filler} item {number} {filler[::-1]}" for number in range(3000)]
    generator = random.Random(1)
    huge = " ".join(f"w{generator.randrange(9999)}" for _ in range(150_000))
    groups = near_duplicate_groups([*template, huge, huge + " and a little more"])
    assert set(groups[:3000]) == {0} and groups[3000:] == [1, 1]


def test_records_of_one_template_are_not_each_compared_with_all_and_copies_are_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_duplicates, "MOST_COMPARED", 5)
    # A fifth of the words differ from record to record, so that all share what is rarest but a few; two are copies.
    words = [f"w{place}" for place in range(50)]
    records = [
        " ".join(f"r{number}" if place % 16 == 5 else word for place, word in enumerate(words)) for number in range(300)
    ]
    copies = [record.replace("w30", "changed") for record in records[:40]]
    assert near_duplicate_groups([*records, *copies]) == [*range(300), *range(40)]


def test_no_text_gives_no_group() -> None:
    assert near_duplicate_groups([]) == []
    assert near_duplicate_groups(["", ""]) == [0, 0]


def test_a_threshold_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_duplicate_groups(["a"], 0)
