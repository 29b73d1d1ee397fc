"""A corpus as the trainer sees it: documents, their sections, and the passages of each section."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath

from retrieval.console import Progress, silent
from retrieval.dehyphenation import dehyphenated
from retrieval.documents import CODE, Document, Skipped, read_all, require_documents
from retrieval.listings import listings
from retrieval.passages import Passage, TokenCounter, cut_placed
from retrieval.references import IDENTIFIER, leading, leading_identifier, named_all, owners
from retrieval.structure import Section, sections_or_skip
from retrieval.words import MARKS, words_of
from retrieval.workspace import Workspace

__all__ = [
    "Material",
    "gather",
    "generic_form",
    "informative_heading",
    "is_code",
    "normalise",
    "strip_identifiers",
    "telling_words",
]

# "IV. Governance", "C. Liability"
_ENUMERATED = re.compile(r"^\s*(?:[IVXLC]+|[A-Z])[.)]\s+(?=[A-Z])")
_TRAILING = re.compile(rf"\s*[(\[](?:{IDENTIFIER})[)\]]\s*$")
_WORDS = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LETTER = r"[^\W\d_]"
_LETTERS = rf"{_LETTER}(?:{_LETTER}|[{MARKS}])"
_TELLING = re.compile(rf"(?<![\w{MARKS}]){_LETTERS}{{2,39}}(?:['-]{_LETTERS}{{0,39}})*(?![\w{MARKS}])")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+|(?<!\S)\S{1,64}@\S+")
# A heading that stands in so many documents says nothing of its own ("Introduction", "Answer 1").
GENERIC_DOCUMENTS = 5
GENERIC_SHARE = 0.02
STUB_WORDS = 6


@dataclass(frozen=True)
class Material:
    """Everything mined from: sections in reading order, and for each passage the place of its section."""

    documents: tuple[Document, ...]
    sections: tuple[Section, ...]
    passages: tuple[Passage, ...]
    section_of: tuple[int, ...]
    skipped: tuple[Skipped, ...]

    @cached_property
    def passages_of(self) -> tuple[tuple[int, ...], ...]:
        """For each section, the places of its passages."""
        found: list[list[int]] = [[] for _ in self.sections]
        for place, section in enumerate(self.section_of):
            found[section].append(place)
        return tuple(tuple(places) for places in found)

    @cached_property
    def normalised(self) -> tuple[str, ...]:
        """Each passage as it is embedded, `normalise`d."""
        return tuple(normalise(passage.embedded_text) for passage in self.passages)

    @cached_property
    def sections_of(self) -> dict[str, tuple[int, ...]]:
        """For each document that has sections, their places in reading order."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, section in enumerate(self.sections):
            found[section.document_id].append(place)
        return {document: tuple(places) for document, places in found.items()}

    @cached_property
    def document_by_id(self) -> dict[str, Document]:
        """Each document by its id."""
        return {document.id: document for document in self.documents}

    @cached_property
    def section_by_identifier(self) -> dict[str, int]:
        """Sections whose heading starts with an identifier (a code, a clause number) no other has."""
        return owners(
            (place, leading_identifier(section.heading[-1]).casefold())
            for place, section in enumerate(self.sections)
            if section.heading
        )

    @cached_property
    def generic_headings(self) -> frozenset[str]:
        """Normalised headings, numbers left out, that recur across so many documents that they tell nothing."""
        documents: Counter[str] = Counter()
        seen: set[tuple[str, str]] = set()
        for section in self.sections:
            for heading in section.heading:
                key = (generic_form(heading), section.document_id)
                if key not in seen:
                    seen.add(key)
                    documents[key[0]] += 1
        return frozenset(form for form, count in documents.items() if count > self._many_documents)

    def is_generic(self, heading: str) -> bool:
        """Whether a heading is one of `generic_headings`, whatever its numbers."""
        return generic_form(heading) in self.generic_headings

    @cached_property
    def listings_of(self) -> tuple[tuple[tuple[str, list[str]], ...], ...]:
        """For each section its `listings`: the labels over lists of names, each with its names."""
        return tuple(tuple(listings(section.blocks)) for section in self.sections)

    @cached_property
    def list_labels(self) -> frozenset[str]:
        """The labels over lists of names ("Examples:") that recur across many documents."""
        labels = {
            (label, section.document_id)
            for section, found in zip(self.sections, self.listings_of, strict=True)
            for label, _ in found
        }
        documents = Counter(label for label, _ in labels)
        return frozenset(label for label, count in documents.items() if count > self._many_documents)

    def is_heading(self, name: str) -> bool:
        """Whether a section, codes set aside, is called just that."""
        return normalise(name) in self._named

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(normalise(strip_identifiers(name)) for section in self.sections for name in section.heading)

    @property
    def _many_documents(self) -> float:
        return max(GENERIC_DOCUMENTS, GENERIC_SHARE * len(self.documents))

    @cached_property
    def word_statistics(self) -> tuple[Counter[str], float]:
        """In how many passages each word stands, and how many words a passage has on average (`telling_words`)."""
        frequency: Counter[str] = Counter()
        total = 0
        for passage in self.passages:
            words = telling_words(passage.text.casefold())
            total += len(words)
            frequency.update(set(words))
        return frequency, total / max(1, len(self.passages))

    @cached_property
    def section_groups(self) -> tuple[int, ...]:
        """For each section the number of its group: sections that say nearly the same. One without text is alone."""
        return _groups([section.text for section in self.sections])

    @cached_property
    def passage_groups(self) -> tuple[int, ...]:
        """For each passage the number of its group: passages that say nearly the same, whatever their headings."""
        return _groups([passage.text for passage in self.passages])

    @cached_property
    def boilerplate(self) -> frozenset[int]:
        """The passages whose text stands in so many documents, word for word or nearly, that it answers for none.

        Of a few words numbers are left out, which are all that tells "See 314110." from "See 314120.".
        """
        said = [
            stub
            if passage.text != (stub := _NUMBER.sub("", passage.text)) and len(words_of(stub)) <= STUB_WORDS
            else group
            for passage, group in zip(self.passages, self.passage_groups, strict=True)
        ]
        holders = {(what, passage.document_id) for what, passage in zip(said, self.passages, strict=True)}
        documents = Counter(what for what, _ in holders)
        return frozenset(place for place, what in enumerate(said) if documents[what] > self._many_documents)

    @cached_property
    def _copies(self) -> dict[int, tuple[int, ...]]:
        by_group: dict[int, list[int]] = defaultdict(list)
        for place, group in enumerate(self.section_groups):
            by_group[group].append(place)
        return {group: tuple(places) for group, places in by_group.items()}

    def copies_of(self, section: int) -> tuple[int, ...]:
        """The sections that say nearly the same, itself included."""
        return self._copies[self.section_groups[section]]

    @cached_property
    def _kin(self) -> tuple[frozenset[int], ...]:
        by_path: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
        for place, section in enumerate(self.sections):
            by_path[section.document_id, section.heading].append(place)
        kin: list[set[int]] = [{place} for place in range(len(self.sections))]
        for place, section in enumerate(self.sections):
            for depth in range(1, len(section.heading)):
                for ancestor in by_path.get((section.document_id, section.heading[:depth]), ()):
                    kin[place].add(ancestor)
                    kin[ancestor].add(place)
        return tuple(map(frozenset, kin))

    @cached_property
    def named_by(self) -> tuple[int, ...]:
        """For each section the number of the heading that names it: its own, or where that tells nothing one above.

        The answers under one question have one number, whatever they are called ("Answer 1").
        """
        numbers: dict[tuple[str, ...], int] = {}
        found = []
        for section in self.sections:
            depth = next(
                (
                    depth
                    for depth in range(len(section.heading), 0, -1)
                    if not self.is_generic(section.heading[depth - 1])
                ),
                0,
            )
            found.append(numbers.setdefault((section.document_id, *section.heading[:depth]), len(numbers)))
        return tuple(found)

    @cached_property
    def openings(self) -> tuple[int, ...]:
        """For each section the first one with a text that the same heading names: itself where there is none before."""
        first: dict[int, int] = {}
        for place, name in enumerate(self.named_by):
            if self.sections[place].blocks and self.passages_of[place]:
                first.setdefault(name, place)
        return tuple(min(place, first.get(name, place)) for place, name in enumerate(self.named_by))

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """For each section what a name that leads to it names: the same for copies, and for what one heading names."""
        first: dict[int, int] = {}
        return tuple(self.named_by[first.setdefault(group, place)] for place, group in enumerate(self.section_groups))

    def related(self, section: int, other: int) -> bool:
        """Whether what is answered by ``section`` may be answered by ``other``.

        It may by itself, an ancestor, a descendant, what the same heading names, and what says nearly the same.
        """
        return (
            other in self._kin[section]
            or self.named_by[section] == self.named_by[other]
            or self.section_groups[section] == self.section_groups[other]
        )


