"""What clients send and get about assignments, extensions, submissions and grades."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictInt,
    StringConstraints,
    model_validator,
)

from lms_core.sdk import Field, Input, Instant
from lms_materials.late_policy import LatePolicy, Unit
from lms_materials.written import LongText, Url

MAX_POINTS = 100_000


def number_only(value: Any) -> Any:
    """A JSON number, exactly as it was written; text and booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("is no number")
    return Decimal(str(value))


Points = Annotated[Decimal, BeforeValidator(number_only), Field(ge=0, le=MAX_POINTS, max_digits=8, decimal_places=2)]
Attempts = Annotated[StrictInt, Field(ge=1, le=1_000)]


def each_once(ids: list[UUID]) -> list[UUID]:
    """In the order given, without repetition."""
    return list(dict.fromkeys(ids))


class AssignmentInput(Input):
    """What an assignment asks for; all dates are moments, `timezone` in answers says where the institution is."""

    points: Points = Field(description="What there is to earn, at most two decimals")
    extra_credit: bool = Field(default=False, description="Whether a grade may have more points than that")
    opens_at: Instant | None = None
    due_at: Instant | None = Field(default=None, description="What comes later is late")
    closes_at: Instant | None = Field(default=None, description="Nothing is taken after that")
    attempts: Attempts | None = Field(default=None, description="How many; null is any number")
    late_policy: LatePolicy = Field(default_factory=LatePolicy)
    grades_held: bool = Field(default=False, description="Students do not see grades until this is false")
    grades_release_at: Instant | None = Field(default=None, description="From then on students see grades")


class AssignmentUpdate(Input):
    """What is to change; null takes a date, or the limit of attempts, away."""

    points: Points | None = None
    extra_credit: bool | None = None
    opens_at: Instant | None = None
    due_at: Instant | None = None
    closes_at: Instant | None = None
    attempts: Attempts | None = None
    late_policy: LatePolicy | None = None
    grades_held: bool | None = None
    grades_release_at: Instant | None = None


class OwnDates(BaseModel):
    """What holds for the caller, extensions included."""

    due_at: datetime | None
    closes_at: datetime | None
    attempts: int | None


class AssignmentRead(BaseModel):
    """An assignment."""

    points: float
    extra_credit: bool
    opens_at: datetime | None
    due_at: datetime | None
    closes_at: datetime | None
    timezone: str
    attempts: int | None
    late_policy: LatePolicy
    grades_held: bool
    grades_release_at: datetime | None
    yours: OwnDates


class ExtensionInput(Input):
    """More time, in moments or in days; a day later is the same time of day, also when the clocks change."""

    due_at: Instant | None = None
    closes_at: Instant | None = None
    days: Annotated[StrictInt, Field(ge=1, le=366)] | None = None
    more_attempts: Annotated[StrictInt, Field(ge=0, le=1_000)] = 0
    reason: Annotated[str, StringConstraints(max_length=1_000)] = ""


class ExtensionCreate(ExtensionInput):
    """For one student, section or group."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"user_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80", "days": 3, "reason": "ill"}}
    )

    user_id: UUID | None = None
    section_id: UUID | None = None
    group_id: UUID | None = None

    @model_validator(mode="after")
    def is_for_one(self) -> Self:
        """Exactly one, and something more."""
        if [self.user_id, self.section_id, self.group_id].count(None) != 2:
            raise ValueError("name one student, one section or one group")
        if self.due_at is None and self.closes_at is None and self.days is None and not self.more_attempts:
            raise ValueError("gives nothing more; name due_at, closes_at, days or more_attempts")
        return self


class ExtensionUpdate(Input):
    """What is to change; null takes a date away."""

    model_config = ConfigDict(json_schema_extra={"example": {"days": 5}})

    due_at: Instant | None = None
    closes_at: Instant | None = None
    days: Annotated[StrictInt, Field(ge=1, le=366)] | None = None
    more_attempts: Annotated[StrictInt, Field(ge=0, le=1_000)] | None = None
    reason: Annotated[str, StringConstraints(max_length=1_000)] | None = None


class ExtensionRead(BaseModel):
    """More time for somebody."""

    id: UUID
    material_id: UUID
    user_id: UUID | None
    section_id: UUID | None
    group_id: UUID | None
    due_at: datetime | None
    closes_at: datetime | None
    days: int | None
    more_attempts: int
    reason: str
    created_at: datetime
    updated_at: datetime


class SubmissionInput(Input):
    """What is handed in, or saved as a draft."""

    model_config = ConfigDict(json_schema_extra={"example": {"body": "Cells are small because …"}})

    body: LongText = ""
    file_ids: Annotated[list[UUID], AfterValidator(each_once)] = Field(default_factory=list, max_length=50)
    urls: list[Url] = Field(default_factory=list, max_length=50)


class SubmittedFileRead(BaseModel):
    """A file that was handed in."""

    id: UUID
    filename: str


class PenaltyRead(BaseModel):
    """What being late takes, and why."""

    unit: Unit
    units: int
    points: float
    explanation: str


class GradeRead(BaseModel):
    """A grade: the points given, and those left after what being late takes. `released_at` is null until students see it."""

    points: float
    final_points: float
    penalty: PenaltyRead | None
    feedback: str
    graded_by: UUID
    graded_at: datetime
    released_at: datetime | None


class SubmissionRead(BaseModel):
    """A draft, or an attempt; `receipt` is a SHA-256 over what was handed in, by whom and when."""

    id: UUID
    material_id: UUID
    user_id: UUID
    attempt: int
    state: Literal["draft", "submitted"]
    submitted_at: datetime | None
    due_at: datetime | None
    late: bool
    body: str
    urls: list[str]
    files: list[SubmittedFileRead]
    receipt: str | None
    grade: GradeRead | None
    created_at: datetime


class GradeInput(Input):
    """Points and what to say about them; null as points takes the grade back."""

    model_config = ConfigDict(json_schema_extra={"example": {"points": 8.5, "feedback": "Well argued."}})

    points: Points | None
    feedback: Annotated[str, StringConstraints(max_length=20_000)] = ""
    reason: Annotated[str, StringConstraints(max_length=1_000)] = Field(default="", description="Of a change")


class GradeChange(BaseModel):
    """A grade as it was given at some time."""

    id: UUID
    number: int
    points: float | None
    feedback: str
    reason: str
    graded_by: UUID
    created_at: datetime


class CourseGrade(BaseModel):
    """The grade that counts of one assignment."""

    material_id: UUID
    submission_id: UUID
    attempt: int
    late: bool
    possible: float
    points: float
    final_points: float


class StudentGrades(BaseModel):
    """A student of a course, and their grades."""

    user_id: UUID
    full_name: str
    grades: list[CourseGrade]
