"""Headings and blocks of Markdown (CommonMark and tables), by markdown-it-py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from retrieval.front_matter import fenced, front_matter, spoken
from retrieval.structure import QUESTION_LEVEL, Block, BlockKind, Heading, answered, asks, source_block
from retrieval.structure_html import pieces

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["outline"]

KINDS: dict[str, BlockKind] = {
    "paragraph_open": "paragraph",
    "blockquote_open": "paragraph",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
}
KEY = re.compile(r"(?:---|\+\+\+)[ \t]*\n[\w-]+ *[:=]")
ANCHOR = re.compile(r"(?<=\S)\s*\{:? ?[#.][^\s{}]+(?: (?:[#.]|[\w-]+=)[^\s{}]+)* ?\}$")
"""``{#name .class}`` after a heading: an anchor of Docusaurus, Pandoc and others that no reader sees."""
COMPONENT = re.compile(r"</?[A-Z][A-Z\d]*[a-z.]")
"""A component of MDX, which may have words in its attributes."""
ASKED = re.compile(
    r"(?P<item>(?:\d{1,3}[.)]|[-*+])[ \t]+)?(?P<mark>\*\*|__)(?P<question>(?!\s)(?:(?!(?P=mark)).){2,300}[?？؟])"
    r"(?P=mark)[ \t]*(?:<br ?/?>|\\$)?[ \t]*(?![a-z])"
)
"""A question in bold that a line, or an item of a list, begins with: an FAQ's, whose answer follows."""
BROKEN = re.compile(r"(?:[.!?:…。？！：]|<br ?/?>|\\| {2})\Z")
"""What a line ends with that does not go on on the next."""
UNSHOWN = {"<!--": "-->", "<script": "</script", "<style": "</style"}
"""What begins and ends HTML that is not shown; where it does not end, it would be all that follows."""


def outline(text: str) -> list[Heading | Block]:
    """Return the top-level headings and blocks of ``text``; the text of a block is its slice of the source.

    Questions in bold are headings, where there are several and each has an answer below. Of front matter what it says
    of the page stands in its first section. Thematic breaks and link reference definitions are left out, which nobody
    reads.
    """
    parser = _parser()
    lines = text.split("\n")
    items: list[Heading | Block] = []
    matter, head = front_matter(text)
    said = [Block("paragraph", line, 1, head, spans=((1, head),)) for line in spoken(matter)]
    if not head and KEY.match(text):
        # Meant as front matter, but broken: text, yet not the heading that the rule below it would make of it.
        head = fenced(text)
        broken = source_block("code", lines, 0, head)
        items += [broken] if broken else []
    # Blank lines instead, so that every other line keeps its number.
    source = "\n".join([""] * head + lines[head:])
    environment: dict[str, Any] = {}
    tokens = _outer_tokens(parser, source, environment)
    for position, token in enumerate(tokens):
        if token.level or not token.map:
            continue
        start, end = token.map
        if token.type == "heading_open":
            title = _plain(parser, tokens[position + 1].content, environment)
            items.append(Heading(int(token.tag[1]), title, start + 1, end))
        elif token.type == "html_block":
            items += _html(lines, start, end)
        elif token.type in KINDS:
            block = source_block(KINDS[token.type], lines, start, end)
            if block:
                # Without the rule below its first row it would be no table.
                items.append(replace(block, head=2) if block.kind == "table" else block)
    place = int(bool(items) and isinstance(items[0], Heading) and items[0].level == 1)
    items[place:place] = said
    return _asking(items, lambda markup: _plain(parser, markup, environment))


def _asking(items: list[Heading | Block], plain: Callable[[str], str]) -> list[Heading | Block]:
    """``items`` with the questions in bold as headings, if there are two and each is answered before the next."""
    found = [part for item in items for part in (_parted(item, plain) if isinstance(item, Block) else (item,))]
    return found if answered(found) else items


def _parted(block: Block, plain: Callable[[str], str]) -> Iterator[Heading | Block]:
    """The questions in bold that lines of a block begin with, and what stands between them."""
    lines, above = block.text.split("\n"), block.first_line - 1
    found = {number: match for number, line in enumerate(lines) if (match := ASKED.match(line))}
    asked = {
        number: match
        for number, match in found.items()
        if asks(plain(match["question"])) and (not number or match["item"] or BROKEN.search(lines[number - 1]))
    }
    if block.kind not in ("paragraph", "list") or block.spans or not asked:
        yield block
        return
    for start, end in pairwise(sorted({0, *asked, len(lines)})):
        if start in asked:
            number = above + start + 1
            yield Heading(QUESTION_LEVEL, plain(asked[start]["question"]), number, number)
            lines[start] = lines[start][asked[start].end() :]
        if body := source_block(block.kind, lines, start, end):
            yield replace(body, first_line=body.first_line + above, last_line=body.last_line + above)


def _html(lines: Sequence[str], start: int, end: int) -> list[Heading | Block]:
    """The headings and blocks that are shown of the HTML in ``lines[start:end]``; MDX stays as it is."""
    markup = "\n".join(lines[start:end])
    lowered = markup.lstrip().lower()
    begun = next((mark for mark in UNSHOWN if lowered.startswith(mark)), "")
    if UNSHOWN[begun] not in lowered if begun else COMPONENT.search(markup):
        block = source_block("paragraph", lines, start, end)
        return [block] if block else []
    return pieces(markup, start + 1)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table")


def _outer_tokens(parser: MarkdownIt, source: str, environment: dict[str, Any]) -> list[Token]:
    """The block tokens outside of all others, and a heading's inline one after it.

    The block parser alone runs, and what it finds within lists, tables and quotes is not kept: a
    table's cells would take a thousand times the memory of their text.
    """
    from markdown_it.rules_block import StateBlock

    class Outer(StateBlock):
        def push(self, ttype: str, tag: str, nesting: Literal[-1, 0, 1]) -> Token:
            token = super().push(ttype, tag, nesting)
            if token.level and not (ttype == "inline" and self.tokens[-2].type == "heading_open"):
                self.tokens.pop()
            return token

    tokens: list[Token] = []
    if source:
        state = Outer(source, parser, environment, tokens)
        parser.block.tokenize(state, state.line, state.lineMax)
    return tokens


def _plain(parser: MarkdownIt, markup: str, environment: dict[str, Any]) -> str:
    """What a person reads of inline markup."""
    tokens: list[Token] = []
    parser.inline.parse(markup, parser, environment, tokens)
    text = "".join(_words(token) for token in tokens)
    return ANCHOR.sub("", " ".join(text.split()))


def _words(token: Token) -> str:
    if token.type in ("softbreak", "hardbreak"):
        return " "
    if token.type == "image":
        return "".join(_words(child) for child in token.children or ())
    if token.type in ("text", "text_special", "code_inline"):
        return token.content
    return ""
