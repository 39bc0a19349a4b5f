"""What clients send and get about modules and materials."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictFloat, StringConstraints, model_validator

from lms_core.sdk import Field, Input, Instant, Name
from lms_materials.assignment_schemas import AssignmentInput, AssignmentRead, AssignmentUpdate
from lms_materials.written import LongText, Url

Kind = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=50),
    Field(description="page, document, link, assignment, or one that a plugin adds"),
]
BodyFormat = Literal["markdown", "html"]


Position = Annotated[StrictFloat, Field(ge=-1_000_000, le=1_000_000, description="Less comes first")]


def without_repetition(ids: list[UUID]) -> list[UUID]:
    """Each once."""
    return sorted(set(ids))


Ids = Annotated[list[UUID], Field(max_length=100), AfterValidator(without_repetition)]


class AudienceOfMaterial(Input):
    """Who is in one of these sections or groups of the course, or groups of an institution; null is everybody."""

    section_ids: Ids = Field(default_factory=list)
    group_ids: Ids = Field(default_factory=list)


class ModuleCreate(Input):
    """A new chapter of a course; without a position it comes last."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"course_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80", "title": "1. Cells"}}
    )

    course_id: UUID
    title: Name
    position: Position | None = None
    published: bool = Field(default=True, description="What is in a module that is not published students do not see")
    unlock_at: Instant | None = Field(default=None, description="Until then students see titles only")


class ModuleUpdate(Input):
    """What is to change."""

    model_config = ConfigDict(json_schema_extra={"example": {"title": "1. Living cells"}})

    title: Name | None = None
    position: Position | None = None
    published: bool | None = None
    unlock_at: Instant | None = None


class Move(Input):
    """A new place: behind another one, or first."""

    model_config = ConfigDict(json_schema_extra={"example": {"after_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"}})

    after_id: UUID | None = Field(description="Null is the first place")


class MoveMaterial(Move):
    """The same, perhaps in another module."""

    module_id: UUID | None = Field(default=None, description="Null is none; left out, it stays in its module")


class ModuleRead(BaseModel):
    """A chapter of a course."""

    id: UUID
    course_id: UUID
    title: str
    position: float
    published: bool
    unlock_at: datetime | None
    created_at: datetime
    updated_at: datetime


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
    module_id: UUID | None = None
    kind: Kind
    title: Name
    body: LongText = ""
    body_format: BodyFormat = Field(default="markdown", description="HTML is cleaned of what could run")
    content: dict[str, Any] | None = Field(default=None, description="Of a kind that a plugin adds")
    file_id: UUID | None = Field(default=None, description="Of a document: a file of the same course")
    url: Url | None = Field(default=None, description="Of a link")
    assignment: AssignmentInput | None = Field(default=None, description="Of an assignment")
    position: Position | None = Field(default=None, description="Without one it comes last")
    published: bool = False
    publish_at: Instant | None = Field(default=None, description="When it publishes itself")
    unlock_at: Instant | None = Field(default=None, description="Until then students see the title only")
    requires: Ids = Field(default_factory=list, description="Materials that have to be completed before")
    audience: AudienceOfMaterial | None = Field(default=None, description="Whom it is for; staff reads it in any case")

    @model_validator(mode="after")
    def fits_kind(self) -> Self:
        """A document has a file and a link has a URL; nothing else has one."""
        if (self.kind == "document") != (self.file_id is not None):
            raise ValueError("file_id belongs to a document, and a document needs one")
        if (self.kind == "link") != (self.url is not None):
            raise ValueError("url belongs to a link, and a link needs one")
        if (self.kind == "assignment") != (self.assignment is not None):
            raise ValueError("assignment belongs to an assignment, and one needs it")
        return self


class MaterialUpdate(Input):
    """What is to change; `audience: null` makes it for everybody in the course."""

    model_config = ConfigDict(json_schema_extra={"example": {"published": True}})

    title: Name | None = None
    body: LongText | None = None
    body_format: BodyFormat | None = None
    content: dict[str, Any] | None = None
    file_id: UUID | None = None
    url: Url | None = None
    assignment: AssignmentUpdate | None = None
    module_id: UUID | None = Field(default=None, description="Null is none")
    position: Position | None = None
    published: bool | None = None
    publish_at: Instant | None = Field(default=None, description="Null is never by itself")
    unlock_at: Instant | None = Field(default=None, description="Null is at once")
    requires: Ids | None = None
    audience: AudienceOfMaterial | None = None


class RequiredMaterial(BaseModel):
    """A material that the caller has to complete before."""

    id: UUID
    title: str


class Lock(BaseModel):
    """Why the content is not open to the caller yet."""

    unlock_at: datetime | None
    requires: list[RequiredMaterial]


class MaterialRead(BaseModel):
    """A material; while it is `locked` for the caller, its body, content, file and URL are left out."""

    id: UUID
    course_id: UUID
    module_id: UUID | None
    kind: str
    title: str
    body: str
    body_format: BodyFormat
    content: dict[str, Any] | None
    file_id: UUID | None
    url: str | None
    assignment: AssignmentRead | None
    position: float
    published: bool
    publish_at: datetime | None
    unlock_at: datetime | None
    requires: list[UUID]
    locked: Lock | None
    completed: bool
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


class RevisionRead(BaseModel):
    """What a material held from then on; null as `actor_id` is the system."""

    id: UUID
    number: int
    title: str
    body: str
    body_format: BodyFormat
    content: dict[str, Any] | None
    file_id: UUID | None
    url: str | None
    actor_id: UUID | None
    created_at: datetime


class Difference(BaseModel):
    """How a revision differs from an earlier one; `body_diff` is a unified diff."""

    number: int
    since: int | None
    changed: list[str]
    body_diff: str
