"""Headings and blocks of reStructuredText, by docutils.

docutils says where each construct starts; a block is the slice of the source from its start to the
next one's. So nothing is lost of directives and roles that docutils does not know, such as Sphinx's.
Substitutions that the document defines (``.. |product| replace:: Pump 3``) are put in where it names them
(``|product|``), as these are the very words that people ask by.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from retrieval.structure import Block, BlockKind, Heading, source_block

if TYPE_CHECKING:
    from docutils.nodes import Node, document, section

__all__ = ["outline"]

# docutils takes these for line ends, and files do not.
LINE_ENDS = str.maketrans(dict.fromkeys("\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))
TAB = 8

CODE_DIRECTIVE = re.compile(
    r"\.\. +(?:code|code-block|sourcecode|highlight|literalinclude|parsed-literal|prompt|testcode|testoutput|doctest|"
    r"productionlist|ipython|jupyter-execute|math)::"
)
TABLE_DIRECTIVE = re.compile(r"\.\. +(?:table|list-table|csv-table|flat-table)::")
GRID_RULE, HEAD_RULE, SIMPLE_RULE = map(re.compile, (r"\+(?:-+\+)+", r"\+(?:=+\+)+", r"=+(?: +=+)+"))
INLINE_CHARACTERS = 400
"""Inline markup is parsed in texts of so many characters, as headings are: docutils takes quadratic time."""
UNREAD = ("comment", "target", "substitution_definition", "transition", "pending", "meta")
"""Constructs that no reader sees."""
KINDS: dict[str, BlockKind] = {
    "literal_block": "code",
    "doctest_block": "code",
    "math_block": "code",
    "table": "table",
    "bullet_list": "list",
    "enumerated_list": "list",
    "definition_list": "list",
    "field_list": "list",
    "option_list": "list",
}
EXPLICIT = re.compile(r"\.\.(?: |$)")
ROLE = re.compile(r":[\w:.+-]+:`([^`]+)`|`([^`]+)`_{0,2}")
"""Interpreted text or a reference that docutils left as it stood."""

DEFINED = re.compile(r"\.\.\s+\|[^|]+\|\s+(?:replace|unicode)::")
"""A substitution by words; another is by a picture, or by the date of today."""
SUBSTITUTION = re.compile(r"(?P<literal>``[^`]+``)|(?<!\\)\|(?P<name>[^\s|](?:[^|\n]{0,80}[^\s|])?)\|_{0,2}")
VALUE_CHARACTERS = 100
"""A longer substitution is no name, and a text of little else could make a file of any size of its own."""
NESTED = 3
"""A substitution may name others so many deep; one that names itself is left as it stands."""


def outline(text: str) -> list[Heading | Block]:
    """Return the headings of ``text`` and its blocks outside of other blocks; their text is their slice of the source.

    Comments, link targets and rules are left out; so are definitions of substitutions, which are put in.
    """
    lines = text.split("\n")
    tree = _parse(text)
    values = _substitutions(tree)
    _put_in(tree, values)
    literal = _literal_lines(tree) if values else set()
    return [
        replace(item, text=_filled_outside(literal, item.text, values))
        if isinstance(item, Block) and item.kind != "code"
        else item
        for item in _walk(tree, lines, 0, 0, len(lines))
    ]


@cache
def _settings() -> Any:
    from docutils.frontend import get_default_settings
    from docutils.parsers.rst import Parser

    settings = get_default_settings(Parser)
    settings.report_level = 5  # above the severest: nothing is written
    settings.halt_level = 6  # and nothing stops the parser
    settings.file_insertion_enabled = False
    settings.raw_enabled = False
    settings.syntax_highlight = "none"
    settings.tab_width = TAB
    settings.line_length_limit = 1 << 31
    return settings


def _parse(text: str) -> document:
    from docutils import nodes
    from docutils.parsers.rst import Parser, states
    from docutils.utils import new_document

    inliner = states.Inliner()
    parse = inliner.parse

    def parse_short(text: str, *where: Any) -> Any:
        return parse(text, *where) if len(text) <= INLINE_CHARACTERS else ([nodes.Text(text)], [])

    inliner.parse = parse_short  # it cannot be a subclass: it looks for its settings in its own class
    settings = _settings().copy()
    settings.warning_stream = io.StringIO()
    tree = new_document("", settings)
    Parser(inliner=inliner).parse(text.translate(LINE_ENDS), tree)
    return tree


def _substitutions(tree: document) -> dict[str, str]:
    """What each substitution that ``tree`` defines stands for, by its name as `_name` gives it."""
    found = {
        _name(name): _marked(node) for name, node in tree.substitution_defs.items() if DEFINED.match(node.rawsource)
    }
    for _ in range(NESTED):
        found = {
            name: filled
            for name, value in found.items()
            if len(value) <= VALUE_CHARACTERS and len(filled := _filled(value, found)) <= VALUE_CHARACTERS
        }
    return {
        name: value
        for name, value in found.items()
        if not any(_name(match["name"] or "") in found for match in SUBSTITUTION.finditer(value))
    }


def _name(name: str) -> str:
    return " ".join(name.split()).casefold()


def _marked(definition: Node) -> str:
    """The words of a definition, with those it names itself still between their bars."""
    from docutils import nodes

    for node in list(definition.findall(nodes.substitution_reference)):
        node.parent.replace(node, nodes.Text(f"|{node.astext()}|"))
    return " ".join(definition.astext().split()) or " "


def _put_in(tree: document, values: Mapping[str, str]) -> None:
    """Put substitutions in where headings name them."""
    from docutils import nodes

    for title in tree.findall(nodes.title) if values else ():
        for node in list(title.findall(nodes.substitution_reference)):
            if (name := _name(node.astext())) in values:
                node.parent.replace(node, nodes.Text(values[name]))


def _filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with the substitutions put in that are known, but for literals."""
    return SUBSTITUTION.sub(lambda match: values.get(_name(match["name"] or ""), match[0]), text) if values else text


