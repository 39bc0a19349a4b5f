"""What clients send and get about materials."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, StringConstraints, model_validator

from lms_core.sdk import Field, Input, Name

MAX_BODY_BYTES = 256 * 1024
Kind = Literal["page", "document", "link"]


def fits_in_body(text: str) -> str:
    """Bytes count, not characters."""
    if len(text.encode()) > MAX_BODY_BYTES:
        raise ValueError("is longer than 256 KiB in UTF-8")
    return text


Body = Annotated[str, AfterValidator(fits_in_body), Field(description="Markdown, at most 256 KiB in UTF-8")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$", max_length=2_000)]
Position = Annotated[StrictInt, Field(ge=0, le=1_000_000)]


def without_repetition(ids: list[UUID]) -> list[UUID]:
    """Each once."""
    return sorted(set(ids))


Ids = Annotated[list[UUID], Field(max_length=100), AfterValidator(without_repetition)]


class AudienceOfMaterial(Input):
    """Who is in one of these sections or groups of the course, or groups of an institution; null is everybody."""

    section_ids: Ids = Field(default_factory=list)
    group_ids: Ids = Field(default_factory=list)


def not_empty(audience: AudienceOfMaterial) -> AudienceOfMaterial:
    """Nobody is no audience."""
    if not audience.section_ids and not audience.group_ids:
        raise ValueError("names nobody; null is everybody in the course")
    return audience


AudienceGiven = Annotated[AudienceOfMaterial, AfterValidator(not_empty)]


class MaterialCreate(Input):
    """Something new in a course."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "course_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
                "kind": "page",
                "title": "Cells",
                "body": "All living things are made of cells.",
                "published": True,
            }
        }
    )

    course_id: UUID
    kind: Kind
    title: Name
    body: Body = ""
    file_id: UUID | None = Field(default=None, description="Of a document: a file of the same course")
    url: Url | None = Field(default=None, description="Of a link")
    position: Position = 0
    published: bool = False
    audience: AudienceGiven | None = Field(default=None, description="Whom it is for; staff reads it in any case")

    @model_validator(mode="after")
    def fits_kind(self) -> Self:
        """A document has a file and a link has a URL; nothing else has one."""
        if (self.kind == "document") != (self.file_id is not None):
            raise ValueError("file_id belongs to a document, and a document needs one")
        if (self.kind == "link") != (self.url is not None):
            raise ValueError("url belongs to a link, and a link needs one")
        return self


class MaterialUpdate(Input):
    """What is to change; `audience: null` makes it for everybody in the course."""

    model_config = ConfigDict(json_schema_extra={"example": {"published": True}})

    title: Name | None = None
    body: Body | None = None
    file_id: UUID | None = None
    url: Url | None = None
    position: Position | None = None
    published: bool | None = None
    audience: AudienceGiven | None = None


class MaterialRead(BaseModel):
    """A material."""

    id: UUID
    course_id: UUID
    kind: Kind
    title: str
    body: str
    file_id: UUID | None
    url: str | None
    position: int
    published: bool
    audience: AudienceOfMaterial | None
    created_at: datetime
    updated_at: datetime


class Hit(BaseModel):
    """A material in which the words were found; `page` is the best page of a document, null for title and body."""

    material_id: UUID
    title: str
    course_id: UUID
    snippet: str
    rank: float
    page: int | None
