"""The recycle bin: previews, who and why, several things as one deletion, and one thing out of a larger one."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from lms_core import cascade
from lms_core.deletion import RestoreRequested
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


async def conflicts(caller: Caller, path: str, on_conflict: Any = None) -> list[tuple[str, list[str]]]:
    """What a preview says stands in the way, and the ways out of it."""
    body = None if on_conflict is None else {"on_conflict": on_conflict}
    answer = await caller.post(f"{path}/restore?dry_run=true", body)
    assert answer.status_code == 200, answer.text
    return [(one["code"], one["choices"]) for one in answer.json()["conflicts"]]


async def material(school: School, title: str = "A page", **fields: Any) -> dict[str, Any]:
    body = {"course_id": school.course["id"], "kind": "page", "title": title, **fields}
    return await school.teacher.create("/materials", body)


async def titles(school: School) -> list[str]:
    found = await school.teacher.items("/materials", course_id=school.course["id"])
    return sorted(one["title"] for one in found)


async def test_a_preview_of_a_delete_changes_nothing(lms: Lms, school: School) -> None:
    page = await material(school)
    path = f"/courses/{school.course['id']}"
    before = await lms.sql("SELECT count(*) AS n FROM core_deletion")
    answer = await school.principal.delete(f"{path}?dry_run=true")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert shown["root"] == {"kind": "courses.course", "id": school.course["id"], "label": "Biology"}
    assert shown["counts"] == {"courses.course": 1, "enrollments.enrollment": 2, "materials.material": 1}
    assert shown["conflicts"] == []
    assert shown["affected"]["count"] == 2
    assert {one["id"] for one in shown["affected"]["people"]} == {str(school.teacher.id), str(school.student.id)}
    assert (await school.teacher.get(f"/materials/{page['id']}")).status_code == 200
    assert await lms.sql("SELECT count(*) AS n FROM core_deletion") == before
    # The real thing takes what the preview said.
    deletion = (await school.principal.delete(path)).json()
    await lms.work_off()
    assert (await school.principal.get(f"/deletions/{deletion['id']}")).json()["counts"] == shown["counts"]
    back = (await school.principal.post(f"{path}/restore?dry_run=true")).json()
    assert (back["counts"], back["affected"]) == (shown["counts"], shown["affected"])


async def test_a_preview_answers_refusals_as_the_delete_does(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    assert (await school.student.delete(f"{path}?dry_run=true")).status_code == 403
    assert (await school.principal.delete(f"/courses/{uuid4()}?dry_run=true")).status_code == 404
    stale = await school.principal.delete(f"{path}?dry_run=true", headers={"If-Match": '"999"'})
    assert stale.status_code == 412
    admin = await lms.admin()
    last = await admin.delete(f"/users/{admin.id}?dry_run=true")
    assert (last.status_code, last.json()["code"]) == (409, "last_super_admin")


async def test_people_are_named_only_to_those_who_may_know_them(lms: Lms, school: School) -> None:
    """A student of another school is counted, and not shown to this school's principal."""
    other = await lms.make_school()
    await lms.enroll(school.course["id"], other.student)
    answer = await school.principal.delete(f"/courses/{school.course['id']}?dry_run=true")
    affected = answer.json()["affected"]
    assert affected["count"] == 3
    named = {one["id"] for one in affected["people"]}
    readable = {
        str(one.id)
        for one in (school.teacher, school.student, other.student)
        if (await school.principal.get(f"/users/{one.id}")).status_code == 200
    }
    assert named == readable


async def test_the_bin_says_who_and_why_and_is_searched(lms: Lms, school: School) -> None:
    tag = uuid4().hex[:8]
    page, other = await material(school, f"100%_{tag} Plants"), await material(school, "Other")
    answer = await school.teacher.delete(f"/materials/{page['id']}", params={"reason": "Twice here"})
    deletion = answer.json()
    assert (deletion["reason"], deletion["root_ids"]) == ("Twice here", [page["id"]])
    assert deletion["actor"] == {"id": str(school.teacher.id), "label": "A teacher"}
    await lms.work_off()
    [found] = await school.principal.items("/deletions", q=f"100%_{tag}")
    assert {**found, "state": "cascading"} == {**deletion, "counts": found["counts"]}
    assert (await school.principal.get(f"/deletions/{deletion['id']}")).json() == found
    assert await school.principal.items("/deletions", q=f"100__{tag}") == []
    mine = await school.principal.items("/deletions", actor_id=str(school.teacher.id))
    assert [one["id"] for one in mine] == [deletion["id"]]
    assert await school.principal.items("/deletions", actor_id=str(school.principal.id)) == []
    assert (await school.teacher.delete(f"/materials/{other['id']}", params={"reason": "x" * 1001})).status_code == 422


