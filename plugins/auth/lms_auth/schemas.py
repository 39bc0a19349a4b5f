"""What clients send and get about sign-in."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lms_core.sdk import Input

SecretText = Annotated[str, StringConstraints(strip_whitespace=False, max_length=1024)]
"""A password: taken as it is, white space too, and never cut; its own rules are stricter than this limit."""


class LoginForm(BaseModel):
    """The password grant of OAuth2 (RFC 6749 §4.3.2); what else OAuth clients send is accepted and ignored."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"username": "ada@example.org", "password": "a long and winding passphrase"}}
    )

    username: str = Field(max_length=320, description="The e-mail address")
    password: SecretText
    grant_type: Literal["password"] | None = None
    scope: str | None = None
    client_id: str | None = None
    client_secret: str | None = None


class RefreshToken(Input):
    """The refresh token of a session."""

    model_config = ConfigDict(json_schema_extra={"example": {"refresh_token": "r1.AQGZ8MK2wX0MnV06TFtqf4AAAAAAAAAAB…"}})

    refresh_token: str


class SessionRead(BaseModel):
    """A session that has not ended."""

    id: UUID
    device: str
    ip: str
    created_at: datetime
    last_used_at: datetime
    absolute_expires_at: datetime
    current: bool


class PasswordChange(Input):
    """The password as it is, and as it is to be."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"current_password": "the one before this", "new_password": "a long and winding passphrase"}
        }
    )

    current_password: SecretText
    new_password: SecretText


class PasswordResetRequest(Input):
    """Whose password was forgotten."""

    model_config = ConfigDict(json_schema_extra={"example": {"email": "ada@example.org"}})

    email: str = Field(max_length=320)


class PasswordResetConfirm(Input):
    """The token from the mail, and the new password."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"token": "p1.AZnwwrbBfQydXTpMW2p_gA…", "new_password": "a long and winding passphrase"}
        }
    )

    token: str
    new_password: SecretText


class InvitationRequest(Input):
    """Who is to be invited."""

    model_config = ConfigDict(json_schema_extra={"example": {"user_id": "0199f0c2-b6c1-7d0c-9d5c-3a4c5b6a7f80"}})

    user_id: UUID


class InvitationRead(BaseModel):
    """An invitation whose mail is on its way."""

    id: UUID
    user_id: UUID
    created_at: datetime
    expires_at: datetime


class InvitationAccept(Input):
    """The token from the mail, and the first password."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"token": "i1.AZnwwrbBfQydXTpMW2p_gA…", "password": "a long and winding passphrase"}
        }
    )

    token: str
    password: SecretText


class PublicKey(BaseModel):
    """An Ed25519 public key (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class KeySet(BaseModel):
    """The keys that verify access tokens (RFC 7517)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "keys": [
                    {
                        "kty": "OKP",
                        "crv": "Ed25519",
                        "x": "f_SgBXoIy1pexbAyOh6pf1QQP3C89-sMYjzvYYbytVU",
                        "kid": "6h6I08yLRcjw9SfTbNIkLNBnaOIlFx6h8bV6fayL3to",
                        "use": "sig",
                        "alg": "EdDSA",
                    }
                ]
            }
        }
    )

    keys: list[PublicKey]


class Metadata(BaseModel):
    """The issuer of access tokens (RFC 8414). Refreshing is no OAuth2 grant here: `POST /auth/refresh` takes JSON."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "issuer": "https://lms.example.org/auth",
                "token_endpoint": "https://lms.example.org/auth/login",
                "jwks_uri": "https://lms.example.org/auth/.well-known/jwks.json",
                "grant_types_supported": ["password"],
                "response_types_supported": [],
                "token_endpoint_auth_methods_supported": ["none"],
            }
        }
    )

    issuer: str
    token_endpoint: str
    jwks_uri: str
    grant_types_supported: list[str]
    response_types_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
