"""The bars of writes: an enrollment against the same SQL sent raw, many at once, and logins beside reads."""

from __future__ import annotations

import asyncio
import itertools

from benchmarks import data
from benchmarks.bars_of_reads import CONNECTIONS, MANY, SECONDS, against
from benchmarks.load import Asked, Sample, bearer, drive, posted
from benchmarks.raw import TOKEN
from benchmarks.results import Result
from benchmarks.system import Served, System

COURSES = 400
BULK = 10_000
LOGINS = 50
LOGIN_SECONDS = 3.0


def new_pairs(system: System, database: str) -> list[tuple[str, str]]:
    """Courses with people who are in none of them, in an order in which neighbours do not wait for each other."""
    url = system.database_url(database)
    users = asyncio.run(data.ids(url, "user", 1, MANY // 10))
    courses = asyncio.run(data.ids(url, "course", 1, MANY))
    taken = {
        (str(row["course_id"]), str(row["user_id"]))
        for row in asyncio.run(system.fetch(url, "SELECT course_id, user_id FROM enrollments_enrollment"))
    }
    some = [id for number, id in enumerate(courses, 1) if number % 10][-COURSES:]
    pairs = itertools.product(users, some)
    return [(course, user) for user, course in itertools.islice(pairs, 200_000) if (course, user) not in taken]


def enroll(system: System, rounds: int) -> list[Result]:
    """`POST /enrollments` against the statements of it, sent raw: with its period, event and audit rows."""
    database = system.sized(MANY)
    ours, raw = system.serve("small api", MANY), system.reference("small raw", "raw:create", MANY)
    tokens = {ours: bearer(system.token(ours.url)), raw: bearer(TOKEN)}
    pairs = iter(new_pairs(system, database))
    pids = {each: {"process": each.pid, "PostgreSQL": system.pid("postgres")} for each in tokens}

    def asked(served: Served) -> Asked:
        course, user = next(pairs)
        return posted("/enrollments", {"course_id": course, "user_id": user, "role": "student"}, tokens[served])

    def round_of(served: Served, seconds: float) -> Sample:
        return drive(served.url, lambda _: asked(served).on(served.url), 201, seconds, CONNECTIONS, pids[served])

    for served in tokens:
        round_of(served, 1.0)
    samples: dict[Served, list[Sample]] = {served: [] for served in tokens}
    for _ in range(rounds):
        for served in tokens:
            samples[served].append(round_of(served, SECONDS))
    statements = {
        served: system.statements_of(served, database, [asked(served) for _ in range(10)]) for served in tokens
    }
    counts = {"statements": statements[ours], "of raw": statements[raw]}
    return against("enroll", "an enrollment against raw", samples[ours], samples[raw], 0.6, **counts)
