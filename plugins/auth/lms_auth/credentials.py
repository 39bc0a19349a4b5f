"""The passwords that users have: reading, checking, setting and changing them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from lms_institutions.contracts import InstitutionSettings
from lms_users.contracts import USER, Passwords, Person, UserDirectory, UserDisabled
from sqlalchemy import Uuid, bindparam, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from lms_auth import sessions
from lms_auth.models import Credential, Invitation, PasswordReset
from lms_auth.password_rules import refuse_weak
from lms_auth.passwords import DUMMY_HASH, Hasher
from lms_auth.schemas import PasswordChange
from lms_auth.settings import AuthSettings
from lms_auth.throttle import Guess, Throttle
from lms_core.sdk import Context, Deleted, Invalid, Read, StateConflict, UnitOfWork, new_id

NOBODY = UUID(int=0)
STORED = Read(
    select(Credential.password_hash, Credential.changed_at).where(
        Credential.user_id == bindparam("user_id", type_=Uuid())
    )
)


@dataclass(frozen=True)
class Stored:
    """A password's hash, and when the password was set."""

    password_hash: str
    changed_at: datetime


async def find_person(context: Context, email: str) -> Person | None:
    """Who has an address, without keeping a connection while a password is hashed."""
    async with context.unit_of_work() as uow:
        return await uow.use(UserDirectory).find_by_email(uow, email)


async def stored_password(context: Context, user_id: UUID | None) -> Stored | None:
    """What is known of a user's password; asked for nobody too, so that it takes the same time."""
    row = await STORED.one(context.database, user_id=user_id or NOBODY)
    return None if row is None else Stored(row["password_hash"], row["changed_at"])


async def is_right(context: Context, password: str, stored: Stored | None, guess: Guess) -> bool:
    """Whether a guess is right: one verification, whether there is a password or not. Too many guesses → 429."""
    throttle, hasher = context.platform.service(Throttle), context.platform.service(Hasher)
    await throttle.refuse_if_blocked(context, guess)
    verified = await hasher.verify(context, password, DUMMY_HASH if stored is None else stored.password_hash)
    if verified and stored is not None:
        # Guesses that ran beside this one may have used up the free ones meanwhile.
        await throttle.refuse_if_blocked(context, guess)
        return True
    return False


async def replace_password(
    uow: UnitOfWork, user_id: UUID, password_hash: str, keep_session: UUID | None = None
) -> set[UUID]:
    """Store a hash; end the user's sessions, and their resets and invitations, which are returned."""
    values = {"password_hash": password_hash, "changed_at": func.now()}
    await uow.session.execute(
        insert(Credential)
        .values(id=new_id(), user_id=user_id, **values)
        .on_conflict_do_update(index_elements=[col(Credential.user_id)], set_=values)
    )
    uow.record("password_changed", USER, user_id)
    await sessions.end_all(uow, user_id, "password", keep=keep_session)
    return await end_mailed_tokens(uow, user_id)


async def end_mailed_tokens(uow: UnitOfWork, user_id: UUID) -> set[UUID]:
    """Make the user's resets and invitations useless for good; their ids."""
    ended: set[UUID] = set()
    for model in (PasswordReset, Invitation):
        usable = col(model.user_id) == user_id, col(model.used_at).is_(None), col(model.expires_at) > func.now()
        statement = update(model).where(*usable).values(used_at=func.now()).returning(col(model.id))
        ended |= set((await uow.session.execute(statement)).scalars())
    return ended


async def end_of_disabled(uow: UnitOfWork, event: UserDisabled) -> None:
    """The handler: who is let in again later comes with no old session, and with nothing that was mailed before."""
    await sessions.end_all(uow, event.user_id, "disabled")
    await end_mailed_tokens(uow, event.user_id)


async def end_of_deleted(uow: UnitOfWork, event: Deleted) -> None:
    """The handler: a restore brings the user back, but no session and no mailed token."""
    if event.kind == USER:
        await sessions.end_all(uow, event.id, "deleted")
        await end_mailed_tokens(uow, event.id)


async def change(uow: UnitOfWork, data: PasswordChange, address: str) -> None:
    """Change the caller's password, which ends all their other sessions."""
    context, user_id = uow.context, uow.actor_id
    async with context.unit_of_work() as reading:
        person = await reading.use(UserDirectory).find(reading, user_id)
        institutions_ask = await length_asked_of(reading, user_id)
    stored = await stored_password(context, user_id)
    guess = Guess(str(user_id), address)
    if person is None or stored is None or not await is_right(context, data.current_password, stored, guess):
        await context.platform.service(Throttle).count_wrong(context, guess)
        raise Invalid("wrong_password", "This is not your current password.", ("body", "current_password"))
    refuse_weak(uow.settings(AuthSettings), data.new_password, person.email, ("body", "new_password"), institutions_ask)
    password_hash = await context.platform.service(Hasher).hash(context, data.new_password)
    if not await hold_unchanged(uow, user_id, stored):
        raise StateConflict("password_changed", "Your password was changed meanwhile; sign in with the new one.")
    await replace_password(uow, user_id, password_hash, keep_session=uow.access.session_id)


async def length_asked_of(uow: UnitOfWork, user_id: UUID) -> int | None:
    """The password length that the strictest of a user's institutions asks for."""
    institution_ids = await uow.use(UserDirectory).institutions_of(uow, user_id)
    return await uow.use(InstitutionSettings).strictest_password_length(uow, institution_ids)


async def hold_unchanged(uow: UnitOfWork, user_id: UUID, stored: Stored) -> bool:
    """Whether the password is still the one that was verified; it stays so until this transaction ends."""
    statement = (
        select(Credential.id)
        .where(Credential.user_id == user_id, Credential.changed_at == stored.changed_at)
        .with_for_update()
    )
    return (await uow.session.execute(statement)).first() is not None


class StoredPasswords(Passwords):
    """Sets passwords for other plugins."""

    async def prepare(self, uow: UnitOfWork, email: str, password: str, institution_ids: Sequence[UUID] = ()) -> str:
        """Its hash."""
        async with uow.context.unit_of_work() as reading:
            asked = await reading.use(InstitutionSettings).strictest_password_length(reading, institution_ids)
        refuse_weak(uow.settings(AuthSettings), password, email, ("body", "password"), asked)
        return await uow.use(Hasher).hash(uow.context, password)

    async def store(self, uow: UnitOfWork, user_id: UUID, prepared: str) -> None:
        """The hash, instead of what was there."""
        await replace_password(uow, user_id, prepared)
