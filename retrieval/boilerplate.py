"""What of an HTML page is its content, and what is furniture around it.

The parser hands over all that a page shows, and the regions of it that may be furniture, with the links in
them. They are judged when the whole page is known, for what looks like furniture may be all there is. A region
goes for what it is made of (links) or repeats (the page's headings), not for its name alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from retrieval.structure import QUESTION_CHARACTERS, QUESTION_LEVEL, Block, Heading, answered
from retrieval.words import QUESTION_MARKS

__all__ = ["Link", "Place", "Region", "RegionKind", "Shown", "content", "kind_of", "skips"]

RegionKind = Literal[
    "main", "article", "header", "head", "furniture", "aside", "note", "admonition", "consent", "list", "questions"
]

NAMES = frozenset(
    "nav navbar navigation navheader navfooter topnav sidenav subnav navlinks sidebar sphinxsidebar menu menubar toc "
    "contents tableofcontents breadcrumb breadcrumbs crumbs crumb pagination pager prevnext related social share "
    "sharing skip footer siteinfo langs languages".split()
)
"""Words in a class or an id of elements that help to get about a site."""
CONSENT = re.compile(
    r"(?:cookie|gdpr|consent)[-_]?(?:banner|bar|box|consent|dialog|law|message|notice|overlay|popup)", re.IGNORECASE
)
NOTES = frozenset("note tip hint important caution warning danger attention admonition callout alert".split())
"""Words in a class of elements that say something beside the text around them."""
LABELS = NOTES | frozenset(
    "notes tips notice info information hinweis hinweise tipp achtung warnung vorsicht wichtig gefahr remarque astuce "
    "avertissement conseil nota aviso advertencia consejo precaución importante peligro attenzione avviso suggerimento "
    "примечание внимание предупреждение совет 注 注意 警告 提示 重要 ヒント メモ 참고 주의 경고".split()
)
"""What heads them and says only which they are."""
NOTE_BLOCKS = 5
"""A longer one has a heading for its own sake."""
LISTS = ("ul", "ol", "dl", "table")
BOXES = ("div", "section", "aside", "ul", "ol", "dl", "table", "p", "form", "details")
SKIP = re.compile(
    r"(?:skip|jump|go) (?:(?:directly|straight) )?to (?:the )?(?:main |page |site )?"
    r"(?:content|contents|navigation|search|menu|footer|main)|on this page|in this article|table of contents",
    re.IGNORECASE,
)

TURNS = frozenset("prev previous next up home top back start contents tableofcontents index first last".split())
"""What links show that lead from page to page of a book."""
TURNS_CHARACTERS = 300
"""So much is beside them at most: the titles of the pages that they lead to."""

LINKS_ONLY = 0.8
"""A list is nothing but links if they make so much of its characters."""
MOSTLY_LINKS = 0.5
FEW = 3
LABEL_WORDS, LABEL_CHARACTERS = 2, 50
"""What a control is called."""
MAIN_SHARE, MAIN_CHARACTERS = 0.25, 200
ARTICLE_SHARE = 0.5
CONSENT_CHARACTERS = 800


@dataclass(frozen=True, slots=True)
class Link:
    """A link's target and the words it shows."""

    target: str
    text: str


class Place(NamedTuple):
    """How much of a page came before; characters are those outside of headings."""

    items: int
    links: int
    characters: int
    link_characters: int


@dataclass(slots=True)
class Region:
    """An element: from where to where it reaches, and how many of its tag are open in it.

    A place is counted in items of the page, links, characters, and characters of links that are before it.
    """

    kind: RegionKind
    start: Place
    inside_main: bool
    end: Place | None = None
    depth: int = 1

    @property
    def closed(self) -> tuple[Place, Place]:
        """Where it starts and ends; at its start if it never ends."""
        return self.start, self.end or self.start

    def linked(self, share: float) -> bool:
        """Whether links make at least ``share`` of the characters."""
        start, end = self.closed
        links = end.link_characters - start.link_characters
        return links > 0 and links >= share * (end.characters - start.characters)


