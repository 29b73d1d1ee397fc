"""What other sections call a section: the terms that documents set before its code, as in "cellulitis of nose (J34.0)".

A reference says what is to be found elsewhere, often in words that stand nowhere there. As web search has long indexed
pages under the words of the links to them (Craswell, Hawking and Robertson, Effective site finding using link anchor
information, SIGIR 2001), a passage is embedded, and found by its words, with what others call its section.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from retrieval.dehyphenation import dehyphenated
from retrieval.passages import Passage

__all__ = [
    "CLAUSE_VERB",
    "IDENTIFIER",
    "Referring",
    "called",
    "leading",
    "leading_identifier",
    "named",
    "named_all",
    "owners",
    "references",
    "referring",
]

_Key = TypeVar("_Key")

CALLED_CHARS = 200
"""Of names, at most, beside a passage's own words."""
# An annex has a letter and a point ("A.1"); X.509 and H.264 are names.
IDENTIFIER = r"(?=[^\s()]*\d)(?:[A-Z]\.(?!\d{3})|[A-Za-z§]{0,8})\d[\w.\-/–]*"
_LEADING = re.compile(
    r"^\s*(?P<kind>(?i:chapter|part|section|article|appendix|step)\s+)?"
    rf"(?P<code>(?:§\s+(?=\d))?{IDENTIFIER}?)(?P<mark>[:.)])?\s+"
)
# "CWE-79: Title", "[ABC-123] Title", "HP:0000316 – Title": set apart from its heading, and not alone of its series.
_SERIES = r"(?:[A-Z]{1,10}(?:[-_][A-Z]{1,10}){0,2}[-_](?=\d)|[A-Z]{1,10}:(?=\d{4}))"
_LABEL = re.compile(
    rf"^\s*(?:\[(?P<bracketed>{_SERIES}\d[\w.\-/–]*)\]|(?P<plain>{_SERIES}\d[\w.\-/–]*?)(?::|\s+[-–—]))\s+\S"
)
_LEADING_SERIES = re.compile(_SERIES, re.IGNORECASE)
SERIES = 3
"""So many codes of a series lead headings, or none of them is a code: COVID-19 and FY-2024 are names."""
# "5.1 By the seller", "4.2 Can I return it?": a clause of several numbers has no name that could go on.
_CLAUSE = re.compile(r"(?:[A-Z]|\d+)(?:\.\d+)+\s+(?![a-z])")
_GOES_ON = re.compile(r"(?=[a-z])|(?i:is|are|was|were|has|have|can|does|in|of|and|or|as|for|to|by|with|from|on)\b")
# A bare number in brackets is a year, a count or a footnote; a code has a letter or a point. Without a blank before
# the bracket it is what a function is called with.
_REFERENCE = re.compile(r"(?<=\s)[(\[](?P<code>(?=[^()\[\]\s,;]*\d)(?!\d+[\s,;)\]])[^()\[\]\s,;]+)[^()\[\]]*[)\]]")
_TERM_EDGE = re.compile(r"[;:.()\[\]\n|]")
_SEE = re.compile(r"(?:see(?:\s+also)?|cf\.?|siehe(?:\s+auch)?|vgl\.?|voir(?:\s+aussi)?|véase)\s+", re.IGNORECASE)
# "cellulitis of nose (internal) (J34.0)": a part of the term, unless it is a reference itself.
_QUALIFIER = re.compile(r"\s*\((?![^()]*\d)[^()\n]{1,40}\)\s*\Z")
CLAUSE_VERB = re.compile(
    r"\b(?:is|are|was|were|be|has|have|had|shall|must|will|can|may|should|would|do|does|said|that|which)\b(?!-)", re.I
)
"""What no name has in it, but as a part of a word: the May-Hegglin anomaly."""
TERM_CHARS, MAX_TERM_WORDS = 200, 15


def leading(heading: str) -> re.Match[str] | None:
    """The code that labels a heading; not a name with a digit that is the subject of what follows ("STIM2 is …")."""
    match = _LEADING.match(heading)
    if not match or match["kind"] or match["mark"] or _CLAUSE.match(heading, match.start("code")):
        return match
    return None if _GOES_ON.match(heading, match.end()) else match


