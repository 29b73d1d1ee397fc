from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder
from pdf_files import Type, lines, page_of, pdf, raw_pdf, stream

from retrieval.cli import _place
from retrieval.documents import Document, SourceFile, read
from retrieval.errors import DocumentError
from retrieval.indexing import build_index
from retrieval.pdf_pages import read_pdf
from retrieval.search import SearchEngine
from retrieval.structure import Block, Heading, Outlined, sections
from retrieval.structure_pdf import read as read_text
from retrieval.workspace import Workspace

BODY = [f"The clerk at window {number} keeps the register of vessels in good order." for number in range(4)]


def headings(found: Outlined) -> list[tuple[int, str]]:
    return [(item.level, item.text) for item in found.outline if isinstance(item, Heading)]


def blocks(found: Outlined) -> list[str]:
    return [item.text for item in found.outline if isinstance(item, Block)]


def check_lines(found: Outlined) -> None:
    """Each block is the lines that it names."""
    text = found.text.split("\n")
    for item in found.outline:
        words = text[item.first_line - 1 : item.last_line]
        assert item.text == ("\n".join(words) if isinstance(item, Block) else " ".join(words))


# Headings


def test_headings_are_the_bookmarks_found_again_on_their_pages() -> None:
    one = [*lines("2 Leave", size=11), *lines(*BODY, top=680), *lines("Parental leave", top=600)]
    two = [*lines("Ten weeks are paid.", top=700), *lines("3 Pay", top=650), *lines(*BODY, top=630)]
    marks = [(1, "Leave", 0), (2, "Parental leave", 0), (1, "Pay", 1)]
    found = read_text("a.pdf", pdf(one, two, bookmarks=marks))
    assert headings(found) == [(1, "2 Leave"), (2, "Parental leave"), (1, "3 Pay")]
    assert blocks(found) == ["\n".join(BODY), "Ten weeks are paid.", "\n".join(BODY)]
    document = Document("a", "a", found.title, found.text, "outlined", outline=found.outline)
    assert [section.heading for section in sections(document)] == [
        ("2 Leave",),
        ("2 Leave", "Parental leave"),
        ("3 Pay",),
    ]
    check_lines(found)


def test_a_bookmark_that_no_line_shows_is_a_heading_of_its_own() -> None:
    marks = [(1, "Opening", 0), (1, "Leave", 0), (1, "Pay", 0)]
    found = read_text("a.pdf", pdf([*lines(*BODY), *lines("Leave", top=600), *lines("Pay", top=500)], bookmarks=marks))
    assert headings(found) == [(1, "Opening"), (1, "Leave"), (1, "Pay")]
    check_lines(found)


def test_without_bookmarks_larger_and_bold_type_makes_headings() -> None:
    page = [
        Type("Harbour Rules", 740, size=20),
        *lines(*BODY, top=700),
        Type("1 Mooring", 640, size=14),
        Type("1.1 Lines and", 620, size=14),
        *lines(*BODY, top=600),
        Type("Fenders", 540, font="F2"),
        *lines(*BODY, top=520),
    ]
    found = read_text("a.pdf", pdf(page))
    assert [text for _, text in headings(found)] == ["Harbour Rules", "1 Mooring 1.1 Lines and", "Fenders"]
    levels = [level for level, _ in headings(found)]
    assert levels == sorted(levels) and len(set(levels)) == 3
    assert found.title == "Harbour Rules"
    check_lines(found)


def test_numbers_in_front_of_headings_of_one_size_nest_them() -> None:
    page = [Type("1 Mooring", 700, size=14), *lines(*BODY, top=680), Type("1.1 Lines", 600, size=14)]
    found = read_text("a.pdf", pdf([*page, *lines(*BODY, top=580)]))
    (outer, _), (inner, _) = headings(found)
    assert inner > outer


def test_bold_sentences_and_tables_of_contents_are_no_headings() -> None:
    contents = [Type(f"{number} Chapter . . . . . . . . {number}", 700 - 20 * number, font="F2") for number in range(3)]
    page = [*contents, *lines(*BODY, top=600), Type("This whole sentence is in bold type.", 500, font="F2")]
    assert headings(read_text("a.pdf", pdf([*page, *lines(*BODY, top=480)]))) == []


