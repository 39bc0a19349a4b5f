"""The groups plugin, as the core sees it."""

from typing import Any

from lms_courses.contracts import COURSE, in_published_course
from lms_enrollments.contracts import ENROLLMENT
from lms_institutions.contracts import INSTITUTION
from lms_users.contracts import GRANT, USER
from sqlalchemy import Select, select
from sqlmodel import col

from lms_core.sdk import (
    ACTOR_ID,
    Cascade,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    Removal,
    RoleSource,
    Router,
    Service,
    Table,
    hookimpl,
)
from lms_groups import holders, members, service
from lms_groups.contracts import GROUP, GroupDirectory
from lms_groups.holders import HAS_ROLE, UNTIL
from lms_groups.models import CourseRole, Group, Membership
from lms_groups.router import router
from lms_groups.service import OWN, Directory

plugin = PluginInfo(
    "groups",
    "Groups of people, across sections and courses",
    requires=("institutions", "users", "courses", "enrollments"),
)

ROLES: Select[*tuple[Any, ...]] = select(
    col(Membership.user_id).label("actor_id"),
    col(CourseRole.course_id).label("object_id"),
    col(CourseRole.role).label("role"),
    col(CourseRole.id).label("grant_id"),
    UNTIL.label("expires_at"),
).where(
    col(Group.id) == col(Membership.group_id),
    col(CourseRole.group_id) == col(Group.id),
    ~col(Group.is_deleted),
    ~col(CourseRole.is_deleted),
)
HELD = ROLES.where(~col(Membership.is_deleted), HAS_ROLE)
TAKEN = ROLES.add_columns(col(Membership.deletion_id)).where(col(Membership.is_deleted))


@hookimpl
def lms_routes() -> list[Router]:
    """`/groups`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Table]]:
    """Three tables."""
    return [Group, Membership, CourseRole]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Whoever takes part in a course sees its groups, whoever teaches at an institution sees those of the institution.

    Who is in them only staff sees, and everybody about themselves.
    """
    staff = ("teacher", "assistant", "principal")
    return [
        Permission("groups.read", "See the groups of a published course", roles=("student", "observer", *staff)),
        Permission("groups.read_drafts", "See groups whatever the state of their course", roles=staff),
        Permission("groups.read_shared", "See an institution's groups", roles=("principal",), members=("teacher",)),
        Permission("groups.read_members", "See who is in a group, and its roles", roles=(*staff, "guardian")),
        Permission("groups.create", "Add groups to a course", roles=("teacher", "principal")),
        Permission("groups.create_shared", "Add groups to an institution", roles=("principal",)),
        Permission("groups.edit", "Change a group, and who is in it", roles=staff),
        Permission("groups.grant", "Give a group roles in courses", roles=("teacher", "principal")),
        Permission("groups.delete", "Delete and restore a group", roles=("teacher", "principal")),
        ReadRule(Group, "groups.read", where=in_published_course(col(Group.course_id))),
        ReadRule(Group, "groups.read_drafts"),
        ReadRule(Group, "groups.read_shared", where=col(Group.institution_id).is_not(None)),
        ReadRule(Group, where=col(Group.institution_id).is_not(None) & OWN),
        ReadRule(Membership, "groups.read_members"),
        ReadRule(Membership, where=col(Membership.user_id) == ACTOR_ID),
        ReadRule(CourseRole, "groups.read_members"),
    ]


@hookimpl
def lms_role_sources() -> list[RoleSource]:
    """Whoever is in a group has its roles."""
    return [RoleSource("groups.course_roles", COURSE, HELD, TAKEN)]


@hookimpl
def lms_services() -> list[Service]:
    """The directory."""
    return [Service(GroupDirectory, Directory())]


@hookimpl
def lms_cascades() -> list[Cascade | Reaction | Removal]:
    """Groups go with their course or institution, what is in them with the group, the person or the course."""
    return [
        Cascade(child=Group, column="institution_id", parent=INSTITUTION),
        Cascade(child=Group, column="course_id", parent=COURSE),
        Cascade(child=Membership, column="group_id", parent=GROUP),
        Cascade(child=Membership, column="user_id", parent=USER),
        Cascade(child=CourseRole, column="group_id", parent=GROUP),
        Cascade(child=CourseRole, column="course_id", parent=COURSE),
        Reaction(Membership, conflicts=holders.conflicts_of_restored_members, restored=members.announce_restored),
        Reaction(CourseRole, conflicts=holders.conflicts_of_restored),
        Reaction(ENROLLMENT, conflicts=holders.conflicts_of_restored_enrollments),
        Reaction(GRANT, conflicts=holders.conflicts_of_restored_grants),
        Removal(Group, "groups.delete", service.remove),
    ]
