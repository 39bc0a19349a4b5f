"""What the parent asks the extraction child to do, within which limits, and what it can be told: plain values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
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
    "infected",  # the virus scanner knows what is in it; it never runs in the child
    "timeout",  # the child passed `Limits.cpu_seconds` or `Limits.wall_seconds`
    "facts_too_large",  # a processor said more than `Limits.facts_bytes`
    "crashed",  # the child died otherwise, as native libraries do on hostile files
]


@dataclass(frozen=True)
class Limits:
    """How much one file may cost. Parent and child enforce them together; each job starts from zero."""

    wall_seconds: float = 60.0
    cpu_seconds: int = 30
    # Address space, so resident memory is always less: beside a worker of 155 MB less than 600 MB. Enough for one copy
    # of an image of `image_pixels`.
    memory_bytes: int = 420 * MIB
    # Of any single file that the child writes.
    output_bytes: int = 64 * MIB
    text_characters: int = 5_000_000
    # Of what a processor tells clients, as JSON.
    facts_bytes: int = 4096
    # Half as many for WebP, whose reader takes two canvases to look at one; from 24 million on it has no room to show it.
    image_pixels: int = 64_000_000
    # The longer side, in pixels.
    thumbnail_side: int = 512
    preview_side: int = 1600
    archive_entries: int = 10_000
    # The sum of all entries once unpacked. We never unpack; those who download will.
    archive_bytes: int = 4096 * MIB
    # Unpacked bytes per byte of the file; looked at from `archive_ratio_from_bytes` on, since small files do no harm.
    archive_ratio: int = 200
    archive_ratio_from_bytes: int = 32 * MIB


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class InspectJob:
    """Is the file at `path` what `content_type` says, whole, and harmless to open?

    `check` names the function that knows the type (see `FileType`), where a plugin brought it.
    """

    path: Path
    content_type: str
    check: str | None = None


@dataclass(frozen=True)
class ProcessJob:
    """What `function` ("package.module:name") makes of the file at `path`; what it writes goes to `folder`."""

    path: Path
    content_type: str
    function: str
    folder: Path


Job = InspectJob | ProcessJob


@dataclass(frozen=True)
class Inspection:
    """The verdict on a file: `ok`, or refused for `reason`."""

    ok: bool
    reason: Reason | None = None


@dataclass(frozen=True)
class Derived:
    """What a processor made of a file.

    `facts` are what clients see beside the state: numbers, short texts, yes and no. `pages` is the file's searchable
    text, each page a text or pieces of one; whoever runs the processor cuts it at `Limits.text_characters`, and
    `truncated` says so. `picture` is a WebP file.
    """

    facts: dict[str, int | float | str | bool] = field(default_factory=dict)
    pages: Iterable[str | Iterable[str]] | None = None
    truncated: bool = False
    picture: Path | None = None


@dataclass(frozen=True)
class Failure:
    """The job has no result. `detail` is for logs, never for clients: it may quote the file."""

    reason: Reason
    detail: str = ""


Outcome = Inspection | Derived | Failure


class Refused(Exception):
    """Raised inside the child: this file can't be used, for `reason`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason: Reason = reason
