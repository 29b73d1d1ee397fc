"""What tuning cost elsewhere: base and tuned model on a general set that has nothing to do with the corpus.

The set is the user's (``trainer.general_questions``), or is made from the docstrings of the Python that
runs: the first line of one asks for the rest. That is English about programming, not a benchmark, but it
is everywhere, and no pair of the corpus is about it. Reported, never gated: who tunes for one corpus may
well pay for it elsewhere.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from retrieval.columns import Columns
from retrieval.embedders import LocalEmbedder
from retrieval.errors import QuestionsError
from retrieval.records import Record, RecordError, jsonl_records
from retrieval.workspace import Workspace, home_expanded
from trainer.evaluation import dense_candidates, score_ranking
from trainer.questions import Question, load_questions
from trainer.statistics import Change, compare

__all__ = ["Forgetting", "GeneralSet", "general_set"]

MOST_QUESTIONS = 200
MOST_TEXTS = 500
MOST_CHARACTERS = 1_000
MIN_QUESTIONS = 20
DOCSTRINGS = "Python's docstrings"
# Pages of the standard library that are prose rather than tables of constants.
MODULES = (
    "argparse bisect calendar collections/__init__ configparser contextlib csv difflib functools gettext heapq inspect "
    "ipaddress json/__init__ logging/__init__ mailbox os pathlib pathlib/__init__ random shutil smtplib socket "
    "statistics string subprocess tarfile tempfile textwrap threading typing unittest/case urllib/request uuid weakref "
    "zipfile zipfile/__init__"
).split()


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The change of dense NDCG@10 on a general set, tuned against base."""

    source: str
    texts: int
    change: Change


@dataclass(frozen=True)
class GeneralSet:
    """Questions, each with the ids of the texts that answer it, and the texts by id."""

    source: str
    questions: Sequence[Question]
    texts: dict[str, str]

    def score(self, embedder: LocalEmbedder) -> tuple[float, ...]:
        """NDCG@10 of each question by dense search over the texts."""
        ids = list(self.texts)
        vectors = embedder.encode_documents(list(self.texts.values()))
        asked = embedder.encode_queries([question.text for question in self.questions])
        found = dense_candidates(asked, vectors, 10)
        return tuple(
            score_ranking([ids[number] for number in numbers.tolist()], question.relevant)["ndcg@10"]
            for question, (numbers, _) in zip(self.questions, found, strict=True)
        )

    def compare(self, before: Sequence[float], after: Sequence[float]) -> Forgetting:
        """What `score` said of the base against what it says of the tuned model."""
        return Forgetting(self.source, len(self.texts), compare(before, after))


def general_set(workspace: Workspace) -> GeneralSet | None:
    """The set of ``trainer.general_questions``, at most 200 questions over 500 texts, or Python's docstrings.

    None where neither is to be had: Python's own source may be left out of an installation.

    Raises:
        QuestionsError: the folder is not in BEIR's layout; the message names what is missing.
    """
    if workspace.trainer.general_questions:
        return _from_folder(workspace.root / home_expanded(workspace.trainer.general_questions))
    return _from_docstrings(Path(sysconfig.get_path("stdlib")))


def _from_folder(folder: Path) -> GeneralSet:
    corpus = folder / "corpus.jsonl"
    asked = load_questions(folder).all
    try:
        records = jsonl_records(corpus.read_text(encoding="utf-8-sig"), Columns())
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise QuestionsError(
            f"trainer.general_questions: {corpus} cannot be read ({error}); the folder needs corpus.jsonl, "
            "queries.jsonl and qrels"
        ) from None
    texts = {record.id: f"{record.title}\n{record.text}".strip() for record in records if isinstance(record, Record)}
    questions = [question for question in asked if any(unit in texts for unit in question.relevant)]
    if len(questions) < MIN_QUESTIONS:
        raise QuestionsError(
            f"trainer.general_questions: only {len(questions)} questions of {folder} have an answer in {corpus.name}; "
            f"at least {MIN_QUESTIONS} are wanted"
        )
    return _sample(folder.name, questions, texts)


@cache
def _from_docstrings(library: Path) -> GeneralSet | None:
    texts: dict[str, str] = {}
    questions: dict[str, Question] = {}
    for module in MODULES:
        file = library / f"{module}.py"
        if not file.is_file():
            continue
        for name, docstring in _docstrings(ast.parse(file.read_text(encoding="utf-8"))):
            first, _, rest = docstring.partition("\n\n")
            question, rest = " ".join(first.split()), " ".join(rest.split())
            told = question in questions or question in rest
            if 4 <= len(question.split()) <= 30 and len(rest.split()) >= 12 and not told:
                identifier = f"{module}:{name}"
                texts[identifier] = rest
                questions[question] = Question(identifier, question, {identifier: 1})
    return _sample(DOCSTRINGS, list(questions.values()), texts) if len(questions) >= MIN_QUESTIONS else None


def _docstrings(scope: ast.Module | ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node in scope.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if docstring := ast.get_docstring(node):
                yield f"{node.name}@{node.lineno}", docstring
            if isinstance(node, ast.ClassDef):
                yield from _docstrings(node)


def _sample(source: str, questions: Sequence[Question], texts: dict[str, str]) -> GeneralSet:
    """At most 200 questions, their answers, and other texts up to 500, the same each time."""
    generator = Random(0)
    asked = generator.sample(list(questions), min(MOST_QUESTIONS, len(questions)))
    kept = {unit for question in asked for unit in question.relevant if unit in texts}
    others = [identifier for identifier in texts if identifier not in kept]
    kept.update(generator.sample(others, min(len(others), max(0, MOST_TEXTS - len(kept)))))
    return GeneralSet(source, asked, {name: text[:MOST_CHARACTERS] for name, text in texts.items() if name in kept})
