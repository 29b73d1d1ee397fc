from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from retrieval.columns import Columns, normal_name
from retrieval.records import Record, RecordError, csv_records, json_records, jsonl_records, tsv_records

NONE = Columns()


def good(found: Sequence[Record | RecordError]) -> list[Record]:
    assert all(isinstance(item, Record) for item in found), [str(item) for item in found]
    return [item for item in found if isinstance(item, Record)]


def only(text: str, columns: Columns = NONE) -> Record:
    [record] = good(csv_records(text, columns))
    return record


# Names


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Question Text", "question_text"),
        ("questionText", "question_text"),
        (" QUESTION-TEXT ", "question_text"),
        ("_id", "_id"),
        ("Ticket #", "ticket"),
        ("Überschrift", "überschrift"),
    ],
)
def test_names_are_one_however_they_are_written(written: str, normal: str) -> None:
    assert normal_name(written) == normal


@pytest.mark.parametrize(
    ("header", "title", "text", "asked"),
    [
        ("Question,Answer", "A", "B", True),
        ("Question Text,Accepted Answer", "A", "B", True),
        ("Questions,Answers", "A", "B", True),
        ("Ticket Subject,Resolution Notes", "A", "B", False),
        ("Subject,Resolution", "A", "B", True),
        ("Issue Summary,Case Description", "A", "B", False),
        ("Short description,Close notes", "A", "B", False),
        ("Title,Description", "A", "B", False),
        ("name,description", "A", "B", False),
        ("user_name,message", "", "B", False),
        ("prompt,completion", "A", "B", True),
        ("title,text", "A", "B", False),
        ("question,body", "A", "B", True),
    ],
)
def test_columns_are_known_by_their_names(header: str, title: str, text: str, asked: bool) -> None:
    record = only(f"{header}\nA,B\n")
    assert (record.title, record.text) == (title, text)
    assert record.question == ("A" if asked else "")


def test_a_ticket_is_its_description_and_its_resolution() -> None:
    record = only("Ticket ID,Subject,Priority,Resolution,Description\n7,Jam,high,Open the lid.,It jams.\n")
    assert (record.title, record.text) == ("Jam", "It jams.\n\nOpen the lid.")
    assert (record.id, record.own_id) == ("7", True)
    assert record.question == "Jam"


def test_ids_of_a_file_count_only_where_each_record_has_its_own() -> None:
    found = good(csv_records("ticket,question,answer\n1,a,b\n1,c,d\n", NONE))
    assert [record.id for record in found] == ["", ""]


def test_settings_say_which_columns_are_what() -> None:
    columns = Columns(text=("Notes", "Steps Taken"), title="What", id="Nr")
    record = only("Nr,What,Question,Steps taken,notes\n9,T,Q,S,N\n", columns)
    assert (record.id, record.title, record.text, record.own_id) == ("9", "T", "N\n\nS", False)


@pytest.mark.parametrize(
    ("columns", "setting"),
    [
        (Columns(text=("nope",)), "text_columns = ['nope']"),
        (Columns(title="nope"), "title_column = 'nope'"),
        (Columns(id="nope"), "id_column = 'nope'"),
    ],
)
def test_a_setting_that_fits_no_column_is_said(columns: Columns, setting: str) -> None:
    with pytest.raises(RecordError) as error:
        csv_records("question,answer\na,b\n", columns)
    assert error.value.reason.startswith(f"{setting} is no column of it; it has question, answer;")


# Contents

LONG = "The lid of the machine is open and nobody closed it."


CODED = """code,description,category,synonyms,owner
E11.9,Type 2 diabetes,Endocrine,adult onset diabetes; NIDDM,Ada B
J45,Asthma of any kind,Respiratory,,Ada B
"""


def test_a_records_code_leads_its_title_and_its_other_names_stand_below_its_text() -> None:
    first, second = good(csv_records(CODED, NONE))
    assert (first.title, second.title) == ("E11.9", "J45")
    assert first.text == "Type 2 diabetes\n\nCategory: Endocrine\n\nSynonyms: adult onset diabetes; NIDDM"
    assert second.text == "Asthma of any kind\n\nCategory: Respiratory"
    [named] = good(csv_records("Part No,Name,Description\nP-10,Check valve,One way only\n", NONE))
    assert named.title == "P-10: Check valve"
    [listed] = good(jsonl_records('{"title": "Valve", "text": "One way", "keywords": ["flap", "non-return"]}', NONE))
    assert listed.text == "One way\n\nKeywords: flap; non-return"


