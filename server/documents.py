"""Whole documents, as they were indexed: for the resource and for `fetch`.

They come out of the index and never from a file, so that nothing but what is indexed can be read,
whatever an id says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
from pydantic import BaseModel, ConfigDict

from server.rendering import MAX_TEXT_CHARS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrieval.passages import Passage
    from server.engines import Engines

__all__ = ["IndexedDocument", "read_document"]

_MOST_PASSAGES = 2000
_MOST_PASSAGES_TO_ONE = 20_000


class IndexedDocument(BaseModel):
    """A document's id, title and text, its headings marked with #. ``truncated``: there was more of it.

    ``passages`` are the ids of the passages that the text holds.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    text: str
    first_line: int
    last_line: int
    truncated: bool
    passages: tuple[str, ...]


async def read_document(
    engines: Engines, corpus: str, document_id: str, passage_id: str = ""
) -> IndexedDocument | None:
    """The document of that id, or None where none such is indexed.

    At most MAX_TEXT_CHARS of its text are given: its beginning, or what stands around the passage ``passage_id``.

    Raises:
        IndexingError: there is no index yet, or it is damaged.
    """
    most = _MOST_PASSAGES_TO_ONE if passage_id else _MOST_PASSAGES
    rows = await anyio.to_thread.run_sync(engines.document, corpus, document_id, most + 1)
    if not rows:
        return None
    passages = [row.passage for row in rows]
    start = _start(passages[:most], passage_id)
    text, count = _text(passages[start:most])
    shown = passages[start : start + count]
    return IndexedDocument(
        id=document_id,
        title=passages[0].title,
        text=text,
        # A heading stands above the first passage; a record is a line or some of its file.
        first_line=1 if rows[0].path == document_id and not start else shown[0].first_line,
        last_line=shown[-1].last_line,
        truncated=count < len(passages),
        passages=tuple(passage.id for passage in shown),
    )


def _start(passages: Sequence[Passage], passage_id: str) -> int:
    """Where to begin so that the passage of that id stands in the text with some of what comes before; 0 without it."""
    start = next((place for place, passage in enumerate(passages) if passage.id == passage_id), 0)
    room = MAX_TEXT_CHARS // 4
    while start and (room := room - _most_chars(passages[start - 1])) > 0:
        start -= 1
    return start


def _most_chars(passage: Passage) -> int:
    """How much room the passage takes at most: with each of its headings, of which the text has only the new ones."""
    return sum(level + len(name) + 3 for level, name in enumerate(passage.heading, 1)) + len(passage.text) + 2


def _text(passages: Sequence[Passage]) -> tuple[str, int]:
    """The passages under their headings, as many as there is room for, and how many they are."""
    parts: list[str] = []
    above: tuple[str, ...] = ()
    room = MAX_TEXT_CHARS
    for passage in passages:
        same = 0
        while same < min(len(above), len(passage.heading)) and above[same] == passage.heading[same]:
            same += 1
        new = [f"{'#' * level} {name}" for level, name in enumerate(passage.heading[same:], same + 1)]
        part = "\n\n".join([*new, passage.text])
        room -= len(part) + 2
        if room < 0 and parts:
            break
        parts.append(part[:MAX_TEXT_CHARS])
        above = passage.heading
    return "\n\n".join(parts), len(parts)
