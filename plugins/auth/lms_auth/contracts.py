"""What the auth plugin tells other plugins."""

from uuid import UUID

from lms_core.sdk import Event


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
