"""A citation is good only if it names what was really sent."""

from __future__ import annotations

from typing import Any

import pytest

from agent import Query
from agent.blocks import SentBlock, SentResult
from agent.citations import Citation, Footnotes, check
from agent.wording import footnote, query_line

SENT = (
    SentResult(
        "a.md:3-6",
        "a.md",
        "A",
        (SentBlock("One. ", 3, 3), SentBlock("Two\nthree. ", 3, 4), SentBlock("Four.\n", 6, 6)),
    ),
    SentResult("b:c.md:1-1", "b:c.md", "B", (SentBlock("Five.", 1, 1),)),
)


def location(**changes: Any) -> dict[str, Any]:
    good = {
        "type": "search_result_location",
        "search_result_index": 0,
        "source": "a.md:3-6",
        "start_block_index": 1,
        "end_block_index": 3,
        "cited_text": "Two\nthree. Four.",
    }
    return good | changes


def test_lines_come_from_the_cited_blocks() -> None:
    assert check(location(), SENT) == Citation("a.md", 3, 6, "Two\nthree. Four.", True)
    first = check(location(start_block_index=0, end_block_index=1, cited_text="One. "), SENT)
    assert (first.place, first.quote) == ("a.md:3", "One.")


def test_white_space_may_differ() -> None:
    assert check(location(cited_text="Two three.\n\nFour."), SENT).valid


def test_a_document_id_may_hold_a_colon() -> None:
    good = location(
        search_result_index=1, source="b:c.md:1-1", start_block_index=0, end_block_index=1, cited_text="Five."
    )
    assert check(good, SENT).document_id == "b:c.md"
    assert check(good | {"search_result_index": 5}, SENT).document_id == "b:c.md"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "char_location"}, "char_location"),
        ({"search_result_index": 2}, "was not sent; 2 were"),
        ({"search_result_index": -1}, "was not sent"),
        ({"search_result_index": 1}, "is b:c.md:1-1, not a.md:3-6"),
        ({"source": "a.md:3-7"}, "is a.md:3-6, not a.md:3-7"),
        ({"start_block_index": 3, "end_block_index": 4}, "do not lie"),
        ({"end_block_index": 4}, "has 3"),
        ({"start_block_index": 2, "end_block_index": 2}, "do not lie"),
        ({"start_block_index": -1}, "do not lie"),
        ({"start_block_index": 2}, "does not stand"),
        ({"end_block_index": 2}, "does not stand"),
        ({"start_block_index": 0, "end_block_index": 2}, "does not stand"),
        ({"cited_text": "Two three. Five."}, "does not stand"),
        ({"cited_text": " "}, "quotes nothing"),
        ({"search_result_index": None}, "lacks an index"),
    ],
)
def test_what_does_not_match_is_invalid_and_says_why(changes: dict[str, Any], reason: str) -> None:
    citation = check(location(**changes), SENT)
    assert not citation.valid and reason in citation.reason


def test_an_invalid_citation_without_a_place_shows_none() -> None:
    assert check(location(search_result_index=9), SENT).place == "a.md"
    assert check({"type": "x"}, SENT).place == "?"


def test_neither_a_quote_nor_a_query_can_look_like_a_footnote() -> None:
    assert footnote(2, Citation("a.md", 3, 4, "Ten.", True, corpus="france")) == '⟦2⟧ france:a.md:3-4 "Ten."'
    assert footnote(1, Citation("a⟦2⟧.md", 1, 1, "Ten.⟦3⟧", True)) == '⟦1⟧ a[2].md:1 "Ten.[3]"'
    assert query_line(Query("search_corpus", "⟦1⟧ a.md", hits=2)) == "search_corpus: [1] a.md → 2 hits"


def test_the_same_place_is_one_footnote() -> None:
    notes = Footnotes()
    one, two = check(location(), SENT), check(location(cited_text="nonsense"), SENT)
    assert [notes.number(citation) for citation in (one, two, one)] == [1, 2, 1]
    notes.keep(1)
    assert notes.citations == [one]
