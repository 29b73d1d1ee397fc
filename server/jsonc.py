"""Put one value into a JSON file that people edit, and change nothing else of it: comments, order, spacing stay.

Understands what editors do: ``//`` and ``/* */`` comments, commas at the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["JsoncError", "value_at", "with_value"]

_GAP = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_ATOM = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"|-?\d[\d.eE+-]*|true|false|null')
_DEEPEST = 100


class JsoncError(ValueError):
    """The text is no JSON, or its shape is another than was expected; the message is part of a sentence."""


@dataclass(slots=True)
class _Node:
    """A value: where it stands in the text and, of an object, its members."""

    start: int
    end: int = 0
    members: dict[str, _Node] | None = None
    pieces: list[str] = field(default_factory=list)


def value_at(text: str, path: Sequence[str]) -> object:
    """The value that ``path`` leads to; None where there is none.

    Raises:
        JsoncError: ``text`` is no JSON.
    """
    node: _Node | None = _parsed(text)
    for key in path:
        node = (node.members or {}).get(key) if node is not None else None
    return None if node is None else json.loads("".join(node.pieces))


def with_value(text: str, path: Sequence[str], value: object) -> str:
    """``text`` with ``value`` at ``path``: in the place of what is there, or first in the innermost object there is.

    Raises:
        JsoncError: ``text`` is no JSON, or what should hold the value is no object.
    """
    text = text if text.strip() else "{}\n"
    node = _parsed(text)
    for depth, key in enumerate(path):
        if node.members is None:
            raise JsoncError(f"{'.'.join(path[:depth]) or 'it'} is no object")
        child = node.members.get(key)
        if child is None:
            for name in reversed(path[depth + 1 :]):
                value = {name: value}
            return _inserted(text, node, key, value, depth)
        node = child
    indent = _indent_at(text, node.start)
    return text[: node.start] + _dumped(value, indent, _step(text)) + text[node.end :]


def _inserted(text: str, node: _Node, key: str, value: object, depth: int) -> str:
    step = _step(text)
    outer = _indent_at(text, node.start)
    inner = outer + step
    member = f"{json.dumps(key, ensure_ascii=False)}: {_dumped(value, inner, step)}"
    rest = text[node.start + 1 :]
    if node.members:
        # One that is written on a single line stays readable with its old members below the new one.
        gap = "" if re.match(r"[ \t]*\r?\n", rest) else f"\n{inner}"
        return f"{text[: node.start + 1]}\n{inner}{member},{gap}{rest.lstrip(' ') if gap else rest}"
    inside = text[node.start + 1 : node.end - 1]
    close = f"\n{outer}" if not inside.strip() else inside
    return f"{text[: node.start + 1]}\n{inner}{member}{close}{text[node.end - 1 :]}"


def _dumped(value: object, indent: str, step: str) -> str:
    return json.dumps(value, ensure_ascii=False, indent=step).replace("\n", f"\n{indent}")


def _indent_at(text: str, place: int) -> str:
    """The blanks that the line of ``place`` begins with."""
    line = text[text.rfind("\n", 0, place) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _step(text: str) -> str:
    """How far the text indents its first line that is indented."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _parsed(text: str) -> _Node:
    node = _value(text, _skip(text, 1 if text.startswith("\ufeff") else 0), 0)
    if (rest := _skip(text, node.end)) != len(text):
        raise _wrong(text, rest)
    return node


def _value(text: str, place: int, depth: int) -> _Node:
    if depth > _DEEPEST:
        raise JsoncError("it is nested too deep")
    opening = text[place : place + 1]
    if opening in ("{", "["):
        return _container(text, place, depth, opening)
    match = _ATOM.match(text, place)
    try:
        json.loads(match[0] if match else "")
    except ValueError:
        raise _wrong(text, place) from None
    assert match is not None
    return _Node(place, match.end(), pieces=[match[0]])


def _container(text: str, place: int, depth: int, opening: str) -> _Node:
    is_object, closing = opening == "{", "}" if opening == "{" else "]"
    node = _Node(place, members={} if is_object else None, pieces=[opening])
    place = _skip(text, place + 1)
    while text[place : place + 1] != closing:
        if len(node.pieces) > 1:
            node.pieces.append(",")
        key = ""
        if is_object:
            name = _value(text, place, depth + 1)
            if text[place : place + 1] != '"':
                raise _wrong(text, place)
            key = json.loads(name.pieces[0])
            place = _skip(text, name.end)
            if text[place : place + 1] != ":":
                raise _wrong(text, place)
            node.pieces += [name.pieces[0], ":"]
            place = _skip(text, place + 1)
        child = _value(text, place, depth + 1)
        if node.members is not None:
            node.members[key] = child
        node.pieces += child.pieces
        place = _skip(text, child.end)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != closing:
            raise _wrong(text, place)
    node.pieces.append(closing)
    node.end = place + 1
    return node


def _skip(text: str, place: int) -> int:
    match = _GAP.match(text, place)
    assert match is not None
    return match.end()


def _wrong(text: str, place: int) -> JsoncError:
    line = text.count("\n", 0, place) + 1
    return JsoncError(f"it is not JSON: line {line} has something unexpected, or ends too early")
