from __future__ import annotations

import re
from cProfile import Profile
from typing import Any

import pytest

from retrieval.boilerplate import Place, Region, Shown, content
from retrieval.structure import QUESTION_LEVEL, Block, Heading
from retrieval.structure_html import outline, page_title, reading

WORDS = "These are some words that say what this page is about, so that there is something to read here."


def shown(page: str) -> list[str]:
    """Headings with as many # as their level, blocks as they read."""
    return ["#" * item.level + " " + item.text if isinstance(item, Heading) else item.text for item in outline(page)]


@pytest.mark.parametrize("odd", ["<![ b", "<![endif] b", "<![x[ b ]]>", "<!x[ b"])
def test_what_only_begins_like_a_declaration_is_a_comment(odd: str) -> None:
    assert shown(f"<h1>Pumps</h1><p>{WORDS}</p>{odd}<p>After it.</p>")[:2] == ["# Pumps", WORDS]
    assert reading(f"<p>before {odd}</p>").startswith("before")


SITE = f"""\
<html><head><title>Payments - The shop</title></head><body>
<a class="skip" href="#main">Skip to content</a>
<header><h1>The shop</h1><p>Best prices</p></header>
<div class="cookie-banner"><p>We use cookies to make you happy.</p><button>Accept</button></div>
<div class="sphinxsidebar"><h3>Navigation</h3><ul><li><a href="a">Alpha</a><li><a href="b">Beta</a></ul></div>
<ul class="breadcrumbs"><li><a href="/">Home</a><li><a href="/pay">Payments</a></ul>
<h1>Payments</h1>
<div class="toc"><p>On this page</p><ul><li><a href="#c">Cards</a><li><a href="#t">Transfers</a></ul></div>
<p>{WORDS}</p>
<ul><li><a href="#c">Cards</a><li><a href="#t">Transfers</a><li><a href="#o">Other ways</a></ul>
<h2 id="c">Cards</h2><p>We take <a href="v">Visa</a>.</p>
<h2 id="t">Transfers</h2>
<ul><li><a href="x">Alpha bank</a><li><a href="y">Beta bank</a><li><a href="z">Gamma bank</a></ul>
<h2 id="o">Other ways</h2>
<aside class="note"><p>Cash is welcome.</p></aside>
<div class="navigation"><a href="1">Previous</a> | <a href="2">Next</a></div>
<div class="header"><p>Next: <a href="2">Delivery</a>, Up: <a href="/">Top</a> [<a href="x">Index</a>]</p></div>
<div class="navfooter"><table><tr><td><a href="1">Prev</a><td><a href="/">Up</a></tr>
<tr><td>The chapter on delivery<td><a href="2">Next »</a></tr></table></div>
<footer>Nothing here</footer>
</body></html>
"""


def test_what_is_around_the_content_is_dropped_and_no_content_is() -> None:
    assert shown(SITE) == [
        "# Payments",
        WORDS,
        "## Cards",
        "We take Visa.",
        "## Transfers",
        "- Alpha bank\n- Beta bank\n- Gamma bank",
        "## Other ways",
        "Cash is welcome.",
    ]
    lines = SITE.split("\n")
    for item in outline(SITE):
        assert item.text.split("\n")[0].strip("- ").split()[0] in lines[item.first_line - 1]


@pytest.mark.parametrize(
    "page",
    [
        f'<body><div>menu</div><main><p>{WORDS}</p></main><div class="ad">Buy!</div>',
        f'<body><div>menu</div><div role="main"><div><p>{WORDS}</p></div></div><p>related',
        f"<body><p>menu</p><article><p>{WORDS}</p></article><p>related",
        f"<body><p>menu</p><main><p>{WORDS}",
    ],
)
def test_main_and_article_are_the_page_where_they_hold_it(page: str) -> None:
    assert shown(page) == [WORDS]


@pytest.mark.parametrize("tag", ["main", "article"])
def test_an_element_that_holds_next_to_nothing_is_not_the_page(tag: str) -> None:
    page = f"<body><p>{WORDS}</p><{tag}><p>Loading</p></{tag}><p>{WORDS} Twice.</p>"
    assert shown(page) == [WORDS, "Loading", f"{WORDS} Twice."]


def test_all_articles_of_a_page_are_read() -> None:
    page = "<div>menu</div><article><h2>A</h2><p>one</p></article><article><h2>B</h2><p>two</p></article>"
    assert shown(page) == ["## A", "one", "## B", "two"]


