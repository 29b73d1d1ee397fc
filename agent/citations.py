"""Check each citation against what was really sent, and number the footnotes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.blocks import SentResult

__all__ = ["Citation", "Footnotes", "check"]

_SOURCE = re.compile(r"(?P<document_id>.+):(?P<first>\d+)-(?P<last>\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage the answer claims to rest on.

    ``first_line`` and ``last_line`` are 1-based lines of the document, those of the cited blocks; 0
    where an invalid citation names none that was sent. ``reason`` is "" when ``valid``, else what is wrong.
    ``corpus`` is "" where only one can be searched.
    """

    document_id: str
    first_line: int
    last_line: int
    quote: str
    valid: bool
    reason: str = ""
    corpus: str = ""

    @property
    def place(self) -> str:
        """``document:first-last``, as footnotes print it; ``document:line`` for a single line; first its corpus."""
        document = f"{self.corpus}:{self.document_id}" if self.corpus else self.document_id
        if not self.first_line:
            return document
        lines = f"{self.first_line}-{self.last_line}" if self.last_line > self.first_line else f"{self.first_line}"
        return f"{document}:{lines}"


def check(location: Mapping[str, Any], sent: Sequence[SentResult]) -> Citation:
    """Judge one citation of the API against ``sent``, the search results of the request, in its order.

    Valid means: it is a ``search_result_location``; its index, counted over the whole request, names
    a result that was sent; the source is that result's; the block range lies inside it; and the
    cited text, white space aside, stands in those blocks.
    """
    quote = str(location.get("cited_text") or "")
    source = str(location.get("source") or "")

    def invalid(reason: str) -> Citation:
        named = _SOURCE.fullmatch(source)
        return Citation((named["document_id"] if named else source) or "?", 0, 0, quote, False, reason)

    if location.get("type") != "search_result_location":
        return invalid(f"a citation of type {location.get('type')} names no search result")
    index, start, end = (location.get(key) for key in ("search_result_index", "start_block_index", "end_block_index"))
    if not (isinstance(index, int) and isinstance(start, int) and isinstance(end, int)):
        return invalid("the citation lacks an index")
    if not 0 <= index < len(sent):
        return invalid(f"search result {index} was not sent; {len(sent)} were")
    result = sent[index]
    if source != result.source:
        return invalid(f"search result {index} is {result.source}, not {source}")
    if not 0 <= start < end <= len(result.blocks):
        return invalid(f"blocks {start} to {end} do not lie in {result.source}, which has {len(result.blocks)}")
    cited = result.blocks[start:end]
    first, last = min(block.first_line for block in cited), max(block.last_line for block in cited)
    wanted = "".join(quote.split())
    if not wanted or wanted not in "".join("".join(block.text for block in cited).split()):
        reason = "the quote does not stand in the cited lines" if wanted else "the citation quotes nothing"
        return Citation(result.document_id, first, last, quote, False, reason, result.corpus)
    return Citation(result.document_id, first, last, quote.strip(), True, corpus=result.corpus)


class Footnotes:
    """The citations of one answer, numbered from 1 as they first appear; the same place is one footnote."""

    def __init__(self) -> None:
        self.citations: list[Citation] = []

    def number(self, citation: Citation) -> int:
        """The number of ``citation``, new or already given."""
        if citation not in self.citations:
            self.citations.append(citation)
        return self.citations.index(citation) + 1

    def keep(self, count: int) -> None:
        """Forget all but the first ``count``, when the text that cited them is withdrawn."""
        del self.citations[count:]
