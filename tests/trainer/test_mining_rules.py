from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_material import material_of, of_rule

from trainer.code_rules import name_in_words
from trainer.mining import NEEDS, RULES, mine
from trainer.pairs import Pair
from trainer.pseudo_queries import key_phrases

CONTRACT = """Supply agreement

1. Definitions

"Goods" means the pumps and spare parts that the Seller delivers under an order. This is why it matters.

"Delivery Date" shall mean the day that the order confirmation names as such.

It means nothing at all to anyone here today.
"""
GLOSSARY = """# Plant handbook

Priming is the act of filling a pump with water before its first start. It takes a minute.

## Glossary

- **Check valve**: lets water pass in one direction only,
  and closes by itself
- `max_rpm`: the speed that the controller never exceeds

Impeller: the wheel inside the pump that moves the water

Bolt torque
: the force with which a bolt is tightened to its seat
"""
TICKETS = """# Ticket 81

## Symptoms

The display stays dark after a power cut. It worked before.

## Resolution

Hold the reset key for ten seconds, then reconnect the mains.
"""
CODE = '''"""Reading rows."""


def read_rows(path, limit=None):
    """Return the rows of a comma separated file. More follows here."""
    with open(path) as stream:
        return [line.split(",") for line in stream][:limit]


class RowCache:
    """Keeps the rows that were read most recently."""

    size = 10
'''
TABLE = """# Fault codes

| Fault | What to do |
|---|---|
| Dry run | Fill the pump with water and start again |
| Blocked rotor | Switch off, open the housing, remove stones |
| 17 | Call the service with the number at hand |
"""


def mined(tmp_path: Path, rule: str, **files: str) -> dict[str, str]:
    named = {name.replace("_", "."): text for name, text in files.items()}
    return of_rule(mine(material_of(tmp_path, named), [rule]), rule)


