"""A pair, and how it is made of a passage: what would give the anchor away is left out of the positive."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from retrieval.passages import Passage
from retrieval.words import fold, joins
from trainer.material import Material, normalise, strip_identifiers

__all__ = ["Pair", "Rule", "intact", "masked_text", "pair_of", "says"]

_AFTER = re.compile(r"^\s*[;,]?\s*")


@dataclass(frozen=True, slots=True)
class Pair:
    """An anchor, its positive, and the rule that made it.

    ``section`` and ``passage`` are the positive's places in the material (the passage is what is
    masked where pairs are used as questions); ``negatives`` are texts. ``likely_answers`` are the
    sections that a model took for the answer as much as the positive's own. ``masked``: the positive is the
    whole passage, less what would give the anchor away: ``removed`` from its text, ``heading`` from its headings.
    ``said_in`` is the document that the anchor was taken from, where that is another than the positive's.
    """

    anchor: str
    positive: str
    rule: str
    section: int
    passage: int
    document_id: str
    negatives: tuple[str, ...] = ()
    negative_sections: tuple[int, ...] = ()
    likely_answers: tuple[int, ...] = ()
    masked: bool = False
    removed: str = ""
    heading: str = ""
    said_in: str = ""


Rule = Callable[[Material, int, Random], Iterable[Pair]]
"""Yields the pairs of one section, by its place in the material; none where its structure is absent."""


def pair_of(
    material: Material,
    anchor: str,
    place: int,
    rule: str,
    *,
    remove: str = "",
    heading: str = "",
    excerpt: str | None = None,
    said_in: str = "",
) -> Pair:
    """The pair of ``anchor`` and the passage at ``place``, as the index embeds it, but for what others call it.

    Args:
        material: what is mined.
        anchor: what a person might ask.
        place: of the passage.
        rule: the name of the rule.
        remove: words that are left out of the text, wherever they stand.
        heading: what headings, and the title, must not say.
        excerpt: the part of the text that answers; None for all of it. A model reads the beginning of a
            long passage only, where one entry of many would not be seen.
        said_in: the document that says the anchor, where the passage's does not.
    """
    passage = material.passages[place]
    if excerpt is not None:
        passage = replace(passage, text=excerpt)
    if heading:
        passage = _without_heading(passage, heading)
    positive = replace(passage, text=_without(passage.text, remove), called=()).embedded_text
    return Pair(
        " ".join(anchor.split()),
        positive,
        rule,
        material.section_of[place],
        place,
        passage.document_id,
        masked=excerpt is None,
        removed=remove,
        heading=heading,
        said_in=said_in,
    )


def intact(material: Material, pair: Pair) -> Pair:
    """``pair`` with the passage as the index embeds it, but for what others call it; one not ``masked`` stays."""
    if not pair.masked:
        return pair
    return replace(pair, positive=replace(material.passages[pair.passage], called=()).embedded_text)


def masked_text(passage: Passage, removed: Iterable[str], headings: Iterable[str] = ()) -> str:
    """A passage's embedded text less all of ``removed``, what says ``headings``, and all that others call it."""
    for said in headings:
        passage = _without_heading(passage, said)
    for words in removed:
        passage = replace(passage, text=_without(passage.text, words))
    return replace(passage, called=()).embedded_text


def _without(text: str, words: str) -> str:
    """``text`` on one line, less ``words``, case and spacing set aside, and the comma after them."""
    body, gone = " ".join(text.split()), " ".join(words.split())
    folded, key = fold(body), fold(gone)
    if not gone or key not in folded:
        return body
    # Found without a pattern: to compile one for each of many thousand pairs takes longer than all the rest.
    kept = []
    start = at = 0
    while (at := folded.find(key, at)) >= 0:
        end = at + len(key)
        # Whole words only: taking "cholera" out of "cholerae" would leave "e".
        inside = joins(body[at - 1 : at], key[0]) or joins(key[-1], body[end : end + 1])
        if not inside:
            kept.append(body[start:at].strip())
            start = end
        at = end
    kept.append(body[start:])
    return " ".join(part for part in (kept[0], *(_AFTER.sub("", part, count=1) for part in kept[1:])) if part).strip()


def says(heading: str, said: str) -> bool:
    """Whether a heading, or a title, says just ``said``, codes set aside."""
    return not _forms(said).isdisjoint(_forms(heading))


@lru_cache(maxsize=65_536)  # the same headings are compared with many anchors
def _forms(heading: str) -> frozenset[str]:
    return frozenset({normalise(heading), normalise(strip_identifiers(heading))} - {""})


def _without_heading(passage: Passage, said: str) -> Passage:
    """``passage`` without the headings and the title that say it."""
    context = passage.context
    if context is not None:
        # The first of a trimmed context leads the text; it may be the leaf cut short.
        lead = "" if passage.heading and says(passage.heading[-1], said) else context[0]
        context = (lead, *(part for part in context[1:] if not says(part, said)))
    return replace(
        passage,
        title="" if says(passage.title, said) else passage.title,
        heading=tuple(part for part in passage.heading if not says(part, said)),
        context=context,
    )
