"""The auth plugin, as the core sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from lms_users.contracts import USER, Passwords, UserDisabled, UserInvited
from typer import Typer

from lms_auth import credentials, invitations, password_resets, sessions
from lms_auth.access_tokens import AccessTokens
from lms_auth.commands import commands
from lms_auth.contracts import InvitationMade, PasswordResetRequested, Sessions
from lms_auth.credentials import StoredPasswords
from lms_auth.first_super_admin import ensure_super_admin
from lms_auth.models import AuthSession, Credential, Invitation, PasswordReset, SigningKey
from lms_auth.passwords import Hasher
from lms_auth.router import router
from lms_auth.settings import AuthSettings
from lms_auth.throttle import Throttle
from lms_core.sdk import (
    AfterRestore,
    Authenticator,
    Context,
    Deleted,
    Extension,
    Handler,
    Lifespan,
    Part,
    PluginInfo,
    Record,
    Router,
    Schedule,
    Service,
    Setup,
    hookimpl,
)

plugin = PluginInfo(
    "auth",
    "Sign-in: sessions, refresh rotation, access tokens, passwords",
    requires=("institutions", "users"),
    settings=AuthSettings,
)


@hookimpl
def lms_cascades() -> list[Part]:
    """How somebody signs in is part of them."""
    return [Part(model, "user_id", USER) for model in (AuthSession, Credential, PasswordReset, Invitation)]


@hookimpl
def lms_routes() -> list[Router]:
    """`/auth`."""
    return [router]


@hookimpl
def lms_models() -> list[type[Record]]:
    """Five tables."""
    return [AuthSession, Credential, SigningKey, PasswordReset, Invitation]


@hookimpl
def lms_services() -> list[Service]:
    """Who a token speaks for, passwords for users, sessions for others; the rest is what one process of this plugin remembers."""
    tokens = AccessTokens()
    return [
        Service(Authenticator, tokens),
        Service(AccessTokens, tokens),
        Service(Passwords, StoredPasswords()),
        Service(Sessions, sessions.SignIns()),
        Service(Hasher, Hasher()),
        Service(Throttle, Throttle()),
    ]


@hookimpl
def lms_handlers() -> list[Handler]:
    """Disabled and deleted users are signed out; who forgot a password, or is to choose the first, gets a mail."""
    return [
        Handler("auth.end_sessions_of_disabled", UserDisabled, credentials.end_of_disabled),
        Handler("auth.end_sessions_of_deleted", Deleted, credentials.end_of_deleted),
        Handler("auth.send_reset", PasswordResetRequested, password_resets.send, transactional=False),
        Handler("auth.invite_new", UserInvited, invitations.begin_for_new),
        Handler("auth.send_invitation", InvitationMade, invitations.send, transactional=False),
    ]


@hookimpl
def lms_schedules() -> list[Schedule]:
    """Nothing is kept for ever."""
    return [Schedule("auth.forget_sessions", timedelta(days=1), sessions.forget_old)]


@hookimpl
def lms_extensions() -> list[Extension]:
    """A restored backup brings no session back."""
    return [AfterRestore("auth.end_every_session", sessions.end_every)]


@hookimpl
def lms_setup() -> list[Setup]:
    """Somebody who can sign in."""
    return [Setup("auth.first_super_admin", ensure_super_admin)]


@hookimpl
def lms_commands() -> list[Typer]:
    """`lms auth rotate-keys`."""
    return [commands]


@asynccontextmanager
async def hear_of_rotations(context: Context) -> AsyncIterator[None]:
    """Let the keys of this process know when another one rotated them."""
    context.database.listeners.append(context.platform.service(AccessTokens).keys.hear)
    yield


@hookimpl
def lms_lifespan() -> list[Lifespan]:
    """Listen while the process runs."""
    return [hear_of_rotations]