def test_lines_of_blanks_and_words_without_end_are_read_in_time_proportional_to_them(tmp_path: Path) -> None:
    script = Path(__file__).with_name("hostile_rules.py")
    paths = [str(script.parents[2]), str(script.parent)]
    run = subprocess.run(
        [sys.executable, "-W", "error", script, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 0


def test_each_rule_says_what_it_lives_on_and_is_silent_where_there_is_no_text_to_live_on(tmp_path: Path) -> None:
    assert set(NEEDS) == set(RULES)
    assert mine(material_of(tmp_path, {"a.txt": "lone\n"}), list(RULES)) == []


def test_a_defined_term_points_to_its_meaning_alone(tmp_path: Path) -> None:
    found = mined(tmp_path, "definition", contract_txt=CONTRACT)
    assert set(found) == {"Goods", "Delivery Date"}
    assert "the pumps and spare parts" in found["Goods"]
    assert "Goods" not in found["Goods"] and "order confirmation" not in found["Goods"]
    assert "Definitions" in found["Goods"]


def test_a_term_may_have_a_point_in_it(tmp_path: Path) -> None:
    text = (
        "# Terms of sale\n\nIt is agreed. U.S. Person means any citizen of that country. They pay. Acme Inc. Products "
        "means all pumps and their parts.\n"
    )
    assert set(mined(tmp_path, "definition", terms_md=text)) == {"U.S. Person", "Acme Inc. Products"}


def test_terms_that_letters_count_are_defined_each(tmp_path: Path) -> None:
    text = (
        "# Terms of sale\n\nIt is agreed. a. “Pump” means any machine that lifts water. b. “Yearly Fee” means what is "
        "paid for each of them. c. “Buyer” means who pays for it.\n"
    )
    assert set(mined(tmp_path, "definition", terms_md=text)) == {"Pump", "Yearly Fee", "Buyer"}


def test_glossaries_in_all_the_ways_markdown_writes_them_give_their_terms(tmp_path: Path) -> None:
    found = mined(tmp_path, "definition", handbook_md=GLOSSARY)
    assert set(found) == {"Priming", "Check valve", "max_rpm", "Impeller", "Bolt torque"}
    assert "closes by itself" in found["Check valve"]
    assert "act of filling a pump" in found["Priming"] and "takes a minute" not in found["Priming"]


def test_a_glossary_in_asciidoc_gives_its_terms_and_a_list_of_options_none(tmp_path: Path) -> None:
    entries = (
        "head of water::\nthe height to which a pump can lift water\nshroud:: the ring that is around an impeller\n"
    )
    for heading, terms in (("Glossary", ["head of water", "shroud"]), ("Settings", [])):
        found = mined(tmp_path / heading, "definition", words_adoc=f"= Pumps\n\n== {heading}\n\n{entries}")
        assert [*found] == terms
    # A part of a manual that other files include has no heading of its own.
    assert [*mined(tmp_path / "part", "definition", glossary_adoc=entries)] == ["head of water", "shroud"]


def test_a_definition_list_of_restructured_text_gives_its_terms(tmp_path: Path) -> None:
    text = "Words\n=====\n\nwidget\n   A part that turns in its housing.\n\ngadget : noun\n   A part that stays put.\n"
    found = mined(tmp_path, "definition", words_rst=text)
    assert set(found) == {"widget", "gadget"} and "turns in its housing" in found["widget"]


@pytest.mark.parametrize(
    "sentence",
    [
        "This means that the pump must be opened first.",
        "Now there is a new way to open the pump quickly.",
        "If it fails it is a sign of a worn seal in the pump.",
        "RESULTS During a follow-up of ten years there is a rise in numbers.",
        "Earlier checks mean that it need not be opened for years.",
        "Native valves provide a controlled means of calling for water at night.",
    ],
)
def test_sentences_that_define_nothing_give_no_term(tmp_path: Path, sentence: str) -> None:
    assert mined(tmp_path, "definition", a_md=f"# Pumps\n\n{sentence}\n") == {}


@pytest.mark.parametrize("meaning", ["means that a person holds the shares", "means of those who hold the shares"])
def test_a_quoted_term_is_defined_by_whatever_it_means(tmp_path: Path, meaning: str) -> None:
    assert [*mined(tmp_path, "definition", a_md=f'# Deed\n\n"Control" {meaning}.\n')] == ["Control"]


PARTS = ("valve", "seal", "gasket", "rotor", "bearing", "flange")
"""As many as make a heading of theirs one that tells nothing."""


def fault(name: str) -> str:
    return f"""# {name} fault

The {name} lets in what it should keep out.

## Seen in the field

- X-{len(name)}: A plant in the north lost water through its {name} for a whole week.
- See [the {name} of another make](other.md), which is told of there in more words.

```
the {name} is what this code here is all about, in many words
```

## Changing a {name}

Loosen the four bolts around it and lift it with both of your hands.
"""


def test_what_stands_under_a_heading_of_many_documents_points_to_what_it_is_part_of(tmp_path: Path) -> None:
    found = mined(tmp_path, "detail", **{f"{name}_md": fault(name) for name in PARTS})
    assert set(found) == {f"A plant in the north lost water through its {name} for a whole week." for name in PARTS}
    for anchor, positive in found.items():
        name = next(name for name in PARTS if name in anchor)
        assert positive == f"{name} fault\nThe {name} lets in what it should keep out."


def test_names_listed_under_a_heading_of_their_own_point_to_what_they_name(tmp_path: Path) -> None:
    listed = (
        "## Alternate terms\n\n- **{0} leak**: as it is known in the south\n- drip of the {0} - rare\n- {0}s.\n"
        "- [{0} of another make](other.md)\n\n## Abbreviations\n\n- PPE: what to wear with a {0}\n"
    )
    pages = {f"{name}_md": fault(name) + "\n" + listed.format(name) for name in PARTS}
    found = mined(tmp_path, "alias", **pages)
    assert set(found) == {said for name in PARTS for said in (f"{name} leak", f"drip of the {name}", f"{name}s")}
    assert found["drip of the seal"] == "seal fault\nThe seal lets in what it should keep out."


def test_names_under_such_a_heading_may_be_set_apart_by_commas(tmp_path: Path) -> None:
    listed = "\n## Synonyms\n\n{0} leak, drip of the {0}\n\nIt is also known as {0} rot.\n"
    found = mined(tmp_path, "alias", **{f"{name}_md": fault(name) + listed.format(name) for name in PARTS})
    assert {"seal leak", "drip of the seal", "seal rot"} <= set(found)


def trades(**labels: str) -> dict[str, str]:
    """Eight documents of one trade each; every label stands in all of them, with what the trade lists under it."""
    return {
        f"{trade}.md": f"# {trade} works\n\nShops that work with {trade} and sell it on.\n\n"
        + "\n\n".join(f"{label}: {listed.format(trade)}" for label, listed in labels.items())
        for trade in "cork felt horn jute lead rope tin wax".split()
    }


@pytest.mark.parametrize("label", ["Examples", "Notable examples", "Contractor types", "**Sample titles**"])
@pytest.mark.parametrize("listed", ["{0} vats; mats of {0}", "{0} vats, mats of {0}", "\n\n- {0} vats\n- mats of {0}"])
def test_names_listed_under_a_label_of_many_documents_point_to_what_lists_them(
    tmp_path: Path, label: str, listed: str
) -> None:
    pairs = of_rule(mine(material_of(tmp_path, trades(**{label: listed})), ["listed"]), "listed")
    assert len(pairs) == 16
    assert "Shops that work with cork" in pairs["mats of cork"]
    assert "cork vats" in pairs["mats of cork"] and "mats of cork" not in pairs["mats of cork"]


@pytest.mark.parametrize(
    ("label", "listed"),
    [
        ("Excludes", "{0} vats; mats of {0}"),
        ("Examples", "{0} vats (A10); mats of {0} (A11)"),
        ("Related trades", "{0} vats; mats of {0}"),
        ("Examples", "cork works; felt works; horn works"),
        ("Note", "what is made of {0} may well be sold to other shops and to those who travel; that is no list"),
        ("Exclusions", "{0} vats; mats of {0}"),
        ("Authors", "Ann {0}; Bob {0}"),
        ("Interactions", "{0} wine; {0} milk"),
        ("Side effects", "{0} ache; {0} rash"),
        ("Opening hours", "{0} mornings; {0} evenings"),
        ("Founded", "March 3, 2000, in {0}"),
        ("Advice", "restart {0}, clear {0}, reload"),
        ("Links", "https://{0}.org; {0}@x.org"),
        ("Parameters", "\n\n- `{0}_timeout` (int): seconds to wait\n- `{0}_size` (int): bytes to keep"),
    ],
)
def test_what_is_listed_as_something_else_is_no_name(tmp_path: Path, label: str, listed: str) -> None:
    assert mine(material_of(tmp_path, trades(**{label: listed})), ["listed"]) == []


def test_a_label_of_few_documents_lists_nothing(tmp_path: Path) -> None:
    files = trades(Examples="{0} vats; mats of {0}")
    few = {
        name: text if number < 4 else text.replace("Examples", name)
        for number, (name, text) in enumerate(files.items())
    }
    assert mine(material_of(tmp_path, few), ["listed"]) == []


def test_a_heading_of_many_documents_lends_its_parents_name_to_the_first_section_only(tmp_path: Path) -> None:
    files = {
        f"{name}.md": f"# {name} pump\n\n## Overview\n\nIt moves {name} water.\n\n## Care\n\nOil it, says {name}.\n"
        for name in "alder birch cedar elm hazel larch maple".split()
    }
    pairs = [pair for pair in mine(material_of(tmp_path, files), ["heading"]) if pair.anchor == "elm pump"]
    assert [pair.positive.splitlines()[1] for pair in pairs] == ["It moves elm water."]


def test_one_part_of_many_is_no_opening_of_the_others(tmp_path: Path) -> None:
    ticket = "# The {0} fault\n\n## Symptoms\n\nThe {0} drips on the floor.\n\n## Fix\n\n"
    ticket += "Close the main valve and then replace the {0} with a new one.\n"
    assert mined(tmp_path, "detail", **{f"{name}_md": ticket.format(name) for name in PARTS}) == {}


def test_a_heading_that_stands_twice_in_a_document_has_no_details(tmp_path: Path) -> None:
    text = "# Pump\n\n## Installation\n\nScrew it down.\n\n## Installation\n\n"
    assert mined(tmp_path, "detail", a_md=text + "Lead the pipe through the wall to the tank behind it.\n") == {}


def test_docstrings_are_no_details_of_the_class_before_them(tmp_path: Path) -> None:
    code = 'class {0}:\n    """What a {0} is."""\n\n'
    code += '    def run(self):\n        """Run it until all of its parts have stopped."""\n'
    assert mined(tmp_path, "detail", **{f"{name}_py": code.format(name.title()) for name in PARTS}) == {}


def test_where_headings_tell_sections_apart_nothing_is_a_detail(tmp_path: Path) -> None:
    few = {f"{name}_md": fault(name) for name in ("valve", "seal", "gasket")}
    assert mined(tmp_path, "detail", **few) == {}


def test_the_sections_of_a_ticket_pair_the_trouble_with_what_helped(tmp_path: Path) -> None:
    found = mined(tmp_path, "ticket", ticket_md=TICKETS)
    assert list(found) == ["The display stays dark after a power cut. It worked before."]
    assert "reset key" in next(iter(found.values()))


def test_labelled_paragraphs_pair_the_trouble_with_what_helped(tmp_path: Path) -> None:
    text = (
        "# Log\n\n**Problem:** The door jams.\n\n**Solution:** Oil the hinge.\n\nProblem: It squeaks.\n\nFix: Oil it.\n"
    )
    found = mined(tmp_path, "ticket", log_md=text)
    assert set(found) == {"The door jams.", "It squeaks."}
    assert "Oil the hinge." in found["The door jams."] and "squeaks" not in found["The door jams."]


def test_questions_inside_running_text_point_to_their_answers(tmp_path: Path) -> None:
    text = "# Help\n\nQ: Can the pump run dry?\nA: No, the seal would burn.\n\nQ: Is it loud?\n\nA: Not very loud.\n"
    found = mined(tmp_path, "question", help_md=text)
    assert set(found) == {"Can the pump run dry?", "Is it loud?"}
    assert "seal would burn" in found["Can the pump run dry?"] and "loud" not in found["Can the pump run dry?"]


def test_a_question_is_not_given_the_next_ones_answer_and_may_have_one_without_a_label(tmp_path: Path) -> None:
    text = (
        "# Help\n\n**Q: Can the pump run dry?**\n\nNo, the seal would burn.\n\n**Q: Is it loud?**\n\n"
        "A: Not very loud.\n\nQ: See below\n\nQ 3: Which oil?\nISO VG 46.\n"
    )
    found = mined(tmp_path, "question", help_md=text)
    assert set(found) == {"Can the pump run dry?", "Is it loud?", "Which oil?"}
    assert found["Can the pump run dry?"].endswith("No, the seal would burn.")
    assert found["Is it loud?"].endswith("Not very loud.") and found["Which oil?"].endswith("ISO VG 46.")


def test_a_trouble_that_nothing_helped_has_no_share_in_the_next_ones_remedy(tmp_path: Path) -> None:
    text = (
        "# Log\n\nProblem: The door jams.\n\nProblem: It squeaks.\nError message: E12\n\nFix: Oil the hinge.\n\n"
        "Problem: It fell off.\n"
    )
    found = mined(tmp_path, "ticket", log_md=text)
    assert [asked.split("\n")[0] for asked in found] == ["It squeaks. Error message: E12"]


def test_what_may_have_caused_a_trouble_is_an_answer_to_it(tmp_path: Path) -> None:
    text = "# Log\n\nSymptom: The coupling rattles.\n\nPossible causes:\n\n- misaligned shafts\n- overload\n"
    found = mined(tmp_path, "ticket", log_md=text)
    assert "misaligned shafts" in found["The coupling rattles."]


def test_a_heading_that_asks_in_bold_asks_without_its_stars(tmp_path: Path) -> None:
    found = mined(tmp_path, "question", help_md="# Help\n\n## **Q: Is it loud?**\n\nNot very loud, they say.\n")
    assert set(found) == {"Is it loud?"}


def test_a_thousand_blank_lines_after_a_label_are_passed_over(tmp_path: Path) -> None:
    gap = "\n" * 3000
    text = f"<h1>Log</h1><pre>Problem: The door jams.{gap}Fix: Oil the hinge well.</pre>"
    assert set(mined(tmp_path, "ticket", log_html=text)) == {"The door jams."}


def test_code_asks_nothing_and_is_no_part_of_a_sentence(tmp_path: Path) -> None:
    before = "To see what the pump does you run the following command in a terminal of yours:"
    after = "Then open the page in a browser and check that the green light is on and stays on."
    code = "```yaml\nrequest: GET /pump/1 of the server that listens at home and that answers all who ask it\n"
    text = f"# Pump\n\n{before}\n\n{code}response: 200 it runs\n```\n\n{after}\n"
    assert mined(tmp_path / "ticket", "ticket", log_md=text) == {}
    found = mined(tmp_path / "cloze", "cloze", log_md=text)
    assert set(found) <= {before, after} and all("GET /pump/1" in positive for positive in found.values())
    assert found


def test_headings_ask_and_name_in_scripts_without_blanks(tmp_path: Path) -> None:
    page = (
        "# 手册\n\n## 什么是糖尿病？\n\n糖尿病是一种代谢病。血糖长期高于正常值。患者需要终身治疗。\n\n"
        "## 感冒\n\n鼻子不通而且喉咙疼痛。一般一周以后会好转。多喝水并且休息。\n"
    )
    material = material_of(tmp_path, {"a.md": page})
    pairs = mine(material, ["question", "heading", "cloze"])
    assert {(pair.rule, pair.anchor) for pair in pairs if pair.rule != "cloze"} == {
        ("question", "什么是糖尿病？"),
        ("heading", "感冒"),
    }
    assert sum(pair.rule == "cloze" for pair in pairs) == 2


def test_headings_that_recur_on_one_line_are_sections_of_their_own(tmp_path: Path) -> None:
    parts = "".join(f"<h2>Notes</h2><p>The {name} must be oiled before winter.</p>" for name in PARTS)
    html = f"<html><head><title>Care of old pumps</title></head><body><h1>Care of old pumps</h1>{parts}</body></html>"
    material = material_of(tmp_path, {"a.html": html})
    mine(material, list(RULES))
    for place, passage in enumerate(material.passages):
        assert passage.text == material.sections[material.section_of[place]].text


def test_what_a_symbol_says_of_itself_points_to_its_code_and_its_name_to_what_it_says(tmp_path: Path) -> None:
    found = mined(tmp_path, "code_symbol", rows_py=CODE)
    body = found["Return the rows of a comma separated file."]
    assert "def read_rows(path, limit=None)" in body and "line.split" in body and "comma separated" not in body
    assert "comma separated" in found["read rows"] and "read_rows" not in found["read rows"]
    assert "row cache" in found


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        ("struct list_head *find_free_slot(struct mem_pool *pool)", "find free slot"),
        ("static int read_all_rows(FILE *f, struct row_buffer *o)", "read all rows"),
        ("struct row_buffer {", "row buffer"),
        ("enum class HttpStatus : int", "http status"),
        ("public abstract class RowReader<T> extends Base", "row reader"),
        ("func (t *Table) ReadRows(ctx context.Context) error", "read rows"),
        ("CREATE TABLE IF NOT EXISTS app.order_items (", "order items"),
        ("Object readRows(int x)", "read rows"),
    ],
)
def test_a_symbol_is_called_by_the_name_that_its_signature_gives_it(signature: str, name: str) -> None:
    assert " ".join(name_in_words(signature)) == name


