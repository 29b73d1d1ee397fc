"""Markdown that comes in pieces is cut where nothing to come can change what is shown."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from agent.markdown import rendered, split_blocks
from agent.wording import marked

PIECES = [
    "# Head\n",
    "word ",
    "more\n",
    "\n",
    "- item\n",
    "  under\n",
    "1. one\n",
    "```\n",
    "| a | b |\n",
    "|---|---|\n",
]
PIECES += ["===\n", "> quote\n", "    code\n", "[1]", "**b**", "#", "-", "<div>\n"]


def shown(text: str, width: int = 60) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(rendered(text))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def in_pieces(pieces: list[str]) -> tuple[list[str], str]:
    blocks, rest = [], ""
    for piece in pieces:
        whole, rest = split_blocks(rest + piece)
        blocks.append(whole)
    return [block for block in blocks if block], rest


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14))
def test_the_pieces_come_out_whole_and_cut_where_the_whole_text_is_cut(pieces: list[str]) -> None:
    blocks, rest = in_pieces(pieces)
    text = "".join(pieces)
    assert "".join(blocks) + rest == text
    words = "".join(shown(block) for block in [*blocks, rest]).split()
    assert words == shown(text).split()


def test_a_block_is_shown_once_the_next_has_begun() -> None:
    assert split_blocks("One.\n\nTwo") == ("", "One.\n\nTwo")
    assert split_blocks("One.\n\nTwo.\n") == ("One.\n\n", "Two.\n")
    assert split_blocks("- a\n\n- b\n\n  c\n") == ("", "- a\n\n- b\n\n  c\n")
    assert split_blocks("```\ncode\n\n# no heading\n") == ("", "```\ncode\n\n# no heading\n")


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("Ten weeks.⟦1⟧(see below)", "Ten weeks.⟦1⟧(see below)"),
        ("[1]: https://elsewhere.example", "[1]: https://elsewhere.example"),
        ("[bank](https://other.example)", "bank (https://other.example)"),
        ("<script>alert</script>", "<script>alert</script>"),
        ("[bold]rich's own markup[/bold]", "[bold]rich's own markup[/bold]"),
        ("**ten** `weeks`", "ten weeks"),
        ("Ten.&#x27E6;1&#10215; &lobrk;2&robrk;", "Ten.&#x27E6;1&#10215; &lobrk;2&robrk;"),
        ("<https://a.example/%E2%9F%A61%E2%9F%A7>", "<https://a.example/%E2%9F%A61%E2%9F%A7>"),
        ("[a](b&lobrk;1&robrk;)", "a (b%E2%9F%A61%E2%9F%A7)"),
    ],
)
def test_nothing_is_hidden_and_marks_stay(text: str, visible: str) -> None:
    assert shown(text).strip() == visible


@pytest.mark.parametrize(
    ("text", "with_mark"),
    [
        ("Ten weeks.", "Ten weeks.⟦1⟧"),
        ("Ten weeks.\n\n", "Ten weeks.⟦1⟧\n\n"),
        ("So:\n\n```sql\nSELECT 1;\n```", "So:\n\n```sql\nSELECT 1;\n```\n⟦1⟧"),
        ("- So:\n  ~~~\n  x\n  ~~~\n", "- So:\n  ~~~\n  x\n  ~~~\n  ⟦1⟧\n"),
        ("| a | b |\n|---|---|\n| x | ten |", "| a | b |\n|---|---|\n| x | ten ⟦1⟧ |"),
        ("a | b\n---|---\nx | ten", "a | b\n---|---\nx | ten⟦1⟧"),
    ],
)
def test_a_mark_stands_where_it_is_shown_and_breaks_nothing(text: str, with_mark: str) -> None:
    assert marked(text, [1]) == with_mark
    assert shown(with_mark).replace("⟦1⟧", "").replace("─", "").split() == shown(text).replace("─", "").split()
    assert "⟦1⟧" in shown(f"{with_mark}\n\n# After\n")
    assert marked(text, ()) == text
