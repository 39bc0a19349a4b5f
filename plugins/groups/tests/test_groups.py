"""Groups: who may be in them, who sees them, and what their roles give."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from lms_groups import members
from people import make_people
from sqlalchemy import text

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


async def course_group(school: School, *members: Caller) -> dict[str, Any]:
    group = await school.teacher.create("/groups", {"course_id": school.course["id"], "name": uuid4().hex})
    for member in members:
        await school.teacher.create(f"/groups/{group['id']}/members", {"user_id": str(member.id)})
    return group


async def school_group(school: School, *members: Caller) -> dict[str, Any]:
    body = {"institution_id": school.institution["id"], "name": uuid4().hex}
    group = await school.principal.create("/groups", body)
    for member in members:
        await school.principal.create(f"/groups/{group['id']}/members", {"user_id": str(member.id)})
    return group


async def grant(caller: Caller, group: dict[str, Any], course_id: str, role: str) -> dict[str, Any]:
    return await caller.create(f"/groups/{group['id']}/roles", {"course_id": course_id, "role": role})


async def roles_in(caller: Caller, course_id: str) -> list[str]:
    roles = (await caller.get("/users/me")).json()["roles"]
    return sorted(held["role"] for held in roles if held["object_id"] == course_id)


async def rows(lms: Lms, group: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """All there is of a group, without what every change of a row changes."""
    found = {}
    for table, column in (("group", "id"), ("membership", "group_id"), ("course_role", "group_id")):
        statement = f"SELECT * FROM groups_{table} WHERE {column} = :id ORDER BY id"
        found[table] = [
            {name: value for name, value in dict(row).items() if name not in ("version", "updated_at")}
            for row in await lms.sql(statement, id=group["id"])
        ]
    return found


async def test_in_the_group_of_a_course_is_who_is_enrolled_there(lms: Lms, school: School) -> None:
    group = await course_group(school, school.student)
    path = f"/groups/{group['id']}/members"
    stranger = await lms.make_user("student", school.institution["id"])
    refused = await school.teacher.post(path, {"user_id": str(stranger.id)})
    assert (refused.status_code, refused.json()["code"]) == (404, "user_not_found")
    again = await school.teacher.post(path, {"user_id": str(school.student.id)})
    assert again.status_code == 200
    assert (await school.teacher.get(f"/groups/{group['id']}")).json()["members"] == 1
    assert again.json()["takes_part"] is True


async def test_who_is_added_while_they_are_enrolled_has_the_roles(lms: Lms, school: School) -> None:
    """The request that adds them begins before the enrollment is there, and comes to them after it."""
    other = await lms.make_course(school.institution["id"])
    user = await lms.make_user("student", school.institution["id"])
    group = await course_group(school)
    async with lms.context.unit_of_work() as uow:
        await uow.session.execute(text("SELECT now()"))
        await lms.enroll(school.course["id"], user)
        await members.place(uow, UUID(group["id"]), [user.id])
    await grant(school.principal, group, other["id"], "assistant")
    assert await roles_in(user, other["id"]) == ["assistant"]


async def test_many_at_once_are_answered_one_by_one(lms: Lms, school: School) -> None:
    users = await make_people(lms, school, 3)
    body = {"course_id": school.course["id"], "user_ids": users[:2], "role": "student"}
    await school.teacher.post("/enrollments/bulk", body)
    group = await course_group(school, school.student)
    path = f"/groups/{group['id']}/members/bulk"
    answer = await school.teacher.post(path, {"user_ids": [*users, str(school.student.id)]})
    assert answer.status_code == 200, answer.text
    found = [(one["status"], one["code"]) for one in answer.json()["results"]]
    assert found == [("created", None), ("created", None), ("error", "user_not_found"), ("exists", None)]
    assert answer.json()["counts"] == {"created": 2, "error": 1, "exists": 1}
    twice = await school.teacher.post(path, {"user_ids": [users[0], users[0]]})
    assert twice.status_code == 422
    assert (await school.teacher.post(path, {"user_ids": [str(uuid4()) for _ in range(1_001)]})).status_code == 422


async def test_the_same_member_in_parallel_is_one_row(lms: Lms, school: School) -> None:
    group = await course_group(school)
    path = f"/groups/{group['id']}/members"
    answers = await asyncio.gather(*(school.teacher.post(path, {"user_id": str(school.student.id)}) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


async def test_students_see_the_groups_of_their_course_and_only_themselves_in_them(lms: Lms, school: School) -> None:
    other = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], other)
    group = await course_group(school, school.student, other)
    without = await course_group(school)
    names = [one["id"] for one in await school.student.items("/groups", course_id=school.course["id"])]
    assert {group["id"], without["id"]} <= set(names)
    mine = await school.student.items("/groups", mine="true")
    assert [one["id"] for one in mine if one["course_id"] == school.course["id"]].count(group["id"]) == 1
    assert without["id"] not in [one["id"] for one in mine]
    members = await school.student.items(f"/groups/{group['id']}/members")
    assert [one["user_id"] for one in members] == [str(school.student.id)]
    await school.teacher.send("PATCH", f"/courses/{school.course['id']}", json={"state": "draft"})
    assert (await school.student.get(f"/groups/{group['id']}")).status_code == 404
    assert (await school.teacher.get(f"/groups/{group['id']}")).status_code == 200


async def test_a_guardian_sees_their_student_in_a_group(lms: Lms, school: School) -> None:
    guardian = await lms.make_user()
    await (await lms.admin()).create(f"/users/{school.student.id}/guardians", {"guardian_id": str(guardian.id)})
    group = await course_group(school, school.student)
    members = await guardian.items(f"/groups/{group['id']}/members")
    assert [one["user_id"] for one in members] == [str(school.student.id)]


async def test_the_groups_of_an_institution(lms: Lms, school: School) -> None:
    below = await lms.make_institution(school.institution["id"])
    member = await lms.make_user("student", below["id"])
    elsewhere = await lms.make_school()
    group = await school_group(school, school.student, member)
    path = f"/groups/{group['id']}"
    for user in (elsewhere.student.id, uuid4()):
        refused = await school.principal.post(f"{path}/members", {"user_id": str(user)})
        assert (refused.status_code, refused.json()["code"]) == (404, "user_not_found")
    # Teachers can name it (as an audience); who is in it is for those who run the institution.
    assert (await school.teacher.get(path)).status_code == 200
    assert await school.teacher.items(f"{path}/members") == []
    edited = await school.teacher.send("PATCH", path, json={"name": "Mine"})
    assert edited.status_code == 403
    own = await school.teacher.post("/groups", {"institution_id": school.institution["id"], "name": "Mine"})
    assert own.status_code == 403
    outsider = await lms.make_user("student", school.institution["id"])
    assert (await outsider.get(path)).status_code == 404
    assert (await member.get(path)).status_code == 200
    assert (await elsewhere.principal.get(path)).status_code == 404
    foreign = {"institution_id": elsewhere.institution["id"], "name": "Theirs"}
    answer = await school.principal.post("/groups", foreign)
    assert (answer.status_code, answer.json()["code"]) == (404, "institution_not_found")


async def test_a_role_of_a_group_is_everybodys_in_it_and_ends_with_it_at_once(lms: Lms, school: School) -> None:
    member = await lms.make_user("teacher", school.institution["id"])
    course_id = school.course["id"]
    group = await school_group(school, member)
    assert (await member.items("/enrollments", course_id=course_id)) == []
    given = await grant(school.principal, group, course_id, "assistant")
    assert await roles_in(member, course_id) == ["assistant"]
    assert len(await member.items("/enrollments", course_id=course_id)) == 2
    path = f"/groups/{group['id']}"
    later = await lms.make_user("teacher", school.institution["id"])
    membership = await school.principal.create(f"{path}/members", {"user_id": str(later.id)})
    assert await roles_in(later, course_id) == ["assistant"]

    one, all_of_it = f"{path}/members/{membership['id']}", f"{path}/roles/{given['id']}"
    for thing, who in ((one, later), (all_of_it, member), (path, member)):
        assert (await school.principal.delete(thing)).status_code == 202
        assert await roles_in(who, course_id) == [], thing
        await lms.work_off()
        assert (await school.principal.post(f"{thing}/restore")).status_code == 202
        await lms.work_off()
        assert await roles_in(who, course_id) == ["assistant"], thing


async def test_nobody_gets_through_a_group_what_one_could_not_give(lms: Lms, school: School) -> None:
    course_id = school.course["id"]
    group = await course_group(school, school.student)
    path = f"/groups/{group['id']}"
    refused = await school.teacher.post(f"{path}/roles", {"course_id": course_id, "role": "teacher"})
    assert refused.status_code == 403
    given = await grant(school.principal, group, course_id, "teacher")
    other = await lms.make_user("student", school.institution["id"])
    await lms.enroll(course_id, other)
    tried = [
        await school.teacher.post(f"{path}/members", {"user_id": str(other.id)}),
        await school.teacher.post(f"{path}/members/bulk", {"user_ids": [str(other.id)]}),
        await school.teacher.delete(f"{path}/roles/{given['id']}"),
        await school.teacher.delete(path),
    ]
    assert [answer.status_code for answer in tried] == [403] * 4
    # Nor by bringing back what somebody above took away.
    [membership] = await school.principal.items(f"{path}/members")
    taken = f"{path}/members/{membership['id']}"
    assert (await school.teacher.delete(taken)).status_code == 403
    for thing in (taken, path):
        assert (await school.principal.delete(thing)).status_code == 202
        await lms.work_off()
        refused = await school.teacher.post(f"{thing}/restore")
        assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
        assert (await school.principal.post(f"{thing}/restore")).status_code == 202
        await lms.work_off()
    assert (await school.principal.delete(f"{path}/roles/{given['id']}")).status_code == 202
    await lms.work_off()
    refused = await school.teacher.post(f"{path}/roles/{given['id']}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
    elsewhere = await lms.make_school()
    foreign = {"course_id": elsewhere.course["id"], "role": "assistant"}
    unknown = await school.principal.post(f"{path}/roles", foreign)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "course_not_found")


async def test_in_the_group_of_a_course_only_who_takes_part_counts(lms: Lms, school: School) -> None:
    group = await course_group(school, school.student)
    other = await lms.make_course(school.institution["id"])
    await grant(school.principal, group, other["id"], "observer")
    assert await roles_in(school.student, other["id"]) == ["observer"]
    [enrollment] = await school.student.items("/enrollments", course_id=school.course["id"])
    await school.teacher.send("PATCH", f"/enrollments/{enrollment['id']}", json={"state": "dropped"})
    assert await roles_in(school.student, other["id"]) == []
    [membership] = await school.teacher.items(f"/groups/{group['id']}/members")
    assert membership["takes_part"] is False
    # Enrolled anew they are in the group again; the roles come only with being added by somebody who may give them.
    await lms.enroll(school.course["id"], school.student)
    [membership] = await school.teacher.items(f"/groups/{group['id']}/members")
    assert membership["takes_part"] is True
    assert await roles_in(school.student, other["id"]) == []
    path = f"/groups/{group['id']}/members"
    assert (await school.principal.delete(f"{path}/{membership['id']}")).status_code == 202
    await school.principal.create(path, {"user_id": str(school.student.id)})
    assert await roles_in(school.student, other["id"]) == ["observer"]


async def test_who_takes_part_is_said_of_each_member(lms: Lms, school: School) -> None:
    gone = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], gone)
    group = await course_group(school, gone)
    await course_group(school, school.student)
    [enrollment] = await gone.items("/enrollments", course_id=school.course["id"])
    assert (await school.teacher.patch(f"/enrollments/{enrollment['id']}", {"state": "dropped"})).status_code == 200
    assert [one["takes_part"] for one in await school.teacher.items(f"/groups/{group['id']}/members")] == [False]


async def test_a_role_in_a_deleted_course_counts_when_members_are_added(lms: Lms, school: School) -> None:
    group = await course_group(school)
    other = await lms.make_course(school.institution["id"])
    await grant(school.principal, group, other["id"], "teacher")
    path, body = f"/groups/{group['id']}/members", {"user_id": str(school.student.id)}
    assert (await school.teacher.post(path, body)).status_code == 403
    assert (await school.principal.delete(f"/courses/{other['id']}")).status_code == 202
    await lms.work_off()
    assert (await school.teacher.post(path, body)).status_code == 403
    assert (await school.principal.post(path, body)).status_code == 201


async def test_a_role_that_was_taken_from_a_group_counts_no_more(lms: Lms, school: School) -> None:
    group = await course_group(school)
    other = await lms.make_course(school.institution["id"])
    held = await grant(school.principal, group, other["id"], "teacher")
    assert (await school.principal.delete(f"/groups/{group['id']}/roles/{held['id']}")).status_code == 202
    assert (await school.principal.delete(f"/courses/{other['id']}")).status_code == 202
    await lms.work_off()
    added = await school.teacher.post(f"/groups/{group['id']}/members", {"user_id": str(school.student.id)})
    assert added.status_code == 201


async def test_a_course_comes_back_with_the_roles_of_a_group_from_above(lms: Lms, school: School) -> None:
    below = await lms.make_institution(school.institution["id"])
    principal = await lms.make_user("principal", below["id"])
    course = await lms.make_course(below["id"])
    group = await school_group(school, principal)
    held = await grant(school.principal, group, course["id"], "assistant")
    assert (await principal.delete(f"/courses/{course['id']}")).status_code == 202
    await lms.work_off()
    assert (await principal.post(f"/courses/{course['id']}/restore")).status_code == 202
    await lms.work_off()
    [back] = await school.principal.items(f"/groups/{group['id']}/roles")
    assert back["id"] == held["id"]


async def test_a_super_admin_too_puts_only_who_counts_into_a_group_of_an_institution(lms: Lms, school: School) -> None:
    group, nobody = await school_group(school), await lms.make_user()
    answer = await (await lms.admin()).post(f"/groups/{group['id']}/members", {"user_id": str(nobody.id)})
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")


async def test_a_role_comes_back_only_by_who_may_give_the_group_roles(lms: Lms, school: School) -> None:
    group, other = await school_group(school, school.student), await lms.make_course(school.institution["id"])
    teacher = await lms.make_user("teacher", school.institution["id"])
    await lms.enroll(other["id"], teacher, "teacher")
    held = await grant(school.principal, group, other["id"], "assistant")
    path = f"/groups/{group['id']}/roles/{held['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    answer = await teacher.post(f"{path}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "grant_not_allowed")
    assert (await school.principal.post(f"{path}/restore")).status_code == 202


@pytest.mark.parametrize("how", ["taken", "expired"])
async def test_in_the_group_of_an_institution_who_holds_no_role_there_counts_no_more(
    lms: Lms, school: School, how: str
) -> None:
    member = await lms.make_user("teacher", school.institution["id"])
    group, other = await school_group(school, member), await lms.make_course(school.institution["id"])
    await grant(school.principal, group, other["id"], "assistant")
    assert await roles_in(member, other["id"]) == ["assistant"]
    if how == "taken":
        [role] = await school.principal.items(f"/users/{member.id}/roles")
        assert (await school.principal.delete(f"/users/{member.id}/roles/{role['id']}")).status_code == 202
    else:
        await lms.sql("UPDATE users_grant SET expires_at = now() - interval '1 s' WHERE user_id = :id", id=member.id)
        # The clock goes on by itself; here it was turned, so nobody was told.
        async with lms.context.unit_of_work() as uow:
            uow.announce(f"user:{member.id}")
    assert await roles_in(member, other["id"]) == []


@pytest.mark.parametrize("what", ["courses", "institutions"])
async def test_a_role_ends_when_its_group_goes_with_something_larger(lms: Lms, school: School, what: str) -> None:
    elsewhere = await lms.make_school()
    group = await course_group(school, school.student)
    admin = await lms.admin()
    there = {"role": "student", "institution_id": elsewhere.institution["id"]}
    await admin.create(f"/users/{school.student.id}/roles", there)
    await grant(admin, group, elsewhere.course["id"], "teacher")
    path = f"/courses/{elsewhere.course['id']}"
    assert (await school.student.patch(path, {"title": "Mine"})).status_code == 200
    gone = school.course if what == "courses" else school.institution
    assert (await (await lms.admin()).delete(f"/{what}/{gone['id']}")).status_code == 202
    # Between the root and what hangs under it somebody asks, and is remembered.
    await school.student.patch(path, {"title": "Mine still"})
    await lms.work_off()
    assert (await school.student.patch(path, {"title": "Not mine"})).status_code in (403, 404)


@pytest.mark.parametrize("what", ["course", "user", "institution"])
async def test_groups_come_back_exactly(lms: Lms, school: School, what: str) -> None:
    group = await course_group(school, school.student)
    shared = await school_group(school, school.student, school.teacher)
    for one in (group, shared):
        await grant(school.principal, one, school.course["id"], "observer")
    gone = await lms.make_user("student", school.institution["id"])
    await lms.enroll(school.course["id"], gone)
    kept_out = await school.teacher.create(f"/groups/{group['id']}/members", {"user_id": str(gone.id)})
    await school.principal.delete(f"/groups/{group['id']}/members/{kept_out['id']}")
    await lms.work_off()
    before = [await rows(lms, one) for one in (group, shared)]
    path = {
        "course": f"/courses/{school.course['id']}",
        "user": f"/users/{school.student.id}",
        "institution": f"/institutions/{school.institution['id']}",
    }[what]
    admin = await lms.admin()
    deletion = (await admin.delete(path)).json()
    await lms.work_off()
    counts = (await admin.get(f"/deletions/{deletion['id']}")).json()["counts"]
    expected = {
        "course": {"groups.group": 1, "groups.membership": 1, "groups.course_role": 2},
        "user": {"groups.membership": 2},
        "institution": {"groups.group": 2, "groups.membership": 3, "groups.course_role": 2},
    }[what]
    assert {kind: number for kind, number in counts.items() if kind.startswith("groups.")} == expected
    assert (await admin.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert [await rows(lms, one) for one in (group, shared)] == before


BAD = {
    "of nothing": {"name": "Red team"},
    "of two things": {"name": "Red team", "course_id": str(uuid4()), "institution_id": str(uuid4())},
    "without a name": {"course_id": str(uuid4()), "name": ""},
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_groups_are_refused(school: School, case: str) -> None:
    answer = await school.teacher.post("/groups", BAD[case])
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_students_are_not_made_through_groups(school: School) -> None:
    group = await school_group(school)
    body = {"course_id": school.course["id"], "role": "student"}
    assert (await school.principal.post(f"/groups/{group['id']}/roles", body)).status_code == 422


async def test_names_are_unique_where_the_group_is(lms: Lms, school: School) -> None:
    group = await course_group(school)
    body = {"course_id": school.course["id"], "name": group["name"]}
    taken = await school.teacher.post("/groups", body)
    assert (taken.status_code, taken.json()["code"]) == (409, "natural_key_taken")
    other = await lms.make_course(school.institution["id"])
    await school.principal.create("/groups", {"course_id": other["id"], "name": group["name"]})
    await school.principal.create("/groups", {"institution_id": school.institution["id"], "name": group["name"]})


async def elsewhere_by_group(lms: Lms, school: School) -> tuple[dict[str, Any], dict[str, Any]]:
    """A group of the school's course with the student in it, and another course in which it has a role."""
    group, other = await course_group(school, school.student), await lms.make_course(school.institution["id"])
    await grant(school.principal, group, other["id"], "teacher")
    assert await roles_in(school.student, other["id"]) == ["teacher"]
    return group, other


