"""Secrets that the tests use everywhere, and forms of those that the system makes: none may stand in a log."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from lms_core.config import DEVELOPMENT_SECRET
from lms_core.testing import ADMIN_PASSWORD, PASSWORD

FORMS = {
    "an access token": re.compile(r"eyJhbGciOi[\w-]+\."),
    "a token of ours": re.compile(r"\b[a-z]1\.[\w-]{40,}"),
    "a signature": re.compile(r"X-Amz-Signature=[0-9a-f]{8}"),
    "a password hash": re.compile(r"\$argon2id\$v="),
}


def secrets() -> dict[str, str]:
    """The secrets of this test process by name."""
    database = urlsplit(os.environ["LMS_DATABASE_URL"]).password
    found = {
        "the password of everybody": PASSWORD,
        "the super admin's password": ADMIN_PASSWORD,
        "the secret key": DEVELOPMENT_SECRET,
        "the store's key": os.environ["LMS_S3_SECRET_KEY"],
        "the database's password": database or "",
    }
    return {name: secret for name, secret in found.items() if secret}


def found_in(text: str) -> list[str]:
    """The names of what stands in a text and must not."""
    names = [name for name, secret in secrets().items() if secret in text]
    return names + [name for name, form in FORMS.items() if form.search(text)]


def found_in_logs(data: Path) -> list[str]:
    """The same for all logs of a system's data folder, with the passwords that it has chosen itself."""
    hits = []
    kept = (data / "kept.json").read_text() if (data / "kept.json").exists() else ""
    own = re.findall(r'"\w*(?:password|secret)\w*": "([^"]{16,})"', kept)
    for log in sorted((data / "logs").glob("*")):
        text = log.read_text(errors="replace")
        hits += [f"{name} in {log.name}" for name in found_in(text)]
        hits += [f"a chosen secret in {log.name}" for secret in own if secret in text]
    return hits
