"""What clients send and get about institutions."""

from datetime import datetime
from typing import Annotated
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from lms_core.sdk import Field, Input, Name


def known_timezone(name: str) -> str:
    """A name of the IANA time zone database."""
    if name not in available_timezones():
        raise ValueError("is no name of the IANA time zone database, such as Europe/Paris")
    return name


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Timezone = Annotated[str, AfterValidator(known_timezone)]


class InstitutionCreate(Input):
    """A new institution; without a parent it is the top of a tree of its own."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "North High", "slug": "north-high"}})

    name: Name
    slug: Slug
    parent_id: UUID | None = None
    timezone: Timezone | None = Field(default=None, description="Its parent's, or UTC, when left out")


class InstitutionUpdate(Input):
    """What is to change."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "North High School"}})

    name: Name | None = None
    slug: Slug | None = None
    timezone: Timezone | None = None


class InstitutionRead(BaseModel):
    """An institution."""

    id: UUID
    name: str
    slug: str
    parent_id: UUID | None
    timezone: str
    created_at: datetime
    updated_at: datetime