def test_source_code_gives_no_pairs_of_headings_and_definitions(tmp_path: Path) -> None:
    pairs = mine(material_of(tmp_path, {"rows.py": CODE}), ["heading", "heading_path", "title", "definition"])
    assert pairs == []


@pytest.mark.parametrize("format", ["md", "html"])
def test_the_name_of_a_tables_row_points_to_the_row_under_the_tables_head(tmp_path: Path, format: str) -> None:
    rows = [line.strip("| ").split(" | ") for line in TABLE.splitlines() if line.startswith("| ")]
    html = "".join(f"<tr><td>{'</td><td>'.join(row)}</td><td>now</td></tr>" for row in rows)
    text = TABLE if format == "md" else f"<h1>Fault codes</h1><table>{html}</table>"
    found = of_rule(mine(material_of(tmp_path, {f"faults.{format}": text}), ["table_row"]), "table_row")
    assert set(found) == {"Dry run", "Blocked rotor"}
    assert "What to do: Fill the pump" in found["Dry run"] and "stones" not in found["Dry run"]


def test_a_table_of_what_is_what_has_no_head(tmp_path: Path) -> None:
    rows = {
        "Maker": "Grundfos Holding",
        "Maximum pressure": "ten bar at twenty degrees",
        "Drive motor": "asynchronous, three phases",
    }
    html = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
    found = mined(tmp_path, "table_row", pump_html=f"<h1>Pump P</h1><table>{html}</table>")
    assert {name: positive.split("\n")[-1] for name, positive in found.items()} == {
        "Maximum pressure": "ten bar at twenty degrees",
        "Drive motor": "asynchronous, three phases",
    }


