"""Agent: a conversation with Claude, which searches over MCP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agent.answer import Answer, Listener, Notice
from agent.calls import Calls
from agent.connection import OWN, own_server, set_up
from agent.draft import Draft
from agent.faults import Patience, check_credentials, make_client
from agent.loop import Exchange
from agent.models import Models, check_prices
from agent.toolbox import READ_ONLY_TOOLS, Server, Toolbox
from agent.transcript import Transcript
from agent.turn import Turn
from retrieval.errors import ShoptalkError
from retrieval.workspace import AgentSettings, Workspace

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["QUESTION_LIMIT", "Agent", "checked_question", "read_prompt"]

QUESTION_LIMIT = 100_000
_THINKING = {
    "adaptive": {"type": "adaptive"},
    "summarized": {"type": "adaptive", "display": "summarized"},
    "off": {"type": "disabled"},
}


def read_prompt() -> tuple[str, str]:
    """The version of the system prompt, and its text."""
    head, _, text = Path(__file__).with_name("prompt.md").read_text(encoding="utf-8").partition("\n---\n")
    return head.partition("version:")[2].strip(), text.strip()


def checked_question(question: str) -> str:
    """``question`` without blank ends.

    Raises:
        ShoptalkError: it is empty, too long, not UTF-8, or holds control characters.
    """
    question = question.strip()
    if not question:
        raise ShoptalkError('the question is empty; ask something, as in: shoptalk ask "How long is parental leave?"')
    if len(question) > QUESTION_LIMIT:
        raise ShoptalkError(
            f"the question has {len(question):,} characters, at most {QUESTION_LIMIT:,} are taken; "
            "put long material into the corpus and ask about it"
        )
    for place, character in enumerate(question, 1):
        code = ord(character)
        if 0xDC80 <= code < 0xDD00:  # What Python makes of a byte that it cannot decode.
            raise ShoptalkError(f"the question is not UTF-8 (character {place}); convert it first")
        if (code < 32 and character not in "\t\n\r") or 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000:
            raise ShoptalkError(f"character {place} of the question is the control character U+{code:04X}; remove it")
    return question


class Agent:
    """A conversation with Claude, which searches the corpora of a workspace over MCP.

    Use it as an async context manager: entering starts the server, leaving stops it. ``server`` is
    anything :class:`mcp.Client` takes (default: the servers of ``[agent.servers]``, or Shoptalk's own
    over stdio), and ``allow`` names the tools of it that Claude may use; ``client`` is an
    ``AsyncAnthropic`` (default: one made from the environment); ``closing_seconds`` is the time left for
    the answer once a limit is reached; ``on_event`` is told what happens, as it happens. ``settings``
    (the model, say) may be changed between questions.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        server: Any = None,
        client: AsyncAnthropic | None = None,
        settings: AgentSettings | None = None,
        allow: Sequence[str] = READ_ONLY_TOOLS,
        patience: Patience | None = None,
        closing_seconds: float = 60.0,
        on_event: Listener | None = None,
    ) -> None:
        self.settings = workspace.agent if settings is None else settings
        self.prompt_version, self.system = read_prompt()
        self._root = workspace.root
        self._several = len(workspace.corpora) > 1
        self._server = server
        self._given_client = client
        self._allow = allow
        self._patience = Patience() if patience is None else patience
        self._closing_seconds = closing_seconds
        self._tell: Listener = on_event or (lambda event: None)
        self._transcript = Transcript()
        self._busy = asyncio.Lock()
        self._client: AsyncAnthropic | None = None
        self._toolbox: Toolbox | None = None

    async def __aenter__(self) -> Agent:
        client = self._given_client or make_client()
        try:
            check_credentials(client)
            toolbox = Toolbox(
                self._servers(),
                lambda label: self._tell(Notice(f"{label} died and was started anew")),
                several=self._several,
            )
            await toolbox.open()
        except BaseException:
            if self._given_client is None:
                await client.close()
            raise
        self._client, self._toolbox = client, toolbox
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        toolbox, client = self._toolbox, self._client
        self._toolbox = self._client = None
        if toolbox is not None:
            await toolbox.close()
        if client is not None and self._given_client is None:
            await client.close()

    @property
    def messages(self) -> tuple[dict[str, Any], ...]:
        """The conversation so far, in the API's shape."""
        return tuple(self._transcript.messages)

    @property
    def transcript(self) -> Transcript:
        """The conversation so far; another may be put in its place between questions."""
        return self._transcript

    @transcript.setter
    def transcript(self, transcript: Transcript) -> None:
        self._transcript = transcript

    @property
    def tools(self) -> list[dict[str, Any]]:
        """The tools Claude may use, as requests name them; none while no server runs."""
        return [] if self._toolbox is None else self._toolbox.params

    async def ask(self, question: str) -> Answer:
        """Answer ``question``, with the conversation so far as context.

        Whatever ends it (an error, a cancellation, a refusal), the conversation is left valid: with
        the whole exchange, or without any of it.

        Raises:
            ShoptalkError: the question cannot be taken, the API refuses or stays out of reach, or the
                search server cannot be kept alive.
        """
        if self._client is None or self._toolbox is None:
            raise RuntimeError("use the agent in `async with Agent(workspace) as agent:`")
        question = checked_question(question)
        check_prices(self.settings)
        # Retries are our own: the SDK's wait as long as a server likes, and pass broken streams over.
        client = self._client.with_options(max_retries=0)
        frame = self._frame(self._toolbox)
        async with self._busy:
            draft = Draft(self._transcript, self._tell)
            calls = Calls(self._toolbox, self._transcript, self._tell, self.settings.max_calls)

            models = Models(client, self.settings, self._patience)

            async def take(choice: Mapping[str, Any]) -> Turn:
                return await models.take(frame, self._transcript, draft, choice)

            exchange = Exchange(self.settings, self._transcript, calls, draft, take, self._tell, self._closing_seconds)
            mark = self._transcript.mark()
            whole = False
            try:
                outcome = await exchange.run(question)
                # A cancellation that the last event led to is heard here, before the exchange is kept.
                await asyncio.sleep(0)
                answer, whole = outcome
            finally:
                if not whole:
                    self._transcript.rollback(mark)
            return answer

    def _frame(self, toolbox: Toolbox) -> dict[str, Any]:
        """What every request of the conversation has in common."""
        cache = {"type": "ephemeral"}
        frame = {
            "max_tokens": self.settings.max_tokens,
            "system": [{"type": "text", "text": self.system, "cache_control": cache}],
            "tools": toolbox.params,
            "thinking": _THINKING[self.settings.thinking],
            "cache_control": cache,
        }
        effort = self.settings.effort
        return frame | ({"output_config": {"effort": effort}} if effort else {})

    def _servers(self) -> list[Server]:
        if self._server is not None:
            return [Server(OWN, self._server, tuple(self._allow))]
        named = self.settings.servers
        if not named:
            return [Server(OWN, own_server(self._root), tuple(self._allow))]
        return [Server(name, set_up(name, each, self._root), each.tools) for name, each in named.items()]
