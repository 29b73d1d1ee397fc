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


class IndexedDocument(BaseModel):
    """A document's id, title and text, its headings marked with #. ``truncated``: there was more of it."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str
    text: str
    first_line: int
    last_line: int
    truncated: bool


async def read_document(engines: Engines, corpus: str, document_id: str) -> IndexedDocument | None:
    """The document of that id, or None where none such is indexed. At most MAX_TEXT_CHARS of its text are given.

    Raises:
        IndexingError: there is no index yet, or it is damaged.
    """
    rows = await anyio.to_thread.run_sync(engines.document, corpus, document_id, _MOST_PASSAGES + 1)
    if not rows:
        return None
    passages = [row.passage for row in rows]
    text, last = _text(passages[:_MOST_PASSAGES])
    return IndexedDocument(
        id=document_id,
        title=passages[0].title,
        text=text,
        # A heading stands above the first passage; a record is a line or some of its file.
        first_line=1 if rows[0].path == document_id else passages[0].first_line,
        last_line=last.last_line,
        truncated=last is not passages[-1],
    )


def _text(passages: Sequence[Passage]) -> tuple[str, Passage]:
    """The passages under their headings, as many as there is room for, and the last of them."""
    parts: list[str] = []
    above: tuple[str, ...] = ()
    room = MAX_TEXT_CHARS
    last = passages[0]
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
        above, last = passage.heading, passage
    return "\n\n".join(parts), last
