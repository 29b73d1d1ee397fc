from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hash_embedder import HashEmbedder

import retrieval.search
from retrieval.errors import IndexingError, ModelError, NewerFormat, ShoptalkError
from retrieval.generation import FORMAT, Generation, open_current, writer, writing
from retrieval.indexing import build_generation, build_index, put_live
from retrieval.integrity import examine_index
from retrieval.models import (
    Fusion,
    abandoned,
    add_version,
    changing_models,
    current_reference,
    remember_base_fusion,
    set_current,
    staging_folder,
    verify_version,
)
from retrieval.pointer import current_name
from retrieval.promotion import put_to_use, return_to_previous
from retrieval.search import Mode, SearchEngine
from retrieval.workspace import Workspace

MODES: tuple[Mode, ...] = ("hybrid", "dense", "lexical")


def embedder_of(reference: str, *_: object, **__: object) -> HashEmbedder:
    return HashEmbedder(reference.removeprefix("test/"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(retrieval.search, "load_embedder", embedder_of)
    (tmp_path / "docs").mkdir()
    for number in range(4):
        text = f"The wombat {number} digs a burrow and eats {number * 7} roots.\n\nAlso called: digger {number}\n"
        (tmp_path / "docs" / f"{number}.txt").write_text(text, encoding="utf-8")
    Workspace.create(tmp_path, {"docs": "docs"}, "test/one")
    workspace = Workspace.open(tmp_path)
    build_index(workspace, embedder=HashEmbedder("one"))
    return workspace


def change(workspace: Workspace, text: str) -> str:
    """Change the documents and index them; return the generation."""
    (workspace.root / "docs" / "0.txt").write_text(text, encoding="utf-8")
    return build_index(workspace, embedder=HashEmbedder("one")).generation


def answers(workspace: Workspace) -> dict[str, list[tuple[str, str, float]]]:
    engine = SearchEngine(workspace)
    results = {mode: engine.search("wombat burrow", mode=mode) for mode in MODES}
    engine.close()
    return {mode: [(hit.id, hit.text, hit.score) for hit in result.hits] for mode, result in results.items()}


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """As another version of Shoptalk would have written it: sealed."""
    values = {**json.loads((folder / "manifest.json").read_text(encoding="utf-8")), **changes}
    del values["seal"]
    seal = sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({**values, "seal": seal}), encoding="utf-8")


def live_folder(workspace: Workspace) -> Path:
    index_dir = workspace.index_dir("docs")
    return index_dir / str(current_name(index_dir))


def replace_bytes(file: Path, content: bytes) -> None:
    """In a new file: what is mapped elsewhere stays as it is."""
    file.unlink()
    file.write_bytes(content)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def test_a_whole_index_is_found_to_be_whole(workspace: Workspace) -> None:
    change(workspace, "A wombat.\n")
    live, before = examine_index(workspace, "docs")
    assert (live.generation, live.live, live.problem) == ("g000002", True, "")
    assert (before.generation, before.live, before.problem) == ("g000001", False, "")
    assert live.files == len(list(live_folder(workspace).rglob("*"))) - 1 - 2  # a folder, and tantivy's two locks
    assert live.bytes > 0 and live.passages == 4


def test_a_flipped_bit_in_any_file_is_found_and_no_answer_crashes(workspace: Workspace) -> None:
    folder = live_folder(workspace)
    files = [folder / name for name in open_current(folder.parent, "docs").manifest.files]
    for file in [folder / "manifest.json", *files]:
        content = file.read_bytes()
        for bit in {0, len(content) * 4, len(content) * 8 - 9}:
            replace_bytes(file, flipped(content, bit))
            problem = examine_index(workspace, "docs")[0].problem
            assert str(file) in problem and "shoptalk index --full" in problem
            assert "its checksum is wrong" in problem or "manifest.json is unusable" in problem
            try:
                answers(workspace)
            except ShoptalkError as error:
                assert str(folder) in str(error)
        replace_bytes(file, content)
    assert examine_index(workspace, "docs")[0].problem == ""


def test_a_file_cut_short_or_gone_is_refused_when_the_index_is_opened(workspace: Workspace) -> None:
    folder = live_folder(workspace)
    for name in open_current(folder.parent, "docs").manifest.files:
        content = (folder / name).read_bytes()
        for kept in (content[: len(content) // 2], b""):
            replace_bytes(folder / name, kept)
            with pytest.raises(IndexingError, match=r"is damaged: \d+ bytes instead of"):
                answers(workspace)
        (folder / name).unlink()
        with pytest.raises(IndexingError, match="is missing"):
            answers(workspace)
        (folder / name).write_bytes(content)
    replace_bytes(folder / "manifest.json", (folder / "manifest.json").read_bytes()[:100])
    with pytest.raises(IndexingError, match=r"manifest\.json is unusable"):
        answers(workspace)


def test_damage_is_not_handed_on_to_the_next_generation(workspace: Workspace) -> None:
    file = live_folder(workspace) / "vectors.faiss"
    replace_bytes(file, flipped(file.read_bytes(), 1200))
    assert change(workspace, "A wombat.\n") == "g000002"
    assert examine_index(workspace, "docs")[0].problem == ""
    mended = answers(workspace)
    shutil.rmtree(workspace.root / "indexes")
    build_index(workspace, embedder=HashEmbedder("one"))
    assert answers(workspace) == mended


def test_parts_that_disagree_are_told_apart_from_damage(workspace: Workspace, tmp_path: Path) -> None:
    first = live_folder(workspace)
    change(workspace, "Something else, of an emu.\n")
    second = live_folder(workspace)
    shutil.copyfile(first / "vectors.faiss", second / "other")
    replace_bytes(second / "vectors.faiss", (second / "other").read_bytes())
    (second / "other").unlink()
    files = json.loads((second / "manifest.json").read_text(encoding="utf-8"))["files"]
    content = (second / "vectors.faiss").read_bytes()
    files["vectors.faiss"] = [len(content), sha256(content).hexdigest()]
    rewrite_manifest(second, files=files)
    problem = examine_index(workspace, "docs")[0].problem
    assert "vectors.faiss holds other passages than" in problem
    rewrite_manifest(second, passages=99)
    assert "holds 4 passages and the manifest tells of 99" in examine_index(workspace, "docs")[0].problem


def test_an_index_of_an_earlier_format_is_refused_then_rebuilt_without_encoding(workspace: Workspace) -> None:
    before = answers(workspace)
    rewrite_manifest(live_folder(workspace), format=FORMAT - 1, unheard_of=1)
    with pytest.raises(IndexingError, match=r"an earlier version of Shoptalk wrote it .*; run `shoptalk index`$"):
        answers(workspace)
    embedder = HashEmbedder("one")
    report = build_index(workspace, embedder=embedder)
    assert (report.generation, report.embedded, embedder.encoded) == ("g000002", 0, [])
    assert answers(workspace) == before


def test_an_index_of_a_later_format_is_refused_and_never_replaced(workspace: Workspace) -> None:
    folder = live_folder(workspace)
    rewrite_manifest(folder, format=FORMAT + 1, unheard_of=1)
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(NewerFormat, match="a later version of Shoptalk wrote it .*; update Shoptalk, or delete"):
        answers(workspace)
    for full in (False, True):
        with pytest.raises(NewerFormat, match="update Shoptalk"):
            build_index(workspace, embedder=HashEmbedder("one"), full=full)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == content
    (folder.parent / "CURRENT").unlink()  # as the message says
    assert build_index(workspace, embedder=HashEmbedder("one")).generation == "g000002"
    assert answers(workspace)["dense"]


def test_a_model_record_of_a_later_format_is_refused_and_never_replaced(workspace: Workspace) -> None:
    workspace.models_dir.mkdir()
    record = workspace.models_dir / "base.json"
    record.write_text('{"format": 2, "test/one": 7}', encoding="utf-8")
    with pytest.raises(ModelError, match=r"base\.json is of format 2.*update Shoptalk"):
        remember_base_fusion(workspace, "test/one", Fusion(0.5))
    assert record.read_text(encoding="utf-8") == '{"format": 2, "test/one": 7}'


def register(workspace: Workspace) -> str:
    staged = staging_folder(workspace)
    (staged / "modules.json").write_text("[]", encoding="utf-8")
    (staged / "model.safetensors").write_bytes(bytes(range(256)))
    return add_version(workspace, staged).name


def test_a_flipped_bit_in_a_model_version_is_found_before_an_index_is_built_by_it(workspace: Workspace) -> None:
    name = register(workspace)
    verify_version(workspace, name)
    for file in ("model.safetensors", "modules.json"):
        path = workspace.models_dir / "v0001" / file
        content = path.read_bytes()
        path.write_bytes(flipped(content, 3))
        embedder = HashEmbedder("damaged")
        embedder.reference = name
        with pytest.raises(ModelError, match=rf"{file} is damaged: its checksum is wrong"):
            build_index(workspace, embedder=embedder)
        path.write_bytes(content)
    (workspace.models_dir / "v0001" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="model.safetensors is missing"):
        verify_version(workspace, name)


def test_any_flipped_bit_in_the_name_of_the_model_in_use_shows(workspace: Workspace) -> None:
    from retrieval.doctor import index_problem, model_problems

    register(workspace)
    set_current(workspace, "test/one")
    file = workspace.models_dir / "CURRENT"
    content = file.read_bytes()
    for bit in range(len(b"base") * 8):
        file.write_bytes(flipped(content, bit))
        assert model_problems(workspace) or index_problem(workspace, "docs"), bit


def test_any_flipped_bit_in_the_name_of_the_live_generation_shows(workspace: Workspace) -> None:
    file = workspace.index_dir("docs") / "CURRENT"
    content = file.read_bytes()
    for bit in range(len(content.strip()) * 8):
        file.write_bytes(flipped(content, bit))
        assert examine_index(workspace, "docs")[0].problem, bit
        with pytest.raises(IndexingError, match="shoptalk index"):
            answers(workspace)


def test_a_lock_ends_with_its_process(workspace: Workspace) -> None:
    index_dir = workspace.index_dir("docs")
    script = """
import sys
from pathlib import Path
from retrieval.generation import writing
from retrieval.models import changing_models
from retrieval.workspace import Workspace
with writing(Path(sys.argv[1]), "docs"), changing_models(Workspace.open(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", script, str(index_dir), str(workspace.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert writer(index_dir) == process.pid
        with pytest.raises(IndexingError, match=rf"another process \({process.pid}\) is indexing corpus 'docs'; wait"):
            build_index(workspace, embedder=HashEmbedder("one"))
        with pytest.raises(ModelError, match="another process is putting a model to use"):
            put_to_use(workspace, "test/two", embedder=HashEmbedder("two"))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert writer(index_dir) is None and (index_dir / "LOCK").exists()
    with writing(index_dir, "docs"), changing_models(workspace):
        assert writer(index_dir) == os.getpid()


def test_a_generation_made_earlier_is_never_put_over_a_later_one(workspace: Workspace) -> None:
    (workspace.root / "docs" / "0.txt").write_text("An emu.\n", encoding="utf-8")
    earlier, _ = build_generation(workspace, embedder=HashEmbedder("two"))
    assert change(workspace, "A cassowary.\n") == "g000003"
    with pytest.raises(IndexingError, match="g000002 is not put live: g000003, made later, is live already"):
        put_live(workspace, "docs", earlier)
    assert current_name(workspace.index_dir("docs")) == "g000003"


def test_a_promotion_that_is_overtaken_by_an_indexing_run_still_ends_agreeing(workspace: Workspace) -> None:
    original = put_live

    def index_first(workspace: Workspace, corpus: str, generation: Generation) -> None:
        change(workspace, "A cassowary came meanwhile.\n")
        original(workspace, corpus, generation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.promotion.put_live", index_first)
        put_to_use(workspace, "test/two", embedder=HashEmbedder("two"))
    info = SearchEngine(workspace).info()
    assert (info.reference, info.stale, current_reference(workspace)) == ("test/two", False, "test/two")
    assert "cassowary" in SearchEngine(workspace).search("cassowary", mode="lexical").hits[0].text


def test_promoting_what_is_in_use_already_loads_and_builds_nothing(workspace: Workspace) -> None:
    assert put_to_use(workspace, "base") == "test/one"  # which no one could load
    assert current_name(workspace.index_dir("docs")) == "g000001"
    put_to_use(workspace, "test/two", embedder=HashEmbedder("two"))
    assert put_to_use(workspace, "test/two") == "test/two"
    assert return_to_previous(workspace, embedder=HashEmbedder("one")) == "test/one"
    assert open_current(workspace.index_dir("docs"), "docs").manifest.reference == "test/one"


def test_a_model_that_does_not_load_is_not_put_to_use(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(reference: str, *_: object) -> None:
        raise ModelError(f"model {reference} could not be loaded")

    monkeypatch.setattr("retrieval.promotion.load_embedder", fail)
    with pytest.raises(ModelError, match="test/two could not be loaded"):
        put_to_use(workspace, "test/two")
    assert current_reference(workspace) == "test/one"
    assert abandoned(workspace) == []


def test_a_reader_answers_from_its_generation_through_two_switches_and_then_it_is_swept(workspace: Workspace) -> None:
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import retrieval.search
from hash_embedder import HashEmbedder
from retrieval.workspace import Workspace
retrieval.search.load_embedder = lambda *_, **__: HashEmbedder("one")
engine = retrieval.search.SearchEngine(Workspace.open(sys.argv[1]))
held = engine._follow()
engine._follow = lambda: held
for line in sys.stdin:
    found = [engine.search("wombat burrow", mode=mode) for mode in ("hybrid", "dense", "lexical")]
    print([(result.generation, [hit.text for hit in result.hits]) for result in found], flush=True)
"""
    first = live_folder(workspace)
    command = [sys.executable, "-c", script, str(workspace.root), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None and reader.stdout is not None

        def ask() -> str:
            assert reader.stdin is not None and reader.stdout is not None
            print("go", file=reader.stdin, flush=True)
            return reader.stdout.readline()

        at_first = ask()
        assert at_first.count("g000001") == 3 and "wombat 0" in at_first
        for number in (2, 3, 4):
            assert change(workspace, f"Wombats left: {number}.\n") == f"g00000{number}"
            assert ask() == at_first
            assert first.is_dir()
        reader.stdin.close()
        reader.wait()
    change(workspace, "No wombats left.\n")
    assert sorted(path.name for path in first.parent.glob("g*")) == ["g000004", "g000005"]


def test_sixteen_threads_search_through_switches_without_one_failure(workspace: Workspace) -> None:
    engine = SearchEngine(workspace)
    engine.load()
    stop = threading.Event()
    started = threading.Barrier(17)

    def search(number: int) -> set[str]:
        seen = set()
        started.wait()
        while not stop.is_set():
            result = engine.search("wombat burrow", mode=MODES[number % 3])
            assert result.degraded == "" and len(result.hits) >= 3
            assert {hit.document_id for hit in result.hits} >= {"1.txt", "2.txt", "3.txt"}
            seen.add(result.generation)
        return seen

    with ThreadPoolExecutor(16) as pool:
        searches = [pool.submit(search, number) for number in range(16)]
        started.wait()
        try:
            for number in range(4):
                change(workspace, f"The wombat has {number} burrows.\n")
            put_to_use(workspace, "test/two", embedder=HashEmbedder("two"))
            return_to_previous(workspace, embedder=HashEmbedder("one"))
        finally:
            stop.set()
        seen = set().union(*(search.result() for search in searches))
    assert len(seen) >= 3
    assert engine.search("wombat").generation == "g000007"


def test_killed_at_any_of_150_instants_a_whole_index_answers_and_the_next_run_ends_it(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_anywhere.py")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), str(script.parent.parent), str(script.parent)]),
    }
    command = [sys.executable, str(script), str(tmp_path), "50"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for found in json.loads(done.stdout).values():
        assert found["old"] + found["new"] == 50 and found["old"] > 5 and found["new"] > 0, found
