"""A whole term of a school, as its people live it through HTTP: whatever went wrong in it can be taken back."""

from __future__ import annotations

from typing import Any

import pytest
from browser import finish

from lms_core.testing import Caller, Lms

pytestmark = pytest.mark.anyio

PEOPLE = ["ada", "ben", "cleo", "dan", "eve"]


def address(name: str, school_id: str) -> str:
    return f"{name}@{school_id}.example.org"


async def people_imported(lms: Lms, principal: Caller, school_id: str) -> dict[str, Any]:
    rows = [f"{address(name, school_id)},{name.title()},student\r\n" for name in PEOPLE]
    file = await finish(lms, principal, "".join(["email,full_name,role\r\n", *rows]).encode(), "text/csv", "people.csv")
    body = {"file_id": file["id"], "institution_id": school_id}
    plan = await principal.post("/users/import", body, params={"dry_run": "true"})
    assert plan.json()["counts"] == {"create": len(PEOPLE)}
    answer = await principal.post("/users/import", body)
    assert answer.status_code == 202, answer.text
    await lms.work_off()
    job: dict[str, Any] = (await principal.get(answer.headers["Location"])).json()
    assert job["state"] == "done"
    return job


async def roster(principal: Caller, course_id: str) -> dict[str, tuple[str, int | None, str | None]]:
    """Who is in the course: the state, the place in the line, and the section."""
    items = await principal.items("/enrollments", course_id=course_id, role="student")
    return {item["user_id"]: (item["state"], item["position"], item["section_id"]) for item in items}


async def histories(principal: Caller, course_id: str) -> dict[str, list[Any]]:
    items = await principal.items("/enrollments", course_id=course_id)
    return {item["id"]: await principal.items(f"/enrollments/{item['id']}/history") for item in items}


async def test_a_term(lms: Lms) -> None:
    school = await lms.make_school()
    principal, teacher, school_id = school.principal, school.teacher, school.institution["id"]

    # People, a term and a course.
    job = await people_imported(lms, principal, school_id)
    users = {}
    for name in PEOPLE:
        [user] = await principal.items("/users", email=address(name, school_id))
        users[name] = user["id"]
    days = {"starts_on": "2026-09-01", "ends_on": "2026-12-18"}
    term = await principal.create("/courses/terms", {"institution_id": school_id, "name": "Autumn", **days})
    course = await teacher.create(
        "/courses",
        {
            "institution_id": school_id, "term_id": term["id"], "code": "BIO-101", "title": "Biology", "capacity": 2,
            "waitlist": True,
        },
    )  # fmt: skip
    path = f"/courses/{course['id']}"
    section = await teacher.create(f"{path}/sections", {"name": "Monday"})
    assert (await teacher.patch(path, {"state": "published"})).json()["state"] == "published"

    # Two seats, and a line.
    wanted = {"course_id": course["id"], "role": "student", "user_ids": [users[name] for name in PEOPLE[:4]]}
    answer = await teacher.post("/enrollments/bulk", wanted)
    assert answer.json()["counts"] == {"created": 2, "waitlisted": 2}
    found = await roster(principal, course["id"])
    assert [found[users[name]][:2] for name in PEOPLE[:4]] == [
        ("active", None), ("active", None), ("waitlisted", 1), ("waitlisted", 2),
    ]  # fmt: skip

    # Ada drops: Cleo, who came first, has her seat. Ben gets a section, and a group with a page for it alone.
    enrollments = {item["user_id"]: item for item in await principal.items("/enrollments", course_id=course["id"])}
    dropped = {"state": "dropped", "reason": "moved away"}
    assert (await teacher.patch(f"/enrollments/{enrollments[users['ada']]['id']}", dropped)).status_code == 200
    placed = await teacher.patch(f"/enrollments/{enrollments[users['ben']]['id']}", {"section_id": section["id"]})
    assert placed.status_code == 200
    found = await roster(principal, course["id"])
    assert found[users["cleo"]] == ("active", None, None)
    assert found[users["dan"]][:2] == ("waitlisted", 1)
    group = await teacher.create("/groups", {"course_id": course["id"], "name": "Red team"})
    await teacher.create(f"/groups/{group['id']}/members", {"user_id": users["ben"]})
    page = {"course_id": course["id"], "kind": "page", "title": "Cells", "audience": {"group_ids": [group["id"]]}}
    material = await teacher.create("/materials", page)

    # The term is over: nobody joins or moves up any more.
    assert (await teacher.patch(path, {"state": "archived"})).status_code == 200
    late = await teacher.post("/enrollments", {"course_id": course["id"], "user_id": users["eve"], "role": "student"})
    assert (late.status_code, late.json()["code"]) == (409, "course_not_open")

    # Deleted by mistake, and back: the same people in the same places with the same past.
    before, past = await roster(principal, course["id"]), await histories(principal, course["id"])
    members = await principal.items(f"/groups/{group['id']}/members")
    assert (await principal.delete(path)).status_code == 202
    assert (await principal.get(path)).status_code == 404
    assert await principal.items("/enrollments", course_id=course["id"]) == []
    await lms.work_off()
    assert (await principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert await roster(principal, course["id"]) == before
    assert await histories(principal, course["id"]) == past
    assert [one["id"] for one in await principal.items(f"/groups/{group['id']}/members")] == [
        one["id"] for one in members
    ]
    restored = (await principal.get(f"/materials/{material['id']}")).json()
    assert restored["audience"] == {"section_ids": [], "group_ids": [group["id"]]}

    # The import was of the wrong school: undone, its people are gone with what they took part in.
    assert (await principal.post(f"/imports/{job['id']}/undo")).status_code == 202
    await lms.work_off()
    assert (await principal.get(f"/imports/{job['id']}")).json()["state"] == "undone"
    assert await roster(principal, course["id"]) == {}
    for name in PEOPLE:
        assert await principal.items("/users", email=address(name, school_id)) == []
    teachers = await principal.items("/enrollments", course_id=course["id"], role="teacher")
    assert [one["user_id"] for one in teachers] == [str(teacher.id)]
