"""What clients send and get about courses and sections."""

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StrictBool, StrictInt, StringConstraints, model_validator

from lms_core.sdk import Day, Description, Field, Input, Name

State = Literal["draft", "published", "archived"]
Code = Annotated[Name, StringConstraints(max_length=100)]
SelfEnrollment = Literal["closed", "open", "key", "approval"]
EnrollmentKey = Annotated[str, StringConstraints(min_length=8, max_length=200)]
Capacity = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


class CourseCreate(Input):
    """A new course; it begins as a draft."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "institution_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
                "code": "BIO-101",
                "title": "Biology",
                "capacity": 30,
                "waitlist": True,
            }
        }
    )

    institution_id: UUID
    code: Code = Field(description="Unique at the institution, in the term")
    title: Name
    term_id: UUID | None = Field(default=None, description="A term of the institution, or of one above it")
    description: Description = ""
    capacity: Capacity | None = Field(default=None, description="Seats for students; without it, as many as come")
    waitlist: StrictBool = False
    self_enrollment: SelfEnrollment = Field(
        default="closed",
        description="How students of the institution join by themselves: not, freely, with a key, or on request",
    )
    enrollment_key: EnrollmentKey | None = Field(default=None, description="For `key`; never shown again")
    starts_on: Day | None = None
    ends_on: Day | None = None

    @model_validator(mode="after")
    def ends_after_start(self) -> Self:
        """A course doesn't end before it starts."""
        if self.starts_on is not None and self.ends_on is not None and self.ends_on < self.starts_on:
            raise ValueError("ends_on is before starts_on")
        return self


class CourseUpdate(Input):
    """What is to change."""

    model_config = ConfigDict(json_schema_extra={"example": {"state": "published"}})

    institution_id: UUID | None = None
    term_id: UUID | None = None
    code: Code | None = None
    title: Name | None = None
    description: Description | None = None
    state: State | None = None
    capacity: Capacity | None = None
    waitlist: StrictBool | None = None
    self_enrollment: SelfEnrollment | None = None
    enrollment_key: EnrollmentKey | None = None
    starts_on: Day | None = None
    ends_on: Day | None = None


class TermOfCourse(BaseModel):
    """The term of a course."""

    id: UUID
    name: str
    starts_on: date
    ends_on: date


class CourseRead(BaseModel):
    """A course; `term` is null while the term is deleted."""

    id: UUID
    institution_id: UUID
    term: TermOfCourse | None
    code: str
    title: str
    description: str
    state: State
    capacity: int | None
    waitlist: bool
    self_enrollment: SelfEnrollment
    starts_on: date | None
    ends_on: date | None
    created_at: datetime
    updated_at: datetime


class TeacherOfCourse(BaseModel):
    """Who teaches a course."""

    id: UUID
    full_name: str


class PeopleOfCourse(BaseModel):
    """Who teaches a course, how many students have a seat in it, and how many wait for one."""

    teachers: list[TeacherOfCourse]
    students: int
    waiting: int


class CourseWithPeople(CourseRead):
    """A course with those who take part in it (`include=people`)."""

    people: PeopleOfCourse


class TermCreate(Input):
    """A new span of an institution's calendar, inside of `parent_id` if that is given."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "institution_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
                "name": "Autumn 2026",
                "starts_on": "2026-09-01",
                "ends_on": "2026-12-18",
            }
        }
    )

    institution_id: UUID
    parent_id: UUID | None = None
    name: Annotated[Name, StringConstraints(max_length=100)]
    starts_on: Day
    ends_on: Day


class TermUpdate(Input):
    """What is to change; null takes a term out of the one that it is in."""

    model_config = ConfigDict(json_schema_extra={"example": {"ends_on": "2026-12-22"}})

    parent_id: UUID | None = None
    name: Annotated[Name, StringConstraints(max_length=100)] | None = None
    starts_on: Day | None = None
    ends_on: Day | None = None


class TermRead(BaseModel):
    """A term."""

    id: UUID
    institution_id: UUID
    parent_id: UUID | None
    name: str
    starts_on: date
    ends_on: date
    created_at: datetime
    updated_at: datetime


class SectionCreate(Input):
    """A new section of the course in the URL."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Monday group", "capacity": 15}})

    name: Name
    capacity: Capacity | None = None


class SectionUpdate(Input):
    """What is to change."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Tuesday group"}})

    name: Name | None = None
    capacity: Capacity | None = None


class SectionRead(BaseModel):
    """A section."""

    id: UUID
    course_id: UUID
    name: str
    capacity: int | None
    created_at: datetime
    updated_at: datetime
