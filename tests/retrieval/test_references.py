"""What other sections call a section: found, embedded, searched, kept up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.catalog import CatalogReader
from retrieval.embedders import Embedder
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.passages import Passage
from retrieval.references import CALLED_CHARS, leading_identifier, named, named_all, references
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace
from trainer.material import gather

NOSE = "# J34 Disorders of nose\n\n## J34.0 Abscess of nose\n\nPus in the nasal vestibule.\n\n## J34.1 Cyst\n\nA sac.\n"
SKIN = "# L03 Cellulitis\n\n## L03.2 Of face\n\nExcludes: cellulitis of nose (internal) (J34.0); erysipelas (A46.-)\n"
BRAIN = "# A46 Erysipelas\n\nA fever. Not here: phlegmon of nose (J34.0).\n"


@pytest.fixture
def workspace(tmp_path: Path, static_model: Path) -> Workspace:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, text in (("nose", NOSE), ("skin", SKIN), ("brain", BRAIN)):
        (docs / f"{name}.md").write_text(text)
    Workspace.create(tmp_path, {"docs": "docs"}, str(static_model))
    return Workspace.open(tmp_path)


def passages(workspace: Workspace) -> list[Passage]:
    """Those of the live index."""
    reader = CatalogReader(open_current(workspace.index_dir("docs"), "docs").catalog_file)
    return [row.passage for name in ("brain", "nose", "skin", "more") for row in reader.document(f"{name}.md", 99)]


def indexed(workspace: Workspace) -> dict[str, str]:
    """What is embedded of each, by its id."""
    return {passage.id: passage.embedded_text for passage in passages(workspace)}


def called(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    return {passage.heading[-1]: passage.called for passage in passages(workspace) if passage.called}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Excludes: cellulitis of nose (J34.0); lip (K13.0-)", [("cellulitis of nose", "j34.0"), ("lip", "k13.0")]),
        ("as agreed, the **Cap** (§12(b))", []),
        ("nose (internal) (J34.0)", [("nose (internal)", "j34.0")]),
        ("one (J34.0) (J34.1)", [("one", "j34.0")]),
        ("see the cap on liability (§12.3 below)", [("the cap on liability", "§12.3")]),
        ("Marks shall stay legible (§12.3)", []),
        ("SELECT numrange(1.1, 2.2) or to_char[9.12]", []),
        ("in that year (2019) and often (3)", []),
        ("(E11.9) with nothing before it", []),
        (" ".join(["word"] * 16) + " (E11.9)", []),
        ("", []),
    ],
)
def test_a_term_before_a_code_in_brackets_is_a_reference(text: str, found: list[tuple[str, str]]) -> None:
    assert list(references(text)) == found


@pytest.mark.parametrize(
    ("heading", "code"),
    [
        ("J34.0 Abscess", "J34.0"),
        ("§ 12 Cap", "§12"),
        ("§12.3 Cap", "§12.3"),
        ("§§ 12 and after", ""),
        ("12.3 Cap", "12.3"),
        ("5.1 By the seller", "5.1"),
        ("4.2 Can I return it?", "4.2"),
        ("1.75 mm filament", ""),
        ("A.1 Foundation", "A.1"),
        ("F.2.1. Functions", "F.2.1"),
        ("X.509 Certificates", ""),
        ("Cholera", ""),
        ("STIM2 is a protein", ""),
        ("CWE-79: Cross-site scripting", "CWE-79"),
        ("[ABC-123] Login is slow", "ABC-123"),
        ("SOP_12 – Cleaning", "SOP_12"),
        ("HP:0000316: Hypertelorism", "HP:0000316"),
        ("DOC-HR-001: Leave", "DOC-HR-001"),
        ("COVID-19 vaccines", ""),
        ("Week-1: a plan", ""),
        ("Note:1: a remark", ""),
        ("A-10", ""),
    ],
)
def test_a_code_leads_its_heading(heading: str, code: str) -> None:
    assert leading_identifier(heading) == code


def test_a_ticket_is_called_what_another_says_before_its_number() -> None:
    login = of("a.md", "[ABC-123] Login is slow", "It takes a minute.")
    other = of("b.md", "[ABC-7] Timeouts", "They come of the frozen sign-in page (ABC-123).")
    third = of("c.md", "[ABC-8] Colours", "Red is too red.")
    assert named_all([[login], [other], [third]])[0][0].called == ("They come of the frozen sign-in page",)


def test_a_name_with_a_dash_that_stands_alone_is_no_code() -> None:
    leave = of("a.md", "COVID-19: leave", "Stay at home.")
    other = of("b.md", "FY-2024: Budget", "Sick pay for patients with pneumonia (COVID-19).")
    assert named_all([[leave], [other]])[0][0].called == ()


def test_an_annex_is_called_what_others_say_before_its_number() -> None:
    motor = of("a.md", "A.4 Motor", "An electrician connects it.")
    other = of("a.md", "A.2 Alignment", "Look up the drive of the pump (A.4).")
    assert named_all([[motor, other]])[0][0].called == ("Look up the drive of the pump",)


def of(document: str, heading: str, text: str) -> Passage:
    return Passage(f"{document} {text}", document, "", (heading,), text, 1, 1)


def test_the_commonest_name_comes_first_and_what_it_says_itself_is_left_out() -> None:
    target = of("a", "E11 Diabetes", "Sugar in blood.")
    others = [of(f"b{n}", f"X{n} Other", f"Not here: {name} (E11).") for n, name in enumerate(["zuckerkrankheit"] * 2)]
    others += [of("c", "Y1 More", "adult diabetes (E11); diabetes (E11); Sugar in Blood (E11)")]
    found = named_all([[target], *([item] for item in others)])
    assert found[0][0].called == ("zuckerkrankheit", "adult diabetes")
    assert found[0][0].embedded_text == "E11 Diabetes\nzuckerkrankheit; adult diabetes\nSugar in blood."
    assert all(not item.called for some in found[1:] for item in some)


def test_a_code_of_two_sections_names_neither_and_none_names_itself() -> None:
    twice = [of("a", "4.2 Cap", "One."), of("b", "4.2 Term", "Two."), of("c", "5.1 Fee", "the liability cap (4.2)")]
    own = of("d", "7.1 Notice", "a notice in writing (7.1)")
    assert not any(item.called for some in named_all([[item] for item in (*twice, own)]) for item in some)


def test_only_the_first_passage_of_a_section_is_named() -> None:
    section = [of("a", "E11 Diabetes", "One."), of("a", "E11 Diabetes", "Two.")]
    found = named_all([section, [of("b", "F1 Other", "sweet urine (E11)")]])
    assert [item.called for item in found[0]] == [("sweet urine",), ()]


def test_names_have_no_more_than_their_room() -> None:
    names = [f"name number {n:03}" for n in range(100)]
    kept = named(of("a", "E11 Diabetes", "Sugar."), names).called
    assert kept == tuple(names[: len(kept)]) and 0 < sum(map(len, kept)) <= CALLED_CHARS
    assert named(of("a", "E11 Diabetes", "Sugar."), ["x" * 999, "short"]).called == ("short",)


def test_a_heading_without_text_is_named_after_itself() -> None:
    bare = Passage("1", "a", "Title", ("E11 Diabetes",), "E11 Diabetes", 1, 1, called=("sweet urine",))
    assert bare.embedded_text == "E11 Diabetes\nsweet urine\nTitle"


def test_a_section_is_found_by_what_others_call_it(workspace: Workspace, embedder: Embedder) -> None:
    build_index(workspace, embedder=embedder)
    names = ("cellulitis of nose (internal)", "phlegmon of nose")
    assert called(workspace) == {"J34.0 Abscess of nose": names}  # not what A46 says itself
    engine = SearchEngine(workspace)
    try:
        found = {hit.heading[-1]: hit.text for hit in engine.search("phlegmon", mode="lexical").hits}
        assert found == {
            "A46 Erysipelas": "A fever. Not here: phlegmon of nose (J34.0).",
            "J34.0 Abscess of nose": "Pus in the nasal vestibule.",
        }
    finally:
        engine.close()


def test_names_follow_the_documents_that_give_them(workspace: Workspace, embedder: Embedder, tmp_path: Path) -> None:
    build_index(workspace, embedder=embedder)
    first = indexed(workspace)
    more = tmp_path / "docs" / "more.md"
    more.write_text("# Z1 More\n\nSee also: rhinitis purulenta (J34.0).\n")
    grown = build_index(workspace, embedder=embedder)
    assert (grown.added, grown.updated, grown.unchanged) == (1, 0, 3)
    assert grown.embedded == 2  # the new one, and the one that it names
    assert "rhinitis purulenta" in called(workspace)["J34.0 Abscess of nose"]
    step = indexed(workspace)
    build_index(workspace, embedder=embedder, full=True)
    assert indexed(workspace) == step
    more.unlink()
    build_index(workspace, embedder=embedder)
    assert indexed(workspace) == first
    assert not build_index(workspace, embedder=embedder).changed


def test_what_is_named_keeps_its_names_when_its_document_is_read_again(
    workspace: Workspace, embedder: Embedder, tmp_path: Path
) -> None:
    build_index(workspace, embedder=embedder)
    before = called(workspace)
    nose = tmp_path / "docs" / "nose.md"
    nose.write_text(NOSE + "\n## J34.2 Deviation\n\nTo one side.\n")
    report = build_index(workspace, embedder=embedder)
    assert report.updated == 1 and report.embedded == 1 and called(workspace) == before
    nose.write_text(NOSE.replace("J34.0", "J34.7"))
    build_index(workspace, embedder=embedder)
    assert called(workspace) == {}


def test_the_trainer_judges_the_passages_that_the_index_has(workspace: Workspace, embedder: Embedder) -> None:
    build_index(workspace, embedder=embedder)
    material = gather(workspace, "docs", embedder.count_tokens, 200)
    ours = {passage.id: passage.embedded_text for passage in material.passages}
    assert ours == indexed(workspace) and called(workspace)
