"""Text made safe to show: no terminal escapes, no control characters, no key, one line where one is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

__all__ = ["PlainStream", "one_line", "plain", "plain_values"]

# ECMA-48: CSI sequences; OSC, DCS, SOS, PM and APC strings with their end; two-character escapes. Such a string ends
# where another begins, as in terminals: else each of a thousand beginnings would be followed to the end of the text.
_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x90\x98\x9c-\x9f]*"
_CSI = r"(?:\x1b\[|\x9b)[0-?]*[ -/]*"
_ESCAPES = re.compile(rf"{_CSI}[@-~]|{_STRING}(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-~]")
# The beginning of such a sequence at the end of a text that goes on.
_CUT = re.compile(rf"(?:\x1b[ -/]*|{_CSI}|{_STRING}\x1b?)\Z")
_LONGEST_ESCAPE = 256
# What is left of C0 (but for tab and line feed), DEL, C1, lone surrogates, and the marks that reorder
# text on screen (Unicode TR36 3.2: bidirectional overrides hide what a line says).
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
_SHORTEST_SECRET = 8


def plain(text: str, secrets: Iterable[str | None] = ()) -> str:
    """``text`` without escapes, control characters, ``secrets`` and the keys in the environment."""
    text = _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))
    for secret in (*secrets, *(os.environ.get(name) for name in _SECRETS)):
        if secret and len(secret.strip()) >= _SHORTEST_SECRET:
            text = text.replace(secret.strip(), "[key]")
    return text


def one_line(text: str, limit: int = 300, secrets: Iterable[str | None] = ()) -> str:
    """``text`` made plain, on one line, cut to ``limit`` characters with an ellipsis."""
    line = " ".join(plain(text, secrets).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def plain_values(value: object) -> object:
    """JSON values with every string in them made plain."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {key: plain_values(part) for key, part in value.items()}
    return [plain_values(part) for part in value] if isinstance(value, list | tuple) else value


class PlainStream:
    """:func:`plain` for a text that comes in pieces: an escape sequence cut in two is held until it is whole."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now that ``piece`` is here."""
        text = self._held + piece
        cut = _CUT.search(text)
        end = cut.start() if cut and len(text) - cut.start() <= _LONGEST_ESCAPE else len(text)
        self._held = text[end:]
        return plain(text[:end])
