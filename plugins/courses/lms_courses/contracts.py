"""What other plugins may ask of courses and provide to them, and what courses tells them."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lms_institutions.contracts import timezone_at
from sqlalchemy import Boolean, ColumnElement, DateTime, Integer, Text, Uuid, case, null, select, table
from sqlalchemy import column as sql_column

from lms_core.sdk import Event, UnitOfWork, exists_for_each

COURSE = "courses.course"
SECTION = "courses.section"
TERM = "courses.term"
"""The kinds, for cascades and role sources."""


COURSES = table(
    "courses_course",
    sql_column("id", Uuid()),
    sql_column("institution_id", Uuid()),
    sql_column("term_id", Uuid()),
    sql_column("code", Text()),
    sql_column("state", Text()),
    sql_column("capacity", Integer()),
    sql_column("moved_at", DateTime(timezone=True)),
    sql_column("is_deleted", Boolean()),
    sql_column("deletion_id", Uuid()),
)
SECTIONS = table(
    "courses_section",
    sql_column("id", Uuid()),
    sql_column("course_id", Uuid()),
    sql_column("name", Text()),
    sql_column("capacity", Integer()),
    sql_column("is_deleted", Boolean()),
)
TERMS = table("courses_term", sql_column("id", Uuid()), sql_column("name", Text()), sql_column("is_deleted", Boolean()))
"""For statements of other plugins."""


def living_section(column: Any) -> ColumnElement[UUID | None]:
    """The section that `column` names, while it lives; NULL else."""
    return case((exists_for_each(SECTIONS.c.id == column, ~SECTIONS.c.is_deleted), column), else_=null())


def in_published_course(column: Any) -> ColumnElement[bool]:
    """A condition for read rules: the course that `column` names is published."""
    course = COURSES.alias()
    return exists_for_each(course.c.id == column, course.c.state == "published").correlate_except(course)


def timezone_in_course(column: Any) -> ColumnElement[str]:
    """The timezone at the institution of the course that `column` names, for statements that ask what day it is there."""
    found: ColumnElement[str] = (
        select(timezone_at(COURSES.c.institution_id))
        .where(COURSES.c.id == column)
        .correlate(column.table)
        .scalar_subquery()
    )
    return found


@dataclass(frozen=True)
class CourseSummary:
    """A live course, as other plugins see it. `capacity` None means that seats are not counted."""

    id: UUID
    institution_id: UUID
    title: str
    state: str
    capacity: int | None
    waitlist: bool
    self_enrollment: str = "closed"


@dataclass(frozen=True)
class CodedCourse:
    """A live course by what people call it: its code, and the name of its term if it is in one that lives."""

    code: str
    term: str | None
    course: CourseSummary


class CourseCatalog(ABC):
    """Questions about courses."""

    @abstractmethod
    async def find_by_codes(self, uow: UnitOfWork, institution_id: UUID, codes: Collection[str]) -> list[CodedCourse]:
        """The courses of an institution with these codes, whatever their term; in one statement."""

    @abstractmethod
    async def sections_of(self, uow: UnitOfWork, course_ids: Collection[UUID]) -> dict[tuple[UUID, str], UUID]:
        """The live sections of courses, by course and name; in one statement."""

    @abstractmethod
    async def living(self, uow: UnitOfWork, course_ids: Collection[UUID]) -> dict[UUID, CourseSummary]:
        """Those of some courses that live, by their ids; in one statement."""

    @abstractmethod
    async def institution_of(self, uow: UnitOfWork, course_id: UUID) -> UUID | None:
        """The institution of a live course."""

    @abstractmethod
    async def lock(self, uow: UnitOfWork, course_id: UUID) -> CourseSummary:
        """A live course, locked: whoever counts or changes its seats holds this. Raises NotFound."""

    @abstractmethod
    async def opens_with(self, uow: UnitOfWork, course_id: UUID, key: str) -> bool:
        """Whether this is the key with which students join a course by themselves."""

    @abstractmethod
    async def sections_among(self, uow: UnitOfWork, course_id: UUID, section_ids: Collection[UUID]) -> set[UUID]:
        """Those of some sections that live in the course; they stay alive until the transaction ends."""


class CourseParticipation(ABC):
    """Provided by whoever keeps who takes part in courses (the enrollments plugin)."""

    @abstractmethod
    def people(self, course_id: Any) -> Any:
        """An SQL expression, `{teachers: [{id, full_name}], students, waiting}`, of the course that a column names."""

    @abstractmethod
    async def appoint_teacher(self, uow: UnitOfWork, course_id: UUID, user_id: UUID) -> None:
        """Make a user a teacher of a new course."""

    @abstractmethod
    async def seats_changed(self, uow: UnitOfWork, course_id: UUID) -> None:
        """The course's capacity or waitlist was changed, or it is open again, under its lock.

        Raises StateConflict when it is too small.
        """

    @abstractmethod
    async def section_changed(self, uow: UnitOfWork, section_id: UUID, capacity: int | None) -> None:
        """A section's capacity was changed, under its course's lock. Raises StateConflict when it is too small."""


class CourseCreated(Event, name="courses.course_created.v1"):
    """A course came to be, as a draft."""

    course_id: UUID
    institution_id: UUID


class CoursePublished(Event, name="courses.course_published.v1"):
    """Students can see the course now."""

    course_id: UUID


class CourseUnpublished(Event, name="courses.course_unpublished.v1"):
    """The course is a draft again; students cannot see it any more."""

    course_id: UUID


class CourseArchived(Event, name="courses.course_archived.v1"):
    """The course is over."""

    course_id: UUID


class CourseChanged(Event, name="courses.course_changed.v1"):
    """Something of a course is another now, its state apart; `institution_id` is where it belongs now."""

    course_id: UUID
    institution_id: UUID


class SectionCreated(Event, name="courses.section_created.v1"):
    """A section came to be."""

    section_id: UUID
    course_id: UUID


class SectionChanged(Event, name="courses.section_changed.v1"):
    """The name or the capacity of a section is another now."""

    section_id: UUID
    course_id: UUID


class TermCreated(Event, name="courses.term_created.v1"):
    """A term came to be."""

    term_id: UUID
    institution_id: UUID


class TermChanged(Event, name="courses.term_changed.v1"):
    """The name or the days of a term are others now, or it is in another one."""

    term_id: UUID
    institution_id: UUID


DEMO_COURSE = UUID("00000000-0000-7000-8000-000000000004")
"""The course that `lms up --demo` makes."""
