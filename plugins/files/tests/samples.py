"""Makes real files of every kind that the tests need: with known words, damaged, locked, or hostile."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache

import docx
import openpyxl
import pptx
from PIL import Image
from pptx.util import Inches
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

A4 = (210 * mm, 297 * mm)
SYMLINK = 0o120777
ENCRYPTED_FLAG = 0x1

SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<!DOCTYPE html><html><script>alert(1)</script></html>"
# A picture by its first bytes, a web page to whoever doesn't look at them.
GIF_HTML = b"GIF89a/*" + HTML + b"*/"
ELF = b"\x7fELF\x02\x01\x01" + bytes(200)
WINDOWS_PROGRAM = b"MZ\x90\0\x03" + bytes(200)
MACH_O = b"\xcf\xfa\xed\xfe\x07\0\0\x01" + bytes(200)
MP3 = b"\xff\xf3\x90\x64" + bytes(400)
MP4 = b"\0\0\0\x18ftypiso6\0\0\0\0iso6mp41" + bytes(400)
WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(400)
WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + bytes(400)


def pdf(pages: Sequence[str], password: str | None = None) -> bytes:
    """A PDF with one line of text on each page; with `password` nobody opens it without."""
    target = io.BytesIO()
    canvas = Canvas(target, pagesize=A4, encrypt=StandardEncryption(password) if password else None)
    for text in pages:
        canvas.drawString(30 * mm, 200 * mm, text)
        canvas.showPage()
    canvas.save()
    return target.getvalue()


def docx_file(paragraphs: Sequence[str], table: Sequence[Sequence[str]] = ()) -> bytes:
    """A Word document: paragraphs, then a table."""
    document = docx.Document()
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    if table:
        grid = document.add_table(rows=len(table), cols=len(table[0]))
        for row, cells in zip(grid.rows, table, strict=True):
            for cell, text in zip(row.cells, cells, strict=True):
                cell.text = text
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def pptx_file(slides: Sequence[str], notes: str = "", table_cell: str = "") -> bytes:
    """A presentation: each slide a title; notes and a table on the first."""
    presentation = pptx.Presentation()
    for title in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = title
    first = presentation.slides[0]
    if notes:
        first.notes_slide.notes_text_frame.text = notes
    if table_cell:
        frame = first.shapes.add_table(1, 1, Inches(1), Inches(2), Inches(3), Inches(1))
        frame.table.cell(0, 0).text = table_cell
    target = io.BytesIO()
    presentation.save(target)
    return target.getvalue()


def xlsx_file(sheets: dict[str, Iterable[Sequence[object]]]) -> bytes:
    """A workbook: rows by the name of their sheet."""
    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(row)
    target = io.BytesIO()
    workbook.save(target)
    return target.getvalue()


def odt_file(body: str, kind: str = "text", before_root: str = "", manifest: str = "<manifest/>") -> bytes:
    """An OpenDocument file of that kind; `body` is XML with the prefixes text, table and draw."""
    names = "".join(
        f' xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for prefix, name in (("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing"))
    )
    content = (
        f'<?xml version="1.0" encoding="UTF-8"?>{before_root}<office:document-content{names}>'
        f"<office:body><office:{kind}>{body}</office:{kind}></office:body></office:document-content>"
    )
    mimetype = f"application/vnd.oasis.opendocument.{kind}"
    return zip_file({"mimetype": mimetype, "META-INF/manifest.xml": manifest, "content.xml": content})


def zip_file(entries: dict[str, str | bytes]) -> bytes:
    """A zip file, its entries deflated."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return target.getvalue()


def made(content: bytes | Callable[[], bytes]) -> bytes:
    """What a test is about. Its cases name what takes seconds to make, like a bomb, by the function that makes it.

    Every test process imports the cases of all tests, but makes only those that it runs.
    """
    return content() if callable(content) else content


def symlink_zip() -> bytes:
    """A zip file with a symbolic link to a file of the machine that unpacks it."""
    link = zipfile.ZipInfo("link")
    link.create_system = 3
    link.external_attr = SYMLINK << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return target.getvalue()


def encrypted_zip() -> bytes:
    """A zip file whose only entry says that it needs a password."""
    data = bytearray(zip_file({"secret.txt": "words"}))
    # The flags stand 6 bytes into the entry's header, 8 bytes into its record in the directory.
    for position in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[position] |= ENCRYPTED_FLAG
    return bytes(data)


