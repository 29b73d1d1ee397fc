"""Excel workbooks made to order."""

from __future__ import annotations

from docx_files import OFFICE, package, relations

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"


def workbook(
    sheet: str, *, strings: str = "", cell_formats: str = "", book: str = "", merged: str = "", times: int = 1
) -> bytes:
    """A workbook of one sheet by its XML, as other programs than openpyxl may write it, listed so many ``times``."""
    names = ("One", *(f"S{number}" for number in range(1, times)))
    listed = "".join(f'<sheet name="{name}" sheetId="1" r:id="r0"/>' for name in names)
    return package(
        {
            "_rels/.rels": relations(officeDocument="xl/workbook.xml"),
            "xl/_rels/workbook.xml.rels": (
                relations(worksheet="worksheets/sheet1.xml", sharedStrings="sharedStrings.xml", styles="styles.xml")
            ),
            "xl/workbook.xml": (
                f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">{book}<sheets>{listed}</sheets></workbook>'
            ),
            "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{strings}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{MAIN}">{cell_formats}</styleSheet>',
            "xl/worksheets/sheet1.xml": (
                f'<worksheet xmlns="{MAIN}"><sheetData>{sheet}</sheetData><mergeCells>{merged}</mergeCells></worksheet>'
            ),
        }
    )
