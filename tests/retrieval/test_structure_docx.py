from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from docx_files import docx, package, paragraph, parts, relations

from retrieval.documents import SourceFile, read_or_skip
from retrieval.errors import DocumentError
from retrieval.office_package import WORD, Package
from retrieval.office_text import MergedCells
from retrieval.structure import QUESTION_LEVEL, Block, Heading, Outlined
from retrieval.structure_docx import read

STYLES = """
<w:style w:type="paragraph" w:styleId="Titel"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Kapitel"><w:name w:val="Kapitel"/><w:basedOn w:val="berschrift1"/></w:style>
<w:style w:type="paragraph" w:styleId="Eigen"><w:name w:val="Eigen"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Verzeichnis1"><w:name w:val="toc 1"/></w:style>
<w:style w:type="paragraph" w:styleId="Quelle"><w:name w:val="Source Code"/></w:style>
<w:style w:type="paragraph" w:styleId="Kreis"><w:name w:val="Kreis"/><w:basedOn w:val="Kreis"/></w:style>
<w:style w:type="character" w:styleId="Zeichen"><w:name w:val="heading 1"/></w:style>
"""
NUMBERING = """
<w:abstractNum w:abstractNumId="7">
<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>
<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1.%2"/></w:lvl>
<w:lvl w:ilvl="2"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="(%3)"/></w:lvl>
</w:abstractNum>
<w:abstractNum w:abstractNumId="8"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="&#xF0B7;"/></w:lvl>
</w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>
<w:num w:numId="2"><w:abstractNumId w:val="8"/></w:num>
<w:num w:numId="3"><w:abstractNumId w:val="7"/>
<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride></w:num>
"""


