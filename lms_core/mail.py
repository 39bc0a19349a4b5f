"""Mail: sent through an SMTP server, or kept as files where none is set.

Handlers send it, after the transaction that was the reason, so a mail goes out at least once: when a process dies
between the server's answer and the done-mark, it goes out again with the same Message-ID.
"""

from __future__ import annotations

import asyncio
import re
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog
from prometheus_client import Counter

from lms_core.config import Settings
from lms_core.errors import Unavailable
from lms_core.mail_folder import keep_mail
from lms_core.uow import Context

log = structlog.get_logger("lms.mail")

SEND_SECONDS = 20.0
GREET_SECONDS = 1.5
KEY = re.compile(r"[a-z0-9-]{1,100}")
MAILS = Counter("lms_mails_total", "Mails by outcome", ["outcome"])
# From here on a server's no is final (RFC 5321 §4.2.1).
PERMANENT = 500


async def send_mail(context: Context, key: str, to: str, subject: str, text: str) -> None:
    """Send a mail. `key` is its own: letters, digits and hyphens; the same key is the same mail.

    A recipient whom the server refuses for good is given up, with a warning in the log. Raises Unavailable when the
    server is away, or refuses for now or refuses us, so that the delivery is tried again.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a mail; use lower-case letters, digits and hyphens.")
    settings = context.settings
    message = EmailMessage(policy=SMTPUTF8)
    host = urlsplit(settings.public_url).hostname or "localhost"
    message["Message-ID"] = f"<{key}@{host}>"
    message["From"] = settings.mail_from or f"lms@{host}"
    message["To"] = to
    message["Subject"] = subject
    # Nobody's holiday notice answers it (RFC 3834 §5).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    if settings.smtp_url:
        await hand_over(settings, message)
    else:
        await asyncio.to_thread(keep_mail, Path(settings.data), key, message.as_bytes())
        MAILS.labels("kept").inc()


async def greet(settings: Settings) -> None:
    """Connect, sign in and leave again; raises what the server, or the way to it, has against it."""
    url = urlsplit(settings.smtp_url)
    async with aiosmtplib.SMTP(**connection_to(settings), timeout=GREET_SECONDS) as server:
        if url.username:
            await server.login(unquote(url.username), unquote(url.password or ""))
        await server.noop()


def connection_to(settings: Settings) -> dict[str, Any]:
    """Where the server is, and how safely it is spoken to."""
    url = urlsplit(settings.smtp_url)
    # STARTTLS is asked for, not taken if offered: who sits between could hide the offer, and read the tokens in our mails.
    return {
        "hostname": url.hostname,
        "port": url.port,
        "use_tls": url.scheme == "smtps",
        "start_tls": url.scheme == "smtp",
    }


async def hand_over(settings: Settings, message: EmailMessage) -> None:
    """Give a mail to the server."""
    url = urlsplit(settings.smtp_url)
    try:
        await aiosmtplib.send(
            message,
            **connection_to(settings),
            username=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            timeout=SEND_SECONDS,
        )
    except (aiosmtplib.SMTPException, OSError) as error:
        if not is_final(error):
            MAILS.labels("failed").inc()
            raise Unavailable(f"The mail server does not take our mail ({type(error).__name__}: {error}).") from error
        MAILS.labels("refused").inc()
        log.warning("mail refused", message_id=message["Message-ID"], reason=str(error))
        return
    MAILS.labels("sent").inc()


def is_final(error: Exception) -> bool:
    """Whether the server will never take this very mail, whoever asks again."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(refusal.code >= PERMANENT for refusal in error.recipients)
    if isinstance(error, aiosmtplib.SMTPDataError):
        return bool(error.code >= PERMANENT)
    # An address in other letters than ASCII, and a server without SMTPUTF8 (RFC 6531).
    return isinstance(error, aiosmtplib.SMTPNotSupported) and "SMTPUTF8" in str(error)