def test_the_title_comes_from_the_properties_unless_a_program_wrote_it() -> None:
    page = [Type("Harbour Rules", 740, size=20), *lines(*BODY)]
    assert read_text("a.pdf", pdf(page, title="Rules of the Port")).title == "Rules of the Port"
    for made in ("Microsoft Word - rules_v3.doc", "untitled", "rules.indd", "7"):
        assert read_text("a.pdf", pdf(page, title=made)).title == "Harbour Rules"
    assert read_text("a.pdf", pdf(lines(*BODY))).title == ""


# Paragraphs


def test_paragraphs_are_parted_by_gaps_and_go_on_across_pages() -> None:
    one = [*lines("Ships wait in the", "outer roads.", top=700), *lines("The pilot boards at the", top=660)]
    two = lines("northern buoy and takes", "the helm.")
    found = read_text("a.pdf", pdf(one, two))
    assert blocks(found) == [
        "Ships wait in the\nouter roads.",
        "The pilot boards at the\nnorthern buoy and takes\nthe helm.",
    ]
    check_lines(found)


def test_a_word_parted_at_a_line_end_is_whole_again_and_a_hyphen_of_its_own_stays() -> None:
    page = lines(
        "A vessel without docu-", "mentation waits. Its well-", "known owner is told.", "The well-known owner pays."
    )
    found = read_text("a.pdf", pdf(page))
    assert blocks(found) == [
        "A vessel without documentation\nwaits. Its well-known\nowner is told.\nThe well-known owner pays."
    ]


def test_list_items_stay_together_and_code_is_code() -> None:
    page = [
        *lines("Bring:", top=700),
        *lines("- the papers", "- the crew list", top=688),
        *lines("moor --fast", "cast off", top=640, font="F3"),
    ]
    found = read_text("a.pdf", pdf([*page, *lines(*BODY, top=500)]))
    kinds = [(item.kind, item.text) for item in found.outline if isinstance(item, Block)]
    assert kinds[:3] == [
        ("paragraph", "Bring:"),
        ("list", "- the papers\n- the crew list"),
        ("code", "moor --fast\ncast off"),
    ]


def test_running_headers_and_page_numbers_are_dropped() -> None:
    pages = [
        [Type("Harbour Rules 2024", 770, size=8), *lines(f"Rule {word} holds at sea."), Type(f"- {number} -", 30)]
        for number, word in enumerate(("alpha", "beta", "gamma", "delta"), 1)
    ]
    found = read_text("a.pdf", pdf(*pages))
    assert blocks(found) == [f"Rule {word} holds at sea." for word in ("alpha", "beta", "gamma", "delta")]


def test_a_header_that_names_the_chapter_goes_by_the_page_it_counts() -> None:
    chapters = ("Mooring", "Mooring", "Pilots", "Fees")
    pages = [
        [Type(f"Chapter: {name} {number + 7}", 770), *lines(f"{word} 1 holds.", f"{word} 2 holds.")]
        for number, (name, word) in enumerate(zip(chapters, ("Alpha", "Beta", "Gamma", "Delta"), strict=True))
    ]
    found = read_text("a.pdf", pdf(*pages))
    assert "Chapter" not in found.text and found.text.count("2 holds.") == 4


def test_a_running_head_of_one_word_with_the_page_number_apart_from_it_is_dropped() -> None:
    for head, kept in (("Introduction", False), ("Weight:", True), ("Exhibit no.", True)):
        pages = [
            [Type(head, 770), *lines(f"{word} 1 holds.", f"{word} 2 holds."), Type(str(number), 770, x=500)]
            for number, word in enumerate(("Alpha", "Beta", "Gamma", "Delta"), 12)
        ]
        text = read_text("a.pdf", pdf(*pages)).text
        assert text.count("2 holds.") == 4 and (head in text) == ("13" in text) == kept


def test_a_running_head_of_one_word_before_the_page_number_is_dropped_where_the_next_chapter_counts_on() -> None:
    for chapters, kept in ((("Introduction", "Methods"), False), (("Exhibit", "Exhibit"), True)):
        pages = [
            [Type(f"{chapters[number > 12]} {number}", 770), *lines(f"Text {word} and", "more of it.")]
            for number, word in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta"), 10)
        ]
        text = read_text("a.pdf", pdf(*pages)).text
        assert text.count("more of it.") == 6 and all((f" {number}" in text) == kept for number in range(10, 16))


