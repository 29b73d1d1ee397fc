"""Pairs from headings and titles: what an author calls a section → the section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from retrieval.words import QUESTION_MARKS, count_words, words_of
from trainer.material import Material, generic_form, informative_heading, is_code, normalise, strip_identifiers
from trainer.pairs import Pair, pair_of

__all__ = ["PASSAGES_A_HEADING", "heading", "heading_path", "is_question", "title"]

PASSAGES_A_HEADING = 2
SECTIONS_A_TITLE = 2
TITLE_WORDS = 2
"""A title of fewer words is a name that says little of what stands under it."""
_QUESTION_START = re.compile(
    r"(?:how|what|when|where|which|who|whose|why|(?:can|could|do|does|did|is|are|was|were|will|would|should|may|must)\s+"
    r"(?:i|we|you|they|he|she|it|there|this|my|our|the))(?=[\s'’])",
    re.I,
)
_NUMBERED = re.compile(r"\d")


def heading(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A section's heading → its text, the heading left out.

    Where many documents have the heading it is the one above that names the section, and the first section under it.
    """
    section = material.sections[place]
    anchor = informative_heading(material, section)
    if (
        material.openings[place] != place
        or not anchor
        or not section.blocks
        or is_question(anchor)
        or is_code(material, section)
    ):
        return
    for passage in material.passages_of[place][:PASSAGES_A_HEADING]:
        yield pair_of(material, anchor, passage, "heading", heading=anchor)


def heading_path(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A heading after the one it stands under ("Django Installation") → the section, its own heading left out.

    Headings that many documents have ("Installation") say something in this company; numbered ones
    ("Answer 1") do not.
    """
    section = material.sections[place]
    if not section.heading or not section.blocks or is_code(material, section):
        return
    leaf = strip_identifiers(section.heading[-1])
    numbered = material.is_generic(leaf) and _NUMBERED.search(leaf)
    parent = _parent(material, place)
    if not parent or numbered or is_question(leaf) or is_question(parent) or _alike(leaf, parent):
        return
    for passage in material.passages_of[place][:1]:
        yield pair_of(material, f"{parent.rstrip(' .:')} {leaf}", passage, "heading_path", heading=leaf)


def title(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A document's title → those of its sections that share most words with it, the title left out.

    The section right under the title is the rule `heading`'s.
    """
    section = material.sections[place]
    places = material.sections_of[section.document_id]
    if place != places[0] or is_code(material, section):
        return
    name = material.document_by_id[section.document_id].title
    words = set(words_of(name))
    if material.is_generic(name) or len(words) < TITLE_WORDS or is_question(name):
        return
    anchor = strip_identifiers(name)
    others = [
        other
        for other in places
        if material.sections[other].blocks and informative_heading(material, material.sections[other]) != anchor
    ]
    shared = {other: len(words.intersection(words_of(material.sections[other].text))) for other in others}
    for other in sorted(others, key=lambda other: (-shared[other], other))[:SECTIONS_A_TITLE]:
        if shared[other]:
            yield pair_of(material, anchor, material.passages_of[other][0], "title", heading=anchor)


def is_question(text: str) -> bool:
    """Whether a heading asks: it ends with a question mark, or begins as questions do and is long enough for one."""
    said = text.strip()
    return said.endswith(QUESTION_MARKS) or bool(_QUESTION_START.match(said) and count_words(said) > 3)


def _alike(leaf: str, parent: str) -> bool:
    """Whether one of two headings adds little to the other."""
    own, above = set(words_of(leaf)), set(words_of(parent))
    return own <= above or 2 * len(above - own) < len(above)


def _parent(material: Material, place: int) -> str:
    """The innermost informative heading above the section's own, or its document's title; without codes."""
    section = material.sections[place]
    own = normalise(section.heading[-1])
    for above in (*reversed(section.heading[:-1]), material.document_by_id[section.document_id].title):
        if generic_form(above) and not material.is_generic(above) and normalise(above) != own:
            return strip_identifiers(above)
    return ""
