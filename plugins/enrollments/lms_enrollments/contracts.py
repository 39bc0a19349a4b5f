"""What other plugins may ask of enrollments, and what enrollments tells them."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from datetime import date
from typing import Any
from uuid import UUID

from lms_courses.contracts import SECTIONS, timezone_in_course
from lms_users.contracts import CALLER_AND_WARDS
from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Text,
    Uuid,
    and_,
    cast,
    column,
    exists,
    func,
    literal_column,
    or_,
    select,
    table,
)

from lms_core.sdk import Event, UnitOfWork

ENROLLMENT = "enrollments.enrollment"
"""The kind, for cascades."""

ENROLLMENTS = table(
    "enrollments_enrollment",
    column("id", Uuid()),
    column("course_id", Uuid()),
    column("user_id", Uuid()),
    column("section_id", Uuid()),
    column("role", Text()),
    column("state", Text()),
    column("starts_on", Date()),
    column("ends_on", Date()),
    column("created_at", DateTime(timezone=True)),
    column("active_since", DateTime(timezone=True)),
    column("is_deleted", Boolean()),
)


def counts_today(enrollment: Any) -> ColumnElement[bool]:
    """A condition: it is active, lives, and today is one of its days; only one that has days pays for asking which day it is."""
    today = cast(func.timezone(timezone_in_course(enrollment.c.course_id), func.now()), Date)
    days = func.daterange(enrollment.c.starts_on, enrollment.c.ends_on, "[]")
    always = and_(enrollment.c.starts_on.is_(None), enrollment.c.ends_on.is_(None))
    return and_(
        enrollment.c.state == literal_column("'active'"),
        ~enrollment.c.is_deleted,
        or_(always, days.bool_op("@>")(today)),
    )


def takes_part(course_id: Any, user_id: Any, section_id: Any = None, since: Any = None) -> ColumnElement[bool]:
    """A condition: the user takes part in the course today, in whatever role; with a section, in that one.

    With a moment, by an enrollment that was active by then.
    """
    enrollment = ENROLLMENTS.alias()
    found = exists().where(
        enrollment.c.course_id == course_id, enrollment.c.user_id == user_id, counts_today(enrollment)
    )
    if section_id is not None:
        found = found.where(enrollment.c.section_id == section_id)
    if since is not None:
        found = found.where(func.coalesce(enrollment.c.active_since, enrollment.c.created_at) <= since)
    return found.correlate_except(enrollment)


def found_taking_part() -> CTE:
    """A row for each enrollment by which the caller, or a ward of theirs, takes part in a course today."""
    enrollment, section, person = ENROLLMENTS.alias(), SECTIONS.alias(), CALLER_AND_WARDS
    live_section = and_(section.c.id == enrollment.c.section_id, ~section.c.is_deleted)
    return (
        select(person.c.user_id, person.c.is_ward, enrollment.c.course_id, section.c.id.label("section_id"))
        .select_from(person)
        .join(enrollment, enrollment.c.user_id == person.c.user_id)
        .outerjoin(section, live_section)
        .where(counts_today(enrollment))
        .cte("taking_part")
    )


TAKING_PART = found_taking_part()
"""`user_id`, `is_ward`, `course_id`, `section_id` (NULL without one that lives): `takes_part` of the caller and their wards,
for read rules. A statement finds it once, and only if it has to."""


class Roster(ABC):
    """Questions about who takes part in a course."""

    @abstractmethod
    async def is_active(self, uow: UnitOfWork, course_id: UUID, user_id: UUID, role: str) -> bool:
        """Whether a user takes part in a course in a role now."""

    @abstractmethod
    async def enrolled_among(self, uow: UnitOfWork, course_id: UUID, user_ids: Collection[UUID]) -> set[UUID]:
        """Those of the users who are enrolled in a course, in whatever role, and neither wait nor have ended."""


class EnrollmentActivated(Event, name="enrollments.enrollment_activated.v1"):
    """A user takes part in a course."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str


class EnrollmentWaitlisted(Event, name="enrollments.enrollment_waitlisted.v1"):
    """A user waits for a seat."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str


class EnrollmentRequested(Event, name="enrollments.enrollment_requested.v1"):
    """A student asks to join a course; who teaches it decides."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str


class EnrollmentMoved(Event, name="enrollments.enrollment_moved.v1"):
    """Somebody is in another section of their course, or (None) in none."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    section_id: UUID | None


class EnrollmentRescheduled(Event, name="enrollments.enrollment_rescheduled.v1"):
    """Somebody has other days in their course: the first and the last, where their institution is; None: no limit."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    starts_on: date | None
    ends_on: date | None


class EnrollmentEnded(Event, name="enrollments.enrollment_ended.v1"):
    """A user completed or dropped a course."""

    enrollment_id: UUID
    course_id: UUID
    user_id: UUID
    role: str
    state: str
