"""Pairs from questions and troubles that documents state themselves → what answers them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from retrieval.words import SENTENCE_END
from trainer.heading_rules import PASSAGES_A_HEADING, is_question
from trainer.material import Material, informative_heading
from trainer.pairs import Pair, pair_of

__all__ = ["question", "ticket"]

TROUBLE_CHARS = 300
_TROUBLE = r"problems?|symptoms?|issues?|error(?:\s+messages?)?|complaint|observation|fault|incident|request"
_REMEDY = (
    r"resolutions?|solutions?|fix(?:es)?|work-?arounds?|remed(?:y|ies)|answers?|corrective\s+actions?|root\s+causes?|causes?"
    r"|response|recommended\s+actions?|action"
)
# No two optional runs of white space side by side: on a line of thousands of blanks they would be tried in all ways.
_MARK = r"[ \t]*(?:[*_#>-]{1,3}[ \t]*)?"
_OPEN_MARK = r"[ \t]*(?:[*_]{1,3}[ \t]*)?[:.)](?:[ \t]*[*_]{1,3})?[ \t\n]*"


def _labelled(asks: str, answers: str) -> re.Pattern[str]:
    """A paragraph labelled by one of ``asks``, and the next labelled text, if ``answers`` label it."""
    return re.compile(
        rf"^{_MARK}(?:{asks}){_OPEN_MARK}(?P<asked>\S.*?)^{_MARK}(?:{answers}){_OPEN_MARK}"
        rf"(?P<answer>\S.*?)(?=^{_MARK}(?:{asks}){_OPEN_MARK}|\Z)",
        re.IGNORECASE | re.MULTILINE | re.DOTALL,
    )


_ASKS = re.compile(r"^\s*q(?:uestion)?\s*\d{0,3}\s*[:.)]\s*", re.IGNORECASE)
_DIALOGUE = _labelled(r"q(?:uestion)?(?:\s*\d{1,3})?", r"a(?:ns(?:wer)?)?(?:\s*\d{1,3})?")
_REPORT = _labelled(_TROUBLE, _REMEDY)
_TROUBLE_HEADING = re.compile(rf"(?:the\s+)?(?:{_TROUBLE}|description|summary)\W*", re.IGNORECASE)
_REMEDY_HEADING = re.compile(rf"(?:the\s+)?(?:{_REMEDY})\W*", re.IGNORECASE)


def question(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """A question that is a heading, a record's question column or a text after "Q:" → its answer."""
    section = material.sections[place]
    document = material.document_by_id[section.document_id]
    for passage in material.passages_of[place]:
        for match in _DIALOGUE.finditer(material.passages[passage].text):
            yield pair_of(material, match["asked"], passage, "question", excerpt=match["answer"].strip())
    said = document.metadata.get("question") or informative_heading(material, section)
    asked = _ASKS.sub("", said)
    if not section.blocks or not ("question" in document.metadata or is_question(asked)):
        return
    for passage in material.passages_of[place][:PASSAGES_A_HEADING]:
        yield pair_of(material, asked, passage, "question", heading=said)


def ticket(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """What a ticket complains of → what helped: labelled paragraphs, or sections of one document so called."""
    section = material.sections[place]
    for passage in material.passages_of[place]:
        for match in _REPORT.finditer(material.passages[passage].text):
            yield pair_of(material, _opening(match["asked"]), passage, "ticket", excerpt=match["answer"].strip())
    if not section.heading or not _REMEDY_HEADING.fullmatch(section.heading[-1]):
        return
    for other in material.sections_of[section.document_id]:
        trouble = material.sections[other]
        siblings = trouble.heading[:-1] == section.heading[:-1] and other < place
        if siblings and trouble.heading and trouble.blocks and _TROUBLE_HEADING.fullmatch(trouble.heading[-1]):
            for passage in material.passages_of[place][:1]:
                yield pair_of(material, _opening(trouble.text), passage, "ticket")


def _opening(text: str) -> str:
    """The first sentences of ``text`` that fit an anchor, at least one."""
    sentences = SENTENCE_END.split(" ".join(text.split()))
    opening = sentences[0]
    for sentence in sentences[1:]:
        if len(opening) + len(sentence) >= TROUBLE_CHARS:
            break
        opening += f" {sentence}"
    return opening[:TROUBLE_CHARS]
