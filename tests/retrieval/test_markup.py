"""Plain text that is written in a light markup, and what only looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.documents import Format, SourceFile, read
from retrieval.markup import markup_of
from retrieval.structure import sections

MARKDOWN = "Pump 3 licence\n\n## Purpose\n\nIt moves water.\n\n## Acceptance\n\nBy use.\n"
RST = "=====\nPumps\n=====\n\n.. module:: pumps\n\nSee :ref:`priming`.\n\nPriming\n=======\n\nFill it.\n"
ASCIIDOC = "The pump.\n\n== Priming\n\nFill it.\n\n[[faults]]\n== Faults\n\nNone.\n"
RULED = "Pumps\n=====\n\nSynopsis\n--------\n[verse]\n'pump' [--dry]\n\n[NOTE]\n====\nSee linkpump:prime[1].\n====\n"


@pytest.mark.parametrize(
    ("text", "format"), [(MARKDOWN, "markdown"), (RST, "rst"), (ASCIIDOC, "asciidoc"), (RULED, "asciidoc")]
)
def test_markup_is_known_by_marks_that_nothing_else_has(text: str, format: Format) -> None:
    assert markup_of(text) == format


@pytest.mark.parametrize(
    "text",
    [
        "",
        "#!/bin/sh\n\n## Options\n\necho\n\n## Work\n\ntrue\n",
        "# one comment\nkey = 1\n# another\n\nother = 2\n",
        "Steps\n\n# 1 first\n\n# 2 second\n",
        "Only one\n\n## Heading\n\nis not enough.\n",
        "PUMP(1)                    Manual                    PUMP(1)\n\nNAME\n       pump - moves water\n\nOUTPUT\n"
        "       ## main\n\n       ## other\n\nPUMP(1)\n",
        "Title\n=====\n\nPlain words, underlined.\n\nAnother\n-------\n\nMore.\n",
        "Zettel\n======\n\n[[programming]]\n[[languages]]\n\n[Sources]\n[NOTE: see below]\n// slow\n",
        "Compose\n=======\n\nimage:nginx[latest]\nimage:redis[7]\n\n[source]\na = 1\n\n[listing]\nb = 2\n",
        "Log\n===\n\nsshd:session[12]\nsshd:session[13]\n[12:30] [info] started\n[note to self]\n",
        "== RUN TestPump\n== RUN TestHose\nok\n",
        "Build\n\n=== Stage 1 ===\n[INFO] start [main]\n\n=== Stage 2 ===\n[INFO] done\n",
        "###\n### Settings\n###\n\n## The first of them\n## goes on here\n\n## The next\nkey = 1\n# off = 2\n",
        "```\n## no heading\n\n## none either\n```\n",
    ],
)
def test_what_shows_too_little_of_it_stays_plain_text(text: str) -> None:
    assert markup_of(text) == "text"


@pytest.mark.parametrize(
    "line",
    [
        "Title\n=====\n" + ":a" * 100_000,
        "Title\n=====\n" + ",link:a" * 50_000,
        "Title\n=====\n" + "[NOTE" * 50_000,
        "## " + "a" * 200_000,
        "\n" * 200_000,
        "## a\n" * 50_000,
        " " * 200_000 + "\n## b",
    ],
)
def test_odd_texts_take_no_more_than_linear_time(line: str) -> None:
    assert markup_of(line) == "text"


def test_a_text_in_markup_has_its_headings_and_the_title_that_leads_it(tmp_path: Path) -> None:
    path = tmp_path / "licence.txt"
    path.write_text(MARKDOWN, encoding="utf-8")
    [document], _ = read(SourceFile(path, path.name, path.stat().st_size, 0))
    assert (document.title, document.format) == ("Pump 3 licence", "markdown")
    assert [section.heading for section in sections(document)] == [(), ("Purpose",), ("Acceptance",)]


def test_a_title_that_is_a_heading_is_called_without_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "pumps.txt"
    path.write_text(RST, encoding="utf-8")
    [document], _ = read(SourceFile(path, path.name, path.stat().st_size, 0))
    assert document.title == "Pumps"
