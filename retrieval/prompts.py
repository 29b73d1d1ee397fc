"""What a model wants written before a question and before a document.

A model's own configuration comes first. Some well-known families were published before
configurations could hold prompts, and say so only in their model cards; they lose several points of
NDCG without. `FAMILIES` is what those cards said on 2025-11-20; a family whose published
configuration holds its prompts does not belong in it. `model.query_prompt` and
`model.document_prompt` in the settings overrule both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from retrieval.workspace import ModelSettings

__all__ = ["FAMILIES", "Prompts", "choose_prompts"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """The texts put before each query and before each document; "" for none."""

    query: str = ""
    document: str = ""


FAMILIES: tuple[tuple[re.Pattern[str], Prompts], ...] = (
    # https://huggingface.co/BAAI/bge-base-en-v1.5: only short questions get the instruction.
    (
        re.compile(r"bge-(small|base|large)-en(-v1\.5)?"),
        Prompts("Represent this sentence for searching relevant passages: "),
    ),
    (re.compile(r"bge-(small|base|large)-zh(-v1\.5)?"), Prompts("为这个句子生成表示以用于检索相关文章：")),
    # https://huggingface.co/intfloat/multilingual-e5-base: each text begins with one or the other.
    (re.compile(r"(multilingual-)?e5-(small|base|large)(-v2)?"), Prompts("query: ", "passage: ")),
    # https://huggingface.co/nomic-ai/nomic-embed-text-v1.5: a task prefix is required.
    (re.compile(r"nomic-embed-text-v1(\.5)?"), Prompts("search_query: ", "search_document: ")),
)


def choose_prompts(settings: ModelSettings, name: str, own: Mapping[str, str | None]) -> Prompts:
    """Choose the prompts of the model called ``name`` (a Hub id, or a folder's path).

    Args:
        settings: whose ``query_prompt`` and ``document_prompt`` win where they are set; "" is set, to none.
        name: only its last part is looked at, and must be a family's name in full.
        own: the prompts of the model's configuration by name: ``query``, and ``document`` or ``passage``.
    """
    chosen = Prompts(own.get("query") or "", own.get("document") or own.get("passage") or "")
    if chosen == Prompts():
        last = name.rstrip("/").replace("\\", "/").rpartition("/")[2].casefold()
        chosen = next((prompts for pattern, prompts in FAMILIES if pattern.fullmatch(last)), chosen)
    return Prompts(
        chosen.query if settings.query_prompt is None else settings.query_prompt,
        chosen.document if settings.document_prompt is None else settings.document_prompt,
    )
