"""What holds for the tests of the core and of all plugins."""

from collections.abc import Iterator
from typing import Any

import pytest
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
