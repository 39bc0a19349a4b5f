"""How long a big delete and its restore take, how much others wait beside them, and how soon an idle system reacts.

    LMS_ADMIN_EMAIL=admin@example.org LMS_ADMIN_PASSWORD='correct horse battery staple' \\
    python3 -m lms_core up --data /tmp/benchmark
    LMS=http://127.0.0.1:8000 DATABASE="$(jq -r .database_url /tmp/benchmark/status.json)" \\
    python benchmarks/deletion.py [COURSES] [ENROLLMENTS]

A school with COURSES (500) and ENROLLMENTS (100,000) is deleted and restored while somebody edits a course of another
school, over and over. Others wait as the ratio of the slowest of those edits to the slowest without anything beside it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2

ADMIN = {"username": "admin@example.org", "password": "correct horse battery staple"}
IDLE_EDITS = 300
REACTIONS = 20
FILL = """
    WITH course AS (
        INSERT INTO courses_course (id, institution_id, code, title, description, state, waitlist)
        SELECT gen_random_uuid(), $1::uuid, 'C' || n, 'Course', '', 'published', false FROM generate_series(1, $2::int) n
        RETURNING id
    ), numbered AS (SELECT id, row_number() OVER () AS n FROM course), person AS (
        INSERT INTO users_user (id, email, email_key, full_name, is_active)
        SELECT gen_random_uuid(), m, m, 'Somebody', true
        FROM (SELECT $4::text || n || '@example.org' AS m FROM generate_series(1, ($3::int / $2::int)) n) made
        RETURNING id
    )
    INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
    SELECT gen_random_uuid(), numbered.id, person.id, 'student', 'active' FROM numbered CROSS JOIN person
"""


class Bench:
    """A client that is signed in, and the database."""

    def __init__(self, client: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
        self.client, self.database = client, database

    async def post(self, path: str, body: Any = None) -> dict[str, Any]:
        """What was made."""
        found: dict[str, Any] = (await self.client.post(path, json=body)).raise_for_status().json()
        return found

    async def course(self) -> str:
        """In a school of its own."""
        school = await self.post("/institutions", {"name": "School", "slug": f"s{uuid4().hex[:8]}"})
        course = await self.post("/courses", {"institution_id": school["id"], "code": "C", "title": "Other"})
        return str(course["id"])

    async def edit(self, course: str, until: asyncio.Event, most: int | None = None) -> list[float]:
        """Seconds that each edit took, one after the other."""
        taken: list[float] = []
        while not until.is_set() and len(taken) != most:
            begun = time.perf_counter()
            answer = await self.client.patch(f"/courses/{course}", json={"title": uuid4().hex})
            taken.append(time.perf_counter() - begun)
            answer.raise_for_status()
        return taken

    async def beside(self, course: str, state: str, deletion: str) -> tuple[float, list[float]]:
        """Seconds until a deletion is in a state, and what edits took meanwhile."""
        over, begun = asyncio.Event(), time.perf_counter()
        editing = asyncio.create_task(self.edit(course, over))
        while True:
            found = await self.database.fetchval("SELECT state FROM core_deletion WHERE id = $1::uuid", deletion)
            if found == state:
                break
            await asyncio.sleep(0.02)
        over.set()
        return time.perf_counter() - begun, await editing

    async def reactions(self, course: str) -> list[float]:
        """Seconds from the answer to a delete until a worker has done with it, each in an idle system."""
        taken = []
        for _ in range(REACTIONS):
            page = await self.post("/materials", {"course_id": course, "kind": "page", "title": "Page"})
            await asyncio.sleep(1)
            begun = time.perf_counter()
            deletion = (await self.client.delete(f"/materials/{page['id']}")).raise_for_status().json()["id"]
            while (
                await self.database.fetchval("SELECT state FROM core_deletion WHERE id = $1::uuid", deletion)
            ) != "deleted":
                await asyncio.sleep(0.002)
            taken.append(time.perf_counter() - begun)
            await asyncio.sleep(0.5)
        return taken


def spread(taken: list[float]) -> str:
    """Median, nine tenths, and the slowest, in milliseconds."""
    ordered = sorted(taken)
    tenths = ordered[int(len(ordered) * 0.9)]
    return f"median {statistics.median(ordered) * 1000:.0f} ms, 90 % {tenths * 1000:.0f} ms, slowest {ordered[-1] * 1000:.0f} ms"


async def measure(courses: int, enrollments: int) -> None:
    """Everything, in turn."""
    database = await asyncpg.connect(os.environ["DATABASE"])
    async with httpx2.AsyncClient(base_url=os.environ.get("LMS", "http://127.0.0.1:8000"), timeout=120) as client:
        token = (await client.post("/auth/login", data=ADMIN)).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        bench = Bench(client, database)
        other = await bench.course()
        print(f"an idle system, from a delete to the end of its cascade: {spread(await bench.reactions(other))}")
        school = (await bench.post("/institutions", {"name": "Big", "slug": f"s{uuid4().hex[:8]}"}))["id"]
        await database.execute(FILL, school, courses, enrollments, uuid4().hex, timeout=600)
        await database.execute("ANALYZE")
        idle = await bench.edit(other, asyncio.Event(), IDLE_EDITS)
        print(f"edits without anything beside them: {spread(idle)}")
        path = f"/institutions/{school}"
        begun = time.perf_counter()
        (await client.delete(path, params={"dry_run": "true"})).raise_for_status()
        print(f"preview of the delete: {time.perf_counter() - begun:.2f} s")
        deletion = (await client.delete(path)).raise_for_status().json()["id"]
        seconds, beside = await bench.beside(other, "deleted", deletion)
        print(
            f"cascade: {seconds:.1f} s; edits beside it: {spread(beside)}; slowest {max(beside) / max(idle):.1f} x idle"
        )
        begun = time.perf_counter()
        (await client.post(f"{path}/restore", params={"dry_run": "true"})).raise_for_status()
        print(f"preview of the restore: {time.perf_counter() - begun:.2f} s")
        begun = time.perf_counter()
        (await client.post(f"{path}/restore")).raise_for_status()
        print(f"its request: {time.perf_counter() - begun:.2f} s")
        seconds, beside = await bench.beside(other, "restored", deletion)
        print(
            f"restore: {seconds:.1f} s; edits beside it: {spread(beside)}; slowest {max(beside) / max(idle):.1f} x idle"
        )
    await database.close()


if __name__ == "__main__":
    asyncio.run(measure(*(int(one) for one in (*sys.argv[1:], "500", "100000")[:2])))
