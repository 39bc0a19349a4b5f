"""The bars of background work: cascades, events, imports, workers; and of starting and memory."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from typing import Any

import asyncpg
import httpx2

from benchmarks import plain_celery
from benchmarks.load import Asked, Connection, bearer, cpu_of, memory_of, one, posted
from benchmarks.results import Result
from benchmarks.system import LMS, ROOT, System, unique

ENROLLMENTS, MATERIALS = 50_000, 50_000
EDITS = 200
REACTIONS = 15
IMPORTED = 10_000
TASKS = 1_000
PENDING = "SELECT count(*) AS n FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"
FILL = """
    WITH person AS (
        INSERT INTO users_user (id, email, email_key, full_name, is_active)
        SELECT gen_random_uuid(), m, m, 'Somebody', true
        FROM (SELECT $2::text || n || '@example.org' AS m FROM generate_series(1, $3::int) n) made
        RETURNING id
    ), enrolled AS (
        INSERT INTO enrollments_enrollment (id, course_id, user_id, role, state)
        SELECT gen_random_uuid(), $1::uuid, id, 'student', 'active' FROM person
    )
    INSERT INTO materials_material (id, course_id, kind, title, body, position, published)
    SELECT gen_random_uuid(), $1::uuid, 'page', 'Page ' || n, '', n, true FROM generate_series(1, $4::int) n
"""


class Bench:
    """A signed-in client of the whole system."""

    def __init__(self, system: System) -> None:
        self.system, self.url = system, system.url
        self.token = bearer(system.token(system.url))

    def post(self, path: str, body: Any, good: int = 201) -> Any:
        """What was made."""
        return one(self.url, posted(path, body, self.token, good))

    def course(self, title: str = "Course") -> str:
        """In a school of its own."""
        school = self.post("/institutions", {"name": "School", "slug": f"s{unique()}"})["id"]
        return str(self.post("/courses", {"institution_id": school, "code": "C", "title": title})["id"])

    def sql(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows of the system's own database."""
        return asyncio.run(self.system.fetch(self.system.database_url(), statement, *arguments))

    def timed(self, connection: Connection, asked: Asked) -> float:
        """Seconds that one request takes."""
        connection.send(asked.on(self.url), asked.good)
        while connection.answer() is None:
            pass
        return time.perf_counter() - connection.begun

    def until_ready(self, file: str) -> None:
        """Until a file was verified."""
        state = "SELECT state FROM files_file WHERE id = $1::uuid"
        until(lambda: self.sql(state, file)[0]["state"] == "ready")

    def ended(self, job: str) -> Any:
        """An import, when it has ended."""
        path = Asked("GET", f"/imports/{job}", self.token)
        until(lambda: one(self.url, path)["state"] not in ("queued", "planning", "running"))
        return one(self.url, path)

    def edit(self, course: str) -> Asked:
        """A change of a course."""
        return posted(f"/courses/{course}", {"title": unique()}, self.token, 200, "PATCH")


