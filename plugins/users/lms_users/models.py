"""The tables of users and of what they are granted."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, DateTime, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB

from lms_core.sdk import Field, Record, Table


class User(Table, table=True):
    """A person. `email_key` is the address in one form, so that it is unique whatever its case."""

    __tablename__ = "users_user"
    label_column = "full_name"
    natural_key = ("email_key",)
    restore_permission = "users.delete"

    email: str = Field(max_length=320)
    email_key: str = Field(max_length=640)
    full_name: str = Field(max_length=300)
    is_active: bool = True


class Role(Table, table=True):
    """An institution's own role: a bundle of permissions, to be held there or below."""

    __tablename__ = "users_role"
    label_column = "name"
    natural_key = ("institution_id", "name")
    restore_permission = "users.define_roles"

    institution_id: UUID = Field(foreign_key="institutions_institution.id")
    name: str = Field(max_length=40)
    summary: str = Field(default="", max_length=300)
    permissions: list[str] = Field(sa_type=ARRAY(String()))


class Guardianship(Table, table=True):
    """A guardian's link to one student, whose things they may read."""

    __tablename__ = "users_guardianship"
    __table_args__ = (CheckConstraint("guardian_id <> student_id", name="ck_users_guardianship_two_people"),)
    natural_key = ("student_id", "guardian_id")
    restore_permission = "users.edit"

    student_id: UUID = Field(foreign_key="users_user.id")
    guardian_id: UUID = Field(foreign_key="users_user.id")


class Grant(Table, table=True):
    """A role that a user holds at an institution, or everywhere (a super admin)."""

    __tablename__ = "users_grant"
    __table_args__ = (
        CheckConstraint("(institution_id IS NULL) = (role = 'super_admin')", name="ck_users_grant_institution"),
    )
    label_column = "role"
    natural_key = ("user_id", "role", "institution_id")
    restore_permission = "users.grant"

    user_id: UUID = Field(foreign_key="users_user.id")
    role: str = Field(max_length=40)
    role_id: UUID | None = Field(default=None, foreign_key="users_role.id")
    institution_id: UUID | None = Field(default=None, foreign_key="institutions_institution.id")
    expires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    granted_by: UUID | None = None


class Imported(Record, table=True):
    """What the last import at an institution (None: everywhere) said about a user: so it knows what people changed."""

    __tablename__ = "users_imported"
    __table_args__ = (
        Index("uq_users_imported_user", "institution_id", "user_id", unique=True, postgresql_nulls_not_distinct=True),
        Index(
            "uq_users_imported_external_id",
            "institution_id",
            "external_id",
            unique=True,
            postgresql_where=text("external_id IS NOT NULL"),
            postgresql_nulls_not_distinct=True,
        ),
    )

    institution_id: UUID | None = Field(default=None, foreign_key="institutions_institution.id")
    user_id: UUID = Field(foreign_key="users_user.id", index=True)
    external_id: str | None = Field(default=None, max_length=100)
    said: dict[str, Any] = Field(sa_type=JSONB)
