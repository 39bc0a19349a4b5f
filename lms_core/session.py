"""The session of a unit of work: SQLAlchemy's, which runs statements that are compiled already on the driver itself.

Through SQLAlchemy each of those takes three times as long, and its own beginning and end of a transaction as long as ten
statements. So the transaction is begun and ended here, on a connection that both ways share; for SQLAlchemy that
connection commits by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import asyncpg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from lms_core.errors import Unavailable

AWAY = "The database does not answer at the moment; try again shortly."
Rows = Sequence[Mapping[str, Any]]
TRANSACTION = "lms_transaction"
"""In a session's `info`: its `Transaction`."""


class Transaction:
    """A session's transaction, and the one connection that it has from its first use on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.connection: Connection | None = None
        self.driver: asyncpg.Connection | None = None
        # What we know, not what the driver says: on a connection that died it says that there is none.
        self.is_begun = False

    async def begin(self) -> asyncpg.Connection:
        """The driver's connection, in a transaction."""
        if self.driver is None:
            self.connection = await greenlet_spawn(self.engine.connect)
            self.driver = self.connection.connection.driver_connection
        assert self.driver is not None
        if not self.is_begun:
            await self.say("BEGIN")
            self.is_begun = True
        return self.driver

    def begun(self) -> Connection:
        """SQLAlchemy's connection, in a transaction. Called where it may wait: in a greenlet."""
        if not self.is_begun:
            await_only(self.begin())
        assert self.connection is not None
        return self.connection

    async def say(self, command: str) -> None:
        """`BEGIN`, `COMMIT` or `ROLLBACK`; a transaction that failed cannot be committed."""
        assert self.driver is not None
        assert self.connection is not None
        self.is_begun = False
        try:
            done = await self.driver.execute(command)
        except asyncpg.PostgresError as error:
            if self.driver.is_closed() or self.driver.is_in_transaction():
                # Refused before it was done (somebody cancelled it): the next one could not begin here.
                self.connection.invalidate(error)
            raise as_sqlalchemy(command, error) from error
        except BaseException as error:
            # Nobody knows how it stands: the connection is not for the next one.
            self.connection.invalidate(error)
            if isinstance(error, asyncpg.InternalClientError | AttributeError):
                refuse_dead(self.driver, error)
            raise
        if done != command:
            # PostgreSQL rolls back what failed, and calls that a success.
            raise RuntimeError(f"{command} was answered with {done}: a statement had failed, and nobody had said so.")

    async def leave(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        connection, driver = self.connection, self.driver
        if connection is None or driver is None:
            return
        try:
            if self.is_begun and not driver.is_closed():
                await self.say("ROLLBACK")
        finally:
            self.connection, self.driver, self.is_begun = None, None, False
            connection.close()


class SessionInside(Session):
    """SQLAlchemy's session, inside of that transaction."""

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        """Where everything runs."""
        transaction: Transaction = self.info[TRANSACTION]
        return transaction.begun()


class DirectSession(AsyncSession):
    """A session with `fetch`. Its transaction begins with the first statement, whichever way that takes."""

    sync_session_class = SessionInside

    def __init__(self, engine: Engine, count: Callable[[], None]) -> None:
        self.transaction, self.count = Transaction(engine), count
        super().__init__(expire_on_commit=False, info={TRANSACTION: self.transaction})

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Run SQL in the dialect of the driver, after what waits to be flushed. Raises `DBAPIError` as sessions do."""
        inner = self.sync_session
        if inner.autoflush:
            await self.flush()
        if inner.in_transaction() and (inner.in_nested_transaction() or not inner.is_active):
            # SQLAlchemy sets a savepoint when it is used next, and says by then that a flush has failed.
            await greenlet_spawn(inner.connection)
        self.count()
        driver = await self.transaction.begin()
        try:
            rows: Rows = await driver.fetch(sql, *arguments)
        except asyncpg.PostgresError as error:
            raise as_sqlalchemy(sql, error) from error
        except (asyncpg.InternalClientError, AttributeError) as error:
            refuse_dead(driver, error)
            raise
        return rows

    async def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending changes to the database, if there are any."""
        inner = self.sync_session
        if inner.new or inner.dirty or inner.deleted:
            await super().flush(objects)

    async def commit(self) -> None:
        """Flush and commit."""
        if self.sync_session.in_transaction():
            await super().commit()
        if self.transaction.is_begun:
            await self.transaction.say("COMMIT")

    async def rollback(self) -> None:
        """Take back everything since the transaction began."""
        if self.sync_session.in_transaction():
            await super().rollback()
        if self.transaction.is_begun:
            await self.transaction.say("ROLLBACK")

    async def close(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        try:
            if self.sync_session.in_transaction():
                await super().close()
        finally:
            await self.transaction.leave()


def as_sqlalchemy(sql: str, error: asyncpg.PostgresError) -> DBAPIError:
    """As SQLAlchemy names errors of the driver; without what the statement was asked with."""
    is_broken = isinstance(error, asyncpg.IntegrityConstraintViolationError)
    return (IntegrityError if is_broken else DBAPIError)(sql, None, error, hide_parameters=True)


def refuse_dead(connection: asyncpg.Connection, error: asyncpg.InternalClientError | AttributeError) -> None:
    """Raise Unavailable for what asyncpg says of a connection whose end it has not noticed.

    It died in the middle of something else (InternalClientError), or was ended meanwhile (AttributeError).
    """
    if isinstance(error, asyncpg.InternalClientError) or connection.is_closed():
        connection.terminate()
        raise Unavailable(AWAY, "database_away") from error


def refuse_closed(connection: Any, *_: Any) -> None:
    """A listener of a pool: no connection leaves it that the server has ended, nor any other of that age."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError("The server has closed this connection.")