def test_a_table_of_two_columns_has_the_head_that_the_page_says(tmp_path: Path) -> None:
    rows = "<tr><td>Dry run<td>Fill the pump with water<tr><td>Blocked rotor<td>Take the stones out"
    table = f"<h1>Faults</h1><table><tr><th>Fault that is shown<th>What to do{rows}</table>"
    found = mined(tmp_path, "table_row", faults_html=table)
    assert {name: positive.split("\n")[-1] for name, positive in found.items()} == {
        "Dry run": "What to do: Fill the pump with water",
        "Blocked rotor": "What to do: Take the stones out",
    }


def test_a_column_of_icons_labels_nothing_and_empty_cells_keep_their_columns(tmp_path: Path) -> None:
    rows = {"Headings": "Collapse or fold the outline", "Comments": "Show all, hide all", "": "Nothing to be done here"}
    html = "".join(f"<tr><td><img src=x><td>{name}<td>{said}<td>" for name, said in rows.items())
    table = f"<h1>Navigator</h1><table><tr><th>Icon<th>Category<th>Menu<th>Note{html}</table>"
    found = mined(tmp_path, "table_row", navigator_html=table)
    assert {name: positive.split("\n")[-1] for name, positive in found.items()} == {
        "Navigator Headings": "Menu: Collapse or fold the outline",
        "Navigator Comments": "Menu: Show all, hide all",
    }


