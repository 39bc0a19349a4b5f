"""Health, metrics, logs and engines that are away."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from random import choice
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from running import free_port
from sqlalchemy.exc import DBAPIError

from lms_core import heartbeats, inputs, operations
from lms_core.errors import Unavailable
from lms_core.http import database_problem
from lms_core.logs import Redaction, access_log
from lms_core.measures import Measures
from lms_core.relay import Relay
from lms_core.scheduler import run_scheduler
from lms_core.testing import PASSWORD, Lms, School, application
from lms_core.worker import CelerySender

pytestmark = pytest.mark.anyio


async def metric(lms: Lms, start: str) -> float:
    lines = (await lms.client.get("/metrics")).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


async def test_health_names_every_check(lms: Lms) -> None:
    await lms.sql("UPDATE core_delivery SET done_at = now() WHERE dead_at IS NOT NULL")
    await beat(lms, relay=1, scheduler=1, worker=1)
    await asyncio.sleep(operations.CACHED_SECONDS + 0.1)
    answer = await lms.client.get("/health")
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["status"] == "ok", report
    names = {(check["plugin"], check["name"]) for check in report["checks"]}
    assert {("core", "database"), ("core", "redis"), ("core", "deliveries"), ("files", "store")} <= names
    assert set(report["system"]) == {"cpu_percent", "load", "memory_percent", "uptime_s"}


async def test_strangers_in_production_learn_nothing(lms: Lms) -> None:
    settings = lms.context.settings.model_copy(update={"env": "production", "metrics_token": "a-metrics-token"})
    platform = lms.context.platform
    before, platform.settings = platform.settings, settings
    try:
        async with application(platform) as running:
            through_a_proxy = {"X-Forwarded-For": "203.0.113.9"}
            answer = await running.client.get("/health", headers=through_a_proxy)
            assert set(answer.json()) == {"status"}
            other_container: Any = httpx2.ASGITransport(running.client._transport.app, client=("172.18.0.5", 1))
            async with httpx2.AsyncClient(transport=other_container, base_url="http://test") as proxy:
                assert (await proxy.get("/metrics")).status_code == 403
            assert (await running.client.get("/metrics", headers=through_a_proxy)).status_code == 403
            token = {**through_a_proxy, "Authorization": "Bearer a-metrics-token"}
            assert "checks" in (await running.client.get("/health", headers=token)).json()
            assert (await running.client.get("/metrics", headers=token)).status_code == 200
    finally:
        platform.settings = before


async def test_ten_thousand_random_paths_add_no_series(lms: Lms) -> None:
    await lms.client.get(f"/{uuid4()}")
    before = (await lms.client.get("/metrics")).text.count("\n")
    edge: Any = lms.client._transport

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        """Nobody listens."""

    sent = {"type": "http", "query_string": b"", "http_version": "1.1", "headers": [], "client": ("127.0.0.1", 1),
            "server": ("test", 80), "scheme": "http", "root_path": ""}  # fmt: skip
    for _ in range(10_000):
        path = choice([f"/{uuid4()}/{uuid4()}", f"/courses/{uuid4()}", f"/files/{uuid4()}/download"])
        await edge.app({**sent, "method": choice(["GET", "DELETE", uuid4().hex]), "path": path}, receive, send)
    await lms.client.get("/metrics")
    after = (await lms.client.get("/metrics")).text.count("\n")
    assert after - before < 100


async def test_requests_are_counted_by_route(lms: Lms, school: School) -> None:
    start = 'lms_http_requests_total{method="GET",route="/courses/{course_id}",status="200"}'
    before = await metric(lms, start)
    await school.student.get(f"/courses/{school.course['id']}")
    assert await metric(lms, start) == before + 1


async def test_the_request_id_goes_into_what_the_request_causes(lms: Lms, school: School) -> None:
    id = f"trace-{uuid4().hex}"
    await school.principal.delete(f"/courses/{school.course['id']}", headers={"X-Request-ID": id})
    rows = await lms.sql("SELECT name FROM core_event WHERE request_id = :id", id=id)
    assert [row["name"] for row in rows] == ["core.deleted.v1"]
    await lms.work_off()


async def test_a_body_that_trickles_is_cut_off(lms: Lms, school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "BODY_TIMEOUT_SECONDS", 0.2)

    async def trickle() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.05)

    edge: Any = lms.client._transport
    sent = {"type": "http", "method": "POST", "path": "/courses", "query_string": b"", "http_version": "1.1",
            "headers": [(b"content-type", b"application/json"),
                        (b"authorization", school.principal.headers["Authorization"].encode())],
            "client": ("127.0.0.1", 1), "server": ("test", 80), "scheme": "http", "root_path": ""}  # fmt: skip
    source, answers = trickle(), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(source), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    await edge.app(sent, receive, send)
    assert answers[0]["status"] == 408


@pytest.mark.parametrize("redis", ["there", "away"])
async def test_a_caller_who_asks_too_often_is_told_when_to_come_back(lms: Lms, school: School, redis: str) -> None:
    platform = lms.context.platform
    before = platform.settings
    changes = {"rate_limit": "5/hour", **({} if redis == "there" else {"redis_url": "redis://127.0.0.1:1/0"})}
    platform.settings = before.model_copy(update=changes)
    try:
        async with application(platform) as running:
            asked = [await running.client.get("/users/me", headers=school.student.headers) for _ in range(7)]
            other = await running.client.get("/users/me", headers=school.teacher.headers)
            strangers = [await running.client.get("/users/me", headers={"Authorization": "Bearer x"}) for _ in range(6)]
            watching = [(await running.client.get("/health/live")).status_code for _ in range(8)]
    finally:
        platform.settings = before
    assert [answer.status_code for answer in asked] == [200] * 5 + [429] * 2
    assert asked[-1].json()["code"] == "too_many_requests"
    assert 0 < int(asked[-1].headers["retry-after"]) <= 3600
    assert other.status_code == 200
    # Wrong tokens count by address, and whoever watches over us is not counted.
    assert [answer.status_code for answer in strangers] == [401] * 5 + [429]
    assert watching == [200] * 8
    left = [int(answer.headers["ratelimit-remaining"]) for answer in [*asked, other]]
    assert left == [4, 3, 2, 1, 0, 0, 0, 4]
    for answer in asked:
        reset = int(answer.headers["ratelimit-reset"])
        assert 0 < reset <= 3600
        assert answer.headers["ratelimit-policy"] == '"default";q=5;w=3600'
        assert answer.headers["ratelimit"] == f'"default";r={answer.headers["ratelimit-remaining"]};t={reset}'
        assert answer.headers["ratelimit-limit"] == "5"


@pytest.mark.parametrize("public_url", ["http://127.0.0.1:8000", "https://lms.example.org"])
async def test_browsers_are_told_what_they_may_do_with_answers(lms: Lms, public_url: str) -> None:
    platform = lms.context.platform
    before = platform.settings
    platform.settings = before.model_copy(update={"public_url": public_url})
    try:
        async with application(platform) as running:
            answers = [await running.client.get(path) for path in ("/health/live", "/users/me", "/no/such", "/docs")]
    finally:
        platform.settings = before
    assert [answer.status_code for answer in answers] == [200, 401, 404, 200]
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert ("strict-transport-security" in headers) == public_url.startswith("https")
        assert "ratelimit" not in headers, "no limit is set"
    policies = [answer.headers["content-security-policy"] for answer in answers]
    assert policies == ["default-src 'none'; frame-ancestors 'none'"] * 3 + ["frame-ancestors 'none'"]


async def test_redis_away_stops_nothing_but_background_work(lms: Lms) -> None:
    platform = lms.context.platform
    before = platform.settings
    platform.settings = before.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    try:
        async with application(platform) as running:
            school = await running.make_school()
            assert (await school.student.get(f"/courses/{school.course['id']}")).status_code == 200
            assert (await school.principal.delete(f"/courses/{school.course['id']}")).status_code == 202
            report = (await running.client.get("/health")).json()
            assert report["status"] == "degraded"
    finally:
        platform.settings = before
    assert await lms.work_off() > 0


async def beat(lms: Lms, **seconds: float | None) -> None:
    """How long ago each process was well; None is never."""
    for name, ago in seconds.items():
        await lms.sql("DELETE FROM core_heartbeat WHERE name = :name", name=name)
        if ago is not None:
            stated = "INSERT INTO core_heartbeat VALUES (:name, now() - make_interval(secs => :ago))"
            await lms.sql(stated, name=name, ago=ago)


async def checks_of(lms: Lms) -> dict[str, tuple[str, str]]:
    """Status and detail of each of the core's checks, asked anew."""
    report = await operations.health_report(lms.context)
    return {one["name"]: (one["status"], one.get("detail", "")) for one in report["checks"] if one["plugin"] == "core"}


