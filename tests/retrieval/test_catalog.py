from __future__ import annotations

import os
import resource
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from retrieval.catalog import CatalogReader
from retrieval.catalog_writing import Catalog
from retrieval.documents import Document, Skipped, SourceFile
from retrieval.embedding_cache import EmbeddingCache, text_hash
from retrieval.errors import IndexingError
from retrieval.passages import Passage


def document(name: str, text: str = "text") -> Document:
    return Document(name, name, name.title(), text, "markdown")


def passage(name: str, part: str, text: str, title: str = "Title") -> Passage:
    return Passage(f"{name}#{part}", name, title, ("Top", part), text, 3, 5)


def numbers(catalog: Catalog) -> list[int]:
    return catalog.numbers().tolist()


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    for name in ("a/one.md", "b/two.md"):
        catalog.put_document(document(name))
        catalog.put_passages(name, [passage(name, "x", f"{name} x"), passage(name, "y", f"{name} y")])
    return catalog


def test_passages_keep_their_number_while_their_text_stays(catalog: Catalog) -> None:
    before = numbers(catalog)
    catalog.put_passages("a/one.md", [passage("a/one.md", "y", "a/one.md y"), passage("a/one.md", "x", "changed")])
    assert numbers(catalog) == [before[1], before[2], before[3], before[3] + 1]


def test_the_same_id_with_another_embedded_text_is_another_passage(catalog: Catalog) -> None:
    before = numbers(catalog)
    catalog.put_passages("b/two.md", [passage("b/two.md", "x", "b/two.md x", title="Renamed")])
    assert numbers(catalog)[:2] == before[:2]
    assert not set(numbers(catalog)[2:]) & set(before)


def test_a_number_is_never_given_again(catalog: Catalog, tmp_path: Path) -> None:
    last = max(numbers(catalog))
    catalog.remove_document("b/two.md")
    catalog.close()
    reopened = Catalog(tmp_path / "catalog.sqlite")
    reopened.put_passages("a/one.md", [passage("a/one.md", "z", "new")])
    assert numbers(reopened) == [last + 1]
    reopened.close()


def test_a_reader_gets_passages_as_they_were_put(catalog: Catalog, tmp_path: Path) -> None:
    wanted = numbers(catalog)[1:3]
    assert catalog.texts(wanted) == [
        passage("a/one.md", "y", "a/one.md y").embedded_text,
        passage("b/two.md", "x", "b/two.md x").embedded_text,
    ]
    catalog.close()
    rows = CatalogReader(tmp_path / "catalog.sqlite").passages(wanted)
    assert rows[wanted[0]].passage == passage("a/one.md", "y", "a/one.md y")
    assert rows[wanted[1]].path == "b/two.md"


def test_prefixes_are_of_document_ids_and_paths(catalog: Catalog, tmp_path: Path) -> None:
    everything = numbers(catalog)
    catalog.close()
    reader = CatalogReader(tmp_path / "catalog.sqlite")
    assert reader.numbers_under("a/").tolist() == everything[:2]
    assert reader.numbers_under("").tolist() == everything
    assert reader.numbers_under("A/%").tolist() == []


def test_documents_are_compared_by_content(catalog: Catalog, tmp_path: Path) -> None:
    catalog.close()
    later = Catalog(tmp_path / "later.sqlite")
    later.put_document(document("a/one.md", "other text"))
    later.put_document(document("c/three.md"))
    assert later.compare(tmp_path / "catalog.sqlite") == (1, 1, 1, 0)
    later.put_document(document("b/two.md"))
    assert later.compare(tmp_path / "catalog.sqlite") == (1, 1, 0, 1)
    later.close()


def test_forgetting_a_file_forgets_what_was_skipped_in_it(catalog: Catalog) -> None:
    catalog.put_file(SourceFile(Path("x.jsonl"), "x.jsonl", 5, 7, changed_ns=8), "digest")
    catalog.put_skipped("x.jsonl", [Skipped("x.jsonl", "line 2: no text")])
    assert (catalog.files()["x.jsonl"].modified_ns, catalog.files()["x.jsonl"].changed_ns) == (7, 8)
    assert catalog.paths() == ["a/one.md", "b/two.md", "x.jsonl"]
    catalog.forget_file("x.jsonl")
    assert (catalog.files(), catalog.skipped()) == ({}, [])


def test_threads_read_at_once(catalog: Catalog, tmp_path: Path) -> None:
    wanted = numbers(catalog)
    catalog.close()
    reader = CatalogReader(tmp_path / "catalog.sqlite")
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(len(reader.passages(wanted)) for _ in range(20))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4] * 160


def test_threads_that_end_leave_no_file_open(catalog: Catalog, tmp_path: Path) -> None:
    wanted = numbers(catalog)
    catalog.close()
    reader = CatalogReader(tmp_path / "catalog.sqlite")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        thread = threading.Thread(target=reader.passages, args=(wanted,))
        thread.start()
        thread.join()
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_catalogue_that_cannot_be_opened_now_is_not_called_damaged(catalog: Catalog, tmp_path: Path) -> None:
    catalog.close()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(IndexingError, match="too many files open") as refused:
            CatalogReader(tmp_path / "catalog.sqlite")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert "damaged" not in str(refused.value) and "--full" not in str(refused.value)