@pytest.mark.parametrize(
    "page",
    [
        '<div class="sidebar"><p>A long aside that has <a href="x">one link</a> and many words.</p></div>',
        '<section id="cookies"><p>How to set cookies, and to read them.</p></section>',
        '<section id="contents"><p>What the box contains: a lid, a tray.</p></section>',
        '<main><div class="cookie-notice"><p>A component that shows a notice.</p></div></main>',
        '<div role="tabpanel" hidden><p>What the other tab shows.</p></div>',
        '<div role="dialog"><p>Press Ctrl and S to save the file.</p></div>',
        '<div role="alertdialog"><p>What the program asks before it deletes a file.</p></div>',
        '<table class="nav"><tr><td>Sail</td><td>north</td></tr></table>',
        '<div class="section-header"><h2>A section</h2><p><a href="#a">permanent link</a></p></div>',
        '<div class="nav"><h1><a href="/">The only title</a></h1><p><a href="/">next</a></p></div>',
        f'<div class="sidebar"><p>{WORDS * 4} <a href="2">Next</a></p></div>',
    ],
)
def test_what_only_looks_like_furniture_is_kept(page: str) -> None:
    assert shown(page)[0] in shown(f"{page}<p>{WORDS}</p>")


@pytest.mark.parametrize(
    "page",
    [
        '<ul><li><a href="a">Alpha</a><li><a href="b">Beta</a><li><a href="c">Gamma</a></ul>',
        '<div class="toc"><ul><li><a href="a">Alpha</a><li><a href="b">Beta</a></ul></div>',
    ],
)
def test_a_page_of_nothing_but_furniture_is_kept(page: str) -> None:
    assert outline(page) != []


@pytest.mark.parametrize(
    "page",
    [
        '<div style="display: none">x</div>',
        "<p hidden>",
        "<div hidden>x</div>",
        '<div role="contentinfo">x</div>',
        '<div role="dialog" hidden>x</div>',
        '<div role="alertdialog" style="display:none">x</div>',
        "<p hidden>x</p>",
        '<ul><li style="display:none">x<ul><li>y</li><li>z</ul> x</li></ul>',
        "<table><tr hidden><td>x<table><tr><td>y</table>x</tr></table>",
        "<div><button><span>Menu</span></button> <button>Log in</button></div><ul><li><button>Tab</button></ul>",
    ],
)
def test_what_nobody_sees_is_not_read(page: str) -> None:
    assert outline(page) == []


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p>Press <span><b hidden>Command</b><b hidden>Ctrl</b></span>+<kbd>S</kbd>.", ["Press Command/Ctrl+S."]),
        ("<div><div hidden class=linux>apt x</div>\n<div hidden data-os=mac>brew x</div></div>", ["apt x", "brew x"]),
        ("<i class=switch><i hidden class=DRAW><p>One</p></i><i hidden><p>Two</p></i></i>", ["One", "Two"]),
        ("<label class=switch><b hidden>On</b><b hidden>Off</b></label>", []),
        ("<h2><i><b hidden>Styles</b><b hidden>Styles</b></i></h2>", ["## Styles"]),
        ("<h2><i><b hidden><a href=a>Page</a></b><b hidden><a href=b>Slide</a></b></i></h2>", ["## Page/Slide"]),
        ("<ul><li><i><b hidden><a href=a>In</a></b><b hidden><a href=b>Out</a></b></i></ul>", []),
        ("<main><a aria-expanded=false aria-controls=a>More</a><div id=a hidden>Sizes.</div>", ["More", "Sizes."]),
        ('<div id="a" style="display: none">Sizes.</div><b role="tab" aria-controls="a">More</b>', ["Sizes.", "More"]),
        ('<section role="tabpanel" aria-hidden="true" hidden="hidden">Sizes.</section>', ["Sizes."]),
        ("<p>Copy it. <span hidden>Copied!</span><span hidden>Failed.</span></p>", ["Copy it."]),
        ("<main><div hidden>Sign in</div><div hidden>Sent!</div><p>One</p></main>", ["One"]),
        ("<div><div hidden role=dialog>Sign in</div><div hidden role=search>Find</div></div>", []),
        ("<div><div style='display:none'>a</div><div style='display:none'>b</div></div>", []),
        ("<div><p hidden>Thanks!</p><p hidden>Sorry, it could not be sent.</p></div>", []),
        ("<div><div hidden><h2>Delete it?</h2><p>Yes</p></div><div hidden><h2>Log in</h2></div></div>", []),
        ("<p>Copy it. <i class=copy-status><b hidden>Copied!</b><b hidden>Failed.</b></i></p>", ["Copy it."]),
        ("<p>Copy it. <button><b hidden>Copied!</b><b hidden>Failed.</b></button></p>", ["Copy it."]),
        ("<div><i hidden class=windows>One</i><i hidden class=linux-menu>Two</i></div>", []),
    ],
)
def test_of_what_is_hidden_alternatives_and_what_a_click_shows_are_read_and_nothing_else(
    page: str, seen: list[str]
) -> None:
    assert shown(page) == seen


