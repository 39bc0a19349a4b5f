"""The database: table bases, the pools, and the watch over them.

Writes go through a session (session.py, uow.py). Reads go straight to asyncpg, on connections that commit by themselves
and only read (read_pool.py), as SQL that is compiled once (statements.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
from asyncpg.pgproto import pgproto
from sqlalchemy import (
    CheckConstraint,
    Column,
    DateTime,
    Index,
    PrimaryKeyConstraint,
    UniqueConstraint,
    event,
    func,
    inspect,
    text,
)
from sqlalchemy import Table as SqlTable
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel
from uuid_utils import uuid7

from lms_core.errors import Unavailable
from lms_core.read_pool import ReadPool
from lms_core.session import AWAY, Connecting, DirectSession, refuse_closed, refuse_dead

log = logging.getLogger("lms.database")

LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 30_000
IDLE_TRANSACTION_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_SECONDS = 2.0
WATCH_INTERVAL_SECONDS = 0.3
WATCH_TIMEOUT_SECONDS = 1.0
LOCK_AGAIN_SECONDS = 0.1
KEPT_POSITIONS = 100
POSITION = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"


def new_id() -> uuid.UUID:
    """A UUID version 7 (RFC 9562): unique, and rising with time, so that it is also a keyset order.

    It is of the driver's own kind, as ids that are read are: Python's takes four times as long to make, send and write.
    """
    id: uuid.UUID = pgproto.UUID(uuid7().bytes)
    return id


class Record(SQLModel):
    """A row with an id, times and a version that every change through a session raises; never soft-deleted."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"eager_defaults": True}

    id: uuid.UUID = Field(default_factory=new_id, primary_key=True)
    created_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )
    updated_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})


class Table(Record):
    """A row that can be deleted and restored; reads leave out what is deleted (see deletion.py).

    `label_column` is what the recycle bin shows. `natural_key` names the columns that no two live rows share;
    `natural_key_condition` narrows that to some rows; `renamed_column` is the one that may be changed when another row
    has taken the key of what comes back. `restore_permission` defaults to `<plugin>.restore`.
    `secret_columns` are those whose values the audit trail never shows.
    """

    label_column: ClassVar[str] = "id"
    natural_key: ClassVar[tuple[str, ...]] = ()
    natural_key_condition: ClassVar[str | None] = None
    renamed_column: ClassVar[str | None] = None
    restore_permission: ClassVar[str | None] = None
    secret_columns: ClassVar[tuple[str, ...]] = ()

    is_deleted: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    deletion_id: uuid.UUID | None = Field(default=None)


def natural_key_index(model: type[Table]) -> str:
    """The name of the unique index on the natural key among live rows."""
    return f"uq_{inspect(model).local_table.name}_natural_key"


def complete_cascade(model: type[Table], column: str) -> None:
    """The index that lists, cascades and live-ancestor checks need on a column that points at a parent.

    Conditions have to say `NOT is_deleted` (`~col(Model.is_deleted)`): PostgreSQL does not see that `is_deleted IS FALSE`
    is the same, and leaves the index alone.
    """
    table = inspect(model).local_table
    name = f"ix_{table.name}_{column}_live"
    if not any(index.name == name for index in table.indexes):
        Index(name, table.c[column], table.c.id, postgresql_where=text("NOT is_deleted"))


def complete_foreign_keys(table: SqlTable) -> None:
    """An index for each column that points at another table.

    PostgreSQL looks for what still points at a row that is removed for good, in live rows and dead ones, so that
    an index on the live ones is none for this: a purge would read the whole table for every row.
    """
    for column in table.columns:
        if column.foreign_keys and not is_led_by(table, column):
            where: dict[str, Any] = {"postgresql_where": text(f"{column.name} IS NOT NULL")} if column.nullable else {}
            Index(f"ix_{table.name}_{column.name}", column, **where)


def is_led_by(table: SqlTable, column: Column[Any]) -> bool:
    """Whether an index of all rows, or of all that have a value there, begins with a column."""
    led: list[Any] = [
        next(iter(constraint.columns))
        for constraint in table.constraints
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint)
    ]
    for index in table.indexes:
        where = index.dialect_options["postgresql"].get("where")
        if where is None or str(where) == f"{column.name} IS NOT NULL":
            led.append(next(iter(index.columns)))
    return any(first is column for first in led)


