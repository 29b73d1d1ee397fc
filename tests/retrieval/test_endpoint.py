from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from embedding_server import EmbeddingServer, cut, says, status
from hash_embedder import HashEmbedder

from retrieval.endpoint import Breaker, Endpoint, TooLarge
from retrieval.errors import EndpointError


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(HashEmbedder()) as server:
        yield server


class Client:
    """An endpoint with a clock that only its own waiting moves."""

    def __init__(self, url: str, key: str = "", timeout: float = 5.0) -> None:
        self.now = 0.0
        self.waited: list[float] = []
        self.endpoint = Endpoint(url, key, timeout, clock=lambda: self.now, sleep=self._sleep, jitter=lambda: 0.5)

    def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def embed(self, attempts: int = 4) -> Any:
        return self.endpoint.ask("/embed", {"inputs": ["wombat"]}, attempts=attempts)


def test_a_call_that_fails_is_tried_again_after_pauses_that_double(server: EmbeddingServer) -> None:
    client = Client(server.url)
    server.faults.extend([status(500), status(503), cut])
    assert len(client.embed()) == 1
    assert client.waited == [0.5, 1.0, 2.0]


def test_the_pause_the_server_asks_for_is_kept(server: EmbeddingServer) -> None:
    client = Client(server.url)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    server.faults.extend([status(429, Retry_After="3"), status(503, Retry_After=soon), status(429, Retry_After="x")])
    client.embed()
    assert client.waited[0] == 3.0 and 7 <= client.waited[1] <= 9 and client.waited[2] == 2.0


def test_a_server_that_asks_for_an_hour_is_not_waited_for(server: EmbeddingServer) -> None:
    client = Client(server.url)
    server.faults.append(status(503, Retry_After="3600"))
    with pytest.raises(EndpointError, match="status 503, tried 1 times"):
        client.embed()
    assert client.waited == []


def test_attempts_are_capped(server: EmbeddingServer) -> None:
    client = Client(server.url)
    server.faults.extend([status(500)] * 9)
    with pytest.raises(EndpointError, match="status 500, tried 4 times"):
        client.embed(attempts=4)
    assert len(server.asked) == 4


def test_a_slow_answer_is_given_up(server: EmbeddingServer) -> None:
    release = threading.Event()

    def slow(handler: BaseHTTPRequestHandler, _: Any) -> None:
        release.wait(30)

    server.faults.append(slow)
    try:
        with pytest.raises(EndpointError, match="does not answer .ReadTimeout"):
            Client(server.url, timeout=0.05).embed(attempts=1)
    finally:
        release.set()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(401), "refuses the key .status 401.; set SHOPTALK_ENDPOINT_KEY"),
        (status(404), "has no /embed; are model.endpoint and model.endpoint_kind right"),
        (status(422), r"refuses the request .status 422.: {\"error\": \"fault\"}"),
        (says(b"<html>"), "does not answer in JSON"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_mend(server: EmbeddingServer, fault: Any, message: str) -> None:
    client = Client(server.url, key="secret-key")
    server.faults.append(fault)
    with pytest.raises(EndpointError, match=message) as raised:
        client.embed()
    assert len(server.asked) == 1 and "secret" not in str(raised.value)
    assert server.keys == ["Bearer secret-key"]


def test_a_request_that_is_too_large_is_told_apart(server: EmbeddingServer) -> None:
    server.limit = 0
    with pytest.raises(TooLarge):
        Client(server.url).embed()


def test_the_key_is_in_no_log(server: EmbeddingServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Client(server.url, key="secret-key").embed()
    assert "secret-key" not in caplog.text


def test_after_three_failed_calls_nothing_is_sent_until_a_while_has_passed(server: EmbeddingServer) -> None:
    client = Client(server.url)
    server.faults.extend([status(500)] * 4)
    for _ in range(3):
        with pytest.raises(EndpointError, match="status 500"):
            client.embed(attempts=1)
    with pytest.raises(EndpointError, match="is down, as several calls in a row failed"):
        client.embed()
    assert len(server.asked) == 3
    client.now += 30
    with pytest.raises(EndpointError, match="status 500"):  # the one that may try: still down
        client.embed(attempts=1)
    with pytest.raises(EndpointError, match="is down"):
        client.embed()
    client.now += 30
    assert client.embed() and client.embed()


def test_a_server_that_refuses_or_is_busy_is_not_down(server: EmbeddingServer) -> None:
    client = Client(server.url)
    server.faults.extend([status(422), status(429)] * 5)
    for _ in range(10):
        with pytest.raises(EndpointError, match="status 4"):
            client.embed(attempts=1)
    assert client.embed()


def test_half_open_lets_one_caller_try() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0], failures=1, rest_seconds=10)
    breaker.record(False)
    assert not breaker.allows()
    now[0] = 10.0
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.record(True)
    assert breaker.allows() and breaker.allows()