async def own_enrollment(school: School) -> str:
    [found] = await school.student.items("/enrollments", course_id=school.course["id"])
    return f"/enrollments/{found['id']}"


async def test_restoring_an_enrollment_brings_no_role_of_a_group_that_one_could_not_give(
    lms: Lms, school: School
) -> None:
    _, other = await elsewhere_by_group(lms, school)
    path = await own_enrollment(school)
    assert (await school.principal.delete(path)).status_code == 202
    await lms.work_off()
    assert await roles_in(school.student, other["id"]) == []
    preview = (await school.teacher.post(f"{path}/restore", params={"dry_run": "true"})).json()
    assert [one["code"] for one in preview["conflicts"]] == ["grant_not_allowed"]
    refused = await school.teacher.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert await roles_in(school.student, other["id"]) == ["teacher"]


async def test_an_older_enrollment_that_becomes_active_brings_no_role_of_a_group(lms: Lms, school: School) -> None:
    """It was there when they came into the group, but only waited: what counted then was another one."""
    assert (await school.principal.patch(f"/courses/{school.course['id']}", {"capacity": 1})).status_code == 200
    assert (await school.principal.patch(f"/courses/{school.course['id']}", {"waitlist": True})).status_code == 200
    user = await lms.make_user("student", school.institution["id"])
    about = {"course_id": school.course["id"], "user_id": str(user.id)}
    await school.teacher.create("/enrollments", {**about, "role": "student"})
    observes = await school.principal.create("/enrollments", {**about, "role": "observer"})
    group, other = await course_group(school, user), await lms.make_course(school.institution["id"])
    await grant(school.principal, group, other["id"], "teacher")
    assert await roles_in(user, other["id"]) == ["teacher"]
    dropped = {"state": "dropped"}
    assert (await school.principal.patch(f"/enrollments/{observes['id']}", dropped)).status_code == 200
    assert (await school.teacher.patch(await own_enrollment(school), dropped)).status_code == 200
    assert await roles_in(user, school.course["id"]) == ["student"]
    assert await roles_in(user, other["id"]) == []


