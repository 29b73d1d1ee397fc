from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder
from small_material import material_of, of_rule

from retrieval.passages import Passage
from retrieval.workspace import Workspace
from trainer.heading_rules import is_question
from trainer.material import (
    informative_heading,
    leading_identifier,
    normalise,
    strip_identifiers,
)
from trainer.mined import mine_corpus
from trainer.mining import RULES, mine, seed_chunks
from trainer.pairs import Pair, intact, masked_text
from trainer.questions import section_unit, unit_of
from trainer.silver import balance, filter_pairs, silver_scores, unambiguous, unmistakable
from trainer.split import hold_out

CODES = """# Chapter 1: Infections

## Gut infections (A00-A09)

### A00 Cholera

Not coded here: cholera carrier state (Z22.1); food poisoning (A05.9)

#### A00.0 Cholera due to Vibrio cholerae

Also called: Classical cholera; Asiatic cholera

### A05.9 Bacterial foodborne intoxication, unspecified

Includes: spoiled food of any kind.
"""
PROSE = """# Pump manual

The pump, also known as the lifter, moves water up to the tank on the roof. It must be primed with two
litres of clean water before the first start. A dry start destroys the seal within a minute.

## How do I prime the pump?

Open the valve and pour two litres into the funnel until water runs out of the drain.

## Warranty

Two years from the day of purchase.
"""


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    return mine(material_of(tmp_path, {"codes.md": CODES, "pump.md": PROSE}), list(RULES))


def test_each_name_of_an_alias_list_points_to_its_entry_and_is_left_out_there(pairs: list[Pair]) -> None:
    aliases = of_rule(pairs, "alias")
    assert "A00.0 Cholera due to Vibrio cholerae" in aliases["Classical cholera"]
    assert "Classical cholera" not in aliases["Classical cholera"]
    assert "Asiatic cholera" in aliases["Classical cholera"]


def test_an_alias_list_inside_a_records_paragraph_ends_at_the_next_label(tmp_path: Path) -> None:
    text = "Within: Gut infections > Cholera. Also called: Classical cholera; Asiatic cholera. Excludes: sprue (K90.1)"
    material = material_of(
        tmp_path, {"codes.jsonl": json.dumps({"_id": "A00.0", "title": "A00.0 Cholera", "text": text})}
    )
    aliases = of_rule(mine(material, ["alias"]), "alias")
    assert set(aliases) == {"Classical cholera", "Asiatic cholera"}
    assert "Asiatic cholera. Excludes: sprue" in aliases["Classical cholera"]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("hose ring, collar, and seat", {"hose ring", "collar", "seat"}),
        ("N/A", set()),
        ("Not known by any other name.", set()),
        ("see the section about metals", set()),
        ("No-reflow phenomenon; not classifiable", {"No-reflow phenomenon"}),
    ],
)
def test_what_stands_under_also_called_and_is_no_name_gives_no_pair(
    tmp_path: Path, listed: str, names: set[str]
) -> None:
    material = material_of(tmp_path, {"ring.md": f"# Ring\n\nSeals the lid.\n\nAlso called: {listed}\n"})
    assert set(of_rule(mine(material, ["alias"]), "alias")) == names


def test_an_alias_inside_a_sentence_is_found_and_cut_out(pairs: list[Pair]) -> None:
    assert "lifter" not in of_rule(pairs, "alias")["lifter"]


def test_the_positive_of_a_name_in_a_glossary_is_its_entry_alone(tmp_path: Path) -> None:
    text = (
        "# Glossary\n\n**shaft sleeve**: also known as protection tube. Guards the shaft.\n"
        "**check valve**: also known as non-return valve or clack. Lets water pass one way.\n"
    )
    aliases = of_rule(mine(material_of(tmp_path, {"glossary.md": text}), ["alias"]), "alias")
    assert set(aliases) == {"protection tube", "non-return valve", "clack"}
    assert aliases["clack"].startswith("Glossary\n**check valve**:") and "sleeve" not in aliases["clack"]


def test_a_term_with_a_code_points_to_the_entry_of_that_code(pairs: list[Pair]) -> None:
    references = of_rule(pairs, "cross_reference")
    assert references["food poisoning"].startswith("A05.9 Bacterial foodborne intoxication")
    assert "cholera carrier state" not in references


def test_a_heading_points_to_its_text_which_no_longer_holds_it(pairs: list[Pair]) -> None:
    headings = of_rule(pairs, "heading")
    assert "Two years from the day of purchase." in headings["Warranty"]
    assert "Warranty" not in headings["Warranty"]
    assert "Cholera due to Vibrio cholerae" in headings and "A00.0" not in "".join(headings)


