"""The relay: sends due deliveries to the workers through the broker, and again when nothing came of it.

It holds no state: who is due, who is in flight and until when stands in PostgreSQL. Any number of relays may run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID, uuid4

import asyncpg
import structlog
from sqlalchemy import text

from lms_core.delivery import LOCK_SEED
from lms_core.heartbeats import Heart
from lms_core.outbox import CHANNEL, FIRST_IN_ORDER, catch_up
from lms_core.uow import Context

log = structlog.get_logger("lms.relay")

LEASE_SECONDS = 30
LEASE_LIMIT_SECONDS = 900
WINDOW = 500
BATCH = 100
IDLE_SECONDS = 1.0
CRASH_INTERVAL_SECONDS = 2.0
CRASH_BACKOFF_SECONDS = 0.5
MARKER = "lms:broker-marker"
# Less than deliveries are remembered for (core_work.py): what was done and forgotten must not be done again.
CATCH_UP_SECONDS = 29 * 86_400.0

CLAIM = text(
    f"""
    UPDATE core_delivery SET in_flight = true,
        next_attempt_at = now() + make_interval(secs => least(:lease * 2 ^ attempts, :limit))
    WHERE id IN (
        SELECT id FROM core_delivery
        WHERE done_at IS NULL AND dead_at IS NULL AND next_attempt_at <= now() AND {FIRST_IN_ORDER}
        ORDER BY next_attempt_at, id LIMIT greatest(0, least(:batch, :window - (
            SELECT count(*) FROM core_delivery
            WHERE done_at IS NULL AND dead_at IS NULL AND in_flight AND next_attempt_at > now()
        ))) FOR UPDATE SKIP LOCKED
    )
    RETURNING id
    """
)
RELEASE = text(
    "UPDATE core_delivery SET in_flight = false, next_attempt_at = now() "
    "WHERE done_at IS NULL AND dead_at IS NULL AND in_flight AND next_attempt_at > now() AND (:all OR id = ANY(:ids))"
)


# A worker at work holds the advisory lock of its delivery (delivery.py); without the lock it has died.
CRASHED = text(
    f"""
    UPDATE core_delivery SET in_flight = false, at_work = false,
        next_attempt_at = now() + make_interval(secs => least(:backoff * 2 ^ attempts, :limit))
    WHERE done_at IS NULL AND dead_at IS NULL AND at_work AND NOT EXISTS (
        SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1
        AND (classid::bigint << 32 | objid::bigint) = hashtextextended(core_delivery.id::text, {LOCK_SEED})
    )
    RETURNING id
    """
)


class Sender(Protocol):
    """How a delivery reaches a worker."""

    def __call__(self, delivery_ids: Sequence[UUID]) -> None:
        """Publish; blocks for a bounded time and raises when the broker does not take it."""


class Relay:
    """One relay, until it is cancelled."""

    def __init__(self, context: Context, send: Sender) -> None:
        self.context, self.send = context, send
        self.woken = asyncio.Event()
        self.looked_for_crashes = 0.0
        self.is_new = True
        self.heart = Heart(context, "relay")

    async def run(self) -> None:
        """Claim and send, woken by NOTIFY and once a second; goes on when engines come and go."""
        listening = asyncio.create_task(self.listen())
        try:
            while True:
                try:
                    sent = await self.pass_once()
                except Exception as error:  # noqa: BLE001 — whatever it is, the next pass begins anew from the database
                    log.warning("relay has to wait", reason=repr(error))
                    await asyncio.sleep(IDLE_SECONDS)
                    continue
                if sent == 0:
                    await self.wait()
        finally:
            listening.cancel()

    async def pass_once(self) -> int:
        """One claim and send; how many were sent."""
        await self.notice_broker_loss()
        await self.notice_crashes()
        await self.heart.beat()
        async with self.context.unit_of_work() as uow:
            ids = list((await uow.session.execute(CLAIM, self.limits())).scalars())
        if not ids:
            return 0
        try:
            await asyncio.to_thread(self.send, ids)
        except Exception:
            # Not sent, so due at once again: the lease would only make them wait.
            async with self.context.unit_of_work() as uow:
                await uow.session.execute(RELEASE, {"all": False, "ids": ids})
            raise
        return len(ids)

    def limits(self) -> dict[str, int]:
        """The parameters of a claim."""
        return {"lease": LEASE_SECONDS, "limit": LEASE_LIMIT_SECONDS, "batch": BATCH, "window": WINDOW}

    async def notice_broker_loss(self) -> None:
        """When the broker has lost its memory, what was in flight is lost too: end every lease.

        Also when this relay is new: what an earlier one sent may have died with its worker, and sending twice does no
        harm.
        """
        if not self.is_new and await self.context.redis.get(MARKER) is not None:
            return
        async with self.context.unit_of_work() as uow:
            await uow.session.execute(RELEASE, {"all": True, "ids": []})
            if self.is_new:
                await catch_up(uow, CATCH_UP_SECONDS)
        await self.context.redis.set(MARKER, uuid4().hex)
        self.is_new = False
        log.info("this relay is new, or the broker has lost its memory; all leases ended")

    async def notice_crashes(self) -> None:
        """Deliveries whose worker died are due again soon, not only when their lease ends."""
        if time.monotonic() - self.looked_for_crashes < CRASH_INTERVAL_SECONDS:
            return
        async with self.context.unit_of_work() as uow:
            values = {"backoff": CRASH_BACKOFF_SECONDS, "limit": LEASE_LIMIT_SECONDS}
            crashed = list((await uow.session.execute(CRASHED, values)).scalars())
        self.looked_for_crashes = time.monotonic()
        if crashed:
            log.warning("workers died at work", deliveries=[str(id) for id in crashed])

    async def wait(self) -> None:
        """Until something was stored, or a second has passed."""
        try:
            await asyncio.wait_for(self.woken.wait(), IDLE_SECONDS)
        except TimeoutError:
            return
        finally:
            self.woken.clear()

    async def listen(self) -> None:
        """Be woken when an event is stored."""
        while True:
            connection: asyncpg.Connection | None = None
            try:
                connection = await asyncpg.connect(
                    self.context.settings.direct_url, timeout=IDLE_SECONDS, command_timeout=2 * IDLE_SECONDS
                )
                await connection.add_listener(CHANNEL, lambda *_: self.woken.set())
                while not connection.is_closed():
                    await asyncio.sleep(IDLE_SECONDS)
                    await connection.fetchval("SELECT 1")
            except Exception as error:  # noqa: BLE001 — who ended silently would never be woken again
                log.warning("relay does not hear the database", reason=repr(error))
                await asyncio.sleep(IDLE_SECONDS)
            finally:
                if connection is not None:
                    connection.terminate()
