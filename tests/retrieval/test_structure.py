from __future__ import annotations

import pytest

from retrieval.documents import Document, Format
from retrieval.errors import DocumentError
from retrieval.structure import Section, first_heading, sections

HEADING_PATHS = list[tuple[str, ...]]


def parse(text: str, format: Format) -> list[Section]:
    return sections(Document("doc", "doc", "Title", text, format))


def paths(text: str, format: Format) -> HEADING_PATHS:
    return [section.heading for section in parse(text, format)]


def blocks(text: str, format: Format) -> list[tuple[str, str, int, int]]:
    return [
        (block.kind, block.text, block.first_line, block.last_line)
        for section in parse(text, format)
        for block in section.blocks
    ]


# Sections, whatever the format


def test_sections_have_the_path_of_their_headings_and_the_lines_they_cover() -> None:
    text = "Before\n\n# A\n\none\n\n### A.x\n\n## B\ntwo\n\n# C\n"
    found = [(s.heading, s.text, s.first_line, s.last_line) for s in parse(text, "markdown")]
    assert found == [
        ((), "Before", 1, 1),
        (("A",), "one", 3, 5),
        (("A", "A.x"), "", 7, 7),
        (("A", "B"), "two", 9, 10),
        (("C",), "", 12, 12),
    ]


@pytest.mark.parametrize("format", ["markdown", "rst", "asciidoc", "html", "text"])
@pytest.mark.parametrize("text", ["", "\n \n", "\t"])
def test_a_document_of_white_space_has_no_sections(format: Format, text: str) -> None:
    assert parse(text, format) == []


@pytest.mark.parametrize("format", ["markdown", "rst", "asciidoc", "html", "text"])
def test_text_without_headings_is_one_section_without_a_path(format: Format) -> None:
    text = "Some words that end in a full stop.\n\nMore of them."
    [section] = parse(text, format)
    assert section.heading == ()
    assert section.text.split() == text.split()


def test_a_record_is_a_section_under_its_title_on_its_own_lines() -> None:
    record = Document("r", "c.csv", "How?", "SO LOUD\n\nFirst\nsecond\n\n# no heading", "text", 5, 9)
    [section] = sections(record)
    assert (section.heading, section.first_line, section.last_line) == (("How?",), 5, 9)
    assert [block.text for block in section.blocks] == ["SO LOUD", "First\nsecond", "# no heading"]
    assert {(block.first_line, block.last_line) for block in section.blocks} == {(5, 9)}
    assert section.blocks[1].lines_of(1, 1) == (5, 9)


def test_a_record_may_have_no_title_or_no_text() -> None:
    assert [s.heading for s in sections(Document("r", "c", "", "x", "text", 1, 1))] == [()]
    assert [s.blocks for s in sections(Document("r", "c", "T", "", "text", 1, 1))] == [()]
    assert sections(Document("r", "c", "", "", "text", 1, 1)) == []


# Markdown


@pytest.mark.parametrize(
    ("markup", "reading"),
    [
        ("#### A00.0 Cholera due to Vibrio", "A00.0 Cholera due to Vibrio"),
        ("# The `code` and *emphasis* of [a link](http://x) ##", "The code and emphasis of a link"),
        ("# ![A picture](x.png) &amp; 5 \\* 3", "A picture & 5 * 3"),
        ("# Install {#install}", "Install"),
        ("# Guide {#guide .class key=1}", "Guide"),
        ("# Setup {: #setup }", "Setup"),
        ("# The {#each list as item} block", "The {#each list as item} block"),
        ("# {#if}", "{#if}"),
        ("# With [reference][r]\n\n[r]: http://x", "With reference"),
        ("Two\nlines\n===", "Two lines"),
        ("# a <b>tag</b>", "a tag"),
    ],
)
def test_markdown_headings_read_as_a_person_reads_them(markup: str, reading: str) -> None:
    assert paths(markup, "markdown") == [(reading,)]


