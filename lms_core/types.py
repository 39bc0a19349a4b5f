"""The values that plugins hand to the core: frozen, typed, without behaviour."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Select

if TYPE_CHECKING:
    from lms_core.db import Table
    from lms_core.uow import Context, UnitOfWork


@dataclass(frozen=True)
class PluginInfo:
    """What a plugin says about itself; every plugin module has one, named `plugin`.

    `name` is the first segment of its URLs and the prefix of its tables, permissions and events.
    `requires` names the plugins that must be enabled and come first. `settings` is a pydantic model
    (unknown keys are refused) for the plugin's table in plugins.toml.
    """

    name: str
    summary: str
    requires: tuple[str, ...] = ()
    settings: type[BaseModel] | None = None
    version: str = "0.1.0"


class Extension(ABC):
    """A value that a plugin adds to another one: whoever asks for such values has the class among its contracts."""

    @abstractmethod
    def claims(self) -> frozenset[str]:
        """What no second value of the same class may claim, in words for whoever has two."""


@dataclass(frozen=True)
class Finding:
    """What `lms doctor` found, and where it is not well, what to do."""

    is_well: bool
    text: str


@dataclass(frozen=True)
class Examination(Extension):
    """What `lms doctor` looks at besides the health checks: it may take some seconds, and must change nothing for good."""

    name: str
    examine: Callable[[Context], AsyncIterator[Finding]]

    def claims(self) -> frozenset[str]:
        """The name."""
        return frozenset({self.name})


@dataclass(frozen=True)
class Measure(Extension):
    """A figure for `/metrics` that stands in the database; what a process counts itself is a counter of its own.

    `read` returns the values by the values of `labels`, of which there must be few, and answers within 2 s whatever the
    size of the tables.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]
    read: Callable[[Context], Awaitable[Mapping[tuple[str, ...], float]]]

    def claims(self) -> frozenset[str]:
        """The name."""
        return frozenset({self.name})


@dataclass(frozen=True)
class Permission:
    """A thing that somebody may do, and the roles that may by default.

    A role held at an object holds for what hangs under it, with one exception: a role that its source
    calls a *membership* (a student of a school) does not reach into other kinds below (every course of the
    school). `members` names the memberships that suffice all the same.
    """

    name: str
    summary: str
    roles: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoleSource:
    """Where roles come from: a select of `actor_id, object_id, role, grant_id, expires_at`.

    `object_id` is an object of `kind`; NULL means everywhere. A column `permissions` (an array) may say what a role
    gives; where it is NULL, the permissions' own declarations do. The same statement answers which objects an
    actor holds roles at, and who holds a role at an object. `taken` is the same for the rows that deletes took, with
    their `deletion_id`: it says who may restore a person, whose roles went with them.
    """

    name: str
    kind: str
    statement: Select[*tuple[Any, ...]]
    taken: Select[*tuple[Any, ...]] | None = None
    memberships: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReadRule:
    """One way in which rows of a kind become readable: a permission, a condition on the row, or both.

    `where` may use `ACTOR_ID`, a bound parameter with the caller's id. `holder` is for rows that stand for a
    person: the permission is then asked of the objects at which that person holds a role. Whoever reads by a rule
    with `restores` may undo a delete of their own.
    """

    model: type[Table]
    permission: str | None = None
    where: ColumnElement[bool] | None = None
    holder: Any = None
    restores: bool = False


@dataclass(frozen=True)
class ReadThrough:
    """Rows of another plugin's kind become readable through something of one's own: a file through what shows it.

    Who has the permission at what the row hangs under reads it, where the condition holds; `where` takes the row's
    table, and may use `ACTOR_ID`. It opens rows, and never closes any.
    """

    kind: str
    permission: str
    where: Callable[[Any], ColumnElement[bool]]


