"""Users and roles: who may do what to whom."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from lms_users.emails import email_key

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


def person(**fields: object) -> dict[str, object]:
    return {"email": f"{uuid4().hex[:12]}@example.org", "full_name": "Ada", **fields}


async def test_an_address_is_unique_whatever_its_case_and_form(lms: Lms) -> None:
    admin = await lms.admin()
    local = f"É{uuid4().hex[:8]}"
    await admin.create("/users", person(email=f"{local}@example.org"))
    for same in (f"{local.lower()}@EXAMPLE.org", f"E\u0301{local[1:]}@example.org"):
        refused = await admin.post("/users", person(email=same))
        assert (refused.status_code, refused.json()["code"]) == (409, "natural_key_taken")
    assert email_key("ＡＤＡ@example.org") == "ada@example.org"


async def test_the_address_of_a_deleted_user_is_free_again(lms: Lms) -> None:
    admin = await lms.admin()
    body = person()
    first = await admin.create("/users", body)
    await admin.delete(f"/users/{first['id']}")
    await lms.work_off()
    await admin.create("/users", body)
    refused = await admin.post(f"/users/{first['id']}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "natural_key_taken")


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@b", "a b@c.d", "a@b\n.c", "a@b..c", f"{'a' * 65}@b.c", "a@.b"])
async def test_what_is_no_address_is_422(lms: Lms, email: str) -> None:
    assert (await (await lms.admin()).post("/users", person(email=email))).status_code == 422


async def test_nobody_gives_what_is_not_below_their_own_nor_elsewhere(lms: Lms, school: School) -> None:
    own, below = school.institution["id"], (await lms.make_institution(school.institution["id"]))["id"]
    other = (await lms.make_school()).institution["id"]
    target = await lms.make_user("student", own)
    path = f"/users/{target.id}/roles"

    async def give(role: str, institution: str | None) -> int:
        return (await school.principal.post(path, {"role": role, "institution_id": institution})).status_code

    assert await give("teacher", own) == 201
    assert await give("student", below) == 201
    assert await give("principal", own) == 403
    assert await give("principal", below) == 403
    assert await give("super_admin", None) == 403
    assert await give("teacher", other) == 404
    assert await give("teacher", str(uuid4())) == 404
    for caller in (school.teacher, school.student):
        assert (await caller.post(path, {"role": "student", "institution_id": own})).status_code in (403, 404)


async def test_a_role_reaches_what_is_below_and_nothing_else(lms: Lms, school: School) -> None:
    below = await lms.make_institution(school.institution["id"])
    other = await lms.make_institution()
    assert (await school.principal.get(f"/institutions/{below['id']}")).status_code == 200
    assert (await school.principal.patch(f"/institutions/{below['id']}", {"name": "New"})).status_code == 200
    assert (await school.principal.patch(f"/institutions/{school.institution['id']}", {"name": "X"})).status_code == 403
    assert (await school.principal.get(f"/institutions/{other['id']}")).status_code == 404


async def test_a_role_that_is_taken_away_is_gone_on_the_next_request(lms: Lms, school: School) -> None:
    assert (await school.principal.patch(f"/courses/{school.course['id']}", {"title": "Mine"})).status_code == 200
    admin = await lms.admin()
    roles = await admin.items(f"/users/{school.principal.id}/roles")
    assert (await admin.delete(f"/users/{school.principal.id}/roles/{roles[0]['id']}")).status_code == 202
    assert (await school.principal.patch(f"/courses/{school.course['id']}", {"title": "Mine"})).status_code == 404


async def test_an_expired_role_does_not_count(lms: Lms, school: School) -> None:
    user = await lms.make_user("student", school.institution["id"])
    body = {"role": "principal", "institution_id": school.institution["id"], "expires_at": "2020-01-01T00:00:00Z"}
    await (await lms.admin()).create(f"/users/{user.id}/roles", body)
    assert (await user.patch(f"/courses/{school.course['id']}", {"title": "Mine"})).status_code == 403
    naive = {**body, "role": "teacher", "expires_at": "2030-01-01T00:00:00"}
    assert (await (await lms.admin()).post(f"/users/{user.id}/roles", naive)).status_code == 422


async def test_the_last_super_admin_stays(lms: Lms) -> None:
    admin = await lms.admin()
    path = f"/users/{admin.id}"
    role = (await admin.items(f"{path}/roles"))[0]
    for answer in (
        await admin.delete(path),
        await admin.patch(path, {"is_active": False}),
        await admin.delete(f"{path}/roles/{role['id']}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "last_super_admin")
    assert (await admin.get("/users/me")).json()["permissions"]


async def test_two_super_admins_who_remove_each_other_leave_one(lms: Lms) -> None:
    async def role_of(user: Caller) -> str:
        roles = await lms.sql("SELECT id FROM users_grant WHERE user_id = :id AND NOT is_deleted", id=user.id)
        return f"/users/{user.id}/roles/{roles[0]['id']}"

    async def make_super_admin(by: Caller, user: Caller) -> None:
        await by.create(f"/users/{user.id}/roles", {"role": "super_admin"})

    admin, other = await lms.admin(), await lms.make_user()
    for _ in range(10):
        await make_super_admin(admin, other)
        answers = await asyncio.gather(admin.delete(await role_of(other)), other.delete(await role_of(admin)))
        left = await lms.sql(
            "SELECT user_id FROM users_grant WHERE role = 'super_admin' AND NOT is_deleted AND user_id = ANY(:ids)",
            ids=[admin.id, other.id],
        )
        assert sorted(answer.status_code == 202 for answer in answers) == [False, True]
        assert len(left) == 1
        if left[0]["user_id"] == other.id:
            await make_super_admin(other, admin)
            assert (await admin.delete(await role_of(other))).status_code == 202


async def test_users_change_their_name_only(school: School) -> None:
    path = f"/users/{school.student.id}"
    assert (await school.student.patch(path, {"full_name": "Me"})).json()["full_name"] == "Me"
    assert (await school.student.patch(path, {"email": "me@example.org"})).status_code == 403
    assert (await school.student.patch(path, {"is_active": False})).status_code == 403
    assert (await school.student.delete(path)).status_code == 403


async def test_teachers_know_the_people_in_their_courses(lms: Lms, school: School) -> None:
    outside = await lms.make_user("student", school.institution["id"])
    assert (await school.teacher.get(f"/users/{school.student.id}")).status_code == 200
    assert (await school.teacher.get(f"/users/{outside.id}")).status_code == 404
    assert (await school.teacher.patch(f"/users/{school.student.id}", {"full_name": "X"})).status_code == 403
    assert (await school.student.get(f"/users/{school.teacher.id}")).status_code == 404
    assert (await school.principal.get(f"/users/{outside.id}")).status_code == 200


async def test_nobody_touches_those_who_are_not_below(lms: Lms, school: School) -> None:
    peer = await lms.make_user("principal", school.institution["id"])
    path = f"/users/{peer.id}"
    assert (await school.principal.get(path)).status_code == 200
    assert (await school.principal.patch(path, {"is_active": False})).status_code == 403
    assert (await school.principal.delete(path)).status_code == 403


async def test_who_takes_part_elsewhere_is_not_taken_over_locked_out_or_deleted(lms: Lms, school: School) -> None:
    elsewhere = await lms.make_school()
    enrolled, guardian = await lms.make_user("student", school.institution["id"]), await lms.make_user()
    await lms.enroll(elsewhere.course["id"], enrolled)
    await (await lms.admin()).create(f"/users/{elsewhere.student.id}/guardians", {"guardian_id": str(guardian.id)})
    await (await lms.admin()).create(f"/users/{school.student.id}/guardians", {"guardian_id": str(guardian.id)})
    for user in (enrolled, guardian):
        path = f"/users/{user.id}"
        email = f"taken-over-{uuid4().hex}@example.org"
        for answer in (
            await school.principal.patch(path, {"email": email}),
            await school.principal.patch(path, {"is_active": False}),
            await school.principal.delete(path),
        ):
            assert answer.status_code in (403, 404), answer.text
        assert (await (await lms.admin()).get(path)).json()["email"] == user.email
    assert (await school.principal.patch(f"/users/{enrolled.id}", {"full_name": "Married"})).status_code == 200
    for enrollment in await (await lms.admin()).items("/enrollments", user_id=str(enrolled.id)):
        await (await lms.admin()).delete(f"/enrollments/{enrollment['id']}")
    assert (await school.principal.patch(f"/users/{enrolled.id}", {"is_active": False})).status_code == 200


async def test_a_disabled_user_is_out_at_once_and_keeps_their_enrollments(lms: Lms, school: School) -> None:
    assert (await school.student.get("/users/me")).status_code == 200
    disabled = await school.principal.patch(f"/users/{school.student.id}", {"is_active": False})
    assert disabled.json()["is_active"] is False
    assert (await school.student.get("/users/me")).status_code == 401
    assert len(await school.teacher.items("/enrollments", user_id=str(school.student.id))) == 1


async def test_a_principal_gives_a_role_with_a_new_user(school: School) -> None:
    refused = await school.principal.post("/users", person())
    assert (refused.status_code, refused.json()["code"]) == (422, "roles_required")
    role = {"role": "student", "institution_id": school.institution["id"]}
    user = await school.principal.create("/users", person(roles=[role]))
    assert (await school.principal.get(f"/users/{user['id']}")).status_code == 200


async def test_a_super_admin_for_a_time_does_not_replace_the_last_one(lms: Lms) -> None:
    admin, other = await lms.admin(), await lms.make_user()
    body = {"role": "super_admin", "expires_at": "2100-01-01T00:00:00Z"}
    given = await admin.create(f"/users/{other.id}/roles", body)
    role = (await admin.items(f"/users/{admin.id}/roles"))[0]
    refused = await other.delete(f"/users/{admin.id}/roles/{role['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_super_admin")
    assert (await admin.delete(f"/users/{other.id}/roles/{given['id']}")).status_code == 202


async def test_an_expired_role_can_be_given_again(lms: Lms, school: School) -> None:
    admin, user = await lms.admin(), await lms.make_user()
    body = {"role": "teacher", "institution_id": school.institution["id"]}
    await admin.create(f"/users/{user.id}/roles", {**body, "expires_at": "2020-01-01T00:00:00Z"})
    await admin.create(f"/users/{user.id}/roles", body)
    assert (await admin.post(f"/users/{user.id}/roles", body)).status_code == 409


@pytest.mark.parametrize(
    "moment",
    ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+23:00", 1893456000, "1893456000", "2030-01-01T00:00:00", "soon"],
)
async def test_what_is_no_moment_is_422(lms: Lms, school: School, moment: object) -> None:
    body = {"role": "teacher", "institution_id": school.institution["id"], "expires_at": moment}
    answer = await (await lms.admin()).post(f"/users/{school.student.id}/roles", body)
    assert answer.status_code == 422, answer.text


async def test_a_role_is_restored_only_at_its_own_user(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    grant = (await admin.items(f"/users/{school.student.id}/roles"))[0]
    await admin.delete(f"/users/{school.student.id}/roles/{grant['id']}")
    wrong = await admin.post(f"/users/{school.teacher.id}/roles/{grant['id']}/restore")
    assert (wrong.status_code, wrong.json()["code"]) == (404, "grant_not_found")
    assert (await admin.post(f"/users/{school.student.id}/roles/{grant['id']}/restore")).status_code == 202
    await lms.work_off()
