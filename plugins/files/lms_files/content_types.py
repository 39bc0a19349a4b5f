"""Which types of file are taken, and whether a file's bytes really have the type that was declared."""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from lms_files.filenames import folded
from lms_files.text_encoding import is_text, starts_as_active_document

HEAD_BYTES = 4096
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
COMPOUND_FILE_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ISO_IMAGE_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
# [Content_Types].xml lists every part of a document: kilobytes, even for a workbook with hundreds of sheets.
CONTENT_TYPES_BYTES = 4 * 1024 * 1024
# What makes a document one with macros, and the macros themselves; a workbook with macros inside of it is no such thing.
MACROS = re.compile(rb"macroenabled\.main|vbaproject", re.IGNORECASE)

Check = Callable[[Path, bytes], bool]


def _starts_with(*magic: bytes) -> Check:
    return lambda path, head: head.startswith(magic)


def _riff(kind: bytes) -> Check:
    return lambda path, head: head.startswith(b"RIFF") and head[8:12] == kind


def _matroska(*kinds: bytes) -> Check:
    return lambda path, head: head.startswith(b"\x1a\x45\xdf\xa3") and any(kind in head[:128] for kind in kinds)


def _iso_media(path: Path, head: bytes) -> bool:
    # MP4 and its relatives declare dozens of brands; only the picture formats in the same container are refused.
    return head[4:8] == b"ftyp" and head[8:12] not in ISO_IMAGE_BRANDS


def _quicktime(path: Path, head: bytes) -> bool:
    # Files from before the ftyp box start with one of these.
    return _iso_media(path, head) or head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip")


def _mpeg_audio(path: Path, head: bytes) -> bool:
    # An ID3 tag, or a frame: eleven bits of sync, then layer II or III (layer 0 is AAC, layer I a UTF-16 mark).
    return head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4))


def _aac(path: Path, head: bytes) -> bool:
    return head.startswith(b"ADIF") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0)


def _compound_file(*streams: str) -> Check:
    """Legacy Office: which application wrote it stands in the names of the streams (installers share the magic)."""
    names = [stream.encode("utf-16-le") + b"\0\0" for stream in streams]

    def check(path: Path, head: bytes) -> bool:
        if not head.startswith(COMPOUND_FILE_MAGIC):
            return False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return any(data.find(name) >= 0 for name in names)

    return check


def _zip_entry(path: Path, head: bytes, name: str, limit: int) -> bytes:
    """The first `limit` bytes of an entry, or nothing when this is no zip file or has no such entry."""
    if not head.startswith(ZIP_MAGIC):
        return b""
    try:
        with ZipFile(path) as archive, archive.open(name) as entry:
            return entry.read(limit)
    except (BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError, ValueError):
        # RuntimeError and NotImplementedError: encrypted, or packed in a way that no office program uses.
        return b""


def _open_xml(main_part: str) -> Check:
    # The one part that makes a document, a workbook or a presentation of the package. With macros it is another one.
    declared = f'"application/vnd.openxmlformats-officedocument.{main_part}.main+xml"'.encode()

    def check(path: Path, head: bytes) -> bool:
        types = _zip_entry(path, head, "[Content_Types].xml", CONTENT_TYPES_BYTES).replace(b"'", b'"')
        # Another part may be declared as the harmless one beside it.
        return declared in types and MACROS.search(types) is None

    return check


def _open_document(content_type: str) -> Check:
    return lambda path, head: _zip_entry(path, head, "mimetype", HEAD_BYTES).strip() == content_type.encode()


def _text(path: Path, head: bytes) -> bool:
    # A document that a browser could run is refused even as plain text; so is what has another type's magic bytes.
    if head.startswith((*ZIP_MAGIC, b"%PDF-", b"GIF87a", b"GIF89a")):
        return False
    return is_text(path) and not starts_as_active_document(head)


OOXML = "application/vnd.openxmlformats-officedocument."
DOCX = OOXML + "wordprocessingml.document"
XLSX = OOXML + "spreadsheetml.sheet"
PPTX = OOXML + "presentationml.presentation"
ODF = "application/vnd.oasis.opendocument."
ODT, ODS, ODP, ODG = ODF + "text", ODF + "spreadsheet", ODF + "presentation", ODF + "graphics"

PDF_TYPES = frozenset({"application/pdf", "application/x-pdf"})
OPEN_XML_TYPES = frozenset({DOCX, XLSX, PPTX})
OPEN_DOCUMENT_TYPES = frozenset({ODT, ODS, ODP, ODG})
PLAIN_ZIP_TYPES = frozenset({"application/zip", "application/x-zip-compressed"})
ZIP_TYPES = OPEN_XML_TYPES | OPEN_DOCUMENT_TYPES | PLAIN_ZIP_TYPES
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp"})
HTML_TYPES = frozenset({"text/html"})
TEXT_TYPES = frozenset({"text/plain", "text/csv", "application/csv", "text/markdown", "text/x-markdown"})