def test_a_column_is_one_of_codes_only_where_each_record_has_its_own() -> None:
    rows = "zip_code,title,text\n10115,Ada,Lives here\n10115,Bo,Lives there\n"
    assert [record.title for record in good(csv_records(rows, NONE))] == ["Ada", "Bo"]
    for rows in (
        "code,title,text\nsee the list,Ada,Lives here\n3,Bo,Lives there\n",
        "number,title,text\n001,Ada,Lives here\n002,Bo,Lives there\n",
        ",title,text\n7,Ada,Lives here\n9,Bo,Lives there\n",
        "title,text,key\nAda,Lives here,507f1f77bcf86cd799439011\nBo,Lives there,507f1f77bcf86cd799439012\n",
        "language_code,title,text\nen,Ada,Lives here\nde,Bo,Lives there\n",
    ):
        assert [record.title for record in good(csv_records(rows, NONE))] == ["Ada", "Bo"]
    assert only("code,title,text\nen,Ada,Lives here\n").title == "Ada"
    most = "".join(f"A-{number},Name {number},Lives here\n" for number in range(10, 40))
    titles = {record.title for record in good(csv_records(f"code,title,text\n{most}see below,Ada,Lives here\n", NONE))}
    assert {"A-10: Name 10", "A-39: Name 39", "Ada"} < titles


def test_the_number_of_a_question_stands_below_its_answer() -> None:
    for header in ("Case Number,Question,Answer", "Case Number,Summary,Description"):
        record = only(f"{header}\nA-1077,Why is it dark?,Press reset\n")
        assert (record.title, record.text) == ("Why is it dark?", "Press reset\n\nCase number: A-1077")


def test_lists_of_names_are_read_whatever_their_column_is_called_and_those_of_people_and_files_are_not() -> None:
    rows = (
        "title,text,sold_as,by,sizes,cc,files\n"
        "Valve,One way,flap; non-return,Ada B,10; 20,a@x.org; b@x.org,flap.pdf; seat.pdf\n"
        "Seal,Tight,ring; gasket,Bo C,5; 6,c@x.org; d@x.org,ring.pdf; lip.pdf\n"
    )
    assert [record.text for record in good(csv_records(rows, NONE))] == [
        "One way\n\nSold as: flap; non-return\n\nSizes: 10; 20",
        "Tight\n\nSold as: ring; gasket\n\nSizes: 5; 6",
    ]


def test_a_column_of_names_may_be_empty_in_most_records() -> None:
    rows = "title,text,products\n" + "".join(f"Kind {place},It is sold,\n" for place in range(300))
    rows += "Seal,Tight,rings; gaskets\n" * 2
    records = good(csv_records(f'{rows}Valve,One way,"non-return and/or foot valves; flaps"\n', NONE))
    assert records[-1].text == "One way\n\nProducts: non-return and/or foot valves; flaps"


def test_a_first_column_of_nothing_but_codes_of_a_scheme_leads_titles_whatever_it_is_called() -> None:
    codes = ["A0021", "A0080", "A4206", "E0100", "E0105"]

    def titles(name: str, codes: Sequence[str]) -> list[str]:
        rows = "".join(f"{code},Thing {place},What thing {place} is for.\n" for place, code in enumerate(codes))
        return [record.title for record in good(csv_records(f"{name},Title,Text\n{rows}", NONE))]

    assert titles("HCPCS", codes)[0] == "A0021: Thing 0"
    assert titles("_id", codes)[0] == titles("uid", codes)[0] == "Thing 0"
    assert titles("HCPCS", codes[:4])[0] == titles("HCPCS", [*codes[:4], ""])[0] == "Thing 0"
    assert titles("HCPCS", [*codes[:4], codes[0]])[0] == titles("Wing", [*codes[:4], "north"])[0] == "Thing 0"


def test_a_list_of_codes_and_what_they_are_called_needs_no_text() -> None:
    for header in ("code,name", "SKU,Product name", "code,product"):
        first, second = good(csv_records(f"{header}\nA-1,Check valve\nA-2,Lip seal\n", NONE))
        assert (first.title, first.text, second.title) == ("A-1: Check valve", "", "A-2: Lip seal")
    many = "sku,brand,name,price\nA-1,Bosch,Cordless drill,99\nA-2,Makita,Angle grinder,89\n"
    assert [record.title for record in good(csv_records(many, NONE))] == ["A-1: Cordless drill", "A-2: Angle grinder"]
    own = good(csv_records("code,name\nE10,糖尿病\nE12,肺炎\n", Columns(id="code")))
    assert [(record.id, record.title) for record in own] == [("E10", "E10: 糖尿病"), ("E12", "E12: 肺炎")]


