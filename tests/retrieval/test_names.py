from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.embedders import Embedder
from retrieval.generation import open_current
from retrieval.indexing import build_index
from retrieval.late_interaction import NAME_CODES, CodeFile, pack_signs
from retrieval.names import SHARE, by_names, encode_names, names_of
from retrieval.passages import Passage
from retrieval.search import SearchEngine
from retrieval.workspace import Workspace
from trainer.evaluation import Judge
from trainer.material import gather
from trainer.questions import Question
from trainer.ranking import by_heading_share, rank

ENTRY = """# {0} Collar {1}

Holds the hose of pump {1} where it meets the {2} valve, and is fitted before any of the other parts of it are.

Also called: {3}; {4}
"""
OTHERS = [("ring", "seat"), ("gland", "clip"), ("cuff", "bush"), ("ferrule", "sleeve"), ("strap", "clamp")]


def passage(text: str, called: tuple[str, ...] = ()) -> Passage:
    return Passage("p", "a.md", "Parts", ("Collar",), text, 1, 1, called=called)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A part.\n\nAlso called: hose ring; seat of the valve", ["hose ring", "seat of the valve"]),
        ("A collar, also known as a hose ring, holds it.", ["hose ring"]),
        ("A part.\n\nIllustrative Examples:\n\n- Hose rings\n- Gland nuts", ["Hose rings", "Gland nuts"]),
        ("A part.\n\nExamples:\n\na. Hose rings\nb. Gland nuts\niv. Seats", ["Hose rings", "Gland nuts", "Seats"]),
        ("Synonyms: none", []),
        ("Before use:\n\n1. Turn the handle until it stops.\n2. Wait until it has cooled.", []),
        ("See also: the valve, the hose", []),
        ("**Also called:** **hose ring**; `seat`; [collar](collar.md)", ["hose ring", "seat"]),
        ("Also called: hose ring; collar. It is fitted first. Abbreviation: HR", ["hose ring", "collar", "HR"]),
        ("Also called: St. Vitus dance; hose\u2010\nring", ["St. Vitus dance", "hosering"]),
        ("Also called: hose ring, collar, and seat", ["hose ring", "collar", "seat"]),
        ("Also known as: check valve, clack or foot valve.", ["check valve", "clack", "foot valve"]),
        ("The packing, also known as stuffing or a braided rope, seals it.", ["stuffing", "braided rope"]),
        (
            "It (also called a clack, one-way valve, or “non-return valve”) lets water pass.",
            ["clack", "one-way valve", "non-return valve"],
        ),
        ("The Moselle is also known as the Mosel, which is short or long.", ["Mosel"]),
        ("Dropsy, also known as edema, affects the heart or lungs.", ["edema"]),
        ("The pump (also called lifter), a tap or a valve stands open.", ["lifter"]),
        ("Also called: hand, foot and mouth disease", ["hand", "foot and mouth disease"]),
        ("Auch bekannt.\n\nSynonyms: Ring; Kragen oder", ["Ring", "Kragen oder"]),
        ("Also called: not known by any other name", []),
        ("Synonyms: 1,2-dichloroethane, EDC", ["1,2-dichloroethane", "EDC"]),
        ("Synonyms: coccus [group A]; list[str]; one -> two", ["coccus [group A]"]),
        ("We also called the customer back yesterday. The board also named the chairman.", []),
        ("Steps:\n\n- Open the lid\n- Turn the key", []),
        ("Use it so:\n\n```\nExamples: one; two\n```", []),
    ],
)
def test_a_passage_lists_what_it_is_called_and_nothing_else(text: str, names: list[str]) -> None:
    assert names_of(passage(text)) == names


def test_source_code_lists_no_names() -> None:
    listed = passage("Reads what is there.\n\nSynonyms: ring; seat\n")
    assert names_of(listed) == ["ring", "seat"]
    assert names_of(replace(listed, document_id="a.py", called=("reader",))) == ["reader"]


def test_of_long_lists_the_first_names_count() -> None:
    assert len(names_of(passage("Also called: " + "; ".join(f"ring {n}" for n in range(50))))) == 32


def test_a_name_brings_a_passage_half_of_the_way_that_whole_vectors_tell() -> None:
    draw = np.random.default_rng(5)
    question = draw.standard_normal(384).astype(np.float32)
    question /= np.linalg.norm(question)
    told = []
    for _ in range(200):
        own, name = (draw.standard_normal(384) + near * np.sqrt(384) * question for near in (0.2, 1.0))
        own, name = own / np.linalg.norm(own), name / np.linalg.norm(name)
        _, [found] = by_names(question, [0], [float(question @ own)], {0: pack_signs(np.stack((own, name)))})
        told.append((found - question @ own) / (question @ name - question @ own))
    assert np.mean(told) == pytest.approx(SHARE, rel=0.05)


def test_what_others_call_a_passage_is_a_name_and_each_is_one_once() -> None:
    assert names_of(passage("Also called: Hose Ring; clip", ("hose ring",))) == ["Hose Ring", "clip"]


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_the_nearest_name_brings_a_passage_nearer_and_none_takes_it_away(seed: int, named: int) -> None:
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((9, 512))
    question, *passages = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    scores = [float(question @ vector) for vector in passages]
    near = (question + passages[0]) / np.linalg.norm(question + passages[0])
    codes = {place: pack_signs(np.stack((passages[place], near))) for place in range(named)}
    ids, found = by_names(question, range(8), scores, codes)
    by_id = dict(zip(ids.tolist(), found.tolist(), strict=True))
    assert sorted(ids.tolist()) == list(range(8)) and found.tolist() == sorted(found, reverse=True)
    for place, score in enumerate(scores):
        nearer = SHARE * max(0.0, float(question @ near) - score)
        assert by_id[place] == pytest.approx(score + nearer if place in codes else score, abs=0.15)
        assert by_id[place] >= score