def numbered(text: str, number: int, level: int, style: str = "") -> str:
    return paragraph(text, style, f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')


def headings(found: Outlined) -> list[tuple[int, str]]:
    return [(item.level, item.text) for item in found.outline if isinstance(item, Heading)]


def blocks(found: Outlined) -> list[tuple[str, str]]:
    return [(item.kind, item.text) for item in found.outline if isinstance(item, Block)]


def failure(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        read("a.docx", data)
    return str(caught.value)


def test_headings_go_by_outline_level_whatever_their_style_is_called() -> None:
    body = [
        paragraph("Hafenordnung", "Titel"),
        paragraph("Inhalt 1", "Verzeichnis1"),
        paragraph("Anlegen", "berschrift1"),
        paragraph("Leinen", "Eigen"),
        paragraph("Lotsen", "Kapitel"),
        paragraph("Gebühren", properties='<w:outlineLvl w:val="2"/>'),
        paragraph("Text.", "Kreis"),
        paragraph("Mehr.", "Unbekannt"),
    ]
    found = read("a.docx", docx("".join(body), styles=STYLES))
    assert headings(found) == [(1, "Hafenordnung"), (2, "Anlegen"), (3, "Leinen"), (2, "Lotsen"), (4, "Gebühren")]
    assert blocks(found) == [("paragraph", "Text."), ("paragraph", "Mehr.")]
    assert found.title == "Hafenordnung"


def test_the_text_has_a_line_for_each_paragraph_item_and_row() -> None:
    table = "<w:tbl>{}</w:tbl>".format(
        "".join(
            f"<w:tr>{''.join(f'<w:tc>{paragraph(cell)}</w:tc>' for cell in row)}</w:tr>"
            for row in (("Berth", "Length", "Fee"), ("A1", "", "20"), ("", "", ""))
        )
    )
    body = paragraph("One.") + numbered("first", 2, 0) + numbered("second", 2, 0) + table + paragraph("Two.")
    found = read("a.docx", docx(body, numbering=NUMBERING))
    assert found.text == "One.\n\n- first\n- second\n\nBerth | Length | Fee\nA1 |  | 20\n\nTwo."
    lines = found.text.split("\n")
    for item in found.outline:
        assert isinstance(item, Block) and item.text == "\n".join(lines[item.first_line - 1 : item.last_line])


def row(*cells: str) -> str:
    """A table's row; of a cell, what stands before ":" are its properties."""
    parts = (cell.rpartition(":") for cell in cells)
    return (
        f"<w:tr>{''.join(f'<w:tc><w:tcPr>{head}</w:tcPr>{paragraph(text)}</w:tc>' for head, _, text in parts)}</w:tr>"
    )


def test_merged_cells_stand_in_each_of_their_rows_and_leave_columns_empty() -> None:
    body = [
        row("Drug", "<w:gridSpan w:val='2'/>:Dose", "Note"),
        row("<w:vMerge w:val='restart'/>:Alpha", "adult", "10", "daily"),
        row("<w:vMerge/>:", "child", "5", "weekly"),
        row("<w:vMerge w:val='continue'/>:", "", "", ""),
        row("Beta", "<w:gridSpan w:val='2'/>:none", "stop"),
        "<w:tr><w:trPr><w:gridBefore w:val='3'/></w:trPr>" + row("see 4").removeprefix("<w:tr>"),
    ]
    assert read("a.docx", docx(f"<w:tbl>{''.join(body)}</w:tbl>")).text.split("\n") == [
        "Drug | Dose |  | Note",
        "Alpha | adult | 10 | daily",
        "Alpha | child | 5 | weekly",
        "Beta | none |  | stop",
        " |  |  | see 4",
    ]


def bold(*cells: str) -> str:
    """A table's row in bold."""
    return row(*cells).replace("<w:r>", "<w:r><w:rPr><w:b/></w:rPr>")


@pytest.mark.parametrize(
    ("rows", "head"),
    [
        ([row("Dose", "Note").replace("<w:tr>", "<w:tr><w:trPr><w:tblHeader/></w:trPr>"), row("1", "a")], 1),
        ([row("Dose", "").replace("<w:tr>", "<w:tr><w:trPr><w:tblHeader w:val='0'/></w:trPr>"), row("1", "a")], 0),
        ([bold("Dose", "Note"), row("1", "a")], 1),
        ([bold("Dose", "Note"), bold("1", "a")], 0),
        ([row("Dose", "Note"), row("1", "a")], 0),
        ([bold("Dose", "Note")], 0),
    ],
)
def test_the_head_of_a_table_is_what_is_repeated_on_each_page_or_alone_in_bold(rows: list[str], head: int) -> None:
    found = read("a.docx", docx(paragraph("Before.") + f"<w:tbl>{''.join(rows)}</w:tbl>" + paragraph("After.")))
    assert [item.head for item in found.outline if isinstance(item, Block)] == [0, head, 0]


def test_a_merged_cell_that_says_something_of_its_own_is_read() -> None:
    body = row("<w:vMerge/>:Alpha", "1") + row("<w:vMerge/>:", "2")
    assert read("a.docx", docx(f"<w:tbl>{body}</w:tbl>")).text == "Alpha | 1\nAlpha | 2"


def test_merged_cells_repeat_no_more_than_there_is_room_for() -> None:
    rows: list[list[str | None]] = [["Alpha", "1"], [None, "2"], [None, "3"], [None, "4"], [None, ""]]
    assert list(MergedCells(room=12).lines(rows)) == ["Alpha | 1", "Alpha | 2", "Alpha | 3", " | 4"]


def test_items_of_lists_are_counted_in_the_cells_of_tables_too() -> None:
    body = "<w:tbl>{}</w:tbl>".format(
        "".join(
            f"<w:tr><w:tc>{first}</w:tc><w:tc>{second}</w:tc></w:tr>"
            for first, second in (
                (numbered("", 1, 0), paragraph("Moor")),
                (numbered("then", 1, 0), numbered("fast", 2, 0) + numbered("aft", 2, 0)),
            )
        )
    )
    found = read("a.docx", docx(body + numbered("Leave", 1, 0), numbering=NUMBERING))
    assert found.text == "1. | Moor\n2. then | - fast - aft\n\n3. Leave"


def test_an_item_without_text_is_counted_unless_it_is_deleted() -> None:
    deleted = numbered("", 1, 0).replace("</w:pPr>", "<w:rPr><w:del/></w:rPr></w:pPr>")
    body = numbered("Moor", 1, 0) + numbered("", 1, 0) + deleted + numbered("Leave", 1, 0)
    assert read("a.docx", docx(body, numbering=NUMBERING)).text == "1. Moor\n3. Leave"


def test_clauses_and_lists_carry_the_numbers_that_word_shows() -> None:
    body = [
        numbered("Mooring", 1, 0, "berschrift1"),
        numbered("Lines", 1, 1, "Eigen"),
        numbered("of hemp", 1, 2),
        numbered("of steel", 1, 2),
        numbered("Fenders", 1, 1, "Eigen"),
        numbered("Pilots", 3, 0, "berschrift1"),
        numbered("unnumbered", 0, 0),
    ]
    found = read("a.docx", docx("".join(body), styles=STYLES, numbering=NUMBERING))
    assert [text for _, text in headings(found)] == ["1. Mooring", "1.1 Lines", "1.2 Fenders", "5. Pilots"]
    assert blocks(found) == [("list", "    (a) of hemp\n    (b) of steel"), ("paragraph", "unnumbered")]


def test_a_document_without_heading_styles_has_bold_paragraphs_for_headings() -> None:
    body = paragraph("Mooring", run="<w:b/>") + paragraph("Tie up.") + paragraph("All in bold.", run="<w:b/>")
    assert headings(read("a.docx", docx(body))) == [(2, "Mooring")]
    assert headings(read("a.docx", docx(body.replace("<w:b/>", '<w:b w:val="0"/>')))) == []
    styled = docx(body + paragraph("Fees", "berschrift1"), styles=STYLES)
    assert headings(read("a.docx", styled)) == [(2, "Fees")]


def test_questions_in_bold_are_headings_whatever_styles_there_are() -> None:
    head = paragraph("Questions", "berschrift1")
    asked = [paragraph(text, run="<w:b/>") for text in ("Is it loud?", "Can it run dry?")]
    answer = paragraph("No. Is it?")
    found = headings(read("a.docx", docx(head + asked[0] + answer + asked[1] + answer, styles=STYLES)))
    assert found == [(2, "Questions"), (QUESTION_LEVEL, "Is it loud?"), (QUESTION_LEVEL, "Can it run dry?")]
    # Of a survey, or for effect.
    for body in (asked[0] + asked[1] + answer, asked[0] + answer):
        assert headings(read("a.docx", docx(head + body, styles=STYLES))) == [(2, "Questions")]


def test_a_long_paragraph_in_a_headings_style_is_text() -> None:
    found = read("a.docx", docx(paragraph("Whereas " * 40, "berschrift1"), styles=STYLES))
    assert headings(found) == [] and len(blocks(found)) == 1


def test_code_keeps_its_lines_together_and_breaks_are_line_ends() -> None:
    body = (
        paragraph("moor", "Quelle")
        + paragraph("cast", "Quelle")
        + "<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t></w:r></w:p>"
    )
    found = read("a.docx", docx(body, styles=STYLES))
    assert blocks(found) == [("code", "moor\ncast"), ("paragraph", "a\nb")]


def test_footnotes_follow_the_paragraph_that_refers_to_them() -> None:
    reference = '<w:p><w:r><w:t>Pay now.</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    notes = (
        f'<w:footnote w:id="1">{paragraph("no")}</w:footnote><w:footnote w:id="2">{paragraph("In coin.")}</w:footnote>'
    )
    found = read("a.docx", docx(reference + paragraph("Go."), footnotes=notes))
    assert [text for _, text in blocks(found)] == ["Pay now. [1]", "[1] In coin.", "Go."]


def test_what_nobody_reads_is_left_out() -> None:
    body = [
        "<w:p><w:r><w:drawing><w:txbxContent>" + paragraph("box") + "</w:txbxContent></w:drawing></w:r></w:p>",
        "<w:p><w:del><w:r><w:t>deleted</w:t></w:r></w:del><w:ins><w:r><w:t>kept</w:t></w:r></w:ins></w:p>",
        "<w:p><w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>",
        "<w:p><w:pPr><w:pPrChange><w:pPr><w:outlineLvl w:val='0'/></w:pPr></w:pPrChange></w:pPr>"
        "<w:r><w:t>plain</w:t></w:r></w:p>",
    ]
    assert blocks(read("a.docx", docx("".join(body)))) == [("paragraph", "kept"), ("paragraph", "plain")]


RAISED = '<w:vertAlign w:val="superscript"/>'


def runs(*texts: str) -> str:
    """A paragraph of runs; what begins with ^ is raised, what begins with _ lowered."""
    properties = {"^": RAISED, "_": RAISED.replace("super", "sub")}
    inner = (f"<w:r><w:rPr>{properties.get(text[0], '')}</w:rPr><w:t>{text.lstrip('^_')}</w:t></w:r>" for text in texts)
    return f"<w:p>{''.join(inner)}</w:p>"


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (["10", "^6", " cells"], "10^6 cells"),
        (["10", "^1", "^2"], "10^12"),
        (["5 m s", "^-", "^1", " and (a)", "^2"], "5 m s^-1 and (a)^2"),
        (["H", "_2", "O on the 2", "^nd", " day.", "^3"], "H2O on the 2nd day.3"),
    ],
)
def test_raised_numbers_are_not_read_into_what_stands_before_them(texts: list[str], shown: str) -> None:
    assert read("a.docx", docx(runs(*texts))).text == shown


