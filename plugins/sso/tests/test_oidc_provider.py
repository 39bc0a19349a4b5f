"""Single sign-on against oidc-provider, a certified OpenID Connect provider that is not ours."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit
from uuid import uuid4

import httpx2
import pytest
from browser import browsing
from lms_sso.sign_in import redirect_uri
from providers import CHALLENGE, FRONT_END, Realm, make_realm

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


@pytest.fixture
async def realm(lms: Lms, school: School, oidc: str) -> Realm:
    return await make_realm(lms, school, oidc)


def claims_of(email: str | None = None, **more: Any) -> dict[str, Any]:
    email = email or f"{uuid4().hex}@school.example"
    return {"sub": uuid4().hex, "email": email, "email_verified": True, "name": "Ada Lovelace", **more}


async def at_provider(realm: Realm, location: str, claims: dict[str, Any] | None) -> dict[str, str]:
    """Go through the provider's pages; what it sends the browser back with."""
    headers = {"X-Deny": "1"} if claims is None else {"X-Claims": json.dumps(claims)}
    async with browsing(headers=headers) as browser:
        while not location.startswith(redirect_uri(realm.lms.context)):
            answer = await browser.get(location)
            assert answer.status_code in (302, 303), answer.text
            location = urljoin(location, answer.headers["Location"])
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def through(
    realm: Realm, claims: dict[str, Any] | None, return_to: str | None = f"{FRONT_END}/in?x=1#top"
) -> Any:
    """The whole way; the callback's answer."""
    location, cookie = await realm.start(return_to)
    return await realm.come_back(cookie, **await at_provider(realm, location, claims))


def sent_back(answer: httpx2.Response) -> dict[str, str]:
    """What the front end gets in its address."""
    assert answer.status_code == 303, answer.text
    location = urlsplit(answer.headers["Location"])
    assert (location.scheme, location.netloc, location.path) == ("https", "front.example", "/in")
    assert location.fragment == "top"
    return {name: values[0] for name, values in parse_qs(location.query).items() if name != "x"}


async def signed_in(realm: Realm, claims: dict[str, Any]) -> tuple[Caller, dict[str, Any]]:
    """Somebody who came in, and who they are."""
    code = sent_back(await through(realm, claims))["code"]
    answer = await realm.exchange(code)
    assert answer.status_code == 200, answer.text
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    caller = Caller(realm.lms.client, headers=headers)
    me: dict[str, Any] = (await caller.get("/users/me")).json()
    return caller, me


async def test_who_is_new_gets_an_account_and_is_known_the_next_time(realm: Realm) -> None:
    claims = claims_of()
    _, me = await signed_in(realm, claims)
    assert (me["email"], me["full_name"]) == (claims["email"], "Ada Lovelace")
    assert [(role["role"], role["object_id"]) for role in me["roles"]] == [("student", realm.school.institution["id"])]
    # The subject counts from now on, whatever the address.
    _, again = await signed_in(realm, {**claims, "email": "somebody@else.example", "email_verified": False})
    assert again["id"] == me["id"]
    sessions = await (await signed_in(realm, claims))[0].items("/auth/sessions")
    assert len(sessions) == 3


async def test_claims_mean_roles(realm: Realm) -> None:
    _, me = await signed_in(realm, claims_of(groups=["choir", "staff"]))
    assert [role["role"] for role in me["roles"]] == ["teacher"]


async def test_an_account_of_the_institution_is_linked_by_its_verified_address(lms: Lms, realm: Realm) -> None:
    there = await lms.make_user("teacher", realm.school.institution["id"])
    email = f"{uuid4().hex}@school.example"
    assert (await (await lms.admin()).patch(f"/users/{there.id}", {"email": email})).status_code == 200
    _, me = await signed_in(realm, claims_of(email.upper()))
    assert me["id"] == str(there.id)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"email_verified": False}, "email_not_verified"),
        ({"email": "somebody@gmail.example"}, "domain_not_claimed"),
        ({"email": "somebody@sub.school.example"}, "domain_not_claimed"),
        ({"email": "nobody"}, "no_email"),
        ({"email": "somebody@gmail.example@school.example"}, "no_email"),
    ],
)
async def test_who_is_not_vouched_for_stays_out(realm: Realm, claims: dict[str, Any], code: str) -> None:
    before = await realm.lms.sql("SELECT count(*) FROM users_user")
    assert sent_back(await through(realm, {**claims_of(), **claims})) == {"error": code}
    assert await realm.lms.sql("SELECT count(*) FROM users_user") == before


async def test_accounts_beyond_the_institution_are_not_linked(lms: Lms, realm: Realm) -> None:
    admin, other = await lms.admin(), await lms.make_school()
    super_admin = await lms.make_user("super_admin")
    principal = await lms.make_user("principal", realm.school.institution["id"])
    elsewhere = await lms.make_user("student", realm.school.institution["id"])
    await lms.enroll(other.course["id"], elsewhere)
    for user in (super_admin, principal, elsewhere, other.student):
        email = f"{uuid4().hex}@school.example"
        assert (await admin.patch(f"/users/{user.id}", {"email": email})).status_code == 200
        assert sent_back(await through(realm, claims_of(email))) == {"error": "account_elsewhere"}
    assert await lms.sql("SELECT 1 FROM sso_identity WHERE user_id = :id", id=super_admin.id) == []
    assert (await admin.delete(f"/users/{super_admin.id}")).status_code == 202


