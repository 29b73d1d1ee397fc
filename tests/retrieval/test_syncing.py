from __future__ import annotations

import json
import os
import random
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder

from retrieval import syncing
from retrieval.catalog import CatalogReader
from retrieval.documents import SourceFile, file_hash, read_or_skip
from retrieval.generation import Generation, open_current
from retrieval.indexing import IndexReport, build_index, files_to_read
from retrieval.lexical import LexicalIndex
from retrieval.vectors import VectorIndex
from retrieval.workspace import Workspace

SETTINGS = '[corpus.docs]\npaths = ["docs"]\n[passages]\nmax_tokens = 16\n'
WORDS = "wombat koala emu platypus digs runs swims eats grass E11.9 §12(b) the a of".split()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    (tmp_path / "shoptalk.toml").write_text(SETTINGS, encoding="utf-8")
    return Workspace.open(tmp_path)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read, as it goes."""
    files: list[str] = []

    def reading(file: SourceFile) -> object:
        files.append(file.relative)
        return read_or_skip(file)

    monkeypatch.setattr(syncing, "read_or_skip", reading)
    return files


def put(workspace: Workspace, name: str, text: str) -> Path:
    path = workspace.root / "docs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def move(workspace: Workspace, old: str, new: str) -> None:
    target = workspace.root / "docs" / new
    target.parent.mkdir(parents=True, exist_ok=True)
    (workspace.root / "docs" / old).rename(target)


def index(workspace: Workspace) -> IndexReport:
    return build_index(workspace, embedder=HashEmbedder())


def live(workspace: Workspace) -> Generation:
    return open_current(workspace.index_dir("docs"), "docs")


def numbers(workspace: Workspace) -> dict[str, tuple[str, list[int]]]:
    """By document: its file, and the numbers of its passages."""
    found: dict[str, tuple[str, list[int]]] = {}
    with closing(CatalogReader(live(workspace).catalog_file)) as catalog:
        for number, row in sorted(catalog.passages(sorted(catalog.numbers_under("").tolist())).items()):
            found.setdefault(row.passage.document_id, (row.path, []))[1].append(number)
    return found


def contents(workspace: Workspace) -> object:
    """All that a search can show, whatever the passages' numbers are."""
    generation = live(workspace)
    catalog = CatalogReader(generation.catalog_file)
    vectors = VectorIndex.read(generation.vectors_file)
    lexical = LexicalIndex.open(generation.lexical_folder, generation.manifest.language)
    known = sorted(catalog.numbers_under("").tolist())
    rows = catalog.passages(known)
    assert sorted(vectors.ids.tolist()) == known == sorted(lexical.numbers())
    assert len({row.passage.id for row in rows.values()}) == len(known)
    scores: list[set[tuple[str, float]]] = []
    for word in WORDS:
        ids, products = vectors.search(HashEmbedder().encode_queries([word])[0], len(known))
        sides = (zip(ids.tolist(), products.tolist(), strict=True), lexical.search(word, len(known)))
        scores += [{(rows[number].passage.id, round(score, 4)) for number, score in side} for side in sides]
    return {row.passage.id: replace(row, number=0) for row in rows.values()}, scores


def test_records_of_two_files_with_one_id_are_told_apart_and_forgotten_with_their_file(workspace: Workspace) -> None:
    put(workspace, "a.jsonl", '{"_id": "x", "text": "wombat digs"}\n')
    put(workspace, "b.jsonl", '{"_id": "x", "text": "koala eats"}\n{"_id": "y", "text": "emu runs"}\n')
    assert not index(workspace).skipped
    assert set(numbers(workspace)) == {"x", "b.jsonl#x", "y"}
    (workspace.root / "docs" / "b.jsonl").unlink()
    assert index(workspace).removed == 2 and set(numbers(workspace)) == {"x"}
    assert index(workspace).generation == live(workspace).name == "g000002"


