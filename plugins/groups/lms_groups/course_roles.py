"""The roles that groups hold in courses: whoever changes them, or who is in such a group, must be able to enroll so."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, COURSES
from sqlalchemy import Select, bindparam, exists, func, or_
from sqlmodel import col, select

from lms_core.sdk import Forbidden, Listing, NotFound, Point, UnitOfWork, alive, delete
from lms_groups.contracts import RoleGranted
from lms_groups.models import CourseRole, Group
from lms_groups.schemas import CourseRoleGrant, CourseRoleRead

COURSE_ROLES = Listing(
    CourseRole,
    CourseRoleRead,
    filters={name: getattr(CourseRole, name) == bindparam(name) for name in ("group_id", "course_id")},
)
COURSE_ROLE_POINT = Point(CourseRole, CourseRoleRead)


async def give(uow: UnitOfWork, group_id: UUID, data: CourseRoleGrant) -> Response:
    """Give everybody in a group a role in a course."""
    await uow.require(permission_for(data.role), COURSE, data.course_id)
    await uow.hold(COURSE, data.course_id)
    await uow.lock(Group, group_id)
    # Under the locks, so later than the enrollments of all who have the role from now on.
    now = (await uow.session.execute(select(func.clock_timestamp()))).scalar_one()
    given = CourseRole(group_id=group_id, created_at=now, updated_at=now, **data.model_dump())
    await uow.add(given)
    uow.emit(RoleGranted(course_role_id=given.id, group_id=group_id, course_id=given.course_id, role=given.role))
    uow.announce("all")
    return await COURSE_ROLE_POINT.after_write(uow, given.id, 201)


async def take(uow: UnitOfWork, group_id: UUID, id: UUID, if_match: str | None) -> Response:
    """Take a role from a group; it can be given back."""
    found = select(CourseRole).where(CourseRole.id == id, CourseRole.group_id == group_id, alive(CourseRole))
    given = (await uow.session.execute(found)).scalar_one_or_none()
    if given is None:
        raise NotFound("groups.course_role", id)
    if await forbidden_among(uow, [(given.course_id, given.role)]):
        raise may_not_give(given.role)
    uow.announce("all")
    return await delete(uow, CourseRole, id, if_match)


MAY_COUNT = or_(
    ~col(CourseRole.is_deleted),
    exists()
    .where(COURSES.c.id == col(CourseRole.course_id), COURSES.c.deletion_id == col(CourseRole.deletion_id))
    .correlate_except(COURSES),
)
"""A condition: the role is held, or went with its course and comes back with it."""


def permission_for(role: str) -> str:
    """What one needs on the course to enroll somebody so."""
    return "enrollments.appoint" if role == "teacher" else "enrollments.create"


def may_not_give(role: str) -> Forbidden:
    """403: the group gives, or would give, more than the actor could."""
    return Forbidden(f"The group is to have the role {role} in a course where you may not give it.")


async def refuse_unless_may_give_all(uow: UnitOfWork, group_id: UUID) -> bool:
    """403 when a group holds a role that the actor may not give: they change nothing about who has it. Else whether it
    holds any.

    Roles in courses that are deleted count too: they come back with them.
    """
    held = select(CourseRole.course_id, CourseRole.role).where(CourseRole.group_id == group_id, MAY_COUNT)
    roles = await pairs(uow, held)
    forbidden = await forbidden_among(uow, roles)
    if forbidden:
        raise may_not_give(forbidden[0][1])
    return bool(roles)


async def pairs(uow: UnitOfWork, statement: Select[UUID, str]) -> list[tuple[UUID, str]]:
    """Courses and roles, each once."""
    return sorted({(course_id, role) for course_id, role in (await uow.session.execute(statement)).all()})


async def forbidden_among(uow: UnitOfWork, wanted: Sequence[tuple[UUID, str]]) -> list[tuple[UUID, str]]:
    """The roles in courses, dead or alive, that the actor may not give."""
    if uow.access.everywhere:
        return []
    return [
        (course_id, role)
        for course_id, role in wanted
        if not await uow.can(permission_for(role), COURSE, course_id, dead_too=True)
    ]


async def refuse_unless_of_group(uow: UnitOfWork, group_id: UUID, id: UUID) -> None:
    """404 for a role, dead or alive, of another group."""
    found = select(CourseRole.id).where(CourseRole.id == id, CourseRole.group_id == group_id)
    if (await uow.session.execute(found)).first() is None:
        raise NotFound("groups.course_role", id)
