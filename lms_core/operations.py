"""What operators and clients ask of a running system: health, metrics, and which plugins it has."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from alembic.script import Script
from fastapi import Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from lms_core import heartbeats, mail, metrics
from lms_core.edge import answers
from lms_core.errors import Forbidden, Unavailable
from lms_core.measures import DEAD, Measures
from lms_core.migrate import Position, scripts
from lms_core.operators import may_see_internals
from lms_core.pagination import JsonBytes, Page, PageParams
from lms_core.routing import Router, Uow, public, signed_in
from lms_core.uow import Context

CHECK_TIMEOUT_SECONDS = 2.0
CACHED_SECONDS = 1.0
OVERDUE_SECONDS = 300
LEAST_FREE_BYTES = 1024**3
LEAST_FREE_SHARE = 0.1
OVERDUE = (
    "SELECT count(*) FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL "
    f"AND next_attempt_at < now() - interval '{OVERDUE_SECONDS} seconds'"
)
VERSION_TABLES = (
    "SELECT table_name FROM information_schema.tables "
    "WHERE table_schema = current_schema() AND table_name LIKE 'alembic\\_version\\_%'"
)


class PluginRead(BaseModel):
    """An enabled plugin."""

    name: str
    version: str
    summary: str
    requires: list[str]
    permissions: list[str]


class HealthRead(BaseModel):
    """How the system is; strangers get the status alone."""

    status: str
    checks: list[dict[str, Any]] | None = None
    system: dict[str, Any] | None = None


@dataclass
class KnownHealth:
    """The last result, kept for a second so that checks cannot be used to load the engines."""

    at: float
    report: dict[str, Any]


def is_operator(request: Request) -> bool:
    """Whether the caller may see internals."""
    address = request.client.host if request.client else None
    return may_see_internals(request.app.state.context.settings, request.headers, address)


async def run_check(context: Context, plugin: str, name: str, check: Any, critical: bool) -> dict[str, Any]:
    """One check with a time-out; what it raises is its result."""
    started = time.perf_counter()
    detail: str | None = None
    status = "ok"
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            detail = await check(context)
    except TimeoutError:
        status, detail = "down" if critical else "degraded", "no answer in time"
    except Exception as error:  # noqa: BLE001 — whatever a check raises is what it found
        status, detail = "down" if critical else "degraded", str(error) or type(error).__name__
    found = {"plugin": plugin, "name": name, "status": status, "ms": round((time.perf_counter() - started) * 1000, 1)}
    return found if detail is None else {**found, "detail": detail}


async def check_database(context: Context) -> str:
    """A round trip, and how many connections of this process are in use."""
    await context.database.read("SELECT 1", [])
    return ", ".join(f"{pool}: {used} of {size} connections" for pool, (used, size) in context.database.usage().items())


async def check_replica(context: Context) -> str:
    """The replica answers itself, and how far it is behind; without it, reads go to the first server."""
    if context.replica is None:
        return "none is set"
    if context.replica.away:
        raise RuntimeError("it is away, is no replica, or cannot keep up; reads go to the first server")
    return f"{context.replica.behind:.1f} s behind"


async def check_migrations(context: Context) -> None:
    """Every lineage is where this code expects it."""
    if behind := await behind_head(context):
        raise RuntimeError(f"Migrations are missing for {', '.join(behind)}; run `lms db upgrade`.")


async def check_mail(context: Context) -> str:
    """The mail server takes a connection and lets us in, where there is one."""
    if not context.settings.smtp_url:
        return "no server is set; mails are kept in the data folder"
    await mail.greet(context.settings)
    return "the server lets us in"


async def check_disk(context: Context) -> str:
    """There is room where this process keeps files."""
    folder = Path(context.settings.data).absolute()
    while not folder.exists():
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    if usage.free < min(LEAST_FREE_BYTES, usage.total * LEAST_FREE_SHARE):
        raise RuntimeError(f"Only {usage.free // 1024**2} MiB are free at {folder}; make room.")
    return f"{usage.free / 1024**3:.1f} GiB free"


async def check_redis(context: Context) -> None:
    """A round trip."""
    if not await context.redis.ping():
        raise RuntimeError("Redis does not answer.")


async def check_deliveries(context: Context) -> None:
    """Work moves on, and nothing has been given up."""
    overdue = (await context.database.read(OVERDUE, []))[0][0]
    dead = (await context.database.read(DEAD, []))[0][0]
    if overdue:
        raise RuntimeError(f"{overdue} deliveries are overdue; check the relay and the workers.")
    if dead:
        raise RuntimeError(f"{dead} deliveries are dead; see core_delivery.last_error.")


async def health_report(context: Context) -> dict[str, Any]:
    """All checks, in parallel."""
    checks = [
        ("core", "database", check_database, True),
        ("core", "replica", check_replica, False),
        ("core", "migrations", check_migrations, True),
        ("core", "redis", check_redis, False),
        ("core", "mail", check_mail, False),
        ("core", "disk", check_disk, False),
        ("core", "relay", heartbeats.check_relay, False),
        ("core", "scheduler", heartbeats.check_scheduler, False),
        ("core", "worker", heartbeats.check_worker, False),
        ("core", "deliveries", check_deliveries, False),
        *((plugin, one.name, one.function, one.critical) for plugin, one in context.platform.health_checks),
    ]
    results = await asyncio.gather(*(run_check(context, *check) for check in checks))
    statuses = {result["status"] for result in results}
    status = "down" if "down" in statuses else "degraded" if "degraded" in statuses else "ok"
    return {
        "status": status,
        "checks": list(results),
        "system": {
            "cpu_percent": psutil.cpu_percent(interval=None),
            "load": list(os.getloadavg()),
            "memory_percent": psutil.virtual_memory().percent,
            "uptime_s": round(time.time() - psutil.Process().create_time(), 1),
        },
    }


async def behind_head(context: Context) -> list[str]:
    """The lineages on which this code does not run yet, by two statements on the read pool."""
    expected = scripts(context.platform)
    tables = {row[0] for row in await context.database.read(VERSION_TABLES, [])}
    existing = {name: f"alembic_version_{name}" for name in expected if f"alembic_version_{name}" in tables}
    parts = [
        f"SELECT '{name}' AS name, version_num, obj_description('{table}'::regclass, 'pg_class') AS since FROM {table}"
        for name, table in existing.items()
    ]
    current: dict[str, tuple[str | None, str | None]] = {}
    if parts:
        rows = await context.database.read(" UNION ALL ".join(parts), [])
        current = {row["name"]: (row["version_num"], row["since"]) for row in rows}

    def position(name: str, known: tuple[Script, ...]) -> Position:
        version, since = current.get(name, (None, None))
        return Position(name, version, known, since)

    return [name for name, known in expected.items() if not position(name, known).serves]


def router() -> Router:
    """The core's own routes for operators."""
    routes = Router()
    known: list[KnownHealth] = []
    lock = asyncio.Lock()
    measures = Measures()
    looked: list[tuple[float, list[str]]] = []
    ready_lock = asyncio.Lock()

    @routes.get("/health", response_model=HealthRead, dependencies=[public("load balancers have no account")])
    async def health(request: Request) -> Response:
        """How the system is: 200 `ok` or `degraded`, 503 `down`."""
        async with lock:
            if not known or known[0].at < time.monotonic() - CACHED_SECONDS:
                known[:] = [KnownHealth(time.monotonic(), await health_report(request.app.state.context))]
        report = known[0].report
        status = 503 if report["status"] == "down" else 200
        return JsonBytes(report if is_operator(request) else {"status": report["status"]}, status)

    @routes.get("/health/live", response_model=HealthRead, dependencies=[public("an orchestrator has no account")])
    async def live() -> Response:
        """The process answers; nothing else is touched."""
        return JsonBytes({"status": "ok"})

    @routes.get("/health/ready", response_model=HealthRead, dependencies=[public("an orchestrator has no account")])
    async def ready(request: Request) -> Response:
        """Ready for requests: the database answers, and every migration has run."""
        context: Context = request.app.state.context
        context.database.refuse_while_away()
        async with ready_lock:
            if not looked or looked[0][0] < time.monotonic() - CACHED_SECONDS:
                looked[:] = [(time.monotonic(), await behind_head(context))]
        if behind := looked[0][1]:
            raise Unavailable(
                f"Migrations are missing for {', '.join(behind)}; run `lms db upgrade`.", "not_migrated", 10
            )
        return JsonBytes({"status": "ok"})

    @routes.get("/metrics", name="metrics", dependencies=[public("Prometheus has no account; see is_operator")])
    async def show_metrics(request: Request) -> Response:
        """Prometheus text."""
        if not is_operator(request):
            raise Forbidden("Metrics are for operators: send the token, or ask from an internal address.")
        answers.tell()
        counted, read = await asyncio.gather(
            asyncio.to_thread(metrics.as_text), measures.as_text(request.app.state.context)
        )
        return Response(counted + read, media_type=CONTENT_TYPE_LATEST)

    @routes.get(
        "/plugins",
        name="list_plugins",
        response_model=Page[PluginRead],
        dependencies=[signed_in("which plugins there are is no secret among users")],
    )
    async def list_plugins(uow: Uow, params: PageParams) -> Response:
        """The enabled plugins, by name."""
        after = params.after(uow, "plugins", [str])
        plugins = sorted(uow.context.platform.plugins, key=lambda plugin: plugin.name)
        shown = [plugin for plugin in plugins if after is None or plugin.name > after[0]][: params.limit + 1]
        items = [
            {
                "name": plugin.name,
                "version": plugin.info.version,
                "summary": plugin.info.summary,
                "requires": list(plugin.info.requires),
                "permissions": [permission.name for permission in plugin.permissions],
            }
            for plugin in shown
        ]
        return params.answer(uow, "plugins", items, [items[: params.limit][-1]["name"]] if items else [])

    return routes
