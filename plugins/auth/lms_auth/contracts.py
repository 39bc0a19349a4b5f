"""What other plugins may ask of auth, and what auth tells them."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict

from lms_core.sdk import Event, UnitOfWork


class TokenPair(BaseModel):
    """The tokens of a session; each refresh gives a new pair."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "access_token": "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCIsImtpZCI6Ij…",
                "refresh_token": "r1.AQGZ8MK2wX0MnV06TFtqf4AAAAAAAAAAB…",
                "token_type": "bearer",
                "expires_in": 600,
            }
        }
    )

    access_token: str
    refresh_token: str
    token_type: str = "bearer"
    expires_in: int


@dataclass(frozen=True)
class StartedSession:
    """A session that begins with this transaction, and the answer with its tokens, as `POST /auth/login` gives it."""

    id: UUID
    answer: Response


class Sessions(ABC):
    """For other ways of signing in than with a password."""

    @abstractmethod
    async def start(self, uow: UnitOfWork, user_id: UUID, request: Request) -> StartedSession:
        """Begin a session of a user who may sign in, which the caller has made sure of."""

    @abstractmethod
    async def end(self, uow: UnitOfWork, session_ids: Collection[UUID]) -> None:
        """Sign out; what has ended stays ended."""


class RefreshTokenReused(Event, name="auth.refresh_token_reused.v1"):
    """A refresh token was used that could only be a stolen or forged copy; its session was ended."""

    session_id: UUID
    user_id: UUID


class PasswordResetRequested(Event, name="auth.password_reset_requested.v1"):
    """Somebody asked to reset a user's password; the token is rebuilt from the id when the mail is written."""

    reset_id: UUID
    user_id: UUID


class InvitationMade(Event, name="auth.invitation_made.v1"):
    """A user is invited to choose a first password; the token is rebuilt from the id when the mail is written."""

    invitation_id: UUID
    user_id: UUID