@cache
def zip_bomb(size: int = 1 << 30) -> bytes:
    """A zip file with one entry of `size` zero bytes, about a thousandth of that."""
    return _zip_of_repeated("zeros", b"\0" * (1 << 20), size)


@cache
def docx_bomb(size: int = 1 << 30) -> bytes:
    """A Word document with one XML part of `size` bytes, about a thousandth of that."""
    return _inflate(docx_file([]), "word/document.xml", b"<w:body>", b"<w:p/>" * (1 << 18), size)


def docx_memory_bomb() -> bytes:
    """A Word document within the limits on archives that takes over a gigabyte once it is a tree in memory."""
    return _inflate(docx_file([]), "word/document.xml", b"<w:body>", b"<w:p/>" * 10_000, 30 << 20)


def xlsx_processor_bomb() -> bytes:
    """A workbook within the limits on archives that takes many seconds to read."""
    rows = b"<row><c><v>1</v></c></row>" * 10_000
    return _inflate(xlsx_file({"Sheet": []}), "xl/worksheets/sheet1.xml", b"<sheetData>", rows, 30 << 20)


def replaced_part(document: bytes, part_name: str, content: bytes) -> bytes:
    """The office document with other content for one of its parts."""
    with zipfile.ZipFile(io.BytesIO(document)) as original:
        parts: dict[str, str | bytes] = {name: original.read(name) for name in original.namelist()}
    return zip_file({**parts, part_name: content})


def _inflate(document: bytes, part_name: str, after: bytes, chunk: bytes, size: int) -> bytes:
    """The office document with `chunk` many times, `size` bytes in all, behind the tag `after` of one part."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(document)) as original,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in original.namelist():
            content = original.read(name)
            if name != part_name:
                archive.writestr(name, content)
                continue
            # Where the element is empty in the original, it is written as one tag.
            content = content.replace(after.replace(b">", b" />"), after + after.replace(b"<", b"</"))
            before, tag, rest = content.partition(after)
            with archive.open(name, "w") as part:
                part.write(before + tag)
                for _ in range(size // len(chunk)):
                    part.write(chunk)
                part.write(rest)
    return target.getvalue()


def _zip_of_repeated(name: str, chunk: bytes, size: int) -> bytes:
    target = io.BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as entry,
    ):
        for _ in range(size // len(chunk)):
            entry.write(chunk)
    return target.getvalue()


def image(format_name: str = "PNG", size: tuple[int, int] = (800, 400), orientation: int | None = None) -> bytes:
    """A picture, red on the left and blue on the right; `orientation` is the Exif number that says how to turn it."""
    picture = Image.new("RGB", size, "blue")
    picture.paste("red", (0, 0, size[0] // 2, size[1]))
    target = io.BytesIO()
    if orientation is None:
        picture.save(target, format_name)
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010E] = "where I live"
        picture.save(target, format_name, exif=exif)
    return target.getvalue()


PNG_MODES = {
    # Its colour type, and how half a line of 8 pixels is written: red or white on the left, blue or nothing on the right.
    "1": (0, 1, b"\xff", b"\0"),
    "L": (0, 8, b"\xff" * 8, b"\0" * 8),
    "LA": (4, 8, b"\xff\xff" * 8, b"\0\0" * 8),
    "RGB": (2, 8, b"\xff\0\0" * 8, b"\0\0\xff" * 8),
    "RGBA": (6, 8, b"\xff\0\0\xff" * 8, b"\0\0\0\0" * 8),
    "P": (3, 8, b"\0" * 8, b"\1" * 8),
    "P of 1 bit": (3, 1, b"\0", b"\xff"),
    "I;16": (0, 16, b"\xff\xff" * 8, b"\0\0" * 8),
}


def large_png(mode: str, width: int, height: int) -> bytes:
    """A PNG written line by line, so that the test itself takes no memory; the width is a multiple of 16."""
    kind, depth, left, right = PNG_MODES[mode]
    line = b"\0" + left * (width // 16) + right * (width // 16)
    packer = zlib.compressobj(1)
    lines = b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    if kind == 3:
        chunks += [(b"PLTE", b"\xff\0\0\0\0\xff"), (b"tRNS", b"\xff\0")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (*chunks, (b"IDAT", lines), (b"IEND", b""))
    )


def png_of_claimed_size(width: int, height: int) -> bytes:
    """A tiny PNG whose header claims any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )


def compound_file(stream: str) -> bytes:
    """The beginning of a legacy Office file (or of a Windows installer) that names one stream."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + stream.encode("utf-16-le") + bytes(512)