async def test_several_things_are_one_deletion(lms: Lms, school: School) -> None:
    pages = [await material(school, f"Page {number}") for number in range(4)]
    ids = [one["id"] for one in pages[:3]]
    body = {"kind": "materials.material", "ids": [*ids, ids[0]]}
    preview = await school.teacher.post("/deletions?dry_run=true", body)
    assert (preview.status_code, preview.json()["counts"]) == (200, {"materials.material": 3})
    answer = await school.teacher.post("/deletions", body)
    assert answer.status_code == 202, answer.text
    deletion = answer.json()
    assert (deletion["root"]["label"], sorted(deletion["root_ids"])) == ("Page 0 and 2 more", sorted(ids))
    await lms.work_off()
    assert await titles(school) == ["Page 3"]
    # One of them alone, by its own address: the other two stay.
    assert (await school.teacher.post(f"/materials/{ids[1]}/restore")).status_code == 202
    await lms.work_off()
    assert await titles(school) == ["Page 1", "Page 3"]
    shown = (await school.teacher.get(f"/deletions/{deletion['id']}")).json()
    assert (shown["state"], shown["counts"]) == ("deleted", {"materials.material": 2})
    assert sorted(shown["root_ids"]) == sorted([ids[0], ids[2]])
    assert (await school.teacher.post(f"/deletions/{deletion['id']}/restore")).status_code == 202
    await lms.work_off()
    assert await titles(school) == [f"Page {number}" for number in range(4)]
    again = await school.teacher.post(f"/deletions/{deletion['id']}/restore")
    assert (again.status_code, again.json()["code"]) == (409, "not_deleted")


async def test_several_things_are_deleted_all_or_none(lms: Lms, school: School) -> None:
    page, other = await material(school), await lms.make_school()
    foreign = await material(other)
    for id, status, code in ((foreign["id"], 404, "material_not_found"), (str(uuid4()), 404, "material_not_found")):
        answer = await school.teacher.post("/deletions", {"kind": "materials.material", "ids": [page["id"], id]})
        assert (answer.status_code, answer.json()["code"], answer.json()["id"]) == (status, code, id)
    forbidden = await school.student.post("/deletions", {"kind": "enrollments.enrollment", "ids": []})
    assert forbidden.status_code == 422
    for kind in ("users.grant", "no.kind"):
        answer = await school.teacher.post("/deletions", {"kind": kind, "ids": [page["id"]]})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_kind")
    too_many = {"kind": "materials.material", "ids": [str(uuid4()) for _ in range(101)]}
    assert (await school.teacher.post("/deletions", too_many)).status_code == 422
    assert (await school.teacher.get(f"/materials/{page['id']}")).status_code == 200
    people = {"kind": "users.user", "ids": [str(school.student.id), str(school.principal.id)]}
    refused = await school.principal.post("/deletions", people)
    assert refused.status_code == 403, refused.text
    assert (await school.student.get("/users/me")).status_code == 200


async def test_several_things_are_seen_by_who_may_restore_all(lms: Lms, school: School) -> None:
    """Courses of two schools, deleted together by a super admin: neither principal alone may bring them back."""
    other, admin = await lms.make_school(), await lms.admin()
    body = {"kind": "courses.course", "ids": [school.course["id"], other.course["id"]]}
    deletion = (await admin.post("/deletions", body)).json()
    await lms.work_off()
    for one in (school, other):
        assert (await one.principal.get(f"/deletions/{deletion['id']}")).status_code == 404
        assert (await one.principal.post(f"/deletions/{deletion['id']}/restore")).status_code == 404
        assert deletion["id"] not in [found["id"] for found in await one.principal.items("/deletions")]
    # Their own course they may.
    assert (await school.principal.post(f"/courses/{school.course['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/courses/{school.course['id']}")).status_code == 200
    # What is left is the other one's alone.
    assert (await school.principal.get(f"/deletions/{deletion['id']}")).status_code == 404
    shown = (await other.principal.get(f"/deletions/{deletion['id']}")).json()
    assert shown["root"] == {"kind": "courses.course", "id": other.course["id"], "label": "Biology"}
    assert (await other.principal.post(f"/deletions/{deletion['id']}/restore")).status_code == 202


