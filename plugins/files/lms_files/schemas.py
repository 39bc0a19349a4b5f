"""What clients send and get about files."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, StringConstraints

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
    size: StrictInt = Field(ge=1, description="In bytes; an upload of any other size is refused")
    sha256: Sha256 | None = Field(default=None, description="Checked when given; computed in any case")
    course_id: UUID | None = None
    shared: bool = Field(
        default=True,
        description="Of who teaches: false keeps the file from the class until a material shows it. "
        "Students' files are never shared",
    )


class FileUpdate(Input):
    """What is to change."""

    model_config = ConfigDict(json_schema_extra={"example": {"filename": "Photosynthesis 2.pdf"}})

    filename: Filename | None = None


class UploadedPart(Input):
    """A part, and the ETag that the store answered with."""

    number: StrictInt = Field(ge=1, le=10_000)
    etag: str = Field(min_length=1, max_length=200)


class CompleteRequest(Input):
    """The bytes are in the store; only an upload in parts has something to say about them."""

    model_config = ConfigDict(json_schema_extra={"example": {}})

    parts: list[UploadedPart] | None = Field(default=None, max_length=10_000)


class DerivativeRead(BaseModel):
    """Something made of a file: `state`, the `reason` of a failure, and what its processor says of it."""

    model_config = ConfigDict(extra="allow")

    state: DerivativeState
    reason: str | None = None


class TextRead(DerivativeRead):
    """The text found in a file."""

    pages: int | None = None
    characters: int | None = None


class PictureRead(DerivativeRead):
    """A WebP picture of a file: of its first page, where it has pages."""

    width: int | None = None
    height: int | None = None


class DerivativesRead(BaseModel):
    """What was made of a file; plugins add to it."""

    model_config = ConfigDict(extra="allow")

    text: TextRead
    thumbnail: PictureRead
    preview: PictureRead


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
    replaces_id: UUID | None = Field(description="The file of which this is a version")
    created_at: datetime
    updated_at: datetime


class VersionRead(BaseModel):
    """What a file held before."""

    id: UUID
    filename: str
    content_type: str
    size: int
    sha256: str
    uploader_id: UUID
    ready_at: datetime = Field(description="When it was uploaded and verified")


class VersionRequest(Input):
    """A new version of a file; it keeps its name unless there is another one."""

    model_config = ConfigDict(json_schema_extra={"example": {"content_type": "application/pdf", "size": 50122}})

    filename: Filename | None = None
    content_type: ContentType
    size: StrictInt = Field(ge=1, description="In bytes; an upload of any other size is refused")
    sha256: Sha256 | None = Field(default=None, description="Checked when given; computed in any case")


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


class StoredPartRead(BaseModel):
    """A part that has arrived."""

    number: int
    etag: str
    size: int


class UploadInParts(BaseModel):
    """PUT each `part_size` bytes (the last part: the rest) to their URL.

    `parts` are those still to be sent, up to a hundred; `uploaded` are those that the store has.
    """

    kind: Literal["multipart"]
    part_size: int
    part_count: int
    parts: list[PartUrl]
    uploaded: list[StoredPartRead]
    expires_at: datetime


class RequestedFile(FileRead):
    """A requested file, and how to upload it."""

    upload: UploadForm | UploadInParts


class LimitsRead(BaseModel):
    """Room for files, in bytes; `used` and `reserved` together never pass `limit`."""

    used_bytes: int
    reserved_bytes: int
    limit_bytes: int
    max_upload_bytes: int


class MyLimitsRead(LimitsRead):
    """The same, and the types that are taken."""

    allowed_types: list[str]


class InstitutionLimitsRead(LimitsRead):
    """The same for an institution, the types that it takes, and those that it could."""

    allowed_types: list[str]
    known_types: list[str]


class UserLimitsUpdate(Input):
    """Another limit; null is what holds everywhere."""

    model_config = ConfigDict(json_schema_extra={"example": {"limit_bytes": 10737418240}})

    limit_bytes: StrictInt | None = Field(default=None, ge=0, le=1 << 60)


class InstitutionLimitsUpdate(UserLimitsUpdate):
    """Another limit, or other types; null is what holds everywhere."""

    model_config = ConfigDict(json_schema_extra={"example": {"allowed_types": ["application/pdf", "image/png"]}})

    allowed_types: list[ContentType] | None = Field(default=None, max_length=500)


class UploadRequest(Input):
    """Which parts to sign; without numbers, the first hundred that have not arrived."""

    model_config = ConfigDict(json_schema_extra={"example": {}})

    numbers: list[StrictInt] | None = Field(default=None, min_length=1, max_length=100)


class UploadRead(BaseModel):
    """How to go on with an upload."""

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
