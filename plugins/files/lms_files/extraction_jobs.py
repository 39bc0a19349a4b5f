"""What the parent asks the extraction child to do, within which limits, and what it can be told: plain values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MIB = 1024 * 1024

Reason = Literal[
    "type_mismatch",  # the bytes are not of the declared type
    "broken",  # the format's own reader can't make sense of the file
    "encrypted",  # a password is needed
    "unsupported",  # there is no text, or no picture, to get out of this type
    "too_large",  # the result passes `Limits.output_bytes`
    "image_too_large",  # more than `Limits.image_pixels`
    "archive_too_large",  # too many entries, too many bytes once unpacked, or a zip bomb's ratio
    "archive_encrypted",  # an entry needs a password
    "archive_unsafe",  # an entry that would be written outside of the folder it is unpacked in, or a link
    "out_of_memory",  # the child passed `Limits.memory_bytes`, or the kernel killed it
    "timeout",  # the child passed `Limits.cpu_seconds` or `Limits.wall_seconds`
    "crashed",  # the child died otherwise, as native libraries do on hostile files
]


@dataclass(frozen=True)
class Limits:
    """How much one file may cost. Parent and child enforce them together; each job starts from zero."""

    wall_seconds: float = 60.0
    cpu_seconds: int = 30
    # Address space, so resident memory is always less. Enough for one copy of an image of `image_pixels`.
    memory_bytes: int = 560 * MIB
    # Of any single file that the child writes.
    output_bytes: int = 64 * MIB
    text_characters: int = 5_000_000
    # Half as many for WebP, whose reader takes more memory.
    image_pixels: int = 100_000_000
    # The longer side of a thumbnail, in pixels.
    thumbnail_side: int = 512
    archive_entries: int = 10_000
    # The sum of all entries once unpacked. We never unpack; those who download will.
    archive_bytes: int = 4096 * MIB
    # Unpacked bytes per byte of the file; looked at from `archive_ratio_from_bytes` on, since small files do no harm.
    archive_ratio: int = 200
    archive_ratio_from_bytes: int = 32 * MIB


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class InspectJob:
    """Is the file at `path` what `content_type` says, whole, and harmless to open?"""

    path: Path
    content_type: str


@dataclass(frozen=True)
class TextJob:
    """The text of the file at `path`, page by page."""

    path: Path
    content_type: str


@dataclass(frozen=True)
class ThumbnailJob:
    """A WebP picture of the file at `path`, written to `thumbnail_path`, which must be in an existing folder."""

    path: Path
    content_type: str
    thumbnail_path: Path


Job = InspectJob | TextJob | ThumbnailJob


@dataclass(frozen=True)
class Inspection:
    """The verdict on a file: `ok`, or refused for `reason`."""

    ok: bool
    reason: Reason | None = None


@dataclass(frozen=True)
class ExtractedText:
    """The pages of a document: of a PDF, slides of a presentation, sheets of a workbook; one page for other types.

    Without NUL and lone surrogates, so PostgreSQL takes it. `truncated` says that `Limits.text_characters` cut it.
    """

    pages: tuple[str, ...]
    truncated: bool


@dataclass(frozen=True)
class Thumbnail:
    """A WebP picture without metadata at `path`; width and height in pixels."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Failure:
    """The job has no result. `detail` is for logs, never for clients: it may quote the file."""

    reason: Reason
    detail: str = ""


Outcome = Inspection | ExtractedText | Thumbnail | Failure


class Refused(Exception):
    """Raised inside the child: this file can't be used, for `reason`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason: Reason = reason
