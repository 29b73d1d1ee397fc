"""Questions with known answers, in BEIR's layout, and their split into dev and test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from unicodedata import normalize

from retrieval.errors import QuestionsError
from retrieval.labels import read_qrels, read_queries
from retrieval.passages import Passage

__all__ = [
    "MINED_EVIDENCE",
    "Question",
    "QuestionSet",
    "Unit",
    "answerable",
    "by_answers",
    "document_of",
    "kept_apart",
    "left_out_told",
    "load_questions",
    "path_unit",
    "said",
    "split_questions",
    "unit_of",
]

DEV_SHARE = 0.3
HEADING_MARK = "#"
MINED_EVIDENCE = "questions mined from held-out documents"
# The ends of words alone, and no + or #: C++ and C# are not C.
_OPENING, _CLOSING = "\"'([{«„“‘¿¡", "\"')]}»“”’.,;:!?…。？！،؟।"

Unit = str
"""What is judged: a document id, or a document id plus ``#`` and a heading."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the graded relevance (> 0) of the units that answer it."""

    id: str
    text: str
    relevant: Mapping[Unit, int]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Dev questions choose, test questions judge; ``evidence`` says where they come from."""

    dev: tuple[Question, ...]
    test: tuple[Question, ...]
    evidence: str
    seed: int | None = None
    """Of the split; None where the questions came with one."""
    repeated: int = 0
    """How many more there were that ask what one of these asks."""

    @property
    def all(self) -> tuple[Question, ...]:
        """The dev questions, then the test questions."""
        return (*self.dev, *self.test)

    def places(self) -> tuple[range, range]:
        """The places of the dev and of the test questions in `all`."""
        return range(len(self.dev)), range(len(self.dev), len(self.dev) + len(self.test))


def load_questions(folder: Path) -> QuestionSet:
    """Read ``queries.jsonl`` with ``qrels/test.tsv`` and ``qrels/dev.tsv``, or else with ``qrels.tsv``.

    Where the folder has no dev part of its own, the questions are split in two (`split_questions`). What is asked
    several times is one question, since each would count as evidence of its own; the answers of all are its answers.

    Raises:
        QuestionsError: a file is missing or malformed (file and line are named), or no question has
            a relevant document.
    """
    if not folder.is_dir():
        raise QuestionsError(f"questions folder {folder} does not exist")
    texts = {query: record["text"] for query, record in read_queries(folder / "queries.jsonl").items()}
    single, test_file, dev_file = folder / "qrels.tsv", folder / "qrels" / "test.tsv", folder / "qrels" / "dev.tsv"
    if test_file.is_file() and dev_file.is_file():
        (dev, dev_repeated), (test, test_repeated) = _join(texts, dev_file), _join(texts, test_file)
        chosen_by = {said(question.text) for question in dev}
        if both := [question.id for question in test if said(question.text) in chosen_by]:
            raise QuestionsError(
                f"{len(both)} questions stand in both {dev_file} and {test_file} (the first is {both[0]!r}): a model "
                "would be chosen by what judges it; take them out of one of the two"
            )
        return QuestionSet(tuple(dev), tuple(test), "real questions", repeated=dev_repeated + test_repeated)
    for file in (single, test_file):
        if file.is_file():
            questions, repeated = _join(texts, file)
            return replace(split_questions(questions), repeated=repeated)
    raise QuestionsError(f"{folder} has neither qrels.tsv nor qrels/test.tsv")


def split_questions(
    questions: Sequence[Question],
    seed: int = 13,
    evidence: str = "real questions",
    alike: Mapping[str, str] | None = None,
) -> QuestionSet:
    """Split into dev (about 30 %) and test; questions that share a relevant unit stay together.

    ``alike`` names the groups of documents that have one: questions about one group stay together too. A group
    of questions too large for what dev still lacks goes to test.
    """
    groups = _groups(questions, alike or {})
    Random(seed).shuffle(groups)
    dev: set[str] = set()
    for group in groups:
        if len(dev) + len(group) <= math.ceil(DEV_SHARE * len(questions)):
            dev.update(group)
    return QuestionSet(
        tuple(question for question in questions if question.id in dev),
        tuple(question for question in questions if question.id not in dev),
        evidence,
        seed,
    )


def answerable(questions: QuestionSet, passages: Iterable[Passage]) -> tuple[QuestionSet, list[Unit]]:
    """Return the questions that the corpus has an answer to, and the relevant units that it lacks, as they appear.

    Raises:
        QuestionsError: the corpus has none of them, so the questions are not about it.
    """
    known: set[Unit] = set()
    for passage in passages:
        known.add(passage.document_id)
        if passage.heading:
            known |= {section_unit(passage), path_unit(passage)}
    wanted = list(dict.fromkeys(unit for question in questions.all for unit in question.relevant))
    missing = [unit for unit in wanted if unit not in known]
    if len(missing) == len(wanted):
        raise QuestionsError(
            f"none of the {len(wanted)} documents named in the qrels is in the corpus (the first is {missing[0]!r}); "
            "a corpus-id is a document's path relative to the corpus root, or that plus # and a heading"
        )
    gone = set(missing)
    dev, test = (
        tuple(question for question in part if not gone.issuperset(question.relevant))
        for part in (questions.dev, questions.test)
    )
    return replace(questions, dev=dev, test=test), missing


def left_out_told(given: QuestionSet, kept: QuestionSet) -> list[str]:
    """What is said of questions that are not asked: repeated ones, and those ``given`` that are not ``kept``."""
    told = []
    if given.repeated:
        told.append(f"{given.repeated} questions ask what another one does: asked once, with the answers of all")
    if left_out := len(given.all) - len(kept.all):
        told.append(f"{left_out} of {len(given.all)} questions left out: no answer of theirs is in the corpus")
    return told


def kept_apart(questions: QuestionSet, alike: Mapping[str, str]) -> QuestionSet:
    """Return the questions, split anew if dev and test ask about documents that say nearly the same.

    ``alike`` names the groups of documents that have one. A split that the questions came with stays as it is.
    """

    def groups(part: Sequence[Question]) -> set[str]:
        documents = (document_of(unit, alike) for question in part for unit in question.relevant)
        return {alike[document] for document in documents if document is not None}

    if questions.seed is None or groups(questions.dev).isdisjoint(groups(questions.test)):
        return questions
    return split_questions(questions.all, questions.seed, questions.evidence, alike)


def by_answers(questions: Iterable[Question]) -> list[int]:
    """Return a number for each question, the same where the answers are the same: such are no evidence of their own.

    Not where they have some answers in common: by way of those all questions of a collection may hang together.
    """
    numbers: dict[frozenset[Unit], int] = {}
    return [numbers.setdefault(frozenset(question.relevant), len(numbers)) for question in questions]


def document_of(unit: Unit, documents: Container[str]) -> str | None:
    """The one of ``documents`` that ``unit`` is or is a section of; names of files may have the mark in them too."""
    heads = (unit[:place] for place, character in enumerate(unit) if character == HEADING_MARK)
    return next((name for name in (unit, *heads) if name in documents), None)


def section_unit(passage: Passage) -> Unit:
    """The unit of the passage's section."""
    return f"{passage.document_id}{HEADING_MARK}{passage.heading[-1]}" if passage.heading else passage.document_id


