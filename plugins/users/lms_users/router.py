"""The URLs of users and their roles."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    ImportPlanRead,
    ImportRead,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    reads,
    requires,
    restore,
    signed_in,
)
from lms_users import explanations, grants, guardians, roles, service
from lms_users.emails import email_key
from lms_users.models import Grant, Guardianship, Role, User
from lms_users.schemas import (
    GrantRead,
    GuardianAdd,
    GuardianshipRead,
    MeRead,
    PermissionsRead,
    PermittedUser,
    RoleCreate,
    RoleGrant,
    RoleRead,
    RoleUpdate,
    UserCreate,
    UserImport,
    UserRead,
    UserUpdate,
)

router = Router()
OnObject = Annotated[str, Query(max_length=200, description="`course:<id>`, or `courses.course:<id>`")]
Permitted = Annotated[str, Query(max_length=100, description="Such as `courses.edit`")]
MAY_DEFINE = requires("users.define_roles", on="role", path="role_id")
MAY_EDIT = requires("users.edit", on="user", path="user_id")
MAY_GRANT = requires("users.grant", on="user", path="user_id")


@router.post("", status_code=201, response_model=UserRead, dependencies=[requires("users.create")])
async def create(uow: Uow, data: UserCreate) -> Response:
    """Add a user, with a role at one of your institutions."""
    return await service.create(uow, data)


@router.get("", name="list", response_model=Page[UserRead], dependencies=[reads("users.read")])
async def list_users(
    uow: Uow,
    params: PageParams,
    email: Annotated[str | None, Query(max_length=320, description="Exactly this address")] = None,
    institution_id: Annotated[UUID | None, Query(description="Who holds a role right at this institution")] = None,
) -> Response:
    """The users that you may know, newest first."""
    key = None if email is None else email_key(email)
    return await service.USERS.page(uow, params, email_key=key, institution_id=institution_id)


@router.get("/me", response_model=MeRead, dependencies=[signed_in("about the caller")])
async def me(uow: Uow) -> Response:
    """You, with your roles and permissions."""
    return await service.me(uow)


@router.post(
    "/import",
    name="import",
    status_code=202,
    response_model=ImportRead,
    responses={200: {"model": ImportPlanRead, "description": "What would be done (`dry_run`)"}},
    dependencies=[requires("users.import")],
)
async def import_users(uow: Uow, data: UserImport, dry_run: bool = False) -> Response:
    """Add and change users from a CSV file that was uploaded; nothing when one row is wrong, and all can be undone."""
    return await service.import_users(uow, data, dry_run)


@router.get("/permitted", response_model=Page[PermittedUser], dependencies=[reads("users.read")])
async def permitted(uow: Uow, params: PageParams, permission: Permitted, on: OnObject) -> Response:
    """Who may do a thing, among the users that you may know; asks for the roles, not for what is one's own."""
    return await explanations.permitted(uow, params, permission, on)


@router.post(
    "/roles",
    status_code=201,
    response_model=RoleRead,
    dependencies=[requires("users.define_roles", on="institution", body="institution_id")],
)
async def define_role(uow: Uow, data: RoleCreate) -> Response:
    """Define a role of an institution's own, which gives strictly less than yours."""
    return await roles.create(uow, data)


@router.get("/roles", response_model=Page[RoleRead], dependencies=[reads("users.grant")])
async def list_own_roles(
    uow: Uow,
    params: PageParams,
    institution_id: Annotated[UUID | None, Query(description="Defined right at this institution")] = None,
) -> Response:
    """The roles that your institutions defined."""
    return await roles.ROLES.page(uow, params, institution_id=institution_id)


@router.get("/roles/{role_id}", response_model=RoleRead, dependencies=[reads("users.grant")])
async def get_own_role(uow: Uow, role_id: UUID) -> Response:
    """One role of an institution's own."""
    return await roles.ROLE_POINT.get(uow, role_id)


@router.patch("/roles/{role_id}", response_model=RoleRead, dependencies=[MAY_DEFINE])
async def change_own_role(uow: Uow, role_id: UUID, data: RoleUpdate, if_match: IfMatch = None) -> Response:
    """Change what a role gives to all who hold it."""
    return await roles.update(uow, role_id, data, if_match)


