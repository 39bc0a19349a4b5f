"""Seats and waiting lines, by HTTP and with clients that really are parallel."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from people import make_people

from lms_core.cascade import run_restore
from lms_core.deletion import RestoreRequested
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


def body(course: dict[str, Any], user: str, role: str = "student") -> dict[str, str]:
    return {"course_id": course["id"], "user_id": user, "role": role}


async def invariants(lms: Lms, course: dict[str, Any]) -> dict[str, int]:
    """Counts by state; raises when a seat is overbooked, or somebody waits beside a free one."""
    capacity = (await (await lms.admin()).get(f"/courses/{course['id']}")).json()["capacity"]
    rows = await lms.sql(
        "SELECT state, count(*) AS n FROM enrollments_enrollment "
        "WHERE course_id = :course AND role = 'student' AND NOT is_deleted GROUP BY state",
        course=course["id"],
    )
    counts = {row["state"]: row["n"] for row in rows}
    active, waiting = counts.get("active", 0), counts.get("waitlisted", 0)
    assert active <= capacity
    assert waiting == 0 or active == capacity
    return counts


async def waiting_line(caller: Caller, course: dict[str, Any]) -> list[str]:
    items = await caller.items("/enrollments", course_id=course["id"], state="waitlisted")
    assert sorted(item["position"] for item in items) == list(range(1, len(items) + 1))
    return [item["user_id"] for item in sorted(items, key=lambda item: item["position"])]


async def test_enrolling_twice_is_the_same_row(lms: Lms, school: School) -> None:
    user = (await make_people(lms, school, 1))[0]
    first = await school.teacher.post("/enrollments", body(school.course, user))
    again = await school.teacher.post("/enrollments", body(school.course, user))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


async def test_the_same_enrollment_a_hundred_times_at_once_is_one_row(lms: Lms, school: School) -> None:
    user = (await make_people(lms, school, 1))[0]
    answers = await asyncio.gather(
        *(school.teacher.post("/enrollments", body(school.course, user)) for _ in range(100))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) <= {200, 201, 503}
    assert statuses.count(201) == 1
    assert len({answer.json()["id"] for answer in answers if answer.status_code < 300}) == 1


async def test_a_hundred_students_on_ten_seats(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=10)
    users = await make_people(lms, school, 100)
    answers = await asyncio.gather(*(school.principal.post("/enrollments", body(course, user)) for user in users))
    full = [answer for answer in answers if answer.status_code != 201]
    assert {(answer.status_code, answer.json()["code"]) for answer in full} == {(409, "course_full")}
    assert await invariants(lms, course) == {"active": 10}


async def test_who_waits_moves_up_in_order(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    seated, *others = await make_people(lms, school, 4)
    first = await school.principal.create("/enrollments", body(course, seated))
    assert (first["state"], first["position"]) == ("active", None)
    for number, user in enumerate(others, start=1):
        waiting = await school.principal.create("/enrollments", body(course, user))
        assert (waiting["state"], waiting["position"]) == ("waitlisted", number)
    dropped = await school.principal.patch(f"/enrollments/{first['id']}", {"state": "dropped"})
    assert dropped.json()["state"] == "dropped"
    assert await waiting_line(school.principal, course) == others[1:]
    await school.principal.patch(f"/courses/{course['id']}", {"capacity": 2})
    assert await waiting_line(school.principal, course) == others[2:]
    assert await invariants(lms, course) == {"active": 2, "waitlisted": 1, "dropped": 1}


async def test_capacity_below_the_seats_taken_is_refused(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=2)
    for user in await make_people(lms, school, 2):
        await school.principal.create("/enrollments", body(course, user))
    refused = await school.principal.patch(f"/courses/{course['id']}", {"capacity": 1})
    assert (refused.status_code, refused.json()["code"]) == (409, "capacity_below_taken")
    assert (await school.principal.get(f"/courses/{course['id']}")).json()["capacity"] == 2


async def test_a_deleted_enrollment_frees_its_seat_and_comes_back_only_to_a_free_one(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    seated, waiting = await make_people(lms, school, 2)
    enrollment = await school.principal.create("/enrollments", body(course, seated))
    await school.principal.create("/enrollments", body(course, waiting))
    path = f"/enrollments/{enrollment['id']}"
    await school.principal.delete(path)
    assert await waiting_line(school.principal, course) == []
    preview = await school.principal.post(f"{path}/restore?dry_run=true")
    assert [one["code"] for one in preview.json()["conflicts"]] == ["course_full"]
    refused = await school.principal.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "course_full")
    assert (await school.principal.post(f"{path}/restore", {"on_conflict": "waitlist"})).status_code == 202
    await lms.work_off()
    back = (await school.principal.get(path)).json()
    assert (back["state"], back["position"]) == ("waitlisted", 1)
    await invariants(lms, course)


async def test_a_deleted_user_frees_the_seat_and_promotes(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    seated, waiting = await make_people(lms, school, 2)
    await school.principal.create("/enrollments", body(course, seated))
    await school.principal.create("/enrollments", body(course, waiting))
    assert (await school.principal.delete(f"/users/{seated}")).status_code == 202
    await lms.work_off()
    items = await school.principal.items("/enrollments", course_id=course["id"])
    assert [(item["user_id"], item["state"]) for item in items] == [(waiting, "active")]
    await invariants(lms, course)


async def test_a_restored_course_has_its_people_and_its_line_as_before(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=2, waitlist=True)
    for user in await make_people(lms, school, 5):
        await school.principal.create("/enrollments", body(course, user))
    before = await school.principal.items("/enrollments", course_id=course["id"])
    await school.principal.delete(f"/courses/{course['id']}")
    await lms.work_off()
    await school.principal.post(f"/courses/{course['id']}/restore")
    await lms.work_off()
    after = await school.principal.items("/enrollments", course_id=course["id"])
    assert [{**item, "updated_at": ""} for item in after] == [{**item, "updated_at": ""} for item in before]


async def test_ten_thousand_in_one_request(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=9_000, waitlist=True)
    users = await make_people(lms, school, 9_999)
    request = {"course_id": course["id"], "role": "student", "user_ids": [*users, str(uuid4())]}
    answer = await school.principal.post("/enrollments/bulk", request)
    assert answer.status_code == 200, answer.text[:500]
    assert answer.json()["counts"] == {"created": 9_000, "waitlisted": 999, "error": 1}
    assert [result["user_id"] for result in answer.json()["results"]] == request["user_ids"]
    assert answer.json()["results"][-1]["code"] == "user_not_found"
    again = await school.principal.post("/enrollments/bulk", {**request, "user_ids": users[:10]})
    assert again.json()["counts"] == {"exists": 10}
    await invariants(lms, course)


async def test_bad_bulk_requests_change_nothing(lms: Lms, school: School) -> None:
    users = await make_people(lms, school, 1)
    for user_ids in ([], [*users, *users], [str(uuid4())] * 10_001, ["no-uuid"]):
        request = {"course_id": school.course["id"], "role": "student", "user_ids": user_ids}
        assert (await school.principal.post("/enrollments/bulk", request)).status_code == 422
    assert len(await school.principal.items("/enrollments", course_id=school.course["id"])) == 2


async def test_who_may_enroll_whom(lms: Lms, school: School) -> None:
    user = (await make_people(lms, school, 1))[0]
    other = await lms.make_school()
    stranger = str(other.student.id)
    assert (await school.student.post("/enrollments", body(school.course, user))).status_code == 403
    assert (await other.teacher.post("/enrollments", body(school.course, user))).status_code == 404
    assert (await school.teacher.post("/enrollments", body(school.course, user, "teacher"))).status_code == 403
    assert (await school.principal.post("/enrollments", body(school.course, user, "teacher"))).status_code == 201
    for unknown in (stranger, str(uuid4())):
        answer = await school.teacher.post("/enrollments", body(school.course, unknown))
        assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    assert (await (await lms.admin()).post("/enrollments", body(school.course, stranger))).status_code == 201


async def test_students_drop_their_own_and_nothing_else(school: School) -> None:
    own = (await school.student.items("/enrollments"))[0]
    path = f"/enrollments/{own['id']}"
    assert (await school.student.patch(path, {"state": "completed"})).status_code == 403
    assert (await school.student.delete(path)).status_code == 403
    assert (await school.student.get(f"/courses/{school.course['id']}")).status_code == 200
    assert (await school.student.patch(path, {"state": "dropped"})).json()["state"] == "dropped"
    gone = await school.student.items("/materials", course_id=school.course["id"])
    assert gone == []
    again = await school.teacher.patch(path, {"state": "active"})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_transition")


async def test_a_deleted_section_is_not_shown_until_it_is_back(lms: Lms, school: School) -> None:
    sections = f"/courses/{school.course['id']}/sections"
    section = await school.teacher.create(sections, {"name": "Monday"})
    user = (await make_people(lms, school, 1))[0]
    made = await school.teacher.create("/enrollments", {**body(school.course, user), "section_id": section["id"]})
    path = f"/enrollments/{made['id']}"
    assert made["section_id"] == section["id"]
    await school.teacher.delete(f"{sections}/{section['id']}")
    assert (await school.teacher.get(path)).json()["section_id"] is None
    await lms.work_off()
    await school.teacher.post(f"{sections}/{section['id']}/restore")
    await lms.work_off()
    assert (await school.teacher.get(path)).json()["section_id"] == section["id"]
    other = await lms.make_course(school.institution["id"])
    refused = await school.principal.post("/enrollments", {**body(other, user), "section_id": section["id"]})
    assert (refused.status_code, refused.json()["code"]) == (404, "section_not_found")


async def test_an_archived_course_is_not_open(lms: Lms, school: School) -> None:
    user = (await make_people(lms, school, 1))[0]
    await school.teacher.patch(f"/courses/{school.course['id']}", {"state": "archived"})
    refused = await school.teacher.post("/enrollments", body(school.course, user))
    assert (refused.status_code, refused.json()["code"]) == (409, "course_not_open")


async def test_nobody_moves_up_in_an_archived_course_until_it_is_open_again(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    seated, waiting = await make_people(lms, school, 2)
    first = await school.principal.create("/enrollments", body(course, seated))
    await school.principal.create("/enrollments", body(course, waiting))
    path = f"/courses/{course['id']}"
    assert (await school.principal.patch(path, {"state": "archived"})).status_code == 200
    assert (await school.principal.patch(f"/enrollments/{first['id']}", {"state": "completed"})).status_code == 200
    assert await waiting_line(school.principal, course) == [waiting]
    assert (await school.principal.patch(path, {"state": "published"})).status_code == 200
    assert await waiting_line(school.principal, course) == []
    assert await invariants(lms, course) == {"active": 1, "completed": 1}


async def test_disabled_users_are_not_enrolled(lms: Lms, school: School) -> None:
    active, disabled = await make_people(lms, school, 2)
    assert (await (await lms.admin()).patch(f"/users/{disabled}", {"is_active": False})).status_code == 200
    refused = await school.principal.post("/enrollments", body(school.course, disabled))
    assert (refused.status_code, refused.json()["code"]) == (409, "user_disabled")
    bulk = {"course_id": school.course["id"], "role": "student", "user_ids": [disabled, active]}
    results = (await school.principal.post("/enrollments/bulk", bulk)).json()["results"]
    assert [(result["status"], result["code"]) for result in results] == [("error", "user_disabled"), ("created", None)]


async def test_a_course_is_read_with_its_people(lms: Lms, school: School) -> None:
    """Who teaches it and how many are in it, in the statement of the list, however many courses there are."""
    course = await lms.make_course(school.institution["id"], capacity=2, waitlist=True)
    empty = await lms.make_course(school.institution["id"])
    await lms.enroll(course["id"], school.teacher, "teacher")
    bulk = {"course_id": course["id"], "role": "student", "user_ids": await make_people(lms, school, 5)}
    await school.principal.post("/enrollments/bulk", bulk)
    one = (await school.principal.get(f"/courses/{course['id']}", params={"include": "people"})).json()
    teacher = {"id": str(school.teacher.id), "full_name": one["people"]["teachers"][0]["full_name"]}
    assert one["people"] == {"teachers": [teacher], "students": 2, "waiting": 3}
    assert {name: one[name] for name in course} == course
    async with lms.counted() as counted:
        items = await school.principal.items("/courses", include="people")
    assert {item["id"]: item["people"] for item in items} | {
        course["id"]: one["people"],
        empty["id"]: {"teachers": [], "students": 0, "waiting": 0},
    } == {item["id"]: item["people"] for item in items}
    assert counted.statements == 1
    plain = await school.principal.items("/courses")
    assert all("people" not in item for item in plain)
    assert (await school.principal.get("/courses", params={"include": "everything"})).status_code == 422


async def test_observers_read_change_nothing_and_take_no_seat(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=0)
    observer = await lms.make_user("teacher", school.institution["id"])
    enrollment = await lms.enroll(course["id"], observer, "observer")
    assert (enrollment["role"], enrollment["state"]) == ("observer", "active")
    page = {"course_id": course["id"], "kind": "page", "title": "Cells", "body": "Words"}
    shown = await school.principal.create("/materials", {**page, "published": True})
    hidden = await school.principal.create("/materials", page)
    assert (await observer.get(f"/materials/{shown['id']}")).status_code == 200
    assert (await observer.get(f"/materials/{hidden['id']}")).status_code == 404
    assert (await observer.post("/materials", page)).status_code == 403
    assert (await observer.patch(f"/materials/{shown['id']}", {"title": "Mine"})).status_code == 403
    assert (await observer.patch(f"/courses/{course['id']}", {"title": "Mine"})).status_code == 403
    body = {"course_id": course["id"], "user_id": str(school.student.id), "role": "student"}
    assert (await observer.post("/enrollments", body)).status_code == 403
    assert [one["id"] for one in await observer.items("/enrollments", course_id=course["id"])] == [enrollment["id"]]
    assert (await school.principal.delete(f"/enrollments/{enrollment['id']}")).status_code == 202
    assert (await observer.get(f"/materials/{shown['id']}")).status_code == 404


async def test_who_may_not_sign_in_is_passed_over_until_they_may(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    seated, disabled, over, patient = await make_people(lms, school, 4)
    enrolled = {}
    for user in (seated, disabled, over, patient):
        enrolled[user] = await school.principal.create("/enrollments", body(course, user))
    await school.principal.patch(f"/users/{disabled}", {"is_active": False})
    await lms.sql("UPDATE enrollments_enrollment SET ends_on = '2020-01-01' WHERE id = :id", id=enrolled[over]["id"])
    await school.principal.patch(f"/enrollments/{enrolled[seated]['id']}", {"state": "dropped"})

    async def state(user: str) -> str:
        return str((await school.principal.get(f"/enrollments/{enrolled[user]['id']}")).json()["state"])

    assert [await state(user) for user in (disabled, over, patient)] == ["waitlisted", "waitlisted", "active"]
    await school.principal.patch(f"/courses/{course['id']}", {"capacity": 2})
    assert await state(disabled) == "waitlisted"
    newcomer = (await make_people(lms, school, 1))[0]
    assert (await school.principal.create("/enrollments", body(course, newcomer)))["state"] == "active"
    await school.principal.patch(f"/enrollments/{enrolled[patient]['id']}", {"state": "dropped"})
    await school.principal.patch(f"/users/{disabled}", {"is_active": True})
    await lms.work_off()
    assert await state(disabled) == "active"


async def test_enrollments_of_one_course_come_back_in_parallel(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=8)
    paths = []
    for user in await make_people(lms, school, 8):
        paths.append(f"/enrollments/{(await school.principal.create('/enrollments', body(course, user)))['id']}")
        assert (await school.principal.delete(paths[-1])).status_code == 202
    await lms.work_off()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await lms.sql(deadlocks)
    for path in paths:
        assert (await school.principal.post(f"{path}/restore")).status_code == 202
    events = await lms.sql(
        "SELECT payload FROM core_event WHERE name = 'core.restore_requested.v1' ORDER BY id DESC LIMIT 8"
    )
    requests = [RestoreRequested(**event["payload"]) for event in events]
    await asyncio.gather(*(run_restore(lms.context, request) for request in requests))
    await lms.sql("SELECT pg_stat_force_next_flush()")
    assert await lms.sql(deadlocks) == before
    assert await invariants(lms, course) == {"active": 8}


async def test_who_was_passed_over_moves_up_with_more_days(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    seated, waiting = await make_people(lms, school, 2)
    first = await school.principal.create("/enrollments", body(course, seated))
    second = await school.principal.create("/enrollments", body(course, waiting))
    await lms.sql("UPDATE enrollments_enrollment SET ends_on = '2020-01-01' WHERE id = :id", id=second["id"])
    await school.principal.patch(f"/enrollments/{first['id']}", {"state": "dropped"})
    assert await states_in(lms, course) == {"dropped": 1, "waitlisted": 1}
    answer = await school.principal.patch(f"/enrollments/{second['id']}", {"ends_on": "2099-01-31"})
    assert (answer.status_code, answer.json()["state"]) == (200, "active")


async def states_in(lms: Lms, course: dict[str, Any]) -> dict[str, int]:
    rows = await lms.sql(
        "SELECT state, count(*) AS n FROM enrollments_enrollment WHERE course_id = :id GROUP BY state", id=course["id"]
    )
    return {row["state"]: row["n"] for row in rows}
