from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.documents import Document, Format
from retrieval.passages import Passage, cut, cut_all
from retrieval.structure import Section, sections


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def count_subwords(texts: Sequence[str]) -> list[int]:
    """Count as byte-pair tokenizers do: several tokens a word, one a line break, and wholes unlike their parts."""
    return [len(re.findall(r"\w{1,4}|[^\w\s]|\n", text)) + (len(text) % 3 == 0) for text in texts]


def passages(text: str, format: Format = "markdown", limit: int = 20, title: str = "") -> list[Passage]:
    return cut(title, sections(Document("doc", "doc", title, text, format)), count_words, limit)


def spans(found: Sequence[Passage]) -> list[tuple[str, int, int]]:
    return [(passage.text, passage.first_line, passage.last_line) for passage in found]


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


# One section, one passage


def test_a_section_that_fits_is_one_passage_on_the_lines_of_its_text() -> None:
    [passage] = passages("# A\n\n## B\n\none\n\n- two\n", title="A")
    assert (passage.text, passage.first_line, passage.last_line) == ("one\n\n- two", 5, 7)
    assert (passage.title, passage.heading, passage.document_id) == ("A", ("A", "B"), "doc")


def test_a_heading_without_text_is_a_passage_of_its_own() -> None:
    found = passages("# Codes\n\n## A00 Cholera\n\n### A00.0 Classical\n\nSetext\n------\n\n")
    assert spans(found) == [("A00 Cholera", 3, 3), ("A00.0 Classical", 5, 5), ("Setext", 7, 8)]
    assert [passage.embedded_text for passage in found] == [
        "A00 Cholera\nCodes",
        "A00.0 Classical\nCodes > A00 Cholera",
        "Setext\nCodes",
    ]


@pytest.mark.parametrize("title", ["How to?", "how  to?", "The file's name"])
def test_a_title_without_text_is_no_passage_beside_those_that_are_embedded_with_it(title: str) -> None:
    found = passages("# How to?\n\n## Answer 1\n\nSo.\n\n## Answer 2\n\nOr so.\n", title=title)
    assert [passage.heading for passage in found] == [("How to?", "Answer 1"), ("How to?", "Answer 2")]
    assert all("How to?" in passage.embedded_text for passage in found)


def test_a_title_is_no_passage_where_its_document_says_more_beside_it() -> None:
    assert [passage.text for passage in passages("before\n\n# Guide\n\n# Other\n\nwords\n", title="Guide")] == [
        "before",
        "words",
    ]


def test_a_title_that_is_all_a_document_says_is_its_passage() -> None:
    assert [passage.text for passage in passages("# Guide\n\n# Guide\n", title="Guide")] == ["Guide", "Guide"]
    assert [passage.text for passage in passages("# Guide\n", title="Guide")] == ["Guide"]


def test_where_no_title_is_embedded_with_a_passage_it_is_one() -> None:
    found = sections(Document("d", "d", "Guide", "# Guide\n\n## Part\n\nwords\n", "markdown"))
    (kept,) = cut_all([("Guide", found)], count_words, 20, heading_context=False)
    assert [passage.text for passage in kept] == ["Guide", "words"]


def test_what_is_embedded_is_heading_text_and_what_encloses_it() -> None:
    text = "before\n\n# A\n\n## B\n\n### C\n\nwords"
    assert [p.embedded_text for p in passages(text, title="Guide")] == [
        "before\nGuide",
        "A\nGuide",
        "B\nGuide > A",
        "C\nwords\nGuide > A > B",
    ]
    assert passages(text, title=" a ")[-1].embedded_text == "C\nwords\nA > B"
    assert passages(text)[0].embedded_text == "before"


def test_words_parted_at_the_ends_of_lines_are_whole_where_they_are_embedded() -> None:
    text = "LOCKS\n\n       the locks of the re\u2010\n       mote server, the re\u00ad\n       mote host"
    [whole] = passages(text, "text", limit=40)
    assert "the locks of the remote server, the remote host" in whole.embedded_text
    assert "re\u2010\n" in whole.text and (whole.first_line, whole.last_line) == (3, 5)


def test_a_soft_hyphen_never_belongs_to_the_word() -> None:
    [found] = passages("a well\u2010known re\u00ad\n  mote host", "text", limit=40)
    assert found.embedded_text == "a well\u2010known remote host"


@pytest.mark.parametrize(
    "kept",
    [
        "to be case\u2010\ninsensitive and zero\u2010based",
        "the first\u2010\n(and the second)",
        "pages 10\u2010\n12",
        "a well-\nkept library",
    ],
)
def test_a_hyphen_that_may_belong_to_the_word_stays(kept: str) -> None:
    [found] = passages(kept, "text", limit=40)
    assert found.embedded_text == kept


