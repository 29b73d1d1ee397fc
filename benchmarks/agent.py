"""What the agent's loop costs by itself, and how much of a conversation comes from the prompt cache.

    python benchmarks/agent.py [--full] [--json]

A conversation of ten questions, each answered after one turn with two searches at once, with a scripted Messages
API in a process of its own and an MCP server that has its hits ready. The model's time is what the API needs to
make an answer, which is nearly nothing, and what the SDK needs to send the request and read the answer: ``sdk_ms``,
measured with the same requests sent by the SDK alone, in turns with the agent's. ``overhead_ms`` is what a turn of
the agent takes beyond both: MCP, the checks of schemas and citations, and the loop. ``overhead_cpu_ms`` is the same
of this process's CPU time, which other work on the machine lengthens little. ``turn_ms`` is all of a turn but the
making of the answer. Input tokens are counted by the rules of the API's prompt cache (a token is four characters):
``cached_share`` is those read from it by all those sent, ``cached_share_last`` the same for the last question.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "agent")]

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from mcp.server import MCPServer
    from messages_server import Block, Reply

    from agent import Agent, Usage

QUESTIONS = 10
TURNS = 2
HITS = 5
SENTENCES = 8
KEY = "sk-ant-benchmark"


@dataclass
class Measured:
    """Milliseconds a turn, and tokens, question by question."""

    agent_ms: list[float] = field(default_factory=list)
    sdk_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)


def scripted(body: Block) -> Reply:
    """Two searches for a question; for their hits an answer of twelve cited sentences."""
    from messages_server import Reply, call, cited, location, search_results, text, thought

    number = sum(message["role"] == "user" for message in body["messages"])
    if body["messages"][-1]["content"][0]["type"] == "text":
        calls = [call("search_corpus", query=f"matter {number}{side}") for side in "ab"]
        return Reply([thought("Two sides to this."), *calls], "tool_use", output_tokens=120)
    results = search_results(body)
    first = len(results) - 2 * HITS
    places = [
        location(
            first + hit,
            results[first + hit]["source"],
            results[first + hit]["content"][block]["text"],
            block,
            block + 1,
        )
        for hit in range(4)
        for block in range(3)
    ]
    return text(*[cited(f"Sentence {place} of the answer. ", each) for place, each in enumerate(places)])


def corpus() -> MCPServer:
    """An MCP server whose search takes no time: five passages of eight sentences."""
    from corpus_server import Found, Hit
    from mcp.server import MCPServer
    from mcp.types import CallToolResult, TextContent

    server = MCPServer("benchmark")

    def search_corpus(query: str, top_k: int = HITS) -> Any:
        """Search the documents."""
        hits = [
            Hit(
                rank=rank,
                id=f"p{rank}",
                document_id=f"{query.replace(' ', '-')}/{rank}.md",
                title="A document",
                heading=["A document", "A section"],
                uri="",
                first_line=1,
                last_line=SENTENCES,
                text="\n".join(
                    f"Sentence {line} on {query}, in passage {rank}, as documents have it. " * 2
                    for line in range(SENTENCES)
                ),
                truncated=False,
                score=1.0,
                dense_rank=rank,
                lexical_rank=rank,
            )
            for rank in range(1, top_k + 1)
        ]
        found = Found(query=query, mode="hybrid", corpus="c", model="m", generation="g", degraded="", hits=hits)
        return CallToolResult(content=[TextContent(type="text", text="")], structured_content=found.model_dump())

    server.add_tool(search_corpus, structured_output=False)
    return server


def serve(requests: int) -> None:
    """Be the Messages API until standard input ends; for each line of it, tell the seconds of the answers so far."""
    from messages_server import MessagesServer

    with MessagesServer([scripted] * requests, caching=True) as server:
        server.at_once = True
        print(server.url, flush=True)
        for _ in sys.stdin:
            print(sum(server.seconds), flush=True)
        server.script.clear()


class Api:
    """The process that is the Messages API."""

    def __init__(self, requests: int) -> None:
        command = [sys.executable, __file__, "--serve", str(requests)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._line()

    def busy(self) -> float:
        """The seconds it has taken to make all its answers."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


