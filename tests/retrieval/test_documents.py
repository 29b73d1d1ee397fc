from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from retrieval.documents import (
    Document,
    Skipped,
    SourceFile,
    file_hash,
    read,
    read_all,
    read_or_skip,
    require_documents,
    walk,
)
from retrieval.errors import DocumentError
from retrieval.workspace import Workspace


def workspace(root: Path, paths: list[str], **settings: object) -> Workspace:
    table = {"paths": paths, **settings}
    lines = ["[corpus.notes]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    (root / "shoptalk.toml").write_text("\n".join(lines))
    return Workspace.open(root, environ={})


def put(path: Path, content: str | bytes = "Some text.\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def source(path: Path, content: str | bytes) -> SourceFile:
    put(path, content)
    return SourceFile(path, path.name, path.stat().st_size, 0)


def names(space: Workspace) -> list[str]:
    return [file.relative for file in walk(space, "notes")[0]]


def reasons(space: Workspace) -> dict[str, str]:
    return {item.path: item.reason for item in walk(space, "notes")[1]}


# Walking


def test_files_are_found_in_the_order_of_their_relative_paths(tmp_path: Path) -> None:
    for name in ("docs/b.md", "docs/a/z.txt", "docs/LICENSE", "docs/a/é.rst"):
        put(tmp_path / name)
    space = workspace(tmp_path, ["docs"])
    assert names(space) == ["LICENSE", "a/z.txt", "a/é.rst", "b.md"]
    assert reasons(space) == {}


def test_one_file_and_several_folders_have_a_common_root(tmp_path: Path) -> None:
    put(tmp_path / "one/corpus.jsonl")
    put(tmp_path / "two/deep/b.md")
    assert names(workspace(tmp_path, ["one/corpus.jsonl"])) == ["corpus.jsonl"]
    assert names(workspace(tmp_path, ["one/corpus.jsonl", "two"])) == ["one/corpus.jsonl", "two/deep/b.md"]


def test_overlapping_paths_give_each_file_once(tmp_path: Path) -> None:
    put(tmp_path / "docs/a/b.md")
    assert names(workspace(tmp_path, ["docs/a", "docs", "docs/a/b.md"])) == ["a/b.md"]


def test_hidden_files_and_what_shoptalk_writes_are_not_walked(tmp_path: Path) -> None:
    for name in (
        ".git/x.md",
        ".hidden.md",
        "models/v0001/README.md",
        "indexes/notes/x.txt",
        "sessions/x.md",
        "kept.md",
        "sub/models/k.md",
    ):
        put(tmp_path / name)
    space = workspace(tmp_path, ["."])
    assert names(space) == ["kept.md", "sub/models/k.md"]
    assert reasons(space) == {}


def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path / "docs/a.xyz")
    put(tmp_path / "docs/empty.md", "")
    put(tmp_path / "docs/large.txt", "x" * 2000)
    os.mkfifo(tmp_path / "docs/pipe.txt")
    space = workspace(tmp_path, ["docs"], max_file_mb=0.001)
    assert names(space) == []
    assert reasons(space) == {
        "a.xyz": "unknown format .xyz",
        "empty.md": "empty file",
        "large.txt": "0.002 MB is more than max_file_mb = 0.001",
        "pipe.txt": "not a regular file",
    }


def test_include_and_exclude_read_like_gitignore(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "drafts/c.md", "x/drafts/d.md", "x/e.md", "x/y/f.md"):
        put(tmp_path / "docs" / name)
    assert names(workspace(tmp_path, ["docs"], include=["*.md"], exclude=["drafts"])) == ["a.md", "x/e.md", "x/y/f.md"]
    assert names(workspace(tmp_path, ["docs"], include=["x/**/*.md"], exclude=["/x/drafts/"])) == ["x/e.md", "x/y/f.md"]
    assert names(workspace(tmp_path, ["docs"], include=["?.txt", "drafts/c.md"])) == ["b.txt", "drafts/c.md"]


def test_links_do_not_lead_out_of_the_corpus(tmp_path: Path) -> None:
    secret = put(tmp_path / "secret/password.txt")
    put(tmp_path / "docs-private/x.md")
    put(tmp_path / "docs/a.md")
    (tmp_path / "docs/file.txt").symlink_to(secret)
    (tmp_path / "docs/folder").symlink_to(secret.parent)
    (tmp_path / "docs/sibling").symlink_to(tmp_path / "docs-private")
    (tmp_path / "docs/dangling.md").symlink_to(tmp_path / "docs/none.md")
    (tmp_path / "docs/loop.md").symlink_to(tmp_path / "docs/loop.md")
    space = workspace(tmp_path, ["docs"])
    assert names(space) == ["a.md"]
    outside = "link to outside of the corpus"
    broken = "broken link"
    assert reasons(space) == {
        "file.txt": outside,
        "folder": outside,
        "sibling": outside,
        "dangling.md": broken,
        "loop.md": broken,
    }


def test_links_within_the_corpus_are_read_once_and_cycles_end(tmp_path: Path) -> None:
    put(tmp_path / "docs/a/b.md")
    put(tmp_path / "docs/..data/real.md")
    (tmp_path / "docs/a/up").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/0.md").symlink_to("a/b.md")
    (tmp_path / "docs/mounted.md").symlink_to("..data/real.md")
    space = workspace(tmp_path, ["docs"])
    assert names(space) == ["a/b.md", "mounted.md"]
    assert set(reasons(space)) == {"0.md", "a/up"}


def test_a_corpus_may_itself_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/a.md")
    (tmp_path / "docs").symlink_to(tmp_path / "elsewhere")
    assert names(workspace(tmp_path, ["docs"])) == ["a.md"]


def test_a_link_is_read_in_the_format_of_its_own_name(tmp_path: Path) -> None:
    put(tmp_path / "docs/.store/content", "# Title\n")
    (tmp_path / "docs/page.md").symlink_to(".store/content")
    documents, _ = read_all(workspace(tmp_path, ["docs"]), "notes")
    assert [(document.id, document.format, document.title) for document in documents] == [
        ("page.md", "markdown", "Title")
    ]


def test_a_missing_path_says_which_and_where_to_mend_it(tmp_path: Path) -> None:
    space = workspace(tmp_path, ["nowhere"])
    with pytest.raises(DocumentError, match=r"nowhere does not exist; correct paths under \[corpus.notes\] in .*toml"):
        walk(space, "notes")


def test_a_corpus_without_a_usable_file_is_an_error_that_gives_the_first_reason(tmp_path: Path) -> None:
    put(tmp_path / "docs/a.xyz")
    space = workspace(tmp_path, ["docs"])
    with pytest.raises(DocumentError, match=r"has no document .*docs \(1 left out, the first: a.xyz: unknown format"):
        read_all(space, "notes")
    require_documents(space, "notes", 1, [])


# Whole files


@pytest.mark.parametrize(
    ("name", "content", "title", "format"),
    [
        ("x.md", "Text\n\n# The `Title` of *it*\n", "The Title of it", "markdown"),
        ("x.mdx", "```\n# no\n```\n\nReal\n====\n", "Real", "markdown"),
        ("my_first-page.md", "## Only a second level\n", "My first page", "markdown"),
        ("x.rst", "=====\nTitle\n=====\n\nText\n", "Title", "rst"),
        ("x.html", "<title>Page\n title</title><p>Text", "Page title", "html"),
        ("x.htm", "<title>Page</title><h1>Head</h1>", "Head", "html"),
        ("x.txt", "\n\n  The title\n\nText\n", "The title", "text"),
        ("long-name.txt", "word " * 40, "Long name", "text"),
        ("LICENSE", "MIT License\n", "MIT License", "text"),
    ],
)
def test_a_whole_file_is_one_document_with_a_title(
    tmp_path: Path, name: str, content: str, title: str, format: str
) -> None:
    documents, skipped = read(source(tmp_path / name, content))
    assert documents == [Document(name, name, title, content, format)]  # type: ignore[arg-type]
    assert skipped == []


@pytest.mark.parametrize(
    "data",
    ["Grüße\r\n\r\n漢字\r", b"\xef\xbb\xbf" + "Grüße\n\n漢字\n".encode(), "Grüße\n\n漢字\n".encode("utf-16")],
)
def test_byte_order_marks_and_line_ends_are_taken_care_of(tmp_path: Path, data: str | bytes) -> None:
    [document], _ = read(source(tmp_path / "x.txt", data))
    assert document.text == "Grüße\n\n漢字\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff \xfe\x81", "not UTF-8 (byte 0), and no other encoding fits; save it as UTF-8"),
        (b"\xff\xfea\x00b", "not UTF-16 (byte 4), though so marked; save it as UTF-8"),
        (b"\x7fELF\0\0\x01", "binary file"),
        (b"\x89PNG\0\xff", "binary file"),
    ],
)
def test_what_is_not_text_says_so(tmp_path: Path, data: bytes, reason: str) -> None:
    file = source(tmp_path / "x.txt", data)
    with pytest.raises(DocumentError) as error:
        read(file)
    assert str(error.value) == f"x.txt: {reason}"
    assert read_or_skip(file) == ([], [Skipped("x.txt", reason)])


