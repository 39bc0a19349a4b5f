"""The text of plain text, CSV and markdown, in whatever encoding it comes."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from pathlib import Path

from lms_files.extraction_jobs import Limits
from lms_files.text_encoding import detect_encoding

# No encoding in use takes more for one character.
BYTES_PER_CHARACTER = 4


def plain_pages(path: Path, limits: Limits) -> Iterator[Iterator[str]]:
    """The file as one page, with lines ended by a line feed. Bytes that the encoding lacks become U+FFFD."""
    with path.open("rb") as file:
        # One more character than wanted, so that the collector sees that something is left.
        data = file.read((limits.text_characters + 1) * BYTES_PER_CHARACTER)
    decoder = codecs.getincrementaldecoder(detect_encoding(data))(errors="replace")
    # Not final: the read may have ended inside of a character.
    text = decoder.decode(data, final=False)
    yield iter([io.IncrementalNewlineDecoder(None, translate=True).decode(text, final=True)])
