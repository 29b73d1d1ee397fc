from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pytest
from docx_files import PACKAGE_RELATIONS, package
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet
from xlsx_files import workbook

from retrieval.columns import Columns
from retrieval.documents import Document, SourceFile, read
from retrieval.errors import DocumentError
from retrieval.sheets import read_sheets
from retrieval.structure import sections

FEES = (("Code", "Description"), ("A-100", "Fitting of a collar"), ("A-200", "Removal of a collar"))


def saved(*fill: Callable[[Worksheet], object], hidden: int = -1) -> bytes:
    """A workbook with a sheet for each of ``fill``."""
    book = Workbook()
    first = book.active
    assert isinstance(first, Worksheet)
    sheets = [first, *(book.create_sheet(f"Sheet{number}") for number in range(2, len(fill) + 1))]
    for number, (sheet, write) in enumerate(zip(sheets, fill, strict=True)):
        write(sheet)
        if number == hidden:
            sheet.sheet_state = "hidden"
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def rows_of(*rows: tuple[object, ...]) -> Callable[[Worksheet], object]:
    def write(sheet: Worksheet) -> None:
        for row in rows:
            sheet.append(row)

    return write


def cells(data: bytes) -> list[list[str]]:
    [sheet] = read_sheets("a.xlsx", data)
    return [cells for _, cells in sheet.rows]


NONE = Columns()


def documents(
    tmp_path: Path, data: bytes, name: str = "fees.xlsx", columns: Columns = NONE
) -> tuple[list[Document], list[str]]:
    path = tmp_path / name
    path.write_bytes(data)
    found, skipped = read(SourceFile(path, name, len(data), 0, columns))
    return found, [item.reason for item in skipped]


def test_each_row_below_the_header_is_a_document_that_names_its_row(tmp_path: Path) -> None:
    found, left_out = documents(tmp_path, saved(rows_of(*FEES)))
    assert [(item.id, item.title, item.text, item.first_line, item.last_line) for item in found] == [
        ("fees.xlsx#Sheet!2", "A-100", "Fitting of a collar", 2, 2),
        ("fees.xlsx#Sheet!3", "A-200", "Removal of a collar", 3, 3),
    ]
    assert not left_out


def test_a_row_is_a_section_under_its_title(tmp_path: Path) -> None:
    found, _ = documents(tmp_path, saved(rows_of(("Name", "Description"), ("Collar", "Holds the hose in its place."))))
    [section] = sections(found[0])
    assert section.heading == ("Collar",)
    assert (section.first_line, section.last_line) == (2, 2)


def test_what_stands_above_the_header_is_not_taken_for_it(tmp_path: Path) -> None:
    def write(sheet: Worksheet) -> None:
        sheet["A1"] = "Fees of the year 2026"
        sheet.merge_cells("A1:D1")
        sheet["A2"] = "valid from May"
        for number, row in enumerate(FEES, 5):
            for letter, value in zip("BC", row, strict=True):
                sheet[f"{letter}{number}"] = value

    found, left_out = documents(tmp_path, saved(write))
    assert [(item.first_line, item.title) for item in found] == [(6, "A-100"), (7, "A-200")]
    assert left_out == ["sheet 'Sheet': row 1: rows above the header of its table: 2"]


def test_sheets_are_told_apart_and_a_hidden_one_is_left_out_with_a_reason(tmp_path: Path) -> None:
    data = saved(rows_of(*FEES), rows_of(*FEES), rows_of(), rows_of(*FEES), rows_of((1, 2), (3, 4)), hidden=3)
    found, left_out = documents(tmp_path, data)
    assert [item.id for item in found] == [
        *("fees.xlsx#Sheet!2", "fees.xlsx#Sheet!3"),
        *("fees.xlsx#Sheet2!2", "fees.xlsx#Sheet2!3"),
    ]
    assert [reason.partition(":")[0] for reason in left_out] == ["sheet 'Sheet4' is hidden", "sheet 'Sheet5'"]


def test_one_id_in_two_sheets_loses_no_row(tmp_path: Path) -> None:
    table = rows_of(("id", "text"), ("1", "Fitting of a collar"))
    found, left_out = documents(tmp_path, saved(table, table))
    assert [item.id for item in found] == ["1", "fees.xlsx#Sheet2!2"]
    assert not left_out


