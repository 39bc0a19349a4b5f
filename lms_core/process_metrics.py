"""What an API process tells of itself every few seconds: its connections, its statements, and how late its event loop is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Counter, Gauge, Histogram

from lms_core.uow import Context

REPORT_SECONDS = 5.0
CONNECTIONS = Gauge("lms_database_connections", "Connections in use, by pool", ["pool"], multiprocess_mode="livesum")
MOST_CONNECTIONS = Gauge(
    "lms_database_connections_max", "Connections that there may be, by pool", ["pool"], multiprocess_mode="livesum"
)
STATEMENTS = Counter("lms_database_statements_total", "Statements sent to PostgreSQL")
LATE = Histogram(
    "lms_event_loop_late_seconds",
    "How late the event loop comes round to what is due",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)


@asynccontextmanager
async def reporting(context: Context) -> AsyncIterator[None]:
    """Report until the process ends."""
    task = asyncio.create_task(report_for_ever(context))
    try:
        yield
    finally:
        task.cancel()


async def report_for_ever(context: Context) -> None:
    """Every few seconds."""
    before = 0
    while True:
        due = time.monotonic() + REPORT_SECONDS
        await asyncio.sleep(REPORT_SECONDS)
        LATE.observe(max(0.0, time.monotonic() - due))
        STATEMENTS.inc(context.database.statements - before)
        before = context.database.statements
        for pool, (used, most) in context.database.usage().items():
            CONNECTIONS.labels(pool).set(used)
            MOST_CONNECTIONS.labels(pool).set(most)
