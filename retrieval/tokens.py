"""The one tokenizer: what a word is, for the lexical index, for BM25 scores and for every query.

Two tokenizers in one system make two notions of what a word is, and the agreement of their top-10
lists falls by a quarter.
"""

from __future__ import annotations

import importlib
import re
import threading
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, groupby
from types import ModuleType
from typing import Any

from retrieval.errors import SettingsError, ShoptalkError

__all__ = ["TOKENIZER_VERSION", "engine_module", "query_terms", "tokenize"]

TOKENIZER_VERSION = 2
"""Raised whenever :func:`tokenize` may answer differently; indexes of another version are rebuilt."""

MAX_TOKEN_CHARS = 128
PART_WEIGHT = 0.5
"""What a part of a compound counts in a query, where the whole counts 1: measured best of 1, .5 and .25."""

FUNCTION_WORD_WEIGHT = 0.25
"""What a word of grammar counts in a query. Documents that ask nothing hold few of the words that questions are asked
with, so BM25 takes "how do I" for the most telling words of a question."""

SHOUTED_WORDS = 2
"""A query of more words, all of them in capitals, is written so throughout."""
_ENGLISH_FUNCTION_WORDS = frozenset(
    "a about am an and are arent as at be been being but by can cant could couldnt did didnt do does doesnt doing "
    "done dont for from had has hasnt have havent having he her hes him his how i if im in into is isnt it its "
    "ive just lets may me might must my no nor not of on onto or our shall shant she shes should shouldnt so than "
    "that thats the their them then there theres these they theyre theyve this those to too us very was wasnt we "
    "were werent weve what whats when where wheres which who whom whos whose why will with wont would wouldnt you "
    "your youre youve".split()
)
_FUNCTION_WORDS = {"english": _ENGLISH_FUNCTION_WORDS, "porter": _ENGLISH_FUNCTION_WORDS}

_CACHED_WORDS = 500_000
_CACHED_CHARS = 64


