"""Pairs from names: aliases, codes that stand for other entries, terms and what they mean, and what is listed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from retrieval.boilerplate import LABELS
from retrieval.listings import LISTED_WORDS, bare_name, names_in
from retrieval.names import INLINE_WORDS, SAME, inline_aliases, is_name, listed_aliases
from retrieval.references import references
from retrieval.words import count_words, sentences_of, words_of
from trainer.material import Material, is_code, normalise
from trainer.pairs import Pair, pair_of

__all__ = ["alias", "cross_reference", "definition", "listed"]

# Under "Abbreviations" stand those of all that a document says, not of what it is about.
_ALIAS_HEADING = re.compile(SAME, re.IGNORECASE)
TERM_WORDS = 6
LISTED_A_SECTION = 6
MIN_MEANING_WORDS = 4
_BULLET = r"(?:[-*+•·]\s+|\(?(?:\d{1,3}(?:\.\d{1,3})*|[a-z]|[ivx]{1,4})[.)]\s+|\d{1,3}(?:\.\d{1,3})+\s+)?"
_QUOTED = r"(?:[\"“”„«‘'*_`]{1,4}\s?(?P<quoted>[^\"“”„«»*_`\n]{2,80}?)\s?[\"“”»’'*_`]{1,4})"
_PLAIN = r"(?P<plain>[A-Z0-9](?:[^\"“”*_`.,;:()\n]|(?<=[A-Z])\.|(?<=\bInc)\.){1,80}?)"
_PHRASE = rf"(?:(?i:the\s+term|the\s+word|an?|the)\s+)?(?:{_QUOTED}|{_PLAIN})"
_MEANS = re.compile(
    rf"{_BULLET}{_PHRASE}\s*(?:\([^()]{{1,40}}\)\s*)?,?\s+"
    r"(?i:(?:shall\s+|will\s+)?(?:means?(?:\s+and\s+includes?)?|refers?\s+to|denotes?|stands?\s+for)"
    r"|(?:is|are)\s+defined\s+(?:as|to\s+mean)|bezeichne[nt]|bedeute[nt]|(?:désigne|signifie)(?:nt)?"
    r"|s['’]entend(?:ent)?\s+d['’e]|significan?|designan?|se\s+entiende\s+por)\b[\s,:]*(?P<meaning>\S.*)",
    re.DOTALL,
)
_IS_A = re.compile(
    rf"{_PHRASE}\s+(?:\([^()]{{1,40}}\)\s+)?(?:is|are)\s+"
    r"(?P<meaning>(?:an?|the\s+\w+\s+(?:of|for|that)|any|one\s+of)\s.*)",
    re.DOTALL,
)
# The part of an abstract that begins: "BACKGROUND Suicide is …"
_LABEL = re.compile(r"^[A-Z]{5,}\s+(?=[A-Z][a-z])")
_MARKED_ENTRY = re.compile(
    r"^[ \t]*(?:(?:[-*+•·]|\d{1,3}[.)])[ \t]*)?(?P<mark>\*\*|__|``?)(?P<term>[^*`\n]{2,80}?)"
    r"(?::[ \t]*(?P=mark)|(?P=mark)[ \t]*(?::|–|—|-{1,2}(?=[ \t])))[ \t]*(?P<meaning>[^\s:].*(?:\n[ \t]*[a-z(].*)*)$",
    re.MULTILINE,
)
_PLAIN_ENTRY = re.compile(
    r"^[ \t]*(?:(?:[-*+•·]|\d{1,3}[.)])[ \t]*)?(?P<term>[^\W_][^:\n–—|]{1,60}?)[ \t]*(?::|–|—|[ \t]-{1,2})[ \t]+"
    r"(?P<meaning>\S.*(?:\n[ \t]*[a-z(].*)*)$",
    re.MULTILINE,
)
_LABELS = LABELS | frozenset(
    "example examples input output result total duration added changed fixed removed deprecated security breaking fix "
    "fixes features default required returns optional prerequisites goal purpose owner status date".split()
)
_LABELS |= {"bug fixes", "breaking changes", "new features", "known issues"}
_COUNTED = re.compile(r"(?:step|phase|figure|fig|table|section|clause|article|chapter|appendix|schritt)\b.*\d", re.I)
"""What counts the parts of a text, and names nothing."""
# A term on its line, its meaning indented below (reStructuredText, HTML's <dl> as it is read) or after a colon
# (Markdown's extension).
_HANGING = re.compile(
    r"^(?P<indent>[ \t]*)(?![-*+•:.#|>=~^]|\d+[.)])(?P<term>\S[^\n:(=]{1,60}?)(?:[ ]:[ ][^\n]*)?\n"
    r"(?:(?P=indent)(?:[ ]{2,}|\t)(?P<meaning>[^\s:.-][^\n]*(?:\n(?P=indent)(?:[ ]{2,}|\t)\S[^\n]*)*))",
    re.MULTILINE,
)
_COLON_BELOW = re.compile(
    r"^(?P<term>[^\s#>|:*+-][^\n]{1,60})\n(?:\n)?[:~][ \t]+(?P<meaning>\S.*(?:\n[ \t]+\S.*)*)$", re.MULTILINE
)
_DOUBLE_COLON = re.compile(
    r"^(?P<term>[^\s:*.-][^\n:]{1,60})::+(?:[ \t]+|\n[ \t]*)"
    r"(?P<meaning>[^\s:+][^\n]*(?:\n(?![^\n]*::|\+[ \t]*$)[ \t]*\S[^\n]*)*)",
    re.MULTILINE,
)
"""AsciiDoc's ``term:: meaning``, its meaning on the same line or below."""
_SHORTENED = re.compile(r"\b(?:(?:[A-Z]\.)+[A-Z]|Inc|Ltd|Corp|Co|Dr|Mr|Mrs|Ms|Prof|St|vs|cf)\. [^ ]$")
"""No end of a sentence, though a capital or a figure follows the point."""
_ENTRY = re.compile(r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*+•·][ \t]|\d{1,3}[.)][ \t]|\*\*|__|`))")
"""Between the paragraphs of a text, its bullets, and lines that begin with a marked term."""
_GOES_ON = re.compile(r"(?:that|of)\b", re.IGNORECASE)
_GLOSSARY = re.compile(
    r"\b(?:glossary|definitions?|(?<!payment )(?<!delivery )(?<!general )(?<!contract )(?<!commercial )"
    r"terms(?!\s+(?:of|and\s+conditions|&)\b)|terminology|abbreviations|acronyms|vocabulary|nomenclature|"
    r"glossar|begriffe|begriffsbestimmungen|definitionen|abkürzungen|glossaire|définitions|lexique|abréviations|"
    r"glosario|definiciones|abreviaturas|glossario|definizioni|definições)\b",
    re.I,
)
"""What heads explanations of words; "Terms of payment" heads conditions."""


def alias(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """An alternative name in an "Also called: …" list or phrase, or under such a heading → the entry, without it."""
    section = material.sections[place]
    opening = material.openings[place]
    if opening != place and section.heading and _ALIAS_HEADING.fullmatch(section.heading[-1].strip(" :")):
        for item in names_in(section.text):
            name = bare_name(item)
            if is_name(name, INLINE_WORDS) and "](" not in item:
                yield pair_of(material, name, material.passages_of[opening][0], "alias", remove=name)
    for passage in material.passages_of[place]:
        text = material.passages[passage].text
        for name in listed_aliases(text):
            yield pair_of(material, name, passage, "alias", remove=name)
        # Where several entries say so, as in a glossary, the positive is the one entry.
        saying = [(entry, found) for entry in _ENTRY.split(text) if (found := [*inline_aliases(entry)])]
        for entry, found in saying:
            for phrase, name in found:
                excerpt = entry.strip() if len(saying) > 1 else None
                yield pair_of(material, name, passage, "alias", remove=phrase, excerpt=excerpt)


def cross_reference(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A term followed by another entry's code, "term (CODE)" → that entry, the term left out."""
    section = material.sections[place]
    for block in section.blocks:
        if block.kind == "code":
            continue
        for term, code in references(block.text):
            target = material.section_by_identifier.get(code)
            if target is None or target == place:
                continue
            for passage in material.passages_of[target][:1]:
                yield pair_of(material, term, passage, "cross_reference", remove=term, said_in=section.document_id)


def definition(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A term → what it means, the term left out: "X means …", glossaries, "X is a …" where a section begins with it."""
    section = material.sections[place]
    if is_code(material, section) or not section.blocks:
        return
    texts = {passage: material.passages[passage].text for passage in material.passages_of[place]}
    marked = [match["term"] for text in texts.values() for match in _MARKED_ENTRY.finditer(text)]
    # In bold stand labels too. Terms that are explained come in lists.
    listed = sum(not _is_label(term) for term in marked) > 1
    for number, (passage, text) in enumerate(texts.items()):
        for term, meaning in _meanings(material, place, text, opens=number == 0, listed=listed):
            named = is_name(term, TERM_WORDS) and not _COUNTED.match(term)
            if named and count_words(meaning) >= MIN_MEANING_WORDS:
                yield pair_of(material, term, passage, "definition", remove=term, heading=term, excerpt=meaning)


def listed(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A name listed under a label that many documents have ("Illustrative examples:") → what lists it, without it."""
    section = material.sections[place]
    if is_code(material, section):
        return
    names = [
        name
        for label, names in material.listings_of[place]
        if label in material.list_labels
        for name in names
        if is_name(name, LISTED_WORDS) and not material.is_heading(name)
    ]
    texts = {passage: f" {normalise(material.passages[passage].text)} " for passage in material.passages_of[place]}
    for name in generator.sample(names, min(LISTED_A_SECTION, len(names))):
        holding = next((passage for passage, text in texts.items() if f" {normalise(name)} " in text), None)
        if holding is not None:
            yield pair_of(material, name, holding, "listed", remove=name)


def _sentences(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph; none ends with "U.S." or "Acme Inc.", whatever follows."""
    begun = ""
    for part in sentences_of(paragraph):
        if begun and not _SHORTENED.search(f"{begun[-8:]} {part[:1]}"):
            yield begun
            begun = ""
        begun = f"{begun} {part}".strip()
    if begun:
        yield begun


def _meanings(material: Material, place: int, text: str, *, opens: bool, listed: bool) -> Iterator[tuple[str, str]]:
    """The terms that a passage explains, and what it says of each; of those in bold, where its section has a list."""
    section = material.sections[place]
    document = material.document_by_id[section.document_id]
    if all(block.kind == "code" for block in section.blocks):
        return
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in _sentences(paragraph):
            match = _MEANS.match(_LABEL.sub("", sentence))
            # "Earlier checks mean that …" explains no term; a quoted one is a term whatever follows.
            if match and (match["quoted"] or not _GOES_ON.match(match["meaning"])):
                yield match["quoted"] or match["plain"], match["meaning"]
    if opens and section.blocks[0].kind == "paragraph":
        first = sentences_of(section.blocks[0].text)[0]
        if match := _IS_A.match(_LABEL.sub("", first)):
            yield match["quoted"] or match["plain"], match["meaning"]
    glossary = any(_GLOSSARY.search(part) for part in section.heading or (document.title,))
    entries = [_MARKED_ENTRY, _PLAIN_ENTRY] if glossary else [_MARKED_ENTRY] if listed else []
    # Elsewhere HTML's lists, and AsciiDoc's, are of options and parameters as often.
    if document.format == "rst" or (document.format == "html" and glossary):
        entries.append(_HANGING)
    if document.format == "asciidoc" and glossary:
        entries.append(_DOUBLE_COLON)
    if document.format == "markdown":
        entries.append(_COLON_BELOW)
    for entry in entries:
        for match in entry.finditer(text):
            term = match["term"].strip(" \t*_`:")
            if glossary or entry is not _MARKED_ENTRY or not _is_label(term):
                yield term, match["meaning"]


def _is_label(term: str) -> bool:
    """Whether what leads a line says of what kind the rest is ("Warning", "Step 2", "2024"), and names nothing."""
    words = words_of(term)
    return " ".join(words) in _LABELS or bool(_COUNTED.match(term)) or all(map(str.isdigit, words))