async def test_days_that_begin_anew_bring_no_role_of_a_group(lms: Lms, school: School) -> None:
    _, other = await elsewhere_by_group(lms, school)
    path = await own_enrollment(school)
    assert (await school.principal.patch(path, {"ends_on": "2020-01-01"})).status_code == 200
    assert await roles_in(school.student, other["id"]) == []
    assert (await school.teacher.patch(path, {"ends_on": None})).status_code == 200
    assert await roles_in(school.student, school.course["id"]) == ["student"]
    assert await roles_in(school.student, other["id"]) == []


async def test_a_role_is_given_to_all_who_take_part_then(lms: Lms, school: School) -> None:
    """Also to who had left and came back before."""
    group, other = await course_group(school, school.student), await lms.make_course(school.institution["id"])
    assert (await school.principal.patch(await own_enrollment(school), {"state": "dropped"})).status_code == 200
    await lms.enroll(school.course["id"], school.student)
    await grant(school.principal, group, other["id"], "assistant")
    assert await roles_in(school.student, other["id"]) == ["assistant"]


@pytest.mark.parametrize("how", ["one", "many"])
async def test_whoever_may_give_the_roles_gives_them_again_by_adding(lms: Lms, school: School, how: str) -> None:
    group, other = await elsewhere_by_group(lms, school)
    assert (await school.principal.patch(await own_enrollment(school), {"state": "dropped"})).status_code == 200
    await lms.enroll(school.course["id"], school.student)
    assert await roles_in(school.student, other["id"]) == []
    path = f"/groups/{group['id']}/members"
    body: dict[str, Any] = {"user_id": str(school.student.id)}
    if how == "many":
        path, body = f"{path}/bulk", {"user_ids": [str(school.student.id)]}
    assert (await school.teacher.post(path, body)).status_code == 403
    assert (await school.principal.post(path, body)).status_code == 200
    assert await roles_in(school.student, other["id"]) == ["teacher"]


