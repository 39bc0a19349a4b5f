"""Whether a zip file, or an office document that is one, is safe to open: judged by its directory, never unpacked."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from lms_files.extraction_jobs import Limits, Refused

ENCRYPTED_FLAG = 0x1
OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:|(?:.*[/\\])?\.\.(?:[/\\]|$)", re.DOTALL)


def check_archive(path: Path, limits: Limits) -> None:
    """Raises Refused: `broken`, `archive_too_large`, `archive_unsafe` or `archive_encrypted`.

    The directory may lie about sizes, but Python's reader stops at what it says, so the sums hold for us.
    Archives inside of the archive are not looked into.
    """
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise Refused("broken", str(error)) from error
    if len(entries) > limits.archive_entries:
        raise Refused("archive_too_large", f"{len(entries)} entries")
    # Measured against the file itself: entries that share their packed bytes would pass one by one.
    unpacked = sum(entry.file_size for entry in entries)
    ratio = unpacked / path.stat().st_size
    if unpacked > limits.archive_bytes or (unpacked > limits.archive_ratio_from_bytes and ratio > limits.archive_ratio):
        raise Refused("archive_too_large", f"{unpacked} bytes unpacked, {ratio:.0f} times the file")
    if any(_leaves_folder(entry) for entry in entries):
        raise Refused("archive_unsafe")
    if any(entry.flag_bits & ENCRYPTED_FLAG for entry in entries):
        raise Refused("archive_encrypted")


def _leaves_folder(entry: ZipInfo) -> bool:
    # The name as it stands in the file: Python cuts it at a NUL, other programs may not.
    return stat.S_ISLNK(entry.external_attr >> 16) or OUTSIDE.match(entry.orig_filename) is not None