def test_a_row_of_a_grid_is_what_stands_between_its_rules(tmp_path: Path) -> None:
    grid = """Codes
=====

+-----------+---------------------------+
| Fault     | What to do                |
+===========+===========================+
| Blocked   | Switch off the mains      |
| rotor     | and remove all the stones |
+-----------+---------------------------+
| Dry run   | Fill the pump             |
|           | with water                |
+-----------+---------------------------+
"""
    found = mined(tmp_path, "table_row", codes_rst=grid)
    assert {name: positive.split("\n")[-1] for name, positive in found.items()} == {
        "Blocked rotor": "What to do: Switch off the mains and remove all the stones",
        "Dry run": "What to do: Fill the pump with water",
    }


def test_a_rows_name_may_stand_after_its_code(tmp_path: Path) -> None:
    table = """# Faults

| Code | Fault | What it is | What to do |
|---|---|---|---|
| E1 | Dry run | The pump has no water | Fill the pump |
| E2 | Blocked rotor | Stones hold the wheel | Take the stones out |
| 3 | 4 | Something is wrong here | Ask the maker |
"""
    found = of_rule(mine(material_of(tmp_path, {"faults.md": table}), ["table_row"]), "table_row")
    assert set(found) == {"Dry run", "Blocked rotor"}
    assert "Code: E1; What it is: The pump has no water" in found["Dry run"] and "Dry run" not in found["Dry run"]
    named = table.replace("| 3 |", "| Any |")
    found = of_rule(mine(material_of(tmp_path / "named", {"faults.md": named}), ["table_row"]), "table_row")
    assert set(found) == {"Faults Any"}


