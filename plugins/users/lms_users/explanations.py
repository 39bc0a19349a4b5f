"""Why a user may do a thing, or not, and who may."""

from uuid import UUID

from fastapi import Response
from sqlalchemy import ARRAY, Uuid, any_, bindparam
from sqlmodel import col, select

from lms_core.sdk import (
    SUPER_ADMIN,
    Access,
    Decision,
    Invalid,
    JsonBytes,
    Listing,
    NotFound,
    Paging,
    UnitOfWork,
    explain,
    find_object,
    who_may,
)
from lms_users.models import User
from lms_users.schemas import PermittedUser

PERMITTED = Listing(
    User,
    PermittedUser,
    filters={"ids": col(User.id) == any_(bindparam("ids", type_=ARRAY(Uuid())))},
    where=col(User.is_active).is_(True),
)


async def permissions_of(uow: UnitOfWork, user_id: UUID, on: str) -> Response:
    """Every permission on one object: yes and through which role, or no and what is missing."""
    if not await uow.knows(User, user_id):
        raise NotFound("users.user", user_id)
    kind, id = await find_object(uow, on)
    user = (await uow.session.execute(select(User).where(User.id == user_id))).scalar_one()
    access = Access(user_id, (), uow.context.platform.rules)
    if user.is_active:
        access, _ = await uow.context.platform.rules.load(uow.context, user_id)
    readable, decisions = await explain(uow, access, kind, id)
    return JsonBytes(
        {
            "user_id": user_id,
            "on": {"kind": kind.name, "id": id},
            "readable": readable and user.is_active,
            "permissions": [shown(decision, kind.noun, user.is_active) for decision in decisions],
        }
    )


def shown(decision: Decision, noun: str, is_active: bool) -> dict[str, object]:
    """One decision, as people ask for it."""
    roles = ", ".join((*decision.sufficient, SUPER_ADMIN))
    missing = f"This takes one of the roles {roles}, or one of an institution's own, where it reaches this {noun}."
    if not is_active:
        missing = "The user is disabled, and may do nothing."
    return {
        "permission": decision.permission,
        "allowed": decision.allowed,
        "through": [
            {
                "source": held.source,
                "kind": held.kind,
                "object_id": held.object_id,
                "role": held.role,
                "grant_id": held.grant_id,
            }
            for held in decision.through
        ],
        "missing": None if decision.allowed else missing,
    }


async def permitted(uow: UnitOfWork, paging: Paging, permission: str, on: str) -> Response:
    """The users whom the caller may know, and whose roles give a permission on one object."""
    if permission not in uow.context.platform.rules.permissions:
        raise Invalid("unknown_permission", "No enabled plugin has this permission; see `GET /plugins`.", ("query",))
    kind, id = await find_object(uow, on)
    return await PERMITTED.page(uow, paging, ids=await who_may(uow, permission, kind, id))
