"""What clients send and get about users and roles."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, StringConstraints, model_validator

from lms_core.sdk import Field, Input, Instant, Name
from lms_users.emails import valid_email

RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
# Spaces around a password are part of it.
Secret = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=1024)]
Email = Annotated[str, StringConstraints(max_length=320), AfterValidator(valid_email)]


class RoleGrant(Input):
    """A role to be granted; a super admin's has no institution, every other has one."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"role": "teacher", "institution_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"}}
    )

    role: RoleName = Field(description="student, teacher, principal, super_admin, or a role of the institution's own")
    institution_id: UUID | None = None
    expires_at: Instant | None = None

    @model_validator(mode="after")
    def institution_fits_role(self) -> Self:
        """Only a super admin's role counts everywhere."""
        if (self.role == "super_admin") != (self.institution_id is None):
            raise ValueError("super_admin has no institution_id, every other role needs one")
        return self


class RoleCreate(Input):
    """A role of an institution's own."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "institution_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
                "name": "registrar",
                "permissions": ["users.read", "users.create", "enrollments.create"],
            }
        }
    )

    institution_id: UUID
    name: RoleName
    summary: str = Field(default="", max_length=300)
    permissions: list[str] = Field(min_length=1, max_length=200)


class RoleUpdate(Input):
    """What is to change, for all who hold it."""

    model_config = ConfigDict(json_schema_extra={"example": {"permissions": ["users.read"]}})

    summary: str | None = Field(default=None, max_length=300)
    permissions: list[str] | None = Field(default=None, min_length=1, max_length=200)


class RoleRead(BaseModel):
    """A role of an institution's own, which can be given there and below."""

    id: UUID
    institution_id: UUID
    name: str
    summary: str
    permissions: list[str]
    created_at: datetime
    updated_at: datetime


class GuardianAdd(Input):
    """Who is to be the guardian."""

    model_config = ConfigDict(json_schema_extra={"example": {"guardian_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"}})

    guardian_id: UUID


class GuardianshipRead(BaseModel):
    """A link between a guardian and a student."""

    id: UUID
    student_id: UUID
    guardian_id: UUID
    created_at: datetime
    updated_at: datetime


class UserCreate(Input):
    """A new user."""

    model_config = ConfigDict(json_schema_extra={"example": {"email": "ada@example.org", "full_name": "Ada Lovelace"}})

    email: Email
    full_name: Name
    password: Secret | None = None
    invite: bool = Field(default=False, description="Send a mail with which the user chooses a password")
    roles: list[RoleGrant] = Field(default_factory=list, max_length=50)
    guardian_of: list[UUID] = Field(default_factory=list, max_length=20, description="Students whose guardian this is")

    @model_validator(mode="after")
    def one_way_to_a_password(self) -> Self:
        """Who is invited chooses the password."""
        if self.invite and self.password is not None:
            raise ValueError("give a password, or invite the user to choose one")
        return self


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


class ObjectRead(BaseModel):
    """One object."""

    kind: str
    id: UUID


class PermissionRead(BaseModel):
    """One permission: through which roles it is given, or what is missing."""

    permission: str
    allowed: bool
    through: list[HeldRoleRead]
    missing: str | None


class PermissionsRead(BaseModel):
    """What a user may do with one object. `readable` includes what is one's own."""

    user_id: UUID
    on: ObjectRead
    readable: bool
    permissions: list[PermissionRead]


class PermittedUser(BaseModel):
    """A user who may do it."""

    id: UUID
    full_name: str
    email: str


class UserImport(Input):
    """A CSV file that was uploaded, and what is to be done with it.

    `sync`: the file is everybody, and who is not in it any more is disabled. `merge`: it is some of them.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "file_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f81",
                "institution_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80",
                "mode": "merge",
                "invite": True,
            }
        }
    )

    file_id: UUID
    institution_id: UUID | None = Field(default=None, description="Needed by who may import at several")
    mode: Literal["merge", "sync"] = "merge"
    override_edited: bool = Field(default=False, description="Change also what people changed by hand")
    invite: bool = Field(default=False, description="Send new users a mail with which they choose a password")
    max_disabled: StrictInt | None = Field(
        default=None, ge=0, le=1_000_000, description="How many may be disabled; 5 or a tenth of them when left out"
    )
