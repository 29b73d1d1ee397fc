"""Headings and paragraphs of plain text.

Plain text marks nothing, and a false heading is worse than a missed one: a heading here is a title
on the first line, the subject of a message, an underlined line, or a line that is written in capitals or
numbered like a clause ("12.3 Indemnification", "Article IV") and stands alone between blank lines, or is
plainly parted from the text below or after it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.numerals import roman
from retrieval.structure import Block, BlockKind, Heading
from retrieval.words import QUESTION_MARKS

__all__ = ["outline", "paragraph", "paragraphs", "subject"]

HEADING_LIMIT = 80
"""Characters a heading may have."""

# Which heading encloses which. What a file leaves out is simply not in the path.
TITLE, CAPITALS, NUMBERED = 1, 6, 6
NAMED = {
    **dict.fromkeys(("part", "book", "teil", "parte", "partie", "編", "编", "篇", "部"), 3),
    **dict.fromkeys(("section", "§", "節", "节", "款"), 5),
    **dict.fromkeys(("条", "條"), 6),
}
NAMED_DEFAULT = 4
ROMAN, LETTERED = 5, 6
UNDERLINES = {"=": 2, "-": 3, "~": 4}

CLAUSE = re.compile(
    r"(?P<name>part|book|chapter|article|section|appendix|annex|exhibit|schedule|§|"
    r"teil|kapitel|artikel|abschnitt|anhang|anlage|partie|chapitre|annexe|parte|capítulo|artículo|anexo)"
    r"(?:\s+|(?=\d)|(?<=§))"
    r"(?P<number>\d+(?:\.\d+)*|[ivxlcdm]+|[a-z])\b(?P<mark>\s*[.:)–—-])?(?:\s+(?P<title>\S.*))?",
    re.IGNORECASE,
)
UNCASED = re.compile(
    r"(?:第 ?[\d一二三四五六七八九十百千〇零]{1,9} ?(?P<counted>[編编篇部章節节款条條])(?:の\d{1,3})?|"
    r"(?:الباب|الفصل|المادة) *\(?\d{1,5}\)?)(?P<title>[\s:：.（(].*)?"
)
"""A clause's number and name in a script without capitals."""
CLOSING = re.compile(r"[。；،؛؟]|[,;:.?!、，：]$")
"""What a sentence has, or ends with, and a clause's name has not."""
NUMBER = re.compile(r"(?P<number>\d{1,3}(?:\.\d{1,3})*)[.)]?\s+(?P<title>[^\W\d_].*|[\"“].*)")
ORDINAL = re.compile(r"(?P<number>[IVXLC]{1,6}|[A-Z])\.\s+(?P<title>[^\W\d_].*)")
RUN_IN = re.compile(
    r"(?P<heading>(?:(?:article|section|§)\s*\d+(?:\.\d+)*|\d{1,3}(?:\.\d{1,3})+)[.:)]?\s+(?P<title>[^.]*)\.)"
    r"\s+(?=[A-Z\"“(])",
    re.IGNORECASE,
)
"""A clause's number and name before its text, on one line: ``12.3 Indemnification. The Seller shall …``"""
SENTENCE = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|shall|must|will|may|can|should|would|do|does|you|we|they|it|"
    r"this|these|that|which|who)\b",
    re.IGNORECASE,
)
"""Words that a sentence has and a heading seldom: a line with one is taken for a sentence."""
MANY_WORDS = 10
BULLET = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)]|\(?[a-z]\))\s+\S")
VALUE = re.compile(r"[:：]\s+\S")
"""What a line in capitals has that says something itself: "ALLERGIES: PENICILLIN"."""
ADORNMENT = re.compile(r"={3,}|~{3,}|-{3,}")
FIELD = re.compile(r"[A-Z][\w-]*(?: [\w-]+){0,2}:(?:\s|$)")
SUBJECT = re.compile(r"subject:\s*(?P<subject>\S.*)", re.IGNORECASE)
CALLS = frozenset(
    "NOTE NOTES WARNING WARNINGS CAUTION IMPORTANT ATTENTION TIP HINT NOTICE EXAMPLE EXAMPLES WHEREAS PROVIDED "
    "FROM TO CC BCC DATE SENT RE FW FWD BY TODO FIXME USAGE".split()
)
"""First words of lines in capitals with a colon that name no section."""
COLON_WORDS = 6


@dataclass(frozen=True, slots=True)
class _Found:
    """A heading, and where in its last line the text after it begins (0: it has its lines for itself)."""

    heading: Heading
    column: int = 0


ROMANS = {roman(number).upper(): number for number in range(1, 40)}
LETTERS = {chr(ord("A") + number): number + 1 for number in range(26)}


def outline(text: str) -> list[Heading | Block]:
    """Return the headings and paragraphs of ``text``; the text of a block is its slice of the source."""
    lines = text.split("\n")
    groups = _groups(lines)
    clauses = _clauses(lines, groups)
    items: list[Heading | Block] = []
    for index, (start, end) in enumerate(groups):
        found = clauses.get(index) or _heading(lines, start, end, index, len(groups))
        if not found:
            items.append(paragraph(lines, start, end))
            continue
        items.append(found.heading)
        if found.column:
            block = paragraph(lines, start, end)
            items.append(Block(block.kind, block.text[found.column :], block.first_line, block.last_line))
        elif found.heading.level == TITLE and _subject(lines, start, end, index == 0):
            items.append(paragraph(lines, start, end))
        elif found.heading.last_line < end:
            items.append(paragraph(lines, found.heading.last_line, end))
    return items


