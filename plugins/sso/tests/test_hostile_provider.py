"""Single sign-on against a provider that lies, breaks, or is no provider at all: nobody gets in, and nothing breaks."""

from __future__ import annotations

import asyncio
import hmac
import time
from base64 import urlsafe_b64encode
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx2
import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from lms_sso import openid
from lms_sso.openid import LOGOUT_EVENT, BoundedTransport, ProviderFailed
from lms_sso.settings import SsoSettings
from providers import CHALLENGE, FRONT_END, SECRET, Liar, Realm, make_realm

from lms_core.testing import Caller, Lms, School

pytestmark = pytest.mark.anyio


@pytest.fixture
async def realm(lms: Lms, school: School, liar: Liar) -> Realm:
    return await make_realm(lms, school, liar.issuer)


async def outcome(realm: Realm, liar: Liar, **changed: Any) -> dict[str, str]:
    """What comes of an ID token with changed claims; None leaves one out."""
    location, cookie = await realm.start()
    liar.answer_with(liar.claims(location, **changed))
    return await back(realm, location, cookie)


async def back(realm: Realm, location: str, cookie: str, **query: str) -> dict[str, str]:
    state = parse_qs(urlsplit(location).query)["state"][0]
    answer = await realm.come_back(cookie, state=state, **{"code": "any", **query})
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


async def test_the_request_and_the_exchange_are_as_they_should_be(realm: Realm, liar: Liar) -> None:
    location, cookie = await realm.start()
    query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    assert (query["response_type"], query["client_id"], query["code_challenge_method"]) == ("code", "lms", "S256")
    assert query["scope"] == "openid email profile"
    assert len(query["nonce"]) == 43
    liar.answer_with(liar.claims(location))
    assert "code" in await back(realm, location, cookie)
    [(_, body, headers)] = [asked for asked in liar.asked if asked[0] == "/token"]
    sent = {name: values[0] for name, values in parse_qs(body).items()}
    assert (sent["code"], sent["grant_type"], sent["redirect_uri"]) == (
        "any",
        "authorization_code",
        query["redirect_uri"],
    )
    assert create_s256_code_challenge(sent["code_verifier"]) == query["code_challenge"]
    assert headers["Authorization"].startswith("Basic ")
    assert SECRET not in body


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "other"},
        {"aud": ["lms", "other"]},
        {"aud": None},
        {"azp": "other"},
        {"aud": "other", "azp": "lms"},
        {"iss": "https://elsewhere.example"},
        {"iss": None},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"exp": "soon"},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"},
    ],
)
async def test_id_tokens_that_are_not_for_this_sign_in(realm: Realm, liar: Liar, changed: dict[str, Any]) -> None:
    assert await outcome(realm, liar, **changed) == {"error": "token_refused"}
    assert "code" in await outcome(realm, liar)


async def test_signatures_of_others_and_none_at_all(realm: Realm, liar: Liar) -> None:
    async def refused(key: Any, alg: str, **header: Any) -> None:
        location, cookie = await realm.start()
        liar.answer_with(liar.claims(location), key, alg, **header)
        assert await back(realm, location, cookie) == {"error": "token_refused"}

    stranger = ECKey.generate_key("P-256", {"kid": "one"})
    await refused(stranger, "ES256")
    await refused(stranger, "ES256", kid="two")
    await refused(stranger, "ES256", jwk=stranger.as_dict(private=False))
    await refused(OctKey.import_key(SECRET), "HS256")
    location, cookie = await realm.start()
    liar.answer_with(liar.claims(location))
    header, payload, _ = liar.token_answer[1]["id_token"].split(".")
    none, with_hmac = "eyJhbGciOiJub25lIn0", f"eyJhbGciOiJIUzI1NiIsImtpZCI6Im9uZSJ9.{payload}"
    public = hmac.digest(liar.key.as_pem(private=False), with_hmac.encode(), "sha256")
    confused = f"{with_hmac}.{urlsafe_b64encode(public).decode().rstrip('=')}"
    for forged in (confused, f"{none}.{payload}.", f"{header}.{payload}.", f"{header}.{payload}", "x", ""):
        liar.token_answer[1]["id_token"] = forged
        assert await back(realm, location, cookie) == {"error": "token_refused"}
        location, cookie = await realm.start()


