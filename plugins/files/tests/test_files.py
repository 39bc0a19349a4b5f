"""What becomes of uploads: verified, made readable, handed out to those who may; or rejected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import pytest
import samples
from browser import PDF, described, downloaded, fetch, finish, send_form, upload
from lms_files import lifecycle, verification
from lms_files.content_types import DOCX
from lms_files.contracts import FileLibrary, FileReady, FileUploaded
from lms_files.extraction_jobs import Failure
from lms_files.storage import Store, store_of
from lms_files.storage_clients import ObjectMissing
from lms_files.verification import verify

from lms_core.testing import Caller, Lms, School

CONTENT = samples.pdf(["Photosynthesis needs light.", "", "Mitochondria do not."])


async def pages_of(lms: Lms, file_id: str) -> list[tuple[int, str]]:
    """As the materials plugin asks for them."""
    async with lms.context.unit_of_work() as uow:
        return await uow.use(FileLibrary).pages(uow, file_id)  # type: ignore[type-abstract, arg-type]


async def test_a_pdf(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    assert (file["state"], file["reason"]) == ("ready", None)
    text = file["derivatives"]["text"]
    assert text == {"state": "ready", "pages": 3, "characters": 47}
    assert file["derivatives"]["thumbnail"] == {"state": "ready", "width": 363, "height": 512}
    assert file["derivatives"]["preview"] == {"state": "ready", "width": 1132, "height": 1600}
    assert await pages_of(lms, file["id"]) == [(1, "Photosynthesis needs light."), (3, "Mitochondria do not.")]
    answer = await downloaded(school.student, file["id"])
    assert answer.content == CONTENT
    assert answer.headers["Content-Type"] == PDF
    assert answer.headers["Content-Disposition"].startswith("attachment; ")
    thumbnail = await downloaded(school.student, file["id"], variant="thumbnail")
    assert thumbnail.content[8:12] == b"WEBP"
    assert thumbnail.headers["Content-Type"] == "image/webp"
    events = "SELECT count(*) AS n FROM core_event WHERE name = 'files.text_extracted.v1' AND payload->>'file_id' = :id"
    assert (await lms.sql(events, id=file["id"]))[0]["n"] == 1


@pytest.mark.parametrize(
    ("content", "content_type", "filename", "derivatives"),
    [
        (
            samples.docx_file(["Größe"]),
            DOCX,
            "essay.docx",
            {"text": {"state": "ready", "pages": 1, "characters": 5}, "thumbnail": {"state": "none"}},
        ),
        (
            samples.image("PNG", (1000, 500)),
            "image/png",
            "photo.png",
            {"text": {"state": "none"}, "thumbnail": {"state": "ready", "width": 512, "height": 256}},
        ),
        (samples.MP3, "audio/mpeg", "talk.mp3", {"text": {"state": "none"}, "thumbnail": {"state": "none"}}),
        (
            samples.pdf(["words"], password="locked"),
            PDF,
            "locked.pdf",
            {
                "text": {"state": "failed", "reason": "encrypted"},
                "thumbnail": {"state": "failed", "reason": "encrypted"},
            },
        ),
        (
            samples.docx_memory_bomb(),
            DOCX,
            "bomb.docx",
            {"text": {"state": "failed", "reason": "out_of_memory"}, "thumbnail": {"state": "none"}},
        ),
    ],
    ids=["docx", "png", "mp3", "locked pdf", "docx that takes too much memory"],
)
async def test_other_types(
    lms: Lms, school: School, content: bytes, content_type: str, filename: str, derivatives: dict[str, Any]
) -> None:
    file = await finish(lms, school.teacher, content, content_type, filename)
    made = file["derivatives"]
    assert made.pop("preview")["state"] == derivatives["thumbnail"]["state"]
    assert (file["state"], made) == ("ready", derivatives)
    assert (await downloaded(school.teacher, file["id"])).content == content
    if derivatives["thumbnail"]["state"] != "ready":
        answer = await school.teacher.get(f"/files/{file['id']}/download?variant=thumbnail")
        assert (answer.status_code, answer.json()["code"]) == (404, "picture_not_found")
        # Whatever is asked for, the code is one that clients know.
        for variant in ("state", "file", "course"):
            answer = await school.teacher.get(f"/files/{file['id']}/download?variant={variant}")
            assert (answer.status_code, answer.json()["code"]) == (404, "picture_not_found")


@pytest.mark.parametrize(
    ("content", "content_type", "more", "reason"),
    [
        (samples.HTML, "image/png", {}, "type_mismatch"),
        (samples.ELF, PDF, {}, "type_mismatch"),
        (samples.zip_bomb, "application/zip", {}, "archive_too_large"),
        (CONTENT, PDF, {"sha256": "0" * 64}, "sha256_mismatch"),
    ],
    ids=["a page", "a program", "a zip bomb", "another sum"],
)
async def test_rejected(
    lms: Lms,
    school: School,
    content: bytes | Callable[[], bytes],
    content_type: str,
    more: dict[str, str],
    reason: str,
) -> None:
    sent = samples.made(content)
    file = await finish(lms, school.teacher, sent, content_type, "a file", course_id=school.course["id"], **more)
    assert (file["state"], file["reason"]) == ("rejected", reason)
    assert file["derivatives"] == {name: {"state": "none"} for name in ("text", "thumbnail", "preview")}
    answer = await school.teacher.get(f"/files/{file['id']}/download")
    assert (answer.status_code, answer.json()["code"]) == (409, "file_not_ready")
    rows = await lms.sql("SELECT * FROM files_quota WHERE id = :id", id=school.institution["id"])
    assert (rows[0]["used_bytes"], rows[0]["reserved_bytes"]) == (0, 0)


async def test_without_a_verdict_a_file_is_never_ready(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(job: object) -> Failure:
        return Failure("crashed")

    monkeypatch.setattr(verification, "run_limited", crash)
    file = await finish(lms, school.teacher, CONTENT)
    assert (file["state"], file["reason"]) == ("rejected", "crashed")


async def test_an_upload_replayed_later_changes_nothing_for_readers(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    other = samples.pdf(["Something else."])
    assert (await send_form(file["upload"], other + bytes(len(CONTENT) - len(other)))).status_code == 204
    assert (await school.teacher.post(f"/files/{file['id']}/complete")).json()["state"] == "ready"
    await lms.work_off()
    assert (await downloaded(school.student, file["id"])).content == CONTENT


async def test_an_upload_replaced_before_it_was_verified_is_rejected(lms: Lms, school: School) -> None:
    file = await upload(school.teacher, CONTENT)
    assert (await send_form(file["upload"], CONTENT[:-1] + b" ")).status_code == 204
    await lms.work_off()
    found = (await school.teacher.get(f"/files/{file['id']}")).json()
    assert (found["state"], found["reason"]) == ("rejected", "upload_changed")


async def test_verifying_twice_is_verifying_once(lms: Lms, school: School) -> None:
    file = await upload(school.teacher, CONTENT)
    event = FileUploaded(file_id=file["id"])
    for _ in range(2):
        await verify(lms.context, event)
    await lms.work_off()
    states = "SELECT count(*) AS n FROM core_event WHERE name = :name AND payload->>'file_id' = :id"
    assert (await lms.sql(states, name=FileReady.event_name, id=file["id"]))[0]["n"] == 1
    rows = await lms.sql("SELECT * FROM files_quota WHERE id = :id", id=school.teacher.id)
    assert (rows[0]["used_bytes"], rows[0]["reserved_bytes"]) == (len(CONTENT), 0)


@pytest.mark.parametrize(
    ("place", "step"),
    [(verification, "inspect"), (Store, "publish"), (lifecycle, "publish"), (verification, "tidy")],
    ids=["looking at it", "copying", "saying so", "tidying"],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_worker_that_dies_at_any_step(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch, place: Any, step: str, after: bool
) -> None:
    # Bytes that nobody has uploaded before, so that there is something to copy.
    content = samples.pdf([uuid4().hex])
    file = await upload(school.teacher, content)
    whole = getattr(place, step)

    async def half(*arguments: Any) -> None:
        if after:
            await whole(*arguments)
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(place, step, half)
        with pytest.raises(RuntimeError):
            await verify(lms.context, FileUploaded(file_id=file["id"]))
    await lms.work_off()
    assert (await school.teacher.get(f"/files/{file['id']}")).json()["derivatives"]["text"]["state"] == "ready"
    assert (await downloaded(school.teacher, file["id"])).content == content
    rows = await lms.sql("SELECT * FROM files_quota WHERE id = :id", id=school.teacher.id)
    assert (rows[0]["used_bytes"], rows[0]["reserved_bytes"]) == (len(content), 0)
    with pytest.raises(ObjectMissing):
        await store_of(lms.context).find("lms-incoming", f"incoming/{file['id']}")


@pytest.mark.parametrize(
    ("name", "fallback"),
    [
        ("Prüfung 1.pdf", "Prufung 1.pdf"),
        ("講義.pdf", "__.pdf"),
        ("Лекция №1.pdf", None),
        ("محاضرة.pdf", "______.pdf"),
        ('a "quoted"; name=%41.pdf', "a _quoted_; name=_41.pdf"),
        ("🧬.pdf", "_.pdf"),
    ],
)
async def test_names_in_every_script(lms: Lms, school: School, name: str, fallback: str | None) -> None:
    file = await finish(lms, school.teacher, CONTENT, PDF, name)
    assert file["filename"] == name
    disposition = (await downloaded(school.teacher, file["id"])).headers["Content-Disposition"]
    plain, _, encoded = disposition.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert fallback in (None, plain)
    assert plain.isascii()
    assert unquote(encoded) == name


async def test_redirected_to_the_store(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT)
    answer = await school.teacher.get(f"/files/{file['id']}/download?redirect=true")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (307, "no-store")
    url = answer.headers["Location"]
    assert "X-Amz-Expires=300" in url
    assert (await fetch(url)).content == CONTENT
    assert (await fetch(url.replace("Signature=", "Signature=0"))).status_code == 403
    assert (await fetch(url.partition("?")[0])).status_code == 403


async def test_who_may_read(lms: Lms, school: School) -> None:
    shared = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    handed_in = await finish(lms, school.student, CONTENT, course_id=school.course["id"])
    classmate = await lms.make_user("student", school.institution["id"])
    for file in (shared, handed_in):
        assert (await classmate.get(f"/files/{file['id']}")).status_code == 404
    await lms.enroll(school.course["id"], classmate)
    assert [file["id"] for file in await classmate.items("/files", course_id=school.course["id"])] == [shared["id"]]
    assert (await classmate.get(f"/files/{handed_in['id']}/download")).status_code == 404
    for caller in (school.teacher, school.principal, await lms.admin()):
        assert (await downloaded(caller, handed_in["id"])).status_code == 200
    stranger = (await lms.make_school()).principal
    for path in ("", "/download"):
        answer = await stranger.get(f"/files/{shared['id']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "file_not_found")
    for body in ({"filename": "a.pdf"}, {"filename": 5}):
        assert (await stranger.patch(f"/files/{shared['id']}", body)).status_code == 404
        assert (await stranger.post(f"/files/{shared['id']}/complete", body)).status_code == 404
    assert (await stranger.delete(f"/files/{shared['id']}")).status_code == 404
    assert await stranger.items("/files", course_id=school.course["id"]) == []


async def test_sharing_is_up_to_those_who_show_a_file(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    for shared, status in ((False, 404), (True, 200)):
        async with lms.context.unit_of_work() as uow:
            await uow.use(FileLibrary).share(uow, [UUID(file["id"])], shared)
        assert (await school.student.get(f"/files/{file['id']}")).status_code == status


async def test_lists(lms: Lms, school: School) -> None:
    ready = await finish(lms, school.student, CONTENT)
    requested = await school.student.create("/files", described(CONTENT, course_id=school.course["id"]))
    assert [file["id"] for file in await school.student.items("/files")] == [requested["id"], ready["id"]]
    assert [file["id"] for file in await school.student.items("/files", state="ready")] == [ready["id"]]
    assert await school.student.items("/files", course_id=school.institution["id"]) == []
    assert (await school.student.get("/files?state=lost")).status_code == 422


async def test_renaming(lms: Lms, school: School) -> None:
    file = await finish(lms, school.student, CONTENT, course_id=school.course["id"])
    path = f"/files/{file['id']}"
    answer = await school.student.patch(path, {"filename": " ..\\a/b\u202efdp.pdf "})
    assert answer.json()["filename"] == "bfdp.pdf"
    stale = await school.student.patch(path, {"filename": "c.pdf"}, headers={"If-Match": '"1.0"'})
    assert stale.status_code == 412
    assert (await school.student.patch(path, {"filename": "b.exe"})).json()["code"] == "filename_not_allowed"
    assert (await school.student.patch(path, {"content_type": "image/png"})).status_code == 422
    assert (await school.teacher.patch(path, {"filename": "d.pdf"})).status_code == 200
    shared = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    assert (await school.student.patch(f"/files/{shared['id']}", {"filename": "e.pdf"})).status_code == 403


async def changes(caller: Caller, file: dict[str, Any], version_id: str | None = None) -> set[int]:
    """What each way of changing a file is answered with; the last one deletes it."""
    path, body = f"/files/{file['id']}", {"content_type": PDF, "size": len(CONTENT)}
    answers = [
        await caller.patch(path, {"filename": "other.pdf"}),
        await caller.post(f"{path}/versions", body),
        await caller.get(f"{path}/versions"),
    ]
    if version_id is not None:
        answers.append(await caller.post(f"{path}/versions/{version_id}/make-current"))
        answers.append(await caller.delete(f"/files/{version_id}"))
    answers.append(await caller.delete(path))
    return {answer.status_code for answer in answers}


async def test_who_leaves_a_course_leaves_its_files(lms: Lms, school: School) -> None:
    admin, teacher = await lms.admin(), await lms.make_user("teacher", school.institution["id"])
    student, assistant = [await lms.make_user("student", school.institution["id"]) for _ in range(2)]
    enrollments = [
        await lms.enroll(school.course["id"], caller, role)
        for caller, role in ((teacher, "teacher"), (student, "student"), (assistant, "assistant"))
    ]
    files = [
        await finish(lms, caller, CONTENT, course_id=school.course["id"]) for caller in (teacher, student, assistant)
    ]
    own = await finish(lms, student, CONTENT)
    version = await teacher.create(f"/files/{files[0]['id']}/versions", {"content_type": PDF, "size": len(CONTENT)})
    await send_form(version["upload"], CONTENT)
    for enrollment in enrollments[:2]:
        answer = await admin.patch(f"/enrollments/{enrollment['id']}", {"state": "dropped"})
        assert answer.status_code == 200, answer.text
    # What they asked for while they could is not taken any more.
    assert (await teacher.post(f"/files/{version['id']}/complete")).status_code == 403
    for caller, file in zip((teacher, student), files, strict=False):
        assert await changes(caller, file) == {403}
        assert (await downloaded(caller, file["id"])).content == CONTENT
    assert await changes(assistant, files[2]) == {200, 201, 202}
    assert await changes(student, own) == {200, 201, 202}


async def test_what_the_class_reads_is_not_changed_by_a_student(lms: Lms, school: School) -> None:
    file = await finish(lms, school.student, CONTENT, course_id=school.course["id"])
    path, other = f"/files/{file['id']}", samples.pdf(["Other words."])
    versions = [
        await school.student.create(f"{path}/versions", {"content_type": PDF, "size": len(other)}) for _ in range(3)
    ]
    for version in versions:
        await send_form(version["upload"], other)
    assert (await school.student.post(f"/files/{versions[0]['id']}/complete")).status_code == 202
    await lms.work_off()
    # Not looked at before the class reads the file.
    assert (await school.student.post(f"/files/{versions[2]['id']}/complete")).status_code == 202
    body = {"course_id": school.course["id"], "kind": "document", "title": "T", "file_id": file["id"]}
    material = await school.teacher.create("/materials", {**body, "published": True})
    assert (await school.student.post(f"/files/{versions[1]['id']}/complete")).status_code == 403
    await lms.work_off()
    waiting = (await school.student.get(f"/files/{versions[2]['id']}")).json()
    assert (waiting["state"], waiting["reason"]) == ("rejected", "not_allowed")
    assert await changes(school.student, file, versions[0]["id"]) == {403}
    assert (await downloaded(school.student, file["id"])).content == other
    assert (await school.teacher.patch(f"/materials/{material['id']}", {"published": False})).status_code == 200
    assert await changes(school.student, file) == {200, 201, 202}


async def test_deleted_and_restored(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    path = f"/files/{file['id']}"
    before = (await school.teacher.get(path)).json()
    assert (await school.student.delete(path)).status_code == 403
    answer = await school.teacher.delete(path)
    assert (answer.status_code, answer.json()["root"]["label"]) == (202, "lecture.pdf")
    assert (await school.teacher.get(path)).status_code == 404
    assert (await school.student.get(f"{path}/download")).status_code == 404
    assert (await school.teacher.delete(path)).status_code == 404
    assert (await school.teacher.post(f"{path}/restore?dry_run=true")).status_code == 200
    assert (await school.teacher.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    after = (await school.teacher.get(path)).json()
    assert {**after, "updated_at": None} == {**before, "updated_at": None}
    assert (await downloaded(school.student, file["id"])).content == CONTENT
    assert (await school.teacher.post(f"{path}/restore")).json()["code"] == "not_deleted"


async def test_files_go_with_their_course(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, CONTENT, course_id=school.course["id"])
    admin = await lms.admin()
    assert (await admin.delete(f"/courses/{school.course['id']}")).status_code == 202
    for caller in (school.teacher, school.student, admin):
        assert (await caller.get(f"/files/{file['id']}/download")).status_code == 404
    await lms.work_off()
    assert (await school.principal.post(f"/files/{file['id']}/restore")).json()["code"] == "parent_deleted"
    assert (await admin.post(f"/courses/{school.course['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await downloaded(school.student, file["id"])).content == CONTENT


async def test_owners_undo_their_own_delete_and_nobody_elses(lms: Lms, school: School) -> None:
    own = await finish(lms, school.student, CONTENT, course_id=school.course["id"])
    path = f"/files/{own['id']}"
    deletion = (await school.student.delete(path)).json()
    await lms.work_off()
    assert deletion["id"] in [item["id"] for item in await school.student.items("/deletions")]
    assert (await school.student.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.student.get(path)).status_code == 200
    deletion = (await school.teacher.delete(path)).json()
    await lms.work_off()
    assert deletion["id"] not in [item["id"] for item in await school.student.items("/deletions")]
    assert (await school.student.post(f"{path}/restore")).status_code == 404