def test_passages_without_names_have_no_codes_and_texts_are_encoded_once() -> None:
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        return np.eye(len(texts), 16, dtype=np.float32)

    some = [passage("Also called: ring"), passage("A part."), passage("Also called: ring; clip")]
    found = encode_names(some, encode)
    assert {place: codes.shape for place, codes in found.items()} == {0: (2, 2), 2: (3, 2)}
    assert len(asked[0]) == len(set(asked[0])) == 4
    assert encode_names(some[1:2], encode) == {} and len(asked) == 1


@pytest.fixture
def workspace(tmp_path: Path, static_model: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    for number, names in enumerate(OTHERS):
        text = ENTRY.format(f"X{number}", "north south east west main".split()[number], "blue", *names)
        (tmp_path / "docs" / f"{number}.md").write_text(text)
    (tmp_path / "docs" / "prose.md").write_text("# Care\n\nA collar is cleaned twice a year, with a soft brush.\n")
    Workspace.create(tmp_path, {"docs": "docs"}, str(static_model))
    return Workspace.open(tmp_path)


def codes_in(workspace: Workspace) -> dict[int, bytes]:
    generation = open_current(workspace.index_dir("docs"), "docs")
    file = CodeFile(generation.folder / NAME_CODES, generation.manifest.dimension)
    numbers = file.numbers.tolist()
    return {number: codes.tobytes() for number, codes in zip(numbers, file.codes(numbers), strict=True)}


def test_an_index_that_grew_has_the_names_of_one_built_anew(workspace: Workspace, embedder: Embedder) -> None:
    docs = workspace.root / "docs"
    build_index(workspace, embedder=embedder)
    assert sum(bool(codes) for codes in codes_in(workspace).values()) == len(OTHERS)
    (docs / "new.md").write_text("# Lid\n\nCloses the tank.\n\nAlso called: cap\n")
    (docs / "0.md").write_text((docs / "0.md").read_text().replace("seat", "socket"))
    (docs / "1.md").unlink()
    build_index(workspace, embedder=embedder)
    grown = codes_in(workspace)
    build_index(workspace, embedder=embedder, full=True)
    assert sorted(grown.values()) == sorted(codes_in(workspace).values()) and len(grown) == len(OTHERS) + 1


def test_an_index_without_names_gets_them_and_loses_them_by_the_setting(
    workspace: Workspace, embedder: Embedder
) -> None:
    without = replace(workspace, search=workspace.search.model_copy(update={"names": False}))
    for some, there in ((without, False), (workspace, True), (without, False)):
        report = build_index(some, embedder=embedder)
        files = open_current(workspace.index_dir("docs"), "docs").manifest.files
        assert (NAME_CODES in files) == there
    assert report.embedded == 0


def test_what_is_judged_is_what_is_served(workspace: Workspace, embedder: Embedder) -> None:
    build_index(workspace, embedder=embedder)
    material = gather(workspace, "docs", embedder.count_tokens, 224)
    texts = [item.embedded_text for item in material.passages]
    asked = [Question(str(n), name, {f"{n}.md": 1}) for n, names in enumerate(OTHERS) for name in names]
    judge = Judge.of(workspace, material.passages, texts, asked)
    found = rank(judge, workspace, "docs", embedder, texts)
    assert found.names and found.candidates.nearer is not None
    headings = [item.embedded_heading for item in material.passages]
    assert by_heading_share(judge, workspace, "docs", embedder, headings, found)(0.3).nearer is not None
    judged = judge.score("hybrid", found.candidates)
    with closing(SearchEngine(workspace)) as engine:
        for question, ranking in zip(asked, judged.rankings, strict=True):
            hits = engine.search(question.text, top_k=6).hits
            assert [hit.document_id for hit in hits] == list(ranking)[: len(hits)]
        plain = replace(workspace, search=workspace.search.model_copy(update={"names": False}))
        with closing(SearchEngine(plain)) as without:
            for question in asked:
                for mode in ("dense", "lexical"):
                    assert engine.search(question.text, mode=mode) == without.search(question.text, mode=mode)
                ranks = [
                    {hit.id: hit.dense_rank for hit in some.search(question.text, top_k=6).hits}
                    for some in (engine, without)
                ]
                assert ranks[0] == ranks[1]


def test_a_passage_is_found_by_its_name_and_a_masked_one_is_not(workspace: Workspace, embedder: Embedder) -> None:
    material = gather(workspace, "docs", embedder.count_tokens, 224)
    texts = [item.embedded_text for item in material.passages]
    asked = [Question("q", "ferrule", {"3.md": 1})]
    [place] = [n for n, item in enumerate(material.passages) if item.document_id == "3.md"]
    plain = rank(Judge.of(workspace, material.passages, texts, asked), workspace, "docs", embedder, texts)
    assert plain.candidates.nearer is not None
    (numbers, nearer), (_, before) = plain.candidates.nearer[0], plain.candidates[0]
    assert numbers[0] == place and nearer[0] > before[0]
    texts[place] = "masked"
    masked = rank(Judge.of(workspace, material.passages, texts, asked), workspace, "docs", embedder, texts)
    assert place in plain.names and place not in masked.names
