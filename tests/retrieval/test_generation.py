from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.documents import Skipped
from retrieval.errors import IndexingError
from retrieval.generation import (
    FORMAT,
    Generation,
    Manifest,
    current_name,
    open_current,
    seal,
    stage,
    switch,
    verify,
    writing,
)

MANIFEST = Manifest(
    format=FORMAT,
    corpus="notes",
    created="2026-01-02T03:04:05+00:00",
    documents=1,
    passages=2,
    reference="v1",
    fingerprint="f" * 64,
    dimension=8,
    max_tokens=224,
    tokenizer=1,
    language="english",
    lexical_weight=0.3,
    lexical_dead=0,
    skipped=(Skipped("naïve.pdf", "unknown format .pdf"),),
    files={},
)


def sealed(index_dir: Path, content: str = "content") -> Generation:
    index_dir.mkdir(exist_ok=True)
    with stage(index_dir) as folder:
        (folder / "catalog.sqlite").write_text(content, encoding="utf-8")
        (folder / "lexical").mkdir()
        (folder / "lexical" / "meta.json").write_text("{}", encoding="utf-8")
        return seal(folder, MANIFEST)


def names(index_dir: Path) -> list[str]:
    return sorted(path.name for path in index_dir.iterdir())


def test_a_sealed_generation_is_read_as_it_was_written(tmp_path: Path) -> None:
    generation = sealed(tmp_path)
    assert generation.name == "g000001"
    assert replace(generation.manifest, files={}) == MANIFEST
    assert set(generation.manifest.files) == {"catalog.sqlite", "lexical/meta.json"}
    verify(generation)


def test_sealing_does_not_switch(tmp_path: Path) -> None:
    first = sealed(tmp_path)
    with pytest.raises(IndexingError, match="corpus 'notes' has no index yet; run `shoptalk index`"):
        open_current(tmp_path, "notes")
    switch(tmp_path, first)
    second = sealed(tmp_path)
    assert (current_name(tmp_path), second.name) == ("g000001", "g000002")
    assert open_current(tmp_path, "notes").name == "g000001"
    switch(tmp_path, second)
    assert open_current(tmp_path, "notes").name == "g000002"


def test_what_was_staged_and_not_sealed_is_gone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stage(tmp_path) as folder:
        (folder / "file").write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_the_previous_generation_is_kept_and_older_ones_are_swept(tmp_path: Path) -> None:
    for _ in range(4):
        generation = sealed(tmp_path)
        switch(tmp_path, generation)
        generation.close()
    assert names(tmp_path) == ["CURRENT", "g000003", "g000004"]


def test_a_generation_sealed_later_is_not_swept(tmp_path: Path) -> None:
    switch(tmp_path, sealed(tmp_path))
    second, third = sealed(tmp_path), sealed(tmp_path)
    switch(tmp_path, second)
    switch(tmp_path, third)
    assert current_name(tmp_path) == "g000003"


def test_switching_to_a_swept_generation_says_so(tmp_path: Path) -> None:
    forgotten = sealed(tmp_path)
    forgotten.close()
    switch(tmp_path, sealed(tmp_path))
    with pytest.raises(IndexingError, match="g000001 is not put live: g000002, made later, is live already"):
        switch(tmp_path, forgotten)
    assert current_name(tmp_path) == "g000002"


def test_a_generation_that_a_reader_holds_is_swept_only_after_it_is_let_go(tmp_path: Path) -> None:
    switch(tmp_path, sealed(tmp_path))
    held = open_current(tmp_path, "notes")
    for _ in range(3):
        switch(tmp_path, sealed(tmp_path))
    assert held.catalog_file.read_text(encoding="utf-8") == "content"
    assert names(tmp_path) == ["CURRENT", "g000001", "g000003", "g000004"]
    held.close()
    switch(tmp_path, sealed(tmp_path))
    assert names(tmp_path) == ["CURRENT", "g000004", "g000005"]


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    generation = sealed(tmp_path)
    for name in generation.manifest.files:
        file = generation.folder / name
        content = bytearray(file.read_bytes())
        content[1] ^= 4
        file.write_bytes(content)
        with pytest.raises(IndexingError, match=f"{file.name} is damaged: its checksum is wrong"):
            verify(Generation(generation.folder))
        content[1] ^= 4
        file.write_bytes(content)
    verify(generation)


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    generation = sealed(tmp_path)
    file = generation.folder / "manifest.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**values, "passages": 3}), encoding="utf-8")
    with pytest.raises(IndexingError, match=r"manifest\.json is unusable: it was altered; .*`shoptalk index --full`"):
        Generation(generation.folder)


def test_opening_finds_missing_and_torn_files(tmp_path: Path) -> None:
    generation = sealed(tmp_path)
    generation.catalog_file.write_text("conten", encoding="utf-8")
    with pytest.raises(IndexingError, match=r"catalog\.sqlite is damaged: 6 bytes instead of 7"):
        Generation(generation.folder)
    generation.catalog_file.unlink()
    with pytest.raises(IndexingError, match=r"catalog\.sqlite is missing"):
        Generation(generation.folder)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with writing(tmp_path / "notes", "notes"):
        with pytest.raises(IndexingError, match=r"another process \(\d+\) is indexing corpus 'notes'"):
            with writing(tmp_path / "notes", "notes"):
                raise AssertionError("two writers")
        with writing(tmp_path / "other", "other"):
            pass
    with writing(tmp_path / "notes", "notes"):
        pass


def test_a_writer_of_another_process_is_waited_out_and_its_remains_are_swept(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from retrieval.generation import stage, writing
with writing(Path(sys.argv[1]), "notes"), stage(Path(sys.argv[1])) as folder:
    print(folder.name, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        left = process.stdout.readline().strip()
        with (
            pytest.raises(IndexingError, match=rf"another process \({process.pid}\) is indexing"),
            writing(tmp_path, "notes"),
        ):
            raise AssertionError("two writers")
        process.kill()
    assert left in names(tmp_path)
    with writing(tmp_path, "notes"):
        assert left not in names(tmp_path)