async def test_a_key_that_changed_is_read_again(realm: Realm, liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "code" in await outcome(realm, liar)
    monkeypatch.setattr(openid, "KEYS_AGAIN_SECONDS", 0.0)
    liar.key = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"})
    location, cookie = await realm.start()
    liar.answer_with(liar.claims(location), kid="two")
    assert "code" in await back(realm, location, cookie)


async def test_another_issuer_does_not_answer_in_its_place(realm: Realm, liar: Liar) -> None:
    location, cookie = await realm.start()
    liar.answer_with(liar.claims(location))
    assert await back(realm, location, cookie, iss="https://elsewhere.example") == {"error": "token_refused"}
    assert not [asked for asked in liar.asked if asked[0] == "/token"]


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}),
        (200, []),
        (200, b"<html>"),
        (200, {"id_token": 7}),
        (400, {"error": "invalid_grant"}),
        (302, {}),
        (200, {"id_token": "x" * 2_000_000}),
    ],
)
async def test_token_endpoints_that_answer_anything(realm: Realm, liar: Liar, answer: tuple[int, Any]) -> None:
    location, cookie = await realm.start()
    liar.token_answer = answer
    assert (await back(realm, location, cookie))["error"] in ("token_refused", "provider_failed")
    assert not [asked for asked in liar.asked if asked[0] == "/elsewhere"]


async def test_a_provider_that_is_away_or_no_provider(lms: Lms, school: School, liar: Liar) -> None:
    async def start(issuer: str) -> httpx2.Response:
        realm = await make_realm(lms, school, issuer)
        params = {"code_challenge": CHALLENGE}
        return await lms.client.get(f"/sso/providers/{realm.provider['id']}/start", params=params)

    for issuer in ("http://127.0.0.1:1", f"{liar.issuer}/deeper", "https://no-such-host.invalid"):
        answer = await start(issuer)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    for metadata in (
        {"issuer": "https://elsewhere.example"},
        {"jwks_uri": None},
        {"token_endpoint": "file:///etc/passwd"},
    ):
        liar.metadata = metadata
        answer = await start(liar.issuer)
        assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data",
        "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://192.168.1.1/", "https://0.0.0.0/", "http://1.1.1.1/",
        "file:///etc/passwd", "gopher://1.1.1.1/",
    ],
)  # fmt: skip
async def test_naming_a_provider_explores_no_network_of_ours(url: str) -> None:
    with pytest.raises(ProviderFailed):
        await BoundedTransport(private=False, plain=False).handle_async_request(httpx2.Request("GET", url))


async def test_private_providers_need_a_setting(realm: Realm, lms: Lms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lms.context.platform.plugin_settings(SsoSettings), "private_providers", False)
    lms.context.platform.service(openid.OpenIdProviders).known.clear()
    params = {"code_challenge": CHALLENGE}
    answer = await lms.client.get(f"/sso/providers/{realm.provider['id']}/start", params=params)
    assert answer.json()["code"] == "provider_unavailable"


async def test_no_transaction_waits_for_the_provider(realm: Realm, lms: Lms, liar: Liar) -> None:
    location, cookie = await realm.start()
    liar.answer_with(liar.claims(location))
    waiting = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    found: list[int] = []
    right = liar.find

    def slow(path: str) -> tuple[int, Any]:
        if path == "/token":
            time.sleep(0.5)
        return right(path)

    liar.find = slow  # type: ignore[method-assign]

    async def look() -> None:
        await asyncio.sleep(0.25)
        # The one that asks is in a transaction itself.
        found.append((await lms.sql(waiting))[0]["n"])

    await asyncio.gather(back(realm, location, cookie), look())
    assert found == [0]


async def test_only_super_admins_let_unverified_addresses_count(lms: Lms, school: School, liar: Liar) -> None:
    realm = await make_realm(lms, school, liar.issuer)
    path = f"/sso/providers/{realm.provider['id']}"
    assert (await school.principal.patch(path, {"trusts_emails": True})).status_code == 403
    assert await outcome(realm, liar, email_verified=None) == {"error": "email_not_verified"}
    assert (await (await lms.admin()).patch(path, {"trusts_emails": True})).status_code == 200
    assert "code" in await outcome(realm, liar, email_verified=None)


