"""Figures for `/metrics` that stand in the database, asked for at most every few seconds, whoever scrapes how often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lms_core.heartbeats import ages
from lms_core.types import Measure
from lms_core.uow import Context

log = structlog.get_logger("lms.measures")

CACHED_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
FAILURES = Counter("lms_measure_failures_total", "Figures that could not be read for a scrape", ["measure"])
PENDING = "SELECT count(*) FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"
OLDEST = (
    "SELECT coalesce(extract(epoch FROM now() - min(next_attempt_at)), 0)::float8 "
    "FROM core_delivery WHERE done_at IS NULL AND dead_at IS NULL"
)
DEAD = "SELECT count(*) FROM core_delivery WHERE dead_at IS NOT NULL AND done_at IS NULL"
PASSING = "SELECT state, count(*) AS number FROM core_deletion WHERE state IN ('cascading', 'restoring') GROUP BY 1"


async def pending(context: Context) -> dict[tuple[str, ...], float]:
    """Deliveries that are still to be done."""
    return {(): (await context.database.read(PENDING, []))[0][0]}


async def oldest(context: Context) -> dict[tuple[str, ...], float]:
    """Seconds; what is due only later counts as nothing."""
    return {(): max(0.0, (await context.database.read(OLDEST, []))[0][0])}


async def dead(context: Context) -> dict[tuple[str, ...], float]:
    """Deliveries that were given up."""
    return {(): (await context.database.read(DEAD, []))[0][0]}


async def passing(context: Context) -> dict[tuple[str, ...], float]:
    """Deletions that a worker is at, by state."""
    found = {row["state"]: float(row["number"]) for row in await context.database.read(PASSING, [])}
    return {(state,): found.get(state, 0.0) for state in ("cascading", "restoring")}


async def heartbeats(context: Context) -> dict[tuple[str, ...], float]:
    """Seconds since each process was well."""
    return {(name,): age for name, age in (await ages(context)).items()}


async def plugins(context: Context) -> dict[tuple[str, ...], float]:
    """One for each plugin that is enabled."""
    return {(plugin.name, plugin.info.version): 1.0 for plugin in context.platform.plugins}


CORE_MEASURES = (
    Measure("lms_outbox_pending", "Deliveries that are not done", (), pending),
    Measure("lms_outbox_oldest_seconds", "For how long the oldest delivery has been due", (), oldest),
    Measure("lms_deliveries_dead", "Deliveries that were given up", (), dead),
    Measure("lms_deletions_passing", "Deletions that are being cascaded or restored", ("state",), passing),
    Measure("lms_heartbeat_age_seconds", "Since a background process was last well", ("process",), heartbeats),
    Measure("lms_plugin_info", "Enabled plugins", ("plugin", "version"), plugins),
)


class Collected(Collector):
    """What was read, in the form that prometheus_client writes."""

    def __init__(self, families: Sequence[GaugeMetricFamily]) -> None:
        self.families = families

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All of it."""
        return self.families


class Measures:
    """The figures of the core and the plugins, as text; kept for a moment."""

    def __init__(self) -> None:
        self.at, self.text = float("-inf"), b""
        self.lock = asyncio.Lock()

    async def as_text(self, context: Context) -> bytes:
        """What cannot be read in time is left out, and counted."""
        async with self.lock:
            if time.monotonic() - self.at > CACHED_SECONDS:
                every = [*CORE_MEASURES, *context.platform.extensions_of(Measure)]
                read = await asyncio.gather(*(family(context, measure) for measure in every))
                registry = CollectorRegistry()
                registry.register(Collected([one for one in read if one is not None]))
                self.text, self.at = generate_latest(registry), time.monotonic()
        return self.text


async def family(context: Context, measure: Measure) -> GaugeMetricFamily | None:
    """One figure, by its labels."""
    found = GaugeMetricFamily(measure.name, measure.meaning, labels=measure.labels)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            values = await measure.read(context)
    except Exception as error:  # noqa: BLE001 — a scrape has to answer while an engine is away
        FAILURES.labels(measure.name).inc()
        log.warning("a figure could not be read", measure=measure.name, reason=repr(error))
        return None
    for labels, value in values.items():
        found.add_metric(labels, value)
    return found