async def test_who_becomes_a_super_admin_signs_in_with_a_password(lms: Lms, realm: Realm) -> None:
    claims = claims_of()
    _, me = await signed_in(realm, claims)
    given = await (await lms.admin()).create(f"/users/{me['id']}/roles", {"role": "super_admin"})
    assert sent_back(await through(realm, claims)) == {"error": "account_elsewhere"}
    assert (await (await lms.admin()).delete(f"/users/{me['id']}/roles/{given['id']}")).status_code == 202
    _, again = await signed_in(realm, claims)
    assert again["id"] == me["id"]


async def test_disabled_and_deleted_users_stay_out(lms: Lms, realm: Realm) -> None:
    claims = claims_of()
    caller, me = await signed_in(realm, claims)
    path = f"/users/{me['id']}"
    assert (await realm.school.principal.patch(path, {"is_active": False})).status_code == 200
    assert (await caller.get("/users/me")).status_code == 401
    assert sent_back(await through(realm, claims)) == {"error": "user_disabled"}
    assert (await realm.school.principal.patch(path, {"is_active": True})).status_code == 200
    code = sent_back(await through(realm, claims))["code"]
    assert (await realm.school.principal.patch(path, {"is_active": False})).status_code == 200
    assert (await realm.exchange(code)).status_code == 400
    assert (await realm.school.principal.delete(path)).status_code == 202
    # Who was deleted is no hindrance to a new account with the address, and comes back with a restore.
    _, new = await signed_in(realm, claims)
    assert new["id"] != me["id"]


async def test_a_provider_that_makes_no_accounts_lets_in_those_who_have_one(
    lms: Lms, school: School, oidc: str
) -> None:
    realm = await make_realm(lms, school, oidc, creates_users=False)
    assert sent_back(await through(realm, claims_of())) == {"error": "no_account"}
    realm = await make_realm(lms, school, oidc, default_role=None)
    assert sent_back(await through(realm, claims_of())) == {"error": "no_role"}
    _, me = await signed_in(realm, claims_of(groups=["staff"]))
    assert me["roles"]


async def test_a_code_of_the_provider_works_once_and_not_for_long(realm: Realm) -> None:
    location, cookie = await realm.start()
    query = await at_provider(realm, location, claims_of())
    assert "code" in parse_qs(urlsplit((await realm.come_back(cookie, **query)).headers["Location"]).query)
    again = await realm.come_back(cookie, **query)
    assert (again.status_code, again.json()["code"]) == (400, "sign_in_over")
    # The provider's code in another sign-in of the same browser: it belongs to another verifier.
    other_location, other_cookie = await realm.start()
    fresh = await at_provider(realm, other_location, claims_of())
    mixed = await realm.come_back(other_cookie, **{**fresh, "code": query["code"]})
    assert "error=token_refused" in mixed.headers["Location"]
    location, cookie = await realm.start()
    query = await at_provider(realm, location, claims_of())
    await asyncio.sleep(2.5)
    assert "error=token_refused" in (await realm.come_back(cookie, **query)).headers["Location"]


