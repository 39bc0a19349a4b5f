"""The unit of work: one object that goes everywhere, in a route, a handler, a schedule, a command and a test."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import asyncpg
import redis.asyncio
import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError

from lms_core.access_cache import AccessCache
from lms_core.audit import SESSION_KEY, Trail, note_created
from lms_core.config import Settings
from lms_core.db import Database, Record, Table, natural_key_index
from lms_core.errors import Forbidden, NotFound, StateConflict, Unavailable
from lms_core.etags import check_if_match
from lms_core.kinds import kind_name
from lms_core.locking import holding, locking
from lms_core.outbox import store_events
from lms_core.permissions import Access, Filter
from lms_core.replica import Replica
from lms_core.session import DirectSession
from lms_core.statements import as_json, inserting
from lms_core.turns import Turns
from lms_core.types import Event

if TYPE_CHECKING:
    from lms_core.platform import Platform

T = TypeVar("T")
M = TypeVar("M", bound=Table)
TRIES = 3
# Connection lost; no such database (another takes its place); no resources or no disk; shut down; the disk or the server itself is broken (PostgreSQL, appendix A).
AWAY_CLASSES = ("08", "3D", "53", "57P", "58", "XX")
RETRYABLE = ("40001", "40P01", "55P03")
REDIS_TIMEOUT_SECONDS = 1.0
ANNOUNCED_ONE_BY_ONE = 100


@dataclass
class Context:
    """What one process holds: the platform, its connections, its caches."""

    platform: Platform
    settings: Settings
    database: Database
    redis: redis.asyncio.Redis
    turns: Turns
    replica: Replica | None = None
    access_cache: AccessCache = field(default_factory=AccessCache)

    @classmethod
    def create(cls, platform: Platform) -> Context:
        """Connections are opened on first use."""
        settings = platform.settings
        context = cls(
            platform,
            settings,
            Database(settings.database_url, settings.database_pool, settings.read_pool, settings.direct_url),
            redis.asyncio.Redis.from_url(
                settings.redis_url,
                socket_timeout=REDIS_TIMEOUT_SECONDS,
                socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
            ),
            Turns(max(1, settings.database_pool // 2)),
        )
        context.database.listeners.append(context.access_cache.forget)
        if settings.database_read_url:
            context.replica = Replica(settings.database_read_url, settings.read_pool, context.database)
        return context

    @property
    def reader(self) -> Database:
        """Where what an answer shows is read from: the replica, if there is one.

        Who may do what, who is signed in, and whatever a write goes by is read from `database`.
        """
        return self.replica or self.database

    def start_watch(self) -> None:
        """Begin to notice what changes in the database, and when it goes away."""
        self.database.start_watch()
        if self.replica is not None:
            self.replica.start_watch()

    async def close(self) -> None:
        """Close every connection."""
        if self.replica is not None:
            await self.replica.close()
        await self.database.close()
        await self.redis.aclose()

    @asynccontextmanager
    async def unit_of_work(
        self, access: Access | None = None, request_id: str | None = None
    ) -> AsyncIterator[UnitOfWork]:
        """A unit of work that commits at the end, and rolls back on any exception; by default as the system."""
        uow = UnitOfWork(self, access or Access(None, system=True), request_id)
        try:
            yield uow
            await uow.commit()
        finally:
            await uow.close()

    async def retry(
        self,
        work: Callable[[UnitOfWork], Awaitable[T]],
        access: Access | None = None,
        request_id: str | None = None,
    ) -> T:
        """Run `work` in a unit of work, again (up to 3 times) when the database asks for it."""
        for attempt in range(TRIES):
            try:
                async with self.unit_of_work(access, request_id) as uow:
                    return await work(uow)
            except DBAPIError as error:
                if attempt + 1 == TRIES or not is_retryable(error):
                    raise
            await pause(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")


class UnitOfWork:
    """One transaction, who acts in it, and what happened in it.

    Nobody calls `commit`: the core does, before an answer leaves. The transaction begins with the first use of
    `session`.
    """

    def __init__(
        self,
        context: Context,
        access: Access,
        request_id: str | None = None,
        address: str | None = None,
        arrived: float | None = None,
    ) -> None:
        self.context, self.access, self.request_id, self.address = context, access, request_id, address
        # When the request was here, on the monotonic clock: what it has waited since is nobody's fault but ours.
        self.arrived = time.monotonic() if arrived is None else arrived
        self.caused_by: UUID | None = None
        self.trail = Trail()
        self.events: list[Event] = []
        self.announcements: list[str] = []
        self.opened: DirectSession | None = None
        # What was asked of a delete or a restore: only to say what would happen, and why it is done.
        self.dry_run = False
        self.reason: str | None = None
        # The deletion that several rows are deleted with.
        self.together: UUID | None = None

    @property
    def actor_id(self) -> UUID:
        """Who acts; Unauthenticated's routes and the system have none, and asking is then a mistake."""
        if self.access.actor_id is None:
            raise RuntimeError("This unit of work has no actor: the route is public, or the system acts.")
        return self.access.actor_id

    @property
    def session(self) -> DirectSession:
        """The session, for writes and for reads that must see them."""
        if self.opened is None:
            self.opened = self.context.database.session()
            self.opened.kept[SESSION_KEY] = self.trail
        return self.opened

    @property
    def database(self) -> Database:
        """For reads outside the transaction."""
        return self.context.database

    @property
    def reader(self) -> Database:
        """Where what an answer shows is read from: the replica, if there is one. Nothing is decided by it."""
        return self.context.reader

    @property
    def kinds(self) -> list[str]:
        """The names of all kinds."""
        return sorted(self.context.platform.kinds.by_name)

    def use(self, contract: type[T]) -> T:
        """Another plugin's service."""
        return self.context.platform.service(contract)

    def use_if_enabled(self, contract: type[T]) -> T | None:
        """Another plugin's service, or None when no enabled plugin provides it."""
        return self.context.platform.service_if_enabled(contract)

    def settings(self, kind: type[T]) -> T:
        """A plugin's settings, by their type."""
        return self.context.platform.plugin_settings(kind)

    def emit(self, event: Event) -> None:
        """State a fact; it is stored with this transaction and delivered to every handler at least once."""
        self.events.append(event)

    def announce(self, topic: str) -> None:
        """Tell every process to forget what it cached of `user:<id>`, `session:<id>` or `all`, at commit."""
        self.announcements.append(topic)

    def announce_users(self, ids: Collection[UUID]) -> None:
        """That what these users hold has changed; beyond a few, forgetting everything is cheaper."""
        if len(ids) > ANNOUNCED_ONE_BY_ONE:
            self.announce("all")
            return
        for id in ids:
            self.announce(f"user:{id}")

    def record(self, action: str, kind: str, id: UUID, changes: dict[str, dict[str, Any]] | None = None) -> None:
        """Add to the audit trail what no session sees: a statement of one's own, a thing that is no change of a row.

        Rows of kinds that the session inserts or changes are recorded by themselves.
        """
        self.trail.note(action, kind, id, changes)

    def record_created(self, model: type[Table], id: UUID, given: Mapping[str, Any]) -> None:
        """The same for a new row and what it was given, of which the trail shows no secrets."""
        note_created(self.trail, model, id, given)

    # Permissions

    def readable(self, model: type[Table]) -> Filter:
        """Which rows the actor may read."""
        return self.context.platform.rules.readable(self.access, model)

    def permitted(self, permission: str, model: type[Table]) -> Filter:
        """On which rows the actor has a permission."""
        return self.context.platform.rules.permitted(self.access, permission, model)

    def model(self, on: type[Table] | str) -> type[Table]:
        """A table, or the table of a kind that another plugin's contracts name."""
        return self.context.platform.kinds.of_noun(on).model if isinstance(on, str) else on

    @property
    def asked(self) -> Database | DirectSession:
        """Where what a decision needs is read: in the transaction, which may have written it, once there is one.

        Until then on the read pool, so that none need begin for a question.
        """
        return self.context.database if self.opened is None else self.opened

    async def knows(self, on: type[Table] | str, id: UUID) -> bool:
        """Whether the actor may know a row, and it lives."""
        model = self.model(on)
        return await self.context.platform.rules.holds(self.asked, self.readable(model), model, id)

    async def require_known(self, on: type[Table] | str, id: UUID) -> None:
        """Raise NotFound unless the actor may know a live row; like `require`, without a permission to ask for.

        For reads below a row, and for what a permission allows in all of a course but not on what is hidden there.
        """
        if not await self.knows(on, id):
            raise NotFound(kind_name(self.model(on)), id)

    async def can(self, permission: str, on: type[Table] | str, id: UUID, dead_too: bool = False) -> bool:
        """Whether the actor has a permission on a row that lives or, with `dead_too`, on one that may come back."""
        model = self.model(on)
        permitted = self.permitted(permission, model)
        return await self.context.platform.rules.holds(self.asked, permitted, model, id, dead_too)

    async def can_on_all(self, permission: str, on: type[Table] | str, ids: Collection[UUID]) -> bool:
        """Whether the actor has a permission on each of some rows, which all live."""
        model = self.model(on)
        permitted = self.permitted(permission, model)
        return await self.context.platform.rules.holds_on_all(self.asked, permitted, model, set(ids))

    async def require(self, permission: str, on: type[Table] | str, id: UUID) -> None:
        """Raise NotFound when the actor may not know the row, Forbidden when they may not do this to it."""
        model = self.model(on)
        known, allowed = await self.context.platform.rules.check(self.asked, self.access, permission, model, id)
        if not known and not allowed:
            raise NotFound(kind_name(model), id)
        if not allowed:
            raise Forbidden(f"You do not have the permission {permission} on this {kind_name(model).split('.')[1]}.")

    # Locks

    async def lock(self, model: type[M], id: UUID, if_match: str | None = None) -> M:
        """A live row for change: its ancestors `FOR SHARE` from the top, then itself `FOR UPDATE`.

        Raises NotFound when it, or anything it hangs under, is deleted; 412 when `if_match` is stale. In a dry run nobody
        has to wait: it is only read.
        """
        lock = locking(self.context.platform.kinds, model, None, locks=not self.dry_run)
        asked = lock.statement.execution_options(populate_existing=True)

        async def look() -> Mapping[Any, Any] | None:
            return (await self.session.execute(asked, {"row_id": id})).mappings().one_or_none()

        row: M = (await lock.living(id, look))["entity"]
        check_if_match(if_match, row.version)
        return row

    async def lock_columns(self, model: type[Table], id: UUID, columns: tuple[str, ...]) -> dict[str, Any]:
        """The same without an entity, for what is locked all the time: some columns of a live row."""
        lock = locking(self.context.platform.kinds, model, columns, locks=not self.dry_run)
        row = await lock.living(id, partial(lock.read.one, self.session, row_id=id))
        return {name: row[name] for name in columns}

    async def hold(self, kind: str, id: UUID) -> None:
        """Keep a row and its ancestors alive until this transaction ends: before a child is made or moved.

        Raises NotFound when one of them is deleted. A foreign key does not do this: the row still exists.
        """
        found = self.context.platform.kinds.find(kind)
        if found is None:
            raise NotFound(kind, id)
        held = holding(self.context.platform.kinds, found.model, locks=not self.dry_run)
        await held.living(id, partial(held.read.one, self.session, row_id=id))

    def change(self, row: Record, values: Mapping[str, Any]) -> set[str]:
        """Give a row other values; the names of those that are other ones than before."""
        changed = {name for name, value in values.items() if getattr(row, name) != value}
        row.sqlmodel_update({name: values[name] for name in changed})
        return changed

    async def alone(self, what: str) -> None:
        """Let nobody else do what has this name, until this transaction ends."""
        await self.session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))

    async def add(self, row: Table) -> None:
        """Insert a row now; 409 `natural_key_taken` when a live one has the same natural key."""
        self.session.add(row)
        await self.flush()

    async def add_all(self, model: type[Record], rows: Sequence[dict[str, Any]]) -> None:
        """Insert many rows now, in one statement, with the audit trail of each; 409 as in `add`.

        They are dictionaries, since an entity for each would take ten times as long. They name the id, too, and whatever
        has its default in Python. Raises ValueError when they differ in their columns, TypeError for columns of bytes.
        """
        if not rows:
            return
        if any(row.keys() != rows[0].keys() for row in rows):
            raise ValueError(f"Rows of {model.__name__} that are added together have to name the same columns.")
        with self.refusing_taken_keys():
            await inserting(model, tuple(rows[0])).run(self.session, rows=as_json(rows))
        if issubclass(model, Table):
            for row in rows:
                self.record_created(model, row["id"], row)

    async def flush(self) -> None:
        """Send pending changes to the database; 409 `natural_key_taken` as in `add`."""
        with self.refusing_taken_keys():
            await self.session.flush()

    @contextmanager
    def refusing_taken_keys(self) -> Iterator[None]:
        """409 for a natural key that a live row has."""
        try:
            yield
        except IntegrityError as error:
            constraint = constraint_name(error)
            for kind in self.context.platform.kinds.by_name.values():
                if constraint == natural_key_index(kind.model):
                    names = key_in_words(kind.model)
                    noun = kind.noun.replace("_", " ")
                    raise StateConflict(
                        "natural_key_taken", f"Another {noun} has this {names} already; choose another."
                    ) from None
            raise

    # The end

    async def commit(self) -> None:
        """Store events and the audit trail, announce changes, commit. Called by the core."""
        if self.opened is not None:
            await self.opened.flush()
        if self.events or self.announcements or self.trail.entries:
            await store_events(self)
        if self.opened is not None:
            await self.opened.commit()
        for topic in self.announcements:
            self.context.access_cache.forget(topic)
        self.forget()

    async def take_back(self) -> None:
        """Undo everything so far, as if it had not been asked for."""
        if self.opened is not None:
            await self.opened.rollback()
        self.forget()

    def forget(self) -> None:
        """Let go of what a commit would store beside the rows, and announce."""
        self.events, self.announcements = [], []
        self.trail.entries.clear()

    async def close(self) -> None:
        """Roll back what was not committed and give the connection back."""
        if self.opened is not None:
            opened, self.opened = self.opened, None
            try:
                await opened.close()
            except (DBAPIError, asyncpg.InterfaceError, Unavailable, OSError) as error:
                structlog.get_logger("lms.uow").warning("connection lost while closing", reason=repr(error))