def test_markdown_blocks_are_slices_of_the_source() -> None:
    text = (
        "Para *one*\nsecond line\n- a\n- b\n\n  more b\n\n\n```python\n# no heading\n\nx = 1\n```\n\n    indented\n\n"
        "| a | b |\n|---|---|\n| 1 | 2 |\n\n> # quoted\n> text\n\n---\n\n<div>\n# raw\n</div>\n\n"
        "[r]: http://x\n\n1. one\n"
    )
    assert blocks(text, "markdown") == [
        ("paragraph", "Para *one*\nsecond line", 1, 2),
        ("list", "- a\n- b\n\n  more b", 3, 6),
        ("code", "```python\n# no heading\n\nx = 1\n```", 9, 13),
        ("code", "    indented", 15, 15),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |", 17, 19),
        ("paragraph", "> # quoted\n> text", 21, 22),
        ("paragraph", "# raw", 27, 27),
        ("list", "1. one", 32, 32),
    ]


def test_html_in_markdown_is_read_as_it_is_shown_with_the_lines_of_the_source() -> None:
    text = (
        '<!-- for\n\neditors -->\n<h1 align="center">\n  <img src="x">Acme Pump\n</h1>\n\nIt hums.\n\n'
        "<h2>Parts</h2>\n\n<table>\n<tr><th>Part<th>Use\n<tr><td>P-7<td>seals\n</table>\n\n"
        "<br>\n\nEnd <!-- x --> here.\n"
    )
    assert [(s.heading, s.first_line, s.last_line) for s in parse(text, "markdown")] == [
        (("Acme Pump",), 5, 8),
        (("Acme Pump", "Parts"), 10, 19),
    ]
    assert blocks(text, "markdown") == [
        ("paragraph", "It hums.", 8, 8),
        ("table", "Part | Use\nP-7 | seals", 13, 14),
        ("paragraph", "End <!-- x --> here.", 19, 19),
    ]
    assert first_heading(text, "markdown") == "Acme Pump"


@pytest.mark.parametrize(
    "text",
    [
        '<Card title="Start here">\nGo\n</Card>',
        "<div>\n<Tab.Item label='Linux' />\n</div>",
        "<!-- never closed\n\nText",
        "<script>\n\nText",
    ],
)
def test_html_in_markdown_that_would_lose_words_stays_as_it_is(text: str) -> None:
    assert blocks(text, "markdown") == [("paragraph", text, 1, text.count("\n") + 1)]


def test_markdown_front_matter_is_left_out_and_lines_stay_right() -> None:
    assert blocks("---\ntitle: x\n# y\n---\n\nText\n", "markdown") == [("paragraph", "Text", 6, 6)]
    assert paths("---\nnot closed\n\n# Title\n", "markdown")[-1][-1] == "Title"


def test_markdown_headings_in_lists_and_empty_ones_make_no_sections() -> None:
    assert paths("# A\n\n- # in a list\n\n#\n\ntext\n", "markdown") == [("A",)]


def test_unusual_line_separators_do_not_shift_lines() -> None:
    text = "a\x0bb\x0cc\u2028d\x85e\n\nTitle\n=====\n\nend\n"
    for format in ("markdown", "rst"):
        found = parse(text, format)
        assert [(s.heading, s.first_line, s.last_line) for s in found] == [((), 1, 1), (("Title",), 3, 6)]
        assert found[0].text == text.split("\n")[0]


# reStructuredText

SPHINX = """\
.. _install-guide:

=============
 Installing it
=============

:Release: |release|

See :ref:`the guide <guide>` and
:py:func:`~package.module.function`.

.. toctree::
   :maxdepth: 2

   first
   second

.. comment that nobody
   reads

Using :command:`pip` and ``code``
---------------------------------
Run this::

    pip install it

    it --help

.. code-block:: python
   :linenos:
   :caption: example.py

   import it

.. versionadded:: 3.2
   The ``--quick`` option.

* item one
* item two

  more of two
* item three

.. |release| replace:: 1.0

===== =====
Key   Value
===== =====
a     1
===== =====

The API
~~~~~~~

.. index:: single: run
.. function:: run(x, *, y=None)

   Run *x*.

   :param x: what to run

----

.. [1] A footnote.

Last paragraph
of the page.
"""


