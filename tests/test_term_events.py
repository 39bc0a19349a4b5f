"""What courses, enrollments and groups tell of each step, and that they tell nothing where nothing changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
Told = Callable[..., Any]


@pytest.fixture
def told(lms: Lms) -> Told:
    """`async with told(name, ...)`: the events of what happens inside are these, of the plugins that the test is about."""

    @asynccontextmanager
    async def expect(*names: str) -> AsyncIterator[list[dict[str, Any]]]:
        before = {row["id"] for row in await lms.sql("SELECT id FROM core_event")}
        payloads: list[dict[str, Any]] = []
        yield payloads
        rows = await lms.sql("SELECT id, name, payload FROM core_event WHERE name !~ '^core[.]' ORDER BY id")
        found = [row for row in rows if row["id"] not in before]
        assert [row["name"] for row in found] == [f"{name}.v1" for name in names]
        payloads += [row["payload"] for row in found]

    return expect


async def patched(caller: Caller, path: str, change: dict[str, Any]) -> dict[str, Any]:
    answer = await caller.patch(path, change)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_courses_sections_and_terms(school: School, told: Told) -> None:
    principal, at = school.principal, school.institution["id"]
    async with told("courses.term_created"):
        days = {"starts_on": "2026-09-01", "ends_on": "2026-12-18"}
        term = await principal.create("/courses/terms", {"institution_id": at, "name": "Autumn", **days})
    async with told("courses.term_changed"):
        await patched(principal, f"/courses/terms/{term['id']}", {"name": "Fall"})
    async with told("courses.course_created"):
        course = await principal.create("/courses", {"institution_id": at, "code": "EVENTS", "title": "Events"})
    path = f"/courses/{course['id']}"
    async with told("courses.course_changed") as payloads:
        await patched(principal, path, {"title": "What happened", "capacity": 10, "term_id": term["id"]})
    assert payloads == [{"course_id": course["id"], "institution_id": at}]
    for state, name in (("published", "published"), ("draft", "unpublished"), ("archived", "archived")):
        async with told(f"courses.course_{name}"):
            await patched(principal, path, {"state": state})
    async with told("courses.section_created"):
        section = await principal.create(f"{path}/sections", {"name": "Monday"})
    async with told("courses.section_changed") as payloads:
        await patched(principal, f"{path}/sections/{section['id']}", {"capacity": 3})
    assert payloads == [{"section_id": section["id"], "course_id": course["id"]}]
    async with told():
        await patched(principal, f"/courses/terms/{term['id']}", {"name": "Fall"})
        await patched(principal, path, {"title": "What happened", "state": "archived", "capacity": 10})
        await patched(principal, f"{path}/sections/{section['id']}", {"capacity": 3, "name": "Monday"})


async def test_enrollments(lms: Lms, school: School, told: Told) -> None:
    principal, at = school.principal, school.institution["id"]
    course = await lms.make_course(at, capacity=1, waitlist=True, self_enrollment="approval")
    section = await principal.create(f"/courses/{course['id']}/sections", {"name": "Monday"})
    seated, waits, asks = [await lms.make_user("student", at) for _ in range(3)]
    about = {"course_id": course["id"], "role": "student"}
    async with told("enrollments.enrollment_activated"):
        first = await principal.create("/enrollments", {**about, "user_id": str(seated.id)})
    async with told("enrollments.enrollment_waitlisted") as payloads:
        second = await principal.create("/enrollments", {**about, "user_id": str(waits.id)})
    assert payloads == [{"enrollment_id": second["id"], **about, "user_id": str(waits.id)}]
    async with told("enrollments.enrollment_requested"):
        third = await asks.create("/enrollments/self", {"course_id": course["id"]})
    async with told("enrollments.enrollment_waitlisted"):
        await patched(principal, f"/enrollments/{third['id']}", {"state": "active"})
    path = f"/enrollments/{first['id']}"
    async with told("enrollments.enrollment_moved"):
        await patched(principal, path, {"section_id": section["id"]})
    async with told("enrollments.enrollment_rescheduled") as payloads:
        await patched(principal, path, {"ends_on": "2098-12-31"})
    assert (payloads[0]["starts_on"], payloads[0]["ends_on"]) == (None, "2098-12-31")
    async with told():
        await patched(principal, path, {"section_id": section["id"], "ends_on": "2098-12-31", "state": "active"})
        assert (await principal.post("/enrollments", {**about, "user_id": str(seated.id)})).status_code == 200
    # The next moves up in the same transaction.
    async with told("enrollments.enrollment_ended", "enrollments.enrollment_activated") as payloads:
        await patched(principal, path, {"state": "completed"})
    assert [one["enrollment_id"] for one in payloads] == [first["id"], second["id"]]
    async with told("enrollments.enrollment_activated") as payloads:
        await principal.delete(f"/enrollments/{second['id']}")
    assert payloads[0]["enrollment_id"] == third["id"]
    async with told("enrollments.enrollment_waitlisted") as payloads:
        await lms.work_off()
        await principal.post(f"/enrollments/{second['id']}/restore", {"on_conflict": "waitlist"})
        await lms.work_off()
    assert payloads[0]["enrollment_id"] == second["id"]
    async with told("courses.course_changed", "enrollments.enrollment_activated"):
        await patched(principal, f"/courses/{course['id']}", {"capacity": None})


async def test_a_request_is_granted_with_days_and_a_section(lms: Lms, school: School, told: Told) -> None:
    course = await lms.make_course(school.institution["id"], self_enrollment="approval")
    section = await school.principal.create(f"/courses/{course['id']}/sections", {"name": "Monday"})
    user = await lms.make_user("student", school.institution["id"])
    await user.create("/enrollments/self", {"course_id": course["id"]})
    about = {"course_id": course["id"], "user_id": str(user.id), "role": "student", "section_id": section["id"]}
    names = ("enrollment_moved", "enrollment_rescheduled", "enrollment_activated")
    async with told(*(f"enrollments.{name}" for name in names)):
        assert (await school.principal.post("/enrollments", {**about, "starts_on": "2026-01-01"})).status_code == 200


async def test_groups(school: School, told: Told) -> None:
    teacher, about = school.teacher, {"course_id": school.course["id"], "name": "Red"}
    async with told("groups.group_created"):
        group = await teacher.create("/groups", about)
    path = f"/groups/{group['id']}"
    async with told("groups.group_changed"):
        await patched(teacher, path, {"name": "Blue"})
    async with told("groups.member_added"):
        await teacher.create(f"{path}/members", {"user_id": str(school.student.id)})
    async with told("groups.role_granted"):
        await school.principal.create(f"{path}/roles", {"course_id": school.course["id"], "role": "assistant"})
    async with told():
        await patched(teacher, path, {"name": "Blue"})
        again = await school.principal.post(f"{path}/members", {"user_id": str(school.student.id)})
        assert again.status_code == 200