async def test_a_process_that_is_not_heard_of_is_missed(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "STARTED", 0.0 - heartbeats.GRACE_SECONDS - 1)
    await beat(lms, relay=3, scheduler=400, worker=None)
    found = await checks_of(lms)
    assert found["relay"] == ("ok", "well 3 s ago")
    assert found["scheduler"][0] == "degraded"
    assert "start `lms scheduler`" in found["scheduler"][1]
    assert found["worker"][0] == "degraded"
    assert "was never seen" in found["worker"][1]
    await beat(lms, scheduler=1, worker=1)
    async with lms.context.unit_of_work() as uow:
        await heartbeats.pulse(uow)
    found = await checks_of(lms)
    assert {found[name][0] for name in heartbeats.LATE_SECONDS} == {"ok"}
    shown = (await lms.client.get("/metrics")).text
    assert 'lms_heartbeat_age_seconds{process="relay"}' in shown


async def test_each_loop_beats(lms: Lms) -> None:
    await beat(lms, relay=None, scheduler=None)
    relay = Relay(lms.context, lambda ids: None)
    await relay.pass_once()
    scheduler = asyncio.create_task(run_scheduler(lms.context))
    try:
        for _ in range(200):
            await asyncio.sleep(0.05)
            if set(await heartbeats.ages(lms.context)) >= {"relay", "scheduler"}:
                break
        else:
            raise AssertionError("no heartbeat")
    finally:
        scheduler.cancel()


