"""What went wrong between here and the Messages API: whether to try again, and what to tell people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.plain import one_line
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic

__all__ = ["BrokenStream", "Fault", "Patience", "check_credentials", "diagnose", "make_client"]

# Error types of the API that pass by themselves; in a stream they come with status 200.
_PASSING = {"api_error", "overloaded_error", "rate_limit_error", "timeout_error"}
_PASSING_STATUS = {408, 409, 429}


class BrokenStream(Exception):
    """The answer's stream is not what the protocol says: cut short, empty, or no event stream at all."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed request. ``wait`` is the number of seconds the API asked to wait, if it did."""

    message: str
    passing: bool = False
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a turn is tried, and how long to wait between (seconds).

    Waits double from ``first_wait``; a wait the API asks for is kept to, up to ``longest_wait``.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait(self, attempt: int, fault: Fault) -> float:
        """Seconds to wait after the failed ``attempt`` (from 1)."""
        doubled: float = self.first_wait * 2 ** (attempt - 1)
        return min(self.longest_wait, doubled if fault.wait is None else fault.wait)


def make_client() -> AsyncAnthropic:
    """A client with what the environment says: key, address, profile.

    Raises:
        ShoptalkError: the environment names a profile that cannot be read, or a malformed address.
    """
    import anthropic
    import httpx2

    try:
        return anthropic.AsyncAnthropic()
    except (anthropic.AnthropicError, httpx2.InvalidURL, ValueError) as error:
        raise ShoptalkError(f"the ANTHROPIC_* variables do not make a client: {one_line(str(error))}") from error


def check_credentials(client: AsyncAnthropic) -> None:
    """Refuse at once what the SDK notices only in the middle of the first request.

    Raises:
        ShoptalkError: there is no key, or one that cannot be a header's value.
    """
    headers = {name.lower() for name, value in client.default_headers.items() if value}
    if client.credentials is None and not headers & {"authorization", "x-api-key"}:
        raise ShoptalkError("ANTHROPIC_API_KEY is not set; get a key at https://console.anthropic.com and export it")
    for name, value in (("ANTHROPIC_API_KEY", client.api_key), ("ANTHROPIC_AUTH_TOKEN", client.auth_token)):
        if value and (not value.isascii() or not value.isprintable() or " " in value):
            raise ShoptalkError(f"{name} holds a space, a line break or a character that is not ASCII; copy it anew")


def diagnose(error: Exception, client: AsyncAnthropic, model: str) -> Fault | None:
    """What ``error`` means, or None where it did not come from the API or the way to it."""
    import anthropic
    import httpx2

    secrets = (client.api_key, client.auth_token)
    detail = one_line(str(error) or type(error).__name__, secrets=secrets)
    if isinstance(error, BrokenStream):
        return Fault(f"the API's answer broke off: {detail}", passing=True)
    if isinstance(error, anthropic.APIStatusError):
        return _status_fault(error, model, secrets)
    if isinstance(error, anthropic.APIConnectionError | httpx2.TransportError):
        cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else None
        reason = one_line(str(cause or error) or type(error).__name__, secrets=secrets)
        return Fault(f"cannot reach {client.base_url.host}: {reason}; check the network and ANTHROPIC_BASE_URL", True)
    if isinstance(error, anthropic.APIResponseValidationError):
        return Fault(f"the API sent what its own schema does not allow: {detail}", passing=True)
    if isinstance(error, anthropic.AnthropicError | httpx2.HTTPError | httpx2.InvalidURL):
        return Fault(f"the request to the API failed: {detail}; check ANTHROPIC_BASE_URL and your credentials")
    return None


def _status_fault(error: APIStatusError, model: str, secrets: tuple[str | None, ...]) -> Fault:
    status = error.status_code
    said = one_line(error.api_message or str(error), 200, secrets)
    request = f" (request {one_line(error.request_id, 64)})" if error.request_id else ""
    if status == 200 or status in _PASSING_STATUS or status >= 500:
        passing = status != 200 or error.type in _PASSING
        kind = f"{error.type or 'error'} in the stream" if status == 200 else f"{_name(status)} ({status})"
        return Fault(
            f"the API answered {kind}: {said}; try again later{request}", passing, _retry_after(error.response.headers)
        )
    fix = {
        400: "check [agent] model and effort in shoptalk.toml",
        401: "check ANTHROPIC_API_KEY",
        402: "check the plan and billing at https://console.anthropic.com",
        403: f"this key may not use {model}; choose another with --model, or another key",
        404: f"choose a model other than {model} with --model or [agent] model, and check ANTHROPIC_BASE_URL if set",
        413: "the conversation is too large; ask a shorter question",
    }.get(status, "see https://docs.anthropic.com/en/api/errors")
    return Fault(f"the API refused the request ({status}): {said}; {fix}{request}")


def _name(status: int) -> str:
    return {429: "too many requests", 529: "overloaded"}.get(status, "a passing error")


def _retry_after(headers: Mapping[str, Any]) -> float | None:
    """The seconds of ``retry-after-ms`` or ``retry-after``; None where there are none (or a date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    return None