def said_by_driver(error: DBAPIError) -> BaseException | None:
    """The driver's own error: what came through SQLAlchemy's adapter is one behind the adapter's."""
    return error.orig if isinstance(error.orig, asyncpg.PostgresError) else getattr(error.orig, "__cause__", None)


def sqlstate(error: DBAPIError) -> str | None:
    """The PostgreSQL error code behind an error, if there is one."""
    return getattr(said_by_driver(error), "sqlstate", None)


def key_in_words(model: type[Table]) -> str:
    """The natural key, as people would say it."""
    words = [name.removesuffix("_key").removesuffix("_id").replace("_", " ") for name in model.natural_key]
    return " and ".join(words)


def constraint_name(error: DBAPIError) -> str | None:
    """The constraint or unique index that an error is about."""
    return getattr(said_by_driver(error), "constraint_name", None)


def is_retryable(error: DBAPIError) -> bool:
    """Serialization failure, deadlock or lock time-out: the same work may well succeed in a moment."""
    return sqlstate(error) in RETRYABLE


def is_away(error: BaseException) -> bool:
    """Whether the database could not be reached, hung up, or cannot do its work."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated or isinstance(error, InterfaceError):
            return True
        # The driver says so of a connection that died in the middle of something else (session.refuse_dead).
        said = said_by_driver(error)
        return isinstance(said, asyncpg.InternalClientError) or (sqlstate(error) or "").startswith(AWAY_CLASSES)
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(AWAY_CLASSES)
    return isinstance(error, (OSError, TimeoutError, asyncpg.InterfaceError, Unavailable))


async def pause(attempt: int) -> None:
    """Wait a little before trying again: longer each time, never in step with others."""
    await asyncio.sleep(0.02 * 2**attempt * (0.5 + random.random()))