def test_ids_are_stable_and_distinct_for_equal_texts() -> None:
    found = passages("# A\n\nsame\n\n# A\n\nsame\n")
    assert len({passage.id for passage in found}) == 2
    assert [passage.id for passage in passages("\n\n# A\n\nsame\n")] == [found[0].id]
    assert all(re.fullmatch("[0-9a-f]{16}", passage.id) for passage in found)


def test_passages_of_records_have_the_lines_of_the_record() -> None:
    record = Document("r", "c.csv", "T", "one two three. Four five six.\nSeven eight nine.", "text", 5, 6)
    found = cut("T", sections(record), count_words, 6)
    assert len(found) > 1
    assert {(passage.first_line, passage.last_line) for passage in found} == {(5, 6)}


# Longer sections


def test_blocks_are_packed_without_being_split_and_evenly() -> None:
    text = "\n\n".join(" ".join(numbered(letter, 6)) for letter in "abcd")
    assert spans(passages(text, limit=20)) == [
        (text.split("\n\n")[0] + "\n\n" + text.split("\n\n")[1], 1, 3),
        (text.split("\n\n")[2] + "\n\n" + text.split("\n\n")[3], 5, 7),
    ]


def test_a_long_paragraph_is_split_between_sentences_on_their_lines() -> None:
    text = (
        "In Fig. 3 of Dr. Who et al. one reads\n3.5 mm, e.g. of rain. It fell on the\n"
        "2 Nov. 1999 again! Was it (as J. Doe said) wet? Yes.\nIt was so.\n"
    )
    assert spans(passages(text, limit=16)) == [
        ("In Fig. 3 of Dr. Who et al. one reads\n3.5 mm, e.g. of rain.", 1, 2),
        ("It fell on the\n2 Nov. 1999 again!", 2, 3),
        ("Was it (as J. Doe said) wet? Yes.\nIt was so.", 3, 4),
    ]


def test_lines_that_are_no_sentences_stay_whole() -> None:
    lines = [f"name {number}" + " x" * (number % 5) for number in range(12)]
    found = passages("\n".join(lines), limit=18)
    assert len(found) > 1
    assert [line for passage in found for line in passage.text.split("\n")] == lines


def test_chinese_and_japanese_sentences_end_too() -> None:
    text = "漢字です。" * 3
    found = cut("", sections(Document("d", "d", "", text, "text")), lambda texts: [len(t) for t in texts], 12)
    assert [passage.text for passage in found] == ["漢字です。漢字です。", "漢字です。"]


def test_sentences_of_hindi_and_german_are_not_cut_where_they_go_on() -> None:
    hindi = "पहला वाक्य यहाँ है। दूसरा वाक्य यहाँ है। तीसरा वाक्य भी यहाँ है।"
    assert [passage.text[-1] for passage in passages(hindi, "text", limit=6)] == ["।"] * 3
    german = "Er kann nach § 440 Abs. 1 Satz 2 BGB gehen. Er will es."
    assert [passage.text for passage in passages(german, "text", limit=12)] == [german[:43], german[44:]]


def test_code_is_split_between_lines_and_keeps_its_indentation() -> None:
    lines = ["```", *(f"    x{number} = {number}" for number in range(8)), "```"]
    found = passages("\n".join(lines), limit=14)
    assert "\n".join(passage.text for passage in found) == "\n".join(lines)
    assert [(passage.first_line, passage.last_line) for passage in found] == [(1, 5), (6, 10)]


def test_tables_are_split_between_rows() -> None:
    rows = ["| a | b |", "|---|---|", *(f"| {number} | x |" for number in range(6))]
    found = passages("\n".join(rows), limit=16)
    assert "\n".join(passage.text for passage in found).split("\n") == rows


def test_rows_parted_from_the_head_of_their_table_have_it_before_them() -> None:
    head = "| drug | mg |\n|---|---|\n"
    rows = [f"| {number} | x |" for number in range(8)]
    found = passages(head + "\n".join(rows), limit=32)
    assert spans(found) == [(head + "\n".join(rows[:4]), 1, 6), (head + "\n".join(rows[4:]), 7, 10)]


