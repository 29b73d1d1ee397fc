"""Questions to measure answers with: those the documents answer, and those they do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import QuestionsError
from retrieval.labels import read_qrels, read_queries

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
        QuestionsError: a file is missing or malformed; it is named, and the line or the question.
    """
    file = folder / "queries.jsonl"
    queries = read_queries(file)
    judged, others = folder / "qrels.tsv", []
    if not judged.is_file():
        judged = folder / "qrels" / "test.tsv"
        others = [path for path in sorted(judged.parent.glob("*.tsv")) if path != judged]
    if not judged.is_file():
        raise QuestionsError(f"{folder} has neither qrels.tsv nor qrels/test.tsv")
    relevant = read_qrels(judged, queries)
    elsewhere = {query for path in others for query in read_qrels(path)} - relevant.keys()
    questions = []
    for identifier, record in queries.items():
        answerable = record.get("answerable", True)
        if not isinstance(answerable, bool):
            raise QuestionsError(f"{file}: question {identifier!r}: answerable must be true or false")
        if identifier not in elsewhere:
            units = relevant.get(identifier, {}) if answerable else {}
            questions.append(Question(identifier, record["text"], frozenset(units)))
    if not questions:
        raise QuestionsError(f"{file} has no question")
    return questions
