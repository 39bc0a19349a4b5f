"""Sign-ins under way: from the browser that begins one to the front end that gets the tokens.

Everything that travels is derived from the attempt's id with a key of its own, so that the database can give none of it
away: `state` and the cookie (a browser cannot be made to finish somebody else's sign-in: RFC 9700 §4.7), `nonce`, the
verifier for the provider (RFC 7636), and the code with which the front end fetches the tokens.
"""

from __future__ import annotations

import base64
import hmac
from datetime import timedelta
from uuid import UUID

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from sqlalchemy import delete, func, insert, update
from sqlmodel import col

from lms_core.sdk import Context, Problem, UnitOfWork, new_id
from lms_sso.models import Attempt
from lms_sso.settings import SsoSettings

STATE, CODE = "s1.", "c1."


def text(content: bytes) -> str:
    """URL-safe."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def derived(context: Context, what: str, id: UUID) -> str:
    """The `what` of an attempt."""
    return text(hmac.digest(context.platform.derived_key(f"sso.{what}"), id.bytes, "sha256"))


def sealed(context: Context, prefix: str, id: UUID) -> str:
    """An attempt's id that nobody else can write."""
    return prefix + text(id.bytes) + derived(context, prefix, id)


def open_sealed(context: Context, prefix: str, given: str) -> UUID | None:
    """The id in a state or a code; None when it is not one of ours."""
    try:
        id = UUID(bytes=base64.urlsafe_b64decode(given.removeprefix(prefix)[:22] + "=="))
    except ValueError:
        return None
    return id if hmac.compare_digest(sealed(context, prefix, id).encode(), given.encode()) else None


async def begin(uow: UnitOfWork, provider_id: UUID, return_to: str | None, code_challenge: str) -> UUID:
    """A new attempt, with some minutes at the provider."""
    id, life = new_id(), timedelta(minutes=uow.settings(SsoSettings).attempt_minutes)
    values = {"id": id, "provider_id": provider_id, "return_to": return_to, "code_challenge": code_challenge}
    await uow.session.execute(insert(Attempt).values(**values, expires_at=func.now() + life))
    return id


async def use(context: Context, id: UUID) -> Attempt:
    """The attempt, which is used up with this, whatever comes next. Raises Problem when it was, or is too old."""
    statement = (
        update(Attempt)
        .where(col(Attempt.id) == id, col(Attempt.used_at).is_(None), col(Attempt.expires_at) > func.now())
        .values(used_at=func.now())
        .returning(Attempt)
    )
    async with context.unit_of_work() as uow:
        found = (await uow.session.execute(statement)).scalar_one_or_none()
        if found is not None:
            uow.session.expunge(found)
    if found is None:
        raise Problem(400, "sign_in_over", "This sign-in is over, or took too long; begin again.")
    return found


async def finish(uow: UnitOfWork, id: UUID, identity_id: UUID, provider_session: str | None) -> str:
    """The attempt has found who it is; the code for the tokens."""
    life = timedelta(seconds=uow.settings(SsoSettings).code_seconds)
    statement = update(Attempt).where(col(Attempt.id) == id)
    values = {"identity_id": identity_id, "provider_session": provider_session, "code_expires_at": func.now() + life}
    await uow.session.execute(statement.values(**values))
    return sealed(uow.context, CODE, id)


async def exchange(uow: UnitOfWork, code: str, verifier: str) -> Attempt:
    """The attempt behind a code, once. Raises Problem; a wrong verifier uses the code up."""
    id = open_sealed(uow.context, CODE, code)
    statement = (
        update(Attempt)
        .where(
            col(Attempt.id) == id,
            col(Attempt.code_expires_at) > func.now(),
            col(Attempt.exchanged_at).is_(None),
        )
        .values(exchanged_at=func.now())
        .returning(Attempt)
    )
    found = None if id is None else (await uow.session.execute(statement)).scalar_one_or_none()
    if found is None:
        raise bad_code()
    if not hmac.compare_digest(create_s256_code_challenge(verifier).encode(), found.code_challenge.encode()):
        raise bad_code().keeping_writes()
    return found


def bad_code() -> Problem:
    """400: forged, used, too old, or somebody else's."""
    return Problem(400, "invalid_code", "This code is not valid, or not any more; begin the sign-in again.")


async def forget_old(uow: UnitOfWork) -> None:
    """Remove what was over a day ago; runs on a schedule."""
    await uow.session.execute(delete(Attempt).where(col(Attempt.expires_at) < func.now() - timedelta(days=1)))
