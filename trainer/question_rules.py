"""Pairs from questions and troubles that documents state themselves → what answers them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from retrieval.markup import FENCED
from retrieval.structure import LABELLED, Section
from retrieval.words import sentences_of
from trainer.heading_rules import PASSAGES_A_HEADING, is_question
from trainer.material import Material, informative_heading
from trainer.pairs import Pair, pair_of

__all__ = ["question", "ticket"]

TROUBLE_CHARS = 300
_TROUBLE = r"problems?|symptoms?|issues?|error(?:\s+messages?)?|complaint|observation|fault|incident|request"
_REMEDY = (
    r"resolutions?|solutions?|fix(?:es)?|work-?arounds?|remed(?:y|ies)|answers?|corrective\s+actions?"
    r"|(?:(?:root|possible|probable|likely)\s+)?causes?"
    r"|response|recommended\s+actions?|action"
)
# No two optional runs of white space side by side: on a line of thousands of blanks they would be tried in all ways.
_MARK = r"[ \t]*(?:[*_#>-]{1,3}[ \t]*)?"
_OPEN_MARK = r"[ \t]*(?:[*_]{1,3}[ \t]*)?[:.)](?:[ \t]*[*_]{1,3})?[ \t\n]*"


def _label(words: str) -> re.Pattern[str]:
    """One of ``words`` where it leads a line as a label."""
    return re.compile(rf"^{_MARK}(?P<label>{words}){_OPEN_MARK}(?=\S)", re.IGNORECASE | re.MULTILINE)


_OFFERED = re.compile(r"a[.)][^\n]*\n\s{0,9}b[.)]", re.IGNORECASE)
_BLANK = re.compile(r"(?:[-*+][ \t])?[ \t]*(?:\[[ x]?\]|\([ \t]\)|[☐☑□○◯]|_{3}|\.{4}|…{2})")
"""What a quiz offers to choose from, and what a form has to be filled in, is no answer."""
_DIALOGUE = (
    _label(r"q(?:uestion)?(?:\s*\d{1,3})?"),
    _label(rf"(?!{_OFFERED.pattern})a(?:ns(?:wer)?)?(?:\s*\d{{1,3}})?"),
)
_REPORT = _label(_TROUBLE), _label(_REMEDY)
_STYLE = " \t\n*_"
"""What may close a label's bold type at the end of what it asks."""
_TROUBLE_HEADING = re.compile(rf"(?:the\s+)?(?:{_TROUBLE}|description|summary)\W*", re.IGNORECASE)
_REMEDY_HEADING = re.compile(rf"(?:the\s+)?(?:{_REMEDY})\W*", re.IGNORECASE)
_PARTS = re.compile(r"(?:the\s+)?(?:request|description|summary|response|action)\W*", re.IGNORECASE)
"""What parts of an interface, or of minutes, are called as well: two of these are no trouble and its remedy."""


def question(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A question that is a heading, a record's question column or a text after "Q:" → its answer."""
    section = material.sections[place]
    document = material.document_by_id[section.document_id]
    for passage in material.passages_of[place]:
        for asked, answer in _labelled(material.passages[passage].text, *_DIALOGUE):
            if not answer:
                asked, _, answer = asked.partition("\n")
                answer = answer.strip() if is_question(asked.strip(_STYLE)) else ""
            if _answers(answer):
                yield pair_of(material, asked.strip(_STYLE), passage, "question", excerpt=answer)
    said = document.question or informative_heading(material, section)
    asked = LABELLED.sub("", said.strip(_STYLE))
    if not section.blocks or not (document.question or is_question(asked)):
        return
    for passage in material.passages_of[place][:PASSAGES_A_HEADING]:
        if _answers(material.passages[passage].text.lstrip()):
            yield pair_of(material, asked, passage, "question", heading=said)


def _answers(text: str) -> bool:
    """Whether a text is an answer rather than a choice of several, or a place for one."""
    return any(map(str.isalpha, text)) and not _OFFERED.match(text) and not _BLANK.match(text)


def ticket(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """What a ticket complains of → what helped: labelled paragraphs, or sections of one document so called."""
    for passage in material.passages_of[place]:
        for asked, answer in _labelled(material.passages[passage].text, *_REPORT):
            if answer:
                yield pair_of(material, _opening(asked).strip(_STYLE), passage, "ticket", excerpt=answer)
    for trouble in _troubles(material, place):
        for passage in material.passages_of[place][:1]:
            yield pair_of(material, _opening(trouble.text), passage, "ticket")


def _troubles(material: Material, place: int) -> Iterator[Section]:
    """The sections that say what the one at ``place`` mends, nearest first: those right before it at its level.

    What else stands before it belongs to another remedy. Between the two may be another remedy of the same trouble.
    """
    heading = material.sections[place].heading
    if not heading or not _REMEDY_HEADING.fullmatch(heading[-1]):
        return
    first = material.sections_of[material.sections[place].document_id][0]
    troubles, remedies = set[str](), {heading[-1]}
    vague = _PARTS.fullmatch(heading[-1])
    for before in map(material.sections.__getitem__, range(place - 1, first - 1, -1)):
        if len(before.heading) > len(heading):
            continue
        name = before.heading[-1] if before.heading[:-1] == heading[:-1] else ""
        if name and _TROUBLE_HEADING.fullmatch(name) and name not in troubles:
            troubles.add(name)
            if before.blocks and not (vague and _PARTS.fullmatch(name)):
                yield before
        elif not name or name in troubles | remedies or (troubles and _REMEDY_HEADING.fullmatch(name)):
            return
        elif _REMEDY_HEADING.fullmatch(name):
            remedies.add(name)


def _labelled(text: str, asks: re.Pattern[str], answers: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """What stands under each label of ``asks``, and under the next of ``answers`` before another asks; "" for none.

    Labels of several kinds ("Problem", "Error message") ask together; one that comes again asks anew.
    """
    # What code says is no label; what is left keeps its place.
    prose = FENCED.sub(lambda code: " " * len(code[0]), text)
    labels = [*asks.finditer(prose)]
    before: list[str] = []
    start = 0
    for number, label in enumerate(labels, 1):
        end = labels[number].start() if number < len(labels) else len(text)
        name = label["label"].casefold()
        if any(name[0] == other[0] for other in before):
            yield text[start : label.start()], ""
            before = []
        if not before:
            start = label.end()
        before.append(name)
        if found := answers.search(prose, label.end(), end):
            if not all(map(_PARTS.fullmatch, (*before, found["label"]))):
                yield text[start : found.start()], text[found.end() : end].strip()
            before = []
    if before:
        yield text[start:], ""


def _opening(text: str) -> str:
    """The first sentences of ``text`` that fit an anchor, at least one."""
    opening, *others = sentences_of(text)
    for sentence in others:
        if len(opening) + len(sentence) >= TROUBLE_CHARS:
            break
        opening += f" {sentence}"
    return opening[:TROUBLE_CHARS]
