"""The connections that reads take: what happens when one ends at a bad moment, and when all are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from lms_core.db import Database
from lms_core.errors import Unavailable
from lms_core.testing import Lms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def single(lms: Lms) -> AsyncIterator[Database]:
    """The same database with one connection for reads."""
    database = Database(lms.context.settings.database_url, read_pool=1)
    yield database
    await database.close()


async def test_a_connection_that_ends_when_its_read_has_its_rows_takes_nothing_from_it(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = asyncpg.Connection.fetch

    async def fetch_and_end(connection: asyncpg.Connection, *arguments: Any) -> Any:
        rows = await fetch(connection, *arguments)
        # Before asyncpg's task that gives it back has begun.
        asyncio.get_running_loop().call_soon(connection.terminate)
        return rows

    monkeypatch.setattr(asyncpg.Connection, "fetch", fetch_and_end)
    for _ in range(3):
        assert [row["one"] for row in await single.read("SELECT 1 AS one", [])] == [1]


async def test_a_read_that_gets_no_connection_since_others_have_them_says_so(
    single: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lms_core.db.WAIT_SECONDS", 0.5)
    await single.read("SELECT 1", [])
    first = asyncio.create_task(single.read("SELECT 'done' AS word FROM pg_sleep(2)", []))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await single.read("SELECT 1", [])
    assert refused.value.code == "busy"
    assert [row["word"] for row in await first] == ["done"]
