"""Connections for reads, each lent for one statement, in the order in which they are asked for.

asyncpg's own pool wraps a connection anew each time and gives it back in a task: that takes longer than all else it does
for a quick read (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from lms_core.errors import Unavailable
from lms_core.session import BUSY, refuse_dead

WAIT_SECONDS = 5.0
"""For a connection that other reads have: longer than the watch takes to notice that the database is away."""
CLOSE_SECONDS = 2.0


class ReadPool:
    """Up to `size` connections; each is opened by `open_one` when no other is free, and stays."""

    def __init__(self, open_one: Callable[[], Awaitable[asyncpg.Connection]], size: int) -> None:
        self.open_one, self.size = open_one, size
        # A place is a connection, or None where one is still to be opened; the last to come back is the first to be lent.
        self.free: list[asyncpg.Connection | None] = [None] * size
        self.waiting: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self.ending: set[asyncio.Task[None]] = set()

    @property
    def used(self) -> int:
        """How many are lent."""
        return self.size - len(self.free)

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """Run one statement. Raises Unavailable: `busy` when others keep all connections, `database_away` when its own died."""
        connection = await self.take()
        is_over = False
        try:
            rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
            is_over = True
        except asyncpg.PostgresError:
            is_over = True
            raise
        except (asyncpg.InternalClientError, AttributeError) as error:
            refuse_dead(connection, error)
            raise
        finally:
            if is_over or connection.is_closed():
                self.give_back(connection)
            else:
                self.end(connection)
        return rows

    async def take(self) -> asyncpg.Connection:
        """A connection that works as far as anybody knows."""
        connection = self.free.pop() if self.free else await self.next_free()
        if connection is not None and not connection.is_closed():
            return connection
        try:
            return await self.open_one()
        except BaseException:
            self.give_back(None)
            raise

    async def next_free(self) -> asyncpg.Connection | None:
        """The next place that comes back and that nobody has waited longer for."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[asyncpg.Connection | None] = loop.create_future()
        self.waiting.append(turn)
        limit = loop.call_later(WAIT_SECONDS, refuse, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(turn.result())
            raise
        finally:
            limit.cancel()

    def give_back(self, connection: asyncpg.Connection | None) -> None:
        """To who waits longest, else to all."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self.free.append(connection)

    def end(self, connection: asyncpg.Connection) -> None:
        """Close one on which something is still under way, since whoever asked has given up; then open another."""
        task = asyncio.create_task(self.close_one(connection))
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)

    async def close_one(self, connection: asyncpg.Connection) -> None:
        """Its place is free when it is closed: the driver has PostgreSQL stop first."""
        try:
            await connection.close(timeout=CLOSE_SECONDS)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()
        finally:
            self.give_back(None)

    async def close(self) -> None:
        """Close those that are not lent."""
        await asyncio.gather(*self.ending)
        free, self.free = self.free, []
        for connection in free:
            if connection is not None and not connection.is_closed():
                await self.close_one(connection)


def refuse(turn: asyncio.Future[Any]) -> None:
    """503 for who has waited too long."""
    if not turn.done():
        turn.set_exception(Unavailable(BUSY, "busy", 1))
