"""Sessions: one row for each login on a device, from its start to its end, which is final."""

from collections.abc import Collection
from datetime import timedelta
from typing import Literal
from uuid import UUID

from fastapi import Request, Response
from sqlalchemy import Uuid, and_, bindparam, delete, func, insert, update
from sqlmodel import col

from lms_auth import refresh_tokens
from lms_auth.access_tokens import AccessTokens
from lms_auth.contracts import Sessions, StartedSession, TokenPair
from lms_auth.devices import Device, device_of
from lms_auth.models import AuthSession, PasswordReset
from lms_auth.schemas import SessionRead
from lms_auth.settings import AuthSettings
from lms_core.sdk import ACTOR_ID, Context, Filter, JsonBytes, Listing, NotFound, UnitOfWork, new_id

Reason = Literal["logout", "reuse", "password", "disabled", "deleted", "idle", "absolute", "restored"]
KEPT = timedelta(days=30)

ACTIVE = and_(
    col(AuthSession.revoked_at).is_(None),
    col(AuthSession.idle_expires_at) > func.now(),
    col(AuthSession.absolute_expires_at) > func.now(),
)


def own(uow: UnitOfWork) -> Filter:
    """The caller's sessions."""
    values = {"actor_id": uow.actor_id, "current_session_id": uow.access.session_id}
    return Filter("own", values, lambda session: session.user_id == ACTOR_ID)


SESSIONS = Listing(
    AuthSession,
    SessionRead,
    columns={
        "current": func.coalesce(col(AuthSession.id) == bindparam("current_session_id", type_=Uuid()), False),
    },
    where=ACTIVE,
    readable=own,
)


async def start(uow: UnitOfWork, user_id: UUID, device: Device) -> StartedSession:
    """Begin a session, and hand out its first tokens."""
    settings, id = uow.settings(AuthSettings), new_id()
    await uow.session.execute(
        insert(AuthSession).values(
            id=id,
            user_id=user_id,
            counter=0,
            idle_expires_at=func.now() + settings.idle_life,
            absolute_expires_at=func.now() + settings.absolute_life,
            device=device.name,
            ip=device.ip,
        )
    )
    return StartedSession(id, await answer_with_tokens(uow.context, user_id, id, 0))


async def answer_with_tokens(context: Context, user_id: UUID, session_id: UUID, counter: int) -> Response:
    """A new access token, and the refresh token at this counter; not to be stored by anything in between."""
    pair = TokenPair(
        access_token=await context.platform.service(AccessTokens).sign(context, user_id, session_id),
        refresh_token=refresh_tokens.derive(context, session_id, counter),
        expires_in=int(context.platform.plugin_settings(AuthSettings).access_token_life.total_seconds()),
    )
    return JsonBytes(pair.model_dump(), headers={"Cache-Control": "no-store", "Pragma": "no-cache"})


async def end(uow: UnitOfWork, session_id: UUID, reason: Reason, user_id: UUID | None = None) -> bool:
    """End a session (of this user, if given); False when it had ended before."""
    statement = (
        update(AuthSession)
        .where(col(AuthSession.id) == session_id, col(AuthSession.revoked_at).is_(None))
        .values(revoked_at=func.now(), revoked_reason=reason)
        .returning(col(AuthSession.id))
    )
    if user_id is not None:
        statement = statement.where(col(AuthSession.user_id) == user_id, ACTIVE)
    ended = (await uow.session.execute(statement)).first() is not None
    if ended:
        uow.announce(f"session:{session_id}")
    return ended


async def end_all(uow: UnitOfWork, user_id: UUID, reason: Reason, keep: UUID | None = None) -> None:
    """End every session of a user, but the one to keep."""
    await uow.session.execute(
        update(AuthSession)
        .where(
            col(AuthSession.user_id) == user_id,
            col(AuthSession.revoked_at).is_(None),
            col(AuthSession.id).is_distinct_from(keep),
        )
        .values(revoked_at=func.now(), revoked_reason=reason)
    )
    uow.announce(f"user:{user_id}")


async def end_own(uow: UnitOfWork, session_id: UUID) -> None:
    """End one of the caller's sessions."""
    if not await end(uow, session_id, "logout", uow.actor_id):
        raise NotFound("session", session_id)


async def forget_old(uow: UnitOfWork) -> None:
    """Remove sessions that ended a month ago; runs on a schedule."""
    ended = func.coalesce(col(AuthSession.revoked_at), col(AuthSession.absolute_expires_at))
    await uow.session.execute(delete(AuthSession).where(ended < func.now() - KEPT))


async def end_every(uow: UnitOfWork) -> None:
    """After a backup was restored: what was ended, used or changed since it was made must not work again."""
    ended = update(AuthSession).where(col(AuthSession.revoked_at).is_(None))
    await uow.session.execute(ended.values(revoked_at=func.now(), revoked_reason="restored"))
    await uow.session.execute(delete(PasswordReset))


class SignIns(Sessions):
    """Sessions for other plugins."""

    async def start(self, uow: UnitOfWork, user_id: UUID, request: Request) -> StartedSession:
        """As after a right password."""
        return await start(uow, user_id, device_of(request))

    async def end(self, uow: UnitOfWork, session_ids: Collection[UUID]) -> None:
        """One by one: they are few."""
        for session_id in session_ids:
            await end(uow, session_id, "logout")
