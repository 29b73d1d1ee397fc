"""What can be said of an answer without anyone's opinion: each measure is a count that a program can repeat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from statistics import fmean

from agent.answer import Answer
from agent.blocks import SentResult
from agent.citations import Citation
from agent.questions import Question

__all__ = ["MEASURES", "Mean", "abstains", "mean_of", "measure", "numbers"]

MEASURES = {
    "citation_validity": "citations that hold, of all",
    "citation_precision": "citations of a relevant place, of all",
    "citation_recall": "relevant places that are cited",
    "evidence_recall": "relevant places that were found",
    "evidence_recall_first": "of these, by the first turn's searches",
    "answered": "answerable questions not declined",
    "abstained": "unanswerable questions declined",
    "numbers_grounded": "numbers that stand in a quote, of all",
    "turns": "turns",
    "queries": "tool calls",
    "duplicate_queries": "queries repeated",
    "degraded_queries": "queries degraded",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "dollars": "dollars",
}
"""Name and meaning, in the order they are shown. Shares are from 0 to 1, the others per question."""

RESAMPLES = 1000
_TITLE_SEPARATOR = " › "
_OPENING_SENTENCES = 2
_DECLINES = re.compile(
    r"\b(?:no|not|cannot|can't|couldn't|doesn't|don't|didn't|nothing|neither|none)\b[^.!?\n]{0,80}"
    r"\b(?:address|answer|contain|cover|described?|document(?:s|ed|ation)?|find|found|h[eo]ld|include|information"
    r"|mention(?:s|ed)?|passages?|say|specif(?:y|ied)|stated?|tell)\b",
    re.IGNORECASE,
)
# Who has nothing to say must be the documents, or whoever searched them: a contract that does not cover is an answer.
_SOURCES = re.compile(
    r"\b(?:I|we|documents?|documentation|collection|corpus|corpora|passages?|sources?|materials?|search(?:es)?)\b",
    re.IGNORECASE,
)
# What says nothing is a document, whatever it is called.
_TELLS_NOTHING = re.compile(
    r"\b(?:do|does|did)(?: not|n['’]t) (?:\w+ly )?(?:say|mention|specify|state|describe|address)\b"
    r"|\b(?:not|isn['’]t|aren['’]t) (?:\w+ly )?(?:mentioned|specified|stated|described|documented|addressed)\b"
    r"|\bno (?:\w+ )?(?:information|mention)\b"
    r"|\bcould(?: not|n['’]t) be found\b"
    # A policy that does not pay is an answer, so only of these, and only what a document does with its subjects.
    r"|\b(?:handbooks?|manuals?|polic(?:y|ies)|guides?|pages?|files?) (?:do|does|did)(?: not|n['’]t) (?:\w+ly )?"
    r"(?:contain|cover|include)\b",
    re.IGNORECASE,
)
_LIST_MARK = re.compile(r"^\s*\d{1,3}[.)]\s", re.MULTILINE)
# A number by itself: the digits of E11.9, v2 and 2026-11-23 are names.
_NUMBER = re.compile(r"(?<![\w.,/:-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w/:-]|\.\d|,\d)")
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_WORDS = {word: number for number, word in enumerate(f"{_UNITS} seventeen eighteen nineteen".split())}
_TENS = {
    word: 10 * number for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_NUMBER_WORD = re.compile(
    rf"\b(?:({'|'.join(_TENS)})(?:[- ]({'|'.join(_WORDS)}))?|({'|'.join(_WORDS)}))\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over the questions that have the measure, and its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float
    questions: int


def measure(
    question: Question, answer: Answer, sent: Sequence[SentResult], found_by_turn: Sequence[Iterable[str]]
) -> dict[str, float]:
    """The measures that ``answer`` has: without citations, say, there is no share of them that holds.

    ``sent`` are the search results Claude was sent, ``found_by_turn`` the sources among them that each turn's
    searches brought.
    """
    values: dict[str, float | None] = {
        "citation_validity": _share(citation.valid for citation in answer.citations),
        "numbers_grounded": _numbers_grounded(question, answer),
        "turns": answer.turns,
        "queries": len(answer.queries),
        "duplicate_queries": sum(query.repeated for query in answer.queries),
        "degraded_queries": sum(bool(query.degraded) for query in answer.queries),
        "input_tokens": answer.usage.all_input_tokens,
        "output_tokens": answer.usage.output_tokens,
        "dollars": answer.dollars,
    }
    declined = abstains(answer.text)
    if not question.relevant:
        # Who says nothing has not said that the documents do not tell.
        values["abstained"] = float(declined and bool(answer.text.strip()))
    else:
        cited = [_cited_units(citation, sent) & question.relevant for citation in answer.citations]
        units = {result.source: _units(result) & question.relevant for result in sent}
        found = [set().union(*(units.get(source, set()) for source in turn)) for turn in found_by_turn]
        values |= {
            "answered": float(not declined),
            "citation_precision": _share(bool(part) for part in cited),
            "citation_recall": len(set().union(*cited)) / len(question.relevant),
            "evidence_recall": len(set().union(*found)) / len(question.relevant),
            "evidence_recall_first": len(found[0] if found else ()) / len(question.relevant),
        }
    return {name: float(value) for name in MEASURES if (value := values.get(name)) is not None}


def mean_of(measured: Iterable[Mapping[str, float]]) -> dict[str, Mean]:
    """The mean of each measure over the questions that have it."""
    rows = list(measured)
    columns = {name: [row[name] for row in rows if name in row] for name in MEASURES}
    return {name: _mean(values) for name, values in columns.items() if values}


def abstains(text: str) -> bool:
    """Whether an answer is none: empty, or its opening says in English that the documents do not tell.

    A rule of words and no more: another language, or another way to say it, needs a judge.
    """
    opening = re.split(r"(?<=[.!?])\s+|\n+", text.strip())[:_OPENING_SENTENCES]
    return not text.strip() or any(_declines(sentence) for sentence in opening)


def _declines(sentence: str) -> bool:
    found = _DECLINES.search(sentence) and _SOURCES.search(sentence)
    return bool(found or _TELLS_NOTHING.search(sentence))


def numbers(text: str) -> set[Decimal]:
    """The numbers in ``text``, in digits or in English words up to ninety-nine; list marks are none."""
    found = {Decimal(number.replace(",", "")).normalize() for number in _NUMBER.findall(_LIST_MARK.sub("", text))}
    for tens, unit, alone in _NUMBER_WORD.findall(text):
        words = (tens, unit) if tens else (alone,)
        found.add(Decimal(sum(_TENS.get(word.lower(), _WORDS.get(word.lower(), 0)) for word in words)).normalize())
    return found


def _numbers_grounded(question: Question, answer: Answer) -> float | None:
    """Of the numbers in digits that the question did not bring, those that a valid citation's quote has."""
    digits = {
        Decimal(number.replace(",", "")).normalize() for number in _NUMBER.findall(_LIST_MARK.sub("", answer.text))
    }
    quoted = set().union(*(numbers(citation.quote) for citation in answer.citations if citation.valid))
    return _share(number in quoted for number in digits - numbers(question.text))


def _units(result: SentResult) -> set[str]:
    """The document, and the section, as qrels name them."""
    heading = result.title.rpartition(_TITLE_SEPARATOR)[2]
    return {result.document_id, f"{result.document_id}#{heading}"}


def _cited_units(citation: Citation, sent: Sequence[SentResult]) -> set[str]:
    if not citation.valid:
        return set()
    return set().union(
        *(
            _units(result)
            for result in sent
            if (result.corpus, result.document_id) == (citation.corpus, citation.document_id)
            and any(block.first_line <= citation.first_line <= block.last_line for block in result.blocks)
        )
    )


def _share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return sum(values) / len(values) if values else None


def _mean(values: Sequence[float]) -> Mean:
    generator = Random(13)
    means = sorted(fmean(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = round(RESAMPLES * 0.025)
    return Mean(fmean(values), means[cut], means[-1 - cut], len(values))
