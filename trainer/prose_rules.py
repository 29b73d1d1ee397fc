"""Pairs from running text, which every corpus has: what stands together belongs together."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from trainer.material import Material
from trainer.pairs import SENTENCE_END, Pair, on_one_line, pair_of
from trainer.pseudo_queries import key_phrases

__all__ = ["adjacent", "cloze", "keyphrase"]

CLOZE_A_PASSAGE = 1
CLOZE_WORDS = (8, 45)
MIN_KEY_WORDS = 3
CLOSING_SENTENCES = 2


def cloze(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A sentence → the rest of its passage (the inverse cloze task; Lee, Chang and Toutanova, ACL 2019)."""
    for passage in material.passages_of[place]:
        sentences = SENTENCE_END.split(on_one_line(material.passages[passage].text))
        fitting = [part for part in sentences if CLOZE_WORDS[0] <= len(part.split()) <= CLOZE_WORDS[1]]
        if len(sentences) < 2 or not fitting:
            continue
        for sentence in generator.sample(fitting, min(CLOZE_A_PASSAGE, len(fitting))):
            yield pair_of(material, sentence, passage, "cloze", remove=sentence)


def adjacent(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """The last sentences of a passage → the next passage of its document, under whatever heading."""
    for passage in material.passages_of[place]:
        following = passage + 1
        if following == len(material.passages):
            return
        first, second = material.passages[passage], material.passages[following]
        if first.document_id == second.document_id:
            sentences = SENTENCE_END.split(on_one_line(first.text))
            yield pair_of(material, " ".join(sentences[-CLOSING_SENTENCES:]), following, "adjacent")


def keyphrase(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """The words that tell a passage from all others → the passage: what someone might type who knows what it says."""
    for passage in material.passages_of[place]:
        query = key_phrases(material, passage)
        if len(query.split()) >= MIN_KEY_WORDS:
            yield pair_of(material, query, passage, "keyphrase")
