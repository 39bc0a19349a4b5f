"""The bars of writes: an enrollment against the same SQL sent raw, many at once, and logins beside reads."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

from benchmarks import data
from benchmarks.bars_of_reads import CONNECTIONS, MANY, Measure, against, interleaved
from benchmarks.load import Asked, bearer, drive, one, posted, signing_in
from benchmarks.raw import TOKEN
from benchmarks.results import Result
from benchmarks.system import EMAIL, PASSWORD, Served, System, unique

COURSES = 400
PAIRS = 100_000
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
    pairs = ((course, user) for user, course in itertools.product(users, some))
    return list(itertools.islice((pair for pair in pairs if pair not in taken), PAIRS))


def enroll(system: System, rounds: int) -> list[Result]:
    """`POST /enrollments` against the statements of it, sent raw: with its period, event and audit rows."""
    database = system.sized(MANY)
    ours, raw = (
        system.serve("small api", system.sized(MANY)),
        system.reference("small raw", "raw:create", system.sized(MANY)),
    )
    tokens = {ours: bearer(system.token(ours.url)), raw: bearer(TOKEN)}
    pairs = iter(new_pairs(system, database))

    def asked(served: Served) -> Asked:
        course, user = next(pairs)
        return posted("/enrollments", {"course_id": course, "user_id": user, "role": "student"}, tokens[served])

    def asking(served: Served) -> Measure:
        pids = {"process": served.pid, "PostgreSQL": system.pid("postgres")}
        return lambda seconds: drive(
            served.url, lambda _: asked(served).on(served.url), 201, seconds, CONNECTIONS, pids
        )

    # It is near its bar, and machines waver.
    samples = interleaved({served.url: asking(served) for served in tokens}, rounds * 3)
    statements = {
        served: system.statements_of(served, database, [asked(served) for _ in range(10)]) for served in tokens
    }
    counts = {"statements": statements[ours], "of raw": statements[raw]}
    return against("enroll", "an enrollment against raw", samples[ours.url], samples[raw.url], 0.6, **counts)


def bulk(system: System, rounds: int) -> list[Result]:
    """10,000 enrollments in one request, the same again, and how long others wait meanwhile on the same process.

    The course is one that PostgreSQL has no statistics of yet, as every course is at first.
    """
    database = system.sized(MANY)
    ours = system.serve("small api", system.sized(MANY))
    token = bearer(system.token(ours.url))
    people = asyncio.run(data.ids(system.database_url(database), "user", 1, BULK))
    [school] = asyncio.run(data.ids(system.database_url(database), "institution", 1, 1))
    seconds, again, stalls = [], [], []
    for _ in range(rounds):
        course = one(ours.url, posted("/courses", {"institution_id": school, "code": unique(), "title": "Big"}, token))
        body = {"course_id": course["id"], "role": "student", "user_ids": people}
        with Beside(ours, Asked("GET", f"/courses/{course['id']}", token)) as beside:
            began = time.perf_counter()
            answer = one(ours.url, posted("/enrollments/bulk", body, token, good=200))
            seconds.append(time.perf_counter() - began)
        assert answer["counts"] == {"created": BULK}, answer["counts"]
        stalls.append(max(beside.latencies) * 1000)
        began = time.perf_counter()
        answer = one(ours.url, posted("/enrollments/bulk", body, token, good=200))
        again.append(time.perf_counter() - began)
        assert answer["counts"] == {"exists": BULK}, answer["counts"]
    return [
        Result("bulk", "10,000 enrollments in one request", seconds, "s", "<=", 3),
        Result("bulk", "the same again", again, "s", "<=", 3),
        Result("bulk", "slowest read on the same process meanwhile", stalls, "ms"),
    ]


class Beside:
    """Sends a request again and again on one connection while the block runs."""

    def __init__(self, served: Served, asked: Asked) -> None:
        self.served, self.asked = served, asked
        self.latencies: list[float] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        """Until the block is over."""
        request = self.asked.on(self.served.url)
        while not self.over.is_set():
            self.latencies += drive(self.served.url, lambda _: request, self.asked.good, 0.05, 1, {}).latencies

    def __enter__(self) -> Beside:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def logins(system: System, rounds: int) -> list[Result]:
    """How long others wait at most while 50 people sign in at once."""
    ours = system.serve("small api", system.sized(MANY))
    token = bearer(system.token(ours.url))
    login = signing_in(EMAIL, PASSWORD).on(ours.url)
    reads, alone = [], []
    read = Asked("GET", "/users/me", token).on(ours.url)
    for _ in range(rounds):
        alone.append(drive(ours.url, lambda _: read, 200, LOGIN_SECONDS / 3, 1, {}).at(0.99))
        with Beside(ours, Asked("GET", "/users/me", token)) as beside:
            drive(ours.url, lambda _: login, 200, LOGIN_SECONDS, LOGINS, {})
        ordered = sorted(beside.latencies)
        reads.append(ordered[int(len(ordered) * 0.99)] * 1000)
    return [
        Result("logins", "99 % of reads beside 50 parallel logins", reads, "ms", "<=", 20),
        Result("logins", "99 % of reads alone", alone, "ms"),
    ]
