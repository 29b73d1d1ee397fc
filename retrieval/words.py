"""What a word is, and where a sentence ends, in any script."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from unicodedata import category, normalize

__all__ = ["MARKS", "QUESTION_MARKS", "SENTENCE_END", "count_words", "fold", "joins", "sentences_of", "words_of"]

# In Chinese, Japanese, Korean and Thai, whose words have no blanks between them, a character is a word.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")


def _marks() -> str:
    r"""The marks that are part of a word as its letters are (the vowels of Hindi and Tamil), as a class of characters.

    ``\w`` has none of them, and would end a word at each.
    """
    places = [code for code in range(0x300, 0x10000) if category(chr(code)) in ("Mn", "Mc")]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(places), lambda item: item[1] - item[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs if not _IS_UNSPACED.match(chr(run[0])))


MARKS = _marks()
_LETTER, _MARK = rf"[^\W{_UNSPACED}]", f"[{MARKS}]"
_OF_SPACED = re.compile(f"{_LETTER}|{_MARK}")
_WORD = re.compile(rf"[{_UNSPACED}]|{_LETTER}+(?:{_MARK}+{_LETTER}*)*")
_COUNTED = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")

QUESTION_MARKS = ("?", "？", "؟")
_ABBREVIATIONS = (
    "al cf vs etc mr mrs ms dr prof st jr sr sra srta inc ltd corp co dept vgl bzw usw ggf sog hr fr mme mlle ex"
).split()
"""What ends no sentence, but that one letter does not either ("J. Doe", "z. B."), unless it counts: "it. b. A fee"."""
_COUNTING = (
    "no nos nr núm fig figs eq eqs ref refs sec secs ch kap cap vol bd pp pág págs ed eds art arts abs abb para est "
    "max min ca approx jan feb mar apr jun jul aug sep sept oct nov dec"
).split()
"""What ends none before a number: "Abs. 1", "vol. IV"."""


def _behind(words: Iterable[str]) -> str:
    """A pattern for the place after one of ``words`` and a full stop; what looks back has to know how far."""
    by_length = groupby(sorted(words, key=len), key=len)
    return "|".join(rf"(?<=\b(?i:{'|'.join(some)})\.)" for _, some in by_length)


# What a sentence begins with: a figure or a capital, or a letter of a script from Hebrew to Georgian, which has none.
_CAPITALS = "".join(chr(code) for code in range(0xC0, 0x590) if chr(code).isupper())
_CLOSING = "[\"'”’)\\]»]*"
SENTENCE_END = re.compile(
    rf"(?<=[.!?…؟।])(?!(?<=\b[^\W\d_]\.)(?<!\w\w[.;:]\s[a-z]\.)|{_behind(_ABBREVIATIONS)})"
    rf"(?!(?:{_behind(_COUNTING)}){_CLOSING}\s+(?:\d|[IVXLC]+\b|[A-Z]\b))"
    rf"{_CLOSING}\s+(?=[\"'“‘„«(\[*_`¿¡]*[A-Z0-9{_CAPITALS}\u0590-\u10ff{_UNSPACED}])"
    rf"|(?:(?<=[。！？])|(?<=[。！？][」』”）]))(?=[^」』”）\n])"
)
"""What stands between two sentences: white space, or nothing where the script has none."""


def sentences_of(text: str) -> list[str]:
    """The sentences of ``text``, each on one line; "" alone where it has none."""
    return SENTENCE_END.split(" ".join(text.split()))


def words_of(text: str) -> list[str]:
    """The words of ``text``, case set aside, and whether an accent is a sign of its own."""
    return _WORD.findall(normalize("NFC", text.casefold()))


def count_words(text: str) -> int:
    """How many words blanks part ``text`` into; where they part nothing, how many characters it has."""
    return len(_COUNTED.findall(text))


def fold(text: str) -> str:
    """``text`` in small letters, each character where it was."""
    # The small letter of "İ" is two characters, and places in a text would shift.
    return text.replace("İ", "I").lower()


def joins(before: str, after: str) -> bool:
    """Whether two neighbouring characters are of one word; an empty one is of none."""
    return bool(_OF_SPACED.match(before) and _OF_SPACED.match(after))
