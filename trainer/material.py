"""A corpus as the trainer sees it: documents, their sections, and the passages of each section."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from retrieval.console import Progress, silent
from retrieval.documents import Document, Skipped, read_all, require_documents
from retrieval.passages import Passage, TokenCounter, cut_all
from retrieval.structure import Section, sections_or_skip
from retrieval.workspace import Workspace

__all__ = ["Material", "gather", "informative_heading", "leading_identifier", "normalise", "strip_identifiers"]

_IDENTIFIER = r"(?=[^\s()]*\d)[A-Za-z§]{0,8}[\d][\w.\-/–]*"
_LEADING = re.compile(rf"^\s*(?:(?:chapter|part|section|article|appendix|step)\s+)?({_IDENTIFIER})[:.)]?\s+", re.I)
_TRAILING = re.compile(rf"\s*[(\[](?:{_IDENTIFIER})[)\]]\s*$")
_WORDS = re.compile(r"\w+")
# A heading that stands in so many documents says nothing of its own ("Introduction", "Answer 1").
GENERIC_DOCUMENTS = 5
GENERIC_SHARE = 0.02


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
    def document_by_id(self) -> dict[str, Document]:
        """Each document by its id."""
        return {document.id: document for document in self.documents}

    @cached_property
    def section_by_identifier(self) -> dict[str, int]:
        """Sections whose heading starts with an identifier (a code, a clause number) no other has."""
        found: dict[str, list[int]] = defaultdict(list)
        for place, section in enumerate(self.sections):
            if section.heading and (identifier := leading_identifier(section.heading[-1])):
                found[identifier.casefold()].append(place)
        return {identifier: places[0] for identifier, places in found.items() if len(places) == 1}

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
        limit = max(GENERIC_DOCUMENTS, GENERIC_SHARE * len(self.documents))
        return frozenset(form for form, count in documents.items() if count > limit)

    @cached_property
    def _copies(self) -> dict[str, tuple[int, ...]]:
        by_text: dict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(self._texts):
            if text:
                by_text[text].append(place)
        return {text: tuple(places) for text, places in by_text.items()}

    @cached_property
    def _texts(self) -> tuple[str, ...]:
        return tuple(normalise(section.text) for section in self.sections)

    def copies_of(self, section: int) -> tuple[int, ...]:
        """The sections with the same text, itself included."""
        return self._copies.get(self._texts[section], (section,))

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

    def related(self, section: int, other: int) -> bool:
        """Whether what answers with ``section`` may be answered by ``other``: itself, ancestor, descendant or copy."""
        return other in self._kin[section] or bool(self._texts[section] and self._texts[section] == self._texts[other])


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
    cuts = cut_all(titled, count_tokens, max_tokens, heading_context=workspace.passages.heading_context)
    for (_, found), some in zip(titled, cuts, strict=True):
        section_of += [len(all_sections) + place for place in _places(found, some)]
        all_sections += found
        passages += some
    return Material(tuple(documents), tuple(all_sections), tuple(passages), tuple(section_of), tuple(skipped))


def leading_identifier(heading: str) -> str:
    """The code or number a heading starts with (``A00.0`` of ``A00.0 Cholera``), or ""."""
    match = _LEADING.match(heading)
    return match.group(1).rstrip(".") if match else ""


def strip_identifiers(heading: str) -> str:
    """A heading without the code it starts with and the code in brackets it ends with."""
    stripped = _TRAILING.sub("", _LEADING.sub("", heading)).strip()
    return stripped or heading


def informative_heading(material: Material, section: Section) -> str:
    """The innermost heading that is this section's own, or its document's title, without codes; may be ""."""
    title = material.document_by_id[section.document_id].title
    for heading in (*reversed(section.heading), title):
        if generic_form(heading) not in material.generic_headings and _WORDS.search(heading):
            return strip_identifiers(heading)
    return ""


def generic_form(heading: str) -> str:
    """A heading in lower case with its numbers left out."""
    return " ".join(word for word in _WORDS.findall(heading.casefold()) if not word.isdigit())


def normalise(text: str) -> str:
    """Lower-case words one blank apart: what is compared to call two texts the same."""
    return " ".join(_WORDS.findall(text.casefold()))


def _places(found: Sequence[Section], cuts: Sequence[Passage]) -> list[int]:
    """For each passage, the place of its section: both are in reading order, so one walk finds them."""
    places: list[int] = []
    place = 0
    for passage in cuts:
        start = place
        while not _holds(found[place], passage):
            place += 1
            if place == len(found):
                raise AssertionError(f"passage {passage.id} of {passage.document_id} lies in no section after {start}")
        places.append(place)
    return places


def _holds(section: Section, passage: Passage) -> bool:
    inside = section.first_line <= passage.first_line and passage.last_line <= section.last_line
    return inside and section.heading == passage.heading
