"""The tables of single sign-on. State, nonce, verifier, cookie and code are derived from an attempt's id, not stored."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, ForeignKey, String, UniqueConstraint, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from lms_core.sdk import Field, Record, Table

ONE_SUBJECT = "uq_sso_identity_user"


class Provider(Table, table=True):
    """An OpenID Connect provider that an institution trusts; the client's secret is encrypted."""

    __tablename__ = "sso_provider"
    label_column = "name"
    natural_key = ("institution_id", "name")
    restore_permission = "sso.configure"
    secret_columns = ("client_secret",)

    institution_id: UUID = Field(foreign_key="institutions_institution.id")
    name: str = Field(max_length=100)
    issuer: str = Field(max_length=500)
    client_id: str = Field(max_length=500)
    client_secret: str | None = None
    scope: str = Field(max_length=300)
    role_rules: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSONB)
    default_role: str | None = Field(default=None, max_length=40)
    creates_users: bool = True
    trusts_emails: bool = False
    is_enabled: bool = True


class Domain(Table, table=True):
    """A domain of e-mail addresses that is an institution's own, as a super admin has made sure."""

    __tablename__ = "sso_domain"
    label_column = "domain"
    natural_key = ("domain",)
    restore_permission = "sso.claim_domains"

    institution_id: UUID = Field(foreign_key="institutions_institution.id")
    domain: str = Field(max_length=253)


class LinkedIdentity(Record, table=True):
    """Who a provider's subject is here, from the first sign-in on."""

    __tablename__ = "sso_identity"
    __table_args__ = (
        UniqueConstraint("provider_id", "subject", name="uq_sso_identity_subject"),
        UniqueConstraint("provider_id", "user_id", name=ONE_SUBJECT),
    )

    provider_id: UUID = Field(foreign_key="sso_provider.id")
    subject: str = Field(max_length=255)
    user_id: UUID = Field(foreign_key="users_user.id", index=True)
    last_sign_in_at: datetime = Field(sa_type=DateTime(timezone=True))


class Attempt(Record, table=True):
    """A sign-in under way: begun, `used_at` when the provider sent the browser back, then a code, exchanged once."""

    __tablename__ = "sso_attempt"

    provider_id: UUID = Field(foreign_key="sso_provider.id")
    return_to: str | None = None
    code_challenge: str = Field(max_length=43)
    expires_at: datetime = Field(sa_type=DateTime(timezone=True))
    used_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    identity_id: UUID | None = None
    provider_session: str | None = Field(default=None, max_length=255)
    code_expires_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    exchanged_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


class SsoSession(Record, table=True):
    """Which sessions began at a provider, so that signing out there ends them here; goes with the session."""

    __tablename__ = "sso_session"

    session_id: UUID = Field(
        sa_column=Column(Uuid(), ForeignKey("auth_session.id", ondelete="CASCADE"), nullable=False, unique=True)
    )
    identity_id: UUID = Field(foreign_key="sso_identity.id", index=True)
    provider_session: str | None = Field(default=None, sa_column=Column(String(255)))
