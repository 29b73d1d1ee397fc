"""The tools of an MCP server as the Messages API wants them, and their results as content blocks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.blocks import SentResult, to_result
from agent.connection import Connection, ServerGone
from agent.plain import one_line
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

__all__ = ["READ_ONLY_TOOLS", "SEARCH", "Outcome", "Toolbox"]

SEARCH = "search_corpus"
READ_ONLY_TOOLS = ("model_status", SEARCH)
_MOST_PAGES = 100
_T = TypeVar("_T")


class _Hit(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    document_id: str
    title: str = ""
    heading: tuple[str, ...] = ()
    text: str
    first_line: int
    last_line: int
    truncated: bool = False


class _Found(BaseModel):
    """What the agent reads of search_corpus's structured result."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    corpus: str = ""
    mode: str = ""
    degraded: str = ""
    hits: tuple[_Hit, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One tool's result: its content blocks, the search results among them, and what to tell people."""

    content: tuple[dict[str, Any], ...]
    sent: tuple[SentResult, ...] = ()
    hits: int | None = None
    mode: str = ""
    degraded: str = ""
    error: str = ""

    @classmethod
    def failure(cls, message: str) -> Outcome:
        """A call that came to nothing; ``message`` tells the model what to do about it."""
        return cls(content=(_text(message),), error=message)


class Toolbox:
    """The allowed tools of one server, by name."""

    def __init__(
        self,
        server: Any,
        allow: Sequence[str] = READ_ONLY_TOOLS,
        on_restart: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = Connection(server)
        self._allow = frozenset(allow)
        self._on_restart = on_restart
        self._tools: dict[str, Tool] = {}

    async def open(self) -> None:
        """Start the server and read its tools.

        Raises:
            ShoptalkError: the server does not start, or offers no allowed tool.
        """
        await self._connection.open()
        try:
            listed = await self._with_restart(_list_tools)
            self._tools = {tool.name: tool for tool in sorted(listed, key=lambda tool: tool.name)}
            for name in self._tools.keys() - self._allow:
                del self._tools[name]
            if not self._tools:
                wanted, offered = ", ".join(sorted(self._allow)), ", ".join(tool.name for tool in listed) or "none"
                raise ShoptalkError(
                    f"the search server offers none of the tools {wanted}; it offers {one_line(offered)}"
                )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop the server."""
        await self._connection.close()

    @property
    def params(self) -> list[dict[str, Any]]:
        """The tools for a request, always in the same order."""
        return [
            {"name": tool.name, "description": tool.description or "", "input_schema": tool.input_schema}
            for tool in self._tools.values()
        ]

    def schema(self, name: str) -> dict[str, Any]:
        """The input schema of a tool, {} if there is no such tool."""
        return self._tools[name].input_schema if name in self._tools else {}

    def problem(self, name: str, arguments: Mapping[str, Any]) -> str:
        """What is wrong with a call before it is made, with the fix; "" if nothing is."""
        if name not in self._tools:
            return f"There is no tool {name}. Use one of: {', '.join(self._tools)}."
        from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
        from jsonschema.exceptions import best_match  # type: ignore[import-untyped]

        schema = self.schema(name)
        properties = schema.get("properties") or {}
        fix = (
            f"Send {name} again with: {'; '.join(_describe(schema, field) for field in properties) or 'no arguments'}."
        )
        # MCP servers ignore arguments they do not know, and the model would take them for heeded.
        unknown = [field for field in arguments if field not in properties]
        if unknown and schema.get("additionalProperties") in (None, False):
            return f"{name} takes no {', '.join(unknown)}. {fix}"
        error = best_match(Draft202012Validator(schema).iter_errors(arguments))
        if error is None:
            return ""
        place = ".".join(str(part) for part in error.absolute_path)
        return f"{place + ': ' if place else ''}{one_line(error.message, 200)}. {fix}"

    async def call(self, name: str, arguments: dict[str, Any]) -> Outcome:
        """Run a tool that :meth:`problem` has nothing against.

        Failures of the tool come back as an outcome with ``error``; a server that died is started
        anew, once a call.

        Raises:
            ShoptalkError: the server died again, or does not start again.
        """
        from mcp import MCPError

        try:
            result = await self._with_restart(lambda client: client.call_tool(name, arguments))
        except MCPError as error:
            return Outcome.failure(
                f"{name} failed: {one_line(error.message)}. Change the arguments or go on without it."
            )
        except (RuntimeError, ValidationError) as error:
            # The SDK's verdict on a result that does not match the tool's own output schema.
            return Outcome.failure(f"{name} sent a malformed result: {one_line(str(error))}. Go on without it.")
        return _outcome(name, result)

    async def _with_restart(self, act: Callable[[Client], Awaitable[_T]]) -> _T:
        for attempt in (1, 2):
            client = None
            try:
                client = self._connection.client
                return await _or_gone(act, client)
            except ServerGone:
                if attempt == 2:
                    break
                if await self._connection.replace(client):
                    self._on_restart()
        raise ShoptalkError(
            "the search server stopped twice during one call; see what `shoptalk serve` says on its own"
        )


async def _or_gone(act: Callable[[Client], Awaitable[_T]], client: Client) -> _T:
    """``act(client)``, with the several ways a lost connection shows turned into one."""
    import anyio
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED

    try:
        return await act(client)
    except MCPError as error:
        if error.code == CONNECTION_CLOSED:
            raise ServerGone from error
        raise
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream, OSError) as error:
        raise ServerGone from error


async def _list_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ShoptalkError(f"the search server lists its tools without end ({_MOST_PAGES} pages read)")


def _outcome(name: str, result: CallToolResult) -> Outcome:
    text = "\n".join(part.text for part in result.content if part.type == "text")
    if result.is_error:
        return Outcome.failure(text.strip() or f"{name} failed and did not say why.")
    if name == SEARCH and isinstance(result.structured_content, dict):
        try:
            return _search_outcome(_Found.model_validate(result.structured_content))
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(str(part) for part in problem["loc"])
            return Outcome.failure(f"{name} sent a malformed result: {place}: {problem['msg']}. Go on without it.")
    if not text.strip():
        text = json.dumps(result.structured_content, ensure_ascii=False) if result.structured_content else "(no output)"
    return Outcome(content=(_text(text),))


def _search_outcome(found: _Found) -> Outcome:
    results = [
        to_result(hit.document_id, hit.title, hit.heading, hit.text, hit.first_line, hit.last_line, hit.truncated)
        for hit in found.hits
    ]
    sent = tuple(result for result in results if result is not None)
    place = f" in {found.corpus}" if found.corpus else ""
    if sent:
        summary = f"{len(sent)} passage{'s' if len(sent) > 1 else ''}{place}, mode {found.mode}."
    else:
        summary = f"No passage{place} matches this query (mode {found.mode}). Try other or fewer words."
    if found.degraded:
        summary += f" Less than was asked for: {found.degraded}."
    if any(hit.truncated for hit in found.hits):
        summary += " Some passages are cut short; a larger max_chars shows more."
    return Outcome(
        content=(*(result.to_param() for result in sent), _text(summary)),
        sent=sent,
        hits=len(sent),
        mode=found.mode,
        degraded=found.degraded,
    )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _describe(schema: Mapping[str, Any], field: str) -> str:
    """``query (string, required)``, ``mode (one of hybrid, dense, lexical)``."""
    rule = schema["properties"][field]
    choices = rule.get("enum")
    kind = f"one of {', '.join(str(choice) for choice in choices)}" if choices else str(rule.get("type", "value"))
    low, high = rule.get("minimum"), rule.get("maximum")
    span = f" {low} to {high}" if low is not None and high is not None else ""
    return f"{field} ({kind}{span}{', required' if field in schema.get('required', ()) else ''})"
