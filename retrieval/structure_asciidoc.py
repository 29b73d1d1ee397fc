"""Headings and blocks of AsciiDoc, by the rules of its lines (https://docs.asciidoctor.org/asciidoc/latest/).

No parser of it is kept for Python. What its processor would need for a page is left out: attributes of blocks, anchors,
comments and includes. Attributes that the document sets (``:product: Pump 3``) are put in where it names them
(``{product}``), as these are the very words that people ask by.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from retrieval.structure import HEADING_CHARACTERS, Block, BlockKind, Heading

__all__ = ["outline"]

UNDERLINES = "=-~^+"
"""What rules the title below, from the outermost level on: the older way to write headings."""
SLACK = 1
"""Characters by which such a rule may be longer or shorter than its title."""
TITLE = re.compile(r"(?P<mark>={1,6}|#{1,6})[ \t]+(?P<text>\S.*)")
SETTING = re.compile(r":(?P<off>!?)(?P<name>\w[\w-]*)!?:(?:[ \t]+(?P<value>.*))?")
ATTRIBUTE = re.compile(r"(?<!\\)\{(?P<name>\w[\w-]*)\}")
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
CITED = re.compile(r"(?:quote|verse), *(?P<text>.+)")
"""Whose words a block has: the page says so below them."""
ADMONITION = re.compile(r"(?P<label>NOTE|TIP|IMPORTANT|WARNING|CAUTION)\b.*")
CAPTION = re.compile(r"\.(?P<text>[^\s.].*)")
CONDITION = re.compile(r"ifn?def::[^\[]*\[(?P<text>.+)\]")
"""A line that only some pages have; nobody knows which."""
UNREAD = re.compile(
    r"//(?!/).*|(?:include|ifdef|ifndef|ifeval|endif|toc|image|video|audio)::[^\[]*\[.*\]|'{3,}|-{3}|\*{3}|<<<|\+"
)
COMMENT = re.compile(r"/{4,}")
CONTAINER = re.compile(r"={4,}|\*{4,}|_{4,}|--")
"""What is between two of these is read as if it stood alone, but that it has no headings."""
FENCE = "```"
CODE = re.compile(rf"-{{4,}}|\.{{4,}}|\+{{4,}}|{FENCE}[\w-]*")
TABLE = re.compile(r"[|,:!]={3,}")
HEADED = re.compile(r"%(?:\w+%)*header\b|\bopt(?:ion)?s=[\w\",% ]*header\b")
TERM = re.compile(r"\S.*(?::{2,4}|;;)")
BREAKS = (CODE, TABLE, CONTAINER, COMMENT, STYLE, re.compile(r"\+|"))
"""Lines that a paragraph ends before."""
ITEM = re.compile(r"\s*(?:\*{1,5}|-|\.{1,5}|\d+\.|[a-zA-Z]\.|<(?:\d+|\.)>)\s+\S|\S.*?(?::{2,4}|;;)(?:\s|$)")

TARGET = re.compile(r"\[\[[\w.:-]+(?:, *[^\]]*)?\]\]")
ANCHOR = re.compile(r"(?<!\S)\[#[\w.:-]*\]|\(\(\(.*?\)\)\)|footnote:\w*\[[^\]]*\]|<\d+>")
QUOTED = re.compile(r"(?:``|\"`)(?P<text>[^`\"]+?)(?:''|`\")")
CROSS_REFERENCE = re.compile(r"<<(?P<to>[^,<>]{1,200})(?:, *(?P<text>[^<>]{0,200}))?>>")
LINK = re.compile(r"\b(?P<name>xref|link|mailto|https?):(?P<target>[^\s\[\]]{1,300})\[(?P<text>[^\]]{0,300})\]")
MACRO = re.compile(r"\b(?P<name>\w+):(?P<target>[^\s\[\]]*)\[(?P<text>[^\]]*)\]")
MARKS = re.compile(r"(?<!\w)(?P<mark>\*\*?|__?|``?|##?|\+)(?=\S)(?P<text>.+?)(?<=\S)(?P=mark)(?!\w)")


def outline(text: str) -> list[Heading | Block]:
    """Return the headings of ``text``, without markup, and its blocks: their lines, with attributes and links read."""
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
        place, titled = 0, False
        code = hidden = headed = False
        caption: list[int] = []
        label: tuple[int, str] | None = None
        within: list[str] = []
        while place < len(self.lines):
            line = self.lines[place]
            end = place + 1
            if COMMENT.fullmatch(line):
                end = self._closing(place, line) or end
            elif match := SETTING.fullmatch(line):
                end = self._set(place, match)
            elif match := STYLE.fullmatch(line):
                code = code or CODE_STYLE.match(match["style"]) is not None
                hidden = hidden or match["style"] == "comment"
                headed = headed or HEADED.search(match["style"]) is not None
                if admonition := ADMONITION.fullmatch(match["style"]):
                    label = (place + 1, admonition["label"])
                elif cited := CITED.fullmatch(match["style"]):
                    yield Block("paragraph", cited["text"], place + 1, place + 1)
            elif match := CAPTION.fullmatch(line):
                caption = [place]
            elif CONTAINER.fullmatch(line) and not (line == "--" and code):
                closing = self._closing(place, line)
                if within and within[-1] == line:
                    within.pop()
                    label = None
                elif hidden:
                    end = closing or end
                elif closing:
                    within.append(line)
                code = hidden = False
            elif line and (CONDITION.fullmatch(line) or not UNREAD.fullmatch(line)):
                if title := self._title(place, ruled=not within):
                    within.clear()
                    label = None
                    level, text, last = title
                    end = last
                    if level == 1 and not titled:
                        end = self._head_end(last)
                        titled = True
                    yield Heading(level, self._plain(text), place + 1, last)
                else:
                    end, kind, inner = self._block(place, code)
                    if not hidden and (block := self._made(kind, [*caption, *inner])):
                        if kind == "table" and self._names_columns(inner, headed):
                            block = replace(block, head=1 + len(caption))
                        yield from _labelled(block, *label) if label else (block,)
                        label = None
                code = hidden = headed = False
                caption = []
            place = end

    def _closing(self, place: int, mark: str) -> int | None:
        """The place after the next line that is ``mark``; None where the block is never closed."""
        places = self.places[mark]
        after = bisect_right(places, place)
        return places[after] + 1 if after < len(places) else None

    def _set(self, place: int, match: re.Match[str]) -> int:
        """Note an attribute, whose value may go on on further lines; return the place after it."""
        parts = [match["value"] or ""]
        end = place + 1
        while parts[-1].endswith(" \\") and end < len(self.lines):
            parts[-1] = parts[-1][:-2]
            parts.append(self.lines[end].strip())
            end += 1
        name, value = match["name"].lower(), " ".join(parts)
        value = self._filled(value) if len(value) <= VALUE_CHARACTERS else value
        if match["off"] or len(value) > VALUE_CHARACTERS:
            self.attributes.pop(name, None)
        else:
            self.attributes[name] = value
        return end

    def _filled(self, line: str) -> str:
        """The line with the attributes that are known put in."""
        return ATTRIBUTE.sub(lambda match: self.attributes.get(match["name"].lower(), match[0]), line)

    def _title(self, place: int, ruled: bool) -> tuple[int, str, int] | None:
        """Of the heading at ``place``, if there is one: its level, its text with markup, and the place after it."""
        line = self.lines[place]
        if match := TITLE.fullmatch(line):
            return len(match["mark"]), match["text"].removesuffix(f" {match['mark']}"), place + 1
        rule = self.lines[place + 1] if ruled and place + 1 < len(self.lines) else ""
        is_rule = len(rule) > 2 and rule[0] in UNDERLINES and rule == rule[0] * len(rule)
        if is_rule and abs(len(rule) - len(line)) <= SLACK and any(map(str.isalnum, line)) and not line[0].isspace():
            return UNDERLINES.index(rule[0]) + 1, line, place + 2
        return None

    def _head_end(self, place: int) -> int:
        """The place after what stands right below the document's title: its author, revision and attributes.

        The attributes are noted, as its title may name them.
        """
        for form in (AUTHOR, REVISION):
            if place == len(self.lines) or not form.fullmatch(self.lines[place]):
                break
            place += 1
        while place < len(self.lines) and (match := SETTING.fullmatch(self.lines[place])):
            place = self._set(place, match)
        return place

    def _block(self, place: int, code: bool) -> tuple[int, BlockKind, range]:
        """The place after the block at ``place``, what it is, and the places of its lines less those that mark it."""
        line = self.lines[place]
        mark = FENCE if line.startswith(FENCE) else line
        if (CODE.fullmatch(line) or line == "--") and (end := self._closing(place, mark)):
            return end, "code", range(place + 1, end - 1)
        if TABLE.fullmatch(line) and (end := self._closing(place, line)):
            return end, "table", range(place + 1, end - 1)
        end = place + 1
        while end < len(self.lines) and not any(form.fullmatch(self.lines[end]) for form in BREAKS):
            end += 1
        if TERM.fullmatch(self.lines[end - 1]) and ITEM.match(line):
            end = self._meaning_end(end)
        kind: BlockKind = "code" if code or line[0].isspace() else "paragraph"
        return end, "list" if ITEM.match(line) else kind, range(place, end)

    def _meaning_end(self, place: int) -> int:
        """The place after what a term means, where that stands indented below a gap: elsewhere it would be code."""
        start = place
        while start < len(self.lines) and not self.lines[start]:
            start += 1
        if start == len(self.lines) or not self.lines[start][0].isspace() or ITEM.match(self.lines[start]):
            return place
        while start < len(self.lines) and not any(form.fullmatch(self.lines[start]) for form in BREAKS):
            start += 1
        return start

    def _names_columns(self, places: range, headed: bool) -> bool:
        """Whether the first line of a table names its columns: it is said to, or stands right on top, a gap below."""
        first, *below = (self.lines[place] for place in places[:2])
        return first.count("|") > 1 and (headed or below == [""])

    def _made(self, kind: BlockKind, places: Sequence[int]) -> Block | None:
        """The block of these lines, less what no reader sees; None if none is left."""
        kept: list[tuple[int, str]] = []
        for place in places:
            line = self.lines[place]
            if kind == "code":
                kept.append((place + 1, line))
                continue
            if place == places[0] and (match := CAPTION.fullmatch(line)):
                line = match["text"]
            if match := CONDITION.fullmatch(line):
                line = match["text"]
            elif UNREAD.fullmatch(line):
                continue
            kept.append((place + 1, self._read(line)))
        while kept and not kept[-1][1].strip():
            kept.pop()
        while kept and not kept[0][1].strip():
            kept.pop(0)
        if not kept:
            return None
        spans = tuple((number, number) for number, _ in kept)
        return Block(kind, "\n".join(line for _, line in kept), kept[0][0], kept[-1][0], spans)

    def _read(self, line: str) -> str:
        """A line as its reader meets it, but for what sets words apart: links by their texts, anchors left out."""
        line = TARGET.sub("", self._filled(line))
        line = CROSS_REFERENCE.sub(lambda match: match["text"] or match["to"], line)
        return LINK.sub(_shown, line)

    def _plain(self, title: str) -> str:
        """What a person reads of a title; one too long for a heading (``structure``) stays as it is."""
        text = self._read(title)
        if len(text) > HEADING_CHARACTERS:
            return text
        text = QUOTED.sub(r'"\g<text>"', ANCHOR.sub("", text))
        text = MACRO.sub(_shown, text)
        text = MARKS.sub(lambda match: match["text"], text)
        return " ".join(text.split())


def _labelled(block: Block, line: int, label: str) -> Iterator[Block]:
    """A block of which the line above says what it is, as if it said so itself: "IMPORTANT: Never open it."."""
    if block.kind == "paragraph":
        spans = ((line, block.spans[0][1]), *block.spans[1:])
        yield Block(block.kind, f"{label}: {block.text}", line, block.last_line, spans)
    else:
        yield Block("paragraph", f"{label}:", line, line)
        yield block


def _shown(macro: re.Match[str]) -> str:
    """What a reader sees of a link or another macro: its text, or where it has none, where it leads."""
    address = f"{macro['name']}:{macro['target']}" if macro["target"].startswith("//") else macro["target"]
    return macro["text"] or address
