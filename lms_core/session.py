"""The session of a unit of work: SQLAlchemy's, which runs statements that are compiled already on the driver itself.

Through SQLAlchemy each of those takes three times as long, and its own beginning and end of a transaction as long as ten
statements. A connection of the pool is opened with the first use, and shared by both ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import asyncpg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

Rows = Sequence[Mapping[str, Any]]
PLACE = "lms_place"
"""In a session's `info`: its `Place`."""


class Place:
    """The one connection of a session, from its first use on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connection: Connection | None = None
        self.driver: asyncpg.Connection | None = None

    def opened(self) -> Connection:
        """The connection, which SQLAlchemy's own pool gives. Called where it may wait: in a greenlet."""
        if self.connection is None:
            self.connection = self.engine.connect()
            self.driver = self.connection.connection.driver_connection
        return self.connection

    def begin_with(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Run the first statement of a transaction: the cursor of SQLAlchemy's driver begins one. In a greenlet."""
        connection = self.opened()
        try:
            cursor = connection.connection.cursor()
            cursor.execute(sql, arguments)
            rows: Rows = cursor.fetchall()
        except connection.dialect.loaded_dbapi.Error as error:
            if self.driver is None or self.driver.is_closed():
                connection.invalidate(error)
            raise_as_sqlalchemy(sql, error, error.__cause__)
        return rows

    def close(self) -> None:
        """Roll back what is not committed, and give the connection back. In a greenlet, where there is such a thing."""
        connection, self.connection, self.driver = self.connection, None, None
        if connection is not None:
            connection.close()


class SessionInPlace(Session):
    """SQLAlchemy's session, on that connection."""

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        """Where everything runs."""
        place: Place = self.info[PLACE]
        return place.opened()


class DirectSession(AsyncSession):
    """A session with `fetch`. Its transaction begins with the first statement, whichever way that takes."""

    sync_session_class = SessionInPlace

    def __init__(self, engine: Engine, count: Callable[[], None]) -> None:
        self.place, self.count = Place(engine), count
        super().__init__(expire_on_commit=False, info={PLACE: self.place})

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Run SQL in the dialect of the driver, after what waits to be flushed. Raises `DBAPIError` as sessions do."""
        if self.sync_session.autoflush:
            await self.flush()
        self.count()
        driver = self.place.driver
        # In no transaction: none has begun, or a flush failed and ended it, which the next commit says.
        if driver is None or driver.is_closed() or not driver.is_in_transaction():
            rows: Rows = await greenlet_spawn(self.place.begin_with, sql, arguments)
            return rows
        try:
            rows = await driver.fetch(sql, *arguments)
        except asyncpg.PostgresError as error:
            raise_as_sqlalchemy(sql, error, error)
        return rows

    async def flush(self, *_: Any, **__: Any) -> None:
        """Send pending changes to the database, if there are any."""
        inner = self.sync_session
        if inner.new or inner.dirty or inner.deleted:
            await super().flush()

    async def commit(self) -> None:
        """Flush and commit."""
        await greenlet_spawn(self.end, self.sync_session.commit, "commit")

    async def rollback(self) -> None:
        """Take back everything since the transaction began."""
        await greenlet_spawn(self.end, self.sync_session.rollback, "rollback")

    def end(self, of_session: Callable[[], None], name: str) -> None:
        """End the transaction by the session, where that is part of it, else by the driver."""
        if self.sync_session.in_transaction():
            of_session()
        if self.place.driver is not None and self.place.driver.is_in_transaction():
            getattr(self.place.opened().connection, name)()

    async def close(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        driver = self.place.driver
        if self.sync_session.in_transaction() or (driver is not None and driver.is_in_transaction()):
            await greenlet_spawn(self.leave)
        else:
            # There is nothing to wait for.
            self.place.close()

    def leave(self) -> None:
        """The same, in a greenlet."""
        try:
            self.sync_session.close()
        finally:
            self.place.close()


def raise_as_sqlalchemy(sql: str, error: BaseException, cause: BaseException | None) -> NoReturn:
    """As SQLAlchemy names errors of the driver; without what the statement was asked with."""
    broken = isinstance(cause, asyncpg.IntegrityConstraintViolationError)
    raise (IntegrityError if broken else DBAPIError)(sql, None, error, hide_parameters=True) from error


def refuse_closed(connection: Any, *_: Any) -> None:
    """A listener of a pool: no connection leaves it that the server has ended, nor any other of that age."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError("The server has closed this connection.")
