"""The tables of courses and sections."""

from datetime import date
from uuid import UUID

from sqlalchemy import CheckConstraint

from lms_core.sdk import Field, Table


class Course(Table, table=True):
    """A course of an institution. Its code is unique there among live courses."""

    __tablename__ = "courses_course"
    __table_args__ = (CheckConstraint("capacity >= 0", name="ck_courses_course_capacity"),)
    label_column = "title"
    natural_key = ("institution_id", "code")
    restore_permission = "courses.delete"

    institution_id: UUID = Field(foreign_key="institutions_institution.id")
    code: str = Field(max_length=100)
    title: str = Field(max_length=300)
    description: str = Field(default="", max_length=20_000)
    state: str = Field(default="draft", max_length=20)
    capacity: int | None = None
    waitlist: bool = False
    starts_on: date | None = None
    ends_on: date | None = None


class Section(Table, table=True):
    """A part of a course's people: a class, a laboratory group."""

    __tablename__ = "courses_section"
    __table_args__ = (CheckConstraint("capacity >= 0", name="ck_courses_section_capacity"),)
    label_column = "name"
    natural_key = ("course_id", "name")
    restore_permission = "courses.edit_content"

    course_id: UUID = Field(foreign_key="courses_course.id")
    name: str = Field(max_length=300)
    capacity: int | None = None