def test_numbers_read_as_excel_shows_them() -> None:
    def write(sheet: Worksheet) -> None:
        sheet.append(["what", "value"])
        for number, (value, shape) in enumerate(shown, 2):
            sheet[f"A{number}"] = "x"
            cell = sheet[f"B{number}"]
            cell.value = value
            if shape:
                cell.number_format = shape

    shown: list[tuple[object, str]] = [
        (7, ""),
        (19.9, ""),
        (0.1 + 0.2, ""),
        (12345678901234, ""),
        (-3, ""),
        (99, "00000"),
        (0.125, "0.0%"),
        (1 / 3, "0 %"),
        (12, '"PR-"0000'),
        (10121, r"0000\.00"),
        (timedelta(hours=30, minutes=5), "[h]:mm"),
        (-0.5, "h:mm"),
        (0.5, "[mm]:ss"),
        (5, '0 "days"'),
        (5, "#,##0.00 [$€-407]"),
        (date(2026, 5, 1), ""),
        (datetime(2026, 5, 1, 14, 30), ""),
        (datetime(2026, 5, 1, 14, 30, 59), ""),
        (time(14, 30), ""),
        (date(2026, 5, 1), '[$-407]d. mmmm yyyy"h"'),
        (True, ""),
        ("0012", ""),
    ]
    assert [value for _, value in cells(saved(write))[1:]] == [
        *("7", "19.9", "0.3", "12345678901234", "-3", "00099", "12.5%", "33%", "PR-0012", "10121"),
        *("30:05", "-12:00", "12:00", "5", "5"),
        *("2026-05-01", "2026-05-01 14:30", "2026-05-01 14:30:59", "14:30", "2026-05-01", "TRUE", "0012"),
    ]


def test_a_cell_merged_over_rows_is_each_rows() -> None:
    def write(sheet: Worksheet) -> None:
        rows_of(("Kind", "Part"), ("Hoses", "Collar"), (None, "Clip"), (None, "Ring"), ("Tools", "Saw"))(sheet)
        sheet.merge_cells("A2:A4")

    assert [kind for kind, _ in cells(saved(write))] == ["Kind", "Hoses", "Hoses", "Hoses", "Tools"]


def test_a_formula_has_the_value_that_was_saved_and_an_error_is_empty() -> None:
    sheet = (
        '<row r="1"><c r="A1" t="inlineStr"><is><t>what</t></is></c><c r="B1" t="str"><v>sum</v></c></row>'
        '<row r="2"><c r="A2" t="str"><f>"a"&amp;"b"</f><v>ab</v></c><c r="B2"><f>1+1</f><v>2</v></c></row>'
        '<row r="3"><c r="A3" t="str"><v>cd</v></c><c r="B3" t="e"><f>1/0</f><v>#DIV/0!</v></c></row>'
    )
    assert cells(workbook(sheet)) == [["what", "sum"], ["ab", "2"], ["cd", ""]]


def test_cells_without_references_count_on() -> None:
    sheet = '<row><c t="s"><v>0</v></c><c t="s"><v>1</v></c></row><row><c><v>1</v></c><c><v>2</v></c></row>'
    strings = "<si><t>a</t></si><si><r><t>b</t></r><r><t xml:space='preserve'> c_x000D_</t></r><rPh><t>x</t></rPh></si>"
    assert cells(workbook(sheet, strings=strings)) == [["a", "b c\r"], ["1", "2"]]


def test_days_count_from_1904_where_a_workbook_says_so() -> None:
    sheet = '<row><c t="str"><v>day</v></c></row><row><c s="1"><v>1</v></c></row>'
    xf = '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs>'
    assert cells(workbook(sheet, cell_formats=xf, book='<workbookPr date1904="1"/>')) == [["day"], ["1904-01-02"]]
    assert cells(workbook(sheet, cell_formats=xf)) == [["day"], ["1899-12-31"]]