def test_sphinx_pages_keep_headings_and_exact_lines() -> None:
    assert [(s.heading, s.first_line, s.last_line) for s in parse(SPHINX, "rst")] == [
        (("Installing it",), 3, 16),
        (("Installing it", "Using pip and code"), 21, 50),
        (("Installing it", "Using pip and code", "The API"), 52, 67),
    ]


def test_sphinx_blocks_are_slices_of_the_source_and_lose_no_unknown_directive() -> None:
    lines = SPHINX.split("\n")
    found = blocks(SPHINX, "rst")
    assert [(kind, first, last) for kind, _, first, last in found] == [
        ("list", 7, 7),
        ("paragraph", 9, 10),
        ("paragraph", 12, 16),
        ("paragraph", 23, 23),
        ("code", 25, 27),
        ("code", 29, 33),
        ("paragraph", 35, 36),
        ("list", 38, 42),
        ("table", 46, 50),
        ("paragraph", 55, 55),
        ("paragraph", 56, 60),
        ("paragraph", 64, 64),
        ("paragraph", 66, 67),
    ]
    for _, text, first, last in found:
        assert text == "\n".join(lines[first - 1 : last]).replace("|release|", "1.0")


def test_faulty_restructuredtext_loses_nothing_but_comments(capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "Title\n===\n\n.. include:: /etc/passwd\n\n.. raw:: html\n\n   <b>raw</b>\n\n*unclosed\n\n"
        "Sub\n---\n\nBad level\n~~~\n\ntext |unknown|_ `x\n\n* list\nno blank\n\n=====\nA B\n===\n\nend\n"
    )
    words = {word for s in parse(text, "rst") for word in (*" ".join(s.heading).split(), *s.text.split())}
    assert {"Title", "Sub", "/etc/passwd", "<b>raw</b>", "*unclosed", "Bad", "level", "list", "no", "A", "end"} <= words
    assert "root:" not in "".join(words)
    assert capsys.readouterr() == ("", "")


def test_substitutions_that_a_restructuredtext_file_defines_are_put_in() -> None:
    text = (
        ".. |product| replace:: Acme *Pump* |number|\n.. |number| replace:: 3000\n.. |tm| unicode:: U+2122\n"
        ".. |logo| image:: x.png\n\nInstall |Product|\n=================\n\n"
        "Use |product|_ |tm| now, |logo| |unknown|, but ``|product|``\nand \\|product|.\n\n.. code::\n\n   |product|\n"
    )
    assert paths(text, "rst") == [("Install Acme Pump 3000",)]
    assert blocks(text, "rst") == [
        ("paragraph", "Use Acme Pump 3000 ™ now, |logo| |unknown|, but ``|product|``\nand \\|product|.", 9, 10),
        ("code", ".. code::", 12, 12),
        ("code", "   |product|", 14, 14),
    ]


def test_code_within_a_list_or_a_note_has_no_substitutions_put_in() -> None:
    text = (
        ".. |p| replace:: Pump\n\n- run |p|::\n\n    cat a |p| b\n\n- then |p|\n\n"
        "  .. code-block:: sh\n\n     cat c |p| d\n\n  - of |p|\n\n.. tip-of-sphinx::\n   Mind the |p|.\n"
    )
    seen = "\n".join(text for _, text, _, _ in blocks(text, "rst"))
    assert "cat a |p| b" in seen and "cat c |p| d" in seen
    assert all(f"{words} Pump" in seen for words in ("run", "then", "of", "the"))


def test_substitutions_that_name_each_other_or_are_long_are_left_as_they_stand() -> None:
    endless = ".. |a| replace:: x |b|\n.. |b| replace:: y |a|\n\n|a| |b|\n"
    assert [text for _, text, _, _ in blocks(endless, "rst")] == ["|a| |b|"]
    doubled = "".join(f".. |a{number}| replace:: |a{number + 1}| |a{number + 1}|\n" for number in range(100))
    assert [text for _, text, _, _ in blocks(f"{doubled}\n|a0|\n", "rst")] == ["|a0|"]
    long = f".. |a| replace:: {'long ' * 100}\n\n{'|a| ' * 1000}\n"
    assert sum(len(text) for _, text, _, _ in blocks(long, "rst")) < len(long)


