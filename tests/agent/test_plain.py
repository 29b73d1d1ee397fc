"""Nothing that is shown can drive a terminal or give a key away."""

from __future__ import annotations

import pytest

from agent.plain import PlainStream, one_line, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1b(Bx\x1bcy", "xy"),
        ("a\x00b\x07c\x7fd\x85e\rf", "abcdef"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("tab\tline\r\nnext", "tab\tline\nnext"),
        ("\x1b]0;no end", "0;no end"),
        ("bad\ud800surrogate", "badsurrogate"),
    ],
)
def test_escapes_and_controls_are_dropped(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_keys_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789\n")
    assert plain("it is sk-ant-0123456789, or other-secret", ["other-secret", None]) == "it is [key], or [key]"


def test_a_string_ends_where_another_begins() -> None:
    assert plain("\x9dab\x9dcd\x9ce\x1b]f\x90g\x9ch") == "abefh"
    assert plain("\x9d" * 100_000) == ""


def test_one_line_is_one_line() -> None:
    assert one_line(" a\n\tb\x1b[1m c ") == "a b c"
    assert one_line("word " * 100, 12) == "word word w…"


def test_pieces_of_a_text_are_made_plain_as_the_whole_would_be() -> None:
    whole = "a\x1b[31mred\x1b[0m \x1b]8;;https://x\x1b\\link\x1b]8;;\x1b\\ \x9b1mb\x1b(Bc\nd"
    for size in range(1, 9):
        stream = PlainStream()
        pieces = [stream.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert "".join(pieces) == plain(whole) == "ared link bc\nd"


def test_what_only_looks_like_the_beginning_of_an_escape_is_not_held_for_ever() -> None:
    stream = PlainStream()
    shown = stream.feed("\x1b]") + "".join(stream.feed("word ") for _ in range(100))
    assert shown.endswith("word ") and "\x1b" not in shown
