"""What can be counted of an answer, on answers made by hand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from agent import Answer, Citation, Query, Segment, Usage
from agent.blocks import SentBlock, SentResult
from agent.measures import abstains, mean_of, measure, numbers
from agent.questions import Question, read_questions
from retrieval.errors import QuestionsError

LEAVE = SentResult("leave.md:1-4", "leave.md", "Leave › Parents", (SentBlock("x", 1, 2), SentBlock("y", 3, 4)))
TRAVEL = SentResult("travel.md:1-2", "travel.md", "Travel", (SentBlock("z", 1, 2),))


def answer(text: str, *citations: Citation) -> Answer:
    segments = (Segment(text, tuple(range(1, len(citations) + 1))),)
    queries = (Query("search_corpus", "a"), Query("search_corpus", "a", repeated=True))
    return Answer(text, citations, segments, queries, 3, Usage(100, 20, 70, 30), "m", "end_turn")


def question(*relevant: str, text: str = "How long?") -> Question:
    return Question("q", text, frozenset(relevant))


def test_citations_are_measured_against_the_relevant_places() -> None:
    good = Citation("leave.md", 3, 4, "ten weeks", True)
    beside = Citation("travel.md", 1, 1, "trains", True)
    invalid = Citation("leave.md", 0, 0, "twelve", False, "not sent")
    measured = measure(
        question("leave.md#Parents", "pay.md"),
        answer("Ten weeks.", good, beside, invalid, good),
        [LEAVE, TRAVEL],
        [["travel.md:1-2"], ["leave.md:1-4"], []],
    )
    assert measured["citation_validity"] == 0.75
    assert measured["citation_precision"] == 0.5
    assert measured["citation_recall"] == 0.5
    assert (measured["evidence_recall_first"], measured["evidence_recall"]) == (0, 0.5)
    assert (measured["answered"], measured["turns"], measured["queries"], measured["duplicate_queries"]) == (1, 3, 2, 1)
    assert (measured["input_tokens"], measured["output_tokens"]) == (200, 20)
    assert not measured.keys() & {"abstained", "dollars", "numbers_grounded"}


def test_another_section_of_the_right_document_is_the_wrong_place() -> None:
    cited = answer("Ten weeks.", Citation("leave.md", 1, 1, "x", True))
    measured = measure(question("leave.md#Pay"), cited, [LEAVE], [["leave.md:1-4"]])
    assert (measured["citation_precision"], measured["evidence_recall"]) == (0, 0)


def test_an_unanswerable_question_should_be_declined() -> None:
    assert measure(question(), answer("The documents do not say."), [], [])["abstained"] == 1
    measured = measure(question(), answer("Ten weeks."), [], [])
    assert measured["abstained"] == 0 and "answered" not in measured and "citation_recall" not in measured


@pytest.mark.parametrize(
    ("text", "declined"),
    [
        ("", True),
        ("The collection does not contain anything about pensions.", True),
        ("I found no passages on this. The nearest is leave [1].", True),
        ("Nothing in the documents mentions a gym.", True),
        ("I couldn't find anything about a gym.", True),
        ("The handbook does not say.", True),
        ("Parking is not explicitly mentioned.", True),
        ("There is no further information on that.", True),
        ("The handbook does not cover sabbaticals.", True),
        ("The handbook does not contain any information about sabbaticals.", True),
        ("The policy doesn't include anything about pets.", True),
        ("No mention of sabbaticals was found in the handbook.", True),
        ("There is no mention of sabbaticals.", True),
        ("The answer could not be found.", True),
        ("Sabbaticals could not be found in the handbook.", True),
        ("Ten weeks, at full pay.", False),
        ("Flights do not include meals.", False),
        ("Employees cannot hold two posts.", False),
        ("No, the contract does not cover water damage.", False),
        ("You need not state a reason.", False),
        ("Under this policy you cannot hold two posts.", False),
        ("Ten weeks. It may be split in two. It does not say when it must begin.", False),
        ("No, flights need consent.", False),
    ],
)
def test_declining_is_told_by_the_opening_words(text: str, declined: bool) -> None:
    assert abstains(text) is declined


def test_numbers_are_read_in_digits_and_words_but_not_in_names() -> None:
    assert numbers("1. Up to 1,500.50 euros, twenty-five days, v2, E11.9, 2026-11-23 and Ten.") == {
        Decimal("1500.5"),
        Decimal(25),
        Decimal(10),
    }


def test_numbers_must_stand_in_a_valid_quote_unless_the_question_brought_them() -> None:
    quotes = Citation("leave.md", 3, 3, "up to ten weeks", True), Citation("x", 0, 0, "14 days", False, "not sent")
    text = "With 3 children: 10 weeks, 14 days."
    measured = measure(question("leave.md", text="How long with 3 children?"), answer(text, *quotes), [LEAVE], [])
    assert measured["numbers_grounded"] == 0.5


def test_means_come_with_an_interval_over_the_questions_that_have_them() -> None:
    means = mean_of([{"answered": 1.0, "turns": 2.0}, {"answered": 0.0, "turns": 2.0}, {"turns": 2.0}])
    assert (means["answered"].mean, means["answered"].questions) == (0.5, 2)
    assert means["answered"].low == 0 and means["answered"].high == 1
    assert (means["turns"].low, means["turns"].mean, means["turns"].high, means["turns"].questions) == (2, 2, 2, 3)
    assert list(means) == ["answered", "turns"]


def write(folder: Path, queries: str, **qrels: str) -> Path:
    (folder / "queries.jsonl").write_text(queries)
    (folder / "qrels").mkdir()
    for name, rows in qrels.items():
        (folder / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    return folder


def test_questions_are_answerable_unless_marked_or_without_relevant_documents(tmp_path: Path) -> None:
    lines = '{"_id": "a", "text": "A"}\n{"_id": "b", "text": "B", "answerable": false}\n{"_id": "c", "text": "C"}\n'
    folder = write(
        tmp_path,
        lines + '{"_id": "d", "text": "D"}\n{"_id": "e", "text": "E"}\n',
        test="a\tx.md\t1\na\ty.md#H\t2\nb\tx.md\t1\nc\tx.md\t0\n",
        train="e\tx.md\t1\n",
    )
    relevant = {one.id: set(one.relevant) for one in read_questions(folder)}
    assert relevant == {"a": {"x.md", "y.md#H"}, "b": set(), "c": set(), "d": set()}


@pytest.mark.parametrize(
    ("queries", "rows", "said"),
    [
        ("nonsense\n", "", r"queries.jsonl:1: not a JSON object"),
        ("[]\n", "", r"queries.jsonl:1: not a JSON object"),
        ('{"_id": "a", "text": " "}\n', "", "queries.jsonl:1: question 'a' has no text"),
        ('{"_id": "a", "text": "A"}\n' * 2, "a\tx.md\t1\n", "queries.jsonl:2: question 'a' appears twice"),
        ('{"_id": "a", "text": "A", "answerable": 1}\n', "", "'a': answerable must be true or false"),
        ('{"_id": "a", "text": "A"}\n', "a\tx.md\n", r"test.tsv:2: wanted query-id"),
        ('{"_id": "a", "text": "A"}\n', "z\tx.md\t1\n", "'z' is not in queries.jsonl"),
        ("", "", "has no question"),
    ],
)
def test_bad_questions_are_told_with_file_and_line(tmp_path: Path, queries: str, rows: str, said: str) -> None:
    with pytest.raises(QuestionsError, match=said):
        read_questions(write(tmp_path, queries, test=rows))
    with pytest.raises(QuestionsError, match="queries.jsonl is missing"):
        read_questions(tmp_path / "qrels")
