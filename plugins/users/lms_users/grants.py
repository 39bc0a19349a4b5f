"""Who may grant what: nobody gives what is not below their own role, nor outside of where they hold it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from fastapi import Response
from lms_institutions.contracts import INSTITUTION, InstitutionTree
from sqlalchemy import Select, bindparam, func
from sqlalchemy import select as sql_select
from sqlmodel import col, or_, select

from lms_core.sdk import (
    SUPER_ADMIN,
    Conflict,
    Forbidden,
    HeldRole,
    Invalid,
    Listing,
    NotFound,
    Point,
    Rules,
    StateConflict,
    UnitOfWork,
    alive,
    among,
    delete,
)
from lms_users.contracts import ROLE, USER, RoleGranted
from lms_users.models import Grant, Role, User
from lms_users.schemas import GrantRead, RoleGrant

RANKS = {"student": 0, "teacher": 1, "principal": 2, SUPER_ADMIN: 3}
GRANTS = Listing(Grant, GrantRead, filters={"user_id": col(Grant.user_id) == bindparam("user_id")})
GRANT = Point(Grant, GrantRead)
GRANT_PERMISSION = "users.grant"
GIVEN: tuple[Any, ...] = (Grant.id, Grant.role, Grant.institution_id, Grant.role_id, Role.permissions)
BUNDLES = sql_select(*GIVEN).outerjoin(Role, col(Role.id) == col(Grant.role_id))


@dataclass(frozen=True)
class Bundle:
    """A role as it is given: its name and, for an institution's own, its id and permissions."""

    name: str
    role_id: UUID | None = None
    permissions: frozenset[str] | None = None


async def find_bundle(uow: UnitOfWork, name: str, institution_id: UUID | None) -> Bundle:
    """A built-in role, or the nearest of that name defined at the institution or above; 422 when there is none."""
    if name in RANKS:
        return Bundle(name)
    if institution_id is not None:
        path = list((await uow.session.execute(uow.use(InstitutionTree).and_above(institution_id))).scalars())
        found = select(Role).where(Role.name == name, among(col(Role.institution_id), path), alive(Role))
        rows = (await uow.session.execute(found)).scalars().all()
        if rows:
            nearest = min(rows, key=lambda role: path.index(role.institution_id))
            return Bundle(name, nearest.id, frozenset(nearest.permissions))
    raise Invalid(
        "unknown_role",
        f"There is no role {name!r} there; use {', '.join(RANKS)}, or one that the institution defines.",
        ("body", "role"),
    )


def may_give(rules: Rules, roles: Iterable[HeldRole], given: Bundle, places: Collection[UUID | None]) -> bool:
    """Whether somebody with these roles may give (or take) this one, at one of these places.

    A super admin may give every role, their own too: somebody must be able to name the next one. Everybody else gives
    only what is strictly below what they hold there: of built-in roles by rank, of others by permissions.
    """
    for held in roles:
        if held.role == SUPER_ADMIN and held.object_id is None:
            return True
        if held.source != "users.grants" or held.object_id is None or held.object_id not in places:
            continue
        own = rules.permissions_of(held.role) if held.permissions is None else held.permissions
        if GRANT_PERMISSION not in own:
            continue
        if held.permissions is None and given.permissions is None:
            if RANKS[held.role] > RANKS[given.name]:
                return True
        elif given.name != SUPER_ADMIN:
            # A super admin's role names no permission, since it has them all.
            wanted = rules.permissions_of(given.name) if given.permissions is None else given.permissions
            if wanted < own:
                return True
    return False


async def refuse_unless_may_give(uow: UnitOfWork, role: Bundle, institution_id: UUID | None) -> None:
    """403 when the actor may know the institution, 404 when not."""
    if uow.access.system or may_give(uow.context.platform.rules, uow.access.roles, role, [institution_id]):
        return
    if institution_id is not None and not await uow.knows(INSTITUTION, institution_id):
        raise NotFound(INSTITUTION, institution_id)
    raise Forbidden(
        f"You may not give or take the role {role.name} there: it must be below your own, where you hold it."
    )