def _literal_lines(tree: document) -> set[str]:
    """The lines of code, wherever it stands; of a directive that docutils does not know, it makes code of its own."""
    from docutils import nodes

    return {
        line.strip()
        for node in tree.findall(nodes.literal_block)
        if not isinstance(node.parent, nodes.system_message)
        for line in node.astext().split("\n")
        if "|" in line
    }


def _filled_outside(literal: Set[str], text: str, values: Mapping[str, str]) -> str:
    """``text`` filled but for ``literal`` lines."""
    runs = groupby(text.split("\n"), lambda line: line.strip() in literal)
    return "\n".join("\n".join(run) if kept else _filled("\n".join(run), values) for kept, run in runs)


def _walk(parent: Node, lines: Sequence[str], level: int, start: int, end: int) -> Iterator[Heading | Block]:
    """Yield what ``parent`` holds, whose body is ``lines[start:end]``."""
    from docutils import nodes

    inner = [child for child in parent.children if isinstance(child, nodes.section)]
    headings = [_heading(child, lines, level + 1) for child in inner]
    body_end = headings[0].first_line - 1 if headings else end
    body = [child for child in parent.children if not isinstance(child, nodes.section)]
    yield from _blocks(body, lines, start, body_end)
    for position, (child, heading) in enumerate(zip(inner, headings, strict=True)):
        next_start = headings[position + 1].first_line - 1 if position + 1 < len(headings) else end
        yield heading
        yield from _walk(child, lines, level + 1, heading.last_line, next_start)


def _heading(node: section, lines: Sequence[str], level: int) -> Heading:
    """The heading of a section, whose line docutils gives as that of the rule below its title."""
    rule = node.line - 1
    over = rule >= 2 and lines[rule - 2].strip() and lines[rule - 2].strip() == lines[rule].strip()
    return Heading(level, _plain(node.children[0]), rule - 1 if over else rule, rule + 1)


def _plain(title: Node) -> str:
    """What a person reads of a title; of ``:role:`text <target>``` the text alone."""

    def reduce(match: re.Match[str]) -> str:
        inner = match[1] or match[2]
        return re.sub(r"\s*<[^<>]*>$", "", inner).lstrip("~!") or inner

    return " ".join(ROLE.sub(reduce, title.astext()).split())


def _blocks(children: Sequence[Node], lines: Sequence[str], start: int, end: int) -> Iterator[Block]:
    """Yield the blocks of ``lines[start:end]``, in which ``children`` were found."""
    starts: dict[int, list[str]] = {}
    for child in children:
        line = _line(child, lines, start)
        if line is not None and start <= line < end and lines[line].strip():
            starts.setdefault(line, []).append(type(child).__name__)
    # Explicit markup always starts a construct, also where docutils does not know the directive.
    for line in range(start, end):
        if EXPLICIT.match(lines[line]) and (line == start or not lines[line - 1].strip()):
            starts.setdefault(line, [])
    bounds = sorted({start, *starts, end})
    for first, last in zip(bounds, bounds[1:], strict=False):
        names = starts.get(first, [])
        if not any(name in UNREAD for name in names):
            block = source_block(_kind(names, lines[first]), lines, first, last)
            if block:
                yield replace(block, head=_head(block.text.split("\n"))) if block.kind == "table" else block


def _line(node: Node, lines: Sequence[str], start: int) -> int | None:
    """The line (from 0) where ``node`` begins, not before ``start``; None where docutils does not say."""
    name = type(node).__name__
    number: int | None = node.get("line") if name == "system_message" else node.line
    if number is None:
        return None
    line = min(number, len(lines)) - 1
    if name == "comment":  # docutils gives the line after it
        while line > start and not EXPLICIT.match(lines[line]):
            line -= 1
    elif name == "system_message" and not EXPLICIT.match(lines[line]):  # any line of what it complains of
        while line > start and lines[line - 1].strip():
            line -= 1
    return line


def _head(table: Sequence[str]) -> int:
    """How many of the lines of a table that is drawn are its head, with the rules above and below."""
    if GRID_RULE.fullmatch(table[0]):
        return next((place + 1 for place, line in enumerate(table) if place and HEAD_RULE.fullmatch(line)), 0)
    rules = [place for place, line in enumerate(table) if SIMPLE_RULE.fullmatch(line)]
    return rules[1] + 1 if len(rules) > 2 and not rules[0] else 0


def _kind(names: Sequence[str], line: str) -> BlockKind:
    if CODE_DIRECTIVE.match(line):
        return "code"
    if TABLE_DIRECTIVE.match(line):
        return "table"
    return next((KINDS[name] for name in names if name in KINDS), "paragraph")
