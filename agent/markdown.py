"""Markdown that comes in pieces, shown block by block."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

__all__ = ["rendered", "split_blocks"]


def split_blocks(text: str) -> tuple[str, str]:
    """The blocks at the beginning of ``text`` that nothing to come can change, and the rest.

    A block is whole once another has begun below it on a line that is itself whole: a line's first
    characters do not tell what it will be, nor does a blank line tell that a list is at its end.
    """
    lines_end = text.rfind("\n") + 1
    starts = [token.map[0] for token in _parser(inline=False).parse(text[:lines_end]) if token.level == 0 and token.map]
    if not starts or starts[-1] == 0:
        return "", text
    lines = text[:lines_end].split("\n")
    whole = "\n".join(lines[: starts[-1]]) + "\n"
    return whole, text[len(whole) :]


def rendered(text: str) -> Markdown:
    """``text`` for a rich console. Addresses of links are shown, not hidden behind their words; HTML is text."""
    from rich.markdown import Markdown

    markdown = Markdown("", hyperlinks=False, code_theme="ansi_dark")
    # rich's own parser takes HTML for markup and then drops it, words and all.
    markdown.parsed = _parser().parse(text)
    return markdown


@cache
def _parser(inline: bool = True) -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
    # A definition of a link would vanish; an entity, or an address between < and >, could be read as a mark.
    parser.disable(["reference", "entity", "autolink"])
    return parser if inline else parser.disable("inline")