def _marks() -> str:
    """The combining marks as ranges of a character class."""
    codes = [code for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M"]
    runs = (list(run) for _, run in groupby(enumerate(codes), lambda item: item[1] - item[0]))
    return "".join(f"{chr(run[0][1])}-{chr(run[-1][1])}" for run in runs)


# \w leaves out combining marks, without which the words of many scripts fall to pieces.
_MARKS = _marks()
# Chinese, Japanese, Korean; Thai, Lao, Burmese, Khmer: no blanks between words, or words with particles grown on.
_RANGES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3005\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
_UNSPACED = re.compile(f"([{_RANGES}][{_RANGES}{_MARKS}]*)")
_CHARACTER = re.compile(f"[^{_MARKS}][{_MARKS}]*|[{_MARKS}]+")

# A letter, or a dot that begins a name (.NET); letters and digits; further ones joined to them as in 2.1, foo-bar,
# a::b, O'Brien, 12(b); C++ and C#. It begins with one set of characters, by which the search skips what is none.
_PATTERN = (
    r"[\w§.](?:(?<!\.)|(?<=(?<![\w.])\.)(?=[A-Za-z])){w}*"
    r"(?:(?:::|->|[.\-/:+&@#=']){w}+|\({w}+\)?)*(?:\+\+|#)?"
)
_ASCII_WORD = re.compile(_PATTERN.format(w=r"\w"), re.ASCII)
_WORD = re.compile(_PATTERN.format(w=rf"[\w{_MARKS}]"))
_SEPARATORS = tuple(re.compile(pattern) for pattern in (r"->|[\-/:+&@#=()]+", "[._§]+", "'+"))
_LOOSE = _SEPARATORS[0]
# foo-bar, foo_bar, fooBar and foobar are one name, and so are IL-6 and IL6; 1-2 and 12 are not.
_JOINT = re.compile(r"(?<=[^\W_])[-_'](?=[^\W_\d])|(?<=[^\W_\d])[-_'](?=[^\W_])")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
_VERSION = re.compile(r"[vV](\d+(?:\.\d+)+)")
_AMOUNT = re.compile(r"(\d+)([A-Za-zμΩ]+)")
_SYMBOL = re.compile(r"[.\-/:+&@#=()§'_>]")
_POSSESSIVE = re.compile(r"'[sS]$")
_CONTRACTION = re.compile(r"[a-z]+'(?:t|d|m|ll|re|ve)", re.IGNORECASE)
_LATIN_OR_GREEK_MARKS = re.compile("(?<=[A-Za-z\u0370-\u03ff])[\u0300-\u036f]+")


def _respelled() -> dict[int, str]:
    """Characters that typing, typesetting or pointing varies, and what they are read as."""
    table = (
        dict.fromkeys(map(ord, "’ʼ׳״"), "'")
        | dict.fromkeys(map(ord, "‐‑–−־"), "-")
        | dict.fromkeys(map(ord, "™®©"), " ")
    )
    # Soft hyphen, joiners, directions, variation selectors; Hebrew points, Arabic vowel signs and tatweel.
    unseen = [
        0xAD,
        *range(0x200C, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2065),
        *range(0xFE00, 0xFE10),
        0xFEFF,
    ]
    points = [code for code in range(0x0591, 0x05C8) if unicodedata.category(chr(code)) == "Mn"]
    table |= dict.fromkeys([*unseen, *points, 0x0640, *range(0x064B, 0x0653), 0x0670], "")
    digits = (code for code in range(0x0600, 0x10000) if unicodedata.category(chr(code)) == "Nd")
    return table | {code: str(unicodedata.digit(chr(code))) for code in digits}


_RESPELLED = _respelled()
_VARIANT = re.compile(f"[{''.join(map(chr, _RESPELLED))}]")
_FOLDED = str.maketrans(
    {"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe"}
    | {"ё": "е", "أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ی": "ي", "ک": "ك", "ة": "ه"}
)
# Their stemmers know a to z alone; those of other languages want the accents, which are folded afterwards.
_UNACCENTED = ("english", "porter")


def tokenize(text: str, language: str = "english") -> list[str]:
    """Return the tokens of ``text``, in order, for indexing or for scoring.

    NFKC, case folding, accents folded; Snowball stems of plain words. Compounds and identifiers whole
    and in parts: ``E11.9`` gives e11.9, e11, 9; ``getUserId``, ``get_user_id`` and ``get-user-id`` each
    give getuserid and its parts. An identifier with a digit that stands alone gives ``=e11`` as well,
    which ``E11.9`` and ``E10-E11`` do not: so that whoever asks for E11 gets that first. Runs of
    scripts without blanks (Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer) give overlapping
    bigrams and single characters. Nothing is left out as a stop word; see :func:`query_terms`.

    Args:
        text: anything.
        language: a Snowball language, or ``none`` for no stemming.

    Raises:
        SettingsError: there is no stemmer for ``language``.
    """
    known = _analyzer(language)
    return list(chain.from_iterable(map(known.__getitem__, _words(text))))


def query_terms(query: str, language: str = "english") -> dict[str, float]:
    """Return the distinct tokens of ``query``, in order, and what each counts.

    Parts count less than wholes, and English words of grammar less than others, but for names that look like one: in
    capitals (WHO) among words that are not, and a single capital after a word of another kind (hepatitis A).
    """
    analyzer = _analyzer(language)
    words = _words(query)
    terms: dict[str, float] = {}
    for word, grammar in zip(words, _of_grammar(words, _FUNCTION_WORDS.get(language, frozenset())), strict=True):
        for token, weight in analyzer.split(word):
            terms[token] = max(FUNCTION_WORD_WEIGHT * weight if grammar else weight, terms.get(token, 0.0))
    return terms


def _of_grammar(words: Sequence[str], known: frozenset[str]) -> list[bool]:
    """Whether each word of a query is one of the ``known`` words of grammar, and no name."""
    found = [word.casefold().replace("'", "") in known for word in words]
    if not any(found) or (len(words) > SHOUTED_WORDS and all(word.isupper() for word in words)):
        return found
    after_grammar = [True, *found]
    return [
        grammar and not (word.isupper() and (len(word) > 1 or not after_grammar[place]))
        for place, (word, grammar) in enumerate(zip(words, found, strict=True))
    ]


def _words(text: str) -> list[str]:
    if text.isascii():
        return _ASCII_WORD.findall(text)
    plain = _VARIANT.sub(lambda variant: _RESPELLED[ord(variant[0])], text)
    return _WORD.findall(unicodedata.normalize("NFKC", plain))


class _Analyzer(dict[str, tuple[str, ...]]):
    """The tokens of single words, remembered: a text of a million words has few distinct ones."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._local = threading.local()
        self._stem("")

    def __missing__(self, word: str) -> tuple[str, ...]:
        tokens = tuple(token for token, _ in self.split(word))
        # A run of an unspaced script is a whole sentence, which does not come again.
        if len(word) <= _CACHED_CHARS and (word.isascii() or not _UNSPACED.search(word)):
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = tokens
        return tokens

    def split(self, word: str) -> Iterator[tuple[str, float]]:
        """Yield the tokens of a word as the patterns find it, with their weights."""
        if word.isascii() and word.isalpha() and not _HUMP.search(word):
            return iter([(self._plain(word)[:MAX_TOKEN_CHARS], 1.0)])  # nearly every word, so without further ado
        tokens = list(self._split(word, 1.0))
        if tokens and any(map(str.isdigit, word)) and not word.isdigit() and not _LOOSE.search(word):
            tokens.append((f"={tokens[0][0]}", 1.0))
        return ((token[:MAX_TOKEN_CHARS], weight) for token, weight in tokens)

    def _split(self, word: str, weight: float) -> Iterator[tuple[str, float]]:
        if not any(map(str.isalnum, word)):
            return
        if "'" in word and not _LOOSE.search(word):
            word = _POSSESSIVE.sub("", word)
            if _CONTRACTION.fullmatch(word):
                word = word.replace("'", "")
        parts = _parts(word)
        if parts:
            yield self._plain(_JOINT.sub("", word)), weight
            for part in parts:
                yield from self._split(part, PART_WEIGHT)
        elif word.isascii():
            yield self._plain(word), weight
        else:
            for place, run in enumerate(_UNSPACED.split(word)):
                if place % 2:
                    yield from _bigrams(run, weight)
                elif run:
                    yield self._plain(run), weight

    def _plain(self, word: str) -> str:
        if self._language == "turkish":
            word = word.replace("I", "ı").replace("İ", "i")
        word = word.casefold()
        if _SYMBOL.search(word):
            return _fold(word)
        if self._language in _UNACCENTED:
            return self._stem(_fold(word))
        return _fold(self._stem(word))

    def _stem(self, word: str) -> str:
        if self._language == "none":
            return word
        # A Snowball stemmer keeps its state in itself: one a thread.
        stemmer = getattr(self._local, "stemmer", None)
        if stemmer is None:
            stemmer = self._local.stemmer = _stemmer(self._language)
        return str(stemmer.stemWord(word))


@lru_cache(maxsize=8)
def _analyzer(language: str) -> _Analyzer:
    return _Analyzer(language)


def _parts(word: str) -> list[str]:
    """What a compound is made of, [] where it is none."""
    if version := _VERSION.fullmatch(word):
        return [version[1]]
    for separator in _SEPARATORS:
        parts = [part for part in separator.split(word) if part]
        if parts != [word]:
            return parts
    if amount := _AMOUNT.fullmatch(word):
        parts = [amount[1], amount[2]]
    else:
        parts = _HUMP.split(word)
    # Of mRNA or 3D a single letter would say nothing.
    return [part for part in parts if len(part) > 1 or part.isdigit()] if len(parts) > 1 else []


def _bigrams(run: str, weight: float) -> Iterator[tuple[str, float]]:
    characters = _CHARACTER.findall(run)
    if len(characters) == 1:
        yield run, weight
        return
    for first, second in zip(characters, characters[1:], strict=False):
        yield first + second, weight
    for character in characters:
        yield character, PART_WEIGHT


def _fold(word: str) -> str:
    """Without the accents of Latin and Greek letters, and with one letter for the variants of a letter."""
    if word.isascii():
        return word
    bare = _LATIN_OR_GREEK_MARKS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare).translate(_FOLDED)


def _stemmer(language: str) -> Any:
    Stemmer = engine_module("Stemmer")
    if language not in Stemmer.algorithms():
        known = ", ".join(["none", *Stemmer.algorithms()])
        raise SettingsError(f"passages.language: no stemmer for {language!r}; known: {known}")
    # The words are remembered above, so the stemmer's own cache would only keep them twice.
    return Stemmer.Stemmer(language, 0)


def engine_module(name: str) -> ModuleType:
    """Import a compiled part of the engine.

    Raises:
        ShoptalkError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ShoptalkError(f"{name} is not installed; install the engine with `pip install 'shoptalk[cpu]'`") from None
