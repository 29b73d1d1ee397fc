"""Questions to measure answers with: those the documents answer, and those they do not."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import QuestionsError

__all__ = ["Question", "read_questions"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the units that answer it: document ids, or those plus ``#`` and a heading; none: unanswerable."""

    id: str
    text: str
    relevant: frozenset[str]


def read_questions(folder: Path) -> list[Question]:
    """Read ``queries.jsonl`` with ``qrels.tsv``, or with ``qrels/test.tsv``, in BEIR's layout.

    Unanswerable is what ``"answerable": false`` marks in ``queries.jsonl``, and what no qrels file finds anything
    relevant for. Questions that only another file of ``qrels/`` knows (BEIR's train and dev) are left out.

    Raises:
        QuestionsError: a file is missing or malformed; file and line are named.
    """
    queries = folder / "queries.jsonl"
    judged, others = folder / "qrels.tsv", []
    if not judged.is_file():
        judged = folder / "qrels" / "test.tsv"
        others = [file for file in sorted(judged.parent.glob("*.tsv")) if file != judged]
    for file in (queries, judged):
        if not file.is_file():
            raise QuestionsError(f"{file} is missing; wanted queries.jsonl, and qrels.tsv or qrels/test.tsv")
    relevant = _relevant(judged)
    elsewhere = {query for file in others for query in _relevant(file)} - relevant.keys()
    questions = []
    for identifier, text, answerable in _queries(queries):
        units = relevant.pop(identifier, set())
        if identifier not in elsewhere:
            questions.append(Question(identifier, text, frozenset(units if answerable else ())))
    if relevant:
        raise QuestionsError(f"{judged}: query-id {next(iter(relevant))!r} is not in queries.jsonl")
    if not questions:
        raise QuestionsError(f"{queries} has no question")
    return questions


def _queries(file: Path) -> Iterator[tuple[str, str, bool]]:
    for number, line in _lines(file):
        try:
            record: dict[str, Any] = json.loads(line)
            identifier, text = str(record["_id"]), str(record["text"]).strip()
            answerable = record.get("answerable", True)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise QuestionsError(f"{file}:{number}: not a JSON object with _id and text") from None
        if not text or not isinstance(answerable, bool):
            raise QuestionsError(f"{file}:{number}: wanted a text that is not empty, and answerable true or false")
        yield identifier, text, answerable


def _relevant(file: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for number, line in _lines(file):
        row = next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))
        if number == 1 and row[0] == "query-id":
            continue
        try:
            query, unit, score = row[0], row[1], int(row[2])
        except (IndexError, ValueError):
            wanted = "query-id, corpus-id and a whole score, tab-separated"
            raise QuestionsError(f"{file}:{number}: wanted {wanted}") from None
        found.setdefault(query, set()).update({unit} if score > 0 else ())
    return found


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        # Not splitlines(): a question may hold U+2028 and the like.
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise QuestionsError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise QuestionsError(f"{file} cannot be read: {error.strerror}") from None
    yield from ((number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip())