def test_a_heading_that_leads_a_trimmed_context_is_left_out_too() -> None:
    passage = Passage(
        "1", "a.md", "", ("Manual", "Part", "Very long leaf"), "the text", 1, 1, ("Very long leaf", "Part")
    )
    assert masked_text(passage, [], ["Very long leaf"]) == "the text\nPart"


def test_a_question_heading_points_to_its_answer(pairs: list[Pair]) -> None:
    answer = of_rule(pairs, "question")["How do I prime the pump?"]
    assert "funnel" in answer and "How do I prime" not in answer


@pytest.mark.parametrize(
    ("heading", "asks"),
    [
        ("How do I prime the pump", True),
        ("What's in the second box", True),
        ("Pumps?", True),
        ("WHO(1) User Commands WHO(1)", False),
        ("What else", False),
    ],
)
def test_a_heading_asks_if_it_begins_as_questions_do_or_ends_so(heading: str, asks: bool) -> None:
    assert is_question(heading) is asks


def test_a_question_column_points_to_its_answer(tmp_path: Path) -> None:
    rows = [
        {"question": f"Why does light {n} blink?", "answer": f"Battery {n} is low and wants a change."} for n in (1, 2)
    ]
    material = material_of(tmp_path, {"faq.jsonl": "\n".join(map(json.dumps, rows))})
    found = of_rule(mine(material, ["question"]), "question")
    assert "Battery 2 is low" in found["Why does light 2 blink?"]
    assert "blink" not in found["Why does light 2 blink?"]


def test_a_cloze_anchor_is_a_sentence_that_its_positive_lacks(pairs: list[Pair]) -> None:
    found = of_rule(pairs, "cloze")
    assert found
    for anchor, positive in found.items():
        assert anchor not in positive and "pump" in (anchor + positive).lower()


def test_words_parted_at_the_ends_of_lines_are_whole_in_anchors_and_positives(tmp_path: Path) -> None:
    page = "Telemetry\n=========\n\nThe pump sends its re\u2010\n     adings to a server. "
    page += "Another ser\u2010\n     ver keeps all of them for a week.\n"
    page += "It is also known as the re\u2010\n     mote monitor.\n"
    found = mine(material_of(tmp_path, {"page.txt": page}), ["alias", "cloze"])
    assert found.pop(0).anchor == "remote monitor"
    sentences = ["The pump sends its readings to a server.", "Another server keeps all of them for a week."]
    assert found[0].anchor in sentences
    assert all(said in found[0].positive for said in sentences if said != found[0].anchor)


def test_a_heading_that_stands_in_every_document_gives_way_to_what_encloses_it(tmp_path: Path) -> None:
    files = {
        f"{n}.md": f"# Device number {'abcdefgh'[n]}\n\n## Overview\n\nIt is blue and large and old.\n"
        for n in range(8)
    }
    material = material_of(tmp_path, files)
    section = next(section for section in material.sections if section.heading[-1] == "Overview")
    assert informative_heading(material, section) == "Device number a"


@pytest.mark.parametrize(
    ("heading", "identifier", "rest"),
    [
        ("A00.0 Cholera due to Vibrio", "A00.0", "Cholera due to Vibrio"),
        ("12.3 Indemnification", "12.3", "Indemnification"),
        ("Chapter 4: Endocrine diseases (E00-E89)", "4", "Endocrine diseases"),
        ("Overview", "", "Overview"),
        ("2024", "", "2024"),
        ("C++ and C#", "", "C++ and C#"),
        ("STIM2 is a sensor of calcium", "", "STIM2 is a sensor of calcium"),
        ("IV. Governance.", "", "Governance"),
    ],
)
def test_codes_are_told_from_words_in_a_heading(heading: str, identifier: str, rest: str) -> None:
    assert leading_identifier(heading) == identifier
    assert strip_identifiers(heading) == rest


def test_the_tutorials_chunks_are_256_words_that_overlap_by_32(tmp_path: Path) -> None:
    text = "# Head\n\n" + " ".join(f"w{n}" for n in range(600))
    pairs = seed_chunks(material_of(tmp_path, {"long.md": text}))
    adjacent = [pair for pair in pairs if pair.rule == "seed_adjacent"]
    assert adjacent[0].anchor.split()[-32:] == adjacent[0].positive.split()[:32]
    assert len(adjacent[0].anchor.split()) == 256
    header = next(pair for pair in pairs if pair.rule == "seed_header")
    assert header.anchor == "Head" and len(header.positive) == 512


