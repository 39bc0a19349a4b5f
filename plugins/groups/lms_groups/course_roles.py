"""The roles that groups hold in courses: whoever changes them, or who is in such a group, must be able to enroll so."""

from collections.abc import Sequence
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE, CourseCatalog
from sqlalchemy import Select, bindparam
from sqlmodel import col, select

from lms_core.sdk import Conflict, Forbidden, Listing, NotFound, Point, UnitOfWork, alive, among, delete
from lms_groups.contracts import RoleGranted
from lms_groups.models import CourseRole, Group, Membership
from lms_groups.schemas import CourseRoleGrant, CourseRoleRead

COURSE_ROLES = Listing(
    CourseRole, CourseRoleRead, filters={"group_id": col(CourseRole.group_id) == bindparam("group_id")}
)
COURSE_ROLE_POINT = Point(CourseRole, CourseRoleRead)


async def give(uow: UnitOfWork, group_id: UUID, data: CourseRoleGrant) -> Response:
    """Give everybody in a group a role in a course."""
    await uow.require(permission_for(data.role), COURSE, data.course_id)
    await uow.hold(COURSE, data.course_id)
    await uow.lock(Group, group_id)
    given = CourseRole(group_id=group_id, **data.model_dump())
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


def permission_for(role: str) -> str:
    """What one needs on the course to enroll somebody so."""
    return "enrollments.appoint" if role == "teacher" else "enrollments.create"


def may_not_give(role: str) -> Forbidden:
    """403: the group gives, or would give, more than the actor could."""
    return Forbidden(f"The group is to have the role {role} in a course where you may not give it.")


async def refuse_unless_may_give_all(uow: UnitOfWork, group_id: UUID) -> None:
    """403 when a group holds a role that the actor may not give: they change nothing about who has it."""
    held = select(CourseRole.course_id, CourseRole.role).where(CourseRole.group_id == group_id, alive(CourseRole))
    forbidden = await forbidden_among(uow, [(course_id, role) for course_id, role in await pairs(uow, held)])
    if forbidden:
        raise may_not_give(forbidden[0][1])


async def pairs(uow: UnitOfWork, statement: Select[UUID, str]) -> list[tuple[UUID, str]]:
    """Courses and roles, each once."""
    return sorted({(course_id, role) for course_id, role in (await uow.session.execute(statement)).all()})


async def forbidden_among(uow: UnitOfWork, wanted: Sequence[tuple[UUID, str]]) -> list[tuple[UUID, str]]:
    """The roles in courses that live which the actor may not give."""
    if uow.access.everywhere:
        return []
    return [
        (course_id, role)
        for course_id, role in wanted
        if await uow.use(CourseCatalog).find(uow, course_id) is not None
        and not await uow.can(permission_for(role), COURSE, course_id)
    ]


async def refuse_unless_of_group(uow: UnitOfWork, group_id: UUID, id: UUID) -> None:
    """404 for a role, dead or alive, of another group."""
    found = select(CourseRole.id).where(CourseRole.id == id, CourseRole.group_id == group_id)
    if (await uow.session.execute(found)).first() is None:
        raise NotFound("groups.course_role", id)


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], on_conflict: str | None) -> list[Conflict]:
    """A restore brings back no role that the actor could not give."""
    returning = select(CourseRole.course_id, CourseRole.role, CourseRole.id).where(among(col(CourseRole.id), ids))
    return await conflicts(uow, "groups.course_role", returning)


async def conflicts_of_restored_members(
    uow: UnitOfWork, ids: Sequence[UUID], on_conflict: str | None
) -> list[Conflict]:
    """Nor does it put anybody back into a group that holds such a role."""
    returning = (
        select(CourseRole.course_id, CourseRole.role, Membership.id)
        .join(Membership, col(Membership.group_id) == col(CourseRole.group_id))
        .where(among(col(Membership.id), ids), alive(CourseRole))
    )
    return await conflicts(uow, "groups.membership", returning)


async def conflicts(uow: UnitOfWork, kind: str, returning: Select[UUID, str, UUID]) -> list[Conflict]:
    """One for each row that comes back with a role that the actor may not give."""
    rows = (await uow.session.execute(returning)).all()
    forbidden = set(await forbidden_among(uow, sorted({(course_id, role) for course_id, role, _ in rows})))
    return [
        Conflict(kind, id, "grant_not_allowed", f"You may not give the role {role} there, so you cannot bring it back.")
        for course_id, role, id in rows
        if (course_id, role) in forbidden
    ]