@pytest.mark.parametrize("codes", [["99211", "99212", "99213"], ["401", "402", "403"], ["A1", "A2", "A3"]])
def test_codes_may_follow_each_other(codes: list[str]) -> None:
    rows = "".join(f"{code},Kind {chr(65 + place)}\n" for place, code in enumerate(codes))
    assert [record.title[: len(codes[0])] for record in good(csv_records(f"code,name\n{rows}", NONE))] == codes


def test_a_code_that_a_title_says_is_not_said_twice() -> None:
    rows = "code,title,description\nE10,E10 Type 1 diabetes,A disease\nE11,[E11] Type 2,Another\n"
    assert [record.title for record in good(csv_records(rows, NONE))] == ["E10 Type 1 diabetes", "[E11] Type 2"]


def test_lists_of_people_files_and_paragraphs_are_no_names() -> None:
    rows = "title,text,reviewers,changed_files,remark,cause\n" + "".join(
        f'T{place},It is so,Ann Meier; Bob Smith,src/a.ts; b.py,Called Ann; no answer,"It was down\n\nIt is up"\n'
        for place in range(4)
    )
    assert {record.text for record in good(csv_records(rows, NONE))} == {"It is so"}


def test_a_term_is_a_title_only_beside_what_it_means() -> None:
    first, _ = good(csv_records("course_code,term,description\nCS1,Fall,Intro\nCS2,Fall,More\n", NONE))
    assert first.title == "CS1"


def test_a_glossary_is_its_terms_and_their_meanings() -> None:
    record = only("Term,Meaning\nNPSH,net positive suction head\n")
    assert (record.title, record.text) == ("NPSH", "net positive suction head")


def test_cells_of_names_that_say_yes_or_no_are_none_and_tags_in_angles_are_a_list() -> None:
    first, second = good(csv_records("title,text,tags,alias\nA,B c,<c#><numpy>,true\nD,E f,<x>,\n", NONE))
    assert (first.text, second.text) == ("B c\n\nTags: c#; numpy", "E f\n\nTags: x")


PRICES = """Code,Description,Price,Tax,Valid from,Phases,Spare,Colour
A300,Pump model number 3 for clean water,3234.50,19%,2024-01-01,1,,red
A301,Pump model number 4 for clean water,3310,7%,2024-07-01,3,n/a,red
A302,Pump model number 5 for dirty water,0,19%,2024-01-01,3,S-1,red
"""


def test_short_values_that_tell_records_apart_stand_below_the_text() -> None:
    first, _, third = good(csv_records(PRICES, NONE))
    values = "Price: 3234.50\n\nTax: 19%\n\nValid from: 2024-01-01\n\nPhases: 1"
    assert (first.title, first.text) == ("A300", f"Pump model number 3 for clean water\n\n{values}")
    assert third.text.split("\n\n")[1] == "Price: 0"
    [alone] = good(json_records('{"name": "Pump", "description": "It pumps.", "voltage": "230 V", "team": "A"}', NONE))
    assert alone.text == "It pumps.\n\nVoltage: 230 V"


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("created_at", ("2024-01-01", "2024-01-02")),
        ("Last Updated", ("2024-01-01", "2024-01-02")),
        ("Priority", ("high", "low")),
        ("owner", ("Ann", "Bob")),
        ("customer name", ("Ann", "Bob")),
        ("assigned_to", ("Ann", "Bob")),
        ("note", ("see 7", "see 8")),
        ("locale", ("de", "en")),
        ("ViewCount", ("10", "20")),
        ("zip code", ("10115", "20095")),
        ("parent_id", ("71", "93")),
        ("number of it", ("1", "2")),
        ("active", ("TRUE", "false")),
        ("see", ("https://a.org/1", "https://a.org/2")),
        ("picture", ("img/a.png", "img/b.png")),
        ("digest", ("0123456789abcdef0123", "1123456789abcdef0123")),
        ("metadata", ('{"a": 1}', '{"a": 2}')),
        ("reason", (LONG * 2, LONG * 3)),
        ("one", ("of a", "")),
    ],
)
def test_what_administers_a_record_or_is_no_short_value_stands_nowhere(name: str, cells: tuple[str, str]) -> None:
    rows = [{"_id": f"d{place}", "title": "T", "text": "It is so", name: cell} for place, cell in enumerate(cells)]
    found = good(jsonl_records("\n".join(map(json.dumps, rows)), NONE))
    assert [(item.title, item.text) for item in found] == [("T", "It is so")] * 2


