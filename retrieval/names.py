"""The names that a passage lists: what it is also called, what others call it, its examples and terms.

An entry of a catalogue lists many names and people ask by one of them, which is a small part of the entry's vector.
So each name has a vector of its own, and in hybrid search a passage one of whose names is nearer to the question than
it is itself comes nearer by half of the difference. Where nothing is listed, as in prose, nothing changes. (Sung et
al., Biomedical entity representations with synonym marginalization, ACL 2020, find entities by the nearest of their
names; what it gave here is in docs/experiments.md.)

Of the vectors only the signs are kept, as of tokens (`retrieval.late_interaction`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from retrieval.dehyphenation import dehyphenated
from retrieval.documents import CODE
from retrieval.late_interaction import Codes, pack_signs
from retrieval.listings import LISTED_WORDS, bare_name, listings, names_in
from retrieval.markup import FENCED
from retrieval.passages import Passage
from retrieval.references import CLAUSE_VERB
from retrieval.structure import Block
from retrieval.words import words_of
from retrieval.workspace import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "INLINE_WORDS",
    "SAME",
    "by_names",
    "compares_names",
    "encode_names",
    "inline_aliases",
    "is_name",
    "listed_aliases",
    "names_of",
]

SHARE = 0.5
"""Of the way from the passage to its nearest name."""
SHRUNK = math.sqrt(2 / math.pi)
"""By so much the inner product with the signs of a vector is smaller than with itself, where it is about normal."""
MOST_NAMES = 32
"""Of a passage, the first of them."""
# "list[str]", but "Streptococcus [group A]"
_NOT_SAID = re.compile(r"[{}<>=\\]|->|\w\[")

SAME = (
    r"also (?:called|known as|named|written)|alternat(?:iv)?e (?:names?|terms?)|synonym(?:e?s|e)?|alias(?:es)?"
    r"|a\.?k\.?a\.?|auch (?:genannt|bekannt als)|andere (?:namen|bezeichnungen)|(?:aussi|également) appelée?s?"
    r"|autres? (?:noms?|appellations?)|también (?:llamad|conocid)[oa]s?(?: como)?|otros nombres|sinónimos?|sinonimi"
    r"|altri nomi|sinônimos?"
)
# The label may open a paragraph or a sentence; its list ends with the paragraph, or where another label begins.
_ALIAS_LIST = re.compile(
    rf"(?:^|(?<=[.;]\s))\W{{0,8}}(?:{SAME}|(?:other|former) (?:names?|terms?)|abbreviations?|acronyms?)\b"
    r"\W{0,8}?:[ \t*_]*(?P<list>.*?)(?=\.\s+[A-Z][\w /-]{1,40}:\s|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_OPENED, _ONE, _CLOSED = r"[\"“*_`]*", r"[^.,;:()\n\"”*_`]{3,80}", r"[\"”*_`]*"
# "We also called the customer" names nobody. What may be known is looked ahead to where a word begins: from each of its
# letters, a long one would be read in the square of its length.
_INLINE_ALIAS = re.compile(
    r"(?:[,(]\s*|\b(?:is|are|was|were|ist|sind|est|sont|es|son)\s+|\b(?=\w+\s+(?:known|referred)\s))"
    r"\b(?:(?:also|otherwise|formerly|previously|sometimes|commonly)\s+"
    r"(?:called|known as|named|referred to as|termed)|auch\s+(?:bekannt als|bezeichnet als)"
    r"|(?:aussi|également)\s+(?:appelée?s?|nommée?s?|connue?s? sous le nom de)"
    r"|también\s+(?:llamad|denominad|conocid)[oa]s?(?:\s+como)?)\s+(?:(?:the|an?|une?|una?)\s+)?"
    rf"{_OPENED}(?P<name>{_ONE}){_CLOSED}\)?",
    re.IGNORECASE,
)
_AND_MORE = re.compile(
    rf"(?P<names>(?:,\s*{_OPENED}{_ONE}{_CLOSED}){{0,6}},?\s+or\s+{_OPENED}{_ONE}{_CLOSED})\)?", re.IGNORECASE
)
"""What follows the first of several names: ", B or C"."""
_PARTED = re.compile(r"\s*,\s*(?:or\s+)?|\s+or\s+", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|an?|une?|una?)\s+", re.IGNORECASE)
INLINE_WORDS = 10
_NO_NAME = re.compile(r"(?:none|nothing|n/?a|not applicable|unknown)\W*\Z|(?:not|see)\s", re.IGNORECASE)
# What a sentence begins with that is no name, and what no name has in it or ends with.
_NOT_AT_ENDS = frozenset(
    "this that these those it its he she they we you i there here which what who where when how why if in on at by for "
    "from with as to of and or but not no nothing one some any all each both such most many our your their his her my "
    "during after before among despite while although because since until over under between through within without "
    "also however thus therefore note nb see let every a an the".split()
)
_COMPOUND = re.compile(r"\W*\w+-\w")
"""A name whatever word it begins with: "one-way valve", "in-app purchase"."""
_PRONOUNS = frozenset("this that these those it he she they we you there here".split())


def compares_names(workspace: Workspace) -> bool:
    """Whether hybrid searches compare names, as the settings and the store have it: a database holds no codes."""
    return workspace.search.names and workspace.store.kind == "local"


def is_name(term: str, longest: int) -> bool:
    """Whether ``term`` may be a name of at most ``longest`` words: no clause, and no part of one."""
    words = words_of(term)
    if not words or len(words) > longest or _NO_NAME.match(term):
        return False
    if (words[0] in _NOT_AT_ENDS and not _COMPOUND.match(term)) or _PRONOUNS.intersection(words):
        return False
    # "hepatitis A", "factor I"
    ends = words[-1] not in _NOT_AT_ENDS or (len(words) > 1 and words[-1] in ("a", "i"))
    return ends and not CLAUSE_VERB.search(term)


def listed_aliases(text: str) -> Iterator[str]:
    """The items of each "Also called: …" list in ``text``, or in the paragraph below such a label."""
    paragraphs = _paragraphs(text)
    for number, paragraph in enumerate(paragraphs):
        for match in _ALIAS_LIST.finditer(paragraph):
            names = match["list"].strip()
            if not names and number + 1 < len(paragraphs):
                names = paragraphs[number + 1]
            # "DB = database" stands beside what is told of, and names nothing of it.
            items = (bare_name(name) for name in names_in(names) if "](" not in name and " = " not in name)
            # In such a list a name may be a clause, and as long as it likes.
            yield from (item for item in items if not _NO_NAME.match(item))


def inline_aliases(text: str) -> Iterator[tuple[str, str]]:
    """Each name that ", also known as …" in ``text`` gives, after the whole phrase; "X, Y or Z" are three."""
    for match in _INLINE_ALIAS.finditer(text):
        # A comma before the name is closed by one behind it: ", also known as edema, affects the heart or lungs".
        closed = match[0].endswith(")") or match[0].startswith(",")
        more = None if closed else _AND_MORE.match(text, match.end())
        several = [text[match.start("name") : more.end("names")]] if more else []
        for said in (*several, match["name"]):
            names = [_ARTICLE.sub("", bare_name(name)) for name in _PARTED.split(said)]
            if all(is_name(name, INLINE_WORDS) for name in names):
                phrase = text[match.start() : more.end()] if more and said in several else match[0]
                yield from ((phrase, name) for name in names)
                break
        else:
            if is_name(match["name"].strip(), INLINE_WORDS):
                yield match[0], match["name"].strip()


def names_of(passage: Passage) -> list[str]:
    """The names that a passage lists, and those that others call it, each once; code lists none."""
    text = FENCED.sub("", dehyphenated(passage.text))
    if PurePosixPath(passage.document_id).suffix.lower() in CODE:
        text = ""
    blocks = [Block("paragraph", part, 1, 1) for part in _paragraphs(text)]
    found = (
        *passage.called,
        *listed_aliases(text),
        *(name for _, name in inline_aliases(text)),
        *(name for _, names in listings(blocks) for name in names),
    )
    names = {name.casefold(): name for name in found if is_name(name, LISTED_WORDS) and not _NOT_SAID.search(name)}
    return [*names.values()][:MOST_NAMES]


def encode_names(passages: Sequence[Passage], encode: Callable[[list[str]], NDArray[np.float32]]) -> dict[int, Codes]:
    """Of each passage that has names, by its place, the codes (1 + n, ⌈d / 8⌉) of its own vector and of n names.

    ``encode`` is given texts, each once, and makes a vector of length 1 of each.
    """
    import numpy as np

    named = {place: names for place, passage in enumerate(passages) if (names := names_of(passage))}
    said = {place: (passages[place].embedded_text, *names) for place, names in named.items()}
    texts = list(dict.fromkeys(text for some in said.values() for text in some))
    if not texts:
        return {}
    row = dict(zip(texts, pack_signs(encode(texts)), strict=True))
    return {place: np.stack([row[text] for text in some]) for place, some in said.items()}


def by_names(
    question: NDArray[np.float32], numbers: Sequence[int], scores: Sequence[float], codes: Mapping[int, Codes]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Bring passages nearer to a question by their nearest names.

    Args:
        question: (d,), of length 1.
        numbers: of passages.
        scores: their cosines to the question.
        codes: of those that list names, as `encode_names` makes them.

    Returns:
        The numbers and their scores, best first; equal scores by number.
    """
    import numpy as np

    ids, found = np.asarray(numbers, dtype=np.int64), np.array(scores, dtype=np.float64)
    named = [place for place, number in enumerate(numbers) if number in codes]
    if named:
        some = [codes[numbers[place]] for place in named]
        bits = np.unpackbits(np.concatenate(some), axis=1, count=len(question))
        # A sign is twice its bit less 1; what is the same for all codes falls out of the difference.
        products = bits.astype(np.float32) @ question
        own = np.cumsum([0, *map(len, some[:-1])])
        nearer = np.maximum.reduceat(products, own) - products[own]
        found[named] += SHARE / SHRUNK * 2 / math.sqrt(len(question)) * nearer
    order = np.lexsort((ids, -found))
    return ids[order], found[order]


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text) if part.strip()]
