from __future__ import annotations

import pytest

from retrieval.documents import Document
from retrieval.front_matter import front_matter
from retrieval.structure import sections
from retrieval.structure_markdown import outline


def test_yaml_front_matter_is_flat_strings() -> None:
    page = (
        "---\nTitle: A page\ntags: [one, two]\ndraft: false\ndate: 2024-03-01\nnone:\nauthor:\n  name: N\n---\nText\n"
    )
    assert front_matter(page) == (
        {"title": "A page", "tags": "one; two", "draft": "false", "date": "2024-03-01", "author.name": "N"},
        9,
    )


def test_toml_front_matter_is_flat_strings() -> None:
    page = '+++\ntitle = "A page"\ntags = ["one", "two"]\n[extra]\ntoc = true\n+++\nText\n'
    assert front_matter(page) == ({"title": "A page", "tags": "one; two", "extra.toc": "true"}, 6)


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("---\n---\nText", 2),
        ("---\n# only a comment\n---\n", 3),
        ("---\na: b\n...\nText", 3),
        ("--- \na: b\n---\t\n", 3),
    ],
)
def test_empty_and_oddly_fenced_front_matter_is_front_matter(page: str, count: int) -> None:
    assert front_matter(page)[1] == count


@pytest.mark.parametrize(
    "page",
    [
        "",
        "---",
        "Text\n---\na: b\n---\n",
        "---\nnot closed: yes\n",
        "---\ntitle: one: two\n---\n",
        "---\njust a sentence\n---\n",
        "---\n- a\n- b\n---\n",
        "---\ndate: 2024-13-45\n---\n",
        "---\na: !!python/object:os.system x\n---\n",
        "---\na: !!int x\n---\n",
        "---\na: !!float ''\n---\n",
        "---\n" + "[" * 20_000 + "\n---\n",
        "---\n" + "- " * 12_000 + "\n---\n",
        "---\n" + "a: b\n" * 20_000 + "---\n",
        "+++\na = \n+++\n",
        "+++\na = " + "[" * 20_000 + "\n+++\n",
        "+++\na = 1\n---\n",
    ],
)
def test_what_is_no_front_matter_is_text(page: str) -> None:
    assert front_matter(page) == ({}, 0)


def test_what_cannot_be_stored_is_replaced_and_pairs_of_surrogates_are_one_character() -> None:
    values, _ = front_matter('---\ntitle: "Launch \\ud83d\\ude80"\nlone: "a \\ud83d b"\n---\n')
    assert values == {"title": "Launch 🚀", "lone": "a \ufffd b"}


def test_aliases_do_not_blow_metadata_up() -> None:
    lines = ["a0: &a0 [x, y]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20))]
    values, count = front_matter("\n".join(["---", *lines, "---"]))
    assert count == 22
    assert sum(map(len, values.values())) < 1000


def test_front_matter_is_not_read_as_text_and_lines_stay_exact() -> None:
    page = "+++\ntitle = 'x'\n\n# = 1\n+++\n\n# Head\n\nText\n"
    assert [(item.text, item.first_line) for item in outline(page.replace("# = 1", "# no heading"))] == [
        ("Head", 7),
        ("Text", 9),
    ]


def test_broken_front_matter_is_text_but_no_heading() -> None:
    items = outline("---\ntitle: one: two\ntags: x\n---\n\nText\n")
    assert [(type(item).__name__, item.text, item.first_line, item.last_line) for item in items] == [
        ("Block", "---\ntitle: one: two\ntags: x\n---", 1, 4),
        ("Block", "Text", 6, 6),
    ]


MATTER = """---
title: The pump
description: Moves water
  uphill.
Aliases: [Big Blue, /old/pump/, https://a.org/pump]
keywords: lift, drain
tags: [hydraulics, "up; down"]
author: Ann
---
"""


@pytest.mark.parametrize(
    ("body", "heading"),
    [("\n# Pump\n\nIt pumps.\n\n## More\n\nx\n", ("Pump",)), ("\nIt pumps.\n\n## More\n\nx\n", ())],
)
def test_what_front_matter_says_of_a_page_stands_in_its_first_section(body: str, heading: tuple[str, ...]) -> None:
    first, *_ = sections(Document("p.md", "p.md", "The pump", MATTER + body, "markdown"))
    assert first.heading == heading
    *said, own = first.blocks
    assert [block.text for block in said] == [
        "Moves water uphill.",
        "Aliases: Big Blue",
        "Keywords: lift, drain",
        "Tags: hydraulics; up; down",
    ]
    assert {(block.first_line, block.last_line) for block in said} == {(1, 9)}
    assert own.text == "It pumps." and first.last_line == own.last_line


def test_what_front_matter_says_is_no_part_of_a_section_of_a_lower_level() -> None:
    first, second = sections(Document("p.md", "p.md", "The pump", MATTER + "\n## More\n\nx\n", "markdown"))
    assert (first.heading, second.heading, len(first.blocks)) == ((), ("More",), 4)
