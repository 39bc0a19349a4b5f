"""The same bytes kept once, files that are replaced, and what is cleared away."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
import samples
from browser import PDF, described, downloaded, finish, replace, send_form
from lms_files import sweeps
from lms_files.differences import differences
from lms_files.lifecycle import content_key
from lms_files.storage import Store, store_of
from lms_files.storage_clients import ObjectMissing

from lms_core.testing import Lms, School


async def sweep(lms: Lms, monkeypatch: pytest.MonkeyPatch, *contents: bytes) -> None:
    """As an hour later, for these contents alone: other tests have theirs in the same bucket."""
    for content in contents:
        await lms.sql(
            "UPDATE files_content SET created_at = now() - interval '2 hours' WHERE sha256 = :id",
            id=sha256(content).hexdigest(),
        )
    await sweeps.sweep_contents(lms.context, sweeps.StoreSweepDue())


async def is_there(lms: Lms, content: bytes) -> bool:
    try:
        await store_of(lms.context).find("lms-clean", content_key(sha256(content).hexdigest()))
    except ObjectMissing:
        return False
    return True


async def test_the_same_bytes_are_kept_once(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    content = samples.pdf([uuid4().hex])
    first = await finish(lms, school.teacher, content)

    async def no_second_copy(*arguments: Any) -> None:
        raise AssertionError("copied again")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", no_second_copy)
        second = await finish(lms, school.student, content)
    assert (first["state"], second["state"], second["sha256"]) == ("ready", "ready", first["sha256"])
    keys = await lms.sql("SELECT DISTINCT clean_key FROM files_file WHERE sha256 = :id", id=first["sha256"])
    assert len(keys) == 1
    assert (await downloaded(school.student, second["id"])).content == content
    # Each of them takes the room all the same.
    room = (await school.student.get("/files/limits/me")).json()
    assert (room["used_bytes"], room["reserved_bytes"]) == (len(content), 0)


async def test_an_object_goes_only_when_no_row_refers_to_it(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = samples.pdf([uuid4().hex])
    one, other = [await finish(lms, school.teacher, content) for _ in range(2)]
    await school.teacher.delete(f"/files/{one['id']}")
    await lms.work_off()
    await lms.sql("DELETE FROM files_page WHERE file_id = :id", id=other["id"])
    await lms.sql("DELETE FROM files_file WHERE id = :id", id=other["id"])
    await sweep(lms, monkeypatch, content)
    # A deleted file can come back.
    assert await is_there(lms, content)
    await lms.sql("DELETE FROM files_page WHERE file_id = :id", id=one["id"])
    await lms.sql("DELETE FROM files_file WHERE id = :id", id=one["id"])
    await sweep(lms, monkeypatch, content)
    assert not await is_there(lms, content)
    made = [found async for found in store_of(lms.context).clean_objects(f"derived/{one['sha256']}/")]
    assert made == []


async def test_who_wants_what_is_being_cleared_away_has_it(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = samples.pdf([uuid4().hex])
    gone = await finish(lms, school.teacher, content)
    await lms.sql("DELETE FROM files_page WHERE file_id = :id", id=gone["id"])
    await lms.sql("DELETE FROM files_file WHERE id = :id", id=gone["id"])
    whole, uploads = Store.delete_clean, []

    async def slowly(self: Store, key: str) -> None:
        # Meanwhile the same bytes come again, and wait for the row.
        uploads.append(asyncio.create_task(finish(lms, school.student, content)))
        await asyncio.sleep(0.5)
        await whole(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "delete_clean", slowly)
        await lms.sql(
            "UPDATE files_content SET created_at = now() - interval '2 hours' WHERE sha256 = :id", id=gone["sha256"]
        )
        async with lms.context.unit_of_work() as uow:
            assert await sweeps.drop_content(uow, store_of(lms.context)) is True
    file = await uploads[0]
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL")
    await lms.work_off()
    assert (await school.student.get(f"/files/{file['id']}")).json()["state"] == "ready"
    assert (await downloaded(school.student, file["id"])).content == content


async def test_other_bytes_at_the_place_of_a_content_are_not_handed_out(lms: Lms, school: School) -> None:
    content = samples.pdf([uuid4().hex])
    await store_of(lms.context).put_clean(content_key(sha256(content).hexdigest()), bytes(len(content)), PDF)
    file = await finish(lms, school.teacher, content)
    assert (await downloaded(school.teacher, file["id"])).content == content


async def test_replacing_keeps_the_old_one(lms: Lms, school: School) -> None:
    old, new = samples.pdf([f"old {uuid4().hex}"]), samples.pdf([f"new {uuid4().hex}"])
    file = await finish(lms, school.teacher, old, course_id=school.course["id"])
    path = f"/files/{file['id']}"
    await replace(lms, school.teacher, file, new, filename="second.pdf")
    now = (await school.teacher.get(path)).json()
    assert (now["filename"], now["sha256"]) == ("second.pdf", sha256(new).hexdigest())
    assert now["derivatives"]["text"]["state"] == "ready"
    assert (await downloaded(school.student, file["id"])).content == new
    [version] = await school.teacher.items(f"{path}/versions")
    assert (version["filename"], version["sha256"]) == ("lecture.pdf", sha256(old).hexdigest())
    assert (await downloaded(school.teacher, version["id"])).content == old
    # Who only reads the file knows nothing of what it was before.
    assert (await school.student.get(f"{path}/versions")).status_code == 403
    assert (await school.student.get(f"/files/{version['id']}")).status_code == 404
    assert [one["id"] for one in await school.teacher.items("/files", course_id=school.course["id"])] == [file["id"]]
    again = await school.teacher.post(f"{path}/versions/{version['id']}/make-current")
    assert (again.status_code, again.json()["filename"]) == (200, "lecture.pdf")
    await lms.work_off()
    assert (await downloaded(school.student, file["id"])).content == old
    assert (await school.teacher.get(path)).json()["derivatives"]["thumbnail"]["state"] == "ready"
    [version] = await school.teacher.items(f"{path}/versions")
    assert version["sha256"] == sha256(new).hexdigest()
    assert await quota_is_right(lms, school)


async def quota_is_right(lms: Lms, school: School) -> bool:
    return not [one.text async for one in differences(lms.context, False) if school.institution["id"] in one.text]


async def test_what_a_material_shows_is_found_by_its_new_words(lms: Lms, school: School) -> None:
    file = await finish(lms, school.teacher, samples.pdf(["chlorophyll"]), course_id=school.course["id"])
    body = {
        "course_id": school.course["id"],
        "kind": "document",
        "title": "Leaf",
        "file_id": file["id"],
        "published": True,
    }
    await school.teacher.create("/materials", body)
    await lms.work_off()

    async def hits(word: str) -> int:
        return len(await school.student.items("/materials/search", q=word, course_id=school.course["id"]))

    assert (await hits("chlorophyll"), await hits("mitochondria")) == (1, 0)
    await replace(lms, school.teacher, file, samples.pdf(["mitochondria"]))
    assert (await hits("chlorophyll"), await hits("mitochondria")) == (0, 1)
    # What has no words any more is not found by the old ones.
    picture = samples.image("PNG", (10, 10))
    await replace(lms, school.teacher, file, picture, content_type="image/png", filename="leaf.png")
    assert (await hits("chlorophyll"), await hits("mitochondria")) == (0, 0)


async def test_who_may_replace(lms: Lms, school: School) -> None:
    content = samples.pdf(["words"])
    shared = await finish(lms, school.teacher, content, course_id=school.course["id"])
    body = {"content_type": PDF, "size": len(content)}
    path = f"/files/{shared['id']}/versions"
    assert (await school.student.post(path, body)).status_code == 403
    assert (await (await lms.make_school()).principal.post(path, body)).status_code == 404
    version = await school.principal.create(path, body)
    # Only who requested the upload completes it; nothing can be a version of a version.
    assert (await school.teacher.post(f"/files/{version['id']}/complete")).status_code == 403
    answer = await school.principal.post(f"/files/{version['id']}/versions", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "is_a_version")
    for caller in (school.principal, await lms.admin()):
        other = samples.pdf([uuid4().hex])
        await replace(lms, caller, shared, other)
        assert (await downloaded(school.student, shared["id"])).content == other
    own = await finish(lms, school.student, content)
    assert (await school.student.post(f"/files/{own['id']}/versions", body)).status_code == 201
    foreign = await school.student.post(f"/files/{own['id']}/versions/{version['id']}/make-current")
    assert (foreign.status_code, foreign.json()["code"]) == (404, "version_not_found")
    requested = await school.student.create("/files", described(content))
    answer = await school.student.post(f"/files/{requested['id']}/versions", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "file_not_ready")


async def test_a_bad_version_changes_nothing(lms: Lms, school: School) -> None:
    content = samples.pdf([uuid4().hex])
    file = await finish(lms, school.teacher, content)
    await replace(lms, school.teacher, file, samples.HTML)
    assert (await downloaded(school.teacher, file["id"])).content == content
    assert await school.teacher.items(f"/files/{file['id']}/versions") == []


async def test_versions_go_and_come_back_with_their_file(lms: Lms, school: School) -> None:
    old, new = samples.pdf([uuid4().hex]), samples.pdf([uuid4().hex])
    file = await finish(lms, school.teacher, old, course_id=school.course["id"])
    await replace(lms, school.teacher, file, new)
    path = f"/files/{file['id']}"
    [version] = await school.teacher.items(f"{path}/versions")
    late = await school.teacher.create(f"{path}/versions", {"content_type": PDF, "size": len(old)})
    await send_form(late["upload"], old)
    await school.teacher.post(f"/files/{late['id']}/complete")
    assert (await school.teacher.delete(path)).status_code == 202
    await lms.work_off()
    assert (await school.teacher.get(f"/files/{version['id']}/download")).status_code == 404
    assert (await school.teacher.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert (await downloaded(school.teacher, file["id"])).content == new
    assert [one["id"] for one in await school.teacher.items(f"{path}/versions")] == [version["id"]]
    # What was uploaded meanwhile waited for its file.
    await lms.sql("UPDATE files_file SET updated_at = now() - interval '1 hour' WHERE id = :id", id=late["id"])
    async with lms.context.unit_of_work() as uow:
        await sweeps.resume_stuck(uow)
    await lms.work_off()
    assert (await downloaded(school.teacher, file["id"])).content == old
