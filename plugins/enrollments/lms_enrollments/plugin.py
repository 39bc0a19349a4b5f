"""The enrollments plugin, as the core sees it."""

from datetime import timedelta
from typing import Any

from lms_courses.contracts import COURSE, CourseParticipation
from lms_users.contracts import GUARDIANSHIPS, USER, UserEnabled
from sqlalchemy import Select, literal, select
from sqlmodel import col

from lms_core.sdk import (
    ACTOR_ID,
    Cascade,
    Handler,
    Importer,
    Part,
    Permission,
    PluginInfo,
    Reaction,
    ReadRule,
    Record,
    Removal,
    Restored,
    RoleSource,
    Router,
    Schedule,
    Service,
    Setup,
    hookimpl,
)
from lms_enrollments import dates, days, seats, service
from lms_enrollments.contracts import ENROLLMENT, Roster
from lms_enrollments.demo import make_demo
from lms_enrollments.importing import EnrollmentImporter
from lms_enrollments.models import Enrollment, Period, WrongKeys
from lms_enrollments.participation import Participation
from lms_enrollments.router import router
from lms_enrollments.service import ActiveRoster

plugin = PluginInfo(
    "enrollments", "Who takes part in which course, and as what", requires=("courses", "institutions", "users")
)

ROLES: Select[*tuple[Any, ...]] = select(
    col(Enrollment.user_id).label("actor_id"),
    col(Enrollment.course_id).label("object_id"),
    col(Enrollment.role).label("role"),
    col(Enrollment.id).label("grant_id"),
    days.LAST_MOMENT.label("expires_at"),
).where(col(Enrollment.state) == "active", days.IS_ON)
TAKING_PART = ROLES.where(~col(Enrollment.is_deleted))
# A guardian looks over their student's shoulder wherever that one takes part as a student.
WATCHING = select(
    GUARDIANSHIPS.c.guardian_id.label("actor_id"),
    col(Enrollment.course_id).label("object_id"),
    literal("observer").label("role"),
    GUARDIANSHIPS.c.id.label("grant_id"),
    days.LAST_MOMENT.label("expires_at"),
).where(
    GUARDIANSHIPS.c.student_id == col(Enrollment.user_id),
    ~GUARDIANSHIPS.c.is_deleted,
    col(Enrollment.state) == "active",
    col(Enrollment.role) == "student",
    days.IS_ON,
    ~col(Enrollment.is_deleted),
)
TAKEN = ROLES.add_columns(col(Enrollment.deletion_id)).where(col(Enrollment.is_deleted))


@hookimpl
def lms_routes() -> list[Router]:
    """`/enrollments`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Record]]:
    """Enrollments, what they were when, and wrong keys."""
    return [Enrollment, Period, WrongKeys]


@hookimpl
def lms_permissions() -> list[Permission | ReadRule]:
    """Students see their own, guardians their student's; teachers and assistants those of their courses."""
    return [
        Permission("enrollments.read", "See who is enrolled", roles=("teacher", "assistant", "principal", "guardian")),
        Permission("enrollments.create", "Enroll students and assistants", roles=("teacher", "principal")),
        Permission("enrollments.edit", "Change enrollments of students and assistants", roles=("teacher", "principal")),
        Permission("enrollments.delete", "Restore deleted enrollments", roles=("teacher", "principal")),
        Permission("enrollments.import", "Import and export enrollments as files", roles=("principal",)),
        Permission("enrollments.appoint", "Enroll teachers, and change or end that", roles=("principal",)),
        ReadRule(Enrollment, "enrollments.read"),
        ReadRule(Enrollment, where=col(Enrollment.user_id) == ACTOR_ID),
    ]


@hookimpl
def lms_role_sources() -> list[RoleSource]:
    """Who takes part in a course has that role there; guardians observe it."""
    return [
        RoleSource("enrollments.active", COURSE, TAKING_PART, TAKEN),
        RoleSource("enrollments.guardians", COURSE, WATCHING),
    ]


@hookimpl
def lms_services() -> list[Service]:
    """The roster, and what courses asks for."""
    return [Service(Roster, ActiveRoster()), Service(CourseParticipation, Participation())]


@hookimpl
def lms_importers() -> list[Importer]:
    """Enrollments from CSV files."""
    return [EnrollmentImporter()]


@hookimpl
def lms_handlers() -> list[Handler]:
    """Seats are right again when a course came back, or somebody who waits did, or may sign in again."""
    return [
        Handler("enrollments.balance_restored", Restored, seats.balance_restored),
        Handler("enrollments.promote_enabled", UserEnabled, seats.promote_enabled),
    ]


@hookimpl
def lms_schedules() -> list[Schedule]:
    """What a day that has passed ends."""
    return [Schedule("enrollments.end_what_is_over", timedelta(minutes=5), dates.end_what_is_over)]


@hookimpl
def lms_cascades() -> list[Cascade | Part | Reaction | Removal]:
    """Enrollments go with their course and their user; a deleted section only stops being shown."""
    return [
        Cascade(child=Enrollment, column="course_id", parent=COURSE),
        Cascade(child=Enrollment, column="user_id", parent=USER),
        Reaction(
            Enrollment,
            deleting=seats.courses_of,
            deleted=seats.after_delete,
            conflicts=seats.conflicts_of_restored,
            restored=seats.after_restore,
            choices=(seats.WAITLIST,),
        ),
        Removal(Enrollment, function=service.remove),
        Part(Period, "enrollment_id", ENROLLMENT),
        Part(WrongKeys, "course_id", COURSE),
        Part(WrongKeys, "user_id", USER),
    ]


@hookimpl
def lms_setup() -> list[Setup]:
    """Something to look at, when that is asked for."""
    return [Setup("enrollments.demo", make_demo)]