def kind_of(tag: str, attributes: Mapping[str, str | None]) -> RegionKind | None:
    """What kind of region, if any, an element begins."""
    role = attributes.get("role")
    if tag == "main" or role == "main":
        return "main"
    if tag == "article":
        return "article"
    if tag == "header" or role == "banner":
        return "header"
    names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}"
    words = re.split(r"[\s_-]+", names.lower())
    if tag in BOXES and CONSENT.search(names):
        return "consent"
    if tag == "aside":
        return "aside"
    if tag in BOXES and not NAMES.isdisjoint(words):
        return "furniture"
    if tag in BOXES and "header" in words:
        return "head"
    if tag == "details":
        return "questions"
    if tag in LISTS:
        return "list"
    classes = (attributes.get("class") or "").lower().split()
    if tag in BOXES and "admonitionblock" in classes:
        return "admonition"
    return "note" if tag in BOXES and not NOTES.isdisjoint(classes) else None


def skips(text: str) -> bool:
    """Whether the words are those of a link that skips what comes before the content, or stand over a list of links."""
    return SKIP.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page shows: items, the links in them, regions and the <title>.

    ``terms`` are the places of the items that are <dt> or <summary>, ``meanings`` of the paragraphs a <dd> begins with,
    each with its term's, ``asking`` of questions in bold.
    """

    items: Sequence[Heading | Block]
    links: Sequence[Link]
    regions: Sequence[Region]
    title: str
    terms: Sequence[int]
    meanings: Mapping[int, int]
    asking: Sequence[int]


def content(page: Shown) -> list[Heading | Block]:
    """Return the items that are the page's content: of its main element or its articles, if they hold enough.

    The questions of an FAQ in <details>, <dl> or bold become headings; other terms of a <dl> and what they mean are one
    paragraph, the meaning indented below its term.
    """
    count = len(page.items)
    levels = {number: item.level for number, item in enumerate(page.items) if isinstance(item, Heading)}
    outline = _Outline(
        tuple(levels),
        [number for number, level in levels.items() if level == 1],
        {_letters(page.items[number].text) for number in levels},
        [0, *accumulate(len(item.text) for item in page.items)],
    )
    furniture = _covered((region for region in page.regions if _is_furniture(region, page, outline)), count)
    chosen = [True] * count
    for kind, share, enough in (("main", MAIN_SHARE, MAIN_CHARACTERS), ("article", ARTICLE_SHARE, None)):
        within = _covered((region for region in page.regions if region.kind == kind), count)
        sizes = [0 if drop else len(item.text) for item, drop in zip(page.items, furniture, strict=True)]
        size = sum(size for size, inside in zip(sizes, within, strict=True) if inside)
        if size and (size >= share * sum(sizes) or (enough and size >= enough)):
            chosen = within
            break
    shown = [number for number in range(count) if chosen[number] and not furniture[number]]
    shown = shown or [number for number in range(count) if chosen[number]]
    labels = _labels(page, shown)
    asked = _questions(page, shown) | _in_bold(page, shown)
    defined = _defined(page, set(shown) - asked)
    found: list[Heading | Block] = []
    last = -1
    for number in shown:
        if page.meanings.get(number) in defined:
            continue
        item = _below(defined[number]) if number in defined else page.items[number]
        label = found[-1] if number < labels.get(last, 0) else None
        if isinstance(label, Block) and isinstance(item, Block) and item.kind == "paragraph":
            found[-1] = _after(label, item)
        elif number in labels:
            found.append(_as_label(item))
        else:
            found.append(_as_heading(item) if number in asked else item)
        last = number
    return found


class _Outline(NamedTuple):
    """The places of a page's headings, of those of level 1, all their letters, and the characters before each item."""

    headings: Sequence[int]
    tops: Sequence[int]
    letters: Set[str]
    sizes: Sequence[int]


def _covered(regions: Iterable[Region], count: int) -> list[bool]:
    """Whether each of ``count`` items is in one of ``regions``."""
    steps = [0] * (count + 1)
    for region in regions:
        start, end = region.closed
        steps[start.items] += 1
        steps[end.items] -= 1
    return [depth > 0 for depth in accumulate(steps[:count])]


