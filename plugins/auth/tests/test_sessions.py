"""The list of sessions, and ending one."""

from typing import Any
from uuid import uuid4

import pytest
from lms_auth.devices import name_of

from lms_core.testing import PASSWORD, Lms


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Windows"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1",
            "Mobile Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
            "Mobile Safari/537.36",
            "Chrome Mobile on Pixel 8",
        ),
        ("school-app/2.1", "school-app/2.1"),
        ("A phone\x7f\u202e" + "x" * 9_000, "A phone" + "x" * 293),
        ("", ""),
    ],
)
def test_devices_have_names(user_agent: str, name: str) -> None:
    assert name_of(user_agent) == name


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def test_callers_see_their_own_active_sessions_newest_first(lms: Lms, account: Any) -> None:
    form = {"username": account.email, "password": PASSWORD}
    phone = (await lms.client.post("/auth/login", data=form, headers={"User-Agent": "A phone\x7f" + "x" * 400})).json()
    laptop, ended, stale = await account.tokens(), await account.tokens(), await account.tokens()
    await lms.client.post("/auth/logout", json={"refresh_token": ended["refresh_token"]})
    await lms.sql(
        "UPDATE auth_session SET idle_expires_at = now() WHERE id = :id", id=(await account.sessions())[-1]["id"]
    )
    caller = await lms.sign_in("admin@example.org", "correct horse battery staple")
    assert all("phone" not in session["device"] for session in await caller.items("/auth/sessions"))
    page = (await lms.client.get("/auth/sessions", headers=bearer(laptop), params={"limit": 1})).json()
    [first] = page["items"]
    assert set(first) == {"id", "device", "ip", "created_at", "last_used_at", "absolute_expires_at", "current"}
    assert (first["current"], first["ip"]) == (True, "127.0.0.1")
    rest = await lms.client.get(
        "/auth/sessions", headers=bearer(laptop), params={"limit": 1, "cursor": page["next_cursor"]}
    )
    [second] = rest.json()["items"]
    assert rest.json()["next_cursor"] is None
    assert (second["current"], second["device"]) == (False, ("A phone" + "x" * 400)[:300])
    assert (await lms.client.get("/users/me", headers=bearer(phone))).status_code == 200
    assert (await lms.client.get("/auth/sessions", headers=bearer(stale))).status_code == 401


async def test_ending_a_session(lms: Lms, account: Any) -> None:
    tokens, other = await account.tokens(), await account.tokens()
    ids = [session["id"] for session in await account.sessions()]
    stranger = await lms.make_user()
    assert (await stranger.delete(f"/auth/sessions/{ids[1]}")).status_code == 404
    assert (await lms.client.get("/users/me", headers=bearer(other))).status_code == 200
    answers = [await lms.client.delete(f"/auth/sessions/{ids[1]}", headers=bearer(tokens)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 404]
    assert answers[1].json()["code"] == "session_not_found"
    assert (await lms.client.delete(f"/auth/sessions/{uuid4()}", headers=bearer(tokens))).status_code == 404
    assert (await lms.client.delete("/auth/sessions/7", headers=bearer(tokens))).status_code == 422
    assert (await lms.client.delete(f"/auth/sessions/{ids[0]}")).status_code == 401
    assert (await account.refresh(other["refresh_token"])).status_code == 401
    own = await lms.client.delete(f"/auth/sessions/{ids[0]}", headers=bearer(tokens))
    assert own.status_code == 204
    assert (await lms.client.get("/users/me", headers=bearer(tokens))).status_code == 401
