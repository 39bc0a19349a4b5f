"""What other plugins may ask of users and provide to them, and what users tells them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, column, exists, or_, table

from lms_core.sdk import ACTOR_ID, Context, Event, UnitOfWork

USER = "users.user"
ROLE = "users.role"
"""The kinds, for cascades."""

GUARDIANSHIPS = table(
    "users_guardianship", column("id"), column("guardian_id"), column("student_id"), column("is_deleted")
)
"""Who is whose guardian, for role sources of other plugins."""


def is_actor_or_ward(condition: Callable[[Any], ColumnElement[bool]]) -> ColumnElement[bool]:
    """For read rules: a condition on a user holds for the caller, or for a student whose guardian they are."""
    link = GUARDIANSHIPS.alias()
    ward = exists().where(link.c.guardian_id == ACTOR_ID, ~link.c.is_deleted, condition(link.c.student_id))
    return or_(condition(ACTOR_ID), ward)


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

        They hold a role there or above (or `below`); for a super admin, and the system, every live user counts. They
        stay alive until the transaction ends.
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
