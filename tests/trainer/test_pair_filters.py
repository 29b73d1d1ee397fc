from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

from small_material import material_of

from trainer.advice import advice, idle_rules
from trainer.material import Material
from trainer.mining import NEEDS, RULES, mine
from trainer.pairs import Pair
from trainer.silver import Yield, balance, filter_pairs

NAMES = ("alder", "beech", "cedar", "dogwood", "elder", "fir", "gorse", "hazel")


def prose(seed: int, words: int = 60) -> str:
    """Sentences of twelve made-up words, some of which come again in other texts."""
    generator = Random(seed)
    text = [f"w{chr(97 + generator.randrange(26))}{generator.randrange(200)}x" for _ in range(words)]
    sentences = (" ".join(text[start : start + 12]).capitalize() for start in range(0, words, 12))
    return " ".join(f"{sentence}." for sentence in sentences)


def filtered(material: Material, rules: list[str]) -> tuple[list[Pair], dict[str, Yield]]:
    kept, yields, _ = filter_pairs(material, mine(material, rules), [], "english")
    return kept, {item.rule: item for item in yields}


def test_each_step_of_the_filter_is_counted_and_none_adds_a_pair(tmp_path: Path) -> None:
    files = {f"{name}.md": f"# About {name}\n\n{prose(n)}\n" for n, name in enumerate(NAMES)}
    kept, yields = filtered(material_of(tmp_path, files), list(RULES))
    assert yields and Counter(pair.rule for pair in kept) == {y.rule: y.kept for y in yields.values() if y.kept}
    for y in yields.values():
        assert y.mined >= y.clear >= y.distinct >= y.telling >= y.silver == y.kept


def test_a_copy_with_a_few_words_changed_gives_no_second_pair(tmp_path: Path) -> None:
    text = prose(1, 84)
    files = {"a.md": f"# Priming the pump\n\n{text}\n", "b.md": f"# Priming the pump\n\n{text} Indeed so.\n"}
    kept, yields = filtered(material_of(tmp_path, files), ["heading"])
    assert len(kept) == 1 and (yields["heading"].clear, yields["heading"].distinct) == (2, 1)


def test_a_text_that_very_many_documents_have_is_no_answer(tmp_path: Path) -> None:
    notice = "This notice stands at the end of each and every document that the company publishes."
    files = {
        f"{name}.md": f"# The {name}\n\n{prose(n)}\n\n## Notice {name}\n\n{notice}\n" for n, name in enumerate(NAMES)
    }
    kept, yields = filtered(material_of(tmp_path, files), ["heading"])
    assert len(kept) == 8 and not any(notice in pair.positive for pair in kept)
    assert yields["heading"].distinct - yields["heading"].telling == 8


def test_texts_of_a_few_words_that_differ_by_numbers_are_one_that_tells_nothing(tmp_path: Path) -> None:
    files = {
        f"{trade}.md": f"# {trade} works\n\nSee industry {number}.\n\n## {trade} vats\n\n"
        f"Sensor {number} on channel {number} of the {trade} vat returned a value that is out of its range.\n"
        for number, trade in enumerate("cork felt horn jute lead rope tin wax".split(), 4411)
    }
    material = material_of(tmp_path, files)
    assert {material.passages[place].heading[-1] for place in material.boilerplate} == {
        f"{trade} works" for trade in "cork felt horn jute lead rope tin wax".split()
    }


def test_the_answers_under_one_question_are_one_target_and_not_each_others_negatives(tmp_path: Path) -> None:
    files = {
        f"{name}.md": f"# Why does the {name} blink?\n\n"
        + "".join(f"## Answer {n}\n\n{prose(n + 10 * seed, 24)}\n\n" for n in range(1, 7))
        for seed, name in enumerate(NAMES)
    }
    material = material_of(tmp_path, files)
    kept, _ = filtered(material, ["question"])
    assert len(kept) == 48
    first, second, other = (material.passages_of[n][0] for n in (1, 2, 8))
    assert material.related(material.section_of[first], material.section_of[second])
    assert not material.related(material.section_of[first], material.section_of[other])


