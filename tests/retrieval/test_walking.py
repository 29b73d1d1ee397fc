from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrieval.columns import Columns
from retrieval.documents import require_documents, walk
from retrieval.errors import DocumentError, SettingsError
from retrieval.workspace import Workspace


def found(root: Path, path: str = "docs", **settings: object) -> list[str]:
    lines = [
        "[corpus.notes]",
        *(f"{key} = {json.dumps(value)}" for key, value in {"paths": [path], **settings}.items()),
    ]
    (root / "shoptalk.toml").write_text("\n".join(lines))
    files, skipped = walk(Workspace.open(root, environ={}), "notes")
    assert skipped == []
    return [file.relative for file in files]


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Some text.\n")


def ignore(folder: Path, *patterns: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("\n".join(patterns))


def test_what_git_ignores_is_not_walked(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.md", "build/b.md", "x/build/c.md", "x/d.log.md", "keep.log.md")
    ignore(tmp_path / "docs", "# comment", "build/", "*.log.md", "!keep.log.md", "")
    assert found(tmp_path) == ["a.md", "keep.log.md"]
    assert len(found(tmp_path, gitignore=False)) == 5


def test_an_inner_gitignore_has_the_last_word_on_what_is_under_it(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.txt", "in/a.txt", "in/b.md", "in/deep/b.md", "in/deep/c.md")
    ignore(tmp_path / "docs", "a.txt")
    ignore(tmp_path / "docs/in", "!a.txt", "/b.md")
    ignore(tmp_path / "docs/in/deep", "c.md")
    assert found(tmp_path) == ["in/a.txt", "in/deep/b.md"]


def test_a_file_cannot_be_brought_back_from_an_ignored_folder(tmp_path: Path) -> None:
    put(tmp_path / "docs", "out/a.md", "b.md")
    ignore(tmp_path / "docs", "out/", "!out/a.md")
    assert found(tmp_path) == ["b.md"]


def test_the_gitignore_files_of_the_repository_around_a_corpus_count(tmp_path: Path) -> None:
    put(tmp_path, "docs/api/a.md", "docs/api/_build/b.md", "docs/c.md")
    ignore(tmp_path, "_build/", "docs/c.md")
    assert found(tmp_path) == ["api/_build/b.md", "api/a.md", "c.md"]
    (tmp_path / ".git").mkdir()
    assert found(tmp_path) == ["api/a.md"]
    assert found(tmp_path, "docs/api") == ["a.md"]


def test_a_folder_that_is_ignored_but_asked_for_is_walked(tmp_path: Path) -> None:
    put(tmp_path, "docs/a.md", "docs/in/b.md", "docs/in/c.tmp.md")
    ignore(tmp_path, "docs/")
    ignore(tmp_path / "docs/in", "*.tmp.md")
    (tmp_path / ".git").mkdir()
    assert found(tmp_path) == ["a.md", "in/b.md"]
    assert found(tmp_path, "docs/in") == ["b.md"]


def test_a_gitignore_that_is_a_link_or_makes_no_sense_does_no_harm(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.md", "b.md", "in/a.md")
    (tmp_path / "patterns").write_text("a.md")
    (tmp_path / "docs/.gitignore").symlink_to(tmp_path / "patterns")
    (tmp_path / "docs/in/.gitignore").write_bytes(b"!\n/\n\xff\xfe\n[\nb.md\n")
    assert found(tmp_path) == ["a.md", "b.md", "in/a.md"]


def test_links_are_ignored_by_the_names_they_have(tmp_path: Path) -> None:
    put(tmp_path / "docs", ".store/a.md", ".store/b.md")
    (tmp_path / "docs/shown.md").symlink_to(".store/a.md")
    (tmp_path / "docs/hidden.md").symlink_to(".store/b.md")
    ignore(tmp_path / "docs", "hidden.md")
    assert found(tmp_path) == ["shown.md"]


def test_other_people_s_code_is_not_walked_unless_it_was_asked_for(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.md", "node_modules/x/README.md", "x/__pycache__/y.txt", "env/pyvenv.cfg", "env/z.txt")
    assert found(tmp_path) == ["a.md"]
    assert found(tmp_path, "docs/node_modules") == ["x/README.md"]


def test_what_a_browser_saved_with_a_page_is_listed_and_not_walked(tmp_path: Path) -> None:
    put(
        tmp_path / "docs",
        "Pump.html",
        "Pump_files/x.js",
        "Pump_files/css2",
        "Pump_files/.x",
        "Hose.htm",
        "Hose_Dateien/y.html",
        "My_files/z.md",
    )
    (tmp_path / "shoptalk.toml").write_text('[corpus.notes]\npaths = ["docs"]')
    files, skipped = walk(Workspace.open(tmp_path, environ={}), "notes")
    assert [file.relative for file in files] == ["Hose.htm", "My_files/z.md", "Pump.html"]
    assert [item.path for item in skipped] == ["Hose_Dateien", "Pump_files"]
    assert found(tmp_path, "docs/Pump_files") == ["css2", "x.js"]
    (tmp_path / "shoptalk.toml").write_text('[corpus.notes]\npaths = ["docs", "docs/Pump_files"]')
    files, skipped = walk(Workspace.open(tmp_path, environ={}), "notes")
    assert "Pump_files/x.js" in [file.relative for file in files]
    assert [item.path for item in skipped] == ["Hose_Dateien"]


@pytest.mark.parametrize("own", ["data.md", "main.c", "x/y.js", "notes.pdf", "LICENSE"])
def test_a_folder_beside_a_page_that_holds_other_documents_is_walked(tmp_path: Path, own: str) -> None:
    put(tmp_path / "docs", "Pump.html", "Pump_files/frame.html", "Pump_files/x.js", f"Pump_files/{own}")
    assert f"Pump_files/{own}" in found(tmp_path, "docs")


@pytest.mark.parametrize(
    ("include", "exclude", "names"),
    [
        (["*.md"], ["drafts"], ["a.md", "x/e.md", "x/y/f.md"]),
        (["x/**/*.md"], ["/x/drafts/"], ["x/e.md", "x/y/f.md"]),
        (["x/"], [], ["x/drafts/d.md", "x/e.md", "x/y/f.md"]),
        ([], ["*.md", "!a.md"], ["a.md", "b.txt"]),
        (["[ab].*"], [], ["a.md", "b.txt"]),
    ],
)
def test_globs_are_git_s(tmp_path: Path, include: list[str], exclude: list[str], names: list[str]) -> None:
    put(tmp_path / "docs", "a.md", "b.txt", "drafts/c.md", "x/drafts/d.md", "x/e.md", "x/y/f.md")
    assert found(tmp_path, include=include, exclude=exclude) == names


def test_a_glob_that_git_would_not_understand_is_refused_in_settings(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.md")
    with pytest.raises(SettingsError, match=r"shoptalk.toml: exclude has '!', which is no pattern"):
        found(tmp_path, exclude=["*.txt", "!"])
    assert found(tmp_path, exclude=["", "# all but", "*.txt"]) == ["a.md"]


def test_where_globs_leave_nothing_they_are_named(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.md")
    found(tmp_path, include=["*.pdf"])
    with pytest.raises(DocumentError, match=r"check include under \[corpus.notes\], or put files there"):
        require_documents(Workspace.open(tmp_path, environ={}), "notes", 0, [])


def test_an_empty_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="paths"):
        found(tmp_path, "")


def test_files_know_what_the_settings_say_of_columns(tmp_path: Path) -> None:
    put(tmp_path / "docs", "a.csv")
    found(tmp_path, text_columns=["Notes"], title_column="What", id_column="Nr")
    [file], _ = walk(Workspace.open(tmp_path, environ={}), "notes")
    assert file.columns == Columns(("Notes",), "What", "Nr")
