"""Tokens that go out by mail and let somebody set a password, once.

A token is derived from the id of its row and the address to which it was sent, so that the handler that writes the mail
can rebuild it: neither the event nor any table holds it. When the user's address changes it is void.
"""

import base64
import hmac
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from lms_users.contracts import USER, Person, UserDirectory
from sqlalchemy import Uuid, bindparam, func, insert
from sqlmodel import col, select

from lms_auth import credentials
from lms_auth.models import Invitation, PasswordReset
from lms_auth.password_rules import refuse_weak
from lms_auth.passwords import Hasher
from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, Invalid, NotFound, Read, UnitOfWork, new_id


@dataclass(frozen=True)
class Purpose:
    """What a token is for. `name` is that of its derived key, `refusal` the code of the answer to a useless one."""

    name: str
    prefix: str
    model: type[PasswordReset] | type[Invitation]
    open: Read
    refusal: str

    @classmethod
    def of(cls, name: str, prefix: str, model: type[PasswordReset] | type[Invitation], refusal: str) -> "Purpose":
        """With the read of a row that can still be used."""
        usable = select(model.user_id).where(
            model.id == bindparam("id", type_=Uuid()),
            col(model.used_at).is_(None),
            col(model.expires_at) > func.now(),
        )
        return cls(name, prefix, model, Read(usable), refusal)


RESET = Purpose.of("auth.password_reset", "p1.", PasswordReset, "invalid_reset_token")
INVITATION = Purpose.of("auth.invitation", "i1.", Invitation, "invalid_invitation")


async def begin(uow: UnitOfWork, purpose: Purpose, user_id: UUID, life: timedelta, per_hour: int) -> UUID | None:
    """Note that a token goes out, and return its id; None when the user got `per_hour` within the hour already."""
    model = purpose.model
    lately = select(func.count(col(model.id))).where(
        model.user_id == user_id,
        col(model.created_at) > func.now() - func.make_interval(0, 0, 0, 0, 1),
    )
    if (await uow.session.execute(lately)).scalar_one() >= per_hour:
        return None
    id = new_id()
    await uow.session.execute(insert(model).values(id=id, user_id=user_id, expires_at=func.now() + life))
    return id


def derive(context: Context, purpose: Purpose, id: UUID, email: str) -> str:
    """The token of a row, for the address to which it goes."""
    seal = hmac.digest(context.platform.derived_key(purpose.name), id.bytes + email.encode(), "sha256")
    return purpose.prefix + base64.urlsafe_b64encode(id.bytes + seal).decode()


async def to_be_sent(context: Context, purpose: Purpose, id: UUID) -> tuple[Person, str] | None:
    """To whom a token goes, and the token; None when it is of no use any more."""
    row = await purpose.open.one(context.database, id=id)
    if row is None:
        return None
    async with context.unit_of_work() as uow:
        person = await uow.use(UserDirectory).find(uow, row["user_id"])
    if person is None or not person.is_active:
        return None
    return person, derive(context, purpose, id, person.email)


async def find(context: Context, purpose: Purpose, token: str) -> tuple[UUID, Person] | None:
    """The row and the user that a token stands for; None when it is forged, used, expired or void."""
    try:
        id = UUID(bytes=base64.urlsafe_b64decode(token.removeprefix(purpose.prefix))[:16])
    except ValueError:
        return None
    found = await to_be_sent(context, purpose, id)
    if found is None:
        return None
    person, right = found
    return (id, person) if hmac.compare_digest(right.encode(), token.encode()) else None


async def set_password(uow: UnitOfWork, purpose: Purpose, token: str, password: str, field: str) -> None:
    """Give the user of a token a password, once for each token; ends all sessions and other tokens of the user.

    `field` is where the password stood in the body. 422 for a token of no use and for a weak password.
    """
    context = uow.context
    found = await find(context, purpose, token)
    if found is None:
        raise unusable(purpose)
    id, person = found
    async with context.unit_of_work() as reading:
        institutions_ask = await credentials.length_asked_of(reading, person.id)
    refuse_weak(uow.settings(AuthSettings), password, person.email, ("body", field), institutions_ask)
    password_hash = await uow.use(Hasher).hash(context, password)
    # All may have changed while the password was hashed.
    try:
        await uow.hold(USER, person.id)
    except NotFound:
        raise unusable(purpose) from None
    now = await uow.use(UserDirectory).find(uow, person.id)
    if now is None or not now.is_active or now.email != person.email:
        raise unusable(purpose)
    if id not in await credentials.replace_password(uow, person.id, password_hash):
        raise unusable(purpose)


def unusable(purpose: Purpose) -> Invalid:
    """422: forged, expired, used or void, which the answer does not tell apart."""
    return Invalid(
        purpose.refusal, "This token is not valid, or not any more; ask for another mail.", ("body", "token")
    )