async def test_a_domain_is_one_institutions_and_counts_below(lms: Lms, school: School, liar: Liar) -> None:
    realm = await make_realm(lms, school, liar.issuer)
    admin, other = await lms.admin(), await lms.make_institution()
    body = {"institution_id": other["id"], "domain": "SCHOOL.example."}
    answer = await admin.post("/sso/domains", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "natural_key_taken")
    assert (
        await school.principal.post("/sso/domains", {**body, "institution_id": school.institution["id"]})
    ).status_code == 403
    below = await lms.make_institution(school.institution["id"])
    realm.provider = await admin.create("/sso/providers", {
        "institution_id": below["id"], "name": "Below", "issuer": liar.issuer, "client_id": "lms",
        "default_role": "student",
    })  # fmt: skip
    assert "code" in await outcome(realm, liar)
    for query in ({"email": "x@school.example"}, {"institution_id": below["id"]}):
        shown = (await lms.client.get("/sso/options", params=query)).json()["items"]
        assert realm.provider["id"] in [option["id"] for option in shown]
    for query in ({"email": "x@else.example"}, {"email": "x"}, {"institution_id": str(uuid4())}, {}):
        assert (await lms.client.get("/sso/options", params=query)).json()["items"] == []


async def come_in(realm: Realm, liar: Liar, **claims: Any) -> tuple[Caller, dict[str, Any]]:
    location, cookie = await realm.start()
    told = liar.claims(location, **claims)
    liar.answer_with(told)
    answer = await realm.exchange((await back(realm, location, cookie))["code"])
    return Caller(realm.lms.client, headers={"Authorization": f"Bearer {answer.json()['access_token']}"}), told


def logout_token(liar: Liar, **changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": liar.issuer, "aud": "lms", "iat": now, "exp": now + 120, "jti": uuid4().hex,
        "events": {LOGOUT_EVENT: {}}, **changed,
    }  # fmt: skip
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": "ES256", "kid": "one", "typ": "logout+jwt"}, present, liar.key, algorithms=["ES256"])


async def test_signing_out_at_the_provider_signs_out_here(realm: Realm, liar: Liar) -> None:
    path = f"/sso/providers/{realm.provider['id']}/backchannel-logout"

    async def tell(token: str) -> int:
        return (await realm.lms.client.post(path, data={"logout_token": token})).status_code

    one, told = await come_in(realm, liar, sid="first")
    two, _ = await come_in(realm, liar, sub=told["sub"], sid="second")
    somebody, _ = await come_in(realm, liar)
    for wrong in (
        {"sub": told["sub"], "nonce": "x"}, {"sub": told["sub"], "events": None}, {"sub": told["sub"], "aud": "other"},
        {"sub": told["sub"], "exp": int(time.time()) - 3600}, {"sub": told["sub"], "iss": "https://else.example"},
        {"sub": told["sub"], "jti": None}, {},
    ):  # fmt: skip
        assert await tell(logout_token(liar, **wrong)) == 400
    assert await tell("x") == 400
    assert (await one.get("/users/me")).status_code == 200
    assert await tell(logout_token(liar, sid="first")) == 200
    assert (await one.get("/users/me")).status_code == 401
    assert (await two.get("/users/me")).status_code == 200
    assert await tell(logout_token(liar, sub=told["sub"])) == 200
    assert (await two.get("/users/me")).status_code == 401
    assert (await somebody.get("/users/me")).status_code == 200


async def test_nothing_that_travels_is_stored(realm: Realm, liar: Liar, lms: Lms) -> None:
    location, cookie = await realm.start(f"{FRONT_END}/in")
    liar.answer_with(liar.claims(location))
    given = await back(realm, location, cookie)
    query = parse_qs(urlsplit(location).query)
    secrets = [query["state"][0][25:], query["nonce"][0], cookie.partition("=")[2], given["code"][25:]]
    for table in ("sso_attempt", "sso_identity", "core_event", "core_audit_entry"):
        rows = await lms.sql(f"SELECT row_to_json(t)::text AS text FROM {table} t")
        assert not [secret for secret in secrets for row in rows if secret in row["text"]]
