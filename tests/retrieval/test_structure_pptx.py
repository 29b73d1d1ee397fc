from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from docx_files import package
from pptx_files import body, pptx, shape, slide, table

from retrieval.documents import SourceFile, read_or_skip
from retrieval.embedders import Embedder
from retrieval.errors import DocumentError
from retrieval.indexing import build_index
from retrieval.search import SearchEngine
from retrieval.structure import Block, Heading, Outlined
from retrieval.structure_pptx import read
from retrieval.workspace import Workspace


def shown(found: Outlined) -> list[str]:
    return [f"# {item.text}" if isinstance(item, Heading) else f"{item.kind}: {item.text}" for item in found.outline]


def test_each_slide_is_a_section_under_its_title_and_a_page() -> None:
    first = slide(shape("Oil and", "filters", placeholder="ctrTitle"), shape("Spring 2026", placeholder="subTitle"))
    second = slide(shape("Use it", "  by hand", "or not", placeholder=""), shape("Filters", placeholder="title"))
    found = read("a.pptx", pptx(first, second))
    assert shown(found) == [
        "# Oil and filters",
        "paragraph: Spring 2026",
        "# Filters",
        "list: Use it\n    by hand\nor not",
    ]
    assert found.title == "Oil and filters" and found.pages == (1, 5)
    lines = found.text.split("\n")
    for item in found.outline:
        assert "\n".join(lines[item.first_line - 1 : item.last_line]) == item.text


def test_slides_come_in_the_order_in_which_they_are_shown_less_those_that_are_not() -> None:
    slides = [slide(shape(name, placeholder="title"), show=show) for name, show in (("A", "1"), ("B", "0"), ("C", "1"))]
    found = read("a.pptx", pptx(*slides, order=[2, 1, 0], title="Deck"))
    assert shown(found) == ["# C", "# A"] and found.title == "Deck"
    assert found.pages == (1, 3, 3) and found.left_out == ("slides that are not shown: 1",)


def test_tables_diagrams_groups_and_the_speakers_notes_are_read() -> None:
    furniture = [shape("7", placeholder="sldNum"), shape("Acme", placeholder="ftr")]
    group = f"<p:grpSp>{shape('in a group')}</p:grpSp>"
    relation = '<p:graphicFrame><d:relIds r:lo="r9" r:dm="r1"/></p:graphicFrame>'
    first = slide(shape("T", placeholder="title"), table(["Code", "Name"], ["E1", "Dry"]), group, relation, *furniture)
    points = "".join(f"<d:pt><d:t>{body(text)}</d:t></d:pt>" for text in ("plan", "do"))
    notes = shape("Say this.", placeholder="body") + shape("3", placeholder="sldNum")
    assert shown(read("a.pptx", pptx(first, notes=notes, diagram=points))) == [
        "# T",
        "table: Code | Name\nE1 | Dry",
        "paragraph: in a group",
        "list: plan\ndo",
        "paragraph: Say this.",
    ]


def test_merged_cells_stand_in_each_of_their_rows() -> None:
    rows = table(["Drug", "Dose", ""], ["Alpha", "adult", "10"], ["", "child", "5"]).replace("<a:tc>", "<a:tc {}>")
    merges = ("", 'gridSpan="2"', 'hMerge="1"', 'rowSpan="2"', "", "", 'vMerge="1"', "", "")
    found = read("a.pptx", pptx(slide(shape("T", placeholder="title"), rows.format(*merges))))
    assert shown(found) == ["# T", "table: Drug | Dose | \nAlpha | adult | 10\nAlpha | child | 5"]


def test_raised_numbers_and_fractions_are_not_read_into_what_stands_before_them() -> None:
    runs = {"10": "0", "6": "30000", " H": "0", "2": "-25000", "O": "0"}
    inner = "".join(f'<a:r><a:rPr baseline="{place}"/><a:t>{text}</a:t></a:r>' for text, place in runs.items())
    half = '<m:f xmlns:m="urn:m"><m:num><m:t>1</m:t></m:num><m:den><m:t>2</m:t></m:den></m:f>'
    first = slide(shape("T", placeholder="title"), shape("x").replace("</a:p>", f"{inner}{half}</a:p>"))
    assert shown(read("a.pptx", pptx(first))) == ["# T", "paragraph: x10^6 H2O 1/2"]


def test_a_part_that_is_listed_many_times_is_read_once() -> None:
    relation = '<p:graphicFrame><d:relIds r:dm="r1"/></p:graphicFrame>'
    first = slide(shape("T", placeholder="title"), relation * 50)
    data = pptx(first, order=[0] * 50, diagram=f"<d:pt><d:t>{body('plan')}</d:t></d:pt>")
    found = read("a.pptx", data)
    assert shown(found) == ["# T", "paragraph: plan"] and found.pages == (1,)


def test_the_first_row_of_a_table_names_its_columns_where_the_table_says_so() -> None:
    plain = table(["Code", "Name"], ["E1", "Dry"])
    headed = plain.replace("<a:tbl>", '<a:tbl><a:tblPr firstRow="1"/>')
    empty = '<p:graphicFrame><a:tbl><a:tblPr firstRow="1"/></a:tbl></p:graphicFrame>'
    found = read("a.pptx", pptx(slide(shape("T", placeholder="title"), plain, headed, empty)))
    assert [item.head for item in found.outline if isinstance(item, Block)] == [0, 1]


def test_a_slide_without_a_title_is_called_by_its_first_words_or_its_number() -> None:
    long = "x" * 101
    found = read("a.pptx", pptx(slide(shape("Kit 44", "Order it.")), slide(shape(long)), slide(), slide(table(["a"]))))
    assert shown(found) == [
        "# Kit 44",
        "paragraph: Order it.",
        "# Slide 2",
        f"paragraph: {long}",
        "# Slide 4",
        "table: a",
    ]
    assert found.title == "Kit 44"


def test_a_hit_names_the_slide_that_is_shown(tmp_path: Path, static_model: Path, embedder: Embedder) -> None:
    oil, rust = (slide(shape(name, placeholder="title"), shape(f"about {name}")) for name in ("Oil", "Rust"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "deck.pptx").write_bytes(pptx(oil, slide(shape("Old", placeholder="title"), show="0"), rust))
    Workspace.create(tmp_path, {"docs": "docs"}, str(static_model))
    workspace = Workspace.open(tmp_path)
    build_index(workspace, embedder=embedder)
    with closing(SearchEngine(workspace)) as engine:
        hit = engine.search("rust").hits[0]
    assert (hit.path, hit.first_page, hit.last_page, hit.heading[-1]) == ("deck.pptx", 3, 3, "Rust")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"text", "not a PowerPoint presentation"),
        (b"\xd0\xcf\x11\xe0", "save it as .pptx without a password"),
        (pptx(), "has no text"),
        (pptx("<p:sld"), "slides/slide0.xml is damaged"),
        (pptx(slide(shape("A"), show="0")), "none of its slides is shown"),
        (package({"ppt/presentation.xml": "<!DOCTYPE a><a/>"}), "declares a document type"),
        (package({"word/document.xml": "<a/>"}), "has no text"),
    ],
)
def test_what_is_no_presentation_is_left_out_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.pptx"
    path.write_bytes(data)
    found, [skipped] = read_or_skip(SourceFile(path, "a.pptx", len(data), 0))
    assert not found and reason in skipped.reason
    with pytest.raises(DocumentError, match=r"^a\.pptx: "):
        read("a.pptx", data)
