"""Headings and blocks of AsciiDoc, by the rules of its lines (https://docs.asciidoctor.org/asciidoc/latest/).

No parser of it is kept for Python. What its processor would need for a page is left out: attributes of blocks, anchors,
comments, conditions and includes. Attributes that the document sets (``:product: Pump 3``) are put in where it names
them (``{product}``), as these are the very words that people ask by.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence

from retrieval.structure import HEADING_CHARACTERS, Block, BlockKind, Heading

__all__ = ["outline"]

UNDERLINES = "=-~^+"
"""What rules the title below, from the outermost level on: the older way to write headings."""
SLACK = 1
"""Characters by which such a rule may be longer or shorter than its title."""
TITLE = re.compile(r"(?P<mark>={1,6}|#{1,6})[ \t]+(?P<text>\S.*)")
SETTING = re.compile(r":(?P<off>!?)(?P<name>\w[\w-]*)!?:(?:[ \t]+(?P<value>.*))?")
ATTRIBUTE = re.compile(r"\{(?P<name>\w[\w-]*)\}")
VALUE_CHARACTERS = 100
"""A longer value of an attribute is no name, and a text of little else could make a file of any size of its own."""
KNOWN = {
    **{"amp": "&", "apos": "'", "asterisk": "*", "backslash": "\\", "backtick": "`", "caret": "^", "cpp": "C++"},
    **{"empty": "", "endsb": "]", "gt": ">", "lt": "<", "nbsp": " ", "plus": "+", "quot": '"', "sp": " "},
    **{"startsb": "[", "tilde": "~", "two-colons": "::", "two-semicolons": ";;", "vbar": "|"},
}
"""Attributes that every document has."""
AUTHOR = re.compile(r"[^\W\d_][^<>]{0,80}<[^<>\s]+>(?:; .*)?")
REVISION = re.compile(r"v?\d[\w.]*(?:,.*)?|\d{4}-\d{2}-\d{2}.*")
STYLE = re.compile(r"\[(?P<style>|[\w.#%{,\"'].*|\[[^\W\d][\w:.-]*(?:, *.+)?\])\]")
"""What a block's kind, roles and anchor are, on a line before it."""
CODE_STYLE = re.compile(r"(?:source|listing|literal|stem|latexmath|asciimath)\b|,")
CAPTION = re.compile(r"\.(?P<text>[^\s.].*)")
UNREAD = re.compile(r"//(?!/).*|(?:include|ifdef|ifndef|ifeval|endif|toc|image|video|audio)::[^\[]*\[.*\]|'{3,}|<<<|\+")
COMMENT = re.compile(r"/{4,}")
CODE = re.compile(r"-{4,}|\.{4,}|\+{4,}|```[\w-]*")
TABLE = re.compile(r"[|,:!]={3,}")
CONTAINER = re.compile(r"={4,}|\*{4,}|_{4,}|--")
"""What is between two of these is read as if it stood alone."""
ITEM = re.compile(r"\s*(?:\*{1,5}|-|\.{1,5}|\d+\.|[a-zA-Z]\.|<(?:\d+|\.)>)\s+\S|\S.*?(?::{2,4}|;;)(?:\s|$)")

ANCHOR = re.compile(r"\[\[[^\]]*\]\]|(?<!\S)\[#[\w.:-]*\]|\(\(\(.*?\)\)\)|footnote:\w*\[[^\]]*\]|<\d+>")
QUOTED = re.compile(r"(?:``|\"`)(?P<text>[^`\"]+?)(?:''|`\")")
CROSS_REFERENCE = re.compile(r"<<[^,>]*(?:, *(?P<text>[^>]*))?>>")
MACRO = re.compile(r"(?:(?:link|xref|mailto|kbd|btn|menu|pass|icon|image):|https?://|\b)\S*?\[(?P<text>[^\]]*)\]")
MARKS = re.compile(r"(?<!\w)(?P<mark>\*\*?|__?|``?|##?|\+)(?=\S)(?P<text>.+?)(?<=\S)(?P=mark)(?!\w)")


def outline(text: str) -> list[Heading | Block]:
    """Return the headings of ``text``, without markup, and its blocks, as the source has them but for attributes."""
    return list(_Reader(text.split("\n")).items())


