"""An institution's own roles: bundles of permissions, each strictly less than what those who define them hold."""

from collections.abc import Collection, Sequence
from uuid import UUID

from fastapi import Response
from lms_institutions.contracts import INSTITUTION, InstitutionTree
from sqlalchemy import bindparam
from sqlmodel import col, select

from lms_core.sdk import Conflict, Invalid, Listing, Point, UnitOfWork, among, delete
from lms_users.contracts import ROLE
from lms_users.grants import RANKS, Bundle, may_give, refuse_unless_may_give
from lms_users.models import Role
from lms_users.schemas import RoleCreate, RoleRead, RoleUpdate

ROLES = Listing(Role, RoleRead, filters={"institution_id": col(Role.institution_id) == bindparam("institution_id")})
ROLE_POINT = Point(Role, RoleRead)


async def create(uow: UnitOfWork, data: RoleCreate) -> Response:
    """Define a role."""
    await uow.hold(INSTITUTION, data.institution_id)
    refuse_reserved(uow, data.name)
    permissions = known(uow, data.permissions)
    await refuse_unless_may_give(uow, Bundle(data.name, None, frozenset(permissions)), data.institution_id)
    role = Role(**data.model_dump(exclude={"permissions"}), permissions=permissions)
    await uow.add(role)
    return await ROLE_POINT.after_write(uow, role.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: RoleUpdate, if_match: str | None) -> Response:
    """Change what a role gives to all who hold it; neither before nor after may it be more than one's own."""
    role = await uow.lock(Role, id, if_match)
    await refuse_unless_below(uow, role, role.permissions)
    changes = data.model_dump(exclude_unset=True, exclude_none=True)
    if data.permissions is not None:
        changes["permissions"] = known(uow, data.permissions)
        await refuse_unless_below(uow, role, changes["permissions"])
    role.sqlmodel_update(changes)
    uow.announce("all")
    return await ROLE_POINT.after_write(uow, id)


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None) -> Response:
    """Delete a role; who held it has it back when it is restored."""
    role = await uow.lock(Role, id, if_match)
    await refuse_unless_below(uow, role, role.permissions)
    return await delete(uow, Role, id)


async def refuse_unless_below(uow: UnitOfWork, role: Role, permissions: Sequence[str]) -> None:
    """403 when the role gives, or would give, what the actor could not."""
    await refuse_unless_may_give(uow, Bundle(role.name, role.id, frozenset(permissions)), role.institution_id)


def refuse_reserved(uow: UnitOfWork, name: str) -> None:
    """422 for a name that has a meaning already."""
    rules = uow.context.platform.rules
    if name in RANKS or any(name in rules.roles_with(permission) for permission in rules.permissions):
        raise Invalid("reserved_role", f"{name} is a built-in role; choose another name.", ("body", "name"))


def known(uow: UnitOfWork, permissions: Sequence[str]) -> list[str]:
    """The permissions, sorted and each once; 422 for one that no enabled plugin declares."""
    declared = uow.context.platform.rules.permissions
    for name in permissions:
        if name not in declared:
            raise Invalid(
                "unknown_permission",
                "One of these is no permission of an enabled plugin; `GET /plugins` lists them.",
                ("body", "permissions"),
            )
    return sorted(set(permissions))


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> list[Conflict]:
    """A restore brings back no role that the actor could not define."""
    if uow.access.everywhere:
        return []
    conflicts = []
    for role in (await uow.session.execute(select(Role).where(among(col(Role.id), ids)))).scalars():
        # The institution may be on its way back itself: then what is above it decides.
        places = (await uow.session.execute(uow.use(InstitutionTree).and_above(role.institution_id))).scalars().all()
        bundle = Bundle(role.name, role.id, frozenset(role.permissions))
        if not may_give(uow.context.platform.rules, uow.access.roles, bundle, places):
            detail = f"The role {role.name} gives more than you could, so you cannot bring it back."
            conflicts.append(Conflict(ROLE, role.id, "grant_not_allowed", detail))
    return conflicts
