"""The tools of MCP servers as the Messages API wants them, each called on the server it came from."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.connection import START_SECONDS, Connection, UnusableServer
from agent.outcomes import Outcome, read_outcome
from agent.plain import one_line
from agent.transcript import field_rules
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import Tool

__all__ = ["READ_ONLY_TOOLS", "SEARCH", "Server", "Toolbox"]

logger = logging.getLogger(__name__)

SEARCH = "search_corpus"
READ_ONLY_TOOLS = ("model_status", SEARCH)
_MOST_PAGES = 100
_LONGEST_VALUE = 80
_LONGEST_NAME = 128
_ANYTHING = {"additionalProperties": True}
"""Stands for a schema that is none: the server is left to judge."""
_FURTHER_FIELDS = {"patternProperties", "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "$ref", "$dynamicRef"}
"""Where a schema names fields beside ``properties``."""


@dataclass(frozen=True, slots=True)
class Server:
    """An MCP server: its name, how to reach it (see :class:`agent.connection.Connection`), and which tools to offer."""

    name: str
    target: Any
    tools: tuple[str, ...] = READ_ONLY_TOOLS


@dataclass(frozen=True, slots=True)
class _Offer:
    """A tool under the name that the model knows it by; ``server`` is whose it is."""

    tool: Tool
    connection: Connection
    server: str

    @property
    def searches(self) -> bool:
        return self.tool.name == SEARCH

    @property
    def changes(self) -> bool:
        """Whether it may change something: by the protocol it may, unless it says otherwise."""
        hints = self.tool.annotations
        return not (self.searches or (hints and (hints.read_only_hint or hints.idempotent_hint)))


class Toolbox:
    """The allowed tools of all servers, by name.

    A name that several servers offer is told apart by the server's: ``wiki__search_corpus``. What the API does not take
    in a name is ``_`` there: ``tickets.create`` is ``tickets_create``.

    ``several``: the corpora searched are more than one, so that sources name theirs. Where several servers search,
    sources name the server too.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        on_restart: Callable[[str], None] = lambda server: None,
        several: bool = False,
    ) -> None:
        self._several = several
        self._connections = {server.name: Connection(server.target, server.name, on_restart) for server in servers}
        self._servers = servers
        self._offers: dict[str, _Offer] = {}

    async def open(self) -> None:
        """Start all servers, side by side, and read their tools.

        Raises:
            ShoptalkError: one does not start, or offers no allowed tool.
        """
        try:
            # Each is waited for, so that none is left starting when another has failed.
            opening = [self._open(server) for server in self._servers]
            listed = await asyncio.gather(*opening, return_exceptions=True)
            if failed := [outcome for outcome in listed if isinstance(outcome, BaseException)]:
                raise failed[0]
        except BaseException:
            await self.close()
            raise
        pairs = [
            (server, tool)
            for server, tools in zip(self._servers, listed, strict=True)
            if isinstance(tools, list)
            for tool in tools
        ]
        bearers = Counter(_fitting(tool.name) for _, tool in pairs)
        offers: dict[str, _Offer] = {}
        for server, tool in pairs:
            name = _fitting(tool.name)
            if bearers[name] > 1:
                name = _fitting(f"{server.name}__{tool.name}")
            names = chain([name], (_fitting(f"{number}_{name}") for number in count(2)))
            free = next(free for free in names if free not in offers)
            offers[free] = _Offer(tool, self._connections[server.name], server.name)
        self._offers = dict(sorted(offers.items()))

    async def _open(self, server: Server) -> list[Tool]:
        connection = self._connections[server.name]
        await connection.open()
        try:
            async with asyncio.timeout(START_SECONDS):
                offered = await connection.use(_list_tools)
        except TimeoutError:
            raise ShoptalkError(
                f"{connection.label} does not say within {START_SECONDS:.0f} s which tools it has"
            ) from None
        allowed = [tool for tool in offered if tool.name in server.tools]
        if not allowed:
            wanted = ", ".join(sorted(server.tools))
            names = one_line(", ".join(sorted(tool.name for tool in offered)) or "none")
            raise ShoptalkError(f"{connection.label} offers none of the tools {wanted}; it offers {names}")
        return allowed

    async def close(self) -> None:
        """Stop all servers."""
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    @property
    def params(self) -> list[dict[str, Any]]:
        """The tools for a request, always in the same order."""
        return [
            {"name": name, "description": offer.tool.description or "", "input_schema": offer.tool.input_schema}
            for name, offer in self._offers.items()
        ]

    def searches(self, name: str) -> bool:
        """Whether the tool finds passages."""
        return name in self._offers and self._offers[name].searches

    def schema(self, name: str) -> dict[str, Any]:
        """The input schema of a tool, {} if there is no such tool."""
        return self._offers[name].tool.input_schema if name in self._offers else {}

    def problem(self, name: str, arguments: Mapping[str, Any], malformed: bool = False) -> str:
        """What is wrong with a call before it is made, with the fix; "" if nothing is.

        ``malformed``: what was sent is no whole JSON object, and ``arguments`` are what could be made of it.
        """
        if name not in self._offers:
            return f"There is no tool {name}. Use one of: {', '.join(self._offers)}."
        from jsonschema import Draft202012Validator, SchemaError  # type: ignore[import-untyped]
        from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
        from referencing import Registry

        offered = schema = self.schema(name)
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError:
            schema = _ANYTHING
        closed = schema.get("additionalProperties") in (None, False) and not schema.keys() & _FURTHER_FIELDS
        # What cannot be checked still tells the model which fields there are.
        properties, required = field_rules(offered), offered.get("required")
        needed = required if isinstance(required, list) else []
        fields = "; ".join(_describe(field, rule, field in needed) for field, rule in properties.items())
        fix = "Send it again as one JSON object."
        if fields or closed:
            fix = f"Send {name} again with: {fields or 'no arguments'}."
        if malformed:
            return f"The arguments of this {name} call were not one whole JSON object. {fix}"
        # MCP servers ignore arguments they do not know, and the model would take them for heeded.
        unknown = [field for field in arguments if field not in properties]
        if unknown and closed:
            return f"{name} takes no {', '.join(unknown)}. {fix}"
        try:
            # With a registry of its own it fetches nothing from where a reference leads.
            error = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(arguments))
        except Exception as failure:
            # A reference that leads elsewhere, nowhere, or in a circle: the server is left to judge.
            logger.debug("the schema of %s cannot be followed: %s", name, failure)
            return ""
        if error is None:
            return ""
        place = ".".join(str(part) for part in error.absolute_path)
        # The message begins with the whole value, and what is wrong with it comes last.
        value = repr(error.instance)
        said = error.message.replace(value, one_line(value, _LONGEST_VALUE))
        return f"{place + ': ' if place else ''}{one_line(said)}. {fix}"

    async def call(self, name: str, arguments: dict[str, Any]) -> Outcome:
        """Run a tool that :meth:`problem` has nothing against.

        Failures of the tool come back as an outcome with ``error``; a server that died is started
        anew, once a call.

        Raises:
            ShoptalkError: the server died again, or does not start again, or takes the token no longer.
        """
        from mcp import MCPError

        offer = self._offers[name]
        try:
            result = await offer.connection.use(
                lambda client: client.call_tool(offer.tool.name, arguments), changes=offer.changes
            )
        except UnusableServer as error:
            return Outcome.failure(f"{name} failed: {error}. Go on without it.")
        except MCPError as error:
            return Outcome.failure(
                f"{name} failed: {one_line(error.message)}. Change the arguments or go on without it."
            )
        except (RuntimeError, ValidationError) as error:
            # The SDK's verdict on a result that does not match the tool's own output schema.
            return Outcome.failure(f"{name} sent a malformed result: {one_line(str(error))}. Go on without it.")
        return read_outcome(
            name, result, search=offer.searches, called=lambda corpus: self._called(offer.server, corpus)
        )

    def _called(self, server: str, corpus: str) -> str:
        """How sources name a corpus of ``server``; "" where there is no other that they could be of."""
        if sum(offer.searches for offer in self._offers.values()) > 1:
            return f"{server}/{corpus}" if corpus else server
        return corpus if self._several else ""


def _fitting(name: str) -> str:
    """``name`` as the Messages API takes names of tools."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:_LONGEST_NAME]


async def _list_tools(client: Client) -> list[Tool]:
    tools: list[Tool] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise ShoptalkError(f"an MCP server lists its tools without end ({_MOST_PAGES} pages read)")


def _describe(field: str, rule: Mapping[str, Any], required: bool) -> str:
    """``query (string up to 2000 characters, required)``, ``mode (one of hybrid, dense, lexical)``."""
    choices = rule.get("enum")
    kind = str(rule.get("type", "value"))
    if isinstance(choices, list) and choices:
        kind = f"one of {', '.join(map(str, choices))}"
    low, high = rule.get("minimum"), rule.get("maximum")
    span = f" {low} to {high}" if low is not None and high is not None else ""
    if longest := rule.get("maxLength"):
        span = f" up to {longest} characters"
    return f"{field} ({kind}{span}{', required' if required else ''})"
