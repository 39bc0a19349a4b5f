"""What holds for the tests of the core and of all plugins."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from canaries import found_in
from lms_auth import passwords


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[Any]:
    """Hash passwords as fast as the algorithm lets us: a tenth of the suite's time would go into what few tests are about.

    Systems that tests start as processes of their own hash as always.
    """
    slow = passwords.ARGON2
    passwords.ARGON2 = slow.using(memory_cost=8, rounds=1)
    yield slow
    passwords.ARGON2 = slow


@pytest.fixture
def slow_passwords(quick_passwords: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords as in earnest, for tests that are about it."""
    monkeypatch.setattr(passwords, "ARGON2", quick_passwords)


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """Every line that any test of this process logs is looked through; logs of whole systems by `running.system`."""
    formatted, hits = structlog.stdlib.ProcessorFormatter.format, []

    def format_and_look(formatter: structlog.stdlib.ProcessorFormatter, record: logging.LogRecord) -> str:
        line = formatted(formatter, record)
        hits.extend(f"{name} in {line}" for name in found_in(line))
        return line

    structlog.stdlib.ProcessorFormatter.format = format_and_look
    yield
    structlog.stdlib.ProcessorFormatter.format = formatted
    assert hits == []
