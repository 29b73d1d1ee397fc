"""PowerPoint presentations made to order."""

from __future__ import annotations

from collections.abc import Sequence

from docx_files import OFFICE, package, relations

P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
D = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
SECTIONS = '<p:extLst><p:section name="One"><p:sldIdLst><p:sldId id="256"/></p:sldIdLst></p:section></p:extLst>'
SPACES = f'xmlns:p="{P}" xmlns:a="{A}" xmlns:r="{OFFICE}" xmlns:d="{D}"'


def body(*lines: str) -> str:
    """Paragraphs; each leading blank of a line is a level."""
    items = [(len(line) - len(line.lstrip(" ")), line.strip(" ")) for line in lines]
    return "".join(f'<a:p><a:pPr lvl="{level}"/><a:r><a:t>{text}</a:t></a:r></a:p>' for level, text in items)


def shape(*lines: str, placeholder: str | None = None) -> str:
    kind = "" if placeholder is None else f'<p:ph type="{placeholder}"/>' if placeholder else '<p:ph idx="1"/>'
    return f"<p:sp><p:nvSpPr><p:nvPr>{kind}</p:nvPr></p:nvSpPr><p:txBody>{body(*lines)}</p:txBody></p:sp>"


def table(*rows: Sequence[str]) -> str:
    cells = ["".join(f"<a:tc><a:txBody>{body(cell)}</a:txBody></a:tc>" for cell in row) for row in rows]
    return f"<p:graphicFrame><a:tbl>{''.join(f'<a:tr>{row}</a:tr>' for row in cells)}</a:tbl></p:graphicFrame>"


def slide(*shapes: str, show: str = "1") -> str:
    return f'<p:sld {SPACES} show="{show}"><p:cSld><p:spTree>{"".join(shapes)}</p:spTree></p:cSld></p:sld>'


def pptx(*slides: str, notes: str = "", diagram: str = "", title: str = "", order: Sequence[int] = ()) -> bytes:
    """A presentation of ``slides``, shown in ``order``; the first has ``notes`` and the ``diagram``."""
    order = order or range(len(slides))
    # Ids of two kinds, whose order is left to who writes them.
    listed = "".join(f'<p:sldId r:id="r{place}" id="{256 + place}"/>' for place in order)
    parts = {
        "_rels/.rels": relations(officeDocument="ppt/presentation.xml", core="docProps/core.xml"),
        "docProps/core.xml": f'<c:core xmlns:c="urn:c" xmlns:dc="urn:dc"><dc:title>{title}</dc:title></c:core>',
        "ppt/presentation.xml": (
            f"<p:presentation {SPACES}><p:sldIdLst>{listed}</p:sldIdLst>{SECTIONS}</p:presentation>"
        ),
        "ppt/_rels/presentation.xml.rels": relations(
            **{f"slide{place}": f"slides/slide{place}.xml" for place in range(len(slides))}
        ),
        "ppt/slides/_rels/slide0.xml.rels": relations(notesSlide="../notes.xml", diagramData="../data.xml"),
        "ppt/notes.xml": f"<p:notes {SPACES}>{notes}</p:notes>",
        "ppt/data.xml": f"<d:dataModel {SPACES}>{diagram}</d:dataModel>",
    }
    parts |= {f"ppt/slides/slide{place}.xml": text for place, text in enumerate(slides)}
    return package(parts)
