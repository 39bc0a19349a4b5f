"""What still works, and what fails how, while an engine is away: each of them refused, and frozen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from browser import described, finish, send_form, upload
from faulty_proxy import Fault, Proxies, proxies

from lms_core.db import WATCH_INTERVAL_SECONDS
from lms_core.operations import CACHED_SECONDS
from lms_core.platform import Platform
from lms_core.testing import PASSWORD, Caller, Lms, School, application

pytestmark = pytest.mark.anyio

FAULTS: list[Fault] = ["refuses", "swallows"]
ANSWERED_SECONDS = 2.0
"""Within which everything is answered while Redis is away."""
REFUSED_SECONDS = 3.0
"""Within which a request says that the database is away."""
BACK_SECONDS = 5.0
"""Within which everything works again after the database's return."""
CONTENT = b"Words that somebody hands in."
TEXT = ("text/plain", "words.txt")


@pytest.fixture(scope="module")
def between() -> Iterator[Proxies]:
    with proxies() as found:
        yield found


@pytest.fixture(scope="module")
async def exposed(lms: Lms, platform: Platform, between: Proxies) -> AsyncIterator[Lms]:
    """The application, with something between it and each of its engines; clients reach the store directly."""

    def through(name: str, url: str) -> str:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}{between.before(name, parts.hostname, parts.port)}"))

    before = platform.settings
    platform.settings = before.model_copy(
        update={
            "database_url": through("postgres", before.database_url),
            "redis_url": through("redis", before.redis_url),
            "s3_public_endpoint": before.s3_public_endpoint or before.s3_endpoint,
            "s3_endpoint": through("s3", before.s3_endpoint),
            "rate_limit": "1000000/hour",
        }
    )
    try:
        async with application(platform) as running:
            yield running
    finally:
        platform.settings = before


@asynccontextmanager
async def away(between: Proxies, engine: str, fault: Fault) -> AsyncIterator[None]:
    between.become(engine, fault)
    try:
        yield
    finally:
        between.become(engine, None)


@dataclass
class Request:
    """Something that people do."""

    what: str
    send: Callable[[Lms, School], Awaitable[httpx2.Response]]
    expected: int


async def sign_in(lms: Lms, school: School) -> httpx2.Response:
    return await lms.client.post("/auth/login", data={"username": school.student.email, "password": PASSWORD})


async def refresh(lms: Lms, school: School) -> httpx2.Response:
    signed_in = await sign_in(lms, school)
    if signed_in.status_code != 200:
        return signed_in
    return await lms.client.post("/auth/refresh", json={"refresh_token": signed_in.json()["refresh_token"]})


async def read(lms: Lms, school: School) -> httpx2.Response:
    return await school.student.get(f"/courses/{school.course['id']}")


async def list_courses(lms: Lms, school: School) -> httpx2.Response:
    return await school.teacher.get("/courses", params={"institution_id": school.institution["id"]})


async def create(lms: Lms, school: School) -> httpx2.Response:
    body = {"institution_id": school.institution["id"], "code": uuid4().hex[:12], "title": "New"}
    return await school.principal.post("/courses", body, headers={"Idempotency-Key": uuid4().hex})


async def change(lms: Lms, school: School) -> httpx2.Response:
    return await school.teacher.patch(f"/courses/{school.course['id']}", {"title": uuid4().hex})


async def remove(lms: Lms, school: School) -> httpx2.Response:
    made = await create(lms, school)
    return made if made.status_code != 201 else await school.principal.delete(f"/courses/{made.json()['id']}")


async def presign(lms: Lms, school: School) -> httpx2.Response:
    body = described(CONTENT, *TEXT, course_id=school.course["id"])
    return await school.teacher.post("/files", body)


async def health_is_degraded(lms: Lms, school: School) -> httpx2.Response:
    answer = await lms.client.get("/health")
    assert answer.json()["status"] in ("degraded", "ok"), answer.text
    return answer


EVERYTHING = [
    Request("sign in", sign_in, 200),
    Request("refresh", refresh, 200),
    Request("read", read, 200),
    Request("list", list_courses, 200),
    Request("create", create, 201),
    Request("change", change, 200),
    Request("delete", remove, 202),
    Request("presign", presign, 201),
    Request("ready", lambda lms, school: lms.client.get("/health/ready"), 200),
    Request("metrics", lambda lms, school: lms.client.get("/metrics"), 200),
    Request("health", health_is_degraded, 200),
]


async def everything_works(lms: Lms, school: School) -> None:
    for request in EVERYTHING:
        started = time.monotonic()
        answer = await request.send(lms, school)
        assert answer.status_code == request.expected, (request.what, answer.text)
        # Some are two requests.
        assert time.monotonic() - started < 2 * ANSWERED_SECONDS, request.what


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_redis_everything_is_answered_and_work_waits(
    exposed: Lms, between: Proxies, fault: Fault
) -> None:
    school = await exposed.make_school()
    async with away(between, "redis", fault):
        await everything_works(exposed, school)
        deleted = await school.principal.delete(f"/courses/{school.course['id']}")
        assert deleted.status_code == 202
        assert (await read(exposed, school)).status_code == 404
        waiting = "SELECT count(*) AS n FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"
        assert (await exposed.sql(waiting))[0]["n"] > 0
    await exposed.work_off()
    done = await school.principal.get(f"/deletions/{deleted.json()['id']}")
    assert done.json()["state"] == "deleted"


