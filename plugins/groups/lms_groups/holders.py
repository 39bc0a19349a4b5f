"""Who has a role by way of a group, since when; and what of that a restore must not bring back."""

from collections.abc import Collection, Sequence
from uuid import UUID

from lms_courses.contracts import COURSES
from lms_enrollments.contracts import ENROLLMENT, ENROLLMENTS
from lms_institutions.contracts import INSTITUTIONS
from lms_users.contracts import GRANT, GRANTS, around, at_or_above, roles_around, roles_at_or_above
from sqlalchemy import Select, and_, exists, func, inspect, or_
from sqlmodel import col, select

from lms_core.sdk import Conflict, UnitOfWork, among, exists_for_each
from lms_groups.contracts import GROUP, counts
from lms_groups.course_roles import MAY_COUNT, forbidden_among
from lms_groups.models import CourseRole, Group, Membership

SINCE = func.greatest(
    func.coalesce(col(Membership.confirmed_at), col(Membership.created_at)), col(CourseRole.created_at)
)
"""From when on somebody has a role of a group: whoever added them, or gave the group the role, could give it then.

Only who takes part without a break since has it. Who left and came back has it again when somebody adds them again who may
give it, and not by whoever may enroll them, let them in or give them a role at an institution.
"""
OF_ROLE = COURSES.alias("course_of_role")
OWN_COURSE, OWN_PLACE = COURSES.alias("course_of_group"), INSTITUTIONS.alias("place_of_group")
GROUP_LIVES = exists_for_each(
    OWN_PLACE.c.id
    == func.coalesce(
        col(Group.institution_id),
        select(OWN_COURSE.c.institution_id)
        .where(OWN_COURSE.c.id == col(Group.course_id), ~OWN_COURSE.c.is_deleted)
        .correlate(Group)
        .scalar_subquery(),
    ),
    ~OWN_PLACE.c.is_deleted,
)
"""A condition: what the group hangs under lives; a delete counts before the cascade has come to the group."""
GROUPS = inspect(Group).local_table
HAS_ROLE = and_(
    GROUP_LIVES,
    # Once for the group, before its roles are looked at one by one.
    counts(GROUPS, col(Membership.user_id)),
    counts(GROUPS, col(Membership.user_id), since=SINCE),
    # Nor does a group bring anybody into a course where nobody could enroll them.
    exists_for_each(
        OF_ROLE.c.id == col(CourseRole.course_id),
        func.coalesce(OF_ROLE.c.moved_at, SINCE) <= SINCE,
        roles_at_or_above(OF_ROLE.c.institution_id, col(Membership.user_id), SINCE)[0],
    ),
)
"""A condition on a membership, its group and a role of that: whoever is in the group has it now."""
UNTIL = func.least(
    roles_around(col(Group.institution_id), col(Membership.user_id))[1],
    select(roles_at_or_above(OF_ROLE.c.institution_id, col(Membership.user_id))[1])
    .where(OF_ROLE.c.id == col(CourseRole.course_id))
    .correlate(CourseRole, Membership)
    .scalar_subquery(),
)
"""When that ends by itself; NULL where it does not."""
HAD = GRANTS.alias("had")
MAY_HOLD = (
    select(col(CourseRole.course_id), col(CourseRole.role))
    .join(Group, col(Group.id) == col(CourseRole.group_id))
    .join(Membership, col(Membership.group_id) == col(Group.id))
    .join(OF_ROLE, OF_ROLE.c.id == col(CourseRole.course_id))
    # A role at the course's institution without which nobody has the group's: one that they had may come back, too.
    .where(
        exists().where(
            HAD.c.user_id == col(Membership.user_id),
            HAD.c.created_at <= SINCE,
            at_or_above(HAD, OF_ROLE.c.institution_id),
        )
    )
)
"""The roles that those may have, or have again, who are or were in groups; what is to come back is added."""
HELD_BY = MAY_HOLD.where(MAY_COUNT)
"""By roles that groups hold."""
RETURNING = HELD_BY.where(~col(Group.is_deleted), ~col(Membership.is_deleted))
"""Of those in living groups."""
ENROLLED = and_(
    ENROLLMENTS.c.course_id == col(Group.course_id),
    ENROLLMENTS.c.user_id == col(Membership.user_id),
    ENROLLMENTS.c.state == "active",
    func.coalesce(ENROLLMENTS.c.active_since, ENROLLMENTS.c.created_at) <= SINCE,
)
"""A condition: somebody takes part in the course of the group, or did without a break, by this enrollment."""


