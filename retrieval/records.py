"""Records of JSONL, CSV and TSV files, with the lines that hold them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Record", "RecordError", "csv_records", "json_records", "tsv_records"]

ID_COLUMNS = ("_id", "id")
TEXT_COLUMNS = ("text", "body", "content")
TITLE_COLUMN = "title"
QUESTION_ANSWER_COLUMNS = (
    ("question", "answer"),
    ("question", "accepted_answer"),
    ("query", "answer"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("subject", "resolution"),
    ("title", "answer"),
)
"""Where a record has no text: the pairs of columns that make it a question and its answer."""

FIELD_LIMIT = 2**31 - 1
"""The csv module refuses fields over 128 KiB unless told; this is the most a C long holds everywhere."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record: ``id`` is "" where it has none; ``row`` counts records (JSONL: lines) from 1."""

    id: str
    title: str
    text: str
    metadata: Mapping[str, str]
    row: int
    first_line: int
    last_line: int


class RecordError(Exception):
    """A record that cannot be used, or (raised) a file none of whose records can."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


def json_records(text: str) -> list[Record | RecordError]:
    """Return the records of a JSONL file, one a line; blank lines are passed over."""
    records: list[Record | RecordError] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            records.append(_json_record(line, number))
    return records


def _json_record(line: str, number: int) -> Record | RecordError:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        return RecordError(f"not valid JSON ({error.msg}, column {error.colno})", number)
    except (ValueError, RecursionError) as error:
        return RecordError(f"not valid JSON ({error})", number)
    if not isinstance(values, dict):
        return RecordError("not a JSON object", number)
    fields: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, str):
            fields[name.lower()] = _clean(value)
        elif name.lower() in ID_COLUMNS and isinstance(value, int):
            fields[name.lower()] = str(value)
    return _record(fields, number, number, number)


def csv_records(text: str) -> list[Record | RecordError]:
    """Return the records of a CSV file with a header row; the header tells ``,`` from ``;``, tab and ``|``.

    Raises:
        RecordError: the header names no column that holds text.
    """
    header = text.lstrip("\n").partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)
    return _table_records(_rows(text, delimiter, csv.QUOTE_MINIMAL))


def tsv_records(text: str) -> list[Record | RecordError]:
    """Return the records of a tab-separated file with a header row; by IANA's definition it has no quoting.

    Raises:
        RecordError: the header names no column that holds text.
    """
    return _table_records(_rows(text, "\t", csv.QUOTE_NONE))


def _table_records(rows: Iterator[tuple[int, int, list[str] | RecordError]]) -> list[Record | RecordError]:
    records: list[Record | RecordError] = []
    header: list[str] = []
    for first, last, values in rows:
        if isinstance(values, RecordError):
            records.append(values)
        elif not header:
            header = [name.strip().lower() for name in values]
            _check_header(header)
        else:
            fields = {name: _clean(value) for name, value in zip(header, values, strict=False)}
            records.append(_record(fields, len(records) + 1, first, last))
    return records


def _rows(text: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[tuple[int, int, list[str] | RecordError]]:
    """Yield (first line, last line, fields or what is wrong) for each row that is not blank."""
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, reader.line_num, RecordError(f"not valid CSV ({error})", first)
            continue
        if any(value.strip() for value in values):
            yield first, reader.line_num, values


def _check_header(header: Sequence[str]) -> None:
    if any(name in header for name in TEXT_COLUMNS):
        return
    if any(question in header and answer in header for question, answer in QUESTION_ANSWER_COLUMNS):
        return
    names = ", ".join(header)[:200]
    wanted = " or ".join(TEXT_COLUMNS)
    raise RecordError(f"no text column among {names}; name one {wanted}, or a pair question and answer")


def _record(fields: Mapping[str, str], row: int, first: int, last: int) -> Record | RecordError:
    """Make a record of lower-case column names and their text, by BEIR's columns or a question and its answer."""
    used = set(ID_COLUMNS)
    id = next((fields[name].strip() for name in ID_COLUMNS if fields.get(name, "").strip()), "")
    body = next((name for name in TEXT_COLUMNS if name in fields), "")
    metadata: dict[str, str] = {}
    if body:
        title, text = fields.get(TITLE_COLUMN, ""), fields[body]
        used |= {TITLE_COLUMN, body}
    else:
        pair = next((p for p in QUESTION_ANSWER_COLUMNS if p[0] in fields and p[1] in fields), None)
        if pair is None:
            return RecordError("no text", first)
        title, text = fields[pair[0]], fields[pair[1]]
        metadata["question"] = title.strip()
        used |= set(pair)
    title = " ".join(title.split())
    if not text.strip() and not title:
        return RecordError("no text", first)
    metadata.update((name, value) for name, value in fields.items() if name not in used and value)
    return Record(id, title, text.strip("\n"), metadata, row, first, last)


def _clean(value: str) -> str:
    """``value`` with line feeds as line ends, and U+FFFD for NUL and lone surrogates, which UTF-8 cannot hold."""
    value = value.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    try:
        value.encode()
    except UnicodeEncodeError:
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value
