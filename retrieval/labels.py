"""Questions and what answers them, read from files in BEIR's layout (github.com/beir-cellar/beir)."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from retrieval.errors import QuestionsError

__all__ = ["read_qrels", "read_queries"]


def read_queries(file: Path) -> dict[str, dict[str, Any]]:
    """Read ``queries.jsonl``; return its records by ``_id``, their ``text`` stripped.

    Raises:
        QuestionsError: the file is missing or malformed, or an id appears twice; file and line are named.
    """
    if not file.is_file():
        raise QuestionsError(f"{file} is missing; questions need queries.jsonl with _id and text on each line")
    found: dict[str, dict[str, Any]] = {}
    for number, line in _lines(file):
        try:
            record = json.loads(line)
            identifier, text = str(record["_id"]), record["text"].strip()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise QuestionsError(f"{file}:{number}: not a JSON object with _id and text, a string") from None
        try:
            f"{identifier}{text}".encode()
        except UnicodeEncodeError as error:
            # JSON can say half of a pair of UTF-16, which is no character.
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise QuestionsError(f"{file}:{number}: {half} is half of a character; leave it out") from None
        if not text:
            raise QuestionsError(f"{file}:{number}: question {identifier!r} has no text")
        if identifier in found:
            raise QuestionsError(f"{file}:{number}: question {identifier!r} appears twice")
        found[identifier] = {**record, "text": text}
    return found


def read_qrels(file: Path, queries: Collection[str] | None = None) -> dict[str, dict[str, int]]:
    """Read a file of relevance judgments: query-id, corpus-id and a score, tab-separated, with or without a header.

    Args:
        file: such as ``qrels.tsv``.
        queries: the ids there are; None: any may be named.

    Returns:
        By query the corpus-ids that score more than 0, and how much; empty where none does.

    Raises:
        QuestionsError: the file is malformed, or names a query that there is not; file and line are named.
    """
    found: dict[str, dict[str, int]] = {}
    scores: dict[tuple[str, str], int] = {}
    for number, line in _lines(file):
        row = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if number == 1 and row[0] == "query-id":
            continue
        try:
            query, unit, score = row[0], row[1], int(row[2])
        except (IndexError, ValueError):
            wanted = "query-id, corpus-id and a whole score, tab-separated"
            raise QuestionsError(f"{file}:{number}: wanted {wanted}") from None
        if queries is not None and query not in queries:
            raise QuestionsError(f"{file}:{number}: query-id {query!r} is not in queries.jsonl")
        if scores.setdefault((query, unit), score) != score:
            two = f"the score {scores[query, unit]} above, and {score} here"
            raise QuestionsError(f"{file}:{number}: query-id {query!r} and corpus-id {unit!r} have {two}; keep one")
        relevant = found.setdefault(query, {})
        if score > 0:
            relevant[unit] = score
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers."""
    try:
        # Not splitlines(): a question may hold U+2028 and the like.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise QuestionsError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise QuestionsError(f"{file} cannot be read: {error.strerror}") from None
    yield from ((number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip())
