"""Events and their deliveries: stored with the change, done once, tried again, and dead in the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from lms_core import core_work
from lms_core.delivery import MAX_ATTEMPTS, dead_deliveries, deliver, only_worker, replay
from lms_core.errors import Unavailable
from lms_core.outbox import catch_up
from lms_core.relay import MARKER, Relay
from lms_core.testing import Lms
from lms_core.types import Event, Handler

pytestmark = pytest.mark.anyio


class Happened(Event, name="core.tested.v1"):
    """Something for these tests."""

    note: str


@pytest.fixture
async def handled(lms: Lms) -> AsyncIterator[list[str]]:
    """Handles `Happened` by writing an event row; the list decides what goes wrong."""
    plan: list[str] = []

    async def write(uow: Any, event: Happened) -> None:
        await lms_insert(uow, event.note)
        if plan and plan.pop(0) == "fail":
            raise ValueError("planted")

    async def lms_insert(uow: Any, note: str) -> None:
        from lms_core.outbox import StoredEvent

        uow.session.add(StoredEvent(name="effect", payload={"note": note}))
        await uow.session.flush()

    handler = Handler("core.test_write", Happened, write)
    platform = lms.context.platform
    platform.handlers[handler.name] = handler
    platform.handlers_of[Happened.event_name] = [handler]
    await lms.work_off()
    yield plan
    del platform.handlers[handler.name], platform.handlers_of[Happened.event_name]
    await lms.sql("UPDATE core_delivery SET done_at = now() WHERE handler = 'core.test_write' AND done_at IS NULL")


async def effects(lms: Lms, note: str) -> int:
    rows = await lms.sql("SELECT id FROM core_event WHERE name = 'effect' AND payload->>'note' = :note", note=note)
    return len(rows)


async def emit(lms: Lms, note: str) -> UUID:
    async with lms.context.unit_of_work() as uow:
        uow.emit(Happened(note=note))
    rows = await lms.sql(
        "SELECT d.id FROM core_delivery d JOIN core_event e ON e.id = d.event_id WHERE e.payload->>'note' = :note",
        note=note,
    )
    found: UUID = rows[0]["id"]
    return found


async def row(lms: Lms, id: UUID) -> Any:
    return (await lms.sql("SELECT * FROM core_delivery WHERE id = :id", id=id))[0]


async def test_an_event_of_a_change_that_failed_never_happened(lms: Lms, handled: list[str]) -> None:
    async def fail() -> None:
        async with lms.context.unit_of_work() as uow:
            uow.emit(Happened(note="never"))
            await uow.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await lms.sql("SELECT id FROM core_event WHERE payload->>'note' = 'never'") == []


async def test_a_delivery_that_is_sent_ten_times_is_done_once(lms: Lms, handled: list[str]) -> None:
    id = await emit(lms, "once")
    outcomes = await asyncio.gather(*(deliver(lms.context, id) for _ in range(10)))
    assert sorted(outcomes) == ["done"] + ["skipped"] * 9
    assert await effects(lms, "once") == 1
    assert (await row(lms, id))["attempts"] == 1


async def test_a_failure_leaves_no_effect_and_is_tried_again_later(lms: Lms, handled: list[str]) -> None:
    handled[:] = ["fail", "fail"]
    id = await emit(lms, "again")
    assert await deliver(lms.context, id) == "failed"
    failed = await row(lms, id)
    assert (failed["attempts"], failed["in_flight"], failed["last_error"]) == (1, False, "ValueError('planted')")
    due = await lms.sql("SELECT next_attempt_at > now() AS later FROM core_delivery WHERE id = :id", id=id)
    assert due[0]["later"]
    assert await effects(lms, "again") == 0
    assert await deliver(lms.context, id) == "failed"
    assert await deliver(lms.context, id) == "done"
    assert await effects(lms, "again") == 1


async def test_poison_dies_after_its_attempts_and_is_seen(lms: Lms, handled: list[str]) -> None:
    handled[:] = ["fail"] * 100
    id = await emit(lms, "poison")
    outcomes = [await deliver(lms.context, id) for _ in range(MAX_ATTEMPTS + 1)]
    assert outcomes == ["failed"] * (MAX_ATTEMPTS - 1) + ["dead", "skipped"]
    assert await effects(lms, "poison") == 0
    await asyncio.sleep(1.1)
    health = (await lms.client.get("/health")).json()
    assert health["status"] == "degraded"
    assert any("dead" in check.get("detail", "") for check in health["checks"])


async def test_a_process_that_dies_each_time_counts_too(lms: Lms, handled: list[str]) -> None:
    id = await emit(lms, "killer")
    await lms.sql("UPDATE core_delivery SET attempts = :n WHERE id = :id", n=MAX_ATTEMPTS, id=id)
    assert await deliver(lms.context, id) == "dead"
    assert "died each time" in (await row(lms, id))["last_error"]


async def test_a_handler_that_is_switched_off_keeps_its_delivery(lms: Lms, handled: list[str]) -> None:
    id = await emit(lms, "off")
    handler = lms.context.platform.handlers.pop("core.test_write")
    for _ in range(MAX_ATTEMPTS + 2):
        assert await deliver(lms.context, id) == "failed"
    lms.context.platform.handlers["core.test_write"] = handler
    assert await deliver(lms.context, id) == "done"


async def test_the_relay_sends_what_is_due_and_again_after_the_lease(lms: Lms, handled: list[str]) -> None:
    sent: list[UUID] = []
    relay = Relay(lms.context, sent.extend)
    await relay.pass_once()
    sent.clear()
    id = await emit(lms, "sent")
    assert await relay.pass_once() == 1
    assert sent == [id]
    assert await relay.pass_once() == 0
    await lms.sql("UPDATE core_delivery SET next_attempt_at = now() WHERE id = :id", id=id)
    assert await relay.pass_once() == 1
    assert sent == [id, id]


async def test_the_relay_sends_at_once_again_when_the_broker_has_lost_its_memory(lms: Lms, handled: list[str]) -> None:
    sent: list[UUID] = []
    relay = Relay(lms.context, sent.extend)
    id = await emit(lms, "lost")
    await relay.pass_once()
    assert sent.count(id) == 1
    await lms.context.redis.delete(MARKER)
    await relay.pass_once()
    assert sent.count(id) == 2


async def test_what_the_broker_did_not_take_is_due_at_once(lms: Lms, handled: list[str]) -> None:
    def refuse(ids: Sequence[UUID]) -> None:
        raise ConnectionError("planted")

    id = await emit(lms, "refused")
    with pytest.raises(ConnectionError):
        await Relay(lms.context, refuse).pass_once()
    found = await row(lms, id)
    assert not found["in_flight"]
    sent: list[UUID] = []
    await Relay(lms.context, sent.extend).pass_once()
    assert id in sent


async def test_the_relay_sees_a_worker_die_before_its_lease_ends(lms: Lms, handled: list[str]) -> None:
    sent: list[UUID] = []
    relay = Relay(lms.context, sent.extend)
    id = await emit(lms, "crashed")
    await relay.pass_once()
    await lms.sql("UPDATE core_delivery SET at_work = true, attempts = 1 WHERE id = :id", id=id)
    async with only_worker(lms.context, id):
        relay.looked_for_crashes = 0.0
        await relay.pass_once()
        assert (await row(lms, id))["at_work"]
    relay.looked_for_crashes = 0.0
    await relay.pass_once()
    found = await row(lms, id)
    assert (found["at_work"], found["in_flight"]) == (False, False)
    await asyncio.sleep(1.1)
    await relay.pass_once()
    assert sent.count(id) == 2


async def test_dead_deliveries_are_listed_and_tried_anew(lms: Lms, handled: list[str]) -> None:
    handled[:] = ["fail"] * MAX_ATTEMPTS
    id = await emit(lms, "revived")
    for _ in range(MAX_ATTEMPTS):
        await deliver(lms.context, id)
    assert id in [one["id"] for one in await dead_deliveries(lms.context)]
    assert await replay(lms.context, id) == 1
    assert await deliver(lms.context, id) == "done"
    assert await effects(lms, "revived") == 1


async def test_an_engine_that_is_away_kills_no_delivery(lms: Lms, handled: list[str]) -> None:
    id = await emit(lms, "waiting")
    handler = lms.context.platform.handlers["core.test_write"]

    async def away(uow: Any, event: Happened) -> None:
        raise Unavailable("The store is away.")

    lms.context.platform.handlers["core.test_write"] = replace(handler, function=away)
    for _ in range(MAX_ATTEMPTS + 2):
        assert await deliver(lms.context, id) == "failed"
    lms.context.platform.handlers["core.test_write"] = handler
    assert await deliver(lms.context, id) == "done"


@pytest.fixture
async def ordered(lms: Lms, handled: list[str]) -> list[str]:
    """The same, with one after the other for each note."""
    platform = lms.context.platform
    handler = replace(platform.handlers["core.test_write"], order_by="note")
    platform.handlers[handler.name] = handler
    platform.handlers_of[Happened.event_name] = [handler]
    return handled


async def emitted(lms: Lms, note: str) -> list[UUID]:
    """The deliveries of a note, in the order in which they were stated."""
    rows = await lms.sql(
        "SELECT d.id FROM core_delivery d JOIN core_event e ON e.id = d.event_id WHERE e.payload->>'note' = :note "
        "AND d.handler = 'core.test_write' ORDER BY d.position",
        note=note,
    )
    return [row["id"] for row in rows]


async def test_what_is_about_the_same_thing_is_done_in_its_order(lms: Lms, ordered: list[str]) -> None:
    for note in ("first", "other", "first"):
        await emit(lms, note)
    earlier, later = await emitted(lms, "first")
    [other] = await emitted(lms, "other")
    sent: list[UUID] = []
    relay = Relay(lms.context, sent.extend)
    await relay.pass_once()
    assert later not in sent
    assert {earlier, other} <= set(sent)
    assert await deliver(lms.context, later) == "skipped"
    ordered[:] = ["fail"]
    assert await deliver(lms.context, earlier) == "failed"
    assert await deliver(lms.context, later) == "skipped"
    assert await deliver(lms.context, other) == "done"
    assert await deliver(lms.context, earlier) == "done"
    await relay.pass_once()
    assert later in sent
    assert await deliver(lms.context, later) == "done"
    assert await effects(lms, "first") == 2


async def test_what_is_dead_holds_nothing_up(lms: Lms, ordered: list[str]) -> None:
    ordered[:] = ["fail"] * MAX_ATTEMPTS
    for _ in range(2):
        await emit(lms, "blocked")
    earlier, later = await emitted(lms, "blocked")
    for _ in range(MAX_ATTEMPTS):
        await deliver(lms.context, earlier)
    assert await deliver(lms.context, later) == "done"


async def test_positions_follow_the_locks(lms: Lms, ordered: list[str]) -> None:
    """Whoever had to wait for a row states what they did with it after the one who had it, whoever began first."""
    lock = text("SELECT pg_advisory_xact_lock(4711)")
    async with lms.context.unit_of_work() as second:
        await second.session.execute(text("SELECT 1"))
        async with lms.context.unit_of_work() as first:
            await first.session.execute(lock)
            first.emit(Happened(note="queue"))
        await second.session.execute(lock)
        second.emit(Happened(note="queue"))
    rows = await lms.sql(
        "SELECT e.created_at FROM core_delivery d JOIN core_event e ON e.id = d.event_id "
        "WHERE e.payload->>'note' = 'queue' ORDER BY d.position"
    )
    # By the time of their transactions it would be the other way around.
    assert rows[0]["created_at"] > rows[1]["created_at"]


async def test_a_plugin_that_was_off_hears_of_what_it_missed(lms: Lms, handled: list[str]) -> None:
    """Of what happened since it was first there, once; one that is new hears of nothing from before."""
    platform = lms.context.platform
    handler = platform.handlers["core.test_write"]
    await emit(lms, "before it was known")
    await lms.sql("UPDATE core_delivery SET done_at = now() WHERE done_at IS NULL")
    async with lms.context.unit_of_work() as uow:
        await catch_up(uow, 3600)
    del platform.handlers[handler.name], platform.handlers_of[Happened.event_name]
    async with lms.context.unit_of_work() as uow:
        uow.emit(Happened(note="missed"))
    assert await emitted(lms, "missed") == []
    platform.handlers[handler.name], platform.handlers_of[Happened.event_name] = handler, [handler]
    for expected in (1, 0):
        async with lms.context.unit_of_work() as uow:
            assert await catch_up(uow, 3600) == expected
    [missed] = await emitted(lms, "missed")
    assert await deliver(lms.context, missed) == "done"
    newcomer = replace(handler, name="core.test_newcomer")
    platform.handlers[newcomer.name] = newcomer
    try:
        async with lms.context.unit_of_work() as uow:
            assert await catch_up(uow, 3600) == 0
    finally:
        del platform.handlers[newcomer.name]


async def test_a_new_relay_owes_what_was_missed(lms: Lms, handled: list[str]) -> None:
    async with lms.context.unit_of_work() as uow:
        await catch_up(uow, 3600)
    id = await emit(lms, "lost on the way")
    await lms.sql("DELETE FROM core_delivery WHERE id = :id", id=id)
    sent: list[UUID] = []
    await Relay(lms.context, sent.extend).pass_once()
    assert await emitted(lms, "lost on the way") != []


async def test_a_worker_that_is_older_than_an_event_leaves_it_to_a_newer_one(lms: Lms, handled: list[str]) -> None:
    id = await emit(lms, "newer")
    grown = "UPDATE core_event SET payload = payload || :more WHERE payload->>'note' = 'newer'"
    await lms.sql(grown.replace(":more", "'{\"level\"\\: 2}'::jsonb".replace("::", "\\:\\:")))
    for _ in range(MAX_ATTEMPTS + 2):
        assert await deliver(lms.context, id) == "failed"
    found = await row(lms, id)
    assert (found["dead_at"], found["attempts"]) == (None, 0)
    assert "does not know this form" in found["last_error"]
    await lms.sql("UPDATE core_event SET payload = payload - 'level' WHERE payload->>'note' = 'newer'")
    assert await deliver(lms.context, id) == "done"


async def test_what_was_done_long_ago_is_forgotten_in_portions_and_what_is_dead_stays(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_work, "FORGOTTEN_AT_ONCE", 2)
    made = """
        WITH event AS (
            INSERT INTO core_event (id, name, payload, created_at)
            SELECT gen_random_uuid(), 'probe.old.v1', '{}', now() - interval '40 days' FROM generate_series(1, 4) RETURNING id
        )
        INSERT INTO core_delivery (id, event_id, handler, done_at, dead_at)
        SELECT gen_random_uuid(), id, 'probe', CASE WHEN row_number() OVER () > 1 THEN now() - interval '40 days' END,
            CASE WHEN row_number() OVER () = 1 THEN now() END FROM event
        RETURNING id
    """
    await lms.sql(made)
    left = "SELECT count(*) AS n FROM core_event WHERE name = 'probe.old.v1'"
    numbers = []
    for _ in range(4):
        async with lms.context.unit_of_work() as uow:
            await core_work.forget_events(uow)
        numbers.append((await lms.sql(left))[0]["n"])
    assert numbers == [2, 1, 1, 1]
    await lms.sql("DELETE FROM core_delivery WHERE handler = 'probe' RETURNING id")
    await lms.sql("DELETE FROM core_event WHERE name = 'probe.old.v1' RETURNING id")
