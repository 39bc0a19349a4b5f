"""What clients send and get about single sign-on."""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from lms_core.sdk import Input

Role = Literal["student", "teacher"]
Secret = Annotated[str, StringConstraints(strip_whitespace=False, min_length=1, max_length=1024)]
Challenge = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
ClaimPath = Annotated[str, StringConstraints(pattern=r"^[^.\s]+(\.[^.\s]+)*$", max_length=200)]
ID = "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"


def valid_issuer(issuer: str) -> str:
    """An address without query, fragment and user (OpenID Connect Discovery 1.0 §3)."""
    parts = urlsplit(issuer)
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("is no address of a provider such as https://login.example.org")
    return issuer


def valid_domain(domain: str) -> str:
    """In the form in which domains are compared: lower case, as DNS has it."""
    try:
        found = domain.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        found = ""
    if "." not in found or not all(part and part.strip("-").replace("-", "").isalnum() for part in found.split(".")):
        raise ValueError("is no domain such as example.org")
    return found


def valid_scope(scope: str) -> str:
    """Asks for an identity at all."""
    if "openid" not in scope.split():
        raise ValueError("must contain openid")
    return " ".join(scope.split())


Issuer = Annotated[str, StringConstraints(max_length=500), AfterValidator(valid_issuer)]
DomainName = Annotated[str, StringConstraints(max_length=253), AfterValidator(valid_domain)]
Scope = Annotated[str, StringConstraints(max_length=300), AfterValidator(valid_scope)]


class RoleRule(Input):
    """Whoever has the claim (`realm_access.roles` looks inside) with this value, or this among its values, is that."""

    claim: ClaimPath
    value: str = Field(max_length=300)
    role: Role


class ProviderCreate(Input):
    """A provider that an institution trusts."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "institution_id": ID,
                "name": "School account",
                "issuer": "https://login.example.org/realms/school",
                "client_id": "lms",
                "client_secret": "as the provider shows it",
                "role_rules": [{"claim": "groups", "value": "staff", "role": "teacher"}],
                "default_role": "student",
            }
        }
    )

    institution_id: UUID
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    issuer: Issuer
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    client_secret: Secret | None = Field(default=None, description="None for a public client; never shown again")
    scope: Scope = "openid email profile"
    role_rules: list[RoleRule] = Field(default_factory=list, max_length=50)
    default_role: Role | None = Field(default=None, description="When no rule fits; without one they get no account")
    creates_users: bool = Field(default=True, description="Whether who is new gets an account at the first sign-in")
    trusts_emails: bool = Field(
        default=False, description="Take addresses as verified though the provider does not say so; for super admins"
    )
    is_enabled: bool = True


class ProviderUpdate(Input):
    """What is to change; the issuer stays, since people's identities are the issuer's."""

    model_config = ConfigDict(json_schema_extra={"example": {"default_role": "student"}})

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    client_secret: Secret | None = None
    scope: Scope | None = None
    role_rules: list[RoleRule] | None = Field(default=None, max_length=50)
    default_role: Role | None = None
    creates_users: bool | None = None
    trusts_emails: bool | None = None
    is_enabled: bool | None = None


class ProviderRead(BaseModel):
    """A provider, without its client's secret."""

    id: UUID
    institution_id: UUID
    name: str
    issuer: str
    client_id: str
    scope: str
    role_rules: list[dict[str, Any]]
    default_role: str | None
    creates_users: bool
    trusts_emails: bool
    is_enabled: bool
    created_at: datetime
    updated_at: datetime


class DomainClaim(Input):
    """A domain of e-mail addresses, and whose it is."""

    model_config = ConfigDict(json_schema_extra={"example": {"institution_id": ID, "domain": "school.example.org"}})

    institution_id: UUID
    domain: DomainName


class DomainRead(BaseModel):
    """A claimed domain; it counts at the institution and below."""

    id: UUID
    institution_id: UUID
    domain: str
    created_at: datetime
    updated_at: datetime


class OptionRead(BaseModel):
    """A button on the sign-in page: `GET /sso/providers/{id}/start`."""

    id: UUID
    name: str


class CodeRead(BaseModel):
    """What the callback answers when nobody asked to be sent back."""

    code: str


class CodeExchange(Input):
    """The code from the callback, and the verifier whose challenge the sign-in began with (RFC 7636)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "c1.AZnwwrbBfQydXTpMW2p_gA…",
                "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            }
        }
    )

    code: str = Field(max_length=200)
    code_verifier: str = Field(min_length=43, max_length=128)


class SignOutRead(BaseModel):
    """Where the browser should go to be signed out at the provider too; null when there is nothing to do there."""

    url: str | None


class LogoutForm(BaseModel):
    """OpenID Connect Back-Channel Logout 1.0 §2.5."""

    logout_token: str = Field(max_length=20_000)
