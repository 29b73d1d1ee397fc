"""Sections → pairs, one small rule a kind.

A rule sees one section and yields (anchor, positive) pairs: the anchor is something a person might
ask, the positive is the passage as the index embeds it, less what would give the anchor away. Where
a corpus has no structure of its kind a rule yields nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from retrieval.words import count_words, words_of
from trainer.code_rules import code_symbol
from trainer.heading_rules import heading, heading_path, title
from trainer.material import Material, normalise
from trainer.name_rules import alias, cross_reference, definition, listed
from trainer.pairs import Pair, Rule
from trainer.prose_rules import adjacent, cloze, detail, keyphrase
from trainer.question_rules import question, ticket
from trainer.table_rules import table_row

__all__ = ["HEADING_RULES", "NEEDS", "RULES", "SEED_RULES", "mine", "seed_chunks"]

MIN_ANCHOR_CHARS = 3
MIN_ANCHOR_WORDS = 2
MAX_ANCHOR_CHARS = 300
MIN_POSITIVE_WORDS = 3
TEXT_RULES = ("cloze", "detail", "adjacent")
"""The rules whose anchor is text of a document, which may be long."""

HEADING_RULES = ("heading", "heading_path", "question", "title")
"""The rules whose anchor may be the passage's own heading, which is then left out of the positive."""

SEED_RULES = ("seed_adjacent", "seed_header")
"""The tutorial's pairs, made by no rule over sections: its chunks cut documents by words, whatever their structure."""

# Rules that know most of what they yield come first: of equal pairs the first one is kept.
RULES: dict[str, Rule] = {
    "question": question,
    "ticket": ticket,
    "alias": alias,
    "cross_reference": cross_reference,
    "definition": definition,
    "listed": listed,
    "code_symbol": code_symbol,
    "table_row": table_row,
    "heading": heading,
    "heading_path": heading_path,
    "title": title,
    "detail": detail,
    "cloze": cloze,
    "keyphrase": keyphrase,
    "adjacent": adjacent,
}

NEEDS: Mapping[str, str] = {
    "question": "questions with answers (headings that ask, Q: and A:, question columns)",
    "ticket": "troubles with what helped (Problem: … Solution: …)",
    "alias": 'other names ("Also called: …", "also known as …")',
    "cross_reference": "terms with the code of another entry, as in term (A00.1)",
    "definition": 'terms with what they mean ("X means …", glossaries, definition lists)',
    "listed": 'names listed under a label that many documents have ("Examples: …")',
    "code_symbol": "source code with docstrings or comments",
    "table_row": "tables whose rows have names",
    "heading": "headings with text under them",
    "heading_path": "headings under headings or titles",
    "title": "documents of several sections with telling titles",
    "detail": 'headings that many documents have ("Examples", "Options") beside what they belong to',
    "cloze": "paragraphs of several sentences",
    "keyphrase": "passages of words",
    "adjacent": "documents of several passages",
}
"""What each rule lives on: where a corpus has none of it, the rule is idle."""


def mine(material: Material, rules: Sequence[str], seed: int = 13) -> list[Pair]:
    """Apply ``rules`` (names in `RULES`) to every section; equal pairs are kept once, in reading order."""
    generator = Random(seed)
    pairs: dict[tuple[str, int], Pair] = {}
    for place in range(len(material.sections)):
        for name in rules:
            for pair in RULES[name](material, place, generator):
                key = (normalise(pair.anchor), pair.passage)
                if key not in pairs and _usable(pair):
                    pairs[key] = pair
    return list(pairs.values())


def seed_chunks(material: Material, words: int = 256, overlap: int = 32, header_chars: int = 512) -> list[Pair]:
    """The tutorial's pairs, literally: chunks that follow each other, and ``#`` headers → what follows.

    A document is cut by words whatever its structure; each chunk's anchor is the chunk before it.
    """
    pairs: list[Pair] = []
    first_section: dict[str, int] = {}
    for place, section in enumerate(material.sections):
        if material.passages_of[place]:
            first_section.setdefault(section.document_id, place)
    for document in material.documents:
        if document.id not in first_section:
            continue
        place = first_section[document.id]
        blank = Pair("", "", "", place, material.passages_of[place][0], document.id)
        tokens = document.text.split()
        chunks = [" ".join(tokens[start : start + words]) for start in range(0, len(tokens), words - overlap)]
        pairs += [
            replace(blank, anchor=first, positive=second, rule="seed_adjacent")
            for first, second in zip(chunks, chunks[1:], strict=False)
        ]
        for match in re.finditer(r"^#{1,6}\s+(.+)$", document.text, re.MULTILINE):
            # Not the whole rest of a document for each of its headers.
            following = document.text[match.end() : match.end() + 4 * header_chars].strip()[:header_chars]
            if following:
                pairs.append(replace(blank, anchor=match[1].strip(), positive=following, rule="seed_header"))
    return pairs


def _usable(pair: Pair) -> bool:
    size = len(pair.anchor)
    # Where each character is a word, two are a name.
    short = size < MIN_ANCHOR_CHARS and count_words(pair.anchor) < MIN_ANCHOR_WORDS
    if short or not any(character.isalpha() for character in pair.anchor):
        return False
    if pair.rule not in TEXT_RULES and size > MAX_ANCHOR_CHARS:
        return False
    if len(words_of(pair.positive)) < MIN_POSITIVE_WORDS:
        return False
    return len(pair.positive) > 2 * size or normalise(pair.anchor) != normalise(pair.positive)
