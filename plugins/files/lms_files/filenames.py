"""Names of files: cleaned when they come in, and written into a header when they go out."""

import re
import unicodedata
from urllib.parse import quote

MAX_CHARACTERS = 255
# Control characters, ends of lines, and those that change the direction of what follows: `exe.fdp` would be shown as `pdf.exe`.
UNWANTED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
# attr-char of RFC 8187, besides letters and digits.
UNQUOTED = "!#$&+-.^_`|~"
# What was folded may have become a part of a path, a drive or a stream.
NOT_IN_FALLBACK = re.compile(r'[^\x20-\x7e]|["\\%/:]')


def clean_filename(name: str) -> str:
    """The last part of a path, without what no file system or header should see; ValueError when nothing is left."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    cleaned = UNWANTED.sub("", last).strip().rstrip(". ")
    if not cleaned:
        raise ValueError("is no name of a file, such as essay.pdf")
    if len(cleaned) > MAX_CHARACTERS:
        raise ValueError(f"has more than {MAX_CHARACTERS} characters")
    return cleaned


def folded(filename: str) -> str:
    """The name in ASCII, as clients have it that know no other: `setup.ｅｘｅ` and `setup.éxe` are `setup.exe`."""
    apart = unicodedata.normalize("NFKD", filename)
    return NOT_IN_FALLBACK.sub("_", "".join(character for character in apart if not unicodedata.combining(character)))


def attachment(filename: str) -> str:
    """A Content-Disposition (RFC 6266) that makes browsers save the file under its name, in every script."""
    return f"attachment; filename=\"{folded(filename)}\"; filename*=UTF-8''{quote(filename, safe=UNQUOTED)}"
