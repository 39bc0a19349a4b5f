"""What encoding a text file is in, whether it is text at all, and whether a browser would take it for a program."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

# A longer mark comes before the one that it starts with.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SAMPLE_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
# Encodings that files without a mark really come in. The detector knows ninety more, and finds them in short texts.
LEGACY_ENCODINGS = [
    "cp1250",
    "cp1251",
    "cp1252",
    "cp1253",
    "cp1254",
    "cp1255",
    "cp1256",
    "cp1257",
    "koi8-r",
    "cp932",
    "euc-jp",
    "iso2022-jp",
    "gb18030",
    "big5",
    "euc-kr",
]
# Below this share of bytes outside ASCII, text is in a Latin script with accents, and the detector only guesses.
DETECTABLE_SHARE = 0.25
# Possessive, so that a file of thousands of comments can't make the expression go back and forth.
ACTIVE_START = re.compile(
    r"(?:\s|<\?xml.*?\?>|<!--.*?-->)*+"
    r"(?:#!|<\?php|<!doctype\s+(?:html|svg)|<(?:\w+:)?(?:html|head|body|script|iframe|svg)[\s/>])",
    re.IGNORECASE | re.DOTALL,
)


def marked_encoding(sample: bytes) -> str | None:
    """The Unicode encoding that a byte order mark, or the pattern of NUL bytes in UTF-16 without one, gives away."""
    for mark, encoding in BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    # Latin letters, digits and spaces have one NUL byte in UTF-16, always at the same place of the pair.
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if odd > len(sample) // 8 and not even:
        return "utf-16-le"
    if even > len(sample) // 8 and not odd:
        return "utf-16-be"
    return None


def detect_encoding(sample: bytes) -> str:
    """The likely encoding of text: its mark, UTF-8 if it is valid, else the detector's best guess or Windows-1252."""
    if encoding := marked_encoding(sample):
        return encoding
    if _decodes(sample, "utf-8"):
        return "utf-8"
    outside_ascii = sum(byte > 127 for byte in sample[:SAMPLE_BYTES])
    if outside_ascii < DETECTABLE_SHARE * len(sample[:SAMPLE_BYTES]):
        return "cp1252"
    # Imported here since it costs 50 ms that hardly any file needs.
    from charset_normalizer import from_bytes

    best = from_bytes(sample[:SAMPLE_BYTES], cp_isolation=LEGACY_ENCODINGS).best()
    return best.encoding if best else "cp1252"


def _decodes(sample: bytes, encoding: str) -> bool:
    try:
        # Not final: a sample may end inside of a character.
        codecs.getincrementaldecoder(encoding)().decode(sample, final=False)
    except UnicodeDecodeError:
        return False
    return True


def is_text(path: Path) -> bool:
    """Is the whole file text: no NUL character, and valid in the Unicode encoding that it starts in?

    Any bytes without NUL are text in some legacy encoding, so those are only looked through for NUL.
    Raises OSError if the file can't be read.
    """
    with path.open("rb") as file:
        encoding = marked_encoding(file.read(SAMPLE_BYTES))
        file.seek(0)
        if encoding is None:
            return not any(b"\0" in chunk for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while chunk := file.read(CHUNK_BYTES):
                if "\0" in decoder.decode(chunk):
                    return False
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def starts_as_active_document(head: bytes) -> bool:
    """Does a text begin as HTML, SVG, PHP or a script? Markdown may well have tags further in."""
    # Without a mark every encoding in use has ASCII in it as it is.
    text = head.decode(marked_encoding(head) or "latin-1", errors="ignore")
    return ACTIVE_START.match(text.lstrip("\ufeff")) is not None
