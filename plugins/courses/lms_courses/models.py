"""The tables of terms, courses and sections."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, text

from lms_core.sdk import Field, Table


class Term(Table, table=True):
    """A span of an institution's calendar: a school year, and the terms in it. Both days belong to it."""

    __tablename__ = "courses_term"
    __table_args__ = (CheckConstraint("starts_on <= ends_on", name="ck_courses_term_days"),)
    label_column = "name"
    natural_key = ("institution_id", "name")
    renamed_column = "name"
    restore_permission = "courses.set_terms"

    institution_id: UUID = Field(foreign_key="institutions_institution.id")
    parent_id: UUID | None = Field(default=None, foreign_key="courses_term.id")
    name: str = Field(max_length=100)
    starts_on: date
    ends_on: date


class Course(Table, table=True):
    """A course of an institution. Its code is unique there, and in its term, among live courses.

    `moved_at` is when it came there from another institution, if it did.
    """

    __tablename__ = "courses_course"
    __table_args__ = (
        CheckConstraint("capacity >= 0", name="ck_courses_course_capacity"),
        Index("ix_courses_course_state", "state", "id", postgresql_where=text("NOT is_deleted")),
        # What somebody types may stand anywhere in these.
        Index(
            "ix_courses_course_words",
            "title",
            "code",
            postgresql_using="gin",
            postgresql_ops={"title": "gin_trgm_ops", "code": "gin_trgm_ops"},
            postgresql_where=text("NOT is_deleted"),
        ),
    )
    label_column = "title"
    natural_key = ("institution_id", "term_id", "code")
    renamed_column = "code"
    restore_permission = "courses.delete"
    secret_columns = ("enrollment_key",)

    institution_id: UUID = Field(foreign_key="institutions_institution.id")
    term_id: UUID | None = Field(default=None, foreign_key="courses_term.id", index=True)
    code: str = Field(max_length=100)
    title: str = Field(max_length=300)
    description: str = Field(default="", max_length=20_000)
    state: str = Field(default="draft", max_length=20)
    capacity: int | None = None
    waitlist: bool = False
    self_enrollment: str = Field(default="closed", max_length=20, sa_column_kwargs={"server_default": "closed"})
    enrollment_key: str | None = Field(default=None, max_length=64)
    starts_on: date | None = None
    ends_on: date | None = None
    moved_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class Section(Table, table=True):
    """A part of a course's people: a class, a laboratory group."""

    __tablename__ = "courses_section"
    __table_args__ = (CheckConstraint("capacity >= 0", name="ck_courses_section_capacity"),)
    label_column = "name"
    natural_key = ("course_id", "name")
    renamed_column = "name"
    restore_permission = "courses.edit_content"

    course_id: UUID = Field(foreign_key="courses_course.id")
    name: str = Field(max_length=300)
    capacity: int | None = None