@router.delete("/roles/{role_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_DEFINE])
async def delete_own_role(uow: Uow, role_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a role, and take it from all who hold it; it can be restored."""
    return await roles.remove(uow, role_id, if_match)


@router.post(
    "/roles/{role_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("users.define_roles", on="role", path="role_id")],
)
async def restore_own_role(uow: Uow, role_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back a role, and give it back to all who held it."""
    return await restore(uow, Role, role_id, request)


@router.get("/{user_id}", response_model=UserRead, dependencies=[reads("users.read")])
async def get(uow: Uow, user_id: UUID) -> Response:
    """One user."""
    return await service.USER_POINT.get(uow, user_id)


@router.patch("/{user_id}", response_model=UserRead, dependencies=[reads("users.read", on="user", path="user_id")])
async def update(uow: Uow, user_id: UUID, data: UserUpdate, if_match: IfMatch = None) -> Response:
    """Change a user below you, or your own name."""
    return await service.update(uow, user_id, data, if_match)


@router.delete(
    "/{user_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("users.delete", on="user", path="user_id")],
)
async def delete(uow: Uow, user_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a user with their roles and enrollments; they can be restored."""
    return await service.remove(uow, user_id, if_match)


@router.post(
    "/{user_id}/restore",
    name="restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("users.delete", on="user", path="user_id")],
)
async def restore_user(uow: Uow, user_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, User, user_id, request)


@router.get("/{user_id}/roles", response_model=Page[GrantRead], dependencies=[reads("users.read")])
async def list_roles(uow: Uow, user_id: UUID, params: PageParams) -> Response:
    """The roles that a user was granted."""
    await service.not_found_unless_known(uow, user_id)
    return await grants.GRANTS.page(uow, params, user_id=user_id)


@router.post("/{user_id}/roles", status_code=201, response_model=GrantRead, dependencies=[MAY_GRANT])
async def give_role(uow: Uow, user_id: UUID, data: RoleGrant) -> Response:
    """Give a role that is below your own, where you hold yours."""
    return await grants.give(uow, user_id, data)


@router.delete("/{user_id}/roles/{grant_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_GRANT])
async def take_role(uow: Uow, user_id: UUID, grant_id: UUID, if_match: IfMatch = None) -> Response:
    """Take a role away; it can be restored."""
    return await grants.take(uow, user_id, grant_id, if_match)


@router.post(
    "/{user_id}/roles/{grant_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("users.grant", on="grant", path="grant_id")],
)
async def restore_role(uow: Uow, user_id: UUID, grant_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Give back a role that was taken away."""
    await service.not_found_unless_known(uow, user_id)
    await grants.refuse_unless_of_user(uow, user_id, grant_id)
    return await restore(uow, Grant, grant_id, request)


@router.get("/{user_id}/permissions", response_model=PermissionsRead, dependencies=[reads("users.read")])
async def explain(uow: Uow, user_id: UUID, on: OnObject) -> Response:
    """Why a user may, or may not, do each thing with one object."""
    return await explanations.permissions_of(uow, user_id, on)


@router.get("/{user_id}/guardians", response_model=Page[GuardianshipRead], dependencies=[reads("users.read")])
async def list_guardians(uow: Uow, user_id: UUID, params: PageParams) -> Response:
    """Who reads along with a student."""
    await service.not_found_unless_known(uow, user_id)
    return await guardians.GUARDIANS.page(uow, params, student_id=user_id)


@router.post("/{user_id}/guardians", status_code=201, response_model=GuardianshipRead, dependencies=[MAY_EDIT])
async def add_guardian(uow: Uow, user_id: UUID, data: GuardianAdd) -> Response:
    """Let somebody read what a student reads, and nothing else."""
    return await guardians.add(uow, user_id, data.guardian_id)


@router.delete(
    "/{user_id}/guardians/{guardianship_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_EDIT]
)
async def remove_guardian(uow: Uow, user_id: UUID, guardianship_id: UUID, if_match: IfMatch = None) -> Response:
    """End a guardian's link; it can be restored."""
    return await guardians.remove(uow, user_id, guardianship_id, if_match)


@router.post(
    "/{user_id}/guardians/{guardianship_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("users.edit", on="guardianship", path="guardianship_id")],
)
async def restore_guardian(
    uow: Uow, user_id: UUID, guardianship_id: UUID, request: RestoreRequest | None = None
) -> Response:
    """Bring back a guardian's link."""
    await service.not_found_unless_known(uow, user_id)
    await guardians.refuse_unless_of_student(uow, user_id, guardianship_id)
    return await restore(uow, Guardianship, guardianship_id, request)
