"""Explanations agree with what happens: with the answers of real requests, and with each other."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


async def explained(by: Caller, user_id: object, on: str) -> dict[str, Any]:
    answer = await by.get(f"/users/{user_id}/permissions", params={"on": on})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def people(lms: Lms, school: School) -> dict[str, Caller]:
    district = await lms.make_institution()
    admin = await lms.admin()
    top = school.institution["id"]
    moved = await admin.patch(f"/institutions/{top}", {"parent_id": district["id"]})
    assert moved.status_code == 200, moved.text
    name = f"editor_{uuid4().hex[:8]}"
    await admin.create(
        "/users/roles",
        {"institution_id": district["id"], "name": name, "permissions": ["courses.edit", "courses.read"]},
    )
    editor, assistant = await lms.make_user("student", top), await lms.make_user("student", top)
    await admin.create(f"/users/{editor.id}/roles", {"role": name, "institution_id": top})
    await lms.enroll(school.course["id"], assistant, "assistant")
    other = await lms.make_school()
    return {
        "student": school.student,
        "teacher": school.teacher,
        "assistant": assistant,
        "principal": school.principal,
        "district principal": await lms.make_user("principal", district["id"]),
        "editor": editor,
        "other principal": other.principal,
        "other teacher": await lms.make_user("teacher", top),
        "nobody": await lms.make_user(),
        "super admin": admin,
    }


async def test_explanations_agree_with_requests_and_with_the_other_way_round(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    course_id, student_id = school.course["id"], school.student.id
    requests = {
        ("courses.edit", f"course:{course_id}"): ("PATCH", f"/courses/{course_id}", {"description": "x"}),
        ("enrollments.create", f"course:{course_id}"): (
            "POST",
            "/enrollments",
            {"course_id": course_id, "user_id": str(student_id), "role": "student"},
        ),
        ("users.edit", f"users.user:{student_id}"): (
            "PATCH",
            f"/users/{student_id}",
            {"email": f"{uuid4().hex}@example.org"},
        ),
        ("institutions.create", f"institution:{school.institution['id']}"): (
            "POST",
            "/institutions",
            {"name": "x", "parent_id": school.institution["id"]},
        ),
    }
    everybody = await people(lms, school)
    for (permission, on), (method, path, body) in requests.items():
        permitted = {item["id"] for item in await admin.items("/users/permitted", permission=permission, on=on)}
        for name, caller in everybody.items():
            if "slug" not in body and path == "/institutions":
                body = {**body, "slug": uuid4().hex}
            user_id = caller.id or (await caller.get("/users/me")).json()["id"]
            found = next(
                one for one in (await explained(admin, user_id, on))["permissions"] if one["permission"] == permission
            )
            answer = await caller.send(method, path, json=body)
            body.pop("slug", None)
            assert found["allowed"] == answer.is_success, (permission, name, answer.text)
            assert (str(user_id) in permitted) == found["allowed"], (permission, name)
            assert bool(found["through"]) == found["allowed"] == (found["missing"] is None), (permission, name, found)


async def test_what_gives_a_permission_is_named(lms: Lms, school: School) -> None:
    found = await explained(school.principal, school.principal.id, f"course:{school.course['id']}")
    assert found["on"] == {"kind": "courses.course", "id": school.course["id"]}
    edit = next(one for one in found["permissions"] if one["permission"] == "courses.edit")
    [through] = edit["through"]
    assert (through["source"], through["role"], through["object_id"]) == (
        "users.grants",
        "principal",
        school.institution["id"],
    )
    roles = await school.principal.items(f"/users/{school.principal.id}/roles")
    assert through["grant_id"] in [role["id"] for role in roles]
    denied = next(
        one
        for one in (await explained(school.student, school.student.id, f"course:{school.course['id']}"))["permissions"]
        if one["permission"] == "courses.edit"
    )
    assert "teacher" in denied["missing"]


async def test_disabled_users_may_nothing(lms: Lms, school: School) -> None:
    on = f"course:{school.course['id']}"
    await school.principal.patch(f"/users/{school.teacher.id}", {"is_active": False})
    found = await explained(school.principal, school.teacher.id, on)
    assert not found["readable"]
    assert not any(one["allowed"] for one in found["permissions"])
    permitted = await school.principal.items("/users/permitted", permission="courses.edit", on=on)
    assert str(school.teacher.id) not in {item["id"] for item in permitted}


async def test_nobody_learns_of_what_they_may_not_know(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    path = f"/users/{school.student.id}/permissions"
    for id in (other.course["id"], str(uuid4())):
        for answer in (
            await school.student.get(path, params={"on": f"course:{id}"}),
            await school.student.get("/users/permitted", params={"permission": "courses.edit", "on": f"course:{id}"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "course_not_found")
    foreign = await other.principal.get(path, params={"on": f"course:{other.course['id']}"})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "user_not_found")
    for on in ("course", f"course:{'x' * 20}", f"nothing:{uuid4()}", ":", ""):
        answer = await school.student.get(path, params={"on": on})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_object"), on
    unknown = await school.student.get(
        "/users/permitted", params={"permission": "x", "on": f"course:{school.course['id']}"}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_permission")
    # Students see of those who may edit a course only whom they may know: nobody but themselves.
    mine = await school.student.items("/users/permitted", permission="courses.read", on=f"course:{school.course['id']}")
    assert [item["id"] for item in mine] == [str(school.student.id)]
