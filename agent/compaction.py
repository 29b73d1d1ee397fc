"""Room in the model's context: old search results are dropped, oldest first, and it is said aloud.

The API has means of its own (``context_management``, a beta), but they take away what citations count by and what
they are checked against. Here the history itself is shortened: what was asked, searched for and answered stays,
the passages go, and a query whose passages are gone may be run again.
"""

from __future__ import annotations

import json
from typing import Any

from agent.outcomes import STANDING
from agent.transcript import Transcript

__all__ = ["DROPPED", "MISSING", "drop_results"]

DROPPED = "The result of this call was dropped to make room. Search again if you need it."
MISSING = "What it found stood above, and may have been dropped to make room. Search again if you need it."


def drop_results(transcript: Transcript, *, last_too: bool = False) -> int:
    """Drop tool results, oldest first, until the messages are half as long; return how many were dropped.

    Those of the last message have not been read yet: they stay, but for ``last_too``, which drops all.
    Nothing is changed where nothing can be dropped.
    """
    sizes = [len(json.dumps(message, ensure_ascii=False)) for message in transcript.messages]
    left = sum(sizes)
    goal = 0 if last_too else left // 2
    dropped = 0
    for place in range(len(sizes) if last_too else len(sizes) - 1):
        if left <= goal:
            break
        content, count = _without_results(transcript.messages[place]["content"])
        if count:
            left -= sizes[place] - len(json.dumps(content, ensure_ascii=False))
            transcript.replace(place, content)
            transcript.forget_results(place)
            dropped += count
    if dropped:
        transcript.tokens = 0
        # Thinking is signed for all that comes before it; citations count, and notes name, results that are gone.
        transcript.forget_thinking()
        for place, message in enumerate(transcript.messages):
            content = [_without_references(block) for block in message["content"]]
            if content != message["content"]:
                transcript.replace(place, content)
    return dropped


def _without_references(block: dict[str, Any]) -> dict[str, Any]:
    """``block`` without its citations, and without the note that passages stand above."""
    kept = {key: part for key, part in block.items() if key != "citations"}
    if block["type"] == "tool_result":
        kept["content"] = [
            {**part, "text": MISSING} if part.get("text", "").startswith(STANDING) else part
            for part in block["content"]
        ]
    return kept


def _without_results(content: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """``content`` with each tool result longer than the note that takes its place replaced; and how many were."""
    kept = []
    count = 0
    for block in content:
        if block["type"] == "tool_result" and len(json.dumps(block["content"])) > 2 * len(DROPPED):
            kept.append({**block, "content": [{"type": "text", "text": DROPPED}]})
            count += 1
        else:
            kept.append(block)
    return kept, count
