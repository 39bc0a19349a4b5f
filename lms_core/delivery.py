"""Doing one delivery: exactly once where its effect is in PostgreSQL, at least once where it is outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal
from uuid import UUID

import structlog
from prometheus_client import Counter
from pydantic import ValidationError
from sqlalchemy import Uuid, bindparam, text
from sqlalchemy.engine import RowMapping

from lms_core import tracing
from lms_core.errors import Unavailable
from lms_core.outbox import FIRST_IN_ORDER
from lms_core.types import Handler
from lms_core.uow import Context, UnitOfWork

log = structlog.get_logger("lms.delivery")

MAX_ATTEMPTS = 8
BACKOFF_SECONDS = 1.0
BACKOFF_LIMIT_SECONDS = 300.0
PAUSE_SECONDS = 15.0
ERROR_CHARACTERS = 2_000
LOCK_SEED = 1
ONLY_WORKER = text(
    f"SELECT pg_try_advisory_xact_lock(hashtextextended(:key, {LOCK_SEED})), "
    "set_config('idle_in_transaction_session_timeout', '0', true)"
)

Outcome = Literal["done", "failed", "dead", "skipped"]
OUTCOMES = Counter("lms_deliveries_total", "Deliveries by handler and outcome", ["handler", "outcome"])

# A crash of the process counts as an attempt, since this is committed before the handler runs.
COUNT = text(
    f"""
    UPDATE core_delivery SET attempts = attempts + 1, at_work = true
    WHERE id = (
        SELECT id FROM core_delivery
        WHERE id = :id AND done_at IS NULL AND dead_at IS NULL AND {FIRST_IN_ORDER} FOR UPDATE SKIP LOCKED
    )
    RETURNING attempts, handler, event_id, (SELECT traceparent FROM core_event WHERE core_event.id = event_id)
    """
)
EVENT = text("SELECT payload, request_id, actor_id FROM core_event WHERE id = :id")
LOCK = text(
    "SELECT id FROM core_delivery WHERE id = :id AND done_at IS NULL AND dead_at IS NULL FOR UPDATE SKIP LOCKED"
)
# What comes next in the same order may begin.
DONE = text(
    """
    WITH done AS (
        UPDATE core_delivery SET done_at = now(), in_flight = false, at_work = false, last_error = NULL
        WHERE id = :id AND done_at IS NULL RETURNING order_key
    )
    SELECT pg_notify('lms_outbox', '') FROM done WHERE order_key IS NOT NULL
    """
)
FAILED = text(
    """
    UPDATE core_delivery SET in_flight = false, at_work = false, last_error = :error,
        attempts = CASE WHEN :waits THEN attempts - 1 ELSE attempts END,
        dead_at = CASE WHEN attempts >= :max_attempts AND NOT :waits THEN now() END,
        next_attempt_at = now() + make_interval(
            secs => CASE WHEN :waits THEN :pause ELSE least(:backoff * 2 ^ attempts, :limit) END)
    WHERE id = :id AND done_at IS NULL RETURNING dead_at IS NOT NULL AS dead
    """
)


REPLAY = text(
    """
    UPDATE core_delivery SET dead_at = NULL, attempts = 0, in_flight = false, next_attempt_at = now()
    WHERE dead_at IS NOT NULL AND done_at IS NULL AND (:id IS NULL OR id = :id)
    RETURNING id
    """
).bindparams(bindparam("id", type_=Uuid()))
DEAD = text(
    """
    SELECT d.id, d.handler, e.name, d.dead_at, d.last_error FROM core_delivery d JOIN core_event e ON e.id = d.event_id
    WHERE d.dead_at IS NOT NULL AND d.done_at IS NULL ORDER BY d.dead_at, d.id
    """
)


class NobodyThere(LookupError):
    """This process does not have what it takes: the plugin is not enabled here, or the event is newer than this version."""


async def deliver(context: Context, delivery_id: UUID) -> Outcome:
    """Do what one handler has to do about one event; a failure is recorded, tried again later, and finally dead.

    A delivery that somebody else is at work on, or that is done, is skipped.
    """
    async with only_worker(context, delivery_id) as mine:
        if not mine:
            return "skipped"
        counted = await count_attempt(context, delivery_id)
        if counted is None:
            return "skipped"
        name = str(counted["handler"])
        handler = context.platform.handlers.get(name)
        with tracing.span_of_handler(name, delivery_id, counted["attempts"], counted["traceparent"]) as span:
            try:
                if counted["attempts"] > MAX_ATTEMPTS:
                    raise RuntimeError("the process that ran this handler died each time")
                if handler is None:
                    raise NobodyThere(f"no enabled plugin has the handler {name}")
                finished = await run_handler(context, handler, delivery_id, counted["event_id"])
            except Exception as error:
                tracing.failed(span, error)
                outcome = await record_failure(context, delivery_id, error)
                log.warning("delivery failed", handler=name, delivery=str(delivery_id), outcome=outcome, exc_info=error)
            else:
                outcome = "done" if finished else "skipped"
    OUTCOMES.labels(name, outcome).inc()
    return outcome


@asynccontextmanager
async def only_worker(context: Context, delivery_id: UUID) -> AsyncIterator[bool]:
    """Whether this process alone is at work on the delivery; the lock goes with the connection, so with a crash.

    Its transaction does nothing else and holds no snapshot. A lock of the session would stay behind in a pooler.
    """
    async with context.database.session() as session:
        locked = await session.execute(ONLY_WORKER, {"key": str(delivery_id)})
        yield bool(locked.scalar_one())


async def count_attempt(context: Context, delivery_id: UUID) -> RowMapping | None:
    """Count and commit, before anything can go wrong."""
    async with context.unit_of_work() as uow:
        return (await uow.session.execute(COUNT, {"id": delivery_id})).mappings().first()


async def run_handler(context: Context, handler: Handler, delivery_id: UUID, event_id: UUID) -> bool:
    """The handler and its done-mark; False when the delivery was done meanwhile."""
    async with context.unit_of_work() as uow:
        if (await uow.session.execute(LOCK, {"id": delivery_id})).first() is None:
            return False
        stored = (await uow.session.execute(EVENT, {"id": event_id})).mappings().one()
        try:
            event = handler.event.model_validate(stored["payload"])
        except ValidationError as error:
            raise NobodyThere(f"this version does not know this form of {handler.event.event_name}: {error}") from None
        uow.request_id, uow.caused_by = stored["request_id"], stored["actor_id"]
        if handler.transactional:
            with structlog.contextvars.bound_contextvars(request_id=uow.request_id, handler=handler.name):
                await handler.function(uow, event)
            await mark_done(uow, delivery_id)
            return True
    with structlog.contextvars.bound_contextvars(request_id=stored["request_id"], handler=handler.name):
        await handler.function(context, event)
    async with context.unit_of_work() as uow:
        await mark_done(uow, delivery_id)
    return True


async def mark_done(uow: UnitOfWork, delivery_id: UUID) -> None:
    """The last statement of the handler's transaction."""
    await uow.session.flush()
    await uow.session.execute(DONE, {"id": delivery_id})