def gather(
    workspace: Workspace, corpus: str, count_tokens: TokenCounter, max_tokens: int, progress: Progress = silent
) -> Material:
    """Read a corpus and cut it just as the index does.

    Raises:
        DocumentError: the corpus is missing, or nothing in it can be used.
    """
    everything, skipped = read_all(workspace, corpus, progress)
    documents: list[Document] = []
    titled: list[tuple[str, list[Section]]] = []
    for document in everything:
        found = sections_or_skip(document)
        if isinstance(found, Skipped):
            skipped.append(found)
        else:
            titled.append((document.title, found))
            documents.append(document)
    require_documents(workspace, corpus, len(documents), skipped)
    all_sections: list[Section] = []
    passages: list[Passage] = []
    section_of: list[int] = []
    placed = cut_placed(titled, count_tokens, max_tokens, heading_context=workspace.passages.heading_context)
    cuts = [[passage for _, passage in some] for some in placed]
    if workspace.passages.heading_context:
        cuts = named_all(cuts)
    for (_, found), places, some in zip(titled, placed, cuts, strict=True):
        section_of += [len(all_sections) + place for place, _ in places]
        # Here, once: no rule has to think of words that a line's end parts.
        all_sections += map(_dehyphenated, found)
        passages += (replace(passage, text=dehyphenated(passage.text)) for passage in some)
    return Material(tuple(documents), tuple(all_sections), tuple(passages), tuple(section_of), tuple(skipped))


