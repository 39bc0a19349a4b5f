"""Who a provider's subject is here: known, linked to a user who is there, or a new user."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from lms_institutions.contracts import InstitutionTree
from lms_users.contracts import USER, Person, SignUp, UserDirectory
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from lms_core.sdk import Context, StateConflict, UnitOfWork, alive, new_id
from lms_sso.models import ONE_SUBJECT, Domain, LinkedIdentity, Provider
from lms_sso.schemas import valid_domain

LONGEST_NAME = 300


class SignInRefused(Exception):
    """Somebody whom the provider knows does not get in; `code` says why, to the front end and the log."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


async def identify(context: Context, provider: Provider, claims: dict[str, Any]) -> UUID:
    """The identity that is signed in, linked or made if it is the first time. Raises SignInRefused.

    What has to be asked in other units of work is asked before the one that writes.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or not subject.isprintable():
        raise SignInRefused("no_subject", "The provider does not say who this is.")
    known = await find_known(context, provider, subject)
    if known is not None and known.is_active:
        user_id: UUID | None = known.id
        # Asked each time: who came to run something, or to another school, since is not this provider's to vouch for.
        await refuse_elsewhere(context, provider, known.id)
    elif known is not None:
        raise SignInRefused("user_disabled", "Your account is disabled; ask your school.")
    else:
        email = await vouched_email(context, provider, claims)
        user_id = await linkable(context, provider, subject, email)
    async with context.unit_of_work() as uow:
        if user_id is None:
            user_id = await sign_up(uow, provider, claims, email)
        else:
            # Until this ends nobody deletes the user.
            await uow.hold(USER, user_id)
        uow.record("signed_in_by_provider", USER, user_id)
        return await link(uow, provider.id, subject, user_id)


async def find_known(context: Context, provider: Provider, subject: str) -> Person | None:
    """The user who signed in as this subject before; None when there was none, or they are deleted."""
    statement = select(col(LinkedIdentity.user_id)).where(
        col(LinkedIdentity.provider_id) == provider.id, col(LinkedIdentity.subject) == subject
    )
    async with context.unit_of_work() as uow:
        user_id = (await uow.session.execute(statement)).scalar_one_or_none()
        return None if user_id is None else await uow.use(UserDirectory).find(uow, user_id)


async def vouched_email(context: Context, provider: Provider, claims: dict[str, Any]) -> str:
    """The address, if the provider has verified it and its domain is the institution's own."""
    email = claims.get("email")
    if not isinstance(email, str) or not 3 <= len(email) <= 320 or not email.isprintable():
        raise SignInRefused("no_email", "The provider does not give an e-mail address.")
    # Some write the boolean as text.
    if claims.get("email_verified") not in (True, "true") and not provider.trusts_emails:
        raise SignInRefused("email_not_verified", "The provider has not verified your e-mail address.")
    try:
        domain = valid_domain(email.rpartition("@")[2])
    except ValueError:
        raise SignInRefused("no_email", "The provider does not give an e-mail address.") from None
    async with context.unit_of_work() as uow:
        above = uow.use(InstitutionTree).and_above(provider.institution_id)
        claimed = select(Domain.id).where(Domain.domain == domain, col(Domain.institution_id).in_(above), alive(Domain))
        if (await uow.session.execute(claimed)).first() is None:
            raise SignInRefused("domain_not_claimed", "Your e-mail address is not one of this institution's.")
    return email


async def linkable(context: Context, provider: Provider, subject: str, email: str) -> UUID | None:
    """The user who has the address and may be linked; None when nobody has it."""
    async with context.unit_of_work() as uow:
        person = await uow.use(UserDirectory).find_by_email(uow, email)
    if person is None:
        return None
    if not person.is_active:
        raise SignInRefused("user_disabled", "Your account is disabled; ask your school.")
    await refuse_elsewhere(context, provider, person.id)
    async with context.unit_of_work() as uow:
        linked = select(col(LinkedIdentity.id)).where(
            col(LinkedIdentity.provider_id) == provider.id,
            col(LinkedIdentity.user_id) == person.id,
            # The same one may have been linked by another tab a moment ago.
            col(LinkedIdentity.subject) != subject,
        )
        if (await uow.session.execute(linked.limit(1))).first() is not None:
            # An address that went to the next person must not open the account of the one before.
            raise already_linked()
    return person.id


def already_linked() -> SignInRefused:
    """One subject of a provider for each user."""
    return SignInRefused("already_linked", "Another account of this provider has this address here; ask your school.")


async def refuse_elsewhere(context: Context, provider: Provider, user_id: UUID) -> None:
    """Raise SignInRefused for a user who takes part outside of the provider's institution, or runs one."""
    if not await context.platform.service(SignUp).belongs_to(context, user_id, provider.institution_id):
        raise SignInRefused(
            "account_elsewhere", "Your account reaches beyond this institution; sign in with your password."
        )


async def sign_up(uow: UnitOfWork, provider: Provider, claims: dict[str, Any], email: str) -> UUID:
    """A new user, with the role that the provider's claims mean."""
    if not provider.creates_users:
        raise SignInRefused("no_account", "You have no account here; ask your school for one.")
    role = role_of(provider, claims)
    if role is None:
        raise SignInRefused("no_role", "Nothing that the provider says about you means a role here; ask your school.")
    name = claims.get("name")
    full_name = name if isinstance(name, str) and name.strip() else email.rpartition("@")[0]
    clean = "".join(filter(str.isprintable, full_name)).strip()[:LONGEST_NAME] or email
    try:
        return await uow.use(SignUp).create(uow, email, clean, role, provider.institution_id)
    except ValueError:
        raise SignInRefused("no_email", "The provider does not give an e-mail address that we take.") from None
    except StateConflict:
        raise SignInRefused("try_again", "Somebody got this address at the same moment; try again.") from None


def role_of(provider: Provider, claims: dict[str, Any]) -> Any:
    """The role of the first rule that fits, or the usual one."""
    for rule in provider.role_rules:
        found: Any = claims
        for part in rule["claim"].split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found == rule["value"] or (isinstance(found, list) and rule["value"] in found):
            return rule["role"]
    return provider.default_role


async def link(uow: UnitOfWork, provider_id: UUID, subject: str, user_id: UUID) -> UUID:
    """From now on the subject is this user; of two that come first together, both find the same."""
    statement = (
        insert(LinkedIdentity)
        .values(id=new_id(), provider_id=provider_id, subject=subject, user_id=user_id, last_sign_in_at=func.now())
        .on_conflict_do_update(
            constraint="uq_sso_identity_subject", set_={"user_id": user_id, "last_sign_in_at": func.now()}
        )
        .returning(col(LinkedIdentity.id))
    )
    try:
        return (await uow.session.execute(statement)).scalar_one()
    except IntegrityError as error:
        # Two subjects with one address at once.
        if ONE_SUBJECT in str(error.orig):
            raise already_linked() from None
        raise
