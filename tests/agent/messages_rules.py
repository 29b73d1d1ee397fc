"""What the Messages API demands of a request, and how it counts what comes from its prompt cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

Block = dict[str, Any]


def problem_of(body: Block) -> str:
    """Why the real API would refuse this request, "" if it would not."""
    for key in ("model", "max_tokens", "messages"):
        if key not in body:
            return f"{key}: field required"
    if body.get("tool_choice", {"type": "auto"})["type"] not in ("auto", "none"):
        return "tool_choice: this model takes auto and none only"
    if {"temperature", "top_p", "top_k"} & body.keys():
        return "sampling parameters are not supported"
    if json.dumps(body).count('"cache_control"') > 4:
        return "a maximum of 4 blocks with cache_control may be provided"
    messages = body["messages"]
    if not messages or messages[0]["role"] != "user":
        return "messages: the first message must use the user role"
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str) or not content:
            return f"messages.{number}: content must be blocks, and not empty"
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if results != open_calls:
            return f"messages.{number}: tool_use ids {open_calls} are answered by {results}"
        open_calls = [block["id"] for block in content if block["type"] == "tool_use"]
        for block in _flat(content):
            if block["type"] == "text" and not block["text"].strip():
                return f"messages.{number}: text content blocks must contain non-whitespace text"
            if block["type"] == "thinking" and block["signature"] != f"signed-{len(block['thinking'])}":
                return f"messages.{number}: thinking blocks must not be changed"
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                return f"messages.{number}: tool_use.input: Input should be a valid dictionary"
            if unknown := block.keys() - _FIELDS[block["type"]]:
                return f"messages.{number}: {sorted(unknown)}: extra inputs are not permitted"
    return f"tool_use ids {open_calls} have no results" if open_calls else ""


_FIELDS = {
    "text": {"type", "text", "citations", "cache_control"},
    "thinking": {"type", "thinking", "signature"},
    "redacted_thinking": {"type", "data"},
    "tool_use": {"type", "id", "name", "input", "caller", "cache_control"},
    "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    "search_result": {"type", "source", "title", "content", "citations", "cache_control"},
    "server_tool_use": {"type", "id", "name", "input", "caller", "cache_control"},
}


def _flat(content: list[Block]) -> Iterator[Block]:
    for block in content:
        yield block
        if block["type"] in ("tool_result", "search_result"):
            yield from _flat(block["content"])


class Cache:
    """The prompt cache: tools, system and messages in this order, block by block, found again at a mark.

    What comes before a mark is read where it was written before, at the latest of up to 20 blocks before it;
    the rest up to the last mark is written. A token is four characters.
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """

    LOOK_BACK = 20

    def __init__(self) -> None:
        self._written: set[str] = set()

    def count(self, body: Block) -> Block:
        """The input tokens of a request, and what it leaves behind."""
        blocks = [*body.get("tools", ()), *body.get("system", ())]
        blocks += [{"role": message["role"], **block} for message in body["messages"] for block in message["content"]]
        marks = [place for place, block in enumerate(blocks) if "cache_control" in block]
        if "cache_control" in body:
            marks.append(len(blocks) - 1)
        digest = hashlib.sha256(body["model"].encode())
        prefixes: list[str] = []
        tokens: list[int] = []
        for block in blocks:
            text = json.dumps(unmarked(block), sort_keys=True)
            digest.update(text.encode())
            prefixes.append(digest.hexdigest())
            tokens.append(len(text) // 4)
        looked_at = {place for mark in marks for place in range(max(0, mark - self.LOOK_BACK), mark + 1)}
        read = max((place + 1 for place in looked_at if prefixes[place] in self._written), default=0)
        written = max([place + 1 for place in marks] + [read])
        self._written.update(prefixes[place] for place in marks)
        return {
            "cache_read_input_tokens": sum(tokens[:read]),
            "cache_creation_input_tokens": sum(tokens[read:written]),
            "input_tokens": sum(tokens[written:]),
        }


def unmarked(value: Any) -> Any:
    """``value`` without marks for the cache, which are no part of what is said."""
    if isinstance(value, dict):
        return {key: unmarked(part) for key, part in value.items() if key != "cache_control"}
    return [unmarked(part) for part in value] if isinstance(value, list) else value


def prefix_of(body: Block, count: int) -> str:
    """What stands before a message: model, system prompt, tools, and ``count`` messages."""
    parts = [body["model"], body.get("system"), body.get("tools"), body["messages"][:count]]
    return hashlib.sha256(json.dumps(unmarked(parts), sort_keys=True).encode()).hexdigest()
