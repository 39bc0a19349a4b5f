"""Who is deleted and comes back: to the place in the line, to the seat, to the section, with the past as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from people import make_people
from sqlalchemy import text

from lms_core import cascade
from lms_core.sdk import UnitOfWork
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
WAITS = {"on_conflict": "waitlist"}


async def full_course(
    lms: Lms, school: School, people: int, **about: Any
) -> tuple[dict[str, Any], list[str], list[str]]:
    """A course, users, and the enrollment of each, in this order."""
    course = await lms.make_course(school.institution["id"], **about)
    users = await make_people(lms, school, people)
    enrollments = [
        (
            await school.principal.create(
                "/enrollments", {"course_id": course["id"], "user_id": user, "role": "student"}
            )
        )["id"]
        for user in users
    ]
    return course, users, enrollments


async def there(caller: Caller, course: dict[str, Any]) -> dict[str, tuple[str, int | None, str | None]]:
    """Who is in a course: the state, the place in the line, the section."""
    items = await caller.items("/enrollments", course_id=course["id"], role="student")
    return {item["user_id"]: (item["state"], item["position"], item["section_id"]) for item in items}


async def deleted(lms: Lms, caller: Caller, *paths: str) -> None:
    """One after the other, before a worker has come to the first."""
    for path in paths:
        assert (await caller.delete(path)).status_code == 202
    await lms.work_off()


async def restored(lms: Lms, caller: Caller, path: str, body: dict[str, Any] | None = None) -> None:
    answer = await caller.post(f"{path}/restore", body)
    assert answer.status_code == 202, answer.text
    await lms.work_off()


async def test_who_is_deleted_moves_up_no_more(lms: Lms, school: School) -> None:
    """Before the cascade comes to the enrollment, too: else they would come back with a seat that they never had."""
    course, users, enrollments = await full_course(lms, school, 3, capacity=1, waitlist=True)
    past = await school.principal.items(f"/enrollments/{enrollments[1]}/history")
    await deleted(lms, school.principal, f"/users/{users[0]}", f"/users/{users[1]}")
    assert await there(school.principal, course) == {users[2]: ("active", None, None)}
    await restored(lms, school.principal, f"/users/{users[1]}")
    assert await there(school.principal, course) == {
        users[1]: ("waitlisted", 1, None),
        users[2]: ("active", None, None),
    }
    assert await school.principal.items(f"/enrollments/{enrollments[1]}/history") == past


async def test_who_waited_comes_back_to_a_seat_that_is_free(lms: Lms, school: School) -> None:
    course, users, enrollments = await full_course(lms, school, 2, capacity=1, waitlist=True)
    await deleted(lms, school.principal, f"/users/{users[1]}")
    assert (await school.principal.patch(f"/enrollments/{enrollments[0]}", {"state": "dropped"})).status_code == 200
    await restored(lms, school.principal, f"/users/{users[1]}")
    assert (await there(school.principal, course))[users[1]] == ("active", None, None)


@pytest.mark.parametrize("what", ["enrollment", "user"])
async def test_the_seat_in_an_archived_course_is_there_still(lms: Lms, school: School, what: str) -> None:
    """Nobody moves up there, so that those who wait stand in nobody's way."""
    course, users, enrollments = await full_course(lms, school, 3, capacity=2, waitlist=True)
    assert (await school.principal.patch(f"/courses/{course['id']}", {"state": "archived"})).status_code == 200
    path = f"/enrollments/{enrollments[0]}" if what == "enrollment" else f"/users/{users[0]}"
    before = await there(school.principal, course)
    await deleted(lms, school.principal, path)
    await restored(lms, school.principal, path)
    assert await there(school.principal, course) == before


@pytest.mark.parametrize("what", ["enrollment", "user"])
async def test_whoever_lost_the_seat_may_wait_where_newcomers_cannot(lms: Lms, school: School, what: str) -> None:
    course, users, enrollments = await full_course(lms, school, 1, capacity=1)
    path = f"/enrollments/{enrollments[0]}" if what == "enrollment" else f"/users/{users[0]}"
    await deleted(lms, school.principal, path)
    other = (await make_people(lms, school, 1))[0]
    enrolled = {"course_id": course["id"], "user_id": other, "role": "student"}
    await school.principal.create("/enrollments", enrolled)
    refused = await school.principal.post(f"{path}/restore")
    assert (refused.status_code, refused.json()["code"]) == (409, "course_full")
    preview = (await school.principal.post(f"{path}/restore", params={"dry_run": "true"})).json()
    assert [one["choices"] for one in preview["conflicts"]] == [["waitlist"]]
    await restored(lms, school.principal, path, WAITS)
    assert await there(school.principal, course) == {
        users[0]: ("waitlisted", 1, None),
        other: ("active", None, None),
    }
    newcomer = (await make_people(lms, school, 1))[0]
    refused = await school.principal.post("/enrollments", enrolled | {"user_id": newcomer})
    assert (refused.status_code, refused.json()["code"]) == (409, "course_full")