def test_the_tutorials_pairs_are_of_their_own_documents(tmp_path: Path) -> None:
    files = {f"{n}.md": f"# Title {n}\n\n## Part {n}\n\nWhat document {n} says of it.\n" for n in range(4)}
    material = material_of(tmp_path, files)
    pairs = seed_chunks(material)
    assert len(pairs) == 8
    assert all(material.passages[pair.passage].document_id == pair.document_id for pair in pairs)


def test_a_heading_that_names_many_sections_is_no_mined_question(tmp_path: Path) -> None:
    kinds = [f"{a}{b}" for a in ("axial", "radial", "screw", "gear", "vane", "lobe") for b in "bcdfghjklmnpqrst"]
    files = {
        f"{kind}.md": f"# About {kind} pumps\n\n## Seals of {kind}\n\nThe seals of it are {n * 7} wide and soft.\n\n"
        for n, kind in enumerate(kinds)
    }
    for name in [f"{kind}.md" for kind in kinds[::20]]:
        files[name] += "".join(
            f"## Tolerances\n\nKind {part} of {name} has {part * 13} parts.\n\n" for part in range(5)
        )
    material = material_of(tmp_path, files)
    mined = mine(material, ["heading"])
    for pairs, asked in ((mined, True), (unambiguous(material, mined), False), (unmistakable(material, mined), False)):
        found = {text for seed in range(6) for text in (q.text for q in hold_out(material, pairs, seed)[1].all)}
        assert ("Tolerances" in found) == asked


def test_an_anchor_that_is_a_test_question_is_never_trained_on(tmp_path: Path, pairs: list[Pair]) -> None:
    material = material_of(tmp_path / "again", {"codes.md": CODES, "pump.md": PROSE})
    kept, _, leaks = filter_pairs(material, mine(material, list(RULES)), ["classical  CHOLERA!"], "english")
    assert leaks == 1
    assert "Classical cholera" in {pair.anchor for pair in pairs} - {pair.anchor for pair in kept}


def test_an_anchor_that_names_many_entries_is_dropped(tmp_path: Path) -> None:
    files = {
        f"{n}.md": f"# Thing {'abcdef'[n]}\n\nAlso called: widget; gadget {'abcdef'[n]}\n\nIt is item {n}.\n"
        for n in range(6)
    }
    material = material_of(tmp_path, files)
    kept, yields, _ = filter_pairs(material, mine(material, ["alias"]), [], "english")
    assert {pair.anchor for pair in kept} == {f"gadget {letter}" for letter in "abcdef"}
    assert (yields[0].mined, yields[0].distinct) == (12, 6)


def test_the_silver_score_is_high_for_shared_words_and_zero_for_none() -> None:
    shared = Pair("pump seal dry start", "a dry start destroys the pump seal", "cloze", 0, 0, "a")
    foreign = Pair("pump seal dry start", "two years of warranty", "cloze", 0, 1, "a")
    fillers = [Pair(f"filler number {n}", f"other words {n} here", "cloze", 0, n, "b") for n in range(10)]
    scores = silver_scores([shared, foreign, *fillers], "english")
    assert scores[0] > 0.3 and scores[1] == 0.0


def test_no_rule_and_no_document_drowns_the_rest() -> None:
    large = [Pair(f"a{n}", f"p{n}", "heading", n, n, "big.md") for n in range(500)]
    small = [Pair(f"b{n}", f"q{n}", "heading", n, n, "small.md") for n in range(20)]
    other = [Pair(f"c{n}", f"r{n}", "alias", n, n, "big.md") for n in range(30)]
    chosen = balance([*large, *small, *other], 100, seed=1)
    assert len(chosen) == 100
    assert sum(pair.rule == "alias" for pair in chosen) == 30
    assert sum(pair.document_id == "small.md" for pair in chosen) == 20


def test_held_out_documents_give_questions_that_their_masked_passages_do_not_hold(tmp_path: Path) -> None:
    files = {
        f"{n}.md": "".join(
            f"# {a}{n} thing {chr(97 + n)}{a}\n\nAlso called: other{a}{n}\n\nText of {a} {n}.\n\n" for a in "xyz"
        )
        for n in range(40)
    }
    # A copy of a document must not be trained on when its twin is held out.
    files["copy.md"] = files["7.md"]
    material = material_of(tmp_path, files)
    held, questions, masks = hold_out(material, mine(material, ["alias", "heading"]), seed=3)
    asked = [*questions.dev, *questions.test]
    assert "mined" in questions.evidence and len(asked) >= 20
    assert {unit.partition("#")[0] for question in asked for unit in question.relevant} <= held
    assert held < {document.id for document in material.documents}
    assert ("7.md" in held) == ("copy.md" in held)
    for question in asked:
        answers = [
            place
            for place, passage in enumerate(material.passages)
            if {section_unit(passage), passage.document_id} & set(question.relevant)
        ]
        assert answers
        for place in answers:
            assert (
                f" {normalise(question.text)} " not in f" {normalise(masks.get(place, material.passages[place].text))} "
            )
    # Names and headings lead to the same passages, and both are asked.
    assert {question.text.startswith("other") for question in asked} == {True, False}