def test_a_role_defined_in_one_document_says_nothing_of_the_next() -> None:
    parse(".. default-role:: literal\n\n`x`\n", "rst")
    assert paths("A `name`\n========\n", "rst") == [("A name",)]


def test_nesting_beyond_the_parser_is_an_error_that_names_the_document() -> None:
    text = "\n".join("  " * depth + "* x\n" for depth in range(2000))
    with pytest.raises(DocumentError, match="doc: nested too deeply"):
        parse(text, "rst")


# HTML

PAGE = """\
<!DOCTYPE html>
<html><head><title>Page &amp; more</title><style>p { color: red }</style></head>
<body>
<nav><ul><li>Home</ul></nav>
<header><h1>The site</h1></header>
<article><header><h1>Real
 title<a class="headerlink" href="#x">¶</a></h1></header>
<p>First with <b>bold</b>
and <a
 href="x">a link</a>. AT&T &lt;tag&gt; caf&eacute; &#8212;
end
<p>Second, unclosed
<ul>
 <li>one
   <ul><li>nested</li>
   <li>nested too</ul>
 <li><p>two</p><p>more</p>
</ul>
<h3>Code<a href="#code">#</a></h3>
<pre><code>def f():

    return 1 &lt; 2
</code></pre>
<table><caption>Caption</caption>
<tr><th>A</th><th>B</th></tr>
<tr>
 <td>1<br>x</td>
 <td><p>2</p></td>
</tr>
</table>
<dl><dt>Term<dd>Definition</dl>
<script>var x = "<p>no</p>";</script>
<div hidden>hidden</div>
<blockquote>Quote</blockquote>
tail
</article>
<aside>aside</aside>
<footer>foot</footer>
</body></html>
"""


def test_html_is_read_as_a_person_reads_it_with_the_lines_of_the_source() -> None:
    assert [(s.heading, s.first_line, s.last_line) for s in parse(PAGE, "html")] == [
        (("Real title",), 6, 17),
        (("Real title", "Code"), 19, 35),
    ]
    assert blocks(PAGE, "html") == [
        ("paragraph", "First with bold\nand a link. AT&T <tag> café —\nend", 8, 11),
        ("paragraph", "Second, unclosed", 12, 12),
        ("list", "- one\n  - nested\n  - nested too\n- two\n  more", 14, 17),
        ("code", "def f():\n\n    return 1 < 2", 20, 22),
        ("paragraph", "Caption", 24, 24),
        ("table", "A | B\n1 x | 2", 25, 28),
        ("paragraph", "Term\n    Definition", 31, 31),
        ("paragraph", "Quote", 34, 34),
        ("paragraph", "tail", 35, 35),
    ]


def test_html_blocks_know_the_lines_of_each_of_their_lines() -> None:
    first, *_ = parse(PAGE, "html")[0].blocks
    assert [first.lines_of(line, line) for line in range(3)] == [(8, 8), (9, 10), (11, 11)]


def test_the_main_element_is_the_page_where_there_is_one() -> None:
    page = "<div>menu</div><main><header><h1>T</h1></header><div><p>text</div></main><p>related"
    assert [(s.heading, s.text) for s in parse(page, "html")] == [(("T",), "text")]
    assert blocks('<p>menu<div role="main"><div>a</div>b</div><p>c', "html") == [
        ("paragraph", "a", 1, 1),
        ("paragraph", "b", 1, 1),
    ]


def test_headings_in_layout_tables_and_words_around_blocks_are_kept() -> None:
    page = "<table><tr><td>left<h2>Head</h2>text<td>right</table>C#<h2>In C#</h2>x"
    words = " ".join(word for s in parse(page, "html") for word in (*s.heading, s.text)).split()
    assert {"left", "Head", "text", "right", "C#"} <= set(words)


@pytest.mark.parametrize("junk", ["<a b='", "<!--", "<![CDATA[", "</", "&#", "<p <p", "<script>", "</script", "<td>"])
def test_hostile_html_neither_fails_nor_takes_forever(junk: str) -> None:
    parse(junk * 20_000, "html")
    parse(f"<p>x</p>{junk * 20_000}>", "html")


# Plain text

