"""A folder of files that are broken, enormous or malicious, made by code; some point at a canary outside of it."""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from docx_files import package, paragraph, part, parts, relations
from pdf_files import lines, page_of, pdf, raw_pdf, stream
from xlsx_files import workbook

Content = bytes | str
MB = 1_000_000
CANARY = "canaryoutsideoftheroot"
KNOWN = "lighthousekeeper"
"""A word of a harmless file, which must be found."""
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x1b[31m"


def build(root: Path, outside: Path) -> None:
    """Fill ``root``; ``outside`` gets what must not be read."""
    outside.mkdir(parents=True)
    (outside / "secret.md").write_text(f"# Secret\n\n{CANARY}\n")
    (outside / "secret.xml").write_text(part("document", f"<w:body>{paragraph(CANARY)}</w:body>"))
    (outside / "secret.csv").write_text(f"id,text\n1,{CANARY}\n")
    root.mkdir(parents=True)
    (root / "harmless.md").write_text(f"# Lights\n\nThe {KNOWN} tends the lamp.\n")
    for folder, files in (
        ("text", text_files(outside)),
        ("markdown", markdown_files()),
        ("rst", rst_files(outside)),
        ("html", html_files(outside)),
        ("records", record_files()),
        ("pdf", pdf_files()),
        ("docx", docx_files(outside)),
        ("xlsx", xlsx_files()),
    ):
        (root / folder).mkdir()
        for name, content in files:
            data = content.encode() if isinstance(content, str) else content
            (root / folder / name).write_bytes(data)
    odd_places(root / "places", outside)


def change(root: Path) -> None:
    """What happens to files between the walk and the reading."""
    (root / "places/zz-vanishes.txt").unlink()
    (root / "places/zz-grows.txt").write_text("It grew. " * 1000)
    (root / "places/zz-becomes-a-folder.txt").unlink()
    (root / "places/zz-becomes-a-folder.txt").mkdir()


def text_files(outside: Path) -> Iterator[tuple[str, Content]]:
    noise = random.Random(7).randbytes(200_000)
    yield "noise.txt", noise
    yield "picture.md", b"\x89PNG\r\n\x1a\n" + noise
    yield "program", b"\x7fELF" + noise
    yield "packed.html", gzip.compress(noise)
    yield "nothing.txt", b""
    yield "zeros.txt", bytes(3 * MB)
    yield "nul.txt", b"before\0after\n"
    yield "space.txt", " \n\t\r\n" * 100_000
    yield "invisible.txt", "\u00a0\u2003\u3000\ufeff\u200b\n" * 100
    yield "latin1.txt", "caf\xe9 cr\xe8me br\xfbl\xe9e, d\xe9j\xe0 vu.\n".encode("latin-1")
    yield "shiftjis.txt", "灯台の管理人がランプを守る。\n".encode("shift-jis")
    yield "utf16-marked.txt", "sixteen bits".encode("utf-16")
    yield "utf16-unmarked.txt", "sixteen bits".encode("utf-16-le")
    yield "utf16-cut.txt", "sixteen bits".encode("utf-16")[:-1]
    yield "utf16-lone.txt", b"\xff\xfe" + "\ud800x".encode("utf-16-le", "surrogatepass")
    yield "utf32.txt", "thirty-two bits".encode("utf-32")
    yield "utf7.txt", b"+AGEAbABl- seven bits"
    yield "mark.txt", b"\xef\xbb\xbf"
    yield "marks.txt", b"\xef\xbb\xbf" * 1000 + b"text"
    yield "overlong.txt", b"a\xc0\xafb\xe0\x80\xafc"
    yield "surrogates.txt", b"a\xed\xa0\x80b\xed\xb0\x80c"
    yield "escapes.txt", f"{ESCAPES}\u202eright to left\u2066 {outside}\n" * 10
    yield "combining.txt", "e" + "\u0301" * 200_000
    yield "one-line.txt", "megabytes on one line " * 100_000
    yield "one-word.txt", "x" * (10 * MB)
    yield "one-line.md", "*much* markup `on` one [line](x) " * 30_000
    yield "many-lines.txt", "a\n" * 100_000
    yield "many-paragraphs.txt", "a b\n\n" * 20_000
    yield "many-headings.txt", "".join(f"{number}. Title\n\nText.\n\n" for number in range(10_000))
    yield "capitals.txt", "HEADING IN CAPITALS\n\n" * 2_000
    yield "underlined.txt", "=" * MB + "\nTitle\n" + "=" * MB
    yield "carriage-returns.txt", "old\rmac\r" * 10_000
    yield "no-sentence.txt", "word, " * 60_000
    yield "dots.txt", "." * MB
    yield "quotes.txt", "." + "\"'”’)]" * 300_000


def markdown_files() -> Iterator[tuple[str, Content]]:
    yield "headings.md", "".join(f"# Heading {number}\n" for number in range(8_000))
    yield "six-levels.md", "".join(f"{'#' * (1 + number % 6)} H\n\ntext\n\n" for number in range(5_000))
    yield "long-heading.md", "# " + "word " * 200_000
    yield "list.md", "- " * 5000 + "deep\n"
    yield "indented-list.md", "".join("  " * depth + "- item\n" for depth in range(700))
    yield "quote.md", ">" * 50_000 + " deep\n"
    yield "brackets.md", "# " + "[" * 20_000 + "\n"
    yield "links.md", "# " + "[a](" * 5_000 + "\n"
    yield "images.md", "# " + "![" * 5_000 + "](x)" * 5_000 + "\n"
    yield "emphasis.md", "# " + "*a _b " * 10_000 + "\n"
    yield "ticks.md", "# " + "".join("`" * length + " " for length in range(1, 1500)) + "\n"
    yield "fence.md", "```\n" + "never closed\n" * 30_000
    yield "table.md", "|" + "a|" * 30_000 + "\n|" + "-|" * 30_000 + "\n|" + "b|" * 300_000 + "\n"
    yield "rows.md", "|a|b|\n|-|-|\n" + "|c|d|\n" * 10_000
    yield "definitions.md", "".join(f"[label{number}]: /x\n" for number in range(10_000)) + "\n# [label1]\n"
    yield "comment.md", "<!-- " * 20_000 + "\n\ntext\n"
    yield "tags.md", "<a " * 50_000 + "\n\ntext\n"
    yield "entities.md", "# " + "&amp;" * 20_000 + "\n"
    yield "rules.md", "---\n" * 20_000
    yield "front-open.md", "---\n" + "key: value\n" * 20_000
    anchors = "".join(f"{chr(97 + n)}: &{chr(97 + n)} [{', '.join([f'*{chr(96 + n)}'] * 9)}]\n" for n in range(1, 9))
    yield "front-bomb.md", f"---\na: &a [x, x]\n{anchors}title: *i\n---\n# Title\n\ntext\n"
    yield "front-deep.md", "---\ntitle: " + "[" * 20_000 + "\n---\ntext\n"
    yield "front-code.md", '---\ntitle: !!python/object/apply:os.system ["touch owned"]\n---\ntext\n'


def rst_files(outside: Path) -> Iterator[tuple[str, Content]]:
    yield (
        "include.rst",
        (
            f"Title\n=====\n\n.. include:: {outside}/secret.md\n\n.. include:: ../../outside/secret.md\n\n"
            f".. raw:: html\n   :file: {outside}/secret.md\n\n.. csv-table:: t\n   :file: {outside}/secret.csv\n\n"
            f".. literalinclude:: {outside}/secret.md\n\n.. raw:: html\n   :url: file://{outside}/secret.md\n\ntext\n"
        ),
    )
    yield "substitutions.rst", "\n".join(f".. |s{n}| replace:: |s{n + 1}| |s{n + 1}|" for n in range(40)) + "\n\n|s0|\n"
    yield "circle.rst", ".. |a| replace:: |b|\n.. |b| replace:: |a|\n\n|a|\n\n.. _x: y_\n.. _y: x_\n\nx_\n"
    yield "sections.rst", "".join(f"Title {number}\n=========\n\ntext\n\n" for number in range(500))
    yield "levels.rst", "".join(f"Title\n{mark * 5}\n\n" for mark in "=-~^\"'`#*+.:_")
    yield "list.rst", "".join("  " * depth + "- item\n\n" for depth in range(120))
    yield "deep-list.rst", "- " * 2000 + "x\n"
    yield "quote.rst", "".join(" " * depth + "deeper\n\n" for depth in range(600))
    yield "inline.rst", "`a *b **c ``d |e " * 3000 + "\n"
    yield "table.rst", "+" + "-+" * 800 + "\n|" + "a|" * 800 + "\n+" + "-+" * 800 + "\n"
    yield "directives.rst", ".. unknown::\n\n" * 1000
    yield "adornment.rst", "=" * 300_000 + "\n" + "T" * 10 + "\n" + "=" * 300_000 + "\n"
    yield "footnotes.rst", "".join(f".. [#] note {number}\n" for number in range(1000)) + "\n[#]_\n"


def html_files(outside: Path) -> Iterator[tuple[str, Content]]:
    yield "nested.html", "<div>" * 20_000 + "deep" + "</div>" * 20_000
    yield "unclosed.html", "<p><b><i><ul><li>" * 4_000 + "text"
    yield "tables.html", "<table><tr><td>" * 5000 + "cell"
    yield "columns.html", "<table><tr>" + "<td>a</td>" * 30_000 + "</tr></table>"
    yield "brackets.html", "<" * (2 * MB)
    yield "comments.html", "<!--" * 100_000 + "text"
    yield "declarations.html", "<![CDATA[" * 20_000 + "text" + "<!x[" * 20_000
    yield "instructions.html", "<?" * 200_000 + "text"
    yield "attribute.html", f'<p title="{"x" * (5 * MB)}">text</p>'
    yield "attributes.html", "<p " + " ".join(f"a{number}=1" for number in range(100_000)) + ">text</p>"
    yield "quote.html", "<p title='" + "<p>" * 20_000
    yield "entities.html", "<p>" + "&amp;&#x41;&nosuch;&" * 100_000
    yield "bomb.html", '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><p>&b;</p>'
    yield (
        "outside.html",
        (
            f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{outside}/secret.md">]><p>&e; text</p>'
            f'<iframe src="file://{outside}/secret.md"></iframe><object data="../../outside/secret.md"></object>'
            f'<link rel="import" href="file://{outside}/secret.md"><p>end</p>'
        ),
    )
    yield "script.html", "<p>text</p><script>" + "while(1);" * 100_000
    yield "headings.html", "<h1>Heading</h1>" * 2_000
    yield "picture.html", '<p>text</p><img src="data:image/png;base64,' + "A" * (5 * MB) + '">'
    yield "ends.html", "</div>" * 60_000 + "text"
    yield "charset.html", b'<meta charset="utf-7"><p>+ADw-script+AD4- text</p>'


def record_files() -> Iterator[tuple[str, Content]]:
    yield "deep.jsonl", "[" * 200_000 + "\n" + '{"a":' * 200_000 + "\n"
    yield "deep.json", "[" * 200_000
    yield "number.jsonl", '{"id": 1, "text": ' + "9" * 100_000 + "}\n"
    yield "surrogate.jsonl", '{"id": "a\\ud800b", "text": "c\\udfffd"}\n{"id": "\\u0000", "text": "x"}\n'
    yield "ids.jsonl", '{"id": "same", "text": "one"}\n' * 1000
    long = json.dumps({"id": "i" * MB, "title": "t" * MB, "text": "text"})
    yield "long-id.jsonl", long + "\n"
    yield "escapes.jsonl", json.dumps({"id": f"a\n{ESCAPES}b", "title": ESCAPES, "text": f"{ESCAPES} text"}) + "\n"
    yield "large.jsonl", json.dumps({"id": "large", "text": "one megabyte " * 70_000}) + "\n"
    yield "values.jsonl", '{"text": null}\n{"text": {"a": 1}}\n[]\n1\n"x"\nNaN\n{}\n{"text": ""}\n'
    yield "keys.jsonl", json.dumps({f"key{number}": "v" for number in range(20_000)} | {"text": "t"}) + "\n"
    yield "many.jsonl", "".join(f'{{"id": "r{number}", "text": "t"}}\n' for number in range(3000))
    yield "broken.json", '{"a": [1, 2'
    yield "field.csv", 'id,text\n1,"' + "ten-megabytes," * 700_000 + '"\n'
    yield "open-quote.csv", 'id,text\n1,"' + "never closed\n" * 50_000
    yield "columns.csv", ",".join(f"c{number}" for number in range(30_000)) + "\n" + "1," * 30_000 + "\n"
    yield "wide-row.csv", "id,text\n1,a" + ",b" * MB + "\n"
    yield "quotes.csv", "id,text\n" + '"' * MB + "\n"
    yield "nul.csv", b"id,text\n1,a\0b\n"
    yield "header.csv", "id,text\n"
    yield "no-text.csv", "x,y\n1,2\n"
    yield "ragged.csv", "id,text\n1\n2,a,b,c\n\n,\n3,ok\n"
    yield "separators.csv", ",;\t|" * 60_000 + "\n"
    yield "tabs.tsv", "id\ttext\n1\t" + '"' * MB + "\n"


def pdf_files() -> Iterator[tuple[str, Content]]:
    good = pdf(lines("The pilot boards at dawn.", "He takes the helm."), lines("And leaves."))
    yield "password.pdf", pdf(lines("secret"), password="secret")
    yield "empty-password.pdf", pdf(lines("open to all"), password="")
    yield "half.pdf", good[: len(good) // 2]
    yield "head.pdf", good[:20]
    yield "no-head.pdf", good[20:]
    yield "noise-after.pdf", good + random.Random(3).randbytes(50_000)
    for seed in range(6):
        yield f"mutated-{seed}.pdf", _mutated(good, seed)
    yield "no-pages.pdf", raw_pdf(b"<< /Type /Catalog >>")
    yield "scan.pdf", page_of(stream(b"q 612 0 0 792 0 0 cm Q"))
    yield (
        "tree-circle.pdf",
        raw_pdf(
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [2 0 R 3 0 R] /Count 2 /Parent 3 0 R >>",
            b"<< /Type /Pages /Kids [2 0 R] /Count 1 /Parent 2 0 R >>",
        ),
    )
    yield (
        "same-page.pdf",
        page_of(stream(b"BT /F1 9 Tf 9 9 Td (again) Tj ET")).replace(
            b"/Kids [3 0 R]", b"/Kids [" + b"3 0 R " * 100 + b"]"
        ),
    )
    form = b"/Type /XObject /Subtype /Form /Resources << /XObject << /X 5 0 R >> >>"
    yield (
        "form-circle.pdf",
        page_of(stream(b"/X Do"), stream(b"/X Do /X Do", form), resources=b"/XObject << /X 5 0 R >>"),
    )
    yield (
        "forms.pdf",
        page_of(stream(b"/X Do " * 5_000), stream(b"BT (x) Tj ET", form), resources=b"/XObject << /X 5 0 R >>"),
    )
    yield (
        "outline-circle.pdf",
        page_of(
            stream(b"BT /F1 9 Tf 9 9 Td (text) Tj ET"),
            b"<< /Type /Outlines /First 6 0 R /Last 6 0 R >>",
            b"<< /Title (a) /Next 7 0 R /First 5 0 R /Dest [3 0 R /Fit] >>",
            b"<< /Title (b) /Next 6 0 R /First 6 0 R /Dest [3 0 R /Fit] >>",
        ),
    )
    yield "reference-circle.pdf", page_of(b"5 0 R", b"6 0 R", b"5 0 R")
    yield "previous-circle.pdf", page_of(stream(b"BT (x) Tj ET"), trailer=b"/Prev 9")
    packed = zlib.compress(bytes(100 * MB), 1)
    yield "bomb.pdf", page_of(stream(packed, b"/Filter /FlateDecode"))
    yield "double-bomb.pdf", page_of(stream(zlib.compress(packed), b"/Filter [/FlateDecode /FlateDecode]"))
    yield "spaces.pdf", page_of(stream(zlib.compress(b" " * (5 * MB)), b"/Filter /FlateDecode"))
    yield "filters.pdf", page_of(stream(b"x", b"/Filter [" + b"/ASCIIHexDecode " * 1000 + b"]"))
    yield "runs.pdf", page_of(stream(b"\x81a" * 500_000 + b"\x80", b"/Filter /RunLengthDecode"))
    yield "lzw.pdf", page_of(stream(random.Random(5).randbytes(100_000), b"/Filter /LZWDecode"))
    yield "states.pdf", page_of(stream(b"q " * 60_000 + b"BT /F1 9 Tf (x) Tj ET"))
    yield "letters.pdf", page_of(stream(b"BT /F1 9 Tf " + b"1 0 Td (x) Tj " * 8_000 + b"ET"))
    yield "array.pdf", page_of(stream(b"BT /F1 9 Tf [" + b"(x) 1 " * 60_000 + b"] TJ ET"))
    yield "nested.pdf", page_of(stream(b"[" * 100_000 + b"] TJ"))
    yield "nested-object.pdf", page_of(b"[" * 100_000)
    yield "nested-dictionary.pdf", page_of(b"<< /A " * 50_000)
    yield "string.pdf", page_of(stream(b"BT /F1 9 Tf (" + b"(" * 200_000 + b") Tj ET"))
    yield "length.pdf", page_of(stream(b"BT /F1 9 Tf (x) Tj ET", length=-5))
    yield "huge-length.pdf", page_of(stream(b"BT /F1 9 Tf (x) Tj ET", length=2**40))
    yield "number.pdf", page_of(stream(b"BT /F1 " + b"9" * 5000 + b" Tf 1e999 0 Td (x) Tj ET"))
    codes = b"".join(b"<%04x> <%04x>\n" % (code, code) for code in range(60_000))
    cmap = zlib.compress(b"begincmap\n60000 beginbfchar\n" + codes + b"endbfchar\nendcmap", 9)
    yield (
        "characters.pdf",
        page_of(stream(b"BT /F2 9 Tf (x) Tj ET"), stream(cmap, b"/Filter /FlateDecode")).replace(
            b"/BaseFont /Helvetica >>", b"/BaseFont /Helvetica /ToUnicode 5 0 R >> /F2 << /Type /Font >>"
        ),
    )


def _mutated(data: bytes, seed: int) -> bytes:
    chance = random.Random(seed)
    changed = bytearray(data)
    for _ in range(40):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def docx_files(outside: Path) -> Iterator[tuple[str, Content]]:
    good = package(parts(paragraph("The pilot boards at dawn.")))

    def with_main(main: Content) -> bytes:
        return package({**parts(""), "word/document.xml": main})

    yield "bomb.docx", with_main(bytes(100 * MB))
    yield "text-bomb.docx", with_main(part("document", paragraph("a" * (60 * MB))))
    yield "media-bomb.docx", package({**parts(paragraph("x")), "word/media/a.png": bytes(100 * MB)})
    size = len(part("document", paragraph("a" * MB)))
    lie = with_main(part("document", paragraph("a" * MB)))
    yield "lie.docx", lie.replace(size.to_bytes(4, "little"), (900).to_bytes(4, "little"))
    yield "parts.docx", _many_parts(70_000)
    yield "half.docx", good[: len(good) // 2]
    yield "mutated.docx", _mutated(good, 1)
    yield "noise.docx", random.Random(9).randbytes(100_000)
    yield "word97.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)
    yield "text.docx", "This is no zip file at all."
    yield "empty-zip.docx", package({})
    yield "no-text.docx", package(parts(""))
    locked = bytearray(good)
    for place in range(len(locked) - 4):
        if locked[place : place + 4] in (b"PK\3\4", b"PK\1\2"):
            locked[place + (6 if locked[place + 2] == 3 else 8)] |= 1
    yield "locked.docx", bytes(locked)
    main = part("document", f"<w:body>{paragraph('&lol;')}</w:body>")
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    for name, entity in (
        ("entities", f'<!ENTITY l0 "ha">{entities}<!ENTITY lol "&l9;">'),
        ("external", f'<!ENTITY lol SYSTEM "file://{outside}/secret.md">'),
    ):
        yield f"{name}.docx", with_main(main.replace("?>", f"?><!DOCTYPE x [{entity}]>", 1))
    yield (
        "relation.docx",
        package({**parts(paragraph("x")), "_rels/.rels": relations(officeDocument=f"file://{outside}/secret.xml")}),
    )
    up = relations(officeDocument="../../../../../outside/secret.xml")
    yield "relation-up.docx", package({**parts(paragraph("x")), "_rels/.rels": up})
    yield "nested.docx", with_main(part("document", "<w:p>" * 200_000))
    yield "tables.docx", with_main(part("document", "<w:tbl><w:tr><w:tc>" * 50_000 + paragraph("x")))
    yield (
        "columns.docx",
        with_main(
            part(
                "document", f"<w:tbl><w:tr>{'<w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc>' * 20_000}</w:tr></w:tbl>"
            )
        ),
    )
    yield "tags.docx", with_main(part("document", "<w:r/>" * 100_000))
    circle = "".join(
        f'<w:style w:type="paragraph" w:styleId="s{n}"><w:basedOn w:val="s{(n + 1) % 50}"/></w:style>'
        for n in range(50)
    )
    yield "styles.docx", package(parts(paragraph("x", "s1"), styles=circle))
    counting = '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:lvlText w:val="' + "%1%9" * 20 + '"/></w:lvl>'
    counting += '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    item = paragraph("x", properties='<w:numPr><w:ilvl w:val="99999999999"/><w:numId w:val="1"/></w:numPr>')
    yield "numbers.docx", package(parts(item * 1000, numbering=counting))
    yield "characters.docx", with_main(main.replace("&lol;", "&#xFFFE;&#8238;a&#x200B;"))
    yield "utf16.docx", with_main(part("document", paragraph("wide")).replace("UTF-8", "UTF-16").encode("utf-16"))


def _many_parts(count: int) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", allowZip64=True) as file:
        for number in range(count):
            file.writestr(f"{number:x}", b"")
    return buffer.getvalue()


def odd_places(root: Path, outside: Path) -> None:
    """Names, links and kinds of files that a careless walk would stumble over."""
    root.mkdir()
    for name in ("new\nline.md", f"{ESCAPES}.md", "-rf.md", " .md", "'\"$(x);&.md", "\u202egnp.md", "n" * 250 + ".md"):
        (root / name).write_text(f"Text of an odd name.\n\n{name}\n")
    for name in (b"\xff\xfe.md", b"caf\xe9.txt", b"\xed\xa0\x80.md"):
        (Path(os.fsdecode(os.fsencode(root) + b"/" + name))).write_text("Not UTF-8 in its name.\n")
    (root / "same.md").write_text("Upper and lower.\n")
    (root / "SAME.md").write_text("Upper and lower, again.\n")
    (root / "folder.md").mkdir()
    (root / "folder.md/inner.md").write_text("A folder that is named as a file.\n")
    deep = root
    for _ in range(150):
        deep = deep / "deeper"
    deep.mkdir(parents=True)
    (deep / "bottom.md").write_text("At the bottom.\n")
    with (root / "sparse.txt").open("wb") as file:
        file.truncate(500 * MB)
    links: dict[str, Path | str] = {
        "to-itself.md": "to-itself.md",
        "one.md": "two.md",
        "two.md": "one.md",
        "up": "..",
        "here": ".",
        "nowhere.md": "no/such/file.md",
        "secret.md": outside / "secret.md",
        "secrets": outside,
        "secret-up.md": f"../../{outside.name}/secret.md",
        "system": "/etc",
        "root": "/",
        "memory.txt": "/proc/self/mem",
        "zero.txt": "/dev/zero",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    os.link(root / "same.md", root / "hard-link.md")
    os.mkfifo(root / "pipe.txt")
    here = os.getcwd()
    try:
        os.chdir(root)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.txt")
    finally:
        os.chdir(here)
    (root / "unreadable.md").write_text("Nobody may read this.\n")
    (root / "unreadable.md").chmod(0)
    (root / "closed").mkdir()
    (root / "closed/inner.md").write_text("In a closed folder.\n")
    (root / "closed").chmod(0)
    for name in ("vanishes", "grows", "becomes-a-folder"):
        (root / f"zz-{name}.txt").write_text("As it was at first.\n")


def open_again(root: Path) -> None:
    """Make everything deletable."""
    (root / "places/closed").chmod(0o700)


def xlsx_files() -> Iterator[tuple[str, Content]]:
    header = "<row><c t='str'><v>code</v></c><c t='str'><v>text</v></c></row>"
    good = workbook(f"{header}<row><c t='str'><v>A-1</v></c><c t='str'><v>The pilot boards.</v></c></row>")
    yield "half.xlsx", good[: len(good) // 2]
    yield "mutated.xlsx", _mutated(good, 3)
    yield "text.xlsx", "code,text"
    yield "excel97.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)
    yield "bomb.xlsx", workbook("<row><c><v>1</v></c></row>" * 2 * MB)
    far = "".join(f'<row><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 2000))
    yield "wide.xlsx", workbook(header + far)
    shared = "<row><c t='s'><v>0</v></c><c t='s'><v>0</v></c></row>" * 1000
    yield "shared.xlsx", workbook(header + shared, strings=f"<si><t>{'a' * MB}</t></si>")
    yield "listed.xlsx", workbook(header + shared, strings=f"<si><t>{'a' * MB}</t></si>", times=1000)
    brackets = f'<numFmts><numFmt numFmtId="170" formatCode="{"[" * 40_000}"/></numFmts><cellXfs><xf numFmtId="170"/>'
    yield "format.xlsx", workbook("<row><c s='0'><v>1</v></c></row>" * 5000, cell_formats=f"{brackets}</cellXfs>")
    yield (
        "numbers.xlsx",
        workbook(f"{header}<row><c t='s'><v>{'9' * 6000}</v></c><c s='{'9' * 6000}'><v>1</v></c></row>"),
    )
    yield "controls.xlsx", workbook(f"{header}<row><c t='str'><v>_x0000_</v></c><c t='str'><v>_xD800_ a</v></c></row>")
