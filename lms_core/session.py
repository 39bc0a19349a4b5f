"""The session of a unit of work: SQLAlchemy's, which runs statements that are compiled already on the driver itself.

Through SQLAlchemy each of those takes three times as long, and its own beginning and end of a transaction as long as ten
statements. So the transaction is begun and ended here, on a connection that both ways share; for SQLAlchemy that
connection commits by itself. What SQLAlchemy needs for entities is made when they are first used: with its connection
it takes longer than two statements, and what others write all the time needs none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import asyncpg
from sqlalchemy import Connection, Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidatePoolError, MissingGreenlet
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only, greenlet_spawn

from lms_core.errors import Unavailable

AWAY = "The database does not answer at the moment; try again shortly."
BUSY = "Too much is going on right now; try again shortly."
Rows = Sequence[Mapping[str, Any]]
TRANSACTION = "lms_transaction"
"""In a session's `info`: its `Transaction`."""


class Transaction:
    """A session's transaction, and the one connection that it has from its first use on."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pooled: PoolProxiedConnection | None = None
        self.driver: asyncpg.Connection | None = None
        # What we know, not what the driver says: on a connection that died it says that there is none.
        self.is_begun = False

    async def begin(self) -> asyncpg.Connection:
        """The driver's connection, in a transaction."""
        if self.driver is None:
            self.pooled = await self.take()
            self.driver = self.pooled.driver_connection
        assert self.driver is not None
        if not self.is_begun:
            await self.say("BEGIN")
            self.is_begun = True
        return self.driver

    async def take(self) -> PoolProxiedConnection:
        """A connection of the pool."""
        with suppress(MissingGreenlet):
            # One that is idle is given at once. A greenlet for that costs as much as a statement.
            return self.engine.raw_connection()
        # It has to wait for one, or to connect; SQLAlchemy's connection makes its own errors of what goes wrong then.
        self.connection = await greenlet_spawn(self.engine.connect)
        return self.connection.connection

    @cached_property
    def connection(self) -> Connection:
        """SQLAlchemy's, on the same connection."""
        assert self.pooled is not None
        return Connection(self.engine, self.pooled)

    def begun(self) -> Connection:
        """SQLAlchemy's connection, in a transaction. Called where it may wait: in a greenlet."""
        if not self.is_begun:
            await_only(self.begin())
        return self.connection

    async def say(self, command: str) -> None:
        """`BEGIN`, `COMMIT` or `ROLLBACK`; a transaction that failed cannot be committed."""
        assert self.driver is not None
        self.is_begun = False
        try:
            done = await self.driver.execute(command)
        except asyncpg.PostgresError as error:
            if self.driver.is_closed() or self.driver.is_in_transaction():
                # Refused before it was done (somebody cancelled it): the next one could not begin here.
                self.invalidate(error)
            raise as_sqlalchemy(command, error) from error
        except BaseException as error:
            # Nobody knows how it stands: the connection is not for the next one.
            self.invalidate(error)
            if isinstance(error, asyncpg.InternalClientError | AttributeError):
                refuse_dead(self.driver, error)
            raise
        if done != command:
            # PostgreSQL rolls back what failed, and calls that a success.
            raise RuntimeError(f"{command} was answered with {done}: a statement had failed, and nobody had said so.")

    def invalidate(self, error: BaseException) -> None:
        """Nobody gets this connection any more."""
        if self.pooled is not None and self.pooled.is_valid:
            self.pooled.invalidate(error)

    async def leave(self) -> None:
        """Roll back what is not committed, and give the connection back."""
        try:
            if self.is_begun and self.driver is not None and not self.driver.is_closed():
                await self.say("ROLLBACK")
        finally:
            self.give_back()

    def give_back(self) -> None:
        """The connection, in which nothing is under way any more."""
        pooled, self.pooled, self.driver, self.is_begun = self.pooled, None, None, False
        vars(self).pop("connection", None)
        if pooled is not None and pooled.is_valid:
            pooled.close()


