"""Bytes of a text file as text, whatever encoding they are in.

UTF-8 is tried first, and what is valid UTF-8 is UTF-8 whatever the file says of itself. Next come byte
order marks, UTF-16 and UTF-32 without one, the encoding that markup declares, and at last detection: by the
letters of languages in Latin script, by charset-normalizer for the rest. Detection is deterministic, and
only accepted where the outcome reads as text.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter

__all__ = ["NotTextError", "decode", "storable"]

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, which it starts with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")

DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)|<meta[^>]*?charset\s*=\s*["']?([\w.:-]+)""", re.I)
DECLARABLE = re.compile(
    r"cp\d+|iso8859-\d+|koi8-[rtu]|mac-\w+|gb18030|big5\w*|euc_\w+|shift_jis\w*|iso2022_\w+|johab|hz|utf-(?:16|32)\S*"
)
"""What Python calls them. Not every codec that a page could name reads text, or should."""
DECLARED_WITHIN = 4096
"""Bytes in which markup has to declare its encoding; HTML asks for 1024, and pages are late."""
SUPERSETS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "tis-620": "cp874",
}
"""What is really meant by the name of an encoding (https://encoding.spec.whatwg.org/#names-and-labels)."""

LATIN = ("cp1252", "cp1250", "iso8859-2", "cp1254", "cp1257", "iso8859-15", "mac_roman", "cp850")
"""Encodings of Latin script, the likelier first; where several fit, they are alike for the letters at hand."""
LETTERS = [
    frozenset(letters + letters.upper().replace("SS", ""))
    for letters in (
        "äöüß",  # German
        "àâæçéèêëîïôùûüœÿ",  # French
        "áéíóúüñªº",  # Spanish
        "àáâãçéêíóôõúüªº",  # Portuguese
        "àèéìíîòóùú",  # Italian
        "éëïóöüèêáíúû",  # Dutch
        "àçéèíïòóúü·",  # Catalan
        "æøåéèêóòâôäö",  # Danish, Norwegian
        "äöåéàèüë",  # Swedish, Finnish
        "áðéíóúýþæö",  # Icelandic
        "ąćęłńóśźż",  # Polish
        "áčďéěíňóřšťúůýž",  # Czech
        "áäčďéíĺľňóôŕšťúýž",  # Slovak
        "áéíóöőúüű",  # Hungarian
        "čćđšž",  # Croatian, Slovenian
        "ăâîșțşţ",  # Romanian
        "çğıöşüâîûİ",  # Turkish
        "äõöüšž",  # Estonian
        "āčēģīķļņšūž",  # Latvian
        "ąčęėįšųūž",  # Lithuanian
    )
]
SIGNS = frozenset("\xa0‘’‚“”„–—…•«»‹›°©®™€£§¡¿·×±µ²³½¼¾†‡¶¢¥÷´¨\xad")
"""Signs that stand between letters in any language."""
MISPLACED = re.compile(
    r"(?<=[a-z])(?:[±³¶¹¼¾¿¡£¥©®§«»†‡¨´¢÷×„‚](?=[a-z])|[À-ÖØ-ÞŠŽŸŒĄĆĘŁŃŚŹŻŞĞİŐŰČĎĚŇŘŤŮ](?![A-Z]))"
    r"|\b[^\x00-\x7f\W\d_]{2,}\b"
)
"""A sign inside of a word, a capital after a small letter, a word without a letter of ASCII."""
ASCII_RUN = re.compile(r"[\x00-\x7f]+")
FITTING = 0.9
"""More than so much of what is not ASCII must be letters of one language."""
MOSTLY_ASCII = 0.4
"""In Latin script no more of the letters than this are outside of ASCII."""
ASCII = bytes(range(128))
NOT_LETTERS = bytes(byte for byte in range(256) if not (chr(byte).isascii() and chr(byte).isalpha()))

MORE_BYTES = ("cp932", "euc_jp", "gb18030", "big5hkscs", "cp949", "johab")
ONE_BYTE = (
    "koi8_r koi8_u cp1251 cp866 iso8859_5 mac_cyrillic cp855 cp1253 iso8859_7 cp1255 cp1256 iso8859_6 cp874".split()
)
ENOUGH = 80
"""Bytes outside of ASCII that are hardly all valid by chance where characters have several bytes."""
COHERENT = 0.1
"""A text reads as some language by charset-normalizer's count of letters (0 to 1)."""
STRAY = re.compile("[\udc80-\udcff]")
FEW_STRAYS = 0.001
"""Where hardly a byte in a thousand is wrong, the rest is UTF-8: pages are put together from many hands."""
NOT_TEXT = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd\ufffe\uffff]")


class NotTextError(Exception):
    """Bytes that are no text, or text in an encoding that cannot be told; the message is the reason."""