async def converse(api: Api, client: AsyncAnthropic, measured: Measured) -> None:
    """One conversation; after each question its requests once more, with the SDK alone."""
    from agent import Agent
    from retrieval.workspace import Workspace

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shoptalk.toml").write_text("", encoding="utf-8")
        async with Agent(Workspace.open(folder, {}), server=corpus(), client=client) as agent:
            for number in range(QUESTIONS):
                busy, begun, cpu = api.busy(), time.perf_counter(), time.process_time()
                answer = await agent.ask(f"Question {number}?")
                spent, asked = time.perf_counter() - begun, time.process_time()
                assert answer.turns == TURNS and all(citation.valid for citation in answer.citations)
                measured.agent_ms.append((spent - (api.busy() - busy)) / TURNS * 1e3)
                measured.usages.append(answer.usage)
                measured.sdk_ms.append(await sdk_alone(api, client, agent) * 1e3)
                measured.cpu_ms.append(((asked - cpu) - (time.process_time() - asked)) / TURNS * 1e3)


async def sdk_alone(api: Api, client: AsyncAnthropic, agent: Agent) -> float:
    """Seconds a turn for the last two requests of the conversation so far."""
    spent = 0.0
    for end in (-3, -1):
        busy, begun = api.busy(), time.perf_counter()
        stream = client.messages.stream(
            model=agent.settings.model,
            max_tokens=agent.settings.max_tokens,
            system=[{"type": "text", "text": agent.system}],
            tools=agent.tools,
            messages=list(agent.messages[:end]),
            thinking={"type": "adaptive"},
        )
        async with stream as events:
            await events.get_final_message()
        spent += time.perf_counter() - begun - (api.busy() - busy)
    return spent / 2


async def measure(conversations: int) -> Measured:
    from anthropic import AsyncAnthropic

    logging.disable(logging.INFO)  # a line for each request, which MCPServer would have on the terminal
    measured = Measured()
    # One to warm up, the rest to measure.
    for each in range(conversations + 1):
        api = Api(2 * TURNS * QUESTIONS)
        try:
            async with AsyncAnthropic(api_key=KEY, base_url=api.url) as client:
                await converse(api, client, measured if each else Measured())
        finally:
            api.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="twenty conversations, not three")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    conversations = 20 if options.full else 3
    measured = asyncio.run(measure(conversations))
    usages = measured.usages[:QUESTIONS]
    share = sum(usage.cache_read_input_tokens for usage in usages) / sum(usage.all_input_tokens for usage in usages)
    last = usages[-1]
    overheads = [agent - sdk for agent, sdk in zip(measured.agent_ms, measured.sdk_ms, strict=True)]
    figures = {
        "overhead_ms": statistics.median(overheads),
        "overhead_cpu_ms": statistics.median(measured.cpu_ms),
        "turn_ms": statistics.median(measured.agent_ms),
        "sdk_ms": statistics.median(measured.sdk_ms),
        "cached_share": share,
        "cached_share_last": last.cache_read_input_tokens / last.all_input_tokens,
    }
    if options.json:
        setup = {
            "conversations": conversations,
            "questions": QUESTIONS,
            "turns_a_question": TURNS,
            "input_tokens": sum(usage.all_input_tokens for usage in usages),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
        }
        print(json.dumps({"figures": figures, "setup": setup}))
        return
    low, _, high = statistics.quantiles(overheads, n=4)
    print(f"overhead a turn   median {figures['overhead_ms']:6.1f} ms   quartiles {low:.1f} to {high:.1f} ms")
    print(f"  of CPU time     median {figures['overhead_cpu_ms']:6.1f} ms")
    print(f"the SDK alone     median {figures['sdk_ms']:6.1f} ms")
    print(f"both together     median {figures['turn_ms']:6.1f} ms")
    print(f"read from the prompt cache: {share:.1%} of the input tokens, {figures['cached_share_last']:.1%} at the end")


if __name__ == "__main__":
    main()
