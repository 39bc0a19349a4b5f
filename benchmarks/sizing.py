"""What one request, one piece of background work and one row cost: the figures of docs/operations.md and docs/scaling.md.

A school of 1,000 students in 50 courses, each sort of request from 16 connections. CPU is what the operating system says
that the processes have used, so it holds on a machine with more cores, and with the client beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.bars_of_work import PENDING
from benchmarks.load import Asked, Connection, bearer, cpu_of, drive, memory_of, one, posted, signing_in
from benchmarks.results import Result
from benchmarks.system import PASSWORD, System, unique

CONNECTIONS = 16
SECONDS = 4.0
COURSES, STUDENTS, PAGES = 50, 1_000, 20
DELETED = 500
SIGN_INS_EACH = 10
PROCESSES = {"API": "api", "PostgreSQL": "postgres", "Redis": "redis", "relay": "relay", "worker": "worker"}
TABLES = (
    "users_user",
    "enrollments_enrollment",
    "enrollments_period",
    "materials_material",
    "materials_text",
    "materials_submission",
    "core_event",
    "core_delivery",
    "core_audit_entry",
)


class School:
    """A school with students in courses with pages, made through HTTP."""

    def __init__(self, system: System) -> None:
        self.system, self.url = system, system.url
        self.admin = bearer(system.token(system.url))
        school = self.post("/institutions", {"name": "School", "slug": f"s{unique()}"})["id"]
        mark, role = unique(), [{"role": "student", "institution_id": school}]
        self.id, self.emails = school, [f"{mark}{number}@example.org" for number in range(CONNECTIONS)]
        people = []
        for number in range(STUDENTS):
            body: dict[str, Any] = {"full_name": "Student", "roles": role, "email": f"{mark}{number}@example.org"}
            if number < CONNECTIONS:
                body["password"] = PASSWORD
            people.append(self.post("/users", body)["id"])
        self.courses, self.pages = [], []
        for number in range(COURSES):
            course = self.post(
                "/courses", {"institution_id": school, "code": f"C{number}", "title": f"Course {number}"}
            )
            one(self.url, posted(f"/courses/{course['id']}", {"state": "published"}, self.admin, 200, "PATCH"))
            bulk = {"course_id": course["id"], "role": "student", "user_ids": people}
            one(self.url, posted("/enrollments/bulk", bulk, self.admin, 200))
            page = {"course_id": course["id"], "kind": "page", "body": "Words. " * 300, "published": True}
            self.pages += [self.post("/materials", {**page, "title": f"Page {title}"})["id"] for title in range(PAGES)]
            self.courses.append(course["id"])
        essay = {"course_id": self.courses[0], "kind": "assignment", "title": "Essay", "published": True}
        self.essay = self.post("/materials", {**essay, "assignment": {"points": 10, "attempts": None}})["id"]
        self.settle()
        self.students = [bearer(system.token(self.url, email)) for email in self.emails]

    def post(self, path: str, body: object) -> Any:
        """What was made."""
        return one(self.url, posted(path, body, self.admin))

    def settle(self) -> None:
        """Until nothing is left to be done in the background."""
        url = self.system.database_url()
        asyncio.run(self.system.execute(url, "ANALYZE"))
        while asyncio.run(self.system.fetch(url, PENDING))[0]["n"]:
            time.sleep(0.05)

    def measured(self, name: str, make: Callable[[int], Asked]) -> Result:
        """Milliseconds of CPU of the API process for each request, and of the others."""
        pids = {title: self.system.pid(process) for title, process in PROCESSES.items()}
        good = make(0).good
        sample = drive(self.url, lambda n: make(n + 1).on(self.url), good, SECONDS, CONNECTIONS, pids)
        others = {title: sample.cpu_ms(title) for title in PROCESSES if title != "API" and sample.cpu_ms(title) > 0.005}
        latencies = {"per second": sample.per_second, "ms at 50 %": sample.at(0.5), "ms at 99 %": sample.at(0.99)}
        return Result("sizes", name, [sample.cpu_ms("API")], "ms of API", details={**others, **latencies})


def sizes(system: System, rounds: int) -> list[Result]:
    """All of it."""
    school = School(system)
    student, courses = school.students[0], school.courses
    read = {
        "read a course": lambda n: Asked("GET", f"/courses/{courses[n % COURSES]}", student),
        "read a page of 2 KiB": lambda n: Asked("GET", f"/materials/{school.pages[n % len(school.pages)]}", student),
        "list 50 courses": lambda n: Asked("GET", "/courses?mine=true", student),
        "list a course's 20 materials": lambda n: Asked("GET", f"/materials?course_id={courses[n % COURSES]}", student),
        "search a course": lambda n: Asked("GET", f"/materials/search?q=words&course_id={courses[n % COURSES]}", student),
    }  # fmt: skip
    essays = f"/materials/{school.essay}/submissions"
    upload = {"filename": "a.txt", "content_type": "text/plain", "size": 1000, "course_id": courses[0]}
    course = {"institution_id": school.id, "title": "Empty"}
    written = {
        "hand in an essay": lambda n: posted(essays, {"body": f"Essay {n}"}, school.students[n % CONNECTIONS]),
        "ask for an upload": lambda n: posted("/files", upload, school.students[n % CONNECTIONS]),
        "create a course": lambda n: posted("/courses", {**course, "code": unique()}, school.admin),
    }
    results = [school.measured("sign in", lambda n: signing_in(school.emails[0], PASSWORD))]
    results += [school.measured(name, make) for name, make in {**read, **written}.items()]
    results += [strangers(school), cascades(school)]
    for title, process in {**PROCESSES, "scheduler": "scheduler"}.items():
        results.append(Result("sizes", f"memory of {title}", [memory_of(system.pid(process))], "MiB"))
    return results + [bytes_of_a_row(system, table) for table in TABLES]


def strangers(school: School) -> Result:
    """Milliseconds of the API for a caller whom the process does not know: what the first request with a token takes more."""
    signed_in = [one(school.url, signing_in(email, PASSWORD)) for email in school.emails for _ in range(SIGN_INS_EACH)]
    asked = [Asked("GET", f"/courses/{school.courses[0]}", bearer(each["access_token"])) for each in signed_in]
    spent: dict[str, list[float]] = {"api": [], "postgres": []}
    for _ in ("not known", "known"):
        before = {process: cpu_of(school.system.pid(process)) for process in spent}
        for each in asked:
            one(school.url, each)
        for process, found in spent.items():
            found.append((cpu_of(school.system.pid(process)) - before[process]) / len(asked) * 1000)
    api, postgres = (first - again for first, again in spent.values())
    return Result(
        "sizes", "a caller whom the process does not know", [api], "ms of API", details={"PostgreSQL": postgres}
    )


def cascades(school: School) -> Result:
    """Milliseconds of a worker for the cascade of a course with nothing in it."""
    system, url = school.system, school.system.database_url()
    living = f"SELECT id FROM courses_course WHERE title = 'Empty' AND NOT is_deleted LIMIT {DELETED}"
    made = asyncio.run(system.fetch(url, living))
    school.settle()
    before, connection = cpu_of(system.pid("worker")), Connection(school.url)
    for row in made:
        connection.send(Asked("DELETE", f"/courses/{row['id']}", school.admin).on(school.url), 202)
        while connection.answer() is None:
            pass
    school.settle()
    spent = (cpu_of(system.pid("worker")) - before) / len(made) * 1000
    return Result("sizes", "a cascade (a course without anything in it)", [spent], "ms of a worker")


def bytes_of_a_row(system: System, table: str) -> Result:
    """With its indexes."""
    url = system.database_url()
    asyncio.run(system.execute(url, f"VACUUM ANALYZE {table}"))
    asked = f"SELECT count(*)::float AS n, pg_total_relation_size('{table}')::float AS size FROM {table}"
    found = asyncio.run(system.fetch(url, asked))[0]
    rows = {"rows": found["n"]}
    return Result("sizes", f"a row of {table}", [found["size"] / max(1, found["n"])], "bytes", details=rows)
