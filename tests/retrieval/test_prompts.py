from __future__ import annotations

import pytest

from retrieval.prompts import Prompts, choose_prompts
from retrieval.workspace import ModelSettings


@pytest.mark.parametrize(
    ("name", "query", "document"),
    [
        ("BAAI/bge-base-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("intfloat/multilingual-e5-large", "query: ", "passage: "),
        ("models/e5-small-v2/", "query: ", "passage: "),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("acme/my-bge-base-en-v1.5", "", ""),
        ("acme/e5-base-of-another-kind", "", ""),
    ],
)
def test_a_known_family_gets_what_its_card_asks_for(name: str, query: str, document: str) -> None:
    assert choose_prompts(ModelSettings(), name, {"query": "", "document": ""}) == Prompts(query, document)


def test_a_models_own_prompts_come_before_its_familys() -> None:
    own = {"query": "ask: ", "passage": "text: "}
    assert choose_prompts(ModelSettings(), "intfloat/e5-base-v2", own) == Prompts("ask: ", "text: ")


def test_the_settings_overrule_both_and_can_say_none() -> None:
    settings = ModelSettings(query_prompt="", document_prompt="doc: ")
    assert choose_prompts(settings, "intfloat/e5-base-v2", {"query": "ask: "}) == Prompts("", "doc: ")
