"""The first super admin: made once, so that somebody can sign in to a new system."""

import re
import secrets

from lms_users.contracts import UserDirectory

from lms_auth.credentials import replace_password
from lms_auth.password_rules import refuse_weak
from lms_auth.passwords import Hasher
from lms_auth.settings import AuthSettings
from lms_core.sdk import Context, Invalid, StartRefused

DEFAULT_EMAIL = "admin@example.org"
ADDRESS = re.compile(r"[^\s@]{1,64}@[^\s@]{1,253}")


async def ensure_super_admin(context: Context, demo: bool) -> list[str]:
    """Make the first super admin unless there is one; the line for the operator shows a password only once."""
    email, password = context.settings.admin_email.strip() or DEFAULT_EMAIL, context.settings.admin_password or None
    async with context.unit_of_work() as uow:
        if await uow.use(UserDirectory).has_super_admin(uow):
            return [there_already(email, password)]
    if not ADDRESS.fullmatch(email):
        raise StartRefused("LMS_ADMIN_EMAIL is not an e-mail address; set it to one such as ada@example.org.")
    shown = "the password of LMS_ADMIN_PASSWORD"
    if password is None:
        password = shown = secrets.token_urlsafe(18)
    else:
        refuse_unusable(context, email, password)
    password_hash = await context.platform.service(Hasher).hash(context, password)
    async with context.unit_of_work() as uow:
        await uow.alone("auth.first_super_admin")
        directory = uow.use(UserDirectory)
        if await directory.has_super_admin(uow):
            return [there_already(email, password)]
        person = await directory.find_by_email(uow, email)
        if person is not None and not person.is_active:
            raise StartRefused(f"LMS_ADMIN_EMAIL names the disabled user {email}; set it to another address.")
        user_id = await directory.create_super_admin(uow, email, "Super admin")
        await replace_password(uow, user_id, password_hash)
    return [f"First super admin: {email} / {shown}"]


def there_already(email: str, password: str | None) -> str:
    """The line for a later start."""
    unused = "" if password is None else " (LMS_ADMIN_PASSWORD is not used: there is a super admin already)"
    return f"Super admin: {email}{unused}"


def refuse_unusable(context: Context, email: str, password: str) -> None:
    """Raise StartRefused for a password that no user could choose either."""
    try:
        refuse_weak(context.platform.plugin_settings(AuthSettings), password, email, ("LMS_ADMIN_PASSWORD",))
    except Invalid as refusal:
        raise StartRefused(f"LMS_ADMIN_PASSWORD is refused: {refusal.detail}") from None
