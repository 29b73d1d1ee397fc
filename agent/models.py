"""Which model takes a turn: the one that was asked for, or one that stands in for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent.faults import ModelUnavailable, Patience, standing_of
from agent.transcript import Transcript
from agent.turn import Reader, Turn, take_turn
from retrieval.errors import SettingsError
from retrieval.prices import agent_price
from retrieval.workspace import AgentSettings

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["Models", "check_prices"]


def check_prices(settings: AgentSettings) -> None:
    """Refuse a limit on money that cannot be kept.

    Raises:
        SettingsError: there is such a limit, and a model whose price is not known.
    """
    for model in (settings.model, *settings.fallback_models):
        if settings.max_dollars is not None and agent_price(settings, model) is None:
            raise SettingsError(
                f"[agent] max_dollars is set, and the price of {model} is not known; "
                f'give it in [agent.prices], dollars per million tokens in and out: "{model}" = [4, 20]'
            )


class Models:
    """The models of one question: the first, and those that follow once it is of no use."""

    def __init__(self, client: AsyncAnthropic, settings: AgentSettings, patience: Patience) -> None:
        self._client = client
        self._settings = settings
        self._patience = patience
        self._left = list(dict.fromkeys((settings.model, *settings.fallback_models)))

    async def take(
        self, frame: Mapping[str, Any], transcript: Transcript, reader: Reader, choice: Mapping[str, Any]
    ) -> Turn:
        """The next turn of the conversation; ``frame`` is what all its requests share, ``choice`` what this one adds.

        Raises:
            TooLong: the conversation is more than the model takes.
            ShoptalkError: no model answers.
        """
        while True:
            model = self._left[0]
            transcript.hold_for(_identity(model, frame))
            request = {**frame, **choice, "model": model, "messages": transcript.request()}
            try:
                turn = await take_turn(self._client, request, reader, self._patience)
            except ModelUnavailable as error:
                standing = await standing_of(self._client, model) if error.gone else ""
                told = f"{standing}; set [agent] model, or --model" if standing else str(error)
                if len(self._left) == 1:
                    raise ModelUnavailable(told) from error
                self._left.pop(0)
                reader.notice(f"{told}; going on with {self._left[0]}")
            else:
                return replace(turn, dollars=self._dollars(model, turn))

    def _dollars(self, model: str, turn: Turn) -> float | None:
        price = agent_price(self._settings, model)
        if price is None:
            return None
        usage = turn.usage
        return price.of(
            usage.input_tokens,
            usage.output_tokens,
            cache_read_tokens=usage.cache_read_input_tokens,
            cache_write_tokens=usage.cache_creation_input_tokens,
        )


def _identity(model: str, frame: Mapping[str, Any]) -> str:
    """What thinking is signed for."""
    parts = json.dumps([model, frame["system"], frame["tools"]], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()
