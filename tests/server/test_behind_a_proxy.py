"""Two servers behind deploy/haproxy.cfg, run by a real HAProxy."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx2
import pytest
from http_serving import MODERN, search, serving
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from retrieval.workspace import Workspace
from server.http import HttpServer

HAPROXY = shutil.which("haproxy")
CONFIGURATION = Path(__file__).parent.parent.parent / "deploy" / "haproxy.cfg"

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed: apt-get install haproxy")


def port_of(server: HttpServer) -> int:
    return int(server.socket.getsockname()[1])


@contextmanager
def proxied(folder: Path, *servers: HttpServer) -> Iterator[str]:
    """The proxy in front of ``servers``; its address. Only where they are differs from what is deployed."""
    for server in servers:
        ready(f"http://127.0.0.1:{port_of(server)}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = CONFIGURATION.read_text(encoding="utf-8")
    lines = "\n".join(f"    server s{number} 127.0.0.1:{port_of(server)}" for number, server in enumerate(servers))
    text, found = re.subn(r"^ *server-template .*$", lines, text, flags=re.MULTILINE)
    text, bound = re.subn(r"bind :8000", f"bind 127.0.0.1:{port}", text)
    assert (found, bound) == (1, 1)
    file = folder / "haproxy.cfg"
    file.write_text(text, encoding="utf-8")
    command = [str(HAPROXY), "-db", "-f", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as proxy:
        try:
            url = f"http://127.0.0.1:{port}"
            ready(url)
            yield url
        finally:
            proxy.terminate()


def ready(url: str) -> None:
    """Wait until a server, or one behind the proxy, is ready."""
    while True:
        try:
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            continue


def answered(server: HttpServer) -> int:
    """How many tool calls ``server`` has answered."""
    text = httpx2.get(f"http://127.0.0.1:{port_of(server)}/metrics").text
    return round(sum(float(n) for n in re.findall(r'requests_total\{method="tools/call".*\} (\S+)', text)))


@asynccontextmanager
async def client(url: str, mode: str) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(timeout=30) as http:
        async with Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client:
            yield client


@pytest.mark.anyio
async def test_sessions_stay_with_their_server_and_requests_without_one_go_to_any(
    hashed: Workspace, tmp_path: Path
) -> None:
    with serving(hashed) as first, serving(hashed) as second, proxied(tmp_path, first, second) as url:
        async with client(url, "legacy") as one, client(url, "legacy") as two:
            for _ in range(6):
                for session in (one, two):
                    assert not (await session.call_tool("search_corpus", {"query": "paid holiday"})).is_error
        sessions = answered(first), answered(second)
        assert sum(sessions) == 12
        for _ in range(12):
            assert httpx2.post(f"{url}/mcp", **search()).status_code == 200
        assert answered(first) > sessions[0] and answered(second) > sessions[1]


@pytest.mark.anyio
async def test_a_server_that_stops_loses_no_request_and_metrics_are_not_for_clients(
    hashed: Workspace, tmp_path: Path
) -> None:
    with serving(hashed) as stays:
        with serving(hashed) as goes, proxied(tmp_path, stays, goes) as url:
            statuses = set()
            with httpx2.Client(timeout=30) as kept:
                for number in range(60):
                    goes.should_exit = number >= 10
                    statuses.add(kept.post(f"{url}/mcp", **search()).status_code)
            assert statuses == {200}
            assert httpx2.get(f"{url}/metrics").status_code == 404
            async with client(url, MODERN) as modern:
                assert not (await modern.call_tool("search_corpus", {"query": "paid holiday"})).is_error