def test_which_of_two_records_has_their_id_depends_on_the_files_alone(workspace: Workspace) -> None:
    def records(*ids: int) -> str:
        return "id,text\n" + "".join(f"{id},emu number {id} of {len(ids)}\n" for id in ids)

    steps = (
        {"faq.csv": records(1, 2, 3)},
        {"articles.csv": records(1, 2)},
        {"articles.csv": records(2)},
        {"faq.csv": "text,id\nemu runs,\nkoala,1\n", "b.csv": records(1)},
        {"articles.csv": records(1), "b.csv": None},
        {"articles.csv": None},
    )
    for round, step in enumerate(steps):
        for name, text in step.items():
            put(workspace, name, text) if text else (workspace.root / "docs" / name).unlink()
        report = index(workspace)
        assert (contents(workspace), skipped(report)) == anew(workspace, workspace.root / f"anew{round}")
        assert not index(workspace).changed
        if round == 1:
            assert set(numbers(workspace)) == {"1", "2", "faq.csv#1", "faq.csv#2", "3"}
    assert set(numbers(workspace)) == {"faq.csv#1", "1"}


def test_a_moved_file_of_source_code_is_called_by_its_new_path(workspace: Workspace, tmp_path: Path) -> None:
    put(workspace, "old.py", 'def digs():\n    """The wombat digs."""\n')
    index(workspace)
    move(workspace, "old.py", "archive/new.py")
    index(workspace)
    assert (contents(workspace), []) == anew(workspace, tmp_path / "anew")


def skipped(report: IndexReport) -> list[tuple[str, str]]:
    return sorted((item.path, item.reason) for item in report.skipped)


def anew(workspace: Workspace, place: Path) -> tuple[object, list[tuple[str, str]]]:
    """The contents of an index of the same documents made from nothing, and what it left out."""
    place.mkdir()
    settings = SETTINGS.replace('"docs"]', f'"{workspace.root / "docs"}"]')
    (place / "shoptalk.toml").write_text(settings, encoding="utf-8")
    fresh = Workspace.open(place)
    report = index(fresh)
    return contents(fresh), skipped(report)


def test_a_moved_file_is_not_read_and_its_passages_keep_their_numbers(workspace: Workspace, read: list[str]) -> None:
    put(workspace, "a.md", "# Wombats\n\ndigs\n\n# More\n\ndigs\n\n# More\n\ndigs\n")
    put(workspace, "b.md", "# Emus\n\nruns\n")
    index(workspace)
    before = numbers(workspace)
    read.clear()
    move(workspace, "a.md", "sub/c.md")
    report = index(workspace)
    assert (report.added, report.updated, report.removed, report.unchanged, report.embedded) == (1, 0, 1, 1, 0)
    assert read == []
    assert numbers(workspace) == {"sub/c.md": ("sub/c.md", before["a.md"][1]), "b.md": before["b.md"]}
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]
    assert not index(workspace).changed


def test_names_that_were_swapped_and_passed_on_are_moves_too(workspace: Workspace, read: list[str]) -> None:
    for name in "abcd":
        put(workspace, f"{name}.md", f"# The {name} file\n\nalike\n\n# Common\n\nalike\n")
    index(workspace)
    before = numbers(workspace)
    read.clear()
    move(workspace, "a.md", "x")
    move(workspace, "b.md", "a.md")
    move(workspace, "x", "b.md")
    move(workspace, "d.md", "e.md")
    move(workspace, "c.md", "d.md")
    assert index(workspace).embedded == 0
    assert read == []
    after = {name: found for name, (_, found) in numbers(workspace).items()}
    source = {"a.md": "b.md", "b.md": "a.md", "d.md": "c.md", "e.md": "d.md"}
    assert after == {new: before[old][1] for new, old in source.items()}
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


def test_a_file_that_is_titled_by_its_name_is_read_under_the_new_one(workspace: Workspace, read: list[str]) -> None:
    put(workspace, "first-name.md", "no heading here\n")
    put(workspace, "kept-name.md", "none here either\n")
    index(workspace)
    read.clear()
    move(workspace, "first-name.md", "second-name.md")
    move(workspace, "kept-name.md", "sub/kept-name.md")
    index(workspace)
    assert read == ["second-name.md"]
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


