"""Lists of names under a label: "Illustrative examples:" over bullets, or before names on its own line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from retrieval.references import references
from retrieval.structure import Block
from trainer.words import count_words, words_of

__all__ = ["LISTED_WORDS", "listings", "names_in"]

LISTED_WORDS = 10
"""A name has so many words at most."""
SHORT = 0.8
"""Of what stands under a label so much is as short as names are, where it lists names."""
_LABEL = re.compile(r"[*_]*(?P<label>[^\W\d_][^\n:.]{2,48}?)[*_ ]*:[*_]*(?=\s|$)")
# What stands under such a label is of something else.
_ELSEWHERE = frozenset("exclude excludes excluding excluded except not without unlike see related".split())
_BULLETED = re.compile(r"^[ \t]*(?:[-*+•]|\d+[.)])[ \t]+(.+)$", re.MULTILINE)


def listings(blocks: Sequence[Block]) -> Iterator[tuple[str, list[str]]]:
    """The labels over lists of names, their words in lower case, each with its names.

    Of a name with the code of another entry, "gout (M10)", the rule of cross-references knows more.
    """
    for number, block in enumerate(blocks):
        match = _LABEL.match(block.text) if block.kind != "code" else None
        if match is None:
            continue
        words = words_of(match["label"])
        below = [other.text for other in blocks[number + 1 : number + 2] if other.kind != "code"]
        listed = names_in(block.text[match.end() :].strip() or "".join(below))
        names = [name for name in listed if 0 < count_words(name) <= LISTED_WORDS and not any(references(name))]
        if words and _ELSEWHERE.isdisjoint(words) and len(listed) > 1 and len(names) >= SHORT * len(listed):
            yield " ".join(words), names


def names_in(listed: str) -> list[str]:
    """The items of a list, or of the first paragraph, in which they are set apart by semicolons, bars or commas."""
    if bullets := _BULLETED.findall(listed):
        return [bullet.strip() for bullet in bullets]
    separator = ";" if ";" in listed else "|" if "|" in listed else ","
    first = listed.split("\n\n")[0]
    return [name.strip().rstrip(".") for name in " ".join(first.split()).split(separator)]
