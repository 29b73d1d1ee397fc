"""Metadata at the head of a Markdown page: YAML between lines ``---``, TOML between lines ``+++``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from retrieval.columns import is_of_names, label, normal_name
from retrieval.decoding import storable

__all__ = ["fenced", "front_matter", "spoken"]

MOST_CHARACTERS = 32_000
"""Front matter that is longer is text; so nobody waits for a parser on a file that only begins with a rule."""
MOST_VALUES = 200
VALUE_CHARACTERS = 2_000
PROSE = ("description", "summary")
LINK = re.compile(r"/.*|\w+://.*|.*\.html?")
"""What Hugo and Jekyll call an alias: an address that a page once had."""
CLOSING = {"---": ("---", "..."), "+++": ("+++",)}


def fenced(text: str) -> int:
    """Return how many lines at the head of ``text`` are fenced as front matter is; 0 where there is no fence."""
    fence = text[:4].rstrip()
    if fence not in CLOSING or not text.partition("\n")[0].rstrip() == fence:
        return 0
    for number, line in enumerate(text[:MOST_CHARACTERS].split("\n")[1:], 2):
        if line.rstrip() in CLOSING[fence]:
            return number
    return 0


def front_matter(text: str) -> tuple[dict[str, str], int]:
    """Return the front matter of ``text`` as flat strings, and how many lines it has, fences included.

    Names are in lower case; those of what is nested are joined by a dot, the items of a list by a semicolon.
    What is broken, or no mapping, is no front matter: ({}, 0).
    """
    count = fenced(text)
    if not count:
        return {}, 0
    source = "\n".join(text.split("\n", count)[1 : count - 1])
    values = _toml(source) if text.startswith("+++") else _yaml(source)
    if values is None:
        return {}, 0
    return dict(islice(_flat(values, ""), MOST_VALUES)), count


def spoken(matter: Mapping[str, str]) -> Iterator[str]:
    """Yield what front matter says of its page as paragraphs: what it is about, and its other names under a label."""
    yield from (matter[name] for name in PROSE if matter.get(name))
    for name, value in matter.items():
        if is_of_names(normal_name(name)):
            names = [item for item in value.split("; ") if item and not LINK.fullmatch(item)]
            if names:
                yield f"{label(normal_name(name))}: {'; '.join(names)}"


def _toml(source: str) -> Mapping[str, Any] | None:
    try:
        return tomllib.loads(source)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None


@lru_cache(maxsize=16)
def _yaml(source: str) -> Mapping[Any, Any] | None:
    """What ``source`` says; remembered, because who reads a page's metadata reads its text next."""
    import yaml

    if source.count("[") + source.count("{") > MOST_VALUES:
        return None  # each level of nesting costs PyYAML a look at all of those around it
    try:
        # Not the C loader: it overflows the stack on what is nested deeply.
        values = yaml.load(source, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, LookupError, AttributeError):
        return None  # PyYAML passes on what dates, numbers and tags raise that are none
    if values is None:
        return {}
    return values if isinstance(values, dict) else None


def _flat(values: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in islice(values.items(), MOST_VALUES):
        name = prefix + " ".join(storable(str(key)).split()).lower()
        if isinstance(value, dict):
            if not prefix:  # deeper than that is structure, not metadata; and aliases may make it endless
                yield from _flat(value, f"{name}.")
        elif isinstance(value, list):
            items = [_word(item) for item in value[:MOST_VALUES] if not isinstance(item, dict | list)]
            yield name, "; ".join(item for item in items if item)[:VALUE_CHARACTERS]
        elif _word(value):
            yield name, _word(value)


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return " ".join(storable(str(value)).split())[:VALUE_CHARACTERS]
    except ValueError:  # a number of more digits than Python writes
        return ""
