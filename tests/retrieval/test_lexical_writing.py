from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retrieval import lexical_writing
from retrieval.lexical import LexicalIndex
from retrieval.lexical_writing import write_lexical

WORDS = "wombat koala emu platypus digs runs swims eats grass".split()
SIZE = 300


def texts(numbers: Sequence[int]) -> list[str]:
    return [" ".join(WORDS[number * step % len(WORDS)] for step in range(1, number % 7 + 3)) for number in numbers]


def write(folder: Path, numbers: Sequence[int], base: tuple[Path, int] | None = None) -> int:
    """Write the index of ``numbers``; return how many ghosts it has."""
    known = LexicalIndex.open(base[0], "english").numbers() if base else []
    wanted = np.asarray(sorted(numbers), dtype=np.int64)
    gone, new = np.setdiff1d(known, wanted).astype(np.int64), np.setdiff1d(wanted, known)
    return write_lexical(folder, "english", wanted, gone, new, texts, lambda: None, base)


def ranks(folder: Path) -> list[list[tuple[int, float]]]:
    index = LexicalIndex.open(folder, "english")
    return [index.search(word, 2 * SIZE) for word in WORDS]


def test_after_any_changes_the_scores_are_those_of_an_index_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical_writing, "REWRITTEN", 10)
    everything = set(range(SIZE))
    changes = [
        everything - {3, 40},  # some only go: too few come to fill the segments
        everything | {SIZE, SIZE + 1} - {3, 40},  # some only come: a segment of their own
        (everything | {SIZE, SIZE + 2}) - {4, 40},  # both, where there are two segments
        {number + 5 for number in everything} - {41},
    ]
    write(tmp_path / "0", sorted(everything))
    for step, numbers in enumerate(changes):
        base, grown, anew = (tmp_path / name for name in (str(step), str(step + 1), f"anew{step}"))
        assert write(grown, sorted(numbers), (base, 0)) == 0
        write(anew, sorted(numbers))
        assert ranks(grown) == ranks(anew), step


def test_ghosts_are_merged_away_and_not_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical_writing, "REWRITTEN", 10)
    write(tmp_path / "0", range(SIZE))
    written: list[int] = []

    def counting(numbers: Sequence[int]) -> list[str]:
        written.extend(numbers)
        return texts(numbers)

    for step, count in enumerate((1, 3, 20)):
        base, folder = tmp_path / str(step), tmp_path / str(step + 1)
        known = np.asarray(sorted(LexicalIndex.open(base, "english").numbers()), dtype=np.int64)
        new = np.arange(SIZE * (step + 2), SIZE * (step + 2) + count)
        numbers = np.concatenate([known[5:], new])
        assert write_lexical(folder, "english", numbers, known[:5], new, counting, lambda: None, (base, 0)) == 0
        assert LexicalIndex.open(folder, "english").segments == 1
    assert len(written) < 60


def test_a_merge_that_tantivy_does_not_make_is_replaced_by_writing_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexical_writing, "REWRITTEN", 10)
    monkeypatch.setattr(lexical_writing, "MERGED_AT", 5)  # fewer than tantivy wants
    write(tmp_path / "0", range(SIZE))
    assert write(tmp_path / "1", range(7, SIZE), (tmp_path / "0", 0)) == 0
    write(tmp_path / "anew", range(7, SIZE))
    assert ranks(tmp_path / "1") == ranks(tmp_path / "anew")


def test_unchanged_segments_are_shared_with_the_last_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "0", range(SIZE))
    before = {path.name: path.read_bytes() for path in (tmp_path / "0").iterdir()}
    write(tmp_path / "1", range(SIZE + 5), (tmp_path / "0", 0))
    shared = [path for path in (tmp_path / "0").glob("*.idx") if os.path.samefile(path, tmp_path / "1" / path.name)]
    assert shared
    assert {path.name: path.read_bytes() for path in (tmp_path / "0").iterdir()} == before

    def no_links(*_: object) -> None:
        raise OSError("this file system has none")

    monkeypatch.setattr(os, "link", no_links)
    write(tmp_path / "2", range(SIZE + 9), (tmp_path / "1", 0))
    assert len(LexicalIndex.open(tmp_path / "2", "english")) == SIZE + 9