def test_what_recurs_within_pages_is_kept() -> None:
    pages = [[*lines("Opening."), *lines("Warning!", "Stay clear.", "Keep off.", "Call us.", top=500)]] * 4
    assert read_text("a.pdf", pdf(*pages)).text.count("Stay clear.") == 4


def test_heads_of_left_and_right_pages_and_of_short_chapters_are_dropped_where_pages_are_counted() -> None:
    pages = [
        [Type(head, 770), *lines(f"Text {word} and", "more of it."), Type(f"Draft, page {number} of 6", 30)]
        for number, (head, word) in enumerate(
            zip(
                ("Fees 17", "18 Harbour Rules", "Fees 19", "20 Harbour Rules", "Pilots 21", "22 Harbour Rules"),
                ("alpha", "beta", "gamma", "delta", "epsilon", "zeta"),
                strict=True,
            ),
            1,
        )
    ]
    text = read_text("a.pdf", pdf(*pages)).text
    assert "Harbour" not in text and "Fees" not in text and "Pilots" not in text and "Draft" not in text
    assert text.count("more of it.") == 6


def test_numbers_that_fit_the_page_by_chance_are_kept() -> None:
    pages = [lines(*(f"B{99 - row} box of {7 * page * row % 23}" for row in range(1, 9))) for page in range(1, 60)]
    text = read_text("a.pdf", pdf(*pages)).text.split("\n")
    assert [line for line in text if line] == [line.text for page in pages for line in page]


def test_what_each_page_is_about_is_kept_though_it_is_numbered_in_order() -> None:
    for first, last in (("Part no. 1001", "Weight in grams: 351"), ("Exhibit 1", "Room number 101"), ("2021", "#7")):
        count, least = int(first.split()[-1]), int(last.strip("#").split()[-1])
        pages = [
            [
                Type(first.replace(str(count), str(count + page)), 740),
                *lines("Made of brass", "and of steel."),
                Type(last.replace(str(least), str(least + page)), 600),
            ]
            for page in range(4)
        ]
        text = read_text("a.pdf", pdf(*pages)).text
        assert all(line.text in text for page in pages for line in page)


def test_a_line_that_some_pages_begin_or_end_with_is_text() -> None:
    pages = [
        [
            *lines(f"Name: patient {name}", "Diagnosis code E11.9", "Allergies: none known", f"Visit note {name}."),
            Type("Signed by Dr. Smith", 652),
        ]
        for name in ("A", "B", "C", "D")
    ]
    text = read_text("a.pdf", pdf(*pages)).text
    assert text.count("Diagnosis code E11.9") == text.count("Signed by Dr. Smith") == 4
    warning = "Do not open the relief valve under load."
    manual = [
        [Type(warning if page in (3, 4, 5, 30) else f"The {page}th of its valves.", 700), *lines(*BODY, top=670)]
        for page in range(40)
    ]
    assert read_text("a.pdf", pdf(*manual)).text.count(warning) == 4


def test_the_head_of_a_table_that_goes_on_is_kept_on_each_page() -> None:
    pages = [
        [Type("Stores", 770), *lines("Part Name Stock", *(f"{page}{row}-A bolt" for row in range(5)))]
        for page in range(1, 6)
    ]
    text = read_text("a.pdf", pdf(*pages)).text
    assert text.count("Part Name Stock") == 5 and "Stores" not in text


def test_ligatures_are_spelled_out_and_odd_characters_replaced() -> None:
    from retrieval.pdf_pages import clean

    assert clean("the \ufb01rst  of\ufb01ce\x00 \ud800 co\u00adop\n") == "the first office\ufffd \ufffd coop"


# Pages


def test_each_page_begins_at_a_line_and_a_page_without_text_begins_at_the_next() -> None:
    found = read_text("a.pdf", pdf([], lines("One."), [], lines("Two."), []))
    text = found.text.split("\n")
    assert text == ["One.", "", "Two."]
    assert found.pages == (1, 1, 3, 3, 4)


