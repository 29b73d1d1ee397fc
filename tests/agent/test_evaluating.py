"""The verb ``evaluate-answers``: questions with known sources, asked of a scripted Claude."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from messages_server import Block, Fault, MessagesServer, Reply, cited, location, search_results, text, tool_use
from verbs import Run, run_verb

from agent.evaluating import BY_CTRL_C

SEARCH = tool_use("search_corpus", query="leave")


def ten_weeks(body: Block) -> Reply:
    result = search_results(body)[0]
    return text(cited("10 weeks, or 11.", location(0, result["source"], result["content"][1]["text"], 1, 2)))


@pytest.fixture
def evaluate(environment: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run ``shoptalk evaluate-answers`` on two questions, of which the second has no answer."""
    folder = tmp_path / "questions"
    folder.mkdir()
    questions = [{"_id": "long", "text": "How long is leave?"}, {"_id": "gym", "text": "Is there a gym?"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nlong\thandbook/leave.md#Parental leave\t1\n")

    def run(*arguments: str) -> Run:
        return run_verb(capsys, "evaluate-answers", str(folder), *arguments)

    return run


def test_each_question_is_asked_alone_and_measured(evaluate: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, ten_weeks, text("The documents do not mention a gym.")]
    run = evaluate("--json")
    assert (run.code, run.err) == (0, "")
    value = json.loads(run.out)
    assert len(api.requests[-1]["messages"]) == 1
    means = {name: mean["mean"] for name, mean in value["measures"].items()}
    assert means["citation_validity"] == means["citation_precision"] == means["citation_recall"] == 1
    assert means["evidence_recall"] == means["evidence_recall_first"] == means["answered"] == means["abstained"] == 1
    assert (means["numbers_grounded"], means["turns"], means["queries"]) == (0.5, 1.5, 0.5)
    assert [answer["id"] for answer in value["answers"]] == ["long", "gym"]
    assert value["answers"][0]["answer"]["citations"][0]["document_id"] == "handbook/leave.md"
    assert (value["questions"], value["failed"], value["judge"]) == (2, 0, None)


def test_people_get_a_table(evaluate: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, ten_weeks]
    run = evaluate("--limit", "1", "--model", "claude-sonnet-5-5")
    assert run.out.startswith("1 questions, 0 without an answer; claude-sonnet-5-5, prompt ")
    row = next(line for line in run.out.splitlines() if line.startswith("numbers that stand in a quote"))
    assert row.split()[-5:] == ["0.50", "0.50", "to", "0.50", "1"]


def test_a_refusal_is_told_and_what_was_found_before_it_counts(
    evaluate: Callable[..., Run], api: MessagesServer
) -> None:
    refusal = Reply([], stop_reason="refusal")
    api.script[:] = [SEARCH, refusal, SEARCH, refusal]
    value = json.loads(evaluate("--json").out)
    means = {name: mean["mean"] for name, mean in value["measures"].items()}
    assert (means["evidence_recall"], means["answered"], means["abstained"]) == (1, 0, 0)
    assert value["shortfalls"] == ["2 of 2 answers were refusals"]


def test_searches_that_fail_are_told(evaluate: Callable[..., Run], api: MessagesServer) -> None:
    wrong = tool_use("find_nothing", query="leave")
    api.script[:] = [wrong, text("The documents do not tell."), text(" ")]
    run = evaluate()
    assert run.code == 0
    assert "1 of 1 queries failed: " in run.out and "1 of 2 answers came to no word" in run.out


def test_one_failed_question_is_listed_and_all_failed_is_an_error(
    evaluate: Callable[..., Run], api: MessagesServer
) -> None:
    refused = Fault("status", 401, "authentication_error", message="invalid key")
    api.script[:] = [SEARCH, ten_weeks, refused]
    run = evaluate()
    assert run.code == 0 and "2 questions, 1 without an answer" in run.out
    assert "gym: the API refused the request (401): invalid key; check ANTHROPIC_API_KEY" in run.out
    api.script[:] = [refused, refused]
    run = evaluate()
    assert (run.code, run.out) == (1, "") and run.err.startswith("Error: the API refused the request (401)")


def test_what_was_measured_before_three_failures_in_a_row_is_written(
    evaluate: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    with (tmp_path / "questions" / "queries.jsonl").open("a") as more:
        more.writelines(json.dumps({"_id": f"q{number}", "text": "Why?"}) + "\n" for number in range(4))
    api.script[:] = [SEARCH, ten_weeks, *[Fault("status", 402, "billing_error", message="no credit")] * 3]
    run = evaluate("--json")
    value = json.loads(run.out)
    assert run.code == 1 and run.err.startswith("Error: the API refused the request (402): no credit")
    assert (value["questions"], value["failed"], value["measures"]["answered"]["mean"]) == (4, 3, 1)
    assert value["stopped"] in run.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_measured_before_it_was_stopped_is_written(
    evaluate: Callable[..., Run], api: MessagesServer, number: signal.Signals
) -> None:
    def interrupt(body: Block) -> Fault:
        os.kill(os.getpid(), number)
        return Fault("hang")

    api.script[:] = [SEARCH, ten_weeks, interrupt]
    run = evaluate("--json")
    value = json.loads(run.out)
    assert (run.code, run.err.strip()) == (130, "Stopped.")
    assert (value["questions"], value["stopped"], value["measures"]["answered"]["mean"]) == (1, BY_CTRL_C, 1)


def test_degraded_searches_and_limits_are_told_beside_the_means(
    evaluate: Callable[..., Run], api: MessagesServer
) -> None:
    early = tool_use("search_corpus", query="early leave")
    cut_short = text("No gym is mentioned, and", stop_reason="max_tokens")
    told = ["1 of 1 queries were degraded: the model is still loading", "1 of 2 answers reached a limit: max_tokens"]
    api.script[:] = [early, ten_weeks, cut_short]
    run = evaluate()
    assert run.code == 0 and run.out.splitlines()[-2:] == told
    api.script[:] = [early, ten_weeks, cut_short]
    value = json.loads(evaluate("--json").out)
    assert value["shortfalls"] == told and value["measures"]["degraded_queries"]["mean"] == 0.5


def test_a_judge_that_fails_leaves_the_measures(evaluate: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, ten_weeks, Fault("status", 401, "authentication_error", message="invalid key")]
    run = evaluate("--limit", "1", "--judge", "claude-haiku-5-5")
    assert run.code == 1 and run.err.startswith("Error: the judge: the API refused the request (401)")
    assert "answerable questions not declined" in run.out


def test_a_judge_gives_its_opinion_of_each_answer_and_its_waits_are_said(
    evaluate: Callable[..., Run], api: MessagesServer
) -> None:
    def judge(body: Block) -> Reply:
        assert (
            body["model"] == "claude-haiku-5-5" and "10 weeks, or 11.⟦1⟧" in body["messages"][0]["content"][0]["text"]
        )
        return text(json.dumps({"supported": False, "responsive": True, "declines": False, "reason": "11"}))

    api.script[:] = [SEARCH, ten_weeks, Fault("status", 529, headers={"retry-after": "0"}), judge]
    run = evaluate("--limit", "1", "--judge", "claude-haiku-5-5", "--json")
    value = json.loads(run.out)
    assert run.code == 0 and run.err.startswith("Note: the judge: the API answered overloaded (529)")
    assert value["judge"]["shares"] == {"supported": 0, "responsive": 1, "declines": 0}
    assert value["judge"]["usage"]["output_tokens"] == 20
    assert value["answers"][0]["opinion"]["reason"] == "11"


def test_a_judge_that_says_nothing_readable_leaves_the_measures(
    evaluate: Callable[..., Run], api: MessagesServer
) -> None:
    opinion = text(json.dumps({"supported": True, "responsive": True, "declines": True, "reason": "gym"}))
    api.script[:] = [SEARCH, ten_weeks, text("Fine, I think."), text("The documents do not mention a gym."), opinion]
    run = evaluate("--judge", "claude-haiku-5-5")
    assert run.code == 0 and "2 questions, 0 without an answer" in run.out
    assert "long: the judge claude-haiku-5-5 did not answer in the form asked for" in run.out
    assert "claude-haiku-5-5 says declines: 1.00" in run.out