async def test_a_user_comes_back_as_they_were_everywhere(lms: Lms, school: School) -> None:
    """A seat, a place in the line, what they ended, days, sections: and what was so when."""
    principal = school.principal
    user = (await make_people(lms, school, 1))[0]
    courses = [await lms.make_course(school.institution["id"], capacity=1, waitlist=True) for _ in range(4)]
    section = await principal.create(f"/courses/{courses[0]['id']}/sections", {"name": "Monday", "capacity": 1})
    others = await make_people(lms, school, 3)
    line = {"course_id": courses[1]["id"], "role": "student"}
    for waiting in (*others[:2], user, others[2]):
        await principal.create("/enrollments", line | {"user_id": waiting})
    about = {"section_id": section["id"], "starts_on": "2026-01-01", "ends_on": "2098-12-31", "reason": "late"}
    own = {"user_id": user, "role": "student"}
    await principal.create("/enrollments", own | {"course_id": courses[0]["id"], **about})
    for course, state in ((courses[2], "completed"), (courses[3], "dropped")):
        one = await principal.create("/enrollments", own | {"course_id": course["id"]})
        assert (await principal.patch(f"/enrollments/{one['id']}", {"state": state, "reason": "so"})).status_code == 200

    async def all_there_is() -> list[Any]:
        items = [item for one in courses for item in await principal.items("/enrollments", course_id=one["id"])]
        past = [await principal.items(f"/enrollments/{item['id']}/history") for item in items]
        return [[{**item, "updated_at": None} for item in items], past]

    before = await all_there_is()
    assert [item["position"] for item in before[0] if item["user_id"] == user and item["state"] == "waitlisted"] == [2]
    await deleted(lms, principal, f"/users/{user}")
    assert all(item["user_id"] != user for item in (await all_there_is())[0])
    await restored(lms, principal, f"/users/{user}")
    assert await all_there_is() == before


async def test_a_section_comes_back_with_its_people_and_their_past(lms: Lms, school: School) -> None:
    """While it is deleted nothing names it: no list, no history, no look at an earlier day."""
    course, _, enrollments = await full_course(lms, school, 3, capacity=2, waitlist=True)
    principal = school.principal
    section = await principal.create(f"/courses/{course['id']}/sections", {"name": "Monday", "capacity": 3})
    for id in enrollments:
        assert (await principal.patch(f"/enrollments/{id}", {"section_id": section["id"]})).status_code == 200
    [now] = await lms.sql("SELECT clock_timestamp() AS at")

    async def shown() -> list[Any]:
        lists = [
            await principal.items("/enrollments", course_id=course["id"]),
            await principal.items("/enrollments", course_id=course["id"], as_of=now["at"].isoformat()),
        ]
        return lists + [await principal.items(f"/enrollments/{id}/history") for id in enrollments]

    def named(found: list[Any]) -> set[str | None]:
        return {item["section_id"] for items in found for item in items}

    before, path = await shown(), f"/courses/{course['id']}/sections/{section['id']}"
    assert named(before) == {section["id"], None}
    await deleted(lms, principal, path)
    assert named(await shown()) == {None}
    await restored(lms, principal, path)
    assert await shown() == before


async def test_courses_that_were_deleted_together_are_balanced_each(lms: Lms, school: School) -> None:
    """People went while their courses were dead: the seats are free when these come back."""
    made = [await full_course(lms, school, 2, capacity=1, waitlist=True) for _ in range(2)]
    together = {"kind": "courses.course", "ids": [course["id"] for course, _, _ in made]}
    deletion = (await school.principal.post("/deletions", together)).json()
    await lms.work_off()
    await deleted(lms, school.principal, *(f"/users/{users[0]}" for _, users, _ in made))
    assert (await school.principal.post(f"/deletions/{deletion['id']}/restore")).status_code == 202
    await lms.work_off()
    for course, users, _ in made:
        assert await there(school.principal, course) == {users[1]: ("active", None, None)}


async def test_a_cascade_locks_the_course_before_the_enrollments(lms: Lms, school: School) -> None:
    """As whoever gives a seat away does: in the other order each would wait for the other."""
    course, users, enrollments = await full_course(lms, school, 1, capacity=1)
    assert (await school.principal.delete(f"/users/{users[0]}")).status_code == 202

    async def locked(uow: UnitOfWork, table: str, id: str, how: str = "") -> None:
        await uow.session.execute(text(f"SELECT FROM {table} WHERE id = :id FOR UPDATE {how}"), {"id": id})

    async with lms.context.unit_of_work() as uow:
        await locked(uow, "courses_course", course["id"])
        working = asyncio.create_task(lms.work_off())
        await lms.until_somebody_waits()
        await locked(uow, "enrollments_enrollment", enrollments[0], "NOWAIT")
    await working
    assert await there(school.principal, course) == {}


async def test_a_cascade_goes_on_when_another_delete_took_its_chunk(
    lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waited for the course: there are more enrollments of the user."""
    monkeypatch.setattr(cascade, "CHUNK", 1)
    user = (await make_people(lms, school, 1))[0]
    courses = [await lms.make_course(school.institution["id"]) for _ in range(3)]
    enrolled = [
        await school.principal.create("/enrollments", {"course_id": course["id"], "user_id": user, "role": "student"})
        for course in courses
    ]
    gone = (await school.principal.delete(f"/enrollments/{enrolled[0]['id']}")).json()
    await lms.work_off()
    taken: list[UUID] = []

    async def takes_it_first(uow: UnitOfWork, ids: Sequence[UUID]) -> None:
        if not taken:
            taken.extend(ids)
            stamp = "UPDATE enrollments_enrollment SET is_deleted = true, deletion_id = :by WHERE id = ANY(:ids)"
            await uow.session.execute(text(stamp), {"by": UUID(gone["id"]), "ids": ids})

    kind = lms.context.platform.kinds.by_name["enrollments.enrollment"]
    first, *others = kind.reactions
    monkeypatch.setattr(kind, "reactions", [replace(first, deleting=takes_it_first), *others])
    assert (await school.principal.delete(f"/users/{user}")).status_code == 202
    await lms.work_off()
    alive = await lms.sql("SELECT id FROM enrollments_enrollment WHERE user_id = :id AND NOT is_deleted", id=user)
    assert (len(taken), alive) == (1, [])
