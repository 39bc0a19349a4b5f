"""What comes of files of every kind, honest, damaged and hostile: the verdict, the text, the thumbnail."""

from __future__ import annotations

from pathlib import Path

import pytest
import samples
from lms_files import extraction
from lms_files.content_types import DOCX, ODP, ODS, ODT, PPTX, XLSX
from lms_files.extraction_jobs import Derived, Failure, Limits
from lms_files.limited import run_limited
from outcomes import failure_of_text, job_for, text_of, verdict, write
from PIL import Image


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# Inspection


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content_type", "content", "reason"),
    [
        ("application/pdf", samples.pdf(["words"]), None),
        ("application/pdf", samples.pdf(["words"], password="locked"), None),
        ("application/pdf", b"%PDF-1.7\nand nothing more", "broken"),
        ("application/pdf", samples.HTML, "type_mismatch"),
        (DOCX, samples.docx_file(["words"]), None),
        (DOCX, samples.compound_file("EncryptedPackage"), "encrypted"),
        ("image/png", samples.image("PNG"), None),
        ("image/png", samples.image("PNG")[:-30], "broken"),
        ("image/png", samples.png_of_claimed_size(50_000, 50_000), "image_too_large"),
        ("image/gif", samples.GIF_HTML, "broken"),
        ("image/webp", samples.image("WEBP"), None),
        ("application/zip", samples.zip_file({"folder/file": "words"}), None),
        ("application/zip", samples.zip_file({"a": "b"})[:-10], "broken"),
        ("application/zip", samples.zip_file({"../outside": "words"}), "archive_unsafe"),
        ("application/zip", samples.zip_file({"folder\\..\\..\\outside": "words"}), "archive_unsafe"),
        ("application/zip", samples.zip_file({"/etc/passwd": "words"}), "archive_unsafe"),
        ("application/zip", samples.zip_file({"C:/Windows/file": "words"}), "archive_unsafe"),
        ("application/zip", samples.zip_file({"odd..name/..file": "words"}), None),
        ("application/zip", samples.symlink_zip(), "archive_unsafe"),
        ("application/zip", samples.encrypted_zip(), "archive_encrypted"),
        ("text/plain", b"#!/bin/sh", "type_mismatch"),
    ],
)
async def test_inspection(tmp_path: Path, content_type: str, content: bytes, reason: str | None) -> None:
    assert await verdict(write(tmp_path, content), content_type) == reason


@pytest.mark.anyio
async def test_bombs_are_refused_without_unpacking_them(tmp_path: Path) -> None:
    assert await verdict(write(tmp_path, samples.zip_bomb()), "application/zip") == "archive_too_large"
    path = write(tmp_path, samples.docx_bomb())
    assert await verdict(path, DOCX) == "archive_too_large"
    assert await failure_of_text(path, DOCX) == "archive_too_large"


@pytest.mark.anyio
async def test_limits_on_archives_can_be_set(tmp_path: Path) -> None:
    path = write(tmp_path, samples.zip_file({str(number): "words" for number in range(20)}))
    assert await verdict(path, "application/zip", Limits(archive_entries=19)) == "archive_too_large"
    assert await verdict(path, "application/zip", Limits(archive_bytes=99)) == "archive_too_large"
    assert await verdict(path, "application/zip", Limits(archive_entries=20, archive_bytes=100)) is None


# Text


@pytest.mark.anyio
async def test_text_of_a_pdf_page_by_page(tmp_path: Path) -> None:
    path = write(tmp_path, samples.pdf(["Photosynthesis needs light.", "", "Mitochondria don't."]))
    assert (await text_of(path, "application/pdf")).pages == ("Photosynthesis needs light.", "", "Mitochondria don't.")


@pytest.mark.anyio
async def test_text_of_a_docx_with_its_tables(tmp_path: Path) -> None:
    path = write(tmp_path, samples.docx_file(["Größe", "tab\there"], [["Ada", "1"], ["Alan", "2"]]))
    assert (await text_of(path, DOCX)).pages == ("Größe\ntab\there\nAda\n1\nAlan\n2",)


@pytest.mark.anyio
async def test_text_of_a_pptx_slide_by_slide(tmp_path: Path) -> None:
    path = write(tmp_path, samples.pptx_file(["First", "Second"], notes="Say hello", table_cell="In a table"))
    assert (await text_of(path, PPTX)).pages == ("First\nIn a table\nSay hello", "Second")


@pytest.mark.anyio
async def test_text_of_an_xlsx_sheet_by_sheet(tmp_path: Path) -> None:
    path = write(tmp_path, samples.xlsx_file({"Grades": [["Ada", 1.5], [], ["Alan", None, 2]], "Empty": []}))
    assert (await text_of(path, XLSX)).pages == ("Grades\nAda\t1.5\nAlan\t\t2", "Empty")