def test_another_extension_is_another_format_and_no_move(workspace: Workspace, read: list[str]) -> None:
    put(workspace, "a.md", "# Heading\n\nwombat\n")
    index(workspace)
    move(workspace, "a.md", "a.txt")
    index(workspace)
    assert read == ["a.md", "a.txt"]
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


def test_moved_records_stay_and_those_that_their_file_numbers_are_read_again(
    workspace: Workspace, read: list[str]
) -> None:
    put(workspace, "named.jsonl", '{"_id": "r1", "text": "wombat"}\n{"_id": "r2", "text": "koala"}\n')
    put(workspace, "numbered.jsonl", '{"text": "emu"}\n')
    index(workspace)
    before = numbers(workspace)
    read.clear()
    move(workspace, "named.jsonl", "moved.jsonl")
    move(workspace, "numbered.jsonl", "counted.jsonl")
    report = index(workspace)
    assert (report.changed, report.embedded, read) == (True, 0, ["counted.jsonl"])
    after = numbers(workspace)
    assert {key: after[key] for key in ("r1", "r2")} == {key: ("moved.jsonl", before[key][1]) for key in ("r1", "r2")}
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


def test_a_file_does_not_move_onto_an_id_that_a_record_has(workspace: Workspace) -> None:
    put(workspace, "a.md", "# Wombat\n\ndigs\n")
    put(workspace, "m.jsonl", '{"_id": "z.md", "text": "a record of that name"}\n')
    index(workspace)
    move(workspace, "a.md", "z.md")
    report = index(workspace)
    assert [item.path for item in report.skipped] == ["z.md"]
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


def test_a_touched_file_is_hashed_and_not_read(workspace: Workspace, read: list[str]) -> None:
    path = put(workspace, "a.md", "wombat\n")
    put(workspace, "b.md", "koala\n")
    index(workspace)
    read.clear()
    os.utime(path, (1, 1))
    put(workspace, "b.md", "emu\n")
    index(workspace)
    assert read == ["b.md"]
    assert not index(workspace).changed