def _dehyphenated(section: Section) -> Section:
    return replace(section, blocks=tuple(replace(block, text=dehyphenated(block.text)) for block in section.blocks))


def strip_identifiers(heading: str) -> str:
    """A heading without the code or number it starts with, the code in brackets and the stop it ends with."""
    match = leading(heading)
    stripped = _TRAILING.sub("", heading[match.end() :] if match else _ENUMERATED.sub("", heading))
    return stripped.strip(" \t-–—•*:;").rstrip(".") or heading


def informative_heading(material: Material, section: Section) -> str:
    """The innermost heading that is this section's own, or its document's title, without codes; may be ""."""
    title = material.document_by_id[section.document_id].title
    for heading in (*reversed(section.heading), title):
        if not material.is_generic(heading) and _WORDS.search(heading):
            return strip_identifiers(heading)
    return ""


def is_code(material: Material, section: Section) -> bool:
    """Whether the section is of a source file, whose headings are signatures and whose title is a path."""
    return PurePosixPath(material.document_by_id[section.document_id].path).suffix.lower() in CODE


def generic_form(heading: str) -> str:
    """A heading in lower case with its numbers left out."""
    return " ".join(word for word in words_of(heading) if not word.isdigit())


def normalise(text: str) -> str:
    """Lower-case words one blank apart: what is compared to call two texts the same."""
    return " ".join(words_of(text))


def telling_words(text: str) -> list[str]:
    """The words that may tell what a text is about: three letters or more, and no part of an address."""
    return _TELLING.findall(_ADDRESS.sub(" ", text))


def _groups(texts: Sequence[str]) -> tuple[int, ...]:
    """Near-duplicate groups; a text without words is a group of its own, with a number below 0."""
    from trainer.near_duplicates import near_duplicate_groups

    groups = near_duplicate_groups(texts)
    return tuple(
        group if _WORDS.search(text) else -place - 1
        for place, (text, group) in enumerate(zip(texts, groups, strict=True))
    )
