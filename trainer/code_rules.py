"""Pairs from source code: what a symbol's documentation says → its code; its name in words → its documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from retrieval.words import sentences_of
from trainer.material import Material, is_code
from trainer.pairs import Pair, pair_of

__all__ = ["code_symbol", "name_in_words"]

MIN_NAME_WORDS = 2
MIN_SENTENCE_WORDS = 3
# The name is what stands before the parameters, or after the word that declares it.
_CALLED = re.compile(r"(?<!\w)(?!(?:func|function|fn|operator|__\w+)\b)([A-Za-z_~][\w~]*)\s*(?:<[^<>()]*>)?\s*\(")
# "struct" may be part of a type instead: of a parameter, or of what a function gives ("struct list *next(").
_DECLARED = re.compile(
    r"[^(]*?\b(?:enum\s+class|class|struct|enum|interface|trait|module|namespace|type|record|impl|object|protocol|"
    r"table|view|union)\s+"
    r"(?:if\s+not\s+exists\s+)?(?:\w+(?:::|\.))*(?P<name>[A-Za-z_]\w*)(?!\w|[\s*&]+[A-Za-z_]\w*\s*\()",
    re.IGNORECASE,
)
# No documentation: a banner between rulers, what is said to a tool, what is still to be done.
_ASIDE = re.compile(
    r"\A[-=*#~_/]{3}.*(?:\n.*){0,2}\Z"
    r"|^[ \t]*(?:(?:TODO|FIXME|XXX|nolint|noqa|clang-format)\b|type:\s*ignore|go:\w|eslint-|@ts-|pylint:)",
    re.MULTILINE,
)
# What begins a line in JSDoc, Javadoc, Doxygen and Sphinx; within one stand "{@link X}", "\p x" and ":math:`x`".
_TAG = re.compile(
    r"^[ \t]*(?:@(?!brief\b)[A-Za-z]{2}"
    r"|\\(?:t?param|returns?|retval|throws?|sa|see|note|pre|post)\b|:[a-z][^:`\n]*:(?!\S))",
    re.MULTILINE,
)
_BRIEF = re.compile(r"[@\\]brief\s+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_+")


def code_symbol(material: Material, place: int, generator: Random) -> Iterator[Pair]:
    """The first sentence of a symbol's docstring or comment → its signature and code; its name → what documents it."""
    section = material.sections[place]
    if not is_code(material, section) or not section.heading or not material.passages_of[place]:
        return
    prose = next((block.text for block in section.blocks if block.kind == "paragraph"), "")
    prose = _ASIDE.split(prose)[0].strip()
    code = "\n".join(block.text for block in section.blocks if block.kind == "code")
    said = _TAG.split(_BRIEF.split(prose, maxsplit=1)[-1])[0].split("\n\n")[0]
    sentence = sentences_of(said)[0]
    first = material.passages_of[place][0]
    if len(sentence.split()) >= MIN_SENTENCE_WORDS and code:
        yield pair_of(material, sentence, first, "code_symbol", excerpt=code)
    words = name_in_words(section.heading[-1])
    if len(words) >= MIN_NAME_WORDS and prose:
        yield pair_of(material, " ".join(words), first, "code_symbol", heading=section.heading[-1], excerpt=prose)


def name_in_words(signature: str) -> list[str]:
    """The words of the name that a signature declares (``def read_rows(file)``: read, rows)."""
    match = _DECLARED.match(signature) or _CALLED.search(signature)
    return [part.casefold() for part in _HUMP.split(match[1]) if part] if match else []
