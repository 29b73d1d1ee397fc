"""Which light markup a plain text is written in: many a ``.txt`` is Markdown, AsciiDoc or reStructuredText.

Read as plain text, its headings were paragraphs. A text has to show marks that nothing else has, more than once, as a
false heading is worse than a missed one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from retrieval.documents import Format
from retrieval.structure_manual import is_manual_page

__all__ = ["FENCED", "markup_of"]

NUMBER_SIGNS = re.compile(r" {0,3}(?P<mark>#{1,6})(?: +(?P<text>[^\s#].*))?")
FENCE = ("```", "~~~")
FENCED = re.compile("|".join(f"^{fence}.*?^{fence}" for fence in FENCE), re.MULTILINE | re.DOTALL)
"""Code in Markdown, from fence to fence."""
ASCIIDOC = re.compile(r"={2,6} \S.*(?<!=)")
"""Closed by the same mark, it is a banner of a log or a settings file as often."""
STYLE = re.compile(r"\[.*\]")
ASCIIDOC_MARKS = (
    re.compile(
        r"^\[(?:NOTE|TIP|IMPORTANT|WARNING|CAUTION|verse|(?:quote|source|listing),[^\]\n]*)\]\n\S", re.MULTILINE
    ),
    re.compile(r"^(?:include|image)::[^\s\[\]]{1,300}\[[^\]\n]*\]$", re.MULTILINE),
    re.compile(r"(?<![\w:])(?:link|xref)\w*:[^\s\[\]]{1,300}\["),
)
"""What stands above a block, what is put in, and what leads elsewhere. Two kinds of these beside ruled titles are the
older way to write it; one alone stands in notes and settings files too."""
RST = re.compile(r"^\.\. [a-z][\w:-]*::(?:[ \t]|$)|(?<![\w:]):[a-z][\w:]{0,40}:`[^`\n]+`", re.MULTILINE)
_RULES = "|".join(re.escape(mark) + "{3,}" for mark in "=-~^\"'`#*+.:")
RULE = re.compile(rf"^\S[^\n]*\n(?:{_RULES})[ \t]*$", re.MULTILINE)
"""A title and the rule below it. Each mark repeats by itself: a group takes 80 bytes for each of its repeats."""
SCRIPT = "#!"
ENOUGH = 2


def markup_of(text: str) -> Format:
    """Return what ``text`` is written in: ``text`` where nothing shows that it is markup, or it only shows some."""
    if text.startswith(SCRIPT) or is_manual_page(text):
        return "text"
    lines = text.split("\n")
    if _is_markdown(lines):
        return "markdown"
    if _asciidoc_headings(lines) >= ENOUGH:
        return "asciidoc"
    if RULE.search(text):
        if sum(1 for _ in RST.finditer(text)) >= ENOUGH:
            return "rst"
        if sum(mark.search(text) is not None for mark in ASCIIDOC_MARKS) >= ENOUGH:
            return "asciidoc"
    return "text"


def _is_markdown(lines: Sequence[str]) -> bool:
    """Whether most lines that begin with ``#`` are headings: below a blank line, or one of another level, and alone.

    A comment in a script or in settings goes on on the next line, or stands right above what it tells of.
    """
    marks: list[str] = []
    others = 0
    fence = ""
    before = ""
    for line in lines:
        stripped = line.strip()
        if fence or stripped.startswith(FENCE):
            fence = "" if fence and stripped.startswith(fence) else fence or stripped[:3]
        elif match := NUMBER_SIGNS.fullmatch(line):
            above = NUMBER_SIGNS.fullmatch(before)
            if above and above["mark"] == match["mark"]:
                # Nor was the one above a heading, if it was taken for one.
                others += 1
                if marks and marks[-1] == above["mark"]:
                    marks.pop()
                    others += 1
            elif match["text"] and (above or not before.strip()):
                marks.append(match["mark"])
            else:
                others += 1
        before = line
    return len(marks) >= ENOUGH and len(marks) > others and any(len(mark) > 1 for mark in marks)


def _asciidoc_headings(lines: Sequence[str]) -> int:
    """How many lines are headings of AsciiDoc, below a blank line or a block's attributes."""
    return sum(
        ASCIIDOC.fullmatch(line) is not None and (not before.strip() or STYLE.fullmatch(before) is not None)
        for before, line in zip(["", *lines], lines, strict=False)
    )
