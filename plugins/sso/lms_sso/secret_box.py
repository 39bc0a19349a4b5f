"""Secrets of others that must be stored: encrypted with a key that lives outside of the database."""

from joserfc import jwe
from joserfc.jwk import OctKey

from lms_core.sdk import Context

HEADER = {"alg": "dir", "enc": "A256GCM"}


def key(context: Context) -> OctKey:
    """Derived, so that a new LMS_SECRET_KEY makes every stored secret unreadable."""
    return OctKey.import_key(context.platform.derived_key("sso.client_secret"))


def closed(context: Context, secret: str | None) -> str | None:
    """As it is stored."""
    return None if secret is None else jwe.encrypt_compact(HEADER, secret.encode(), key(context))


def opened(context: Context, stored: str | None) -> str | None:
    """As it is. Raises JoseError when it was stored under another key."""
    if stored is None:
        return None
    content = jwe.decrypt_compact(stored, key(context)).plaintext
    return None if content is None else content.decode()
