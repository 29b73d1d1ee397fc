"""Databases that are down, old, locked or not what they should be: one line that says so, and nothing lost."""

from __future__ import annotations

import json
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from loopback import Loopback
from test_stores import EMBEDDER, index, make_workspace, places, search, write

from retrieval.databases import KEY_VARIABLE, database
from retrieval.doctor import examine
from retrieval.errors import IndexingError, SettingsError, StoreError
from retrieval.indexing import build_index
from retrieval.search import SearchEngine
from retrieval.stores import open_store
from retrieval.workspace import Workspace


def answering(status: int, body: object, seen: list[str] | None = None) -> type[BaseHTTPRequestHandler]:
    """A server that answers everything alike; ``seen`` gets the keys it is shown."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(self.headers.get("api-key", ""))
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def workspace_at(root: Path, kind: str, url: str) -> Workspace:
    workspace = make_workspace(root, "local")
    with (root / "shoptalk.toml").open("a", encoding="utf-8") as added:
        added.write(f'\n[store]\nkind = "{kind}"\nurl = "{url}"\npoll_seconds = 0.0\ntimeout = 1.0\n')
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    return Workspace.open(root)


def store_check(workspace: Workspace) -> tuple[str, str]:
    """What ``shoptalk doctor`` says of the store."""
    (check,) = [check for check in examine(workspace.root) if check.name == "store"]
    return check.state, check.message


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_a_store_that_is_down_is_named_with_its_setting(tmp_path: Path, kind: str) -> None:
    url = closed_port()
    workspace = workspace_at(tmp_path, kind, url)
    with pytest.raises(StoreError, match=f"{url} does not answer .*store.url") as told:
        SearchEngine(workspace).search("wombat", mode="lexical")
    assert "\n" not in str(told.value)
    with pytest.raises(StoreError, match="does not answer"):
        build_index(workspace, embedder=EMBEDDER)
    state, line = store_check(workspace)
    assert state == "wrong" and f"{url} does not answer" in line


def test_a_wrong_key_is_named_and_the_key_is_sent_but_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "s3cret-key")
    seen: list[str] = []
    with Loopback(answering(401, {"status": "no"}, seen)) as server:
        workspace = workspace_at(tmp_path, "qdrant", server.url)
        state, line = store_check(workspace)
    assert state == "wrong" and KEY_VARIABLE in line and "s3cret-key" not in line
    assert "s3cret-key" in seen


def test_an_old_server_is_named_with_what_is_needed(tmp_path: Path) -> None:
    body = {"title": "qdrant", "version": "1.7.4", "result": {"aliases": []}, "status": "ok", "time": 0.0}
    with Loopback(answering(200, body)) as server:
        state, line = store_check(workspace_at(tmp_path, "qdrant", server.url))
    assert state == "wrong" and "1.7.4" in line and "1.12" in line


def test_a_server_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with Loopback(answering(500, {"status": {"error": "disk is full"}})) as server:
        workspace = workspace_at(tmp_path, "qdrant", server.url)
        with pytest.raises(StoreError, match="status 500.*disk is full"):
            open_store(workspace, "docs").open()


@pytest.mark.parametrize("kind", ["qdrant", "milvus"])
def test_a_build_whose_vectors_are_of_another_length_is_found(tmp_path: Path, kind: str) -> None:
    workspace = make_workspace(tmp_path, kind)
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    there = database(workspace)
    alias = f"{workspace.store.name}_docs"
    build = there.resolve(alias)
    assert build is not None
    record = there.record(build)
    assert record is not None
    there.put_record(build, record["dimension"], {**record, "dimension": 99})
    state, line = store_check(workspace)
    assert state == "wrong" and "99" in line and "shoptalk index --full" in line
    index(workspace, full=True)
    assert store_check(workspace)[0] == "ok"


def test_a_search_goes_on_when_the_store_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, "qdrant")
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    engine = SearchEngine(workspace)
    assert places(search(engine, "wombat")) == ["one.md"]
    there = database(workspace)

    def down(*_: object) -> None:
        raise StoreError("Qdrant does not answer")

    with monkeypatch.context() as broken:
        for method in ("resolve", "record", "rank", "fetch"):
            broken.setattr(there, method, down)
        with pytest.raises(StoreError, match="does not answer"):
            search(engine, "wombat")
    assert places(search(engine, "wombat")) == ["one.md"]


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ('kind = "qdrant"', "store.url: must be an address"),
        ('kind = "qdrant"\nurl = "localhost"', "store.url"),
        ('kind = "milvus"\nurl = "http://me:secret@host:19530"', "SHOPTALK_STORE_KEY"),
        ('kind = "elastic"', "store.kind"),
        ('kind = "qdrant"\nurl = "http://x"\nname = "Not OK"', "store.name"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path: Path, lines: str, named: str) -> None:
    file = Workspace.create(tmp_path, {"docs": "docs"}, "test/hash")
    file.write_text(f"{file.read_text()}\n[store]\n{lines}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=named) as told:
        Workspace.open(tmp_path)
    assert "secret@" not in str(told.value)


def test_a_later_versions_index_is_left_alone(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "qdrant")
    write(workspace, {"one.md": "# One\n\nwombat ground.\n"})
    index(workspace)
    there = database(workspace)
    build = there.resolve(f"{workspace.store.name}_docs")
    assert build is not None
    there.put_record(build, 32, {**(there.record(build) or {}), "format": 99})
    with pytest.raises(IndexingError, match="later version"):
        open_store(workspace, "docs").open()
    write(workspace, {"two.md": "# Two\n\nemu.\n"})
    with pytest.raises(IndexingError, match="later version"):
        index(workspace)
    assert (there.record(build) or {})["format"] == 99