def complete_table(model: type[Table]) -> None:
    """Give a soft-deletable table what every one has: the check, the index for restore, the natural key's index."""
    table = inspect(model).local_table
    if any(index.name == f"ix_{table.name}_deletion_id" for index in table.indexes):
        return
    table.append_constraint(CheckConstraint("is_deleted = (deletion_id IS NOT NULL)", name=f"ck_{table.name}_deletion"))
    Index(
        f"ix_{table.name}_deletion_id",
        table.c.deletion_id,
        table.c.id,
        postgresql_where=text("deletion_id IS NOT NULL"),
    )
    if model.natural_key:
        condition = "NOT is_deleted"
        if model.natural_key_condition:
            condition += f" AND {model.natural_key_condition}"
        Index(
            natural_key_index(model),
            *(table.c[column] for column in model.natural_key),
            unique=True,
            postgresql_where=text(condition),
            postgresql_nulls_not_distinct=True,
        )


@event.listens_for(Session, "before_flush")
def raise_versions(session: Session, *_: Any) -> None:
    """Every changed row gets a new version and time of change, so that ETags and audits can rely on them."""
    for row in session.dirty:
        if isinstance(row, Record) and session.is_modified(row):
            row.version += 1
            row.updated_at = func.now()  # type: ignore[assignment]


def sqlalchemy_url(url: str) -> str:
    """The same database for SQLAlchemy's asyncpg dialect."""
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql+asyncpg"))


WRITE_SETTINGS = {
    "jit": "off",
    "timezone": "UTC",
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": str(IDLE_TRANSACTION_TIMEOUT_MS),
}
READ_SETTINGS = {
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "default_transaction_read_only": "on",
}
FOLLOWED = ("application_name", "timezone")
"""What PgBouncer sets anew on whichever connection a client gets (its documentation, "track_extra_parameters")."""