def test_a_file_that_is_no_catalogue_is_named(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(IndexingError, match=r"catalog\.sqlite is missing or damaged"):
        CatalogReader(tmp_path / "catalog.sqlite")


def test_the_cache_returns_the_very_vectors_it_was_given(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hashes = [text_hash(str(number)) for number in range(1000)]
    with EmbeddingCache(tmp_path / "embeddings" / "f.sqlite", 8) as cache:
        cache.keep(dict(zip(hashes, vectors, strict=True)))
    with EmbeddingCache(tmp_path / "embeddings" / "f.sqlite", 8) as cache:
        found = cache.find([*hashes, text_hash("absent")])
    assert found.keys() == set(hashes)
    np.testing.assert_array_equal(np.stack([found[digest] for digest in hashes]), vectors)


def test_a_damaged_cache_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "f.sqlite").write_bytes(b"this is not a database, whatever it was once" * 100)
    with EmbeddingCache(tmp_path / "f.sqlite", 2) as cache:
        cache.keep({text_hash("x"): np.array([0.6, 0.8], dtype=np.float32)})
        assert list(cache.find([text_hash("x")])) == [text_hash("x")]


def test_a_cache_that_is_damaged_inside_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    vectors = {text_hash(str(number)): np.eye(8, dtype=np.float32)[number % 8] for number in range(5000)}
    with EmbeddingCache(path, 8) as cache:
        cache.keep(vectors)
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"x" * (len(whole) - 8192))
    with EmbeddingCache(path, 8) as cache:
        assert cache.find(vectors) == {}
        cache.keep(vectors)
        assert len(cache.find(vectors)) == len(vectors)


def test_a_vector_that_the_disk_has_changed_is_encoded_again(tmp_path: Path) -> None:
    kept = {text_hash(name): np.array([0.6, 0.8], dtype=np.float32) for name in ("longer", "whole")}
    kept[text_hash("nan")] = np.array([np.nan, 0], dtype=np.float32)
    kept[text_hash("wordless")] = np.zeros(2, dtype=np.float32)
    kept[text_hash("longer")] = np.array([2.6, 0.8], dtype=np.float32)
    with EmbeddingCache(tmp_path / "f.sqlite", 2) as cache:
        cache.keep(kept)
        assert cache.find(kept).keys() == {text_hash("whole"), text_hash("wordless")}


def test_a_prefix_finds_ids_and_paths_by_code_points(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.sqlite")
    top = "\U0010ffff"
    names = [
        "a",
        "ab/c",
        "ab/d",
        "aB/c",
        "ac",
        "ä/x",
        "文/一",
        "文/二",
        "\ud7ffx",
        "\ue000x",
        "😀/x",
        f"{top}x",
        f"a{top}x",
    ]
    for number, name in enumerate(names):
        path = f"files/{number}.jsonl" if number % 2 else name
        catalog.put_document(Document(name, path, name, "text", "markdown"))
        catalog.put_passages(name, [passage(name, "x", name)])
    catalog.close()
    reader = CatalogReader(tmp_path / "catalog.sqlite")
    every = reader.passages(range(1, len(names) + 1))
    for prefix in [*names, "ab", "ab/", "A", "文", "\ud7ff", "\ue000", top, f"a{top}", "files/", "files/1", "x", "a\0"]:
        expected = {
            number for number, row in every.items() if f"{row.passage.document_id}\n{row.path}".startswith(prefix)
        } | {number for number, row in every.items() if row.path.startswith(prefix)}
        found = reader.numbers_under(prefix).tolist()
        assert (prefix, sorted(found)) == (prefix, sorted(expected))


def test_neighbours_are_those_of_the_document_in_its_order(catalog: Catalog, tmp_path: Path) -> None:
    one = [passage("a/one.md", part, f"a/one.md {part}") for part in "xy"]
    catalog.put_passages("a/one.md", [one[1], passage("a/one.md", "new", "new"), one[0]])
    catalog.close()
    reader = CatalogReader(tmp_path / "catalog.sqlite")
    (new,) = (row for row in reader.passages([1, 2, 5]).values() if row.passage.text == "new")
    texts = [row.passage.text for row in reader.neighbours(new, 1)]
    assert texts == ["a/one.md y", "new", "a/one.md x"]
    assert [row.position for row in reader.neighbours(new, 9)] == [0, 1, 2]


def test_text_that_is_not_utf8_any_more_is_damage(catalog: Catalog, tmp_path: Path) -> None:
    wanted = numbers(catalog)
    catalog.close()
    file = tmp_path / "catalog.sqlite"
    file.write_bytes(file.read_bytes().replace(b"b/two.md y", b"b/two.md \xe1"))
    with pytest.raises(IndexingError, match="is missing or damaged"):
        CatalogReader(file).passages(wanted)
