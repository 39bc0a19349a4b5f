"""Deleting and restoring over the whole graph: exactly what one delete took, whatever happens around it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from lms_core import cascade
from lms_core.testing import Lms, School

pytestmark = pytest.mark.anyio
Snapshot = dict[str, dict[UUID, dict[str, Any]]]


@pytest.fixture(autouse=True)
async def nothing_left(lms: Lms) -> None:
    """These tests look at all rows there are: what others left to be done is done before."""
    await lms.work_off()


async def snapshot(lms: Lms) -> Snapshot:
    """Every soft-deletable row, without versions and times of change."""
    found: Snapshot = {}
    for name in lms.context.platform.kinds.by_name:
        rows = await lms.sql(f"SELECT * FROM {name.replace('.', '_')}")
        found[name] = {
            row["id"]: {key: value for key, value in row.items() if key not in ("version", "updated_at")}
            for row in rows
        }
    return found


async def live_under_dead(lms: Lms) -> list[Any]:
    """Live rows whose parent is dead: there must be none once the work is done."""
    found = []
    for kind in lms.context.platform.kinds.by_name.values():
        for edge in kind.parents:
            if edge.takes:
                child, parent = kind.name.replace(".", "_"), edge.parent.replace(".", "_")
                found += await lms.sql(
                    f"SELECT c.id FROM {child} c JOIN {parent} p ON p.id = c.{edge.column} "
                    "WHERE p.is_deleted AND NOT c.is_deleted"
                )
    return found


async def test_what_was_deleted_before_stays_deleted(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    early = await school.teacher.create(f"{path}/sections", {"name": "Early"})
    await school.teacher.create(f"{path}/sections", {"name": "Late"})
    assert (await school.teacher.delete(f"{path}/sections/{early['id']}")).status_code == 202
    await lms.work_off()
    before = await snapshot(lms)
    deletion = (await school.principal.delete(path)).json()
    await lms.work_off()
    counts = (await school.principal.get(f"/deletions/{deletion['id']}")).json()["counts"]
    assert counts == {"courses.course": 1, "courses.section": 1, "enrollments.enrollment": 2}
    assert await live_under_dead(lms) == []
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert await snapshot(lms) == before
    names = [section["name"] for section in await school.teacher.items(f"{path}/sections")]
    assert names == ["Late"]


async def test_an_institution_takes_its_tree_and_gives_it_back(lms: Lms, school: School) -> None:
    admin = await lms.admin()
    below = await lms.make_institution(school.institution["id"])
    deepest = await lms.make_institution(below["id"])
    course = await lms.make_course(deepest["id"])
    student = await lms.make_user("student", deepest["id"])
    await lms.enroll(course["id"], student)
    before = await snapshot(lms)
    deletion = (await admin.delete(f"/institutions/{below['id']}")).json()
    for path in (f"/institutions/{deepest['id']}", f"/courses/{course['id']}"):
        assert (await admin.get(path)).status_code == 404
    refused = await admin.post(
        "/courses", {"institution_id": deepest["id"], "code": "X", "title": "Into a dead school"}
    )
    assert (refused.status_code, refused.json()["code"]) == (404, "institution_not_found")
    await lms.work_off()
    assert await live_under_dead(lms) == []
    counts = (await admin.get(f"/deletions/{deletion['id']}")).json()["counts"]
    assert counts == {
        "institutions.institution": 2, "courses.course": 1, "enrollments.enrollment": 1, "users.grant": 1,
    }  # fmt: skip
    inner = await admin.post(f"/institutions/{deepest['id']}/restore")
    assert (inner.status_code, inner.json()["code"]) == (409, "parent_deleted")
    inner = await admin.post(f"/courses/{course['id']}/restore")
    assert (inner.status_code, inner.json()["code"]) == (409, "parent_deleted")
    # The principal above may bring it back, though no role reaches the dead node itself.
    assert (await school.principal.post(f"/institutions/{below['id']}/restore")).status_code == 202
    await lms.work_off()
    assert await snapshot(lms) == before
    assert (await student.get(f"/courses/{course['id']}")).status_code == 200


async def test_a_taken_natural_key_is_a_conflict_with_a_preview(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    await school.principal.delete(path)
    await lms.work_off()
    again = await lms.make_course(school.institution["id"], code=school.course["code"])
    preview = await school.principal.post(f"{path}/restore?dry_run=true")
    assert preview.status_code == 200
    assert [conflict["code"] for conflict in preview.json()["conflicts"]] == ["natural_key_taken"]
    refused = await school.principal.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "natural_key_taken")
    await school.principal.delete(f"/courses/{again['id']}")
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert (await school.principal.get(path)).status_code == 200


async def test_a_key_taken_while_a_restore_runs_takes_the_restore_back(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    before = await snapshot(lms)
    deletion = (await school.principal.delete(path)).json()
    await lms.work_off()
    dead = await snapshot(lms)
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    taker = await lms.make_course(school.institution["id"], code=school.course["code"])
    await lms.work_off()
    assert (await school.principal.get(f"/deletions/{deletion['id']}")).json()["state"] == "deleted"
    assert (await school.principal.get(path)).status_code == 404
    after = await snapshot(lms)
    del after["courses.course"][UUID(taker["id"])]
    assert after == dead
    await school.principal.delete(f"/courses/{taker['id']}")
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    after = await snapshot(lms)
    del after["courses.course"][UUID(taker["id"])]
    assert after == before


async def test_a_restore_in_the_middle_of_the_cascade_wins(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cascade, "CHUNK", 1)
    before = await snapshot(lms)
    path = f"/courses/{school.course['id']}"
    deletion = (await school.principal.delete(path)).json()
    chunk = cascade.stamp_chunk
    done, answers = 0, []

    async def restore_after_one(*arguments: Any) -> int | None:
        nonlocal done
        done += 1
        if done == 2:
            answers.append(await school.principal.post(f"{path}/restore"))
        return await chunk(*arguments)

    monkeypatch.setattr(cascade, "stamp_chunk", restore_after_one)
    await lms.work_off()
    assert [answer.status_code for answer in answers] == [202], answers[0].text
    assert done == 2
    assert (await school.principal.get(f"/deletions/{deletion['id']}")).json()["state"] == "restored"
    assert await snapshot(lms) == before


async def test_a_cascade_goes_on_where_it_stopped(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cascade, "CHUNK", 1)
    deletion = (await school.principal.delete(f"/courses/{school.course['id']}")).json()
    chunk = cascade.stamp_chunk
    failures = iter([False, True, False, True, *[False] * 100])

    async def fail_sometimes(*arguments: Any) -> int | None:
        if next(failures):
            raise ConnectionError("planted")
        return await chunk(*arguments)

    monkeypatch.setattr(cascade, "stamp_chunk", fail_sometimes)
    for _ in range(3):
        await lms.work_off()
        await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL")
    shown = (await school.principal.get(f"/deletions/{deletion['id']}")).json()
    assert shown["state"] == "deleted"
    assert shown["counts"]["enrollments.enrollment"] == 2
    assert await live_under_dead(lms) == []


async def test_nothing_is_written_under_a_dead_course(lms: Lms, school: School) -> None:
    course = school.course["id"]
    await school.principal.delete(f"/courses/{course}")
    student = await lms.make_user("student", school.institution["id"])
    for path, body in (
        (f"/courses/{course}/sections", {"name": "A"}),
        ("/enrollments", {"course_id": course, "user_id": str(student.id), "role": "student"}),
        ("/materials", {"course_id": course, "kind": "page", "title": "A"}),
        ("/files", {"filename": "a.txt", "content_type": "text/plain", "size": 1, "course_id": course}),
    ):
        for caller in (school.principal, school.teacher, await lms.admin()):
            answer = await caller.post(path, body)
            assert (answer.status_code, answer.json()["code"]) == (404, "course_not_found"), (path, answer.text)
    for path in ("/enrollments", "/materials", "/files"):
        assert await (await lms.admin()).items(path, course_id=course) == []


async def test_children_made_while_the_parent_is_deleted_are_never_orphans(lms: Lms, school: School) -> None:
    """Without the lock on the ancestors about a third of these ended up alive under a dead course."""
    for _ in range(5):
        course = await lms.make_course(school.institution["id"])
        path = f"/courses/{course['id']}"

        async def make(path: str = path) -> int:
            return (await school.principal.post(f"{path}/sections", {"name": uuid4().hex})).status_code

        answers = await asyncio.gather(
            *(make() for _ in range(8)), school.principal.delete(path), *(make() for _ in range(8))
        )
        assert {answer for answer in answers if isinstance(answer, int)} <= {201, 404}
    await lms.work_off()
    assert await live_under_dead(lms) == []


async def test_a_child_that_is_being_made_holds_the_delete_of_its_parent_up(lms: Lms, school: School) -> None:
    """Else the cascade could be through before the child is there."""
    course_id, path = UUID(school.course["id"]), f"/courses/{school.course['id']}"
    async with lms.context.unit_of_work() as uow:
        await uow.hold("courses.course", course_id)
        deleting = asyncio.ensure_future(school.principal.delete(path))
        await asyncio.wait([deleting], timeout=1)
        if deleting.done():
            await lms.work_off()
        section = uow.model("courses.section")(course_id=course_id, name="Late")  # type: ignore[call-arg]
        await uow.add(section)
    assert (await deleting).status_code == 202
    await lms.work_off()
    assert await live_under_dead(lms) == []


async def test_two_deletes_at_once_make_one_deletion(lms: Lms, school: School) -> None:
    path = f"/courses/{school.course['id']}"
    answers = await asyncio.gather(*(school.principal.delete(path) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [202] + [404] * 9
    rows = await lms.sql("SELECT id FROM core_deletion WHERE root_id = :id", id=school.course["id"])
    assert len(rows) == 1


async def capacity_of_one(lms: Lms, school: School) -> tuple[str, list[str]]:
    """A course with one seat and a waitlist, and its enrollments: one active, one waiting."""
    course = await lms.make_course(school.institution["id"], capacity=1, waitlist=True)
    made = []
    for _ in range(2):
        student = await lms.make_user("student", school.institution["id"])
        made.append((await lms.enroll(course["id"], student))["user_id"])
    return course["id"], made


async def students(lms: Lms, course: str) -> list[tuple[str, str]]:
    items = await (await lms.admin()).items("/enrollments", course_id=course, role="student")
    return sorted((item["user_id"], item["state"]) for item in items)


async def test_an_enrollment_comes_back_only_with_both_of_its_parents(lms: Lms, school: School) -> None:
    course, (first, second) = await capacity_of_one(lms, school)
    await school.principal.delete(f"/courses/{course}")
    await lms.work_off()
    deletion = (await school.principal.delete(f"/users/{first}")).json()["id"]
    await lms.work_off()
    await school.principal.post(f"/courses/{course}/restore")
    await lms.work_off()
    assert await live_under_dead(lms) == []
    # The seat of who is gone went to who waited.
    assert await students(lms, course) == [(second, "active")]
    counts = (await school.principal.get(f"/deletions/{deletion}")).json()["counts"]
    assert counts["enrollments.enrollment"] == 1
    refused = await school.principal.post(f"/users/{first}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "course_full")
    await school.principal.post(f"/users/{first}/restore", {"on_conflict": "waitlist"})
    await lms.work_off()
    assert await students(lms, course) == sorted([(first, "waitlisted"), (second, "active")])


async def test_a_seat_is_never_taken_twice_by_restores_in_any_order(lms: Lms, school: School) -> None:
    course, (first, second) = await capacity_of_one(lms, school)
    await school.principal.delete(f"/users/{first}")
    await lms.work_off()
    assert await students(lms, course) == [(second, "active")]
    await school.principal.delete(f"/courses/{course}")
    await lms.work_off()
    await school.principal.post(f"/users/{first}/restore")
    await lms.work_off()
    await school.principal.post(f"/courses/{course}/restore")
    await lms.work_off()
    assert await live_under_dead(lms) == []
    states = await students(lms, course)
    assert sorted(state for _, state in states) == ["active", "waitlisted"]


async def test_a_teacher_brings_no_teacher_back(lms: Lms, school: School) -> None:
    other = await lms.make_user("teacher", school.institution["id"])
    enrollment = await lms.enroll(school.course["id"], other, "teacher")
    path = f"/enrollments/{enrollment['id']}"
    await school.principal.delete(path)
    await lms.work_off()
    refused = await school.teacher.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "grant_not_allowed")
    assert (await other.patch(f"/courses/{school.course['id']}", {"title": "Mine"})).status_code in (403, 404)
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    assert (await other.patch(f"/courses/{school.course['id']}", {"title": "Mine"})).status_code == 200


async def test_forty_thousand_enrollments_come_back(lms: Lms, school: School) -> None:
    course = await lms.make_course(school.institution["id"], capacity=50_000)
    await lms.sql(
        """
        WITH person AS (
            INSERT INTO users_user (id, email, email_key, full_name, is_active)
            SELECT gen_random_uuid(), m, m, 'Somebody', true
            FROM (SELECT :prefix || n || '@example.org' AS m FROM generate_series(1, 40000) n) made RETURNING id
        )
        INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
        SELECT gen_random_uuid(), CAST(:course AS uuid), id, 'student', 'active' FROM person
        """,
        prefix=uuid4().hex, course=course["id"],
    )  # fmt: skip
    path = f"/courses/{course['id']}"
    await school.principal.delete(path)
    await lms.work_off()
    preview = await school.principal.post(f"{path}/restore?dry_run=true")
    assert preview.json()["counts"]["enrollments.enrollment"] == 40_000, preview.text[:300]
    assert (await school.principal.post(f"{path}/restore")).status_code == 202
    await lms.work_off()
    rows = await lms.sql(
        "SELECT count(*) AS n FROM enrollments_enrollment WHERE course_id = :id AND NOT is_deleted", id=course["id"]
    )
    assert rows[0]["n"] == 40_000


@pytest.mark.parametrize("passing", ["cascading", "restoring"])
async def test_what_got_stuck_is_stated_again(lms: Lms, school: School, passing: str) -> None:
    path = f"/courses/{school.course['id']}"
    deletion = (await school.principal.delete(path)).json()["id"]
    if passing == "restoring":
        await lms.work_off()
        await school.principal.post(f"{path}/restore")
    # As when the handler failed eight times.
    await lms.sql("UPDATE core_delivery SET dead_at = now() WHERE done_at IS NULL")
    await lms.work_off()
    assert (await school.principal.get(f"/deletions/{deletion}")).json()["state"] == passing
    async with lms.context.unit_of_work() as uow:
        await cascade.resume_stuck(uow)
    assert await lms.work_off() == 0
    await lms.sql("UPDATE core_deletion SET updated_at = now() - interval '6 minutes' WHERE id = :id", id=deletion)
    async with lms.context.unit_of_work() as uow:
        await cascade.resume_stuck(uow)
    await lms.work_off()
    ended = {"cascading": "deleted", "restoring": "restored"}[passing]
    assert (await school.principal.get(f"/deletions/{deletion}")).json()["state"] == ended
    await lms.sql("UPDATE core_delivery SET done_at = now() WHERE dead_at IS NOT NULL")