def test_a_table_whose_head_is_empty_and_one_after_it_keep_their_heads_apart(tmp_path: Path) -> None:
    text = (
        "# Parts\n\n| Part | Made of |\n|---|---|\n| Outer ring | brass and some steel |\n"
        "| Inner ring | nothing but steel |\n\n"
        "| | |\n|---|---|\n| Long bolt | fastens the cover |\n| Short bolt | fastens the foot |\n"
    )
    found = mined(tmp_path, "table_row", parts_md=text)
    assert set(found) == {"Outer ring", "Inner ring", "Long bolt", "Short bolt"}
    assert "Made of: brass" in found["Outer ring"] and found["Long bolt"] == "Parts\nfastens the cover"


def test_a_heading_that_many_documents_have_says_something_after_the_title(tmp_path: Path) -> None:
    files = {
        f"{name}.md": f"# Device {name}\n\n## Installation\n\nPut {name} upon the wall and screw it on.\n\n"
        f"## Answer 1\n\nYes, {name} can do that well.\n"
        for name in ("alder", "beech", "cedar", "dogwood", "elder", "fir", "gorse")
    }
    pairs = mine(material_of(tmp_path, files), ["heading_path"])
    found = of_rule(pairs, "heading_path")
    assert "Put fir upon the wall" in found["Device fir Installation"]
    assert not any("Answer" in anchor for anchor in found)


def test_a_title_points_to_the_sections_that_share_most_words_with_it(tmp_path: Path) -> None:
    text = (
        "# Winter storage of garden pumps\n\n## Safety\n\nUnplug it before anything else.\n\n"
        "## Emptying\n\nGarden pumps that freeze in winter burst, so drain them.\n\n## Contact\n\nCall us any day.\n"
    )
    found = of_rule(mine(material_of(tmp_path, {"storage.md": text}), ["title"]), "title")
    (positive,) = found.values()
    assert "drain them" in positive and "Winter storage" not in positive


def test_the_parents_heading_that_is_the_anchor_is_left_out_of_the_positive(tmp_path: Path) -> None:
    files = {
        f"{n}.md": f"# Why does lamp {name} blink?\n\n## Answer 1\n\nIts fuse of kind {name} is loose.\n"
        for n, name in enumerate(("alder", "beech", "cedar", "dogwood", "elder", "fir", "gorse"))
    }
    found = of_rule(mine(material_of(tmp_path, files), ["question"]), "question")
    assert len(found) == 7 and not any("blink" in positive for positive in found.values())


def test_the_end_of_a_passage_points_to_the_next_one_of_its_document_only(tmp_path: Path) -> None:
    files = {
        "a.md": "# A\n\nFirst words of it. Last words of it.\n\n## B\n\nWhat comes next.\n",
        "c.md": "# C\n\nElse.\n",
    }
    pairs = mine(material_of(tmp_path, files), ["adjacent"])
    assert [pair.anchor for pair in pairs] == ["First words of it. Last words of it."]
    assert "What comes next." in pairs[0].positive


def test_key_phrases_are_what_tells_a_passage_from_the_rest_in_the_order_of_the_text(tmp_path: Path) -> None:
    files = {
        f"{n}.txt": f"the machine stands in the hall and the {word} of the machine turns {word} again\n"
        for n, word in enumerate(("blue impeller", "green rotor", "red stator", "old gearbox", "new flywheel"))
    }
    files["5.txt"] = "a rotor and an impeller, see https://example.org/zebra\n"
    material = material_of(tmp_path, files)
    assert key_phrases(material, 0, words=1) == "impeller"
    assert key_phrases(material, 0) == key_phrases(material, 0)
    assert "machine" not in key_phrases(material, 0)
    assert key_phrases(material, 5) == "rotor impeller see"
    assert len(key_phrases(material, 1, words=2).split()) == 2


