"""The users plugin, as the core sees it."""

from typing import Any

from lms_institutions.contracts import INSTITUTION
from sqlalchemy import Select, func, or_, select
from sqlmodel import col

from lms_core.sdk import (
    ACTOR_ID,
    Cascade,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    RoleSource,
    Router,
    Service,
    Setup,
    Table,
    hookimpl,
)
from lms_users import grants
from lms_users.contracts import USER, UserDirectory
from lms_users.demo import make_demo
from lms_users.models import Grant, User
from lms_users.router import router
from lms_users.service import Directory

plugin = PluginInfo("users", "People, and the roles they are granted", requires=("institutions",))

ROLES: Select[*tuple[Any, ...]] = select(
    col(Grant.user_id).label("actor_id"),
    col(Grant.institution_id).label("object_id"),
    col(Grant.role).label("role"),
    col(Grant.id).label("grant_id"),
    col(Grant.expires_at).label("expires_at"),
).where(or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()))
GRANTED = ROLES.where(~col(Grant.is_deleted))
TAKEN = ROLES.add_columns(col(Grant.deletion_id)).where(col(Grant.is_deleted))


@hookimpl
def lms_routes() -> list[Router]:
    """`/users`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Table]]:
    """Two tables."""
    return [User, Grant]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Users read themselves, teachers the people in their courses, principals everybody below them."""
    return [
        Permission("users.read", "Read a user", roles=("teacher", "assistant", "principal")),
        Permission("users.create", "Add a user", roles=("principal",)),
        Permission("users.edit", "Change or disable a user", roles=("principal",)),
        Permission("users.delete", "Delete and restore a user", roles=("principal",)),
        Permission("users.grant", "Give and take roles", roles=("principal",)),
        ReadRule(User, "users.read", holder=col(User.id)),
        ReadRule(User, where=col(User.id) == ACTOR_ID),
        ReadRule(Grant, "users.edit", holder=col(Grant.user_id)),
        ReadRule(Grant, where=col(Grant.user_id) == ACTOR_ID),
    ]


@hookimpl
def lms_role_sources() -> list[RoleSource]:
    """Roles granted at institutions; students and teachers are members there, which gives no power over courses."""
    return [RoleSource("users.grants", INSTITUTION, GRANTED, TAKEN, memberships=frozenset({"student", "teacher"}))]


@hookimpl
def lms_services() -> list[Service]:
    """The directory."""
    return [Service(UserDirectory, Directory())]


@hookimpl
def lms_cascades() -> list[Cascade | Reaction]:
    """Roles go with the user, and with the institution."""
    return [
        Cascade(child=Grant, column="user_id", parent=USER),
        Cascade(child=Grant, column="institution_id", parent=INSTITUTION),
        Reaction(Grant, conflicts=grants.conflicts_of_restored),
    ]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("users.demo", make_demo)]
