"""The code of a plugin that knows subtitles; runs in the child process that opens files."""

import os
from pathlib import Path

from lms_files.extraction_jobs import Derived, Limits


def is_subtitles(path: Path) -> bool:
    """By the first line (WebVTT, section 4.1)."""
    with path.open("rb") as file:
        return file.read(6) == b"WEBVTT"


def text(path: Path, content_type: str, folder: Path, limits: Limits) -> Derived:
    """What is said, on one page."""
    lines = path.read_text().splitlines()
    return Derived(pages=["\n".join(line for line in lines[1:] if line and "-->" not in line)])


def cues(path: Path, content_type: str, folder: Path, limits: Limits) -> Derived:
    """How many there are; fails as the file asks for."""
    content = path.read_text()
    if content.endswith("raise"):
        raise KeyError("no cue")
    if content.endswith("exit"):
        os.abort()
    if content.endswith("much"):
        return Derived({"words": "x" * 10_000})
    return Derived({"count": content.count("-->")})
