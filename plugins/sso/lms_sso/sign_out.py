"""Signing out: here and then at the provider, or there and then here."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

import structlog
from fastapi import Response
from lms_auth.contracts import Sessions
from sqlmodel import col, select

from lms_core.sdk import JsonBytes, NotFound, Problem, UnitOfWork
from lms_sso import sign_in
from lms_sso.models import LinkedIdentity, Provider, SsoSession
from lms_sso.openid import OpenIdProviders, ProviderFailed, TokenRefused

log = structlog.get_logger("lms.sso")


async def sign_out(uow: UnitOfWork) -> Response:
    """End the caller's session; where their browser should go, if it began at a provider that can be signed out of."""
    context, session_id = uow.context, uow.access.session_id
    url = None
    began_at = (
        select(Provider)
        .join(LinkedIdentity, col(LinkedIdentity.provider_id) == col(Provider.id))
        .join(SsoSession, col(SsoSession.identity_id) == col(LinkedIdentity.id))
        .where(col(SsoSession.session_id) == session_id)
    )
    async with context.unit_of_work() as reading:
        provider = (await reading.session.execute(began_at)).scalar_one_or_none()
        if provider is not None:
            reading.session.expunge(provider)
    if provider is not None:
        try:
            metadata = await context.platform.service(OpenIdProviders).metadata(context, provider.issuer)
        except ProviderFailed as error:
            log.warning("provider fails", provider=str(provider.id), reason=str(error))
        else:
            end = metadata.get("end_session_endpoint")
            url = f"{end}?{urlencode({'client_id': provider.client_id})}" if isinstance(end, str) else None
    if session_id is not None:
        await uow.use(Sessions).end(uow, [session_id])
    return JsonBytes({"url": url})


async def end_by_provider(uow: UnitOfWork, provider_id: UUID, logout_token: str) -> Response:
    """The provider says that somebody signed out there (OpenID Connect Back-Channel Logout 1.0 §2.7)."""
    context = uow.context
    try:
        provider = await sign_in.find_provider(context, provider_id)
        openid = context.platform.service(OpenIdProviders)
        claims = await openid.logout_claims(context, provider.issuer, provider.client_id, logout_token)
    except (NotFound, ProviderFailed, TokenRefused) as error:
        log.warning("logout token refused", provider=str(provider_id), reason=str(error))
        raise Problem(400, "invalid_logout_token", "This is no logout token of this provider's.") from None
    subject, provider_session = claims.get("sub"), claims.get("sid")
    if not isinstance(subject, str) and not isinstance(provider_session, str):
        raise Problem(400, "invalid_logout_token", "The token says neither who nor which session.")
    meant = (
        select(col(SsoSession.session_id))
        .join(LinkedIdentity, col(LinkedIdentity.id) == col(SsoSession.identity_id))
        .where(col(LinkedIdentity.provider_id) == provider_id)
    )
    if isinstance(subject, str):
        meant = meant.where(col(LinkedIdentity.subject) == subject)
    if isinstance(provider_session, str):
        meant = meant.where(col(SsoSession.provider_session) == provider_session)
    session_ids = list((await uow.session.execute(meant)).scalars())
    await uow.use(Sessions).end(uow, session_ids)
    return Response(status_code=200, headers={"Cache-Control": "no-store"})