@pytest.mark.parametrize(
    "hidden",
    [
        "<ul id=menu hidden><li>Products<li>Prices</ul>",
        "<div id=cookies style='display:none'><p>We use cookies.</p></div>",
        "<div id=mainNav class=collapse hidden>Products</div>",
        "<div id=x hidden role=dialog>Delete it?</div>",
        "<form id=x hidden>Your name</form>",
        "<div id=x hidden>Your name <input></div>",
        "<div id=x hidden><a href=a>Products</a>, <a href=b>Prices</a></div>",
        "<div id=x hidden>Never closed",
    ],
)
def test_what_unfolds_and_is_no_content_is_not_read(hidden: str) -> None:
    control = "<b aria-expanded=false aria-controls='x menu cookies mainNav'>More</b>"
    assert shown(f"<main><h1>Hose</h1>{control}{hidden}") == ["# Hose", "More"]


@pytest.mark.parametrize("around", ["<div>{}</div><h1>Hose</h1>", "<h1>Hose</h1><div class=navbar>{}</div>"])
def test_what_unfolds_by_a_control_outside_of_the_content_is_not_read(around: str) -> None:
    control = "<button aria-expanded=false aria-controls=x>More</button><p hidden id=x>Products</p>"
    assert shown(around.format(control)) == ["# Hose"]
    assert shown(f"<h1>Hose</h1>{control}") == ["# Hose", "Products"]


def test_of_long_alternatives_none_is_compared_with_another() -> None:
    page = "<p>Say <i><b hidden>{0}</b><b hidden>{0}</b></i>.</p>"
    assert shown(page.format("x" * 1000)) == [f"Say {'x' * 1000}."]
    assert shown(page.format("x" * 1001)) == [f"Say {'x' * 1001}/{'x' * 1001}."]


def test_the_first_of_several_h1_is_the_title_where_the_page_s_title_says_it() -> None:
    assert page_title("<title>Term::Cap</title><h1>NAME</h1><p>x</p><h1>USE</h1>") == "Term::Cap"
    assert page_title("<title>Names | Handbook</title><h1>NAMES</h1><p>x</p><h1>Use</h1>") == "NAMES"
    assert page_title("<title>Handbook</title><h1>Terminals</h1><p>x</p>") == "Terminals"
    assert page_title("<h1>Terminals</h1><p>x</p><h1>Use</h1>") == "Terminals"


def test_a_header_with_the_page_s_own_title_is_content() -> None:
    page = "<title>A tale</title><header><h1>A tale</h1><p>By N</p></header><h1>One</h1><p>x</p>"
    assert shown(page) == ["# A tale", "By N", "# One", "x"]
    assert page_title(page) == "A tale"
    assert shown("<header><h1>Alone</h1></header><p>x</p>") == ["# Alone", "x"]
    assert shown("<title>One - Site</title><header><h1>Site</h1></header><h1>One</h1><p>x</p>") == ["# One", "x"]


def test_the_questions_of_an_faq_are_headings_over_their_answers() -> None:
    page = """\
<h1>FAQ</h1>
<details><summary>How do I pay?</summary><p>By card.</p><p>Or cash.</p></details>
<details><summary><b>When?</b></summary>Now.</details>
<h2>More</h2>
<dl><dt>Where is it?</dt><dd>Here.</dd><dt>Why?</dt><dd><p>Because.</p></dd></dl>
"""
    assert shown(page) == [
        "# FAQ",
        "########### How do I pay?",
        "By card.",
        "Or cash.",
        "########### When?",
        "Now.",
        "## More",
        "########### Where is it?",
        "Here.",
        "########### Why?",
        "Because.",
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<details><summary>More</summary><p>x</p></details><p>Goes on.</p>",
        "<dl><dt>Term</dt><dd>x</dd><dt>Other</dt><dd>y</dd></dl>",
        "<dl><dt>Why?</dt><dd>x</dd><dt>When?</dt><dd>y</dd></dl><p>Goes on.</p>",
        "<details><summary>Only this</summary></details>",
        "<details><p>No summary</p><p>x</p></details>",
    ],
)
def test_what_would_head_more_than_its_answer_is_no_heading(page: str) -> None:
    assert not any(isinstance(item, Heading) for item in outline(page))