@pytest.mark.parametrize(
    "cell",
    [
        '<c t="s"><v>9</v></c>',
        '<c t="s"><v>x</v></c>',
        '<c s="99"><v>1</v></c>',
        '<c s="-1"><v>nan</v></c>',
        '<c r="ZZZZ1"><v>1</v></c>',
        '<c r="A0"><v>1e999</v></c>',
        '<c s="0"><v>9e300</v></c>',
        "<c/>",
    ],
)
def test_a_cell_that_is_wrong_harms_no_other(cell: str) -> None:
    strings = '<c t="str"><v>%s</v></c>'
    sheet = f"<row>{strings % 'a'}{strings % 'a'}</row><row>{strings % 'b'}{cell}</row><row>{strings % 'c'}</row>"
    found = cells(workbook(sheet, cell_formats='<cellXfs><xf numFmtId="14"/></cellXfs>'))
    assert [row[0] for row in found] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("sheet", "merged"),
    [
        ("".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 1000)), ""),
        ("<row>" + '<c t="s"><v>0</v></c>' * 1000 + "</row>", ""),
        ("<row><c t='s'><v>0</v></c></row>" + "<row><c><v>1</v></c></row>" * 1000, '<mergeCell ref="A1:A1048576"/>'),
    ],
    ids=["wide", "one long string", "merged"],
)
def test_a_sheet_that_would_take_too_much_memory_is_left_out(sheet: str, merged: str) -> None:
    data = workbook(sheet, strings=f"<si><t>{'a' * 100_000}</t></si>", merged=merged)
    [found] = read_sheets("a.xlsx", data)
    assert not found.rows and found.left_out == ("is too large; save the part of it that is wanted as .csv",)


def test_a_part_that_is_listed_as_many_sheets_is_read_once(tmp_path: Path) -> None:
    data = workbook("<row><c t='str'><v>text</v></c></row><row><c t='str'><v>Dry</v></c></row>", times=3)
    found, left_out = documents(tmp_path, data)
    assert [item.text for item in found] == ["Dry"]
    assert left_out == [f"sheet 'S{number}' has no part of its own in the file" for number in (1, 2)]


def test_formulas_without_a_saved_value_are_counted(tmp_path: Path) -> None:
    data = saved(rows_of(("Name", "Description", "Sum"), ("Collar", "Holds the hose.", "=1+1")))
    found, left_out = documents(tmp_path, data)
    assert [item.title for item in found] == ["Collar"]
    assert left_out == ["sheet 'Sheet' has formulas without a saved value: 1; open the workbook in Excel and save it"]


@pytest.mark.parametrize(
    "rows",
    [
        ((None, "text"), (0, "Dry."), (1, "Wet.")),
        (("Description",), ("Dry.", "ok"), ("Wet.",), ("Cold.", "ok"), ("Warm.", "ok")),
        (("Name", "Text"), ("a", "Dry."), ("b", "Wet.", *"rstuvwx"), ("c", "Cold.")),
    ],
    ids=["a data frame's", "remarks beside", "one wide row"],
)
def test_no_row_is_lost_above_a_header_of_known_names(tmp_path: Path, rows: tuple[tuple[object, ...], ...]) -> None:
    found, left_out = documents(tmp_path, saved(rows_of(*rows)))
    assert len(found) == len(rows) - 1 and not left_out
    assert not any(item.id.isdecimal() for item in found)


def test_the_first_of_columns_of_one_name_that_says_something_counts(tmp_path: Path) -> None:
    table = (
        ("Name", "Text", "Note", "Note", None),
        ("a", "Dry.", "one", "two", "three"),
        ("b", "Wet.", None, "four", None),
    )
    columns = Columns(text=("Text", "Note", "column_5"))
    found, _ = documents(tmp_path, saved(rows_of(*table)), columns=columns)
    assert [item.text for item in found] == ["Dry.\n\none\n\nthree", "Wet.\n\nfour"]


def test_an_id_merged_over_rows_loses_none(tmp_path: Path) -> None:
    def write(sheet: Worksheet) -> None:
        rows_of(("id", "text"), ("7", "Dry."), (None, "Wet."))(sheet)
        sheet.merge_cells("A2:A3")

    found, left_out = documents(tmp_path, saved(write))
    assert [item.id for item in found] == ["7", "fees.xlsx#Sheet!3"] and not left_out


def test_other_files_are_refused_in_words() -> None:
    for data, words in (
        (b"Code,Description", "not an Excel workbook"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), r"in the format of Excel 97; save it as \.xlsx without a password"),
        (package({"a": "b"}), "lists no sheets"),
        (package({"_rels/.rels": f'<Relationships xmlns="{PACKAGE_RELATIONS}"/>'}), "lists no sheets"),
    ):
        with pytest.raises(DocumentError, match=rf"^a\.xlsx: .*{words}"):
            read_sheets("a.xlsx", data)