@pytest.mark.parametrize("rule", ["definition", "table_row"])
def test_a_question_is_judged_by_passages_that_lack_what_its_pair_would_have_lacked(tmp_path: Path, rule: str) -> None:
    colors = "amber black cream dusky ebony flaxen golden hazel ivory jade khaki lemon mauve navy".split()
    names = [f"{color} {part}" for color in colors for part in ("flange", "rotor", "seal", "valve", "wheel", "shim")]
    texts = {
        "definition": "{0} is a part that cools the shaft of motor {1}.",
        "table_row": "| Code | Meaning |\n|---|---|\n| Alarm | lamp number {1} blinks |\n| Silence | all is well |",
    }
    files = {
        f"{number}.md": f"# {name.capitalize()}\n\n{texts[rule].format(name.capitalize(), number)}\n"
        for number, name in enumerate(names)
    }
    material = material_of(tmp_path, files)
    _, questions, masks = hold_out(material, mine(material, [rule]), seed=3)
    assert len(questions.all) >= 20
    for question in questions.all:
        answers = [
            masks[place]
            for place, passage in enumerate(material.passages)
            if {section_unit(passage), passage.document_id} & set(question.relevant)
        ]
        assert answers
        heading = " ".join(question.text.split()[:2])
        assert not any(heading.casefold() in answer.casefold() for answer in answers)


def test_a_term_that_a_held_out_document_says_is_not_learned_from(tmp_path: Path) -> None:
    files = {
        f"{number}.md": f"# A{number}0 Disease {chr(97 + number)}bc\n\nAlso called: other{number} name{number}\n\n"
        f"Excludes: quaint{number} thing{number} (A{(number + 1) % 90 + 10}0)\n"
        for number in range(10, 100)
    }
    material_of(tmp_path, files)
    mined = mine_corpus(
        Workspace.open(tmp_path), "docs", ["alias", "cross_reference"], HashEmbedder(), questions=None, seed=3
    )
    references = [pair for pair in mined.kept if pair.rule == "cross_reference"]
    assert mined.held and references
    assert mined.held.isdisjoint(pair.said_in for pair in references)


def test_what_says_nearly_the_same_as_an_answer_is_an_answer_and_is_not_learned_from(tmp_path: Path) -> None:
    page = "# Pump {0}{1}\n\n{2}\n\n## Care of pump {0}{1}\n\n{3}\n"
    files = {}
    for name in "abcdefghijklmnopqrstuvwxyz":
        care = [f"{name}x{place}" for place in range(60)]
        for twin in ("one", "two"):
            own = " ".join(f"{name}{twin}{place}" for place in range(60))
            files[f"{name}{twin}.md"] = page.format(name, twin, own, " ".join([*care[:30], twin, *care[31:]]))
    material = material_of(tmp_path, files)
    _, questions, masks = hold_out(material, mine(material, ["heading"]), seed=3)
    sides = [{unit for question in side for unit in question.relevant} for side in (questions.dev, questions.test)]
    assert all(sides) and sides[0].isdisjoint(sides[1])
    cares = [question for question in questions.all if question.text.startswith("Care")]
    assert cares and all(len(question.relevant) == 2 for question in cares)
    for question in cares:
        for place, passage in enumerate(material.passages):
            if section_unit(passage) in question.relevant:
                assert place in masks


def test_a_heading_that_its_document_has_twice_is_answered_by_the_one_that_was_asked_for(tmp_path: Path) -> None:
    things = [f"{one}{two}" for one in "abcdefghijkl" for two in "lmnopqrst"]
    page = "# Guide {0}\n\n## Part a\n\n### Overview\n\nAlso called: first{0}\n\nThe {0} is red.\n\n"
    page += "## Part b\n\n### Overview\n\nThe {0} is loud.\n"
    material = material_of(tmp_path, {f"{thing}.md": page.format(thing) for thing in things})
    _, questions, _ = hold_out(material, mine(material, ["alias"]), seed=3)
    for question in questions.all:
        ranked = {
            place: unit_of(passage, question.relevant, True)
            for place, passage in enumerate(material.passages)
            if passage.document_id in next(iter(question.relevant))
        }
        right = [place for place, unit in ranked.items() if unit in question.relevant]
        assert [material.passages[place].heading[-2:] for place in right] == [("Part a", "Overview")]