@pytest.mark.parametrize("kind", ["institutions.institution", "courses.course", "enrollments.enrollment", "users.user"])
async def test_each_kind_asks_its_own_rules(lms: Lms, school: School, kind: str) -> None:
    made: dict[str, Any] = {}
    if kind == "institutions.institution":
        parent = await lms.make_institution(school.institution["id"])
        made = {parent["id"]: None, (await lms.make_institution(parent["id"]))["id"]: None}
    elif kind == "courses.course":
        made = {(await lms.make_course(school.institution["id"]))["id"]: None for _ in range(2)}
    else:
        for _ in range(2):
            student = await lms.make_user("student", school.institution["id"])
            enrollment = await lms.enroll(school.course["id"], student)
            made[enrollment["id"] if kind == "enrollments.enrollment" else str(student.id)] = None
    body = {"kind": kind, "ids": list(made)}
    nobody = await lms.make_user("student", school.institution["id"])
    assert (await nobody.post("/deletions", body)).status_code in (403, 404)
    answer = await school.principal.post("/deletions", body)
    assert answer.status_code == 202, answer.text
    await lms.work_off()
    deletion = (await school.principal.get(f"/deletions/{answer.json()['id']}")).json()
    assert (deletion["state"], deletion["counts"][kind]) == ("deleted", 2)
    assert (await nobody.get(f"/deletions/{deletion['id']}")).status_code == 404
    assert (await nobody.post(f"/deletions/{deletion['id']}/restore")).status_code == 404
    assert (await school.principal.post(f"/deletions/{deletion['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/deletions/{deletion['id']}")).json()["state"] == "restored"


async def test_one_thing_out_of_a_larger_deletion(lms: Lms, school: School) -> None:
    """A module was deleted with three pages, one of which is needed: it comes back with its module, the others wait."""
    body = {"course_id": school.course["id"], "title": "Plants"}
    module = await school.teacher.create("/materials/modules", body)
    pages = [await material(school, f"Page {number}", module_id=module["id"]) for number in range(3)]
    deletion = (await school.teacher.delete(f"/materials/modules/{module['id']}")).json()["id"]
    await lms.work_off()
    path = f"/materials/{pages[1]['id']}"
    assert await conflicts(school.teacher, path) == [("parent_deleted", ["parents"])]
    refused = await school.teacher.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "parent_deleted")
    assert refused.json()["root"] == {"kind": "materials.module", "id": module["id"]}
    assert await conflicts(school.teacher, path, "parents") == []
    answer = await school.teacher.post(f"{path}/restore", {"on_conflict": "parents"})
    assert answer.status_code == 202, answer.text
    part = answer.json()
    assert part["id"] != deletion
    await lms.work_off()
    assert await titles(school) == ["Page 1"]
    assert (await school.teacher.get(path)).json()["module_id"] == module["id"]
    assert (await school.teacher.get(f"/deletions/{part['id']}")).json()["state"] == "restored"
    rest = (await school.teacher.get(f"/deletions/{deletion}")).json()
    assert (rest["state"], rest["counts"]) == ("deleted", {"materials.material": 2})
    lives = await school.teacher.post(f"/materials/modules/{module['id']}/restore")
    assert (lives.status_code, lives.json()["code"]) == (409, "not_deleted")
    # What it hangs under lives now, so another one needs no choice.
    assert (await school.teacher.post(f"/materials/{pages[0]['id']}/restore")).status_code == 202
    await lms.work_off()
    assert await titles(school) == ["Page 0", "Page 1"]
    assert (await school.teacher.post(f"/deletions/{deletion}/restore")).status_code == 202
    await lms.work_off()
    assert await titles(school) == ["Page 0", "Page 1", "Page 2"]
    assert (await school.teacher.get(f"/deletions/{deletion}")).json()["state"] == "restored"


