"""The connections that reads take: what happens when one ends at a bad moment, when all are taken, and when somebody gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from lms_core.db import Database
from lms_core.errors import Unavailable
from lms_core.testing import Lms

pytestmark = pytest.mark.anyio

SLOW = "SELECT 'done' AS word FROM pg_sleep(1)"


@pytest.fixture
async def single(lms: Lms) -> AsyncIterator[Database]:
    """The same database with one connection for reads."""
    database = Database(lms.context.settings.database_url, read_pool=1)
    yield database
    await database.close()


def used(database: Database) -> int:
    """Connections for reads that are lent now."""
    return database.usage()["read"][0]


async def backend(database: Database) -> int:
    """Which process of PostgreSQL answers."""
    [row] = await database.read("SELECT pg_backend_pid() AS pid", [])
    return int(row["pid"])


async def test_a_connection_stays_and_one_that_ended_is_replaced(single: Database) -> None:
    first = await backend(single)
    assert await backend(single) == first
    for connection in list(single.connections):
        connection.terminate()
    assert await backend(single) != first
    assert used(single) == 0


async def test_an_error_of_the_server_leaves_the_connection(single: Database) -> None:
    first = await backend(single)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await single.read("SELECT 1 / 0", [])
    assert await backend(single) == first


async def test_a_read_that_gets_no_connection_since_others_have_them_says_so(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lms_core.read_pool.WAIT_SECONDS", 0.5)
    first = asyncio.create_task(single.read("SELECT 'done' AS word FROM pg_sleep(2)", []))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await single.read("SELECT 1", [])
    assert refused.value.code == "busy"
    assert [row["word"] for row in await first] == ["done"]
    # Whoever gave up stands in nobody's way.
    assert await backend(single)


async def test_who_waits_longest_is_next(single: Database) -> None:
    order: list[int] = []

    async def read(number: int) -> None:
        await single.read("SELECT pg_sleep(0.01)", [])
        order.append(number)

    await asyncio.gather(*map(read, range(8)))
    assert order == list(range(8))


async def test_a_read_that_nobody_waits_for_any_more_is_stopped_in_the_database(lms: Lms, single: Database) -> None:
    await backend(single)
    given_up = asyncio.create_task(single.read("SELECT pg_sleep(20)", []))
    next_one = asyncio.create_task(backend(single))
    await asyncio.sleep(0.2)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await asyncio.wait_for(next_one, 5)
    left = await lms.sql(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)' AND state = 'active'"
    )
    assert left[0]["n"] == 0
    assert used(single) == 0


@pytest.mark.parametrize("given_already", [False, True], ids=["while it waits", "when its turn has come"])
async def test_who_gives_up_waiting_takes_no_connection_with_them(single: Database, given_already: bool) -> None:
    await backend(single)
    if given_already:
        # Its turn comes and it gives up within one step of the loop.
        connection = await single.reads[False].take()
        waiting = asyncio.create_task(backend(single))
        await asyncio.sleep(0)
        single.reads[False].give_back(connection)
        waiting.cancel()
    else:
        first = asyncio.create_task(single.read(SLOW, []))
        waiting = asyncio.create_task(backend(single))
        await asyncio.sleep(0.1)
        waiting.cancel()
        await first
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert used(single) == 0
    assert await backend(single)


async def refuse(*_: Any, **__: Any) -> None:
    raise OSError


async def test_what_cannot_be_opened_takes_no_place(single: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = asyncpg.connect
    monkeypatch.setattr(asyncpg, "connect", refuse)
    results = await asyncio.gather(*(single.read("SELECT 1", []) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
    monkeypatch.setattr(asyncpg, "connect", connect)
    assert await backend(single)


async def test_where_postgresql_has_no_more_connections_those_that_come_back_are_waited_for(lms: Lms) -> None:
    url = urlsplit(lms.context.settings.database_url)
    role = f"few_{uuid4().hex[:8]}"
    await lms.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'few' CONNECTION LIMIT 2")
    database = Database(url._replace(netloc=f"{role}:few@{url.netloc.rpartition('@')[2]}").geturl(), read_pool=5)
    pids = await asyncio.gather(
        *(database.read("SELECT pg_backend_pid() AS pid, pg_sleep(0.1)", []) for _ in range(20))
    )
    assert len({row["pid"] for [row] in pids}) == 2
    assert (used(database), len(database.reads[False].idle), database.reads[False].unopened) == (0, 2, 3)
    # Where nobody would give one back, nobody waits.
    await lms.sql(f"ALTER ROLE {role} CONNECTION LIMIT 0")
    await database.end_connections()
    with pytest.raises(asyncpg.TooManyConnectionsError):
        await database.read("SELECT 1", [])
    await database.close()
    await lms.sql(f"DROP ROLE {role}")


async def test_while_none_can_be_opened_those_that_are_there_are_lent(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(lms.context.settings.database_url, read_pool=3)
    await asyncio.gather(*(database.read("SELECT pg_sleep(0.05)", []) for _ in range(3)))
    assert len(database.connections) == 3
    # The last to come back would be the first to be lent.
    database.reads[False].idle[-1].terminate()
    monkeypatch.setattr(asyncpg, "connect", refuse)
    pids = {await backend(database) for _ in range(5)}
    assert len(pids) == 1
    monkeypatch.undo()
    await asyncio.gather(*(database.read("SELECT pg_sleep(0.05)", []) for _ in range(3)))
    assert (database.usage()["read"], len(database.reads[False].idle)) == ((0, 3), 3)
    await database.close()


async def test_who_reads_or_waits_while_all_connections_end_is_served_by_a_new_one(single: Database) -> None:
    first = asyncio.create_task(single.read(SLOW, []))
    waiting = [asyncio.create_task(backend(single)) for _ in range(3)]
    await asyncio.sleep(0.2)
    await single.end_connections()
    assert [row["word"] for row in await first] == ["done"]
    assert len(set(await asyncio.gather(*waiting))) == 1
    assert used(single) == 0


async def test_a_read_whose_connection_somebody_ended_is_asked_again_once(lms: Lms, single: Database) -> None:
    ended = 0

    async def end_those_that_sleep(times: int) -> None:
        nonlocal ended
        while ended < times:
            await asyncio.sleep(0.05)
            query = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1.5)' AND state = 'active'"
            ended += len(await lms.sql(query))

    asked = "SELECT 'done' AS word FROM pg_sleep(1.5)"
    [rows, _] = await asyncio.gather(single.read(asked, []), end_those_that_sleep(1))
    assert [row["word"] for row in rows] == ["done"]
    ended = 0
    with pytest.raises(Unavailable) as refused:
        await asyncio.gather(single.read(asked, []), end_those_that_sleep(2))
    assert refused.value.code == "database_away"
    assert used(single) == 0
    assert await backend(single)


async def test_a_read_is_asked_again_on_a_new_connection_and_not_on_another_old_one(
    lms: Lms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have ended, and nobody has noticed yet."""
    database = Database(lms.context.settings.database_url, read_pool=3)
    await asyncio.gather(*(database.read("SELECT pg_sleep(0.05)", []) for _ in range(3)))
    old, fetch = set(database.connections), asyncpg.Connection.fetch

    async def refused_by_old(connection: asyncpg.Connection, *arguments: Any) -> Any:
        if connection in old:
            raise asyncpg.ConnectionDoesNotExistError
        return await fetch(connection, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "fetch", refused_by_old)
    assert await backend(database)
    assert all(connection.is_closed() for connection in old)
    assert (database.usage()["read"], database.reads[False].unopened) == ((0, 3), 2)
    await database.close()


async def test_closing_ends_all_of_them_those_that_are_lent_when_they_come_back(lms: Lms) -> None:
    database = Database(lms.context.settings.database_url, read_pool=2)
    await asyncio.gather(*(database.read("SELECT pg_sleep(0.05)", []) for _ in range(2)))
    lent = asyncio.create_task(database.read(SLOW, []))
    also_lent = asyncio.create_task(database.read(SLOW, []))
    waiting = asyncio.create_task(database.read("SELECT 1", []))
    await asyncio.sleep(0.1)
    await database.close()
    assert [row["word"] for row in [*await lent, *await also_lent]] == ["done", "done"]
    for read in (waiting, database.read("SELECT 1", [])):
        with pytest.raises(Unavailable) as refused:
            await read
        assert refused.value.code == "database_away"
    assert all(connection.is_closed() for connection in database.connections)
