"""What one request, one sign-in, one piece of background work and one row cost: the figures of docs/operations.md.

    python benchmarks/sizing.py

Starts a system of its own (`lms up`) in a temporary folder, fills it with a school of 1,000 students in 50 courses, and
sends each sort of request from 16 connections. CPU is what the operating system says that the processes have used, so it
holds on a machine with more cores, and with the client beside it; latencies are those of this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import asyncpg
import psutil

EMAIL, PASSWORD = "admin@example.org", "correct horse battery staple"
CONNECTIONS = 16
SECONDS = 8.0
COURSES, STUDENTS = 50, 1_000
PENDING = "SELECT count(*) FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"
DONE = "SELECT count(*) FROM core_delivery WHERE done_at IS NOT NULL"


@dataclass
class Asked:
    """One request as bytes, and how to make the next one."""

    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def written(self, host: str) -> bytes:
        """HTTP/1.1 on a connection that stays open."""
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Client:
    """A client that costs little: it reads a status and a length, and no more."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.address, self.host = (parts.hostname, parts.port), parts.netloc

    async def send(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], asked: Asked
    ) -> tuple[int, bytes]:
        """The status and the body."""
        reader, writer = connection
        writer.write(asked.written(self.host))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        return int(head.split(" ", 2)[1]), await reader.readexactly(length)

    async def one(self, asked: Asked) -> dict[str, object]:
        """One request that must succeed, and its JSON."""
        connection = await asyncio.open_connection(*self.address)
        status, body = await self.send(connection, asked)
        connection[1].close()
        assert status < 300, (asked.path, status, body)
        found: dict[str, object] = json.loads(body or b"null")
        return found


def cpu_of(pids: list[int]) -> float:
    """Seconds of CPU of processes and all their children, those that ended included."""
    total = 0.0
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def memory_of(pid: int) -> float:
    """MiB that a process and its children have for themselves."""
    processes = (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))
    return sum(process.memory_full_info().uss for process in processes) / 1024**2


async def measure(client: Client, name: str, pids: dict[str, int], make: Callable[[int], Asked], good: int) -> None:
    """Send for some seconds, and print requests per second, CPU per request, and latencies."""
    took: list[float] = []
    counter = iter(range(10_000_000))
    before = {process: cpu_of([pid]) for process, pid in pids.items()}
    started = time.perf_counter()

    async def work() -> None:
        connection = await asyncio.open_connection(*client.address)
        while time.perf_counter() < started + SECONDS:
            begun = time.perf_counter()
            status, body = await client.send(connection, make(next(counter)))
            assert status == good, (name, status, body)
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    elapsed = time.perf_counter() - started
    cost = {process: (cpu_of([pid]) - before[process]) / len(took) * 1000 for process, pid in pids.items()}
    quantiles = statistics.quantiles(took, n=100)
    costs = ", ".join(f"{process} {value:.2f}" for process, value in cost.items() if value >= 0.005)
    print(
        f"{name:32} {len(took) / elapsed:7.0f}/s   CPU ms: {costs}   "
        f"ms at 50 %: {quantiles[49] * 1000:.1f}, at 99 %: {quantiles[98] * 1000:.1f}",
        flush=True,
    )


async def rows(database: asyncpg.Connection, table: str) -> str:
    """Bytes of a row with its indexes."""
    await database.execute(f"VACUUM ANALYZE {table}")
    found = await database.fetchrow(f"SELECT count(*) AS n, pg_total_relation_size('{table}') AS size FROM {table}")
    return f"{found['size'] / max(1, found['n']):.0f} bytes ({found['n']} rows)"


