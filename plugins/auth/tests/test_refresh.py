"""Refresh tokens: every row of the table in state-machines.md, §1, and what races them."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from lms_auth import refresh_tokens

from lms_core.testing import Lms


async def test_the_newest_token_gives_the_next_pair(account: Any) -> None:
    first = await account.tokens()
    answer = await account.refresh(first["refresh_token"])
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    second = answer.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert await account.me(second["access_token"]) == 200
    assert await account.me(first["access_token"]) == 200
    [session] = await account.sessions()
    assert (session["counter"], session["revoked_at"]) == (1, None)


async def test_a_retry_within_the_grace_gets_the_same_successor(account: Any) -> None:
    first = await account.tokens()
    answers = [await account.refresh(first["refresh_token"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    [session] = await account.sessions()
    assert session["counter"] == 1


async def test_the_token_before_ends_the_session_after_the_grace(lms: Lms, account: Any) -> None:
    first = await account.tokens()
    second = (await account.refresh(first["refresh_token"])).json()
    await lms.sql(
        "UPDATE auth_session SET last_used_at = now() - interval '11 seconds' WHERE user_id = :id", id=account.id
    )
    assert (await account.refresh(first["refresh_token"])).status_code == 401
    assert await ended_by(account) == "reuse"
    assert (await account.refresh(second["refresh_token"])).status_code == 401
    assert await account.me(second["access_token"]) == 401


async def test_an_older_token_ends_the_session_at_once(lms: Lms, account: Any) -> None:
    first = await account.tokens()
    second = (await account.refresh(first["refresh_token"])).json()
    third = (await account.refresh(second["refresh_token"])).json()
    assert (await account.refresh(first["refresh_token"])).status_code == 401
    assert await ended_by(account) == "reuse"
    assert await account.me(third["access_token"]) == 401
    assert (await account.refresh(third["refresh_token"])).status_code == 401
    events = await lms.sql(
        "SELECT payload FROM core_event WHERE name = 'auth.refresh_token_reused.v1' AND payload->>'user_id' = :id",
        id=account.id,
    )
    assert len(events) == 1


async def test_a_counter_that_was_never_reached_ends_the_session(lms: Lms, account: Any) -> None:
    await account.tokens()
    [session] = await account.sessions()
    impossible = refresh_tokens.derive(lms.context, session["id"], session["counter"] + 1)
    assert (await account.refresh(impossible)).status_code == 401
    assert await ended_by(account) == "reuse"


async def test_a_forged_token_changes_nothing(lms: Lms, account: Any) -> None:
    genuine = (await account.tokens())["refresh_token"]
    flipped = genuine[:-1] + ("A" if genuine[-1] != "A" else "B")
    unknown = refresh_tokens.derive(lms.context, uuid4(), 0)
    forged = [
        flipped,
        unknown,
        genuine + "=",
        genuine + " x",
        genuine.replace("r1.", "r2."),
        genuine[3:],
        "r1.",
        "",
        "ü",
    ]
    answers = [await account.refresh(token) for token in forged]
    assert [answer.status_code for answer in answers] == [401] * len(forged)
    [session] = await account.sessions()
    assert (session["counter"], session["revoked_at"]) == (0, None)
    assert (await account.refresh(genuine)).status_code == 200


async def test_a_hundred_parallel_refreshes_are_one_rotation(account: Any) -> None:
    first = await account.tokens()
    answers = await asyncio.gather(*(account.refresh(first["refresh_token"]) for _ in range(100)))
    assert [answer.status_code for answer in answers] == [200] * 100
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    [session] = await account.sessions()
    assert (session["counter"], session["revoked_at"]) == (1, None)


@pytest.mark.parametrize("attempt", range(5))
async def test_logout_wins_over_every_refresh_that_races_it(account: Any, attempt: int) -> None:
    tokens = await account.tokens()
    logout = account.lms.client.post("/auth/logout", json={"refresh_token": tokens["refresh_token"]})
    refreshes = [account.refresh(tokens["refresh_token"]) for _ in range(6)]
    answers = await asyncio.gather(*refreshes[:attempt], logout, *refreshes[attempt:])
    assert {answer.status_code for answer in answers} <= {200, 204, 401}
    assert await ended_by(account) == "logout"
    for answer in answers:
        if answer.status_code == 200:
            assert await account.me(answer.json()["access_token"]) == 401
            assert (await account.refresh(answer.json()["refresh_token"])).status_code == 401


async def test_logout_is_always_204_and_ends_the_access_token_too(lms: Lms, account: Any) -> None:
    tokens = await account.tokens()
    assert await account.me(tokens["access_token"]) == 200
    for token in (tokens["refresh_token"], tokens["refresh_token"], "nonsense", ""):
        answer = await lms.client.post("/auth/logout", json={"refresh_token": token})
        assert (answer.status_code, answer.content) == (204, b"")
    assert await account.me(tokens["access_token"]) == 401
    assert (await account.refresh(tokens["refresh_token"])).status_code == 401


@pytest.mark.parametrize(("column", "reason"), [("idle_expires_at", "idle"), ("absolute_expires_at", "absolute")])
async def test_a_session_ends_with_its_time(lms: Lms, account: Any, column: str, reason: str) -> None:
    tokens = await account.tokens()
    await lms.sql(f"UPDATE auth_session SET {column} = now() WHERE user_id = :id", id=account.id)
    assert await account.me(tokens["access_token"]) == 401
    assert (await account.refresh(tokens["refresh_token"])).status_code == 401
    assert await ended_by(account) == reason


async def test_use_extends_the_idle_life_and_never_the_absolute_one(lms: Lms, account: Any) -> None:
    tokens = await account.tokens()
    await lms.sql(
        "UPDATE auth_session SET idle_expires_at = now() + interval '1 hour' WHERE user_id = :id", id=account.id
    )
    [before] = await account.sessions()
    await account.refresh(tokens["refresh_token"])
    [after] = await account.sessions()
    assert after["idle_expires_at"] > before["idle_expires_at"]
    assert after["absolute_expires_at"] == before["absolute_expires_at"]


async def test_a_disabled_user_is_out_and_stays_out(lms: Lms, account: Any) -> None:
    admin = await lms.admin()
    kept, refreshed = await account.tokens(), await account.tokens()
    assert await account.me(kept["access_token"]) == 200
    assert (await admin.patch(f"/users/{account.id}", {"is_active": False})).status_code == 200
    assert await account.me(kept["access_token"]) == 401
    assert (await account.refresh(refreshed["refresh_token"])).status_code == 401
    await lms.work_off()
    assert (await admin.patch(f"/users/{account.id}", {"is_active": True})).status_code == 200
    assert [session["revoked_reason"] for session in await account.sessions()] == ["disabled", "disabled"]
    for tokens in (kept, refreshed):
        assert await account.me(tokens["access_token"]) == 401
        assert (await account.refresh(tokens["refresh_token"])).status_code == 401
    assert (await account.login()).status_code == 200


async def test_a_deleted_user_is_out(lms: Lms, account: Any) -> None:
    tokens = await account.tokens()
    assert await account.me(tokens["access_token"]) == 200
    assert (await (await lms.admin()).delete(f"/users/{account.id}")).status_code == 202
    assert await account.me(tokens["access_token"]) == 401
    assert (await account.refresh(tokens["refresh_token"])).status_code == 401
    assert await ended_by(account) == "disabled"


async def test_no_token_is_stored(lms: Lms, account: Any) -> None:
    tokens = await account.tokens()
    stored = " ".join(str(dict(session)) for session in await account.sessions())
    assert tokens["refresh_token"][3:20] not in stored
    assert tokens["access_token"] not in stored


async def ended_by(account: Any) -> str | None:
    [session] = await account.sessions()
    reason: str | None = session["revoked_reason"]
    assert (session["revoked_at"] is None) == (reason is None)
    return reason