@pytest.mark.anyio
async def test_text_of_opendocument(tmp_path: Path) -> None:
    row = "<table:table-row><table:table-cell><text:p>{}</text:p></table:table-cell></table:table-row>"
    sheets = "".join(f"<table:table>{row.format(word)}</table:table>" for word in ("Ada", "Alan"))
    slides = "<draw:page><text:p>First</text:p></draw:page><draw:page><text:p>Second</text:p></draw:page>"
    body = (
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:h>Title</text:h>"
        "<text:p>One<text:s/>two <text:span>three</text:span> <!-- hidden -->four</text:p>" + sheets
    )
    assert (await text_of(write(tmp_path, samples.odt_file(body)), ODT)).pages == (
        "Title\nOne two three four\nAda\t\nAlan",
    )
    assert (await text_of(write(tmp_path, samples.odt_file(sheets, "spreadsheet")), ODS)).pages == ("Ada", "Alan")
    assert (await text_of(write(tmp_path, samples.odt_file(slides, "presentation")), ODP)).pages == ("First", "Second")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
async def test_text_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, "Grüße aus München\r\nname;Größe\rJosé;3".encode(encoding))
    assert await verdict(path, "text/csv") is None
    assert (await text_of(path, "text/csv")).pages == ("Grüße aus München\nname;Größe\nJosé;3",)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1251", "Съешь же ещё этих мягких французских булок, да выпей чаю."),
        ("shift_jis", "日本語のテキストです。これはテストです。"),
        ("gb18030", "中文文本。这是一个测试。今天天气很好。"),
    ],
)
async def test_text_in_encodings_of_other_scripts(tmp_path: Path, encoding: str, words: str) -> None:
    assert (await text_of(write(tmp_path, words.encode(encoding)), "text/plain")).pages == (words,)


def test_text_can_be_stored() -> None:
    pages = [["a\0b\x07\tc\n", "d\ud800e"], "f\0g"]
    assert extraction.cut(pages, Limits()) == (["ab\tc\nde", "fg"], False)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b"<html><head><title>T</title><style>p {}</style></head><body><p>One <b>bold</b> word<p>Two</html>",
            "T\nOne bold word\nTwo",
        ),
        (b"<p>a<script>alert('x')</script>b<!-- c --><noscript>d</noscript></p>", "ab"),
        ("<meta charset=iso-8859-1><p>Größe".encode("latin-1"), "Größe"),
        ("<p>Größe".encode(), "Größe"),
        ("<p>Größe".encode("utf-16"), "Größe"),
        (b"<meta charset=no-such-thing><p>plain", "plain"),
        (b"<" * 100_000, ""),
        (b"<div>" * 50_000 + b"deep", "deep"),
    ],
)
async def test_text_of_html(tmp_path: Path, content: bytes, text: str) -> None:
    found = await text_of(write(tmp_path, content), "text/html")
    if text:
        assert found.pages == (text,)


@pytest.mark.anyio
async def test_text_is_cut_at_the_limit_and_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, ("ü" * 1000).encode())
    assert await text_of(path, "text/plain", Limits(text_characters=999)) == Derived(pages=("ü" * 999,), truncated=True)
    assert await text_of(path, "text/plain", Limits(text_characters=1000)) == Derived(
        pages=("ü" * 1000,), truncated=False
    )
    path = write(tmp_path, samples.pdf(["first", "second", "third"]))
    assert await text_of(path, "application/pdf", Limits(text_characters=9)) == Derived(
        pages=("first", "sec"), truncated=True
    )


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content_type", "content", "reason"),
    [
        ("application/pdf", samples.pdf(["words"], password="locked"), "encrypted"),
        ("application/pdf", b"%PDF-1.7\nand nothing more", "broken"),
        (DOCX, samples.zip_file({"word/document.xml": "<w"}), "broken"),
        (XLSX, b"words", "broken"),
        (ODT, samples.odt_file("<text:p>"), "broken"),
        (ODT, samples.odt_file("", manifest="<encryption-data/>"), "encrypted"),
        ("application/msword", samples.compound_file("WordDocument"), "unsupported"),
        ("image/png", samples.image(), "unsupported"),
        ("video/mp4", samples.MP4, "unsupported"),
    ],
)
async def test_files_without_text(tmp_path: Path, content_type: str, content: bytes, reason: str) -> None:
    assert await failure_of_text(write(tmp_path, content), content_type) == reason


