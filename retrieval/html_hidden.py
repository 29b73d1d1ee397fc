"""What a page hides and yet holds for its reader: what a click shows, and alternatives of which a script shows one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import NamedTuple

from retrieval.boilerplate import CONSENT, MOSTLY_LINKS, NAMES
from retrieval.html_elements import BLOCKS, HEADINGS, VOID

__all__ = ["Attributes", "Position", "Tolerant", "is_hidden", "revealed"]

FEW = 2
MOST_COMPARED = 20
"""An alternative of more pieces of text is taken for no repetition of another."""
COMPARED_CHARACTERS = 1000
"""Nor is one of more characters: hidden elements in one another would be read again for each around them."""
HIDDEN = re.compile(r"<[^<>]*(?:\shidden\b|display\s*:\s*none)", re.IGNORECASE)
NO_DISPLAY = re.compile(r"display\s*:\s*none", re.IGNORECASE)
APART_TAGS = frozenset("nav menu dialog form footer header aside button label".split())
APART_ROLES = frozenset(
    "alert alertdialog banner complementary contentinfo dialog form listbox log menu menubar navigation search status "
    "toolbar tooltip".split()
)
APART_NAMES = NAMES | frozenset(
    "alert alerts banner consent cookie cookies copied dialog drawer dropdown error errors feedback flyout form gdpr "
    "hamburger lightbox login mainmenu message messages modal modals msg notification offcanvas overlay popover popup "
    "privacy search snackbar status submenu success toast toasts tooltip".split()
)
"""Words in a class or an id of what is beside a page's content, all the more where it is hidden."""
VARIANTS = frozenset(
    "android debian default fedora ios linux mac macos osx ubuntu unix win windows lang language os platform variant "
    "pane tab tabcontent tabpane tabpanel".split()
)
"""Words in a class, an id or an attribute for data of what is there for some readers, or in a tab."""
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
SWITCH = "switch"
"""The class of what holds variants in LibreOffice's help."""
PAGES = ("html", "body")
"""Their classes say what else is on a page."""
FIELDS = ("form", "input", "select", "textarea")
SENTENCES = frozenset(("p", "li", "td", "th", "dt", "dd", "caption", "figcaption", "summary", *HEADINGS))
"""Elements that hold a sentence, and in it the words of which a script chooses."""
LINKED = frozenset(("p", *HEADINGS))
"""Those whose words may be links and are no menu's."""

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

    These are what a tab names, what unfolds by a control in the content, and alternatives: two or more elements that
    are all that is in one, of which a script chooses, as they are words in a sentence or say whom they are for. Of
    those that read the same the first is taken. What is merely hidden, such as a message, a menu or a dialog, is no
    content. The text begins on ``line``.
    """
    if not HIDDEN.search(text):
        return {}
    page = _Choices()
    page.lineno = line
    page.feed(text)
    named = [page.ids[name] for name in page.tabs if name in page.ids]
    unfolded = [page.folded[name] for name in page.controlled if name in page.folded]
    return {**dict.fromkeys([*named, *unfolded], False), **page.chosen}


def _has_hidden(attributes: Mapping[str, str | None]) -> bool:
    return "hidden" in attributes and attributes["hidden"] != "until-found"


def _is_apart(tag: str, attributes: Mapping[str, str | None]) -> bool:
    """Whether an element is furniture, a message or asks for something, by all that it is called."""
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    return (
        tag in APART_TAGS
        or attributes.get("role") in APART_ROLES
        or "aria-live" in attributes
        or CONSENT.search(names) is not None
        or not APART_NAMES.isdisjoint(_words(names))
    )


def _is_variant(attributes: Mapping[str, str | None]) -> bool:
    """Whether an element says whom it is for."""
    told = (item for item in attributes.items() if item[0] in ("class", "id") or item[0].startswith("data-"))
    return not VARIANTS.isdisjoint(word for name, value in told for word in _words(f"{name} {value or ''}"))


def _words(names: str) -> list[str]:
    return [word.lower() for word in WORD.findall(names)]


class _Place(NamedTuple):
    """How much of a page came before: pieces of text, their characters, those in links, and fields of forms."""

    texts: int = 0
    characters: int = 0
    link_characters: int = 0
    fields: int = 0


@dataclass(slots=True)
class _Element:
    """An open element: where it begins in the file and in the page, and the hidden ones in it by their text.

    ``block`` is the block it is in, or is; ``around`` tells whether it is in furniture, ``apart`` whether it is some
    itself.
    """

    tag: str
    block: str = ""
    start: Position = (0, 0)
    place: _Place = _Place()
    name: str = ""
    hidden: bool = False
    around: bool = False
    apart: bool = False
    variant: bool = False
    switches: bool = False
    others: bool = False
    choices: dict[str, Position] = field(default_factory=dict)
    hides: int = 0


class _Choices(Tolerant):
    def __init__(self) -> None:
        super().__init__()
        self.chosen: dict[Position, bool] = {}
        self.tabs: list[str] = []
        self.controlled: list[str] = []
        self.ids: dict[str, Position] = {}
        self.folded: dict[str, Position] = {}
        self.texts: list[str] = []
        self.place = _Place()
        self.begun = False
        self.elements = [_Element("", others=True)]
        self.open: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        """See ``HTMLParser``."""
        attributes = dict(attrs)
        outer = self.elements[-1]
        main = tag in ("main", "article") or attributes.get("role") == "main"
        around = (outer.around or outer.apart) and not main
        apart = not main and tag not in PAGES and _is_apart(tag, attributes)
        self.begun |= main or tag in HEADINGS
        if attributes.get("role") == "tab":
            self.tabs += (attributes.get("aria-controls") or "").split()
        elif "aria-expanded" in attributes and self.begun and not around and not _is_apart("", attributes):
            self.controlled += (attributes.get("aria-controls") or "").split()
        name = (is_hidden(attributes) and attributes.get("id")) or ""
        if name:
            self.ids[name] = self.getpos()
        hidden = _has_hidden(attributes)
        outer.others |= not hidden
        self.place = self.place._replace(fields=self.place.fields + (tag in FIELDS))
        if tag not in VOID:
            block = tag if tag in BLOCKS or tag in HEADINGS else outer.block
            element = _Element(tag, block, self.getpos(), self.place, name, hidden, around, apart)
            element.variant = hidden and (outer.switches or _is_variant(attributes))
            element.switches = SWITCH in (attributes.get("class") or "").split()
            self.elements.append(element)
            self.open[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        """See ``HTMLParser``."""
        while self.open[tag]:
            element = self.elements.pop()
            self.open[element.tag] -= 1
            if element.name and self._is_content(element):
                self.folded[element.name] = element.start
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
            texts, characters, link_characters, fields = self.place
            linked = len(words) if self.open["a"] else 0
            self.place = _Place(texts + 1, characters + len(words), link_characters + linked, fields)

    def _is_content(self, hidden: _Element) -> bool:
        """Whether an element that just ended is neither furniture nor in any, and is no form, nor links alone."""
        texts, characters, link_characters, fields = self.place
        start = hidden.place
        links = link_characters - start.link_characters
        if hidden.around or hidden.apart or fields > start.fields - (hidden.tag in FIELDS):
            return False
        if hidden.tag != hidden.block and hidden.block in LINKED:
            return True
        return not links or links < MOSTLY_LINKS * (characters - start.characters)

    def _add(self, hidden: _Element) -> None:
        around = self.elements[-1]
        worded = hidden.block == around.block and around.block in SENTENCES and around.tag not in SENTENCES
        if not (worded or hidden.variant) or not self._is_content(hidden):
            around.others = True
            return
        around.hides += 1
        texts, characters, *_ = self.place
        compared = (
            texts - hidden.place.texts <= MOST_COMPARED and characters - hidden.place.characters <= COMPARED_CHARACTERS
        )
        text = " ".join(self.texts[hidden.place.texts :]) if compared else str(hidden.start)
        if text:
            around.choices.setdefault(text, hidden.start)
