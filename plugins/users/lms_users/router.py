"""The URLs of users and their roles."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from lms_core.sdk import (
    RESTORE_ANSWERS,
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
    signed_in,
)
from lms_users import grants, service
from lms_users.emails import email_key
from lms_users.models import Grant, User
from lms_users.schemas import GrantRead, MeRead, RoleGrant, UserCreate, UserRead, UserUpdate

router = Router()
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
    responses=RESTORE_ANSWERS,
    dependencies=[reads("users.delete", on="user", path="user_id")],
)
async def restore_user(
    uow: Uow, user_id: UUID, request: RestoreRequest | None = None, dry_run: bool = False
) -> Response:
    """Bring back exactly what one delete took."""
    return await restore(uow, User, user_id, request, dry_run)


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
    responses=RESTORE_ANSWERS,
    dependencies=[reads("users.grant", on="grant", path="grant_id")],
)
async def restore_role(
    uow: Uow, user_id: UUID, grant_id: UUID, request: RestoreRequest | None = None, dry_run: bool = False
) -> Response:
    """Give back a role that was taken away."""
    await service.not_found_unless_known(uow, user_id)
    await grants.refuse_unless_of_user(uow, user_id, grant_id)
    return await restore(uow, Grant, grant_id, request, dry_run)