async def test_a_course_out_of_a_deleted_school(lms: Lms, school: School) -> None:
    """With all that is in it, and what it hangs under, but nothing else of the school."""
    admin, page = await lms.admin(), await material(school)
    other = await lms.make_course(school.institution["id"])
    deletion = (await admin.delete(f"/institutions/{school.institution['id']}")).json()["id"]
    await lms.work_off()
    path = f"/courses/{school.course['id']}"
    preview = await admin.post(f"{path}/restore?dry_run=true", {"on_conflict": ["parents"]})
    assert preview.json()["conflicts"] == []
    assert preview.json()["counts"] == {
        "courses.course": 1, "enrollments.enrollment": 2, "materials.material": 1,
    }  # fmt: skip
    assert (await school.principal.post(f"{path}/restore", {"on_conflict": "parents"})).status_code == 404
    assert (await admin.post(f"{path}/restore", {"on_conflict": "parents"})).status_code == 202
    await lms.work_off()
    assert (await school.teacher.get(f"/materials/{page['id']}")).status_code == 200
    assert (await admin.get(f"/institutions/{school.institution['id']}")).status_code == 200
    assert (await admin.get(f"/courses/{other['id']}")).status_code == 404
    # The roles are still deleted, and come back with the rest.
    assert (await school.principal.get(f"/institutions/{school.institution['id']}")).status_code == 404
    assert (await admin.post(f"/deletions/{deletion}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/institutions/{school.institution['id']}")).status_code == 200
    assert (await admin.get(f"/courses/{other['id']}")).status_code == 200


async def test_the_rest_waits_while_its_root_is_deleted_anew(lms: Lms, school: School) -> None:
    module = await school.teacher.create("/materials/modules", {"course_id": school.course["id"], "title": "Plants"})
    pages = [await material(school, f"Page {number}", module_id=module["id"]) for number in range(2)]
    first = (await school.teacher.delete(f"/materials/modules/{module['id']}")).json()["id"]
    await lms.work_off()
    await school.teacher.post(f"/materials/{pages[0]['id']}/restore", {"on_conflict": "parents"})
    await lms.work_off()
    second = (await school.teacher.delete(f"/materials/modules/{module['id']}")).json()["id"]
    await lms.work_off()
    refused = await school.teacher.post(f"/deletions/{first}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "parent_deleted")
    for deletion in (second, first):
        assert (await school.teacher.post(f"/deletions/{deletion}/restore")).status_code == 202
        await lms.work_off()
    assert await titles(school) == ["Page 0", "Page 1"]


async def test_a_taken_key_is_renamed_by_choice(lms: Lms, school: School) -> None:
    path, code = f"/courses/{school.course['id']}", school.course["code"]
    await school.principal.delete(path)
    await lms.work_off()
    for taken in (code, f"{code}-restored"):
        await lms.make_course(school.institution["id"], code=taken)
    assert await conflicts(school.principal, path) == [("natural_key_taken", ["rename"])]
    assert await conflicts(school.principal, path, "rename") == []
    assert (await school.principal.post(f"{path}/restore", {"on_conflict": "rename"})).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(path)).json()["code"] == f"{code}-restored-2"
    trail = await (await lms.admin()).items("/audit", object_id=school.course["id"], action="changed")
    assert {"before": code, "after": f"{code}-restored-2"} in [one["changes"].get("code") for one in trail]