class Database:
    """The pools on one PostgreSQL, and a watch that notices within 3 s when it stops answering.

    `listeners` are called with the payload of each NOTIFY on the channel `lms_access`; `watching` is False
    while nobody listens, and caches that rely on it must then not be used.
    """

    def __init__(self, url: str, pool: int = 10, read_pool: int = 10, direct_url: str | None = None) -> None:
        self.url = url
        self.direct_url = direct_url or url
        self.pooled = self.direct_url != url
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            # Sessions begin and end their transactions by themselves (session.py).
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,
            pool_size=pool,
            max_overflow=0,
            pool_timeout=CONNECT_TIMEOUT_SECONDS,
            pool_use_lifo=True,
            # What a failed statement was asked with stands in no log and no `last_error`.
            hide_parameters=True,
            connect_args={
                "async_creator_fn": Connecting,
                "timeout": CONNECT_TIMEOUT_SECONDS,
                # The server ends statements itself; this is for a server that is not there any more.
                "command_timeout": STATEMENT_TIMEOUT_MS / 1000 + 5,
                # As for reads: long statements too are parsed once.
                "max_cacheable_statement_size": 0,
                "server_settings": self.allowed({"application_name": "lms", **WRITE_SETTINGS}),
            },
        )
        self.connections: weakref.WeakSet[asyncpg.Connection] = weakref.WeakSet()
        self.reads = {once: ReadPool(partial(self.open_read, once), read_pool) for once in (False, True)}
        self.listeners: list[Callable[[str], None]] = []
        self.watching = False
        self.away = False
        self.statements = 0
        self.positions: deque[tuple[float, int]] = deque(maxlen=KEPT_POSITIONS)
        self.watch_task: asyncio.Task[None] | None = None
        event.listen(self.engine.sync_engine, "connect", self.remember)
        event.listen(self.engine.sync_engine, "checkout", refuse_closed)
        event.listen(self.engine.sync_engine, "before_cursor_execute", self.count)

    def allowed(self, settings: dict[str, str]) -> dict[str, str]:
        """What a connection may set at its start: a pooler takes only what it can follow; it has the rest itself."""
        return {name: settings[name] for name in FOLLOWED if name in settings} if self.pooled else settings

    def remember(self, connection: Any, _: Any) -> None:
        """Keep hold of the driver's connection, to end it when the server freezes."""
        self.connections.add(connection.driver_connection)

    def count(self, *_: Any) -> None:
        """Count a statement; tests compare these figures before and after a request."""
        self.statements += 1

    def usage(self) -> dict[str, tuple[int, int]]:
        """Connections of this process in use, and how many there may be, by pool."""
        pool: Any = self.engine.pool
        used = {"write": (pool.checkedout(), pool.size())}
        for plan_once, reads in self.reads.items():
            used["read once planned" if plan_once else "read"] = (reads.used, reads.size)
        return used

    async def read(self, sql: str, arguments: Sequence[Any], plan_once: bool = False) -> list[asyncpg.Record]:
        """Run one read in autocommit; the connection is held for the query only."""
        self.refuse_while_away()
        self.statements += 1
        return await self.reads[plan_once].fetch(sql, arguments)

    async def open_read(self, plan_once: bool) -> asyncpg.Connection:
        """A connection for reads. JSON stays text on it: what an item of a list has goes through as it is."""
        # Whoever waited for its turn may have learned meanwhile that nobody answers.
        self.refuse_while_away()
        connection = await asyncpg.connect(
            self.url,
            timeout=CONNECT_TIMEOUT_SECONDS,
            # Else a long statement (many read rules make one) would be parsed and planned each time anew.
            max_cacheable_statement_size=0,
            server_settings=self.allowed(
                {
                    "application_name": "lms read",
                    **READ_SETTINGS,
                    "plan_cache_mode": "force_generic_plan" if plan_once else "auto",
                }
            ),
        )
        self.connections.add(connection)
        try:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, encoder=json.dumps, decoder=lambda raw: msgspec.Raw(raw.encode()), schema="pg_catalog"
                )
        except (asyncpg.InternalClientError, AttributeError) as error:
            # The watch may end it before it is complete.
            refuse_dead(connection, error)
            raise
        except BaseException:
            connection.terminate()
            raise
        return connection

    def session(self) -> DirectSession:
        """A new session; its transaction begins with its first statement."""
        self.refuse_while_away()
        return DirectSession(self.engine.sync_engine, self.count)

    def refuse_while_away(self) -> None:
        """Answer 503 at once while the watch knows that the database does not answer."""
        if self.away:
            raise Unavailable(AWAY, "database_away")

    def start_watch(self) -> None:
        """Begin to listen and to watch."""
        self.watch_task = asyncio.create_task(self.watch())

    async def watch(self) -> None:
        """Always hold one connection that listens and pings; when it is lost, end all others."""
        while True:
            try:
                await self.watch_once()
            except Exception as error:  # noqa: BLE001 — a watch that ended silently would leave caches trusted for ever
                if not self.away:
                    log.warning("database away", extra={"reason": repr(error)})
                self.away = True
            self.watching = False
            await self.end_connections()
            if self.away:
                await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def watch_once(self) -> None:
        """Listen and ping until the connection ends. Raises what says that the server is away."""
        connection = await asyncpg.connect(
            self.direct_url,
            timeout=WATCH_TIMEOUT_SECONDS,
            command_timeout=WATCH_TIMEOUT_SECONDS,
            server_settings={"application_name": "lms watch"},
        )
        try:
            await self.listen(connection)
            self.away = False
            await self.ping_until_end(connection)
        finally:
            connection.terminate()

    async def ping_until_end(self, connection: asyncpg.Connection) -> None:
        """Return when the connection has ended: that says little of the server, which may be another one by now.

        Raises TimeoutError, or that the driver has ended the connection, after two pings in a row without an answer.
        """
        unanswered = 0
        while True:
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
            try:
                await self.ping(connection)
                unanswered = 0
            except TimeoutError:
                unanswered += 1
                if unanswered == 2:
                    raise
            except Exception:
                if unanswered or not connection.is_closed():
                    raise
                return

    async def listen(self, connection: asyncpg.Connection) -> None:
        """Begin to hear what changes; what was said before is unknown."""
        await connection.add_listener("lms_access", lambda *message: self.announce(str(message[3])))
        self.announce("all")
        self.watching = True

    async def ping(self, connection: asyncpg.Connection) -> None:
        """Whether it answers, and where its log is: a replica is compared with that."""
        position = await connection.fetchval(POSITION)
        self.positions.append((time.monotonic(), position))

    def announce(self, payload: str) -> None:
        """Tell every cache of this process that something changed."""
        for listener in self.listeners:
            listener(payload)

    async def end_connections(self) -> None:
        """Cut every connection, so that whoever waits for a frozen server gets an error instead.

        The session pool begins anew: a connection that died in it would fail the first request after the return.
        """
        for connection in list(self.connections):
            with contextlib.suppress(asyncpg.InterfaceError):
                connection.terminate()
        await self.engine.dispose(close=False)

    async def close(self) -> None:
        """Stop the watch and close the pools."""
        if self.watch_task is not None:
            self.watch_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.watch_task
        for pool in self.reads.values():
            await pool.close()
        await self.engine.dispose()


@contextlib.asynccontextmanager
async def advisory_lock(connection: asyncpg.Connection, name: str) -> AsyncIterator[None]:
    """Only one holder of a named lock at a time, in all processes on this database.

    Whoever waits asks again and again: a statement that waits inside PostgreSQL is a transaction that CREATE INDEX
    CONCURRENTLY of the holder would wait for, and both for ever.
    """
    while not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name):
        await asyncio.sleep(LOCK_AGAIN_SECONDS)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", name)
