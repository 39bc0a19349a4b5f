"""The URLs of sign-in."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Form, Request, Response

from lms_auth import credentials, invitations, password_resets, sessions, sign_in
from lms_auth.access_tokens import AccessTokens, metadata_of
from lms_auth.contracts import TokenPair
from lms_auth.devices import device_of
from lms_auth.schemas import (
    InvitationAccept,
    InvitationRead,
    InvitationRequest,
    KeySet,
    LoginForm,
    Metadata,
    PasswordChange,
    PasswordResetConfirm,
    PasswordResetRequest,
    RefreshToken,
    SessionRead,
)
from lms_core.sdk import JsonBytes, Page, PageParams, Router, Uow, public, requires, signed_in

router = Router()
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
NOT_SIGNED_IN: dict[int | str, dict[str, Any]] = {401: {"description": "Not signed in", "content": PROBLEM}}
THROTTLED: dict[int | str, dict[str, Any]] = {429: {"description": "Too many requests", "content": PROBLEM}}


@router.post(
    "/login",
    response_model=TokenPair,
    responses=NOT_SIGNED_IN | THROTTLED,
    dependencies=[public("this is how one signs in")],
)
async def login(uow: Uow, request: Request, form: Annotated[LoginForm, Form()]) -> Response:
    """Sign in with e-mail address and password: the start of a session."""
    return await sign_in.login(uow, form, device_of(request))


@router.post(
    "/refresh",
    response_model=TokenPair,
    responses=NOT_SIGNED_IN,
    dependencies=[public("the refresh token says who it is")],
)
async def refresh(uow: Uow, data: RefreshToken) -> Response:
    """The next access token, and the refresh token to use after this one."""
    return await sign_in.refresh(uow, data.refresh_token)


@router.post("/logout", status_code=204, dependencies=[public("the refresh token says who it is")])
async def logout(uow: Uow, data: RefreshToken) -> None:
    """End the session of a refresh token, and its access tokens; 204 for every other text, too."""
    await sign_in.logout(uow, data.refresh_token)


@router.get("/sessions", response_model=Page[SessionRead], dependencies=[signed_in("the caller's own sessions")])
async def list_sessions(uow: Uow, params: PageParams) -> Response:
    """Where you are signed in, newest first."""
    return await sessions.SESSIONS.page(uow, params)


@router.delete("/sessions/{session_id}", status_code=204, dependencies=[signed_in("the caller's own sessions")])
async def end_session(uow: Uow, session_id: UUID) -> None:
    """Sign out on one of your devices."""
    await sessions.end_own(uow, session_id)


@router.post("/password", status_code=204, responses=THROTTLED, dependencies=[signed_in("the caller's own password")])
async def change_password(uow: Uow, request: Request, data: PasswordChange) -> None:
    """Change your password; you stay signed in here and nowhere else."""
    await credentials.change(uow, data, device_of(request).ip)


@router.post("/password-reset", status_code=202, dependencies=[public("who forgot a password cannot sign in")])
async def request_password_reset(uow: Uow, data: PasswordResetRequest) -> Response:
    """Have a mail sent with a token for a new password; the answer does not tell whether anybody has the address."""
    await password_resets.request(uow, data.email)
    return Response(status_code=202)


@router.post(
    "/password-reset/confirm",
    status_code=204,
    responses=THROTTLED,
    dependencies=[public("the token from the mail says who it is")],
)
async def confirm_password_reset(uow: Uow, data: PasswordResetConfirm) -> None:
    """Set a new password with the token from the mail; ends all sessions."""
    await password_resets.confirm(uow, data)


@router.post(
    "/invitations",
    status_code=202,
    response_model=InvitationRead,
    responses=THROTTLED,
    dependencies=[requires("users.edit", on="user", body="user_id")],
)
async def invite(uow: Uow, data: InvitationRequest) -> Response:
    """Have a mail sent with which a user without a password chooses one; ends their earlier invitations."""
    return await invitations.invite(uow, data.user_id)


@router.post(
    "/invitations/accept",
    status_code=204,
    responses=THROTTLED,
    dependencies=[public("the token from the mail says who it is")],
)
async def accept_invitation(uow: Uow, data: InvitationAccept) -> None:
    """Choose the first password with the token from the mail; then sign in with it."""
    await invitations.accept(uow, data)


@router.get("/.well-known/jwks.json", response_model=KeySet, dependencies=[public("public keys")])
async def jwks(uow: Uow) -> Response:
    """The public keys of the access tokens."""
    keys = await uow.use(AccessTokens).keys.public(uow.context)
    return JsonBytes({"keys": keys}, headers={"Cache-Control": "public, max-age=300"})


@router.get("/.well-known/oauth-authorization-server", response_model=Metadata, dependencies=[public("how to sign in")])
async def metadata(uow: Uow) -> Response:
    """Where to sign in, and what verifies a token (RFC 8414)."""
    return JsonBytes(metadata_of(uow.context), headers={"Cache-Control": "public, max-age=300"})