def test_a_text_in_another_encoding_is_read(tmp_path: Path) -> None:
    [document], _ = read(source(tmp_path / "x.txt", "Menü\r\n\r\nCafé au lait\r\n".encode("cp1252")))
    assert (document.text, document.title) == ("Menü\n\nCafé au lait\n", "Menü")


def test_the_title_that_front_matter_states_is_the_page_s(tmp_path: Path) -> None:
    page = "---\ntitle: Opening hours\ntags: [shop, time]\n---\n# When\n\nFrom nine.\n"
    [document], _ = read(source(tmp_path / "x.md", page))
    assert (document.title, document.text) == ("Opening hours", page)


def test_the_question_of_a_page_is_its_title_and_no_record_s_question(tmp_path: Path) -> None:
    [document], _ = read(source(tmp_path / "x.md", "---\nquestion: How?\n---\nSo.\n"))
    assert (document.title, document.question) == ("How?", "")


def test_a_message_is_titled_by_its_subject(tmp_path: Path) -> None:
    [document], _ = read(source(tmp_path / "x.txt", "From: a@b.c\nSubject: The printer jams\n\nIt does.\n"))
    assert document.title == "The printer jams"


def test_source_code_is_titled_by_its_path_and_outlined(tmp_path: Path) -> None:
    [document], _ = read(source(tmp_path / "x.py", '"""About it."""\n\ndef f():\n    """Do it."""\n'))
    assert (document.title, document.format) == ("x.py", "outlined")
    assert [item.text for item in document.outline] == ["About it.", "def f()", "Do it."]
    assert read_or_skip(source(tmp_path / "y.py", " \n"))[1] == [Skipped("y.py", "no text")]


