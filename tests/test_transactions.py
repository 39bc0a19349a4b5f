"""A session's transaction, whichever way its statements take: what was not stored is not said to be."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import String, Uuid, bindparam, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, MissingGreenlet, PendingRollbackError
from sqlmodel import col

from lms_core.db import Database, new_id
from lms_core.permissions import Access
from lms_core.statements import Read, Write
from lms_core.testing import Lms
from lms_core.uow import UnitOfWork, is_away

pytestmark = pytest.mark.anyio
Adding = Callable[[UnitOfWork, UUID], Awaitable[Any]]


def institutions(lms: Lms) -> Any:
    return lms.context.platform.kinds.by_name["institutions.institution"].model


INSERT = Write(
    text("INSERT INTO institutions_institution (id, name, slug) VALUES (:row_id, 'New', :slug)").bindparams(
        bindparam("row_id", type_=Uuid()), bindparam("slug", type_=String())
    )
)


async def by_driver(uow: UnitOfWork, id: UUID) -> None:
    await INSERT.run(uow.session, row_id=id, slug=id.hex)


async def by_session(uow: UnitOfWork, id: UUID) -> None:
    model: Any = uow.model("institutions.institution")
    uow.session.add(model(id=id, name="New", slug=id.hex))
    await uow.session.flush()


BOTH = pytest.mark.parametrize("add", [by_driver, by_session])


async def stored(lms: Lms, *ids: UUID) -> list[UUID]:
    rows = await lms.sql("SELECT id FROM institutions_institution WHERE id = ANY(:ids) ORDER BY id", ids=list(ids))
    return [row["id"] for row in rows]


@BOTH
async def test_a_connection_that_dies_before_the_commit_is_no_success(lms: Lms, add: Adding) -> None:
    id = new_id()

    async def work() -> None:
        async with lms.context.unit_of_work() as uow:
            await add(uow, id)
            uow.trail.entries.clear()
            [[pid]] = await uow.session.execute(text("SELECT pg_backend_pid()"))
            await lms.sql("SELECT pg_terminate_backend(:pid, 5000)", pid=pid)

    with pytest.raises((DBAPIError, asyncpg.InterfaceError)) as raised:
        await work()
    assert is_away(raised.value)
    assert await stored(lms, id) == []


@BOTH
async def test_a_savepoint_takes_back_both_ways(lms: Lms, add: Adding) -> None:
    kept, gone = new_id(), new_id()
    async with lms.context.unit_of_work() as uow:
        await add(uow, kept)
        savepoint = await uow.session.begin_nested()
        await add(uow, gone)
        await savepoint.rollback()
    assert await stored(lms, kept, gone) == [kept]


@BOTH
async def test_what_a_savepoint_caught_does_not_break_the_rest(lms: Lms, add: Adding) -> None:
    first, last = new_id(), new_id()
    async with lms.context.unit_of_work() as uow:
        await by_driver(uow, first)
        with pytest.raises(IntegrityError):
            async with uow.session.begin_nested():
                await add(uow, first)
        await by_driver(uow, last)
    assert await stored(lms, first, last) == [first, last]


async def test_a_failure_that_nobody_minded_is_not_committed(lms: Lms) -> None:
    """PostgreSQL answers such a COMMIT with ROLLBACK."""
    id = new_id()

    async def work() -> None:
        async with lms.context.unit_of_work() as uow:
            await by_driver(uow, id)
            with pytest.raises(IntegrityError):
                await by_driver(uow, id)

    with pytest.raises(RuntimeError, match="ROLLBACK"):
        await work()
    assert await stored(lms, id) == []


async def test_after_a_flush_that_failed_nothing_goes_on(lms: Lms) -> None:
    id = new_id()
    model = institutions(lms)
    read = Read(select(col(model.id)).limit(1))
    async with lms.context.unit_of_work() as uow:
        await by_driver(uow, id)
        with pytest.raises(IntegrityError):
            await by_session(uow, id)
        with pytest.raises(PendingRollbackError):
            await read.one(uow.session)
        await uow.take_back()
        assert await read.one(uow.session) is not None
    assert await stored(lms, id) == []


class Refusing:
    """The driver's connection, where the next words are refused before they are done, as by `pg_cancel_backend`."""

    def __init__(self, driver: asyncpg.Connection) -> None:
        self.driver = driver

    async def execute(self, _: str) -> str:
        raise asyncpg.QueryCanceledError("canceling statement due to user request")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)


@BOTH
async def test_a_connection_whose_commit_was_refused_is_not_for_the_next(lms: Lms, add: Adding) -> None:
    id = new_id()
    async with lms.context.database.session() as session:
        uow = UnitOfWork(lms.context, Access(None, system=True))
        uow.opened = session
        await add(uow, id)
        driver: Any = session.transaction.driver
        session.transaction.driver = Refusing(driver)
        with pytest.raises(DBAPIError):
            await session.commit()
    assert driver.is_closed()
    async with lms.context.unit_of_work() as uow:
        await add(uow, id)
        uow.trail.entries.clear()
    assert await stored(lms, id) == [id]


@pytest.mark.filterwarnings("error")
async def test_what_postgresql_refuses_a_new_connection_with_says_that_it_is_away(lms: Lms) -> None:
    parts = urlsplit(lms.context.settings.database_url)
    nowhere = Database(urlunsplit(parts._replace(path="/no_such_database")))
    session = nowhere.session()
    with pytest.raises(DBAPIError) as caught:
        await session.fetch("SELECT 1", [])
    assert is_away(caught.value)
    # The attempt without a greenlet left nothing behind: no coroutine that nobody awaits, no word of it in the log.
    gc.collect()
    assert not isinstance(caught.value.__context__, MissingGreenlet)
    assert nowhere.usage()["write"] == (0, 10)
    await session.close()
    await nowhere.close()


async def test_a_session_whose_entities_come_first_or_last_is_one_transaction(lms: Lms) -> None:
    ids = sorted(new_id() for _ in range(4))
    async with lms.context.unit_of_work() as uow:
        await by_driver(uow, ids[0])
        await by_session(uow, ids[1])
        async with uow.session.begin_nested() as savepoint:
            await by_driver(uow, ids[2])
            await savepoint.rollback()
        await by_driver(uow, ids[3])
        uow.trail.entries.clear()
    assert await stored(lms, *ids) == [ids[0], ids[1], ids[3]]