async def test_our_code_works_once_for_whoever_began(realm: Realm, lms: Lms) -> None:
    code = sent_back(await through(realm, claims_of()))["code"]
    answers = await asyncio.gather(*(realm.exchange(code) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [400] * 7
    code = sent_back(await through(realm, claims_of()))["code"]
    assert (await realm.exchange(code, "x" * 43)).status_code == 400
    assert (await realm.exchange(code)).status_code == 400
    code = sent_back(await through(realm, claims_of()))["code"]
    assert (await realm.exchange(code[:-1] + ("A" if code[-1] != "A" else "B"))).status_code == 400
    await lms.sql("UPDATE sso_attempt SET code_expires_at = now() WHERE exchanged_at IS NULL")
    assert (await realm.exchange(code)).status_code == 400


async def test_the_browser_that_began_finishes(realm: Realm) -> None:
    location, cookie = await realm.start()
    other_location, other_cookie = await realm.start()
    query = await at_provider(realm, location, claims_of())
    for wrong in ("", other_cookie, cookie[:-1] + "x"):
        answer = await realm.come_back(wrong, **query)
        assert (answer.status_code, answer.json()["code"]) == (400, "other_browser")
    for state in ("", "s1.", "x" * 40, query["state"][:-1] + "x"):
        answer = await realm.come_back(cookie, **{**query, "state": state})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_state")
    assert "code=" in (await realm.come_back(cookie, **query)).headers["Location"]
    assert (
        "code="
        in (await realm.come_back(other_cookie, **await at_provider(realm, other_location, claims_of()))).headers[
            "Location"
        ]
    )


async def test_without_a_front_end_the_callback_answers_itself(realm: Realm) -> None:
    answer = await through(realm, claims_of(), None)
    assert (await realm.exchange(answer.json()["code"])).status_code == 200
    refused = await through(realm, None, None)
    assert (refused.status_code, refused.json()["code"]) == (403, "denied")


@pytest.mark.parametrize(
    "return_to",
    [
        "https://evil.example/",
        "https://front.example.evil.example/",
        "https://front.example@evil.example/",
        "//front.example/",
        "javascript:alert(1)",
        "http://front.example/",
        "/welcome",
    ],
)
async def test_browsers_are_sent_back_to_our_front_ends_only(realm: Realm, return_to: str) -> None:
    params = {"code_challenge": CHALLENGE, "return_to": return_to}
    answer = await realm.lms.client.get(f"/sso/providers/{realm.provider['id']}/start", params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "return_to_not_allowed")


async def test_a_provider_that_is_off_or_deleted_lets_nobody_in(realm: Realm) -> None:
    path = f"/sso/providers/{realm.provider['id']}"
    claims = claims_of()
    _, me = await signed_in(realm, claims)
    unused = sent_back(await through(realm, claims))["code"]
    location, cookie = await realm.start(f"{FRONT_END}/in#top")
    query = await at_provider(realm, location, claims)
    assert (await realm.school.principal.patch(path, {"is_enabled": False})).status_code == 200
    assert sent_back(await realm.come_back(cookie, **query)) == {"error": "provider_off"}
    assert (await realm.exchange(unused)).status_code == 400
    params = {"code_challenge": CHALLENGE}
    assert (await realm.lms.client.get(f"{path}/start", params=params)).status_code == 404
    assert (await realm.school.principal.patch(path, {"is_enabled": True})).status_code == 200
    assert (await realm.school.principal.delete(path)).status_code == 202
    await realm.lms.work_off()
    assert (await realm.lms.client.get(f"{path}/start", params=params)).status_code == 404
    assert (await realm.school.principal.post(f"{path}/restore")).status_code == 202
    await realm.lms.work_off()
    _, again = await signed_in(realm, claims)
    assert again["id"] == me["id"]


async def test_two_tabs_of_somebody_new_make_one_account(realm: Realm) -> None:
    claims = claims_of()
    ways = [await realm.start() for _ in range(4)]
    queries = [await at_provider(realm, location, claims) for location, _ in ways]
    answers = await asyncio.gather(
        *(realm.come_back(cookie, **query) for (_, cookie), query in zip(ways, queries, strict=True))
    )
    assert any("code=" in answer.headers["Location"] for answer in answers)
    rows = await realm.lms.sql("SELECT 1 FROM users_user WHERE email = :email", email=claims["email"])
    assert len(rows) == 1
    await signed_in(realm, claims)


async def test_two_accounts_of_the_provider_with_one_address_do_not_share_ours(realm: Realm) -> None:
    email = f"{uuid4().hex}@school.example"
    ways = [await realm.start() for _ in range(4)]
    queries = [await at_provider(realm, location, claims_of(email)) for location, _ in ways]
    answers = await asyncio.gather(
        *(realm.come_back(cookie, **query) for (_, cookie), query in zip(ways, queries, strict=True))
    )
    assert sum("code=" in answer.headers["Location"] for answer in answers) == 1
    linked = "SELECT 1 FROM sso_identity i JOIN users_user u ON u.id = i.user_id WHERE u.email = :email"
    assert len(await realm.lms.sql(linked, email=email)) == 1


async def test_cookies_are_the_hosts_own_where_there_is_https(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realm.lms.context.settings, "public_url", "https://lms.example")
    params = {"code_challenge": CHALLENGE}
    answer = await realm.lms.client.get(f"/sso/providers/{realm.provider['id']}/start", params=params)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-lms_sso_")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    realm.lms.client.cookies.clear()


async def test_signing_out_ends_the_session_and_says_where_to_go(realm: Realm, oidc: str) -> None:
    caller, _ = await signed_in(realm, claims_of())
    answer = await caller.post("/sso/sign-out")
    assert answer.status_code == 200
    assert answer.json()["url"].startswith(f"{oidc}/session/end?")
    assert (await caller.get("/users/me")).status_code == 401
    async with browsing() as browser:
        assert (await browser.get(answer.json()["url"])).status_code == 200
    by_password = await realm.lms.make_user()
    assert (await by_password.post("/sso/sign-out")).json() == {"url": None}


async def test_the_secret_is_shown_nowhere(realm: Realm) -> None:
    path = f"/sso/providers/{realm.provider['id']}"
    assert "secret" not in (await realm.school.principal.get(path)).text
    stored = await realm.lms.sql("SELECT client_secret FROM sso_provider WHERE id = :id", id=realm.provider["id"])
    assert "secret of the client" not in stored[0]["client_secret"]
    assert (await realm.school.principal.patch(path, {"client_secret": "wrong"})).status_code == 200
    assert sent_back(await through(realm, claims_of())) == {"error": "token_refused"}
    trail = await realm.school.principal.items("/audit", kind="sso.provider", object_id=realm.provider["id"])
    assert [entry["changes"]["client_secret"]["after"] for entry in trail] == ["hidden", "hidden"]