def path_unit(passage: Passage) -> Unit:
    """The unit of the passage's section by its whole heading path, where the heading alone stands twice."""
    path = " > ".join(passage.heading)
    return f"{passage.document_id}{HEADING_MARK}{path}" if path else passage.document_id


def unit_of(passage: Passage, relevant: Mapping[Unit, int], by_section: bool) -> Unit:
    """The unit that ``passage`` counts as for a question with these ``relevant`` units.

    A question whose labels name sections is ranked by section, any other by document.
    """
    if not by_section:
        return passage.document_id
    section = section_unit(passage)
    if section in relevant:
        return section
    if (path := path_unit(passage)) in relevant:
        return path
    return passage.document_id if passage.document_id in relevant else section


def said(text: str) -> str:
    """What ``text`` asks, however it is written: its words, less case and the punctuation around them."""
    words = (word.lstrip(_OPENING).rstrip(_CLOSING) for word in normalize("NFC", text.casefold()).split())
    return " ".join(filter(None, words)) or text


def _join(texts: Mapping[str, str], file: Path) -> tuple[list[Question], int]:
    """The questions that have an answer, each once, and how many more ask what one of them does."""
    relevant = read_qrels(file, texts)
    answered = [query for query in texts if relevant.get(query)]
    if not answered:
        raise QuestionsError(f"{file} has no relevant document for any question")
    found: dict[str, Question] = {}
    for query in answered:
        first = found.setdefault(said(texts[query]), Question(query, texts[query], relevant[query])).id
        relevant[first] |= Counter(relevant[first]) | Counter(relevant[query])  # of two grades the higher
    return list(found.values()), len(answered) - len(found)


def _groups(questions: Sequence[Question], alike: Mapping[str, str]) -> list[list[str]]:
    """Connected components of questions linked by a relevant unit or a group, in order of appearance."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for question in questions:
        for unit in question.relevant:
            parent[root("unit " + unit)] = root("question " + question.id)
            if (document := document_of(unit, alike)) is not None:
                parent[root("group " + alike[document])] = root("question " + question.id)
    groups: dict[str, list[str]] = {}
    for question in questions:
        groups.setdefault(root("question " + question.id), []).append(question.id)
    return list(groups.values())
