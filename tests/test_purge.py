"""Removing for good: after its time, never what is held or still needed, to the end, and stopped at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from browser import send_form, upload
from samples_of_kinds import SAMPLES
from sqlalchemy import inspect

from lms_core import purge
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio


async def deleted(lms: Lms, caller: Any, path: str, days: int = 400) -> UUID:
    """Delete something, that many days ago."""
    answer = await caller.delete(path)
    assert answer.status_code == 202, answer.text
    await lms.work_off()
    id = UUID(answer.json()["id"])
    await lms.sql(
        "UPDATE core_deletion SET created_at = created_at - make_interval(days => :days), "
        "purge_after = purge_after - make_interval(days => :days) WHERE id = :id",
        id=id,
        days=days,
    )
    return id


async def rows_of(lms: Lms, deletion_id: UUID) -> dict[str, int]:
    """How many rows of each kind a deletion holds."""
    found = {}
    for name in lms.context.platform.kinds.by_name:
        statement = f"SELECT count(*) AS n FROM {name.replace('.', '_')} WHERE deletion_id = :id"
        if number := (await lms.sql(statement, id=deletion_id))[0]["n"]:
            found[name] = number
    return found


async def state(lms: Lms, deletion_id: UUID) -> tuple[str, bool]:
    [row] = await lms.sql("SELECT state, purged_at FROM core_deletion WHERE id = :id", id=deletion_id)
    return row["state"], row["purged_at"] is not None


@pytest.mark.parametrize("kind", SAMPLES)
async def test_every_kind_goes_for_good(lms: Lms, school: School, kind: str) -> None:
    sample = await SAMPLES[kind](lms, school)
    id = await deleted(lms, sample.owner, sample.path)
    assert await purge.purge(lms.context, id) == "purged"
    assert await state(lms, id) == ("purged", True)
    assert await rows_of(lms, id) == {}
    admin = await lms.admin()
    for caller in (sample.owner, admin):
        assert (await caller.post(f"{sample.path}/restore")).status_code == 404
        assert (await caller.get(f"/deletions/{id}")).status_code == 404
    [kept] = await lms.sql("SELECT label, counts FROM core_deletion WHERE id = :id", id=id)
    assert (kept["label"], kept["counts"][kind]) == ("", 1)
    assert await purge.purge(lms.context, id) == "not deleted"


async def furnish(lms: Lms, school: School) -> dict[str, Any]:
    """A course with something of every kind that hangs under it."""
    course = {"course_id": school.course["id"]}
    section = await school.teacher.create(f"/courses/{school.course['id']}/sections", {"name": "A"})
    module = await school.teacher.create("/materials/modules", {**course, "title": "M"})
    file = await upload(school.teacher, b"Some words of a text", "text/plain", "a.txt", **course)
    await lms.work_off()
    document = {**course, "kind": "document", "title": "D", "file_id": file["id"], "module_id": module["id"]}
    shown = await school.teacher.create("/materials", document)
    assignment = await school.teacher.create(
        "/materials",
        {**course, "kind": "assignment", "title": "E", "published": True, "assignment": {"points": 5}},
    )
    own = await upload(school.student, b"What I hand in", "text/plain", "b.txt", **course)
    await lms.work_off()
    path = f"/materials/{assignment['id']}/submissions"
    submission = await school.student.create(path, {"body": "Here", "file_ids": [own["id"]]})
    graded = await school.teacher.send("PUT", f"/materials/submissions/{submission['id']}/grade", json={"points": 4})
    assert graded.status_code == 200, graded.text
    await lms.work_off()
    return {"section": section, "module": module, "file": file, "own": own, "document": shown, "graded": submission}


async def test_a_whole_school_goes_with_all_that_hangs_under_it(lms: Lms, school: School) -> None:
    await furnish(lms, school)
    admin = await lms.admin()
    id = await deleted(lms, admin, f"/institutions/{school.institution['id']}")
    taken = await rows_of(lms, id)
    assert len(taken) >= 8
    # The people stay; what was theirs in this school goes.
    before = await lms.sql("SELECT count(*) AS n FROM users_user")
    assert await purge.purge(lms.context, id) == "purged"
    assert await rows_of(lms, id) == {}
    assert await lms.sql("SELECT count(*) AS n FROM users_user") == before
    left = "SELECT count(*) AS n FROM {} WHERE {} = :id"
    for table, column in (("courses_course", "id"), ("enrollments_period", "course_id"), ("files_file", "course_id")):
        assert (await lms.sql(left.format(table, column), id=school.course["id"]))[0]["n"] == 0
    for table in ("materials_grade", "materials_submitted_file"):
        orphans = f"SELECT count(*) AS n FROM {table} t WHERE NOT EXISTS (SELECT FROM materials_submission WHERE id = t.submission_id)"
        assert (await lms.sql(orphans))[0]["n"] == 0
    room = await lms.sql(
        "SELECT used_bytes, reserved_bytes FROM files_quota WHERE id = :id", id=school.institution["id"]
    )
    assert [tuple(row.values()) for row in room] == [(0, 0)]


async def test_a_teacher_is_forgotten_and_the_grades_stay(lms: Lms, school: School) -> None:
    made = await furnish(lms, school)
    id = await deleted(lms, await lms.admin(), f"/users/{school.teacher.id}")
    assert await purge.purge(lms.context, id) == "purged"
    [user] = await lms.sql("SELECT email, full_name, is_active FROM users_user WHERE id = :id", id=school.teacher.id)
    assert (user["email"], user["full_name"]) == (f"{school.teacher.id}@removed.invalid", "Removed user")
    for table in ("auth_credential", "auth_session", "enrollments_enrollment", "users_grant"):
        found = await lms.sql(f"SELECT count(*) AS n FROM {table} WHERE user_id = :id", id=school.teacher.id)
        assert found[0]["n"] == 0, table
    shown = (await school.student.get(f"/materials/submissions/{made['graded']['id']}")).json()
    assert shown["grade"]["points"] == 4.0
    assert (await school.student.get(f"/files/{made['file']['id']}")).status_code in (200, 404)
    # The address is free again.
    body = {"email": school.teacher.email, "full_name": "Somebody else", "roles": []}
    await (await lms.admin()).create("/users", body)


async def test_a_student_goes_with_what_they_handed_in(lms: Lms, school: School) -> None:
    made = await furnish(lms, school)
    id = await deleted(lms, school.principal, f"/users/{school.student.id}")
    assert await purge.purge(lms.context, id) == "purged"
    assert await lms.sql("SELECT id FROM materials_submission WHERE id = :id", id=made["graded"]["id"]) == []
    assert (await school.teacher.items(f"/materials/{made['document']['id']}/submissions")) == []


async def test_a_file_that_is_shown_leaves_an_empty_place(lms: Lms, school: School) -> None:
    made = await furnish(lms, school)
    file = made["file"]["id"]
    other = await upload(
        school.teacher, b"Some words of a text", "text/plain", "same.txt", course_id=school.course["id"]
    )
    await lms.work_off()
    used = "SELECT used_bytes AS n FROM files_quota WHERE id = :id"
    before = (await lms.sql(used, id=school.institution["id"]))[0]["n"]
    id = await deleted(lms, school.principal, f"/files/{file}")
    assert await purge.purge(lms.context, id) == "purged"
    [row] = await lms.sql("SELECT state, filename, content_id, clean_key FROM files_file WHERE id = :id", id=file)
    assert tuple(row.values()) == ("cancelled", "removed", None, None)
    assert await lms.sql("SELECT * FROM files_page WHERE file_id = :id", id=file) == []
    assert (await lms.sql(used, id=school.institution["id"]))[0]["n"] == before - len(b"Some words of a text")
    # The material stays, its download answers 404; the same bytes under another name are still there.
    assert (await school.teacher.get(f"/materials/{made['document']['id']}")).status_code == 200
    assert (await school.teacher.get(f"/files/{file}/download")).status_code == 404
    assert (await school.teacher.get(f"/files/{other['id']}/download")).status_code == 200


async def test_nothing_goes_before_its_time(lms: Lms, school: School) -> None:
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}", days=29)
    assert id not in await purge.due(lms.context)
    assert await purge.purge(lms.context, id) == "kept longer"
    assert (await school.principal.post(f"/courses/{school.course['id']}/restore")).status_code == 202


@pytest.mark.parametrize(
    "said",
    [
        {"retention_days": 500},
        {"retention_days_of": {"courses.course": 500}},
        {"retention_days_of": {"enrollments.enrollment": 500}},
    ],
)
async def test_an_institution_keeps_longer(lms: Lms, school: School, said: dict[str, Any]) -> None:
    """Also what was deleted before it said so, and a course for the sake of the enrollments in it."""
    path = f"/institutions/{school.institution['id']}"
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    assert (await (await lms.admin()).patch(path, said)).status_code == 200
    assert await purge.purge(lms.context, id) == "kept longer"
    # Less again: what was promised to those who deleted meanwhile holds.
    assert (await (await lms.admin()).patch(path, dict.fromkeys(said))).status_code == 200
    assert await purge.purge(lms.context, id) == "kept longer"


async def test_the_answer_of_a_delete_says_until_when(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    settings = {"retention_days": 90, "retention_days_of": {"materials.material": 7, "users.user": 120}}
    assert (await admin.patch(f"/institutions/{school.institution['id']}", settings)).status_code == 200
    body = {"course_id": school.course["id"], "kind": "page", "title": "A"}
    page = await school.teacher.create("/materials", body)
    for path, days in (
        (f"/materials/{page['id']}", 7),
        (f"/users/{school.student.id}", 120),
        (f"/courses/{school.course['id']}", 90),
    ):
        deletion = (await school.principal.delete(path)).json()["id"]
        await lms.work_off()
        [row] = await lms.sql("SELECT purge_after - created_at AS kept FROM core_deletion WHERE id = :id", id=deletion)
        assert row["kept"] == timedelta(days=days), path
    unknown = await admin.patch(
        f"/institutions/{school.institution['id']}", {"retention_days_of": {"courses.cours": 7}}
    )
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_kind")


@pytest.mark.parametrize("held", ["the course", "its student", "the district", "what was deleted itself"])
async def test_what_is_held_stays(lms: Lms, held: str) -> None:
    district = await lms.make_institution()
    admin = await lms.admin()
    school = await lms.make_school()
    moved = await admin.patch(f"/institutions/{school.institution['id']}", {"parent_id": district["id"]})
    assert moved.status_code == 200
    body = {"course_id": school.course["id"], "kind": "assignment", "title": "A", "published": True}
    made = await school.teacher.create("/materials", {**body, "assignment": {"points": 5}})
    await school.student.create(f"/materials/{made['id']}/submissions", {"body": "Here"})
    kind, object_id = {
        "the course": ("courses.course", school.course["id"]),
        "its student": ("users.user", str(school.student.id)),
        "the district": ("institutions.institution", district["id"]),
        "what was deleted itself": ("materials.material", made["id"]),
    }[held]
    id = await deleted(lms, school.teacher, f"/materials/{made['id']}")
    hold = await admin.create("/legal-holds", {"kind": kind, "object_id": object_id, "reason": "Case 12"})
    assert await purge.purge(lms.context, id) == "held"
    # It can still be restored.
    assert await state(lms, id) == ("deleted", False)
    assert (await admin.post(f"/legal-holds/{hold['id']}/lift")).status_code == 200
    assert await purge.purge(lms.context, id) == "purged"


async def test_holds_are_for_those_who_may(lms: Lms, school: School) -> None:
    body = {"kind": "courses.course", "object_id": school.course["id"], "reason": "Case 12"}
    for caller in (school.teacher, school.student):
        assert (await caller.post("/legal-holds", body)).status_code == 403
    stranger = (await lms.make_school()).principal
    refused = await stranger.post("/legal-holds", body)
    assert (refused.status_code, refused.json()["code"]) == (404, "course_not_found")
    await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    hold = await school.principal.create("/legal-holds", body)
    again = await school.principal.post("/legal-holds", {**body, "reason": "Once more"})
    assert (again.status_code, again.json()["id"], again.json()["reason"]) == (200, hold["id"], "Case 12")
    assert [one["id"] for one in await school.principal.items("/legal-holds", lifted="false")] == [hold["id"]]
    assert await stranger.items("/legal-holds") == []
    assert (await stranger.get(f"/legal-holds/{hold['id']}")).status_code == 404
    assert (await stranger.post(f"/legal-holds/{hold['id']}/lift")).status_code == 404
    lifted = (await school.principal.post(f"/legal-holds/{hold['id']}/lift")).json()
    assert lifted["lifted_by"] == str(school.principal.id)
    assert (await school.principal.post(f"/legal-holds/{hold['id']}/lift")).json()["lifted_at"] == lifted["lifted_at"]
    second = await school.principal.create("/legal-holds", body)
    assert second["id"] != hold["id"]
    assert (await school.principal.post(f"/legal-holds/{second['id']}/lift")).status_code == 200
    unknown = await school.principal.post("/legal-holds", {**body, "kind": "no.kind"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_kind")


async def test_what_was_deleted_before_goes_first(lms: Lms, school: School) -> None:
    made = await school.teacher.create(f"/courses/{school.course['id']}/sections", {"name": "A"})
    section = await deleted(lms, school.teacher, f"/courses/{school.course['id']}/sections/{made['id']}", days=0)
    course = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    assert await purge.purge(lms.context, course) == "waits"
    assert await state(lms, course) == ("deleted", False)
    await lms.sql(
        "UPDATE core_deletion SET created_at = created_at - interval '31 days', purge_after = now() WHERE id = :id",
        id=section,
    )
    for id in (section, course):
        assert await purge.purge(lms.context, id) == "purged"


async def test_the_switch_stops_at_once(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "CHUNK", 1)
    await furnish(lms, school)
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    taken = sum((await rows_of(lms, id)).values())
    remove = purge.remove
    chunks = 0

    async def turn_after_three(uow: Any, model: Any, ids: Any) -> int:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            async with lms.context.unit_of_work() as other:
                await purge.switch(other, "stopped")
        return await remove(uow, model, ids)

    monkeypatch.setattr(purge, "remove", turn_after_three)
    try:
        assert await purge.purge(lms.context, id) == "stopped"
        assert await state(lms, id) == ("purged", False)
        assert 0 < sum((await rows_of(lms, id)).values()) < taken
        # What has begun cannot be restored, and other deletions are not begun.
        assert (await school.principal.post(f"/courses/{school.course['id']}/restore")).status_code == 409
        assert (await anext(purge.run(lms.context, False, 1))).endswith(": stopped")
    finally:
        async with lms.context.unit_of_work() as uow:
            await purge.switch(uow, "manual")
    monkeypatch.setattr(purge, "remove", remove)
    assert (await purge.due(lms.context))[0] == id
    assert await purge.purge(lms.context, id) == "purged"
    assert await rows_of(lms, id) == {}


async def test_only_the_switch_lets_the_schedule_purge(lms: Lms, school: School) -> None:
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    for position, expected in (("manual", "deleted"), ("stopped", "deleted"), ("scheduled", "purged")):
        async with lms.context.unit_of_work() as uow:
            await purge.switch(uow, position)  # type: ignore[arg-type]
        async with lms.context.unit_of_work() as uow:
            await purge.call_for_purge(uow)
        await lms.work_off()
        assert (await state(lms, id))[0] == expected
    async with lms.context.unit_of_work() as uow:
        await purge.switch(uow, "manual")


async def test_what_the_command_would_do(lms: Lms, school: School) -> None:
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    lines = [line async for line in purge.run(lms.context, True, None)]
    assert any(line.startswith(f"{id} of ") and line.endswith(": would be purged") for line in lines)
    assert await state(lms, id) == ("deleted", False)
    overview = await purge.overview(lms.context)
    assert overview[0] == "The switch stands at manual."
    assert any(line.startswith("courses.course: ") for line in overview)


async def test_what_points_at_a_row_says_what_becomes_of_it(lms: Lms) -> None:
    """Each table that is no kind, and points at rows of kinds, is part of one of them or only mentions them."""
    kinds = lms.context.platform.kinds
    tables = {inspect(kind.model).local_table for kind in kinds.by_name.values()}
    parts = {(inspect(part.model).local_table, part.column) for part in kinds.parts}
    for table in next(iter(tables)).metadata.sorted_tables:
        if table in tables:
            continue
        pointing = {c.name for c in table.columns for key in c.foreign_keys if key.column.table in tables}
        needed = {name for name in pointing if not table.c[name].nullable}
        assert not needed or any((table, name) in parts for name in needed), table.name


async def test_what_is_on_its_way_back_is_not_purged(lms: Lms, school: School) -> None:
    made = await furnish(lms, school)
    [assignment] = [
        one["id"] for one in await school.teacher.items("/materials", course_id=school.course["id"], kind="assignment")
    ]
    body = {"kind": "materials.material", "ids": [assignment, made["document"]["id"]]}
    id = UUID((await school.teacher.post("/deletions", body)).json()["id"])
    await lms.work_off()
    await lms.sql(
        "UPDATE core_deletion SET created_at = '2020-01-01', purge_after = '2020-02-01' WHERE id = :id", id=id
    )
    assert (await school.teacher.post(f"/materials/{assignment}/restore")).status_code == 202
    assert await purge.purge(lms.context, id) == "waits"
    await lms.work_off()
    shown = await school.student.get(f"/materials/submissions/{made['graded']['id']}")
    assert shown.json()["grade"]["points"] == 4.0


async def test_an_emptied_file_holds_no_course_up_and_is_found_no_more(lms: Lms, school: School) -> None:
    made = await furnish(lms, school)
    file = await deleted(lms, school.principal, f"/files/{made['file']['id']}")
    assert await purge.purge(lms.context, file) == "purged"
    await lms.work_off()
    pages = await lms.sql(
        "SELECT text FROM materials_text WHERE page > 0 AND material_id = :id", id=made["document"]["id"]
    )
    assert pages == []
    course = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    assert await purge.purge(lms.context, course) == "purged"


async def test_people_and_what_is_below_count_for_how_long(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    said = {"retention_days": 90, "retention_days_of": {"materials.submission": 3650}}
    assert (await admin.patch(f"/institutions/{school.institution['id']}", said)).status_code == 200
    district = await lms.make_institution()
    moved = await admin.patch(f"/institutions/{school.institution['id']}", {"parent_id": district["id"]})
    assert moved.status_code == 200
    await furnish(lms, school)
    kept = "SELECT (purge_after - created_at)::text AS kept FROM core_deletion WHERE id = :id".replace("::", "\\:\\:")
    student = (await school.principal.delete(f"/users/{school.student.id}")).json()["id"]
    await lms.work_off()
    assert (await lms.sql(kept, id=student))[0]["kept"] == "3650 days"
    whole = (await admin.delete(f"/institutions/{district['id']}")).json()["id"]
    await lms.work_off()
    assert (await lms.sql(kept, id=whole))[0]["kept"] == "90 days"


async def test_a_hold_on_somebody_covers_their_files_and_is_not_theirs_to_lift(lms: Lms, school: School) -> None:
    made, admin = await furnish(lms, school), await lms.admin()
    for person in (school.student, school.principal):
        body = {"kind": "users.user", "object_id": str(person.id), "reason": "Case 12"}
        hold = await admin.create("/legal-holds", body)
    assert hold["id"] not in [one["id"] for one in await school.principal.items("/legal-holds")]
    for answer in (
        await school.principal.get(f"/legal-holds/{hold['id']}"),
        await school.principal.post(f"/legal-holds/{hold['id']}/lift"),
    ):
        assert answer.status_code == 404
    assert hold["id"] in [one["id"] for one in await admin.items("/legal-holds")]
    id = await deleted(lms, school.principal, f"/files/{made['own']['id']}")
    assert await purge.purge(lms.context, id) == "held"


async def test_a_hold_counts_in_the_middle_of_a_purge(lms: Lms, school: School) -> None:
    await furnish(lms, school)
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    async with lms.context.unit_of_work() as uow:
        assert await purge.begin(uow, id) == "purged"
    body = {"kind": "courses.course", "object_id": school.course["id"], "reason": "Case 12"}
    hold = await (await lms.admin()).create("/legal-holds", body)
    before = await rows_of(lms, id)
    assert await purge.purge(lms.context, id) == "held"
    assert await rows_of(lms, id) == before
    await (await lms.admin()).post(f"/legal-holds/{hold['id']}/lift")
    assert await purge.purge(lms.context, id) == "purged"


async def test_one_that_cannot_be_purged_stops_no_other(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for title in ("held", "broken", "fine"):
        body = {"course_id": school.course["id"], "kind": "page", "title": title}
        page = await school.teacher.create("/materials", body)
        ids.append(await deleted(lms, school.teacher, f"/materials/{page['id']}", days=9000 - len(ids)))
        if title == "held":
            held = {"kind": "materials.material", "object_id": page["id"], "reason": "Case 12"}
            await (await lms.admin()).create("/legal-holds", held)
    remove = purge.remove_chunk

    async def broken(uow: Any, deletion_id: UUID, **more: Any) -> Any:
        if deletion_id == ids[1]:
            raise ZeroDivisionError
        return await remove(uow, deletion_id=deletion_id, **more)

    monkeypatch.setattr(purge, "remove_chunk", broken)
    with pytest.raises(RuntimeError, match=str(ids[1])):
        await purge.purge_on_schedule(lms.context, purge.PurgeDue())
    assert [(await state(lms, id))[0] for id in ids] == ["deleted", "purged", "purged"]
    monkeypatch.setattr(purge, "remove_chunk", remove)
    # What is held counts for no limit.
    body = {"course_id": school.course["id"], "kind": "page", "title": "last"}
    last = await deleted(
        lms, school.teacher, f"/materials/{(await school.teacher.create('/materials', body))['id']}", 8000
    )
    lines = [line async for line in purge.run(lms.context, False, 2)]
    assert any(str(last) in line for line in lines)


async def test_earlier_deletions_forget_names_too(lms: Lms, school: School) -> None:
    path = f"/users/{school.student.id}"
    await school.principal.delete(path, params={"reason": "By mistake"})
    await lms.work_off()
    await school.principal.post(f"{path}/restore")
    await lms.work_off()
    id = await deleted(lms, school.principal, path)
    assert await purge.purge(lms.context, id) == "purged"
    rows = await lms.sql("SELECT label, reason FROM core_deletion WHERE root_id = :id", id=school.student.id)
    assert [tuple(row.values()) for row in rows] == [("", None)] * 2


async def test_a_hold_covers_what_belongs_to_the_thing(lms: Lms, school: School) -> None:
    """What held people did in what is deleted, and what held things show."""
    made, admin = await furnish(lms, school), await lms.admin()
    page = await school.teacher.create(
        "/materials", {"course_id": school.course["id"], "kind": "page", "title": "P", "published": True}
    )
    done = await school.student.send("PUT", f"/materials/{page['id']}/completion")
    assert done.status_code == 204, done.text
    body = {"content_type": "text/plain", "size": len(b"Other words")}
    version = await school.teacher.create(f"/files/{made['file']['id']}/versions", body)
    assert (await send_form(version["upload"], b"Other words")).status_code == 204
    assert (await school.teacher.post(f"/files/{version['id']}/complete")).status_code == 202
    await lms.work_off()
    old = await deleted(lms, school.teacher, f"/files/{version['id']}")
    id = await deleted(lms, school.teacher, f"/materials/{page['id']}")
    shown = await deleted(lms, school.teacher, f"/materials/{made['document']['id']}")
    file = await deleted(lms, school.teacher, f"/files/{made['file']['id']}")
    for kind, object_id, deletions in (
        ("users.user", str(school.student.id), [id]),
        ("materials.material", made["document"]["id"], [shown, file, old]),
        ("files.file", version["id"], [file]),
        ("files.file", made["file"]["id"], [file, old]),
    ):
        hold = await admin.create("/legal-holds", {"kind": kind, "object_id": object_id, "reason": "Case 12"})
        assert [await purge.purge(lms.context, one) for one in deletions] == ["held"] * len(deletions)
        assert (await admin.post(f"/legal-holds/{hold['id']}/lift")).status_code == 200
    assert [await purge.purge(lms.context, one) for one in (old, id, shown, file)] == ["purged"] * 4


async def test_each_school_holds_in_its_own_name(lms: Lms, school: School) -> None:
    """Nobody learns of, or lifts, what another school or the district above has set, even on somebody whom they share."""
    district, admin = await lms.make_institution(), await lms.admin()
    moved = await admin.patch(f"/institutions/{school.institution['id']}", {"parent_id": district["id"]})
    assert moved.status_code == 200
    above, other = await lms.make_user("principal", district["id"]), await lms.make_school()
    shared = await lms.enroll(other.course["id"], school.student)
    body = {"kind": "users.user", "object_id": str(school.student.id)}
    callers = [school.principal, above, other.principal, admin]
    ids = [(await one.create("/legal-holds", {**body, "reason": f"Case {n}"}))["id"] for n, one in enumerate(callers)]
    assert len(set(ids)) == 4
    # Who is above sees what is below; nobody sees to the side, or up.
    seen = {0: {0}, 1: {0, 1}, 2: {2}, 3: {0, 1, 2, 3}}
    for number, caller in enumerate(callers):
        found = await caller.items("/legal-holds", object_id=str(school.student.id))
        assert {one["id"] for one in found} == {ids[one] for one in seen[number]}
        for one, id in enumerate(ids):
            expected = 200 if one in seen[number] else 404
            assert (await caller.get(f"/legal-holds/{id}")).status_code == expected
            if expected == 404:
                assert (await caller.post(f"/legal-holds/{id}/lift")).status_code == 404
    deletion = await deleted(lms, other.principal, f"/enrollments/{shared['id']}")
    for caller, id in zip(callers, ids, strict=True):
        assert await purge.purge(lms.context, deletion) == "held"
        assert (await caller.post(f"/legal-holds/{id}/lift")).status_code == 200
    assert await purge.purge(lms.context, deletion) == "purged"


async def test_words_kept_elsewhere_go_too(lms: Lms, school: School) -> None:
    """An import's rows, and what earlier deletions of things in a course were called."""
    admin, address = await lms.admin(), f"{uuid4().hex}@example.org"
    content = f"email,full_name,role\n{address},Ada Lovelace,student\n".encode()
    file = await upload(school.principal, content, "text/csv", "people.csv")
    await lms.work_off()
    started = await school.principal.post(
        "/users/import", {"file_id": file["id"], "institution_id": school.institution["id"]}
    )
    assert started.status_code == 202, started.text
    await lms.work_off()
    [row] = await lms.sql("SELECT object_id, cells FROM core_import_row WHERE cells->>'email' = :email", email=address)
    page = await school.teacher.create(
        "/materials", {"course_id": school.course["id"], "kind": "page", "title": "About Ada"}
    )
    earlier = await deleted(lms, school.teacher, f"/materials/{page['id']}", days=0)
    assert (await school.teacher.post(f"/materials/{page['id']}/restore")).status_code == 202
    await lms.work_off()
    for path in (f"/users/{row['object_id']}", f"/courses/{school.course['id']}"):
        assert await purge.purge(lms.context, await deleted(lms, admin, path)) == "purged"
    told = await lms.sql("SELECT cells, changes FROM core_import_row WHERE object_id = :id", id=row["object_id"])
    assert told == [{"cells": {}, "changes": {}}]
    assert await lms.sql("SELECT label FROM core_deletion WHERE id = :id", id=earlier) == [{"label": ""}]