def test_sections_that_say_nearly_the_same_are_related_and_empty_ones_are_not(tmp_path: Path) -> None:
    text = prose(3, 84)
    body = f"## One\n\n{text}\n\n## Two\n\n{text} And more.\n\n## Three\n\n## Four\n\n## Five\n\n{prose(4)}\n"
    material = material_of(tmp_path, {"a.md": body})
    places = {section.heading[-1]: place for place, section in enumerate(material.sections)}
    assert material.related(places["One"], places["Two"])
    assert not material.related(places["Three"], places["Four"])
    assert not material.related(places["One"], places["Five"])


def test_one_document_among_many_gives_no_more_than_ten_times_the_average() -> None:
    small = [Pair(f"a{d}-{n}", "p", "heading", n, n, f"{d}.md") for d in range(99) for n in range(10)]
    large = [Pair(f"b{n}", "p", "heading", n, n, "large.md") for n in range(9010)]
    counts = Counter(pair.document_id for pair in balance([*small, *large], 100_000, seed=1))
    assert counts["large.md"] == 1000 and len(counts) == 100 and counts["5.md"] == 10


def test_a_corpus_of_one_document_is_not_capped() -> None:
    pairs = [Pair(f"a{n}", "p", "heading", n, n, "only.md") for n in range(5000)]
    assert len(balance(pairs, 100_000, seed=1)) == 5000


def test_a_giant_file_without_structure_gives_pairs_of_prose_and_is_told_so(tmp_path: Path) -> None:
    paragraphs = "\n\n".join(prose(n) for n in range(300))
    material = material_of(tmp_path, {"all.txt": paragraphs})
    _, yields = filtered(material, list(RULES))
    assert yields["cloze"].mined == 300 and "definition" not in yields
    said = " ".join(advice(material, list(yields.values()), list(RULES), 64))
    assert "one document" in said and "--questions" in said


def test_a_corpus_of_copies_is_told_so(tmp_path: Path) -> None:
    files = {f"{n}.md": f"# Pump {n}\n\n{prose(1)}\n" for n in range(12)}
    material = material_of(tmp_path, files)
    kept, yields = filtered(material, list(RULES))
    assert kept == []
    said = " ".join(advice(material, list(yields.values()), list(RULES), 64))
    assert "11 of 12 sections say nearly what another one says" in said and "No structure" not in said
    assert "0 usable pairs are too few to tune on: 64 are wanted (trainer.min_pairs)" in said
    assert set(idle_rules(list(yields.values()), RULES)) == set(RULES)


def test_an_idle_rule_says_what_the_corpus_lacks_or_what_took_its_pairs() -> None:
    yields = [Yield("cloze", 9, 9, 9, 9, 0, 0), Yield("alias", 5, 0, 0, 0, 0, 0), Yield("heading", 3, 3, 3, 3, 3, 3)]
    reasons = idle_rules(yields, ["cloze", "alias", "heading", "definition"])
    assert reasons == {
        "cloze": "all of 9 left out: anchor and text share no words",
        "alias": "all of 5 left out: their anchors are asked about in the questions, or name too many sections",
        "definition": f"found no {NEEDS['definition']}",
    }


def test_the_advice_of_the_trade_goes_by_the_number_of_pairs_of_the_recipe(tmp_path: Path) -> None:
    material = material_of(tmp_path, {"a.md": "# A\n\nText of a.\n", "b.md": "# B\n\nText of b.\n"})

    def said(pairs: int) -> str:
        yields = [Yield("heading", *[pairs] * 6), Yield("cloze", *[90_000] * 6)]
        return " ".join(advice(material, yields, ["heading"], 64))

    assert "50 usable pairs are too few to tune on" in said(50) and "questions with answers" in said(50)
    assert "are few" in said(500) and "unused: cloze 90000" in said(500)
    assert "sweet spot" in said(3000) and "enough" in said(3000)
    assert "the sweet spot" in said(12_000) and "few" not in said(12_000)
    assert "returns diminish" in said(60_000)
