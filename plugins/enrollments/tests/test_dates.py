"""Days of an enrollment's own: nothing before the first, nothing after the last, by the institution's clock."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from lms_enrollments import dates

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
# It is another day in one of them than in the other, at any moment.
EARLIEST, LATEST = "Pacific/Kiritimati", "Pacific/Pago_Pago"


def today_in(zone: str) -> date:
    return datetime.now(UTC).astimezone(ZoneInfo(zone)).date()


def body(course: dict[str, Any], user: Caller, **days: date | str | None) -> dict[str, Any]:
    written = {name: None if day is None else str(day) for name, day in days.items()}
    return {"course_id": course["id"], "user_id": str(user.id), "role": "student", **written}


async def takes_part(user: Caller, course: dict[str, Any]) -> bool:
    """What they may do in the course comes from the role there."""
    return course["id"] in [role["object_id"] for role in (await user.get("/users/me")).json()["roles"]]


async def end_what_is_over(lms: Lms) -> None:
    async with lms.context.unit_of_work() as uow:
        await dates.end_what_is_over(uow)


async def set_timezone(lms: Lms, school: School, zone: str) -> None:
    answer = await (await lms.admin()).patch(f"/institutions/{school.institution['id']}", {"timezone": zone})
    assert answer.status_code == 200, answer.text


async def test_there_is_access_from_the_first_day_to_the_last(lms: Lms, school: School) -> None:
    """A day that has begun in the east has not in the west."""
    east = today_in(EARLIEST)
    course = await lms.make_course(school.institution["id"])
    early, late = [await lms.make_user("student", school.institution["id"]) for _ in range(2)]
    await set_timezone(lms, school, LATEST)
    first = await school.principal.create("/enrollments", body(course, early, starts_on=east, ends_on=None))
    assert (first["state"], first["starts_on"], first["ends_on"]) == ("active", str(east), None)
    await school.principal.create("/enrollments", body(course, late, ends_on=today_in(LATEST)))
    assert not await takes_part(early, course)
    assert await takes_part(late, course)
    await set_timezone(lms, school, EARLIEST)
    assert await takes_part(early, course)
    assert not await takes_part(late, course)


async def test_who_is_over_completes_and_the_next_moves_up(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    over, waits, gives_up = [await lms.make_user("student", school.institution["id"]) for _ in range(3)]
    # Not over yet where the institution is, though it is elsewhere.
    await set_timezone(lms, school, LATEST)
    last_day = today_in(LATEST)
    first = await school.principal.create("/enrollments", body(course, over, ends_on=last_day))
    second = await school.principal.create("/enrollments", body(course, waits))
    third = await school.principal.create("/enrollments", body(course, gives_up, ends_on=last_day))
    await end_what_is_over(lms)
    items = await school.principal.items("/enrollments", course_id=course["id"])
    assert sorted(item["state"] for item in items) == ["active", "waitlisted", "waitlisted"]
    await set_timezone(lms, school, EARLIEST)
    await end_what_is_over(lms)
    await end_what_is_over(lms)
    states = {
        item["id"]: item["state"] for item in await school.principal.items("/enrollments", course_id=course["id"])
    }
    assert states == {first["id"]: "completed", second["id"]: "active", third["id"]: "dropped"}
    for enrollment, told in ((first, "completed"), (third, "dropped")):
        periods = await school.principal.items(f"/enrollments/{enrollment['id']}/history")
        assert [(period["state"], period["cause"]) for period in periods][1:] == [(told, "ended")]
    events = await lms.sql(
        "SELECT payload->>'state' AS state FROM core_event WHERE name = 'enrollments.enrollment_ended.v1' "
        "AND payload->>'course_id' = :id",
        id=course["id"],
    )
    assert sorted(row["state"] for row in events) == ["completed", "dropped"]


async def test_days_can_be_set_moved_and_taken_away(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"])
    student = await lms.make_user("student", school.institution["id"])
    today = datetime.now(UTC).date()
    made = await school.principal.create("/enrollments", body(course, student))
    path = f"/enrollments/{made['id']}"
    for change in (
        {"starts_on": str(today), "ends_on": str(today - timedelta(days=1))},
        {"starts_on": "2026-02-30"},
        {"ends_on": "tomorrow"},
    ):
        refused = await school.principal.patch(path, change)
        assert refused.status_code == 422, change
    later = {"starts_on": str(today + timedelta(days=3)), "ends_on": str(today + timedelta(days=9))}
    changed = (await school.principal.patch(path, later)).json()
    assert {name: changed[name] for name in later} == later
    assert not await takes_part(student, course)
    refused = await school.principal.patch(path, {"ends_on": str(today)})
    assert (refused.status_code, refused.json()["code"]) == (422, "ends_before_start")
    assert (await school.principal.get(path)).json()["ends_on"] == later["ends_on"]
    cleared = (await school.principal.patch(path, {"starts_on": None})).json()
    assert (cleared["starts_on"], cleared["ends_on"]) == (None, later["ends_on"])
    assert await takes_part(student, course)
    # Students do not give themselves more time.
    assert (await student.patch(path, {"ends_on": None})).status_code == 403
    backwards = body(
        course, await lms.make_user("student", school.institution["id"]), starts_on=today, ends_on="2020-01-01"
    )
    refused = await school.principal.post("/enrollments", backwards)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")


async def test_days_come_back_with_the_course(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"])
    student = await lms.make_user("student", school.institution["id"])
    days = {"starts_on": "2026-01-05", "ends_on": "2099-12-24"}
    made = await school.principal.create("/enrollments", body(course, student, **days))
    assert (await school.principal.delete(f"/courses/{course['id']}")).status_code == 202
    await lms.work_off()
    assert (await school.principal.post(f"/courses/{course['id']}/restore")).status_code == 202
    await lms.work_off()
    back = (await school.principal.get(f"/enrollments/{made['id']}")).json()
    assert back == {**made, "updated_at": back["updated_at"]}
    assert await takes_part(student, course)


async def test_days_that_are_so_already_begin_no_period(lms: Lms, school: School) -> None:
    user = await lms.make_user("student", school.institution["id"])
    row = await school.principal.create("/enrollments", body(school.course, user, ends_on="2099-01-31"))
    path = f"/enrollments/{row['id']}"
    before = await school.principal.get(path)
    same = await school.principal.patch(path, {"ends_on": "2099-01-31", "starts_on": None, "section_id": None})
    assert (same.status_code, same.headers["ETag"]) == (200, before.headers["ETag"])
    assert len(await school.principal.items(f"{path}/history")) == 1


@pytest.mark.parametrize("day", [0, 86400, "2026-09-01T00:00:00Z", "2026-9-1", "9999-12-31"])
async def test_a_day_is_written_as_a_day(lms: Lms, school: School, day: object) -> None:
    """A number of seconds, sent by mistake, would end people."""
    [row] = await school.student.items("/enrollments")
    refused = await school.principal.patch(f"/enrollments/{row['id']}", {"ends_on": day})
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["body", "ends_on"])


async def test_who_ends_needs_no_place_in_a_section(lms: Lms, school: School) -> None:
    [row] = await school.student.items("/enrollments")
    sections = f"/courses/{school.course['id']}/sections"
    section = await school.principal.create(sections, {"name": "None", "capacity": 0})
    path, into = f"/enrollments/{row['id']}", {"section_id": section["id"]}
    assert (await school.principal.patch(path, into)).json()["code"] == "section_full"
    moved = (await school.principal.patch(path, {**into, "state": "dropped"})).json()
    assert (moved["state"], moved["section_id"]) == ("dropped", section["id"])
