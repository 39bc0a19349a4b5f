"""What enrollments were when, who made them so, and why; and that deleting leaves it alone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from lms_core.migrate import lineages, positions, run_patiently
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


async def history(caller: Caller, enrollment: dict[str, Any]) -> list[dict[str, Any]]:
    return await caller.items(f"/enrollments/{enrollment['id']}/history")


async def moment() -> str:
    """Now, with nothing else at the same instant."""
    await asyncio.sleep(0.02)
    now = datetime.now(UTC).isoformat()
    await asyncio.sleep(0.02)
    return now


async def enrolled(caller: Caller, school: School, as_of: str, **filters: str) -> set[tuple[str, str]]:
    found = await caller.items("/enrollments", course_id=school.course["id"], as_of=as_of, role="student", **filters)
    return {(one["user_id"], one["state"]) for one in found}


async def test_every_step_is_told_with_who_and_why(lms: Lms, school: School) -> None:
    teacher, course = school.teacher, school.course["id"]
    section = await teacher.create(f"/courses/{course}/sections", {"name": "Monday"})
    user = await lms.make_user("student", school.institution["id"])
    body = {"course_id": course, "user_id": str(user.id), "role": "student", "reason": "Moved here"}
    enrollment = await teacher.create("/enrollments", body)
    path = f"/enrollments/{enrollment['id']}"
    assert (await teacher.patch(path, {"section_id": section["id"], "reason": "Choir"})).status_code == 200
    assert (await user.patch(path, {"state": "dropped", "reason": "Too early"})).status_code == 200
    told = await history(teacher, enrollment)
    assert [(one["state"], one["cause"], one["reason"], one["actor_id"]) for one in told] == [
        ("active", "enrolled", "Moved here", str(teacher.id)),
        ("active", "section", "Choir", str(teacher.id)),
        ("dropped", "changed", "Too early", str(user.id)),
    ]
    assert [one["section_id"] for one in told] == [None, section["id"], section["id"]]
    assert [one["until"] for one in told] == [told[1]["since"], told[2]["since"], None]
    assert await history(user, enrollment) == told
    assert (await school.student.get(f"{path}/history")).status_code == 404


async def test_who_was_enrolled_then(lms: Lms, school: School) -> None:
    before = await moment()
    user = await lms.make_user("student", school.institution["id"])
    enrollment = await lms.enroll(school.course["id"], user)
    during = await moment()
    assert (await school.teacher.patch(f"/enrollments/{enrollment['id']}", {"state": "completed"})).status_code == 200
    after = await moment()
    old, one = (str(school.student.id), "active"), str(user.id)
    assert await enrolled(school.teacher, school, before) == {old}
    assert await enrolled(school.teacher, school, during) == {old, (one, "active")}
    assert await enrolled(school.teacher, school, after) == {old, (one, "completed")}
    assert await enrolled(school.teacher, school, during, state="active", user_id=one) == {(one, "active")}
    assert await enrolled(school.teacher, school, enrollment["created_at"]) == {old, (one, "active")}
    assert await enrolled(school.teacher, school, "2001-01-01T00:00:00Z") == set()
    assert await enrolled(school.student, school, during) == {old}
    assert await enrolled((await lms.make_school()).teacher, school, during) == set()
    answer = await school.teacher.get("/enrollments", params={"as_of": "yesterday"})
    assert answer.status_code == 422


async def test_whoever_moves_up_has_it_in_the_history(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    first, second = [await lms.make_user("student", school.institution["id"]) for _ in range(2)]
    seated, waiting = await lms.enroll(course["id"], first), await lms.enroll(course["id"], second)
    then = await moment()
    assert (await school.principal.delete(f"/enrollments/{seated['id']}")).status_code == 202
    told = await history(school.principal, waiting)
    assert [(one["state"], one["cause"]) for one in told] == [("waitlisted", "enrolled"), ("active", "promoted")]
    then_waiting = await school.principal.items("/enrollments", course_id=course["id"], as_of=then, state="waitlisted")
    assert [one["id"] for one in then_waiting] == [waiting["id"]]


async def test_deleting_and_restoring_a_course_leaves_history_as_it_was(lms: Lms, school: School) -> None:
    periods = "SELECT * FROM enrollments_period WHERE course_id = :id ORDER BY id"
    before = [tuple(row.values()) for row in await lms.sql(periods, id=school.course["id"])]
    then = await moment()
    assert (await school.principal.delete(f"/courses/{school.course['id']}")).status_code == 202
    await lms.work_off()
    assert await enrolled(school.principal, school, then) == set()
    assert (await school.principal.post(f"/courses/{school.course['id']}/restore")).status_code == 202
    await lms.work_off()
    assert [tuple(row.values()) for row in await lms.sql(periods, id=school.course["id"])] == before
    assert await enrolled(school.principal, school, then) == {(str(school.student.id), "active")}


async def test_periods_have_no_gap_and_one_end_under_load(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=3, waitlist=True)
    people = [await lms.make_user("student", school.institution["id"]) for _ in range(8)]
    made = await asyncio.gather(*(lms.enroll(course["id"], one) for one in people))
    drops = [school.principal.patch(f"/enrollments/{one['id']}", {"state": "dropped"}) for one in made[:5]]
    await asyncio.gather(*drops)
    for one in made:
        told = await history(school.principal, one)
        assert [period["until"] for period in told] == [*(period["since"] for period in told[1:]), None]
        assert told[-1]["state"] == (await school.principal.get(f"/enrollments/{one['id']}")).json()["state"]


async def test_days_are_part_of_the_history(lms: Lms, school: School) -> None:
    student = await lms.make_user("student", school.institution["id"])
    enrollment = await lms.enroll(school.course["id"], student)
    path = f"/enrollments/{enrollment['id']}"
    then = datetime.now(UTC).isoformat()
    changed = {"ends_on": "2099-01-31", "reason": "moves away"}
    assert (await school.teacher.patch(path, changed)).status_code == 200
    periods = await school.teacher.items(f"{path}/history")
    assert [(one["cause"], one["ends_on"], one["reason"]) for one in periods] == [
        ("enrolled", None, None),
        ("days", "2099-01-31", "moves away"),
    ]
    [was] = await school.teacher.items("/enrollments", as_of=then, user_id=str(student.id))
    assert was["ends_on"] is None


async def test_who_is_restored_into_the_line_knows_by_whom(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    first, second = [await lms.make_user("student", school.institution["id"]) for _ in range(2)]
    enrollment = await lms.enroll(course["id"], first)
    path = f"/enrollments/{enrollment['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    await lms.enroll(course["id"], second)
    assert (await school.principal.post(f"{path}/restore", {"on_conflict": "waitlist"})).status_code == 202
    await lms.work_off()
    last = (await school.principal.items(f"{path}/history"))[-1]
    assert (last["cause"], last["actor_id"]) == ("seat_taken", str(school.principal.id))


async def test_first_periods_of_an_earlier_release_are_the_first(lms: Lms, school: School) -> None:
    """Their ids were random, and `as_of` looks only at those that were made by then."""
    user = await lms.make_user("student", school.institution["id"])
    enrollment = await lms.enroll(school.course["id"], user)
    during = await moment()
    assert (await school.teacher.patch(f"/enrollments/{enrollment['id']}", {"state": "completed"})).status_code == 200
    told = await history(school.teacher, enrollment)
    late = "UPDATE enrollments_period SET id = 'ffffffff-ffff-4fff-8fff-ffffffffffff' WHERE enrollment_id = :id AND state = 'active'"
    await lms.sql(late, id=enrollment["id"])
    assert (str(user.id), "active") not in await enrolled(school.teacher, school, during)

    lineage = next(one for one in lineages(lms.context.platform) if one.name == "enrollments")
    [newest] = await lms.sql(f"SELECT version_num FROM {lineage.version_table}")
    await lms.sql(f"UPDATE {lineage.version_table} SET version_num = 'enrollments_0007'")
    url = lms.context.settings.database_url
    scripts = next(one for one in await positions(lms.context.platform, url) if one.lineage == "enrollments").scripts
    await run_patiently(url, lineage, next(one for one in scripts if one.revision == "enrollments_0008"))
    await lms.sql(f"UPDATE {lineage.version_table} SET version_num = :newest", newest=newest["version_num"])
    assert await history(school.teacher, enrollment) == told
    assert (str(user.id), "active") in await enrolled(school.teacher, school, during)
