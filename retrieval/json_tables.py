"""The objects in JSON that are records, wherever they stand, and their fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from retrieval.columns import OF_A_SCHEME, Columns, Roles, by_name, is_apart, is_part, normal_name
from retrieval.tables import RawRecord, RecordError, clean, plain

__all__ = ["json_rows", "jsonl_rows"]

DEPTH = 3
"""Objects that may stand around the records, and arrays within one another that belong to a record."""
SAMPLE = 10
"""So many objects of an array tell whether it is one of records."""
MOST_FIELDS = 200
"""An object with more fields of its own says itself what it is about."""
KEYED = 2
"""So many objects under names of their own may be records that go by these names."""
COMPARED_CHARACTERS = 2**16
"""So much of a record's own text is searched for what its arrays say, so that many in a long one make nobody wait."""
GROUP = "category"
GROUPS = (GROUP, "name", "title", "section", "topic", "group", "label", "heading")
"""What records go by together, in an object around them; the first is what each of them is told to be of."""
GROUP_CHARACTERS = 100
CONTAINERS = frozenset(
    "results items data entries records rows list hits docs documents values content objects nodes edges".split()
)
"""What arrays are called whatever is in them."""
WORD = re.compile(r"[^\W\d_]{3}|[^\W\d_a-zA-Z]{2}")
"""What no id or date has: nobody is helped to know what they group."""
SPACE = re.compile(r"[ \t\n\r]*")
DECODER = json.JSONDecoder()

OF_RECORD, WHOLE, BY_KEY, ARRAY = range(4)
"""What objects may be, the likelier to be the records the later: a record's comments, all of the file, …"""
Rows = list[RawRecord | RecordError]
Step = str | tuple[str, ...] | frozenset[str] | None
Path = tuple[Step, ...]
"""The way from the outermost value to others: a name in objects, or any of several there (in a set they are names of
groups), or None for each item of an array or object."""


@dataclass(slots=True)
class _Table:
    """How many objects stand at a path, how many of the first have columns that are known, and one's roles."""

    kind: int
    objects: int = 0
    recognised: int = 0
    roles: Roles | None = None

    @property
    def known(self) -> bool:
        """Whether half of the objects are records; under names of their own, more than half."""
        return 2 * self.recognised >= min(self.objects, SAMPLE) + (self.kind == BY_KEY)


