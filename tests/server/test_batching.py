from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hash_embedder import HashEmbedder
from numpy.typing import NDArray

from retrieval.errors import ModelError
from server.batching import SharedEmbedder

SECONDS = 20


class Slow(HashEmbedder):
    """Notes its batches, and holds each until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: Exception | None = None

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.batches.append(list(texts))
        self.begun.release()
        assert self.go.acquire(timeout=SECONDS)
        if self.error:
            raise self.error
        return super().encode_queries(texts)


@pytest.fixture
def callers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(40)


def queued(shared: SharedEmbedder, count: int) -> None:
    while len(shared._queue) < count:
        pass


def test_what_comes_while_a_batch_runs_is_encoded_together_and_each_gets_its_own(callers: ThreadPoolExecutor) -> None:
    slow = Slow()
    shared = SharedEmbedder(slow)
    first = callers.submit(shared.encode_queries, ["alone"])
    assert slow.begun.acquire(timeout=SECONDS)
    rest = [callers.submit(shared.encode_queries, [f"query {number}"]) for number in range(20)]
    queued(shared, 20)
    slow.go.release(3)
    for number, future in enumerate(rest):
        expected = HashEmbedder().encode_queries([f"query {number}"])
        np.testing.assert_array_equal(future.result(SECONDS), expected)
    assert first.result(SECONDS).shape == (1, 32)
    assert [len(batch) for batch in slow.batches] == [1, 16, 4]


def test_a_query_that_is_known_or_on_its_way_is_not_encoded_again(callers: ThreadPoolExecutor) -> None:
    slow = Slow()
    shared = SharedEmbedder(slow)
    twice = [callers.submit(shared.encode_queries, ["same"]) for _ in range(2)]
    slow.go.release()
    np.testing.assert_array_equal(twice[0].result(SECONDS), twice[1].result(SECONDS))
    shared.encode_queries(["same", "same"])
    assert slow.batches == [["same"]]


def test_only_the_latest_queries_are_remembered() -> None:
    slow = Slow()
    shared = SharedEmbedder(slow)
    slow.go.release(100_000)
    shared.encode_queries([str(number) for number in range(1024)])
    shared.encode_queries(["0"])  # asked again, so the latest now
    shared.encode_queries(["one more"])
    before = len(slow.batches)
    shared.encode_queries(["0", "one more"])
    assert len(slow.batches) == before
    shared.encode_queries(["1"])
    assert slow.batches[-1] == ["1"]


def test_a_failure_reaches_all_who_wait_and_is_not_remembered(callers: ThreadPoolExecutor) -> None:
    slow = Slow()
    slow.error = ModelError("no vectors today")
    shared = SharedEmbedder(slow)
    both = callers.submit(shared.encode_queries, ["a", "b"])
    slow.go.release(2)
    with pytest.raises(ModelError, match="no vectors today"):
        both.result(SECONDS)
    with pytest.raises(ModelError):
        shared.encode_queries(["b"]) if slow.go.release() is None else None
    slow.error = None
    slow.go.release()
    np.testing.assert_array_equal(shared.encode_queries(["a"]), HashEmbedder().encode_queries(["a"]))


def test_documents_and_token_counts_pass_through() -> None:
    shared = SharedEmbedder(HashEmbedder())
    assert shared.count_tokens(["one two"]) == [2] and shared.encode_documents(["x"]).shape == (1, 32)
    assert (shared.fingerprint, shared.encode_queries([]).shape) == (HashEmbedder().fingerprint, (0, 32))
