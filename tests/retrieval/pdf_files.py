"""PDF files made to order: lines of type on pages, by pypdf's writer; and files made of raw objects."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

FONTS = {"F1": "Helvetica", "F2": "Helvetica-Bold", "F3": "Courier"}


@dataclass(frozen=True)
class Type:
    """A line of type: what it says, how far up the page it stands, its size and font."""

    text: str
    y: float
    size: float = 10
    font: str = "F1"
    x: float = 72


def lines(*texts: str, top: float = 700, gap: float = 12, **type: Any) -> list[Type]:
    """Lines of type, one below the other."""
    return [Type(text, top - gap * number, **type) for number, text in enumerate(texts)]


def pdf(
    *pages: Sequence[Type],
    title: str = "",
    bookmarks: Sequence[tuple[int, str, int]] = (),
    password: str | None = None,
    algorithm: str = "AES-256",
) -> bytes:
    """A PDF of ``pages``; ``bookmarks`` are (level from 1, title, page from 0); ``password`` encrypts it."""
    writer = PdfWriter()
    fonts = DictionaryObject()
    for name, base in FONTS.items():
        font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": f"/{base}", "/Encoding": "/WinAnsiEncoding"}
        fonts[NameObject(f"/{name}")] = DictionaryObject({NameObject(k): NameObject(v) for k, v in font.items()})
    for page in pages:
        sheet = writer.add_blank_page(width=612, height=792)
        sheet[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(b"\n".join(map(_shown, page)))
        sheet[NameObject("/Contents")] = writer._add_object(stream)
    above: list[Any] = []
    for level, text, number in bookmarks:
        parent = above[level - 2] if level > 1 else None
        above[level - 1 :] = [writer.add_outline_item(title=text, page_number=number, parent=parent)]
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(user_password=password, owner_password="owner", algorithm=algorithm)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def _shown(type: Type) -> bytes:
    text = type.text.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    return b"BT /%s %g Tf %g %g Td (%s) Tj ET" % (type.font.encode(), type.size, type.x, type.y, text)


def raw_pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """A PDF of ``objects``, numbered from 1; the first is the catalogue."""
    data = b"%PDF-1.7\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    return data + b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, start)


def stream(data: bytes, entries: bytes = b"", length: int | None = None) -> bytes:
    """A stream object's body."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data) if length is None else length, entries, data)


def page_of(contents: bytes, *more: bytes, resources: bytes = b"", trailer: bytes = b"") -> bytes:
    """A PDF with one page: objects 1 to 4 are catalogue, pages, page and contents; ``more`` follow from 5."""
    font = b"/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
    return raw_pdf(
        b"<< /Type /Catalog /Pages 2 0 R /Outlines 5 0 R >>" if more else b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << %s %s >> >>"
        % (font, resources),
        contents,
        *more,
        trailer=trailer,
    )