def decode(data: bytes, *, markup: bool = False) -> tuple[str, str]:
    """Return the text of ``data``, with line feeds as line ends, and the name of its encoding.

    A byte order mark is left out. ``markup``: the text is HTML or XML, which may declare its encoding.

    Raises:
        NotTextError: ``data`` is binary, or its encoding cannot be told.
    """
    text, name = _decode(data, markup)
    return text.replace("\r\n", "\n").replace("\r", "\n"), name


def _decode(data: bytes, markup: bool) -> tuple[str, str]:
    for mark, name in MARKS:
        if data.startswith(mark):
            return _marked(data, mark, name)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return _detect(data, error.start, markup)
    if "\0" in text:
        return _wide(data)
    if "\x1b$" in text:
        return _escaped(data) or (text, "utf-8")
    return text, "utf-8"


def _marked(data: bytes, mark: bytes, name: str) -> tuple[str, str]:
    try:
        text = data[len(mark) :].decode() if name == "utf-8" else data.decode(name)
    except UnicodeDecodeError as error:
        raise NotTextError(f"not {name.upper()} (byte {error.start}), though so marked; save it as UTF-8") from None
    if "\0" in text:
        raise NotTextError("binary file")
    return text, name


def _wide(data: bytes) -> tuple[str, str]:
    """Decode UTF-16 or UTF-32 without a mark, where every other byte of ASCII and every line end is zero."""
    for name in WIDE:
        text = _try(data, name)
        if text is not None and (text.isascii() or " " in text or "\n" in text):
            return text, name
    raise NotTextError("binary file")


def _escaped(data: bytes) -> tuple[str, str] | None:
    """Decode ISO-2022, whose bytes are all ASCII's."""
    for name in ("iso2022_jp_2", "iso2022_kr"):
        text = _try(data, name)
        if text is not None and not text.isascii():
            return text, name
    return None


def _detect(data: bytes, start: int, markup: bool) -> tuple[str, str]:
    if b"\0" in data:
        return _wide(data)
    names = [_declared(data)] if markup else []
    for name in [*names, _latin(data), _other(data)]:
        if name:
            text = _try(data, name)
            if text is not None:
                return text, name
    text = data.decode(errors="surrogateescape")
    strays = STRAY.findall(text)
    if len(strays) <= len(text) * FEW_STRAYS:
        mended = STRAY.sub(_mend, text)
        if not NOT_TEXT.search(mended.replace("\ufffd", "")):
            return mended, "utf-8 with stray bytes"
    raise NotTextError(f"not UTF-8 (byte {start}), and no other encoding fits; save it as UTF-8")


def _mend(stray: re.Match[str]) -> str:
    return stray[0].encode(errors="surrogateescape").decode("cp1252", "replace")


def _try(data: bytes, name: str) -> str | None:
    """The text of ``data`` in the encoding ``name``, None where it is not valid or does not read as text."""
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        return None
    return None if NOT_TEXT.search(text) else text


def _declared(data: bytes) -> str:
    match = DECLARED.search(data[:DECLARED_WITHIN])
    if not match:
        return ""
    label = (match[1] or match[2]).decode("ascii", "replace")
    try:
        name = codecs.lookup(label).name
    except LookupError:
        return ""
    name = SUPERSETS.get(name, name)
    return name if DECLARABLE.fullmatch(name) else ""


def _latin(data: bytes) -> str:
    """The encoding of Latin script in which what is not ASCII is letters of one language, and signs; else ""."""
    ascii_letters = len(data.translate(None, NOT_LETTERS))
    best, best_share = "", FITTING
    for name in LATIN:
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        counts = Counter(sign for sign in ASCII_RUN.sub("", text) if sign not in SIGNS)
        total = sum(counts.values()) + len(MISPLACED.findall(text))
        if total >= MOSTLY_ASCII * (ascii_letters + total):
            continue
        fitting = max(sum(counts[sign] for sign in known) for known in LETTERS)
        share = fitting / total if total else 1.0
        if share > best_share:
            best, best_share = name, share
    return best


def _other(data: bytes) -> str:
    """The encoding of another script, as charset-normalizer finds it; else ""."""
    from charset_normalizer import from_bytes

    found = from_bytes(data, cp_isolation=[*ONE_BYTE, *MORE_BYTES], preemptive_behaviour=False).best()
    if not found:
        return ""
    enough = found.encoding in MORE_BYTES and len(data.translate(None, ASCII)) >= ENOUGH
    return found.encoding if enough or found.coherence >= COHERENT else ""


def storable(text: str) -> str:
    """``text`` with pairs of surrogates made one character, and U+FFFD for what UTF-8 or a file cannot hold."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