def test_a_file_replaced_by_one_of_its_size_and_time_is_read(workspace: Workspace, read: list[str]) -> None:
    path = put(workspace, "a.md", "wombat\n")
    before = path.stat()
    index(workspace)
    read.clear()
    path.unlink()
    put(workspace, "a.md", "koalas\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    index(workspace)
    assert read == ["a.md"]
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


def test_a_touched_file_is_hashed_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(workspace, "a.md", "wombat\n")
    put(workspace, "b.md", "koala\n")
    index(workspace)
    hashed: list[str] = []

    def counting(file: SourceFile) -> str:
        hashed.append(file.relative)
        return file_hash(file)

    monkeypatch.setattr(syncing, "file_hash", counting)
    os.utime(path, (1, 1))
    assert not index(workspace).changed
    assert not index(workspace).changed
    assert hashed == ["a.md"]
    assert files_to_read(Workspace.open(workspace.root), "docs", HashEmbedder()) == []
    put(workspace, "b.md", "emu\n")
    assert index(workspace).changed
    assert hashed.count("a.md") == 1
    times = workspace.index_dir("docs") / "TIMES"
    os.utime(path, (2, 2))
    hashed.clear()
    assert not index(workspace).changed
    times.write_text("[1", encoding="utf-8")
    assert not index(workspace).changed
    assert not index(workspace).changed
    assert hashed == ["a.md"] * 2


def test_touched_files_are_hashed_once_beside_one_that_is_never_remembered(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(workspace, "a.md", "wombat\n")
    record = json.dumps({"_id": "r", "text": "koala"})
    put(workspace, "x.jsonl", record)
    put(workspace, "y.jsonl", record)
    index(workspace)
    os.utime(path, (1, 1))
    assert not index(workspace).changed
    hashed: list[str] = []
    monkeypatch.setattr(syncing, "file_hash", lambda file: hashed.append(file.relative) or file_hash(file))
    assert not index(workspace).changed
    assert "a.md" not in hashed


def test_many_documents_are_cut_at_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "CUT_CHARACTERS", 4_000)
    for number in range(60):
        put(workspace, f"{number:02}.md", f"# Document {number}\n\n" + "one two three four five six. " * 8)
    embedder = HashEmbedder()
    count, calls = embedder.count_tokens, []

    def counting(texts: list[str]) -> list[int]:
        calls.append(len(texts))
        return count(texts)

    embedder.count_tokens = counting  # type: ignore[method-assign, assignment]
    build_index(workspace, embedder=embedder)
    assert len(calls) < 60 and max(calls) > 60
    assert contents(workspace) == anew(workspace, workspace.root / "anew")[0]


class Editor:
    """Does at random what people do to a folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.choose = random.Random(seed)

    def text(self) -> str:
        parts = range(self.choose.randint(1, 3))
        return "\n\n".join(
            f"# {self.choose.choice(WORDS)} {part}\n\n"
            + " ".join(self.choose.choices(WORDS, k=self.choose.randint(3, 40)))
            for part in parts
        )

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())

    def some(self) -> Path:
        return self.choose.choice(self.files())

    def new(self, suffix: str) -> Path:
        folder = self.choose.choice(["", "one", "two/three"])
        path = self.folder / folder / f"n{self.choose.randint(0, 30):02}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def add(self) -> None:
        self.new(".md").write_text(self.text(), encoding="utf-8")

    def records(self) -> None:
        ids = [f"r{self.choose.randint(0, 9)}" for _ in range(4)]
        rows = [json.dumps({"_id": id, "text": self.text()}) for id in ids]
        self.choose.choice([self.folder / "a.jsonl", self.new(".jsonl")]).write_text("\n".join(rows), encoding="utf-8")

    def edit(self) -> None:
        path = self.some()
        path.write_text(path.read_text(encoding="utf-8", errors="replace") + f"\n\n{self.text()}", encoding="utf-8")

    def delete(self) -> None:
        if len(self.files()) > 3:
            self.some().unlink()

    def rename(self) -> None:
        path = self.some()
        path.rename(self.new(path.suffix))

    def swap(self) -> None:
        one, other = self.some(), self.some()
        one.rename(self.folder / "swapping")
        if other.exists():
            other.rename(one)
        (self.folder / "swapping").rename(other)

    def copy(self) -> None:
        path = self.some()
        self.new(path.suffix).write_bytes(path.read_bytes())

    def touch(self) -> None:
        os.utime(self.some(), (1, self.choose.randint(1, 9)))

    def break_one(self) -> None:
        self.some().write_bytes(b"\0\1\2\3")

    def link(self) -> None:
        path = self.folder / f"link{self.choose.randint(0, 3)}{self.choose.choice(['.md', ''])}"
        if path.is_symlink():
            path.unlink()
        path.symlink_to(self.choose.choice([self.some(), self.folder / "one", self.folder / "nowhere", Path("/")]))

    def anything(self) -> None:
        kinds = (self.add, self.records, self.edit, self.delete, self.rename, self.swap, self.copy, self.touch)
        self.choose.choice([*kinds, self.rename, self.break_one, self.link])()


@pytest.mark.parametrize("seed", range(4))
def test_any_edits_end_as_an_index_made_from_nothing(workspace: Workspace, seed: int) -> None:
    editor = Editor(workspace.root / "docs", seed)
    for _ in range(6):
        editor.add()
    editor.records()
    for round in range(4):
        for _ in range(editor.choose.randint(1, 5)):
            editor.anything()
        report = index(workspace)
        assert (contents(workspace), skipped(report)) == anew(workspace, workspace.root / f"anew{round}")
        again = index(workspace)
        assert (again.changed, skipped(again)) == (False, skipped(report))
