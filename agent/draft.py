"""The answer while it grows: text, citations checked as they come, and what people are told."""

from __future__ import annotations

from typing import Any

from agent.answer import Cited, Listener, Notice, Segment, TextDelta, Thinking, Withdrawn
from agent.citations import Citation, Footnotes, check
from agent.transcript import Transcript

__all__ = ["Draft"]


class Draft:
    """Reads turns (see :class:`agent.turn.Reader`) into segments and numbered citations.

    What a turn says is provisional until ``keep``: it is withdrawn when the turn is taken again, or
    turns out to lead up to tool calls and not to be the answer.
    """

    def __init__(self, transcript: Transcript, tell: Listener) -> None:
        self.segments: list[Segment] = []
        self.notes: list[str] = []
        self._transcript = transcript
        self._tell = tell
        self._footnotes = Footnotes()
        self._unfinished = ""
        self._kept = (0, 0)

    def text(self, delta: str) -> None:
        """Take more text."""
        self._unfinished += delta
        self._tell(TextDelta(delta))

    def thinking(self, delta: str) -> None:
        """Pass on what the model thinks; it is no part of the answer."""
        if delta:
            self._tell(Thinking(delta))

    def block(self, block: dict[str, Any]) -> None:
        """Close a run of text, and check its citations against what the request sent."""
        if block["type"] != "text":
            return
        self._unfinished = ""
        locations = block.get("citations") or ()
        sent = self._transcript.sent if locations else []
        cited = [check(location, sent) for location in locations]
        numbers = tuple(dict.fromkeys(self._footnotes.number(citation) for citation in cited))
        if block["text"]:
            self.segments.append(Segment(block["text"], numbers))
        if numbers:
            self._tell(Cited(tuple((number, self.citations[number - 1]) for number in numbers)))

    def withdraw(self) -> None:
        """Take back what was said since the last ``keep``."""
        segments, footnotes = self._kept
        if self._unfinished or len(self.segments) > segments:
            self._tell(Withdrawn())
        self._unfinished = ""
        del self.segments[segments:]
        self._footnotes.keep(footnotes)

    def keep(self) -> None:
        """Stand by what was said so far."""
        self._kept = (len(self.segments), len(self.citations))

    def finish(self) -> None:
        """Keep a run of text that was cut off before its end, as far as it came."""
        if self._unfinished:
            self.segments.append(Segment(self._unfinished))
            self._unfinished = ""

    def discard(self) -> None:
        """Take back everything."""
        self._kept = (0, 0)
        self.withdraw()

    def notice(self, text: str) -> None:
        """Tell people now, and once more in the answer."""
        self.notes.append(text)
        self._tell(Notice(text))

    @property
    def citations(self) -> list[Citation]:
        """The footnotes, numbered from 1 in this order."""
        return self._footnotes.citations

    @property
    def checked(self) -> bool:
        """Whether a citation holds."""
        return any(citation.valid for citation in self.citations)

    @property
    def said(self) -> str:
        """All text so far."""
        return "".join(segment.text for segment in self.segments) + self._unfinished