@pytest.mark.parametrize(
    ("page", "asked"),
    [
        (
            "<p><b>Is it\nloud?</b></p><p>No.</p><p><strong>Dry?</strong><br>Never.</p><p>More.</p>",
            ["Is it loud?", "Dry?"],
        ),
        ("<p><b>Is it loud?</b></p><p>No.</p>", []),  # alone it may be any remark
        ("<p><b>Is it loud?</b></p><p><b>Dry?</b></p><p>No.</p>", []),  # asked of the reader
        ("<p>Is it <b>loud?</b></p><p>No.</p><p>Is it <b>dry?</b></p><p>No.</p>", []),
    ],
)
def test_questions_in_bold_are_headings_where_several_are_answered(page: str, asked: list[str]) -> None:
    found = outline(f"<h1>Pump</h1>{page}")
    assert [item.text for item in found if isinstance(item, Heading) and item.level == QUESTION_LEVEL] == asked
    words = [word for item in found[1:] for word in item.text.split()]
    assert words == re.sub("<[^>]*>", " ", page).split()


def test_a_menu_whose_list_is_never_closed_is_no_content() -> None:
    menu = "<div class=menu><ul><li><a href=x>Home</a><li><a href=y>About us</a><li><a href=z>Contact</a></div>"
    assert shown(f"{menu}<h1>Pump</h1><p>{WORDS}</p>") == ["# Pump", f"  {WORDS}"]


def test_elements_that_are_never_closed_lose_nothing() -> None:
    page = f"<div class=nav><a href=x>Home</a><div class=toc><main><div class=menu><p>{WORDS}"
    assert shown(page) == [WORDS]
    assert shown(f"<header><p>{WORDS}") == [WORDS]


@pytest.mark.parametrize(
    "junk",
    [
        "<div class=nav>",
        "<article>",
        "<details>",
        "<main>",
        "<aside>",
        "<dl><dt>x?",
        "<dl><dt>x<dd>y<p>y",
        "<dd>y<p>y",
        "<a href=#>x",
        "<mfrac><msup><mi>x</mi>",
        "9<sup>6</sup>",
        "<button>x",
        "<ol><li>x",
        "<div class=nav><h1>x</h1><a href=#>next</a>",
        "<div class=header><h2>x</h2><a href=#>next</a>",
        "<ul><li><a href=#>x</a> <a href=#>y</a> <a href=#>z</a></ul><h2>x</h2>",
        "<ul><li><a href=y>x</a> <a href=y>y</a> <a href=y>z</a></ul><p>x</p>",
        "<div hidden>",
        "<p><b hidden>x</b><i hidden id=x aria-expanded aria-controls=x>y</i>",
    ],
)
@pytest.mark.parametrize("closing", ["", "</div></article></details></main></aside></dl></msup></mfrac>"])
def test_pages_of_nothing_but_furniture_take_time_in_proportion(junk: str, closing: str) -> None:
    def work(times: int) -> int:
        """How many functions are called to read the page."""
        profile = Profile()
        profile.runcall(outline, junk * times + closing * times)
        return sum(entry.callcount for entry in profile.getstats())

    assert work(800) < 4.05 * work(200)


def test_a_long_text_in_thousands_of_asides_is_not_read_again_for_each() -> None:
    class Text(str):
        reads = 0

        def split(self, *rest: Any) -> list[str]:
            type(self).reads += 1
            return super().split(*rest)

    start, end = Place(0, 0, 0, 0), Place(1, 0, len(WORDS), 0)
    asides = [Region("aside", start, inside_main=False, end=end) for _ in range(1000)]
    items = [Block("paragraph", Text(WORDS), 1, 1), Heading(1, "Pump", 2, 2)]
    assert content(Shown(items, [], asides, "", [], {}, [])) == items
    assert Text.reads <= 1


def test_a_piece_of_html_reads_as_its_blocks() -> None:
    assert reading("<p>One <b>two</b></p><ul><li>a<li>b</ul>") == "One two\n\n- a\n- b"