async def what_may_be_given(uow: UnitOfWork, data: RoleGrant) -> Bundle:
    """The role that is asked for; 404 for an unknown institution, 422 for an unknown role, 403 when not allowed."""
    own = data.role not in RANKS
    if own and data.institution_id is not None and not await uow.knows(INSTITUTION, data.institution_id):
        raise NotFound(INSTITUTION, data.institution_id)
    bundle = await find_bundle(uow, data.role, data.institution_id)
    await refuse_unless_may_give(uow, bundle, data.institution_id)
    return bundle


async def bundles(uow: UnitOfWork, statement: Select[Any]) -> list[tuple[UUID, Bundle, UUID | None]]:
    """What grants give: each with its id and its institution."""
    return [
        (id, Bundle(name, role_id, None if role_id is None else frozenset(permissions or ())), institution_id)
        for id, name, institution_id, role_id, permissions in (await uow.session.execute(statement)).all()
    ]


async def refuse_unless_above(uow: UnitOfWork, user_id: UUID) -> None:
    """403 unless the actor could have given every role that this user holds."""
    if uow.access.everywhere:
        return
    held = BUNDLES.where(col(Grant.user_id) == user_id, ~col(Grant.is_deleted))
    for _, bundle, institution_id in await bundles(uow, held):
        if not may_give(uow.context.platform.rules, uow.access.roles, bundle, [institution_id]):
            raise Forbidden("This user holds a role that is not below yours, or outside of where you hold yours.")


async def refuse_unless_all_is_below(uow: UnitOfWork, user_id: UUID) -> None:
    """403 unless the actor could have given every role, and may edit users wherever this user takes part in something.

    For what reaches all of it: a new address takes an account over, and disabling or deleting takes it away.
    """
    await refuse_unless_above(uow, user_id)
    if uow.access.everywhere:
        return
    access, _ = await uow.context.platform.rules.load(uow.context, user_id)
    places: dict[str, set[UUID]] = {}
    for held in access.roles:
        if held.object_id is not None:
            places.setdefault(held.kind, set()).add(held.object_id)
    for kind, ids in places.items():
        if not await uow.can_on_all("users.edit", kind, ids):
            raise Forbidden("This user takes part in something outside of where you hold your role; ask who runs both.")


async def grant(uow: UnitOfWork, user_id: UUID, data: RoleGrant) -> Grant:
    """Give a user a role that the actor may give."""
    return await add(uow, user_id, data, await what_may_be_given(uow, data))


async def add(uow: UnitOfWork, user_id: UUID, data: RoleGrant, bundle: Bundle) -> Grant:
    """Give a user a role; whether that may be is the caller's to ask."""
    if data.institution_id is not None:
        await uow.hold(INSTITUTION, data.institution_id)
    if bundle.role_id is not None:
        await uow.hold(ROLE, bundle.role_id)
    await uow.hold(USER, user_id)
    await clear_expired(uow, user_id, data)
    given = Grant(user_id=user_id, role_id=bundle.role_id, granted_by=uow.access.actor_id, **data.model_dump())
    await uow.add(given)
    uow.emit(
        RoleGranted(
            grant_id=given.id,
            user_id=user_id,
            role=given.role,
            institution_id=given.institution_id,
            expires_at=given.expires_at,
        )
    )
    uow.announce(f"user:{user_id}")
    return given


async def clear_expired(uow: UnitOfWork, user_id: UUID, data: RoleGrant) -> None:
    """A role whose time is over makes room for the same one."""
    expired = select(Grant.id).where(
        Grant.user_id == user_id,
        Grant.role == data.role,
        col(Grant.institution_id).is_not_distinct_from(data.institution_id),
        ~col(Grant.is_deleted),
        col(Grant.expires_at) <= func.now(),
    )
    for id in (await uow.session.execute(expired)).scalars().all():
        await delete(uow, Grant, id)


async def give(uow: UnitOfWork, user_id: UUID, data: RoleGrant) -> Response:
    """Give a role through HTTP."""
    await uow.require("users.grant", User, user_id)
    return await GRANT.after_write(uow, (await grant(uow, user_id, data)).id, 201)