async def record_failure(context: Context, delivery_id: UUID, error: Exception) -> Outcome:
    """Keep the reason, and try again later, or give up.

    An engine that is away, a plugin that is switched off, or a worker that is older than the event is no fault of the
    delivery: it waits, as long as it takes.
    """
    waits = isinstance(error, (Unavailable, NobodyThere))
    values: dict[str, Any] = {
        "id": delivery_id,
        "error": repr(error)[:ERROR_CHARACTERS].replace("\0", ""),
        "max_attempts": MAX_ATTEMPTS,
        "backoff": BACKOFF_SECONDS,
        "limit": BACKOFF_LIMIT_SECONDS,
        "waits": waits,
        "pause": PAUSE_SECONDS,
    }
    async with context.unit_of_work() as uow:
        row = (await uow.session.execute(FAILED, values)).first()
    return "dead" if row is not None and row.dead else "failed"


async def dead_deliveries(context: Context) -> list[RowMapping]:
    """What was given up, oldest first."""
    async with context.unit_of_work() as uow:
        return list((await uow.session.execute(DEAD)).mappings())


async def replay(context: Context, delivery_id: UUID | None) -> int:
    """Let one dead delivery, or all of them, be tried anew; how many."""
    async with context.unit_of_work() as uow:
        ids = list((await uow.session.execute(REPLAY, {"id": delivery_id})).scalars())
        await uow.session.execute(text("SELECT pg_notify('lms_outbox', '')"))
    return len(ids)