async def test_what_points_at_something_is_found_by_an_index(lms: Lms) -> None:
    """Dead rows too: PostgreSQL looks there for every row that goes."""
    without = await lms.sql(
        """
        SELECT c.conrelid::regclass::text AS "table", a.attname::text AS "column"
        FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indkey[0] = c.conkey[1]
            AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) = format('(%I IS NOT NULL)', a.attname))
        )
        """
    )
    assert without == []


async def test_a_purge_waits_for_a_plugin_that_is_off(lms: Lms, school: School) -> None:
    """Its rows point at what is to go, and nobody here knows what they mean."""
    await furnish(lms, school)
    id = await deleted(lms, school.principal, f"/courses/{school.course['id']}")
    of_course = {"id": UUID(school.course["id"])}
    graded = "SELECT g.id FROM materials_grade g JOIN materials_submission s ON s.id = g.submission_id WHERE s.deletion_id = :id"
    [grade] = await lms.sql(graded, id=id)
    for table, row in (("courses_course", of_course), ("materials_grade", grade)):
        await lms.sql(f"CREATE TABLE away_note (id uuid PRIMARY KEY, about_id uuid REFERENCES {table} (id))")
        try:
            await lms.sql("INSERT INTO away_note VALUES (:id, :id)", id=row["id"])
            assert await purge.purge(lms.context, id) == "waits"
            assert await state(lms, id) == ("deleted", False)
        finally:
            await lms.sql("DROP TABLE away_note")
    assert await purge.purge(lms.context, id) == "purged"