class Event(BaseModel):
    """A fact, stated in the transaction that made it true; ids and primitives only.

    Subclass with `class CourseCreated(Event, name="courses.course_created.v1")`. An event never changes its
    fields: a new shape is a new version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    event_name: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.event_name = name


@dataclass(frozen=True)
class Handler:
    """What a plugin does when an event happened; `name` is stable, since deliveries are stored under it.

    A transactional handler is `async def handle(uow, event)`: its effects in the database and the mark that
    it is done are one transaction. With `transactional=False` it is `async def handle(context, event)`, opens
    units of work of its own, may take long, and must be idempotent. `order_by` names a field of the event: what is about
    the same thing is then done one after the other, in the order in which it happened.
    """

    name: str
    event: type[Event]
    function: Callable[[Any, Any], Awaitable[None]]
    transactional: bool = True
    order_by: str | None = None


@dataclass(frozen=True)
class Schedule:
    """Something that a worker does again and again; `function` takes a unit of work."""

    name: str
    every: timedelta
    function: Callable[[UnitOfWork], Awaitable[None]]


@dataclass(frozen=True)
class Cascade:
    """Rows of `child` hang under a row of the kind `parent`, by `column`.

    They are readable only while the parent lives, and go and come back with it. With `takes=False` they
    stay when the parent goes, and are only hidden. `inside` says that the parent hangs under what the child hangs under
    by another column (a module under the course of its materials): what is above is then asked of the child alone, where
    asking it a second time would double every statement.
    """

    child: type[Any]
    column: str
    parent: str
    takes: bool = True
    inside: bool = False


@dataclass(frozen=True)
class Conflict:
    """Why a row cannot come back as things stand."""

    kind: str
    id: UUID
    code: str
    detail: str
    choices: tuple[str, ...] = ()
    """What whoever restores may choose (`on_conflict`) to solve it."""


@dataclass(frozen=True)
class Reaction:
    """What else must hold when rows of a kind go, come back, or are removed for good, in the same transaction.

    The kind is one's own model or, by its name, that of a plugin in `requires`. `deleting(uow, ids)` runs before several
    rows are taken, by a cascade or together, and locks what `deleted` changes beside them: what rows hang under is locked
    before them. `deleted(uow, ids)` runs after rows were taken, `conflicts(uow, ids, choices)` before the root comes back,
    `restored(uow, ids, choices)` after. `choices` names the ways to solve a conflict that these two know. `purged(uow,
    ids, needed)` runs before rows are removed for good: it has to empty those of them that others still need (a user who
    gave grades) of all that is somebody's, since they stay, though they never come back.
    """

    model: type[Table] | str
    deleting: Callable[[UnitOfWork, Sequence[UUID]], Awaitable[object]] | None = None
    deleted: Callable[[UnitOfWork, Sequence[UUID]], Awaitable[None]] | None = None
    conflicts: Callable[[UnitOfWork, Sequence[UUID], Collection[str]], Awaitable[list[Conflict]]] | None = None
    restored: Callable[[UnitOfWork, Sequence[UUID], Collection[str]], Awaitable[None]] | None = None
    choices: tuple[str, ...] = ()
    purged: Callable[[UnitOfWork, Sequence[UUID], Collection[UUID]], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Part:
    """Rows of a table that are part of a row of another one: when that is removed for good they are, too.

    What points at a row without being part of it forgets it then or, where it cannot, keeps it, emptied.
    """

    model: type[Any]
    column: str
    of: str | type[Any]
    """A kind by name, or a model of one's own."""


@dataclass(frozen=True)
class Removal:
    """Rows of a kind can be deleted several at once, as one deletion: `POST /deletions`.

    The actor needs the permission on each. `function(uow, id)` is what their own route calls, where more has to be asked
    than that; it ends in `delete`.
    """

    model: type[Table]
    permission: str | None = None
    function: Callable[[UnitOfWork, UUID], Awaitable[Any]] | None = None


class Retention(ABC):
    """The contract of whoever knows how long deleted things can be restored (the institutions plugin)."""

    @abstractmethod
    async def days(self, uow: UnitOfWork, kinds: Collection[str], places: Mapping[str, Collection[UUID]]) -> int | None:
        """The longest that holds for rows of any of these kinds at any of these places (ids by kind); None: nobody says."""


@dataclass(frozen=True)
class Service:
    """A contract (an abstract class in some plugin's contracts.py) and the object that fulfils it."""

    contract: type[Any]
    provider: object


@dataclass(frozen=True)
class HealthCheck:
    """A check for /health: raises with a sentence when the thing is not well. `critical` makes it `down`."""

    name: str
    function: Callable[[Context], Awaitable[str | None]]
    critical: bool = False


@dataclass(frozen=True)
class Setup:
    """What must be there before the first request, done after every migration; idempotent.

    Returns lines for the person who starts the system (the first super admin, say).
    """

    name: str
    function: Callable[[Context, bool], Awaitable[list[str]]]


@dataclass(frozen=True)
class Identity:
    """Who a verified access token speaks for, and until when (Unix seconds)."""

    user_id: UUID
    session_id: UUID | None
    expires_at: float


class Authenticator(ABC):
    """The contract of whoever knows what a bearer token means (the auth plugin)."""

    @abstractmethod
    async def authenticate(self, context: Context, token: str) -> Identity | None:
        """The identity behind a token, or None when it is not valid now."""


class UploadedFiles(ABC):
    """The contract of whoever keeps files (the files plugin)."""

    @abstractmethod
    async def read(self, uow: UnitOfWork, file_id: UUID, most_bytes: int) -> bytes:
        """What was uploaded; call it before the transaction has begun.

        NotFound unless the actor may read the file, StateConflict until it is ready, Invalid when it is larger.
        """


Lifespan = Callable[["Context"], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class HeldRole:
    """A role that an actor holds, and the grant it comes from."""

    source: str
    kind: str
    object_id: UUID | None
    role: str
    grant_id: UUID | None
    expires_at: datetime | None = field(default=None)
    permissions: frozenset[str] | None = field(default=None)
    """What a role of an institution's own gives; None for those that permissions name."""
    at_person: bool = field(default=False)
    """Whether the object is a person (a guardian's student), whose changes then concern the holder too."""