def test_a_file_of_white_space_has_no_text(tmp_path: Path) -> None:
    assert read(source(tmp_path / "x.md", " \n\t\n")) == ([], [Skipped("x.md", "no text")])


def test_a_file_that_vanished_is_an_error_of_its_own(tmp_path: Path) -> None:
    file = SourceFile(tmp_path / "gone.md", "gone.md", 1, 0)
    with pytest.raises(DocumentError, match="gone.md: cannot be read: No such file"):
        read(file)
    with pytest.raises(DocumentError, match="gone.md: cannot be read: No such file"):
        file_hash(file)


# Records


def records(path: Path, content: str | bytes) -> tuple[list[Document], list[str]]:
    documents, skipped = read(source(path, content))
    return documents, [item.reason for item in skipped]


def test_a_beir_corpus_gives_a_document_a_record(tmp_path: Path) -> None:
    lines = [
        {"_id": "d1", "title": "Cholera", "text": "Also called: X\nY", "url": "http://x", "year": 1999},
        {"id": 7, "text": "No title"},
        {"text": "No id"},
        {"_id": "d4", "title": "Only a title", "text": ""},
    ]
    content = "\r\n".join(json.dumps(line) for line in lines) + "\n\n"
    documents, reasons = records(tmp_path / "corpus.jsonl", content)
    assert reasons == []
    assert [(d.id, d.title, d.text, d.first_line, d.last_line) for d in documents] == [
        ("d1", "Cholera", "Also called: X\nY", 1, 1),
        ("7", "", "No title", 2, 2),
        ("corpus.jsonl#3", "", "No id", 3, 3),
        ("d4", "Only a title", "", 4, 4),
    ]
    assert {d.path for d in documents} == {"corpus.jsonl"}


