from __future__ import annotations

from retrieval.neighbours import joined, run_around
from retrieval.passages import Passage


def passage(text: str, first: int, last: int, *heading: str) -> Passage:
    return Passage("id", "doc.md", "Title", heading, text, first, last)


def test_a_run_reaches_both_ways_and_ends_with_the_document() -> None:
    assert list(run_around([3, 4, 5, 6, 7], 5, 1, set())) == [4, 5, 6]
    assert list(run_around([0, 1, 2], 0, 2, set())) == [0, 1, 2]


def test_a_run_ends_before_what_is_shown_elsewhere() -> None:
    assert list(run_around([3, 4, 5, 6, 7], 5, 2, {4, 7})) == [5, 6]


def test_a_gap_ends_a_run() -> None:
    assert list(run_around([3, 5, 7], 5, 2, set())) == [5]


def test_texts_are_joined_and_lines_widened() -> None:
    run = [passage("One.", 3, 4, "A"), passage("Two.", 5, 9, "A")]
    assert joined(run, ("A",)) == ("One.\n\nTwo.", 3, 9)


def test_a_new_heading_leads_its_text() -> None:
    run = [passage("One.", 3, 4, "A"), passage("Two.", 7, 7, "A", "B"), passage("C", 9, 9, "C")]
    assert joined(run, ("A", "B"))[0] == "A\n\nOne.\n\nB\n\nTwo.\n\nC"