async def take(uow: UnitOfWork, user_id: UUID, grant_id: UUID, if_match: str | None) -> Response:
    """Take a role away; it can be restored."""
    found = select(Grant).where(Grant.id == grant_id, Grant.user_id == user_id, alive(Grant))
    given = (await uow.session.execute(found)).scalar_one_or_none()
    if given is None:
        raise NotFound("users.grant", grant_id)
    await uow.require("users.grant", User, user_id)
    for _, bundle, _ in await bundles(uow, BUNDLES.where(col(Grant.id) == grant_id)):
        await refuse_unless_may_give(uow, bundle, given.institution_id)
    if given.role == SUPER_ADMIN:
        await refuse_last_super_admin(uow, without=user_id)
    uow.announce(f"user:{user_id}")
    return await delete(uow, Grant, grant_id, if_match)


async def refuse_unless_of_user(uow: UnitOfWork, user_id: UUID, grant_id: UUID) -> None:
    """404 for a grant, dead or alive, of somebody else."""
    found = select(Grant.id).where(Grant.id == grant_id, Grant.user_id == user_id)
    if (await uow.session.execute(found)).first() is None:
        raise NotFound("users.grant", grant_id)


async def place_of_import(uow: UnitOfWork, permission: str, institution_id: UUID | None) -> UUID | None:
    """Where an import belongs: as the actor says, or the only institution at which they hold the permission.

    None is everywhere, for super admins. 404 and 403 for an institution where they may not, 422 when they must say.
    """
    if institution_id is not None:
        await uow.require(permission, INSTITUTION, institution_id)
        return institution_id
    if uow.access.everywhere:
        return None
    rules = uow.context.platform.rules
    granted = {held.grant_id for held in uow.access.roles if rules.gives(held, permission, INSTITUTION)}
    places = select(col(Grant.institution_id)).where(among(col(Grant.id), [id for id in granted if id is not None]))
    found = set((await uow.session.execute(places)).scalars())
    if len(found) != 1:
        raise Invalid(
            "institution_required", "You may import at several institutions; name one.", ("body", "institution_id")
        )
    return found.pop()


async def refuse_last_super_admin(uow: UnitOfWork, without: UUID) -> None:
    """409 when nobody but this user could still administer the system; two such changes wait for each other."""
    held = (
        select(Grant.user_id, Grant.expires_at)
        .where(
            Grant.role == SUPER_ADMIN,
            ~col(Grant.is_deleted),
            or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()),
        )
        .order_by(col(Grant.id))
        .with_for_update()
    )
    rows = (await uow.session.execute(held)).all()
    if without not in {user_id for user_id, _ in rows}:
        return
    # Who holds the role only for a time does not count: when it ends, nobody would be left.
    lasting = {user_id for user_id, expires_at in rows if expires_at is None}
    others = select(User.id).where(
        col(User.id).in_(lasting - {without}), col(User.is_active).is_(True), ~col(User.is_deleted)
    )
    if (await uow.session.execute(others.limit(1))).first() is None:
        raise StateConflict("last_super_admin", "This is the last super admin; name another one first.")


async def conflicts_of_restored(uow: UnitOfWork, ids: Sequence[UUID], choices: Collection[str]) -> list[Conflict]:
    """A restore brings back no role that the actor could not give."""
    if uow.access.everywhere:
        return []
    tree = uow.use(InstitutionTree)
    paths: dict[UUID | None, list[UUID]] = {None: []}
    conflicts = []
    for id, bundle, institution_id in await bundles(uow, BUNDLES.where(among(col(Grant.id), ids))):
        if institution_id is not None and institution_id not in paths:
            # The institution may be on its way back itself: then what is above it decides.
            paths[institution_id] = list((await uow.session.execute(tree.and_above(institution_id))).scalars())
        if not may_give(uow.context.platform.rules, uow.access.roles, bundle, paths[institution_id]):
            detail = f"You may not give the role {bundle.name} there, so you cannot bring it back."
            conflicts.append(Conflict("users.grant", id, "grant_not_allowed", detail))
    return conflicts
