from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hash_embedder import HashEmbedder

from retrieval.catalog import CatalogReader
from retrieval.embedding_cache import OTHER_CACHES
from retrieval.errors import DocumentError, IndexingCancelled, IndexingError
from retrieval.generation import Generation, current_name, open_current, verify
from retrieval.indexing import IndexReport, build_generation, build_index, passage_limit, put_live
from retrieval.lexical import LexicalIndex
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

SETTINGS = '[corpus.docs]\npaths = ["docs"]\n[passages]\nmax_tokens = 32\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    (tmp_path / "shoptalk.toml").write_text(SETTINGS, encoding="utf-8")
    return Workspace.open(tmp_path)


def put(workspace: Workspace, name: str, text: str) -> Path:
    path = workspace.root / "docs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def put_records(workspace: Workspace, name: str, records: dict[str, str]) -> Path:
    return put(workspace, name, "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in records.items()))


def index(workspace: Workspace, embedder: HashEmbedder | None = None, *, full: bool = False) -> IndexReport:
    return build_index(workspace, embedder=embedder or HashEmbedder(), full=full)


def changes(report: IndexReport) -> tuple[int, int, int, int]:
    return report.added, report.updated, report.removed, report.unchanged


def answers(workspace: Workspace, queries: list[str]) -> list[object]:
    """Every passage's scores for every query, by what a person sees of it."""
    generation = open_current(workspace.index_dir("docs"), "docs")
    catalog = CatalogReader(generation.catalog_file)
    vectors = VectorIndex.read(generation.vectors_file)
    lexical = LexicalIndex.open(generation.lexical_folder, generation.manifest.language)
    numbers = sorted(catalog.numbers_under("").tolist())
    rows = catalog.passages(numbers)
    assert sorted(vectors.ids.tolist()) == numbers
    assert len(lexical) == len(numbers)
    found: list[object] = []
    for query in queries:
        ids, scores = vectors.search(HashEmbedder().encode_queries([query])[0], len(numbers))
        for side in (zip(ids.tolist(), scores.tolist(), strict=True), lexical.search(query, len(numbers))):
            passages = [(rows[number].passage, rows[number].path, round(score, 4)) for number, score in side]
            found.append(sorted(passages, key=lambda item: (-item[2], item[0].id)))
    return found


def number_of(workspace: Workspace, text: str) -> int:
    catalog = CatalogReader(open_current(workspace.index_dir("docs"), "docs").catalog_file)
    rows = catalog.passages(catalog.numbers_under("").tolist())
    return next(number for number, row in rows.items() if row.passage.text == text)


def test_the_first_run_indexes_everything(workspace: Workspace) -> None:
    put(workspace, "a.md", "# Animals\n\nA wombat digs.\n\n## Birds\n\nAn emu runs.\n")
    put_records(workspace, "more.jsonl", {"r1": "first record", "r2": "second record"})
    report = index(workspace)
    assert (changes(report), report.passages, report.embedded) == ((3, 0, 0, 0), 4, 4)
    assert report.changed and report.generation == current_name(workspace.index_dir("docs")) == "g000001"
    verify(open_current(workspace.index_dir("docs"), "docs"))


def test_nothing_new_means_no_new_generation_and_no_encoding(workspace: Workspace) -> None:
    path = put(workspace, "a.md", "wombat")
    put(workspace, "bad.md", "").write_bytes(b"\xff\xfe\xff")
    first = index(workspace)
    os.utime(path, (1, 1))  # touched: the same bytes at another time
    embedder = HashEmbedder()
    report = index(workspace, embedder)
    assert (report.changed, report.generation, changes(report)) == (False, "g000001", (0, 0, 0, 1))
    assert embedder.encoded == []
    assert report.skipped == first.skipped != ()


def test_only_what_changed_is_encoded_and_the_rest_keeps_its_numbers(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    put(workspace, "b.md", "# One\n\nkoala\n\n# Two\n\nemu\n")
    put(workspace, "c.md", "goes away")
    index(workspace)
    kept = {text: number_of(workspace, text) for text in ("wombat", "koala")}
    put(workspace, "b.md", "# One\n\nkoala\n\n# Two\n\nplatypus\n")
    put(workspace, "d.md", "comes")
    (workspace.root / "docs" / "c.md").unlink()
    embedder = HashEmbedder()
    report = index(workspace, embedder)
    assert (changes(report), report.embedded) == ((1, 1, 1, 1), 2)
    assert len(embedder.encoded) == 2
    assert {text: number_of(workspace, text) for text in kept} == kept


def test_a_moved_line_updates_the_lines_and_encodes_nothing(workspace: Workspace) -> None:
    put(workspace, "a.md", "# Head\n\nwombat\n")
    index(workspace)
    number = number_of(workspace, "wombat")
    put(workspace, "a.md", "\n\n\n# Head\n\nwombat\n")
    assert index(workspace).embedded == 0
    row = CatalogReader(open_current(workspace.index_dir("docs"), "docs").catalog_file).passages([number])[number]
    assert row.passage.last_line == 6


@pytest.mark.parametrize("seed", range(3))
def test_incremental_runs_answer_as_one_full_run_does(workspace: Workspace, seed: int) -> None:
    choose = random.Random(seed)
    words = "wombat koala emu platypus digs runs swims eats grass E11.9 §12(b) the a of".split()

    def text() -> str:
        return "\n\n".join(
            f"# {choose.choice(words)} {part}\n\n" + " ".join(choose.choices(words, k=choose.randint(3, 60)))
            for part in range(choose.randint(1, 3))
        )

    def records() -> dict[str, str]:
        return {f"r{choose.randint(0, 9)}": text() for _ in range(4)}

    for number in range(6):
        put(workspace, f"{number}.md", text())
    put_records(workspace, "x.jsonl", records())
    index(workspace)
    for _ in range(5):
        files = sorted((workspace.root / "docs").iterdir())
        path = choose.choice(files)
        kind = choose.choice(["edit", "add", "delete", "rename", "records", "more records"])
        if kind == "edit" and path.suffix == ".md":
            path.write_text(text(), encoding="utf-8")
        elif kind == "delete" and len(files) > 3:
            path.unlink()
        elif kind == "rename":
            path.rename(path.with_stem(f"renamed{choose.randint(0, 99)}"))
        elif kind == "records":
            put_records(workspace, "x.jsonl", records())
        elif kind == "more records":  # whose ids clash with those of the other file
            put_records(workspace, choose.choice(["a.jsonl", "z.jsonl"]), records())
        else:
            put(workspace, f"new{choose.randint(0, 99)}.md", text())
        report = index(workspace)
    queries = [*words, "wombat eats grass", "the platypus of E11.9"]
    incremental = answers(workspace, queries)
    full = index(workspace, full=True)
    assert answers(workspace, queries) == incremental
    assert full.skipped == report.skipped
    assert full.embedded == 0
    shutil.rmtree(workspace.root / "indexes")
    index(workspace)
    assert answers(workspace, queries) == incremental


def test_a_record_takes_over_an_id_that_became_free(workspace: Workspace) -> None:
    first = put_records(workspace, "a.jsonl", {"x": "from a"})
    put_records(workspace, "b.jsonl", {"x": "from b"})
    report = index(workspace)
    assert (changes(report), report.skipped) == ((2, 0, 0, 0), ())  # the later one is b.jsonl#x
    first.unlink()
    report = index(workspace)
    assert (changes(report), report.skipped) == ((0, 1, 1, 0), ())
    assert number_of(workspace, "from b")


def test_a_document_that_only_changed_its_file_is_found_in_the_new_one(workspace: Workspace) -> None:
    put_records(workspace, "a.jsonl", {"x": "record"}).rename(workspace.root / "docs" / "b.jsonl")
    put_records(workspace, "a.jsonl", {"x": "record"})
    index(workspace)
    (workspace.root / "docs" / "a.jsonl").unlink()
    report = index(workspace)
    assert (report.changed, changes(report), report.embedded) == (True, (0, 0, 1, 1), 0)
    catalog = CatalogReader(open_current(workspace.index_dir("docs"), "docs").catalog_file)
    assert len(catalog.numbers_under("b.jsonl")) == 1


def test_another_model_rebuilds_and_the_first_one_returns_without_encoding(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    other = index(workspace, HashEmbedder("other"))
    assert (other.changed, changes(other), other.embedded) == (True, (0, 0, 0, 1), 1)
    again = index(workspace)
    assert (again.changed, again.embedded) == (True, 0)
    assert open_current(workspace.index_dir("docs"), "docs").manifest.reference == "test/hash"


def test_the_same_model_under_another_name_keeps_its_vectors(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    renamed = HashEmbedder()
    renamed.reference = "test/renamed"
    report = index(workspace, renamed)
    assert (report.changed, report.embedded) == (True, 0)
    assert open_current(workspace.index_dir("docs"), "docs").manifest.reference == "test/renamed"
    assert not index(workspace, renamed).changed


def test_other_passage_settings_rebuild(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombats digging")
    index(workspace)
    (workspace.root / "shoptalk.toml").write_text(SETTINGS + 'language = "none"\n', encoding="utf-8")
    changed = Workspace.open(workspace.root)
    assert index(changed).changed
    assert not index(changed).changed
    lexical = LexicalIndex.open(open_current(workspace.index_dir("docs"), "docs").lexical_folder, "none")
    assert (len(lexical.search("wombats", 5)), len(lexical.search("wombat", 5))) == (1, 0)


def test_passages_fit_the_model(workspace: Workspace) -> None:
    assert passage_limit(workspace, HashEmbedder(max_tokens=512)) == 32
    assert passage_limit(workspace, HashEmbedder(max_tokens=30)) == 22


def test_a_corpus_without_documents_keeps_the_old_index(workspace: Workspace) -> None:
    path = put(workspace, "a.md", "wombat")
    index(workspace)
    path.write_text("   \n", encoding="utf-8")
    with pytest.raises(DocumentError, match="no document that can be read"):
        index(workspace)
    path.unlink()
    with pytest.raises(DocumentError, match="no document that can be read"):
        index(workspace)
    assert number_of(workspace, "wombat")


def test_a_stopped_run_leaves_the_old_index_and_resumes(workspace: Workspace) -> None:
    put_records(workspace, "a.jsonl", {"r": "wombat"})
    index(workspace)
    put_records(workspace, "a.jsonl", {f"r{number}": f"text number {number}" for number in range(700)})
    embedder = HashEmbedder()
    with pytest.raises(IndexingCancelled, match="the old index stays"):
        build_index(workspace, embedder=embedder, stop=lambda: len(embedder.encoded) > 0)
    done = len(embedder.encoded)
    assert 0 < done < 700
    assert number_of(workspace, "wombat")
    assert sorted(path.name for path in workspace.index_dir("docs").glob("[!.]*")) == [
        "CURRENT",
        "LOCK",
        "embeddings",
        "g000001",
    ]
    assert index(workspace).embedded == 700 - done


def test_ctrl_c_leaves_the_old_index(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    put(workspace, "b.md", "koala")

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "encoding":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(workspace, embedder=HashEmbedder(), progress=interrupt)
    assert current_name(workspace.index_dir("docs")) == "g000001"
    assert not list(workspace.index_dir("docs").glob(".building-*"))
    assert index(workspace).changed


def test_progress_is_told(workspace: Workspace) -> None:
    put_records(workspace, "a.jsonl", {f"r{number}": f"text number {number}" for number in range(300)})
    told: list[tuple[str, int, int]] = []
    build_index(workspace, embedder=HashEmbedder(), progress=lambda *report: told.append(report))
    assert told == [("reading", 1, 1), ("encoding", 0, 300), ("encoding", 256, 300), ("encoding", 300, 300)]


def test_a_damaged_generation_is_not_built_upon(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    catalog = open_current(workspace.index_dir("docs"), "docs").catalog_file
    content = catalog.read_bytes()
    assert content.count(b"wombat") > 0
    catalog.write_bytes(content.replace(b"wombat", b"vombat"))
    put(workspace, "b.md", "koala")
    report = index(workspace)
    assert (changes(report), report.embedded) == ((2, 0, 0, 0), 1)
    assert number_of(workspace, "wombat")


def test_nothing_is_asked_of_the_model_where_nothing_is_to_be_encoded(workspace: Workspace) -> None:
    put(workspace, "a.md", "# Wombat\n\ndigs\n")
    put(workspace, "b.md", "# Koala\n\nclimbs\n")
    index(workspace)

    class Known(HashEmbedder):
        def encode_documents(self, texts: object, progress: object = None) -> Any:
            raise AssertionError("it was asked to encode")

        def count_tokens(self, texts: object) -> Any:
            assert texts == []

    assert not index(workspace, Known()).changed
    (workspace.root / "docs" / "a.md").rename(workspace.root / "docs" / "c.md")
    assert index(workspace, Known()).changed
    (workspace.root / "docs" / "b.md").unlink()
    assert index(workspace, Known()).changed


def test_damage_to_a_file_that_two_generations_share_is_found_in_both(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    put(workspace, "b.md", "koala")
    index(workspace)
    old, new = (Generation(workspace.index_dir("docs") / name) for name in ("g000001", "g000002"))
    shared = [name for name in old.manifest.files if (old.folder / name).samefile(new.folder / name)]
    assert shared and all(name.startswith("lexical/") for name in shared)
    assert all(old.manifest.files[name] == new.manifest.files[name] for name in shared)
    verify(new)
    file = new.folder / next(name for name in shared if name.endswith(".idx"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for generation in (old, new):
        with pytest.raises(IndexingError, match="its checksum is wrong"):
            verify(generation)
    put(workspace, "c.md", "emu")
    assert changes(index(workspace)) == (3, 0, 0, 0)  # built anew, not handed on
    verify(open_current(workspace.index_dir("docs"), "docs"))


def test_kept_vectors_of_models_long_out_of_use_are_thrown_away(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    folder = workspace.index_dir("docs") / "embeddings"
    models = [HashEmbedder(f"model{number}") for number in range(OTHER_CACHES + 4)]
    for number, model in enumerate(models):
        index(workspace, model)
        os.utime(folder / f"{model.fingerprint[:16]}.sqlite", (number, number))
    kept = {path.stem for path in folder.glob("*.sqlite")}
    # Those of the two generations on disk, and the few before them.
    assert kept == {model.fingerprint[:16] for model in models[-OTHER_CACHES - 2 :]}
    assert index(workspace, models[-3]).embedded == 0
    assert index(workspace, models[0]).embedded == 1


def test_an_unreadable_generation_is_replaced(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    (workspace.index_dir("docs") / "g000001" / "manifest.json").write_text("{", encoding="utf-8")
    assert index(workspace).generation == "g000002"
    assert number_of(workspace, "wombat")


def test_a_generation_can_be_built_first_and_put_live_later(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    index(workspace)
    generation, report = build_generation(workspace, embedder=HashEmbedder("tuned"))
    assert report.changed and current_name(workspace.index_dir("docs")) == "g000001"
    put_live(workspace, "docs", generation)
    assert open_current(workspace.index_dir("docs"), "docs").manifest.reference == "test/tuned"
    same, report = build_generation(workspace, embedder=HashEmbedder("tuned"))
    assert not report.changed
    put_live(workspace, "docs", same)


def test_two_runs_at_once_are_refused(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")

    def again(stage: str, done: int, total: int) -> None:
        with pytest.raises(IndexingError, match=r"another process \(\d+\) is indexing corpus 'docs'"):
            index(workspace)

    assert build_index(workspace, embedder=HashEmbedder(), progress=again).changed


def test_large_indexes_bear_ghosts_until_a_tenth_of_their_words_are(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.lexical_writing.EXACT", 10)
    records = {f"r{number}": f"wombat number {number}" for number in range(40)}
    put_records(workspace, "a.jsonl", records)
    index(workspace)
    for gone, dead in ((2, 2), (1, 3), (4, 0)):
        for _ in range(gone):
            records.popitem()
        put_records(workspace, "a.jsonl", records)
        index(workspace)
        generation = open_current(workspace.index_dir("docs"), "docs")
        assert generation.manifest.lexical_dead == dead
        found = LexicalIndex.open(generation.lexical_folder, "english").search("wombat", 100)
        assert len(found) == len(records) == generation.manifest.passages


def test_a_file_whose_name_is_not_utf8_is_left_out_with_the_reason(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    try:
        (workspace.root / "docs" / os.fsdecode(b"n\xff.md")).write_text("koala", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such names")
    report = index(workspace)
    assert [(item.path, item.reason) for item in report.skipped] == [("n?.md", "its name is not UTF-8; rename it")]
    assert changes(report) == (1, 0, 0, 0)


def test_a_document_that_cannot_be_parsed_is_left_out_and_the_others_are_indexed(workspace: Workspace) -> None:
    put(workspace, "a.md", "wombat")
    put(workspace, "deep.rst", "koala\n")
    index(workspace)
    put(workspace, "deep.rst", "koala\n" + "".join(" " * depth + "deeper\n\n" for depth in range(1000)))
    report = index(workspace)
    assert [item.path for item in report.skipped] == ["deep.rst"]
    assert "nested too deeply" in report.skipped[0].reason
    assert changes(report) == (0, 0, 1, 1)


def test_turning_the_heading_context_off_cuts_everything_anew(workspace: Workspace) -> None:
    put(workspace, "a.md", "# Marsupials\n\nThe wombat digs.\n")
    index(workspace)
    bare = replace(workspace, passages=workspace.passages.model_copy(update={"heading_context": False}))
    assert index(bare).changed
    generation = open_current(workspace.index_dir("docs"), "docs")
    assert LexicalIndex.open(generation.lexical_folder, "english").search("marsupials", 5) == []
    assert not index(bare).changed
