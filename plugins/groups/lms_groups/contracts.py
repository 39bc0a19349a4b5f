"""What other plugins may ask of groups, and what groups tells them."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any
from uuid import UUID

from lms_enrollments.contracts import TAKING_PART, takes_part
from lms_users.contracts import CALLER_AND_WARDS, roles_around
from sqlalchemy import CTE, Boolean, ColumnElement, Uuid, and_, column, exists, or_, select, table

from lms_core.sdk import Event, UnitOfWork

GROUP = "groups.group"
"""The kind, for cascades."""

GROUPS = table(
    "groups_group",
    column("id", Uuid()),
    column("course_id", Uuid()),
    column("institution_id", Uuid()),
    column("is_deleted", Boolean()),
)
MEMBERSHIPS = table(
    "groups_membership", column("group_id", Uuid()), column("user_id", Uuid()), column("is_deleted", Boolean())
)


def counts(group: Any, user_id: Any, since: Any = None) -> ColumnElement[bool]:
    """A condition: whoever is in the group still belongs to what it is of.

    They take part in its course, or hold a role at its institution, above or below it; with a moment, without a break
    since then.
    """
    holds_role, _ = roles_around(group.c.institution_id, user_id, since)
    return or_(takes_part(group.c.course_id, user_id, since=since), holds_role)


def is_in_group(group_id: Any, user_id: Any) -> ColumnElement[bool]:
    """A condition: the group lives, and the user is in it, and still belongs to its course or institution."""
    group, membership = GROUPS.alias(), MEMBERSHIPS.alias()
    found = exists().where(
        group.c.id == group_id,
        ~group.c.is_deleted,
        membership.c.group_id == group.c.id,
        membership.c.user_id == user_id,
        ~membership.c.is_deleted,
        counts(group, membership.c.user_id),
    )
    return found.correlate_except(group, membership)


def found_in_groups() -> CTE:
    """A row for each group that lives, in which the caller or a ward of theirs is, and still belongs to what it is of."""
    group, membership, person, part = GROUPS.alias(), MEMBERSHIPS.alias(), CALLER_AND_WARDS, TAKING_PART.alias()
    in_course = exists().where(part.c.user_id == person.c.user_id, part.c.course_id == group.c.course_id)
    holds_role, _ = roles_around(group.c.institution_id, person.c.user_id)
    return (
        select(person.c.user_id, person.c.is_ward, group.c.id.label("group_id"))
        .select_from(person)
        .join(membership, and_(membership.c.user_id == person.c.user_id, ~membership.c.is_deleted))
        .join(group, and_(group.c.id == membership.c.group_id, ~group.c.is_deleted))
        .where(or_(in_course.correlate_except(part), holds_role))
        .cte("in_groups")
    )


IN_GROUPS = found_in_groups()
"""`user_id`, `is_ward`, `group_id`: `is_in_group` of the caller and their wards, for read rules. A statement finds it once,
and only if it has to."""


class GroupDirectory(ABC):
    """Questions about groups."""

    @abstractmethod
    async def known_among(self, uow: UnitOfWork, group_ids: Collection[UUID], course_id: UUID) -> set[UUID]:
        """Those of the groups that live, belong to the course or to an institution, and that the actor may know.

        They stay alive until the transaction ends.
        """


class GroupCreated(Event, name="groups.group_created.v1"):
    """A group came to be, of a course or of an institution."""

    group_id: UUID
    course_id: UUID | None
    institution_id: UUID | None


class GroupChanged(Event, name="groups.group_changed.v1"):
    """The name or the description of a group is another now."""

    group_id: UUID


class MemberAdded(Event, name="groups.member_added.v1"):
    """Somebody is in a group now. That they are no more is `core.deleted.v1` of a `groups.membership`."""

    membership_id: UUID
    group_id: UUID
    user_id: UUID


class RoleGranted(Event, name="groups.role_granted.v1"):
    """Everybody in a group has a role in a course now."""

    course_role_id: UUID
    group_id: UUID
    course_id: UUID
    role: str
