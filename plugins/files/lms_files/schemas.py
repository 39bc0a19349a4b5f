"""What clients send and get about files."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from lms_core.sdk import Field, Input
from lms_files.filenames import clean_filename
from lms_files.lifecycle import State

Filename = Annotated[str, StringConstraints(max_length=1000), AfterValidator(clean_filename)]
ContentType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+_-]+/[A-Za-z0-9.+_-]+\s*(;.*)?$", max_length=255)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{64}$", to_lower=True)]
DerivativeState = Literal["pending", "ready", "failed", "none"]


class FileRequest(Input):
    """A file that is to be uploaded; without a course it is the caller's own."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "filename": "Photosynthesis.pdf",
                "content_type": "application/pdf",
                "size": 48213,
                "course_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
            }
        }
    )

    filename: Filename
    content_type: ContentType
    size: int = Field(ge=1, description="In bytes; an upload of any other size is refused")
    sha256: Sha256 | None = Field(default=None, description="Checked when given; computed in any case")
    course_id: UUID | None = None


class FileUpdate(Input):
    """What is to change."""

    model_config = ConfigDict(json_schema_extra={"example": {"filename": "Photosynthesis 2.pdf"}})

    filename: Filename | None = None


class UploadedPart(Input):
    """A part, and the ETag that the store answered with."""

    number: int = Field(ge=1, le=10_000)
    etag: str = Field(min_length=1, max_length=200)


class CompleteRequest(Input):
    """The bytes are in the store; only an upload in parts has something to say about them."""

    model_config = ConfigDict(json_schema_extra={"example": {}})

    parts: list[UploadedPart] | None = Field(default=None, max_length=10_000)


class TextRead(BaseModel):
    """The text found in a file."""

    state: DerivativeState
    pages: int | None = None
    characters: int | None = None
    reason: str | None = None


class ThumbnailRead(BaseModel):
    """A small WebP picture of a file."""

    state: DerivativeState
    width: int | None = None
    height: int | None = None
    reason: str | None = None


class DerivativesRead(BaseModel):
    """What was made of a file."""

    text: TextRead
    thumbnail: ThumbnailRead


class FileRead(BaseModel):
    """A file."""

    id: UUID
    filename: str
    content_type: str
    size: int
    sha256: str | None
    state: State
    reason: str | None
    derivatives: DerivativesRead
    course_id: UUID | None
    owner_id: UUID
    created_at: datetime
    updated_at: datetime


class PartUrl(BaseModel):
    """Where to PUT a part."""

    number: int
    url: str


class UploadForm(BaseModel):
    """POST `fields` and then the `file` as multipart/form-data to `url`."""

    kind: Literal["post"]
    url: str
    fields: dict[str, str]
    expires_at: datetime


class UploadInParts(BaseModel):
    """PUT each `part_size` bytes (the last part: the rest) to their URL, and keep the ETags for complete."""

    kind: Literal["multipart"]
    part_size: int
    parts: list[PartUrl]
    expires_at: datetime


class RequestedFile(FileRead):
    """A requested file, and how to upload it."""

    upload: UploadForm | UploadInParts


class DownloadRead(BaseModel):
    """Where the bytes are, for a few minutes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"url": "https://store.example/lms-clean/…", "expires_at": "2026-09-01T08:05:00Z"}
        }
    )

    url: str
    expires_at: datetime
