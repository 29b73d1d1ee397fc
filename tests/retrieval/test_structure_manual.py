from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.documents import SourceFile, read
from retrieval.structure import Block, Heading, sections
from retrieval.structure_manual import is_manual_page, outline, title

PAGE = """\
WIDGETCTL(8)                         Widget Administration                        WIDGETCTL(8)

NAME
       widgetctl, wctl - control the widgets of a ma‐
       chine

SYNOPSIS
       widgetctl [-a] NAME

DESCRIPTION
       Starts and stops widgets.

   Units of time
       Seconds, unless a letter says otherwise.

       -a, --all
           All of them.

   not a heading, as nothing hangs from it

Copyright
       Nobody's.

widgets 4.2                               2024-05-11                              WIDGETCTL(8)
"""


def test_a_manual_page_is_called_by_its_name_and_section_and_what_it_is_about() -> None:
    assert title(PAGE) == "widgetctl(8) - control the widgets of a machine"


def test_without_a_line_of_what_it_is_about_its_name_is_the_title() -> None:
    assert title("GEAR(5)  File Formats  GEAR(5)\n\nNAME\n       gear\n\nDESCRIPTION\n       A file.\n") == "gear(5)"
    assert title("GEAR(5)  File Formats  GEAR(5)\n\nBESCHREIBUNG\n       Eine Datei.\n") == "GEAR(5)"


def test_sections_begin_at_the_margin_and_subsections_three_columns_in() -> None:
    found = [(item.level, item.text, item.first_line) for item in outline(PAGE) if isinstance(item, Heading)]
    assert found == [
        (2, "NAME", 3),
        (2, "SYNOPSIS", 7),
        (2, "DESCRIPTION", 10),
        (3, "Units of time", 13),
        (2, "Copyright", 21),
    ]


def test_the_lines_at_the_head_and_foot_of_pages_are_left_out_and_all_others_keep_their_place() -> None:
    lines = PAGE.split("\n")
    blocks = [item for item in outline(PAGE) if isinstance(item, Block)]
    assert all("\n".join(lines[item.first_line - 1 : item.last_line]) == item.text for item in blocks)
    assert not any("WIDGETCTL(8)" in item.text for item in blocks)
    covered = {number for item in outline(PAGE) for number in range(item.first_line, item.last_line + 1)}
    assert covered == {number for number, line in enumerate(lines, 1) if line.strip() and "WIDGETCTL(8)" not in line}


@pytest.mark.parametrize(
    "head",
    [
        "SYSTEMD-CRYPTSETUP-GENERATOR(8)systemd-cryptsetup-generatorSYSTEMD-CRYPTSETUP-GENERATOR(8)",
        "ossl(1ssl)     OpenSSL     ossl(1ssl)",
        "dict(n)     Tcl Built-In Commands     dict(n)",
    ],
)
def test_heads_of_manual_pages_are_known_by_the_name_at_both_ends(head: str) -> None:
    assert is_manual_page(f"\n{head}\n\nNAME\n       x - y\n")


@pytest.mark.parametrize(
    "head", ["See tail(1)", "Section 5(a) and Section 5(a)", "tail(1) is not head(1)", "f() calls f()", "Widgets", ""]
)
def test_other_texts_are_no_manual_pages(head: str) -> None:
    assert not is_manual_page(f"{head}\n\nNAME\n       x - y\n")
    assert title(head) == ""


def test_a_file_that_is_a_manual_page_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "widgetctl.8.txt"
    path.write_text(PAGE, encoding="utf-8")
    [document], skipped = read(SourceFile(path, path.name, path.stat().st_size, 0))
    assert not skipped and document.title == title(PAGE)
    assert [section.heading for section in sections(document)][2:4] == [
        ("DESCRIPTION",),
        ("DESCRIPTION", "Units of time"),
    ]