async def test_nobody_learns_of_a_hold_by_another_way(lms: Lms, school: School) -> None:
    """Not from the audit trail of what is held, nor by setting one on themselves or on what is theirs."""
    admin, second = await lms.admin(), await lms.make_user("principal", school.institution["id"])
    body = {"kind": "users.user", "object_id": str(second.id), "reason": "Secret"}
    await school.principal.create("/legal-holds", body)
    course = {"kind": "courses.course", "object_id": school.course["id"]}
    await admin.create("/legal-holds", {**course, "reason": "Secret"})
    for asked in (course, {"kind": "users.user", "object_id": str(second.id)}):
        shown = await second.get("/audit", params=asked)
        assert shown.status_code == 200
        assert "Secret" not in shown.text
        assert "held" not in {entry["action"] for entry in shown.json()["items"]}
    [grant] = await lms.sql("SELECT id FROM users_grant WHERE user_id = :id", id=second.id)
    for kind, id in (("users.user", str(second.id)), ("users.grant", str(grant["id"]))):
        held = await second.post("/legal-holds", {"kind": kind, "object_id": id, "reason": "Mine"})
        assert (held.status_code, "Secret" in held.text) == (403, False)
    on_grant = await school.principal.create(
        "/legal-holds", {"kind": "users.grant", "object_id": str(grant["id"]), "reason": "Secret"}
    )
    assert on_grant["id"] not in {one["id"] for one in await second.items("/legal-holds")}
    assert (await second.get(f"/legal-holds/{on_grant['id']}")).status_code == 404
    told = await lms.sql("SELECT action, changes FROM core_audit_entry WHERE object_id = :id", id=UUID(on_grant["id"]))
    assert [(one["action"], one["changes"]["reason"]["after"]) for one in told] == [("held", "Secret")]


