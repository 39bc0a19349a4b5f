"""Races for seats between clients with connections of their own, at two API processes of one running system."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from running import System, served, system

from lms_core.testing import Caller

pytestmark = pytest.mark.anyio
CLIENTS = 20
SEATS = 10


@pytest.fixture(scope="module")
def apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, list[str]]]:
    with system(tmp_path_factory.mktemp("races") / "data") as running:
        reached = json.loads((running.data / "environment.json").read_text())
        with served(os.environ | reached) as second:
            yield running, [running.url, second]


class Racers:
    """Clients with a connection each, in turn to one of the API processes."""

    def __init__(self, running: System, callers: list[Caller]) -> None:
        self.running, self.callers, self.admin = running, callers, callers[0]

    async def course_and_people(self, people: int, **course: Any) -> tuple[str, list[str]]:
        """A course, and people of its institution."""
        school = await self.admin.create("/institutions", {"name": "School", "slug": f"s{uuid4().hex[:8]}"})
        made = await self.admin.create(
            "/courses", {"institution_id": school["id"], "code": "RACE", "title": "Race", **course}
        )
        roles = [{"role": "student", "institution_id": school["id"]}]
        users = await asyncio.gather(
            *(
                caller.create(
                    "/users", {"email": f"{uuid4().hex}@example.org", "full_name": "Somebody", "roles": roles}
                )
                for _, caller in zip(range(people), cycle(self.callers), strict=False)
            )
        )
        return str(made["id"]), [str(user["id"]) for user in users]

    async def teacher(self, institution_id: str, course: str) -> Caller:
        """Somebody who teaches a course, signed in."""
        address, password = f"{uuid4().hex}@example.org", uuid4().hex
        roles = [{"role": "teacher", "institution_id": institution_id}]
        about = {"email": address, "full_name": "A teacher", "password": password, "roles": roles}
        user = await self.admin.create("/users", about)
        await self.admin.create("/enrollments", {"course_id": course, "user_id": user["id"], "role": "teacher"})
        signed_in = await self.admin.client.post("/auth/login", data={"username": address, "password": password})
        return Caller(self.admin.client, headers={"Authorization": f"Bearer {signed_in.json()['access_token']}"})

    async def enroll(self, course: str, users: list[str]) -> Counter[int]:
        """All of them at once; how often which status was answered."""
        answers = await asyncio.gather(
            *(
                caller.post("/enrollments", {"course_id": course, "user_id": user, "role": "student"})
                for user, caller in zip(users, cycle(self.callers), strict=False)
            )
        )
        return Counter(answer.status_code for answer in answers)

    async def passed_over(self, course: str) -> list[dict[str, Any]]:
        """Who moved up although somebody waited who had come into the line before them, and waited on."""
        found = await self.running.sql(
            """
            SELECT moved.enrollment_id, moved.since FROM enrollments_period AS moved
            JOIN enrollments_period AS stood ON stood.enrollment_id = moved.enrollment_id AND stood.until = moved.since
            JOIN enrollments_period AS other ON other.course_id = moved.course_id AND other.state = 'waitlisted'
            JOIN enrollments_enrollment AS others ON others.id = other.enrollment_id AND NOT others.is_deleted
            WHERE moved.course_id = $1 AND moved.cause = 'promoted' AND other.since < stood.since
            AND (other.until IS NULL OR other.until > moved.since)
            """,
            course,
        )
        return [dict(row) for row in found]

    async def standing(self, course: str) -> Counter[str]:
        """How many live in which state; raises unless those who wait stand in a line without gaps."""
        found = await self.admin.items("/enrollments", course_id=course)
        line = sorted(one["position"] for one in found if one["state"] == "waitlisted")
        assert line == list(range(1, len(line) + 1))
        return Counter(one["state"] for one in found)


@pytest.fixture
async def racers(apis: tuple[System, list[str]]) -> AsyncIterator[Racers]:
    running, urls = apis
    async with AsyncExitStack() as stack:
        callers = []
        for _, url in zip(range(CLIENTS), cycle(urls), strict=False):
            client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=60))
            callers.append(await running.admin(client) if not callers else Caller(client, headers=callers[0].headers))
        yield Racers(running, callers)


async def test_a_hundred_students_on_ten_seats_five_times(racers: Racers) -> None:
    for _ in range(5):
        course, users = await racers.course_and_people(100, capacity=SEATS)
        assert await racers.enroll(course, users) == {201: SEATS, 409: 90}
        assert await racers.standing(course) == {"active": SEATS}


async def test_a_hundred_students_on_ten_seats_and_a_waitlist(racers: Racers) -> None:
    course, users = await racers.course_and_people(100, capacity=SEATS, waitlist=True)
    assert await racers.enroll(course, users) == {201: 100}
    assert await racers.standing(course) == {"active": SEATS, "waitlisted": 90}


async def test_the_same_enrollment_a_hundred_times(racers: Racers) -> None:
    course, [user] = await racers.course_and_people(1)
    assert await racers.enroll(course, [user] * 100) == {201: 1, 200: 99}
    assert await racers.standing(course) == {"active": 1}


@pytest.mark.parametrize("capacity_changes", [0.0, 0.3])
async def test_three_hundred_mixed_steps(racers: Racers, capacity_changes: float) -> None:
    """People come and go, and in one of the two the course grows and shrinks among them: first come, first served."""
    seed = 20261128
    choose = random.Random(seed)
    course, users = await racers.course_and_people(40, capacity=SEATS, waitlist=True)

    async def step(caller: Caller) -> int:
        if choose.random() < capacity_changes:
            capacity = choose.randint(SEATS // 2, SEATS * 2)
            return int((await caller.patch(f"/courses/{course}", {"capacity": capacity})).status_code)
        user = choose.choice(users)
        if choose.random() < 0.5:
            enrolled = {"course_id": course, "user_id": user, "role": "student"}
            return int((await caller.post("/enrollments", enrolled)).status_code)
        found = await caller.items("/enrollments", course_id=course, user_id=user)
        standing = [one for one in found if one["state"] in ("active", "waitlisted")]
        if not standing:
            return 204
        path = f"/enrollments/{standing[0]['id']}"
        if choose.random() < 0.5:
            return int((await caller.patch(path, {"state": "dropped"})).status_code)
        return int((await caller.delete(path)).status_code)

    async def race(caller: Caller) -> list[int]:
        return [await step(caller) for _ in range(300 // CLIENTS)]

    statuses = Counter(status for one in await asyncio.gather(*map(race, racers.callers)) for status in one)
    # 404 and 409: another client was first, or the seats are taken.
    assert set(statuses) <= {200, 201, 202, 204, 404, 409}, (seed, statuses)
    await racers.running.until("nothing is left to do", "SELECT count(*) = 0 FROM core_delivery WHERE done_at IS NULL")
    states = await racers.standing(course)
    seats = (await racers.admin.get(f"/courses/{course}")).json()["capacity"]
    assert states["active"] == seats or states["waitlisted"] == 0, seed
    assert states["active"] <= seats, seed
    moved_up = "SELECT count(*) AS n FROM enrollments_period WHERE course_id = $1 AND cause = 'promoted'"
    assert (await racers.running.sql(moved_up, course))[0]["n"] > 0
    assert await racers.passed_over(course) == []


async def test_of_two_teachers_who_edit_the_same_course_one_is_told(racers: Racers) -> None:
    course, [section_user] = await racers.course_and_people(1)
    at = (await racers.admin.get(f"/courses/{course}")).json()["institution_id"]
    teachers = [await racers.teacher(at, course) for _ in range(2)]
    path = f"/courses/{course}"
    section = await teachers[0].create(f"{path}/sections", {"name": "Monday"})
    enrolled = {"course_id": course, "user_id": section_user, "role": "student"}
    enrollment = await teachers[1].create("/enrollments", enrolled)
    for edited, change in (
        (path, lambda number: {"title": f"Title {number}"}),
        (f"{path}/sections/{section['id']}", lambda number: {"name": f"Group {number}"}),
        (f"/enrollments/{enrollment['id']}", lambda number: {"ends_on": f"2098-01-{number + 1:02}"}),
    ):
        version = (await racers.admin.get(edited)).headers["ETag"]
        answers = await asyncio.gather(
            *(
                Caller(caller.client, headers=teacher.headers).patch(
                    edited, change(number), headers={"If-Match": version}
                )
                for number, (caller, teacher) in enumerate(zip(racers.callers, cycle(teachers), strict=False))
            )
        )
        assert Counter(answer.status_code for answer in answers) == {200: 1, 412: CLIENTS - 1}
