"""Hits become search_result blocks that know their lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.blocks import split_lines, to_result

PASSAGE = """# Leave

Parents take up to ten weeks of paid leave. The leave
may be split in two parts. See No. 7.

- Notice: four weeks. In writing.
1. Pay: full.

| grade | weeks |
|-------|-------|
| A     | 10    |

```sh
# not a heading. Not a sentence.

leave --weeks 10
```
"""


def test_prose_is_cut_at_sentences_and_structure_at_lines() -> None:
    blocks = [(block.text.strip(), block.first_line, block.last_line) for block in split_lines(PASSAGE, 10)]
    assert blocks == [
        ("# Leave", 10, 10),
        ("Parents take up to ten weeks of paid leave.", 12, 12),
        ("The leave\nmay be split in two parts.", 12, 13),
        ("See No. 7.", 13, 13),
        ("- Notice: four weeks. In writing.", 15, 15),
        ("1. Pay: full.", 16, 16),
        ("| grade | weeks |", 18, 18),
        ("|-------|-------|", 19, 19),
        ("| A     | 10    |", 20, 20),
        ("```sh\n# not a heading. Not a sentence.\n\nleave --weeks 10\n```", 22, 26),
    ]


def test_sentences_without_spaces_are_cut_too() -> None:
    text = "育児休暇は十週間まで取得できる、と就業規則に書いてある。届け出は四週間前までに書面で人事部に出すこと。"
    assert [block.text for block in split_lines(text, 1)] == [text[:28], text[28:]]


@given(st.text(alphabet=st.sampled_from("ab .!?\n#-|`1)。\r\t"), max_size=120), st.integers(1, 99))
def test_blocks_join_to_the_text_and_hold_their_lines(text: str, first_line: int) -> None:
    blocks = list(split_lines(text, first_line))
    assert "".join(block.text for block in blocks) == (text if text.strip() else "")
    lines = text.split("\n")
    for block in blocks:
        assert block.text.strip()
        held = "\n".join(lines[block.first_line - first_line : block.last_line - first_line + 1])
        assert block.text.strip() in held
        assert lines[block.first_line - first_line].strip() and lines[block.last_line - first_line].strip()


def test_a_hit_whose_lines_do_not_match_its_documents_keeps_its_whole_range() -> None:
    result = to_result("faq.jsonl#3", "FAQ", (), "One sentence here, long enough. Another one here.", 7, 9, False)
    assert result is not None
    assert [(block.first_line, block.last_line) for block in result.blocks] == [(7, 9), (7, 9)]


def test_rows_below_a_repeated_head_of_their_table_have_their_own_lines() -> None:
    text = "| grade | weeks |\n|---|---|\n| B | 12 |\n| C | 14 |"
    result = to_result("a.md", "A", (), text, 30, 31, False)
    assert result is not None
    assert [(block.text, block.first_line, block.last_line) for block in result.blocks] == [
        ("| grade | weeks |\n|---|---|\n", 30, 31),
        ("| B | 12 |\n", 30, 30),
        ("| C | 14 |", 31, 31),
    ]


def test_a_hit_that_was_cut_short_keeps_its_whole_range() -> None:
    result = to_result("a.md", "A", (), "One sentence here, long enough.\nAnother", 7, 8, True)
    assert result is not None
    assert {(block.first_line, block.last_line) for block in result.blocks} == {(7, 8)}


def test_the_block_names_file_lines_and_headings() -> None:
    result = to_result("handbook/leave.md", "Leave", ("Leave", "Parental"), "Ten weeks.", 14, 14, False)
    assert result is not None
    assert result.to_param() == {
        "type": "search_result",
        "source": "handbook/leave.md:14-14",
        "title": "Leave › Parental",
        "content": [{"type": "text", "text": "Ten weeks."}],
        "citations": {"enabled": True},
    }


def test_a_hit_without_text_is_no_block_and_one_without_title_has_its_id() -> None:
    assert to_result("a.md", "A", (), " \n", 1, 2, False) is None
    untitled = to_result("a.md", "", (), "x", 1, 1, False)
    assert untitled is not None and untitled.title == "a.md"
