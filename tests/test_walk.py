"""A random walk over all kinds: deletes at any level, restores, parts, renames, edits, moves and new keys, at once.

What must hold whenever all work is done does not need a model of what should have happened: dead rows never change, what
comes back is as it went, nothing lives under what is dead, and a deletion holds exactly what it counts.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from samples_of_kinds import SAMPLES, Sample

from lms_core.cascade import resume_stuck
from lms_core.sdk import new_id
from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio
Rows = dict[tuple[str, UUID], dict[str, Any]]
# A restore may change these: by a choice, or since a seat has to be found.
MAY_CHANGE = {
    "enrollments.enrollment": {"state", "waiting_number", "section_id"},
    "courses.course": {"code"},
    "courses.section": {"name"},
    "courses.term": {"name"},
    "groups.group": {"name"},
    "institutions.institution": {"slug"},
    # Whether a course shares a file follows from the materials that show it, and that from what lives.
    "files.file": {"shared", "state", "reason", "derivatives"},
}
BOOKKEEPING = {"version", "updated_at"}
NUMBER = st.integers(0, 99)
CHOICES = st.lists(st.sampled_from(["rename", "parents", "waitlist"]), unique=True, max_size=3)
STEP = st.one_of(
    st.tuples(st.just("delete"), NUMBER, st.none()),
    st.tuples(st.just("restore"), NUMBER, CHOICES),
    st.tuples(st.just("restore_deletion"), NUMBER, CHOICES),
    st.tuples(st.just("delete_many"), NUMBER, NUMBER),
    st.tuples(st.just("edit"), NUMBER, st.none()),
    st.tuples(st.just("retake"), NUMBER, st.none()),
    st.tuples(st.just("move"), NUMBER, NUMBER),
    st.tuples(st.just("create"), NUMBER, st.none()),
)
# What is in one list is done at the same time.
WALK = st.lists(st.lists(STEP, min_size=1, max_size=4), min_size=1, max_size=10)


@dataclass
class World:
    """A district with a school, and one thing of each kind in it."""

    lms: Lms
    admin: Caller
    school: School
    district: str
    things: list[Sample]
    begin: UUID
    deletions: list[str] = field(default_factory=list)
    edited: set[UUID] = field(default_factory=set)

    def thing(self, number: int) -> Sample:
        return self.things[number % len(self.things)]

    async def step(self, action: str, number: int, value: Any) -> None:
        """One request; whatever it answers, it must not be an error of ours."""
        answer = await getattr(self, action)(number, value)
        if answer is not None:
            assert answer.status_code < 500 or answer.json()["code"] in ("busy", "overloaded"), answer.text
            if answer.status_code == 202 and "root_ids" in answer.json():
                self.deletions.append(answer.json()["id"])

    async def delete(self, number: int, value: Any) -> Any:
        return await self.admin.delete(self.thing(number).path)

    async def restore(self, number: int, choices: list[str]) -> Any:
        return await self.admin.post(f"{self.thing(number).path}/restore", {"on_conflict": choices})

    async def restore_deletion(self, number: int, choices: list[str]) -> Any:
        if self.deletions:
            id = self.deletions[number % len(self.deletions)]
            return await self.admin.post(f"/deletions/{id}/restore", {"on_conflict": choices})
        return None

    async def delete_many(self, number: int, other: int) -> Any:
        first = self.thing(number)
        ids = {one.path.rsplit("/", 1)[1] for one in (first, self.thing(other)) if one.kind == first.kind}
        return await self.admin.post("/deletions", {"kind": first.kind, "ids": sorted(ids)})

    async def edit(self, number: int, value: Any) -> Any:
        thing = self.thing(number)
        if not thing.change:
            return None
        self.edited.add(UUID(thing.path.rsplit("/", 1)[1]))
        return await self.admin.patch(thing.path, thing.change)

    async def retake(self, number: int, value: Any) -> Any:
        """Something else takes the key of a course or a section, whether that lives or not."""
        course, institution = self.school.course, self.school.institution["id"]
        if number % 2:
            body = {"institution_id": institution, "code": course["code"], "title": "Another"}
            return await self.admin.post("/courses", body)
        section = next(one for one in self.things if one.kind == "courses.section")
        rows = await self.lms.sql("SELECT name FROM courses_section WHERE id = :id", id=section.path.rsplit("/", 1)[1])
        return await self.admin.post(f"/courses/{course['id']}/sections", {"name": rows[0]["name"]})

    async def move(self, number: int, other: int) -> Any:
        if number % 3 == 0:
            self.edited.add(UUID(self.school.institution["id"]))
            parent = self.district if other % 2 else None
            return await self.admin.patch(f"/institutions/{self.school.institution['id']}", {"parent_id": parent})
        if number % 3 == 1:
            self.edited.add(UUID(self.school.course["id"]))
            to = self.district if other % 2 else self.school.institution["id"]
            return await self.admin.patch(f"/courses/{self.school.course['id']}", {"institution_id": to})
        pages = [one for one in self.things if one.kind == "materials.material"]
        module = next(one for one in self.things if one.kind == "materials.module").path.rsplit("/", 1)[1]
        page = pages[number % len(pages)]
        self.edited.add(UUID(page.path.rsplit("/", 1)[1]))
        return await self.admin.patch(page.path, {"module_id": module if other % 2 else None})

    async def create(self, number: int, value: Any) -> Any:
        """A child of the course, or of the school."""
        course = self.school.course["id"]
        path, body = [
            (f"/courses/{course}/sections", {"name": uuid4().hex}),
            ("/materials", {"course_id": course, "kind": "page", "title": uuid4().hex}),
            ("/institutions", {"name": "X", "slug": uuid4().hex, "parent_id": self.school.institution["id"]}),
            ("/groups", {"course_id": course, "name": uuid4().hex}),
        ][number % 4]
        return await self.admin.post(path, body)

    async def rest(self) -> None:
        """Until nothing is left to do."""
        for _ in range(30):
            await self.lms.work_off()
            left = await self.lms.sql(
                "UPDATE core_delivery SET next_attempt_at = now() "
                "WHERE done_at IS NULL AND dead_at IS NULL AND id >= :begin RETURNING id",
                begin=self.begin,
            )
            if not left:
                break
        else:
            raise AssertionError("work goes on for ever")
        async with self.lms.context.unit_of_work() as uow:
            await resume_stuck(uow)
        # Of this walk: other tests leave some of theirs.
        dead = await self.lms.sql(
            "SELECT handler, last_error FROM core_delivery WHERE dead_at IS NOT NULL AND done_at IS NULL AND id >= :begin",
            begin=self.begin,
        )
        assert dead == []

    async def rows(self) -> Rows:
        """Every row of every kind that is of this walk, its bookkeeping left out."""
        found: Rows = {}
        for name in self.lms.context.platform.kinds.by_name:
            statement = f"SELECT * FROM {name.replace('.', '_')} WHERE id >= :begin"
            for row in await self.lms.sql(statement, begin=self.begin):
                found[name, row["id"]] = {key: value for key, value in row.items() if key not in BOOKKEEPING}
        return found


async def make_world(lms: Lms) -> World:
    begin = new_id()
    admin = await lms.admin()
    district, school = (await lms.make_institution())["id"], await lms.make_school()
    moved = await admin.patch(f"/institutions/{school.institution['id']}", {"parent_id": district})
    assert moved.status_code == 200
    things = [await make(lms, school) for make in SAMPLES.values()]
    module = next(one for one in things if one.kind == "materials.module").path.rsplit("/", 1)[1]
    page = next(one for one in things if one.kind == "materials.material")
    assert (await admin.patch(page.path, {"module_id": module})).status_code == 200
    for kind, path in (
        ("institutions.institution", f"/institutions/{school.institution['id']}"),
        ("courses.course", f"/courses/{school.course['id']}"),
        ("users.user", f"/users/{school.student.id}"),
        ("users.user", f"/users/{school.teacher.id}"),
        # Twice as often as the rest: most hangs under it.
        ("courses.course", f"/courses/{school.course['id']}"),
    ):
        things.append(Sample(kind, path, "", {}, admin))
    return World(lms, admin, school, district, things, begin)


def check_exactness(before: Rows, after: Rows, edited: set[UUID]) -> None:
    """Dead rows do not change, and what went or came back is as it was."""
    for key, row in before.items():
        now = after[key]
        stamps = {"is_deleted", "deletion_id"}
        changed = {name for name in row if row[name] != now[name]} - stamps
        if not row["is_deleted"] and key[1] in edited:
            continue
        if row["is_deleted"] and now["is_deleted"] and key[1] not in edited:
            assert changed <= MAY_CHANGE.get(key[0], set()), (key, row, now)
        if row["is_deleted"] != now["is_deleted"]:
            assert key[1] in edited or changed <= MAY_CHANGE.get(key[0], set()), (key, row, now)


async def check_order(world: World, rows: Rows) -> None:
    """Nothing lives under what is dead; each deletion holds what it counts, and is at rest."""
    kinds = world.lms.context.platform.kinds
    for kind in kinds.by_name.values():
        for edge in kind.parents:
            for (name, id), row in rows.items():
                parent = rows.get((edge.parent, row[edge.column])) if name == kind.name and row[edge.column] else None
                assert row["is_deleted"] or parent is None or not parent["is_deleted"], (name, id, edge)
    held: dict[UUID, dict[str, int]] = {}
    for (name, _), row in rows.items():
        if row["is_deleted"]:
            counts = held.setdefault(row["deletion_id"], {})
            counts[name] = counts.get(name, 0) + 1
    found = await world.lms.sql("SELECT id, state, counts FROM core_deletion WHERE id >= :begin", begin=world.begin)
    for deletion in found:
        expected = held.pop(deletion["id"], {})
        assert deletion["state"] == ("deleted" if expected else "restored"), (deletion, expected)
        if expected:
            assert {name: number for name, number in deletion["counts"].items() if number} == expected, deletion
    assert held == {}


async def walk(lms: Lms, batches: list[list[tuple[str, int, Any]]]) -> None:
    world = await make_world(lms)
    await world.rest()
    before = await world.rows()
    for batch in batches:
        world.edited.clear()
        await asyncio.gather(*(world.step(*step) for step in batch), lms.work_off())
        await world.rest()
        after = await world.rows()
        check_exactness(before, after, world.edited)
        await check_order(world, after)
        before = after
    # The way back: whatever the walk left deleted can be restored, the last first.
    for id in reversed(dict.fromkeys(world.deletions)):
        answer = await world.admin.post(f"/deletions/{id}/restore", {"on_conflict": ["rename", "parents", "waitlist"]})
        assert answer.status_code in (202, 409), answer.text
        await world.rest()
    after = await world.rows()
    check_exactness(before, after, set())
    await check_order(world, after)


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=WALK)
async def test_a_walk(lms: Lms, batches: list[list[tuple[str, int, Any]]]) -> None:
    await walk(lms, batches)


@pytest.mark.faults
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=WALK)
async def test_many_walks(lms: Lms, batches: list[list[tuple[str, int, Any]]]) -> None:
    await walk(lms, batches)