@pytest.mark.parametrize("columns", [Columns(text=("description",)), Columns(title="category")])
def test_where_settings_name_the_text_or_the_title_nothing_is_added(columns: Columns) -> None:
    first, _ = good(csv_records(CODED, columns))
    assert first.text == "Type 2 diabetes" and "E11.9" not in first.title


def test_where_no_name_helps_the_longest_column_is_the_text() -> None:
    rows = "".join(f"{number},Broken lid {number},{LONG} It was number {number}.,red\n" for number in range(5))
    found = good(csv_records(f"nr,was,weiter,farbe\n{rows}", NONE))
    assert (found[1].title, found[1].text) == ("Broken lid 1", f"{LONG} It was number 1.")


def test_a_table_of_numbers_and_labels_has_no_text() -> None:
    with pytest.raises(RecordError, match="no text column among sku, colour, price; .* set text_columns"):
        csv_records("sku,colour,price\n1,red,2\n2,blue,3\n", NONE)


def test_records_of_other_kinds_among_the_known_are_left_out_one_by_one() -> None:
    text = '{"question": "a", "answer": "b"}\n{"kind": "note that says many words about nothing at all"}\n'
    first, second = jsonl_records(text, NONE)
    assert isinstance(first, Record)
    assert isinstance(second, RecordError)
    assert (second.line, second.reason) == (2, "no text")


def test_a_field_that_is_html_is_read_and_one_that_speaks_of_it_is_kept() -> None:
    found = good(
        csv_records(
            'question,answer\nWhy <b>?,"<p>So &amp; <i>so</i></p>\n<ul><li>a</li></ul>"\nx,use <b>b</b>\n', NONE
        )
    )
    assert [(record.title, record.text) for record in found] == [
        ("Why <b>?", "So & so\n\n- a"),
        ("x", "use <b>b</b>"),
    ]


# Tables


def found_in(text: str) -> tuple[list[tuple[str, str]], list[tuple[int, str]]]:
    """Titles and texts of a CSV file, and the lines and reasons of what was left out."""
    found = csv_records(text, NONE)
    records = [(item.title, item.text) for item in found if isinstance(item, Record)]
    return records, [(item.line, item.reason) for item in found if isinstance(item, RecordError)]


def test_a_row_that_ends_before_its_text_is_left_out_and_the_others_are_read() -> None:
    rows = "question,answer\nHow?,Hold it.\nWhy?,So.\nExported by Zendesk 2024-05-01\n"
    assert found_in(rows) == ([("How?", "Hold it."), ("Why?", "So.")], [(4, "no text")])
    first, second = tsv_records("id\ttitle\ttext\n1\tA\tText one\n3\tC\n", NONE)
    assert isinstance(first, Record) and first.text == "Text one"
    assert isinstance(second, RecordError) and (second.line, second.reason) == (3, "no text")


def test_cells_beyond_the_header_have_columns_of_their_own() -> None:
    record = only("title,text\nA,B c,d\n", Columns(text=("text", "column_3")))
    assert (record.title, record.text) == ("A", "B c\n\nd")


def test_excel_s_line_that_names_the_delimiter_is_no_header() -> None:
    for separator in ("sep=;", '"SEP=;"'):
        found = good(csv_records(f"{separator}\nCode;Meaning\nE01;Tripped, twice\n", NONE))
        assert [(item.title, item.text, item.first_line) for item in found] == [("E01", "Tripped, twice", 3)]


@pytest.mark.parametrize("sign", ";|\t")
def test_signs_in_prose_delimit_nothing(sign: str) -> None:
    rows = [
        f"Das Geraet ist gut{sign} es laeuft ohne Probleme seit vielen Jahren",
        "Der Service war schlecht",
        f"Ich bin zufrieden{sign} gerne wieder",
        f"Alles gut{sign} danke",
    ]
    found = good(csv_records("\n".join(["Kommentar", *rows, ""]), NONE))
    assert [record.text for record in found] == rows
    assert [record.text for record in good(csv_records(f"text\nA b{sign} c\nD e{sign} f\n", NONE))] == [
        f"A b{sign} c",
        f"D e{sign} f",
    ]


def test_a_title_with_another_sign_does_not_say_how_the_table_below_is_delimited() -> None:
    records, _ = found_in("Preise, Stand 2024\nCode;Bezeichnung;Meaning\nE1;Pumpe;It pumps, well\nE2;Rad;It turns\n")
    assert [text.split("\n\n")[0] for _, text in records] == ["It pumps, well", "It turns"]
    records, _ = found_in('Error codes\nCode;Meaning;Remedy\nE01;"Tripped\nor\nhot\nor\nwet";Reset it\n')
    assert records[0][1].startswith("Tripped\nor\nhot")