def _is_furniture(region: Region, page: Shown, outline: _Outline) -> bool:
    """Whether a region is none of the page's content."""
    start, end = region.closed
    headings, tops = outline.headings, outline.tops
    if start.items == end.items:
        return False
    if region.kind == "header":
        return not _has_title(region, page, tops)
    if region.kind in ("furniture", "aside"):
        furniture = (
            region.linked(MOSTLY_LINKS) or _turns_pages(region, page) or _labels_controls(region, page, headings)
        )
        return furniture and not _has_title(region, page, tops)
    if region.kind == "head":
        # One with a heading is a section's, its link or button beside it.
        return region.linked(MOSTLY_LINKS) and bisect_left(headings, start.items) == bisect_left(headings, end.items)
    if region.kind == "consent":
        few = end.characters - start.characters <= CONSENT_CHARACTERS
        return few and not region.inside_main
    if region.kind == "list" and end.links - start.links >= FEW and region.linked(LINKS_ONLY):
        return _leads_into_page(region, page, outline) or (not region.inside_main and _comes_first(region, outline))
    return False


def _labels_controls(region: Region, page: Shown, headings: Sequence[int]) -> bool:
    """Whether an aside above the page's title has no more to say than what a control is called."""
    start, end = region.closed
    if region.kind != "aside" or region.inside_main or not headings or end.items > headings[0]:
        return False
    text = page.items[start.items].text
    if end.items > start.items + 1 or len(text) > LABEL_CHARACTERS:
        return False
    words = text.split()
    title = page.items[headings[0]]
    return (
        len(words) <= LABEL_WORDS
        and all(word.isalpha() for word in words)
        and isinstance(title, Heading)
        and title.level == 1
    )


def _turns_pages(region: Region, page: Shown) -> bool:
    """Whether an element leads to the pages before and after, whose titles it may show without a link (DocBook's)."""
    start, end = region.closed
    if end.characters - start.characters > TURNS_CHARACTERS or end.links - start.links > len(TURNS):
        return False
    shown = [letters for link in page.links[start.links : end.links] if (letters := _letters(link.text))]
    return bool(shown) and TURNS.issuperset(shown)


def _has_title(header: Region, page: Shown, tops: Sequence[int]) -> bool:
    """Whether what may be the head of a page has the page's heading and not the site's."""
    start, end = header.closed
    own = tops[bisect_left(tops, start.items) : bisect_left(tops, end.items)]
    return bool(own) and (len(own) == len(tops) or page.items[own[0]].text.casefold() == page.title.casefold())


def _leads_into_page(region: Region, page: Shown, outline: _Outline) -> bool:
    """Whether a list of links repeats the headings of the page it is on."""
    start, end = region.closed
    links = page.links[start.links : end.links]
    if not all("#" in link.target for link in links):
        return False
    return sum(_letters(link.text) in outline.letters for link in links) >= LINKS_ONLY * len(links)


def _comes_first(region: Region, outline: _Outline) -> bool:
    """Whether a list stands before the first heading of a page that has more than it to say."""
    start, end = region.closed
    rest = outline.sizes[-1] - outline.sizes[end.items]
    first = outline.headings[0] if outline.headings else -1
    return end.items <= first and rest > end.characters - start.characters


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def _questions(page: Shown, shown: Sequence[int]) -> set[int]:
    """The items that ask what the items after them answer.

    They are headings only where a heading, another question or the end of the content follows their answer:
    what else came next would stand under a question that it does not answer.
    """
    ends: dict[int, int] = {}
    reached = 0
    for region in page.regions:
        start, end = region.closed
        if region.kind not in ("questions", "list") or start.items < reached:
            continue  # nor are questions looked for within answers
        reached = end.items
        asked = page.terms[bisect_left(page.terms, start.items) : bisect_left(page.terms, end.items)]
        if region.kind == "questions":
            asked = asked[:1] if asked[:1] == [start.items] else []
        elif len(asked) < 2 or not all(page.items[number].text.endswith(QUESTION_MARKS) for number in asked):
            asked = []
        bounds = pairwise([*asked, end.items])
        ends.update((number, after) for number, after in bounds if _is_answered(number, after, page))
    found: set[int] = set()
    for number in sorted(ends, reverse=True):
        place = bisect_left(shown, ends[number])
        if place == len(shown) or shown[place] in found or isinstance(page.items[shown[place]], Heading):
            found.add(number)
    return found


