"""An institution's own roles: they give exactly their permissions, and nobody gives more than they have."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
REGISTRAR = ["users.read", "users.create", "enrollments.create", "courses.read"]


async def define(by: Caller, institution_id: str, permissions: list[str], name: str = "registrar") -> dict[str, Any]:
    body = {"institution_id": institution_id, "name": name, "permissions": permissions}
    return await by.create("/users/roles", body)


async def hold(by: Caller, user: Caller, role: str, institution_id: str) -> dict[str, Any]:
    return await by.create(f"/users/{user.id}/roles", {"role": role, "institution_id": institution_id})


async def test_a_role_gives_its_permissions_there_and_below_and_nothing_else(lms: Lms, school: School) -> None:
    top = school.institution["id"]
    await define(school.principal, top, REGISTRAR)
    below = await lms.make_institution(top)
    course = await lms.make_course(below["id"])
    clerk = await lms.make_user("student", top)
    path = f"/courses/{course['id']}"
    assert (await clerk.get("/users")).json()["items"] != []
    seen = len(await clerk.items("/users"))
    await hold(school.principal, clerk, "registrar", top)
    assert len(await clerk.items("/users")) > seen
    assert (await clerk.get(path)).status_code == 200
    assert (await clerk.patch(path, {"title": "Mine"})).status_code == 403
    assert (await clerk.delete(path)).status_code == 403
    enrolled = await clerk.post(
        "/enrollments", {"course_id": course["id"], "user_id": str(school.student.id), "role": "student"}
    )
    assert enrolled.status_code == 201, enrolled.text
    me = (await clerk.get("/users/me")).json()
    assert set(REGISTRAR) <= set(me["permissions"])
    other = await lms.make_school()
    assert (await clerk.get(f"/courses/{other.course['id']}")).status_code == 404


async def test_changing_and_deleting_a_role_works_on_the_next_request(lms: Lms, school: School) -> None:
    top = school.institution["id"]
    role = await define(school.principal, top, REGISTRAR)
    clerk = await lms.make_user("student", top)
    await hold(school.principal, clerk, "registrar", top)
    path, course = f"/users/roles/{role['id']}", f"/courses/{school.course['id']}"
    assert (await clerk.patch(course, {"title": "Mine"})).status_code == 403
    changed = await school.principal.patch(path, {"permissions": ["courses.edit", "courses.read"]})
    assert changed.json()["permissions"] == ["courses.edit", "courses.read"]
    assert (await clerk.patch(course, {"title": "Mine"})).status_code == 200
    assert (await school.principal.delete(path)).status_code == 202
    assert (await clerk.patch(course, {"title": "Again"})).status_code == 403
    await lms.work_off()
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert (await clerk.patch(course, {"title": "Again"})).status_code == 200


async def test_nobody_defines_or_gives_what_is_not_strictly_below(lms: Lms, school: School) -> None:
    top, admin = school.institution["id"], await lms.admin()
    rules = lms.context.platform.rules
    everything = sorted(rules.permissions_of("principal"))
    whole = await school.principal.post(
        "/users/roles", {"institution_id": top, "name": "twin", "permissions": everything}
    )
    assert whole.status_code == 403
    await define(admin, top, everything, "twin")
    twin = await school.principal.post(f"/users/{school.student.id}/roles", {"role": "twin", "institution_id": top})
    assert twin.status_code == 403
    # Who may grant by a role of the institution's own gives less than that role, and no built-in role above it.
    own = ["users.read", "users.create", "users.grant", "users.edit", "users.define_roles", "institutions.read"]
    await define(school.principal, top, own, "secretary")
    await define(school.principal, top, ["users.read"], "looker")
    secretary = await lms.make_user("student", top)
    await hold(school.principal, secretary, "secretary", top)
    pupil = await lms.make_user("student", top)
    assert (
        await secretary.post(f"/users/{pupil.id}/roles", {"role": "looker", "institution_id": top})
    ).status_code == 201
    for role in ("secretary", "twin", "principal", "teacher"):
        refused = await secretary.post(f"/users/{pupil.id}/roles", {"role": role, "institution_id": top})
        assert refused.status_code == 403, (role, refused.text)
    assert (await secretary.post(f"/users/{pupil.id}/roles", {"role": "super_admin"})).status_code == 403
    more = {"institution_id": top, "name": "more", "permissions": ["courses.delete"]}
    assert (await secretary.post("/users/roles", more)).status_code == 403
    # Nor do they touch those who hold more.
    assert (await secretary.patch(f"/users/{school.principal.id}", {"full_name": "X"})).status_code == 403


async def test_bad_definitions(lms: Lms, school: School) -> None:
    top = school.institution["id"]
    for name in ("student", "principal", "super_admin", "guardian", "assistant", "observer"):
        refused = await school.principal.post(
            "/users/roles", {"institution_id": top, "name": name, "permissions": ["users.read"]}
        )
        assert (refused.status_code, refused.json()["code"]) == (422, "reserved_role"), name
    unknown = await school.principal.post(
        "/users/roles", {"institution_id": top, "name": "x", "permissions": ["users.fly"]}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_permission")
    await define(school.principal, top, ["users.read"], "once")
    again = await school.principal.post(
        "/users/roles", {"institution_id": top, "name": "once", "permissions": ["users.read"]}
    )
    assert (again.status_code, again.json()["code"]) == (409, "natural_key_taken")
    other = await lms.make_school()
    for role in ("once", "nothing"):
        answer = await other.principal.post(
            f"/users/{other.student.id}/roles", {"role": role, "institution_id": other.institution["id"]}
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_role")
    foreign = await other.principal.post(
        "/users/roles", {"institution_id": top, "name": "y", "permissions": ["users.read"]}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (404, "institution_not_found")


async def test_guardians_read_their_students_things_and_change_nothing(lms: Lms, school: School) -> None:
    email = f"{uuid4().hex}@example.org"
    student, other = school.student, await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], other)
    body = {
        "email": email,
        "full_name": "A guardian",
        "password": "correct horse battery",
        "guardian_of": [str(student.id)],
    }
    made = await school.principal.create("/users", body)
    guardian = await lms.sign_in(email, "correct horse battery", id=made["id"])
    page = {"course_id": school.course["id"], "kind": "page", "title": "Cells", "body": "Words", "published": True}
    material = await school.teacher.create("/materials", page)
    hidden = await school.teacher.create("/materials", {**page, "published": False})

    assert (await guardian.get(f"/users/{student.id}")).status_code == 200
    assert (await guardian.get(f"/users/{other.id}")).status_code == 404
    assert {item["user_id"] for item in await guardian.items("/enrollments")} == {str(student.id)}
    assert (await guardian.get(f"/courses/{school.course['id']}")).status_code == 200
    assert (await guardian.get(f"/materials/{material['id']}")).status_code == 200
    assert (await guardian.get(f"/materials/{hidden['id']}")).status_code == 404
    assert (await guardian.get(f"/institutions/{school.institution['id']}")).status_code == 200
    for path, change in (
        (f"/users/{student.id}", {"full_name": "X"}),
        (f"/courses/{school.course['id']}", {"title": "X"}),
        (f"/materials/{material['id']}", {"title": "X"}),
    ):
        assert (await guardian.patch(path, change)).status_code == 403, path
        assert (await guardian.delete(path)).status_code == 403, path
    explained = await guardian.get(f"/users/{guardian.id}/permissions", params={"on": f"user:{student.id}"})
    given = {one["permission"] for one in explained.json()["permissions"] if one["allowed"]}
    assert {name for name in given if name.startswith("users.")} == {"users.read_ward"}
    # The principal looks after guardians, too.
    assert (await school.principal.patch(f"/users/{guardian.id}", {"full_name": "Renamed"})).status_code == 200

    # What the student leaves, the guardian leaves, on the next request.
    enrollment = (await guardian.items("/enrollments"))[0]
    await school.teacher.patch(f"/enrollments/{enrollment['id']}", {"state": "dropped"})
    assert (await guardian.get(f"/materials/{material['id']}")).status_code == 404
    link = (await guardian.items(f"/users/{student.id}/guardians"))[0]
    path = f"/users/{student.id}/guardians/{link['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    assert (await guardian.get(f"/users/{student.id}")).status_code == 404
    await lms.work_off()
    assert (await (await lms.admin()).post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert (await guardian.get(f"/users/{student.id}")).status_code == 200


async def test_guardians_of_strangers_are_refused(lms: Lms, school: School) -> None:
    other = await lms.make_school()
    for student, guardian in ((school.student, other.student), (other.student, school.student)):
        answer = await school.principal.post(f"/users/{student.id}/guardians", {"guardian_id": str(guardian.id)})
        assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    equal = await lms.make_user("principal", school.institution["id"])
    refused = await school.principal.post(f"/users/{equal.id}/guardians", {"guardian_id": str(school.student.id)})
    assert refused.status_code == 403
    own = await school.principal.post(f"/users/{school.student.id}/guardians", {"guardian_id": str(school.student.id)})
    assert (own.status_code, own.json()["code"]) == (422, "own_guardian")
