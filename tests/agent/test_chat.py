"""The verb ``chat`` with its questions in a pipe: what is answered, kept and told by each command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from messages_server import Block, Fault, MessagesServer, Reply, cited, location, search_results, text, tool_use
from verbs import Run, run_verb

from agent.sessions import Session, Sessions
from agent.terminal import COMMANDS

SEARCH = tool_use("search_corpus", query="leave")


def ten_weeks(body: Block) -> Reply:
    result = search_results(body)[0]
    return text(cited("Ten weeks.", location(0, result["source"], result["content"][1]["text"], 1, 2)))


@pytest.fixture
def chat(
    environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """Run ``shoptalk chat`` in this process, a question or command for each of ``lines``."""

    def run(*lines: str, arguments: tuple[str, ...] = ()) -> Run:
        typed = tmp_path / "typed.txt"
        typed.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
        with typed.open(encoding="utf-8") as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return run_verb(capsys, "chat", *arguments)

    return run


def sessions(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "sessions").glob("*.json"))


def test_one_question_after_another_is_one_conversation_and_is_kept(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    api.script[:] = [SEARCH, ten_weeks, text("Four weeks ahead.")]
    run = chat("How long is leave?", "", "And when must I\\", "tell?")
    assert run.code == 0
    assert run.out == (
        'Ten weeks.⟦1⟧\n\n⟦1⟧ handbook/leave.md:14 "Parents take up to ten weeks of paid leave."\nFour weeks ahead.\n'
    )
    assert "search_corpus: leave → 1 hit (hybrid)" in run.err
    asked = [message["content"][0].get("text") for message in api.requests[-1]["messages"] if message["role"] == "user"]
    assert asked[0] == "How long is leave?" and asked[-1] == "And when must I\ntell?"
    (file,) = sessions(tmp_path)
    kept = json.loads(file.read_text())
    assert [exchange["question"] for exchange in kept["exchanges"]] == ["How long is leave?", "And when must I\ntell?"]
    assert kept["prompt_version"] and file.stat().st_mode & 0o777 == 0o600


def test_a_kept_conversation_goes_on_in_another_process(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    api.script[:] = [SEARCH, ten_weeks]
    chat("How long is leave?", arguments=("--model", "claude-sonnet-5-5"))
    first = api.requests[-1]["messages"]
    api.script[:] = [text("As I said.")]
    run = chat("Sure?", arguments=("--resume",))
    assert "with claude-sonnet-5-5; 1 question so far" in run.err
    assert run.out.startswith("> How long is leave?\nTen weeks.⟦1⟧\n\n⟦1⟧ handbook/leave.md:14 ")
    assert run.out.endswith("As I said.\n")
    again = api.requests[-1]
    assert again["model"] == "claude-sonnet-5-5" and len(again["messages"]) == len(first) + 2
    assert search_results(again) == search_results({"messages": first})
    assert len(sessions(tmp_path)) == 1 and len(json.loads(sessions(tmp_path)[0].read_text())["exchanges"]) == 2


def test_the_commands_tell_sources_tokens_cost_and_tools(chat: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [tool_use("search_corpus", query="leave train"), ten_weeks]
    run = chat("How long is leave?", "/sources", "/tokens", "/cost", "/tools", "/model", "/help")
    assert "Found as well: handbook/travel.md:3-5" in run.out
    assert "400 in (140 of them from the cache), 40 out; 1 answers, 2 turns, 1 tool calls." in run.out
    # 2 turns of 100 input, 70 cached, 30 written and 20 output tokens at 4 and 20 dollars a million.
    dollars = 2 * ((100 + 70 * 0.1 + 30 * 1.25) * 4 + 20 * 20) / 1e6
    assert f"${dollars:.4f}, by list prices of" in run.out
    assert "search_corpus: Search the documents." in run.out and "reindex:" not in run.out
    assert "claude-opus-5-5\n" in run.out
    assert all(name in run.out for name in COMMANDS)


def test_clear_begins_anew_and_resume_goes_back(chat: Callable[..., Run], api: MessagesServer, tmp_path: Path) -> None:
    api.script[:] = [text("Ten weeks."), text("By train.")]
    chat("How long is leave?", "/clear", "How do I travel?")
    assert len(api.requests[-1]["messages"]) == 1
    names = [file.stem for file in sessions(tmp_path) if "leave" in file.read_text()]
    api.script[:] = [text("Still ten.")]
    run = chat("/resume", f"/resume {names[0]}", "Sure?", "/exit", "Never asked")
    assert "1 questions  How long is leave?" in run.out and "1 questions  How do I travel?" in run.out
    assert len(api.requests[-1]["messages"]) == 3 and run.out.endswith("Still ten.\n")


def test_a_conversation_that_another_chat_has_taken_up_is_kept_beside_it(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["20260101-090000-aaaa", "20260101-090000-bbbb"])
    monkeypatch.setattr(Session, "new", classmethod(lambda cls, model: cls(next(names), "2026-01-01T09:00:00", model)))
    other = Sessions(tmp_path / "sessions")
    assert other.hold("20260101-090000-aaaa")
    api.script[:] = [text("Ten weeks."), text("Four weeks ahead.")]
    run = chat("How long?", "When must I tell?")
    other.release()
    assert run.err.count("Note: another chat goes on with 20260101-090000-aaaa") == 1
    (file,) = sessions(tmp_path)
    assert file.stem == "20260101-090000-bbbb" and len(json.loads(file.read_text())["exchanges"]) == 2


def test_a_broken_file_keeps_no_other_conversation_from_being_listed(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    api.script[:] = [text("Ten weeks.")]
    chat("How long is leave?")
    (tmp_path / "sessions" / "20990101-090000-dead.json").write_text("{")
    listed, resumed = chat("/resume"), chat("/exit", arguments=("--resume",))
    assert "1 questions  How long is leave?" in listed.out and "dead.json is not a conversation" in listed.out
    assert "Resumed" in resumed.err and "dead.json is not a conversation" in resumed.err


def test_model_is_changed_for_the_questions_to_come(chat: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [text("One."), text("Two.")]
    chat("First?", "/model claude-haiku-5-5", "Second?")
    assert [body["model"] for body in api.requests] == ["claude-opus-5-5", "claude-haiku-5-5"]


def test_save_writes_markdown_and_never_over_a_file(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    api.script[:] = [SEARCH, ten_weeks]
    file = tmp_path / "leave.md"
    run = chat("How long is leave?", f"/save {file}", f"/save {file}")
    assert file.read_text() == (
        "# How long is leave?\n\n## How long is leave?\n\nTen weeks.⟦1⟧\n\n"
        '- ⟦1⟧ handbook/leave.md:14 "Parents take up to ten weeks of paid leave."\n'
    )
    assert run.code == 1 and run.err.endswith(f"Error: {file} exists already; name another file\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/nonsense", "there is no command /nonsense; /help lists them"),
        ("/sources", "nothing has been asked yet"),
        ("/save", "name a file"),
        ("/resume zzzz", "none holds 'zzzz'"),
        ("a\x1b[2Jb", "control character U+001B"),
        ("x" * 1_000_000, "has 1,000,000 characters"),
        ("caf\udce9?", "the question is not UTF-8 (character 4)"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_ends_a_chat_without_a_person(
    chat: Callable[..., Run], api: MessagesServer, line: str, said: str
) -> None:
    run = chat(line, "/help")
    last = run.err.splitlines()[-1]
    assert run.code == 1 and last.startswith("Error: ") and said in last
    assert "/exit" not in run.out and not api.requests


def test_a_path_at_the_beginning_of_a_question_is_no_command(chat: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [text("Hosts.")]
    assert chat("/etc/hosts holds what?").out == "Hosts.\n"


def test_a_question_that_claude_declines_fails_where_no_person_is_there(
    chat: Callable[..., Run], api: MessagesServer
) -> None:
    api.script[:] = [Reply([], "refusal"), text("Never asked.")]
    run = chat("Bad?", "Fine?")
    assert run.code == 1 and "Error: no answer: Claude declined to answer" in run.err
    assert len(api.requests) == 1 and not run.out


def test_a_failed_question_is_not_kept(chat: Callable[..., Run], api: MessagesServer, tmp_path: Path) -> None:
    api.script[:] = [Fault("status", 401, "authentication_error")]
    run = chat("How long?")
    assert run.code == 1 and "check ANTHROPIC_API_KEY" in run.err and not sessions(tmp_path)


def test_a_failed_question_is_paid_for_after_a_resume_as_well(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    api.script[:] = [text("Ten weeks."), SEARCH, Fault("status", 401, "authentication_error")]
    assert chat("How long is leave?", "And when?").code == 1
    (file,) = sessions(tmp_path)
    kept = json.loads(file.read_text())
    assert (len(kept["exchanges"]), len(kept["lost"]), len(kept["transcript"]["messages"])) == (1, 1, 2)
    assert "1 answers, 2 turns" in chat("/tokens", arguments=("--resume",)).out


def test_a_folder_that_cannot_be_written_is_told_once_and_the_chat_goes_on(
    chat: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    (tmp_path / "sessions").write_text("in the way")
    api.script[:] = [text("One."), text("Two.")]
    run = chat("First?", "Second?")
    assert (run.code, run.out) == (0, "One.\nTwo.\n")
    assert run.err.count("this conversation is not kept") == 1


def test_nothing_to_resume_and_json_are_one_line_each(chat: Callable[..., Run]) -> None:
    nothing = chat(arguments=("--resume",))
    assert nothing.code == 1 and "begin one with `shoptalk chat`" in nothing.err
    programs = chat(arguments=("--json",))
    assert programs.code == 2 and "shoptalk ask --events" in programs.err
