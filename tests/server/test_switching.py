"""What clients see while the index and the model change under them."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hash_embedder import HashEmbedder
from http_serving import indexed_workspace, search, serving

import retrieval.search
from retrieval.errors import ShoptalkError
from retrieval.indexing import build_index
from retrieval.pointer import current_name
from retrieval.workspace import Workspace
from server.engines import Engines

CLIENTS = 32
MODELS = ("hash", "hash", "second", "second", "second", "third", "third", "third", "hash", "hash")


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace whose models are hash embedders of any name."""
    monkeypatch.setattr(retrieval.search, "load_embedder", lambda reference, _: embedder_of(reference))
    return indexed_workspace(tmp_path / "workspace")


def embedder_of(reference: str) -> HashEmbedder:
    return HashEmbedder(reference.removeprefix("test/"))


def test_what_is_live_is_not_asked_on_the_event_loop(hashed: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    engines, asked = Engines(hashed), []
    live = engines.live

    def told(corpus: str) -> str | None:
        asked.append(threading.current_thread())
        return live(corpus)

    monkeypatch.setattr(engines, "live", told)
    result, _ = asyncio.run(engines.search("holiday", "handbook", top_k=1, mode="hybrid", path_prefix=""))
    assert result.hits and asked and threading.main_thread() not in asked


def test_ten_generations_and_three_promotions_fail_no_request_of_32_clients(hashed: Workspace) -> None:
    switched = threading.Event()

    def switch() -> None:
        try:
            for number, model in enumerate(MODELS):
                (hashed.root / "docs" / f"new {number}.md").write_text(f"# New {number}\n\nChapter {number}.\n")
                build_index(hashed, embedder=HashEmbedder(model))
        finally:
            switched.set()

    async def ask(client: httpx2.AsyncClient, url: str, number: int, answers: list[dict[str, Any]]) -> None:
        last = False
        while not last:
            last = switched.is_set()  # one more, which must be of the last generation
            answer = await client.post(
                url, **search(f"staff get thirty days of paid holiday every year n{number}x{len(answers)}")
            )
            assert answer.status_code == 200, answer.text
            result = answer.json()["result"]
            assert not result["isError"], result
            answers.append(result["structuredContent"])

    async def everyone(url: str) -> list[list[dict[str, Any]]]:
        answers: list[list[dict[str, Any]]] = [[] for _ in range(CLIENTS)]
        async with httpx2.AsyncClient(timeout=60) as client:
            await client.post(url, **search())
            switching = threading.Thread(target=switch)
            switching.start()
            await asyncio.gather(*(ask(client, url, number, mine) for number, mine in enumerate(answers)))
            switching.join()
        return answers

    with serving(hashed) as server:
        answers = asyncio.run(everyone(server.url))
    assert current_name(hashed.index_dir("handbook")) == "g000011"
    for mine in answers:
        seen = [answer["generation"] for answer in mine]
        assert seen == sorted(seen) and seen[-1] == "g000011"
        for answer in mine:
            assert (answer["degraded"], answer["mode"]) == ("", "hybrid")
            # A vector of another model than the generation's would put it anywhere.
            hits = {hit["document_id"]: hit["dense_rank"] for hit in answer["hits"]}
            assert hits["leave.md"] == 1, (answer["generation"], hits)
    told = {answer["generation"]: answer["model"] for mine in answers for answer in mine}
    names = ["hash", *MODELS]
    assert all(model == f"test/{names[int(name[1:]) - 1]}" for name, model in told.items())


@pytest.mark.anyio
async def test_corpora_of_one_model_share_it_and_a_model_out_of_use_is_forgotten(hashed: Workspace) -> None:
    toml = hashed.root / "shoptalk.toml"
    toml.write_text(toml.read_text() + '[corpus.other]\npaths = ["docs"]\n')
    shutil.copytree(hashed.index_dir("handbook"), hashed.index_dir("other"))
    engines = Engines(Workspace.open(hashed.root))
    for corpus in ("handbook", "other"):
        await engines.search("paid holiday", corpus, top_k=1, mode="dense", path_prefix="")
    assert len(engines._shared) == 1
    for corpus in ("handbook", "other"):
        build_index(Workspace.open(hashed.root), corpus, embedder=HashEmbedder("second"))
        await engines.search("paid holiday", corpus, top_k=1, mode="dense", path_prefix="")
    assert list(engines._shared) == [HashEmbedder("second").fingerprint]


@pytest.mark.anyio
async def test_who_comes_when_too_many_wait_is_told_so_at_once(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    real = HashEmbedder.encode_queries
    monkeypatch.setattr(HashEmbedder, "encode_queries", lambda *given: go.wait() and real(*given))
    monkeypatch.setattr("server.engines._THREADS", 2)
    monkeypatch.setattr("server.engines._MOST_WAITING", 3)
    engines = Engines(hashed)

    async def ask(query: str) -> str:
        result, _ = await engines.search(query, "handbook", top_k=1, mode="dense", path_prefix="")
        return result.hits[0].document_id

    engines.load("handbook")
    waiting = [asyncio.create_task(ask(f"paid holiday {number}")) for number in range(5)]
    while engines.waiting < 3:
        await asyncio.sleep(0)
    with pytest.raises(ShoptalkError, match="busy.*try again"):
        await ask("one too many")
    go.set()
    assert await asyncio.gather(*waiting) == ["leave.md"] * 5
    assert engines.waiting == 0 and await ask("paid holiday") == "leave.md"