def test_a_term_and_what_it_means_are_one_paragraph_whose_lines_are_those_of_the_file() -> None:
    page = (
        "<h1>Words</h1>\n<dl>\n<dt><dfn>Collar</dfn>\n<dd>A ring that holds\nthe hose.\n"
        "<dt>Elm pump</dt>\n<dd><p>A pump of wood.</p>\n<p>Ships had it.</p></dd>\n</dl>\n<p>The end.</p>"
    )
    blocks = [item for item in outline(page) if isinstance(item, Block)]
    assert [block.text for block in blocks] == [
        "Collar\n    A ring that holds\n    the hose.",
        "Elm pump\n    A pump of wood.\n\n    Ships had it.",
        "The end.",
    ]
    assert [blocks[0].lines_of(line, line) for line in range(3)] == [(3, 3), (4, 4), (5, 5)]
    assert [blocks[1].lines_of(line, line) for line in range(4)] == [(6, 6), (7, 7), (8, 8), (8, 8)]


def test_all_that_a_term_means_stands_under_it_and_nothing_of_another() -> None:
    page = "<dl><dt>A<dd>one<dd><div>two</div><ul><li>x</ul>three<dt><img><dd>of a picture<dt>B<dd>four</dl><p>five"
    assert shown(page) == ["A\n    one\n\n    two", "- x", "three", "of a picture", "B\n    four", "five"]


def test_a_list_in_a_meaning_or_a_code_block_stays_a_block_of_its_own() -> None:
    page = "<dl><dt>Knots</dt><dd><ul><li>bowline</li></ul></dd><dt>Use</dt><dd><pre>tie --tight</pre></dd></dl>"
    assert [(item.kind, item.text) for item in outline(page) if isinstance(item, Block)] == [
        ("paragraph", "Knots"),
        ("list", "- bowline"),
        ("paragraph", "Use"),
        ("code", "tie --tight"),
    ]


def test_what_follows_a_meaning_without_text_is_not_what_the_term_means() -> None:
    page = "<dl><dt>Photo</dt><dd><img src=x></dd></dl><p>Order before May.</p>"
    assert [item.text for item in outline(page)] == ["Photo", "Order before May."]


def test_a_term_may_be_wrapped_in_a_paragraph() -> None:
    page = "<dl><dt><p>Collar</p></dt><dd>A ring.</dd></dl>"
    assert [item.text for item in outline(page)] == ["Collar\n    A ring."]


def test_each_cell_of_a_table_stands_in_its_column() -> None:
    head = "<tr><th><th>Name<th>Min<th>Max</tr>"
    assert shown(f"<table>{head}<tr><td>1<td>K</td><td></td><td>5.0</td></tr></table>") == [
        "| Name | Min | Max\n1 | K |  | 5.0"
    ]


def test_a_cell_that_spans_rows_is_each_of_theirs_and_one_that_spans_columns_has_empty_ones_after_it() -> None:
    page = (
        "<table>\n<thead><tr><th rowspan=2>Part<th colspan=2>Range</tr>\n<tr><th>Min<th>Max</tr></thead>\n"
        "<tr><td colspan=3>Pumps\n<tr><td rowspan='2'>P-7<td>1<td>2\n<tr><td>3<td>4\n"
        "<tbody><tr><td>P-8<td>5<td rowspan=0>6\n<tr><td>P-9<td>7\n</table>"
    )
    [table] = outline(page)
    assert isinstance(table, Block)
    assert table.text.split("\n") == [
        "Part | Range |",
        "Part | Min | Max",
        "Pumps",
        "P-7 | 1 | 2",
        "P-7 | 3 | 4",
        "P-8 | 5 | 6",
        "P-9 | 7 | 6",
    ]
    assert [table.lines_of(row, row) for row in (0, 1, 3, 4, 6)] == [(2, 2), (2, 3), (5, 5), (5, 6), (7, 8)]


@pytest.mark.parametrize(
    ("head", "row", "seen"),
    [
        ("<th>Name<th>Age<th>Town", "<td>Ann<td hidden>30<td>Oslo", "Name | Age | Town\nAnn |  | Oslo"),
        ("<th hidden>Key<th>Name<th>Age", "<td hidden>7<td>Ann<td>30", "Name | Age\nAnn | 30"),
        ("<th>Name<th>Age", "<td hidden>7<td>Ann<td>30", "Name | Age\nAnn | 30"),
    ],
)
def test_a_hidden_cell_moves_no_other_out_of_its_column(head: str, row: str, seen: str) -> None:
    assert shown(f"<table><tr>{head}<tr>{row}</table>") == [seen]


def test_a_table_that_only_lays_a_page_out_has_no_bars() -> None:
    assert shown("<table><tr><td><img src=x><td>One<td></tr><tr><td></tr><tr><td><td colspan=2>Two</table>") == [
        "One\nTwo"
    ]
    assert shown("<table><tr><td><td><img src=x></table>") == []


