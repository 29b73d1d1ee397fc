"""Sections → pairs, one small rule a kind.

A rule sees one section and yields (anchor, positive) pairs: the anchor is something a person might
ask, the positive is the passage as the index embeds it, less what would give the anchor away.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from retrieval.passages import Passage
from trainer.material import Material, informative_heading, normalise

__all__ = ["HEADING_RULES", "RULES", "Pair", "masked_text", "mine", "seed_chunks"]

MIN_ANCHOR_CHARS = 3
MAX_ANCHOR_CHARS = 300
MIN_POSITIVE_WORDS = 3
PASSAGES_A_HEADING = 2
CLOZE_A_PASSAGE = 1
CLOZE_WORDS = (8, 45)

# The label may open a paragraph or a sentence; its list ends with the paragraph, or where another label begins.
_ALIAS_LIST = re.compile(
    r"(?:^|(?<=[.;]\s))\W*(?:also (?:called|known as|named|written)|(?:alternative|other|former) (?:names?|terms?)"
    r"|synonyms?|alias(?:es)?|a\.?k\.?a\.?|abbreviations?|acronyms?)\b\W*?:[ \t*_]*"
    r"(?P<list>.*?)(?=\.\s+[A-Z][\w /-]{1,40}:\s|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_INLINE_ALIAS = re.compile(
    r"[,(]?\s*\b(?:also|otherwise|formerly|previously|sometimes|commonly)\s+"
    r"(?:called|known as|named|referred to as|termed)\s+(?:the\s+)?[\"“*_`]*"
    r"(?P<name>[^.,;:()\n\"”*_`]{3,80})[\"”*_`]*\)?",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"(?P<term>[^;:.()\[\]\n|]{3,120})\s*[(\[](?P<code>[^()\[\]\s,;]*\d[^()\[\]\s,;]*)[^()\[\]]*[)\]]"
)
_QUESTION_START = re.compile(
    r"(?:how|what|when|where|which|who|whose|why|can|could|do|does|did|is|are|was|will|would|should|may|must)\b", re.I
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")


@dataclass(frozen=True, slots=True)
class Pair:
    """An anchor, its positive, and the rule that made it.

    ``section`` and ``passage`` are the positive's places in the material (the passage is what is
    masked where pairs are used as questions); ``negatives`` are texts.
    """

    anchor: str
    positive: str
    rule: str
    section: int
    passage: int
    document_id: str
    negatives: tuple[str, ...] = ()
    negative_sections: tuple[int, ...] = ()


Rule = Callable[[Material, int, Random], Iterable[Pair]]


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


def heading(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A section's heading → its text, the heading left out."""
    section = material.sections[place]
    anchor = informative_heading(material, section)
    if not anchor or not section.blocks or _is_question(anchor):
        return
    for passage in material.passages_of[place][:PASSAGES_A_HEADING]:
        yield _pair(material, anchor, passage, "heading", without_heading=True)