def math(inner: str) -> str:
    return f'<m:oMath xmlns:m="urn:m">{inner}</m:oMath>'


def test_fractions_and_powers_of_equations_are_written_out() -> None:
    def fraction(above: str, below: str) -> str:
        return f"<m:f><m:num><m:r><m:t>{above}</m:t></m:r></m:num><m:den><m:r><m:t>{below}</m:t></m:r></m:den></m:f>"

    power = "<m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>n</m:t></m:r></m:sup></m:sSup>"
    texts = {
        "Take 1/2 tablet": runs("Take ", "{}", " tablet").format(math(fraction("1", "2"))),
        "Take 1 1/2": runs("Take 1", "{}").format(math(fraction("1", "2"))),
        "(a+b)/2": runs("{}").format(math(fraction("a+b", "2"))),
        "x^n/2": runs("{}").format(math(power + "<m:r><m:t>/2</m:t></m:r>")),
        "x^(x^n)": runs("{}").format(math(f"<m:r><m:t>x</m:t></m:r><m:sup>{power}</m:sup>")),
    }
    for shown, body in texts.items():
        outside = body.replace("<w:t><m:oMath", "<w:t/></w:r><m:oMath").replace("</m:oMath></w:t></w:r>", "</m:oMath>")
        assert read("a.docx", docx(outside)).text == shown


