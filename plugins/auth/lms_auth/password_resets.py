"""Forgotten passwords: a request, a mail with a token, and a new password.

The token is derived from the id of the reset, so that the handler that writes the mail can rebuild it; neither the
event nor any table holds it.
"""

import asyncio
import base64
import hmac
import time
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from uuid import UUID

from lms_users.contracts import Person, UserDirectory
from sqlalchemy import Uuid, bindparam, func, insert
from sqlmodel import col, select

from lms_auth import credentials
from lms_auth.contracts import PasswordResetRequested
from lms_auth.models import PasswordReset
from lms_auth.password_rules import refuse_weak
from lms_auth.passwords import Hasher
from lms_auth.schemas import PasswordResetConfirm
from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, Invalid, Read, UnitOfWork, new_id

PREFIX = "p1."
ANSWER_SECONDS = 0.3
RESETS_PER_HOUR = 5
OPEN_RESET = Read(
    select(PasswordReset.user_id).where(
        PasswordReset.id == bindparam("reset_id", type_=Uuid()),
        col(PasswordReset.used_at).is_(None),
        col(PasswordReset.expires_at) > func.now(),
    )
)
"""A reset that can still be confirmed."""


def derive(context: Context, reset_id: UUID) -> str:
    """The token of a reset."""
    seal = hmac.digest(context.platform.derived_key("auth.password_reset"), reset_id.bytes, "sha256")
    return PREFIX + base64.urlsafe_b64encode(reset_id.bytes + seal).decode()


def open_token(context: Context, token: str) -> UUID | None:
    """Which reset a token is for, or None when it is not one of ours."""
    try:
        reset_id = UUID(bytes=base64.urlsafe_b64decode(token.removeprefix(PREFIX))[:16])
    except ValueError:
        return None
    return reset_id if hmac.compare_digest(derive(context, reset_id).encode(), token.encode()) else None


async def request(uow: UnitOfWork, email: str) -> None:
    """Begin a reset if somebody has the address; takes the same time if not."""
    answer_at = time.monotonic() + ANSWER_SECONDS
    # Its own transaction, so that writing it counts into the time as well.
    async with uow.context.unit_of_work(request_id=uow.request_id) as work:
        person = await work.use(UserDirectory).find_by_email(work, email)
        if person is not None and person.is_active:
            await begin(work, person)
    await asyncio.sleep(max(0.0, answer_at - time.monotonic()))


async def begin(uow: UnitOfWork, person: Person) -> None:
    """Note the reset, and have the mail written, unless the user got several within the hour."""
    lately = select(func.count(col(PasswordReset.id))).where(
        PasswordReset.user_id == person.id,
        col(PasswordReset.created_at) > func.now() - func.make_interval(0, 0, 0, 0, 1),
    )
    if (await uow.session.execute(lately)).scalar_one() >= RESETS_PER_HOUR:
        return
    id = new_id()
    life = uow.settings(AuthSettings).reset_life
    await uow.session.execute(insert(PasswordReset).values(id=id, user_id=person.id, expires_at=func.now() + life))
    uow.emit(PasswordResetRequested(reset_id=id, user_id=person.id))


async def confirm(uow: UnitOfWork, data: PasswordResetConfirm) -> None:
    """Set the new password, once for each token; ends all sessions of the user."""
    context = uow.context
    reset_id = open_token(context, data.token)
    row = None if reset_id is None else await OPEN_RESET.one(context.database, reset_id=reset_id)
    if row is None:
        raise unusable()
    async with context.unit_of_work() as reading:
        person = await reading.use(UserDirectory).find(reading, row["user_id"])
        institutions_ask = await credentials.length_asked_of(reading, row["user_id"])
    if person is None or not person.is_active:
        raise unusable()
    refuse_weak(uow.settings(AuthSettings), data.new_password, person.email, ("body", "new_password"), institutions_ask)
    password_hash = await uow.use(Hasher).hash(context, data.new_password)
    if reset_id not in await credentials.replace_password(uow, person.id, password_hash):
        raise unusable()


def unusable() -> Invalid:
    """422: forged, expired or used, which the answer does not tell apart."""
    return Invalid(
        "invalid_reset_token", "This token is not valid, or not any more; ask for a new one.", ("body", "token")
    )


async def write_mail(context: Context, event: PasswordResetRequested) -> None:
    """The mail as a file in the data folder, where it waits for whoever sends it; again → the same file."""
    async with context.unit_of_work() as uow:
        person = await uow.use(UserDirectory).find(uow, event.user_id)
    if person is None or await OPEN_RESET.one(context.database, reset_id=event.reset_id) is None:
        return
    message = EmailMessage(policy=SMTPUTF8)
    message["To"] = person.email
    message["Subject"] = "Your new password"
    minutes = context.platform.plugin_settings(AuthSettings).password_reset_minutes
    message.set_content(
        f"Hello {person.full_name},\n\n"
        f"somebody, probably you, asked for a new password. If it was not you, do nothing.\n"
        f"Otherwise enter this code within {minutes} minutes:\n\n{derive(context, event.reset_id)}\n"
    )
    await asyncio.to_thread(store, Path(context.settings.data) / "mails" / f"{event.reset_id}.eml", message.as_bytes())


def store(path: Path, content: bytes) -> None:
    """Write a file that only this user may read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(content)
    unfinished.replace(path)
