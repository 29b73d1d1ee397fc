"""Words that are parted at the end of a line, as ``man`` parts them, made whole for models and for words' own index."""

from __future__ import annotations

import re

__all__ = ["dehyphenated"]

_PARTED = re.compile(r"\u2010\n[ \t]*(?=[^\W\d_])")
_SOFTLY_PARTED = re.compile(r"\u00ad\n[ \t]*")
_HYPHENED = re.compile(r"\u2010(?=[^\W\d_])")


def dehyphenated(text: str) -> str:
    """``text`` with whole words where the end of a line parts them by a hyphen of that kind alone.

    A soft hyphen (U+00AD) is never part of a word; where U+2010 stands within a line of ``text`` too, it writes
    compounds with it and may keep it where a line ends. A plain hyphen stays.
    """
    if "\u00ad\n" in text:
        text = _SOFTLY_PARTED.sub("", text)
    return _PARTED.sub("", text) if "\u2010\n" in text and not _HYPHENED.search(text) else text