async def test_a_group_brings_nobody_where_they_could_not_be_enrolled(lms: Lms, school: School) -> None:
    """They do not belong to the other school; once they do and are added again, they have it, and its people end it."""
    elsewhere, admin = await lms.make_school(), await lms.admin()
    group = await course_group(school, school.student)
    given = await grant(admin, group, elsewhere.course["id"], "assistant")
    assert await roles_in(school.student, elsewhere.course["id"]) == []
    there = {"role": "student", "institution_id": elsewhere.institution["id"]}
    role = await admin.create(f"/users/{school.student.id}/roles", there)
    # Whoever gives roles at the other school gives no more than those.
    assert await roles_in(school.student, elsewhere.course["id"]) == []
    await admin.post(f"/groups/{group['id']}/members", {"user_id": str(school.student.id)})
    assert await roles_in(school.student, elsewhere.course["id"]) == ["assistant"]
    assert (await admin.delete(f"/users/{school.student.id}/roles/{role['id']}")).status_code == 202
    await lms.work_off()
    assert await roles_in(school.student, elsewhere.course["id"]) == []
    found = await elsewhere.principal.items("/groups/roles", course_id=elsewhere.course["id"])
    assert [(one["group_id"], one["role"]) for one in found] == [(group["id"], "assistant")]
    assert await school.teacher.items("/groups/roles", course_id=elsewhere.course["id"]) == found
    assert (await elsewhere.principal.delete(f"/groups/{group['id']}/roles/{given['id']}")).status_code == 202