def deletion(system: System, rounds: int) -> list[Result]:
    """A delete of a course with 100,000 descendants, as a request and beside the writes of others."""
    bench = Bench(system)
    other = bench.course()
    requests, slowest = [], []
    for _ in range(max(1, rounds // 2)):
        connection = Connection(bench.url)
        empty = min(
            bench.timed(connection, Asked("DELETE", f"/courses/{bench.course()}", bench.token, good=202))
            for _ in range(5)
        )
        big = bench.course()
        bench.sql(FILL, big, unique(), ENROLLMENTS, MATERIALS)
        bench.sql("ANALYZE")
        # Nobody keeps an idle connection open for as long as that took.
        connection = Connection(bench.url)
        idle = [bench.timed(connection, bench.edit(other)) for _ in range(EDITS)]
        full = bench.timed(connection, Asked("DELETE", f"/courses/{big}", bench.token, good=202))
        requests.append(full / empty)
        beside = asyncio.run(edits_until_deleted(bench, connection, other, big))
        slowest.append(max(beside) / max(idle))
    return [
        Result("deletion", "delete of 100,000 descendants against an empty one", requests, "times", "<=", 3),
        Result("deletion", "slowest write beside that cascade against idle", slowest, "times", "<=", 5),
    ]


async def edits_until_deleted(bench: Bench, connection: Connection, other: str, deleted: str) -> list[float]:
    """Seconds of each edit of another course, while a cascade runs."""
    database = await asyncpg.connect(bench.system.database_url())
    taken = []
    state = "SELECT state FROM core_deletion WHERE root_id = $1::uuid"
    while await database.fetchval(state, deleted) != "deleted":
        taken.append(bench.timed(connection, bench.edit(other)))
    await database.close()
    return taken


def events(system: System, rounds: int) -> list[Result]:
    """From the answer to a delete until a worker has done what follows, in an idle system."""
    bench = Bench(system)
    course = bench.course()
    taken = asyncio.run(reactions(bench, course))
    medians = [statistics.median(taken)]
    return [Result("events", "from a commit to its handler's effect, idle, median", medians, "ms", "<=", 100)]


async def reactions(bench: Bench, course: str) -> list[float]:
    """Milliseconds, each after a pause."""
    database = await asyncpg.connect(bench.system.database_url())
    taken = []
    for _ in range(REACTIONS):
        page = bench.post("/materials", {"course_id": course, "kind": "page", "title": "Page"})["id"]
        await asyncio.sleep(0.7)
        deletion = one(bench.url, Asked("DELETE", f"/materials/{page}", bench.token, good=202))["id"]
        began = time.perf_counter()
        while await database.fetchval("SELECT state FROM core_deletion WHERE id = $1::uuid", deletion) != "deleted":
            await asyncio.sleep(0.002)
        taken.append((time.perf_counter() - began) * 1000)
    await database.close()
    return taken


def imports(system: System, rounds: int) -> list[Result]:
    """A CSV file of 10,000 users, from the request to the end of its job."""
    bench = Bench(system)
    seconds = []
    for _ in range(max(1, rounds // 2)):
        school = bench.post("/institutions", {"name": "School", "slug": f"s{unique()}"})["id"]
        mark = unique()
        lines = ["email,full_name,role"]
        lines += [f"{mark}{number}@example.org,Person {number},student" for number in range(IMPORTED)]
        content = "\n".join(lines).encode()
        described = {"filename": "people.csv", "content_type": "text/csv", "size": len(content)}
        requested = bench.post("/files", described)
        upload = requested["upload"]
        sent = httpx2.post(upload["url"], data=upload["fields"], files={"file": ("people.csv", content, "text/csv")})
        sent.raise_for_status()
        bench.post(f"/files/{requested['id']}/complete", {}, 202)
        bench.until_ready(requested["id"])
        began = time.perf_counter()
        job = bench.post("/users/import", {"file_id": requested["id"], "institution_id": school}, 202)["id"]
        found = bench.ended(job)
        seconds.append(time.perf_counter() - began)
        assert found["state"] == "done", found
    return [Result("imports", "10,000 users from a CSV file", seconds, "s", "<=", 15)]


def until(condition: Any) -> None:
    """Ask again and again, for two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "That takes too long."
        time.sleep(0.05)


def worker(system: System, rounds: int) -> list[Result]:
    """Deliveries that a worker does in a second of CPU, against a task of plain Celery that changes one row."""
    bench = Bench(system)
    ours, theirs = [], []
    for _ in range(max(1, rounds // 2)):
        course = bench.course()
        pages = bench.sql(
            """
            INSERT INTO materials_material (id, course_id, kind, title, body, position, published)
            SELECT gen_random_uuid(), $1::uuid, 'page', 'Page', '', n, true FROM generate_series(1, $2::int) n
            RETURNING id
            """,
            course,
            TASKS,
        )
        connection = Connection(bench.url)
        before = cpu_of(system.pid("worker"))
        for page in pages:
            bench.timed(connection, Asked("DELETE", f"/materials/{page['id']}", bench.token, good=202))
        until(lambda: bench.sql(PENDING)[0]["n"] == 0)
        ours.append((cpu_of(system.pid("worker")) - before) / TASKS * 1000)
        theirs.append(plain_celery.cpu_ms_of_a_task(system, TASKS))
    return [
        Result("worker", "a delete's cascade, CPU of the worker", ours, "ms"),
        Result("worker", "a task of plain Celery that changes one row, CPU", theirs, "ms"),
        Result("worker", "the one against the other", [a / b for a, b in zip(ours, theirs, strict=True)], "times"),
    ]


def start(system: System, rounds: int) -> list[Result]:
    """`lms --help`, a warm start of everything, and the memory of an API process after work."""
    helps, ups, memory = [], [], []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([*LMS, "--help"], check=True, capture_output=True, cwd=ROOT)
        helps.append(time.perf_counter() - began)
    for _ in range(max(1, rounds // 2)):
        system.down()
        ups.append(system.up())
        bench = Bench(system)
        for _ in range(20):
            one(bench.url, Asked("GET", "/courses?limit=50", bench.token))
        memory.append(memory_of(system.pid("api")))
    return [
        Result("start", "lms --help", helps, "s", "<=", 0.4),
        Result("start", "up, warm, to ready", ups, "s", "<=", 6),
        Result("start", "memory of an API process", memory, "MiB", "<=", 150),
    ]