def leading_identifier(heading: str) -> str:
    """The code or number a heading starts with (``A00.0`` of ``A00.0 Cholera``, ``X-7`` of ``X-7: Seals``), or ""."""
    if label := _LABEL.match(heading):
        return label["bracketed"] or label["plain"]
    match = leading(heading)
    return "".join(match["code"].split()).rstrip(".") if match else ""


def owners(coded: Iterable[tuple[_Key, str]]) -> dict[str, _Key]:
    """Whose each code is, in lower case; "" is none.

    A code that several hold is nobody's, and one with a dash is none unless others of its series are held too.
    """
    holders: dict[str, list[_Key]] = defaultdict(list)
    for key, code in coded:
        if code:
            holders[code].append(key)
    series = {code: match[0] for code in holders if (match := _LEADING_SERIES.match(code))}
    sizes = Counter(series.values())
    return {
        code: keys[0]
        for code, keys in holders.items()
        if len(keys) == 1 and (code not in series or sizes[series[code]] >= SERIES)
    }


def references(text: str) -> Iterator[tuple[str, str]]:
    """Yield the terms of ``text`` that are followed by a code in brackets, each with the code in lower case.

    In standards and contracts a code follows whole clauses too, which name nothing.
    """
    for match in _REFERENCE.finditer(text):
        before = text[: match.start()][-TERM_CHARS:]
        qualifier = _QUALIFIER.search(before)
        if qualifier:
            before = before[: qualifier.start()]
        term = _TERM_EDGE.split(before)[-1].strip(" ,*_`\"'-")
        term = term[said.end() :] if (said := _SEE.match(term)) else term
        if term and qualifier:
            term = f"{term} {qualifier[0].strip()}"
        if term and len(term.split()) <= MAX_TERM_WORDS and not CLAUSE_VERB.search(term):
            yield term, match["code"].rstrip(".-–").casefold()


@dataclass(frozen=True, slots=True)
class Referring:
    """What of a passage others may refer to, and what it refers to.

    ``section`` tells its section from all others; ``code`` is that of the section's heading where this is its first
    passage, else "".
    """

    section: tuple[str, tuple[str, ...]]
    code: str
    terms: Sequence[tuple[str, str]]


def referring(passages: Sequence[Passage]) -> Iterator[Referring]:
    """Yield what each of a document's passages refers to and may be referred to by."""
    begun = set()
    for passage in passages:
        first = passage.heading not in begun
        begun.add(passage.heading)
        code = leading_identifier(passage.heading[-1]).casefold() if first and passage.heading else ""
        yield Referring((passage.document_id, passage.heading), code, tuple(references(dehyphenated(passage.text))))


def called(found: Iterable[tuple[_Key, Referring]]) -> dict[_Key, list[str]]:
    """What others call the passages whose code no other section has, the commonest name first."""
    everything = dict(found)
    owner = owners((key, item.code) for key, item in everything.items())
    names: dict[_Key, Counter[str]] = defaultdict(Counter)
    for item in everything.values():
        for term, code in item.terms:
            if code in owner and everything[owner[code]].section != item.section:
                names[owner[code]][term] += 1
    return {key: sorted(terms, key=lambda term: (-terms[term], term)) for key, terms in names.items()}


def named(passage: Passage, names: Collection[str]) -> Passage:
    """Return ``passage`` with those of ``names`` that it does not say itself, as many as there is room for."""
    own = replace(passage, called=()).embedded_text.casefold()
    kept: dict[str, str] = {}
    room = CALLED_CHARS
    for name in names:
        folded = name.casefold()
        if folded in own or folded in kept or len(name) > room:
            continue
        kept[folded] = name
        room -= len(name)
    return replace(passage, called=tuple(kept.values()))


def named_all(passages: Sequence[Sequence[Passage]]) -> list[list[Passage]]:
    """Return the passages of documents, each with what the others call it."""
    found = {
        (document, place): item for document, some in enumerate(passages) for place, item in enumerate(referring(some))
    }
    names = called(found.items())
    return [
        [named(passage, names.get((document, place), ())) for place, passage in enumerate(some)]
        for document, some in enumerate(passages)
    ]
