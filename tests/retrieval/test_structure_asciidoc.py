"""AsciiDoc: its headings, old and new, and what no reader of a page would see."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.documents import SourceFile, read
from retrieval.structure import Block
from retrieval.structure_asciidoc import outline

MANUAL = """\
[[pump]]
= {product} manual
Jane Doe <jane@example.org>
v1.2, 2026-01-05
:product: Pump 3
:url-docs: https://example.org/{product}

The {product} moves water.
// not for readers
It hums.

////
== A draft
////

== Priming the *pump* [[priming]]

include::shared/safety.adoc[leveloffset=+1]

.What you need
* a bucket
* a funnel

[source,bash]
----
= no heading
prime {product}
----

[NOTE]
====
Fill it first.
====

ifdef::internal[]
=== Part `P-7`, see xref:parts.adoc#p7[the parts]
endif::[]

|===
| Part | Use

| P-7
| seals the inlet
|===

== Faults ==

E7:: the inlet is dry
"""


def seen(text: str) -> list[tuple[str, str, int, int]]:
    return [
        (item.kind if isinstance(item, Block) else f"heading {item.level}", item.text, item.first_line, item.last_line)
        for item in outline(text)
    ]


def test_headings_and_blocks_are_those_that_a_reader_of_the_page_sees() -> None:
    assert seen(MANUAL) == [
        ("heading 1", "Pump 3 manual", 2, 2),
        ("paragraph", "The Pump 3 moves water.\nIt hums.", 8, 10),
        ("heading 2", "Priming the pump", 16, 16),
        ("list", "What you need\n* a bucket\n* a funnel", 20, 22),
        ("code", "= no heading\nprime {product}", 26, 27),
        ("paragraph", "NOTE: Fill it first.", 30, 32),
        ("heading 3", "Part P-7, see the parts", 36, 36),
        ("table", "| Part | Use\n\n| P-7\n| seals the inlet", 40, 43),
        ("heading 2", "Faults", 46, 46),
        ("list", "E7:: the inlet is dry", 48, 48),
    ]


def test_each_line_of_a_block_knows_its_line_in_the_file() -> None:
    text = "Moves water.\n// hidden\nHums."
    [block] = outline(text)
    assert isinstance(block, Block)
    assert [block.lines_of(place, place) for place in range(2)] == [(1, 1), (3, 3)]


def test_titles_with_a_rule_below_are_headings_by_the_rule() -> None:
    text = "git-add(1)\n==========\n\nNAME\n----\ngit-add - adds files\n\nMORE\n~~~~\n\ncode:\n\n----\nNAME\n----\n"
    assert seen(text) == [
        ("heading 1", "git-add(1)", 1, 2),
        ("heading 2", "NAME", 4, 5),
        ("paragraph", "git-add - adds files", 6, 6),
        ("heading 3", "MORE", 8, 9),
        ("paragraph", "code:", 11, 11),
        ("code", "NAME", 14, 14),
    ]


def test_nothing_is_lost_below_a_block_that_is_never_closed() -> None:
    kinds = [what for what, *_ in seen("----\nprime\n\n== Faults\n\n|===\n| E7\n")]
    assert kinds == ["paragraph", "heading 2", "paragraph"]


def test_what_stands_in_an_example_or_a_note_has_no_heading_by_a_rule() -> None:
    text = "== Pumps\n\n[NOTE]\n====\nFill it.\n\nDone.\n====\n\nIt hums.\n\n=====\nouter\n\n====\ninner\n====\n=====\n"
    assert [text for what, text, *_ in seen(text) if what.startswith("heading")] == ["Pumps"]
    assert [text for _, text, *_ in seen(text)][1:] == ["NOTE: Fill it.", "Done.", "It hums.", "outer", "inner"]


def test_a_listing_keeps_its_lines_whatever_they_look_like() -> None:
    rules = "....\nname  value\n-----------\na     1\n....\n"
    open_block = "[source,sh]\n--\n# comment\nls\n\n# other\n--\n"
    assert [item[:2] for item in seen(f"{rules}\n{open_block}")] == [
        ("code", "name  value\n-----------\na     1"),
        ("code", "# comment\nls\n\n# other"),
    ]


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("The array[int] type and list[str]", "The array[int] type and list[str]"),
        ("See https://example.org[]", "See https://example.org"),
        ("See <<abc>> or <<abc,that>>", "See abc or that"),
        ("Press kbd:[Ctrl] at link:a.html[the panel]", "Press Ctrl at the panel"),
    ],
)
def test_a_heading_reads_as_on_the_page(title: str, read: str) -> None:
    assert seen(f"== {title}\n") == [("heading 2", read, 1, 1)]


def test_links_and_references_read_by_their_texts() -> None:
    text = "A <<def_ref,ref>> of <<this>>, see link:a.html[the page] or https://example.org[there], `x[0]`."
    assert seen(text) == [("paragraph", "A ref of this, see the page or there, `x[0]`.", 1, 1)]


def test_who_is_quoted_and_what_only_some_pages_show_are_read_and_comments_are_not() -> None:
    hidden = "[comment]\nHidden.\n\n[comment]\n--\nHidden too.\n--\n"
    text = f"[quote, Ada Lovelace]\nIt weaves.\n\nifdef::linux[Use apt.]\n\n{hidden}"
    assert [text for _, text, *_ in seen(text)] == ["Ada Lovelace", "It weaves.", "Use apt."]


def test_a_paragraph_or_block_under_the_name_of_an_admonition_says_it() -> None:
    text = (
        "IMPORTANT: Read this.\n\n[IMPORTANT]\nNever open it.\nNever.\n\n"
        "[WARNING#w]\n.Heat\n====\nIt burns.\n\nWait.\n====\n\n[TIP]\n* a\n* b\n\n[NOTE]\n====\n====\n\n[NOTES]\nEnd.\n"
    )
    assert seen(text) == [
        ("paragraph", "IMPORTANT: Read this.", 1, 1),
        ("paragraph", "IMPORTANT: Never open it.\nNever.", 3, 5),
        ("paragraph", "WARNING: Heat\nIt burns.", 7, 10),
        ("paragraph", "Wait.", 12, 12),
        ("paragraph", "TIP:", 15, 15),
        ("list", "* a\n* b", 16, 17),
        ("paragraph", "End.", 24, 24),
    ]
    [block] = outline("[TIP]\n\nPrime it.\nTwice.")
    assert isinstance(block, Block)
    assert [block.lines_of(place, place) for place in range(2)] == [(1, 3), (4, 4)]


def test_attributes_that_feed_on_each_other_do_not_make_a_text_grow() -> None:
    text = ":a: " + "x" * 90 + "\n" + "".join(f":{new}: {{{old}}}{{{old}}}\n" for old, new in ("ab", "bc", "cd"))
    [block] = outline(text + "\n{a} {b} {d}")
    assert block.text == "x" * 90 + " {b} {b}{b}{b}{b}"


@pytest.mark.parametrize(
    "line",
    ["= a" + " " * 200_000 + "b", "== " + "*a " * 100_000, "== " + "``a" * 100_000, "include::" + "[" * 200_000 + "x"]
    + [
        "[" + "a, " * 100_000,
        ":a: " + "{a}" * 100_000,
        "a" * 300_000 + "::",
        "<<" * 100_000,
        "link:a" * 50_000,
        "Jane " * 100_000 + "<j@e.org",
    ],
)
def test_long_lines_take_no_more_than_linear_time(line: str) -> None:
    assert outline(f"= Title\n{line}\n\n{line}\n")


def test_a_file_is_known_by_its_title(tmp_path: Path) -> None:
    path = tmp_path / "pump.adoc"
    path.write_text(MANUAL, encoding="utf-8")
    [document], skipped = read(SourceFile(path, path.name, path.stat().st_size, 0))
    assert (document.title, document.format, skipped) == ("Pump 3 manual", "asciidoc", [])


def test_what_a_term_means_may_stand_indented_below_a_gap() -> None:
    text = (
        "= T\n\nSet::\n\n\tThe path is set.\n\tSee below.\n\nUnset;;\n\n  Not set.\n\n  code that follows\n\n"
        "Plain text:\n\n  more code\n"
    )
    blocks = [(item.kind, item.text) for item in outline(text) if isinstance(item, Block)]
    assert blocks == [
        ("list", "Set::\n\n\tThe path is set.\n\tSee below."),
        ("list", "Unset;;\n\n  Not set."),
        ("code", "  code that follows"),
        ("paragraph", "Plain text:"),
        ("code", "  more code"),
    ]
