"""The URLs of groups, of who is in them, and of the roles that they hold."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    reads,
    requires,
    restore,
)
from lms_groups import course_roles, members, service
from lms_groups.models import CourseRole, Group, Membership
from lms_groups.schemas import (
    CourseRoleGrant,
    CourseRoleRead,
    GroupCreate,
    GroupRead,
    GroupUpdate,
    MemberAdd,
    MembersAdd,
    MembersAdded,
    MembershipRead,
)

router = Router()
READS_MEMBERS = reads("groups.read_members")
MAY_EDIT = requires("groups.edit", on="group", path="group_id")
MAY_GRANT = requires("groups.grant", on="group", path="group_id")


@router.post("", status_code=201, response_model=GroupRead, dependencies=[requires("groups.create")])
async def create(uow: Uow, data: GroupCreate) -> Response:
    """Add a group to a course, or to an institution."""
    return await service.create(uow, data)


@router.get("", name="list", response_model=Page[GroupRead], dependencies=[reads("groups.read")])
async def list_groups(
    uow: Uow,
    params: PageParams,
    course_id: UUID | None = None,
    institution_id: Annotated[UUID | None, Query(description="Of the institution itself, not of its courses")] = None,
    mine: Annotated[bool, Query(description="Only groups that you are in")] = False,
) -> Response:
    """The groups that you may know, newest first."""
    own = True if mine else None
    return await service.GROUPS.page(uow, params, course_id=course_id, institution_id=institution_id, mine=own)


@router.get("/roles", name="list_course_roles", response_model=Page[CourseRoleRead], dependencies=[READS_MEMBERS])
async def list_course_roles(uow: Uow, params: PageParams, course_id: UUID | None = None) -> Response:
    """The roles that groups hold in your courses, of whomever the groups are; and those of your groups, newest first."""
    return await course_roles.COURSE_ROLES.page(uow, params, course_id=course_id)


@router.get("/{group_id}", response_model=GroupRead, dependencies=[reads("groups.read")])
async def get(uow: Uow, group_id: UUID) -> Response:
    """One group."""
    return await service.GROUP_POINT.get(uow, group_id)


@router.patch("/{group_id}", response_model=GroupRead, dependencies=[MAY_EDIT])
async def update(uow: Uow, group_id: UUID, data: GroupUpdate, if_match: IfMatch = None) -> Response:
    """Change a group's name or description."""
    return await service.update(uow, group_id, data, if_match)


@router.delete(
    "/{group_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("groups.delete", on="group", path="group_id")],
)
async def delete(uow: Uow, group_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a group, with who is in it and the roles that it holds; it can be restored."""
    return await service.remove(uow, group_id, if_match)


@router.post(
    "/{group_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("groups.delete", on="group", path="group_id")],
)
async def restore_group(uow: Uow, group_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, Group, group_id, request)


@router.get("/{group_id}/members", response_model=Page[MembershipRead], dependencies=[READS_MEMBERS])
async def list_members(uow: Uow, group_id: UUID, params: PageParams) -> Response:
    """Who is in a group, newest first; without power over the group only yourself, and students you look after."""
    await service.refuse_unless_known(uow, group_id)
    return await members.MEMBERSHIPS.page(uow, params, group_id=group_id)


@router.post(
    "/{group_id}/members",
    status_code=201,
    response_model=MembershipRead,
    responses={200: {"model": MembershipRead, "description": "There already"}},
    dependencies=[MAY_EDIT],
)
async def add_member(uow: Uow, group_id: UUID, data: MemberAdd) -> Response:
    """Put somebody into a group; who is in it already is answered with 200."""
    return await members.add(uow, group_id, data.user_id)


@router.post("/{group_id}/members/bulk", response_model=MembersAdded, dependencies=[MAY_EDIT])
async def add_members(uow: Uow, group_id: UUID, data: MembersAdd) -> Response:
    """Put up to 1,000 people into a group, answered one by one."""
    return await members.add_many(uow, group_id, data.user_ids)


@router.delete(
    "/{group_id}/members/{membership_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_EDIT]
)
async def remove_member(uow: Uow, group_id: UUID, membership_id: UUID, if_match: IfMatch = None) -> Response:
    """Take somebody out of a group; it can be restored."""
    return await members.remove(uow, group_id, membership_id, if_match)


@router.post(
    "/{group_id}/members/{membership_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("groups.edit", on="membership", path="membership_id")],
)
async def restore_member(
    uow: Uow, group_id: UUID, membership_id: UUID, request: RestoreRequest | None = None
) -> Response:
    """Put somebody back."""
    await members.refuse_unless_of_group(uow, group_id, membership_id)
    return await restore(uow, Membership, membership_id, request)


@router.get("/{group_id}/roles", response_model=Page[CourseRoleRead], dependencies=[READS_MEMBERS])
async def list_roles(uow: Uow, group_id: UUID, params: PageParams) -> Response:
    """The roles that everybody in a group has, newest first."""
    await service.refuse_unless_known(uow, group_id)
    return await course_roles.COURSE_ROLES.page(uow, params, group_id=group_id)


@router.post("/{group_id}/roles", status_code=201, response_model=CourseRoleRead, dependencies=[MAY_GRANT])
async def give_role(uow: Uow, group_id: UUID, data: CourseRoleGrant) -> Response:
    """Give everybody in a group a role in a course where you may enroll so."""
    return await course_roles.give(uow, group_id, data)


@router.delete(
    "/{group_id}/roles/{course_role_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("groups.grant", on="course_role", path="course_role_id")],
)
async def take_role(uow: Uow, group_id: UUID, course_role_id: UUID, if_match: IfMatch = None) -> Response:
    """Take a role from a group; it can be restored."""
    return await course_roles.take(uow, group_id, course_role_id, if_match)


@router.post(
    "/{group_id}/roles/{course_role_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("groups.grant", on="course_role", path="course_role_id")],
)
async def restore_role(
    uow: Uow, group_id: UUID, course_role_id: UUID, request: RestoreRequest | None = None
) -> Response:
    """Give a role back that was taken."""
    await course_roles.refuse_unless_of_group(uow, group_id, course_role_id)
    return await restore(uow, CourseRole, course_role_id, request)
