"""Hostile clients: what they name, send, replay, edit and borrow, each with its one outcome, through API and store."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

import hostile_samples
import httpx2
import pytest
import samples
from browser import PDF, browsing, described, downloaded, fetch, finish, send_form, send_parts, upload
from lms_files import lifecycle, storage, sweeps
from lms_files.content_types import DOCX
from lms_files.settings import MIB, FilesSettings

from lms_core.testing import Caller, Lms, School

CONTENT = samples.pdf(["Photosynthesis needs light."])
# The worker's process beside it stays under 150 MiB: under 600 MB together.
CHILD_BYTES = 450 * MIB


@pytest.fixture(scope="module")
async def school(lms: Lms) -> School:
    """One for all of these: none of them is about how much room there is."""
    return await lms.make_school()


# Names


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("C:\\Windows\\a.pdf", "a.pdf"),
        ("a\u202efdp.exe.pdf", "afdp.exe.pdf"),
        ('a"; filename="b.exe.pdf', 'a"; filename="b.exe.pdf'),
        ("a\r\nSet-Cookie: x=1.pdf", "aSet-Cookie: x=1.pdf"),
        ("%0d%0aX: y.pdf", "%0d%0aX: y.pdf"),
        ("CON.pdf", "CON.pdf"),
        ("NUL.txt", "NUL.txt"),
        ("aux", "aux"),
        ("a; filename*=UTF-8''b.exe", None),
        ("a.pdf;filename=b", "a.pdf;filename=b"),
        ("a\u061cfdp.exe.pdf", "afdp.exe.pdf"),
        ("setup.exe::$DATA", None),
        ("a.pdf\x00.exe", None),
        ("x" * 5_000 + ".pdf", None),
        ("..", None),
        ("\u202e", None),
        ("a.pdf.exe", None),
        ("a.lnk", None),
        ("setup.ｅｘｅ", None),
        ("setup\u2024exe", None),
        ("setup.éxe", None),
        ("setup．ｊｓ", None),
        ("setup.exe…", None),
        ("setup.ex\u0435", "setup.ex\u0435"),
        ("℀：／＼.pdf", "℀：／＼.pdf"),
        ("Lecture 1: Light.pdf", "Lecture 1: Light.pdf"),
    ],
)
async def test_names(lms: Lms, school: School, name: str, kept: str | None) -> None:
    if kept is None:
        answer = await school.student.post("/files", described(CONTENT, PDF, name))
        assert answer.status_code in (415, 422), answer.text
        return
    file = await finish(lms, school.student, CONTENT, PDF, name)
    assert (file["state"], file["filename"]) == ("ready", kept)
    answer = await downloaded(school.student, file["id"])
    disposition = answer.headers["Content-Disposition"]
    assert disposition.startswith('attachment; filename="')
    assert disposition.count('"') == 2
    plain, _, encoded = disposition.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert not set(plain + encoded) & set('"\\\r\n')
    assert not set(plain) & set("/:")
    assert unquote(encoded) == kept
    assert "Set-Cookie" not in answer.headers
    assert "X" not in answer.headers


# Forms, addresses and parts


async def test_only_what_was_signed_is_stored(school: School) -> None:
    mine, other = [(await school.student.create("/files", described(CONTENT)))["upload"] for _ in range(2)]
    assert (await send_form(mine, b"")).status_code >= 400
    for changed in (
        {"key": other["fields"]["key"]},
        {"policy": other["fields"]["policy"]},
        {"x-amz-signature": other["fields"]["x-amz-signature"]},
        {"Content-Type": "text/html"},
    ):
        assert (await send_form(mine, CONTENT, **changed)).status_code in (400, 403), changed
    # With the other one's whole policy it is the other one's upload.
    assert (await send_form({**mine, "fields": other["fields"]}, CONTENT)).status_code == 204


async def test_fields_that_nobody_signed_gain_nothing(lms: Lms, school: School) -> None:
    file = await school.student.create("/files", described(CONTENT))
    form = file["upload"]
    for more in (
        {"x-amz-meta-a": "b"},
        {"x-amz-website-redirect-location": "https://evil.example"},
        {"x-amz-tagging": "<Tagging/>"},
        {"x-amz-storage-class": "GLACIER"},
        {"x-amz-server-side-encryption": "AES256"},
    ):
        assert (await send_form(form, CONTENT, **more)).status_code == 403, more
    # Some stores overlook fields that no policy names.
    hidden = {"Content-Disposition": "inline", "Content-Encoding": "gzip", "Cache-Control": "max-age=99"}
    await send_form(form, CONTENT, acl="public-read", success_action_redirect="https://evil.example", **hidden)
    assert (await fetch(f"{form['url'].rstrip('/')}/{form['fields']['key']}")).status_code == 403
    assert (await school.student.post(f"/files/{file['id']}/complete")).status_code == 202
    await lms.work_off()
    answer = await downloaded(school.student, file["id"])
    assert answer.content == CONTENT
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert not {"content-encoding", "cache-control", "location"} & set(answer.headers)


@pytest.mark.parametrize(
    ("lie", "sent", "is_stored"),
    [
        ("Content-Length: 100", 1.0, False),
        ("Content-Length: -1", 1.0, False),
        ("Content-Length: 1099511627776", 0.7, False),
        ("Transfer-Encoding: chunked\r\n\r\nfffff", 0.7, False),
        # The form ends before its time, but it is whole: stores may take it.
        ("Content-Length: 1099511627776", 1.0, True),
    ],
    ids=["less", "negative", "more, cut off", "in pieces, cut off", "more"],
)
async def test_lengths_that_lie_about_a_form(lms: Lms, school: School, lie: str, sent: float, is_stored: bool) -> None:
    file = await school.student.create("/files", described(CONTENT))
    form = httpx2.Request(
        "POST", file["upload"]["url"], data=file["upload"]["fields"], files={"file": ("a", CONTENT, PDF)}
    )
    place, body = urlsplit(file["upload"]["url"]), form.read()
    head = (
        f"POST {place.path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: {form.headers['Content-Type']}\r\n{lie}"
    )
    # Without a length the line is that of the first piece, and its bytes follow at once.
    gap = "\r\n" if "chunked" in lie else "\r\n\r\n"
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"{head}{gap}".encode() + body[: int(len(body) * sent)])
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    completed = await school.student.post(f"/files/{file['id']}/complete")
    if not is_stored:
        assert not answer.startswith(b"HTTP/1.1 2"), answer
        assert (completed.status_code, completed.json()["code"]) == (409, "upload_missing")
    elif completed.status_code == 202:
        await lms.work_off()
        assert (await downloaded(school.student, file["id"])).content == CONTENT


async def test_an_address_expires(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = await finish(lms, school.student, CONTENT)
    monkeypatch.setattr(storage, "UPLOAD_SECONDS", 1)
    monkeypatch.setattr(storage, "DOWNLOAD_SECONDS", 1)
    url = (await school.student.get(f"/files/{ready['id']}/download")).json()["url"]
    requested = await school.student.create("/files", described(CONTENT))
    await asyncio.sleep(2.5)
    assert (await send_form(requested["upload"], CONTENT)).status_code == 403
    assert (await fetch(url)).status_code == 403


@pytest.mark.parametrize("end", ["ready", "rejected", "cancelled", "expired"])
async def test_a_replay_after_the_end_changes_nothing(lms: Lms, school: School, end: str) -> None:
    if end == "cancelled":
        file = await school.student.create("/files", described(CONTENT))
        await school.student.post(f"/files/{file['id']}/cancel")
    elif end == "expired":
        file = await school.student.create("/files", described(CONTENT))
        await send_form(file["upload"], CONTENT)
        await lms.sql("UPDATE files_file SET expires_at = now() - interval '1 s' WHERE id = :id", id=file["id"])
        async with lms.context.unit_of_work() as uow:
            await sweeps.expire_requests(uow)
    else:
        content = CONTENT if end == "ready" else samples.HTML
        file = await finish(lms, school.student, content)
    await lms.work_off()
    before = (await school.student.get(f"/files/{file['id']}")).json()
    assert before["state"] == end
    await send_form(file["upload"], CONTENT[: file["size"]])
    answer = await school.student.post(f"/files/{file['id']}/complete")
    assert answer.status_code == (409 if end in ("cancelled", "expired") else 202)
    await lms.work_off()
    assert (await school.student.get(f"/files/{file['id']}")).json() == before
    if end == "ready":
        assert (await downloaded(school.student, file["id"])).content == CONTENT


async def test_an_edited_download_is_refused(lms: Lms, school: School) -> None:
    mine, other = [await finish(lms, school.student, samples.pdf([uuid4().hex])) for _ in range(2)]
    url = (await school.student.get(f"/files/{mine['id']}/download")).json()["url"]
    key = f"{mine['sha256'][:2]}/{mine['sha256']}"
    other_key = f"{other['sha256'][:2]}/{other['sha256']}"
    assert key in url
    query = parse_qs(urlsplit(url).query)
    without_disposition = re.sub("response-content-disposition=[^&]*&", "", url)
    for edited in (
        url.replace(key, other_key),
        url.replace("lms-clean", "lms-incoming"),
        url.replace("response-content-disposition=attachment", "response-content-disposition=inline"),
        url.replace("response-content-type=application%2Fpdf", "response-content-type=text%2Fhtml"),
        url.replace("X-Amz-Expires=300", "X-Amz-Expires=300000"),
        url.replace(query["X-Amz-Date"][0], "20990101T000000Z"),
        url.replace("/lms-clean/clean", "/lms-clean/../lms-incoming/clean"),
        url.replace("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%3Brange"),
        without_disposition,
        f"{url}&response-content-type=text%2Fhtml",
        f"{url}&response-cache-control=public",
        f"{url}&versionId=1",
        f"{url}&acl",
        url.split("&X-Amz-Signature")[0],
        url.partition("?")[0],
    ):
        assert edited != url
        assert (await fetch(edited)).status_code in (400, 403), edited
    async with browsing() as client:
        for method in ("HEAD", "PUT", "DELETE", "POST"):
            assert (await client.request(method, url, content=b"x")).status_code in (400, 403, 405)
    assert (await fetch(url)).status_code == 200


async def test_parts_are_of_the_signed_length_number_and_upload(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 1)
    content = samples.MP4 + bytes(17 * MIB)
    mine, other = [await school.teacher.create("/files", described(content, "video/mp4", "a.mp4")) for _ in range(2)]
    first, second = (part["url"] for part in mine["upload"]["parts"])
    theirs = parse_qs(urlsplit(other["upload"]["parts"][0]["url"]).query)["uploadId"][0]
    upload_id = parse_qs(urlsplit(first).query)["uploadId"][0]
    size = mine["upload"]["part_size"]
    async with browsing(timeout=60) as client:
        for url, length in (
            (first, size - 1),
            (first, size + 1),
            (first.replace("partNumber=1", "partNumber=2"), size),
            (first.replace(upload_id, theirs), size),
            (first.replace(mine["id"], other["id"]), size),
        ):
            assert (await client.put(url, content=bytes(length))).status_code in (400, 403)
        # As a copy of what is none of the client's business.
        for source in (f"/lms-incoming/incoming/{other['id']}", f"lms-clean/{lifecycle.content_key('0' * 64)}"):
            answer = await client.put(first, content=bytes(size), headers={"x-amz-copy-source": source})
            assert answer.status_code == 403
        etags = [(await client.put(first, content=content[:size])).headers["ETag"]]
        etags.append((await client.put(second, content=content[size:])).headers["ETag"])
    path = f"/files/{mine['id']}/complete"
    one, two = [{"number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
    for parts, status, code in (
        ([{**one, "etag": etags[1]}, {**two, "etag": etags[0]}], 422, "parts_refused"),
        ([{**one, "etag": "</ETag></Part>"}, two], 422, "parts_refused"),
        ([one, {**two, "etag": "\x00"}], 422, "invalid_input"),
        ([one, {**two, "number": 10_001}], 422, "invalid_input"),
        ([one, {**two, "number": 0}], 422, "invalid_input"),
        ([one, two, {**two, "number": 3}], 422, "parts_refused"),
        ([one, two, two], 422, "parts_refused"),
        ([one, one], 409, "parts_missing"),
        ([two], 409, "parts_missing"),
    ):
        answer = await school.teacher.post(path, {"parts": parts})
        assert (answer.status_code, answer.json()["code"]) == (status, code), parts
    # None of these changed anything.
    assert (await school.teacher.post(path, {"parts": [two, one]})).json()["state"] == "uploaded"
    await lms.work_off()
    assert (await downloaded(school.teacher, mine["id"])).content == content


async def test_parts_replayed_after_the_end_change_nothing(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 1)
    content = samples.MP4 + bytes(MIB)
    file = await school.student.create("/files", described(content, "video/mp4", "a.mp4"))
    parts = {"parts": await send_parts(file["upload"], content)}
    path = f"/files/{file['id']}"
    assert (await school.student.post(f"{path}/complete", parts)).status_code == 202
    await lms.work_off()
    before = (await school.student.get(path)).json()
    assert before["state"] == "ready"
    async with browsing() as client:
        answer = await client.put(file["upload"]["parts"][0]["url"], content=content[::-1])
        assert answer.status_code in (404, 200)
    for body in (parts, None, {"parts": [{"number": 1, "etag": "other"}]}):
        assert (await school.student.post(f"{path}/complete", body)).json() == before
    await lms.work_off()
    assert (await downloaded(school.student, file["id"])).content == content


async def test_sizes_that_lie(lms: Lms, school: School) -> None:
    for size in (0, -1, 1.5, "many", 1 << 63, None):
        answer = await school.student.post("/files", {**described(CONTENT), "size": size})
        assert answer.status_code in (413, 422), size
    shorter = await school.student.create("/files", {**described(CONTENT), "size": len(CONTENT) + 1})
    assert (await send_form(shorter["upload"], CONTENT)).status_code == 204
    answer = (await school.student.post(f"/files/{shorter['id']}/complete")).json()
    assert (answer["state"], answer["reason"]) == ("rejected", "size_mismatch")


# Other people's ids


async def test_foreign_ids_are_unknown_in_every_place(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    stranger: Caller = (await lms.make_school()).principal
    own = await finish(lms, stranger, CONTENT)
    path, body = f"/files/{file['id']}", {"content_type": PDF, "size": 5}
    before = (await school.teacher.get(path)).json()
    for method, place, sent in (
        ("GET", path, None),
        ("PATCH", path, {"filename": "a.pdf"}),
        ("DELETE", path, None),
        ("POST", f"{path}/restore", None),
        ("POST", f"{path}/complete", None),
        ("POST", f"{path}/cancel", None),
        ("POST", f"{path}/upload", None),
        ("GET", f"{path}/download", None),
        ("POST", f"{path}/versions", body),
        ("GET", f"{path}/versions", None),
        ("POST", f"{path}/versions/{own['id']}/make-current", None),
        ("POST", f"/files/{own['id']}/versions/{file['id']}/make-current", None),
        ("POST", "/files", described(CONTENT, course_id=school.course["id"])),
        ("GET", f"/files/limits/institutions/{school.institution['id']}", None),
        ("PATCH", f"/files/limits/institutions/{school.institution['id']}", {"limit_bytes": 1}),
        ("PATCH", f"/files/limits/users/{school.teacher.id}", {"limit_bytes": 1}),
        (
            "POST",
            "/materials",
            {"course_id": school.course["id"], "kind": "document", "title": "T", "file_id": own["id"]},
        ),
    ):
        answer = await stranger.send(method, place, **({} if sent is None else {"json": sent}))
        assert answer.status_code == 404, (method, place, answer.text)
        # What exists is answered as what does not.
        unknown = place.replace(file["id"], str(uuid4()))
        if unknown != place:
            other = await stranger.send(method, unknown, **({} if sent is None else {"json": sent}))
            assert (other.status_code, other.json()["code"]) == (404, answer.json()["code"])
    assert (await school.teacher.get(path)).json() == before


async def test_foreign_files_are_not_imported_or_shown(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    theirs = await finish(lms, other.teacher, b"email,full_name\na@example.org,A\n", "text/csv", "a.csv")
    for answer in (
        await school.principal.post(
            "/users/import", {"file_id": theirs["id"], "institution_id": school.institution["id"]}
        ),
        await school.teacher.post(
            "/materials",
            {"course_id": school.course["id"], "kind": "document", "title": "T", "file_id": theirs["id"]},
        ),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")


# Bytes


def png_with_zip() -> bytes:
    return samples.image("PNG", (8, 8)) + samples.zip_file({"a.txt": "words"})


HOSTILE: dict[str, tuple[bytes | Callable[[], bytes], str, str, tuple[str, str | None]]] = {
    "a picture that is a page too": (samples.GIF_HTML, "image/gif", "a.gif", ("rejected", "broken")),
    "a picture that is an archive too": (png_with_zip(), "image/png", "a.png", ("ready", None)),
    "an archive behind a page": (samples.HTML + samples.zip_file({"a": "b"}), "application/zip", "a.zip", ("rejected", "type_mismatch")),
    "SVG with a script as a picture": (samples.SVG, "image/png", "a.png", ("rejected", "type_mismatch")),
    "SVG with a script as text": (samples.SVG, "text/plain", "a.txt", ("rejected", "type_mismatch")),
    "a program as a document": (samples.WINDOWS_PROGRAM, PDF, "a.pdf", ("rejected", "type_mismatch")),
    "a zip bomb": (samples.zip_bomb, "application/zip", "a.zip", ("rejected", "archive_too_large")),
    "a document bomb": (samples.docx_bomb, DOCX, "a.docx", ("rejected", "archive_too_large")),
    "an archive with a link": (samples.symlink_zip(), "application/zip", "a.zip", ("rejected", "archive_unsafe")),
    "an archive that leaves its folder": (samples.zip_file({"../a": "b"}), "application/zip", "a.zip", ("rejected", "archive_unsafe")),
    "an encrypted archive": (samples.encrypted_zip(), "application/zip", "a.zip", ("rejected", "archive_encrypted")),
    "an archive of a bomb": (lambda: samples.zip_file({"b.zip": samples.zip_bomb()}), "application/zip", "a.zip", ("ready", None)),
    "an archive that lies": (hostile_samples.lying_zip(), "application/zip", "a.zip", ("ready", None)),
    "an archive without its end": (samples.zip_file({"a": "b" * 999})[:-10], "application/zip", "a.zip", ("rejected", "broken")),
    "a PDF without its end": (CONTENT[:200], PDF, "a.pdf", ("rejected", "broken")),
    "a PDF that unpacks for ever": (hostile_samples.flate_bomb_pdf, PDF, "a.pdf", ("ready", None)),
    "a PDF that contains itself": (hostile_samples.looping_pdf(), PDF, "a.pdf", ("ready", None)),
    "a PDF with a password": (samples.pdf(["a"], password="b"), PDF, "a.pdf", ("ready", None)),
    "a document that is an archive too": (CONTENT + samples.zip_file({"a": "b"}), PDF, "a.pdf", ("ready", None)),
    "an archive that is a document too": (CONTENT + samples.zip_file({"a": "b"}), "application/zip", "a.zip", ("rejected", "type_mismatch")),
    "a photo that is a program too": (samples.image("JPEG", (8, 8)) + b"<?php system($_GET[0]); ?>", "image/jpeg", "a.jpg", ("ready", None)),
    "a picture with a page behind it": (samples.image("GIF", (8, 8)) + samples.HTML, "image/gif", "a.gif", ("ready", None)),
    "a page behind a mark and a comment": (b"\xef\xbb\xbf <!-- words -->\n<HTML><body>", "text/plain", "a.txt", ("rejected", "type_mismatch")),
    "a document with macros": (hostile_samples.docx_with_macros(), DOCX, "a.docx", ("rejected", "type_mismatch")),
    "macros beside a harmless part": (hostile_samples.docx_with_macros(True), DOCX, "a.docx", ("rejected", "type_mismatch")),
    "a document of a billion laughs": (hostile_samples.laughing_docx(), DOCX, "a.docx", ("ready", None)),
    "a document of 200,000 levels": (hostile_samples.deep_docx(), DOCX, "a.docx", ("ready", None)),
    "an archive whose entries overlap": (hostile_samples.overlapping_zip(), "application/zip", "a.zip", ("rejected", "archive_too_large")),
    "an archive of claims": (hostile_samples.zip_of_claims(), "application/zip", "a.zip", ("rejected", "broken")),
    "an archive that begins at the root": (samples.zip_file({"/etc/a": "b"}), "application/zip", "a.zip", ("rejected", "archive_unsafe")),
    "an archive of 10,001 entries": (samples.zip_file({str(number): b"" for number in range(10_001)}), "application/zip", "a.zip", ("rejected", "archive_too_large")),
    "a PDF packed twice": (hostile_samples.twice_packed_pdf, PDF, "a.pdf", ("ready", None)),
    "a PDF with a picture of 50,000 × 50,000": (lambda: hostile_samples.pdf_with_picture(hostile_samples.packed(bytes(MIB), 300), b"FlateDecode"), PDF, "a.pdf", ("ready", None)),
    "the same in JBIG2": (hostile_samples.jbig2_pdf(), PDF, "a.pdf", ("ready", None)),
    "a PDF whose drawings draw each other": (hostile_samples.drawing_loop_pdf(), PDF, "a.pdf", ("ready", None)),
    "a PDF whose table comes before itself": (hostile_samples.table_loop_pdf(), PDF, "a.pdf", ("rejected", "broken")),
    "a PDF of 50,000 levels": (hostile_samples.pdf_with_deep_pages(), PDF, "a.pdf", ("ready", None)),
    "a PDF of 100,000 pages": (hostile_samples.pdf_with_many_pages(), PDF, "a.pdf", ("ready", None)),
    "a text that is one line": ("\U0001f600".encode() * (5 * MIB), "text/plain", "a.txt", ("ready", None)),
    "a WebP as large as a wall": (hostile_samples.webp_of_claimed_size(50_000, 50_000), "image/webp", "a.webp", ("rejected", "image_too_large")),
    "a GIF as large as a wall": (hostile_samples.gif_of_frames(50_000, 50_000, 1, 1), "image/gif", "a.gif", ("rejected", "image_too_large")),
    "a GIF of 20,000 frames": (hostile_samples.gif_of_frames(2000, 2000, 1, 20_000), "image/gif", "a.gif", ("ready", None)),
    "a JPEG as large as a wall": (hostile_samples.jpeg_of_claimed_size(50_000, 50_000), "image/jpeg", "a.jpg", ("rejected", "image_too_large")),
    "a picture with a text that unpacks for ever": (lambda: hostile_samples.png_with_chunk(b"zTXt"), "image/png", "a.png", ("rejected", "broken")),
    "a picture with a profile that does": (lambda: hostile_samples.png_with_chunk(b"iCCP"), "image/png", "a.png", ("rejected", "broken")),
    "a picture as large as a wall": (samples.png_of_claimed_size(50_000, 50_000), "image/png", "a.png", ("rejected", "image_too_large")),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
async def test_hostile_bytes(lms: Lms, school: School, case: str) -> None:
    source, content_type, filename, outcome = HOSTILE[case]
    content = samples.made(source)
    with watched_children() as peaks:
        file = await finish(lms, school.student, content, content_type, filename)
    assert (file["state"], file["reason"]) == outcome
    assert "pending" not in str(file["derivatives"])
    if outcome[0] == "ready":
        answer = await downloaded(school.student, file["id"])
        assert answer.content == content
        assert answer.headers["Content-Type"] == content_type
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert 0 < max(peaks.values()) < CHILD_BYTES


@contextmanager
def watched_children() -> Iterator[dict[int, int]]:
    """The most memory that each limited child had, in bytes, by its pid.

    The kernel's own count of ended children is no use: it begins with what the process that forked them had.
    """
    children: list[asyncio.subprocess.Process] = []
    peaks: dict[int, int] = {}
    over = threading.Event()
    start = asyncio.create_subprocess_exec

    # Told by who starts them: to look for them among all processes of the machine takes longer than they do.
    async def start_and_tell(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        child = await start(*command, **options)
        if "lms_files.extraction" in command:
            children.append(child)
        return child

    def watch() -> None:
        while not over.wait(0.005):
            for child in children:
                # One that has just ended has none any more.
                with suppress(OSError):
                    if child.returncode is None:
                        peaks[child.pid] = max(peaks.get(child.pid, 0), peak_of(child.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with patch.object(asyncio, "create_subprocess_exec", start_and_tell):
            yield peaks
    finally:
        over.set()
        thread.join()


def peak_of(pid: int) -> int:
    """VmHWM of proc(5), in bytes; 0 for a process that has ended."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


async def test_after_all_of_it_an_ordinary_upload_is_ready(lms: Lms, school: School) -> None:
    file = await finish(lms, school.student, CONTENT)
    assert (file["state"], file["derivatives"]["text"]["state"]) == ("ready", "ready")
    assert (await downloaded(school.student, file["id"])).content == CONTENT


async def test_others_are_served_while_a_bomb_is_looked_at(lms: Lms, school: School) -> None:
    await upload(school.student, samples.docx_memory_bomb(), DOCX, "bomb.docx")
    plain = await upload(school.teacher, CONTENT)
    working = asyncio.create_task(lms.work_off())
    answers = [(await school.teacher.get("/courses")).status_code for _ in range(20)]
    await working
    assert set(answers) == {200}
    assert (await school.teacher.get(f"/files/{plain['id']}")).json()["state"] == "ready"
