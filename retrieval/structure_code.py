"""Source code by its symbols: a class, function or method is a heading, with its documentation and its code below.

Python is parsed by Python itself, other languages by tree-sitter where it is installed (the extra ``code``).
What neither can parse is cut where its blocks end.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from retrieval.decoding import NotTextError, decode
from retrieval.errors import DocumentError
from retrieval.structure import Block, Heading, Outlined, source_block

__all__ = ["Symbol", "outline", "read"]

PYTHON = (".py", ".pyi")
SIGNATURE_CHARACTERS = 160
"""A longer signature is cut short in the heading, and stands in the text whole."""
NAMES = 3
SMALL = 3
"""So many lines between two symbols belong to the one below them."""
LINE_CHARACTERS = 80

COMMENT = re.compile(
    r"\s*(?://|/\*|\*(?!\w)|--|#(?!\[|!\[|\s*(?:include|define|if|ifdef|ifndef|elif|else|endif|pragma|undef|error|"
    r"import|region|endregion)\b))"
)
COMMENT_MARK = re.compile(r"\s*(?://[/!]?|/\*[*!]?(?!/)|\*+/|\*(?!/)|--|#+)[ \t]?")
COMMENT_END = re.compile(r"\s*\*+/\s*$")
ATTRIBUTE = re.compile(r"\s*(?:#!?\[|@\w)")
NOTHING_MUCH = re.compile(
    r"[\W_]*|\s*(?:public|private|protected)\s*:|\s*#\s*(?:endif|else|if|ifdef|ifndef|pragma)\b.*|\s*end\s*"
)
"""A line that says nothing alone: a bracket, a guard."""
STRING_START = re.compile(r"[rRuU]?(\"\"\"|'''|\"|')")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A definition: its lines ``start`` to ``end`` and where its body begins (from 0, ends exclusive).

    ``line`` is where its name is. ``heading`` is its signature; with ``whole`` its first lines also stand in
    the text, because they say more than the heading. ``documentation``: its docstring, if it has one.
    """

    heading: str
    start: int
    line: int
    body: int
    end: int
    whole: bool = False
    documentation: Block | None = None
    inner: tuple[Symbol, ...] = field(default=())


def read(name: str, data: bytes) -> Outlined:
    """Return the text and structure of a source file; its title is ``name``, its path.

    Raises:
        DocumentError: it is not text, or empty; the message is ``name: reason``.
    """
    try:
        text, _ = decode(data)
    except NotTextError as error:
        raise DocumentError(f"{name}: {error}") from None
    if not text.strip():
        raise DocumentError(f"{name}: no text")
    return Outlined(name, text, tuple(outline(text, PurePosixPath(name).suffix.lower())))


def outline(text: str, suffix: str) -> list[Heading | Block]:
    """Return the symbols of ``text`` as headings, and their documentation and code as blocks."""
    lines = text.split("\n")
    if suffix in PYTHON:
        symbols, documentation = _python_symbols(text, lines)
    else:
        from retrieval.grammars import symbols_of

        symbols, documentation = symbols_of(text, suffix), None
    if not symbols and not documentation:
        return list(_plain(lines, 0, len(lines)))
    items: list[Heading | Block] = []
    start = 0
    if documentation:
        items += [*_plain(lines, 0, documentation.first_line - 1), _as_prose(documentation, lines)]
        start = documentation.last_line
    return [*items, *_laid_out(lines, symbols, start, len(lines), 1)]


# Any language


def _laid_out(
    lines: Sequence[str], symbols: Sequence[Symbol], start: int, end: int, level: int
) -> Iterator[Heading | Block]:
    """Yield what is in ``lines[start:end]``: the symbols, and the code before, between and after them."""
    for number, symbol in enumerate(symbols):
        lead = symbol.start
        while lead > start and (COMMENT.match(lines[lead - 1]) or ATTRIBUTE.match(lines[lead - 1])):
            lead -= 1
        size = sum(bool(line.strip()) for line in lines[start:lead])
        if number and 0 < size <= SMALL:
            lead = start
        else:
            yield from _between(lines, start, lead, level if number else 0)
        yield Heading(level, symbol.heading, symbol.line + 1, max(symbol.line + 1, symbol.body))
        yield from _leading(lines, lead, symbol.start)
        if symbol.whole or symbol.start < symbol.line:
            yield from _code(lines, symbol.start, max(symbol.body, symbol.line + 1) if symbol.whole else symbol.line)
        body = symbol.body
        if symbol.documentation:
            yield from _code(lines, body, symbol.documentation.first_line - 1)
            yield _as_prose(symbol.documentation, lines)
            body = symbol.documentation.last_line
        if symbol.inner:
            yield from _laid_out(lines, symbol.inner, body, symbol.end, level + 1)
        else:
            yield from _code(lines, body, symbol.end)
        start = symbol.end
    yield from _between(lines, start, end, level if symbols else 0)


def _between(lines: Sequence[str], start: int, end: int, level: int) -> Iterator[Heading | Block]:
    """Yield code that is in no symbol; after one (``level``) it has a heading of its own: what it begins with."""
    said = next((number for number in range(start, end) if not NOTHING_MUCH.fullmatch(lines[number])), None)
    if level and said is not None:
        code = (number for number in range(said, end) if lines[number].strip() and not COMMENT.match(lines[number]))
        first = next(code, said)
        yield Heading(level, _opening(lines[first]), first + 1, first + 1)
    yield from _plain(lines, start, end)


