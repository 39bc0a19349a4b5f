"""E-mail addresses: what counts as one, and the one form in which two of them are the same."""

import re
import unicodedata

ADDRESS = re.compile(r"[^\s@\x00-\x1f\x7f<>()\[\]\\,;:\"]{1,64}@[^\s@\x00-\x1f\x7f<>()\[\]\\,;:\"/]{1,253}")


def valid_email(address: str) -> str:
    """The address, when it looks like one; whether it can be reached only a mail to it tells."""
    domain = address.rpartition("@")[2]
    if not ADDRESS.fullmatch(address) or ".." in address or domain.startswith((".", "-")) or domain.endswith("."):
        raise ValueError("is not an e-mail address such as ada@example.org")
    return address


def email_key(address: str) -> str:
    """The form in which addresses are compared: Unicode NFKC, case folded."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", address).casefold()).strip()
