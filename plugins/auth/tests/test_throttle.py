"""The throttle: guesses run out, the right password from elsewhere still works, and Redis may be away."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import redis.asyncio
from lms_auth import passwords, throttle
from lms_auth.settings import AuthSettings
from lms_auth.throttle import Throttle

from lms_core.testing import PASSWORD, Lms

WRONG = "this is not the right one"


@pytest.fixture
def patient_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests Redis may take longer than the throttle waits; then it counts less."""
    monkeypatch.setattr(throttle, "REDIS_SECONDS", 20.0)


async def statuses(account: Any, client: httpx2.AsyncClient, count: int, password: str = WRONG) -> list[int]:
    return [(await account.login(password, client)).status_code for _ in range(count)]


async def test_ten_wrong_passwords_then_429_whatever_comes(lms: Lms, account: Any, client: httpx2.AsyncClient) -> None:
    assert await statuses(account, client, 11) == [401] * 10 + [429]
    blocked = await account.login(PASSWORD, client)
    assert blocked.status_code == 429
    assert 0 < int(blocked.headers["retry-after"]) <= 300
    assert blocked.json()["code"] == "too_many_attempts"
    assert (await account.login(PASSWORD, lms.client)).status_code == 200


async def test_other_accounts_from_there_are_not_blocked(lms: Lms, account: Any, client: httpx2.AsyncClient) -> None:
    await statuses(account, client, 11)
    other = await lms.make_user()
    answer = await client.post("/auth/login", data={"username": other.email, "password": PASSWORD})
    assert answer.status_code == 200


async def test_right_passwords_do_not_count(account: Any, client: httpx2.AsyncClient) -> None:
    assert await statuses(account, client, 15, PASSWORD) == [200] * 15
    assert await statuses(account, client, 10) == [401] * 10


@pytest.mark.usefixtures("patient_with_redis")
async def test_parallel_guesses_are_no_way_around(account: Any, client: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(*(account.login(WRONG, client) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [401] * 10 + [429] * 20


@pytest.mark.usefixtures("patient_with_redis")
async def test_a_right_guess_among_parallel_ones_comes_too_late(
    account: Any, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, count_wrong = passwords.ARGON2.verify, Throttle.count_wrong
    all_counted = threading.Event()
    counted = 0

    def right_ones_last(password: str, hashed: str) -> Any:
        if password == PASSWORD:
            assert all_counted.wait(30)
        return verify(password, hashed)

    async def count(*arguments: Any) -> None:
        nonlocal counted
        try:
            await count_wrong(*arguments)
        finally:
            counted += 1
            if counted == 10:
                all_counted.set()

    monkeypatch.setattr(Throttle, "count_wrong", count)
    monkeypatch.setattr(passwords.ARGON2, "verify", right_ones_last)
    right, *_ = await asyncio.gather(*(account.login(text, client) for text in (PASSWORD, *[WRONG] * 12)))
    assert right.status_code == 429


async def test_unknown_accounts_run_out_too_however_they_are_spelled(client: httpx2.AsyncClient) -> None:
    name = f"nobody-{uuid4().hex[:8]}@example.org"
    spellings = [name, name.upper(), f" {name}", name.title()] * 3
    answers = [await client.post("/auth/login", data={"username": text, "password": WRONG}) for text in spellings]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2


async def test_an_address_runs_out_over_all_accounts(
    lms: Lms, account: Any, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(AuthSettings), "wrong_passwords_per_address", 5)
    for number in range(5):
        form = {"username": f"nobody-{number}@example.org", "password": WRONG}
        assert (await client.post("/auth/login", data=form)).status_code == 401
    assert (await account.login(PASSWORD, client)).status_code == 429


async def test_guessing_the_current_password_is_throttled(account: Any, client: httpx2.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {(await account.tokens())['access_token']}"}
    body = {"current_password": WRONG, "new_password": "an entirely different one"}
    answers = [await client.post("/auth/password", json=body, headers=headers) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [422] * 10 + [429]


async def test_keys_name_nobody(lms: Lms, account: Any, client: httpx2.AsyncClient) -> None:
    await statuses(account, client, 1)
    keys = [key async for key in lms.context.redis.scan_iter("auth:wrong:*")]
    assert keys
    assert all(account.email.encode() not in key and account.id.encode() not in key for key in keys)
    # None stays for ever (-1, as Redis says it); one of another test may end meanwhile (-2).
    assert -1 not in [await lms.context.redis.ttl(key) for key in keys]


@pytest.fixture
async def waits(lms: Lms, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """A Redis that takes connections and never answers; when each was tried."""
    tried: list[float] = []

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.append(time.monotonic())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    silent = redis.asyncio.Redis(port=port, socket_timeout=30)
    monkeypatch.setattr(lms.context, "redis", silent)
    yield tried
    lms.context.platform.service(Throttle).redis_away_until = 0.0
    await silent.aclose()
    server.close()


async def test_without_redis_fewer_guesses_are_free(
    account: Any, client: httpx2.AsyncClient, waits: list[float]
) -> None:
    # The silent Redis would be waited for 30 s; without a time-out of its own the login would hang as long.
    async with asyncio.timeout(20):
        assert (await account.login(PASSWORD, client)).status_code == 200
    assert await statuses(account, client, 6) == [401] * 5 + [429]
    assert (await account.login(PASSWORD, client)).status_code == 429
    assert (await account.login(PASSWORD)).status_code == 200
    assert 1 <= len(waits) <= 3
