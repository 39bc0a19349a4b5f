"""The tables of sign-in. None holds a secret: passwords are hashed, tokens and keys are derived outside of it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Index, func, text

from lms_core.sdk import Field, Record


class AuthSession(Record, table=True):
    """A login on a device. `counter` says which refresh token is the newest; no token is stored."""

    __tablename__ = "auth_session"
    __table_args__ = (Index("ix_auth_session_user_id_active", "user_id", postgresql_where=text("revoked_at IS NULL")),)

    user_id: UUID = Field(foreign_key="users_user.id")
    counter: int = Field(default=0, sa_type=BigInteger)
    last_used_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )
    idle_expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    absolute_expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    revoked_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    revoked_reason: str | None = Field(default=None, max_length=20)
    device: str = Field(max_length=300)
    ip: str = Field(max_length=64)


class Credential(Record, table=True):
    """A user's password, hashed."""

    __tablename__ = "auth_credential"

    user_id: UUID = Field(foreign_key="users_user.id", unique=True)
    password_hash: str = Field(max_length=300)
    changed_at: datetime = Field(
        default=None,
        sa_type=DateTime(timezone=True),
        sa_column_kwargs={"server_default": func.now(), "nullable": False},
    )


class SigningKey(Record, table=True):
    """A key of access tokens, derived from the secret and this id.

    It signs while `retires_at` is null, only verifies until that time, and is retired after it.
    """

    __tablename__ = "auth_signing_key"
    __table_args__ = (
        Index(
            "uq_auth_signing_key_signing",
            text("(retires_at IS NULL)"),
            unique=True,
            postgresql_where=text("retires_at IS NULL"),
        ),
    )

    retires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class MailedToken(Record):
    """What a token in a mail stands for; the token is derived from the secret, this id and the user's address."""

    user_id: UUID = Field(foreign_key="users_user.id", index=True)
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    used_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class PasswordReset(MailedToken, table=True):
    """A reset that was asked for."""

    __tablename__ = "auth_password_reset"


class Invitation(MailedToken, table=True):
    """An invitation to choose a first password."""

    __tablename__ = "auth_invitation"
