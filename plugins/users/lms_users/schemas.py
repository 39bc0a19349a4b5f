"""What clients send and get about users and roles."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, model_validator

from lms_core.sdk import Field, Input, Instant, Name
from lms_users.emails import valid_email

Role = Literal["student", "teacher", "principal", "super_admin"]
# Spaces around a password are part of it.
Secret = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=1024)]
Email = Annotated[str, StringConstraints(max_length=320), AfterValidator(valid_email)]


class RoleGrant(Input):
    """A role to be granted; a super admin's has no institution, every other has one."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"role": "teacher", "institution_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"}}
    )

    role: Role
    institution_id: UUID | None = None
    expires_at: Instant | None = None

    @model_validator(mode="after")
    def institution_fits_role(self) -> Self:
        """Only a super admin's role counts everywhere."""
        if (self.role == "super_admin") != (self.institution_id is None):
            raise ValueError("super_admin has no institution_id, every other role needs one")
        return self


class UserCreate(Input):
    """A new user."""

    model_config = ConfigDict(json_schema_extra={"example": {"email": "ada@example.org", "full_name": "Ada Lovelace"}})

    email: Email
    full_name: Name
    password: Secret | None = None
    roles: list[RoleGrant] = Field(default_factory=list, max_length=50)


class UserUpdate(Input):
    """What is to change; of themselves a user changes the name only."""

    model_config = ConfigDict(json_schema_extra={"example": {"full_name": "Ada King"}})

    full_name: Name | None = None
    email: Email | None = None
    is_active: bool | None = None


class UserRead(BaseModel):
    """A user."""

    id: UUID
    email: str
    full_name: str
    is_active: bool
    created_at: datetime
    updated_at: datetime


class GrantRead(BaseModel):
    """A role that a user holds."""

    id: UUID
    user_id: UUID
    role: str
    institution_id: UUID | None
    expires_at: datetime | None
    granted_by: UUID | None
    created_at: datetime


class HeldRoleRead(BaseModel):
    """A role that counts for the caller, where it counts, and what gives it."""

    source: str
    kind: str
    object_id: UUID | None
    role: str
    grant_id: UUID | None


class MeRead(UserRead):
    """The caller."""

    roles: list[HeldRoleRead]
    permissions: list[str]
