"""What went wrong between here and the Messages API: whether to try again, and what to tell people."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from agent.plain import one_line
from retrieval.errors import ShoptalkError

if TYPE_CHECKING:
    from anthropic import APIStatusError, AsyncAnthropic

__all__ = [
    "BrokenStream",
    "Fault",
    "ModelUnavailable",
    "Patience",
    "TooLong",
    "check_credentials",
    "diagnose",
    "make_client",
    "retry_after",
    "standing_of",
]

logger = logging.getLogger(__name__)

# Error types of the API that pass by themselves; in a stream they come with status 200.
_PASSING = {"api_error", "overloaded_error", "rate_limit_error", "timeout_error"}
_BILLING = "check the plan and billing at https://console.anthropic.com"
_PASSING_STATUS = {408, 409, 429}
# The API has a status of its own for a large body (413), but none for too many tokens.
_TOO_LONG = re.compile(r"prompt is too long|context (window|limit|length)|too many (input )?tokens", re.IGNORECASE)
_ASKING_SECONDS = 10.0
"""How long the models API may take to say what became of a model; it is asked in passing."""
_MOST_NAMED = 6


class BrokenStream(Exception):
    """The answer's stream is not what the protocol says: cut short, empty, or no event stream at all."""


class TooLong(ShoptalkError):
    """The conversation is more than the model, or the API, takes in one request."""


class ModelUnavailable(ShoptalkError):
    """The model does not answer, but another may. ``gone``: nor will it later."""

    gone = False


class ModelGone(ModelUnavailable):
    """There is no such model, or not for this key."""

    gone = True


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed request.

    ``wait`` is the number of seconds the API asked to wait, if it did; ``kind`` what it is to be raised as, once
    there is nothing left to try.
    """

    message: str
    passing: bool = False
    wait: float | None = None
    kind: type[ShoptalkError] = ShoptalkError


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
            f"the API answered {kind}: {said}; try again later{request}",
            passing,
            retry_after(error.response.headers),
            ModelUnavailable if passing else ShoptalkError,
        )
    fix = {
        400: "check [agent] model and effort in shoptalk.toml",
        401: "check ANTHROPIC_API_KEY",
        402: _BILLING,
        403: f"this key may not use {model}; choose another with --model, or another key",
        404: f"choose a model other than {model} with --model or [agent] model, and check ANTHROPIC_BASE_URL if set",
        413: "the conversation is too large; begin a new one, or ask a shorter question",
    }.get(status, "see https://docs.anthropic.com/en/api/errors")
    if status == 400 and "credit" in said.lower():
        fix = _BILLING
    elif status == 400 and said.startswith("tools"):
        fix = "see what the MCP servers of [agent.servers] offer, and offer less of it with their tools"
    kind_of_error: type[ShoptalkError] = ShoptalkError
    if status == 413 or (status == 400 and _TOO_LONG.search(said)):
        kind_of_error = TooLong
    elif status in (403, 404):
        kind_of_error = ModelGone
    return Fault(f"the API refused the request ({status}): {said}; {fix}{request}", kind=kind_of_error)


async def standing_of(client: AsyncAnthropic, model: str) -> str:
    """What the models API knows of a model that the Messages API does not serve, "" where it tells nothing.

    A retired model's successor is the newest active one of its line.
    """
    import anthropic
    import httpx2

    asker = client.with_options(max_retries=0, timeout=_ASKING_SECONDS)
    try:
        active = [info async for info in asker.models.list(lifecycle=["active"])]
        try:
            known = await asker.models.retrieve(model)
        except anthropic.NotFoundError:
            return _named(model, [info.id for info in active])
    except (anthropic.APIError, httpx2.TransportError, ValueError) as error:
        # This only adds to an error that is told anyway; servers other than Anthropic's have no models API.
        logger.debug("the models API tells nothing of %s: %s", model, error)
        return ""
    if known.lifecycle != "retired":
        return ""
    line = [info for info in active if info.line is not None and info.line == known.line]
    since = f" on {known.retires_at:%Y-%m-%d}" if known.retires_at else ""
    retired = f"{one_line(model, 80)} was retired{since}"
    if not line:
        return f"{retired}; {_named('', [info.id for info in active])}"
    successor = max(line, key=lambda info: info.created_at)
    return f"{retired}; its successor is {one_line(successor.id, 80)}"


def _named(model: str, active: list[str]) -> str:
    """Which models there are, those with a name like ``model`` first."""
    alike = get_close_matches(model, active, n=3)
    names = [*alike, *(name for name in active if name not in alike)][:_MOST_NAMED]
    unknown = f"there is no model {one_line(model, 80)}; " if model else ""
    return f"{unknown}there are {one_line(', '.join(names))}" if names else ""


def _name(status: int) -> str:
    return {429: "too many requests", 529: "overloaded"}.get(status, "a passing error")


def retry_after(headers: Mapping[str, Any]) -> float | None:
    """The seconds of ``retry-after-ms`` or ``retry-after``; None where there are none (or a date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
    return None
