"""Requesting and completing uploads: who may, what is taken, and what the store itself refuses."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
import samples
from browser import PDF, described, downloaded, finish, send_form, send_parts, upload
from lms_files.settings import MIB, FilesSettings

from lms_core.testing import Lms, School

CONTENT = samples.pdf(["Photosynthesis needs light."])


async def quota(lms: Lms, id: object) -> tuple[int, int]:
    """Used and reserved bytes."""
    rows = await lms.sql("SELECT used_bytes, reserved_bytes FROM files_quota WHERE id = :id", id=id)
    return (rows[0]["used_bytes"], rows[0]["reserved_bytes"]) if rows else (0, 0)


async def test_a_request_says_where_to_upload(school: School) -> None:
    answer = await school.student.post("/files", described(CONTENT, course_id=school.course["id"]))
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert file["state"] == "requested"
    assert file["reason"] is None
    assert file["derivatives"] == {name: {"state": "pending"} for name in ("text", "thumbnail", "preview")}
    assert file["upload"]["kind"] == "post"
    assert file["upload"]["fields"]["key"] == f"incoming/{file['id']}"
    assert file["upload"]["expires_at"].endswith("Z")
    assert answer.headers["ETag"]
    shown = (await school.student.get(f"/files/{file['id']}")).json()
    del file["upload"]
    assert shown == file


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"content_type": "text/html"}, 415, "content_type_not_allowed"),
        ({"content_type": "image/svg+xml"}, 415, "content_type_not_allowed"),
        ({"filename": "program.exe"}, 415, "content_type_not_allowed"),
        ({"filename": "page.html. "}, 415, "content_type_not_allowed"),
        ({"size": 5 << 40}, 413, "file_too_large"),
        ({"size": 0}, 422, "invalid_input"),
        ({"size": -1}, 422, "invalid_input"),
        ({"size": True}, 422, "invalid_input"),
        ({"size": "5"}, 422, "invalid_input"),
        ({"sha256": "abc"}, 422, "invalid_input"),
        ({"filename": "../"}, 422, "invalid_input"),
        ({"filename": "x" * 256}, 422, "invalid_input"),
        ({"content_type": "pdf"}, 422, "invalid_input"),
        ({"course_id": "no uuid"}, 422, "invalid_input"),
        ({"course_id": 5}, 422, "invalid_input"),
        ({"unknown": 1}, 422, "invalid_input"),
    ],
)
async def test_what_is_not_taken(school: School, changes: dict[str, object], status: int, code: str) -> None:
    answer = await school.student.post("/files", {**described(CONTENT), **changes})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_windows_calls_a_csv_file_one_of_excels(lms: Lms, school: School) -> None:
    file = await finish(lms, school.student, b"a,b\n1,2\n", "application/vnd.ms-excel", "grades.CSV")
    assert (file["state"], file["content_type"]) == ("ready", "text/csv")
    assert (await downloaded(school.student, file["id"])).headers["Content-Type"] == "text/csv"


async def test_who_may_upload_to_a_course(lms: Lms, school: School) -> None:
    body = described(CONTENT, course_id=school.course["id"])
    for caller in (school.teacher, school.principal, school.student, await lms.admin()):
        assert (await caller.post("/files", body)).status_code == 201
    assert (await lms.anonymous.post("/files", body)).status_code == 401
    stranger = (await lms.make_school()).student
    answer = await stranger.post("/files", body)
    assert (answer.status_code, answer.json()["code"]) == (404, "course_not_found")
    random = await stranger.post("/files", {**body, "course_id": str(uuid4())})
    assert random.status_code == 404
    assert random.json()["detail"] == answer.json()["detail"]
    # What the caller may not know comes before what is wrong with the rest.
    assert (await stranger.post("/files", {"course_id": school.course["id"]})).status_code == 404
    classmate = await lms.make_user("student", school.institution["id"])
    assert (await classmate.post("/files", body)).status_code == 403
    assert (await (await lms.admin()).delete(f"/courses/{school.course['id']}")).status_code == 202
    assert (await school.teacher.post("/files", body)).status_code == 404


async def test_a_file_without_a_course_is_its_owners(lms: Lms, school: School) -> None:
    nobody = await lms.make_user()
    file = await finish(lms, nobody, CONTENT)
    assert (file["state"], file["course_id"], file["owner_id"]) == ("ready", None, str(nobody.id))
    assert (await school.teacher.get(f"/files/{file['id']}")).status_code == 404
    assert await quota(lms, nobody.id) == (len(CONTENT), 0)


async def test_the_store_refuses_what_was_not_signed(school: School) -> None:
    upload_form = (await school.student.create("/files", described(CONTENT)))["upload"]
    assert (await send_form(upload_form, CONTENT + b"x")).status_code == 400
    assert (await send_form(upload_form, CONTENT, key="incoming/another")).status_code == 403
    assert (await send_form(upload_form, CONTENT, **{"Content-Type": "text/html"})).status_code == 403
    assert (await send_form(upload_form, CONTENT, **{"x-amz-signature": "0" * 64})).status_code == 403
    assert (await send_form(upload_form, CONTENT)).status_code == 204


async def test_completing_before_anything_was_uploaded(school: School) -> None:
    file = await school.student.create("/files", described(CONTENT))
    answer = await school.student.post(f"/files/{file['id']}/complete")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_missing")
    assert (await send_form(file["upload"], CONTENT)).status_code == 204
    assert (await school.student.post(f"/files/{file['id']}/complete", {})).status_code == 202


async def test_completing_again_is_answered_with_the_file_as_it_is(lms: Lms, school: School) -> None:
    file = await school.student.create("/files", described(CONTENT))
    await send_form(file["upload"], CONTENT)
    path = f"/files/{file['id']}/complete"
    answers = await asyncio.gather(*(school.student.post(path) for _ in range(5)))
    assert [(answer.status_code, answer.json()["state"]) for answer in answers] == [(202, "uploaded")] * 5
    events = "SELECT id FROM core_event WHERE name = 'files.uploaded.v1' AND payload->>'file_id' = :id"
    assert len(await lms.sql(events, id=file["id"])) == 1
    await lms.work_off()
    answer = await school.student.post(path)
    assert (answer.status_code, answer.json()["state"]) == (202, "ready")


async def test_only_the_requester_completes(school: School) -> None:
    file = await school.student.create("/files", described(CONTENT, course_id=school.course["id"]))
    assert (await school.teacher.post(f"/files/{file['id']}/complete")).status_code == 403
    assert (await school.teacher.post(f"/files/{file['id']}/cancel")).status_code == 403


async def test_a_shorter_upload_is_rejected(lms: Lms, school: School) -> None:
    file = await school.student.create("/files", described(CONTENT))
    assert (await send_form(file["upload"], CONTENT[:-1])).status_code == 204
    answer = (await school.student.post(f"/files/{file['id']}/complete")).json()
    assert (answer["state"], answer["reason"]) == ("rejected", "size_mismatch")
    await lms.work_off()
    assert (await quota(lms, school.student.id))[1] == 0


async def test_cancelling(lms: Lms, school: School) -> None:
    file = await school.student.create("/files", described(CONTENT))
    path = f"/files/{file['id']}"
    for _ in range(2):
        answer = await school.student.post(f"{path}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert (await school.student.post(f"{path}/complete")).json()["code"] == "upload_cancelled"
    assert await quota(lms, school.student.id) == (0, 0)
    finished = await finish(lms, school.student, CONTENT)
    assert (await school.student.post(f"/files/{finished['id']}/cancel")).json()["code"] == "upload_completed"


async def test_there_is_no_more_room_than_the_quota(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = lms.context.platform.plugin_settings(FilesSettings)
    monkeypatch.setattr(settings, "quota_mb", 1)
    body = described(b"x" * (MIB // 4), course_id=school.course["id"])
    answers = await asyncio.gather(*(school.student.post("/files", body) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [409] * 6
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert refused.json()["code"] == "quota_exceeded"
    assert await quota(lms, school.institution["id"]) == (0, MIB)
    taken = next(answer for answer in answers if answer.status_code == 201)
    await school.student.post(f"/files/{taken.json()['id']}/cancel")
    assert (await school.student.post("/files", body)).status_code == 201


async def test_an_upload_in_parts(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 1)
    content = samples.MP4 + bytes(20 * MIB)
    file = await school.teacher.create("/files", described(content, "video/mp4", "lecture.mp4"))
    assert (file["upload"]["kind"], len(file["upload"]["parts"])) == ("multipart", 2)
    path = f"/files/{file['id']}/complete"
    wrong = {"parts": [{"number": number, "etag": '"0"'} for number in (1, 2)]}
    assert (await school.teacher.post(path)).json()["code"] == "upload_missing"
    assert (await school.teacher.post(path, wrong)).json()["code"] == "upload_missing"
    parts = await send_parts(file["upload"], content)
    assert (await school.teacher.post(path, wrong)).json()["code"] == "parts_refused"
    for _ in range(2):
        answer = await school.teacher.post(path, {"parts": parts[::-1]})
        assert (answer.status_code, answer.json()["state"]) == (202, "uploaded")
    await lms.work_off()
    assert (await school.teacher.get(f"/files/{file['id']}")).json()["state"] == "ready"
    assert (await downloaded(school.teacher, file["id"])).content == content


@pytest.mark.parametrize("size", [1, 500])
async def test_everything_goes_in_parts_where_the_store_takes_no_forms(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(FilesSettings), "multipart_from_mb", 0)
    content = b"x" * size
    file = await school.student.create("/files", described(content, "text/plain", "a.txt"))
    assert (file["upload"]["kind"], file["upload"]["part_count"]) == ("multipart", 1)
    await send_parts(file["upload"], content)
    assert (await school.student.post(f"/files/{file['id']}/complete")).status_code == 202
    await lms.work_off()
    assert (await downloaded(school.student, file["id"])).content == content


async def test_an_idempotency_key_makes_one_request_of_two(school: School) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    first, second = [await school.student.post("/files", described(CONTENT), headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"


async def test_uploads_of_a_deleted_course_are_gone(lms: Lms, school: School) -> None:
    uploaded = await upload(school.student, CONTENT, course_id=school.course["id"])
    assert (await (await lms.admin()).delete(f"/courses/{school.course['id']}")).status_code == 202
    assert (await school.student.post(f"/files/{uploaded['id']}/complete")).status_code == 404
    await lms.work_off()
    assert (await lms.sql("SELECT state FROM files_file WHERE id = :id", id=uploaded["id"]))[0]["state"] == "uploaded"
    assert (await (await lms.admin()).post(f"/courses/{school.course['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.student.get(f"/files/{uploaded['id']}")).json()["state"] == "uploaded"
    assert uploaded["content_type"] == PDF
