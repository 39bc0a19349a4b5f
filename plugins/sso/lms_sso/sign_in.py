"""The way through a sign-in: to the provider, back from it, and on to the tokens."""

from __future__ import annotations

from typing import TypeGuard
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import structlog
from authlib.integrations.httpx_client import AsyncOAuth2Client
from fastapi import Request, Response
from lms_auth.contracts import Sessions
from lms_users.contracts import UserDirectory
from prometheus_client import Counter
from sqlmodel import col, select

from lms_core.sdk import Context, Invalid, JsonBytes, NotFound, Problem, Unavailable, UnitOfWork, alive
from lms_sso import attempts, identities, secret_box
from lms_sso.identities import SignInRefused
from lms_sso.models import Attempt, LinkedIdentity, Provider, SsoSession
from lms_sso.openid import Client, OpenIdProviders, ProviderFailed, TokenRefused
from lms_sso.schemas import CodeExchange
from lms_sso.settings import SsoSettings

log = structlog.get_logger("lms.sso")
SIGN_INS = Counter("lms_sso_sign_ins_total", "Sign-ins by provider that ended, by outcome", ["outcome"])


async def start(uow: UnitOfWork, provider_id: UUID, return_to: str | None, code_challenge: str) -> Response:
    """Send the browser to the provider, with a cookie that only it has."""
    context = uow.context
    provider = await find_provider(context, provider_id)
    refuse_foreign(context, return_to)
    try:
        metadata = await context.platform.service(OpenIdProviders).metadata(context, provider.issuer)
    except ProviderFailed as error:
        log.warning("provider fails", provider=str(provider_id), reason=str(error))
        raise Unavailable(
            "The sign-in provider cannot be reached; try again shortly.", "provider_unavailable"
        ) from None
    id = await attempts.begin(uow, provider_id, return_to, code_challenge)
    oauth = AsyncOAuth2Client(
        provider.client_id, scope=provider.scope, redirect_uri=redirect_uri(context), code_challenge_method="S256"
    )
    url, _ = oauth.create_authorization_url(
        metadata["authorization_endpoint"],
        state=attempts.sealed(context, attempts.STATE, id),
        nonce=attempts.derived(context, "nonce", id),
        code_verifier=attempts.derived(context, "verifier", id),
    )
    response = Response(status_code=303, headers={"Location": url, "Cache-Control": "no-store"})
    response.set_cookie(
        cookie_name(context, id),
        attempts.derived(context, "browser", id),
        max_age=60 * uow.settings(SsoSettings).attempt_minutes,
        path="/",
        httponly=True,
        # Lax: the provider's redirect is a navigation from another site.
        samesite="lax",
        secure=is_secure(context),
    )
    return response


async def callback(
    uow: UnitOfWork, request: Request, state: str, code: str | None, error: str | None, issuer: str | None
) -> Response:
    """The browser is back from the provider."""
    context = uow.context
    id = attempts.open_sealed(context, attempts.STATE, state)
    if id is None:
        raise Problem(400, "invalid_state", "This is no sign-in of ours; begin again.")
    if request.cookies.get(cookie_name(context, id)) != attempts.derived(context, "browser", id):
        raise Problem(400, "other_browser", "This sign-in was begun in another browser; begin again in this one.")
    attempt = await attempts.use(context, id)
    try:
        response = await finish(uow, attempt, code, error, issuer)
    except SignInRefused as refusal:
        SIGN_INS.labels(refusal.code).inc()
        log.info("sign-in refused", provider=str(attempt.provider_id), code=refusal.code)
        if attempt.return_to is None:
            raise Problem(403, refusal.code, refusal.detail) from None
        response = back(attempt.return_to, error=refusal.code)
    else:
        SIGN_INS.labels("ok").inc()
    response.delete_cookie(cookie_name(context, id), path="/", secure=is_secure(context), httponly=True, samesite="lax")
    return response


