from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx2
import pytest
from http_serving import HEADERS, message, search, serving, with_settings

from retrieval.workspace import Workspace
from server.http import HttpServer
from server.limits import Rates
from server.tokens import TokenFile


def raw(server: HttpServer, *parts: bytes) -> bytes:
    """Send ``parts`` and read until the server closes the connection."""
    with socket.create_connection(server.socket.getsockname()[:2], timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        received = b""
        while chunk := read_some(connection):
            received += chunk
    return received


def read_some(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""


def test_a_client_gets_its_burst_then_its_rate_and_no_other_suffers() -> None:
    now = 0.0
    rates = Rates(60, clock=lambda: now)
    assert [rates.take("a") for _ in range(10)] == [0.0] * 10
    assert rates.take("a") == pytest.approx(1.0)
    assert rates.take("b") == 0.0
    now = 1.0
    assert rates.take("a") == 0.0 and rates.take("a") == pytest.approx(1.0)
    now = 1000.0
    assert [rates.take("a") for _ in range(11)].count(0.0) == 10


def test_what_is_remembered_of_clients_is_bounded() -> None:
    rates = Rates(60, clock=lambda: 0.0)
    for number in range(20_000):
        rates.take(str(number))
    assert len(rates._buckets) <= 10_000


def test_a_token_that_asks_too_often_is_told_when_to_come_again(hashed: Workspace) -> None:
    workspace = with_settings(hashed, "max_per_minute = 12\n")  # a burst of two
    one, two = ({"Authorization": f"Bearer {TokenFile(workspace).add(name, ['search'])}"} for name in "ab")
    with serving(workspace) as server:
        assert [httpx2.post(server.url, **search(**one)).status_code for _ in range(3)] == [200, 200, 429]
        refused = httpx2.post(server.url, **search(**one))
        assert 1 <= int(refused.headers["Retry-After"]) <= 5
        assert "try again in" in refused.json()["error"]["message"]
        assert httpx2.post(server.url, **search(**two)).status_code == 200
        # Guessing tokens is held to the same rate, by address.
        guesses = [httpx2.post(server.url, **search(Authorization=f"Bearer {n}")).status_code for n in range(4)]
        assert guesses == [401, 401, 429, 429]


def test_requests_at_once_are_bounded_and_streams_do_not_count(
    hashed: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = threading.Semaphore(0)

    async def held(*_: object, **__: object) -> None:
        here.release()
        await anyio.sleep(30)

    monkeypatch.setattr("server.engines.Engines.search", held)
    workspace = with_settings(hashed, "max_concurrent = 2\nshutdown_seconds = 0\n")
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    with ThreadPoolExecutor(2) as pool, serving(workspace) as server, httpx2.Client(timeout=30) as http:
        opened = http.post(server.url, headers=HEADERS, content=message("initialize", hello)["content"])
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "Accept": "text/event-stream"}
        with http.stream("GET", server.url, headers=session):
            waiting = [pool.submit(httpx2.post, server.url, timeout=30, **search()) for _ in range(2)]
            assert here.acquire(timeout=20) and here.acquire(timeout=20)
            refused = httpx2.post(server.url, **search())
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            # A header that the handshake era does not know makes no stream of a request.
            posing = {**session, "Mcp-Method": "subscriptions/listen", "MCP-Protocol-Version": "2025-11-25"}
            call = message("tools/call", {"name": "search_corpus", "arguments": {"query": "x"}})["content"]
            refused = httpx2.post(server.url, headers={**HEADERS, **posing}, content=call)
            assert refused.status_code == 429
            server.should_exit = True
        assert [request.result().status_code for request in waiting] == [503, 503]


def test_too_large_a_body_is_413_declared_or_not(hashed: Workspace) -> None:
    with serving(with_settings(hashed, "max_body_kb = 16\n")) as server, httpx2.Client() as http:
        fits = search(query="x" * 1900)
        assert http.post(server.url, **fits).status_code == 200
        large = b" " * 20_000 + fits["content"].encode()
        assert http.post(server.url, content=large, headers=fits["headers"]).status_code == 413
        chunks = (large[start : start + 1000] for start in range(0, len(large), 1000))
        refused = http.post(server.url, content=chunks, headers=fits["headers"])
        assert refused.status_code == 413 and "larger than 16,384 bytes" in refused.json()["error"]["message"]
        lie = b"POST /mcp HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 99999999999999999999\r\n\r\n"
        assert b" 413 " in raw(server, lie + large) or b" 400 " in raw(server, lie + large)


def test_too_many_sessions_are_refused_and_the_open_ones_go_on(hashed: Workspace) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = message("initialize", hello)["content"]
    with serving(with_settings(hashed, "max_sessions = 2\n")) as server:
        answers = [httpx2.post(server.url, headers=HEADERS, content=body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 503]
        session = {"Mcp-Session-Id": answers[0].headers["Mcp-Session-Id"]}
        listed = httpx2.post(server.url, headers=HEADERS | session, content=message("tools/list")["content"])
        assert listed.status_code == 200


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([b""], b""),
        ([b"POST /mcp HTTP/1.1\r\nHost: loc"], b""),
        ([b"POST /mcp HTTP/1.1\r\nHost: localhost:1\r\nX-A: ", b"b\r\n"], b""),
        ([b"POST /mcp HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 100\r\n\r\n{"], b" 408 "),
        ([b"GET /healthz HTTP/1.1\r\nHost: localhost:1\r\n\r\nGET /heal"], b" 200 "),
    ],
    ids=["silent", "half a header", "header by header", "half a body", "half of the second request"],
)
def test_a_client_that_dawdles_is_cut_off(hashed: Workspace, parts: list[bytes], answer: bytes) -> None:
    with serving(with_settings(hashed, "request_seconds = 0.3\n")) as server:
        held = [threading.Thread(target=raw, args=(server, b"POST /m")) for _ in range(20)]
        for thread in held:
            thread.start()
        received = raw(server, *parts)
        assert httpx2.post(server.url, **search()).status_code == 200
        for thread in held:
            thread.join(20)
            assert not thread.is_alive()
    assert answer in received and (answer or not received)