@pytest.mark.parametrize("title", ["Error codes of the pump;;\n\n", "Error codes of the pump\n"])
def test_titles_above_the_header_of_a_file_are_none(title: str) -> None:
    records, left_out = found_in(f"{title}Code;Meaning;Remedy\nE01;Tripped;Reset it\nE02;Dry run;Fill it\n")
    assert [text for _, text in records] == ["Tripped\n\nRemedy: Reset it", "Dry run\n\nRemedy: Fill it"]
    assert left_out == [(1, "rows above the header of its table: 1")]


def test_a_header_that_does_not_name_the_rows_numbers_is_one() -> None:
    rows = "".join(f"{number},{LONG} {number}\n" for number in range(3))
    assert len(found_in(f",bemerkung\n{rows}")[0]) == 3
    assert found_in("Bemerkung\nGut\n" + f'"{LONG}"\n' * 2)[1] == []


def test_a_first_row_that_is_like_those_below_is_a_record() -> None:
    rows = "".join(f"E010{place},The pump does not start for reason {place}.\n" for place in range(3))
    records, left_out = found_in(rows)
    assert records[0] == ("E0100", "The pump does not start for reason 0.") and len(records) == 3
    assert left_out == []
    many = f"How?,{'Hold it a while. ' * 20}\n" + f"Why?,{LONG}\n"
    assert [text for _, text in found_in(many)[0]][1] == f"{LONG}\n\nColumn 1: Why?" and len(found_in(many)[0]) == 2


def test_a_long_name_among_others_does_not_make_the_header_a_record() -> None:
    survey = f'"{"How satisfied are you with it? " * 8}"'
    [record] = good(csv_records(f"id,question,answer,{survey}\n7,How?,So.,5\n", NONE))
    assert (record.id, record.title, record.text.split("\n\n")[0]) == ("7", "How?", "So.")
    [record] = good(csv_records(f"answer,{survey},{survey}\nSo.,5,4\n", NONE))
    assert record.text.split("\n\n")[0] == "So."


@pytest.mark.parametrize("header", ["ICD10,Bezeichnung", "Nr1,Bezeichnung"])
def test_a_first_row_of_another_scheme_is_the_header(header: str) -> None:
    rows = "".join(f"J{place},The disease of the lungs by number {place}.\n" for place in range(40, 43))
    assert len(found_in(f"{header}\n{rows}")[0]) == 3


def test_a_quote_that_is_never_closed_costs_its_own_row() -> None:
    rows = "".join(f"{number},text of row {number}\n" for number in range(3, 40))
    records, left_out = found_in(f'id,text\n2,"open quote\n{rows}')
    assert len(records) == 37
    assert left_out == [(2, "not valid CSV (unexpected end of data)")]
    records, left_out = found_in('id,text\n1,"open\n2,two\n3,"three, really"\n4,four\n')
    assert [text for _, text in records] == ["two", "three, really", "four"]
    assert [line for line, _ in left_out] == [2]


def test_quotes_that_never_close_cost_no_more_than_reading_twice() -> None:
    hostile = 'x",""",\n' * 20_000
    _, left_out = found_in(f"id,text\n1,one\n{hostile}")
    assert left_out[-1][1].startswith("not valid CSV (unexpected end of data); none of 19999 lines is read")


# JSON

FAQ = """\
{
  "version": 2,
  "tags": ["a", "b"],
  "faqs": [
    {"id": 1, "question": "How?",
     "answer": "So.\\nAnd so."},

    {"id": 2, "question": "Why?", "answers": ["Because.", "Also."]},
    "stray"
  ],
  "authors": [{"name": "N"}, {"name": "M"}, {"name": "O"}, {"name": "P"}]
}
"""


def test_the_array_of_records_in_an_object_is_found_with_its_lines() -> None:
    found = good(json_records(FAQ, NONE))
    assert [(record.id, record.title, record.text, record.first_line, record.last_line) for record in found] == [
        ("1", "How?", "So.\nAnd so.", 5, 6),
        ("2", "Why?", "Because.\n\nAlso.", 8, 8),
    ]
    assert all(
        json.loads("\n".join(FAQ.split("\n")[record.first_line - 1 : record.last_line]).strip().rstrip(","))
        for record in found
    )


