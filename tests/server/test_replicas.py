"""Two servers that share nothing but the database of the index."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hash_embedder import HashEmbedder
from http_serving import indexed_workspace, message, serving
from test_http import process

from retrieval.indexing import build_index
from retrieval.workspace import Workspace

pytest.importorskip("milvus_lite", reason="the embedded kind of Milvus is not installed")

GENERATIONS = 5


@contextmanager
def milvus(folder: Path) -> Iterator[str]:
    """A Milvus of one process, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("milvus-lite")), "server"]
    place = ["--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen([*command, *place], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            assert "listening" in server.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def search(url: str, client: httpx2.Client) -> dict[str, Any]:
    """By words, so that no replica needs the model."""
    asked = {"name": "search_corpus", "arguments": {"query": "paid holiday chapter", "mode": "lexical", "top_k": 50}}
    answer = client.post(url, **message("tools/call", asked))
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert not result["isError"], result
    found: dict[str, Any] = result["structuredContent"]
    return found


def test_each_of_two_replicas_follows_every_switch_and_fails_no_search(tmp_path: Path) -> None:
    with milvus(tmp_path / "milvus") as address, ExitStack() as servers:
        settings = f'[store]\nkind = "milvus"\nurl = "{address}"\n'
        workspace = indexed_workspace(tmp_path / "indexer", settings)
        urls = []
        for name in ("first", "second"):
            replica = tmp_path / name
            replica.mkdir()
            (replica / "shoptalk.toml").write_text((workspace.root / "shoptalk.toml").read_text())
            urls.append(servers.enter_context(process(replica, "--read-only"))[1])
        ended = threading.Event()
        answers: dict[str, list[dict[str, Any]]] = {url: [] for url in urls}
        failures: list[BaseException] = []

        def ask(url: str) -> None:
            try:
                with httpx2.Client(timeout=60) as client:
                    last = ""
                    while not ended.is_set() or last != f"g{GENERATIONS + 1:06}":
                        found = search(url, client)
                        last = found["generation"]
                        answers[url].append(found)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask, args=(url,)) for url in urls for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            switch(workspace)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert not failures
    for mine in answers.values():
        assert {answer["generation"] for answer in mine} >= {f"g{GENERATIONS + 1:06}"}
        for answer in mine:
            # Generation g holds g - 1 chapters beside the page that tells of holidays.
            assert len(answer["hits"]) == int(answer["generation"][1:])


def test_a_server_whose_database_is_down_runs_on_and_says_that_it_is_not_ready(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    store = f'[store]\nkind = "qdrant"\nurl = "{url}"\ntimeout = 1.0\n'
    (tmp_path / "docs").mkdir()
    (tmp_path / "shoptalk.toml").write_text(f'[corpus.handbook]\npaths = ["docs"]\n{store}')
    with serving(Workspace.open(tmp_path)) as server, httpx2.Client(timeout=60) as client:
        ready = client.get(server.url.replace("/mcp", "/readyz"))
        asked = {"name": "search_corpus", "arguments": {"query": "holiday", "mode": "lexical"}}
        answer = client.post(server.url, **message("tools/call", asked)).json()["result"]
    assert (ready.status_code, ready.json()["why"]) == (503, ["an index cannot be opened"])
    assert answer["isError"] and f"{url} does not answer" in answer["content"][0]["text"]


def switch(workspace: Workspace) -> None:
    for number in range(GENERATIONS):
        (workspace.root / "docs" / f"new {number}.md").write_text(f"# New {number}\n\nChapter {number}.\n")
        build_index(workspace, embedder=HashEmbedder())
