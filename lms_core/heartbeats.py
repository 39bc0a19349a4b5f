"""Signs of life of the background processes, in the database: who went round when, and when work last got through."""

from __future__ import annotations

import time
from datetime import datetime

from sqlalchemy import DateTime, func, text
from sqlmodel import Field, SQLModel

from lms_core.uow import Context, UnitOfWork

BEAT_SECONDS = 5.0
PULSE_SECONDS = 60.0
# A process that starts says so within seconds; the first pulse of an idle system takes a minute.
GRACE_SECONDS = 90.0
LATE_SECONDS = {"relay": 30.0, "scheduler": 30.0, "worker": 4 * PULSE_SECONDS}
"""From when on a process is missed. The scheduler states a pulse, the relay sends it, a worker does it: so the last is
late too when work piles up."""
STARTED = time.monotonic()
BEAT = text(
    "INSERT INTO core_heartbeat (name) VALUES (:name) ON CONFLICT (name) DO UPDATE SET seen_at = clock_timestamp()"
)
AGES = "SELECT name, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS age FROM core_heartbeat"


class Heartbeat(SQLModel, table=True):
    """When any process of a name was last well."""

    __tablename__ = "core_heartbeat"

    name: str = Field(primary_key=True)
    seen_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )


class Heart:
    """Beats for one process, as often as it is asked, but at most every few seconds."""

    def __init__(self, context: Context, name: str) -> None:
        self.context, self.name, self.last = context, name, 0.0

    async def beat(self) -> None:
        """Say that this process has gone round."""
        if time.monotonic() - self.last < BEAT_SECONDS:
            return
        async with self.context.unit_of_work() as uow:
            await uow.session.execute(BEAT, {"name": self.name})
        self.last = time.monotonic()


async def pulse(uow: UnitOfWork) -> None:
    """The schedule: a worker does this, so work gets through."""
    await uow.session.execute(BEAT, {"name": "worker"})


async def ages(context: Context) -> dict[str, float]:
    """Seconds since each process was last well; those that never were are left out."""
    return {row["name"]: float(row["age"]) for row in await context.database.read(AGES, [])}


async def check_relay(context: Context) -> str:
    """Deliveries are sent."""
    return await check(context, "relay", "start `lms relay`, or look into its log")


async def check_scheduler(context: Context) -> str:
    """Schedules are stated."""
    return await check(context, "scheduler", "start `lms scheduler`, or look into its log")


async def check_worker(context: Context) -> str:
    """Work gets through."""
    return await check(context, "worker", "start `lms worker`, or more of them if they are all at work")


async def check(context: Context, name: str, advice: str) -> str:
    """How long ago it was; raises when that is too long."""
    age = (await ages(context)).get(name)
    is_late = age is None or age > LATE_SECONDS[name]
    if is_late and time.monotonic() - STARTED > GRACE_SECONDS:
        seen = "was never seen" if age is None else f"was last well {age:.0f} s ago"
        raise RuntimeError(f"The {name} {seen}; {advice}.")
    return "not seen yet" if age is None else f"well {age:.0f} s ago"
