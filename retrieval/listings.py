"""Lists of names under a label: "Illustrative examples:" over bullets, or before names on its own line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from retrieval.references import references
from retrieval.structure import Block
from retrieval.words import count_words, words_of

__all__ = ["ITEM_MARK", "LISTED_WORDS", "bare_name", "listings", "names_in"]

LISTED_WORDS = 10
"""A name has so many words at most."""
SHORT = 0.8
"""Of what stands under a label so much is as short as names are, where it lists names."""
_LABEL = re.compile(r"[*_]*(?P<label>[^\W\d_][^\n:.]{2,48}?)[*_ ]*:[*_]*(?=\s|$)")
# What stands under such a label is of something else, or is no name.
_ELSEWHERE = re.compile(
    r"\b(?:exclu\w*|except\w*|contraindicat\w*|incompatib\w*|not|without|unlike|see|related|competitors?|alternatives|"
    r"versus|authors?|reviewers?|watchers?|members?|collaborators?|contributors?|maintainers?|approvers?|owners?|"
    r"assignees?|attendees|participants|team|files?|paths?|contacts?|dates?|address(?:es)?|prices?|links?|urls?|notes?|"
    r"warnings?|todo|to do|steps?|requirements?|prerequisites?|questions?|dear|param\w*|arguments?|returns?|raises?|"
    r"throws?|interactions?|reactions?|effects?|precautions?|risks?|allergens?|ingredients?|dos(?:es?|ages?)|hours?|days?|"
    r"times?|apologies|absent(?:ees)?|distribution|cc|agenda|decisions?|responsib\w*|speakers?|guests?|invited|chair\w*|"
    r"signatures?|signator\w*)\b"
)
# Commas part more than names: "March 3, 2000", "Restart it, clear it, reload".
_OF_NAMES = re.compile(
    r"\b(?:(?:example|instance|name|title|term|synonym|keyword|tag|product|service|type|kind|variant|brand|model|"
    r"abbreviation|acronym)s?|alias(?:es)?|activit(?:y|ies)|inclu(?:des?|ding|sions?)|called|known)\b"
)
_NO_NAME = re.compile(r"@|://|\]\(|^\[[ x]?\]|^\d")
# "hose ring. It is fitted first", but "St. Vitus dance"
_NAME_ENDS = re.compile(r":\s|\s[-–—]\s|(?<=[^\W\d_]{4})\.\s+(?=[A-Z])")
_COMMA = re.compile(r"(?<!\d),|,(?!\d)")
_AND = re.compile(r"(?:and|or|und|oder|et|ou|y)\s+")
"""What stands before the last of several."""
_OR = re.compile(r"\s+(?:or|oder|ou)\s+")
"""What parts the last two; "and" is as often part of a name, as in hand, foot and mouth disease."""
ITEM_MARK = r"(?:[-*+•]|(?:\d+|[a-z]|[ivx]{1,4})[.)])"
"""What stands before an item of a list."""
_BULLETED = re.compile(rf"^[ \t]*{ITEM_MARK}[ \t]+(.+)$", re.MULTILINE)
_SET_APART = re.compile(rf"[;|]|{_BULLETED.pattern}", re.MULTILINE)


def listings(blocks: Sequence[Block]) -> Iterator[tuple[str, list[str]]]:
    """The labels over lists of names, their words in lower case, each with its names.

    Of a name with the code of another entry, "gout (M10)", the rule of cross-references knows more.
    """
    for number, block in enumerate(blocks):
        match = _LABEL.match(block.text) if block.kind != "code" else None
        if match is None:
            continue
        label = " ".join(words_of(match["label"]))
        below = [other.text for other in blocks[number + 1 : number + 2] if other.kind != "code"]
        text = block.text[match.end() :].strip() or "".join(below)
        if not label or _ELSEWHERE.search(label) or not (_SET_APART.search(text) or _OF_NAMES.search(label)):
            continue
        listed = [bare_name(item) for item in names_in(text)]
        names = [name for name in listed if _may_be_name(name)]
        if len(listed) > 1 and len(names) >= SHORT * len(listed):
            yield label, names


def _may_be_name(item: str) -> bool:
    return 0 < count_words(item) <= LISTED_WORDS and not _NO_NAME.search(item) and not any(references(item))


def bare_name(item: str) -> str:
    """The name that an item of a list begins with, without what is said of it and the marks around it."""
    return _NAME_ENDS.split(item)[0].strip(' *_`"“”.')


def names_in(listed: str) -> list[str]:
    """The items of a list, or of the first paragraph, in which they are set apart by semicolons, bars or commas."""
    if bullets := _BULLETED.findall(listed):
        return [bullet.strip() for bullet in bullets]
    first = " ".join(listed.split("\n\n")[0].split())
    separator = ";" if ";" in listed else "|" if "|" in listed else ""
    *names, last = [name.strip().rstrip(".") for name in (first.split(separator) if separator else _COMMA.split(first))]
    if not names:
        return [last]
    if lead := _AND.match(last):
        return [*names, last[lead.end() :]]
    parted = [] if separator or any(map(_OR.search, names)) else _OR.split(last)
    return [*names, *(parted if len(parted) == 2 else (last,))]