def question(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A question that is a heading, or a record's question column → its answer."""
    section = material.sections[place]
    document = material.document_by_id[section.document_id]
    anchor = document.metadata.get("question") or informative_heading(material, section)
    if not section.blocks or not ("question" in document.metadata or _is_question(anchor)):
        return
    for passage in material.passages_of[place][:PASSAGES_A_HEADING]:
        yield _pair(material, anchor, passage, "question", without_heading=True)


def alias(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """An alternative name in an "Also called: …" list or phrase → the entry, that name left out."""
    for passage in material.passages_of[place]:
        text = material.passages[passage].text
        for name in _listed_aliases(text):
            yield _pair(material, name, passage, "alias", remove=name)
        for match in _INLINE_ALIAS.finditer(text):
            yield _pair(material, match["name"].strip(), passage, "alias", remove=match[0])


def cross_reference(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A term followed by another entry's code, "term (CODE)" → that entry, the term left out."""
    section = material.sections[place]
    for block in section.blocks:
        if block.kind == "code":
            continue
        for match in _REFERENCE.finditer(block.text):
            code = match["code"].rstrip(".-–").casefold()
            target = material.section_by_identifier.get(code)
            term = match["term"].strip(" ,*_`\"'-")
            if target is None or target == place or not material.passages_of[target]:
                continue
            yield _pair(material, term, material.passages_of[target][0], "cross_reference", remove=term)


def cloze(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A sentence → the rest of its passage (the inverse cloze task; Lee, Chang and Toutanova, ACL 2019)."""
    for passage in material.passages_of[place]:
        sentences = _SENTENCE_END.split(" ".join(material.passages[passage].text.split()))
        fitting = [part for part in sentences if CLOZE_WORDS[0] <= len(part.split()) <= CLOZE_WORDS[1]]
        if len(sentences) < 2 or not fitting:
            continue
        for sentence in generator.sample(fitting, min(CLOZE_A_PASSAGE, len(fitting))):
            yield _pair(material, sentence, passage, "cloze", remove=sentence)


HEADING_RULES = ("heading", "question")
"""The rules whose anchor may be the passage's own heading, which is then left out of the positive."""

RULES: dict[str, Rule] = {
    "heading": heading,
    "question": question,
    "alias": alias,
    "cross_reference": cross_reference,
    "cloze": cloze,
}


def seed_chunks(material: Material, words: int = 256, overlap: int = 32, header_chars: int = 512) -> list[Pair]:
    """The tutorial's pairs, literally: chunks that follow each other, and ``#`` headers → what follows.

    A document is cut by words whatever its structure; each chunk's anchor is the chunk before it.
    """
    pairs: list[Pair] = []
    first_section: dict[str, int] = {}
    for place, section in enumerate(material.sections):
        first_section.setdefault(section.document_id, place)
    for document in material.documents:
        if document.id not in first_section:
            continue
        place = first_section[document.id]
        passage = next(iter(material.passages_of[place]), 0)
        blank = Pair("", "", "", place, passage, document.id)
        tokens = document.text.split()
        chunks = [" ".join(tokens[start : start + words]) for start in range(0, len(tokens), words - overlap)]
        pairs += [
            replace(blank, anchor=first, positive=second, rule="adjacent")
            for first, second in zip(chunks, chunks[1:], strict=False)
        ]
        for match in re.finditer(r"^#{1,6}\s+(.+)$", document.text, re.MULTILINE):
            following = document.text[match.end() :].strip()[:header_chars]
            if following:
                pairs.append(replace(blank, anchor=match[1].strip(), positive=following, rule="header"))
    return pairs


def _pair(
    material: Material, anchor: str, place: int, rule: str, *, remove: str = "", without_heading: bool = False
) -> Pair:
    passage = material.passages[place]
    section = material.section_of[place]
    anchor = " ".join(anchor.split())
    return Pair(anchor, masked_text(passage, remove, without_heading), rule, section, place, passage.document_id)


def masked_text(passage: Passage, remove: str, without_heading: bool) -> str:
    """A passage's embedded text less ``remove`` (wherever it stands in the body) and, if so asked, its heading."""
    body = " ".join(passage.text.split())
    if remove:
        gone = r"\s+".join(re.escape(word) for word in remove.split())
        # Whole words only: taking "cholera" out of "cholerae" would leave "e".
        before, after = (r"(?<!\w)" if remove[0].isalnum() else ""), (r"(?!\w)" if remove[-1].isalnum() else "")
        body = re.sub(rf"{before}{gone}{after}\s*[;,]?\s*", " ", body, flags=re.IGNORECASE).strip()
    if not without_heading or not passage.heading:
        return replace(passage, text=body).embedded_text
    leaf = normalise(passage.heading[-1])
    return replace(
        passage,
        text=body,
        # A title that repeats the heading would come back as context.
        title="" if normalise(passage.title) == leaf else passage.title,
        heading=passage.heading[:-1],
        # The first of a trimmed context leads the text; here it is the heading, which goes.
        context=None if passage.context is None else ("", *passage.context[1:]),
    ).embedded_text


def _listed_aliases(text: str) -> Iterator[str]:
    paragraphs = re.split(r"\n\s*\n", text)
    for number, paragraph in enumerate(paragraphs):
        match = _ALIAS_LIST.search(paragraph)
        if not match:
            continue
        names = match["list"].strip()
        if not names and number + 1 < len(paragraphs):
            names = paragraphs[number + 1]
        if bullets := re.findall(r"^\s*(?:[-*+•]|\d+[.)])\s+(.+)$", names, re.MULTILINE):
            yield from (bullet.strip() for bullet in bullets)
        else:
            separator = ";" if ";" in names else "|" if "|" in names else ","
            first = names.split("\n\n")[0]
            yield from (name.strip().rstrip(".") for name in " ".join(first.split()).split(separator))


def _is_question(text: str) -> bool:
    return text.rstrip().endswith("?") or bool(_QUESTION_START.match(text.strip()) and len(text.split()) > 3)


def _usable(pair: Pair) -> bool:
    size = len(pair.anchor)
    if not MIN_ANCHOR_CHARS <= size or not any(character.isalpha() for character in pair.anchor):
        return False
    if pair.rule != "cloze" and size > MAX_ANCHOR_CHARS:
        return False
    return len(pair.positive.split()) >= MIN_POSITIVE_WORDS and normalise(pair.anchor) != normalise(pair.positive)
