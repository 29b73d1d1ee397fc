"""The conversation as the API has it: append-only, with what each search result and query was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.blocks import SentResult

__all__ = ["Mark", "Transcript", "query_key"]


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a transcript had come."""

    messages: int
    sent: int
    queries: int


class Transcript:
    """Messages, the search results within them in request order, and the queries already answered.

    Nothing is ever changed in place. The one thing that may be undone is a whole exchange, back to
    the mark before its question, so that the next question finds a valid history.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.sent: list[SentResult] = []
        self._queries: dict[str, int] = {}

    def mark(self) -> Mark:
        """The place to come back to."""
        return Mark(len(self.messages), len(self.sent), len(self._queries))

    def rollback(self, mark: Mark) -> None:
        """Forget all that came after ``mark``."""
        del self.messages[mark.messages :]
        del self.sent[mark.sent :]
        for key in list(self._queries)[mark.queries :]:
            del self._queries[key]

    def user(self, content: list[dict[str, Any]]) -> None:
        """Append a user message."""
        self.messages.append({"role": "user", "content": content})

    def assistant(self, content: list[dict[str, Any]]) -> None:
        """Append the model's message as it came, but for blank text blocks: the API sends them, yet takes none."""
        kept = [block for block in content if block["type"] != "text" or block["text"].strip()]
        if kept:
            self.messages.append({"role": "assistant", "content": kept})

    def answered(self, key: str) -> int | None:
        """How many passages the query ``key`` brought when it was run, None if it was not."""
        return self._queries.get(key)

    def remember(self, key: str, hits: int) -> None:
        """Note that the passages of the query ``key`` stand in the messages."""
        self._queries.setdefault(key, hits)


def query_key(tool: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """One string for all ways of writing the same call: defaults filled in, white space collapsed."""
    properties = schema.get("properties") or {}
    filled = {name: rule["default"] for name, rule in properties.items() if "default" in rule} | dict(arguments)
    tidy = {name: " ".join(value.split()) if isinstance(value, str) else value for name, value in filled.items()}
    return json.dumps([tool, tidy], sort_keys=True, ensure_ascii=False)
