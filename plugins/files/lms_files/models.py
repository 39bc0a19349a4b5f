"""The tables of files, of the text found in them, and of the room they take."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, text
from sqlmodel import SQLModel

from lms_core.sdk import Field, Record, Table

UPLOAD_MINUTES = 15


class File(Table, table=True):
    """One upload and what came of it; `state` moves as state-machines.md says, `clean_key` is set with READY only.

    `institution_id` is that of the course when the upload was requested. What is `shared` may be read by everybody
    who takes part in the course, everything else by its owner and by those who teach there.
    """

    __tablename__ = "files_file"
    __table_args__ = (
        CheckConstraint("(state = 'ready') = (clean_key IS NOT NULL)", name="ck_files_file_ready"),
        CheckConstraint("size > 0", name="ck_files_file_size"),
        Index("ix_files_file_owner_live", "owner_id", "id", postgresql_where=text("NOT is_deleted")),
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
    shared: bool = False
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
    clean_key: str | None = None
    text_state: str = Field(max_length=20)
    text_pages: int | None = None
    text_characters: int | None = None
    text_reason: str | None = Field(default=None, max_length=40)
    thumbnail_state: str = Field(max_length=20)
    thumbnail_width: int | None = None
    thumbnail_height: int | None = None
    thumbnail_reason: str | None = Field(default=None, max_length=40)

    @property
    def quota_id(self) -> UUID:
        """Whose room it takes: the institution's, or its owner's where it belongs to no course."""
        return self.institution_id or self.owner_id


class FilePage(SQLModel, table=True):
    """The text of one page that has any; numbers begin at 1."""

    __tablename__ = "files_page"

    file_id: UUID = Field(foreign_key="files_file.id", primary_key=True)
    number: int = Field(primary_key=True)
    text: str


class Quota(Record, table=True):
    """The room that an institution's files take, or those of a user outside of courses; `id` is theirs.

    `reserved_bytes` are those of uploads under way, `used_bytes` those of files that are ready, deleted ones
    too since they may come back. Without a `limit_bytes` of its own the setting counts.
    """

    __tablename__ = "files_quota"
    __table_args__ = (CheckConstraint("used_bytes >= 0 AND reserved_bytes >= 0", name="ck_files_quota_bytes"),)

    used_bytes: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    reserved_bytes: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    limit_bytes: int | None = Field(default=None, sa_type=BigInteger)
