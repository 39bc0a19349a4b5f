"""What plugins add to files: types that are taken, and what is made of them; and the virus scanner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import samples
from browser import downloaded, finish, upload
from lms_files import plugin
from lms_files.content_types import DOCX
from lms_files.contracts import FileProcessor, FileType
from lms_files.settings import FilesSettings
from lms_files.virus_scan import ScannerAway
from scanner import EICAR, PROGRAM, clamd

from lms_core.platform import add_extension
from lms_core.sdk import StartRefused
from lms_core.testing import Lms, School

SUBTITLES = b"WEBVTT\n\n00:00.000 --> 00:04.000\nPhotosynthesis needs light.\n"


@pytest.fixture
def subtitles(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that knows a type of its own; its code is in subtitles_plugin.py."""
    added = [
        ("subtitles", FileType("text/vtt", "subtitles_plugin:is_subtitles")),
        ("subtitles", FileProcessor("text", frozenset({"text/vtt"}), "subtitles_plugin:text")),
        ("subtitles", FileProcessor("cues", frozenset({"text/vtt"}), "subtitles_plugin:cues")),
    ]
    monkeypatch.setattr(lms.context.platform, "extensions", [*lms.context.platform.extensions, *added])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.mark.usefixtures("subtitles")
async def test_a_plugin_adds_a_type_and_what_is_made_of_it(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, SUBTITLES, "text/vtt", "lecture.vtt", course_id=school.course["id"])
    assert file["state"] == "ready"
    assert file["derivatives"] == {
        "text": {"state": "ready", "pages": 1, "characters": 27},
        "cues": {"state": "ready", "count": 1},
        "thumbnail": {"state": "none"},
        "preview": {"state": "none"},
    }
    wrong = await finish(lms, school.teacher, b"no subtitles", "text/vtt", "lecture.vtt")
    assert (wrong["state"], wrong["reason"]) == ("rejected", "type_mismatch")
    # Of other types the plugin makes nothing.
    other = await finish(lms, school.teacher, b"words", "text/plain", "notes.txt")
    assert other["derivatives"]["cues"] == {"state": "none"}


@pytest.mark.usefixtures("subtitles")
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"WEBVTT raise", "broken"), (b"WEBVTT much", "facts_too_large"), (b"WEBVTT exit", "crashed")],
)
async def test_a_processor_that_fails_leaves_the_file_ready(
    lms: Lms, school: School, content: bytes, reason: str
) -> None:
    file = await finish(lms, school.teacher, content, "text/vtt", "lecture.vtt")
    assert (file["state"], file["derivatives"]["cues"]) == ("ready", {"state": "failed", "reason": reason})
    assert (await downloaded(school.teacher, file["id"])).content == content


async def test_two_plugins_cannot_make_the_same_of_a_type(lms: Lms) -> None:
    double = FileProcessor("text", frozenset({"application/pdf"}), "another:text")
    with pytest.raises(StartRefused, match="files and another both declare the FileProcessor text of application/pdf"):
        add_extension(lms.context.platform, "another", double)


needs_clamd = pytest.mark.skipif(PROGRAM is None, reason="no clamd on this machine (Debian: clamav-daemon)")


@pytest.fixture
def scanner(lms: Lms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with clamd(tmp_path) as address:
        monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "scanner", address)
        yield address


@needs_clamd
@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    ("content", "content_type", "filename"),
    [
        (EICAR, "text/plain", "a.txt"),
        (samples.zip_file({"a.txt": EICAR}), "application/zip", "a.zip"),
        (
            samples.replaced_part(samples.docx_file(["words"]), "word/embeddings/oleObject1.bin", EICAR),
            DOCX,
            "essay.docx",
        ),
        (samples.zip_file({"b.zip": samples.zip_file({"a.txt": EICAR})}), "application/zip", "b.zip"),
    ],
    ids=["plain", "in a zip", "in a document", "in a zip in a zip"],
)
async def test_what_is_infected_is_never_handed_out(
    lms: Lms, school: School, content: bytes, content_type: str, filename: str
) -> None:
    file = await finish(lms, school.teacher, content, content_type, filename)
    assert (file["state"], file["reason"]) == ("rejected", "infected")
    assert (await school.teacher.get(f"/files/{file['id']}/download")).status_code == 409
    clean = await finish(lms, school.teacher, b"words", "text/plain", "notes.txt")
    assert clean["state"] == "ready"


async def test_without_the_scanner_nothing_becomes_ready(
    lms: Lms, school: School, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lms.context.platform.plugin_settings(FilesSettings)
    monkeypatch.setattr(settings, "scanner", f"unix:{tmp_path}/nobody")
    file = await upload(school.teacher, b"words", "text/plain", "notes.txt")
    await lms.work_off()
    found: dict[str, Any] = (await school.teacher.get(f"/files/{file['id']}")).json()
    assert (found["state"], found["reason"]) == ("verifying", "waiting_for_scanner")
    with pytest.raises(ScannerAway):
        await plugin.check_scanner(lms.context)
    monkeypatch.setattr(settings, "scanner", None)
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL")
    await lms.work_off()
    found = (await school.teacher.get(f"/files/{file['id']}")).json()
    assert (found["state"], found["reason"]) == ("ready", None)