async def test_a_full_disk_is_told(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await checks_of(lms))["disk"][0] == "ok"
    monkeypatch.setattr(operations, "LEAST_FREE_BYTES", 1 << 60)
    assert (await checks_of(lms))["disk"][0] == "ok", "there is more than a tenth"
    monkeypatch.setattr(operations, "LEAST_FREE_SHARE", 2)
    status, detail = (await checks_of(lms))["disk"]
    assert status == "degraded"
    assert "make room" in detail


async def test_a_mail_server_that_is_away_is_told(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await checks_of(lms))["mail"] == ("ok", "no server is set; mails are kept in the data folder")
    away = lms.context.settings.model_copy(update={"smtp_url": "smtp+plain://127.0.0.1:1"})
    monkeypatch.setattr(lms.context, "settings", away)
    assert (await checks_of(lms))["mail"][0] == "degraded"


async def test_what_stands_in_the_database_is_measured(lms: Lms, school: School) -> None:
    await lms.client.post("/auth/login", data={"username": school.student.email, "password": PASSWORD})
    shown = (await lms.client.get("/metrics")).text
    for start in (
        "lms_outbox_pending ",
        "lms_outbox_oldest_seconds ",
        "lms_deliveries_dead ",
        'lms_deletions_passing{state="cascading"} ',
        'lms_plugin_info{plugin="courses",version="0.1.0"} 1.0',
        'lms_files_in_progress{state="verifying"} ',
        'lms_files_bytes{what="used"} ',
        "lms_access_cache_total",
        "lms_auth_sign_ins_total",
    ):
        assert any(line.startswith(start) for line in shown.splitlines()), start
    # No series twice: Prometheus would refuse the whole scrape.
    names = [line.rsplit(" ", 1)[0] for line in shown.splitlines() if not line.startswith("#")]
    assert len(names) == len(set(names))