class SessionInside(Session):
    """SQLAlchemy's session, inside of that transaction."""

    def get_bind(self, *_: Any, **__: Any) -> Connection:
        """Where everything runs."""
        transaction: Transaction = self.info[TRANSACTION]
        return transaction.begun()


class DirectSession(AsyncSession):
    """A session with `fetch`. Its transaction begins with the first statement, whichever way that takes.

    `kept` is what SQLAlchemy's listeners find in its `info`.
    """

    sync_session_class = SessionInside

    def __init__(self, engine: Engine, count: Callable[[], None]) -> None:
        self.transaction, self.count = Transaction(engine), count
        # Whether SQLAlchemy was used at all.
        self.has_entities = False
        self.kept: dict[Any, Any] = {TRANSACTION: self.transaction}

    @cached_property
    def sync_session(self) -> Session:  # type: ignore[override]
        """SQLAlchemy's own, from its first use on."""
        super().__init__(expire_on_commit=False, info=self.kept)
        self.has_entities = True
        made: Session = vars(self)["sync_session"]
        return made

    @cached_property
    def _proxied(self) -> Session:  # type: ignore[override]
        """As `AsyncSession` names it for what it passes on."""
        return self.sync_session

    def in_transaction(self) -> bool:
        """Whether SQLAlchemy knows of one; what was only fetched it does not know."""
        return self.has_entities and self.sync_session.in_transaction()

    async def fetch(self, sql: str, arguments: Sequence[Any]) -> Rows:
        """Run SQL in the dialect of the driver, after what waits to be flushed. Raises `DBAPIError` as sessions do."""
        if self.has_entities:
            await self.settle(self.sync_session)
        self.count()
        transaction = self.transaction
        driver = transaction.driver if transaction.is_begun else await transaction.begin()
        assert driver is not None
        try:
            rows: Rows = await driver.fetch(sql, *arguments)
        except asyncpg.PostgresError as error:
            raise as_sqlalchemy(sql, error) from error
        except (asyncpg.InternalClientError, AttributeError) as error:
            refuse_dead(driver, error)
            raise
        return rows

    async def settle(self, inner: Session) -> None:
        """What SQLAlchemy does before a statement: flush, set a savepoint, refuse what comes after a failed flush."""
        if inner.autoflush:
            await self.flush()
        if inner.in_transaction() and (inner.in_nested_transaction() or not inner.is_active):
            await greenlet_spawn(inner.connection)

    async def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending changes to the database, if there are any."""
        if self.has_entities:
            inner = self.sync_session
            if inner.new or inner.dirty or inner.deleted:
                await super().flush(objects)

    async def commit(self) -> None:
        """Flush and commit."""
        if self.in_transaction():
            await super().commit()
        if self.transaction.is_begun:
            await self.transaction.say("COMMIT")

    async def rollback(self) -> None:
        """Take back everything since the transaction began."""
        if self.in_transaction():
            await super().rollback()
        if self.transaction.is_begun:
            await self.transaction.say("ROLLBACK")

    async def close(self) -> None:
        """Roll back what is not committed, and give the connection back; also when who waits for it gives up."""
        if self.transaction.is_begun or self.in_transaction():
            await asyncio.shield(self.leave())
        else:
            self.transaction.give_back()

    async def leave(self) -> None:
        """The same, in one go."""
        try:
            if self.in_transaction():
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


class Connecting:
    """`asyncpg.connect`, begun when it is awaited: SQLAlchemy makes one before it knows that it must not wait."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments, self.options = arguments, options

    def __await__(self) -> Generator[Any, None, asyncpg.Connection]:
        """The connection."""
        return asyncpg.connect(*self.arguments, **self.options).__await__()  # type: ignore[no-any-return]


def refuse_closed(connection: Any, *_: Any) -> None:
    """A listener of a pool: no connection leaves it that the server has ended, nor any other of that age."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError("The server has closed this connection.")