async def test_a_district_holds_whoever_its_dead_school_taught(lms: Lms, school: School) -> None:
    district, admin = await lms.make_institution(), await lms.admin()
    moved = await admin.patch(f"/institutions/{school.institution['id']}", {"parent_id": district["id"]})
    assert moved.status_code == 200
    dismissed = await lms.make_user("student", school.institution["id"])
    [grant] = await lms.sql("SELECT id FROM users_grant WHERE user_id = :id", id=dismissed.id)
    assert (await admin.delete(f"/users/{dismissed.id}/roles/{grant['id']}")).status_code in (202, 204)
    above, stranger = [
        await lms.make_user("principal", place) for place in (district["id"], (await lms.make_institution())["id"])
    ]
    assert (await admin.delete(f"/institutions/{school.institution['id']}")).status_code == 202
    await lms.work_off()
    for gone in (False, True):
        if gone:
            assert (await admin.delete(f"/users/{school.student.id}")).status_code == 202
            await lms.work_off()
        body = {"kind": "users.user", "object_id": str(school.student.id), "reason": "Case 12"}
        assert (await stranger.post("/legal-holds", body)).status_code == 404
        assert (await above.post("/legal-holds", body)).status_code == (200 if gone else 201)
    # Who had been dismissed before is theirs no more.
    refused = await above.post("/legal-holds", {**body, "object_id": str(dismissed.id)})
    assert refused.status_code == 404
    assert (await above.post(f"/users/{school.student.id}/restore?dry_run=true")).status_code == 200
    assert (await stranger.post(f"/users/{school.student.id}/restore?dry_run=true")).status_code == 404
