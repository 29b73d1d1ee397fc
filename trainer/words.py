"""What a word is, and where a sentence ends, in any script."""

from __future__ import annotations

import re

__all__ = ["SENTENCE_END", "fold", "joins", "words_of"]

# In Chinese, Japanese, Korean and Thai, whose words have no blanks between them, a character is a word.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_OF_SPACED = re.compile(rf"[^\W{_UNSPACED}]")

# What a sentence begins with: a figure or a capital, or a letter of a script from Hebrew to Georgian, which has none.
_CAPITALS = "".join(chr(code) for code in range(0xC0, 0x590) if chr(code).isupper())
SENTENCE_END = re.compile(
    rf"(?<=[.!?…؟।])[\"')\]»”]*\s+(?=[\"'(\[«“„]?[A-Z0-9{_CAPITALS}\u0590-\u10ff{_UNSPACED}])|(?<=[。！？])(?=.)"
)


def words_of(text: str) -> list[str]:
    """The words of ``text``, case set aside."""
    return _WORD.findall(text.casefold())


def fold(text: str) -> str:
    """``text`` in small letters, each character where it was."""
    # The small letter of "İ" is two characters, and places in a text would shift.
    return text.replace("İ", "I").lower()


def joins(before: str, after: str) -> bool:
    """Whether two neighbouring characters are of one word; an empty one is of none."""
    return bool(_OF_SPACED.match(before) and _OF_SPACED.match(after))