class _Reader:
    """Goes through the lines once, from a block's first line to the next block's."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = [line.rstrip() for line in lines]
        self.attributes = dict(KNOWN)
        self.places: defaultdict[str, list[int]] = defaultdict(list)
        for place, line in enumerate(self.lines):
            if line and not line[0].isalnum():
                self.places[line].append(place)

    def items(self) -> Iterator[Heading | Block]:
        place, code, titled = 0, False, False
        caption: list[int] = []
        while place < len(self.lines):
            line = self.lines[place]
            end = place + 1
            if match := COMMENT.fullmatch(line):
                end = self._closing(place, line) or end
            elif match := SETTING.fullmatch(line):
                end = self._set(place, match)
            elif match := STYLE.fullmatch(line):
                code = code or CODE_STYLE.match(match["style"]) is not None
            elif match := CAPTION.fullmatch(line):
                caption = [place]
            elif line and not UNREAD.fullmatch(line) and not CONTAINER.fullmatch(line):
                if title := self._title(place):
                    level, text, last = title
                    end = last
                    if level == 1 and not titled:
                        end = self._head_end(last)
                        titled = True
                    yield Heading(level, self._plain(text), place + 1, last)
                else:
                    end, kind = self._block(place, code)
                    block = self._made(kind, [*caption, *range(place, end)])
                    if block:
                        yield block
                code, caption = False, []
            place = end

    def _closing(self, place: int, mark: str) -> int | None:
        """The place after the next line that is ``mark``; None where the block is never closed."""
        places = self.places[mark]
        after = bisect_right(places, place)
        return places[after] + 1 if after < len(places) else None

    def _set(self, place: int, match: re.Match[str]) -> int:
        """Note an attribute, whose value may go on on further lines; return the place after it."""
        value = match["value"] or ""
        end = place + 1
        while value.endswith(" \\") and end < len(self.lines):
            value = f"{value[:-2]} {self.lines[end].strip()}"
            end += 1
        name, value = match["name"].lower(), self._filled(value)
        if match["off"] or len(value) > VALUE_CHARACTERS:
            self.attributes.pop(name, None)
        else:
            self.attributes[name] = value
        return end

    def _filled(self, line: str) -> str:
        """The line with the attributes that are known put in."""
        return ATTRIBUTE.sub(lambda match: self.attributes.get(match["name"].lower(), match[0]), line)

    def _title(self, place: int) -> tuple[int, str, int] | None:
        """Of the heading at ``place``, if there is one: its level, its text with markup, and the place after it."""
        line = self.lines[place]
        if match := TITLE.fullmatch(line):
            return len(match["mark"]), match["text"].removesuffix(f" {match['mark']}"), place + 1
        rule = self.lines[place + 1] if place + 1 < len(self.lines) else ""
        ruled = len(rule) > 2 and rule[0] in UNDERLINES and rule == rule[0] * len(rule)
        if ruled and abs(len(rule) - len(line)) <= SLACK and any(map(str.isalnum, line)) and not line[0].isspace():
            return UNDERLINES.index(rule[0]) + 1, line, place + 2
        return None

    def _head_end(self, place: int) -> int:
        """The place after what stands right below the document's title: who wrote it, when, and attributes, noted."""
        for form in (AUTHOR, REVISION):
            if place == len(self.lines) or not form.fullmatch(self.lines[place]):
                break
            place += 1
        while place < len(self.lines) and (match := SETTING.fullmatch(self.lines[place])):
            place = self._set(place, match)
        return place

    def _block(self, place: int, code: bool) -> tuple[int, BlockKind]:
        """The place after the block at ``place``, and what it is."""
        line = self.lines[place]
        for form, kind in ((CODE, "code"), (TABLE, "table")):
            if form.fullmatch(line) and (end := self._closing(place, "```" if line.startswith("```") else line)):
                return end, kind  # type: ignore[return-value]
        end = place + 1
        while end < len(self.lines) and not self._breaks(self.lines[end]):
            end += 1
        if ITEM.match(line):
            return end, "list"
        return end, "code" if code or line[0].isspace() else "paragraph"

    @staticmethod
    def _breaks(line: str) -> bool:
        """Whether a paragraph ends before ``line``."""
        return not line or any(form.fullmatch(line) for form in (CODE, TABLE, CONTAINER, COMMENT, STYLE)) or line == "+"

    def _made(self, kind: BlockKind, places: Sequence[int]) -> Block | None:
        """The block of these lines, without those that only mark it; None if none is left."""
        kept: list[tuple[int, str]] = []
        for place in places:
            line = self.lines[place]
            if CODE.fullmatch(line) or TABLE.fullmatch(line) or (kind != "code" and UNREAD.fullmatch(line)):
                continue
            if place == places[0] and (match := CAPTION.fullmatch(line)):
                line = match["text"]
            kept.append((place + 1, line if kind == "code" else self._filled(line)))
        while kept and not kept[-1][1].strip():
            kept.pop()
        while kept and not kept[0][1].strip():
            kept.pop(0)
        if not kept:
            return None
        spans = tuple((number, number) for number, _ in kept)
        return Block(kind, "\n".join(line for _, line in kept), kept[0][0], kept[-1][0], spans)

    def _plain(self, title: str) -> str:
        """What a person reads of a title; one too long for a heading (``structure``) stays as it is."""
        text = self._filled(title)
        if len(text) > HEADING_CHARACTERS:
            return text
        text = QUOTED.sub(r'"\g<text>"', ANCHOR.sub("", text))
        text = CROSS_REFERENCE.sub(lambda match: match["text"] or "", text)
        text = MACRO.sub(lambda match: match["text"], text)
        text = MARKS.sub(lambda match: match["text"], text)
        return " ".join(text.split())
