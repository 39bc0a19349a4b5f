"""The text of HTML that a reader would see, in whatever encoding it comes; markup, scripts and styles are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from lms_files.extraction_jobs import Limits
from lms_files.text_encoding import detect_encoding, marked_encoding

UNSEEN = frozenset({"script", "style", "template", "noscript"})
INLINE = frozenset(
    {"a", "abbr", "b", "code", "em", "i", "img", "mark", "q", "s", "small", "span", "strong", "sub", "sup", "u"}
)
# HTML Living Standard, 13.2.3.2: looked for in the first 1,024 bytes.
DECLARED_ENCODING = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
DECLARATION_BYTES = 1024
# Markup takes more room than what is to be read in it; what lies beyond is not looked at.
MOST_BYTES = 64 * 1024 * 1024
CHUNK_CHARACTERS = 1024 * 1024


class TextCollector:
    """What lxml's parser tells while it reads (its "parser target" interface), so that no tree is kept in memory."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.unseen_depth = 0

    def start(self, tag: str, attributes: object) -> None:
        """An element begins."""
        self.unseen_depth += tag in UNSEEN
        if tag not in INLINE | UNSEEN:
            self.pieces.append("\n")

    def end(self, tag: str) -> None:
        """An element ends."""
        self.unseen_depth -= tag in UNSEEN
        if tag not in INLINE | UNSEEN:
            self.pieces.append("\n")

    def data(self, text: str) -> None:
        """Text between two tags."""
        if not self.unseen_depth:
            self.pieces.append(text)

    def close(self) -> None:
        """The end of the document."""

    def taken(self) -> str:
        """What was collected since the last time, with white space as a browser shows it."""
        lines = (" ".join(line.split()) for line in "".join(self.pieces).split("\n"))
        self.pieces = []
        return "\n".join(line for line in lines if line)


def html_pages(path: Path, limits: Limits) -> Iterator[Iterator[str]]:
    """The document as one page."""
    yield pieces_of(path)


def pieces_of(path: Path) -> Iterator[str]:
    """Its text, a chunk of the source at a time."""
    with path.open("rb") as file:
        content = file.read(MOST_BYTES)
    text = content.decode(encoding_of(content), errors="replace")
    collector = TextCollector()
    parser = etree.HTMLParser(target=collector, remove_comments=True)
    for start in range(0, len(text), CHUNK_CHARACTERS):
        parser.feed(text[start : start + CHUNK_CHARACTERS])
        yield collector.taken() + "\n"
    parser.close()
    yield collector.taken()


def encoding_of(content: bytes) -> str:
    """The mark, else what the document says of itself, else what the bytes look like."""
    declared = DECLARED_ENCODING.search(content[:DECLARATION_BYTES])
    if marked_encoding(content[:DECLARATION_BYTES]) is None and declared is not None:
        try:
            "".encode(name := declared[1].decode("ascii"))
        except LookupError:
            pass
        else:
            return name
    return detect_encoding(content)