def test_records_of_other_arrays_are_told_to_be_left_out() -> None:
    text = (
        '{"train": [{"text": "aa bb"}, {"text": "cc"}], "faq": [{"title": "d", "text": "dd"}], "tags": [{"id": "x"}]}'
    )
    first, second, others = json_records(text, NONE)
    assert [item.text for item in (first, second) if isinstance(item, Record)] == ["aa bb", "cc"]
    assert str(others).startswith("1 records in other arrays are not read")


def asked(number: int) -> dict[str, str]:
    return {"question": f"Q{number}?", "answer": f"Answer {number}."}


@pytest.mark.parametrize(
    "whole",
    [
        {"Billing": [asked(1), asked(2)], "Shipping": [asked(3)]},
        {"version": 2, "faq": {"Billing": [asked(1), asked(2)], "Shipping": [asked(3)], "empty": []}},
        [{"category": "Billing", "questions": [asked(1), asked(2)]}, {"category": "Shipping", "questions": [asked(3)]}],
        {"groups": [{"id": 1, "name": "Billing", "of": [asked(1), asked(2)]}, {"name": "Shipping", "of": [asked(3)]}]},
    ],
)
def test_records_that_stand_in_groups_are_all_read_and_say_of_which_they_are(whole: object) -> None:
    found = good(json_records(json.dumps(whole), NONE))
    assert [(record.title, record.text) for record in found] == [
        ("Q1?", "Answer 1.\n\nCategory: Billing"),
        ("Q2?", "Answer 2.\n\nCategory: Billing"),
        ("Q3?", "Answer 3.\n\nCategory: Shipping"),
    ]


def test_a_record_s_own_category_has_the_first_word() -> None:
    groups = {"Ovens": [{**asked(1), "category": "Mine"}, {**asked(2), "Category": "Yours"}], "Pumps": [asked(3)]}
    texts = [record.text.partition("\n\n")[2] for record in good(json_records(json.dumps(groups), NONE))]
    assert texts == ["Category: Mine", "Category: Yours", "Category: Pumps"]


@pytest.mark.parametrize(
    ("whole", "categories"),
    [
        ([{"title": "Pump", "setup": [asked(1)], "use": [asked(2)]}], ["Pump: setup", "Pump: use"]),
        ({"Pump": {"entries": [asked(1)]}, "Hose": {"entries": [asked(2)]}}, ["Pump", "Hose"]),
        ({"en": [asked(1)], "de": [asked(2)]}, ["", ""]),
        ({"2024-01": [asked(1)], "k2": [asked(2)]}, ["", ""]),
        ({"ご注文": [asked(1)], "配送": [asked(2)]}, ["ご注文", "配送"]),
    ],
)
def test_a_group_is_told_with_what_is_around_it_and_no_id_is(whole: object, categories: list[str]) -> None:
    found = good(json_records(json.dumps(whole), NONE))
    assert [record.title for record in found] == ["Q1?", "Q2?"]
    assert [record.text.partition("\n\nCategory: ")[2] for record in found] == categories


@pytest.mark.parametrize(
    "whole",
    [
        [{"title": "Pump", "faqs": [asked(1)]}, {"title": "Hose", "questions": [{"id": 7, **asked(2)}]}],
        {
            "of": [
                {"name": "Pump", "faqs": [asked(1)], "links": [{"url": "x"}]},
                {"name": "Hose", "entries": [asked(2)]},
            ]
        },
    ],
)
def test_arrays_that_each_object_calls_by_another_name_are_all_read(whole: object) -> None:
    found = good(json_records(json.dumps(whole), NONE))
    assert [(record.title, record.text.partition("Category: ")[2]) for record in found] == [
        ("Q1?", "Pump"),
        ("Q2?", "Hose"),
    ]


def test_nothing_else_beside_groups_is_a_record() -> None:
    whole = {
        "billing": [asked(1)],
        "shipping": [asked(2)],
        "links": [{"href": "Home", "url": "x"}],
        "settings": {"smtp": {"title": "SMTP", "description": "Mail goes out by it."}},
    }
    found = [item for item in json_records(json.dumps(whole), NONE) if isinstance(item, Record)]
    assert [record.title for record in found] == ["Q1?", "Q2?"]
    answer = {"status": "ok", "warnings": [{"title": "Old", "text": "It is old."}]}
    found = good(
        json_records(json.dumps(answer | {"results": [{"title": n, "text": n} for n in ("a b", "c d")]}), NONE)[:2]
    )
    assert [record.title for record in found] == ["a b", "c d"]


