"""Pairs from running text, which every corpus has: what stands together belongs together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from retrieval.listings import ITEM_MARK
from retrieval.markup import FENCED
from retrieval.words import count_words, sentences_of
from trainer.material import Material, is_code
from trainer.pairs import Pair, pair_of
from trainer.pseudo_queries import key_phrases

__all__ = ["adjacent", "cloze", "detail", "keyphrase"]

CLOZE_A_PASSAGE = 1
CLOZE_WORDS = (8, 45)
DETAILS_A_SECTION = 2
# "- ", "3. ", and the number of what is reported: "- CVE-2005-2498: ".
_MARKED = re.compile(rf"\n(?=[ \t]*{ITEM_MARK}\s)")
_MARK = re.compile(rf"^\s*(?:{ITEM_MARK}\s+)?(?:[A-Za-z]{{1,12}}-\d[\w.-]*:\s+)?")
MIN_KEY_WORDS = 3
CLOSING_SENTENCES = 2


def cloze(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A sentence → the rest of its passage (the inverse cloze task; Lee, Chang and Toutanova, ACL 2019)."""
    for passage in material.passages_of[place]:
        prose = FENCED.split(material.passages[passage].text)
        sentences = [sentence for part in prose for sentence in sentences_of(part)]
        fitting = [part for part in sentences if CLOZE_WORDS[0] <= count_words(part) <= CLOZE_WORDS[1]]
        if len(sentences) < 2 or not fitting:
            continue
        for sentence in generator.sample(fitting, min(CLOZE_A_PASSAGE, len(fitting))):
            yield pair_of(material, sentence, passage, "cloze", remove=sentence)


def detail(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A sentence under a heading that tells nothing of its own ("Examples") → the opening of what that is part of.

    Who asks about a thing describes a case of it more often than they name it, and it is its examples, options and
    consequences that read like that. What links elsewhere is of something else. (Pairs of spans of one document:
    Izacard et al., Unsupervised dense information retrieval with contrastive learning, TMLR 2022; here headings say
    which spans are about one thing.)
    """
    section, opening = material.sections[place], material.openings[place]
    if opening == place or is_code(material, section):
        return
    # What is one part of many itself ("Symptoms") is no opening of the others.
    above = material.sections[opening].heading
    if not any(map(material.is_generic, section.heading[-1:])) or any(map(material.is_generic, above[-1:])):
        return
    fitting = [
        part
        for block in section.blocks
        if block.kind not in ("code", "table")
        for line in _MARKED.split(block.text)
        for part in sentences_of(_MARK.sub("", line))
        if CLOZE_WORDS[0] <= count_words(part) <= CLOZE_WORDS[1] and "](" not in part
    ]
    for sentence in generator.sample(fitting, min(DETAILS_A_SECTION, len(fitting))):
        yield pair_of(material, sentence, material.passages_of[opening][0], "detail", remove=sentence)


def adjacent(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """The last sentences of a passage → the next passage of its document, under whatever heading."""
    for passage in material.passages_of[place]:
        following = passage + 1
        if following == len(material.passages):
            return
        first, second = material.passages[passage], material.passages[following]
        if first.document_id == second.document_id:
            closing = sentences_of(first.text)[-CLOSING_SENTENCES:]
            yield pair_of(material, " ".join(closing), following, "adjacent")


def keyphrase(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """The words that tell a passage from all others → the passage: what someone might type who knows what it says."""
    for passage in material.passages_of[place]:
        query = key_phrases(material, passage)
        if count_words(query) >= MIN_KEY_WORDS:
            yield pair_of(material, query, passage, "keyphrase")
