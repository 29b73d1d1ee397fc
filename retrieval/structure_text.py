"""Headings and paragraphs of plain text.

Plain text marks nothing, and a false heading is worse than a missed one: a heading here is a title
on the first line, an underlined line, or a line alone between blank lines that is numbered like a
clause ("12.3 Indemnification", "Article IV"), or written in capitals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from retrieval.structure import Block, BlockKind, Heading

__all__ = ["outline", "paragraphs"]

HEADING_LIMIT = 80
"""Characters a heading may have."""

# Which heading encloses which. What a file leaves out is simply not in the path.
TITLE, NAMED, CAPITALS, NUMBERED = 1, {"part": 3, "book": 3, "section": 5, "§": 5}, 6, 6
NAMED_DEFAULT = 4
UNDERLINES = {"=": 2, "-": 3, "~": 4}

CLAUSE = re.compile(
    r"(?P<name>part|book|chapter|article|section|appendix|annex|exhibit|schedule|§)\s*"
    r"(?P<number>\d+(?:\.\d+)*|[ivxlcdm]+|[a-z])\b(?P<mark>\s*[.:)–—-])?(?:\s+(?P<title>\S.*))?",
    re.IGNORECASE,
)
NUMBER = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,3})*)[.)]?\s+(?P<title>[^\W\d_].*|[\"“].*)")
SENTENCE = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|shall|must|will|may|can|should|would|do|does|you|we|they|it|"
    r"this|these|that|which|who)\b",
    re.IGNORECASE,
)
"""Words that a sentence has and a heading seldom: a line with one is taken for a sentence."""
MANY_WORDS = 10
BULLET = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)]|\(?[a-z]\))\s+\S")
ADORNMENT = re.compile(r"([=~-])\1{2,}")


def outline(text: str) -> list[Heading | Block]:
    """Return the headings and paragraphs of ``text``; the text of a block is its slice of the source."""
    lines = text.split("\n")
    groups = _groups(lines)
    numbered = _numbered_headings(lines, groups)
    items: list[Heading | Block] = []
    for index, (start, end) in enumerate(groups):
        heading = numbered.get(index) or _heading(lines, start, end, index, len(groups))
        if heading:
            items.append(heading)
            start = heading.last_line
        if start < end:
            items.append(_block(lines, start, end))
    return items


def paragraphs(text: str) -> list[Block]:
    """Return the paragraphs of ``text``, none of which is taken for a heading."""
    lines = text.split("\n")
    return [_block(lines, start, end) for start, end in _groups(lines)]


def _groups(lines: Sequence[str]) -> list[tuple[int, int]]:
    """The runs of lines that are not blank, as (first, one past last) from 0."""
    groups = []
    start = None
    for number, line in enumerate([*lines, ""]):
        if line.strip():
            start = number if start is None else start
        elif start is not None:
            groups.append((start, number))
            start = None
    return groups


def _block(lines: Sequence[str], start: int, end: int) -> Block:
    kind: BlockKind = "list" if end - start > 1 and BULLET.match(lines[start]) else "paragraph"
    return Block(kind, "\n".join(line.rstrip() for line in lines[start:end]), start + 1, end)


def _heading(lines: Sequence[str], start: int, end: int, index: int, count: int) -> Heading | None:
    """The heading that the group at ``index`` is or begins with, numbered ones aside."""
    underlined = _underlined(lines, start, end)
    if underlined:
        return underlined
    if end - start > 1 or index == count - 1:
        return None
    line = lines[start].strip()
    if index == 0 and _is_title(line):
        return Heading(TITLE, line, end, end)
    if _is_capitals(line):
        return Heading(CAPITALS, line, end, end)
    return None


def _underlined(lines: Sequence[str], start: int, end: int) -> Heading | None:
    """A first line with a rule of about its length below, and perhaps one above."""
    over = bool(ADORNMENT.fullmatch(lines[start].strip()))
    title = start + over
    if title + 1 >= end:
        return None
    line, rule = lines[title].strip(), lines[title + 1].strip()
    if not ADORNMENT.fullmatch(rule) or not _has_letters(line) or len(line) > HEADING_LIMIT:
        return None
    if len(rule) < len(line) - 3 or (over and lines[start].strip()[0] != rule[0]):
        return None
    return Heading(UNDERLINES[rule[0]], line, start + 1, title + 2)


def _is_title(line: str) -> bool:
    return len(line) <= HEADING_LIMIT and _has_letters(line) and line[-1] not in ".,;:" and not _is_notice(line)


def _is_capitals(line: str) -> bool:
    letters = [character for character in line if character.isalpha()]
    if len(line) > HEADING_LIMIT or len(letters) < 4 or not all(letter.isupper() for letter in letters):
        return False
    dense = len(letters) >= 0.7 * sum(not character.isspace() for character in line)
    return dense and line[-1] not in ".,;:" and not _is_sentence(line) and not _is_notice(line)


def _is_notice(line: str) -> bool:
    """A line that states an owner or points elsewhere, which no text stands under."""
    return bool(re.match(r"(?:\W*copyright\b|\(c\)|©|\S+://)", line, re.IGNORECASE))


def _is_sentence(line: str) -> bool:
    return len(line.split()) > MANY_WORDS or bool(SENTENCE.search(line))


def _has_letters(line: str) -> bool:
    return any(character.isalpha() for character in line)


def _numbered_headings(lines: Sequence[str], groups: Sequence[tuple[int, int]]) -> dict[int, Heading]:
    """The clause headings by index of their group.

    Of neighbours at one depth none is a heading: they are the items of a list, blank lines apart.
    """
    candidates = {}
    for index, (start, end) in enumerate(groups):
        if end - start == 1:
            heading = _clause(lines[start].strip(), end)
            if heading:
                candidates[index] = heading

    def alone(index: int) -> bool:
        level = candidates[index].level
        return not any(near in candidates and candidates[near].level == level for near in (index - 1, index + 1))

    last = len(groups) - 1
    return {index: heading for index, heading in candidates.items() if index < last and alone(index)}


def _clause(line: str, number: int) -> Heading | None:
    """``line`` as a clause's heading, if it is numbered as one and does not read as a sentence."""
    if len(line) > HEADING_LIMIT:
        return None
    named = CLAUSE.fullmatch(line)
    if named:
        title = named["title"] or ""
        if named["mark"] or not title or title[0].isupper():
            level = NAMED.get(named["name"].lower(), NAMED_DEFAULT)
            return Heading(level, line, number, number) if not title or _names_clause(title) else None
    plain = NUMBER.fullmatch(line)
    if plain and _names_clause(plain["title"]):
        depth = plain["number"].removesuffix(".0").count(".")
        return Heading(NUMBERED + 1 + depth, line, number, number)
    return None


def _names_clause(title: str) -> bool:
    """Whether the words after a clause's number name it; a final full stop is a clause's, not a sentence's."""
    words = title.rstrip(".").split()
    if not words or title[-1] in ",;:" or ". " in title or not (title[0].isupper() or title[0] in '"“'):
        return False
    if all(word[0].isupper() for word in words if len(word) > 3 and word[0].isalpha()):
        return len(words) <= MANY_WORDS
    return not title.endswith(".") and not _is_sentence(title)
