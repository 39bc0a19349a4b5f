"""Signing in: one way in, and one answer to everything else."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from lms_auth import passwords

from lms_core.testing import PASSWORD, Lms

WRONG = "this is not the right one"


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every hash that a password is verified against."""
    seen: list[str] = []
    verify = passwords.ARGON2.verify

    def counting(password: str, hashed: str) -> Any:
        seen.append(hashed)
        return verify(password, hashed)

    monkeypatch.setattr(passwords.ARGON2, "verify", counting)
    return seen


async def login(client: httpx2.AsyncClient, **fields: str) -> httpx2.Response:
    return await client.post("/auth/login", data=fields)


async def test_right_password_opens_a_session(lms: Lms, account: Any) -> None:
    answer = await account.login()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert set(body) == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert (body["token_type"], body["expires_in"]) == ("bearer", 600)
    assert body["refresh_token"].startswith("r1.")
    assert await account.me(body["access_token"]) == 200


async def test_the_address_counts_whatever_its_case(account: Any) -> None:
    account.email = account.email.upper()
    assert (await account.login()).status_code == 200


async def test_what_oauth_clients_send_is_accepted(lms: Lms, account: Any) -> None:
    fields = {"grant_type": "password", "scope": "", "client_id": "x", "client_secret": "y", "audience": "z"}
    assert (await login(lms.client, username=account.email, password=PASSWORD, **fields)).status_code == 200


async def test_every_refusal_is_the_same_answer_for_the_same_work(
    lms: Lms, account: Any, client: httpx2.AsyncClient, verifications: list[str]
) -> None:
    admin = await lms.admin()
    users = {name: await admin.create("/users", body(name)) for name in ("disabled", "deleted", "passwordless")}
    assert (await admin.patch(f"/users/{users['disabled']['id']}", {"is_active": False})).status_code == 200
    assert (await admin.delete(f"/users/{users['deleted']['id']}")).status_code == 202
    verifications.clear()
    attempts = [
        (account.email, WRONG),
        ("nobody-at-all@example.org", WRONG),
        ("not an address", WRONG),
        (users["disabled"]["email"], PASSWORD),
        (users["deleted"]["email"], PASSWORD),
        (users["passwordless"]["email"], PASSWORD),
        (account.email, "x" * 600),
    ]
    answers = [await login(client, username=email, password=password) for email, password in attempts]
    assert [answer.status_code for answer in answers] == [401] * len(attempts)
    assert len(verifications) == len(attempts)
    bodies = [{key: value for key, value in answer.json().items() if key != "request_id"} for answer in answers]
    assert all(body == bodies[0] for body in bodies)
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)


def body(name: str) -> dict[str, str]:
    fields = {"email": f"{name}-{id(name)}@example.org", "full_name": name}
    return fields if name == "passwordless" else {**fields, "password": PASSWORD}


@pytest.mark.usefixtures("slow_passwords")
def test_the_dummy_costs_what_a_real_hash_costs() -> None:
    assert not passwords.ARGON2.needs_update(passwords.DUMMY_HASH)
    assert passwords.ARGON2.hash("x" * 12).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize(
    ("request_options", "status"),
    [
        ({"data": {"username": "a@example.org"}}, 422),
        ({"data": {"username": "a@example.org", "password": "x" * 2000}}, 422),
        ({"data": {"username": "a\0@example.org", "password": WRONG}}, 422),
        ({"data": {"username": "a@example.org", "password": "nul \0 inside"}}, 401),
        ({"data": {"username": "a@example.org", "password": WRONG, "grant_type": "client_credentials"}}, 422),
        ({"json": {"username": "a@example.org", "password": WRONG}}, 415),
        ({"content": b"%ff=%ff&&&=", "headers": {"content-type": "application/x-www-form-urlencoded"}}, 422),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ({}, 422),
    ],
)
async def test_malformed_logins_are_refused_and_not_echoed(
    client: httpx2.AsyncClient, request_options: dict[str, Any], status: int
) -> None:
    answer = await client.post("/auth/login", **request_options)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert WRONG not in answer.text


async def test_fifty_parallel_logins_are_all_answered(account: Any) -> None:
    answers = await asyncio.gather(*(account.login() for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 50


async def test_too_many_at_once_are_refused_before_they_queue(
    lms: Lms, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lms.context.platform.plugin_settings(passwords.AuthSettings)
    monkeypatch.setattr(settings, "hash_queue", 1)
    answers = await asyncio.gather(*(account.login() for _ in range(20)))
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 429)


@pytest.mark.usefixtures("slow_passwords")
async def test_an_outdated_hash_is_replaced_at_login(lms: Lms, account: Any) -> None:
    weak = passwords.ARGON2.using(rounds=1, memory_cost=8 * 1024).hash(PASSWORD)
    await lms.sql("UPDATE auth_credential SET password_hash = :weak WHERE user_id = :id", weak=weak, id=account.id)
    answers = await asyncio.gather(account.login(), account.login())
    assert [answer.status_code for answer in answers] == [200, 200]
    [row] = await lms.sql("SELECT password_hash FROM auth_credential WHERE user_id = :id", id=account.id)
    assert "m=19456,t=2" in row["password_hash"]
    assert (await account.login()).status_code == 200


async def test_a_login_that_a_password_change_overtakes_opens_nothing(
    lms: Lms, account: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await account.tokens()
    verify = passwords.ARGON2.verify
    loop = asyncio.get_running_loop()

    def overtaken(password: str, hashed: str) -> Any:
        monkeypatch.setattr(passwords.ARGON2, "verify", verify)
        change = {"current_password": PASSWORD, "new_password": "an entirely different one"}
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        changing = lms.client.post("/auth/password", json=change, headers=headers)
        assert asyncio.run_coroutine_threadsafe(changing, loop).result(20).status_code == 204
        return verify(password, hashed)

    monkeypatch.setattr(passwords.ARGON2, "verify", overtaken)
    assert (await account.login()).status_code == 401
    assert sum(row["revoked_at"] is None for row in await account.sessions()) == 1


def test_passwords_are_ready_before_the_first_sign_in() -> None:
    """passlib loads its backend on first use, and of two first uses at once one fails: the soak saw that after a kill."""
    asked = "import lms_auth.passwords; from passlib.hash import argon2; print(argon2.verify.__qualname__)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != "_NoBackend.verify"
