"""Connections for reads, each lent for one statement, in the order in which they are asked for.

asyncpg's own pool wraps a connection anew each time and gives it back in a task of its own, which was a fifth of a quick
read (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from lms_core.errors import Unavailable
from lms_core.session import AWAY, BUSY

WAIT_SECONDS = 5.0
"""For a connection that other reads have: longer than the watch takes to notice that the database is away."""
CLOSE_SECONDS = 2.0
LOST = (OSError, AttributeError)
"""What asyncpg raises, beside its own errors, on a connection that has gone (AttributeError: between two steps)."""
ENDED = (
    OSError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
)
"""Errors after which a connection is of no use, noticed or not."""


class ReadPool:
    """Up to `size` connections; each is opened by `open_one` when no other is idle, and stays."""

    def __init__(self, open_one: Callable[[], Awaitable[asyncpg.Connection]], size: int) -> None:
        self.open_one, self.size = open_one, size
        # The last to come back is the first to be lent.
        self.idle: list[asyncpg.Connection] = []
        self.unopened = size
        # Whoever waits is given a connection, or None where they may open one.
        self.waiting: deque[asyncio.Future[asyncpg.Connection | None]] = deque()
        self.is_closed = False

    @property
    def used(self) -> int:
        """How many are lent."""
        return self.size - self.unopened - len(self.idle)

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        """Run one statement, again on a new connection when its own has ended: a read changes nothing.

        Raises Unavailable: `busy` when others keep all connections, `database_away` when that one has ended, too.
        """
        for is_last in (False, True):
            connection = await self.take()
            try:
                rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments)
                return rows
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, *LOST) as error:
                if not has_ended(connection, error):
                    raise
                connection.terminate()
                self.end_idle()
                if is_last:
                    raise Unavailable(AWAY, "database_away") from error
            finally:
                # If whoever asked has given up, the driver has PostgreSQL stop; the next statement waits until it has.
                # Clients that hang up are not heard of: their statement ends by itself, or at its time-out.
                self.give_back(connection)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def take(self) -> asyncpg.Connection:
        """A connection that works as far as anybody knows; one that is idle before one that is still to be opened."""
        may_open = True
        while True:
            while self.idle:
                connection = self.idle.pop()
                if not connection.is_closed():
                    return connection
                self.unopened += 1
            if may_open and self.unopened:
                self.unopened -= 1
            elif (given := await self.next_free()) is not None and not given.is_closed():
                return given
            try:
                if self.is_closed:
                    raise Unavailable(AWAY, "database_away")
                return await self.open_one()
            except asyncpg.TooManyConnectionsError:
                if self.used == 1 and not self.idle:
                    self.give_back(None)
                    raise
                # Others have the last one, but of ours some come back. Whoever waits already would be refused as well.
                self.unopened += 1
                may_open = False
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
        """To who waits longest, else to all; None gives leave to open another."""
        if connection is not None and (self.is_closed or connection.is_closed()):
            connection.terminate()
            connection = None
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self.unopened += 1
        else:
            self.idle.append(connection)

    def end_idle(self) -> None:
        """Whoever ended one has most likely ended all, and it is not noticed before they are used."""
        for connection in self.idle:
            connection.terminate()
        self.unopened += len(self.idle)
        self.idle.clear()

    async def close(self) -> None:
        """Close all that are idle, at once; those that are lent end when they come back."""
        self.is_closed = True
        idle, self.idle = self.idle, []
        self.unopened += len(idle)
        await asyncio.gather(*(close_one(connection) for connection in idle))


async def close_one(connection: asyncpg.Connection) -> None:
    """In order while there is time, else at once."""
    try:
        await connection.close(timeout=CLOSE_SECONDS)
    except Exception:  # noqa: BLE001 — whatever came in the way, it is of no use to anybody any more
        connection.terminate()


def refuse(turn: asyncio.Future[Any]) -> None:
    """503 for who has waited too long."""
    if not turn.done():
        turn.set_exception(Unavailable(BUSY, "busy", 1))


def has_ended(connection: asyncpg.Connection, error: BaseException) -> bool:
    """Whether the error is that the connection has ended, and not what was asked."""
    return isinstance(error, ENDED) or connection.is_closed()