@pytest.mark.anyio
async def test_entities_of_a_document_reach_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret words")
    doctype = f'<!DOCTYPE x [<!ENTITY secret SYSTEM "{secret.as_uri()}">]>'
    path = write(tmp_path, samples.odt_file("<text:p>&secret;</text:p>", before_root=doctype))
    assert await failure_of_text(path, ODT) == "broken"
    namespace = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f'{doctype}<w:document xmlns:w="{namespace}"><w:body><w:p><w:r><w:t>a&secret;b</w:t></w:r></w:p></w:body>'
    path = write(
        tmp_path, samples.replaced_part(samples.docx_file([]), "word/document.xml", f"{body}</w:document>".encode())
    )
    assert "secret words" not in str(await run_limited(job_for("text", path, DOCX)))


# Thumbnails


@pytest.mark.anyio
@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "GIF", "WEBP"])
async def test_thumbnail_of_a_picture(tmp_path: Path, format_name: str) -> None:
    target = tmp_path / "thumbnail.webp"
    path = write(tmp_path, samples.image(format_name, (1000, 500)))
    outcome = await run_limited(job_for("thumbnail", path, f"image/{format_name.lower()}"))
    assert not isinstance(outcome, Failure), outcome
    assert (outcome.picture, outcome.facts) == (target, {"width": 512, "height": 256})
    with Image.open(target) as picture:
        assert (picture.format, picture.size) == ("WEBP", (512, 256))


@pytest.mark.anyio
@pytest.mark.parametrize("size", [(8000, 8000), (1008, 500), (1_000_000, 64)], ids=["large", "small", "a line"])
@pytest.mark.parametrize("mode", samples.PNG_MODES)
async def test_pictures_of_every_mode(tmp_path: Path, mode: str, size: tuple[int, int]) -> None:
    path = write(tmp_path, samples.large_png(mode, *size))
    assert await verdict(path, "image/png") is None
    for name, side in (("thumbnail", 512), ("preview", 1600)):
        outcome = await run_limited(job_for(name, path, "image/png"))
        assert not isinstance(outcome, Failure), outcome
        assert outcome.picture is not None
        with Image.open(outcome.picture) as picture:
            width, height = picture.size
            assert width == min(side, size[0])
            assert height == max(1, round(width * size[1] / size[0]))
            shown = picture.convert("RGBA")
            pixels = shown.getpixel((width // 4, height // 2)), shown.getpixel((width * 3 // 4, height // 2))
        (red, green, blue, alpha), (_, _, other_blue, other_alpha) = pixels
        is_grey = mode in ("1", "L", "LA", "I;16")
        assert (red > 230, green > 230, blue > 230, alpha) == (True, is_grey, is_grey, 255)
        if "A" in mode or "P" in mode:
            assert other_alpha == 0
        else:
            assert (other_alpha, other_blue > 230) == (255, not is_grey)


@pytest.mark.anyio
@pytest.mark.parametrize("format_name", ["JPEG", "WEBP"])
async def test_thumbnail_is_turned_and_has_no_metadata(tmp_path: Path, format_name: str) -> None:
    target = tmp_path / "thumbnail.webp"
    path = write(tmp_path, samples.image(format_name, (1000, 500), orientation=6))
    outcome = await run_limited(job_for("thumbnail", path, f"image/{format_name.lower()}"))
    assert not isinstance(outcome, Failure), outcome
    with Image.open(target) as picture:
        assert picture.size == (256, 512)
        assert not picture.getexif()
        # Left became top: red.
        pixel = picture.convert("RGB").getpixel((128, 10))
        assert isinstance(pixel, tuple)
        assert pixel[0] > 200
        assert pixel[2] < 60


@pytest.mark.anyio
async def test_thumbnail_of_the_first_page_of_a_pdf(tmp_path: Path) -> None:
    path = write(tmp_path, samples.pdf(["words", "more words"]))
    outcome = await run_limited(job_for("thumbnail", path, "application/pdf"))
    assert not isinstance(outcome, Failure), outcome
    assert outcome.facts == {"width": 363, "height": 512}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content_type", "content", "reason"),
    [
        ("image/png", samples.png_of_claimed_size(50_000, 50_000), "image_too_large"),
        ("image/png", samples.png_of_claimed_size(500, 500), "broken"),
        ("image/gif", samples.GIF_HTML, "broken"),
        ("application/pdf", samples.pdf(["words"], password="locked"), "encrypted"),
        ("text/plain", b"words", "unsupported"),
    ],
)
async def test_files_without_a_thumbnail(tmp_path: Path, content_type: str, content: bytes, reason: str) -> None:
    target = tmp_path / "thumbnail.webp"
    outcome = await run_limited(job_for("thumbnail", write(tmp_path, content), content_type))
    assert isinstance(outcome, Failure)
    assert outcome.reason == reason
    assert not target.exists()