async def test_metrics_answer_while_the_database_is_away(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise Unavailable("away", "database_away")

    monkeypatch.setattr(lms.context.database, "read", away)
    found = await Measures().as_text(lms.context)
    assert b"lms_plugin_info" in found
    assert b"lms_outbox_pending" not in found


@pytest.mark.parametrize("state", ["08006", "3D000", "53100", "57P03", "58030", "XX000"])
def test_a_database_that_cannot_work_is_away(state: str) -> None:
    """Also when its disk is broken, or it has an error of its own: whoever asks again later is answered."""
    error = asyncpg.PostgresError("planted")
    error.sqlstate = state
    assert database_problem(error).status == 503


def test_a_connection_that_died_in_the_middle_of_something_else_is_away_for_entities_too() -> None:
    """The driver says so where it has not noticed the end; SQLAlchemy hands it on as the cause of an error of its own."""
    told = Exception("planted")
    told.__cause__ = asyncpg.InternalClientError("planted")
    assert database_problem(DBAPIError("SELECT 1", None, told)).status == 503


async def test_a_worker_shows_what_it_did_on_a_port_of_its_own(lms: Lms, school: School) -> None:
    """As in containers, which share no folder with the API."""
    settings, port = lms.context.settings, free_port()
    variables = {
        **os.environ,
        "LMS_ENV": "production",
        "LMS_SECRET_KEY": settings.secret_key + "of a school",
        "LMS_DATABASE_URL": settings.database_url,
        "LMS_REDIS_URL": settings.redis_url,
        "LMS_METRICS_PORT": str(port),
        "LMS_METRICS_TOKEN": "a-metrics-token",
        "LMS_INTERNAL_NETWORKS": "10.0.0.0/8",
        "LMS_SECRETS": "/",
    }
    variables.pop("PROMETHEUS_MULTIPROC_DIR", None)
    await lms.work_off()
    await lms.context.redis.flushdb()
    command = [sys.executable, "-m", "lms_core.cli", "worker"]
    worker = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deleted = (await school.principal.delete(f"/courses/{school.course['id']}")).json()
        relay = Relay(lms.context, CelerySender(settings))
        deadline = time.monotonic() + 60
        while (await school.principal.get(f"/deletions/{deleted['id']}")).json()["state"] != "deleted":
            assert time.monotonic() < deadline
            await relay.pass_once()
            await asyncio.sleep(0.2)
        token = {"Authorization": "Bearer a-metrics-token"}
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/metrics")).status_code == 403
            assert (await client.get("/metrics", headers={"Authorization": "Bearer x"})).status_code == 403
            assert (await client.get("/health", headers=token)).status_code == 404
            shown = (await client.get("/metrics", headers=token)).text
        assert 'lms_deliveries_total{handler="core.cascade",outcome="done"}' in shown
    finally:
        worker.terminate()
        worker.wait(30)


async def test_logs_that_nobody_can_read_are_no_trouble_of_the_metrics(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(access_log, "handler", logging.StreamHandler(Broken()))
    monkeypatch.setattr(access_log, "redaction", Redaction(lms.context.settings))
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert (await lms.client.get("/health/live")).status_code == 200
    answer = await lms.client.get("/metrics")
    assert answer.status_code == 200
    assert 'lms_http_requests_total{method="GET",route="/health/live",status="200"}' in answer.text