@pytest.mark.parametrize("cell", ["<td rowspan=100000000 colspan=100000000>x", "<td rowspan=0>" + "x" * 100])
def test_what_spans_columns_and_rows_does_not_make_a_text_grow_without_measure(cell: str) -> None:
    page = f"<table><tr>{cell * 1000}{'<tr><td>y' * 10_000}</table>"
    assert sum(len(item.text) for item in outline(page)) < 2 * len(page)


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p hidden>x<p>One</p>Two", ["One", "Two"]),
        ("<div><p hidden>x</div>One", ["One"]),
        ("<p hidden>x<h2>One</h2>", ["## One"]),
        ("<ul><li>One<li hidden>x<li>Two</ul>", ["- One\n- Two"]),
        ("<div><ul><li hidden>x</ul></div><p>One</p>", ["One"]),
        ("<ul><li hidden>x</div><p>One</p>", ["  One"]),
        ("<table><tr hidden><td>x<tr><td>One<td hidden>x<td>Two<tr hidden><td>x</table>Three", ["One | Two", "Three"]),
        ("<dl><dt>When?</dt><dd hidden>Now.</dd></dl>", ["When?\n    Now."]),
        ("<table><tr><td class=linenos>1<td>code</table>", ["code"]),
    ],
)
def test_what_is_hidden_ends_where_its_element_does_with_or_without_an_end_tag(page: str, seen: list[str]) -> None:
    assert shown(page) == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<h2><button>How do I pay?</button></h2><div>By card.</div>", ["## How do I pay?", "By card."]),
        ("<button><h2>How?</h2></button><div>By card.</div>", ["## How?", "By card."]),
        ("<details><summary><button>How?</button></summary>By card.</details>", ["########### How?", "By card."]),
        ("<dl><dt><button>Cards</button><dd>Visa</dl>", ["Cards\n    Visa"]),
        ("<p>Click <button>Save</button> then close.</p>", ["Click Save then close."]),
        ("<ul><li><button>Save</button> saves it.</ul>", ["- Save saves it."]),
        ("<pre>ls<button>Copy</button></pre><p>One</p>", ["ls", "One"]),
        ("<div><button>Menu</div><p>One</p>", ["One"]),
        ("<button>Menu<p>One</p><p>Two</p>", ["One", "Two"]),
    ],
)
def test_a_button_is_read_in_a_heading_a_term_and_a_sentence_and_not_by_itself(page: str, seen: list[str]) -> None:
    assert shown(page) == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<p>Run <code>npm install x</code><button>Copy</button></p>", ["Run npm install x"]),
        ("<h2>Install<button>Copy\nlink</button></h2>", ["## Install"]),
        ("<table><tr><th>Name<button>Sort</button></th><th>Age<button>Sort</button>", ["Name | Age"]),
        ("<div>Was this helpful?<button>Yes</button> | <button>No</button></div>", ["Was this helpful?"]),
        ("<ul><li>One<button>Edit</button><li>Two<button>Edit</ul>", ["- One\n- Two"]),
        ("<p><button>Open</button>the door<button>now</button>or later.</p>", ["Open the door now or later."]),
        ("<p>Click<button><b>Save</b></button>.</p><p>One<br><button>x</button></p>", ["Click Save.", "One"]),
    ],
)
def test_a_button_that_ends_a_block_is_no_word_of_it_and_others_are_words_by_themselves(
    page: str, seen: list[str]
) -> None:
    assert shown(page) == seen