def test_what_is_left_out_of_a_positive_is_left_out_as_a_whole_word_whatever_its_case(tmp_path: Path) -> None:
    text = "# Entry\n\nAlso called: sump; bilge\n\nA Sump, a sumptuous SUMP and the sump\npump.\n"
    found = of_rule(mine(material_of(tmp_path, {"a.md": text}), ["alias"]), "alias")
    assert found["sump"].endswith("Also called: bilge A a sumptuous and the pump.")


def test_pairs_of_a_long_list_of_terms_each_hold_their_own_entry(tmp_path: Path) -> None:
    entries = "\n\n".join(f'"Term number {n}" means the thing called by the name of {n} squared.' for n in range(60))
    pairs: list[Pair] = mine(material_of(tmp_path, {"a.txt": f"Agreement\n\n{entries}\n"}), ["definition"])
    assert len(pairs) == 60 and all(len(pair.positive.split()) < 20 for pair in pairs)


def test_terms_of_a_definition_list_in_html_are_defined_under_a_glossarys_heading_only(tmp_path: Path) -> None:
    listed = "<dl><dt>Collar</dt><dd>A ring that holds the hose in its place.</dd></dl>"
    pages = {name: f"<h1>{name} of pumps</h1>{listed}" for name in ("Glossary", "Options")}
    pairs = mine(material_of(tmp_path, {f"{name}.html": page for name, page in pages.items()}), ["definition"])
    assert [(pair.anchor, pair.document_id) for pair in pairs] == [("Collar", "Glossary.html")]
    assert "A ring that holds the hose" in pairs[0].positive and "Collar" not in pairs[0].positive


def test_each_remedy_of_a_list_answers_the_trouble_before_it_alone(tmp_path: Path) -> None:
    entry = "## Problem\n\nThe {0} is stuck.\n\n## Cause\n\nRust in the {0}.\n\n## Solution\n\nOil the {0} well.\n\n"
    parts = ("valve", "wheel", "latch")
    found = mine(material_of(tmp_path, {"a.md": "# Issues\n\n" + "".join(map(entry.format, parts))}), ["ticket"])
    pairs = [(pair.anchor, pair.positive.split("\n")[1]) for pair in found]
    assert sorted(pairs) == sorted(
        (f"The {part} is stuck.", said.format(part))
        for part in parts
        for said in ("Rust in the {}.", "Oil the {} well.")
    )


def test_what_an_interface_asks_and_answers_is_no_trouble_and_its_remedy(tmp_path: Path) -> None:
    text = "# Refunds\n\n## Request\n\nPOST to the refunds of an order.\n\n## Response\n\nThe refund that was made.\n\n"
    text += "Request: GET the list of refunds.\n\nResponse: 200 and the list.\n"
    assert mined(tmp_path / "api", "ticket", api_md=text) == {}
    assert set(mined(tmp_path / "t", "ticket", t_md=text.replace("Response", "Resolution"))) == {
        "POST to the refunds of an order.",
        "GET the list of refunds.",
    }


def test_what_a_quiz_offers_is_no_answer(tmp_path: Path) -> None:
    text = "# Quiz\n\nQ: Which puts out burning oil?\na) Water\nb) Foam\n\nQ: Which is loud?\nA) The horn.\n"
    assert set(mined(tmp_path, "question", quiz_md=text)) == {"Which is loud?"}


def test_questions_in_bold_or_numbered_have_their_answers(tmp_path: Path) -> None:
    said = [("How do I prime the pump?", "Fill it with water."), ("Is it loud?", "Not very loud.")]
    bold = "".join(f"**{asked}**\n\n{answer}\n\n" for asked, answer in said)
    run_in = "".join(f"1. **{asked}** {answer}\n" for asked, answer in said)
    numbered = "".join(f"{n}. {asked}\n{answer}\n\n" for n, (asked, answer) in enumerate(said, 1))
    faqs = {"bold.md": f"# FAQ\n\n{bold}", "list.md": f"# FAQ\n\n{run_in}", "plain.txt": f"PUMP FAQ\n\n{numbered}"}
    for name, text in faqs.items():
        found = of_rule(mine(material_of(tmp_path / name, {name: text}), ["question"]), "question")
        assert {asked: positive.split("\n")[-1].split("? ")[-1] for asked, positive in found.items()} == dict(said)


def test_labels_in_bold_are_no_terms_and_a_term_alone_is_none(tmp_path: Path) -> None:
    text = (
        "# Press\n\n**Warning**: never reach into the press while it runs.\n\n"
        "- **Step 1**: open the main valve slowly.\n- **Step 2**: switch on the motor and wait.\n\n"
        "**Anna Schmidt**: opened the meeting at nine.\n"
    )
    assert mined(tmp_path / "labels", "definition", press_md=text) == {}
    terms = "# Press\n\n- **Ram**: the part that moves up and down.\n- **Bed**: the part that the work lies on.\n"
    assert set(mined(tmp_path / "terms", "definition", press_md=terms)) == {"Ram", "Bed"}


