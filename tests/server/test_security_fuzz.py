"""Malformed messages, ten thousand for each transport, in one process each: none crashes it or makes it talk."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
from http_serving import HEADERS, MODERN
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

BATCH = 20
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "fuzz", "version": "1"}}
SEARCH = {"name": "search_corpus", "arguments": {"query": "holiday", "mode": "lexical", "top_k": 1}}
METHODS = [
    "initialize", "ping", "tools/list", "tools/call", "resources/list", "resources/read", "prompts/get",
    "completion/complete", "server/discover", "logging/setLevel", "notifications/cancelled", "tasks/get", "",
]  # fmt: skip
BASES: list[dict[str, Any]] = [
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": SEARCH | {"_meta": META}},
    {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": META}},
    {"jsonrpc": "2.0", "id": "a", "method": "resources/read", "params": {"uri": "corpus://handbook/leave.md"}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO},
    {"jsonrpc": "2.0", "id": 1, "result": {}},
    {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}},
]
PLACES = [
    ("jsonrpc",), ("id",), ("method",), ("params",), ("params", "name"), ("params", "arguments"), ("params", "_meta"),
    ("params", "arguments", "query"), ("params", "arguments", "corpus"), ("params", "arguments", "top_k"),
    ("params", "arguments", "path_prefix"), ("params", "uri"), ("params", "requestId"), ("params", "cursor"),
    ("params", "protocolVersion"), ("params", "_meta", "progressToken"), ("result",), ("error",), ("extra",),
]  # fmt: skip
ODD: list[Any] = [
    None, True, 0, -1, 2**70, 1e308, float("nan"), "", "\0", "\ud800", "../../etc/passwd", "x" * 3000, [], {}, [[]],
    {"a": {"b": []}}, [1, "a", None], {"": ""}, {"__proto__": 1}, {"name": {}},
]  # fmt: skip


def changed(base: dict[str, Any], changes: list[tuple[tuple[str, ...], Any]]) -> bytes:
    message = json.loads(json.dumps(base))
    for place, value in changes:
        inner = message
        for key in place[:-1]:
            following = inner.get(key)
            inner[key] = inner = dict(following) if isinstance(following, dict) else {}
        inner[place[-1]] = value
    return json.dumps(message).encode()


def damaged(text: bytes, where: int, how: int) -> bytes:
    where %= len(text)
    return [
        text[:where],
        text[where:],
        text[:where] + bytes([where % 256]) + text[where + 1 :],
        b"[" * (where * 50) + text,
        text + text,
        b"[" + text + b"," + text + b"]",
    ][how]


def malformed(seed: int) -> bytes:
    """The message that ``seed`` stands for: one number costs Hypothesis a hundredth of what a tree of choices does."""
    chance = Random(seed)
    if not seed % 8:
        return chance.randbytes(seed % 60)
    changes = [
        (
            chance.choice(PLACES),
            chance.choice((*ODD, *METHODS, chance.getrandbits(32), chr(chance.getrandbits(16)) * 3)),
        )
        for _ in range(1 + seed % 3)
    ]
    text = changed(chance.choice(BASES), changes)
    return damaged(text, chance.randrange(400), seed % 6) if seed % 8 == 1 else text


def silent_about(root: Path, said: bytes) -> bool:
    leaks = (str(root).encode(), b"site-packages", b"Traceback", b'File "', b".py:")
    return not any(leak in said for leak in leaks)


def command(root: Path, *options: str) -> list[str]:
    program = (
        "import retrieval.search, shoptalk; from hash_embedder import HashEmbedder; "
        "retrieval.search.load_embedder = lambda *_: HashEmbedder(); shoptalk.main()"
    )
    serve = ["-w", str(root), "serve", "--read-only", "--log-format", "json", *options]
    return [sys.executable, "-c", program, *serve]


ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Stdio:
    """A server on pipes, after the handshake."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "stdio.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT
            )
        self.asked = 0
        self.say([json.dumps(BASES[4]).encode(), b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'])

    def say(self, batch: list[bytes]) -> None:
        """Send ``batch`` and a question, and read until that is answered."""
        assert self.process.stdin and self.process.stdout
        self.asked += 1
        probe = f"probe {self.asked}"
        lines = [line.replace(b"\n", b" ").replace(b"\r", b" ") for line in batch]
        lines.append(json.dumps({"jsonrpc": "2.0", "id": probe, "method": "ping"}).encode())
        self.process.stdin.write(b"\n".join(lines) + b"\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            answer = json.loads(line)  # nothing but the protocol is on stdout
            assert answer["jsonrpc"] == "2.0" and silent_about(self.root, line), line
            if answer.get("id") == probe:
                assert answer["result"] == {}
                return

    def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.stdout and self.process.stdout.read() == b""
        self.process.stdout.close()
        assert self.process.wait(30) == 0


class Http:
    """A server on a port, a connection to it that stays open, and a session."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "http.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command(root, "--http", "127.0.0.1:0"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=ENVIRONMENT,
            )
        while not (found := re.search(rb'Serving MCP at ([^"]+)"', self.log.read_bytes())):
            assert self.process.poll() is None
        self.connection = http.client.HTTPConnection(str(urlsplit(found[1]).netloc, "ascii"), timeout=30)
        opened, _ = self.post(json.dumps(BASES[4]).encode(), {})
        self.eras = [
            {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "search_corpus"},
            {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/list"},
            {"Mcp-Session-Id": str(opened.headers["Mcp-Session-Id"])},
        ]
        self.eras = [*self.eras * 4, {}]

    def post(self, body: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
        self.connection.request("POST", "/mcp", body, HEADERS | headers)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def say(self, batch: list[bytes]) -> None:
        """Send ``batch``, each message in another era or session."""
        for number, body in enumerate(batch):
            answer, said = self.post(body, self.eras[number % len(self.eras)])
            assert answer.status < 500 and silent_about(self.root, said), (answer.status, body, said)

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        assert self.process.wait(30) == 0
        assert self.process.stdout and self.process.stdout.read() == b""
        self.process.stdout.close()


@pytest.fixture(scope="module")
def servers(hashed_once: Path) -> Iterator[list[Stdio | Http]]:
    both: list[Stdio | Http] = [Stdio(hashed_once), Http(hashed_once)]
    yield both
    for server in both:
        server.end()
        logged = [json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines()]
        failures = [line for line in logged if line["level"] in ("error", "critical")]
        assert not failures, failures[:3]


@settings(
    max_examples=int(os.environ.get("SHOPTALK_FUZZ_MESSAGES", "10000")) // BATCH,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=BATCH, max_size=BATCH))
def test_malformed_messages_neither_crash_a_server_nor_make_it_talk(
    servers: list[Stdio | Http], seeds: list[int]
) -> None:
    batch = [malformed(seed) for seed in seeds]
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(lambda server: server.say(batch), servers))
