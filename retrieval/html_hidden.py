"""What a page hides and yet holds for its reader: what a click shows, and alternatives of which a script shows one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from retrieval.html_elements import VOID

__all__ = ["Attributes", "Position", "Tolerant", "is_hidden", "revealed"]

FEW = 2
MOST_COMPARED = 20
"""An alternative of more pieces of text is taken for no repetition of another."""
HIDDEN = re.compile(r"<[^<>]*(?:\shidden\b|display\s*:\s*none)", re.IGNORECASE)
NO_DISPLAY = re.compile(r"display\s*:\s*none", re.IGNORECASE)

Attributes = list[tuple[str, str | None]]
Position = tuple[int, int]
"""The line of a tag, and its place in it."""


class Tolerant(HTMLParser):
    """The standard library's parser, for all that pages hold."""

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Take "<![", where nothing follows that is known, for a comment, as browsers do; some Pythons raise there."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i, report)


def is_hidden(attributes: Mapping[str, str | None]) -> bool:
    """Whether an element of these attributes is not shown where no script says otherwise."""
    return _has_hidden(attributes) or NO_DISPLAY.search(attributes.get("style") or "") is not None


def revealed(text: str, line: int = 1) -> Mapping[Position, bool]:
    """Where the hidden elements of a page begin that are its content, and whether each is another alternative.

    These are the elements that a tab or what unfolds them names, and those that are all that is in an element, two
    or more: a script chooses one of them. Of alternatives that read the same the first is taken. What is merely
    hidden, such as a message or a dialog, is no content. The text begins on ``line``.
    """
    if not HIDDEN.search(text):
        return {}
    page = _Choices()
    page.lineno = line
    page.feed(text)
    return {**{page.ids[name]: False for name in page.controlled if name in page.ids}, **page.chosen}


def _has_hidden(attributes: Mapping[str, str | None]) -> bool:
    return "hidden" in attributes and attributes["hidden"] != "until-found"


@dataclass(slots=True)
class _Element:
    """An open element: where it begins in the file and in the page's texts, and the hidden ones in it by their text."""

    tag: str
    start: Position = (0, 0)
    texts: int = 0
    hidden: bool = False
    others: bool = False
    hides: int = 0
    choices: dict[str, Position] = field(default_factory=dict)


class _Choices(Tolerant):
    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[Position, bool] = {}
        self.controlled: list[str] = []
        self.ids: dict[str, Position] = {}
        self.texts: list[str] = []
        self.elements = [_Element("", others=True)]
        self.open: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        """See ``HTMLParser``."""
        attributes = dict(attrs)
        if "aria-expanded" in attributes or attributes.get("role") == "tab":
            self.controlled += (attributes.get("aria-controls") or "").split()
        if is_hidden(attributes) and (name := attributes.get("id")):
            self.ids[name] = self.getpos()
        hidden = _has_hidden(attributes)
        self.elements[-1].others |= not hidden
        if tag not in VOID:
            self.elements.append(_Element(tag, self.getpos(), len(self.texts), hidden))
            self.open[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """See ``HTMLParser``."""
        while self.open[tag]:
            element = self.elements.pop()
            self.open[element.tag] -= 1
            if element.hidden:
                self._add(element)
            if element.hides >= FEW and not element.others:
                self.chosen.update((start, bool(number)) for number, start in enumerate(element.choices.values()))
            if element.tag == tag:
                break

    def handle_data(self, data: str) -> None:
        """See ``HTMLParser``."""
        if words := data.strip():
            self.elements[-1].others = True
            self.texts.append(words)

    def _add(self, hidden: _Element) -> None:
        around = self.elements[-1]
        around.hides += 1
        compared = len(self.texts) - hidden.texts <= MOST_COMPARED
        text = " ".join(self.texts[hidden.texts :]) if compared else str(hidden.start)
        if text:
            around.choices.setdefault(text, hidden.start)
