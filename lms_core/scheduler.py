"""The scheduler: states on time that a schedule is due; a worker does the work, like that of any event."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog
from sqlalchemy import DateTime, func, text
from sqlmodel import Field, SQLModel

from lms_core.heartbeats import Heart
from lms_core.types import Event, Schedule
from lms_core.uow import Context, UnitOfWork

log = structlog.get_logger("lms.scheduler")

TICK_SECONDS = 1.0


class ScheduleDue(Event, name="core.schedule_due.v1"):
    """It is time for a schedule."""

    schedule: str


class ScheduleRow(SQLModel, table=True):
    """When a schedule is due next."""

    __tablename__ = "core_schedule"

    name: str = Field(primary_key=True)
    next_run_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )


REMEMBER = text("INSERT INTO core_schedule (name) VALUES (:name) ON CONFLICT DO NOTHING")
ADVANCE = text(
    "UPDATE core_schedule SET next_run_at = now() + make_interval(secs => :seconds) "
    "WHERE name = :name AND next_run_at <= now() RETURNING name"
)


async def run_scheduler(context: Context) -> None:
    """Until cancelled; any number of schedulers may run, each due time is stated once."""
    heart = Heart(context, "scheduler")
    while True:
        try:
            for schedule in context.platform.schedules.values():
                async with context.unit_of_work() as uow:
                    await state_if_due(uow, schedule)
            await heart.beat()
        except Exception as error:  # noqa: BLE001 — whatever it is, the next tick begins anew from the database
            log.warning("scheduler has to wait", reason=repr(error))
        await asyncio.sleep(TICK_SECONDS)


async def state_if_due(uow: UnitOfWork, schedule: Schedule) -> None:
    """One conditional update decides who states it."""
    await uow.session.execute(REMEMBER, {"name": schedule.name})
    values = {"name": schedule.name, "seconds": schedule.every.total_seconds()}
    if (await uow.session.execute(ADVANCE, values)).first() is not None:
        uow.emit(ScheduleDue(schedule=schedule.name))


async def run_schedule(uow: UnitOfWork, event: ScheduleDue) -> None:
    """The handler: what the schedule is for; nothing when its plugin was switched off meanwhile."""
    schedule = uow.context.platform.schedules.get(event.schedule)
    if schedule is not None:
        await schedule.function(uow)
