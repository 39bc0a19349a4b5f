"""Places in sections: as many students as there are places, whatever comes, moves, goes and comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from people import make_people

from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


def body(course: dict[str, Any], user: str, role: str = "student") -> dict[str, Any]:
    return {"course_id": course["id"], "user_id": user, "role": role}


async def make_section(school: School, course: dict[str, Any], capacity: int | None) -> dict[str, Any]:
    return await school.principal.create(f"/courses/{course['id']}/sections", {"name": "Monday", "capacity": capacity})


async def students_in(school: School, section: dict[str, Any]) -> list[str]:
    items = await school.principal.items("/enrollments", course_id=section["course_id"])
    return sorted(item["user_id"] for item in items if item["section_id"] == section["id"])


async def test_a_full_section_takes_nobody_in_a_race(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"])
    section = await make_section(school, course, 5)
    users = await make_people(lms, school, 40)
    there = await asyncio.gather(*(school.principal.create("/enrollments", body(course, user)) for user in users[20:]))
    come = [
        school.principal.post("/enrollments", {**body(course, user), "section_id": section["id"]})
        for user in users[:20]
    ]
    move = [school.principal.patch(f"/enrollments/{one['id']}", {"section_id": section["id"]}) for one in there]
    answers = await asyncio.gather(*come, *move)
    refused = [answer for answer in answers if answer.status_code not in (200, 201)]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(409, "section_full")}
    assert len(answers) - len(refused) == 5
    assert len(await students_in(school, section)) == 5


async def test_who_drops_leaves_the_place_and_teachers_take_none(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"])
    section = await make_section(school, course, 1)
    first, second = await make_people(lms, school, 2)
    in_section = {"section_id": section["id"]}
    taken = await school.principal.create("/enrollments", {**body(course, first), **in_section})
    teacher = {**body(course, str(school.teacher.id), "teacher"), **in_section}
    assert (await school.principal.post("/enrollments", teacher)).status_code == 201
    refused = await school.principal.post("/enrollments", {**body(course, second), **in_section})
    assert (refused.status_code, refused.json()["code"]) == (409, "section_full")
    assert (await school.principal.patch(f"/enrollments/{taken['id']}", {"state": "dropped"})).status_code == 200
    assert (await school.principal.post("/enrollments", {**body(course, second), **in_section})).status_code == 201


async def test_in_bulk_the_first_get_the_places(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=2, waitlist=True)
    section = await make_section(school, course, 3)
    users = await make_people(lms, school, 5)
    bulk = {"course_id": course["id"], "role": "student", "section_id": section["id"], "user_ids": users}
    results = (await school.principal.post("/enrollments/bulk", bulk)).json()["results"]
    assert [result["status"] for result in results] == ["created", "created", "waitlisted", "error", "error"]
    assert {result["code"] for result in results[3:]} == {"section_full"}
    # Who waits holds the place, so that moving up never finds the section full.
    assert await students_in(school, section) == sorted(users[:3])
    elsewhere = await lms.make_course(school.institution["id"])
    foreign = await school.principal.post("/enrollments/bulk", {**bulk, "course_id": elsewhere["id"]})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "section_not_found")


async def test_places_below_those_taken_are_refused(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"])
    section = await make_section(school, course, None)
    for user in await make_people(lms, school, 3):
        await school.principal.create("/enrollments", {**body(course, user), "section_id": section["id"]})
    path = f"/courses/{course['id']}/sections/{section['id']}"
    refused = await school.principal.patch(path, {"capacity": 2})
    assert (refused.status_code, refused.json()["code"]) == (409, "capacity_below_taken")
    assert (await school.principal.get(path)).json()["capacity"] is None
    for capacity in (3, 4, None):
        assert (await school.principal.patch(path, {"capacity": capacity})).json()["capacity"] == capacity


async def test_back_into_a_full_section_only_without_a_place(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"])
    section = await make_section(school, course, 1)
    first, second = await make_people(lms, school, 2)
    in_section = {"section_id": section["id"]}
    goes = await school.principal.create("/enrollments", {**body(course, first), **in_section})
    assert (await school.principal.delete(f"/enrollments/{goes['id']}")).status_code == 202
    await school.principal.create("/enrollments", {**body(course, second), **in_section})
    path = f"/enrollments/{goes['id']}/restore"
    preview = await school.principal.post(path, params={"dry_run": True})
    assert [one["code"] for one in preview.json()["conflicts"]] == ["section_full"]
    refused = await school.principal.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "section_full")
    assert (await school.principal.post(path, {"on_conflict": "waitlist"})).status_code == 202
    await lms.work_off()
    back = (await school.principal.get(f"/enrollments/{goes['id']}")).json()
    assert (back["state"], back["section_id"]) == ("active", None)
    assert await students_in(school, section) == [second]
    periods = await school.principal.items(f"/enrollments/{goes['id']}/history")
    assert [period["cause"] for period in periods] == ["enrolled", "section_taken"]


async def test_a_restored_user_finds_the_place_taken_while_the_course_was_away(lms: Lms, school: School) -> None:
    """Both were deleted, in turn, and somebody else took the place between: nobody is lost, no section overfull."""
    course = await lms.make_course(school.institution["id"])
    section = await make_section(school, course, 1)
    goes = await lms.make_user("student", school.institution["id"])
    in_section = {"section_id": section["id"]}
    enrolled = await school.principal.create("/enrollments", {**body(course, str(goes.id)), **in_section})
    admin = await lms.admin()
    assert (await admin.delete(f"/users/{goes.id}")).status_code == 202
    await lms.work_off()
    [second] = await make_people(lms, school, 1)
    await school.principal.create("/enrollments", {**body(course, second), **in_section})
    assert (await admin.delete(f"/courses/{course['id']}")).status_code == 202
    await lms.work_off()
    assert (await admin.post(f"/users/{goes.id}/restore")).status_code == 202
    await lms.work_off()
    assert (await admin.post(f"/courses/{course['id']}/restore")).status_code == 202
    await lms.work_off()
    assert await students_in(school, section) in ([second], [str(goes.id)])
    items = await school.principal.items("/enrollments", course_id=course["id"], state="active")
    assert sorted(item["user_id"] for item in items) == sorted([second, str(goes.id)])
    assert enrolled["id"] in [item["id"] for item in items]