async def lacking_among(uow: UnitOfWork, membership_ids: Collection[UUID]) -> set[UUID]:
    """Those of some memberships by which somebody lacks a role that the group has."""
    lapsed = (
        select(Membership.id)
        .join(CourseRole, col(CourseRole.group_id) == col(Membership.group_id))
        .join(Group, col(Group.id) == col(Membership.group_id))
        .where(among(col(Membership.id), membership_ids), ~col(CourseRole.is_deleted), ~HAS_ROLE)
    )
    return set((await uow.session.execute(lapsed)).scalars())


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> list[Conflict]:
    """A restore brings back no role that the actor could not give; with its course it comes as it was."""
    lives = exists().where(COURSES.c.id == col(CourseRole.course_id), ~COURSES.c.is_deleted).correlate_except(COURSES)
    members = or_(~col(Membership.is_deleted), col(Membership.deletion_id) == col(CourseRole.deletion_id))
    returning = MAY_HOLD.add_columns(col(CourseRole.id)).where(among(col(CourseRole.id), ids), lives, members)
    found = await conflicts(uow, "groups.course_role", returning)
    # With its group it comes as it was.
    groups = (
        select(CourseRole.group_id, CourseRole.id)
        .join(Group, col(Group.id) == col(CourseRole.group_id))
        .where(among(col(CourseRole.id), ids), lives, ~col(Group.is_deleted))
    )
    return found + [
        Conflict("groups.course_role", id, "grant_not_allowed", "You may not give this group roles.")
        for group_id, id in (await uow.session.execute(groups)).all()
        if not await uow.can("groups.grant", GROUP, group_id)
    ]


async def conflicts_of_restored_members(
    uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]
) -> list[Conflict]:
    """Nor does it put anybody back into a group that holds such a role, and would give it to them."""
    returning = HELD_BY.add_columns(col(Membership.id)).where(
        among(col(Membership.id), ids),
        or_(col(Group.course_id).is_(None), exists().where(ENROLLED).correlate_except(ENROLLMENTS)),
    )
    return await conflicts(uow, "groups.membership", returning)


async def conflicts_of_restored_enrollments(
    uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]
) -> list[Conflict]:
    """Nor does it let anybody take part again who is in such a group of the course still."""
    returning = RETURNING.add_columns(ENROLLMENTS.c.id).where(ENROLLED, among(ENROLLMENTS.c.id, ids))
    return await conflicts(uow, ENROLLMENT, returning)


async def conflicts_of_restored_grants(
    uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]
) -> list[Conflict]:
    """Nor does it make anybody a member again of an institution, where such a group's, or the course's, needs that."""
    returning = RETURNING.add_columns(GRANTS.c.id).where(
        GRANTS.c.user_id == col(Membership.user_id),
        GRANTS.c.created_at <= SINCE,
        or_(around(GRANTS, col(Group.institution_id)), at_or_above(GRANTS, OF_ROLE.c.institution_id)),
        among(GRANTS.c.id, ids),
    )
    return await conflicts(uow, GRANT, returning)


async def conflicts(uow: UnitOfWork, kind: str, returning: Select[UUID, str, UUID]) -> list[Conflict]:
    """One for each row that comes back with a role that the actor may not give."""
    rows = (await uow.session.execute(returning)).all()
    forbidden = set(await forbidden_among(uow, sorted({(course_id, role) for course_id, role, _ in rows})))
    return [
        Conflict(kind, id, "grant_not_allowed", f"You may not give the role {role} there, so you cannot bring it back.")
        for course_id, role, id in rows
        if (course_id, role) in forbidden
    ]
