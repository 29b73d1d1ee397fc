"""What tokens cost."""

from __future__ import annotations

import pytest

from retrieval.prices import LIST_PRICES, Price, agent_price, synthesis_price
from retrieval.workspace import AgentSettings, SynthesisSettings

OPUS = LIST_PRICES["claude-opus-5-5"]


def test_the_cache_is_cheaper_to_read_and_dearer_to_write() -> None:
    price = Price(4, 20)
    assert price.of(1_000_000, 100_000) == pytest.approx(6)
    assert price.of(0, 0, cache_read_tokens=1_000_000, cache_write_tokens=1_000_000) == pytest.approx(0.4 + 5)
    assert price.of(1_000_000, 0, batch=True) == pytest.approx(2)


def test_the_settings_go_before_the_list() -> None:
    settings = AgentSettings(prices={"claude-opus-5-5": (1, 2), "mine": (0, 0)})
    assert agent_price(settings, "claude-opus-5-5") == Price(1, 2)
    assert agent_price(settings, "mine") == Price(0, 0)
    assert agent_price(AgentSettings(), "mine") is None


def test_a_dated_version_costs_what_its_model_does() -> None:
    assert agent_price(AgentSettings(), "claude-opus-5-5-20260901") == OPUS
    assert agent_price(AgentSettings(), "claude-opus-5-50") is None


def test_the_list_tells_nothing_of_another_address() -> None:
    assert synthesis_price(SynthesisSettings(model="claude-opus-5-5")) == OPUS
    assert synthesis_price(SynthesisSettings(model="claude-opus-5-5", base_url="http://127.0.0.1:1")) is None
    assert synthesis_price(SynthesisSettings(input_price=1, output_price=2)) == Price(1, 2)