async def finish(
    uow: UnitOfWork, attempt: Attempt, code: str | None, error: str | None, issuer: str | None
) -> Response:
    """Whom the provider means, and a code for the front end. Raises SignInRefused."""
    context = uow.context
    try:
        provider = await find_provider(context, attempt.provider_id)
    except NotFound:
        raise SignInRefused("provider_off", "This way of signing in is switched off.") from None
    if error is not None or not code:
        raise SignInRefused("denied", "The provider did not let you in, or you turned back.")
    openid = context.platform.service(OpenIdProviders)
    try:
        metadata = await openid.metadata(context, provider.issuer)
        says_issuer = metadata.get("authorization_response_iss_parameter_supported") is True
        if (issuer is not None or says_issuer) and issuer != provider.issuer:
            # RFC 9207: another provider answers in this one's place.
            raise TokenRefused("The answer is another issuer's.")
        client = Client(provider.client_id, secret_box.opened(context, provider.client_secret), redirect_uri(context))
        verifier = attempts.derived(context, "verifier", attempt.id)
        nonce = attempts.derived(context, "nonce", attempt.id)
        claims = await openid.exchange(context, provider.issuer, client, code, verifier, nonce)
    except ProviderFailed as failure:
        log.warning("provider fails", provider=str(provider.id), reason=str(failure))
        raise SignInRefused("provider_failed", "The sign-in provider does not answer as it should.") from None
    except TokenRefused as refusal:
        log.warning("token refused", provider=str(provider.id), reason=str(refusal))
        raise SignInRefused("token_refused", "What the provider sent cannot be believed; begin again.") from None
    identity_id = await identities.identify(context, provider, claims)
    session = claims.get("sid")
    provider_session = session if is_text(session) else None
    given = await attempts.finish(uow, attempt.id, identity_id, provider_session)
    if attempt.return_to is not None:
        return back(attempt.return_to, code=given)
    return JsonBytes({"code": given}, headers={"Cache-Control": "no-store"})


async def tokens(uow: UnitOfWork, request: Request, data: CodeExchange) -> Response:
    """A session for the code, as `POST /auth/login` gives one."""
    attempt = await attempts.exchange(uow, data.code, data.code_verifier)
    try:
        await find_provider(uow.context, attempt.provider_id)
    except NotFound:
        raise attempts.bad_code().keeping_writes() from None
    found = select(LinkedIdentity).where(col(LinkedIdentity.id) == attempt.identity_id)
    identity = (await uow.session.execute(found)).scalar_one()
    if not await uow.use(UserDirectory).may_sign_in(uow, identity.user_id):
        raise attempts.bad_code().keeping_writes()
    started = await uow.use(Sessions).start(uow, identity.user_id, request)
    uow.session.add(
        SsoSession(session_id=started.id, identity_id=identity.id, provider_session=attempt.provider_session)
    )
    return started.answer


async def find_provider(context: Context, id: UUID) -> Provider:
    """A provider that is switched on; NotFound."""
    statement = select(Provider).where(col(Provider.id) == id, alive(Provider), col(Provider.is_enabled).is_(True))
    async with context.unit_of_work() as uow:
        found = (await uow.session.execute(statement)).scalar_one_or_none()
        if found is not None:
            uow.session.expunge(found)
    if found is None:
        raise NotFound("sso.provider", id)
    return found


def is_text(value: object) -> TypeGuard[str]:
    """Whether a claim is text that a column can hold."""
    return isinstance(value, str) and len(value) <= 255 and value.isprintable()


def redirect_uri(context: Context) -> str:
    """Where providers send browsers back to; it has to be registered with each."""
    return f"{context.settings.public_url.rstrip('/')}{context.settings.api_prefix}/sso/callback"


def is_secure(context: Context) -> bool:
    """Whether browsers reach us by https."""
    return context.settings.public_url.startswith("https://")


def cookie_name(context: Context, id: UUID) -> str:
    """One for each attempt, so that two tabs do not disturb each other.

    With `__Host-` no other host of the domain can plant one (RFC 6265bis §4.1.3.2); that needs https.
    """
    return f"{'__Host-' if is_secure(context) else ''}lms_sso_{id.hex[-12:]}"


def refuse_foreign(context: Context, return_to: str | None) -> None:
    """Browsers are sent back to our own front ends only: else a link of ours would lead anywhere."""
    if return_to is None:
        return
    parts = urlsplit(return_to)
    origins = {origin.strip() for origin in context.settings.cors_origins.split(",")}
    if f"{parts.scheme}://{parts.netloc}" not in origins or parts.scheme not in ("https", "http"):
        raise Invalid(
            "return_to_not_allowed", "This is none of the front ends in LMS_CORS_ORIGINS.", ("query", "return_to")
        )


def back(return_to: str, **values: str) -> Response:
    """To the front end, with what came of it."""
    page, hash_sign, fragment = return_to.partition("#")
    url = f"{page}{'&' if '?' in page else '?'}{urlencode(values)}{hash_sign}{fragment}"
    return Response(status_code=303, headers={"Location": url, "Cache-Control": "no-store"})