@pytest.mark.parametrize("fault", FAULTS)
async def test_rate_limits_are_never_open(lms: Lms, between: Proxies, exposed: Lms, fault: Fault) -> None:
    platform = exposed.context.platform
    before = platform.settings
    platform.settings = before.model_copy(update={"rate_limit": "5/hour"})
    school = await lms.make_school()
    try:
        async with application(platform) as limited, away(between, "redis", fault):
            asked = [await limited.client.get("/users/me", headers=school.student.headers) for _ in range(7)]
    finally:
        platform.settings = before
    assert [answer.status_code for answer in asked] == [200] * 5 + [429] * 2


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_the_store_only_what_needs_it_fails(exposed: Lms, between: Proxies, fault: Fault) -> None:
    school = await exposed.make_school()
    ready = await finish(exposed, school.teacher, CONTENT, *TEXT, course_id=school.course["id"])
    assert ready["state"] == "ready"
    waiting = await upload(school.teacher, CONTENT + b" Others.", *TEXT, course_id=school.course["id"])
    async with away(between, "s3", fault):
        await everything_works(exposed, school)
        # The address is signed here; whether the store is there is between it and the reader.
        assert (await school.teacher.get(f"/files/{ready['id']}/download")).status_code == 200
        requested = (await presign(exposed, school)).json()
        assert (await send_form(requested["upload"], CONTENT)).status_code == 204
        refused = await school.teacher.post(f"/files/{requested['id']}/complete")
        assert (refused.status_code, refused.json()["code"]) == (503, "store_away"), refused.text
        assert refused.headers["retry-after"]
        await exposed.work_off()
        states = [(await school.teacher.get(f"/files/{one['id']}")).json()["state"] for one in (requested, waiting)]
        assert states[0] == "requested"
        assert states[1] in ("uploaded", "verifying")
    assert (await school.teacher.post(f"/files/{requested['id']}/complete")).status_code == 202
    await exposed.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE done_at IS NULL RETURNING id")
    await exposed.work_off()
    for one in (requested, waiting):
        assert (await school.teacher.get(f"/files/{one['id']}")).json()["state"] == "ready"


@pytest.mark.parametrize("fault", FAULTS)
async def test_without_the_database_requests_say_so_and_come_back(exposed: Lms, between: Proxies, fault: Fault) -> None:
    school = await exposed.make_school()
    async with away(between, "postgres", fault):
        for request in EVERYTHING:
            started = time.monotonic()
            if request.what == "health":
                answer = await exposed.client.get("/health")
                assert (answer.status_code, answer.json()["status"]) == (503, "down")
                continue
            answer = await request.send(exposed, school)
            assert answer.status_code == (200 if request.what == "metrics" else 503), (request.what, answer.text)
            if request.what != "metrics":
                assert answer.headers["retry-after"]
                assert time.monotonic() - started < REFUSED_SECONDS, request.what
        assert (await exposed.client.get("/health/live")).status_code == 200
    deadline = time.monotonic() + BACK_SECONDS
    while (await read(exposed, school)).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await asyncio.sleep(CACHED_SECONDS)
    await everything_works(exposed, school)


async def test_who_does_not_answer_the_watch_is_away_at_once(exposed: Lms, between: Proxies) -> None:
    database = exposed.context.database

    async def until_watching(wanted: bool) -> None:
        while database.watching is not wanted:
            await asyncio.sleep(0.01)

    await until_watching(True)
    async with away(between, "postgres", "swallows"):
        await until_watching(False)
        assert database.away
    await until_watching(True)


async def test_a_watch_that_is_cut_off_alone_is_no_outage(exposed: Lms) -> None:
    school = await exposed.make_school()
    database = exposed.context.database
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lms watch' AND datname = current_database()"
    # On a connection of its own: the process ends all of its own as soon as it notices.
    apart = await asyncpg.connect(exposed.context.settings.database_url)
    assert await apart.fetch(cut)
    await apart.close()
    answers, deadline = [], time.monotonic() + 3 * WATCH_INTERVAL_SECONDS
    while time.monotonic() < deadline or not database.watching:
        answers.append((await read(exposed, school)).status_code)
        await asyncio.sleep(0.01)
    # What is under way at that moment is cut off: its connection may lead to a server that is not there any more.
    assert answers.count(200) >= len(answers) - 1, answers


async def test_without_workers_everything_is_answered_and_files_and_cascades_wait(exposed: Lms) -> None:
    """Nobody works off here until the end."""
    school = await exposed.make_school()
    await everything_works(exposed, school)
    file = await upload(school.teacher, CONTENT, *TEXT, course_id=school.course["id"])
    assert (await school.teacher.get(f"/files/{file['id']}")).json()["state"] == "uploaded"
    too_early = await school.teacher.get(f"/files/{file['id']}/download")
    assert (too_early.status_code, too_early.json()["code"]) == (409, "file_not_ready")
    deleted = (await school.principal.delete(f"/courses/{school.course['id']}")).json()
    assert deleted["state"] == "cascading"
    gone: list[tuple[Caller, str]] = [
        (school.student, f"/courses/{school.course['id']}"),
        (school.teacher, f"/files/{file['id']}"),
    ]
    for caller, path in gone:
        assert (await caller.get(path)).status_code == 404
    listed: list[Any] = await school.principal.items("/enrollments", course_id=school.course["id"])
    assert listed == []
    await exposed.work_off()
    assert (await school.principal.get(f"/deletions/{deleted['id']}")).json()["state"] == "deleted"
