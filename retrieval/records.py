"""Records of JSON, JSONL, CSV and TSV files and of Excel's sheets, with the lines or rows that hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from retrieval.columns import (
    FLAGS,
    NOTHING,
    Columns,
    Roles,
    by_code,
    by_content,
    by_name,
    code_column,
    is_code,
    label,
    name_columns,
    value_columns,
)
from retrieval.json_tables import json_rows, jsonl_rows
from retrieval.tables import Line, RawRecord, RecordError, csv_lines, plain, table_of, tsv_lines
from retrieval.words import QUESTION_MARKS

if TYPE_CHECKING:
    from retrieval.sheets import Row

__all__ = ["Record", "RecordError", "csv_records", "json_records", "jsonl_records", "sheet_records", "tsv_records"]

TAGGED = re.compile(r"(?:<[^<>\s/]+>)+")


@dataclass(frozen=True, slots=True)
class Record:
    """One record: ``id`` is "" where it has none; ``row`` counts records (JSONL: lines) from 1.

    ``own_id``: the id counts within its file only. ``question`` is what its text answers, "" where none is asked.
    ``place``: what the groups around it in its file are called, each with a slash after it.
    """

    id: str
    title: str
    text: str
    row: int
    first_line: int
    last_line: int
    own_id: bool = False
    question: str = ""
    place: str = ""


Records = list[Record | RecordError]


def jsonl_records(text: str, columns: Columns) -> Records:
    """Return the records of a JSONL file, one a line.

    Raises:
        RecordError: a column of the settings is not there. Here and below.
    """
    return _records(jsonl_rows(text, columns), columns)


def json_records(text: str, columns: Columns) -> Records:
    """Return the records of a JSON file; see `json_rows`.

    Raises:
        RecordError: it is not valid JSON, or has no objects.
    """
    return _records(json_rows(text, columns), columns)


def csv_records(text: str, columns: Columns) -> Records:
    """Return the records of a CSV file; its header, or a line ``sep=`` above, tells ``,`` from ``;``, tab and ``|``.

    Raises:
        RecordError: no column holds text.
    """
    return _of_table(csv_lines(text), columns)


def tsv_records(text: str, columns: Columns) -> Records:
    """Return the records of a tab-separated file.

    Raises:
        RecordError: no column holds text.
    """
    return _of_table(tsv_lines(text), columns)


def sheet_records(rows: Sequence[Row], columns: Columns) -> Records:
    """Return the records of a sheet; ``row`` and the lines of each are the number of its row in the sheet.

    Raises:
        RecordError: no column holds text.
    """
    found = _of_table([(number, number, cells) for number, cells in rows], columns)
    return [replace(item, row=item.first_line) if isinstance(item, Record) else item for item in found]


def _of_table(lines: Iterable[Line], columns: Columns) -> Records:
    table = table_of(lines, columns)
    return _records(table.rows, columns, table.header)


def _records(rows: Sequence[RawRecord | RecordError], columns: Columns, header: tuple[str, ...] = ()) -> Records:
    """Make records of rows: by the settings, by the names of the columns, or by what they hold.

    A table has one ``header``, so one without text is an error; a row of JSON has its own names.
    """
    good = [row for row in rows if isinstance(row, RawRecord)]
    names = header or dict.fromkeys(name for row in good for name in row.fields)
    if good and (missing := columns.missing(names)):
        raise RecordError(f"{missing} is no column of it; it has {_listed(names)}; correct it under [corpus.NAME]")
    by_names = [by_name(header or tuple(row.fields), columns) for row in good]
    extras = _Extras.of([row.fields for row in good], columns)
    unknown = [row.fields for row, known in zip(good, by_names, strict=True) if known is None]
    guessed = None
    if len(unknown) > len(good) / 2:
        others = [{name: value for name, value in row.items() if name not in extras.names} for row in unknown]
        guessed = by_content(others, columns) or by_code(others, extras.code, columns) or by_content(unknown, columns)
    if header and not guessed and not by_name(header, columns):
        wanted = "name one text or body, a pair question and answer, or set text_columns under [corpus.NAME]"
        raise RecordError(f"no text column among {_listed(names)}; {wanted}")
    found: Records = []
    known = iter(by_names)
    for item in rows:
        if isinstance(item, RecordError):
            found.append(item)
        else:
            found.append(_record(item, next(known) or guessed, extras))
    return _unique_own_ids(found)


@dataclass(frozen=True, slots=True)
class _Extras:
    """The columns beside title and text that people may search a record by: its code ("": none), names and values."""

    code: str = ""
    names: tuple[str, ...] = ()
    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], columns: Columns) -> _Extras:
        """None of a table whose settings say what is text or title: they have the first word."""
        if columns.text or columns.title:
            return cls()
        code, names = code_column(rows), name_columns(rows)
        return cls(code, names, tuple(name for name in value_columns(rows) if name != code and name not in names))


def _record(row: RawRecord, roles: Roles | None, extras: _Extras) -> Record | RecordError:
    if roles is None:
        return RecordError("no text", row.first_line)
    fields = row.fields
    question = fields.get(roles.title, "")
    title = " ".join(plain(question).split())
    texts = [plain(fields[name]).strip("\n") for name in roles.texts if fields.get(name, "").strip()]
    cut_short = bool(roles.texts) and not any(name in fields for name in roles.texts)
    if not texts and (not title or cut_short):
        return RecordError("no text", row.first_line)
    said = {roles.title, *roles.texts}
    labelled = [name for name in (*extras.names, *extras.values) if name not in (*said, roles.id)]
    code = fields.get(extras.code, "").strip() if extras.code and extras.code not in said else ""
    said_before = code in title and re.search(rf"(?<!\w){re.escape(code)}(?!\w)", title)
    if is_code(code) and not said_before:
        if roles.question or title.endswith(QUESTION_MARKS):
            labelled.append(extras.code)  # before a question it would be no question
        else:
            title = f"{code}: {title}" if title else code
    for name in labelled:
        line = _on_a_line(fields.get(name, ""))
        if line.casefold() not in (*NOTHING, *(FLAGS if name in extras.names else ())):
            texts.append(f"{label(name)}: {line}")
    id = fields.get(roles.id, "").strip()
    own_id, asked = roles.own_id and bool(id), question.strip() if roles.question else ""
    return Record(id, title, "\n\n".join(texts), row.row, row.first_line, row.last_line, own_id, asked, row.place)


def _unique_own_ids(records: Records) -> Records:
    """``records``, without the ids that count in their file only if not every record has its own there."""
    own = [record for record in records if isinstance(record, Record) and record.own_id]
    if len({record.id for record in own}) == len(own):
        return records
    return [
        replace(item, id="", own_id=False) if isinstance(item, Record) and item.own_id else item for item in records
    ]


def _on_a_line(value: str) -> str:
    """A cell on one line; Stack Exchange's "<a><b>" is a list."""
    lines = value.strip()[1:-1].split("><") if TAGGED.fullmatch(value.strip()) else plain(value).split("\n")
    return "; ".join(" ".join(line.split()) for line in lines if line.strip())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)[:200]
