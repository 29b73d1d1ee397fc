"""What Claude costs: one table, dated, for estimates and for limits on money.

List prices change. Look them up at https://platform.claude.com/docs/en/about-claude/pricing, and set those that
differ: ``[agent.prices]`` for the agent, ``[synthesis] input_price`` and ``output_price`` for written questions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from retrieval.workspace import AgentSettings, SynthesisSettings

__all__ = ["AS_OF", "BATCH_SHARE", "LIST_PRICES", "Price", "agent_price", "synthesis_price"]

AS_OF = "November 2026"
BATCH_SHARE = 0.5
"""What a message in a batch costs, as a share of the price of one sent by itself."""
CACHE_READ_SHARE = 0.1
CACHE_WRITE_SHARE = 1.25
"""What an input token costs that is read from the prompt cache, or written to it for five minutes."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float

    def of(
        self,
        input_tokens: int,
        output_tokens: int,
        batch: bool = False,
        *,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
    ) -> float:
        """Dollars for so many tokens; ``input_tokens`` are those that the cache has no part in."""
        weighted = input_tokens + CACHE_READ_SHARE * cache_read_tokens + CACHE_WRITE_SHARE * cache_write_tokens
        return (BATCH_SHARE if batch else 1.0) * (weighted * self.input + output_tokens * self.output) / 1e6


LIST_PRICES = {
    "claude-opus-5-5": Price(4.0, 20.0),
    "claude-sonnet-5-5": Price(2.0, 10.0),
}


def agent_price(settings: AgentSettings, model: str) -> Price | None:
    """The price of ``model`` by the settings, else the list's; None where neither knows it."""
    own = settings.prices.get(model)
    return _list_price(model) if own is None else Price(*own)


def synthesis_price(settings: SynthesisSettings) -> Price | None:
    """The price by the settings, else the list's; None where neither knows it.

    The list is Anthropic's own, so it tells nothing of a model at another ``base_url``.
    """
    if settings.input_price is not None and settings.output_price is not None:
        return Price(settings.input_price, settings.output_price)
    return None if settings.base_url else _list_price(settings.model)


def _list_price(model: str) -> Price | None:
    """``claude-opus-5-5-20261001`` is a version of ``claude-opus-5-5``, at its price."""
    return LIST_PRICES.get(re.sub(r"-\d{8}$", "", model))
