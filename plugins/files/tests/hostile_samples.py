"""Makes files that want to break whoever opens them: bombs, loops, lies, and what is two things at a time."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import samples

MIB = 1024 * 1024
MAIN_PART = b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
MACRO_PART = b"application/vnd.ms-word.document.macroEnabled.main+xml"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def packed(piece: bytes, times: int) -> bytes:
    """A deflated repetition, made piece by piece: what this process takes counts for the children that it starts."""
    compressor = zlib.compressobj(9)
    return b"".join(compressor.compress(piece) for _ in range(times)) + compressor.flush()


# Documents


def pdf_of(*objects: bytes) -> bytes:
    """A PDF of these objects, numbered from 1, without a table of them; the first is the catalog, the second the pages."""
    numbered = (b"%d 0 obj%bendobj\n" % (number, content) for number, content in enumerate(objects, 1))
    return b"%PDF-1.4\n" + b"".join(numbered) + b"trailer<</Root 1 0 R>>\n%%EOF"


def stream(content: bytes, entries: bytes = b"") -> bytes:
    """An object with content."""
    return b"<<%b/Length %d>>stream\n%b\nendstream " % (entries, len(content), content)


CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
ONE_PAGE = b"<</Type/Pages/Count 1/Kids[3 0 R]>>"


def page(entries: bytes = b"") -> bytes:
    """A page."""
    return b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 100 100]%b>>" % entries


def flate_bomb_pdf(times: int = 512) -> bytes:
    """A page whose content unpacks to so many mebibytes of spaces."""
    content = stream(packed(b" " * MIB, times), b"/Filter/FlateDecode")
    return pdf_of(CATALOG, ONE_PAGE, page(b"/Contents 4 0 R"), content)


def twice_packed_pdf() -> bytes:
    """Two kilobytes that unpack to a mebibyte, and that to a gibibyte."""
    content = stream(zlib.compress(packed(b" " * MIB, 1024), 9), b"/Filter[/FlateDecode/FlateDecode]")
    return pdf_of(CATALOG, ONE_PAGE, page(b"/Contents 4 0 R"), content)


def pdf_with_picture(content: bytes, filter_name: bytes) -> bytes:
    """A page with a picture of 50,000 × 50,000 pixels."""
    place = stream(b"100 0 0 100 0 0 cm /I Do")
    entries = b"/Subtype/Image/Width 50000/Height 50000/ColorSpace/DeviceGray/BitsPerComponent 1/Filter/" + filter_name
    resources = b"/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>>>"
    return pdf_of(CATALOG, ONE_PAGE, page(resources), place, stream(content, entries))


def jbig2_pdf() -> bytes:
    """The same, of a few bytes in JBIG2: the page's header, and a region as large as the page."""
    header = struct.pack(">IBBIIIIIBH", 0, 0x30, 1, 19, 50_000, 50_000, 0, 0, 0, 0)
    region = struct.pack(">IIIIBB", 50_000, 50_000, 0, 0, 0, 0) + b"\x03\xff\xfd\xff\x02\xfe\xfe\xfe" + bytes(16)
    return pdf_with_picture(header + struct.pack(">IBBI", 1, 38, 1, len(region)) + region, b"JBIG2Decode")


def looping_pdf() -> bytes:
    """The tree of pages contains itself, and a page is as large as a country."""
    pages = b"<</Type/Pages/Kids[2 0 R 3 0 R]/Count 2000000000>>"
    return pdf_of(CATALOG, pages, b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 1e9 1e9]>>")


def drawing_loop_pdf() -> bytes:
    """Drawings that draw each other twenty times each, in a circle."""
    draw = b"/F Do " * 20
    entries = b"/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F %d 0 R>>>>"
    forms = [stream(draw, entries % after) for after in (6, 7, 8, 5)]
    resources = b"/Contents 4 0 R/Resources<</XObject<</F 5 0 R>>>>"
    return pdf_of(CATALOG, ONE_PAGE, page(resources), stream(draw), *forms)