def test_arrays_of_other_kinds_beside_each_other_are_not_one() -> None:
    whole = {"faq": [asked(1), asked(2)], "products": [{"name": "Pump", "description": "It pumps water."}]}
    *found, others = json_records(json.dumps(whole), NONE)
    assert [record.title for record in good(found)] == ["Q1?", "Q2?"] and not any("Category" in str(r) for r in found)
    assert str(others).startswith("1 records in other arrays are not read")


@pytest.mark.parametrize(
    "text",
    [
        '[{"question": "Q", "answer": "A"}]',
        '{"data": {"items": [{"question": "Q", "answer": "A"}]}}',
        '{"question": "Q", "answer": "A"}',
        '{"question": "Q", "answer": "A"}\n{"question": "Q", "answer": "A"}\n',
    ],
)
def test_json_may_be_an_array_an_object_around_one_a_record_or_lines(text: str) -> None:
    assert {(record.title, record.text) for record in good(json_records(text, NONE))} == {("Q", "A")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": [1, 2}', "not valid JSON (Expecting ',' delimiter, line 1)"),
        ('[{"a": 1}\n', "not valid JSON (Expecting ',' delimiter, line 2)"),
        ("[1, 2]", "no array of objects"),
        ('"text"', "no array of objects"),
        ('{"a": 1} x', "not valid JSON (Extra data, line 1)"),
        ("[" * 100_000, "not valid JSON ("),
        ('{"a":' * 100_000, "not valid JSON ("),
        ("", "not valid JSON (Expecting value, line 1)"),
    ],
)
def test_json_without_records_says_what_is_wrong(text: str, reason: str) -> None:
    if reason == "not valid JSON (Extra data, line 1)":
        assert [str(item)[:14] for item in json_records(text, NONE)] == ["not valid JSON"]
        return
    with pytest.raises(RecordError) as error:
        json_records(text, NONE)
    assert error.value.reason.startswith(reason)


def test_json_whose_objects_have_no_text_leaves_each_out() -> None:
    assert [str(item) for item in json_records('{"name": "x", "version": "1"}', NONE)] == ["no text"]


def test_tab_separated_tables_take_settings_too() -> None:
    [record] = good(tsv_records("nr\tbefund\n1\tgut\n", Columns(text=("Befund",))))
    assert record.text == "gut"


def said(text: str) -> list[tuple[str, str, str]]:
    return [(record.id, record.title, record.text) for record in good(json_records(text, NONE))]


def test_records_in_arrays_within_arrays_are_found_with_their_lines() -> None:
    text = """{"categories": [
      {"name": "Billing", "items": [{"question": "Refunds?", "answer": "30 days."},
                                    {"question": "Late?", "answer": "Call us."}]},
      {"name": "Empty"},
      {"name": "Tech", "items": [
        {"question": "Reset?", "answer": "Hold."}]}]}"""
    found = good(json_records(text, NONE))
    assert [(item.title, item.text, item.row, item.first_line, item.last_line) for item in found] == [
        ("Refunds?", "30 days.\n\nCategory: Billing", 1, 2, 2),
        ("Late?", "Call us.\n\nCategory: Billing", 2, 3, 3),
        ("Reset?", "Hold.\n\nCategory: Tech", 3, 6, 6),
    ]


@pytest.mark.parametrize("wrapper", ["fields", "_source", "attributes"])
def test_a_record_whose_fields_stand_in_an_object_of_its_own_is_read(wrapper: str) -> None:
    issue = {"summary": "Leak", "description": "It leaks.", "reporter": {"name": "Ada", "description": "Of sales"}}
    issue["comment"] = {"comments": [{"author": {"name": "Bo"}, "body": "Replace the seal."}, {"body": "It fixed it."}]}
    export = {"startAt": 0, "issues": [{"id": "10001", "key": "PUMP-1", wrapper: issue}]}
    record = ("10001", "PUMP-1: Leak", "It leaks.\n\nReplace the seal.\n\nIt fixed it.")
    assert said(json.dumps(export)) == [record]
    [line] = good(jsonl_records(json.dumps(export["issues"][0]), NONE))  # type: ignore[index]
    assert (line.id, line.title, line.text) == record


def test_objects_under_their_codes_or_names_are_records() -> None:
    text = '{"E11": {"title": "Type 2", "text": "Sugar."},\n "E10": {"title": "Type 1", "text": "Other."}}'
    assert said(text) == [("E11", "E11: Type 2", "Sugar."), ("E10", "E10: Type 1", "Other.")]
    assert [(item.own_id, item.first_line) for item in good(json_records(text, NONE))] == [(True, 1), (True, 2)]
    named = '{"codes": {"reset": {"question": "Q", "answer": "A"}, "start": {"question": "R", "answer": "B"}}}'
    assert said(named) == [("reset", "Q", "A"), ("start", "R", "B")]


