"""The rules for groups."""

from collections.abc import Collection
from uuid import UUID

from fastapi import Response
from lms_courses.contracts import COURSE
from lms_institutions.contracts import INSTITUTION
from sqlalchemy import Integer, Uuid, bindparam, cast, exists, func, or_
from sqlmodel import col, select

from lms_core.sdk import ACTOR_ID, Listing, NotFound, Point, UnitOfWork, alive, among, delete
from lms_groups import course_roles
from lms_groups.contracts import GroupChanged, GroupCreated, GroupDirectory
from lms_groups.models import Group, Membership
from lms_groups.schemas import GroupCreate, GroupRead, GroupUpdate

MEMBERS = (
    select(func.count()).where(col(Membership.group_id) == col(Group.id), ~col(Membership.is_deleted)).scalar_subquery()
)
COLUMNS = {"members": cast(MEMBERS, Integer)}
OWN = exists().where(
    col(Membership.group_id) == col(Group.id), col(Membership.user_id) == ACTOR_ID, ~col(Membership.is_deleted)
)
GROUPS = Listing(
    Group,
    GroupRead,
    filters={
        "course_id": col(Group.course_id) == bindparam("course_id", type_=Uuid()),
        "institution_id": col(Group.institution_id) == bindparam("institution_id", type_=Uuid()),
        "mine": OWN,
    },
    columns=COLUMNS,
)
GROUP_POINT = Point(Group, GroupRead, columns=COLUMNS)


async def create(uow: UnitOfWork, data: GroupCreate) -> Response:
    """Add a group to a course that one teaches, or to an institution that one runs."""
    if data.course_id is not None:
        await uow.require("groups.create", COURSE, data.course_id)
        await uow.hold(COURSE, data.course_id)
    elif data.institution_id is not None:
        await uow.require("groups.create_shared", INSTITUTION, data.institution_id)
        await uow.hold(INSTITUTION, data.institution_id)
    group = Group(**data.model_dump())
    await uow.add(group)
    uow.emit(GroupCreated(group_id=group.id, course_id=group.course_id, institution_id=group.institution_id))
    return await GROUP_POINT.after_write(uow, group.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: GroupUpdate, if_match: str | None) -> Response:
    """Change what is given."""
    group = await uow.lock(Group, id, if_match)
    if uow.change(group, data.model_dump(exclude_unset=True, exclude_none=True)):
        uow.emit(GroupChanged(group_id=id))
    await uow.flush()
    return await GROUP_POINT.after_write(uow, id)


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None = None) -> Response:
    """Delete a group, with who is in it and the roles that it holds; 403 when one could not take those."""
    await course_roles.refuse_unless_may_give_all(uow, id)
    return await delete(uow, Group, id, if_match)


async def refuse_unless_known(uow: UnitOfWork, id: UUID) -> None:
    """404 for a group that the actor may not know."""
    if not await uow.knows(Group, id):
        raise NotFound("groups.group", id)


class Directory(GroupDirectory):
    """Answers other plugins' questions."""

    async def known_among(self, uow: UnitOfWork, group_ids: Collection[UUID], course_id: UUID) -> set[UUID]:
        """In one statement, held in the order of their ids."""
        readable = uow.readable(Group)
        statement = (
            select(Group.id)
            .where(
                among(col(Group.id), group_ids),
                or_(col(Group.course_id) == course_id, col(Group.institution_id).is_not(None)),
                alive(Group),
                readable.write(Group),
            )
            .order_by(col(Group.id))
            .with_for_update(read=True)
        )
        return set((await uow.session.execute(statement, readable.parameters)).scalars())
