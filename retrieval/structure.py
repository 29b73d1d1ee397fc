"""A document's headings and blocks, found by a real parser for its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from retrieval.documents import Document

BlockKind = Literal["paragraph", "code", "table", "list"]


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, code block, table or list, as it reads, with its 1-based lines in the file."""

    kind: BlockKind
    text: str
    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class Section:
    """A heading path and the blocks under its last heading (not those of its sub-headings).

    ``heading`` runs from the outermost heading to this one, as plain text without markup; it is
    () for text before any heading. ``first_line``/``last_line`` cover heading and blocks.
    """

    document_id: str
    heading: tuple[str, ...]
    blocks: tuple[Block, ...]
    first_line: int
    last_line: int

    @property
    def text(self) -> str:
        """The blocks, one blank line apart."""
        return "\n\n".join(block.text for block in self.blocks)


def sections(document: Document) -> list[Section]:
    """Return ``document``'s sections in reading order."""
    raise NotImplementedError