def _in_bold(page: Shown, shown: Sequence[int]) -> set[int]:
    """The questions in bold, if there are two and each is answered before the next."""
    asking = set(page.asking).intersection(shown)
    items = [_as_heading(page.items[number]) if number in asking else page.items[number] for number in shown]
    return asking if answered(items) else set()


def _defined(page: Shown, shown: Set[int]) -> dict[int, list[Block]]:
    """The terms that are ``shown``, each with what it means after it."""
    found: dict[int, list[Block]] = {}
    for number, term in page.meanings.items():
        if term in shown and number in shown:
            parts = (page.items[place] for place in (term, number)[term in found :])
            found.setdefault(term, []).extend(part for part in parts if isinstance(part, Block))
    return found


def _labels(page: Shown, shown: Sequence[int]) -> dict[int, int]:
    """The headings of notes and asides that begin no section, since the one around goes on; each with the note's end.

    One that only says "Note" never begins any; of others a note that stands within a section's text, and is short.
    """
    notes = [region for region in page.regions if region.kind in ("note", "aside")]
    within = _covered(notes, len(page.items))
    headings = [number for number in shown if isinstance(page.items[number], Heading)]
    bare = {number for number in headings if page.items[number].text.strip(" :!").casefold() in LABELS}
    around = [number for number in shown if not within[number]]
    found: dict[int, int] = {}
    for region in reversed(notes):
        start, end = region.closed
        first, last = bisect_left(headings, start.items), bisect_left(headings, end.items)
        if last != first + 1 or first == 0:
            continue
        number = headings[first]
        place, after = bisect_left(shown, start.items), bisect_left(shown, end.items)
        # In a list what stands before the note is made a block only by its heading.
        leads = number in shown[place : place + 2]
        at = bisect_left(around, start.items), bisect_left(around, end.items)
        inside = at[0] > 0 and at[1] < len(around) and 1 < after - place <= NOTE_BLOCKS + 1
        inside = inside and all(isinstance(page.items[around[other]], Block) for other in (at[0] - 1, at[1]))
        if leads and (inside or number in bare):
            found[number] = end.items
    return found


def _is_answered(number: int, end: int, page: Shown) -> bool:
    item = page.items[number]
    answer = page.items[number + 1 : end]
    short = isinstance(item, Block) and item.kind == "paragraph" and len(item.text) <= QUESTION_CHARACTERS
    return short and bool(answer) and not any(isinstance(other, Heading) for other in answer)


def _below(parts: Sequence[Block]) -> Block:
    """A term with what it means indented below it, as one paragraph."""
    term, *meanings = parts
    paragraphs = (re.sub("^", "    ", meaning.text, flags=re.MULTILINE) for meaning in meanings)
    spans = [*_lines(term), *_lines(meanings[0])]
    for meaning in meanings[1:]:
        spans += [(meaning.first_line, meaning.first_line), *_lines(meaning)]
    text = f"{term.text}\n" + "\n\n".join(paragraphs)
    return Block("paragraph", text, term.first_line, meanings[-1].last_line, tuple(spans))


def _after(label: Block, item: Block) -> Block:
    """A paragraph after what it is labelled."""
    spans = _lines(item)
    spans[0] = (label.first_line, spans[0][1])
    return Block("paragraph", f"{label.text} {item.text}", label.first_line, item.last_line, tuple(spans))


def _lines(block: Block) -> list[tuple[int, int]]:
    """The first and last line in the file of each of a block's lines."""
    return [block.lines_of(line, line) for line in range(block.text.count("\n") + 1)]


def _as_label(item: Heading | Block) -> Block:
    mark = "" if item.text.endswith((".", ":", "!", "?")) else ":"
    lines = (item.first_line, item.last_line)
    return Block("paragraph", item.text + mark, *lines, spans=(lines,))


def _as_heading(item: Heading | Block) -> Heading:
    return Heading(QUESTION_LEVEL, " ".join(item.text.split()), item.first_line, item.last_line)