HALF = "<mfrac><mn>1</mn><mn>2</mn></mfrac>"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("10<sup>6</sup>/ml at m<sup>2</sup>, (a+b)<sup>&minus;2</sup>", "10^6/ml at m^2, (a+b)^−2"),
        ("H<sub>2</sub>O, <sup>14</sup>C, Ca<sup>2+</sup>, the 1<sup>st</sup>", "H2O, 14C, Ca2+, the 1st"),
        ('Low<sup><a href="#fn1">1</a></sup>, so<sup class=reference><a href=#r>[2]</a></sup>', "Low1, so[2]"),
        ("Low<a href='#fn1'><sup>1</sup></a>", "Low1"),
        (f"<math>{HALF}<mo>+</mo><msup><mi>x</mi><mn>2</mn></msup></math>", "1/2+x^2"),
        (
            f"<math>\n<msup>\n {HALF}\n <mrow><mi>n</mi><mspace/><mo>+</mo><mn>1</mn></mrow>\n</msup></math>",
            "(1/2)^(n+1)",
        ),
        ("<math><msup><mi>f</mi><mo>′</mo></msup></math>, <mfrac>a <p>b", "f′, a"),
        ("<ruby>漢<rp>(</rp><rt>kan</rt><rp>)</rp>字<rt>ji</ruby> is <ruby>read<rt>x", "漢字 is read"),
    ],
)
def test_powers_and_fractions_are_written_as_they_are_typed_and_words_without_how_they_sound(
    page: str, seen: str
) -> None:
    assert shown(f"<p>{page}</p>")[0].strip() == seen


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        (
            "<ol><li>One<ul><li>x</ul><li value=4>Four</li><li><p>Five</p><p>more</p></ol>",
            "1. One\n  - x\n4. Four\n5. Five\n  more",
        ),
        ('<ol type="a" start="26"><li>x<li>y</ol>', "z. x\naa. y"),
        ("<ol type=A><li>x</ol>", "A. x"),
        (
            "<ol type=I start=4><li>x<ol style='list-style-type: lower-roman'><li>y<li>z</ol></ol>",
            "IV. x\n  i. y\n  ii. z",
        ),
        ("<ol start=two><li value=99999999999>x<li hidden>y<li>z</ol>", "1. x\n2. z"),
        ("<ol style='list-style: none'><li>(a) x</ol>", "- (a) x"),
        (
            "<ol reversed start=3><li>x<li>y<ol reversed><li>a<li value=4>b<li>c</ol></ol>",
            "3. x\n2. y\n  - a\n  4. b\n  3. c",
        ),
    ],
)
def test_the_items_of_a_numbered_list_have_the_numbers_that_the_page_shows(page: str, seen: str) -> None:
    assert shown(page) == [seen]


# Notes and asides


@pytest.mark.parametrize(
    ("note", "read"),
    [
        ('<div class="note"><h3 class="title">Note</h3><p>Hot.</p></div>', ["Note: Hot."]),
        ('<div class="admonition warning"><h3>Do not touch!</h3><p>Hot.</p></div>', ["Do not touch! Hot."]),
        ("<aside><h2>Tip of the day</h2><ul><li>Gloves</ul></aside>", ["Tip of the day:", "- Gloves"]),
        ('<aside><h3>A</h3><p>b</p></aside><div class="tip"><h3>C d</h3><p>e</p></div>', ["A: b", "C d: e"]),
    ],
)
def test_a_note_heads_itself_alone_and_its_section_goes_on_after_it(note: str, read: list[str]) -> None:
    page = f"<h1>Pump</h1><h2>Priming</h2><p>Open it.</p>{note}<p>Close it.</p><h2>Storage</h2><p>Dry.</p>"
    assert shown(page) == ["# Pump", "## Priming", "Open it.", *read, "Close it.", "## Storage", "Dry."]


def test_lines_of_a_labelled_note_are_those_of_the_file() -> None:
    page = "<h1>Pump</h1>\n<div class=note><h3>Note</h3>\n<p>Hot\nsteam.<br>Beware.</p></div>\n<p>On.</p>"
    [note, _] = [item for item in outline(page) if isinstance(item, Block)]
    assert note.text == "Note: Hot\nsteam.\nBeware."
    assert [note.lines_of(line, line) for line in range(3)] == [(2, 3), (4, 4), (4, 4)]


@pytest.mark.parametrize(
    "page",
    [
        "<h1>My notes</h1>" + "<div class=note><h2>Buy milk</h2><p>Two.</p></div>" * 2 + "<p>Exported today.</p>",
        "<h1>G</h1><p>a</p><div class=tip><h2>B</h2><p>1</p><p>2</p><p>3</p><p>4</p><p>5</p><p>6</p></div><p>c</p>",
        "<h1>G</h1><p>a</p><div class=callout><h2>On Linux</h2></div><p>Use apt.</p>",
        "<h1>G</h1><p>a</p><div class=callout><p>Lead in.</p><p>And more.</p><h2>On Linux</h2><p>b</p></div><p>c</p>",
        "<div class=note><h1>Exported by itself</h1><p>Two.</p></div><p>More.</p>",
        "<h1>Guide</h1><aside><h2>First part</h2><p>a</p><h2>Second part</h2><p>b</p></aside><p>c</p>",
    ],
)
def test_notes_that_are_what_a_page_is_made_of_keep_their_headings(page: str) -> None:
    assert sum(line.startswith("#") for line in shown(page)) == page.count("<h1>") + page.count("<h2>")


