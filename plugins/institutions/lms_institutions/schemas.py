"""What clients send and get about institutions."""

import re
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, StringConstraints

from lms_core.sdk import Field, Input, Name


def known_timezone(name: str) -> str:
    """A name of the IANA time zone database."""
    # `localtime` is whatever the machine's is, and PostgreSQL knows of neither.
    if name not in available_timezones() - {"localtime", "posixrules", "Factory"}:
        raise ValueError("is no name of the IANA time zone database, such as Europe/Paris")
    return name


LANGUAGE_TAG = re.compile(
    r"""
    (?: [a-z]{2,3} (?:-[a-z]{3}){0,3} | [a-z]{4,8} )         # language
    (?: -[a-z]{4} )?                                         # script
    (?: -(?: [a-z]{2} | [0-9]{3} ) )?                        # region
    (?: -(?: [a-z0-9]{5,8} | [0-9][a-z0-9]{3} ) )*           # variants
    (?: -[0-9a-wyz] (?:-[a-z0-9]{2,8})+ )*                   # extensions
    (?: -x (?:-[a-z0-9]{1,8})+ )?                            # private use
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def well_formed_locale(tag: str) -> str:
    """A language tag (BCP 47), as far as its form goes."""
    if not LANGUAGE_TAG.fullmatch(tag):
        raise ValueError("is no language tag (BCP 47), such as de-CH")
    return tag


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
Timezone = Annotated[str, AfterValidator(known_timezone)]
Locale = Annotated[str, StringConstraints(max_length=35), AfterValidator(well_formed_locale)]
PasswordLength = Annotated[StrictInt, Field(ge=8, le=64)]
RetentionDays = Annotated[StrictInt, Field(ge=1, le=3650)]
DaysOfKinds = Annotated[dict[Annotated[str, StringConstraints(max_length=100)], RetentionDays], Field(max_length=100)]
Setting = Literal["timezone", "locale", "password_min_length", "retention_days", "retention_days_of"]


class Settings(Input):
    """What holds at an institution and below; null or left out: as at the nearest one above that says it."""

    timezone: Timezone | None = Field(default=None, description="Of the IANA database; UTC where nobody says it")
    locale: Locale | None = Field(default=None, description="A language tag (BCP 47); en where nobody says it")
    password_min_length: PasswordLength | None = Field(
        default=None, description="For all who hold a role here; counts where it is more than the system asks for"
    )
    retention_days: RetentionDays | None = Field(
        default=None, description="How long what is deleted can be restored; 30 where nobody says it"
    )
    retention_days_of: DaysOfKinds | None = Field(
        default=None,
        description="The same for single kinds, such as `courses.course`; what goes with a larger thing counts",
    )


class InstitutionCreate(Settings):
    """A new institution; without a parent it is the top of a tree of its own."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "North High", "slug": "north-high"}})

    name: Name
    slug: Slug
    parent_id: UUID | None = None


class InstitutionUpdate(Settings):
    """What is to change; a setting that is null is inherited again."""

    model_config = ConfigDict(json_schema_extra={"example": {"name": "North High School"}})

    name: Name | None = None
    slug: Slug | None = None
    parent_id: UUID | None = Field(default=None, description="Where to move it; null makes it the top of a tree")


class InstitutionRead(BaseModel):
    """An institution, with the settings that hold there; `inherited` names those that it does not set itself."""

    id: UUID
    name: str
    slug: str
    parent_id: UUID | None
    timezone: str
    locale: str
    password_min_length: int | None = Field(description="Null: no more than the system asks for")
    retention_days: int
    retention_days_of: dict[str, int]
    inherited: list[Setting]
    created_at: datetime
    updated_at: datetime