GRID = "+----+---+\n| k  | v |\n+====+===+\n"
HEADED: list[tuple[Format, str, str, str, str]] = [
    ("html", "<table><thead><tr><td>k<td>v</thead>\n", "<tr><td>{0}<td>x\n", "k | v\n", "{0} | x"),
    ("html", "<table><tr><th><th>v\n", "<tr><th>{0}<td>x\n", "| v\n", "{0} | x"),
    ("html", "<table><caption>K</caption><tr><th>k<th>v\n", "<tr><td>{0}<td>x\n", "k | v\n", "{0} | x"),
    ("asciidoc", "|===\n|k |v\n\n", "|{0} |x\n", "|k |v\n", "|{0} |x"),
    ("asciidoc", '[cols="1,2",options="header"]\n|===\n|k |v\n', "|{0} |x\n", "|k |v\n", "|{0} |x"),
    ("asciidoc", "[%autowidth%header]\n|===\n|k |v\n", "|{0} |x\n", "|k |v\n", "|{0} |x"),
    ("rst", "== ==\nk  v\n== ==\n", "{0}  x\n", "== ==\nk  v\n== ==\n", "{0}  x"),
    ("rst", GRID, "| {0} | x |\n+----+---+\n", GRID, "| {0} | x |"),
]


@pytest.mark.parametrize(("format", "above", "row", "head", "read"), HEADED)
def test_the_head_of_a_table_is_repeated_in_every_format_that_marks_it(
    format: Format, above: str, row: str, head: str, read: str
) -> None:
    text = above + "".join(row.format(number) for number in range(10, 50))
    text += {"html": "</table>", "asciidoc": "|===\n", "rst": "" if above == GRID else "== ==\n"}[format]
    first, *others = passages(text, format, limit=60)
    assert head in first.text and others
    assert all(passage.text.startswith(head) for passage in others)
    lines = "\n".join(passage.text for passage in (first, *others)).split("\n")
    assert [line for line in lines if line[-1:] != "-" and "x" in line] == [
        read.format(number) for number in range(10, 50)
    ]


@pytest.mark.parametrize(
    ("format", "above", "row"),
    [
        ("html", "<table><tr><th>a<td>b\n", "<tr><th>{0}<td>x\n"),
        ("html", "<table>", "<tr><th>{0}<th>x\n"),
        ("asciidoc", "|===\n|k |v\n", "|{0} |x\n"),
        ("asciidoc", "[%header]\n|===\n|k\n|v\n", "|{0}\n|x\n"),
        ("asciidoc", "[%noheader]\n|===\n|k |v\n", "|{0} |x\n"),
        ("rst", "== ==\n", "{0}  x\n"),
        ("rst", "+----+---+\n| k  | v |\n+----+---+\n", "| {0} | x |\n+----+---+\n"),
    ],
)
def test_first_rows_that_are_no_head_are_not_repeated(format: Format, above: str, row: str) -> None:
    text = above + "".join(row.format(number) for number in range(10, 50))
    text += {"html": "</table>", "asciidoc": "|===\n", "rst": "== ==\n" if above == "== ==\n" else ""}[format]
    found = passages(text, format, limit=60)
    assert len(found) > 1
    lines = [line for passage in found for line in passage.text.split("\n") if any(map(str.isalnum, line))]
    assert len(lines) == len(set(lines)) or row.startswith("|{0}\n")
    assert lines[0] not in lines[1:]


def test_no_head_is_repeated_that_is_long_or_that_a_rule_does_not_mark() -> None:
    rows = [f"| {number} | x |" for number in range(20)]
    long = ["| a very long name of a column | b |", "|---|---|", *rows]
    assert "\n".join(passage.text for passage in passages("\n".join(long), limit=32)).split("\n") == long
    cells = "<table>" + "".join(f"<tr><td>{number}<td>x\n" for number in range(20)) + "</table>"
    found = passages(cells, "html", limit=32)
    assert "\n".join(passage.text for passage in found).split("\n") == [f"{number} | x" for number in range(20)]


def test_a_list_item_longer_than_the_limit_is_split_by_its_sentences() -> None:
    item = "- " + " ".join(f"This is sentence {number}." for number in range(8))
    found = passages(item + "\n- short", limit=12)
    assert all(passage.text.endswith((".", "short")) for passage in found)


@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_an_item_is_in_one_slice_with_the_first_of_those_within_it(gap: str) -> None:
    def items(model: str, count: int) -> list[str]:
        return [f"- Model {model}:", *(f"  - torque {number}" for number in range(count))]

    found = passages(gap.join([*items("X200", 3), *items("X300", 4)]), limit=20)
    assert [passage.text.split(gap) for passage in found] == [items("X200", 3), items("X300", 4)]


def test_what_leads_more_than_fits_is_not_moved() -> None:
    stairs = "\n".join(f"{'  ' * depth}- step {depth}" for depth in range(40))
    found = passages(stairs, limit=12)
    assert "\n".join(passage.text for passage in found) == stairs
    assert max(map(len, (passage.text.split() for passage in found))) <= 12
    assert len(found) < 20


