"""Conversations are kept whole, for their owner only, and by one process at a time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent import Answer, Citation, Query, Segment, TurnDone, Usage
from agent.sessions import Exchange, Session, Sessions
from agent.transcript import Transcript
from retrieval.errors import ShoptalkError

ANSWER = Answer(
    text="Ten weeks.",
    citations=(Citation("leave.md", 3, 4, "ten weeks", True),),
    segments=(Segment("Ten weeks.", (1,)),),
    queries=(Query("search_corpus", "leave", hits=2, sources=("leave.md:3-4",)),),
    turns=2,
    usage=Usage(100, 20, 70, 30),
    model="claude-opus-5-5",
    stop_reason="end_turn",
    dollars=0.25,
)


def kept(sessions: Sessions, *questions: str) -> Session:
    session = Session.new("claude-opus-5-5")
    session.exchanges += [Exchange(question, ANSWER) for question in questions]
    session.transcript = Transcript().to_dict()
    sessions.save(session)
    return session


def test_what_is_saved_comes_back_the_same(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?", "And \ud800 then?")
    assert sessions.load(session.id) == session
    assert (session.usage.output_tokens, session.dollars) == (40, 0.5)
    sessions.release()


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    session = Session.new("m")
    session.exchanges += [Exchange("a", ANSWER), Exchange("b", Answer("", (), (), (), 1, Usage(), "m", "end_turn"))]
    assert session.dollars is None


def test_turns_that_came_to_no_answer_are_paid_for_as_well(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    session.lost.append(TurnDone(1, "m", "tool_use", Usage(100, 20), 0.5))
    sessions.save(session)
    again = sessions.read(session.id)
    assert (again.usage.output_tokens, again.dollars) == (40, 0.75)
    session.lost.append(TurnDone(1, "unknown", "tool_use", Usage(100, 20), None))
    assert session.dollars is None and session.unpriced == ["unknown"]


def test_files_are_for_their_owner_only_and_nothing_else_is_left(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    history = sessions.history_file
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in [sessions.folder, *sessions.folder.iterdir()]}
    assert modes == {"sessions": "0o700", f"{session.id}.json": "0o600", history.name: "0o600"}


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    session.exchanges.append(Exchange("More?", ANSWER))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ShoptalkError, match="No space left on device; this conversation is not kept"):
        sessions.save(session)
    assert len(sessions.read(session.id).exchanges) == 1


def test_the_latest_is_resumed_and_another_by_a_part_of_its_id(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    for name in ("20260101-090000-aaaa", "20260102-090000-bbbb"):
        session = kept(sessions, name)
        (sessions.folder / f"{session.id}.json").unlink()
        session.id = name
        sessions.save(session)
    assert sessions.load().id == "20260102-090000-bbbb"
    assert sessions.load("aaaa").title == "20260101-090000-aaaa"
    with pytest.raises(ShoptalkError, match="'2026' fits 2 conversations"):
        sessions.load("2026")
    with pytest.raises(ShoptalkError, match="none holds 'cccc'"):
        sessions.load("cccc")
    sessions.release()


def test_one_chat_at_a_time_goes_on_with_a_conversation(tmp_path: Path) -> None:
    ours, theirs = Sessions(tmp_path / "sessions"), Sessions(tmp_path / "sessions")
    session = kept(ours, "How long?")
    ours.load()
    with pytest.raises(ShoptalkError, match="open in another chat"):
        theirs.load(session.id)
    ours.release()
    assert theirs.load().id == session.id
    theirs.release()
    assert sorted(path.name for path in ours.folder.iterdir()) == [f"{session.id}.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a conversation that was saved whole"),
        ("[]", "not a conversation that was saved whole"),
        ('{"format": 2, "id": 3}', "not a conversation that was saved whole"),
        ('{"format": 9}', "is of format 9, this version reads 2"),
        ("[" * 100_000, "not a conversation that was saved whole"),
    ],
)
def test_a_file_that_is_broken_or_newer_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    (sessions.folder / f"{session.id}.json").write_text(content)
    with pytest.raises(ShoptalkError, match=said):
        sessions.load()
    sessions.release()


@pytest.mark.parametrize(
    "message",
    [{"role": "user"}, {"role": "user", "content": "x"}, {"role": "user", "content": [{}]}, {"content": []}, {}],
)
def test_a_message_that_is_none_is_a_broken_file(tmp_path: Path, message: dict[str, object]) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    session.transcript["messages"] = [message]
    sessions.save(session)
    with pytest.raises(ShoptalkError, match="not a conversation that was saved whole"):
        sessions.load()
    sessions.release()


def test_a_copy_of_a_file_goes_on_by_itself(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    copy = f"{session.id}-backup"
    (sessions.folder / f"{copy}.json").write_bytes((sessions.folder / f"{session.id}.json").read_bytes())
    again = sessions.load(copy)
    again.exchanges.append(Exchange("And then?", ANSWER))
    sessions.save(again)
    assert [len(sessions.read(name).exchanges) for name in (session.id, copy)] == [1, 2]
    sessions.release()


def test_a_broken_file_is_passed_over_for_the_latest_and_lets_go_of_nothing(tmp_path: Path) -> None:
    ours, theirs = Sessions(tmp_path / "sessions"), Sessions(tmp_path / "sessions")
    session = kept(ours, "How long?")
    (ours.folder / "20990101-090000-dead.json").write_text("{")
    told: list[str] = []
    assert ours.load(passed_over=told.append).id == session.id
    assert len(told) == 1 and "dead.json is not a conversation that was saved whole" in told[0]
    with pytest.raises(ShoptalkError, match="saved whole"):
        ours.load("dead")
    assert not theirs.hold(session.id)
    ours.release()


def test_the_conversation_that_is_open_is_named_whatever_else_is_broken(tmp_path: Path) -> None:
    ours, theirs = Sessions(tmp_path / "sessions"), Sessions(tmp_path / "sessions")
    session = kept(ours, "How long?")
    assert ours.hold(session.id)
    for broken in ("20990101-090000-dead", "20000101-090000-dead"):
        file = ours.folder / f"{broken}.json"
        file.write_text("{")
        with pytest.raises(ShoptalkError, match=f"the conversation {session.id} is open in another chat"):
            theirs.load()
        file.unlink()
    ours.release()


def test_nothing_of_the_key_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789")
    sessions = Sessions(tmp_path / "sessions")
    session = kept(sessions, "How long?")
    text = (sessions.folder / f"{session.id}.json").read_text()
    assert "sk-ant" not in text and json.loads(text)["format"] == 2
