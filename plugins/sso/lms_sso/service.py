"""Which providers and domains there are, and who says so."""

from __future__ import annotations

from uuid import UUID

from fastapi import Response
from lms_institutions.contracts import INSTITUTION, InstitutionTree
from sqlalchemy import bindparam
from sqlmodel import col, select

from lms_core.sdk import Forbidden, JsonBytes, Listing, Point, UnitOfWork, alive, delete
from lms_sso import secret_box
from lms_sso.models import Domain, Provider
from lms_sso.schemas import DomainClaim, DomainRead, ProviderCreate, ProviderRead, ProviderUpdate, valid_domain

PROVIDERS = Listing(
    Provider, ProviderRead, filters={"institution_id": col(Provider.institution_id) == bindparam("institution_id")}
)
PROVIDER = Point(Provider, ProviderRead)
DOMAINS = Listing(
    Domain, DomainRead, filters={"institution_id": col(Domain.institution_id) == bindparam("institution_id")}
)
DOMAIN = Point(Domain, DomainRead)
CAN_BE_EMPTY = ("client_secret", "default_role")
MOST_OPTIONS = 50


async def create(uow: UnitOfWork, data: ProviderCreate) -> Response:
    """Trust a provider at an institution."""
    refuse_trust(uow, data.trusts_emails)
    await uow.hold(INSTITUTION, data.institution_id)
    values = data.model_dump() | {"client_secret": secret_box.closed(uow.context, data.client_secret)}
    provider = Provider(**values)
    await uow.add(provider)
    return await PROVIDER.after_write(uow, provider.id, 201)


async def update(uow: UnitOfWork, id: UUID, data: ProviderUpdate, if_match: str | None) -> Response:
    """Change what is given; who signed in by the provider stays known."""
    given = data.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name in CAN_BE_EMPTY}
    refuse_trust(uow, changes.get("trusts_emails", False))
    if "client_secret" in changes:
        changes["client_secret"] = secret_box.closed(uow.context, changes["client_secret"])
    provider = await uow.lock(Provider, id, if_match)
    provider.sqlmodel_update(changes)
    await uow.flush()
    return await PROVIDER.after_write(uow, id)


def refuse_trust(uow: UnitOfWork, trusts_emails: bool) -> None:
    """Whose addresses are taken unverified opens every account of the domain: not for an institution alone to say."""
    if trusts_emails and not uow.access.everywhere:
        raise Forbidden("Only a super admin lets a provider's addresses count as verified.")


async def remove(uow: UnitOfWork, id: UUID, if_match: str | None) -> Response:
    """Nobody signs in by it any more; after a restore everybody does who did before."""
    return await delete(uow, Provider, id, if_match)


async def claim(uow: UnitOfWork, data: DomainClaim) -> Response:
    """A domain is one institution's, and counts below it too."""
    await uow.hold(INSTITUTION, data.institution_id)
    domain = Domain(**data.model_dump())
    await uow.add(domain)
    return await DOMAIN.after_write(uow, domain.id, 201)


async def options(uow: UnitOfWork, institution_id: UUID | None, email: str | None) -> Response:
    """The buttons for the sign-in page of an institution, or for an address; nothing about who has an account."""
    tree = uow.use(InstitutionTree)
    found = select(col(Provider.id), col(Provider.name)).where(alive(Provider), col(Provider.is_enabled).is_(True))
    if institution_id is not None:
        found = found.where(col(Provider.institution_id).in_(tree.and_above(institution_id)))
    elif email is not None:
        owner = await owner_of_domain(uow, email)
        if owner is None:
            return JsonBytes({"items": [], "next_cursor": None})
        found = found.where(col(Provider.institution_id).in_(tree.and_below(owner)))
    else:
        return JsonBytes({"items": [], "next_cursor": None})
    rows = (await uow.session.execute(found.order_by(col(Provider.name), col(Provider.id)).limit(MOST_OPTIONS))).all()
    return JsonBytes({"items": [{"id": id, "name": name} for id, name in rows], "next_cursor": None})


async def owner_of_domain(uow: UnitOfWork, email: str) -> UUID | None:
    """Whose domain an address is of."""
    try:
        domain = valid_domain(email.rpartition("@")[2])
    except ValueError:
        return None
    statement = select(col(Domain.institution_id)).where(Domain.domain == domain, alive(Domain))
    return (await uow.session.execute(statement)).scalar_one_or_none()
