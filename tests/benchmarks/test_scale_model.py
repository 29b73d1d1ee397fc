from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scale_model import (
    GPUS,
    LARGEST_SHARD,
    TOKENIZED,
    Measured,
    Need,
    Node,
    calibrate,
    cluster,
    embedding_hours,
    local,
    milvus,
    passages_per_second,
    qdrant,
)

MEASURED = Measured(1000, tokens=200, words=100, payload=1200, catalog=1500, lexical=250, kept_beside_vector=60)
WORDLESS = replace(MEASURED, words=0)
NODE = Node(memory_gb=50, price=1.0, disk_price=0.1)


def test_float32_vectors_come_near_qdrants_rule_of_thumb() -> None:
    ours = qdrant(WORDLESS, 1024, quantize=False).memory
    assert ours == pytest.approx(1024 * 4 * 1.5, rel=1 / 7)


def test_int8_takes_a_quarter_of_the_vectors_out_of_memory_and_more_disk() -> None:
    whole, quantized = (qdrant(MEASURED, 768, quantize=quantize) for quantize in (False, True))
    assert whole.memory - quantized.memory == pytest.approx(1.25 * (3 * 768 - 4))
    assert quantized.disk > whole.disk > whole.memory


@pytest.mark.parametrize("store", [qdrant, milvus])
def test_a_word_more_is_a_posting_more_and_a_number_more_is_its_bytes_more(store: object) -> None:
    assert callable(store)
    more_words = store(replace(MEASURED, words=101), 384).memory - store(MEASURED, 384).memory
    assert more_words == pytest.approx(1.25 * 12)
    more_numbers = store(MEASURED, 385).memory - store(MEASURED, 384).memory
    assert more_numbers == pytest.approx(1.25 * (1 if store is qdrant else 4))


def test_the_local_store_maps_two_bytes_a_number_and_its_words_and_keeps_signs_of_tokens_twice() -> None:
    need = local(MEASURED, 384)
    assert need.memory == 2 * 384 + 8 + 250
    assert need.disk == need.memory + 1500 + 4 * 384 + 60 + 2 * 200 * 48


def test_nodes_hold_all_copies_within_what_a_database_may_take() -> None:
    need = Need(memory=1000, disk=2000)
    found = cluster(need, 100_000_000, NODE, copies=2)
    assert found.memory_gb == pytest.approx(200) and found.disk_gb == pytest.approx(400)
    assert found.nodes == 5  # of 40 usable GB
    assert found.dollars_a_month == pytest.approx(5 * 730 + 40)
    assert cluster(need, 100_000_000, NODE, copies=2, spare=True).nodes == 10
    shared = cluster(replace(need, shared=True), 100_000_000, NODE, copies=2)
    assert shared.disk_gb == pytest.approx(200) and shared.nodes == 5


@pytest.mark.parametrize(("copies", "nodes"), [(1, 1), (2, 3), (3, 3), (5, 5)])
def test_a_small_collection_has_nodes_for_its_copies_and_a_majority(copies: int, nodes: int) -> None:
    assert cluster(Need(1, 1), 1000, NODE, copies).nodes == nodes


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("passages", [1_000_000, 30_000_000, 99_999_999, 1_000_000_000])
def test_shards_spread_evenly_and_none_is_too_large(passages: int, copies: int) -> None:
    found = cluster(Need(500, 1500), passages, NODE, copies)
    assert found.shards * copies % found.nodes == 0
    assert passages / found.shards <= LARGEST_SHARD


def test_hours_are_passages_by_rate_and_gpus() -> None:
    assert embedding_hours(36_000_000, 1000) == pytest.approx(10)
    assert embedding_hours(36_000_000, 1000, gpus=4) == pytest.approx(2.5)


def test_large_models_take_their_operations_and_small_ones_wait_for_the_tokenizer() -> None:
    assert passages_per_second(GPUS["L4"], 1024, 200) == pytest.approx(0.2 * 121e12 / (2 * 302e6 * 200))
    assert passages_per_second(GPUS["H100"], 384, 200) == TOKENIZED / 200


def test_what_a_passage_takes_is_read_off_an_index_that_is_built() -> None:
    measured = calibrate(documents=30)
    assert measured.passages > 100
    assert 0 < measured.words < measured.tokens < 512
    # A made-up word has some six letters, and the text is in payload and catalogue alike.
    assert 4 * measured.tokens < measured.payload < measured.catalog * 2
    assert measured.lexical > measured.words and measured.kept_beside_vector >= 32
