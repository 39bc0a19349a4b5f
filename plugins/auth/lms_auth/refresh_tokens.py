"""Refresh tokens: opaque, and derived instead of stored.

`r1.` and, in base64url, key version, session id, counter and an HMAC over these. So the same successor can be
handed out again after a lost answer, and whoever reads the table can forge nothing.
"""

import base64
import hmac
import struct
from dataclasses import dataclass
from uuid import UUID

from lms_core.sdk import Context

PREFIX = "r1."
KEY_VERSION = 1
FIELDS = struct.Struct(">B16sQ")


@dataclass(frozen=True)
class Presented:
    """What a genuine refresh token says."""

    session_id: UUID
    counter: int


def derive(context: Context, session_id: UUID, counter: int) -> str:
    """The refresh token of a session at a counter; always the same bytes."""
    fields = FIELDS.pack(KEY_VERSION, session_id.bytes, counter)
    seal = hmac.digest(context.platform.derived_key(f"auth.refresh_token.{KEY_VERSION}"), fields, "sha256")
    return PREFIX + base64.urlsafe_b64encode(fields + seal).decode()


def open_token(context: Context, token: str) -> Presented | None:
    """What a token says, or None when it is not one of ours, to the last bit."""
    try:
        raw = base64.urlsafe_b64decode(token.removeprefix(PREFIX))
        _, session_bytes, counter = FIELDS.unpack(raw[: FIELDS.size])
    except (ValueError, struct.error):
        return None
    presented = Presented(UUID(bytes=session_bytes), counter)
    genuine = derive(context, presented.session_id, presented.counter)
    return presented if hmac.compare_digest(genuine.encode(), token.encode()) else None
