"""What clients send and get about groups."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from lms_core.sdk import Description, Field, Input, Name, named_once

Role = Literal["teacher", "assistant", "observer"]
EXAMPLE_ID = "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"


class GroupCreate(Input):
    """A new group, of a course or of an institution."""

    model_config = ConfigDict(json_schema_extra={"example": {"course_id": EXAMPLE_ID, "name": "Red team"}})

    course_id: UUID | None = Field(default=None, description="Its members are taken from those enrolled there")
    institution_id: UUID | None = Field(default=None, description="Its members hold a role there, above or below")
    name: Name
    description: Description = ""

    @model_validator(mode="after")
    def of_one_thing(self) -> Self:
        """A group belongs to one of the two."""
        if (self.course_id is None) == (self.institution_id is None):
            raise ValueError("give either course_id or institution_id")
        return self


class GroupUpdate(Input):
    """What is to change; a group stays where it is."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "Blue team"}})

    name: Name | None = None
    description: Description | None = None


class GroupRead(BaseModel):
    """A group, and how many are in it."""

    id: UUID
    course_id: UUID | None
    institution_id: UUID | None
    name: str
    description: str
    members: int
    created_at: datetime
    updated_at: datetime


class MemberAdd(Input):
    """Somebody is to be in the group."""

    model_config = ConfigDict(json_schema_extra={"example": {"user_id": EXAMPLE_ID}})

    user_id: UUID


class MembersAdd(Input):
    """Many are to be in the group."""

    model_config = ConfigDict(json_schema_extra={"example": {"user_ids": [EXAMPLE_ID]}})

    user_ids: Annotated[list[UUID], Field(min_length=1, max_length=1_000), AfterValidator(named_once)]


class MembershipRead(BaseModel):
    """Somebody in a group; it counts while `takes_part` is true, which in an institution's group it always is."""

    id: UUID
    group_id: UUID
    user_id: UUID
    takes_part: bool
    created_at: datetime
    updated_at: datetime


class MemberResult(BaseModel):
    """What became of one user."""

    user_id: UUID
    status: Literal["created", "exists", "error"]
    membership_id: UUID | None = None
    code: str | None = None


class MembersAdded(BaseModel):
    """An answer for each user, in the order in which they were named."""

    results: list[MemberResult]
    counts: dict[str, int]


class CourseRoleGrant(Input):
    """Everybody in the group is to have a role in a course."""

    model_config = ConfigDict(json_schema_extra={"example": {"course_id": EXAMPLE_ID, "role": "assistant"}})

    course_id: UUID
    role: Role = Field(description="Not student: students take seats, so they are enrolled one by one")


class CourseRoleRead(BaseModel):
    """A role that a group holds in a course."""

    id: UUID
    group_id: UUID
    course_id: UUID
    role: Role
    created_at: datetime
    updated_at: datetime
