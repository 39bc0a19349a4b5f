"""Large uploads that stop half-way: signed again, listed, put together, or given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import samples
from browser import browsing, described, downloaded, send_form, send_parts
from lms_files import uploads
from lms_files.settings import MIB, FilesSettings
from lms_files.storage import store_of
from lms_files.storage_clients import ObjectMissing

from lms_core.testing import Caller, Lms, School

CONTENT = samples.MP4 + bytes(40 * MIB)


@pytest.fixture
async def begun(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An upload in three parts, of which none has arrived."""
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 1)
    return await school.teacher.create("/files", described(CONTENT, "video/mp4", "lecture.mp4"))


async def send_some(upload: dict[str, Any], *numbers: int) -> None:
    """PUT these parts; what the store answers is forgotten."""
    async with browsing(timeout=60) as client:
        for part in upload["parts"]:
            if part["number"] in numbers:
                start = (part["number"] - 1) * upload["part_size"]
                answer = await client.put(part["url"], content=CONTENT[start : start + upload["part_size"]])
                assert answer.status_code == 200, answer.text


async def signed_again(caller: Caller, file: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = await caller.post(f"/files/{file['id']}/upload", body or None)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    upload: dict[str, Any] = answer.json()["upload"]
    return upload


async def test_an_upload_goes_on_where_it_stopped(lms: Lms, school: School, begun: dict[str, Any]) -> None:
    assert (begun["upload"]["part_count"], begun["upload"]["uploaded"]) == (3, [])
    await send_some(begun["upload"], 1, 3)
    path = f"/files/{begun['id']}/complete"
    answer = await school.teacher.post(path)
    assert (answer.status_code, answer.json()["code"]) == (409, "parts_missing")
    assert "arrived: 2;" in answer.json()["detail"]
    # The browser was closed: all that is left is the id.
    await lms.sql("UPDATE files_file SET expires_at = now() + interval '1 s' WHERE id = :id", id=begun["id"])
    upload = await signed_again(school.teacher, begun)
    assert [part["number"] for part in upload["parts"]] == [2]
    assert [part["number"] for part in upload["uploaded"]] == [1, 3]
    assert upload["uploaded"][0]["size"] == upload["part_size"]
    assert upload["expires_at"] > begun["upload"]["expires_at"]
    [row] = await lms.sql(
        "SELECT expires_at - now() > interval '23 h' AS waits FROM files_file WHERE id = :id", id=begun["id"]
    )
    assert row["waits"]
    await send_some(upload, 2)
    for _ in range(2):
        answer = await school.teacher.post(path)
        assert (answer.status_code, answer.json()["state"]) == (202, "uploaded")
    await lms.work_off()
    assert (await downloaded(school.teacher, begun["id"])).content == CONTENT
    answer = await school.teacher.post(f"/files/{begun['id']}/upload")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_completed")


@pytest.mark.parametrize("are_named", [False, True], ids=["all that arrived", "as they were listed"])
async def test_what_was_put_together_without_our_knowing_is_completed(
    lms: Lms, school: School, begun: dict[str, Any], are_named: bool
) -> None:
    parts = await send_parts(begun["upload"], CONTENT)
    [row] = await lms.sql("SELECT upload_id FROM files_file WHERE id = :id", id=begun["id"])
    # We asked the store, and died.
    await store_of(lms.context).complete_multipart(
        f"incoming/{begun['id']}", row["upload_id"], [(part["number"], part["etag"]) for part in parts]
    )
    for body in ({}, {"numbers": [2]}):
        upload = await signed_again(school.teacher, begun, **body)
        assert upload["parts"] == []
        assert [part["number"] for part in upload["uploaded"]] == [1, 2, 3]
        assert sum(part["size"] for part in upload["uploaded"]) == len(CONTENT)
    listed = {"parts": [{"number": part["number"], "etag": part["etag"]} for part in upload["uploaded"]]}
    answer = await school.teacher.post(f"/files/{begun['id']}/complete", listed if are_named else None)
    assert (answer.status_code, answer.json()["state"]) == (202, "uploaded")
    await lms.work_off()
    assert (await downloaded(school.teacher, begun["id"])).content == CONTENT


async def test_parts_are_signed_by_number(school: School, begun: dict[str, Any]) -> None:
    upload = await signed_again(school.teacher, begun, numbers=[3, 1])
    assert [part["number"] for part in upload["parts"]] == [3, 1]
    for numbers in ([0], [4], []):
        answer = await school.teacher.post(f"/files/{begun['id']}/upload", {"numbers": numbers})
        assert answer.status_code == 422
    await send_some(upload, 1, 3)
    # A part that was sent badly is sent again; the last one counts.
    await send_some(begun["upload"], 1, 2)
    assert (await school.teacher.post(f"/files/{begun['id']}/complete")).status_code == 202


async def test_a_form_is_signed_again_too(lms: Lms, school: School) -> None:
    content = samples.pdf(["words"])
    file = await school.student.create("/files", described(content))
    upload = await signed_again(school.student, file)
    assert (await send_form(upload, content)).status_code == 204
    assert (await school.student.post(f"/files/{file['id']}/upload", {"numbers": [1]})).status_code == 422
    assert (await school.student.post(f"/files/{file['id']}/complete")).status_code == 202
    assert (await school.teacher.post(f"/files/{file['id']}/upload")).status_code == 404


async def test_there_are_never_more_than_a_hundred_addresses_at_once(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lms.context.platform.plugin_settings(FilesSettings)
    monkeypatch.setattr(settings, "max_upload_mb", 5 * MIB)
    monkeypatch.setattr(settings, "quota_mb", 10 * MIB)
    body = {"filename": "a.mp4", "content_type": "video/mp4", "size": 5 << 40, "course_id": school.course["id"]}
    file = await school.teacher.create("/files", body)
    assert (file["upload"]["part_count"], len(file["upload"]["parts"])) == (10_000, 100)
    last = await signed_again(school.teacher, file, numbers=[10_000])
    assert [part["number"] for part in last["parts"]] == [10_000]
    await school.teacher.post(f"/files/{file['id']}/cancel")


async def test_giving_up_forgets_the_parts(lms: Lms, school: School, begun: dict[str, Any]) -> None:
    await send_some(begun["upload"], 1)
    rows = await lms.sql("SELECT upload_id FROM files_file WHERE id = :id", id=begun["id"])
    assert (await school.teacher.post(f"/files/{begun['id']}/cancel")).status_code == 200
    await lms.work_off()
    with pytest.raises(ObjectMissing):
        await store_of(lms.context).uploaded_parts(f"incoming/{begun['id']}", rows[0]["upload_id"])
    answer = await school.teacher.post(f"/files/{begun['id']}/upload")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_cancelled")


async def test_nobody_uploads_for_ever(lms: Lms, school: School, begun: dict[str, Any]) -> None:
    old = uploads.UPLOAD_DAYS.days + 1
    await lms.sql(
        "UPDATE files_file SET created_at = now() - make_interval(days => :old) WHERE id = :id", id=begun["id"], old=old
    )
    answer = await school.teacher.post(f"/files/{begun['id']}/upload")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_expired")


async def test_fifty_parallel_completes_are_one(lms: Lms, school: School, begun: dict[str, Any]) -> None:
    parts = await send_parts(begun["upload"], CONTENT)
    path = f"/files/{begun['id']}/complete"
    answers = await asyncio.gather(*(school.teacher.post(path, {"parts": parts}) for _ in range(50)))
    assert {answer.status_code for answer in answers} <= {202, 503}
    assert 202 in {answer.status_code for answer in answers}
    events = "SELECT count(*) AS n FROM core_event WHERE name = 'files.uploaded.v1' AND payload->>'file_id' = :id"
    assert (await lms.sql(events, id=begun["id"]))[0]["n"] == 1
    await lms.work_off()
    assert (await school.teacher.get(f"/files/{begun['id']}")).json()["state"] == "ready"
