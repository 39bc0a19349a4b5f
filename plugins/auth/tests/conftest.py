"""A person with a password, and the tokens of a session, for the tests of sign-in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from lms_core.testing import PASSWORD, Lms, Settings, load_platform, on_server, settings_for, upgrade


@dataclass
class Account:
    """Somebody who can sign in."""

    lms: Lms
    email: str
    id: str

    async def login(self, password: str = PASSWORD, client: httpx2.AsyncClient | None = None) -> httpx2.Response:
        return await (client or self.lms.client).post(
            "/auth/login", data={"username": self.email, "password": password}
        )

    async def tokens(self) -> dict[str, Any]:
        answer = await self.login()
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self, token: str) -> httpx2.Response:
        return await self.lms.client.post("/auth/refresh", json={"refresh_token": token})

    async def me(self, access_token: str) -> int:
        answer = await self.lms.client.get("/users/me", headers={"Authorization": f"Bearer {access_token}"})
        return answer.status_code

    async def sessions(self) -> list[Any]:
        return await self.lms.sql("SELECT * FROM auth_session WHERE user_id = :id ORDER BY id", id=self.id)


@pytest.fixture
async def account(lms: Lms) -> Account:
    """A new user."""
    return await make_account(lms)


@pytest.fixture
async def client(lms: Lms) -> AsyncIterator[httpx2.AsyncClient]:
    """A client at an address of its own."""
    async with client_at(lms, f"test-{uuid4().hex[:8]}") as client:
        yield client


@pytest.fixture
async def empty_database(lms: Lms) -> AsyncIterator[Settings]:
    """A migrated database in which nobody is, for what would disturb other tests."""
    name = f"lms_empty_{uuid4().hex[:8]}"
    await on_server(f'CREATE DATABASE "{name}"')
    settings = settings_for(name)
    await upgrade(load_platform(settings))
    yield settings
    await on_server(f'DROP DATABASE "{name}" WITH (FORCE)')


def client_at(lms: Lms, address: str) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(lms.client._transport.app, raise_app_exceptions=False, client=(address, 1))
    return httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=60)


async def make_account(lms: Lms, password: str = PASSWORD) -> Account:
    email = f"person-{uuid4().hex[:12]}@example.org"
    body = {"email": email, "full_name": "A person", "password": password}
    user = await (await lms.admin()).create("/users", body)
    return Account(lms, email, user["id"])