async def test_a_role_that_is_given_again_brings_none_of_a_group(lms: Lms, school: School) -> None:
    """Who runs the school below gives roles there, and not those that a group of the district has elsewhere."""
    admin, district = await lms.admin(), await lms.make_school()
    moved = {"parent_id": district.institution["id"]}
    assert (await admin.patch(f"/institutions/{school.institution['id']}", moved)).status_code == 200
    user = await lms.make_user("student", school.institution["id"])
    group = await school_group(district, user)
    await grant(admin, group, school.course["id"], "teacher")
    assert await roles_in(user, school.course["id"]) == ["teacher"]
    [role] = await admin.items(f"/users/{user.id}/roles")
    assert (await admin.delete(f"/users/{user.id}/roles/{role['id']}")).status_code == 202
    await lms.work_off()
    await admin.create(f"/users/{user.id}/roles", {"role": "student", "institution_id": school.institution["id"]})
    assert await roles_in(user, school.course["id"]) == []
    await admin.post(f"/groups/{group['id']}/members", {"user_id": str(user.id)})
    assert await roles_in(user, school.course["id"]) == ["teacher"]


async def test_a_role_that_is_restored_brings_none_of_a_group_that_one_could_not_give(lms: Lms, school: School) -> None:
    """A school's principal puts nobody back by whom its group would have a role elsewhere; a third school's may."""
    admin, elsewhere, third = await lms.admin(), await lms.make_school(), await lms.make_school()
    user = await lms.make_user("student", school.institution["id"])
    for other in (elsewhere, third):
        there = {"role": "student", "institution_id": other.institution["id"]}
        await admin.create(f"/users/{user.id}/roles", there)
    for one in (school, third):
        await lms.enroll(one.course["id"], user)
    group = await school_group(school, user)
    await grant(admin, group, elsewhere.course["id"], "teacher")
    assert await roles_in(user, elsewhere.course["id"]) == ["teacher"]
    roles = {one["institution_id"]: one["id"] for one in await admin.items(f"/users/{user.id}/roles")}
    # What they were given later has no part in it.
    later = {"role": "teacher", "institution_id": school.institution["id"]}
    path = f"/users/{user.id}/roles/{(await school.principal.create(f'/users/{user.id}/roles', later))['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    await lms.work_off()
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    for one, status in ((third, 202), (school, 409)):
        path = f"/users/{user.id}/roles/{roles[one.institution['id']]}"
        assert (await one.principal.delete(path)).status_code == 202
        await lms.work_off()
        answer = await one.principal.post(f"{path}/restore")
        assert answer.status_code == status, answer.text
        await lms.work_off()
    assert answer.json()["code"] == "grant_not_allowed"
    assert await roles_in(user, elsewhere.course["id"]) == []