def test_all_that_one_name_leads_to_answers_it(tmp_path: Path) -> None:
    things = [f"{one}{two}" for one in "abcdefghijkl" for two in "lmnopqrst"]
    page = "# How is a {0} made?\n\n## Answer 1\n\nGlue the {0} well.\n\n## Answer 2\n\nBuy another {0} now.\n"
    material = material_of(tmp_path, {f"{thing}.md": page.format(thing) for thing in things})
    pairs = mine(material, ["alias", "question"])
    names = [replace(pair, rule="alias", anchor=pair.anchor.upper()) for pair in pairs[1::2]]
    _, questions, _ = hold_out(material, [*pairs, *names], seed=3)
    assert len({normalise(question.text) for question in questions.all}) == len(questions.all) >= 20


def test_a_name_listed_beside_what_it_names_does_not_give_the_answer_away(tmp_path: Path) -> None:
    things = [f"{one}{two}" for one in "abcdefghijk" for two in "lmnopqrstuv"]
    page = "# Thing {0}\n\nIts {0} is {0}x, {0}y and {0}z.\n\n## Synonyms\n\n- other{0}\n- more {0}w\n"
    material = material_of(tmp_path, {f"{thing}.md": page.format(thing) for thing in things})
    _, questions, masks = hold_out(material, mine(material, ["alias"]), seed=3)
    assert len(questions.all) >= 20
    for question in questions.all:
        for place, passage in enumerate(material.passages):
            assert question.text not in masks.get(place, passage.embedded_text)


def test_no_passage_under_the_heading_that_is_asked_says_it_and_a_title_is_answered_by_its_document(
    tmp_path: Path,
) -> None:
    things = [f"widget{chr(97 + n)}" for n in range(26)] + [f"gadget{chr(97 + n)}" for n in range(26)]
    files = {
        f"{thing}.md": f"# How do I mend a {thing}?\n\n## Answer 1\n\nGlue {thing} well.\n\n"
        f"## Answer 2\n\nBuy another {thing}.\n\n## Parts of any {thing}\n\nSee below, {thing}.\n\n"
        f"### Screws\n\nFour of them hold the {thing}.\n"
        for thing in things
    }
    material = material_of(tmp_path, files)
    held, questions, masks = hold_out(material, mine(material, ["question", "heading"]), seed=3)
    passages = list(enumerate(material.passages))
    by_title = [question for question in questions.all if question.text.startswith("How")]
    assert len(by_title) >= 10
    for question in by_title:
        [document] = question.relevant
        assert document in held
        of_document = [place for place, passage in passages if passage.document_id == document]
        assert len(of_document) > 3
        assert not any(normalise(question.text) in normalise(masks[place]) for place in of_document)
    by_heading = [question for question in questions.all if question.text.startswith("Parts")]
    assert len(by_heading) >= 10
    for question in by_heading:
        # "Screws" is what many documents say, so what stands under it is named by the heading above.
        (document, heading), (same, below) = (unit.split("#") for unit in question.relevant)
        assert (heading, same, below) == (question.text, document, "Screws")
        [screws] = [
            place
            for place, passage in passages
            if passage.document_id == document and passage.heading[-1:] == ("Screws",)
        ]
        assert question.text not in masks[screws]


def test_an_intact_pair_has_its_passage_as_the_index_embeds_it(tmp_path: Path) -> None:
    material = material_of(tmp_path, {"codes.md": CODES, "pump.md": PROSE})
    [alias] = [pair for pair in mine(material, ["alias"]) if pair.anchor == "Classical cholera"]
    assert alias.anchor not in alias.positive and alias.anchor in intact(material, alias).positive
    [warranty] = [pair for pair in mine(material, ["heading"]) if pair.anchor == "Warranty"]
    assert "Warranty" in intact(material, warranty).positive


def test_an_excerpt_stays_one_in_an_intact_pair(tmp_path: Path) -> None:
    words = "# Glossary\n\nCollar\n    A ring that holds the hose.\n\nFunnel\n    What the water is poured into.\n"
    material = material_of(tmp_path, {"words.rst": words.replace("# Glossary", "Glossary\n========")})
    pairs = [*mine(material, ["definition"]), *seed_chunks(material)]
    assert {pair.rule for pair in pairs} >= {"definition"}
    assert all(intact(material, pair) == pair for pair in pairs)