def subject(text: str) -> str:
    """Return the subject of a message that ``text`` begins with, "" where it does not."""
    lines = text.split("\n")
    start, end = next(iter(_groups(lines)), (0, 0))
    found = _subject(lines, start, end, first=True)
    return found.text if found else ""


def paragraphs(text: str) -> list[Block]:
    """Return the paragraphs of ``text``, none of which is taken for a heading."""
    lines = text.split("\n")
    return [paragraph(lines, start, end) for start, end in _groups(lines)]


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


def paragraph(lines: Sequence[str], start: int, end: int) -> Block:
    """Return ``lines[start:end]`` (from 0) of a file, none of them blank, as a list or a paragraph."""
    kind: BlockKind = "list" if end - start > 1 and BULLET.match(lines[start]) else "paragraph"
    return Block(kind, "\n".join(line.rstrip() for line in lines[start:end]), start + 1, end)


def _heading(lines: Sequence[str], start: int, end: int, index: int, count: int) -> _Found | None:
    """The heading that the group at ``index`` is or begins with, clauses aside."""
    whole = _underlined(lines, start, end) or _subject(lines, start, end, index == 0)
    if whole:
        return _Found(whole)
    line = lines[start].strip()
    if end - start > 1:
        # Names a section if what is below hangs from it, or if it says so with a colon.
        hanging = not lines[start][0].isspace() and all(below[0].isspace() for below in lines[start + 1 : end])
        named = not VALUE.search(line) if hanging else line.endswith(":")
        names = named and _is_capitals(line)
        return _Found(Heading(CAPITALS, line, start + 1, start + 1)) if names else None
    if index == count - 1:
        return None
    if index == 0 and _is_title(line):
        return _Found(Heading(TITLE, line, end, end))
    # A value among others has no prose below: "ALLERGIES: PENICILLIN", but "STEP 1: DRAIN THE TANK".
    below = next((lines[number] for number in range(end, len(lines)) if lines[number].strip()), "")
    stated = VALUE.search(line) and not any(map(str.islower, below))
    return _Found(Heading(CAPITALS, line, end, end)) if _is_capitals(line) and not stated else None


def _subject(lines: Sequence[str], start: int, end: int, first: bool) -> Heading | None:
    """What a message is about, if the group is the fields at its head, among them ``Subject:``.

    That alone is enough in the ``first`` group of a text.
    """
    fields = [FIELD.match(line) is not None for line in lines[start:end]]
    # A field may go on on the next line, which is then indented.
    if not all(named or line[:1].isspace() for named, line in zip(fields, lines[start:end], strict=True)):
        return None
    for number in range(start, end):
        match = SUBJECT.fullmatch(lines[number].strip())
        if match and (first or sum(fields) > 1):
            return Heading(TITLE, match["subject"], number + 1, number + 1)
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
    return (
        len(line) <= HEADING_LIMIT and _has_letters(line) and line[-1] not in ".,;:。、，；：।" and not _is_notice(line)
    )


def _is_capitals(line: str) -> bool:
    if line.endswith(":"):
        line = line[:-1].rstrip()
        words = line.split()
        if not words or len(words) > COLON_WORDS or words[0] in CALLS:
            return False
    letters = [character for character in line if character.isalpha()]
    if len(line) > HEADING_LIMIT or len(letters) < 4 or not all(letter.isupper() for letter in letters):
        return False
    dense = len(letters) >= 0.7 * sum(not character.isspace() for character in line)
    return dense and line[-1] not in ".,;:" and not _is_sentence(line) and not _is_notice(line)


def _is_notice(line: str) -> bool:
    """A line that states an owner or points elsewhere, which no text stands under."""
    return bool(re.match(r"(?:\W*copyright\W+\w|\(c\)|©|\S+://)", line, re.IGNORECASE))


def _is_sentence(line: str) -> bool:
    return len(line.split()) > MANY_WORDS or bool(SENTENCE.search(line))


def _has_letters(line: str) -> bool:
    return any(character.isalpha() for character in line)


def _clauses(lines: Sequence[str], groups: Sequence[tuple[int, int]]) -> dict[int, _Found]:
    """The clause headings by index of their group.

    Of lines alone that are neighbours at one depth none is a heading: they are the items of a list, blank
    lines apart.
    """
    alone: dict[int, _Found] = {}
    parted: dict[int, _Found] = {}
    for index, (start, end) in enumerate(groups):
        if end - start == 1:
            heading = _clause(lines[start].strip(), end)
            if heading:
                alone[index] = _Found(heading)
                continue
        found = _parted(lines, start, end)
        if found:
            parted[index] = found
    alone |= {index: found for index, found in _ordinals(lines, groups).items() if index not in alone}

    def is_item(index: int) -> bool:
        level = alone[index].heading.level
        return any(near in alone and alone[near].heading.level == level for near in (index - 1, index + 1))

    last = len(groups) - 1
    clauses = parted | {index: found for index, found in alone.items() if index < last and not is_item(index)}
    asking = [index for index, found in clauses.items() if _asks(found.heading.text)]
    # One may be a step of instructions that asks.
    return {index: found for index, found in clauses.items() if len(asking) > 1 or index not in asking}


