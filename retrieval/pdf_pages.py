"""The lines of a PDF's pages, with size and weight of their type, and its bookmarks, by pypdf.

A PDF places glyphs; pypdf makes words and lines of them. What a file may cost to read is bounded:
pypdf refuses streams, trees and tables beyond the limits set here, and the processor time is counted.
"""

from __future__ import annotations

import io
import logging
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import hypot
from typing import TYPE_CHECKING, Any

from retrieval.errors import DocumentError

if TYPE_CHECKING:
    from pypdf import PdfReader

__all__ = ["Bookmark", "Line", "Page", "PdfFile", "read_pdf"]

STREAM_BYTES = 16_000_000
"""The most bytes one stream may unpack to; a page of text takes some thousands."""
LIMITS: dict[str, Any] = {
    "zlib_maximum_output_length": STREAM_BYTES,
    "lzw_maximum_output_length": STREAM_BYTES,
    "run_length_maximum_output_length": STREAM_BYTES,
    "brotli_maximum_output_length": STREAM_BYTES,
    "array_based_stream_maximum_output_length": STREAM_BYTES,
    "stream_decoding_work_maximum_length": 4 * STREAM_BYTES,
    "stream_parsing_work_maximum_count": 500_000,
    "stream_filters_maximum_length": 4,
    "outline_maximum_entries": 10_000,
    "outline_maximum_depth": 32,
    "page_tree_maximum_entries": 20_000,
    "page_tree_maximum_page_entries": 400_000,
    "named_destinations_maximum_entries": 20_000,
    "xform_maximum_invocations_per_extraction": 500,
}
"""Fields of ``pypdf.Configuration``; elsewhere its own limits hold."""
XREF_ENTRIES = 500_000
SECONDS, SECONDS_PER_MEGABYTE, MOST_SECONDS = 20.0, 100.0, 600.0
"""Processor time a file may take, by its size: several times what honest ones do."""
MOST_POINTS = 1_000_000
"""No page is so wide or high, nor its type so large."""
CLOCK_EVERY = 256
"""Drawing operations between two looks at the clock."""

MONO = re.compile(r"mono|courier|typewriter|consol|menlo|cmtt|\+cmsltt|fixed|sfmono|lettergothic", re.IGNORECASE)
SHOWN_UNREAD = 5
BOLD = re.compile(r"bold|black|heavy|demi|cmbx|\bbx", re.IGNORECASE)
LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}  # noqa: RUF001
)
UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
READABLE = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text, and where it begins, in points from the lower left of the page.

    ``size`` is that of most of its type, in points; ``bold``: nearly all is; ``mono``: all is monospaced.
    """

    text: str
    size: float
    x: float
    y: float
    bold: bool = False
    mono: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page's lines in the order in which they were drawn."""

    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Bookmark:
    """An entry of the outline: its level (1 is outermost), its page (from 0), and where on it it points."""

    level: int
    title: str
    page: int
    top: float | None


@dataclass(frozen=True, slots=True)
class PdfFile:
    """A PDF as read. ``title`` is the one in its metadata, or ""; ``left_out`` says which pages failed."""

    title: str
    pages: tuple[Page, ...]
    bookmarks: tuple[Bookmark, ...]
    left_out: tuple[str, ...]


def read_pdf(name: str, data: bytes) -> PdfFile:
    """Return the pages of a PDF. One that needs a password is opened with the empty one, as viewers do.

    Raises:
        DocumentError: it cannot be read, or has no text; the message is ``name: reason``.
    """
    from pypdf import apply_configuration

    logger = logging.getLogger("pypdf")
    if logger.level == logging.NOTSET:  # it reports each flaw that it can live with
        logger.setLevel(logging.CRITICAL)
    clock = _Clock(len(data))
    try:
        with warnings.catch_warnings(), apply_configuration(**LIMITS):
            warnings.simplefilter("ignore")  # old ciphers
            return _read(name, data, clock)
    except DocumentError:
        raise
    except _OutOfTimeError:
        seconds = f"{clock.allowed:.0f} s of processor time"
        raise DocumentError(f"{name}: takes more than {seconds} to read; print it to a new PDF") from None
    except Exception as error:  # a malformed file may fail anywhere, with anything
        raise DocumentError(f"{name}: not a PDF that can be read ({_reason(error)})") from None


class _OutOfTimeError(Exception):
    """The file took more processor time than it may."""


class _Clock:
    """Processor time of this thread since it was made, so that a busy machine changes no outcome."""

    def __init__(self, size: int) -> None:
        self.allowed = min(SECONDS + SECONDS_PER_MEGABYTE * size / 1_000_000, MOST_SECONDS)
        self.end = time.thread_time() + self.allowed
        self.ticks = 0

    def check(self) -> None:
        if time.thread_time() > self.end:
            raise _OutOfTimeError

    def tick(self, *_: object) -> None:
        self.ticks += 1
        if not self.ticks % CLOCK_EVERY:
            self.check()


