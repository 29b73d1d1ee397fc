from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrieval.errors import QuestionsError
from retrieval.passages import Passage
from trainer.questions import (
    Question,
    QuestionSet,
    answerable,
    by_answers,
    kept_apart,
    left_out_told,
    load_questions,
    split_questions,
)


def write(folder: Path, queries: list[object], qrels: str, name: str = "qrels.tsv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (query if isinstance(query, str) else json.dumps(query) for query in queries)
    (folder / "queries.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("query-id\tcorpus-id\tscore\n" + qrels, encoding="utf-8")
    return folder


def many(count: int) -> list[object]:
    return [{"_id": f"q{number}", "text": f"question {number}"} for number in range(count)]


def test_questions_are_read_and_split_without_overlap_the_same_way_each_time(tmp_path: Path) -> None:
    folder = write(tmp_path, many(40), "".join(f"q{n}\td{n}.md\t1\n" for n in range(40)))
    first, second = load_questions(folder), load_questions(folder)
    assert first == second
    dev, test = {q.id for q in first.dev}, {q.id for q in first.test}
    assert not dev & test and len(dev) == 12 and len(test) == 28


def test_questions_that_share_an_answer_are_never_on_both_sides() -> None:
    questions = [Question(f"q{n}", f"text {n}", {f"d{n // 4}.md": 1}) for n in range(80)]
    split = split_questions(questions)
    answers = [{unit for question in side for unit in question.relevant} for side in (split.dev, split.test)]
    assert split.dev and split.test and not answers[0] & answers[1]


def test_many_questions_about_one_document_do_not_swallow_the_test_part() -> None:
    questions = [Question(f"q{n}", f"text {n}", {"big.md" if n < 180 else f"d{n}.md": 1}) for n in range(200)]
    for seed in range(8):
        split = split_questions(questions, seed)
        assert len(split.dev) == 20 and len(split.test) == 180


def test_a_question_may_hold_characters_that_end_lines_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text('{"_id": "a", "text": "one\u2028two"}\n', encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("a\tx.md\t1\n", encoding="utf-8")
    split = load_questions(tmp_path)
    assert [question.text for question in (*split.dev, *split.test)] == ["one\u2028two"]


def test_a_dev_part_of_ones_own_is_kept(tmp_path: Path) -> None:
    write(tmp_path, many(4), "q0\ta.md\t1\n", "qrels/dev.tsv")
    write(tmp_path, many(4), "q1\ta.md\t1\nq2\tb.md\t2\n", "qrels/test.tsv")
    split = load_questions(tmp_path)
    assert [q.id for q in split.dev] == ["q0"]
    assert [(q.id, dict(q.relevant)) for q in split.test] == [("q1", {"a.md": 1}), ("q2", {"b.md": 2})]


def test_a_split_of_ones_own_counts_where_all_labels_stand_in_one_file_too(tmp_path: Path) -> None:
    write(tmp_path, many(4), "q0\ta.md\t1\n", "qrels/dev.tsv")
    write(tmp_path, many(4), "q1\ta.md\t1\n", "qrels/test.tsv")
    write(tmp_path, many(4), "q0\ta.md\t1\nq1\ta.md\t1\n")
    split = load_questions(tmp_path)
    assert ([q.id for q in split.dev], [q.id for q in split.test]) == (["q0"], ["q1"])


def test_the_same_question_by_another_id_is_refused_on_the_other_side(tmp_path: Path) -> None:
    twice = [*many(2), {"_id": "again", "text": "Question 0?"}]
    write(tmp_path, twice, "q0\ta.md\t1\n", "qrels/dev.tsv")
    write(tmp_path, twice, "q1\tb.md\t1\nagain\ta.md\t1\n", "qrels/test.tsv")
    with pytest.raises(QuestionsError, match=r"^1 questions stand in both .*\(the first is 'again'\)"):
        load_questions(tmp_path)


def test_a_question_that_is_asked_often_is_asked_once_with_the_answers_of_all(tmp_path: Path) -> None:
    again = [{"_id": "again", "text": " Question  0?"}, {"_id": "thrice", "text": "“question 0”"}]
    qrels = "".join(f"q{n}\td{n}.md\t2\n" for n in range(40)) + "again\td0.md\t3\nagain\tnew.md\t1\nthrice\td0.md\t1\n"
    read = load_questions(write(tmp_path, [*many(40), *again], qrels))
    assert read.repeated == 2 and len(read.all) == 40
    first = next(question for question in read.all if question.id == "q0")
    assert first.text == "question 0" and first.relevant == {"d0.md": 3, "new.md": 1}
    assert left_out_told(read, read) == ["2 questions ask what another one does: asked once, with the answers of all"]


def test_each_part_of_ones_own_split_asks_a_question_once(tmp_path: Path) -> None:
    queries = [*many(4), {"_id": "q4", "text": "Question 1"}, {"_id": "q5", "text": "Question 3"}]
    write(tmp_path, queries, "q0\ta.md\t1\nq1\ta.md\t1\nq4\tb.md\t1\n", "qrels/dev.tsv")
    write(tmp_path, queries, "q2\ta.md\t1\nq3\ta.md\t1\nq5\ta.md\t1\n", "qrels/test.tsv")
    read = load_questions(tmp_path)
    assert ([item.id for item in read.dev], [item.id for item in read.test]) == (["q0", "q1"], ["q2", "q3"])
    assert read.dev[1].relevant == {"a.md": 1, "b.md": 1} and read.repeated == 2


def test_questions_that_differ_by_a_sign_are_two(tmp_path: Path) -> None:
    queries = [{"_id": text, "text": f"How old is {text}?"} for text in ("C", "C++", "C#", ".C", "-C")]
    read = load_questions(write(tmp_path, queries, "".join(f"{item['_id']}\ta.md\t1\n" for item in queries)))
    assert len(read.all) == 5 and not read.repeated


def test_a_question_in_both_parts_is_refused_as_it_would_choose_what_it_judges(tmp_path: Path) -> None:
    write(tmp_path, many(4), "q0\ta.md\t1\nq1\ta.md\t1\n", "qrels/dev.tsv")
    write(tmp_path, many(4), "q1\ta.md\t1\nq2\tb.md\t2\n", "qrels/test.tsv")
    with pytest.raises(QuestionsError, match=r"^1 questions stand in both .*dev\.tsv and .*\(the first is 'q1'\)"):
        load_questions(tmp_path)


def test_copies_stay_together_whatever_their_folder_is_called() -> None:
    questions = [Question(str(n), f"q{n}", {f"C#/{n}.md#Part": 1}) for n in range(40)]
    alike = {f"C#/{n}.md": f"C#/{n % 20}.md" for n in range(40)}
    split = split_questions(questions, alike=alike)
    dev, test = ({alike[next(iter(question.relevant))[:-5]] for question in part} for part in (split.dev, split.test))
    assert dev and test and dev.isdisjoint(test)


def test_judgments_of_zero_and_questions_without_an_answer_are_left_out(tmp_path: Path) -> None:
    split = load_questions(write(tmp_path, many(3), "q0\ta.md\t1\nq1\ta.md\t0\n"))
    assert {q.id for q in (*split.dev, *split.test)} == {"q0"}


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        (["{broken"], "q0\ta\t1\n", "queries.jsonl:1: not a JSON object"),
        ([{"_id": "q0"}], "q0\ta\t1\n", "queries.jsonl:1: not a JSON object with _id and text"),
        ([{"_id": "q0", "text": None}], "q0\ta\t1\n", "queries.jsonl:1: not a JSON object with _id and text"),
        (["[" * 100_000], "q0\ta\t1\n", "queries.jsonl:1: not a JSON object"),
        ([*many(1), {"_id": "q1", "text": "x \ud800"}], "q0\ta\t1\n", r"queries.jsonl:2: \\ud800 is half of a"),
        ([{"_id": "q0", "text": " "}], "q0\ta\t1\n", "has no text"),
        ([*many(1), *many(1)], "q0\ta\t1\n", "appears twice"),
        (many(1), "q0\ta\n", "qrels.tsv:2: wanted query-id, corpus-id and a whole score"),
        (many(1), "q9\ta\t1\n", "query-id 'q9' is not in queries.jsonl"),
        (many(1), "q0\ta\t1\nq0\ta\t1\nq0\ta\t0\n", "qrels.tsv:4: query-id 'q0' and corpus-id 'a' have the score 1"),
        (many(1), "", "has no relevant document for any question"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(
    tmp_path: Path, queries: list[object], qrels: str, message: str
) -> None:
    with pytest.raises(QuestionsError, match=message):
        load_questions(write(tmp_path, queries, qrels))


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(QuestionsError, match="does not exist"):
        load_questions(tmp_path / "nowhere")
    with pytest.raises(QuestionsError, match="queries.jsonl is missing"):
        load_questions(tmp_path)
    (tmp_path / "queries.jsonl").write_text('{"_id": "a", "text": "b"}\n', encoding="utf-8")
    with pytest.raises(QuestionsError, match="neither qrels.tsv nor qrels/test.tsv"):
        load_questions(tmp_path)


def test_answers_that_the_corpus_lacks_are_listed_and_questions_without_others_left_out() -> None:
    passages = [Passage("1", "a.md", "A", ("One",), "text", 1, 2)]
    partly = Question("q", "x", {"a.md#One": 1, "gone.md": 1})
    nowhere = Question("r", "y", {"gone.md": 1, "away.md": 2})
    asked = QuestionSet((partly,), (nowhere, Question("s", "z", {"a.md": 1})), "real questions")
    kept, missing = answerable(asked, passages)
    assert missing == ["gone.md", "away.md"]
    assert ([item.id for item in kept.dev], [item.id for item in kept.test]) == (["q"], ["s"])


def test_a_section_named_by_its_whole_path_is_an_answer_that_the_corpus_has() -> None:
    passages = [Passage("1", "a.md", "A", ("One", "Two"), "text", 1, 2)]
    asked = QuestionSet((), (Question("q", "x", {"a.md#One > Two": 1}),), "real questions")
    assert answerable(asked, passages) == (asked, [])


def test_no_dev_question_is_about_a_near_copy_of_what_a_test_question_is_about() -> None:
    questions = [Question(f"q{n}", f"what is {n}", {f"{n}.md#Part": 1}) for n in range(40)]
    alike = {f"{n}.md": f"{n - n % 2}.md" for n in range(40)}
    plain = split_questions(questions)
    apart = kept_apart(plain, alike)
    sides = [{alike[unit.partition("#")[0]] for q in part for unit in q.relevant} for part in (apart.dev, apart.test)]
    assert sides[0].isdisjoint(sides[1]) and len(apart.all) == 40 and len(apart.dev) == len(plain.dev) == 12
    # Nothing is split anew without need, and a split of the user's is theirs.
    assert kept_apart(plain, {"1.md": "x", "2.md": "y"}) is plain
    theirs = QuestionSet(plain.dev, plain.test, plain.evidence)
    assert kept_apart(theirs, alike) is theirs


def test_questions_with_the_same_answers_are_told_from_those_that_share_some() -> None:
    answers = [{"a": 1, "b": 1}, {"b": 2, "a": 1}, {"a": 1}, {"b": 1, "c": 1}, {"a": 2}]
    assert by_answers(Question(str(n), f"q{n}", relevant) for n, relevant in enumerate(answers)) == [0, 0, 1, 2, 1]


def test_questions_about_another_corpus_are_refused() -> None:
    passages = [Passage("1", "a.md", "A", ("One",), "text", 1, 2)]
    foreign = QuestionSet((Question("q", "x", {"b.md": 1}),), (), "real questions")
    with pytest.raises(QuestionsError, match="none of the 1 documents named in the qrels is in the corpus"):
        answerable(foreign, passages)