def table_loop_pdf() -> bytes:
    """The table of objects names itself as the one before."""
    return b"%PDF-1.4\nxref\n0 1\n0000000000 65535 f \ntrailer<</Root 1 0 R/Size 1/Prev 9>>\nstartxref\n9\n%%EOF"


def pdf_with_deep_pages(depth: int = 50_000) -> bytes:
    """Each node of the tree has one child."""
    nodes = [b"<</Type/Pages/Count 1/Kids[%d 0 R]>>" % (number + 3) for number in range(depth)]
    return pdf_of(CATALOG, *nodes, page())


def pdf_with_many_pages(count: int = 100_000) -> bytes:
    """The same empty page over and over."""
    return pdf_of(CATALOG, b"<</Type/Pages/Count %d/Kids[%b]>>" % (count, b"3 0 R " * count), page())


def docx_with_macros(and_a_harmless_part: bool = False) -> bytes:
    """A document with macros; maybe with another part that is declared as a document without."""
    document = samples.docx_file(["words"])
    with zipfile.ZipFile(io.BytesIO(document)) as archive:
        types = archive.read("[Content_Types].xml").replace(MAIN_PART, MACRO_PART)
    if and_a_harmless_part:
        override = b'<Override PartName="/word/other.xml" ContentType="%b"/></Types>' % MAIN_PART
        types = types.replace(b"</Types>", override)
    return samples.replaced_part(document, "[Content_Types].xml", types)


def docx_of_xml(body: str, before: str = "") -> bytes:
    """A document whose main part has this body."""
    xml = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'
    return samples.replaced_part(samples.docx_file([]), "word/document.xml", xml.encode())


def laughing_docx() -> bytes:
    """Entities of entities, a billion in the end."""
    entities = "".join(f'<!ENTITY l{number} "{f"&l{number - 1};" * 10}">' for number in range(1, 10))
    return docx_of_xml("<w:p><w:r><w:t>&l9;</w:t></w:r></w:p>", f'<!DOCTYPE x [<!ENTITY l0 "ha">{entities}]>')


def deep_docx(depth: int = 200_000) -> bytes:
    """A paragraph in a paragraph in a paragraph."""
    return docx_of_xml("<w:p>" * depth + "</w:p>" * depth)


# Archives


def lying_zip() -> bytes:
    """The directory says that an entry of a mebibyte has one byte."""
    honest = samples.zip_file({"zeros": bytes(MIB)})
    directory = honest.index(b"PK\x01\x02")
    lying = bytearray(honest)
    lying[directory + 24 : directory + 28] = struct.pack("<I", 1)
    return bytes(lying)


def overlapping_zip(times: int = 64) -> bytes:
    """The directory names the same eight mebibytes of zeros many times."""
    one = samples.zip_file({"zeros": bytes(8 * MIB)})
    start, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    record = one[start:end]
    tail = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, times, times, len(record) * times, start, 0)
    return one[:start] + record * times + tail


def zip_of_claims() -> bytes:
    """A few bytes whose end says that there are 65,535 entries."""
    return b"PK\x03\x04" + bytes(30) + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65_535, 65_535, 4000, 0, 0)


# Pictures


def png_with_chunk(kind: bytes, size_mib: int = 500) -> bytes:
    """A small picture with a text, or a profile of its colours, that unpacks to so much."""
    picture, data = samples.image("PNG", (8, 8)), b"a\0\0" + packed(bytes(MIB), size_mib)
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    # Behind the signature and the header.
    return picture[:33] + chunk + picture[33:]


def webp_of_claimed_size(width: int, height: int) -> bytes:
    """A tiny WebP whose header claims any size."""
    canvas = bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas + b"VP8L" + struct.pack("<I", 6) + b"\x2f" + bytes(5)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of_frames(width: int, height: int, frame_side: int, frames: int) -> bytes:
    """A GIF that claims a size, with frames of one colour."""
    frame = b"," + struct.pack("<HHHH", 0, 0, frame_side, frame_side) + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + frame * frames + b";"


def jpeg_of_claimed_size(width: int, height: int) -> bytes:
    """A tiny JPEG whose header claims any size."""
    content = bytearray(samples.image("JPEG", (16, 16)))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)
