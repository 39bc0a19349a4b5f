"""Which declared types and names are taken, and which bytes have the type they are declared to have."""

from __future__ import annotations

from pathlib import Path

import hostile_samples
import pytest
import samples
from lms_files.content_types import DEFAULT_TYPES, DOCX, ODT, PPTX, XLSX, is_harmless_name, matches, normalise
from outcomes import write

OFFICE_SAMPLES = {
    DOCX: lambda: samples.docx_file(["words"]),
    PPTX: lambda: samples.pptx_file(["words"]),
    XLSX: lambda: samples.xlsx_file({"Sheet": [["words"]]}),
    ODT: lambda: samples.odt_file("<text:p>words</text:p>"),
}


@pytest.mark.parametrize(
    ("content_type", "filename"),
    [
        ("application/pdf", "Skript 1.pdf"),
        (DOCX, "essay.docx"),
        ("application/msword", "old.doc"),
        ("application/vnd.oasis.opendocument.spreadsheet", "table.ods"),
        ("image/webp", "photo.WEBP"),
        ("audio/mpeg", "lecture.mp3"),
        ("video/mp4", "lecture.mp4"),
        ("Text/Plain; charset=UTF-8", "notes.txt"),
        ("text/csv", "grades.csv"),
        ("text/markdown", "README"),
        ("application/zip", "report.html.zip"),
    ],
)
def test_types_on_the_list_are_allowed(content_type: str, filename: str) -> None:
    assert normalise(content_type) in DEFAULT_TYPES
    assert is_harmless_name(content_type, filename)


@pytest.mark.parametrize(
    ("content_type", "filename"),
    [
        ("text/html", "page.html"),
        ("image/svg+xml", "drawing.svg"),
        ("application/javascript", "program.js"),
        ("application/x-msdownload", "setup.exe"),
        ("application/octet-stream", "anything.pdf"),
        ("", "notes.txt"),
        ("text/plain, text/html", "notes.txt"),
        ("text/plain", "page.html"),
        ("text/plain", "PAGE.HTM"),
        ("text/plain", "page.html. "),
        ("image/png", "drawing.svg"),
        ("application/zip", "setup.EXE"),
        ("text/plain", "install.sh"),
        ("text/plain", ".bat"),
        ("application/pdf", "setup.exe::$DATA"),
        ("application/pdf", "setup.exe.:stream:$data. "),
        (DOCX, "essay.docm"),
    ],
)
def test_active_and_unknown_types_are_refused_whatever_is_declared(content_type: str, filename: str) -> None:
    assert normalise(content_type) not in DEFAULT_TYPES or not is_harmless_name(content_type, filename)


def test_normalise_keeps_the_bare_type() -> None:
    assert normalise(" Text/CSV ; charset=utf-8; header=present") == "text/csv"


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/pdf", b"%PDF-1.7\n"),
        ("image/png", samples.image("PNG")),
        ("image/jpeg", samples.image("JPEG")),
        ("image/gif", samples.image("GIF")),
        ("image/webp", samples.image("WEBP")),
        ("audio/mpeg", samples.MP3),
        ("audio/wav", samples.WAV),
        ("audio/mp4", samples.MP4),
        ("video/mp4", samples.MP4),
        ("video/webm", samples.WEBM),
        ("application/zip", samples.zip_file({"a": "b"})),
        ("application/msword", samples.compound_file("WordDocument")),
        ("application/vnd.ms-excel", samples.compound_file("Workbook")),
        ("application/vnd.ms-powerpoint", samples.compound_file("PowerPoint Document")),
        ("text/plain", b""),
        ("text/plain", "Äpfel".encode("cp1252")),
        ("text/plain; charset=utf-16", "Äpfel".encode("utf-16")),
        ("text/csv", b"name;grade\nAda;1\n"),
        ("text/markdown", b"# Title\n\n<script>is described here</script>\n"),
        ("text/markdown", b"<!-- made by hand -->\n<div>centred</div>\n"),
    ],
)
def test_bytes_match_their_type(tmp_path: Path, content_type: str, content: bytes) -> None:
    assert matches(content_type, write(tmp_path, content))


@pytest.mark.parametrize("content_type", OFFICE_SAMPLES)
def test_an_office_document_matches_its_own_type_only(tmp_path: Path, content_type: str) -> None:
    path = write(tmp_path, OFFICE_SAMPLES[content_type]())
    assert [other for other in OFFICE_SAMPLES if matches(other, path)] == [content_type]
    assert matches("application/zip", path)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("application/pdf", samples.image("PNG")),
        ("image/png", b"%PDF-1.7\n"),
        ("image/jpeg", samples.HTML),
        ("image/png", samples.SVG),
        ("video/mp4", b"\0\0\0\x18ftypheic" + bytes(100)),
        ("application/zip", b"%PDF-1.7\n"),
        ("application/msword", samples.compound_file("Workbook")),
        ("application/msword", samples.compound_file("CustomAction")),
        (DOCX, samples.zip_file({"a": "b"})),
        (DOCX, samples.encrypted_zip()),
        (DOCX, hostile_samples.docx_with_macros()),
        (DOCX, hostile_samples.docx_with_macros(and_a_harmless_part=True)),
        (ODT, samples.zip_file({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"})),
        ("text/plain", samples.HTML),
        ("text/plain", "\ufeff \n<html>".encode()),
        ("text/plain", "<html>".encode("utf-16")),
        ("text/markdown", samples.SVG),
        ("text/csv", b"<!-- -->" * 400 + b"<script>alert(1)</script>"),
        ("text/plain", b"#!/bin/sh\nrm -rf ~\n"),
        ("text/plain", samples.image("PNG")),
        ("text/plain", samples.GIF_HTML),
        ("text/plain", b"words\0words"),
        ("text/plain", b"\xff\xfe\x00\xd8\x00\xd8"),
        ("image/svg+xml", samples.SVG),
        ("application/octet-stream", b"words"),
    ],
)
def test_other_bytes_do_not_match(tmp_path: Path, content_type: str, content: bytes) -> None:
    assert not matches(content_type, write(tmp_path, content))


@pytest.mark.parametrize("content", [samples.ELF, samples.WINDOWS_PROGRAM, samples.MACH_O])
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/zip", "application/pdf", "video/mp4", "audio/mpeg"]
)
def test_executables_match_nothing(tmp_path: Path, content_type: str, content: bytes) -> None:
    assert not matches(content_type, write(tmp_path, content))
