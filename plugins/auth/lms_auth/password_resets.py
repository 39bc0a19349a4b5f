"""Forgotten passwords: a request, a mail with a token, and a new password."""

import asyncio
import time

from lms_users.contracts import Person, UserDirectory

from lms_auth import mailed_tokens
from lms_auth.contracts import PasswordResetRequested
from lms_auth.mailed_tokens import RESET
from lms_auth.schemas import PasswordResetConfirm
from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, UnitOfWork, send_mail

ANSWER_SECONDS = 0.3
RESETS_PER_HOUR = 5


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
    life = uow.settings(AuthSettings).reset_life
    id = await mailed_tokens.begin(uow, RESET, person.id, life, RESETS_PER_HOUR)
    if id is not None:
        uow.emit(PasswordResetRequested(reset_id=id, user_id=person.id))


async def confirm(uow: UnitOfWork, data: PasswordResetConfirm) -> None:
    """Set the new password, once for each token; ends all sessions of the user."""
    await mailed_tokens.set_password(uow, RESET, data.token, data.new_password, "new_password")


async def send(context: Context, event: PasswordResetRequested) -> None:
    """The mail, while the reset can be confirmed."""
    found = await mailed_tokens.to_be_sent(context, RESET, event.reset_id)
    if found is None:
        return
    person, token = found
    settings = context.platform.plugin_settings(AuthSettings)
    await send_mail(
        context,
        f"password-reset-{event.reset_id}",
        person.email,
        "Your new password",
        f"Hello {person.full_name},\n\n"
        f"somebody, probably you, asked for a new password. If it was not you, do nothing.\n"
        f"Otherwise {settings.way_in(settings.password_reset_link, token)}\n\n"
        f"It works once, and for {settings.password_reset_minutes} minutes.\n",
    )
