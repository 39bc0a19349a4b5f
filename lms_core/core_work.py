"""What the core itself does in the background."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from lms_core.cascade import resume_stuck, run_cascade, run_restore, take_what_was_left
from lms_core.deletion import Deleted, RestoreRequested
from lms_core.heartbeats import PULSE_SECONDS, pulse
from lms_core.idempotency import forget_expired
from lms_core.import_work import resume_stuck as resume_stuck_imports
from lms_core.import_work import run_import, run_undo
from lms_core.imports import ImportStarted, UndoRequested
from lms_core.outbox import catch_up
from lms_core.purge import PurgeDue, call_for_purge, purge_on_schedule
from lms_core.scheduler import ScheduleDue, run_schedule
from lms_core.types import Handler, Schedule
from lms_core.uow import UnitOfWork

EVENTS_KEPT_DAYS = 30
CATCH_UP_SECONDS = 7_200.0
FORGOTTEN_AT_ONCE = 10_000
"""Rows of each table in one pass, every minute: 14 million in a day, and no statement that takes long."""
FORGET_DELIVERIES = text(
    f"""
    DELETE FROM core_delivery WHERE id IN (
        SELECT delivery.id FROM core_event AS event JOIN core_delivery AS delivery ON delivery.event_id = event.id
        WHERE event.created_at < now() - interval '{EVENTS_KEPT_DAYS} days'
        AND delivery.done_at < now() - interval '{EVENTS_KEPT_DAYS} days'
        ORDER BY event.created_at LIMIT :most
    )
    """
)
FORGET_EVENTS = text(
    f"""
    DELETE FROM core_event WHERE id IN (
        SELECT event.id FROM core_event AS event WHERE event.created_at < now() - interval '{EVENTS_KEPT_DAYS} days'
        AND NOT EXISTS (SELECT FROM core_delivery WHERE event_id = event.id)
        ORDER BY event.created_at LIMIT :most
    )
    """
)


async def owe_what_was_missed(uow: UnitOfWork) -> None:
    """While an upgrade runs, older processes state events that they have no handler for."""
    await catch_up(uow, CATCH_UP_SECONDS)


async def forget_events(uow: UnitOfWork) -> None:
    """Remove some of what was delivered long ago; what is dead or open stays."""
    await uow.session.execute(FORGET_DELIVERIES, {"most": FORGOTTEN_AT_ONCE})
    await uow.session.execute(FORGET_EVENTS, {"most": FORGOTTEN_AT_ONCE})


CORE_HANDLERS = (
    Handler("core.cascade", Deleted, run_cascade, transactional=False),
    Handler("core.restore", RestoreRequested, run_restore, transactional=False),
    Handler("core.import", ImportStarted, run_import, transactional=False),
    Handler("core.undo_import", UndoRequested, run_undo, transactional=False),
    Handler("core.purge", PurgeDue, purge_on_schedule, transactional=False),
    Handler("core.run_schedule", ScheduleDue, run_schedule),
)
CORE_SCHEDULES = (
    Schedule("core.pulse", timedelta(seconds=PULSE_SECONDS), pulse),
    Schedule("core.catch_up", timedelta(minutes=10), owe_what_was_missed),
    Schedule("core.resume_stuck_deletions", timedelta(minutes=5), resume_stuck),
    Schedule("core.take_what_was_left", timedelta(hours=1), take_what_was_left),
    Schedule("core.purge", timedelta(hours=1), call_for_purge),
    Schedule("core.resume_stuck_imports", timedelta(minutes=5), resume_stuck_imports),
    Schedule("core.forget_idempotency_keys", timedelta(hours=1), forget_expired),
    Schedule("core.forget_events", timedelta(minutes=1), forget_events),
)