def test_translations_whose_records_have_the_same_ids_are_all_read(tmp_path: Path) -> None:
    languages = {"en": [{"id": 1, "text": "Pumps"}, {"id": 2, "text": "Hoses"}], "de": [{"id": 1, "text": "Pumpen"}]}
    documents, reasons = records(tmp_path / "parts.json", json.dumps(languages))
    assert [(d.id, d.text) for d in documents] == [("1", "Pumps"), ("2", "Hoses"), ("parts.json#de/1", "Pumpen")]
    assert reasons == []


def test_bad_records_are_left_out_by_line_and_the_rest_is_read(tmp_path: Path) -> None:
    content = (
        '{"_id": "a", "text": "x"}\n{oops\n[1]\n{"_id": "b"}\n{"_id": "a", "text": "y"}\n\n{"_id": "c", "text": "z"}'
    )
    documents, reasons = records(tmp_path / "c.ndjson", content + "\n" + "[" * 100_000)
    assert [d.id for d in documents] == ["a", "c"]
    assert reasons[0].startswith("line 2: not valid JSON (")
    assert reasons[1:4] == ["line 3: not a JSON object", "line 4: no text", "line 5: id 'a' is taken by line 1"]
    assert reasons[4].startswith("line 8: not valid JSON (")


def test_text_that_no_utf8_file_can_hold_is_replaced(tmp_path: Path) -> None:
    [document], _ = records(tmp_path / "c.jsonl", r'{"_id": "a", "text": "x\ud800y\u0000z \ud83d\ude00"}')
    assert document.text == "x\ufffdy\ufffdz 😀"
    assert document.content_hash


@pytest.mark.parametrize(
    ("question", "answer"), [("question", "answer"), ("Subject", "Resolution"), ("prompt", "completion")]
)
def test_questions_and_answers_become_titles_and_texts(tmp_path: Path, question: str, answer: str) -> None:
    [document], _ = records(tmp_path / "c.jsonl", json.dumps({question: " Why? ", answer: "Because.", "team": "A"}))
    assert (document.title, document.text) == ("Why?", "Because.")
    assert document.question == "Why?"


def test_csv_rows_know_the_lines_they_span(tmp_path: Path) -> None:
    content = '\ufeffID,Question,Answer\r\n1,"How, exactly?","Line one\r\nline two"\r\n\r\n,Where?,Here\r\n'
    documents, reasons = records(tmp_path / "faq.csv", content)
    assert reasons == []
    assert [(d.id, d.title, d.text, d.first_line, d.last_line) for d in documents] == [
        ("1", "How, exactly?", "Line one\nline two", 2, 3),
        ("faq.csv#2", "Where?", "Here", 5, 5),
    ]


def test_csv_with_semicolons_and_tsv_with_bare_quotes_are_read(tmp_path: Path) -> None:
    [document], _ = records(tmp_path / "a.csv", "id;title;text\n1;T;a, b\n")
    assert (document.title, document.text) == ("T", "a, b")
    documents, _ = records(tmp_path / "a.tsv", 'id\ttext\n1\t"quoted start\n2\tb\n')
    assert [d.text for d in documents] == ['"quoted start', "b"]


def test_a_large_csv_field_is_no_problem_and_a_broken_row_is_one_reason(tmp_path: Path) -> None:
    documents, reasons = records(tmp_path / "a.csv", f'id,text\n1,{"x" * 300_000}\n2,"a"b\n3,c\n')
    assert [d.id for d in documents] == ["1", "3"]
    assert reasons[0].startswith("line 3: not valid CSV (")


def test_a_table_without_text_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="a.csv: no text column among id, colour; name one text or body"):
        read(source(tmp_path / "a.csv", "id,colour\n1,red\n"))
    assert records(tmp_path / "b.csv", "id,text\n") == ([], ["no records"])
    assert records(tmp_path / "b.jsonl", "\n") == ([], ["no records"])


