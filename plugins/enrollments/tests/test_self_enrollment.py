"""Joining by oneself: freely, with a key, on request; never past the seats, never where one does not belong."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
KEY = "a key for the class"


async def join(caller: Caller, course: dict[str, Any], key: str | None = None) -> httpx2.Response:
    return await caller.post("/enrollments/self", {"course_id": course["id"], "key": key})


def code_of(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def students(lms: Lms, school: School, count: int) -> list[Caller]:
    return [await lms.make_user("student", school.institution["id"]) for _ in range(count)]


async def test_a_closed_course_is_closed(lms: Lms, school: School) -> None:
    [student] = await students(lms, school, 1)
    course = await lms.make_course(school.institution["id"])
    assert course["self_enrollment"] == "closed"
    assert code_of(await join(student, course)) == (403, "self_enrollment_closed")
    opened = await lms.make_course(school.institution["id"], self_enrollment="open")
    assert code_of(await join((await lms.make_school()).student, opened)) == (404, "course_not_found")
    assert code_of(await join(await lms.make_user(), opened)) == (404, "course_not_found")
    draft = {"institution_id": school.institution["id"], "code": "D", "title": "Draft", "self_enrollment": "open"}
    assert code_of(await join(student, await school.principal.create("/courses", draft))) == (404, "course_not_found")


async def test_an_open_course_takes_students_as_long_as_there_are_seats(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], self_enrollment="open", capacity=3)
    found = await asyncio.gather(*(join(one, course) for one in await students(lms, school, 10)))
    assert sorted(answer.status_code for answer in found) == [201] * 3 + [409] * 7
    assert {answer.json()["code"] for answer in found if answer.status_code == 409} == {"course_full"}
    waiting = await lms.make_course(school.institution["id"], self_enrollment="open", capacity=0, waitlist=True)
    [student] = await students(lms, school, 1)
    first, again = await join(student, waiting), await join(student, waiting)
    assert (first.status_code, first.json()["state"], first.json()["position"]) == (201, "waitlisted", 1)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


async def test_a_key_opens(lms: Lms, school: School) -> None:
    [student] = await students(lms, school, 1)
    body = {"institution_id": school.institution["id"], "code": "K", "title": "Key", "self_enrollment": "key"}
    assert code_of(await school.principal.post("/courses", body)) == (422, "key_required")
    course = await lms.make_course(school.institution["id"], self_enrollment="key", enrollment_key=KEY)
    assert KEY not in (await school.principal.get(f"/courses/{course['id']}")).text
    for wrong in (None, "", KEY.upper(), KEY[:-1]):
        assert code_of(await join(student, course, wrong)) == (403, "wrong_key")
    enrolled = await lms.make_user("student", school.institution["id"])
    row = await lms.enroll(course["id"], enrolled)
    again = await join(enrolled, course, "not the key")
    assert (again.status_code, again.json()["id"]) == (200, row["id"])
    assert (await join(student, course, KEY)).json()["state"] == "active"
    path = f"/courses/{course['id']}"
    assert code_of(await school.principal.patch(path, {"enrollment_key": None})) == (422, "key_required")
    assert (await school.principal.patch(path, {"enrollment_key": "another key"})).status_code == 200
    [late] = await students(lms, school, 1)
    assert code_of(await join(late, course, KEY)) == (403, "wrong_key")
    assert (await join(late, course, "another key")).status_code == 201
    trail = await school.principal.items("/audit", kind="courses.course", object_id=course["id"])
    assert KEY not in str(trail)
    assert "another key" not in str(trail)
    stored = await lms.sql("SELECT enrollment_key FROM courses_course WHERE id = :id", id=course["id"])
    assert stored[0]["enrollment_key"] not in (None, "another key")


async def test_keys_cannot_be_guessed(lms: Lms, school: School) -> None:
    """After ten wrong ones not even the right one opens, to this student and for a while; others come in."""
    course = await lms.make_course(school.institution["id"], self_enrollment="key", enrollment_key=KEY)
    guesses, knows = await students(lms, school, 2)
    answers = await asyncio.gather(*(join(guesses, course, f"guess {number}") for number in range(15)))
    assert sorted(answer.status_code for answer in answers) == [403] * 10 + [429] * 5
    refused = await join(guesses, course, KEY)
    assert code_of(refused) == (429, "too_many_keys")
    assert 0 < int(refused.headers["Retry-After"]) <= 900
    assert (await join(knows, course, KEY)).status_code == 201
    await lms.sql(
        "UPDATE enrollments_wrong_keys SET since = since - interval '16 minutes' WHERE course_id = :id", id=course["id"]
    )
    assert code_of(await join(guesses, course, "guess")) == (403, "wrong_key")
    assert (await join(guesses, course, KEY)).status_code == 201


async def test_a_request_gives_nothing_until_it_is_granted(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], self_enrollment="approval", capacity=1)
    await lms.enroll(course["id"], school.teacher, "teacher")
    one, two, three = await students(lms, school, 3)
    requests = [(await join(student, course)).json() for student in (one, two, three)]
    assert [request["state"] for request in requests] == ["requested"] * 3
    assert (await join(one, course)).json()["id"] == requests[0]["id"]
    roles = (await one.get("/users/me")).json()["roles"]
    assert course["id"] not in [role["object_id"] for role in roles]
    path = f"/enrollments/{requests[0]['id']}"
    assert (await one.patch(path, {"state": "active"})).status_code == 403
    assert code_of(await school.teacher.patch(path, {"state": "completed"})) == (409, "invalid_transition")
    granted = await school.teacher.patch(path, {"state": "active", "reason": "Welcome"})
    assert granted.json()["state"] == "active"
    roles = (await one.get("/users/me")).json()["roles"]
    assert course["id"] in [role["object_id"] for role in roles]
    # The only seat is taken now.
    second = f"/enrollments/{requests[1]['id']}"
    assert code_of(await school.teacher.patch(second, {"state": "active"})) == (409, "course_full")
    assert (await school.principal.patch(f"/courses/{course['id']}", {"waitlist": True})).status_code == 200
    waits = await school.teacher.patch(second, {"state": "active"})
    assert (waits.json()["state"], waits.json()["position"]) == ("waitlisted", 1)
    # Whoever asked takes it back, and may ask again; enrolling who asks grants it.
    third = f"/enrollments/{requests[2]['id']}"
    assert (await three.patch(third, {"state": "dropped"})).json()["state"] == "dropped"
    again = (await join(three, course)).json()
    assert (again["state"], again["id"] != requests[2]["id"]) == ("requested", True)
    body = {"course_id": course["id"], "user_id": str(three.id), "role": "student"}
    enrolled = await school.teacher.post("/enrollments", body)
    assert (enrolled.status_code, enrolled.json()["id"], enrolled.json()["position"]) == (200, again["id"], 2)
    told = await school.teacher.items(f"{path}/history")
    assert [(period["state"], period["reason"]) for period in told] == [("requested", None), ("active", "Welcome")]


async def test_whoever_enrolls_many_grants_their_requests(lms: Lms, school: School) -> None:
    """As with one: who asked first has the seat, and who finds none is told so, and keeps asking."""
    course = await lms.make_course(school.institution["id"], self_enrollment="approval", capacity=1)
    new, one, two = await students(lms, school, 3)
    requests = {str(who.id): (await join(who, course)).json() for who in (one, two)}
    since = requests[str(one.id)]["created_at"]
    then = await school.principal.items("/enrollments", course_id=course["id"], as_of=since, state="requested")
    assert [row["user_id"] for row in then] == [str(one.id)]
    body = {"course_id": course["id"], "role": "student", "user_ids": [str(who.id) for who in (new, two, one)]}
    answer = await school.principal.post("/enrollments/bulk", body)
    results = {
        row["user_id"]: (row["status"], row.get("enrollment_id"), row.get("code")) for row in answer.json()["results"]
    }
    assert results == {
        str(new.id): ("error", None, "course_full"),
        str(one.id): ("exists", requests[str(one.id)]["id"], None),
        str(two.id): ("error", None, "course_full"),
    }
    found = await school.principal.items("/enrollments", course_id=course["id"])
    assert {row["user_id"]: row["state"] for row in found} == {str(one.id): "active", str(two.id): "requested"}
    assert (await school.principal.patch(f"/courses/{course['id']}", {"waitlist": True})).status_code == 200
    answer = await school.principal.post("/enrollments/bulk", body)
    assert [row["status"] for row in answer.json()["results"]] == ["waitlisted", "exists", "exists"]
    found = await school.principal.items("/enrollments", course_id=course["id"])
    assert {row["user_id"]: (row["state"], row["position"]) for row in found} == {
        str(one.id): ("active", None),
        str(two.id): ("waitlisted", 1),
        str(new.id): ("waitlisted", 2),
    }
    path = f"/enrollments/{requests[str(two.id)]['id']}"
    assert [row["state"] for row in await school.principal.items(f"{path}/history")] == ["requested", "waitlisted"]
    trail = await school.principal.items("/audit", kind="enrollments.enrollment", object_id=requests[str(two.id)]["id"])
    assert trail[0]["changes"] == {"state": {"before": "requested", "after": "waitlisted"}}


async def test_a_request_is_granted_with_the_days_and_the_section_that_were_said(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], self_enrollment="approval")
    path = f"/courses/{course['id']}/sections"
    section, small = [
        await school.principal.create(path, {"name": name, "capacity": places}) for name, places in (("A", 5), ("B", 0))
    ]
    one, two, three = await students(lms, school, 3)
    for who in (one, two, three):
        await join(who, course)
    body = {"course_id": course["id"], "role": "student", "starts_on": "2026-01-01", "ends_on": "2999-01-01"}
    answer = await school.principal.post("/enrollments", {**body, "user_id": str(one.id), "section_id": section["id"]})
    found = answer.json()
    assert [found[name] for name in ("state", "starts_on", "ends_on", "section_id")] == [
        "active", "2026-01-01", "2999-01-01", section["id"],
    ]  # fmt: skip
    trail = await school.principal.items("/audit", kind="enrollments.enrollment", object_id=found["id"])
    assert trail[0]["changes"] == {
        "state": {"before": "requested", "after": "active"},
        "section_id": {"before": None, "after": section["id"]},
        "starts_on": {"before": None, "after": "2026-01-01"},
        "ends_on": {"before": None, "after": "2999-01-01"},
    }
    answer = await school.principal.post(
        "/enrollments/bulk", {**body, "user_ids": [str(two.id), str(three.id)], "section_id": small["id"]}
    )
    assert [row["code"] for row in answer.json()["results"]] == ["section_full"] * 2
    # Who finds the course open by then needs nobody.
    await school.principal.patch(f"/courses/{course['id']}", {"self_enrollment": "open"})
    assert (await join(two, course)).json()["state"] == "active"


async def test_a_request_comes_back_with_its_course(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], self_enrollment="approval")
    [student] = await students(lms, school, 1)
    request = (await join(student, course)).json()
    assert (await school.principal.delete(f"/courses/{course['id']}")).status_code == 202
    await lms.work_off()
    assert (await school.principal.post(f"/courses/{course['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await student.get(f"/enrollments/{request['id']}")).json()["state"] == "requested"
    asked = await asyncio.gather(*(join(student, course) for _ in range(8)))
    assert {answer.json()["id"] for answer in asked} == {request["id"]}


@pytest.mark.parametrize("how", ["disabled", "left"])
async def test_a_request_is_granted_only_to_who_could_be_enrolled(lms: Lms, school: School, how: str) -> None:
    course = await lms.make_course(school.institution["id"], self_enrollment="approval")
    student = await lms.make_user("student", school.institution["id"])
    request = await student.create("/enrollments/self", {"course_id": course["id"]})
    if how == "disabled":
        await school.principal.patch(f"/users/{student.id}", {"is_active": False})
    else:
        [grant] = await school.principal.items(f"/users/{student.id}/roles")
        await school.principal.delete(f"/users/{student.id}/roles/{grant['id']}")
    answer = await school.principal.patch(f"/enrollments/{request['id']}", {"state": "active"})
    expected = {"disabled": (409, "user_disabled"), "left": (404, "user_not_found")}[how]
    assert (answer.status_code, answer.json()["code"]) == expected