async def run(url: str, pids: dict[str, int], database_url: str) -> None:
    """All of it."""
    client = Client(url)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def signing_in(email: str) -> Asked:
        return Asked("POST", "/auth/login", urlencode({"username": email, "password": PASSWORD}).encode(), form)

    async def token(email: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {(await client.one(signing_in(email)))['access_token']}"}

    admin = await token(EMAIL)

    def post(path: str, body: object, headers: dict[str, str] = admin) -> Asked:
        return Asked("POST", path, json.dumps(body).encode(), {**headers, "Content-Type": "application/json"})

    school = (await client.one(post("/institutions", {"name": "School", "slug": uuid4().hex})))["id"]
    role = [{"role": "student", "institution_id": school}]
    first = {"full_name": "Student", "password": PASSWORD, "roles": role}
    people = []
    for number in range(STUDENTS):
        body = {**first, "email": f"s{number}@example.org"}
        if number >= CONNECTIONS:
            del body["password"]
        people.append((await client.one(post("/users", body)))["id"])
    courses, materials = [], []
    for number in range(COURSES):
        body = {"institution_id": school, "code": f"C{number}", "title": f"Course {number}", "capacity": None}
        id = (await client.one(post("/courses", body)))["id"]
        await client.one(
            Asked("PATCH", f"/courses/{id}", b'{"state":"published"}', {**admin, "Content-Type": "application/json"})
        )
        bulk = {"course_id": id, "role": "student", "user_ids": people}
        await client.one(post("/enrollments/bulk", bulk))
        for title in range(20):
            page = {
                "course_id": id,
                "kind": "page",
                "title": f"Page {title}",
                "body": "Words. " * 300,
                "published": True,
            }
            materials.append((await client.one(post("/materials", page)))["id"])
        courses.append(id)
    assignment = {
        "course_id": courses[0],
        "kind": "assignment",
        "title": "Essay",
        "published": True,
        "assignment": {"points": 10, "attempts": None},
    }
    essay = (await client.one(post("/materials", assignment)))["id"]
    database = await asyncpg.connect(database_url)
    await database.execute("ANALYZE")
    while await database.fetchval(PENDING):
        await asyncio.sleep(0.5)
    students = [await token(f"s{number}@example.org") for number in range(CONNECTIONS)]
    student = students[0]
    api = {"API": pids["api"], "PostgreSQL": pids["postgres"], "others": pids["redis"]}
    get = {**student}
    await measure(client, "sign in", api, lambda n: signing_in("s0@example.org"), 200)
    await measure(
        client, "read a course", api, lambda n: Asked("GET", f"/courses/{courses[n % COURSES]}", headers=get), 200
    )
    await measure(
        client,
        "read a page of 2 KiB",
        api,
        lambda n: Asked("GET", f"/materials/{materials[n % len(materials)]}", headers=get),
        200,
    )
    await measure(client, "list 50 courses", api, lambda n: Asked("GET", "/courses?mine=true", headers=get), 200)
    await measure(
        client,
        "list a course's 20 materials",
        api,
        lambda n: Asked("GET", f"/materials?course_id={courses[n % COURSES]}", headers=get),
        200,
    )
    await measure(
        client,
        "search a course",
        api,
        lambda n: Asked("GET", f"/materials/search?q=words&course_id={courses[n % COURSES]}", headers=get),
        200,
    )
    every = {**api, "relay": pids["relay"], "worker": pids["worker"]}
    await measure(
        client,
        "hand in an essay",
        every,
        lambda n: post(f"/materials/{essay}/submissions", {"body": f"Essay {n}"}, students[n % CONNECTIONS]),
        201,
    )
    upload = {"filename": "a.txt", "content_type": "text/plain", "size": 1000, "course_id": courses[0]}
    await measure(client, "ask for an upload", every, lambda n: post("/files", upload, students[n % CONNECTIONS]), 201)
    await measure(
        client,
        "create a course",
        every,
        lambda n: post("/courses", {"institution_id": school, "code": uuid4().hex[:12], "title": "T"}),
        201,
    )
    made = await database.fetch("SELECT id FROM courses_course WHERE title = 'T' LIMIT 1000")
    before, done_before = cpu_of([pids["worker"]]), await database.fetchval(DONE)
    connection = await asyncio.open_connection(*client.address)
    for course in made:
        assert (await client.send(connection, Asked("DELETE", f"/courses/{course['id']}", headers=admin)))[0] == 202
    started, waited = time.perf_counter(), await database.fetchval(PENDING)
    while await database.fetchval(PENDING):
        await asyncio.sleep(0.2)
    seconds, done = time.perf_counter() - started, await database.fetchval(DONE) - done_before
    cost = (cpu_of([pids["worker"]]) - before) / done * 1000
    print(f"{'background work (a cascade)':32} {waited / max(seconds, 0.1):7.0f}/s   CPU ms: worker {cost:.1f}")
    for name in ("api", "worker", "relay", "scheduler"):
        print(f"memory of {name}: {memory_of(pids[name]):.0f} MiB")
    for table in (
        "users_user",
        "enrollments_enrollment",
        "enrollments_period",
        "materials_material",
        "materials_submission",
        "core_event",
        "core_delivery",
        "core_audit_entry",
    ):
        print(f"{table}: {await rows(database, table)}")
    await database.close()


def main() -> None:
    """Start, measure, stop."""
    with tempfile.TemporaryDirectory(prefix="lms-sizing-") as folder:
        environment = {**os.environ, "LMS_ADMIN_EMAIL": EMAIL, "LMS_ADMIN_PASSWORD": PASSWORD}
        command = [sys.executable, "-m", "lms_core.cli", "up", "--data", folder, "--port", "0"]
        running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert running.stdout is not None
            url = next(line.split()[1] for line in running.stdout if line.startswith("Ready: "))
            status = json.loads((Path(folder) / "status.json").read_text())
            pids = {name: process["pid"] for name, process in status["processes"].items()}
            asyncio.run(run(url, pids, status["database_url"]))
        finally:
            running.terminate()
            running.wait(60)


if __name__ == "__main__":
    main()