_WAV, _FLAC, _OGG = _riff(b"WAVE"), _starts_with(b"fLaC"), _starts_with(b"OggS")
_AVI, _WEBM, _MATROSKA = _riff(b"AVI "), _matroska(b"webm"), _matroska(b"matroska", b"webm")
_MPEG_VIDEO = _starts_with(b"\0\0\1\xba", b"\0\0\1\xb3")
_WINDOWS_MEDIA = _starts_with(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"))

# A table of our own: puremagic 1.30 doesn't know most MP4 brands nor half of the MP3 frames, and answers with guesses.
CHECKS: dict[str, Check] = {
    **dict.fromkeys(PDF_TYPES, _starts_with(b"%PDF-")),
    **dict.fromkeys(PLAIN_ZIP_TYPES, _starts_with(*ZIP_MAGIC)),
    **dict.fromkeys(TEXT_TYPES, _text),
    **dict.fromkeys(HTML_TYPES, lambda path, head: is_text(path)),
    **{content_type: _open_document(content_type) for content_type in OPEN_DOCUMENT_TYPES},
    DOCX: _open_xml("wordprocessingml.document"),
    XLSX: _open_xml("spreadsheetml.sheet"),
    PPTX: _open_xml("presentationml.presentation"),
    "application/msword": _compound_file("WordDocument"),
    "application/vnd.ms-excel": _compound_file("Workbook", "Book"),
    "application/vnd.ms-powerpoint": _compound_file("PowerPoint Document"),
    "image/png": _starts_with(b"\x89PNG\r\n\x1a\n"),
    **dict.fromkeys(("image/jpeg", "image/jpg"), _starts_with(b"\xff\xd8\xff")),
    "image/gif": _starts_with(b"GIF87a", b"GIF89a"),
    "image/webp": _riff(b"WEBP"),
    **dict.fromkeys(("audio/mpeg", "audio/mp3"), _mpeg_audio),
    **dict.fromkeys(("audio/mp4", "audio/x-m4a", "audio/m4a", "audio/3gpp"), _iso_media),
    **dict.fromkeys(("audio/aac", "audio/x-aac"), _aac),
    **dict.fromkeys(("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"), _WAV),
    **dict.fromkeys(("audio/flac", "audio/x-flac"), _FLAC),
    **dict.fromkeys(("audio/ogg", "audio/opus", "audio/vorbis", "application/ogg", "video/ogg"), _OGG),
    **dict.fromkeys(("audio/webm", "video/webm"), _WEBM),
    **dict.fromkeys(("audio/midi", "audio/x-midi"), _starts_with(b"MThd")),
    **dict.fromkeys(("audio/aiff", "audio/x-aiff"), _starts_with(b"FORM")),
    **dict.fromkeys(("audio/x-ms-wma", "video/x-ms-wmv"), _WINDOWS_MEDIA),
    **dict.fromkeys(("video/mp4", "video/x-m4v", "video/3gpp", "video/3gpp2"), _iso_media),
    "video/quicktime": _quicktime,
    **dict.fromkeys(("video/x-msvideo", "video/avi"), _AVI),
    **dict.fromkeys(("video/x-matroska", "audio/x-matroska", "video/matroska"), _MATROSKA),
    "video/mpeg": _MPEG_VIDEO,
}

# HTML can be active in a browser: an institution takes it only when it says so.
DEFAULT_TYPES = frozenset(CHECKS) - HTML_TYPES
HTML_EXTENSIONS = frozenset({"html", "htm"})

# What a browser or an operating system might run when it is opened by its name, whatever type is declared for it.
REFUSED_EXTENSIONS = frozenset(
    """
    html htm xhtml xht shtml mhtml mht hta svg svgz xsl xslt swf
    js mjs cjs jse jsx ts tsx wasm php php3 php4 php5 phtml phar asp aspx jsp jspx cgi
    py pyc pyw pl rb lua sh bash zsh csh ksh fish bat cmd ps1 psm1 psd1 vbs vbe vb wsf wsh wsc sct applescript
    exe dll so dylib com scr msi msp msix appx pif cpl drv sys bin elf run out appimage app dmg pkg deb rpm apk ipa
    jar class lnk url desktop reg inf scf chm hlp gadget docm dotm xlsm xltm xlam xlsb pptm potm ppsm ppam sldm
    """.split()  # noqa: SIM905 — a list of these fills pages
)

UNSEEN_END = ". \t\r\n\0"
MAIN_STREAM = re.compile(r":[^:]*:\$DATA$", re.IGNORECASE)


def normalise(content_type: str) -> str:
    """The bare type in lower case: `Text/Plain; charset=UTF-8` is `text/plain`."""
    return content_type.partition(";")[0].strip().lower()


def meant(content_type: str, filename: str) -> str:
    """The bare type that the name shows to be meant: Windows calls every CSV file one of Excel's, once that is installed."""
    bare = normalise(content_type)
    return "text/csv" if bare == "application/vnd.ms-excel" and filename.lower().endswith(".csv") else bare


def is_harmless_name(content_type: str, filename: str) -> bool:
    """Would neither a browser nor an operating system run a file of this type when it is opened by its name?

    Nor by the name in ASCII that some clients make of it.
    """
    return all(is_harmless_as_written(content_type, name) for name in (filename, folded(filename)))


def is_harmless_as_written(content_type: str, filename: str) -> bool:
    """The same of one way to write the name."""
    # Windows drops dots and spaces at the end of a name, so `page.html. ` opens as `page.html`.
    # To NTFS `a.exe::$DATA` is what is in `a.exe`.
    shown = MAIN_STREAM.sub("", filename.rstrip(UNSEEN_END)).rstrip(UNSEEN_END)
    _, dot, extension = shown.rpartition(".")
    allowed = HTML_EXTENSIONS if normalise(content_type) in HTML_TYPES else frozenset()
    return not dot or extension.strip().lower() not in REFUSED_EXTENSIONS - allowed


def matches(declared: str, path: Path) -> bool:
    """Do the bytes of the file at `path` have the type `declared`? False for every type that isn't taken at all.

    Reads text files whole, of others the head and what names the type inside a container.
    Raises OSError if the file can't be read. Run it on untrusted files in the extraction child only.
    """
    check = CHECKS.get(normalise(declared))
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    return check is not None and check(path, head)


def is_locked_open_xml(path: Path) -> bool:
    """Is this an Office Open XML document with a password, which makes a legacy compound file of it?"""
    with path.open("rb") as file:
        return _compound_file("EncryptedPackage")(path, file.read(HEAD_BYTES))