async def test_what_had_lapsed_before_stands_in_no_way(lms: Lms, school: School) -> None:
    """Who came back to the course has no role of the group; a teacher takes back the delete of that enrollment."""
    _, other = await elsewhere_by_group(lms, school)
    assert (await school.principal.patch(await own_enrollment(school), {"state": "dropped"})).status_code == 200
    enrolled = await lms.enroll(school.course["id"], school.student)
    assert (await school.teacher.delete(f"/enrollments/{enrolled['id']}")).status_code == 202
    await lms.work_off()
    assert (await school.teacher.post(f"/enrollments/{enrolled['id']}/restore")).status_code == 202
    await lms.work_off()
    assert await roles_in(school.student, school.course["id"]) == ["student"]
    assert await roles_in(school.student, other["id"]) == []


async def test_who_takes_a_role_of_a_group_of_others_does_not_give_it_back(lms: Lms, school: School) -> None:
    group, other = await elsewhere_by_group(lms, school)
    assistant = await lms.make_user("student", school.institution["id"])
    await lms.enroll(other["id"], assistant, "teacher")
    [role] = await assistant.items("/groups/roles", course_id=other["id"])
    # Not one's own to give: teachers are appointed by others.
    path = f"/groups/{group['id']}/roles/{role['id']}"
    assert (await assistant.delete(path)).status_code == 403
    observers = await grant(school.principal, group, other["id"], "observer")
    path = f"/groups/{group['id']}/roles/{observers['id']}"
    assert (await assistant.delete(path)).status_code == 202
    await lms.work_off()
    refused = await assistant.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
    assert (await school.principal.post(f"{path}/restore")).status_code == 202


