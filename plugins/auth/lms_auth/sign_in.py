"""Signing in, staying signed in, and signing out."""

from uuid import UUID

from fastapi import Response
from lms_users.contracts import USER, UserDirectory
from prometheus_client import Counter
from sqlalchemy import func, select, update
from sqlmodel import col

from lms_auth import credentials, refresh_tokens, sessions
from lms_auth.contracts import RefreshTokenReused
from lms_auth.devices import Device
from lms_auth.models import AuthSession, Credential
from lms_auth.passwords import Hasher
from lms_auth.schemas import LoginForm
from lms_auth.settings import AuthSettings
from lms_auth.throttle import Guess, Throttle
from lms_core.sdk import Problem, Unauthenticated, UnitOfWork

SIGN_INS = Counter("lms_auth_sign_ins_total", "Sign-ins by password, by outcome", ["outcome"])
REFRESHES = Counter("lms_auth_refreshes_total", "Refreshes of sessions, by outcome", ["outcome"])


async def login(uow: UnitOfWork, form: LoginForm, device: Device) -> Response:
    """A new session for the right password; for everything else the same 401 in the same time."""
    context, hasher = uow.context, uow.use(Hasher)
    person = await credentials.find_person(context, form.username)
    stored = await credentials.stored_password(context, None if person is None else person.id)
    guess = Guess(form.username if person is None else str(person.id), device.ip)
    if person is not None and not person.is_active:
        stored = None
    if not await credentials.is_right(context, form.password, stored, guess) or person is None or stored is None:
        await uow.use(Throttle).count_wrong(context, guess)
        raise wrong()
    newer_hash = await hasher.hash(context, form.password) if hasher.is_outdated(stored.password_hash) else None
    if not await credentials.hold_unchanged(uow, person.id, stored):
        raise wrong()
    if newer_hash is not None:
        await uow.session.execute(
            update(Credential).where(col(Credential.user_id) == person.id).values(password_hash=newer_hash)
        )
    answer = (await sessions.start(uow, person.id, device)).answer
    SIGN_INS.labels("signed in").inc()
    return answer


def wrong() -> Problem:
    """The one answer to a login that fails, whatever the reason."""
    SIGN_INS.labels("refused").inc()
    return Unauthenticated("The e-mail address or the password is not right.")


async def refresh(uow: UnitOfWork, token: str) -> Response:
    """The next pair of tokens, by the rules in the README."""
    presented = refresh_tokens.open_token(uow.context, token)
    if presented is None:
        raise not_valid()
    user_id = await rotate(uow, presented)
    counter = presented.counter + 1
    if user_id is None:
        user_id = await answer_lost_race(uow, presented)
    if not await uow.use(UserDirectory).may_sign_in(uow, user_id):
        await sessions.end(uow, presented.session_id, "disabled")
        raise not_valid().keeping_writes()
    REFRESHES.labels("refreshed").inc()
    return await sessions.answer_with_tokens(uow.context, user_id, presented.session_id, counter)


async def rotate(uow: UnitOfWork, presented: refresh_tokens.Presented) -> UUID | None:
    """Raise the counter if the token is the newest of an active session; of many that try, one succeeds."""
    settings = uow.settings(AuthSettings)
    statement = (
        update(AuthSession)
        .where(
            col(AuthSession.id) == presented.session_id,
            col(AuthSession.counter) == presented.counter,
            sessions.ACTIVE,
        )
        .values(
            counter=col(AuthSession.counter) + 1,
            last_used_at=func.now(),
            idle_expires_at=func.now() + settings.idle_life,
        )
        .returning(col(AuthSession.user_id))
    )
    return (await uow.session.execute(statement)).scalar_one_or_none()


async def answer_lost_race(uow: UnitOfWork, presented: refresh_tokens.Presented) -> UUID:
    """Whose session it is, when the token was the newest a moment ago; otherwise end the session and raise."""
    grace = uow.settings(AuthSettings).refresh_grace
    found = (
        await uow.session.execute(
            select(
                col(AuthSession.user_id),
                col(AuthSession.counter),
                col(AuthSession.revoked_at).is_not(None).label("is_revoked"),
                (col(AuthSession.absolute_expires_at) <= func.now()).label("is_over"),
                (col(AuthSession.idle_expires_at) <= func.now()).label("is_idle"),
                (col(AuthSession.last_used_at) > func.now() - grace).label("within_grace"),
            ).where(col(AuthSession.id) == presented.session_id)
        )
    ).first()
    if found is None or found.is_revoked:
        raise not_valid()
    if found.is_over or found.is_idle:
        await sessions.end(uow, presented.session_id, "absolute" if found.is_over else "idle")
    elif presented.counter == found.counter - 1 and found.within_grace:
        return UUID(str(found.user_id))
    elif await sessions.end(uow, presented.session_id, "reuse"):
        uow.record("refresh_token_reused", USER, found.user_id)
        uow.emit(RefreshTokenReused(session_id=presented.session_id, user_id=found.user_id))
    raise not_valid().keeping_writes()


def not_valid() -> Problem:
    """401 for a refresh token."""
    REFRESHES.labels("refused").inc()
    return Unauthenticated("The refresh token is not valid, or not any more; sign in again.")


async def logout(uow: UnitOfWork, token: str) -> None:
    """End the session of a genuine token; say nothing about any other."""
    presented = refresh_tokens.open_token(uow.context, token)
    if presented is not None:
        await sessions.end(uow, presented.session_id, "logout")