def test_html_slices_know_their_source_lines() -> None:
    found = passages("<p>One two\n<b>three</b> four.\n<p>Five six seven\neight.", "html", limit=4)
    assert spans(found) == [("One two\nthree four.", 1, 2), ("Five six seven\neight.", 3, 4)]
    rows = "<table>\n" + "".join(f"<tr>\n<td>a\n<td>{number}\n</tr>\n" for number in range(4)) + "</table>"
    assert spans(passages(rows, "html", limit=6)) == [("a | 0\na | 1", 3, 8), ("a | 2\na | 3", 11, 16)]


def test_a_tiny_last_slice_is_evened_out() -> None:
    text = "\n\n".join(["a b c", "a b c", "a b c", "a b c", "a"])
    sizes = [count_words([passage.text])[0] for passage in passages(text, limit=7)]
    assert sum(sizes) == 13
    assert min(sizes) >= 3


def test_words_without_end_are_cut_by_characters() -> None:
    found = passages("x" * 100_000, limit=20)
    assert "".join(passage.text for passage in found) == "x" * 100_000
    assert max(len(passage.text) for passage in found) <= 20 * 40


# Headings longer than the limit


def test_outer_headings_make_room_for_the_text_first() -> None:
    outer, inner, leaf = (" ".join(numbered(letter, 6)) for letter in "abc")
    text = f"# {outer}\n\n## {inner}\n\n### {leaf}\n\n" + " ".join(f"Word{number}." for number in range(60))
    found = [passage for passage in passages(text, limit=34) if len(passage.heading) == 3]
    assert len(found) > 1
    for passage in found:
        assert passage.embedded_text == f"{leaf}\n{passage.text}\n{inner}" if passage.context else False
        assert count_words([passage.embedded_text])[0] <= 34


def test_a_heading_that_does_not_fit_itself_is_cut_short() -> None:
    heading = " ".join(numbered("h", 50))
    found = passages(f"# {heading}\n\n" + " ".join(numbered("w", 30)), limit=20)
    assert all(count_words([passage.embedded_text])[0] <= 20 for passage in found)
    assert all(passage.embedded_text.startswith("h0 h1 ") for passage in found)
    assert " ".join(passage.text for passage in found) == " ".join(numbered("w", 30))
    slices = passages(f"# {heading}", limit=20)
    assert " ".join(passage.text for passage in slices) == heading
    assert [passage.embedded_text for passage in slices] == [passage.text for passage in slices]


# Cost


def test_tokens_are_counted_many_texts_at_a_time() -> None:
    calls = 0

    def counting(texts: Sequence[str]) -> list[int]:
        nonlocal calls
        calls += 1
        return count_words(texts)

    text = "".join(f"# H{number}\n\n" + "Some words here. " * number + "\n\n" for number in range(100))
    found = cut("T", sections(Document("d", "d", "T", text, "markdown")), counting, 32)
    assert len(found) > 500
    assert calls <= 10


def test_a_very_long_line_is_cut_in_time_that_grows_with_its_length() -> None:
    assert len(passages("word " * 200_000, "text", limit=200)) == 1000


# Any document

WORD = st.text("abcdefgXYZ", min_size=1, max_size=9)
SENTENCE = st.lists(WORD, min_size=1, max_size=14).map(lambda words: " ".join(words).capitalize() + ".")
PARAGRAPH = st.lists(SENTENCE, min_size=1, max_size=6).flatmap(
    lambda sentences: st.sampled_from([" ", "\n"]).map(lambda gap: gap.join(sentences))
)
HEADING = st.tuples(st.integers(1, 6), st.lists(WORD, min_size=1, max_size=12)).map(
    lambda pair: "#" * pair[0] + " " + " ".join(pair[1])
)
LIST = st.lists(SENTENCE, min_size=1, max_size=6).map(lambda items: "\n".join(f"- {item}" for item in items))
CODE = st.lists(st.lists(WORD, max_size=8).map(" ".join), min_size=1, max_size=12).map(
    lambda lines: "\n".join(["```", *(f"  {line}" for line in lines), "```"])
)
HEAD = "| a | b |\n|---|---|\n"
TABLE = st.lists(st.tuples(WORD, WORD), min_size=1, max_size=20).map(
    lambda rows: HEAD + "\n".join(f"| {a} | {b} |" for a, b in rows)
)
MARKDOWN = st.lists(st.one_of(HEADING, PARAGRAPH, LIST, CODE, TABLE), max_size=12).map("\n\n".join)
PLAIN = st.lists(st.one_of(PARAGRAPH, LIST, SENTENCE, st.just("SOME RULES"), st.just("1. Some Clause")), max_size=12)
RST_HEADING = st.tuples(WORD, st.sampled_from("=-~")).map(lambda pair: f"{pair[0]}\n{pair[1] * len(pair[0])}")
RST = st.lists(st.one_of(RST_HEADING, PARAGRAPH, LIST), max_size=12).map("\n\n".join)