@pytest.mark.parametrize(("heading", "terms"), [("Terms", 1), ("Terms of payment", 0), ("Terms and conditions", 0)])
def test_conditions_are_no_glossary(tmp_path: Path, heading: str, terms: int) -> None:
    text = f"# Sale\n\n## {heading}\n\nInvoice address: Northwind Traders in the High Street of Leeds.\n"
    assert len(mined(tmp_path, "definition", sale_md=text)) == terms


@pytest.mark.parametrize(
    ("sentence", "term"),
    [
        ("„Personenbezogene Daten“ bezeichnet alle Informationen über eine Person.", "Personenbezogene Daten"),
        ("« Abonné » désigne toute personne qui paie le service.", "Abonné"),
        ("«Cliente» significa toda persona que compra una bomba.", "Cliente"),
    ],
)
def test_terms_are_defined_in_other_languages_too(tmp_path: Path, sentence: str, term: str) -> None:
    assert set(mined(tmp_path, "definition", law_md=f"# 1\n\n{sentence}\n")) == {term}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Der Fühler (auch bekannt als Messkopf) misst.", {"Messkopf"}),
        ("La sonde, également appelée tête de mesure, mesure.", {"tête de mesure"}),
        ("La sonda, también conocida como cabezal, mide.", {"cabezal"}),
        ("Synonyme: Messkopf; Taster", {"Messkopf", "Taster"}),
        ("Abbreviations: DB = database, VM = virtual machine", set()),
        ("She is also called every morning by the manager.", set()),
    ],
)
def test_other_names_are_told_in_several_languages_and_not_by_all_that_sounds_so(
    tmp_path: Path, text: str, names: set[str]
) -> None:
    assert set(mined(tmp_path, "alias", probe_md=f"# Probe\n\n{text}\n")) == names


def test_terms_in_bold_are_counted_over_their_section_and_roles_are_no_labels(tmp_path: Path) -> None:
    long = "whoever decides what is built next, and why. " * 12
    text = "# Scrum\n\n" + "\n\n".join(f"**{term}**: {long}" for term in ("Product Owner", "Sprint Goal"))
    assert set(mined(tmp_path, "definition", scrum_md=text)) == {"Product Owner", "Sprint Goal"}


def test_choices_and_places_to_fill_in_answer_no_question(tmp_path: Path) -> None:
    asked = ("What is the capital?", "Were you ever convicted?", "Why do you apply?", "How old are you?", "Is it loud?")
    places = ("a) Paris\nb) London\nc) Rome", "[ ] Yes [ ] No", "..........", "- 18-25\n- 26-35", "Not very loud.")
    text = "# Form\n\n" + "".join(f"**{one}**\n\n{two}\n\n" for one, two in zip(asked, places, strict=True))
    assert set(mined(tmp_path, "question", form_md=text)) == {"Is it loud?"}


def test_bold_within_a_sentence_or_a_step_that_asks_begins_no_section(tmp_path: Path) -> None:
    wrapped = (
        "# Set up\n\nWhen the program shows the prompt\n**Overwrite existing files?** you answer yes.\n"
        "When it shows the prompt **Restart?** then wait. Then comes\n**Restart now?** Say no.\n"
    )
    steps = "SET UP\n\n1. Is the disk full?\nRun df and read the last column of it.\n\nThen restart it.\n"
    assert mined(tmp_path / "md", "question", setup_md=wrapped) == {}
    assert mined(tmp_path / "txt", "question", setup_txt=steps) == {}


def test_a_clause_before_a_code_is_no_other_name_of_what_it_refers_to(tmp_path: Path) -> None:
    text = "# Norm\n\n## 5.1 Marks\n\nMarks shall remain legible after the rub test (5.2). See live parts (5.3).\n\n"
    text += "May-Hegglin anomaly (5.2).\n\n## 5.2 Rubbing\n\nRub with a wet cloth.\n\n"
    text += "## 5.3 Charged parts\n\nThey are guarded.\n"
    assert set(mined(tmp_path, "cross_reference", norm_md=text)) == {"live parts", "May-Hegglin anomaly"}


def test_a_rows_label_asks_without_its_markup(tmp_path: Path) -> None:
    text = "# Data\n\n| What | Value |\n|---|---|\n| **Power supply** | 230 V of alternating current |\n"
    text += "| [Noise level](noise.md) | 40 decibels at a metre |\n| Methods `__init__` | called by each of them |\n"
    assert set(mined(tmp_path, "table_row", data_md=text)) == {"Power supply", "Noise level", "Methods __init__"}