def jsonl_rows(text: str, columns: Columns) -> Rows:
    """Return the records of a JSONL file, one a line; blank lines are passed over."""
    return [_line_row(line, number, columns) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def json_rows(text: str, columns: Columns) -> Rows:
    """Return the records of a JSON file; one of several values, one a line, is read as JSONL.

    They are the objects of an array whose columns have known names, or those that an object holds by their keys, or
    else the whole file, or the longest array. Where arrays within arrays are the records, they are all of these.

    Raises:
        RecordError: it is not valid JSON, or has no objects.
    """
    start = _space(text, 0)
    try:
        whole, end = DECODER.raw_decode(text, start)
        if _space(text, end) < len(text):
            if "\n" in text[start:end]:
                raise json.JSONDecodeError("Extra data", text, end)
            return jsonl_rows(text, columns)
    except json.JSONDecodeError as error:
        raise RecordError(f"not valid JSON ({error.msg}, line {error.lineno})") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not valid JSON ({error})") from None
    path, others = _best(whole, columns)
    del whole  # the records are decoded again, with their places
    rows: Rows = list(_placed(text, start, path, columns))
    if others:
        rows.append(RecordError(f"{others} records in other arrays are not read; give each array a file of its own"))
    return rows


def _line_row(line: str, number: int, columns: Columns) -> RawRecord | RecordError:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        return RecordError(f"not valid JSON ({error.msg}, column {error.colno})", number)
    except (ValueError, RecursionError) as error:
        return RecordError(f"not valid JSON ({error})", number)
    if not isinstance(values, dict):
        return RecordError("not a JSON object", number)
    return _row(values, "", columns, number, number, number)


# Where the records are


def _best(whole: Any, columns: Columns) -> tuple[Path, int]:
    """The path of the records in a file's value, and how many others there are."""
    tables: dict[Path, _Table] = {}
    if isinstance(whole, dict):
        _count(tables, (), WHOLE, whole, columns)
    _survey(whole, (), 0, columns, tables, False)
    record = tables[()].roles if () in tables else None
    for path, table in tables.items():
        # What has an id is a record with its notes and files; what has none may be a file of notes that have titles.
        if table.kind == OF_RECORD and table.roles and None not in path[:-1]:
            table.kind = OF_RECORD if record and (record.id or not table.roles.title) else ARRAY
    # Nobody can tell what is unknown within what is unknown.
    found = {
        path: table for path, table in tables.items() if table.known or (table.kind != BY_KEY and None not in path[:-1])
    }
    if not found:
        raise RecordError("no array of objects")
    best = max(found, key=lambda path: (found[path].known, found[path].kind, found[path].objects))
    alike = [path for path in found if path == best or _beside(path, found[path], best, found[best])]
    apart = (table for path, table in found.items() if table.kind != WHOLE and path[: len(best)] not in alike)
    return tuple(map(_either, zip(*alike, strict=True))), sum(table.objects for table in apart if table.known)


def _beside(path: Path, table: _Table, other: Path, others: _Table) -> bool:
    """Whether records of one kind are at both paths, in arrays that objects beside each other call differently."""
    if len(path) != len(other) or table.kind != others.kind or not (table.known and table.roles and others.roles):
        return False
    apart = [place for place, (name, known) in enumerate(zip(path, other, strict=True)) if name != known]
    alike = replace(table.roles, id="", own_id=False) == replace(others.roles, id="", own_id=False)
    if not alike or len(apart) != 1 or None in (path[apart[0]], other[apart[0]]):
        return False
    return path[: apart[0]][-1:] == (None,)


def _either(steps: Sequence[Step]) -> Step:
    """A step for those of several paths at one place."""
    if len(set(steps)) == 1:
        return steps[0]
    names = [name for step in steps for name in ([step] if isinstance(step, str) else step or ())]
    return frozenset(names) if any(isinstance(step, frozenset) for step in steps) else tuple(names)


def _survey(value: Any, path: Path, depth: int, columns: Columns, tables: dict[Path, _Table], in_record: bool) -> None:
    """Count in ``tables`` the objects within ``value``; what belongs to one that is a record is not looked at.

    ``in_record``: an object around it has the fields of a record, so that objects by their names are parts of that.
    """
    if depth > DEPTH:
        return
    if isinstance(value, list):
        column = normal_name(path[-1]) if path and isinstance(path[-1], str) else ""
        kind = OF_RECORD if is_part(column) or is_apart(column) else ARRAY
        for item in value:
            if isinstance(item, dict) and not _count(tables, (*path, None), kind, item, columns):
                _survey(item, (*path, None), depth + 1, columns, tables, in_record)
    elif isinstance(value, dict):
        in_record = in_record or by_name(tuple(_flat(value)), columns) is not None
        by_key = not in_record and sum(isinstance(member, dict) for member in value.values()) >= KEYED
        grouped = frozenset() if in_record else _grouped(value, columns)
        for name, member in value.items():
            if name in grouped:
                _survey(member, (*path, grouped), depth + 1, columns, tables, in_record)
            elif not (by_key and isinstance(member, dict)):
                _survey(member, (*path, name), depth + 1, columns, tables, in_record)
            elif not _count(tables, (*path, None), BY_KEY, member, columns):
                _survey(member, (*path, None), depth + 1, columns, tables, in_record)


def _grouped(value: Mapping[str, Any], columns: Columns) -> frozenset[str]:
    """The names of the arrays in an object that hold records of one kind, set apart by what they are about."""
    kinds: dict[str, Roles] = {}
    for name, member in value.items():
        column = normal_name(name)
        first = member[0] if isinstance(member, list) and member else None
        if isinstance(first, dict) and not is_part(column) and not is_apart(column):
            if roles := by_name(tuple(_fields(first, columns)[0]), columns):
                kinds[name] = roles
    alike = len(kinds) >= KEYED and len(set(kinds.values())) == 1
    return frozenset(kinds) if alike and CONTAINERS.isdisjoint(map(normal_name, kinds)) else frozenset()


def _count(tables: dict[Path, _Table], path: Path, kind: int, item: Mapping[str, Any], columns: Columns) -> bool:
    """Count an object at ``path``; whether it is a record, as far as it matters: it may hold others if it is none."""
    table = tables.setdefault(path, _Table(kind))
    table.objects += 1
    holds = any(isinstance(value, dict | list) for value in item.values())
    roles = by_name(tuple(_fields(item, columns)[0]), columns) if holds or table.objects <= SAMPLE else None
    table.roles = table.roles or roles
    table.recognised += roles is not None and table.objects <= SAMPLE
    return roles is not None or not holds


def _placed(text: str, position: int, path: Path, columns: Columns) -> Iterator[RawRecord]:
    """The objects at ``path`` as rows, positions as lines."""
    line, counted = 1, 0
    for number, (name, value, start, end, group, place) in enumerate(_at(text, position, path), 1):
        line += text.count("\n", counted, start)
        counted = start
        if isinstance(value, dict):
            last = line + text.count("\n", start, end)
            values = {**value, GROUP: group} if group and GROUP not in value else value
            yield replace(_row(values, name or "", columns, number, line, last), place=place)


def _at(
    text: str, position: int, path: Path, group: str = "", place: str = ""
) -> Iterator[tuple[str | None, Any, int, int, str, str]]:
    """The values at ``path`` from the one at ``position``.

    Each with its name, itself, where it begins and ends, what groups it, and the names or numbers of what is around it.
    """
    if not path:
        value, end = DECODER.raw_decode(text, position)
        yield None, value, position, end, group, place
        return
    wanted, *rest = path
    for number, (name, value, start, end) in enumerate(_members(text, position), 1):
        if wanted is None or name == wanted or (not isinstance(wanted, str) and name in wanted):
            if not rest:
                yield name, value, start, end, group, place
            elif isinstance(wanted, str | tuple):
                yield from _at(text, start, tuple(rest), group, place)
            else:
                inner = ": ".join(part for part in (group, _group(name, value)) if part)
                yield from _at(text, start, tuple(rest), inner, f"{place}{name or number}/")


def _group(name: str | None, value: Any) -> str:
    """What the records within a member of an array or object are about: as it says itself, or is called, or ""."""
    said = [value[column] for column in GROUPS if isinstance(value.get(column), str)] if isinstance(value, dict) else []
    words = next((words for words in (*said, name or "") if words.strip()), "")
    return words if len(words) <= GROUP_CHARACTERS and WORD.search(words) else ""


def _members(text: str, position: int) -> Iterator[tuple[str | None, Any, int, int]]:
    """The members of an array or object: their names, values and places; the decoder does not say where they are."""
    opening = text[position]
    if opening not in "[{":
        return
    position = _space(text, position + 1)
    while text[position] not in "]}":
        name = None
        if opening == "{":
            name, end = DECODER.raw_decode(text, position)
            position = _space(text, _space(text, end) + 1)
        value, end = DECODER.raw_decode(text, position)
        yield name, value, position, end
        position = _space(text, end)
        if text[position] == ",":
            position = _space(text, position + 1)


def _space(text: str, position: int) -> int:
    match = SPACE.match(text, position)
    assert match
    return match.end()


# What they say


def _row(values: Mapping[str, Any], key: str, columns: Columns, row: int, first: int, last: int) -> RawRecord:
    """A record, ``key`` being what it is called where it stands, with the texts of its arrays below its own."""
    fields, inner = _fields(values, columns)
    if key:
        fields = {"key" if OF_A_SCHEME.fullmatch(key) else "uid": key, **fields}
    # Settings have the first word.
    if columns.text or columns.title:
        return RawRecord(fields, row, first, last)
    roles = by_name(tuple(fields), columns)
    has_text = _has_text(fields, roles)
    below = (*_below(values, DEPTH, has_text), *_below(inner, DEPTH, has_text))
    if below:
        texts = roles.texts if roles else ("text",)
        own = "\n\n".join(plain(fields.get(name, "")) for name in texts)[:COMPARED_CHARACTERS]
        new = (text for text in below if text not in own)
        fields[texts[-1]] = "\n\n".join(text for text in (plain(fields.get(texts[-1], "")), *new) if text)
    return RawRecord(fields, row, first, last)


def _fields(values: Mapping[str, Any], columns: Columns) -> tuple[dict[str, str], Mapping[str, Any]]:
    """The fields of a record, and the object in it that says what it is about where it does not do so itself.

    So do Jira's ``fields``, Elasticsearch's ``_source``, JSON:API's ``attributes`` and GraphQL's ``node``.
    """
    fields = _flat(values)
    if len(fields) <= MOST_FIELDS and by_name(tuple(fields), columns) is None:
        objects = (
            value for name, value in values.items() if isinstance(value, dict) and not is_apart(normal_name(name))
        )
        for inner in islice(objects, SAMPLE):
            both = fields | {name: value for name, value in _flat(inner).items() if not fields.get(name)}
            if by_name(tuple(both), columns) is not None:
                return both, inner
    return fields, {}


def _flat(values: Mapping[str, Any]) -> dict[str, str]:
    """What is text, number or a list of these; of names that are one, the first that holds anything counts."""
    fields: dict[str, str] = {}
    for name, value in values.items():
        several = value if isinstance(value, list) else [value]
        texts = [
            item if isinstance(item, str) else json.dumps(item)
            for item in several
            if isinstance(item, str | int | float)
        ]
        if texts and not fields.get(column := normal_name(name)):
            fields[column] = clean("\n\n".join(texts))
    return fields


def _has_text(fields: Mapping[str, str], roles: Roles | None) -> bool:
    """Whether an object says something itself, its arrays left out."""
    return roles is not None and any(fields.get(name) for name in roles.texts)


def _below(values: Mapping[str, Any], depth: int, has_text: bool) -> Iterator[str]:
    """The texts of the objects in a record's arrays, in their order: comments, replies, steps.

    Beside a text of the record's own (``has_text``) other arrays are of what is related to it, or was it once.
    """
    for name, value in values.items() if depth else ():
        column = normal_name(name)
        if is_apart(column) or (has_text and not is_part(column)):
            continue
        if isinstance(value, dict) and is_part(column):
            yield from _below(value, depth - 1, False)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict):
                fields = _flat(item)
                roles = by_name(tuple(fields), Columns())
                if roles:
                    yield from (text for part in (roles.title, *roles.texts) if (text := plain(fields.get(part, ""))))
                yield from _below(item, depth - 1, _has_text(fields, roles))