async def test_adding_again_who_never_left_changes_nothing(school: School, lms: Lms) -> None:
    group, _ = await elsewhere_by_group(lms, school)
    path, body = f"/groups/{group['id']}/members", {"user_id": str(school.student.id)}
    first, again = await school.principal.post(path, body), await school.principal.post(path, body)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.headers["ETag"] == again.headers["ETag"]
    assert first.json()["updated_at"] == first.json()["created_at"]


@pytest.mark.parametrize("what", ["members", "roles"])
async def test_what_is_in_a_deleted_group_says_so_when_it_is_to_come_back(lms: Lms, school: School, what: str) -> None:
    group, _ = await elsewhere_by_group(lms, school)
    [row] = await school.principal.items(f"/groups/{group['id']}/{what}")
    for path in (f"/groups/{group['id']}/{what}/{row['id']}", f"/groups/{group['id']}"):
        assert (await school.principal.delete(path)).status_code == 202
        await lms.work_off()
    path = f"/groups/{group['id']}/{what}/{row['id']}/restore"
    refused = await school.principal.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "parent_deleted")
    assert (await school.principal.post(path, {"on_conflict": "parents"})).status_code == 202
    await lms.work_off()
    assert [one["id"] for one in await school.principal.items(f"/groups/{group['id']}/{what}")] == [row["id"]]


