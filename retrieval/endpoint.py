"""JSON over HTTP to a server that may be slow, busy or gone: timeouts, capped retries, a circuit breaker."""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from retrieval.errors import EndpointError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Breaker", "Endpoint", "TooLarge"]

CONNECT_SECONDS = 5.0
FIRST_WAIT = 0.5
LONGEST_WAIT = 20.0
"""Seconds between two attempts; a server that asks for a longer pause is taken to be down."""
# 424 is what Text Embeddings Inference answers when its own backend failed.
_RETRIED = frozenset({408, 424, 429})


class TooLarge(EndpointError):
    """The server refused a request for its size (status 413)."""


class Breaker:
    """Refuses calls while a server is down: after some failures in a row, for a while; then one may try. Thread-safe.

    (Nygard, Release It!, 2nd edition, 2018: "Circuit Breaker".)
    """

    def __init__(self, clock: Callable[[], float], failures: int = 3, rest_seconds: float = 30.0) -> None:
        self._clock = clock
        self._failures = failures
        self._rest_seconds = rest_seconds
        self._lock = threading.Lock()
        self._failed = 0
        self._opened = 0.0
        self._trying = False

    def allows(self) -> bool:
        """Whether a call may be made now; whoever is told so reports its outcome with `record`."""
        with self._lock:
            if self._failed < self._failures:
                return True
            if self._trying or self._clock() - self._opened < self._rest_seconds:
                return False
            self._trying = True
            return True

    def record(self, succeeded: bool) -> None:
        """Take note of the outcome of a call."""
        with self._lock:
            self._trying = False
            self._failed = 0 if succeeded else self._failed + 1
            if self._failed >= self._failures:
                self._opened = self._clock()


class Endpoint:
    """A server's address, and how it is spoken to. Thread-safe.

    Args:
        url: its base address.
        key: sent as a bearer token; "" for none. It appears in no message.
        timeout: seconds until an answer must be there.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        jitter: a number from 0 to 1, so that clients that failed together do not come back together.
    """

    def __init__(
        self,
        url: str,
        key: str = "",
        timeout: float = 30.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        import httpx2

        self.url = url
        self.clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._breaker = Breaker(clock)
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        )
        # Whoever holds an embedder need not know that this one has connections to close.
        weakref.finalize(self, self._client.close)

    def ask(self, path: str, body: Any = None, *, attempts: int = 1) -> Any:
        """GET ``path``, or POST ``body`` to it as JSON; return the JSON answered.

        Connection errors, timeouts and the statuses 408, 424, 429 and 5xx are tried again, up to
        ``attempts`` times, after the pause that the server asks for, else after one that doubles.

        Raises:
            TooLarge: status 413.
            EndpointError: it does not answer, or refuses, or the breaker is open.
        """
        import httpx2

        if not self._breaker.allows():
            raise EndpointError(f"{self.url} is down, as several calls in a row failed; it is tried again shortly")
        up = False
        try:
            for attempt in range(1, attempts + 1):
                pause = FIRST_WAIT * 2 ** (attempt - 1) * (0.5 + self._jitter())
                try:
                    response = self._client.request("GET" if body is None else "POST", self.url + path, json=body)
                except httpx2.TransportError as error:
                    problem, up = f"does not answer ({type(error).__name__}: {error})", False
                else:
                    # Whatever it says, a server that answers so is not down.
                    up = response.status_code < 500 and response.status_code not in _RETRIED - {429}
                    if response.status_code < 500 and response.status_code not in _RETRIED:
                        return self._read(path, response)
                    problem = f"answers with status {response.status_code}"
                    pause = _retry_after(response.headers.get("retry-after", "")) or pause
                if attempt == attempts or pause > LONGEST_WAIT:
                    break
                self._sleep(pause)
            raise EndpointError(f"{self.url} {problem}, tried {attempt} times; is it up, and model.endpoint right?")
        finally:
            self._breaker.record(up)

    def _read(self, path: str, response: httpx2.Response) -> Any:
        status = response.status_code
        if status == 413:
            raise TooLarge(f"{self.url} takes no request of this size; lower model.batch_size")
        if status in (401, 403):
            raise EndpointError(f"{self.url} refuses the key (status {status}); set SHOPTALK_ENDPOINT_KEY")
        if status == 404:
            raise EndpointError(f"{self.url} has no {path or '/'}; are model.endpoint and model.endpoint_kind right?")
        if status != 200:
            said = " ".join(response.text.split())[:200]
            raise EndpointError(f"{self.url} refuses the request (status {status}): {said}")
        try:
            return response.json()
        except ValueError:
            raise EndpointError(f"{self.url}{path} does not answer in JSON; is model.endpoint_kind right?") from None


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for (a number or a date, RFC 9110, 10.2.3); 0 where it asks for none."""
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())
