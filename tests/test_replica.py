"""Reads from a replica: real streaming replication, what was answered is there, and the replica may go away."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from lms_core import engine_postgres, operations
from lms_core.config import Settings
from lms_core.doctor import examine, of_database
from lms_core.engine_postgres import Postgres
from lms_core.engines import Engines
from lms_core.migrate import upgrade
from lms_core.platform import load_platform
from lms_core.setup import run_setups
from lms_core.testing import Lms, application

pytestmark = pytest.mark.anyio
REPLICATING = {"wal_level": "replica", "max_wal_senders": "4"}


class Pair:
    """A server and its replica."""

    def __init__(self, folder: Path) -> None:
        self.first = Engines(folder / "first", durable=False)
        self.first.start(["postgres"])
        self.url = self.first.environment()["LMS_DATABASE_URL"]
        self.second = Engines(folder / "second", durable=False)
        self.second.folder.keep("postgres_password", self.first.folder.secret("postgres_password"))
        self.copy()
        self.second.start(["postgres"])
        self.read_url = self.second.environment()["LMS_DATABASE_URL"]

    def copy(self) -> None:
        """A base backup that follows the first server."""
        postgres = self.second.engines["postgres"]
        assert isinstance(postgres, Postgres)
        parts = urlsplit(self.url)
        source = f"host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}"
        postgres.prepare(
            [postgres.program("pg_basebackup"), "-R", "-d", source, "-D", str(postgres.cluster), "--no-sync"],
            postgres.identity(postgres.program("postgres")),
        )

    def stop(self) -> None:
        for engines in (self.second, self.first):
            engines.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    before = dict(engine_postgres.SETTINGS)
    engine_postgres.SETTINGS.update(REPLICATING)
    found = Pair(tmp_path_factory.mktemp("pair"))
    yield found
    found.stop()
    engine_postgres.SETTINGS.clear()
    engine_postgres.SETTINGS.update(before)


async def on_first(pair: Pair, *statements: str) -> None:
    connection = await asyncpg.connect(pair.url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def follow(pair: Pair, source: str) -> None:
    """Let the replica follow this server, as its connection string says."""
    quoted = source.replace("'", "''")
    await on_second(pair, f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
    await on_second(pair, "SELECT pg_reload_conf()")


async def on_second(pair: Pair, statement: str) -> str:
    connection = await asyncpg.connect(pair.read_url)
    try:
        return str(await connection.fetchval(statement))
    finally:
        await connection.close()


async def synchronous(pair: Pair, on: bool) -> None:
    value = "'*'" if on else "''"
    await on_first(
        pair,
        f"ALTER SYSTEM SET synchronous_standby_names = {value}",
        f"ALTER SYSTEM SET synchronous_commit = {'remote_apply' if on else 'on'}",
        "SELECT pg_reload_conf()",
    )


@pytest.fixture(scope="module")
async def running(pair: Pair, settings: Settings) -> AsyncIterator[Lms]:
    # A platform of its own: one keeps what it knows of its database, such as the keys of tokens.
    urls = {"database_url": pair.url, "database_read_url": pair.read_url}
    platform = load_platform(settings.model_copy(update=urls))
    await upgrade(platform)
    await run_setups(platform, demo=False)
    await synchronous(pair, True)
    async with application(platform) as found:
        yield found


async def test_what_was_answered_is_there_for_readers(running: Lms) -> None:
    replica = running.context.replica
    assert replica is not None
    admin = await running.admin()
    while replica.away:
        await asyncio.sleep(0.05)
    before = replica.statements
    for number in range(20):
        made = await running.make_institution()
        path = f"/institutions/{made['id']}"
        assert (await admin.get(path)).status_code == 200
        changed = await admin.patch(path, {"name": f"Number {number}"})
        assert (await admin.get(path)).json() == changed.json()
        assert (await admin.delete(path)).status_code == 202
        assert (await admin.get(path)).status_code == 404
    assert replica.statements - before >= 60
    report = await operations.health_report(running.context)
    assert report["status"] == "ok" or {one["name"] for one in report["checks"] if one["status"] != "ok"} <= {
        "relay", "scheduler", "worker"
    }  # fmt: skip


async def test_the_doctor_asks_the_replica(running: Lms) -> None:
    [found] = [one async for one in examine(running.context.platform) if one.text.startswith("core replica: ")]
    assert found.is_well
    assert "s behind" in found.text


async def test_who_may_what_is_never_read_from_a_replica_that_is_late(pair: Pair, running: Lms) -> None:
    school = await running.make_school()
    path = f"/courses/{school.course['id']}"
    admin = await running.admin()
    [grant] = await admin.items(f"/users/{school.principal.id}/roles")
    await synchronous(pair, False)
    await on_second(pair, "SELECT pg_wal_replay_pause()")
    try:
        assert (await admin.patch(path, {"title": "Later"})).status_code == 200
        assert (await admin.get(path)).json()["title"] != "Later", "this read does not come from the replica"
        assert (await school.principal.get(path)).status_code == 200
        assert (await admin.delete(f"/users/{school.principal.id}/roles/{grant['id']}")).status_code == 202
        assert (await school.principal.get(path)).status_code == 404
        assert (await admin.patch(path, {"title": "Latest"}, headers={"If-Match": '"1"'})).status_code == 412
        findings = [one async for one in of_database(running.context)]
        assert [one.text for one in findings if not one.is_well and "synchronous_commit = remote_apply" in one.text]
    finally:
        await on_second(pair, "SELECT pg_wal_replay_resume()")
        await synchronous(pair, True)


async def test_a_replica_that_follows_no_more_is_not_asked(
    pair: Pair, running: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = running.context.replica
    assert replica is not None
    monkeypatch.setattr("lms_core.replica.MOST_BEHIND_SECONDS", 1.0)
    school = await running.make_school()
    path = f"/courses/{school.course['id']}"
    await synchronous(pair, False)
    source = await on_second(pair, "SELECT current_setting('primary_conninfo')")
    await follow(pair, "host=127.0.0.1 port=1")
    try:
        deadline = time.monotonic() + 20
        while not replica.away:
            assert time.monotonic() < deadline
            await school.teacher.patch(path, {"title": f"At {time.monotonic()}"})
            await asyncio.sleep(0.1)
        changed = await school.teacher.patch(path, {"title": "The newest"})
        assert changed.status_code == 200
        assert (await school.student.get(path)).json()["title"] == "The newest"
    finally:
        await follow(pair, source)
    while replica.away:
        assert time.monotonic() < deadline + 20
        await asyncio.sleep(0.1)
    await synchronous(pair, True)


async def test_without_its_replica_everything_is_read_from_the_first_server(pair: Pair, running: Lms) -> None:
    replica = running.context.replica
    assert replica is not None
    school = await running.make_school()
    path = f"/courses/{school.course['id']}"
    await synchronous(pair, False)
    child = pair.second.children["postgres"]
    child.ask_to_stop(signal.SIGINT)
    child.finish(20)
    for _ in range(20):
        assert (await school.student.get(path)).status_code == 200
    deadline = time.monotonic() + 10
    while not replica.away:
        assert time.monotonic() < deadline
        assert (await school.student.get(path)).status_code == 200
    report = await operations.health_report(running.context)
    assert {one["name"]: one["status"] for one in report["checks"]}["replica"] == "degraded"
    pair.second.start(["postgres"])
    while replica.away:
        assert time.monotonic() < deadline + 20
        assert (await school.student.get(path)).status_code == 200
    before = replica.statements
    assert (await school.student.get(path)).status_code == 200
    assert replica.statements == before + 1
    await synchronous(pair, True)


async def test_another_database_is_no_replica(running: Lms, pair: Pair) -> None:
    other_settings = running.context.settings.model_copy(update={"database_read_url": pair.url})
    async with application(load_platform(other_settings)) as other:
        await (await other.admin()).items("/institutions")
        assert other.context.replica is not None
        deadline = time.monotonic() + 10
        while not other.context.replica.away:
            assert time.monotonic() < deadline
            await running.admin()
