"""The URLs of single sign-on."""

from typing import Annotated
from uuid import UUID

from fastapi import Form, Query, Request, Response
from lms_auth.contracts import TokenPair

from lms_core.sdk import (
    DeletionRead,
    IfMatch,
    Page,
    PageParams,
    RestoreRequest,
    Router,
    Uow,
    delete,
    public,
    reads,
    requires,
    restore,
    signed_in,
)
from lms_sso import service, sign_in, sign_out
from lms_sso.models import Domain, Provider
from lms_sso.schemas import (
    Challenge,
    CodeExchange,
    CodeRead,
    DomainClaim,
    DomainRead,
    LogoutForm,
    OptionRead,
    ProviderCreate,
    ProviderRead,
    ProviderUpdate,
    SignOutRead,
)

router = Router()
MAY_CONFIGURE = requires("sso.configure", on="provider", path="provider_id")
IS_SIGN_IN = public("this is how one signs in")


@router.post(
    "/providers",
    status_code=201,
    response_model=ProviderRead,
    dependencies=[requires("sso.configure", on="institution", body="institution_id")],
)
async def create_provider(uow: Uow, data: ProviderCreate) -> Response:
    """Trust an OpenID Connect provider at an institution."""
    return await service.create(uow, data)


@router.get("/providers", response_model=Page[ProviderRead], dependencies=[reads("sso.configure")])
async def list_providers(uow: Uow, params: PageParams, institution_id: UUID | None = None) -> Response:
    """The providers of your institutions."""
    return await service.PROVIDERS.page(uow, params, institution_id=institution_id)


@router.get("/providers/{provider_id}", response_model=ProviderRead, dependencies=[reads("sso.configure")])
async def get_provider(uow: Uow, provider_id: UUID) -> Response:
    """One provider, without its client's secret."""
    return await service.PROVIDER.get(uow, provider_id)


@router.patch("/providers/{provider_id}", response_model=ProviderRead, dependencies=[MAY_CONFIGURE])
async def update_provider(uow: Uow, provider_id: UUID, data: ProviderUpdate, if_match: IfMatch = None) -> Response:
    """Change a provider, or switch it off."""
    return await service.update(uow, provider_id, data, if_match)


@router.delete("/providers/{provider_id}", status_code=202, response_model=DeletionRead, dependencies=[MAY_CONFIGURE])
async def delete_provider(uow: Uow, provider_id: UUID, if_match: IfMatch = None) -> Response:
    """Delete a provider; its people keep their accounts, and are known again after a restore."""
    return await service.remove(uow, provider_id, if_match)


@router.post(
    "/providers/{provider_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("sso.configure", on="provider", path="provider_id")],
)
async def restore_provider(uow: Uow, provider_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back a provider."""
    return await restore(uow, Provider, provider_id, request)


@router.post(
    "/domains",
    status_code=201,
    response_model=DomainRead,
    dependencies=[requires("sso.claim_domains", on="institution", body="institution_id")],
)
async def claim_domain(uow: Uow, data: DomainClaim) -> Response:
    """Say whose a domain of e-mail addresses is; for super admins, who make sure of it."""
    return await service.claim(uow, data)


@router.get("/domains", response_model=Page[DomainRead], dependencies=[reads("sso.configure")])
async def list_domains(uow: Uow, params: PageParams, institution_id: UUID | None = None) -> Response:
    """The domains of your institutions."""
    return await service.DOMAINS.page(uow, params, institution_id=institution_id)


@router.delete(
    "/domains/{domain_id}",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[requires("sso.claim_domains", on="domain", path="domain_id")],
)
async def release_domain(uow: Uow, domain_id: UUID, if_match: IfMatch = None) -> Response:
    """Nobody of the domain is linked or made any more; who was stays."""
    return await delete(uow, Domain, domain_id, if_match)


@router.post(
    "/domains/{domain_id}/restore",
    status_code=202,
    response_model=DeletionRead,
    dependencies=[reads("sso.claim_domains", on="domain", path="domain_id")],
)
async def restore_domain(uow: Uow, domain_id: UUID, request: RestoreRequest | None = None) -> Response:
    """Bring back a domain."""
    return await restore(uow, Domain, domain_id, request)


@router.get("/options", response_model=Page[OptionRead], dependencies=[IS_SIGN_IN])
async def options(
    uow: Uow,
    institution_id: UUID | None = None,
    email: Annotated[str | None, Query(max_length=320, description="Whose domain decides")] = None,
) -> Response:
    """The ways of signing in at an institution, or for an address."""
    return await service.options(uow, institution_id, email)


@router.get("/providers/{provider_id}/start", status_code=303, dependencies=[IS_SIGN_IN])
async def start(
    uow: Uow,
    provider_id: UUID,
    code_challenge: Annotated[Challenge, Query(description="S256 of the front end's verifier (RFC 7636)")],
    return_to: Annotated[
        str | None, Query(max_length=2000, description="A page of a front end in LMS_CORS_ORIGINS")
    ] = None,
) -> Response:
    """Send a browser to the provider; it comes back to `return_to` with `?code=` or `?error=`."""
    return await sign_in.start(uow, provider_id, return_to, code_challenge)


@router.get("/callback", response_model=CodeRead, dependencies=[IS_SIGN_IN])
async def callback(
    uow: Uow,
    request: Request,
    state: Annotated[str, Query(max_length=200)],
    code: Annotated[str | None, Query(max_length=4000)] = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
    iss: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Where providers send browsers back to."""
    return await sign_in.callback(uow, request, state, code, error, iss)


@router.post("/token", response_model=TokenPair, dependencies=[IS_SIGN_IN])
async def token(uow: Uow, request: Request, data: CodeExchange) -> Response:
    """A session for the code, as `POST /auth/login` gives one."""
    return await sign_in.tokens(uow, request, data)


@router.post("/sign-out", response_model=SignOutRead, dependencies=[signed_in("the caller's own session")])
async def end_session(uow: Uow) -> Response:
    """Sign out here; the answer says where the browser signs out at the provider too."""
    return await sign_out.sign_out(uow)


@router.post(
    "/providers/{provider_id}/backchannel-logout", dependencies=[public("the provider's token says who it is")]
)
async def backchannel_logout(uow: Uow, provider_id: UUID, form: Annotated[LogoutForm, Form()]) -> Response:
    """For providers: somebody signed out there, and is signed out here."""
    return await sign_out.end_by_provider(uow, provider_id, form.logout_token)