async def test_a_role_that_nobody_can_have_there_is_in_no_way(lms: Lms, school: School) -> None:
    """The group has it at another school, to which the student does not belong: they come back without it."""
    elsewhere = await lms.make_school()
    group = await course_group(school, school.student)
    await grant(await lms.admin(), group, elsewhere.course["id"], "teacher")
    path = f"/users/{school.student.id}"
    assert (await school.principal.delete(path)).status_code == 202
    await lms.work_off()
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert [one["user_id"] for one in await school.teacher.items(f"/groups/{group['id']}/members")] == [
        str(school.student.id)
    ]


@pytest.mark.parametrize("what", ["courses", "institutions"])
async def test_a_role_ends_with_the_answer_of_the_delete(lms: Lms, school: School, what: str) -> None:
    """Whatever its group hangs under, and before a worker has come to it."""
    other = await lms.make_school()
    group, admin = await course_group(school, school.student), await lms.admin()
    there = {"role": "student", "institution_id": other.institution["id"]}
    await admin.create(f"/users/{school.student.id}/roles", there)
    await grant(admin, group, other.course["id"], "teacher")
    assert await roles_in(school.student, other.course["id"]) == ["teacher"]
    gone = school.course if what == "courses" else school.institution
    assert (await admin.delete(f"/{what}/{gone['id']}")).status_code == 202
    assert await roles_in(school.student, other.course["id"]) == []
    await lms.work_off()
    assert (await admin.post(f"/{what}/{gone['id']}/restore")).status_code == 202
    await lms.work_off()
    assert await roles_in(school.student, other.course["id"]) == ["teacher"]


async def test_roles_of_groups_end_when_the_course_goes_elsewhere(lms: Lms, school: School) -> None:
    """Whoever moves it gives nobody a role by that; it is given again by whoever may."""
    admin, elsewhere = await lms.admin(), await lms.make_school()
    user = await lms.make_user("student", elsewhere.institution["id"])
    other = await lms.make_course(school.institution["id"])
    await lms.enroll(school.course["id"], user)
    group = await course_group(school, user)
    given = await grant(admin, group, other["id"], "teacher")
    assert await roles_in(user, other["id"]) == []
    moved = {"institution_id": elsewhere.institution["id"]}
    assert await roles_in(user, school.course["id"]) == ["student"]
    assert (await admin.patch(f"/courses/{other['id']}", moved)).status_code == 200
    assert await roles_in(user, other["id"]) == []
    assert (await admin.delete(f"/groups/{group['id']}/roles/{given['id']}")).status_code == 202
    await lms.work_off()
    await grant(admin, group, other["id"], "teacher")
    assert await roles_in(user, other["id"]) == ["teacher"]


async def test_a_course_comes_back_with_a_role_that_nobody_can_have(lms: Lms, school: School) -> None:
    """Its group has it in a course of another school, to which none of its people belong."""
    elsewhere = await lms.make_school()
    group = await course_group(school, school.student)
    given = await grant(await lms.admin(), group, elsewhere.course["id"], "teacher")
    path = f"/courses/{school.course['id']}"
    assert (await school.principal.delete(path)).status_code == 202
    await lms.work_off()
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert [one["id"] for one in await school.principal.items(f"/groups/{group['id']}/roles")] == [given["id"]]
