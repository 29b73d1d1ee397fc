"""The conversation as the API has it: append-only, with what each search result was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from agent.blocks import SentResult

__all__ = ["Mark", "Transcript", "field_rules", "query_key"]

_CACHE = {"type": "ephemeral"}


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a transcript had come."""

    messages: int
    tokens: int


class _Saved(BaseModel):
    """A transcript as :meth:`Transcript.to_dict` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages: list[dict[str, Any]]
    sent: dict[int, list[SentResult]]
    tokens: int
    frame: str


class Transcript:
    """Messages, and the search results within them in request order.

    Messages are appended and never changed. There are three exceptions, each leaving a history that the API
    takes: a whole exchange is undone, back to the mark before its question; thinking is left out once the model,
    the system prompt or the tools it was signed for are others; and old search results make room
    (:mod:`agent.compaction`).

    ``tokens`` is how many the last turn took, input and output, as the API counted them.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.tokens = 0
        self._sent: dict[int, list[SentResult]] = {}
        self._frame = ""

    def mark(self) -> Mark:
        """The place to come back to."""
        return Mark(len(self.messages), self.tokens)

    def rollback(self, mark: Mark) -> None:
        """Forget all that came after ``mark``."""
        del self.messages[mark.messages :]
        self.tokens = min(self.tokens, mark.tokens)
        self._sent = {place: sent for place, sent in self._sent.items() if place < mark.messages}

    def user(self, content: list[dict[str, Any]]) -> None:
        """Append a user message."""
        self.messages.append({"role": "user", "content": content})

    def assistant(self, content: list[dict[str, Any]]) -> None:
        """Append the model's message as it came, but for blank text blocks: the API sends them, yet takes none."""
        kept = [block for block in content if block["type"] != "text" or block["text"].strip()]
        if kept:
            self.messages.append({"role": "assistant", "content": kept})

    @property
    def sent(self) -> list[SentResult]:
        """All search results of a request, in the order that its citations count them."""
        return [result for place in sorted(self._sent) for result in self._sent[place]]

    def send(self, results: tuple[SentResult, ...]) -> None:
        """Note search results that the next message appended will hold."""
        if results:
            self._sent.setdefault(len(self.messages), []).extend(results)

    @property
    def resolved(self) -> bool:
        """Whether each call that the API runs by itself has its result: it takes no further message before."""
        blocks = [block for message in self.messages for block in message["content"]]
        results = {block.get("tool_use_id") for block in blocks}
        return all(block["id"] in results for block in blocks if block["type"] == "server_tool_use")

    def replace(self, place: int, content: list[dict[str, Any]]) -> None:
        """Put other content in the message at ``place``."""
        self.messages[place] = {**self.messages[place], "content": content}

    def forget_results(self, place: int) -> None:
        """The message at ``place`` holds its search results no longer."""
        self._sent.pop(place, None)

    def hold_for(self, frame: str) -> None:
        """Leave out all thinking so far where ``frame`` (model, system prompt, tools) is not the one it was signed for.

        With adaptive thinking the API takes an assistant's message without the thinking it began with.
        """
        if frame != self._frame:
            self._frame = frame
            self.forget_thinking()

    def forget_thinking(self) -> None:
        """Leave out all thinking so far."""
        for place, message in enumerate(self.messages):
            kept = [block for block in message["content"] if not block["type"].endswith("thinking")]
            if len(kept) < len(message["content"]):
                self.replace(place, kept or [{"type": "text", "text": "(thought about it)"}])

    def request(self) -> list[dict[str, Any]]:
        """The messages to send: where the last request ended is marked, so that its cached prefix is found again.

        The API looks for a cached prefix no more than 20 blocks before a mark, and an answer with citations is
        often more blocks than that. (The end of this request is marked by the request itself.)
        """
        messages = list(self.messages)
        for place in range(len(messages) - 2, -1, -1):
            if messages[place]["role"] == "user":
                *before, last = messages[place]["content"]
                messages[place] = {"role": "user", "content": [*before, {**last, "cache_control": _CACHE}]}
                break
        return messages

    def to_dict(self) -> dict[str, Any]:
        """The whole transcript as JSON values."""
        return {
            "messages": self.messages,
            "sent": {str(place): [asdict(result) for result in sent] for place, sent in self._sent.items()},
            "tokens": self.tokens,
            "frame": self._frame,
        }

    @classmethod
    def from_dict(cls, value: object) -> Transcript:
        """The transcript that :meth:`to_dict` wrote.

        Raises:
            ValueError: ``value`` is none.
        """
        saved = _Saved.model_validate(value)
        if not all(map(_is_message, saved.messages)):
            raise ValueError("a message is none that the API takes")
        transcript = cls()
        transcript.messages = saved.messages
        transcript.tokens = saved.tokens
        transcript._sent = saved.sent
        transcript._frame = saved.frame
        return transcript


def _is_message(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [None]
    whole = all(isinstance(block, dict) and isinstance(block.get("type"), str) for block in blocks)
    return whole and message.get("role") in ("user", "assistant")


def field_rules(schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields of a tool's input with the rule for each; {} for what may be anything (its rule is ``true``)."""
    properties = schema.get("properties")
    rules = properties if isinstance(properties, dict) else {}
    return {field: rule if isinstance(rule, dict) else {} for field, rule in rules.items()}


def query_key(tool: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """One string for all ways of writing the same call: defaults filled in, white space collapsed."""
    rules = field_rules(schema)
    filled = {name: rule["default"] for name, rule in rules.items() if "default" in rule} | dict(arguments)
    tidy = {name: " ".join(value.split()) if isinstance(value, str) else value for name, value in filled.items()}
    return json.dumps([tool, tidy], sort_keys=True, ensure_ascii=False)
