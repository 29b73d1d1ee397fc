"""What an attacker may try over HTTP that is not about tokens, hosts or limits."""

from __future__ import annotations

import http.client
import json
import socket
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest
from http_serving import HEADERS, message, serving

from retrieval.workspace import Workspace

SECRET = "the wombat's account number is 4711"
CLIMBS = [
    "../secret.txt",
    "../../../../../../etc/passwd",
    "/etc/passwd",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "....//secret.txt",
    "..\\secret.txt",
    "guides/../../secret.txt",
    "secret.txt\0.md",
    "file:///etc/passwd",
    "corpus://handbook/../secret.txt",
    "handbook/../../secret.txt",
    "~/.ssh/id_rsa",
    "CON",
    "a" * 900 + "/..",
]


@pytest.fixture
def guarded(hashed: Workspace) -> Workspace:
    """A workspace with a secret beside its documents."""
    (hashed.root / "secret.txt").write_text(SECRET, encoding="utf-8")
    return hashed


def told_nothing(root: Path, text: str) -> bool:
    return not any(word in text for word in (SECRET, str(root), "root:x:", "site-packages", "Traceback", 'File "'))


def test_no_argument_climbs_out_of_the_corpus(guarded: Workspace) -> None:
    names = ("query", "corpus", "path_prefix", "mode", "job_id", "max_chars")
    with serving(guarded) as server, httpx2.Client() as client:
        for argument, climb in product(names, CLIMBS):
            tools: dict[str, dict[str, Any]] = {
                "search_corpus": {"query": "wombat account number", "mode": "lexical", argument: climb},
                "reindex": {"wait_seconds": 0, "job_id": "none", argument: climb},
                "model_status": {argument: climb},
            }
            for tool, arguments in tools.items():
                answer = client.post(server.url, **message("tools/call", {"name": tool, "arguments": arguments}))
                assert answer.status_code < 500 and told_nothing(guarded.root, answer.text), (tool, arguments)
    assert not (guarded.index_dir("handbook") / "jobs").exists()


def test_no_uri_or_name_climbs_out_either(guarded: Workspace) -> None:
    with serving(guarded) as server, httpx2.Client() as client:
        for climb in CLIMBS:
            for ask in (
                message("resources/read", {"uri": f"corpus://handbook/{climb}"}),
                message("resources/read", {"uri": climb}),
                message("prompts/get", {"name": "answer_from_corpus", "arguments": {"corpus": climb}}),
                message("completion/complete", {"ref": {"type": "ref/resource", "uri": climb}, "argument": {}}),
            ):
                # HTTP's own rules on header values are not what is tried here.
                ask["headers"] = {name: value for name, value in ask["headers"].items() if value.isprintable()}
                answer = client.post(server.url, **ask)
                assert answer.status_code < 500 and told_nothing(guarded.root, answer.text), climb


def test_no_page_climbs_out_either(guarded: Workspace) -> None:
    with serving(guarded) as server:
        connection = http.client.HTTPConnection(*server.socket.getsockname()[:2], timeout=20)
        for page in ("/", "/mcp/../secret.txt", "//etc/passwd", "/mcp/%2e%2e/secret.txt", "/mcp%00", "/.tokens.json"):
            for method in ("GET", "POST", "PUT", "HEAD", "TRACE"):
                connection.request(method, page, headers=HEADERS)
                answer = connection.getresponse()
                assert answer.status == 404 and told_nothing(guarded.root, answer.read().decode()), (method, page)
        connection.close()


def test_an_exception_tells_its_client_nothing(guarded: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError(f"{guarded.root} {SECRET}")

    monkeypatch.setattr("retrieval.search.SearchEngine.search", explode)
    monkeypatch.setattr("server.observe.Probes._why_not", explode)
    with serving(guarded) as server:
        call = message("tools/call", {"name": "search_corpus", "arguments": {"query": "x"}})
        answer = httpx2.post(server.url, **call)
        assert answer.json()["result"]["isError"] and told_nothing(guarded.root, answer.text)
        broken = httpx2.get(server.url.removesuffix("/mcp") + "/readyz")
        assert (broken.status_code, broken.text) == (500, "Internal Server Error")


def test_a_request_that_two_readers_would_divide_differently_is_refused(guarded: Workspace) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    smuggled = (
        "POST /mcp HTTP/1.1\r\nHost: localhost:1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"
    )
    with serving(guarded) as server:
        with socket.create_connection(server.socket.getsockname()[:2], timeout=20) as connection:
            connection.sendall(smuggled.encode())
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert b"shoptalk_requests" not in received
