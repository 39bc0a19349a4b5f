"""`lms doctor`: what an operator should know before anybody works here, each with what to do."""

from __future__ import annotations

import asyncio
import platform as machine
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from sqlalchemy import text

import lms_core
from lms_core.config import Settings
from lms_core.db import STATEMENT_TIMEOUT_MS
from lms_core.lifespan import running
from lms_core.migrate import positions
from lms_core.operations import health_report
from lms_core.platform import Platform
from lms_core.types import Examination, Finding
from lms_core.uow import Context

OLDEST_POSTGRES = 150_000
"""As PostgreSQL itself says it (server_version_num): 15, the first with unique indexes of NULLs."""
OLDEST_REDIS = (6, 2)
WATCH_SECONDS = 3.0
CLOCK_SECONDS = 5.0
"""Tokens and signatures live for minutes; machines with NTP differ by milliseconds."""
SERVER = """
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
        clock_timestamp() AS now, current_setting('max_connections')::int AS connections,
        (SELECT count(*) FROM pg_stat_activity) AS used, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super,
        current_setting('synchronous_commit') AS commits, current_setting('synchronous_standby_names') AS standbys,
        pg_encoding_to_char(encoding) AS encoding
    FROM pg_database WHERE datname = current_database()
"""


async def examine(platform: Platform) -> AsyncIterator[Finding]:
    """Everything that was looked at: settings, engines, clocks, versions, migrations, and what plugins look at."""
    names = ", ".join(plugin.name for plugin in platform.plugins)
    yield Finding(
        True,
        f"lms-core {lms_core.__version__} on Python {machine.python_version()}, {len(platform.plugins)} plugins: {names}",
    )
    for finding in settings_findings(platform.settings):
        yield finding
    async with running(Context.create(platform)) as context:
        await look_at_the_replica(context)
        report = await health_report(context)
        found = {check["name"]: check["status"] == "ok" for check in report["checks"] if check["plugin"] == "core"}
        for check in report["checks"]:
            detail = f": {check['detail']}" if "detail" in check else ""
            yield Finding(check["status"] == "ok", f"{check['plugin']} {check['name']}{detail}")
        if found["database"]:
            async for finding in patiently("PostgreSQL", of_database(context)):
                yield finding
        if found["redis"]:
            async for finding in patiently("Redis", of_redis(context)):
                yield finding
        for examination in platform.extensions_of(Examination):
            async for finding in patiently(examination.name, examination.examine(context)):
                yield Finding(finding.is_well, f"{examination.name} {finding.text}")


async def look_at_the_replica(context: Context) -> None:
    """It counts as away until its watch has looked."""
    context.start_watch()
    deadline = time.monotonic() + WATCH_SECONDS
    while context.replica is not None and context.replica.away and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


async def patiently(name: str, findings: AsyncIterator[Finding]) -> AsyncIterator[Finding]:
    """What an examination finds; that it broke off is a finding, too, and the others go on."""
    try:
        async for finding in findings:
            yield finding
    except Exception as error:  # noqa: BLE001 — whatever it raises is what it found
        yield Finding(False, f"{name} could not be looked at: {error or type(error).__name__}")


def settings_findings(settings: Settings) -> list[Finding]:
    """What starts, and is still not what an institution wants."""
    if not settings.production:
        return [Finding(True, "settings: LMS_ENV is development; `production` refuses what is unsafe")]
    found = []
    if not settings.smtp_url:
        found.append(
            Finding(False, "mail: LMS_SMTP_URL is not set; mails are kept in the data folder and reach nobody")
        )
    for name, url in (
        ("LMS_PUBLIC_URL", settings.public_url),
        ("LMS_S3_PUBLIC_ENDPOINT", settings.s3_public_endpoint or settings.s3_endpoint),
    ):
        if not url.startswith("https://"):
            found.append(Finding(False, f"settings: {name} is {url}; passwords and files need https there"))
    if not settings.metrics_token:
        found.append(
            Finding(False, "settings: LMS_METRICS_TOKEN is not set; nobody from another machine can read /metrics")
        )
    return found or [Finding(True, "settings: fit for production")]


async def of_database(context: Context) -> AsyncIterator[Finding]:
    """PostgreSQL's version, clock, room for connections, rights, time-outs, replica, and migrations."""
    async with context.unit_of_work() as uow:
        server = (await uow.session.execute(text(SERVER))).mappings().one()
        limit = (
            await uow.session.execute(text("SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"))
        ).scalar_one()
    recent = server["number"] >= OLDEST_POSTGRES
    yield Finding(recent, f"PostgreSQL {server['version']}" + ("" if recent else ": 15 or newer is needed"))
    yield clock("PostgreSQL", server["now"])
    if server["encoding"] != "UTF8":
        yield Finding(False, f"PostgreSQL: the database is encoded in {server['encoding']}; make one with UTF8")
    settings = context.settings
    own = settings.database_pool + 2 * settings.read_pool + 1
    free = server["connections"] - server["used"]
    enough = settings.database_direct_url != "" or free >= own
    more = "" if enough else "; raise max_connections, lower LMS_DATABASE_POOL and LMS_READ_POOL, or use PgBouncer"
    yield Finding(
        enough,
        f"PostgreSQL: {free} of {server['connections']} connections are free, an API process opens up to {own}{more}",
    )
    if settings.production and server["super"]:
        yield Finding(False, "PostgreSQL: our role is a superuser; make one that only owns its database")
    if limit != str(STATEMENT_TIMEOUT_MS):
        yield Finding(
            False,
            f"PgBouncer: statement_timeout is {limit} ms behind it, not {STATEMENT_TIMEOUT_MS}; give its database the "
            "connect_query of deploy/pgbouncer/pgbouncer.ini",
        )
    if settings.database_read_url:
        synchronous = server["commits"] == "remote_apply" and server["standbys"] != ""
        yield Finding(
            synchronous,
            "replica: the first server waits until its synchronous replicas have a write"
            if synchronous
            else "replica: readers may see what was deleted or changed a moment ago; set synchronous_commit = remote_apply "
            "and synchronous_standby_names on the first server",
        )
    for position in await positions(context.platform):
        left = f", {len(position.pending)} to run: `lms db plan`" if position.pending else ""
        left += ", a later release was here: run that one" if position.newer else ""
        yield Finding(position.at_head, f"migrations of {position.lineage}: {position.current or 'empty'}{left}")


async def of_redis(context: Context) -> AsyncIterator[Finding]:
    """Its version, clock, and what it does when it is full."""
    info = await context.redis.info()
    version = str(info["redis_version"])
    recent = tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_REDIS
    yield Finding(recent, f"Redis {version}" + ("" if recent else ": 6.2 or newer is needed"))
    seconds, micro = await context.redis.time()
    yield clock("Redis", datetime.fromtimestamp(seconds + micro / 1e6, UTC))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if int(info.get("maxmemory", 0)) and policy != "noeviction":
        yield Finding(False, f"Redis: maxmemory-policy is {policy}, which throws queued work away; set noeviction")


def clock(engine: str, there: datetime) -> Finding:
    """How far this machine's clock is from an engine's."""
    seconds = abs(time.time() - there.timestamp())
    if seconds <= CLOCK_SECONDS:
        return Finding(True, f"{engine}: its clock and ours differ by {seconds:.1f} s")
    return Finding(
        False,
        f"{engine}: its clock and ours differ by {seconds:.0f} s; set both by NTP, tokens and signatures depend on it",
    )
