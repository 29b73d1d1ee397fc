"""The parts of an Office document's zip package (ECMA-376, part 2), as streams of XML events.

A part is read as it unpacks, so that a large document takes no more memory than its text. Sizes are
looked at before anything is unpacked and counted while it is; a part may declare no document type,
and so no entities, and nothing outside of the package is ever opened.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple
from xml.parsers import expat

from retrieval.errors import DocumentError

__all__ = ["EXCEL", "POWERPOINT", "UNPRINTABLE", "WORD", "Event", "Package", "Program", "core_title"]

Event = tuple[Literal["start", "end", "text"], str, Mapping[str, str]]
"""A tag's start or end, with its name and attributes; or text between tags.

Names are without namespaces, but for attributes that name a relation: these begin with "r:".
"""

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")

DIRECTORY_BYTES = 2_000_000
"""The most that the zip's list of its parts may take: some 20,000 parts."""
PACKAGE_BYTES, PACKAGE_RATIO = 2_000_000_000, 300
"""All parts may unpack to no more bytes than this, nor to so many times the file's own size."""
RATIO_FREE = 20_000_000
"""Up to so many bytes unpacked the ratio does not matter: small documents compress well."""
PART_BYTES = 64_000_000
"""The most bytes one part that is read may unpack to."""
TAGS = 4_000_000
"""The most tags a part may have; a thousand pages take about a million."""
CHUNK = 1 << 16
OFFICE_97 = b"\xd0\xcf\x11\xe0"


class Program(NamedTuple):
    """What a package is named by where it cannot be read: its program, its kind and its extension."""

    name: str
    file: str
    extension: str


WORD = Program("Word", "a Word document", ".docx")
EXCEL = Program("Excel", "an Excel workbook", ".xlsx")
POWERPOINT = Program("PowerPoint", "a PowerPoint presentation", ".pptx")


class Package:
    """The parts of a file that ``program`` wrote.

    Raises:
        DocumentError: it is no zip file, or would unpack to too much. The message is ``name: reason``, here and below.
    """

    def __init__(self, name: str, data: bytes, program: Program) -> None:
        self.name, self._program = name, program
        if data.startswith(OFFICE_97):
            advice = f"save it as {program.extension} without a password"
            raise self._error(f"is encrypted, or in the format of {program.name} 97; {advice}")
        end = data.rfind(b"PK\5\6")
        if end >= 0 and len(data) - end >= 22 and struct.unpack_from("<I", data, end + 12)[0] > DIRECTORY_BYTES:
            raise self._error("has too many parts")
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self._parts = {info.filename: info for info in self._zip.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
            raise self._error(f"not {program.file} ({error})") from None
        size = sum(info.file_size for info in self._zip.infolist())
        if size > PACKAGE_BYTES or size > max(RATIO_FREE, PACKAGE_RATIO * len(data)):
            raise self._error(f"would unpack to {size / 1e6:,.0f} MB, {size / len(data):,.0f} times its size")

    def __contains__(self, part: str) -> bool:
        return part in self._parts

    def related(self, part: str = "") -> dict[str, str]:
        """Return the parts that ``part`` ("": the package itself) refers to, by the last word of their type."""
        targets: dict[str, str] = {}
        for type, _, target in self._relations(part):
            targets.setdefault(type.rpartition("/")[2], target)
        return targets

    def related_by_id(self, part: str) -> dict[str, str]:
        """Return the parts that ``part`` refers to, by the ids it has for them."""
        return {id: target for _, id, target in self._relations(part)}

    def _relations(self, part: str) -> Iterator[tuple[str, str, str]]:
        folder, base = posixpath.split(part)
        for kind, tag, attributes in self.events(f"{folder}/_rels/{base}.rels".lstrip("/")):
            if kind == "start" and tag == "Relationship" and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", "")))
                yield attributes.get("Type", ""), attributes.get("Id", ""), target.lstrip("/")

    def events(self, part: str) -> Iterator[Event]:
        """Yield the events of an XML part; none where there is no such part.

        Raises:
            DocumentError: it is damaged, too large, or declares a document type.
        """
        info = self._parts.get(part)
        if info is None:
            return
        if info.flag_bits & 1:
            raise self._error("is encrypted with a password; save it without one")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._error(f"{part} is compressed in a way that {self._program.name} does not use")
        if info.file_size > PART_BYTES:
            raise self._error(f"{part} would unpack to {info.file_size / 1e6:,.0f} MB")
        parser, found = self._parser(part)
        size = tags = 0
        try:
            with self._zip.open(info) as stream:
                while chunk := stream.read(CHUNK):
                    size += len(chunk)
                    if size > PART_BYTES:
                        raise self._error(f"{part} unpacks to more than it says")
                    parser.Parse(chunk, False)
                    tags += len(found)
                    if tags > 2 * TAGS:
                        raise self._error(f"{part} has more than {TAGS:,} tags")
                    yield from found
                    found.clear()
                parser.Parse(b"", True)
                yield from found
        except (zipfile.BadZipFile, zlib.error, expat.ExpatError, NotImplementedError, EOFError, OSError) as error:
            raise self._error(f"{part} is damaged ({error})") from None

    def _parser(self, part: str) -> tuple[expat.XMLParserType, list[Event]]:
        """A parser, and the list to which it adds what it finds."""
        found: list[Event] = []
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True

        def start(name: str, attributes: dict[str, str]) -> None:
            plain = {_local(key): value for key, value in attributes.items()}
            found.append(("start", name.rpartition(" ")[2], plain))

        def refuse(*_: object) -> None:
            raise self._error(f"{part} declares a document type, which {self._program.name} never does")

        parser.StartElementHandler = start
        parser.EndElementHandler = lambda name: found.append(("end", name.rpartition(" ")[2], {}))
        parser.CharacterDataHandler = lambda text: found.append(("text", text, {}))
        parser.StartDoctypeDeclHandler = refuse
        return parser, found

    def _error(self, reason: str) -> DocumentError:
        return DocumentError(f"{self.name}: {reason}")


def _local(name: str) -> str:
    namespace, _, local = name.rpartition(" ")
    return f"r:{local}" if namespace.endswith("/relationships") else local


def core_title(events: Iterable[Event]) -> str:
    """The title in a document's core properties, "" where there is none."""
    inside, title = False, ""
    for kind, value, _ in events:
        if kind == "text":
            title += value if inside else ""
        elif value == "title":
            inside = kind == "start"
    return " ".join(title.split())
