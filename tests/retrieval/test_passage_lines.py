"""For any document of any format: what a passage says is on the lines it names, in order, and nothing is lost."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.documents import Document, SourceFile, read
from retrieval.passages import Passage, cut
from retrieval.structure import sections

WORD = st.text("abcdefgXYZ", min_size=1, max_size=8)
WORDS = st.lists(WORD, min_size=1, max_size=9).map(" ".join)
SENTENCE = WORDS.map(lambda words: f"{words.capitalize()}.")
PARAGRAPH = st.lists(SENTENCE, min_size=1, max_size=5).flatmap(
    lambda sentences: st.sampled_from([" ", "\n"]).map(lambda gap: gap.join(sentences))
)


def documents(pieces: Sequence[st.SearchStrategy[str]], gap: str = "\n\n") -> st.SearchStrategy[str]:
    return st.lists(st.one_of(*pieces), min_size=1, max_size=9).map(gap.join)


MARKDOWN = documents(
    [
        PARAGRAPH,
        st.tuples(st.integers(1, 6), WORDS).map(lambda pair: f"{'#' * pair[0]} {pair[1]}"),
        st.lists(WORDS, min_size=1, max_size=5).map(lambda items: "\n".join(f"- {item}" for item in items)),
        WORDS.map(lambda words: f"```\n  {words}\n\n{words}\n```"),
    ]
)
FRONT_MATTER = st.sampled_from(
    ["", "---\ntitle: Of it\ntags:\n  - a\n---\n", "+++\ntitle = 'T'\n+++\n\n", "---\na: b: c\n---\n"]
)
TEXT = documents(
    [
        PARAGRAPH,
        WORDS.map(str.upper),
        WORDS.map(lambda words: f"{words.upper()}:\n{words}"),
        st.tuples(st.integers(1, 3), WORDS).map(
            lambda pair: f"{pair[0]}.{pair[0]} {pair[1].title()}. {pair[1].title()} x."
        ),
        st.tuples(st.sampled_from(["I", "II", "A", "B"]), WORDS).map(lambda pair: f"{pair[0]}. {pair[1].title()}"),
        WORDS.map(lambda words: f"From: {words}\nSubject: {words}\n x"),
    ]
)
RST = documents(
    [PARAGRAPH, WORD.map(lambda word: f"{word}\n{'=' * len(word)}"), WORDS.map(lambda words: f"::\n\n   {words}")]
)
HTML = documents(
    [
        PARAGRAPH.map(lambda text: f"<p>{text}</p>"),
        st.tuples(st.integers(1, 6), WORDS).map(lambda pair: f"<h{pair[0]}>{pair[1]}</h{pair[0]}>"),
        st.lists(WORDS, min_size=1, max_size=4).map(lambda items: f"<ul>\n<li>{'<li> '.join(items)}\n</ul>"),
        WORDS.map(lambda words: f"<div class='sidebar'><p>{words}\n&amp; {words}</div>"),
        st.tuples(WORDS, WORDS).map(lambda pair: f"<details><summary>{pair[0]}</summary>\n{pair[1]}</details>"),
        st.tuples(WORDS, WORDS).map(lambda pair: f"<table><tr><td>{pair[0]}\n<td>{pair[1]}</table>"),
        st.sampled_from(["<main>", "</main>", "<article>", "</article>", "<div class=nav>", "</div>"]),
    ],
    "\n",
)
PYTHON = documents(
    [
        WORD.map(lambda word: f"{word} = 1"),
        st.tuples(WORD, SENTENCE).map(
            lambda pair: f'def {pair[0]}(a, b: int):\n    """{pair[1]}\n\n    x\n    """\n    return a'
        ),
        st.tuples(WORD, WORDS).map(
            lambda pair: f"# {pair[1]}\nclass {pair[0]}(Base):\n\n    y = 1\n\n    def z(self): return 2"
        ),
        WORDS,
    ],
    "\n",
)
SCRIPT = documents(
    [
        st.tuples(WORD, WORDS).map(lambda pair: f"/**\n * {pair[1]}\n */\nfunction {pair[0]}(a) {{\n  return a;\n}}"),
        st.tuples(WORD, WORD).map(lambda pair: f"class {pair[0]} {{\n  // {pair[1]}\n  {pair[1]}() {{ return 1 }}\n}}"),
        WORD.map(lambda word: f"const {word} = 1;"),
        WORDS,
    ],
    "\n",
)

TAG = re.compile(r"<[^>]*>")


def unmarked(text: str) -> str:
    return html.unescape(TAG.sub(" ", text))


def letters(text: str) -> str:
    """What is left of ``text`` when nothing but what can be read counts: no marks, white space or case."""
    return "".join(character for character in text.casefold() if character.isalnum())


def passages_of(folder: Path, name: str, text: str, limit: int) -> list[tuple[Document, list[Passage]]]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    found, _ = read(SourceFile(path, name, path.stat().st_size, 0))

    def count(texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    return [(document, cut(document.title, sections(document), count, limit)) for document in found]


def hold(
    documents: Iterable[tuple[Document, Sequence[Passage]]],
    text: str,
    *,
    markup: Callable[[str], str] = str,
    unread: int = 0,
) -> None:
    """Check what is true of any document; the first ``unread`` lines of ``text`` are no part of it."""
    lines = text.split("\n")
    shown: Counter[str] = Counter()
    for _, found in documents:
        for passage in found:
            assert 1 <= passage.first_line <= passage.last_line <= len(lines)
            held = "\n".join(lines[passage.first_line - 1 : passage.last_line])
            for line in passage.text.split("\n"):
                assert letters(line) in letters(markup(held))
            shown.update(re.findall(r"\w+", passage.text.casefold()))
        above = (" ".join({passage.title, *passage.heading}) for passage in found)
        shown.update(re.findall(r"\w+", " ".join(above).casefold()))
        # Where a heading shares its line with a block, or a comment stands above it, places may touch.
        starts = [passage.first_line for passage in found]
        assert starts == sorted(starts)
    said = set(re.findall(r"\w+", markup("\n".join(lines[unread:])).casefold()))
    assert said <= set(shown)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(max_examples=60, deadline=None)
@given(FRONT_MATTER, MARKDOWN, st.integers(16, 50))
def test_any_markdown(folder: Path, head: str, text: str, limit: int) -> None:
    unread = 0 if ": c" in head else head.rstrip("\n").count("\n") + bool(head)
    hold(passages_of(folder, "a.md", head + text, limit), head + text, unread=unread)


@settings(max_examples=80, deadline=None)
@given(TEXT, st.integers(16, 50))
def test_any_plain_text(folder: Path, text: str, limit: int) -> None:
    hold(passages_of(folder, "a.txt", text, limit), text)


@settings(max_examples=40, deadline=None)
@given(RST, st.integers(16, 50))
def test_any_restructuredtext(folder: Path, text: str, limit: int) -> None:
    hold(passages_of(folder, "a.rst", text, limit), text)


@settings(max_examples=100, deadline=None)
@given(HTML, st.integers(16, 50))
def test_any_html(folder: Path, text: str, limit: int) -> None:
    chosen = "<main>" in text or "<article>" in text
    hold(
        passages_of(folder, "a.html", text, limit), text, markup=unmarked, unread=text.count("\n") + 1 if chosen else 0
    )


@settings(max_examples=80, deadline=None)
@given(PYTHON, st.integers(16, 50))
def test_any_python(folder: Path, text: str, limit: int) -> None:
    hold(passages_of(folder, "a.py", text, limit), text)


@settings(max_examples=60, deadline=None)
@given(SCRIPT, st.integers(16, 50))
def test_any_javascript(folder: Path, text: str, limit: int) -> None:
    hold(passages_of(folder, "a.js", text, limit), text)


RECORD = st.fixed_dictionaries({"question": WORDS, "answer": PARAGRAPH})


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, min_size=1, max_size=6), st.sampled_from([None, 1]), st.booleans(), st.integers(16, 50))
def test_any_records(folder: Path, rows: list[dict[str, str]], indent: int | None, wrapped: bool, limit: int) -> None:
    for name, text in {
        "a.json": json.dumps({"x": [1], "faqs": rows} if wrapped else rows, indent=indent),
        "a.jsonl": "\n".join(json.dumps(row) for row in rows),
        "a.csv": "\n".join(["question,answer", *('"{question}","{answer}"'.format(**row) for row in rows)]),
    }.items():
        found = passages_of(folder, name, text, limit)
        assert len(found) == len(rows)
        for (document, passages), row in zip(found, rows, strict=True):
            held = "\n".join(text.split("\n")[(document.first_line or 0) - 1 : document.last_line])
            assert letters(row["question"]) in letters(held)
            assert letters("".join(passage.text for passage in passages)) == letters(row["answer"])
            for passage in passages:
                assert (passage.first_line, passage.last_line) == (document.first_line, document.last_line)
                assert letters(passage.text) in letters(held.replace("\\n", "\n"))