def _parted(lines: Sequence[str], start: int, end: int) -> _Found | None:
    """A clause's heading that the group begins with, on a line of its own or before its text."""
    first = lines[start].strip()
    if end - start > 1:
        second = lines[start + 1].strip()
        numbered = any(NUMBER.match(line.strip()) or CLAUSE.match(line.strip()) for line in lines[start + 1 : end])
        heading = _clause(first, start + 1)
        if heading and CLAUSE.fullmatch(first) and end - start == 2 and _is_capitals(second):
            return _Found(Heading(heading.level, f"{first} {second}", start + 1, end))
        if heading and UNCASED.fullmatch(first):
            return _Found(heading)
        # The line was not broken because it was full: the next word had had room.
        room = max(map(len, lines[start:end])) - len(lines[start].rstrip()) - 1
        asks = first.endswith(QUESTION_MARKS)
        named = heading and (asks or _is_capitalised(first) or CLAUSE.fullmatch(first)) and not second[0].islower()
        ended = asks or (len(second.split()[0]) <= room and len(second.split()) > 1)
        if heading and named and not numbered and ended:
            return _Found(heading)
    match = RUN_IN.match(lines[start].lstrip())
    if match and len(match["heading"]) <= HEADING_LIMIT and _names_clause(match["title"]):
        indent = len(lines[start]) - len(lines[start].lstrip())
        heading = _clause(match["heading"], start + 1)
        return _Found(heading, indent + match.end()) if heading else None
    return None


def _ordinals(lines: Sequence[str], groups: Sequence[tuple[int, int]]) -> dict[int, _Found]:
    """Lines alone with a Roman numeral or a letter, where the text counts: none without its neighbour in the order."""
    found: dict[int, re.Match[str]] = {}
    for index, (start, end) in enumerate(groups):
        match = ORDINAL.fullmatch(lines[start].strip()) if end - start == 1 else None
        if match and len(match[0]) <= HEADING_LIMIT and _names_clause(match["title"]):
            found[index] = match
    numbers = [match["number"] for match in found.values()]
    roman = any(len(number) > 1 and number in ROMANS for number in numbers)
    in_romans, in_letters = ({order.get(number) for number in numbers} for order in (ROMANS, LETTERS))
    headings = {}
    for index, match in found.items():
        number = match["number"]
        order, present = (ROMANS, in_romans) if roman and number in ROMANS else (LETTERS, in_letters)
        place = order.get(number)
        if place and not present.isdisjoint((place - 1, place + 1)):
            line = groups[index][1]
            headings[index] = _Found(Heading(ROMAN if order is ROMANS else LETTERED, match[0], line, line))
    return headings


def _clause(line: str, number: int) -> Heading | None:
    """``line`` as a clause's heading, if it is numbered as one and does not read as a sentence."""
    if len(line) > HEADING_LIMIT:
        return None
    named = CLAUSE.fullmatch(line)
    if named:
        title = named["title"] or ""
        if named["mark"] or not title or title[0].isupper():
            level = NAMED.get(named["name"].lower(), NAMED_DEFAULT)
            return Heading(level, " ".join(line.split()), number, number) if not title or _names_clause(title) else None
    uncased = UNCASED.fullmatch(line)
    if uncased:
        title = (uncased["title"] or "").lstrip(" :：.")
        level = NAMED.get(uncased["counted"], NAMED_DEFAULT)
        names = len(title.split()) <= MANY_WORDS and not CLOSING.search(title)
        return Heading(level, " ".join(line.split()), number, number) if names else None
    plain = NUMBER.fullmatch(line)
    if plain and _names_clause(plain["title"]):
        depth = plain["number"].removesuffix(".0").count(".")
        return Heading(NUMBERED + 1 + depth, " ".join(line.split()), number, number)
    return None


def _names_clause(title: str) -> bool:
    """Whether the words after a clause's number name it, as a question does; a final full stop is a clause's."""
    words = title.rstrip(".").split()
    if not words or title[-1] in ",;:" or ". " in title or not (title[0].isupper() or title[0] in '"“'):
        return False
    if _is_capitalised(title):
        return len(words) <= MANY_WORDS
    return title.endswith(QUESTION_MARKS) or (not title.endswith(".") and not _is_sentence(title))


def _asks(line: str) -> bool:
    """Whether a clause's heading is one for nothing but the question mark at its end."""
    return line.endswith(QUESTION_MARKS) and _is_sentence(line) and not _is_capitalised(line)


def _is_capitalised(line: str) -> bool:
    """Whether each word that is not short begins with a capital."""
    return all(word[0].isupper() for word in line.split() if len(word) > 3 and word[0].isalpha())
