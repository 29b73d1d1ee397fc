"""Elements of HTML: what they are, and where one ends, with an end tag or without."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = [
    "BLOCKS",
    "CELLS",
    "HEADINGS",
    "LISTS",
    "SECTIONING",
    "TABLE_PARTS",
    "UNCLOSED",
    "UNREAD",
    "VOID",
    "Within",
]

HEADINGS = {f"h{level}": level for level in range(1, 7)}
UNREAD = frozenset(
    "script style nav footer template noscript svg select iframe object dialog canvas audio video rt rp annotation "
    "annotation-xml".split()
)
BLOCKS = frozenset(
    "address article blockquote body caption center dd details dialog div dl dt fieldset figcaption figure form "
    "header hr html legend li main ol p pre section summary table tbody td tfoot th thead tr ul".split()
)
CELLS = ("td", "th")
TABLE_PARTS = ("table", "thead", "tbody", "tfoot")
LISTS = ("ul", "ol", "menu")
SECTIONING = ("article", "main", "section")
UNCLOSED = frozenset("p li dt dd tr td th option".split())
"""Elements whose end tag is often left out."""
ENDED_BY = {
    "p": BLOCKS.union(HEADINGS),
    "li": {"li"},
    "tr": {"tr", "thead", "tbody", "tfoot"},
    **dict.fromkeys(CELLS, {"td", "th", "tr", "thead", "tbody", "tfoot"}),
    "button": {"button", "p", *HEADINGS},
    **dict.fromkeys(("rt", "rp"), BLOCKS.union(HEADINGS, ("rt", "rp", "ruby"))),
}
"""Tags by which an element ends that has no end tag, as do those of blocks around it."""
INNER = {"li": LISTS, **dict.fromkeys(("tr", *CELLS), ("table",))}
"""What may hold such tags within the element."""
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


@dataclass
class Within:
    """An element that is being waited out: its tag, and the elements open in it."""

    tag: str
    open: Counter[str] = field(default_factory=Counter)

    def ends_before(self, tag: str) -> bool:
        """Whether the element is over where this start tag stands."""
        if self._ended_by(tag):
            return True
        self.open[tag] += tag not in UNCLOSED
        return False

    def ends_at(self, tag: str) -> bool:
        """Whether the element is over where this end tag stands."""
        if tag in UNCLOSED:
            return self._ended_by(tag)
        if self.open[tag]:
            self.open[tag] -= 1
            return False
        return tag == self.tag or (self.tag in ENDED_BY and tag in BLOCKS) or self._ended_by(tag)

    def _ended_by(self, tag: str) -> bool:
        return tag in ENDED_BY.get(self.tag, ()) and not any(self.open[inner] for inner in INNER.get(self.tag, ()))
