"""The marks of list items of HTML, written as Markdown writes them: numbers where the list has them, else dashes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from retrieval.numerals import letters, roman

__all__ = ["List"]

BULLET = "- "
NUMBER = re.compile(r"\s*-?\d{1,9}\s*")
STYLE = re.compile(r"list-style(?:-type)?\s*:\s*(?P<style>none|(?:lower|upper)-(?:alpha|latin|roman))", re.IGNORECASE)
TYPES = {"lower-alpha": "a", "lower-latin": "a", "upper-alpha": "A", "upper-latin": "A"}
TYPES |= {"lower-roman": "i", "upper-roman": "I", "none": "none"}


class List:
    """A list that is open, and the number of its next item."""

    def __init__(self, tag: str, attributes: Mapping[str, str | None]) -> None:
        style = STYLE.search(attributes.get("style") or "")
        self.type = TYPES[style["style"].lower()] if style else attributes.get("type") or ""
        self.numbered = tag == "ol" and self.type != "none"
        self.step = -1 if "reversed" in attributes else 1
        # One that counts down from how many items it has: that is not known before its end.
        self.number = _number(attributes, "start", None if self.step < 0 else 1)

    def mark(self, attributes: Mapping[str, str | None]) -> str:
        """The mark of its next item, which has these attributes."""
        number = _number(attributes, "value", self.number)
        if number is None:
            return BULLET
        self.number = number + self.step
        return f"{self._written(number)}. " if self.numbered else BULLET

    def _written(self, number: int) -> str:
        if self.type in ("a", "A") and number > 0:
            written = letters(number)
        elif self.type in ("i", "I") and 0 < number < 4000:
            written = roman(number)
        else:
            return str(number)
        return written.upper() if self.type.isupper() else written


def _number(attributes: Mapping[str, str | None], name: str, default: int | None) -> int | None:
    value = attributes.get(name) or ""
    return int(value) if NUMBER.fullmatch(value) else default
