"""Materials for some: sections and groups, their guardians, and the files that only those materials show."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from browser import finish

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


async def page_for(school: School, audience: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    body = {"course_id": school.course["id"], "kind": "page", "title": "Mitosis", "published": True, **more}
    return await school.teacher.create("/materials", {**body, "audience": audience})


async def section_with(school: School, *students: Caller) -> str:
    section = await school.teacher.create(f"/courses/{school.course['id']}/sections", {"name": uuid4().hex})
    for student in students:
        [enrollment] = await student.items("/enrollments", course_id=school.course["id"])
        changed = await school.teacher.send(
            "PATCH", f"/enrollments/{enrollment['id']}", json={"section_id": section["id"]}
        )
        assert changed.status_code == 200, changed.text
    return str(section["id"])


async def group_with(school: School, *members: Caller) -> str:
    group = await school.teacher.create("/groups", {"course_id": school.course["id"], "name": uuid4().hex})
    for member in members:
        await school.teacher.create(f"/groups/{group['id']}/members", {"user_id": str(member.id)})
    return str(group["id"])


async def classmate(lms: Lms, school: School) -> Caller:
    student = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], student)
    return student


async def reads(caller: Caller, material: dict[str, Any]) -> bool:
    """Alone, in the list, and in the search: the same everywhere."""
    status = (await caller.get(f"/materials/{material['id']}")).status_code
    assert status in (200, 404)
    course_id = material["course_id"]
    listed = material["id"] in [one["id"] for one in await caller.items("/materials", course_id=course_id)]
    hits = await caller.items("/materials/search", q="mitosis", course_id=course_id)
    found = material["id"] in [one["material_id"] for one in hits]
    assert listed == found == (status == 200)
    return listed


async def test_whom_a_material_is_for(lms: Lms, school: School) -> None:
    other, guardian = await classmate(lms, school), await lms.make_user()
    await (await lms.admin()).create(f"/users/{school.student.id}/guardians", {"guardian_id": str(guardian.id)})
    section_id, group_id = await section_with(school, school.student), await group_with(school, school.student)
    for audience in (
        {"section_ids": [section_id]},
        {"group_ids": [group_id]},
        {"section_ids": [section_id], "group_ids": [await group_with(school)]},
    ):
        material = await page_for(school, audience)
        assert material["audience"] == {"section_ids": [], "group_ids": [], **audience}
        await lms.work_off()
        for caller in (school.student, guardian, school.teacher, school.principal):
            assert await reads(caller, material), audience
        assert not await reads(other, material), audience
    everybody = await page_for(school, None)
    await lms.work_off()
    assert everybody["audience"] is None
    assert await reads(other, everybody)


async def test_a_group_of_the_institution_is_an_audience_of_its_courses(lms: Lms, school: School) -> None:
    other = await classmate(lms, school)
    body = {"institution_id": school.institution["id"], "name": uuid4().hex}
    group = await school.principal.create("/groups", body)
    await school.principal.create(f"/groups/{group['id']}/members", {"user_id": str(school.student.id)})
    material = await page_for(school, {"group_ids": [group["id"]]})
    await lms.work_off()
    assert await reads(school.student, material)
    assert not await reads(other, material)
    # Who is in the group and not in the course reads nothing of the course.
    stranger = await lms.make_user("student", school.institution["id"])
    await school.principal.create(f"/groups/{group['id']}/members", {"user_id": str(stranger.id)})
    assert not await reads(stranger, material)


async def test_changing_the_audience_is_a_change_of_the_material(lms: Lms, school: School) -> None:
    other = await classmate(lms, school)
    mine, theirs = await group_with(school, school.student), await group_with(school, other)
    material = await page_for(school, {"group_ids": [mine]})
    path = f"/materials/{material['id']}"
    before = (await school.teacher.get(path)).headers["etag"]
    changed = await school.teacher.send("PATCH", path, json={"audience": {"group_ids": [theirs]}})
    assert changed.status_code == 200
    assert changed.json()["audience"]["group_ids"] == [theirs]
    stale = await school.teacher.send("PATCH", path, json={"title": "Meiosis"}, headers={"If-Match": before})
    assert stale.status_code == 412
    await lms.work_off()
    assert await reads(other, material)
    assert not await reads(school.student, material)
    untouched = await school.teacher.send("PATCH", path, json={"position": 3})
    assert untouched.json()["audience"]["group_ids"] == [theirs]
    opened = await school.teacher.send("PATCH", path, json={"audience": None})
    assert opened.json()["audience"] is None
    assert await reads(school.student, material)
    trail = await school.principal.items("/audit", kind="materials.material", object_id=material["id"])
    assert [entry["changes"]["audience"] for entry in trail if "audience" in entry["changes"]] == [
        {"before": {"section_ids": [], "group_ids": [theirs]}, "after": None},
        {"before": {"section_ids": [], "group_ids": [mine]}, "after": {"section_ids": [], "group_ids": [theirs]}},
        {"before": None, "after": {"section_ids": [], "group_ids": [mine]}},
    ]


async def test_an_audience_counts_while_it_lives(lms: Lms, school: School) -> None:
    section_id, group_id = await section_with(school, school.student), await group_with(school, school.student)
    things = {
        f"/courses/{school.course['id']}/sections/{section_id}": {"section_ids": [section_id]},
        f"/groups/{group_id}": {"group_ids": [group_id]},
    }
    for path, audience in things.items():
        material = await page_for(school, audience)
        await lms.work_off()
        assert (await school.teacher.delete(path)).status_code == 202
        assert not await reads(school.student, material)
        shown = (await school.teacher.get(f"/materials/{material['id']}")).json()["audience"]
        assert shown == {"section_ids": [], "group_ids": []}
        await lms.work_off()
        assert (await school.teacher.post(f"{path}/restore")).status_code == 202
        await lms.work_off()
        assert await reads(school.student, material)
    [enrollment] = await school.student.items("/enrollments", course_id=school.course["id"])
    material = await page_for(school, {"group_ids": [group_id]})
    await school.teacher.send("PATCH", f"/enrollments/{enrollment['id']}", json={"state": "dropped"})
    assert (await school.student.get(f"/materials/{material['id']}")).status_code == 404


async def test_files_that_only_restricted_materials_show_are_read_by_their_audience(lms: Lms, school: School) -> None:
    other = await classmate(lms, school)
    group_id = await group_with(school, school.student)
    file = await finish(lms, school.teacher, b"words", "text/plain", "notes.txt", course_id=school.course["id"])
    document = {"kind": "document", "title": "Mitosis", "file_id": file["id"]}
    material = await page_for(school, {"group_ids": [group_id]}, **document)

    async def downloads(caller: Caller) -> int:
        alone = (await caller.get(f"/files/{file['id']}")).status_code
        listed = file["id"] in [one["id"] for one in await caller.items("/files", course_id=school.course["id"])]
        assert listed == (alone == 200)
        return (await caller.get(f"/files/{file['id']}/download")).status_code

    assert [await downloads(caller) for caller in (school.student, school.teacher, other)] == [200, 200, 404]
    everybodys = await page_for(school, None, **document)
    assert await downloads(other) == 200
    await school.teacher.delete(f"/materials/{everybodys['id']}")
    assert await downloads(other) == 404
    await school.teacher.send("PATCH", f"/materials/{material['id']}", json={"published": False})
    assert [await downloads(caller) for caller in (school.student, school.teacher)] == [404, 200]


async def test_audiences_that_are_none(lms: Lms, school: School) -> None:
    elsewhere = await lms.make_school()
    theirs = await elsewhere.teacher.create("/groups", {"course_id": elsewhere.course["id"], "name": "Red"})
    course = await lms.make_course(school.institution["id"])
    in_other_course = await school.principal.create("/groups", {"course_id": course["id"], "name": "Red"})
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": "A"})
    body = {"course_id": school.course["id"], "kind": "page", "title": "Mitosis"}
    for audience, code in (
        ({"group_ids": [theirs["id"]]}, "group_not_found"),
        ({"group_ids": [in_other_course["id"]]}, "group_not_found"),
        ({"group_ids": [str(uuid4())]}, "group_not_found"),
        ({"section_ids": [section["id"]]}, "section_not_found"),
        ({"section_ids": [str(uuid4())]}, "section_not_found"),
    ):
        refused = await school.teacher.post("/materials", {**body, "audience": audience})
        assert (refused.status_code, refused.json()["code"]) == (404, code), audience
    for audience in ({}, {"group_ids": []}, {"user_ids": []}, [], {"group_ids": [str(uuid4())] * 101}):
        refused = await school.teacher.post("/materials", {**body, "audience": audience})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input"), audience
    assert await school.principal.items("/materials", course_id=school.course["id"]) == []


async def test_a_guardian_reads_what_their_own_student_reads(lms: Lms, school: School) -> None:
    other = await classmate(lms, school)
    guardian = await lms.make_user()
    await (await lms.admin()).create(f"/users/{other.id}/guardians", {"guardian_id": str(guardian.id)})
    # Guardians of those who are in an audience somewhere, which must not make others' condition true.
    await (await lms.admin()).create(
        f"/users/{school.student.id}/guardians", {"guardian_id": str((await lms.make_user()).id)}
    )
    for audience in (
        {"group_ids": [await group_with(school, school.student)]},
        {"section_ids": [await section_with(school, school.student)]},
    ):
        material = await page_for(school, audience)
        await lms.work_off()
        assert await reads(school.student, material)
        for caller in (other, guardian):
            assert not await reads(caller, material), audience


async def test_of_two_students_of_a_guardian_one_has_to_be_in_course_and_audience(lms: Lms, school: School) -> None:
    in_course, in_group = await classmate(lms, school), await lms.make_user("student", school.institution["id"])
    guardian = await lms.make_user()
    for ward in (in_course, in_group):
        await (await lms.admin()).create(f"/users/{ward.id}/guardians", {"guardian_id": str(guardian.id)})
    group = await school.principal.create("/groups", {"institution_id": school.institution["id"], "name": uuid4().hex})
    await school.principal.create(f"/groups/{group['id']}/members", {"user_id": str(in_group.id)})
    material = await school.principal.create(
        "/materials",
        {
            "course_id": school.course["id"],
            "kind": "page",
            "title": "Mitosis",
            "published": True,
            "audience": {"group_ids": [group["id"]]},
        },
    )
    await lms.work_off()
    assert not await reads(guardian, material)


async def test_what_an_answer_says_can_be_written_back(lms: Lms, school: School) -> None:
    group_id = await group_with(school, school.student)
    material = await page_for(school, {"group_ids": [group_id]})
    path = f"/materials/{material['id']}"
    assert (await school.teacher.delete(f"/groups/{group_id}")).status_code == 202
    await lms.work_off()
    shown = (await school.teacher.get(path)).json()["audience"]
    assert shown == {"section_ids": [], "group_ids": []}
    assert (await school.teacher.patch(path, {"audience": shown})).status_code == 200
    assert (await school.teacher.post(f"/groups/{group_id}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.teacher.get(path)).json()["audience"]["group_ids"] == [group_id]
    # A group that one may not know stays when one adds to it.
    shared = await school.principal.create("/groups", {"institution_id": school.institution["id"], "name": uuid4().hex})
    await school.principal.patch(path, {"audience": {"group_ids": [shared["id"]]}})
    assistant = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], assistant, "assistant")
    assert (await assistant.get(f"/groups/{shared['id']}")).status_code == 404
    both = {"group_ids": [shared["id"], group_id]}
    assert (await assistant.patch(path, {"audience": both})).status_code == 200
