"""A share of its headings in each passage's vector: how it is mixed, indexed, searched and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import CatalogReader
from retrieval.embedders import Embedder
from retrieval.errors import SettingsError
from retrieval.generation import Manifest, open_current
from retrieval.heading_share import heading_vectors, with_headings
from retrieval.indexing import build_index
from retrieval.models import Fusion, remember_base_fusion
from retrieval.passages import Passage, cut
from retrieval.search import SearchEngine
from retrieval.structure import Block, Section
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float32]]


@pytest.fixture
def workspace(tmp_path: Path, static_model: Path) -> Workspace:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name, animal in (("wombat", "Burrows at night"), ("emu", "Runs on long legs")):
        (docs / f"{name}.md").write_text(f"# All about the {name}\n\n## Habits\n\n{animal}.\n\n## Food\n\nIt eats.\n")
    root = tmp_path / "work"
    Workspace.create(root, {"docs": str(docs)}, str(static_model))
    return Workspace.open(root)


def live(workspace: Workspace) -> Manifest:
    return open_current(workspace.index_dir("docs"), "docs").manifest


def stored(workspace: Workspace) -> dict[str, np.ndarray]:
    """The vectors of the live index, by the text of their passage."""
    generation = open_current(workspace.index_dir("docs"), "docs")
    index = VectorIndex.read(generation.vectors_file)
    rows = CatalogReader(generation.catalog_file).passages(index.ids.tolist())
    texts = [rows[number].passage.embedded_text for number in index.ids.tolist()]
    return dict(zip(texts, index.vectors(index.ids), strict=True))


@given(share=st.floats(0, 0.9), seed=st.integers(0, 999))
def test_vectors_keep_their_length_and_lean_towards_their_headings(share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors, of_headings = random.normal(size=(2, 5, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    of_headings /= np.linalg.norm(of_headings, axis=1, keepdims=True)
    of_headings[2] = 0
    mixed = with_headings(vectors, of_headings, share)
    assert mixed.dtype == np.float32 and np.linalg.norm(mixed, axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert mixed[2] == pytest.approx(vectors[2], abs=1e-6)
    before, after = (np.einsum("pd,pd->p", side, of_headings) for side in (vectors, mixed))
    assert (after >= before - 1e-5).all()


def test_opposite_halves_leave_the_text() -> None:
    vectors = np.array([[1, 0], [0, 1]], dtype=np.float32)
    assert with_headings(vectors, -vectors, 0.5) == pytest.approx(vectors)


def test_only_what_has_a_heading_is_encoded() -> None:
    asked: list[Sequence[str]] = []

    def encode(texts: list[str]) -> Matrix:
        asked.append(texts)
        return np.ones((len(texts), 3), dtype=np.float32)

    assert heading_vectors(["a", "", "b"], 3, encode).tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert heading_vectors(["", ""], 3, encode).tolist() == [[0, 0, 0]] * 2
    assert asked == [["a", "b"]]


@pytest.mark.parametrize(
    ("title", "heading", "said"),
    [
        ("Emu", ("Emu", "Habits"), "Emu > Habits"),
        ("Emu", ("Habits", "Feet"), "Emu > Habits > Feet"),
        ("Emu", (), "Emu"),
        ("", (), ""),
        ("", ("E11 Diabetes",), "E11 Diabetes"),
    ],
)
def test_a_heading_is_said_from_the_outermost_on(title: str, heading: tuple[str, ...], said: str) -> None:
    section = Section("emu.md", heading, (Block("paragraph", "It runs.", 3, 3),), 3, 3)
    (passage,) = cut(title, [section], lambda texts: [len(text.split()) for text in texts], 200)
    assert passage.embedded_heading == said


def test_a_passage_embedded_as_its_text_alone_has_no_heading_to_share() -> None:
    assert Passage("1", "emu.md", "Emu", ("Habits",), "It runs.", 1, 1, context=("",)).embedded_heading == ""


def test_an_index_holds_the_mix_that_was_chosen_for_its_model(workspace: Workspace, embedder: Embedder) -> None:
    build_index(workspace, embedder=embedder)
    before = stored(workspace)
    remember_base_fusion(workspace, embedder.reference, Fusion(0.5, 0.4))
    report = build_index(workspace, embedder=embedder)
    after = stored(workspace)
    assert live(workspace).heading_share == 0.4 and report.changed and report.embedded == 0
    assert before.keys() == after.keys() and len(after) == 4
    for animal in ("wombat", "emu"):
        (text,) = (text for text in after if text.startswith("Habits") and animal in text)
        heading = embedder.encode_documents([f"All about the {animal} > Habits"])[0]
        mixed = 0.6 * before[text] + 0.4 * heading
        assert after[text] == pytest.approx(mixed / np.linalg.norm(mixed), abs=1e-5)
    assert not build_index(workspace, embedder=embedder).changed


def test_what_is_added_later_is_mixed_as_the_rest(workspace: Workspace, embedder: Embedder, tmp_path: Path) -> None:
    remember_base_fusion(workspace, embedder.reference, Fusion(0.5, 0.3))
    build_index(workspace, embedder=embedder)
    (tmp_path / "docs" / "quoll.md").write_text("# All about the quoll\n\n## Habits\n\nClimbs trees.\n")
    grown = build_index(workspace, embedder=embedder)
    assert (grown.added, grown.unchanged) == (1, 2)
    found = stored(workspace)
    build_index(workspace, embedder=embedder, full=True)
    anew = stored(workspace)
    assert found.keys() == anew.keys()
    for text, vector in found.items():
        assert vector == pytest.approx(anew[text], abs=1e-6)


def test_a_title_is_found_by_meaning_where_headings_have_their_share(workspace: Workspace, embedder: Embedder) -> None:
    settings = workspace.passages.model_copy(update={"heading_share": 0.8})
    shared = replace(workspace, passages=settings, search=workspace.search.model_copy(update={"mode": "dense"}))
    build_index(shared, embedder=embedder)
    hits = SearchEngine(shared).search("all about the emu").hits
    assert {hit.document_id for hit in hits[:2]} == {"emu.md"}


def test_the_settings_have_the_first_word(workspace: Workspace, embedder: Embedder) -> None:
    remember_base_fusion(workspace, embedder.reference, Fusion(0.5, 0.4))
    fixed = replace(workspace, passages=workspace.passages.model_copy(update={"heading_share": 0.0}))
    build_index(fixed, embedder=embedder)
    assert live(workspace).heading_share == 0


@pytest.mark.parametrize("share", ["1.0", "-0.1", '"half"'])
def test_a_share_that_is_none_is_refused_by_name(workspace: Workspace, share: str) -> None:
    with (workspace.root / "shoptalk.toml").open("a", encoding="utf-8") as file:
        file.write(f"\n[passages]\nheading_share = {share}\n")
    with pytest.raises(SettingsError, match=r"passages\.heading_share"):
        Workspace.open(workspace.root)