def _read(name: str, data: bytes, clock: _Clock) -> PdfFile:
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(io.BytesIO(data), xref_stream_maximum_entries=XREF_ENTRIES)
    if reader.is_encrypted and reader.decrypt("") is PasswordType.NOT_DECRYPTED:
        raise DocumentError(f"{name}: is encrypted with a password; save it without one")
    pages: list[Page] = []
    unread: dict[int, str] = {}
    for number, page in enumerate(reader.pages, 1):
        clock.check()
        gatherer = _Gatherer()
        try:
            page.extract_text(visitor_operand_before=clock.tick, visitor_text=gatherer.add)
        except _OutOfTimeError:
            raise
        except Exception as error:  # one bad page is no reason to lose the others
            unread[number] = _reason(error)
        pages.append(Page(tuple(gatherer.finish())))
    if unread and len(unread) == len(pages):
        raise DocumentError(f"{name}: no page can be read ({unread[1]})")
    if not any(READABLE.search(line.text) for page in pages for line in page.lines):
        raise DocumentError(f"{name}: has no text (a scan?); run OCR on it first")
    return PdfFile(_metadata_title(reader), tuple(pages), tuple(_bookmarks(reader, len(pages))), _left_out(unread))


def _left_out(unread: dict[int, str]) -> tuple[str, ...]:
    if not unread:
        return ()
    numbers = [f"page {number}" for number in list(unread)[:SHOWN_UNREAD]]
    more = [f"{len(unread) - SHOWN_UNREAD} more pages"] if len(unread) > SHOWN_UNREAD else []
    return (f"cannot be read: {', '.join(numbers + more)} ({next(iter(unread.values()))})",)


def _reason(error: Exception) -> str:
    return clean(str(error))[:100].rstrip(". ") or type(error).__name__


def clean(text: str) -> str:
    """``text`` on one line, ligatures spelled out, soft hyphens within words and control characters gone."""
    text = UNPRINTABLE.sub("\ufffd", " ".join(text.translate(LIGATURES).split()))
    return re.sub("\u00ad(?=\\S)", "", text)


def _possible(points: float) -> float:
    """``points``, or 0 where no page is so large, or it is no number: a file may ask for anything."""
    return points if abs(points) < MOST_POINTS else 0.0


@dataclass(slots=True)
class _Gatherer:
    """Makes lines of the pieces of text that pypdf hands over; each has one font."""

    lines: list[Line] = field(default_factory=list)
    pieces: list[tuple[str, float, str]] = field(default_factory=list)
    start: tuple[float, float] = (0.0, 0.0)

    def add(self, text: str, outer: Sequence[float], inner: Sequence[float], font: Any, size: float) -> None:
        """As pypdf's ``visitor_text``: the text, page and text matrix, the font's dictionary, its size."""
        for number, part in enumerate(text.split("\n")):
            if number:
                self._close()
            if not part:
                continue
            if not self.pieces:
                x = inner[4] * outer[0] + inner[5] * outer[2] + outer[4]
                y = inner[4] * outer[1] + inner[5] * outer[3] + outer[5]
                self.start = (_possible(x), _possible(y))
            height = hypot(inner[2] * outer[0] + inner[3] * outer[2], inner[2] * outer[1] + inner[3] * outer[3])
            self.pieces.append(
                (part, round(_possible(abs(size) * height), 1), str(font.get("/BaseFont", "")) if font else "")
            )

    def finish(self) -> list[Line]:
        self._close()
        return self.lines

    def _close(self) -> None:
        pieces, self.pieces = self.pieces, []
        text = clean("".join(part for part, _, _ in pieces))
        if not text:
            return
        sizes: Counter[float] = Counter()
        fonts: Counter[str] = Counter()
        for part, size, font in pieces:
            sizes[size] += len(part) - part.count(" ")
            fonts[font] += len(part) - part.count(" ")
        letters = fonts.total()
        bold = sum(count for font, count in fonts.items() if BOLD.search(font)) > 0.8 * letters
        mono = all(MONO.search(font) for font, count in fonts.items() if count)
        size = max(sizes, key=lambda size: sizes[size])
        self.lines.append(Line(text, size, *self.start, bold, mono))


def _metadata_title(reader: PdfReader) -> str:
    try:
        return clean(str((reader.metadata and reader.metadata.title) or ""))
    except Exception as error:  # what is broken here is not needed
        logging.getLogger(__name__).debug("no title: %s", error)
        return ""


def _bookmarks(reader: PdfReader, pages: int) -> list[Bookmark]:
    try:
        return list(_flat(reader, reader.outline, pages))
    except Exception as error:  # headings are then told by their type
        logging.getLogger(__name__).debug("no outline: %s", error)
        return []


def _flat(reader: PdfReader, entries: Sequence[Any], pages: int, level: int = 1) -> Iterator[Bookmark]:
    """The entries of a nested outline that point to one of ``pages`` pages, in order."""
    for entry in entries:
        if isinstance(entry, list):
            yield from _flat(reader, entry, pages, level + 1)
            continue
        page = reader.get_destination_page_number(entry)
        title = clean(str(entry.title or ""))
        if title and page is not None and 0 <= page < pages:
            top = entry.top
            yield Bookmark(level, title, page, float(top) if isinstance(top, (int, float)) else None)
