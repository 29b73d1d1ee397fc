"""How searches, citations and answers are put into words, on a terminal and in files alike."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent.plain import one_line, plain

if TYPE_CHECKING:
    from agent.answer import Answer, Query
    from agent.citations import Citation

__all__ = [
    "answer_text",
    "footnote",
    "footnotes",
    "marked",
    "marks",
    "no_answer",
    "no_evidence",
    "query_line",
    "unmarked",
]

_FENCE = re.compile(r"(\s*)(?:`{3,}|~{3,})")
_ROW = re.compile(r"\s*\|.*[^\\]\|")
_NO_MARKS = str.maketrans("⟦⟧", "[]")


def marked(text: str, numbers: Iterable[int]) -> str:
    """Markdown with the marks of its end behind its last word.

    They would undo a fence, so they stand on a line of their own after it, and they would be lost behind a table's row.
    """
    body = text.rstrip()
    end, space = marks(numbers), text[len(body) :]
    last_line = body[body.rfind("\n") + 1 :]
    if not end:
        return text
    if fence := _FENCE.fullmatch(last_line):
        return f"{body}\n{fence[1]}{end}{space}"
    if _ROW.fullmatch(last_line):
        return f"{body[:-1]}{end} |{space}"
    return f"{body}{end}{space}"


def marks(numbers: Iterable[int]) -> str:
    """``⟦1⟧⟦3⟧``: what the text before it rests on."""
    return "".join(f"⟦{number}⟧" for number in numbers)


def unmarked(text: str) -> str:
    """What was written by others, without the brackets of a mark: those stand for a citation that was checked."""
    return text.translate(_NO_MARKS)


def answer_text(answer: Answer) -> str:
    """The answer with its marks, as Markdown."""
    text = ""
    for part in answer.segments:
        text = marked(text + unmarked(plain(part.text)), part.citations)
    return text.rstrip()


def query_line(query: Query) -> str:
    """``search_corpus: parental leave → 5 hits (hybrid)``."""
    if query.error:
        result = f"failed: {query.error}"
    elif query.repeated:
        result = "already answered"
    elif query.hits is None:
        result = "done"
    else:
        result = f"{query.hits} {'hit' if query.hits == 1 else 'hits'}" + (f" ({query.mode})" if query.mode else "")
    degraded = f"; degraded: {query.degraded}" if query.degraded else ""
    return unmarked(one_line(f"{query.tool}: {query.text} → {result}{degraded}"))


def footnote(number: int, citation: Citation, quoted: int = 200) -> str:
    """``⟦1⟧ handbook/leave.md:14-19 "…"`` with so many characters of the quote; an invalid citation says why."""
    wrong = "" if citation.valid else f" INVALID: {one_line(citation.reason)}"
    told = f'{wrong} {one_line(citation.place)} "{one_line(citation.quote, quoted)}"'
    return f"{marks([number])}{unmarked(told)}"


def footnotes(answer: Answer, quoted: int = 200) -> list[str]:
    """A line for each citation, in order."""
    return [footnote(number, citation, quoted) for number, citation in enumerate(answer.citations, 1)]


def no_answer(answer: Answer) -> str:
    """Why what came is none, "" if it is."""
    if not answer.text.strip():
        return f"no answer: {one_line(answer.notes[-1])}" if answer.notes else "no answer"
    return no_evidence(answer)


def no_evidence(answer: Answer) -> str:
    """Why the answer rests on nothing, "" where a search succeeded or none was made."""
    if answer.queries and all(query.error for query in answer.queries):
        return f"no search succeeded, so the answer rests on nothing: {one_line(answer.queries[-1].error)}"
    return ""