def lies_in(passage: Passage, section: Section) -> bool:
    inside = section.first_line <= passage.first_line and passage.last_line <= section.last_line
    return inside and passage.heading == section.heading


def says_title(section: Section, found: Sequence[Passage]) -> bool:
    """Whether all that was ``found`` stands under the heading of ``section``, or has it for a title."""
    depth = len(section.heading)
    return bool(found) and all(
        passage.heading[:depth] == section.heading
        or [passage.title.casefold()] == [*map(str.casefold, section.heading)]
        for passage in found
    )


def hold_for_any_document(text: str, format: Format, counter: object, limit: int) -> None:
    count = count_words if counter == "words" else count_subwords
    found_sections = sections(Document("doc", "doc", "A title", text, format))
    found = cut("A title", found_sections, count, limit)
    lines = text.split("\n")
    texts = []
    for passage in found:
        assert passage.text.strip()
        held = "\n".join(lines[passage.first_line - 1 : passage.last_line])
        texts.append(passage.text if held.startswith(HEAD) else passage.text.removeprefix(HEAD))
        assert " ".join(texts[-1].split()) in " ".join(held.split())
        assert texts[-1].split("\n")[0].strip() in lines[passage.first_line - 1]
        underlined = bool(passage.heading) and passage.text == passage.heading[-1]
        assert underlined or passage.text.split("\n")[-1].strip() in lines[passage.last_line - 1]
        one = len(passage.text) == 1 or passage.text.split() == [passage.text]
        assert one or count([passage.embedded_text])[0] <= limit
    lost = [section for section in found_sections if not any(lies_in(passage, section) for passage in found)]
    assert all(not section.blocks and says_title(section, found) for section in lost)
    kept = [section for section in found_sections if section not in lost]
    words = [word for section in kept for word in (section.text or section.heading[-1]).split()]
    assert "".join(word for text in texts for word in text.split()) == "".join(words)
    assert len({passage.id for passage in found}) == len(found)
    assert cut("A title", found_sections, count, limit) == found


@settings(max_examples=120, deadline=None)
@given(MARKDOWN, st.sampled_from(["words", "subwords"]), st.integers(16, 60))
def test_any_markdown_is_cut_without_loss_on_exact_lines_within_the_limit(text: str, counter: str, limit: int) -> None:
    hold_for_any_document(text, "markdown", counter, limit)


@settings(max_examples=80, deadline=None)
@given(PLAIN.map("\n\n".join), st.sampled_from(["words", "subwords"]), st.integers(16, 60))
def test_any_plain_text_is_cut_without_loss_on_exact_lines_within_the_limit(
    text: str, counter: str, limit: int
) -> None:
    hold_for_any_document(text, "text", counter, limit)


@settings(max_examples=60, deadline=None)
@given(RST, st.integers(16, 60))
def test_any_restructuredtext_is_cut_without_loss_on_exact_lines_within_the_limit(text: str, limit: int) -> None:
    hold_for_any_document(text, "rst", "words", limit)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300), st.sampled_from(["markdown", "text", "html", "rst"]))
def test_no_text_whatever_stops_the_parsers_or_the_cutter(text: str, format: Format) -> None:
    text = text.replace("\r", "\n").replace("\0", "")
    last = text.count("\n") + 1
    for passage in cut("T", sections(Document("d", "d", "T", text, format)), count_words, 16):
        assert 1 <= passage.first_line <= passage.last_line <= last
        assert passage.text.strip()


@pytest.mark.parametrize("format", ["markdown", "rst", "html", "text"])
def test_no_passages_come_of_an_empty_document(format: Format) -> None:
    assert passages("", format) == []


def test_without_heading_context_a_passage_is_embedded_as_its_text_alone() -> None:
    text = "# Pumps\n\n## Priming\n\nFill the casing first.\n\n## Empty\n"
    found = sections(Document("d", "d", "Manual", text, "markdown"))
    (passages,) = cut_all([("Manual", found)], count_words, 32, heading_context=False)
    assert [passage.embedded_text for passage in passages] == [passage.text for passage in passages]
    assert ("Pumps", "Priming") in [passage.heading for passage in passages]
