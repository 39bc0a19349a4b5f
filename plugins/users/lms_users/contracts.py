"""What other plugins may ask of users and provide to them, and what users tells them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from lms_institutions.contracts import is_at_or_below
from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    DateTime,
    Text,
    Uuid,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    table,
    true,
    union_all,
)

from lms_core.sdk import ACTOR_ID, Context, Event, UnitOfWork

USER = "users.user"
ROLE = "users.role"
GRANT = "users.grant"
"""The kinds, for cascades."""

USERS = table(
    "users_user",
    column("id", Uuid()),
    column("email", Text()),
    column("full_name", Text()),
    column("is_active", Boolean()),
    column("is_deleted", Boolean()),
)
"""People, for statements of other plugins."""
GUARDIANSHIPS = table(
    "users_guardianship",
    column("id", Uuid()),
    column("guardian_id", Uuid()),
    column("student_id", Uuid()),
    column("is_deleted", Boolean()),
)
"""Who is whose guardian, for role sources of other plugins."""
GRANTS = table(
    "users_grant",
    column("id", Uuid()),
    column("user_id", Uuid()),
    column("institution_id", Uuid()),
    column("expires_at", DateTime(timezone=True)),
    column("created_at", DateTime(timezone=True)),
    column("is_deleted", Boolean()),
)


def found_caller_and_wards() -> CTE:
    """A row for the caller, and one for each student whose guardian they are."""
    link = GUARDIANSHIPS.alias()
    wards = select(link.c.student_id, true()).where(link.c.guardian_id == ACTOR_ID, ~link.c.is_deleted)
    return union_all(select(ACTOR_ID.label("user_id"), false().label("is_ward")), wards).cte("caller_and_wards")


CALLER_AND_WARDS = found_caller_and_wards()
"""`user_id`, `is_ward`: for read rules that ask the same of all of them. A statement finds them once, and only if it has to."""


def is_some_ward(condition: Callable[[Any], ColumnElement[bool]]) -> ColumnElement[bool]:
    """For read rules: a condition on a user holds for a student whose guardian the caller is.

    A condition with a select of its own has to say what it correlates: by itself that is the select around it alone.
    """
    link = GUARDIANSHIPS.alias()
    ward = exists().where(link.c.guardian_id == ACTOR_ID, ~link.c.is_deleted, condition(link.c.student_id))
    return ward.correlate_except(link)


def roles_around(
    institution_id: Any, user_id: Any, since: Any = None
) -> tuple[ColumnElement[bool], ColumnElement[datetime]]:
    """That a user holds a role at an institution, above or below it, and when the last of these roles expires.

    `institution_id` is a column; the second is NULL while one of the roles has no end. With a moment, only roles count that
    were given by then.
    """
    grant = GRANTS.alias()
    return held(grant, user_id, around(grant, institution_id), since)


def roles_at_or_above(
    institution_id: Any, user_id: Any, since: Any = None
) -> tuple[ColumnElement[bool], ColumnElement[datetime]]:
    """The same for a role at an institution or above it: who holds one is a member there, and may be enrolled."""
    grant = GRANTS.alias()
    return held(grant, user_id, at_or_above(grant, institution_id), since)


def around(grant: Any, institution_id: Any) -> ColumnElement[bool]:
    """A condition: the role is one at the institution that a column names, above or below it."""
    return or_(at_or_above(grant, institution_id), is_at_or_below(grant.c.institution_id, institution_id))


def at_or_above(grant: Any, institution_id: Any) -> ColumnElement[bool]:
    """A condition: the role is one at the institution that a column names, or above it."""
    return or_(grant.c.institution_id == institution_id, is_at_or_below(institution_id, grant.c.institution_id))


def held(
    grant: Any, user_id: Any, condition: ColumnElement[bool], since: Any
) -> tuple[ColumnElement[bool], ColumnElement[datetime]]:
    """That a user holds a role now of which the condition is true, and when the last of these expires."""
    there = [
        grant.c.user_id == user_id,
        ~grant.c.is_deleted,
        or_(grant.c.expires_at.is_(None), grant.c.expires_at > func.now()),
        condition,
    ]
    if since is not None:
        there.append(grant.c.created_at <= since)
    never = cast(literal("infinity"), DateTime(timezone=True))
    last = func.nullif(func.max(func.coalesce(grant.c.expires_at, never)), never)
    ends: ColumnElement[datetime] = select(last).where(*there).correlate_except(grant).scalar_subquery()
    return exists().where(*there).correlate_except(grant), ends


@dataclass(frozen=True)
class Person:
    """A user, as other plugins see them."""

    id: UUID
    email: str
    full_name: str
    is_active: bool


class UserDirectory(ABC):
    """Questions about users."""

    @abstractmethod
    async def find(self, uow: UnitOfWork, user_id: UUID) -> Person | None:
        """A live user, active or not."""

    @abstractmethod
    async def find_by_email(self, uow: UnitOfWork, email: str) -> Person | None:
        """A live user by their address, whatever its case or Unicode form."""

    @abstractmethod
    async def find_by_emails(self, uow: UnitOfWork, emails: Collection[str]) -> dict[str, Person]:
        """Live users by the addresses as they are given, in one statement; who is not there is left out."""

    @abstractmethod
    async def may_sign_in(self, uow: UnitOfWork, user_id: UUID) -> bool:
        """Whether the user lives and is active; one statement on the read pool."""

    @abstractmethod
    async def members_among(
        self, uow: UnitOfWork, user_ids: Sequence[UUID], institution_id: UUID, *, below: bool = False
    ) -> dict[UUID, bool]:
        """Those of the users who live and whom the actor may bring into an institution, and whether they are active.

        They hold a role there or above; for a super admin, and the system, every live user counts. With `below` they
        hold one there, above or below, whoever asks. They stay alive until the transaction ends.
        """

    @abstractmethod
    async def living_among(self, uow: UnitOfWork, user_ids: Sequence[UUID]) -> set[UUID]:
        """Those of the users who live, and stay alive until the transaction ends."""

    @abstractmethod
    async def institutions_of(self, uow: UnitOfWork, user_id: UUID) -> list[UUID]:
        """The institutions at which a user is granted a role now, without those below."""

    @abstractmethod
    async def has_super_admin(self, uow: UnitOfWork) -> bool:
        """Whether any live and active super admin exists."""

    @abstractmethod
    async def create_super_admin(self, uow: UnitOfWork, email: str, full_name: str) -> UUID:
        """The first super admin, or one more; an existing user with the address gets the role."""


class SignUp(ABC):
    """For ways of signing in that know people before we do."""

    @abstractmethod
    async def create(
        self, uow: UnitOfWork, email: str, full_name: str, role: Literal["student", "teacher"], institution_id: UUID
    ) -> UUID:
        """A new user with a role there; no actor gives it. Raises StateConflict when the address is taken meanwhile."""

    @abstractmethod
    async def belongs_to(self, context: Context, user_id: UUID, institution_id: UUID) -> bool:
        """Whether everything in which a user takes part is at an institution or below it, and none of it runs one.

        So that whoever vouches for the institution's people can vouch for this one.
        """


class Passwords(ABC):
    """Provided by whoever keeps passwords (the auth plugin)."""

    @abstractmethod
    async def prepare(self, uow: UnitOfWork, email: str, password: str, institution_ids: Sequence[UUID] = ()) -> str:
        """What `store` takes; slow, so before the transaction begins.

        Raises Invalid when the password is too weak, for the institutions where the user will hold a role too.
        """

    @abstractmethod
    async def store(self, uow: UnitOfWork, user_id: UUID, prepared: str) -> None:
        """Give a user the password."""


class UserCreated(Event, name="users.user_created.v1"):
    """A user came to be."""

    user_id: UUID


class UserInvited(Event, name="users.user_invited.v1"):
    """A new user is to be invited to choose a password, by whoever keeps passwords."""

    user_id: UUID


class UserDisabled(Event, name="users.user_disabled.v1"):
    """A user may not sign in any more; their sessions are to end."""

    user_id: UUID


class UserEnabled(Event, name="users.user_enabled.v1"):
    """A user may sign in again."""

    user_id: UUID


class RoleGranted(Event, name="users.role_granted.v1"):
    """A user got a role."""

    grant_id: UUID
    user_id: UUID
    role: str
    institution_id: UUID | None
    expires_at: datetime | None


DEMO_TEACHER = UUID("00000000-0000-7000-8000-000000000002")
DEMO_STUDENT = UUID("00000000-0000-7000-8000-000000000003")
"""The people that `lms up --demo` makes."""