def _opening(line: str) -> str:
    """What a piece of code begins with: the name that it sets, else its first line."""
    name = re.match(r"\s*([A-Za-z_]\w*)\s*(?::[^=]+)?=(?!=)", line)
    return name[1] if name else " ".join(line.split())[:LINE_CHARACTERS]


def _leading(lines: Sequence[str], start: int, end: int) -> Iterator[Block]:
    """Yield what stands above a symbol: comments as prose, attributes and small things as code."""
    while start < end:
        is_comment = COMMENT.match(lines[start]) is not None
        stop = start + 1
        while stop < end and (COMMENT.match(lines[stop]) is not None) == is_comment:
            stop += 1
        block = source_block("code", lines, start, stop)
        if block:
            yield _uncommented(block) if is_comment else block
        start = stop


def _uncommented(block: Block) -> Block:
    """A comment without its marks, a line for each line; as it is if nothing else is in it."""
    rows = [COMMENT_END.sub("", COMMENT_MARK.sub("", line, count=1)).rstrip() for line in block.text.split("\n")]
    return (
        source_block("paragraph", [""] * (block.first_line - 1) + rows, block.first_line - 1, block.last_line) or block
    )


def _code(lines: Sequence[str], start: int, end: int) -> Iterator[Block]:
    block = source_block("code", lines, start, end)
    if block:
        yield block


def _plain(lines: Sequence[str], start: int, end: int) -> Iterator[Block]:
    """Yield ``lines[start:end]`` cut at blank lines below which the text is as far to the left as it gets."""
    margin = min((_indent(line) for line in lines[start:end] if line.strip()), default=0)
    first = start
    for number in range(start + 1, end):
        line = lines[number]
        starts = line.strip() and _indent(line) == margin and not NOTHING_MUCH.fullmatch(line)
        if starts and not lines[number - 1].strip():
            yield from _code(lines, first, number)
            first = number
    yield from _code(lines, first, end)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


# Python


def _python_symbols(text: str, lines: Sequence[str]) -> tuple[tuple[Symbol, ...], Block | None]:
    """The symbols of a Python module and its docstring; none where it is not valid Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes and comparisons that are not ours to mend
            tree = ast.parse(text)
        return _definitions(tree.body, lines), _docstring(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return (), None


def _definitions(body: Sequence[ast.stmt], lines: Sequence[str]) -> tuple[Symbol, ...]:
    return tuple(
        _symbol(node, lines) for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    )


def _symbol(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: Sequence[str]) -> Symbol:
    decorated = min((item.lineno for item in node.decorator_list), default=node.lineno)
    first = node.body[0]
    body = min([first.lineno, *(item.lineno for item in getattr(first, "decorator_list", ()))]) - 1
    end = node.end_lineno or node.lineno
    heading = _signature(node)
    if body < node.lineno:  # all on one line
        return Symbol(heading, decorated - 1, node.lineno - 1, node.lineno - 1, end)
    said = " ".join(" ".join(lines[node.lineno - 1 : body]).split()).rstrip(": ")
    inner = _definitions(node.body, lines) if isinstance(node, ast.ClassDef) else ()
    documentation = _docstring(node.body)
    return Symbol(heading, decorated - 1, node.lineno - 1, body, end, said != heading, documentation, inner)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str:
    """``def name(parameters) -> type`` on one line; of a long one the names of the parameters alone."""
    bare = copy(node)
    bare.body, bare.decorator_list = [], []
    text = ast.unparse(bare).strip().rstrip(":")
    if len(text) > SIGNATURE_CHARACTERS and not isinstance(node, ast.ClassDef):
        arguments = node.args
        names = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
        text = f"def {node.name}({', '.join(argument.arg for argument in names if argument)})"
    return text if len(text) <= SIGNATURE_CHARACTERS else f"{text[:SIGNATURE_CHARACTERS]}…"


def _docstring(body: Sequence[ast.stmt]) -> Block | None:
    """Where the docstring of a body is, as a block without text."""
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        alone = len(body) == 1 or body[1].lineno > (first.end_lineno or first.lineno)
        if alone:
            return Block("paragraph", "", first.lineno, first.end_lineno or first.lineno)
    return None


def _as_prose(place: Block, lines: Sequence[str]) -> Block:
    """A docstring as it reads: without its quotes and its indentation, a line for each line."""
    rows = [line.strip() for line in lines[place.first_line - 1 : place.last_line]]
    quotes = STRING_START.match(rows[0])
    if quotes:
        rows[0] = rows[0][quotes.end() :]
        rows[-1] = rows[-1].partition("#")[0].rstrip() if not rows[-1].endswith(quotes[1]) else rows[-1]
        rows[-1] = rows[-1].removesuffix(quotes[1]).rstrip()
    padded = [""] * (place.first_line - 1) + rows
    prose = source_block("paragraph", padded, place.first_line - 1, place.last_line)
    return prose or replace(place, text=" ".join(lines[place.first_line - 1 : place.last_line]).strip(), kind="code")