def test_a_note_in_an_item_of_a_list_parts_no_section() -> None:
    page = "<h1>Pump</h1><ol><li>Open it.<div class=note><h3>Note</h3><p>Hot.</p></div></li><li>Close it.</li></ol>"
    assert shown(page) == ["# Pump", "1. Open it.", "Note:", "  Hot.\n2. Close it."]


def test_names_of_controls_before_the_title_are_not_read_and_what_says_something_is() -> None:
    control = "<aside><label for=a>Contents</label><input id=a></aside>"
    page = f"<h1>Pump</h1><p>{WORDS}</p>"
    assert shown(control + page) == shown(control + control + page) == shown(page)
    assert shown(page + control)[-1] == "Contents"
    for said in ("Version 4.2 only", "Not for Windows", "Since 3"):
        assert shown(f"<aside>{said}</aside>{page}")[0] == said
    assert shown(f"<p>Hello.</p><aside>Beta</aside><h2>Pump</h2><p>{WORDS}</p>")[1] == "Beta"


def test_a_table_that_places_an_icon_beside_a_note_is_none() -> None:
    inner = "<p>Do this:</p><ul><li>Stop it.</ul><pre>stop\n  now</pre><table><tr><td>a<td>b</table>"
    read = ["Do this:", "- Stop it.", "stop\n  now", "a | b"]
    note = f"<div class='admonitionblock note'><table><tr><td class=icon>Note</td><td>{inner}</td></tr></table></div>"
    assert shown(f"<h1>T</h1>{note}<p>On.</p>") == ["# T", "Note", *read, "On."]
    assert shown("<h1>T</h1><div class=note><table><tr><td>a<td>b</table></div>") == ["# T", "a | b"]


@pytest.mark.parametrize(
    "table",
    [
        "<table class=highlighttable><tr><td class=linenos><pre>1\n2</pre></td><td class=code>{}</td></tr></table>",
        "<table class=rouge-table><tr><td class='gutter'><pre class=lineno>1\n2\n</pre></td><td>{}</td></tr></table>",
        "<table class=lntable><tr><td><pre><span class=lnt>1\n</span></pre></td><td>{}</td></tr></table>",
    ],
)
def test_code_beside_the_numbers_of_its_lines_is_code(table: str) -> None:
    [code] = outline(table.format("<pre>if a:\n    b()\n</pre>"))
    assert isinstance(code, Block) and (code.kind, code.text) == ("code", "if a:\n    b()")


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        ("<h2>Types<span class=mw-editsection>[<a href=e>edit</a>]</span></h2>", "## Types"),
        ("<h2>Types<a href=#t class=hash-link>\u200b</a></h2>", "## Types"),
        ("<ol><li><span class=mw-cite-backlink><a href=#r>^</a></span> Smith 2001.</ol>", "1. Smith 2001."),
        ("<p>Note. <a class=footnote-backref href=#r>\u21a9</a></p>", "Note."),
        ("<p>Donau&shy;dampf\xadschiff</p>", "Donaudampfschiff"),
        (
            "<span class='mwe-math-mathml-inline mwe-math-mathml-a11y' style='display: none'><math><semantics>"
            "<mi>x</mi><annotation>{x}</annotation></semantics></math></span><img aria-hidden=true>",
            "x",
        ),
        ("<button aria-expanded=true>How do I <b>pay?</b></button>", "How do I pay?"),
    ],
)
def test_pages_of_wikis_and_manuals_read_as_people_see_them(page: str, seen: str) -> None:
    assert shown(page) == [seen]


@pytest.mark.parametrize("role", ["presentation", "none"])
def test_the_cells_of_a_table_that_says_it_is_a_layout_are_read_one_after_another(role: str) -> None:
    data = "<table><tr><th>Size<th>Price<tr><td>L<td>5</table>"
    page = f"<table role={role}><tr><th>Menu<td><h1>Hose</h1><p>One.</p>{data}<ul><li>x</ul><p>Two.</table>"
    assert shown(f"{page}<p>Three.</p>{data}") == [
        *("Menu", "# Hose", "One.", "Size | Price\nL | 5", "- x", "Two.", "Three.", "Size | Price\nL | 5"),
    ]


def test_questions_that_look_like_notes_are_questions() -> None:
    page = "<h1>FAQ</h1>" + "<details class='alert info'><summary>How?</summary><p>So.</p></details>" * 2
    assert shown(page) == ["# FAQ", *["########### How?", "So."] * 2]
