"""Numbers written with letters, as those of clauses and lists are."""

from __future__ import annotations

__all__ = ["letters", "roman"]


def letters(count: int) -> str:
    """1 is a, 26 z, 27 aa."""
    written = ""
    while count > 0:
        count, letter = divmod(count - 1, 26)
        written = chr(ord("a") + letter) + written
    return written


def roman(count: int) -> str:
    """4 is iv; up to 3999."""
    numerals = ""
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    for value, numeral in zip(values, "m cm d cd c xc l xl x ix v iv i".split(), strict=True):
        numerals += numeral * (count // value)
        count %= value
    return numerals
