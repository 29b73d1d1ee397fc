from __future__ import annotations

import io
import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import retrieval.search
from shoptalk import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stopped:
            main(list(arguments))
        captured = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "My Docs"
    folder.mkdir()
    (folder / "animals.md").write_text("# Wombats\n\nThe wombat digs burrows.\n", encoding="utf-8")
    (folder / "codes.md").write_text("# E11.9 Type 2 diabetes\n\nHigh blood sugar.\n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture
def ready(run: Run, docs: Path, static_model: Path) -> Run:
    assert run("init", "--corpus", str(docs), "--base-model", str(static_model)).code == 0
    return run


@pytest.mark.parametrize(
    ("settings", "command", "told"),
    [
        ('paths = ["~nosuchuser/docs"]', ("index",), "does not exist; correct paths"),
        ('paths = ["~nosuchuser/docs"]', ("doctor",), "~nosuchuser/docs"),
        ('paths = ["a\\u0000b"]', ("index",), "does not exist; correct paths"),
        ('paths = ["docs"]\n[model]\nbase = "~nosuchuser/y"', ("status",), "unknown model reference"),
    ],
)
def test_paths_that_lead_nowhere_are_told_in_words(
    run: Run, tmp_path: Path, settings: str, command: tuple[str, ...], told: str
) -> None:
    (tmp_path / "shoptalk.toml").write_text(f"[corpus.docs]\n{settings}\n")
    (tmp_path / "docs").mkdir()
    outcome = run(*command)
    assert told in outcome.out + outcome.err and "Traceback" not in outcome.err


def test_a_folder_whose_name_begins_with_a_tilde_is_one(run: Run, docs: Path, static_model: Path) -> None:
    docs.rename(docs.parent / "~docs")
    assert run("init", "--corpus", "./~docs", "--base-model", str(static_model)).code == 0
    assert run("index").code == 0


def test_a_folder_whose_name_is_not_utf8_is_refused(run: Run, docs: Path, static_model: Path) -> None:
    odd = docs.parent / "caf\udce9"
    docs.rename(odd)
    outcome = run("init", "--corpus", str(odd), "--base-model", str(static_model))
    assert outcome.code == 1 and "is not UTF-8" in outcome.err and not (docs.parent / "shoptalk.toml").exists()


def test_init_writes_settings_that_name_the_corpus_after_its_folder(
    run: Run, docs: Path, tmp_path: Path, static_model: Path
) -> None:
    outcome = run("init", "--corpus", "My Docs", "--base-model", str(static_model))
    assert (outcome.code, outcome.err) == (0, "")
    assert "corpus my-docs: My Docs, 2 files" in outcome.out
    assert "picture.png: unknown format .png" in outcome.out
    settings = tomllib.loads((tmp_path / "shoptalk.toml").read_text(encoding="utf-8"))
    assert settings == {"model": {"base": str(static_model)}, "corpus": {"my-docs": {"paths": ["My Docs"]}}}


def test_init_takes_a_model_s_folder_from_where_it_is_called_and_any_name_of_a_folder(
    run: Run, docs: Path, tmp_path: Path, static_model: Path
) -> None:
    odd = docs.rename(docs.with_name('new\nline "quoted" \\ \x7f'))
    shutil.copytree(static_model, tmp_path / "models" / "mine")
    assert run("-w", "elsewhere", "init", "--corpus", str(odd), "--base-model", "models/mine").code == 0
    settings = tomllib.loads((tmp_path / "elsewhere" / "shoptalk.toml").read_text(encoding="utf-8"))
    assert settings["model"] == {"base": str(tmp_path / "models" / "mine")}
    assert [corpus["paths"] for corpus in settings["corpus"].values()] == [[str(odd)]]


def test_init_stores_paths_outside_of_the_workspace_whole_and_keeps_names_apart(
    run: Run, docs: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "workspace" / "My Docs"
    inner.mkdir(parents=True)
    (inner / "x.txt").write_text("text", encoding="utf-8")
    outcome = run("-w", "workspace", "init", "--corpus", str(docs), "--corpus", str(inner), "--json")
    assert outcome.code == 0
    value = json.loads(outcome.out)
    assert value["corpora"] == {
        "my-docs": {"path": str(docs), "files": 2},
        "my-docs-2": {"path": "My Docs", "files": 1},
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "--corpus PATH"),
        (("--corpus", "absent"), 1, "absent does not exist"),
        (("--corpus", "empty"), 1, "no document that can be read"),
        (("--corpus", "My Docs", "--base-model", "what is this"), 1, "unknown model reference 'what is this'"),
    ],
)
def test_init_refuses_what_cannot_work_and_writes_nothing(
    run: Run, docs: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    outcome = run("init", *arguments)
    assert outcome.code == code
    assert message in outcome.err and outcome.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["My Docs", "empty"]


def test_init_does_not_overwrite(ready: Run, docs: Path) -> None:
    outcome = ready("init", "--corpus", str(docs), "--base-model", "some/other")
    assert outcome.code == 1
    assert "shoptalk.toml exists already" in outcome.err


def test_index_then_search_then_status(ready: Run) -> None:
    outcome = ready("index")
    assert outcome.code == 0
    assert outcome.out.startswith(
        "my-docs: 2 documents, 2 passages (2 added, 0 updated, 0 removed, 0 unchanged; 2 passa"
    )
    assert "Left out: 1\n  picture.png: unknown format .png" in outcome.out
    assert "up to date, generation g000001" in ready("index", "my-docs").out

    outcome = ready("search", "wombat burrows", "-k", "1")
    assert outcome.err == ""
    place, heading, snippet = outcome.out.splitlines()
    assert place.startswith("1. animals.md:") and place.endswith(")")
    assert (heading.strip(), snippet.strip()) == ("Wombats", "The wombat digs burrows.")

    outcome = ready("status")
    assert "2 documents, 2 passages, generation g000001" in outcome.out


def test_a_hit_in_a_workbook_is_named_by_sheet_and_row(ready: Run, docs: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for name in ("Fees", "Terms"):
        sheet = book.create_sheet(name)
        sheet.append(["Name", "Description"])
        sheet.append([f"{name} of collars", f"What the {name.lower()} of quadrilateral collars are."])
    book.save(docs / "collars.xlsx")
    assert ready("index").code == 0
    assert "collars.xlsx#Terms!2 " in ready("search", "terms of quadrilateral collars").out


def test_a_line_break_in_a_file_s_name_makes_no_line_of_its_own(ready: Run, docs: Path) -> None:
    (docs / "kept\n2. codes.md:3-3.txt").write_text("A numbat eats termites.\n")
    assert ready("index").code == 0
    hits = [line for line in ready("search", "numbat", "-k", "1").out.splitlines() if line]
    assert hits[0].startswith("1. kept\ufffd2. codes.md:3-3.txt:1-1") and len(hits) == 3
    assert hits[-1] == "   A numbat eats termites."


def test_search_answers_in_json(ready: Run) -> None:
    ready("index")
    value = json.loads(ready("search", "E11.9", "--mode", "lexical", "--path", "codes", "--json").out)
    assert (value["mode"], value["corpus"], value["degraded"]) == ("lexical", "my-docs", "")
    assert [hit["document_id"] for hit in value["hits"]] == ["codes.md"]
    assert ready("search", "E11.9", "--mode", "lexical", "--path", "animals").out == "Nothing found.\n"


def test_queries_are_read_from_standard_input_and_answered_line_by_line(
    ready: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready("index")
    loaded: list[str] = []
    load = retrieval.search.load_embedder
    monkeypatch.setattr(retrieval.search, "load_embedder", lambda *given: loaded.append("once") or load(*given))
    lines = "\ufeffwombat\n\n  E11.9 \nb\udcffd".encode("utf-8", "surrogateescape")

    def piped() -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))

    piped()
    answers = [json.loads(line) for line in ready("search", "-", "--json", "-k", "1").out.splitlines()]
    assert [answer["query"] for answer in answers] == ["wombat", "E11.9", "b\ufffdd"]
    assert [answer["hits"][0]["document_id"] for answer in answers[:2]] == ["animals.md", "codes.md"]
    assert loaded == ["once"]
    piped()
    text = ready("search", "-", "-k", "1", "--path", "none").out
    assert text == "".join(f"{query}\n\nNothing found.\n\n" for query in ("wombat", "E11.9", "b\ufffdd"))
    piped()
    assert ready("search", "-", "-k", "1", "--path", "none").err.count("Note") == 1
    monkeypatch.setattr("sys.stdin", None)  # as it is where whoever started us closed it
    assert ready("search", "-") == (0, "", "")
    assert sys.stdin.read() == ""
    sys.stdin.close()


def test_a_path_is_found_as_shells_complete_it_and_one_that_is_not_there_is_told(ready: Run) -> None:
    ready("index")
    assert "codes.md" in ready("search", "E11.9", "--mode", "lexical", "--path", "./codes").out
    outcome = ready("search", "E11.9", "--mode", "lexical", "--path", "docs/codes")
    assert (outcome.code, outcome.out) == (0, "Nothing found.\n")
    assert outcome.err == "Note: no document's path begins with docs/codes; paths look like animals.md, codes.md\n"
    assert ready("search", "E11.9", "--mode", "lexical", "--path", "animals").err == ""


def test_the_path_of_a_file_of_records_is_there(ready: Run, docs: Path) -> None:
    (docs / "data").mkdir()
    (docs / "data" / "z.jsonl").write_text(json.dumps({"_id": "zz", "text": "An emu runs."}), encoding="utf-8")
    for name in "abcd":
        (docs / f"{name}.md").write_text("Nothing much.", encoding="utf-8")
    ready("index")
    outcome = ready("search", "xylophone", "--mode", "lexical", "--path", "data/")
    assert (outcome.out, outcome.err) == ("Nothing found.\n", "")


def test_index_answers_in_json_and_lists_every_file_left_out(ready: Run, docs: Path) -> None:
    for number in range(25):
        (docs / f"{number:02}.png").write_bytes(b"\x89PNG")
    value = json.loads(ready("index", "--json").out)
    assert len(value["corpora"][0]["skipped"]) == 26
    text = ready("index", "--full").out
    assert "Left out: 26" in text and "19.png" in text and "20.png" not in text
    assert "and 6 more (--json lists all)" in text


def test_every_corpus_is_indexed_where_none_is_named(run: Run, docs: Path, tmp_path: Path, static_model: Path) -> None:
    (tmp_path / "notes.txt").write_text("A note about emus.", encoding="utf-8")
    run("init", "--corpus", str(docs), "--corpus", "notes.txt", "--base-model", str(static_model))
    value = json.loads(run("index", "--json").out)
    assert [(report["corpus"], report["added"]) for report in value["corpora"]] == [("my-docs", 2), ("notes", 1)]
    outcome = run("search", "emus")
    assert outcome.code == 1 and "several corpora (my-docs, notes); name one" in outcome.err
    assert "A note about emus." in run("search", "emus", "--corpus", "notes").out


def test_a_corpus_that_cannot_be_indexed_keeps_no_other_from_it(
    run: Run, docs: Path, tmp_path: Path, static_model: Path
) -> None:
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost" / "a.txt").write_text("A note.", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("A note about emus.", encoding="utf-8")
    corpora = ["--corpus", "lost", "--corpus", "notes.txt", "--corpus", str(docs)]
    run("init", *corpora, "--base-model", str(static_model))
    (tmp_path / "lost" / "a.txt").unlink()
    outcome = run("index", "--json")
    assert [report["corpus"] for report in json.loads(outcome.out)["corpora"]] == ["notes", "my-docs"]
    assert outcome.code == 1 and "1 of 3 corpora could not be indexed. lost: " in outcome.err
    assert "A note about emus." in run("search", "emus", "--corpus", "notes").out


def test_a_search_before_indexing_says_what_to_run(ready: Run) -> None:
    outcome = ready("search", "wombat")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == "Error: corpus 'my-docs' has no index yet; run `shoptalk index`\n"
    assert "has no index yet" in ready("status").out


def test_a_lost_corpus_is_one_line_and_keeps_the_index(ready: Run, docs: Path) -> None:
    ready("index")
    docs.rename(docs.with_name("elsewhere"))
    outcome = ready("index")
    assert outcome.code == 1
    assert "does not exist" in outcome.err and outcome.err.count("\n") == 1
    assert "Wombats" in ready("search", "wombat").out


def test_status_shows_settings_and_their_origin(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPTALK_SEARCH_MODE", "lexical")
    text = ready("status", "--settings").out
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines()}
    assert lines["search.mode"] == "lexical  ($SHOPTALK_SEARCH_MODE)"
    assert lines["search.lexical_weight"] == "unset  (default)"
    assert lines["corpus.my-docs.paths"] == "My Docs  (shoptalk.toml)"
    value = json.loads(ready("status", "--settings", "--json").out)
    assert {"name": "search.mode", "value": "lexical", "origin": "$SHOPTALK_SEARCH_MODE"} in value["settings"]


def test_status_answers_in_json(ready: Run) -> None:
    ready("index")
    value = json.loads(ready("status", "--json").out)
    corpus = value["corpora"][0]
    assert (corpus["corpus"], corpus["generation"], corpus["stale"], corpus["problems"]) == (
        "my-docs",
        "g000001",
        False,
        [],
    )
    assert value["model"]["reference"] == value["model"]["base"] == corpus["reference"]


def test_an_index_of_another_model_is_noted_beside_the_hits(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ready("index")
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", "some/other")
    outcome = ready("search", "wombat", "--mode", "lexical")
    assert "Wombats" in outcome.out and "`shoptalk index` builds it with the model in use" in outcome.err
    assert "problem: the index was built with" in ready("status").out


def test_status_tells_what_is_wrong(ready: Run, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready("index")
    docs.rename(docs.with_name("elsewhere"))
    monkeypatch.setenv("SHOPTALK_MODEL_BASE", "some/other")
    value = json.loads(ready("status", "--json").out)
    assert "some/other was never downloaded" in value["model"]["problems"][0]
    folder, stale = value["corpora"][0]["problems"]
    assert "My Docs does not exist; correct paths under [corpus.my-docs]" in folder
    assert "some/other is in use now; run `shoptalk index`" in stale
    assert ready("status").out.count("problem: ") == 3


def test_index_verify_names_the_damaged_file_and_changes_nothing(ready: Run, tmp_path: Path) -> None:
    assert ready("index", "--verify").code == 1
    ready("index")
    outcome = ready("index", "--verify")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("my-docs g000001, live: whole: ") and "2 passages" in outcome.out
    file = tmp_path / "indexes" / "my-docs" / "g000001" / "vectors.faiss"
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    outcome = ready("index", "my-docs", "--verify", "--json")
    found = json.loads(outcome.out)["generations"]
    assert outcome.code == 1 and len(found) == 1
    assert f"{file} is damaged: its checksum is wrong" in found[0]["problem"]
    assert "rebuild it with `shoptalk index --full`" in found[0]["problem"]
    assert ready("index", "--full").code == 0
    assert "g000002, live: whole" in ready("index", "--verify").out


def test_copies_are_one_hit_that_names_the_other_places(ready: Run, docs: Path) -> None:
    for number in range(5):
        (docs / f"copy{number}.md").write_text("# Wombats\n\nThe wombat digs burrows.\n", encoding="utf-8")
    assert ready("index").code == 0
    outcome = ready("search", "wombat", "--mode", "lexical", "-k", "1")
    (also,) = (line for line in outcome.out.splitlines() if "also in" in line)
    assert also.count(".md:") == 3 and also.endswith(" and 2 more")
