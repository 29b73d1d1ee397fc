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


def test_after_any_changes_the_scores_are_those_of_an_index_made_anew(tmp_path: Path) -> None:
    everything = set(range(SIZE))
    changes = [
        everything - {3, 40},
        everything | {SIZE, SIZE + 1} - {3, 40},  # some only come
        (everything | {SIZE, SIZE + 2}) - {4, 40},
        {number + 5 for number in everything} - {41},
    ]
    write(tmp_path / "0", sorted(everything))
    for step, numbers in enumerate(changes):
        base, grown, anew = (tmp_path / name for name in (str(step), str(step + 1), f"anew{step}"))
        assert write(grown, sorted(numbers), (base, 0)) == 0
        write(anew, sorted(numbers))
        assert ranks(grown) == ranks(anew), step


def test_large_indexes_bear_ghosts_until_a_tenth_of_them_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical_writing, "EXACT", 10)
    write(tmp_path / "0", range(SIZE))
    ghosts = 0
    for step, (first, expected) in enumerate(((10, 10), (25, 25), (60, 0))):
        ghosts = write(tmp_path / str(step + 1), range(first, SIZE), (tmp_path / str(step), ghosts))
        assert ghosts == expected
        assert sorted(LexicalIndex.open(tmp_path / str(step + 1), "english").numbers()) == list(range(first, SIZE))


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
