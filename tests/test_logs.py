"""Logs hold no secret: the last processor takes out what a library, a traceback or one of us has put in."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from canaries import found_in

from lms_core.config import Settings
from lms_core.logs import configure_logs
from lms_core.testing import PASSWORD

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
REFRESH = "r1.AAGiJgndcHByJYBYGfWVv6lKAAAAAAAAAAGo9d2x"

SECRET = "hunter2-hunter2"
FORMS = [
    "PASSWORD=SECRET", "TOKEN: SECRET", "secret_key=SECRET", "api_key=SECRET", "passwd=SECRET", "password = 'SECRET'",
    "Cookie: session=SECRET", "Authorization: Digest SECRET", "Authorization: Basic SECRET", "('password', 'SECRET')",
    r'{\"password\": \"SECRET\"}', "b'password': b'SECRET'", r"password='a\'SECRET'", '{"refresh_token": "SECRET"}',
]  # fmt: skip


@pytest.fixture(params=["production", "development"])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What is logged, in both forms."""
    root = logging.getLogger()
    handlers, level, written = root.handlers, root.level, io.StringIO()
    settings = Settings(
        env=request.param,
        secret_key="the secret key of a school, thirty-two",
        database_url="postgresql://lms:p%40ssword-of-postgres@127.0.0.1/lms",
        redis_url="redis://:password-of-redis@127.0.0.1:6379/0",
        metrics_token="token-of-prometheus",
    )
    configure_logs(settings)
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    yield written
    root.handlers, root.level = handlers, level


def test_what_anybody_logs_holds_no_secret(lines: io.StringIO) -> None:
    ours, library = structlog.get_logger("lms.test"), logging.getLogger("a library")
    ours.warning("asked", password=PASSWORD, url="postgresql://lms:p%40ssword-of-postgres@127.0.0.1/lms")
    ours.warning("the secret key of a school, thirty-two", headers={"Authorization": f"Bearer {TOKEN}"})
    library.warning("GET %s", "http://s3/b/k?X-Amz-Credential=AKIA%2F2026&X-Amz-Signature=0123456789abcdef&x=1")
    library.warning("token=%s and %s", TOKEN, REFRESH)
    library.error("AUTH password-of-redis, p@ssword-of-postgres, Bearer token-of-prometheus")
    try:
        raise ValueError(f"invalid literal: {{'password': '{PASSWORD}', 'token': '{REFRESH}'}}")
    except ValueError:
        ours.exception("failed")
    for form in FORMS:
        library.warning("%s", form.replace("SECRET", SECRET))
        assert SECRET not in lines.getvalue(), form
    ours.warning("made", new_password=SECRET, client_secret=SECRET, told={"access_token": SECRET})
    assert SECRET not in lines.getvalue()
    text = lines.getvalue()
    assert text.count("[redacted]") >= 10
    assert found_in(text) == []
    for secret in (
        "password-of-redis",
        "ssword-of-postgres",
        "of a school",
        "token-of-prometheus",
        TOKEN,
        REFRESH,
        "AKIA",
    ):
        assert secret not in text, text
    assert "&x=1" in text
    assert "invalid literal" in text


def test_lines_stay_what_they_are_for(lines: io.StringIO) -> None:
    structlog.get_logger("lms.access").warning(
        "request", path="/auth/password-reset", status=200, ms=1.5, token_type="bearer"
    )
    line = lines.getvalue()
    if line.startswith("{"):
        found = json.loads(line)
        assert (found["path"], found["status"], found["ms"]) == ("/auth/password-reset", 200, 1.5)
    assert "/auth/password-reset" in line
    structlog.get_logger("lms.db").warning("postgresql is away at postgres:5432, at s1.internal-host-of-the-school")
    structlog.get_logger("lms.db").warning("Basic authentication failed; the token expired; a key of courses_course")
    assert "[redacted]" not in lines.getvalue()
