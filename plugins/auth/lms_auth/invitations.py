"""Invitations: a mail with which a new user chooses their first password."""

from uuid import UUID

from fastapi import Response
from lms_users.contracts import USER, UserDirectory, UserInvited
from sqlalchemy import func, update
from sqlmodel import col, select

from lms_auth import credentials, mailed_tokens
from lms_auth.contracts import InvitationMade
from lms_auth.mailed_tokens import INVITATION
from lms_auth.models import Invitation
from lms_auth.schemas import InvitationAccept, InvitationRead
from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, JsonBytes, NotFound, Problem, StateConflict, UnitOfWork, send_mail

INVITATIONS_PER_HOUR = 5


async def invite(uow: UnitOfWork, user_id: UUID) -> Response:
    """Invite a user again, or for the first time; their earlier invitations end."""
    await uow.hold(USER, user_id)
    person = await uow.use(UserDirectory).find(uow, user_id)
    if person is None:
        raise NotFound(USER, user_id)
    if not person.is_active:
        raise StateConflict("user_disabled", "This user is disabled; let them in again before you invite them.")
    if await credentials.stored_password(uow.context, user_id) is not None:
        raise StateConflict(
            "password_set", "This user has a password already; who forgot it asks at POST /auth/password-reset."
        )
    id = await begin(uow, user_id)
    if id is None:
        raise Problem(
            429,
            "too_many_invitations",
            f"This user got {INVITATIONS_PER_HOUR} invitations within an hour; wait before you send another one.",
            {"Retry-After": "3600"},
        )
    row = (await uow.session.execute(select(Invitation).where(Invitation.id == id))).scalar_one()
    return JsonBytes(InvitationRead.model_validate(row, from_attributes=True).model_dump(), 202)


async def begin(uow: UnitOfWork, user_id: UUID) -> UUID | None:
    """End the user's earlier invitations, note a new one, and have its mail written; None when it would be too many."""
    id = await mailed_tokens.begin(
        uow, INVITATION, user_id, uow.settings(AuthSettings).invitation_life, INVITATIONS_PER_HOUR
    )
    if id is None:
        return None
    earlier = update(Invitation).where(
        col(Invitation.user_id) == user_id, col(Invitation.used_at).is_(None), col(Invitation.id) != id
    )
    await uow.session.execute(earlier.values(used_at=func.now()))
    uow.record("invited", USER, user_id)
    uow.emit(InvitationMade(invitation_id=id, user_id=user_id))
    return id


async def begin_for_new(uow: UnitOfWork, event: UserInvited) -> None:
    """A user was added who is to be invited."""
    await begin(uow, event.user_id)


async def accept(uow: UnitOfWork, data: InvitationAccept) -> None:
    """Set the first password, once."""
    await mailed_tokens.set_password(uow, INVITATION, data.token, data.password, "password")


async def send(context: Context, event: InvitationMade) -> None:
    """The mail, while the invitation can be accepted."""
    found = await mailed_tokens.to_be_sent(context, INVITATION, event.invitation_id)
    if found is None:
        return
    person, token = found
    settings = context.platform.plugin_settings(AuthSettings)
    await send_mail(
        context,
        f"invitation-{event.invitation_id}",
        person.email,
        "Your account is ready",
        f"Hello {person.full_name},\n\n"
        f"there is an account for you, {person.email}, at {context.settings.public_url}.\n"
        f"To choose your password, {settings.way_in(settings.invitation_link, token)}\n\n"
        f"It works once, and for {settings.invitation_days} days.\n",
    )
