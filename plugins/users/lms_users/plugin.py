"""The users plugin, as the core sees it."""

from typing import Any

from lms_institutions.contracts import INSTITUTION
from sqlalchemy import ARRAY, DateTime, Select, String, case, cast, func, literal, null, or_, select
from sqlmodel import col

from lms_core.sdk import (
    ACTOR_ID,
    Cascade,
    Importer,
    Part,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    Record,
    Removal,
    RoleSource,
    Router,
    Service,
    Setup,
    hookimpl,
)
from lms_users import grants, guardians, roles, service
from lms_users.contracts import ROLE, USER, SignUp, UserDirectory
from lms_users.demo import make_demo
from lms_users.importing import UserImporter
from lms_users.models import Grant, Guardianship, Imported, Role, User
from lms_users.router import router
from lms_users.service import Directory
from lms_users.sign_up import SignUps

plugin = PluginInfo("users", "People, and the roles they are granted", requires=("institutions",))

OWN_PERMISSIONS = (
    select(col(Role.permissions)).where(col(Role.id) == col(Grant.role_id), ~col(Role.is_deleted)).scalar_subquery()
)
NOTHING = literal([], ARRAY(String()))
ROLES: Select[*tuple[Any, ...]] = select(
    col(Grant.user_id).label("actor_id"),
    col(Grant.institution_id).label("object_id"),
    col(Grant.role).label("role"),
    col(Grant.id).label("grant_id"),
    col(Grant.expires_at).label("expires_at"),
    case((col(Grant.role_id).is_not(None), func.coalesce(OWN_PERMISSIONS, NOTHING))).label("permissions"),
).where(or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()))
GRANTED = ROLES.where(~col(Grant.is_deleted))
# A guardian is somebody at their student, and a mere member of the student's schools.
WARDS: Select[*tuple[Any, ...]] = select(
    col(Guardianship.guardian_id).label("actor_id"),
    col(Guardianship.student_id).label("object_id"),
    literal("guardian").label("role"),
    col(Guardianship.id).label("grant_id"),
    cast(null(), DateTime(timezone=True)).label("expires_at"),
).where(~col(Guardianship.is_deleted))
WARDS_SCHOOLS: Select[*tuple[Any, ...]] = (
    select(
        col(Guardianship.guardian_id).label("actor_id"),
        col(Grant.institution_id).label("object_id"),
        literal("guardian").label("role"),
        col(Guardianship.id).label("grant_id"),
        col(Grant.expires_at).label("expires_at"),
    )
    .where(col(Guardianship.student_id) == col(Grant.user_id), col(Grant.institution_id).is_not(None))
    .where(~col(Guardianship.is_deleted), ~col(Grant.is_deleted))
    .where(or_(col(Grant.expires_at).is_(None), col(Grant.expires_at) > func.now()))
)
TAKEN = ROLES.add_columns(col(Grant.deletion_id)).where(col(Grant.is_deleted))


@hookimpl
def lms_routes() -> list[Router]:
    """`/users`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Record]]:
    """Five tables."""
    return [User, Role, Grant, Guardianship, Imported]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Users read themselves, teachers the people in their courses, principals everybody below them."""
    return [
        Permission("users.read", "Read a user", roles=("teacher", "assistant", "principal")),
        Permission("users.create", "Add a user", roles=("principal",)),
        Permission("users.edit", "Change or disable a user", roles=("principal",)),
        Permission("users.import", "Import users from a file", roles=("principal",)),
        Permission("users.delete", "Delete and restore a user", roles=("principal",)),
        Permission("users.grant", "Give and take roles", roles=("principal",)),
        Permission("users.define_roles", "Define roles of an institution's own", roles=("principal",)),
        Permission("users.read_ward", "Read the student whose guardian one is", roles=("guardian",)),
        ReadRule(User, "users.read_ward"),
        ReadRule(User, "users.read", holder=col(User.id)),
        ReadRule(User, where=col(User.id) == ACTOR_ID),
        ReadRule(Grant, "users.edit", holder=col(Grant.user_id)),
        ReadRule(Grant, where=col(Grant.user_id) == ACTOR_ID),
        ReadRule(Role, "users.grant"),
        ReadRule(Guardianship, "users.edit", holder=col(Guardianship.student_id)),
        ReadRule(Guardianship, where=col(Guardianship.guardian_id) == ACTOR_ID),
        ReadRule(Guardianship, where=col(Guardianship.student_id) == ACTOR_ID),
    ]


@hookimpl
def lms_role_sources() -> list[RoleSource]:
    """Roles granted at institutions; students and teachers are members there, which gives no power over courses."""
    return [
        RoleSource("users.grants", INSTITUTION, GRANTED, TAKEN, memberships=frozenset({"student", "teacher"})),
        RoleSource("users.guardians", USER, WARDS),
        RoleSource("users.guardians_of_members", INSTITUTION, WARDS_SCHOOLS, memberships=frozenset({"guardian"})),
    ]


@hookimpl
def lms_services() -> list[Service]:
    """The directory, and sign-up for other ways in."""
    return [Service(UserDirectory, Directory()), Service(SignUp, SignUps())]


@hookimpl
def lms_importers() -> list[Importer]:
    """Users from CSV files."""
    return [UserImporter()]


@hookimpl
def lms_cascades() -> list[Cascade | Part | Reaction | Removal]:
    """Roles go with the user, with the institution, and with what defines them; guardians with either person."""
    return [
        Cascade(child=Grant, column="user_id", parent=USER),
        Cascade(child=Grant, column="institution_id", parent=INSTITUTION),
        Cascade(child=Role, column="institution_id", parent=INSTITUTION),
        Cascade(child=Grant, column="role_id", parent=ROLE),
        Cascade(child=Guardianship, column="student_id", parent=USER),
        Cascade(child=Guardianship, column="guardian_id", parent=USER),
        Reaction(Role, conflicts=roles.conflicts_of_restored),
        Reaction(Grant, conflicts=grants.conflicts_of_restored),
        Reaction(Guardianship, conflicts=guardians.conflicts_of_restored),
        Reaction(User, purged=service.empty),
        Removal(User, "users.delete", service.remove),
        Part(Imported, "user_id", USER),
        Part(Imported, "institution_id", INSTITUTION),
    ]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("users.demo", make_demo)]
