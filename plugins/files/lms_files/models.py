"""The tables of files, of the text found in them, and of the room they take."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

from lms_core.sdk import Field, Record, Table

UPLOAD_MINUTES = 15


class File(Table, table=True):
    """One upload and what came of it; `state` moves as state-machines.md says, `clean_key` is set with READY only.

    `institution_id` is that of the course when the upload was requested. What is `shared` may be read by everybody
    who takes part in the course, everything else by its owner and by those who teach there. What is `kept` was handed
    in: it has its name and content for good.

    A row that `replaces_id` another is an upload of a new version. Once it is ready the two rows exchange what they
    hold: the file has the new content under its old id, and this row keeps the old one.
    """

    __tablename__ = "files_file"
    __table_args__ = (
        CheckConstraint("(state = 'ready') = (clean_key IS NOT NULL)", name="ck_files_file_ready"),
        CheckConstraint("size > 0", name="ck_files_file_size"),
        Index("ix_files_file_owner_live", "owner_id", "id", postgresql_where=text("NOT is_deleted")),
        CheckConstraint("state <> 'ready' OR content_id IS NOT NULL", name="ck_files_file_content"),
        Index("ix_files_file_content_id", "content_id"),
        Index("ix_files_file_state", "state", "id", postgresql_where=text("NOT is_deleted AND state <> 'ready'")),
        Index("ix_files_file_replaces_id", "replaces_id", "id", postgresql_where=text("replaces_id IS NOT NULL")),
        Index(
            "ix_files_file_underived",
            "updated_at",
            postgresql_where=text("state = 'ready' AND derivatives @? '$.*.state ? (@ == \"pending\")'"),
        ),
        Index(
            "ix_files_file_unfinished",
            "state",
            "expires_at",
            postgresql_where=text("state IN ('requested', 'uploaded', 'verifying')"),
        ),
    )
    label_column = "filename"
    restore_permission = "files.delete"

    course_id: UUID | None = Field(default=None, foreign_key="courses_course.id")
    institution_id: UUID | None = None
    owner_id: UUID = Field(foreign_key="users_user.id")
    uploader_id: UUID = Field(foreign_key="users_user.id")
    replaces_id: UUID | None = Field(default=None, foreign_key="files_file.id")
    shared: bool = False
    kept: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    filename: str = Field(max_length=255)
    content_type: str = Field(max_length=255)
    size: int = Field(sa_type=BigInteger)
    sha256: str | None = Field(default=None, max_length=64)
    state: str = Field(default="requested", max_length=20)
    reason: str | None = Field(default=None, max_length=40)
    upload_kind: str = Field(max_length=20)
    upload_id: str | None = None
    etag: str | None = None
    expires_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": text(f"now() + interval '{UPLOAD_MINUTES} minutes'"), "nullable": False},
    )
    ready_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    content_id: str | None = Field(default=None, max_length=64, foreign_key="files_content.sha256")
    clean_key: str | None = None
    derivatives: dict[str, dict[str, Any]] = Field(sa_type=JSONB)

    @property
    def quota_id(self) -> UUID:
        """Whose room it takes: the institution's, or its owner's where it belongs to no course."""
        return self.institution_id or self.owner_id


class FileContent(SQLModel, table=True):
    """Bytes that are kept once in the store, under `key`, however many files have them.

    The foreign key of those files counts the references: while one row has it, deleted or not, this one can't go.
    """

    __tablename__ = "files_content"

    sha256: str = Field(primary_key=True, max_length=64)
    size: int = Field(sa_type=BigInteger)
    key: str
    created_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )


class FilePage(SQLModel, table=True):
    """The text of one page that has any; numbers begin at 1."""

    __tablename__ = "files_page"

    file_id: UUID = Field(foreign_key="files_file.id", primary_key=True)
    number: int = Field(primary_key=True)
    text: str


class Quota(Record, table=True):
    """The room that an institution's files take, or those of a user outside of courses; `id` is theirs.

    `reserved_bytes` are those of uploads under way, `used_bytes` those of files that are ready, deleted ones
    too since they may come back. Without a `limit_bytes` of its own the setting counts; without `allowed_types`,
    everything that is taken by default.
    """

    __tablename__ = "files_quota"
    __table_args__ = (CheckConstraint("used_bytes >= 0 AND reserved_bytes >= 0", name="ck_files_quota_bytes"),)

    used_bytes: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    reserved_bytes: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    limit_bytes: int | None = Field(default=None, sa_type=BigInteger)
    allowed_types: list[str] | None = Field(default=None, sa_type=JSONB(none_as_null=True), nullable=True)
