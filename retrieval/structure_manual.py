"""Manual pages as ``man`` prints them: plain text whose layout is settled (man-pages(7), groff_man(7)).

A page begins with its name and section at both ends of a line and ends with a line that has them at its right.
Sections begin at the left margin, subsections three columns in, text seven. NAME says in one line what it is about.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from retrieval.dehyphenation import dehyphenated
from retrieval.structure import Block, Heading
from retrieval.structure_text import paragraph

__all__ = ["is_manual_page", "outline", "title"]

# A section is 3, 3pm, 1ssl, n or l. Long names leave no gap beside what is between them.
_HEAD = re.compile(r"(?P<name>[^\s()][^()]{0,79}\((?:\d\w*|[nlo])\)).*(?P=name)")
_ABOUT = re.compile(r"(?P<names>\S.*?)\s+[-‐‑–—]{1,2}\s+(?P<about>\S.*)")
_NAME = re.compile(r"name", re.IGNORECASE)
_SUBSECTION_INDENT = 3
_SECTION, _SUBSECTION = 2, 3


def is_manual_page(text: str) -> bool:
    """Whether ``text`` begins as a printed manual page does."""
    return _running_name(text) is not None


def title(text: str) -> str:
    """Return what a manual page is called and about, ``tail(1) - output the last part of files``; "" for other texts.

    The section's number is the page's; the case of the name that of NAME, since heads of pages are in capitals.
    """
    name = _running_name(text)
    if name is None:
        return ""
    lines = text.split("\n")
    start = next((place for place, line in enumerate(lines) if _NAME.fullmatch(line.strip())), len(lines))
    own = []
    for line in lines[start + 1 :]:
        if not line.strip() or not line[0].isspace():
            break
        own.append(line.strip())
    whole = " ".join(dehyphenated("\n".join(own)).split("\n"))
    said = _ABOUT.fullmatch(whole)
    names = said["names"] if said else whole
    first = names.split(",")[0].strip()
    page, number = name[: name.rindex("(")], name[name.rindex("(") :]
    called = f"{first if first.casefold() == page.casefold() else page}{number}"
    return f"{called} - {said['about']}" if said else called


def outline(text: str) -> list[Heading | Block]:
    """Return the headings and paragraphs of a manual page; the lines at the head and foot of pages are left out."""
    lines = text.split("\n")
    name = _running_name(text) or ""
    items: list[Heading | Block] = []
    start = 0
    for number, line in enumerate(lines):
        level = 0 if not line.strip() else _level(lines, number)
        running = level == _SECTION and line.rstrip().endswith(name)
        if not level and not running and line.strip():
            continue
        if start < number:
            items.append(paragraph(lines, start, number))
        if level and not running:
            items.append(Heading(level, " ".join(line.split()), number + 1, number + 1))
        start = number + 1
    return items


def _running_name(text: str) -> str | None:
    """The name and section at both ends of the first line, ``TAIL(1)``; None where it has none."""
    match = _HEAD.fullmatch(text.lstrip().partition("\n")[0].rstrip())
    return match["name"] if match else None


def _level(lines: Sequence[str], number: int) -> int:
    """The level of the heading that a line is, 0 for none."""
    line = lines[number]
    indent = len(line) - len(line.lstrip())
    if not indent:
        return _SECTION
    if indent != _SUBSECTION_INDENT or (number and lines[number - 1].strip() and lines[number - 1][0].isspace()):
        return 0
    below = next((lines[place] for place in range(number + 1, len(lines)) if lines[place].strip()), "")
    return _SUBSECTION if len(below) - len(below.lstrip()) > indent else 0