# A whole corpus


def test_a_record_whose_id_an_earlier_file_has_is_known_by_its_file_too(tmp_path: Path) -> None:
    put(tmp_path / "docs/a.jsonl", '{"_id": "x", "text": "first"}\n')
    put(tmp_path / "docs/b.jsonl", '{"_id": "y", "text": "other"}\n{"_id": "x", "text": "second"}\n')
    put(tmp_path / "docs/c.txt", b"\xff\xff")
    put(tmp_path / "docs/d.jsonl", '{"_id": "e.txt", "text": "third"}\n')
    put(tmp_path / "docs/e.txt", "fourth")
    told: list[tuple[str, int, int]] = []
    documents, skipped = read_all(workspace(tmp_path, ["docs"]), "notes", lambda *call: told.append(call))
    found = [(d.id, d.text) for d in documents]
    assert found == [("x", "first"), ("y", "other"), ("b.jsonl#x", "second"), ("e.txt", "third")]
    assert [(item.path, item.reason) for item in skipped] == [
        ("c.txt", "not UTF-8 (byte 0), and no other encoding fits; save it as UTF-8"),
        ("e.txt", "document id 'e.txt' is taken by d.jsonl line 1"),
    ]
    assert told == [("read", done, 5) for done in range(1, 6)]


def test_hashes_follow_the_content(tmp_path: Path) -> None:
    file = source(tmp_path / "x.txt", "a")
    assert file_hash(file) == hashlib.sha256(b"a").hexdigest()
    record = Document("i", "p", "t", "text", "text", 1, 1)
    assert record.content_hash == Document("j", "q", "t", "text", "text", 1, 1).content_hash
    assert record.content_hash != Document("i", "p", "t", "text", "text", 2, 2).content_hash
    assert record.content_hash != Document("i", "p", "t", "text!", "text", 1, 1).content_hash


# Bounds


def test_a_title_that_is_too_long_is_cut_and_an_id_that_is_is_left_out(tmp_path: Path) -> None:
    lines = [json.dumps({"id": id, "title": "t" * 5000, "text": "x"}) for id in ("a", "b" * 2000)]
    (document,), (skipped,) = read(source(tmp_path / "x.jsonl", "\n".join(lines)))
    assert len(document.title) == 2001 and document.title.endswith("t…")
    assert skipped.reason == f"id {'b' * 40!r}… is longer than 1000 characters"


def test_a_file_that_grew_beyond_measure_since_the_walk_is_left_for_the_next_run(tmp_path: Path) -> None:
    file = source(tmp_path / "x.txt", "small")
    put(file.path, "grown " * 50)
    assert read(file)[0][0].text == "grown " * 50
    put(file.path, "x" * 1_000_100)
    assert read_or_skip(file)[1] == [Skipped("x.txt", "grew while it was read; the next run reads it")]


@pytest.mark.parametrize("what", ["pipe", "link", "folder"])
def test_a_file_that_became_something_else_since_the_walk_is_neither_followed_nor_waited_for(
    tmp_path: Path, what: str
) -> None:
    file = source(tmp_path / "x.txt", "text")
    secret = put(tmp_path / "secret.txt", "secret")
    file.path.unlink()
    if what == "pipe":
        os.mkfifo(file.path)
    elif what == "link":
        file.path.symlink_to(secret)
    else:
        file.path.mkdir()
    documents, (skipped,) = read_or_skip(file)
    assert documents == [] and skipped.path == "x.txt"
    with pytest.raises(DocumentError, match="^x.txt: "):
        file_hash(file)


def test_of_a_file_without_measure_what_is_left_out_is_counted(tmp_path: Path) -> None:
    found, skipped = read(source(tmp_path / "a.csv", "id,text\n" + "7,\n" * 1200 + "8,The pump.\n"))
    assert [document.text for document in found] == ["The pump."]
    assert len(skipped) == 1001 and skipped[0].reason == "line 2: no text"
    assert skipped[-1].reason == "200 more of the kind, the last of them line 1201: no text"
