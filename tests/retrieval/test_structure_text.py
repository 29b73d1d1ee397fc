from __future__ import annotations

import pytest

from retrieval.structure import Block, Heading
from retrieval.structure_text import outline, subject

CONTRACT = """\
ARTICLE IV - TERM

4.1 Term. This Agreement starts on the first day and goes on for a year, unless a party ends it sooner
as set out below.

(a) Notice is given in writing.

(b) Notice takes effect after a month.

4.2. Survival. What is owed by then stays owed.

ARTICLE V
CONFIDENTIALITY

5.1 Duty of Care
Each party keeps the secrets of the other as if they were its own, and tells nobody who need not know.

Section 5.2: Exceptions

What everybody knows is no secret.

INDEMNIFICATION:
The seller pays for what the seller breaks.

GOVERNING LAW:

That of the place where the seller has its seat.
"""


def headings(text: str) -> list[str]:
    return [item.text for item in outline(text) if isinstance(item, Heading)]


def test_clauses_of_a_contract_are_headings_with_their_text_below() -> None:
    items = [
        item.text if isinstance(item, Heading) else (item.text[:20], item.first_line) for item in outline(CONTRACT)
    ]
    assert items == [
        "ARTICLE IV - TERM",
        "4.1 Term.",
        ("This Agreement start", 3),
        ("(a) Notice is given ", 6),
        ("(b) Notice takes eff", 8),
        "4.2. Survival.",
        ("What is owed by then", 10),
        "ARTICLE V CONFIDENTIALITY",
        "5.1 Duty of Care",
        ("Each party keeps the", 16),
        "Section 5.2: Exceptions",
        ("What everybody knows", 20),
        "INDEMNIFICATION:",
        ("The seller pays for ", 23),
        "GOVERNING LAW:",
        ("That of the place wh", 27),
    ]


def test_parts_may_be_counted_in_roman_numerals_and_letters() -> None:
    text = "I. Background\n\nText.\n\nA. The Parties\n\nText.\n\nB. The Goods\n\nText.\n\nII. TERMS\n\nText.\n"
    assert [(item.text, item.level) for item in outline(text) if isinstance(item, Heading)] == [
        ("I. Background", 5),
        ("A. The Parties", 6),
        ("B. The Goods", 6),
        ("II. TERMS", 5),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "First of\nall.\n\nA. Smith\n\nwrote this.\n\nEnd.\n",  # no B
        "First of\nall.\n\nA. Smith\n\nB. Jones\n\nEnd.\n",  # a list of authors
        "First of\nall.\n\nNOTE:\n\nClose it.\n",
        "First of\nall.\n\nWARNING:\nClose the lid.\n\nEnd.\n",
        "First of\nall.\n\nTHE FOLLOWING THREE THINGS MATTER TO US NOW:\n\nEnd.\n",
        "First of\nall.\n\n1. Apples\n2. Pears\n\nEnd.\n",
        "First of\nall.\n\n1. While distributing the thing\nto others, say so in the usual places.\n\nEnd.\n",
        "First of\nall.\n\n1.5 is the number. That is all that I know of it at this time.\n\nEnd.\n",
        "First of\nall.\n\n(a) Sub-clause\n\n(b) Another One\n\nEnd.\n",
        "First of\nall.\n\n2.1 the lower case. Then more of it.\n\nEnd.\n",
        "First of\nall.\n\nSECTION 5\nof the act says so.\n\nEnd.\n",
    ],
)
def test_what_only_looks_like_a_clause_is_none(text: str) -> None:
    assert headings(text) == []


def test_words_in_capitals_head_what_hangs_from_them() -> None:
    assert headings("NAME\n    tool - does things\n\nSYNOPSIS\n    tool [-x]\n\nTHE END OF\nTHE PAGE\n") == [
        "NAME",
        "SYNOPSIS",
    ]


def test_a_word_that_owners_are_stated_after_heads_a_section_where_it_stands_alone() -> None:
    assert headings("NAME\n    tool\n\nCOPYRIGHT\n    Nobody's.\n\nCOPYRIGHT 2020 ACME\n\nAll of it.\n") == [
        "NAME",
        "COPYRIGHT",
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "第1章 総則\n\n第1条（目的）\nこの規約は条件を定める。\n次の通り。\n\n第２条\n\n終わり。\n",
            [(4, "第1章 総則"), (6, "第1条（目的）"), (6, "第２条")],
        ),
        ("合同。\n\n第一条 为了规范，制定本法。\n\n第二条 定义\n\n本法所称\n", [(6, "第二条 定义")]),
        ("规定。\n\n第3条に定める\n\n終わり。\n", []),
        (
            "عقد.\n\nالمادة 1:\n\nنص.\n\nالمادة (2) التعريفات\nنص هنا.\n\nالمادة 3 من القانون، تنص\n\nنص.\n",
            [(4, "المادة 1:"), (4, "المادة (2) التعريفات")],
        ),
        (
            "Es gilt.\n\nTeil II\n\nText.\n\nArtikel 3 Haftung\n\nText.\n\nKapitel 4. Schluss\n\nText.\n",
            [(3, "Teil II"), (4, "Artikel 3 Haftung"), (4, "Kapitel 4. Schluss")],
        ),
        ("Es gilt.\n\nArtikel 3 des Gesetzes gilt\n\nText.\n\nTeile\n\nText.\n", []),
    ],
)
def test_clauses_of_other_languages_are_headings(text: str, found: list[tuple[int, str]]) -> None:
    assert [(item.level, item.text) for item in outline(text) if isinstance(item, Heading)] == found


def test_a_line_in_capitals_with_a_value_after_its_colon_is_a_heading_over_prose_only() -> None:
    steps = "Pump manual\n\nIt is long.\n\nSTEP 1: LIFT\n\nLift it.\n\nSTEP 2: DRAIN THE TANK\n\nOpen it.\n"
    assert headings(steps)[1:] == ["STEP 1: LIFT", "STEP 2: DRAIN THE TANK"]
    note = "A note.\n\nHISTORY:\n\nNone.\n\nALLERGIES: PENICILLIN\n\nVITALS\nBP 120/80\n\n"
    assert headings(f"{note}MEDICATION: ASPIRIN\n  One a day.\n\nEnd.\n") == ["HISTORY:"]


MESSAGE = """\
From: N <n@example.com>
Subject: The printer jams
 again
Date: Monday

It does, whenever I print.

Subject: to change, as ever.
"""


def test_the_subject_of_a_message_heads_it_and_no_field_is_lost() -> None:
    assert subject(MESSAGE) == "The printer jams"
    first, fields, *rest = outline(MESSAGE)
    assert first == Heading(1, "The printer jams", 2, 2)
    assert isinstance(fields, Block)
    assert (fields.text, fields.first_line) == (MESSAGE.partition("\n\n")[0], 1)
    assert [item.text for item in rest] == ["It does, whenever I print.", "Subject: to change, as ever."]


@pytest.mark.parametrize("text", ["", "Note: x\nSubject matters\n", "Hello.\n\nSubject: y\n", "Subject:\n\nx\n"])
def test_a_text_that_is_no_message_has_no_subject(text: str) -> None:
    assert subject(text) == ""


def test_a_subject_alone_on_the_first_line_is_one() -> None:
    assert headings("Subject: Holidays\n\nText.\n") == ["Holidays"]
