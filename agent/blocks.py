"""Search hits → search_result blocks, each text block with the exact lines it came from.

A citation names a range of text blocks, never less than one, so the blocks are small: a sentence of
prose, a list item, a table row, a heading, a fenced block of code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["SentBlock", "SentResult", "split_lines", "to_result"]

_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_OWN_LINE = re.compile(r"\s*(?:[-*+•]\s|\d{1,4}[.)]\s|#{1,6}\s|\||>|:?-{3,}|={3,})")
# After a full stop comes a space and something that can begin a sentence; CJK stops need no space.
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[*_`]*[^\W_a-z])|(?<=[。！？])")
_SHORTEST_SENTENCE = 24
_TABLE_HEAD = re.compile(r"[^\n]*\n(?=[^\n]*--)[|:\- \t]+\n")


@dataclass(frozen=True, slots=True)
class SentBlock:
    """A text block as it was sent, and the 1-based lines of the document it came from."""

    text: str
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class SentResult:
    """A search_result block as it was sent. ``corpus`` is "" where only one can be searched."""

    source: str
    document_id: str
    title: str
    blocks: tuple[SentBlock, ...]
    corpus: str = ""

    def to_param(self) -> dict[str, Any]:
        """The block in the API's shape, with citations enabled."""
        return {
            "type": "search_result",
            "source": self.source,
            "title": self.title,
            "content": [{"type": "text", "text": block.text} for block in self.blocks],
            "citations": {"enabled": True},
        }


def to_result(
    document_id: str,
    title: str,
    heading: tuple[str, ...],
    text: str,
    first_line: int,
    last_line: int,
    truncated: bool,
    corpus: str = "",
) -> SentResult | None:
    """The search_result block of one hit, or None where the hit has no text.

    ``corpus`` is named in its source: two may have files of one path.

    Lines are told block by block where ``text`` has one line for each line of the document, or is the head of
    a table repeated over further rows of it; where it has not (a record, a page of HTML, a passage cut short)
    every block has the whole hit's lines.
    """
    head = _TABLE_HEAD.match(text) if all("|" in line for line in text.split("\n")) else None
    repeated = text.count("\n") - (last_line - first_line)
    if truncated or repeated not in (0, head[0].count("\n") if head else 0):
        blocks = tuple(SentBlock(block.text, first_line, last_line) for block in split_lines(text, first_line))
    else:
        body = head.end() if head and repeated else 0
        above = [SentBlock(text[:body], first_line, last_line)] if body else []
        blocks = (*above, *split_lines(text[body:], first_line))
    if not blocks:
        return None
    headings = [part for part in heading if part and part != title]
    return SentResult(
        source=f"{corpus and f'{corpus}:'}{document_id}:{first_line}-{last_line}",
        document_id=document_id,
        title=" › ".join([title, *headings] if title else headings) or document_id,
        blocks=blocks,
        corpus=corpus,
    )


def split_lines(text: str, first_line: int) -> Iterator[SentBlock]:
    """Cut ``text``, whose first line is ``first_line`` of its document, into blocks that join to ``text``.

    Blank text goes with the block before it (the API takes no blank block); leading blank text with
    the first. A block's lines are those of its first and last character that is not blank.
    """
    line = first_line
    held = ""
    for piece in _pieces(text):
        if piece.strip() and held.strip():
            yield _block(held, line)
            line += held.count("\n")
            held = ""
        held += piece
    if held.strip():
        yield _block(held, line)


def _block(text: str, line: int) -> SentBlock:
    body = text.strip()
    first = line + text[: text.index(body)].count("\n")
    return SentBlock(text, first, first + body.count("\n"))


def _pieces(text: str) -> Iterator[str]:
    """Sentences, single structural lines, whole fences; together they are ``text``."""
    paragraph = ""
    fence = ""
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        opening = _FENCE.match(line)
        if fence:
            paragraph += line
            if opening and opening[1].startswith(fence):
                yield paragraph
                paragraph, fence = "", ""
        elif opening:
            yield from _sentences(paragraph)
            paragraph, fence = line, opening[1]
        elif not line.strip() or _OWN_LINE.match(line):
            yield from _sentences(paragraph)
            paragraph = line
            if not line.strip() or re.match(r"\s*(?:#{1,6}\s|\|)", line):
                yield line
                paragraph = ""
        else:
            paragraph += line
    if fence:
        yield paragraph
    else:
        yield from _sentences(paragraph)


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for end in (match.end() for match in _SENTENCE_END.finditer(paragraph)):
        if len(paragraph[start:end].strip()) >= _SHORTEST_SENTENCE:
            yield paragraph[start:end]
            start = end
    if start < len(paragraph):
        yield paragraph[start:]