async def test_what_cannot_be_renamed_stays_a_conflict(lms: Lms, school: School) -> None:
    path = f"/users/{school.student.id}"
    await school.principal.delete(path)
    await lms.work_off()
    body = {"email": school.student.email, "full_name": "Somebody new", "roles": []}
    await (await lms.admin()).create("/users", body)
    assert await conflicts(school.principal, path, "rename") == [("natural_key_taken", [])]
    unknown = await school.principal.post(f"{path}/restore", {"on_conflict": "overwrite"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_choice")


async def test_a_restore_that_was_taken_back_says_why(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    deletion = (await school.principal.delete(path)).json()["id"]
    await lms.work_off()
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.make_course(school.institution["id"], code=school.course["code"])
    await lms.work_off()
    shown = (await school.principal.get(f"/deletions/{deletion}")).json()
    assert (shown["state"], shown["conflict"]["code"]) == ("deleted", "natural_key_taken")
    assert shown["conflict"]["choices"] == ["rename"]
    assert (await school.principal.post(f"{path}/restore", {"on_conflict": "rename"})).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/deletions/{deletion}")).json()["conflict"] is None


async def test_nobody_restores_parents_that_they_may_not(lms: Lms, school: School) -> None:
    """A teacher may bring back a page of theirs, and not the course that the principal deleted."""
    page = await material(school)
    assert (await school.teacher.delete(f"/materials/{page['id']}")).status_code == 202
    await lms.work_off()
    assert (await school.principal.delete(f"/courses/{school.course['id']}")).status_code == 202
    await lms.work_off()
    for caller in (school.teacher, school.student):
        answer = await caller.post(f"/materials/{page['id']}/restore", {"on_conflict": "parents"})
        assert answer.status_code in (404, 409), answer.text
    await lms.work_off()
    assert (await school.principal.get(f"/courses/{school.course['id']}")).status_code == 404
    assert (
        await school.principal.post(f"/materials/{page['id']}/restore", {"on_conflict": "parents"})
    ).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/materials/{page['id']}")).status_code == 200


async def test_what_was_deleted_since_the_request_is_not_brought_back(lms: Lms, school: School) -> None:
    module = await school.teacher.create("/materials/modules", {"course_id": school.course["id"], "title": "Plants"})
    page = await material(school, module_id=module["id"])
    await school.teacher.delete(f"/materials/modules/{module['id']}")
    await lms.work_off()
    answer = await school.teacher.post(f"/materials/{page['id']}/restore", {"on_conflict": "parents"})
    assert answer.status_code == 202
    late = "UPDATE core_delivery SET next_attempt_at = {} WHERE handler = 'core.restore' AND done_at IS NULL"
    await lms.sql(late.format("now() + interval '1 hour'"))
    assert (await school.principal.delete(f"/courses/{school.course['id']}")).status_code == 202
    await lms.work_off()
    await lms.sql(late.format("now()"))
    await lms.work_off()
    assert (await school.principal.get(f"/courses/{school.course['id']}")).status_code == 404
    shown = await (await lms.admin()).get(f"/deletions/{answer.json()['id']}")
    assert (shown.json()["state"], shown.json()["conflict"]["code"]) == ("deleted", "parent_deleted")


async def test_an_own_file_opens_no_deletion_with_others_in_it(lms: Lms, school: School) -> None:
    """Whoever may bring back their own file, since they deleted it, may not bring back somebody else's by that."""
    body = {"filename": "a.txt", "content_type": "text/plain", "size": 5, "course_id": school.course["id"]}
    files = [await caller.create("/files", body) for caller in (school.teacher, school.student)]
    ids = [one["id"] for one in files]
    deletion = (await school.teacher.post("/deletions", {"kind": "files.file", "ids": ids})).json()["id"]
    await lms.work_off()
    admin = await lms.admin()
    [teaching] = await admin.items("/enrollments", course_id=school.course["id"], role="teacher")
    assert (await school.teacher.get(f"/deletions/{deletion}")).status_code == 200
    assert (await admin.delete(f"/enrollments/{teaching['id']}")).status_code == 202
    await lms.work_off()
    theirs = await school.teacher.post(f"/files/{ids[1]}/restore?dry_run=true")
    assert theirs.status_code == 404
    assert (await school.teacher.get(f"/deletions/{deletion}")).status_code == 404
    assert (await school.teacher.post(f"/deletions/{deletion}/restore?dry_run=true")).status_code == 404


async def test_the_last_super_admins_are_not_deleted_together(lms: Lms) -> None:
    admin = await lms.admin()
    second = await lms.make_user()
    given = await admin.create(f"/users/{second.id}/roles", {"role": "super_admin"})
    rows = await lms.sql("SELECT DISTINCT user_id FROM users_grant WHERE role = 'super_admin' AND NOT is_deleted")
    body = {"kind": "users.user", "ids": [str(row["user_id"]) for row in rows]}
    for query in ("?dry_run=true", ""):
        answer = await admin.post(f"/deletions{query}", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_super_admin")
    assert (await admin.delete(f"/users/{second.id}/roles/{given['id']}")).status_code == 202


async def test_nobody_comes_back_as_the_parent_of_something(lms: Lms, school: School) -> None:
    """Without the roles that make them more than a student, they would be at the mercy of those who may edit students."""
    admin = await lms.admin()
    boss = await lms.make_user("student", school.institution["id"])
    await admin.create(f"/users/{boss.id}/roles", {"role": "super_admin"})
    enrollment = await lms.enroll(school.course["id"], boss)
    grants = await admin.items(f"/users/{boss.id}/roles")
    [own] = [one["id"] for one in grants if one["role"] == "student"]
    assert (await admin.delete(f"/users/{boss.id}")).status_code == 202
    await lms.work_off()
    for path in (f"/users/{boss.id}/roles/{own}", f"/enrollments/{enrollment['id']}"):
        for caller in (school.principal, admin):
            answer = await caller.post(f"{path}/restore", {"on_conflict": "parents"})
            assert answer.status_code in (404, 409), answer.text
            assert answer.json()["code"] in ("parent_deleted", "user_not_found", "enrollment_not_found")
    assert (await admin.get(f"/users/{boss.id}")).status_code == 404


async def test_parents_bring_no_teacher_whom_one_could_not_appoint(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    permissions = ["courses.read", "courses.read_drafts", "courses.delete", "enrollments.read", "enrollments.edit"]
    body = {"institution_id": school.institution["id"], "name": "registrar", "permissions": permissions}
    await school.principal.create("/users/roles", {**body, "permissions": [*permissions, "enrollments.delete"]})
    registrar = await lms.make_user("registrar", school.institution["id"])
    found = await admin.items("/enrollments", course_id=school.course["id"], role="teacher")
    for path in (f"/enrollments/{found[0]['id']}", f"/courses/{school.course['id']}"):
        assert (await school.principal.delete(path)).status_code == 202
        await lms.work_off()
    refused = await registrar.post(f"/enrollments/{found[0]['id']}/restore", {"on_conflict": "parents"})
    assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
    # Asking changed nothing, though it was asked as if the course lived.
    assert (await school.principal.get(f"/courses/{school.course['id']}")).status_code == 404


async def test_a_person_brings_back_no_power_elsewhere(lms: Lms, school: School) -> None:
    """An assistant, and a guardian, in another school than the principal's who restores them."""
    admin, other = await lms.admin(), await lms.make_school()
    for make in ("assistant", "guardian"):
        person = await lms.make_user("student", other.institution["id"])
        if make == "assistant":
            await lms.enroll(school.course["id"], person, "assistant")
        else:
            await admin.create(f"/users/{school.student.id}/guardians", {"guardian_id": str(person.id)})
        await admin.delete(f"/users/{person.id}")
        await lms.work_off()
        refused = await other.principal.post(f"/users/{person.id}/restore")
        assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed"), make
        assert (await admin.post(f"/users/{person.id}/restore")).status_code == 202
        await lms.work_off()


async def test_a_part_that_could_not_come_back_is_a_deletion_of_its_own(lms: Lms, school: School) -> None:
    """The whole leaves it alone: it may be somebody else's to restore."""
    page = await material(school)
    deletion = (await school.principal.delete(f"/courses/{school.course['id']}")).json()["id"]
    await lms.work_off()
    answer = await school.principal.post(f"/materials/{page['id']}/restore", {"on_conflict": "parents"})
    assert answer.status_code == 202
    await lms.make_course(school.institution["id"], code=school.course["code"])
    await lms.work_off()
    part = (await (await lms.admin()).get(f"/deletions/{answer.json()['id']}")).json()
    assert (part["state"], part["conflict"]["code"]) == ("deleted", "natural_key_taken")
    assert (await school.principal.post(f"/deletions/{deletion}/restore", {"on_conflict": "rename"})).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/materials/{page['id']}")).status_code == 404
    assert (await school.principal.post(f"/deletions/{part['id']}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(f"/materials/{page['id']}")).status_code == 200


async def test_nobody_moves_up_who_goes_too(lms: Lms, school: School) -> None:
    """A seat that gets free goes to nobody whom the same deletion takes; both come back as they were."""
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    made = [await lms.enroll(course["id"], await lms.make_user("student", school.institution["id"])) for _ in range(2)]
    assert [one["state"] for one in made] == ["active", "waitlisted"]
    body = {"kind": "enrollments.enrollment", "ids": [one["id"] for one in made]}
    deletion = (await school.principal.post("/deletions", body)).json()["id"]
    await lms.work_off()
    assert (await school.principal.post(f"/deletions/{deletion}/restore")).status_code == 202
    await lms.work_off()
    shown = [(await school.principal.get(f"/enrollments/{one['id']}")).json() for one in made]
    assert [(one["state"], one["position"]) for one in shown] == [("active", None), ("waitlisted", 1)]


async def test_two_restores_that_share_a_row_leave_none_behind(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The course's restore leaves the enrollment to the user's, which has just looked at its enrollments."""
    deletions = []
    for path in (f"/courses/{school.course['id']}", f"/users/{school.student.id}"):
        deletions.append(UUID((await school.principal.delete(path)).json()["id"]))
        await lms.work_off()
    for path in (f"/users/{school.student.id}", f"/courses/{school.course['id']}"):
        assert (await school.principal.post(f"{path}/restore")).status_code == 202
    finish, ran = cascade.finish_restore, False

    async def after_the_other(uow: Any, event: RestoreRequested, root: Any) -> bool:
        nonlocal ran
        if event.deletion_id == deletions[1] and not ran:
            ran = True
            other = RestoreRequested(deletion_id=deletions[0], kind="courses.course", id=UUID(school.course["id"]))
            await cascade.run_restore(lms.context, other)
        return await finish(uow, event, root)

    monkeypatch.setattr(cascade, "finish_restore", after_the_other)
    await lms.work_off()
    rows = await lms.sql("SELECT is_deleted FROM enrollments_enrollment WHERE user_id = :id", id=school.student.id)
    assert [row["is_deleted"] for row in rows] == [False]


async def test_a_long_slug_is_renamed_to_a_slug(lms: Lms, school: School) -> None:
    admin, slug = await lms.admin(), f"{'a' * 90}-{'b' * 9}"
    body = {"name": "X", "slug": slug, "parent_id": school.institution["id"]}
    made = await admin.create("/institutions", body)
    await admin.delete(f"/institutions/{made['id']}")
    await lms.work_off()
    await admin.create("/institutions", body)
    await admin.post(f"/institutions/{made['id']}/restore", {"on_conflict": "rename"})
    await lms.work_off()
    shown = (await admin.get(f"/institutions/{made['id']}")).json()["slug"]
    assert shown.endswith("a-restored")
    assert (await admin.patch(f"/institutions/{made['id']}", {"slug": shown})).status_code == 200


async def test_a_district_takes_a_course_out_of_a_deleted_school(lms: Lms) -> None:
    """Its roles reach what died below it, however deep, and what is in there; a neighbour's do not."""
    district = await lms.make_institution()
    school = await lms.make_school()
    department = await lms.make_institution(parent_id=school.institution["id"])
    course = await lms.make_course(department["id"])
    admin = await lms.admin()
    moved = await admin.patch(f"/institutions/{school.institution['id']}", {"parent_id": district["id"]})
    assert moved.status_code == 200, moved.text
    principal = await lms.make_user("principal", district["id"])
    stranger = await lms.make_user("principal", (await lms.make_institution())["id"])
    deletion = (await admin.delete(f"/institutions/{school.institution['id']}")).json()["id"]
    await lms.work_off()
    assert [one["id"] for one in await principal.items("/deletions")] == [deletion]
    path, choice = f"/courses/{course['id']}", {"on_conflict": "parents"}
    for caller in (stranger, school.principal):
        assert (await caller.post(f"{path}/restore", choice)).status_code == 404
    assert await conflicts(principal, path) == [("parent_deleted", ["parents"])]
    assert await conflicts(principal, path, "parents") == []
    assert (await principal.post(f"{path}/restore", choice)).status_code == 202
    await lms.work_off()
    assert (await principal.get(path)).status_code == 200
    assert (await principal.get(f"/courses/{school.course['id']}")).status_code == 404
    # Nobody brings back a role that they could not give.
    refused = await principal.post(f"/deletions/{deletion}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
    assert (await admin.post(f"/deletions/{deletion}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.teacher.get(f"/courses/{school.course['id']}")).status_code == 200


async def test_a_conflict_tells_nothing_of_other_schools(lms: Lms, school: School) -> None:
    """Somebody took part elsewhere too, where their seat is taken: their principal learns that, and no more."""
    admin, other = await lms.admin(), await lms.make_school()
    course = await lms.make_course(other.institution["id"], capacity=1)
    enrollment = await lms.enroll(course["id"], school.student)
    assert (await admin.delete(f"/users/{school.student.id}")).status_code == 202
    await lms.work_off()
    await lms.enroll(course["id"], other.student)
    path = f"/users/{school.student.id}/restore?dry_run=true"
    [shown] = (await school.principal.post(path)).json()["conflicts"]
    assert (shown["kind"], shown["id"], shown["code"]) == ("users.user", str(school.student.id), "course_full")
    assert "may not see" in shown["detail"]
    [whole] = (await admin.post(path)).json()["conflicts"]
    assert (whole["kind"], whole["id"]) == ("enrollments.enrollment", enrollment["id"])


async def test_a_preview_waits_for_nobody(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    async with lms.context.unit_of_work() as uow:
        await uow.lock(uow.context.platform.kinds.by_name["courses.course"].model, UUID(school.course["id"]))
        assert (await school.principal.delete(f"{path}?dry_run=true")).status_code == 200
        # The lock is there: the real thing waits for it, and gives up.
        assert (await school.principal.delete(path)).status_code == 503


async def test_what_a_plugin_missed_is_taken_later(lms: Lms, school: School) -> None:
    """Its rows lived on, unseen, when what they hang under was deleted, since it was off; restored, all is as before."""
    pages = [await material(school, f"Page {number}") for number in range(2)]
    deletion = (await school.principal.delete(f"/courses/{school.course['id']}")).json()["id"]
    await lms.work_off()
    missed = "UPDATE materials_material SET is_deleted = false, deletion_id = NULL WHERE id = :id"
    await lms.sql(missed, id=UUID(pages[0]["id"]))
    async with lms.context.unit_of_work() as uow:
        await cascade.take_what_was_left(uow)
    await lms.work_off()
    held = "SELECT count(*) AS n FROM materials_material WHERE deletion_id = :id"
    assert (await lms.sql(held, id=UUID(deletion)))[0]["n"] == 2
    assert (await school.principal.get(f"/deletions/{deletion}")).json()["state"] == "deleted"
    assert (await school.principal.post(f"/deletions/{deletion}/restore")).status_code == 202
    await lms.work_off()
    assert await titles(school) == ["Page 0", "Page 1"]
    async with lms.context.unit_of_work() as uow:
        await cascade.take_what_was_left(uow)
    await lms.work_off()
    assert await titles(school) == ["Page 0", "Page 1"]


async def test_a_refused_restore_names_nothing_of_other_schools(lms: Lms, school: School) -> None:
    """Courses of two schools were deleted as one; who may restore their own does not learn of the other."""
    admin, other = await lms.admin(), await lms.make_school()
    first, second = sorted((school, other), key=lambda one: str(one.course["id"]))
    body = {"kind": "courses.course", "ids": [first.course["id"], second.course["id"]]}
    assert (await admin.post("/deletions", body)).status_code == 202
    await lms.work_off()
    await lms.make_course(second.institution["id"], code=second.course["code"])
    refused = await second.principal.post(f"/courses/{second.course['id']}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "natural_key_taken")
    assert first.course["id"] not in refused.text
    whole = await admin.post(f"/courses/{second.course['id']}/restore")
    assert whole.json()["root"]["id"] == first.course["id"]


async def test_what_a_cascade_is_about_to_take_says_what_it_belongs_to(lms: Lms, school: School) -> None:
    """From the answer of the delete on, and not only once a worker has come to it."""
    [enrollment] = await school.student.items("/enrollments")
    path, course = f"/enrollments/{enrollment['id']}", f"/courses/{school.course['id']}"
    alive = await school.principal.post(f"{path}/restore")
    assert (alive.status_code, alive.json()["code"]) == (409, "not_deleted")
    assert (await school.principal.delete(course)).status_code == 202
    both = {"on_conflict": "parents"}
    early = await school.principal.post(f"{path}/restore", both)
    assert (early.status_code, early.json()["code"]) == (409, "deletion_under_way")
    assert int(early.headers["Retry-After"]) > 0
    for _ in range(2):
        refused = await school.principal.post(f"{path}/restore")
        assert (refused.status_code, refused.json()["code"]) == (409, "parent_deleted")
        assert [one["choices"] for one in refused.json()["conflicts"]] == [["parents"]]
        assert await conflicts(school.principal, path) == [("parent_deleted", ["parents"])]
        await lms.work_off()
    assert (await school.principal.post(f"{path}/restore", both)).status_code == 202


async def test_part_of_what_is_coming_back_is_a_conflict(lms: Lms, school: School) -> None:
    """Nothing is away: it is what the client itself has asked for a moment ago."""
    [enrollment] = await school.student.items("/enrollments")
    path, course = f"/enrollments/{enrollment['id']}", f"/courses/{school.course['id']}"
    assert (await school.principal.delete(course)).status_code == 202
    await lms.work_off()
    assert (await school.principal.post(f"{course}/restore")).status_code == 202
    refused = await school.principal.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "deletion_under_way")
    await lms.work_off()
    assert (await school.principal.get(path)).status_code == 200