def test_hits_name_the_pages_of_their_passage(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    one = [*lines("Ships wait in the outer roads."), *lines("The pilot boards at the", top=600)]
    (tmp_path / "docs/port.pdf").write_bytes(
        pdf([], one, lines("northern buoy."), bookmarks=[(1, "Ships wait in the outer roads.", 1)])
    )
    (tmp_path / "docs/plain.txt").write_text("Anchors are weighed at dawn.\n")
    (tmp_path / "shoptalk.toml").write_text('[corpus.notes]\npaths = ["docs"]\n')
    space = Workspace.open(tmp_path, environ={})
    build_index(space, embedder=HashEmbedder())
    engine = SearchEngine(space)
    pilot = engine.search("northern buoy", top_k=1, mode="lexical").hits[0]
    assert (pilot.path, pilot.first_page, pilot.last_page) == ("port.pdf", 2, 3)
    assert (pilot.first_line, pilot.last_line) == (3, 4)
    anchors = engine.search("anchors", top_k=1, mode="lexical").hits[0]
    assert (anchors.first_page, anchors.last_page) == (None, None)
    assert _place(pilot) == "port.pdf:p. 2-3" and _place(anchors) == "plain.txt:1-1"
    assert _place(replace(pilot, last_page=2)) == "port.pdf:p. 2"


def test_where_pages_begin_is_part_of_the_content() -> None:
    document = Document("a", "a", "", "One.\n\nTwo.", "outlined", pages=(1, 3))
    assert document.content_hash != replace(document, pages=(1, 2)).content_hash


# What cannot be read


def failure(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        read_pdf("a.pdf", data)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_an_encrypted_file_is_opened_with_the_empty_password_or_left_out(algorithm: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the writer's old ciphers
        opened = pdf(lines(*BODY), password="", algorithm=algorithm)
        closed = pdf(lines(*BODY), password="secret", algorithm=algorithm)
    assert read_text("a.pdf", opened).text == "\n".join(BODY)
    assert failure(closed) == "a.pdf: is encrypted with a password; save it without one"


def test_a_scan_is_left_out_with_the_advice_to_run_ocr() -> None:
    assert failure(pdf([], [])) == "a.pdf: has no text (a scan?); run OCR on it first"


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"%PDF-1.7\n" + b"\0" * 1000, b"no pdf", raw_pdf(b"<< >>")])
def test_a_malformed_file_is_left_out_with_the_reason(data: bytes) -> None:
    assert failure(data).startswith("a.pdf: ")


def test_a_page_that_fails_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    bomb = stream(b"BT /F1 9 Tf " + b"q " * 600_000 + b"(x) Tj ET")
    page = b"<< /Type /Page /Parent 2 0 R /Contents %d 0 R /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 "
    page += b"/BaseFont /Helvetica >> >> >> >>"
    data = raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        page % 5,
        page % 6,
        stream(b"BT /F1 9 Tf 72 700 Td (Moored.) Tj ET"),
        bomb,
    )
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    (document,), (skipped,) = read(SourceFile(path, "a.pdf", len(data), 0))
    assert (document.title, document.text, document.pages) == ("A", "Moored.", (1, 2))
    assert skipped.path == "a.pdf" and skipped.reason.startswith("cannot be read: page 2 (")


def test_type_beyond_measure_is_read() -> None:
    scaled = b"%d 0 0 %d 0 0 cm " % (10**40, 10**40) * 8
    data = page_of(stream(b"q %s BT /F1 9 Tf 72 700 Td (Moored.) Tj ET Q BT /F1 9 Tf 72 90 Td (Fast.) Tj ET" % scaled))
    assert read_text("a.pdf", data).text == "Moored.Fast."


def test_a_file_that_takes_too_long_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.pdf_pages.SECONDS", 0.0)
    monkeypatch.setattr("retrieval.pdf_pages.SECONDS_PER_MEGABYTE", 0.0)
    assert failure(pdf(lines(*BODY))).startswith("a.pdf: takes more than 0 s of processor time")


def test_flaws_that_pypdf_can_live_with_are_not_reported(capfd: pytest.CaptureFixture[str]) -> None:
    flawed = page_of(stream(b"BT /F1 9 Tf 72 700 Td (Moored.) Tj ET", length=5)).replace(
        b"startxref\n", b"startxref\n9"
    )
    assert read_text("a.pdf", flawed).text == "Moored."
    assert capfd.readouterr().err == ""
    assert not logging.getLogger("pypdf").isEnabledFor(logging.WARNING)
