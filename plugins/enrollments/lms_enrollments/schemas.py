"""What clients send and get about enrollments."""

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, model_validator

from lms_core.sdk import Day, Field, Input, named_once
from lms_enrollments.parts import Part

Role = Literal["student", "teacher", "assistant", "observer"]
State = Literal["requested", "waitlisted", "active", "completed", "dropped"]
EXAMPLE_ID = "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"


Reason = Annotated[str, Field(max_length=500, description="Kept in the history")]


FirstDay = Annotated[Day, Field(description="Before it they have no access; a day where the institution is")]
LastDay = Annotated[Day, Field(description="After it they complete, and their seat is free")]


class TakesPart(Input):
    """As what, where and when; without days there is no limit."""

    role: Role
    section_id: UUID | None = None
    starts_on: FirstDay | None = None
    ends_on: LastDay | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def ends_after_start(self) -> Self:
        """Nobody stops before they start."""
        if self.starts_on is not None and self.ends_on is not None and self.ends_on < self.starts_on:
            raise ValueError("ends_on is before starts_on")
        return self

    def part(self) -> Part:
        """Where and when, for those who place people."""
        return Part(self.section_id, self.starts_on, self.ends_on, self.reason)


class EnrollmentCreate(TakesPart):
    """Somebody is to take part in a course."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"course_id": EXAMPLE_ID, "user_id": EXAMPLE_ID, "role": "student"}}
    )

    course_id: UUID
    user_id: UUID


class SelfEnrollment(Input):
    """The caller wants to take part in a course."""

    model_config = ConfigDict(json_schema_extra={"example": {"course_id": EXAMPLE_ID}})

    course_id: UUID
    key: str | None = Field(default=None, max_length=200, description="Where the course asks for one")


class EnrollmentUpdate(Input):
    """What is to change; null takes the section, or a day, away."""

    model_config = ConfigDict(json_schema_extra={"example": {"state": "completed"}})

    state: Literal["active", "completed", "dropped"] | None = None
    section_id: UUID | None = None
    starts_on: FirstDay | None = None
    ends_on: LastDay | None = None
    reason: Reason | None = None


class BulkCreate(TakesPart):
    """Many are to take part in a course."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"course_id": EXAMPLE_ID, "role": "student", "user_ids": [EXAMPLE_ID]}}
    )

    course_id: UUID
    user_ids: Annotated[list[UUID], Field(min_length=1, max_length=10_000), AfterValidator(named_once)]


class EnrollmentRead(BaseModel):
    """An enrollment; `position` counts from 1 and is there while it waits."""

    id: UUID
    course_id: UUID
    user_id: UUID
    role: Role
    state: State
    section_id: UUID | None
    position: int | None
    starts_on: date | None
    ends_on: date | None
    created_at: datetime
    updated_at: datetime


class PeriodRead(BaseModel):
    """What an enrollment was from `since` on, until `until` (null: it still is), and who made it so, and why."""

    enrollment_id: UUID
    state: State
    role: Role
    section_id: UUID | None
    starts_on: date | None
    ends_on: date | None
    since: datetime
    until: datetime | None
    cause: str
    reason: str | None
    actor_id: UUID | None


class BulkResult(BaseModel):
    """What became of one user. Who asked to join and is let in `exists`, with a seat or in the line."""

    user_id: UUID
    status: Literal["created", "exists", "waitlisted", "error"]
    enrollment_id: UUID | None = None
    code: str | None = None


class BulkRead(BaseModel):
    """What became of all, in the order of the request."""

    results: list[BulkResult]
    counts: dict[str, int]


class EnrollmentImport(Input):
    """A CSV file that was uploaded, with the enrollments in an institution's courses."""

    model_config = ConfigDict(json_schema_extra={"example": {"file_id": EXAMPLE_ID, "institution_id": EXAMPLE_ID}})

    file_id: UUID
    institution_id: UUID
    max_disabled: StrictInt | None = Field(
        default=None, ge=0, le=1_000_000, description="How many may be dropped; 5 or a tenth of them when left out"
    )