def test_how_a_word_is_read_aloud_is_no_part_of_it() -> None:
    ruby = (
        "<w:ruby><w:rt><w:r><w:t>かんじ</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢字</w:t></w:r></w:rubyBase></w:ruby>"
    )
    assert read("a.docx", docx(f"<w:p><w:r>{ruby}</w:r></w:p>")).text == "漢字"


def test_the_title_is_the_one_in_the_properties_if_a_person_gave_it() -> None:
    assert read("a.docx", docx(paragraph("Text."), title="Port &amp; Harbour")).title == "Port & Harbour"
    assert read("a.docx", docx(paragraph("Text."), title="rules_v3.docx")).title == ""


def test_parts_are_found_by_their_relations() -> None:
    contents = parts(paragraph("Moored."))
    contents["_rels/.rels"] = relations(officeDocument="/word/document2.xml")
    contents["word/document2.xml"] = contents.pop("word/document.xml")
    assert read("a.docx", package(contents)).text == "Moored."


# Hostile packages


def test_a_part_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = package({**parts(""), "word/media/x": b"\0" * 30_000_000})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    assert "would unpack to 30 MB" in failure(bomb)


def test_a_part_that_says_to_be_small_is_not_unpacked_further() -> None:
    contents = parts("")
    contents["word/document.xml"] = parts(paragraph("a" * 5_000_000))["word/document.xml"]
    size = len(contents["word/document.xml"])
    lie = package(contents).replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert "word/document.xml is damaged" in failure(lie)


def test_document_types_and_so_entities_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    contents = parts(paragraph("&x;"))
    for entity in (f'<!ENTITY x SYSTEM "{secret.as_uri()}">', '<!ENTITY x "canary">'):
        main = parts(paragraph("&x;"))["word/document.xml"]
        contents["word/document.xml"] = main.replace("?>", f"?><!DOCTYPE w [{entity}]>", 1)
        assert "declares a document type" in failure(package(contents))


def test_relations_to_outside_of_the_package_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret.xml").write_text(parts(paragraph("canary"))["word/document.xml"])
    contents = parts(paragraph("Moored."))
    contents["_rels/.rels"] = relations(officeDocument=(tmp_path / "secret.xml").as_uri())
    assert failure(package(contents)) == "a.docx: has no text"
    contents["_rels/.rels"] = relations(officeDocument="../../../../../../word/document.xml")
    assert read("a.docx", package(contents)).text == "Moored."


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\3\4 cut", "not a Word document"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "is encrypted, or in the format of Word 97"),
        (docx("")[:-30], "not a Word document"),
        (docx("<w:p>"), "word/document.xml is damaged"),
        (docx(""), "has no text"),
        (package({"a.txt": "b"}), "has no text"),
    ],
)
def test_what_is_no_document_is_left_out_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.docx"
    path.write_bytes(data)
    found, (skipped,) = read_or_skip(SourceFile(path, "a.docx", len(data), 0))
    assert found == [] and reason in skipped.reason


def test_too_many_parts_or_tags_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.office_package.DIRECTORY_BYTES", 400)
    assert failure(docx(paragraph("a"))) == "a.docx: has too many parts"
    monkeypatch.undo()
    monkeypatch.setattr("retrieval.office_package.TAGS", 1000)
    assert "more than 1,000 tags" in failure(docx(paragraph("a") * 1000))


def test_deep_nesting_is_read_without_recursion() -> None:
    deep = "<w:tbl><w:tr><w:tc>" * 20_000 + paragraph("Moored.") + "</w:tc></w:tr></w:tbl>" * 20_000
    assert read("a.docx", docx(deep)).text == "Moored."


def test_a_missing_part_has_no_events() -> None:
    assert list(Package("a", docx(""), WORD).events("word/none.xml")) == []
