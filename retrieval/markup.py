"""Which light markup a plain text is written in: many a ``.txt`` is Markdown, AsciiDoc or reStructuredText.

Read as plain text, its headings were paragraphs. A text has to show marks that nothing else has, more than once, as a
false heading is worse than a missed one.
"""

from __future__ import annotations

import re

from retrieval.documents import Format
from retrieval.structure_manual import is_manual_page

__all__ = ["markup_of"]

# A heading stands below a blank line, or another heading; a comment in a script or in settings seldom does, twice.
MARKDOWN = re.compile(r"(?:\A|\n[ \t]*\n|\n#{1,6} [^\n]*\n) {0,3}(?P<mark>#{1,6}) [^\s#][^\n]*(?=\n|\Z)")
ASCIIDOC = re.compile(r"(?:\A|\n[ \t]*\n|\n\[[^\n]*\]\n)={2,6} \S[^\n]*(?=\n|\Z)")
RST = re.compile(r"^\.\. [a-z][\w:-]*::(?:[ \t]|$)|:[a-z][\w:]*:`[^`\n]+`", re.MULTILINE)
RULE = re.compile(r"^\S[^\n]*\n([=\-~^\"'`#*+.:])\1{2,}[ \t]*$", re.MULTILINE)
"""A title and the rule below it."""
SCRIPT = "#!"
ENOUGH = 2


def markup_of(text: str) -> Format:
    """Return what ``text`` is written in: ``text`` where nothing shows that it is markup, or it only shows some."""
    if text.startswith(SCRIPT) or is_manual_page(text):
        return "text"
    marks = [match["mark"] for match in MARKDOWN.finditer(text)]
    asciidoc = sum(1 for _ in ASCIIDOC.finditer(text))
    if len(marks) >= max(ENOUGH, asciidoc) and any(len(mark) > 1 for mark in marks):
        return "markdown"
    if asciidoc >= ENOUGH:
        return "asciidoc"
    if RULE.search(text) and sum(1 for _ in RST.finditer(text)) >= ENOUGH:
        return "rst"
    return "text"
