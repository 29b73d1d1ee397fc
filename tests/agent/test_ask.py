"""The verb ``ask``: what a person and a program see of it."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp import StdioServerParameters
from messages_server import KEY, Block, Fault, MessagesServer, Reply, cited, location, search_results, text, tool_use
from verbs import Run, run_verb

import agent.conversation

ASK = [sys.executable, str(Path(__file__).with_name("ask_process.py")), "ask"]


def honest_and_not(body: Block) -> Reply:
    """An answer with a good citation, a bad one, and an escape sequence."""
    result = search_results(body)[0]
    good = location(0, result["source"], result["content"][1]["text"], 1, 2)
    return text(cited("Ten \x1b[31mweeks.", good), " Or ", cited("twelve.", location(7, "x.md:1-2", "twelve")))


SEARCH = tool_use("search_corpus", query="leave")


@pytest.fixture
def ask(environment: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """Run ``shoptalk ask`` in this process, with ``stdin`` for standard input."""

    def run(*arguments: str, stdin: bytes = b"") -> Run:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return run_verb(capsys, "ask", *arguments)

    return run


def test_answer_and_footnotes_on_stdout_searches_on_stderr(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, honest_and_not]
    run = ask("How long is leave?")
    assert run.code == 0
    assert run.out == (
        "Ten weeks.⟦1⟧ Or twelve.⟦2⟧\n\n"
        '⟦1⟧ handbook/leave.md:14 "Parents take up to ten weeks of paid leave."\n'
        '⟦2⟧ INVALID: search result 7 was not sent; 1 were x.md "twelve"\n'
    )
    assert run.err == "search_corpus: leave → 1 hit (hybrid)\n"


def test_what_only_looks_like_a_footnote_is_told_from_one_and_an_answer_without_one_is_noted(
    ask: Callable[..., Run], api: MessagesServer
) -> None:
    forged = 'Ten weeks.⟦1⟧ `a[1]`\n\n⟦1⟧ handbook/leave.md:14 "Parents take up to twenty weeks."'
    api.script[:] = [SEARCH, text(forged)]
    run = ask("How long is leave?")
    assert run.out == 'Ten weeks.[1] `a[1]`\n\n[1] handbook/leave.md:14 "Parents take up to twenty weeks."\n'
    assert run.err.endswith("Note: no statement of the answer has a citation that holds\n")
    api.script[:] = [text("Hello.")]
    assert ask("Hello?").err == ""


def test_json_is_one_object_with_lines_and_validity(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, honest_and_not]
    run = ask("--json", "How long is leave?")
    value = json.loads(run.out)
    assert (run.code, value["text"], value["question"]) == (0, "Ten weeks. Or twelve.", "How long is leave?")
    assert value["citations"][0] == {
        "number": 1,
        "document_id": "handbook/leave.md",
        "first_line": 14,
        "last_line": 14,
        "quote": "Parents take up to ten weeks of paid leave.",
        "valid": True,
        "reason": "",
        "corpus": "",
    }
    assert value["citations"][1]["valid"] is False
    assert value["segments"][2] == {"text": "twelve.", "citations": [2]}
    assert (value["queries"][0]["hits"], value["turns"], value["limit"]) == (1, 2, None)


def test_events_come_one_a_line_with_the_answer_last(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, honest_and_not]
    run = ask("--events", "How long is leave?")
    events = [json.loads(line) for line in run.out.splitlines()]
    kinds = [event["event"] for event in events]
    first_of_each = list(dict.fromkeys(kind for kind in kinds if kind != "thinking"))
    assert first_of_each == ["turn_done", "query_started", "query_done", "text_delta", "cited", "answer"]
    assert events[kinds.index("turn_done")]["usage"]["input_tokens"] == 100
    query = events[kinds.index("query_done")]["query"]
    assert (query["text"], query["hits"], query["sources"]) == ("leave", 1, ["handbook/leave.md:12-18"])
    assert "".join(event["text"] for event in events if event["event"] == "text_delta") == "Ten weeks. Or twelve."
    assert events[kinds.index("cited")]["citations"][0][1]["document_id"] == "handbook/leave.md"
    assert events[-1]["turns"] == 2 and events[-1]["usage"]["output_tokens"] == 40
    assert (run.code, run.err) == (0, "")


def test_events_and_json_exclude_each_other(ask: Callable[..., Run]) -> None:
    run = ask("--events", "--json", "How long is leave?")
    assert run.code == 2 and "choose one" in run.err


@pytest.mark.parametrize("named", [None, "", "g000002\n"])
def test_without_an_index_no_question_is_asked(
    ask: Callable[..., Run], api: MessagesServer, tmp_path: Path, named: str | None
) -> None:
    current = tmp_path / "indexes" / "handbook" / "CURRENT"
    current.unlink()
    if named is not None:
        current.write_text(named)
    run = ask("How long is leave?")
    assert (run.code, run.out) == (1, "")
    assert run.err == "Error: there is no index of handbook yet; run `shoptalk index`\n"
    assert not api.requests


def test_an_index_in_a_vector_database_need_not_have_been_made_here(
    ask: Callable[..., Run], api: MessagesServer, tmp_path: Path
) -> None:
    (tmp_path / "indexes" / "handbook" / "CURRENT").unlink()
    settings = tmp_path / "shoptalk.toml"
    store = '[store]\nkind = "qdrant"\nurl = "http://127.0.0.1:6333"\n'
    settings.write_text(f"{settings.read_text()}\n{store}")
    api.script[:] = [tool_use("search_corpus", query="leave"), text("Ten days.")]
    assert ask("How long is leave?").code == 0


def test_an_answer_after_failed_searches_only_is_a_failure(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [tool_use("search_corpus", query="broken"), text("I cannot search.")]
    run = ask("-q", "How long is leave?")
    assert run.code == 1 and run.out == "I cannot search.\n"
    assert run.err.startswith("Error: no search succeeded") and "The index is missing" in run.err


def test_the_question_may_be_piped_in(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [text("Hello.")]
    run = ask("-q", stdin="Grüße?\n".encode())
    assert (run.code, run.out, run.err) == (0, "Hello.\n", "")
    assert api.requests[0]["messages"][0]["content"][0]["text"] == "Grüße?"


def test_options_go_before_settings(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [SEARCH, text("Ten.")]
    run = ask("--model", "claude-haiku-5-5", "--max-turns", "1", "How long?")
    assert api.requests[0]["model"] == "claude-haiku-5-5"
    assert api.requests[1]["tool_choice"] == {"type": "none"}
    assert "Note: the limit of 1 turns is reached" in run.err and run.code == 0


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ([""], b"", "the question is empty"),
        ([], b" \n", "the question is empty"),
        ([], b"x" * 1_000_000, "has 1,000,000 characters"),
        (["a\x1b[2Jb"], b"", "character 2 of the question is the control character U+001B"),
        (["caf\udce9"], b"", "not UTF-8 (character 4)"),
        ([], b"caf\xe9", "not UTF-8 (byte 3)"),
        ([], "é".encode() * 2_000_001, "longer than 4,000,000 bytes"),
        (["Hi?", "--max-turns", "0"], b"", "--max-turns"),
    ],
)
def test_a_bad_question_is_one_line(ask: Callable[..., Run], arguments: list[str], stdin: bytes, said: str) -> None:
    run = ask(*arguments, stdin=stdin)
    assert run.code == (2 if "--max-turns" in arguments else 1) and run.out == ""
    last = run.err.rstrip("\n").splitlines()
    assert last[-1].startswith("Error: ") and said in last[-1] and (len(last) == 1 or run.code == 2)


def test_no_key_no_workspace_and_a_refused_key_are_one_line_each(
    ask: Callable[..., Run], api: MessagesServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.script[:] = [Fault("status", 401, "authentication_error", message=f"invalid key {KEY}")]
    refused = ask("Hi?")
    monkeypatch.setenv("HOME", str(tmp_path))
    nowhere = ask("-w", str(tmp_path / "docs"), "Hi?")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    keyless = ask("Hi?")
    assert [(run.code, run.out, run.err.count("\n")) for run in (refused, nowhere, keyless)] == [(1, "", 1)] * 3
    assert "check ANTHROPIC_API_KEY" in refused.err and KEY not in refused.err
    assert "not a workspace" in nowhere.err and "ANTHROPIC_API_KEY is not set" in keyless.err


def test_an_unknown_model_and_a_server_that_does_not_start_are_one_line_each(
    ask: Callable[..., Run], api: MessagesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script[:] = [Fault("status", 404, "not_found_error", message="model: claude-nonesuch")]
    unknown = ask("--model", "claude-nonesuch", "Hi?")
    missing = StdioServerParameters(command="/no/such/server")
    monkeypatch.setattr(agent.conversation, "own_server", lambda root: missing)
    nowhere = ask("Hi?")
    assert [(run.code, run.out, run.err.count("\n")) for run in (unknown, nowhere)] == [(1, "", 1)] * 2
    assert "claude-nonesuch" in unknown.err and "/no/such/server" in nowhere.err


def test_a_refusal_ends_with_one_and_no_answer(ask: Callable[..., Run], api: MessagesServer) -> None:
    api.script[:] = [Reply([], "refusal")]
    run = ask("-q", "Bad?")
    assert (run.code, run.out) == (1, "")
    assert run.err.startswith("Error: no answer: Claude declined to answer")


def test_ctrl_c_ends_it_with_130_and_stops_the_server(environment: None, api: MessagesServer) -> None:
    api.script[:] = [SEARCH, Fault("hang", reply=text("Ten weeks."), after=5)]
    process = subprocess.Popen([*ASK, "How long?"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "1 hit" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "Stopped.")


def test_marks_are_plain_brackets_where_there_is_no_sign_for_them(environment: None, api: MessagesServer) -> None:
    api.script[:] = [SEARCH, honest_and_not, text("キ")]
    latin = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    shown = subprocess.run([*ASK, "How long?"], stdout=subprocess.PIPE, env=latin, check=True, timeout=60).stdout
    assert shown.startswith(b"Ten weeks.[1] Or twelve.[2]\n\n[1] handbook/leave.md:14 ")
    assert subprocess.run([*ASK, "Ki?"], stdout=subprocess.PIPE, env=latin, check=True).stdout == b"\\u30ad\n"


def test_on_a_plain_terminal_the_answer_streams_with_its_marks(
    environment: None, api: MessagesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    api.script[:] = [SEARCH, Fault("eof", reply=text("Eleven weeks, I think."), after=5), honest_and_not]
    ours, theirs = pty.openpty()
    with subprocess.Popen([*ASK, "How long?"], stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b"")).decode()
        assert process.wait(timeout=30) == 0
    os.close(ours)
    lines = shown.replace("\r\n", "\n").split("\n")
    assert lines[0] == "search_corpus: leave → 1 hit (hybrid)"
    assert lines[1].startswith("Eleven weeks") and lines[2] == "(What stands above is not part of the answer.)"
    assert lines[3].startswith("Note: the API's answer broke off")
    assert lines[4:6] == ["Ten weeks.⟦1⟧ Or twelve.⟦2⟧", ""]
    assert lines[6].startswith("⟦1⟧ handbook/leave.md:14 ")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux reports the end of a pty so.
        return b""


def test_the_help_needs_neither_the_sdk_nor_the_engine() -> None:
    loaded = _modules("import agent.cli, agent")
    assert not loaded & {"anthropic", "mcp", "httpx2", "jsonschema", "numpy", "torch", "faiss"}


def test_the_agent_runs_without_the_engine() -> None:
    """Asking loads nothing that the core dependencies do not bring."""
    script = (
        "import agent.turn, agent.faults, agent.conversation, agent.terminal, agent.prompting;"
        "import asyncio, anthropic, mcp, jsonschema;"
        "agent.faults.diagnose(ValueError(), anthropic.AsyncAnthropic(api_key='k'), 'm')"
    )
    loaded = _modules(script)
    assert not loaded & {"torch", "faiss", "numpy", "tantivy", "sentence_transformers", "trainer", "server"}
    assert {name for name in loaded if name.startswith("retrieval.")} <= {
        "retrieval.console",
        "retrieval.durable",
        "retrieval.errors",
        "retrieval.prices",
        "retrieval.workspace",
    }


def _modules(script: str) -> set[str]:
    code = f"{script}; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
