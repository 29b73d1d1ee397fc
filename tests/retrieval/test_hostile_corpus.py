from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile_files
import pytest

EXTRA_MEGABYTES = 300
"""What indexing may take beyond its libraries; the largest file has 10 MB."""


@dataclass(frozen=True)
class Outcome:
    """What indexing the hostile corpus came to; ``files`` are all that are in its folder."""

    files: set[str]
    documents: set[str]
    skipped: dict[str, list[str]]
    canaries: int
    hits: dict[str, list[str]]
    megabytes: tuple[int, int]
    again: list[int]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    base = tmp_path_factory.mktemp("hostile")
    root = base / "root"
    hostile_files.build(root, base / "outside")
    (base / "shoptalk.toml").write_text('[corpus.hostile]\npaths = ["root"]\n')
    files = set(listed(root))
    try:
        yield indexed(base, root, files)
    finally:
        (root / "places/closed").chmod(0o700)


def listed(root: Path) -> Iterator[str]:
    """Every file and link below ``root``, as a report can name it."""
    for folder, folders, names in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*names, *links]:
            relative = os.path.relpath(os.path.join(folder, name), root)
            yield relative.encode("utf-8", "replace").decode()


def indexed(base: Path, root: Path, files: set[str]) -> Outcome:
    script = Path(__file__).with_name("hostile_indexing.py")
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    run = subprocess.run(
        [sys.executable, "-W", "error", script, base, root],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        cwd=base,
    )
    assert (run.returncode, run.stderr) == (0, "")
    found = json.loads(run.stdout)
    skipped: dict[str, list[str]] = {}
    for path, reason in found["skipped"]:
        skipped.setdefault(path, []).append(reason)
    return Outcome(
        files,
        set(found["documents"]),
        skipped,
        found["canaries"],
        found["hits"],
        tuple(found["megabytes"]),
        found["again"],
    )


def test_there_are_enough_hostile_files(outcome: Outcome) -> None:
    assert len(outcome.files) > 150


def test_each_file_is_indexed_or_listed_with_its_reason(outcome: Outcome) -> None:
    left = outcome.files - outcome.documents - outcome.skipped.keys()
    if os.geteuid():
        left.discard("places/closed/inner.md")  # root may read it, others are told of its folder
    assert left == set()
    assert all(reason.strip() for reasons in outcome.skipped.values() for reason in reasons)


def test_nothing_from_outside_of_the_corpus_gets_in(outcome: Outcome) -> None:
    assert outcome.canaries == 0
    assert outcome.hits == {hostile_files.CANARY: [], hostile_files.KNOWN: ["harmless.md"]}


def test_memory_stays_bounded(outcome: Outcome) -> None:
    before, during = outcome.megabytes
    assert during - before < EXTRA_MEGABYTES, (before, during)


def test_a_second_run_finds_every_document_as_it_was(outcome: Outcome) -> None:
    assert outcome.again == [0, 0, 0]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("text/zeros.txt", "binary file"),
        ("text/nothing.txt", "empty file"),
        ("text/space.txt", "no text"),
        ("places/sparse.txt", "500 MB is more than max_file_mb = 64"),
        ("places/pipe.txt", "not a regular file"),
        ("places/socket.txt", "not a regular file"),
        ("places/secret.md", "link to outside of the corpus"),
        ("places/secrets", "link to outside of the corpus"),
        ("places/secret-up.md", "link to outside of the corpus"),
        ("places/one.md", "broken link"),
        ("places/up", "link to ., which is read under that name"),
        ("places/??.md", "its name is not UTF-8; rename it"),
        ("places/zz-vanishes.txt", "cannot be read: No such file or directory"),
        ("places/zz-becomes-a-folder.txt", "cannot be read: Is a directory"),
        ("pdf/password.pdf", "is encrypted with a password; save it without one"),
        ("pdf/scan.pdf", "has no text (a scan?); run OCR on it first"),
        ("pdf/bomb.pdf", "no page can be read (Limit reached while decompressing"),
        ("pdf/tree-circle.pdf", "not a PDF that can be read (Detected cyclic page references)"),
        ("xlsx/half.xlsx", "not an Excel workbook"),
        ("xlsx/excel97.xlsx", "save it as .xlsx without a password"),
        ("xlsx/bomb.xlsx", "would unpack to"),
        ("xlsx/wide.xlsx", "sheet 'One' is too large"),
        ("xlsx/shared.xlsx", "sheet 'One' is too large"),
        ("xlsx/listed.xlsx", "sheet 'S1' has no part of its own"),
        ("docx/bomb.docx", "would unpack to 100 MB"),
        ("docx/lie.docx", "word/document.xml is damaged"),
        ("docx/parts.docx", "has too many parts"),
        ("docx/entities.docx", "declares a document type"),
        ("docx/external.docx", "declares a document type"),
        ("docx/word97.docx", "is encrypted, or in the format of Word 97"),
        ("records/deep.jsonl", "not valid JSON"),
        ("records/long-id.jsonl", "is longer than 1000 characters"),
    ],
)
def test_the_reason_says_what_is_wrong(outcome: Outcome, path: str, reason: str) -> None:
    assert any(reason in given for given in outcome.skipped[path])


@pytest.mark.parametrize(
    "path",
    [
        "text/one-line.txt",
        "text/one-word.txt",
        "markdown/headings.md",
        "markdown/table.md",
        "rst/include.rst",
        "html/nested.html",
        "records/field.csv",
        "pdf/empty-password.pdf",
        "pdf/noise-after.pdf",
        "pdf/same-page.pdf",
        "docx/columns.docx",
        "docx/utf16.docx",
        "places/new\nline.md",
        "places/zz-grows.txt",
    ],
)
def test_what_is_only_odd_is_indexed(outcome: Outcome, path: str) -> None:
    assert path in outcome.documents