def test_objects_in_a_record_do_not_take_its_place() -> None:
    ticket = (
        '{"id": 5, "subject": "Broken", "description": "It is broken", "requester": {"name": "Ann", "notes": "vip"},'
        ' "resolution": {"answer": "fix", "note": "done"}, "assignee": {"name": "x", "description": "agent"}}'
    )
    assert said(ticket) == said(f'{{"ticket": {ticket}}}') == [("5", "Broken", "It is broken")]
    part = '{"name": "N", "description": "D"}'
    for parts in (f'"warranty": {part}, "shipping": {part}', f'"terms": {{"warranty": {part}, "shipping": {part}}}'):
        assert said(f'{{"name": "Pump", "description": "It pumps", {parts}}}') == [("", "Pump", "It pumps")]


def test_the_texts_of_a_record_s_arrays_stand_below_its_own() -> None:
    ticket = (
        '{"id": 7, "subject": "Leak", "description": "<p>It leaks.</p>", "tags": ["seal", "valve"],'
        ' "watchers": [{"name": "W", "description": "Of sales"}], "metadata": {"notes": [{"text": "internal"}]},'
        ' "comments": [{"author": "Bo", "body": "Replace seal S-12.", "replies": [{"body": "It fixed it."}]},'
        ' {"body": "<p>Thanks</p>"}]}'
    )
    text = "It leaks.\n\nReplace seal S-12.\n\nIt fixed it.\n\nThanks\n\nTags: seal; valve"
    assert said(f"[{ticket}]") == said(ticket) == [("7", "Leak", text)]
    [record] = good(json_records(ticket, Columns(text=("description",))))
    assert record.text == "It leaks."


def test_a_record_may_have_all_its_text_in_arrays() -> None:
    [record] = good(jsonl_records('{"title": "T", "messages": [{"content": "How?"}, {"content": "So."}]}', NONE))
    assert (record.title, record.text) == ("T", "How?\n\nSo.")


def test_what_describes_a_file_does_not_hide_its_records() -> None:
    records = '[{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]'
    text = f'{{"info": {{"title": "T", "description": "D"}}, "description": "All", "data": {{"items": {records}}}}}'
    assert [text for _, _, text in said(text)] == ["one", "two"]


def test_arrays_in_the_whole_file_are_records_whatever_they_are_called() -> None:
    notes = [{"id": f"n{place}", "title": f"T{place}", "text": f"Text {place}"} for place in range(4)]
    records = [(f"n{place}", f"T{place}", f"Text {place}") for place in range(4)]
    assert said(json.dumps({"name": "Export", "description": "My notes", "notes": notes})) == records
    found = json_records(json.dumps({"folders": [{"name": "F", "description": "folder"}], "notes": notes}), NONE)
    assert [item.id for item in found if isinstance(item, Record)] == ["n0", "n1", "n2", "n3"]
    files = '[{"name": "a.txt", "content": "A"}, {"name": "b.txt", "content": "B"}]'
    assert [text for _, _, text in said(f'{{"name": "repo", "description": "x", "files": {files}}}')] == ["A", "B"]


def test_beside_a_text_of_its_own_a_record_is_what_its_parts_add_to_it() -> None:
    record = {
        "id": "1",
        "title": "T",
        "text": "One two. Three four.",
        "chunks": [{"text": "One two."}, {"text": "Three four."}],
        "related": [{"title": "R", "text": "Another"}],
        "history": [{"text": "Zero"}],
        "seo": [{"title": "S", "description": "Buy"}],
        "steps": [{"text": "Three four."}, {"text": "Five."}],
    }
    assert said(json.dumps([record])) == [("1", "T", "One two. Three four.\n\nFive.")]


def test_of_many_objects_in_one_the_first_tell_what_it_is_about() -> None:
    objects = {f"o{place}": {"x": 1} for place in range(50)} | {"late": {"text": "Far below"}}
    assert [str(item) for item in jsonl_records(json.dumps(objects), NONE)] == ["no text"]
    numbers = {f"n{place}": place for place in range(300)}
    assert [str(item) for item in jsonl_records(json.dumps({**numbers, "o": {"text": "Foreign"}}), NONE)] == ["no text"]


def test_of_arrays_that_nobody_knows_the_longest_that_stands_in_none_is_read() -> None:
    item = {"was": "Der Deckel des Kastens steht offen.", "werte": [{"n": "a"}, {"n": "b"}, {"n": "c"}]}
    assert len(said(json.dumps({"alle": [item, item]}))) == 2
