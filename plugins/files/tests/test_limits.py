"""How much room there is, and which types an institution takes."""

from __future__ import annotations

from uuid import UUID

import samples
from browser import described, finish
from lms_files.content_types import DEFAULT_TYPES
from lms_files.settings import FilesSettings

from lms_core.testing import Lms, School


async def test_room_is_read_and_set(lms: Lms, school: School) -> None:
    path = f"/files/limits/institutions/{school.institution['id']}"
    content = samples.pdf(["words"])
    await finish(lms, school.teacher, content, course_id=school.course["id"])
    requested = await school.student.create("/files", described(content, course_id=school.course["id"]))
    found = (await school.principal.get(path)).json()
    settings = lms.context.platform.plugin_settings(FilesSettings)
    assert (found["used_bytes"], found["reserved_bytes"]) == (len(content), len(content))
    assert found["limit_bytes"] == settings.quota_mb * 1024 * 1024
    assert set(found["allowed_types"]) == DEFAULT_TYPES
    for caller, status in ((school.student, 403), (school.teacher, 403), ((await lms.make_school()).principal, 404)):
        assert (await caller.get(path)).status_code == status
    assert (await school.principal.patch(path, {"limit_bytes": 1})).status_code == 403
    admin = await lms.admin()
    assert (await admin.patch(path, {"limit_bytes": 2 * len(content)})).json()["limit_bytes"] == 2 * len(content)
    refused = await school.student.post("/files", described(content, course_id=school.course["id"]))
    assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
    await school.student.post(f"/files/{requested['id']}/cancel")
    await school.student.create("/files", described(content, course_id=school.course["id"]))
    assert (await admin.patch(path, {"limit_bytes": None})).json()["limit_bytes"] == found["limit_bytes"]


async def test_the_room_of_a_user(lms: Lms, school: School) -> None:
    path = f"/files/limits/users/{school.student.id}"
    assert (await school.principal.patch(path, {"limit_bytes": 1})).status_code == 403
    assert (await (await lms.admin()).patch(path, {"limit_bytes": 1})).json()["limit_bytes"] == 1
    assert (await school.student.post("/files", described(b"12"))).json()["code"] == "quota_exceeded"
    assert (await school.student.get("/files/limits/me")).json()["limit_bytes"] == 1
    assert (await (await lms.admin()).patch(f"/files/limits/users/{UUID(int=1)}", {})).status_code == 404


async def test_students_are_told_what_is_taken(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    await admin.patch(f"/files/limits/institutions/{school.institution['id']}", {"allowed_types": ["text/html"]})
    found = (await school.student.get("/files/limits/me")).json()
    assert set(found["allowed_types"]) == DEFAULT_TYPES
    in_course = (await school.student.get("/files/limits/me", params={"course_id": school.course["id"]})).json()
    assert in_course == {**found, "allowed_types": ["text/html"]}
    stranger = (await lms.make_school()).principal
    for id in (school.course["id"], str(UUID(int=1))):
        answer = await stranger.get("/files/limits/me", params={"course_id": id})
        assert (answer.status_code, answer.json()["code"]) == (404, "course_not_found")


async def test_an_institution_takes_what_is_on_its_list(lms: Lms, school: School) -> None:
    path = f"/files/limits/institutions/{school.institution['id']}"
    admin = await lms.admin()
    page = b"<!DOCTYPE html><p>Photosynthesis</p><script>alert(1)</script>"
    html = described(page, "text/html", "page.html", course_id=school.course["id"])
    pdf = described(samples.pdf(["words"]), course_id=school.course["id"])
    assert (await school.teacher.post("/files", html)).status_code == 415
    changed = await admin.patch(path, {"allowed_types": ["text/html", "Text/HTML; charset=utf-8"]})
    assert changed.json()["allowed_types"] == ["text/html"]
    assert (await school.teacher.post("/files", pdf)).status_code == 415
    file = await finish(lms, school.teacher, page, "text/html", "page.html", course_id=school.course["id"])
    assert (file["state"], file["derivatives"]["text"]["characters"]) == ("ready", len("Photosynthesis"))
    # Never shown by the browser in the store's own name.
    url = (await school.teacher.get(f"/files/{file['id']}/download")).json()["url"]
    assert "response-content-disposition=attachment" in url
    for name in ("page.svg", "page.js"):
        assert (await school.teacher.post("/files", {**html, "filename": name})).status_code == 415
    answer = await admin.patch(path, {"allowed_types": ["image/svg+xml"]})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_type")
    # One's own files follow no institution.
    assert (await school.teacher.post("/files", described(samples.pdf(["words"])))).status_code == 201
    assert set((await admin.patch(path, {"allowed_types": None})).json()["allowed_types"]) == DEFAULT_TYPES
