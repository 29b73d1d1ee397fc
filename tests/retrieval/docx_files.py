"""Word documents made to order."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
CORE_TYPE = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"


def relations(**targets: str) -> str:
    items = "".join(
        f'<Relationship Id="r{number}" Type="{CORE_TYPE if kind == "core" else f"{OFFICE}/{kind}"}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets.items())
    )
    return f'<Relationships xmlns="{PACKAGE_RELATIONS}">{items}</Relationships>'


def part(root: str, inner: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><w:{root} xmlns:w="{W}">{inner}</w:{root}>'


def paragraph(text: str, style: str = "", properties: str = "", run: str = "") -> str:
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    return f"<w:p><w:pPr>{named}{properties}</w:pPr><w:r><w:rPr>{run}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


def parts(body: str, *, styles: str = "", numbering: str = "", footnotes: str = "", title: str = "") -> dict[str, str]:
    """The parts of a document with ``body``; the others are what goes within the root of each part."""
    core = f'<c:coreProperties xmlns:c="urn:c" xmlns:dc="urn:dc"><dc:title>{title}</dc:title></c:coreProperties>'
    return {
        "_rels/.rels": relations(officeDocument="word/document.xml", core="docProps/core.xml"),
        "docProps/core.xml": core,
        "word/_rels/document.xml.rels": relations(
            styles="styles.xml", numbering="numbering.xml", footnotes="footnotes.xml"
        ),
        "word/styles.xml": part("styles", styles),
        "word/numbering.xml": part("numbering", numbering),
        "word/footnotes.xml": part("footnotes", footnotes),
        "word/document.xml": part("document", f"<w:body>{body}</w:body>"),
    }


def package(contents: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return buffer.getvalue()


def docx(body: str, **other: str) -> bytes:
    """A document with ``body``; ``other`` as in ``parts``."""
    return package(parts(body, **other))