CONTRACT = """\
Supply Agreement

PART ONE

1. Definitions.

In this agreement these words have the meaning below.

1.1 Goods

What is sold.

12.3 Indemnification

The seller pays.

Article IV — Term and Termination

Ends after a year.

Section 2. Delivery

On time.

NO WARRANTY

THE GOODS ARE PROVIDED AS THEY ARE
AND NOTHING ELSE IS PROMISED.

    an indented
    block

Signatures
----------
Here.
"""


def test_plain_text_headings_are_titles_clauses_capitals_and_underlined_lines() -> None:
    assert [(s.heading[-1], s.first_line, s.last_line) for s in parse(CONTRACT, "text")] == [
        ("Supply Agreement", 1, 1),
        ("PART ONE", 3, 3),
        ("1. Definitions.", 5, 7),
        ("1.1 Goods", 9, 11),
        ("12.3 Indemnification", 13, 15),
        ("Article IV — Term and Termination", 17, 19),
        ("Section 2. Delivery", 21, 23),
        ("NO WARRANTY", 25, 31),
        ("Signatures", 33, 35),
    ]
    assert paths(CONTRACT, "text")[3] == ("Supply Agreement", "PART ONE", "1. Definitions.", "1.1 Goods")


@pytest.mark.parametrize(
    "line",
    [
        "1. Redistributions of source code must retain this notice.",
        "2. You may copy it",
        "3. the lower case item",
        "THIS SOFTWARE IS PROVIDED AS IS",
        "NOTE:",
        "NEVER AGAIN.",
        "Copyright (c) 1999 Somebody",
        "COPYRIGHT (C) 1999 SOMEBODY",
        "+---+---+ A",
        "1999",
        "Section 3 applies to everybody who reads it.",
        "An ordinary line",
        "==========",
    ],
)
def test_lines_that_only_look_like_headings_are_none(line: str) -> None:
    text = f"First paragraph of\ntwo lines.\n\n{line}\n\nMore text.\n"
    assert paths(text, "text") == [()]


def test_the_items_of_a_list_are_no_headings() -> None:
    assert paths("Intro, which is long.\n\n1. Apples\n\n2. Pears\n\n3. Plums\n\nThat is all.\n", "text") == [()]


def test_the_last_line_is_no_heading_and_a_first_sentence_no_title() -> None:
    assert paths("A sentence that is first.\n\nText.\n\nTHE END\n", "text") == [()]


def test_plain_text_blocks_keep_their_lines_and_their_indentation() -> None:
    assert blocks("One\ntwo\n\n\n   - a\n   - b\n\nend\n", "text") == [
        ("paragraph", "One\ntwo", 1, 2),
        ("list", "   - a\n   - b", 5, 6),
        ("paragraph", "end", 8, 8),
    ]


# Titles


@pytest.mark.parametrize(
    ("text", "format", "title"),
    [
        ("x\n" * 300 + "\n# Late\n", "markdown", "Late"),
        ("## Second\n\n# First\n", "markdown", "First"),
        ("no heading", "markdown", ""),
        ("A\n=\n\nB\n-\n", "rst", "A"),
        ("<title>T</title><h2>x</h2>", "html", "T"),
        ("<p>x", "html", ""),
    ],
)
def test_the_title_is_the_first_heading_of_level_one(text: str, format: Format, title: str) -> None:
    assert first_heading(text, format) == title


# Bounds


def test_a_heading_of_a_page_length_is_a_paragraph() -> None:
    text = f"# Leave\n\n## {'word ' * 300}\n\nTen weeks.\n"
    assert paths(text, "markdown") == [("Leave",)]
    assert [kind for kind, *_ in blocks(text, "markdown")] == ["paragraph", "paragraph"]


def test_headings_within_lists_and_quotes_are_no_headings_of_the_document() -> None:
    assert paths("# A\n\n- # B\n\n> # C\n\n# D\n", "markdown") == [("A",), ("D",)]


def test_unclosed_markup_in_a_long_paragraph_of_rst_is_text() -> None:
    text = "Title\n=====\n\n" + "`a *b ``c |d " * 2000 + "\n"
    assert [kind for kind, *_ in blocks(text, "rst")] == ["paragraph"]
