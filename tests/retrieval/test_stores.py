"""One suite for every store: what is found does not depend on where the index is.

Against servers of one's own: SHOPTALK_TEST_QDRANT_URL, SHOPTALK_TEST_MILVUS_URL (and SHOPTALK_STORE_KEY).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from hash_embedder import HashEmbedder

import shoptalk
from retrieval.catalog import PassageRow
from retrieval.doctor import examine
from retrieval.errors import IndexingCancelled, IndexingError
from retrieval.generation import current_name
from retrieval.indexing import build_generation, build_index, put_live
from retrieval.integrity import examine_index
from retrieval.search import Mode, SearchEngine, SearchResult
from retrieval.stores import open_store
from retrieval.workspace import Workspace

EMBEDDER = HashEmbedder()
WORDS = (
    "wombat emu burrow claw ground tall bird fly river stone valve pump seal torque E11.9 C++ naïve 血糖 a_b "
    "x-ray Überlauf 3.5mm don't invoice ledger"
).split()
ADDRESSES = {
    "qdrant": os.environ.get("SHOPTALK_TEST_QDRANT_URL", "file:database"),
    "milvus": os.environ.get("SHOPTALK_TEST_MILVUS_URL", "file:milvus.db"),
}
# Qdrant's row that is no passage counts as one, and tantivy rounds lengths above 40. The embedded Milvus goes by the
# statistics of each of its segments alone: it finds the same passages in an order of its own.
LEXICAL_TOLERANCE = {"qdrant": 0.03, "milvus": None}
CLIENTS = {"qdrant": "qdrant_client", "milvus": "pymilvus"}


def settings(kind: str) -> str:
    if kind == "local":
        return ""
    name = f"test{uuid.uuid4().hex[:8]}"
    return f'\n[store]\nkind = "{kind}"\nurl = "{ADDRESSES[kind]}"\nname = "{name}"\npoll_seconds = 0.0\n'


def make_workspace(root: Path, kind: str, reference: str = "test/hash") -> Workspace:
    if kind != "local" and find_spec(CLIENTS[kind]) is None:
        pytest.skip(f"{CLIENTS[kind]} is not installed")
    (root / "docs").mkdir(parents=True, exist_ok=True)
    file = Workspace.create(root, {"docs": "docs"}, reference)
    with file.open("a", encoding="utf-8") as added:
        added.write(settings(kind))
    return Workspace.open(root)


@pytest.fixture(params=["local", "qdrant", "milvus"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    workspace = make_workspace(tmp_path / "workspace", request.param)
    yield workspace
    forget(workspace)


def forget(workspace: Workspace) -> None:
    """Leave nothing in a server that outlives the test."""
    if workspace.store.kind != "local":
        from retrieval.databases import database

        there = database(workspace)
        for name in there.collections(workspace.store.name):
            there.drop(name)


def write(workspace: Workspace, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        path = workspace.root / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")


def made_up(random: Random, sections: int) -> str:
    def section(number: int) -> str:
        words = " ".join(random.choices(WORDS, k=random.randint(4, 20)))
        return f"# {random.choice(WORDS)} {number}\n\n{words}.\n"

    return "\n".join(map(section, range(sections)))


def index(workspace: Workspace, embedder: HashEmbedder = EMBEDDER, **options: bool) -> None:
    build_index(workspace, embedder=embedder, **options)  # type: ignore[arg-type]


def search(engine: SearchEngine, query: str, mode: Mode = "hybrid", top_k: int = 50, prefix: str = "") -> SearchResult:
    vector = EMBEDDER.encode_queries([query])[0]
    return engine.search(query, mode=mode, top_k=top_k, path_prefix=prefix, vector=vector)


def places(result: SearchResult) -> list[str]:
    return [hit.document_id for hit in result.hits]


def told(result: SearchResult) -> dict[str, tuple[object, ...]]:
    return {
        hit.id: (hit.document_id, hit.title, hit.text, hit.heading, hit.first_line, hit.last_line, hit.path)
        for hit in result.hits
    }


def assert_alike(ours: SearchResult, theirs: SearchResult, tolerance: float) -> None:
    """Scores differ by no more than ``tolerance``, and so does the order."""
    known = {hit.id: hit.score for hit in theirs.hits}
    for hit in ours.hits:
        assert hit.score == pytest.approx(known[hit.id], abs=tolerance, rel=tolerance)
    in_their_order = [known[hit.id] for hit in ours.hits]
    for better, worse in zip(in_their_order, in_their_order[1:], strict=False):
        assert better >= worse - 2 * tolerance * max(1.0, abs(worse))


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_found_is_what_the_local_index_finds(tmp_path: Path, kind: str, seed: int) -> None:
    random = Random(seed)
    here, there = make_workspace(tmp_path / "here", "local"), make_workspace(tmp_path / "there", kind)
    names = [f"{folder}{name}.md" for folder in ("", "a/", "a/b/", "ab/") for name in ("x", "xy", "%_1")]
    files: dict[str, str | None] = {name: made_up(random, random.randint(1, 4)) for name in names}
    changes: list[dict[str, str | None]] = [
        files,
        {"x.md": None, "a/x.md": made_up(random, 2), "a/new.md": made_up(random, 3)},
        {"a/b/x.md": "# moved\n\n\n\nemu emu river.\n" + str(files["a/b/x.md"])},
    ]
    engines = [SearchEngine(here), SearchEngine(there)]
    for change in changes:
        for workspace in (here, there):
            write(workspace, change)
            # What is gone counts for BM25 until it is swept, and in an index made anew nothing is gone.
            index(workspace, full=True)
            index(workspace)
        for _ in range(8):
            query = " ".join(random.choices(WORDS, k=random.randint(1, 4)))
            prefix = random.choice(["", "", "a/", "a/b/", "a", "x", "a/x", "%", "nowhere"])
            for mode, tolerance in (("dense", 1e-4), ("lexical", LEXICAL_TOLERANCE[kind])):
                theirs, ours = (search(engine, query, mode, prefix=prefix) for engine in engines)
                assert told(ours) == told(theirs)
                if tolerance:
                    assert_alike(ours, theirs, tolerance)
    forget(there)


def test_what_was_deleted_is_not_found(workspace: Workspace) -> None:
    write(workspace, {"one.md": "# One\n\nwombat ground.\n", "two.md": "# Two\n\nwombat river.\n"})
    index(workspace)
    engine = SearchEngine(workspace)
    assert len(search(engine, "wombat").hits) == 2
    write(workspace, {"two.md": None})
    index(workspace)
    for mode in ("hybrid", "dense", "lexical"):
        assert places(search(engine, "wombat", mode)) == ["one.md"]  # type: ignore[arg-type]
    assert engine.info().passages == 1


def test_a_moved_passage_keeps_its_id_and_tells_its_new_lines(workspace: Workspace) -> None:
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    engine = SearchEngine(workspace)
    (before,) = search(engine, "wombat").hits
    write(workspace, {"one.md": "\n\n\n# One\n\nwombat ground.\n"})
    index(workspace)
    (after,) = search(engine, "wombat").hits
    assert (after.id, after.first_line) == (before.id, before.first_line + 3)


def test_a_renamed_file_is_found_under_its_new_name_only(workspace: Workspace) -> None:
    write(workspace, {"old/one.md": "# One\n\nwombat ground.\n", "two.md": "# Two\n\nemu.\n"})
    index(workspace)
    (workspace.root / "docs" / "new").mkdir()
    (workspace.root / "docs" / "old" / "one.md").rename(workspace.root / "docs" / "new" / "one.md")
    index(workspace)
    engine = SearchEngine(workspace)
    assert places(search(engine, "wombat", "lexical", prefix="new/")) == ["new/one.md"]
    assert not search(engine, "wombat", "lexical", prefix="old/").hits
    assert engine.document_ids("", 10) == ["new/one.md", "two.md"]


def test_a_document_is_read_in_its_order_and_hits_come_with_their_neighbours(workspace: Workspace) -> None:
    text = "\n".join(f"# Part {number}\n\n{word} {word}.\n" for number, word in enumerate(WORDS[:6]))
    write(workspace, {"one.md": text, "two.md": "# Two\n\nledger.\n"})
    index(workspace)
    engine = SearchEngine(workspace)
    assert [row.passage.heading[-1] for row in engine.document("one.md", 4)] == [f"Part {n}" for n in range(4)]
    assert engine.document("none.md", 4) == []
    generation = open_store(workspace, "docs").open()
    number = generation.rank(WORDS[2], None, 1)[1][0][0]
    row: PassageRow = generation.passages([number])[number]
    assert [found.position for found in generation.neighbours(row, 1)] == [1, 2, 3]


def test_a_corpus_that_is_not_indexed_says_so(workspace: Workspace) -> None:
    store = open_store(workspace, "docs")
    assert store.live() is None
    with pytest.raises(IndexingError, match="run `shoptalk index`"):
        store.open()


def test_a_generation_that_is_not_switched_to_is_not_seen(workspace: Workspace) -> None:
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    engine = SearchEngine(workspace)
    write(workspace, {"one.md": "# One\n\nemu ground.\n", "two.md": "# Two\n\nwombat river.\n"})
    generation, _ = build_generation(workspace, embedder=EMBEDDER)
    assert places(search(engine, "wombat", "lexical")) == ["one.md"]
    put_live(workspace, "docs", generation)
    assert places(search(engine, "wombat", "lexical")) == ["two.md"]


def test_a_run_that_was_killed_before_the_switch_leaves_nothing_behind(workspace: Workspace) -> None:
    """Once while rows are written, once when all were."""
    write(workspace, {"one.md": made_up(Random(1), 40)})
    index(workspace)
    engine = SearchEngine(workspace)
    before = places(search(engine, "wombat", "lexical"))
    write(workspace, {"one.md": None, "two.md": made_up(Random(2), 300)})
    for allowed in range(4):
        asked = iter(range(10_000))
        with pytest.raises(IndexingCancelled):
            build_index(workspace, embedder=EMBEDDER, stop=lambda asked=asked, allowed=allowed: next(asked) >= allowed)
        assert places(search(engine, "wombat", "lexical")) == before
    build_generation(workspace, embedder=EMBEDDER)
    assert places(search(engine, "wombat", "lexical")) == before
    write(workspace, {"three.md": "# Three\n\nzebra.\n"})
    index(workspace)
    assert engine.info().passages == 301
    assert places(search(engine, "zebra", "lexical")) == ["three.md"]
    assert len(search(engine, "wombat", "dense", top_k=400).hits) <= 301


def test_rows_that_another_run_has_written_over_do_not_go_live(workspace: Workspace) -> None:
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    write(workspace, {"two.md": "# Two\n\nemu ground.\n"})
    overtaken, _ = build_generation(workspace, embedder=EMBEDDER)
    write(workspace, {"two.md": "# Two\n\nriver.\n"})
    index(workspace)
    with pytest.raises(IndexingError, match="not put live"):
        put_live(workspace, "docs", overtaken)
    assert places(search(SearchEngine(workspace), "river", "lexical")) == ["two.md"]


def test_another_model_gets_an_index_beside_the_live_one(workspace: Workspace) -> None:
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    engine = SearchEngine(workspace)
    other = HashEmbedder("other", dimension=48)
    generation, _ = build_generation(workspace, embedder=other)
    assert engine.info().dimension == 32 and search(engine, "wombat").hits
    put_live(workspace, "docs", generation)
    assert (engine.info().dimension, engine.info().fingerprint) == (48, other.fingerprint)
    with pytest.raises(IndexingError, match="does not fit"):
        search(engine, "wombat")
    vector = other.encode_queries(["wombat"])[0]
    assert places(engine.search("wombat", vector=vector)) == ["one.md"]


@pytest.mark.parametrize("kind", ["local", "qdrant", "milvus"])
def test_an_index_of_another_model_of_the_same_name_is_refused(tmp_path: Path, kind: str, static_model: Path) -> None:
    workspace = make_workspace(tmp_path, kind, str(static_model))
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    stranger = HashEmbedder(dimension=256)
    stranger.reference = str(static_model)
    index(workspace, stranger)
    with pytest.raises(IndexingError, match="indexed by another model"):
        SearchEngine(workspace).search("wombat")
    forget(workspace)


def test_ten_switches_under_load_fail_no_search_and_mix_no_generations(workspace: Workspace) -> None:
    def texts(generation: int) -> dict[str, str | None]:
        return {f"{name}.md": f"# {name}\n\nwombat mark{generation}.\n" for name in ("one", "two", "three")}

    write(workspace, texts(0))
    index(workspace)
    engine = SearchEngine(workspace)
    ended, failures, seen = threading.Event(), [], set()

    def ask() -> None:
        while not ended.is_set():
            try:
                marks = {hit.text.split()[-1] for hit in search(engine, "wombat").hits}
                count = len(search(engine, "wombat", "dense").hits)
            except Exception as error:
                failures.append(error)
                return
            seen.add(frozenset(marks))
            if count != 3:
                failures.append(AssertionError(f"{count} hits"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for generation in range(1, 11):
            write(workspace, texts(generation))
            index(workspace)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures
    assert all(len(marks) == 1 for marks in seen)
    assert {hit.text.split()[-1] for hit in search(engine, "wombat").hits} == {"mark10."}


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_an_incremental_run_sends_what_changed_and_nothing_else(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval.databases import database

    workspace = make_workspace(tmp_path, kind)
    write(workspace, {f"{number}.md": f"# {number}\n\nwombat {number}.\n" for number in range(20)})
    index(workspace)
    there = database(workspace)
    sent: list[int] = []
    put = there.put

    def counted(collection: str, rows: list[object], *rest: object) -> None:
        sent.append(len(rows))
        put(collection, rows, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(there, "put", counted)
    write(workspace, {"7.md": "# 7\n\nemu 7.\n"})
    index(workspace)
    assert sum(sent) == 1
    assert len(there.collections(f"{workspace.store.name}_docs_")) == 1
    forget(workspace)


def reader_of(workspace: Workspace) -> Workspace:
    """A workspace that has the settings of another, and neither documents nor indexes."""
    folder = workspace.root.parent / f"{workspace.root.name}.reader"
    folder.mkdir()
    settings = (workspace.root / "shoptalk.toml").read_text(encoding="utf-8")
    # An embedded database is where its workspace is; a server is where it is.
    settings = settings.replace("file:", f"file:{workspace.root}/")
    (folder / "shoptalk.toml").write_text(settings, encoding="utf-8")
    return Workspace.open(folder)


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_readers_that_have_no_documents_and_no_indexes_search_the_same(tmp_path: Path, kind: str) -> None:
    workspace = make_workspace(tmp_path / "indexer", kind)
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    replica = reader_of(workspace)
    engine = SearchEngine(replica)
    assert places(search(engine, "wombat")) == ["one.md"]
    write(workspace, {"two.md": "# Two\n\nwombat wombat.\n"})
    index(workspace)
    assert sorted(places(search(engine, "wombat"))) == ["one.md", "two.md"]
    assert current_name(replica.index_dir("docs")) is None
    forget(workspace)


@pytest.fixture
def reader(tmp_path: Path, static_model: Path) -> Workspace:
    """One that reads what another machine indexed, with the model in use."""
    workspace = make_workspace(tmp_path / "indexer", "qdrant", str(static_model))
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    build_index(workspace)
    return reader_of(workspace)


def test_who_only_reads_an_index_is_whole_without_the_documents(reader: Workspace) -> None:
    found = {check.name: check for check in examine(reader.root)}
    assert (found["corpus docs"].state, found["corpus docs"].mend) == ("note", "needed only where it is indexed")
    assert "docs does not exist" in found["corpus docs"].message and found["index docs"].state == "ok"
    told = CliRunner().invoke(shoptalk.command_line, ["-w", str(reader.root), "status", "--json"])
    assert json.loads(told.stdout)["corpora"][0]["problems"] == []


def test_who_only_reads_an_index_examines_it_in_the_database(reader: Workspace) -> None:
    from retrieval.databases import database

    (found,) = examine_index(reader, "docs")
    assert (found.generation, found.live, found.passages, found.problem) == ("g000001", True, 1, "")
    checks = {check.name: check for check in examine(reader.root, deep=True)}
    assert checks["index docs"].state == "ok"
    there = database(reader)
    (build,) = there.collections(f"{reader.store.name}_docs_")
    there.put_record(build, 256, {**(there.record(build) or {}), "dimension": 99})
    assert "99" in examine_index(reader, "docs")[0].problem


def test_an_index_that_another_machine_made_is_replaced_only_when_told_to(reader: Workspace) -> None:
    (reader.root / "docs").mkdir()
    write(reader, {"two.md": "# Two\n\nemu.\n"})
    with pytest.raises(IndexingError, match="this workspace did not make it: .* `shoptalk index --full`"):
        build_index(reader)
    engine = SearchEngine(reader)
    assert engine.document_ids("", 10) == ["one.md"]
    build_index(reader, full=True)
    assert engine.document_ids("", 10) == ["two.md"]
    assert not build_index(reader).changed


def sharing_one_database(root: Path, name: str, corpus: str, text: str) -> Workspace:
    """A workspace of the name ``name`` in the embedded database beside it, with a corpus of one document."""
    folder = root / f"{name}.{corpus}"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "one.md").write_text(text, encoding="utf-8")
    file = Workspace.create(folder, {corpus: "docs"}, "test/hash")
    with file.open("a", encoding="utf-8") as added:
        added.write(f'\n[store]\nkind = "qdrant"\nurl = "file:{root}/database"\nname = "{name}"\n')
    return Workspace.open(folder)


def close_database(workspace: Workspace) -> None:
    """Let go of an embedded database, as the end of this process would."""
    from retrieval.databases import _database, database

    there = database(workspace)
    (there._client if workspace.store.kind == "qdrant" else there._connected).close()  # type: ignore[attr-defined]
    _database.cache_clear()


def test_workspaces_of_other_names_keep_apart_in_one_database(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    names = [("shoptalk", "hr-docs"), ("shoptalk_hr", "docs"), ("shoptalk", "hr_docs"), ("shoptalk_", "hr-docs")]
    workspaces = [sharing_one_database(tmp_path, *name, f"# One\n\n{name}\n") for name in names]
    for workspace in workspaces:
        index(workspace)
        close_database(workspace)
    for workspace, name in zip(workspaces, names, strict=True):
        (hit,) = search(SearchEngine(workspace), "one").hits
        assert hit.text == str(name)
        close_database(workspace)


def test_an_index_of_another_corpus_is_neither_read_nor_written_over(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client")
    first, second = (sharing_one_database(tmp_path, "shoptalk", name, "# One\n\nemu.\n") for name in ("a_b", "a--b"))
    index(first)
    with pytest.raises(IndexingError, match="is the index of shoptalk/a_b, not of shoptalk/a--b; give"):
        SearchEngine(second).search("emu", mode="lexical")
    with pytest.raises(IndexingError, match="is the index of shoptalk/a_b"):
        index(second, full=True)
    assert places(search(SearchEngine(first), "emu")) == ["one.md"]


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_an_embedded_index_is_searched_and_grows_after_the_process_that_made_it_has_ended(
    tmp_path: Path, kind: str
) -> None:
    workspace = make_workspace(tmp_path, kind)
    if not workspace.store.url.startswith("file:"):
        pytest.skip("a server outlives its clients")
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    script = (
        "import sys\nfrom hash_embedder import HashEmbedder\nfrom retrieval.indexing import build_index\n"
        "from retrieval.workspace import Workspace\n"
        "build_index(Workspace.open(sys.argv[1]), embedder=HashEmbedder())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, workspace.root], check=True, env=environment)
    assert places(search(SearchEngine(workspace), "wombat")) == ["one.md"]
    write(workspace, {"one.md": None, "two.md": "# Two\n\nwombat river.\n"})
    index(workspace)
    assert places(search(SearchEngine(workspace), "wombat")) == ["two.md"]


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_changing_where_the_index_lives_asks_for_a_run_and_loses_nothing(tmp_path: Path, kind: str) -> None:
    workspace = make_workspace(tmp_path, kind)
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    file = workspace.root / "shoptalk.toml"
    remote = file.read_text(encoding="utf-8")
    file.write_text(remote.replace(f'kind = "{kind}"', 'kind = "local"'), encoding="utf-8")
    local = Workspace.open(workspace.root)
    with pytest.raises(IndexingError, match=f"was written to {kind}"):
        search(SearchEngine(local), "wombat")
    index(local)
    assert places(search(SearchEngine(local), "wombat")) == ["one.md"]
    file.write_text(remote, encoding="utf-8")
    index(Workspace.open(workspace.root))
    assert places(search(SearchEngine(workspace), "wombat")) == ["one.md"]
    forget(workspace)
